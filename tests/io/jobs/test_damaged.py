"""Good files made bad: cut off, a chain id doubled, a position beyond the end; and any bytes at all."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from structgen.errors import InputError
from structgen.io.jobs.read import read_jobs
from tests.io.jobs.made import FULL, complaints, lay_full

CUT = {  # what is said of the file without its last 20 bytes
    "alphafold3": "JSON is cut off",
    "server": "JSON is cut off",
    "boltz": "constraints|properties|not YAML|affinity",
    "boltz-fasta": "AT",
    "protenix": "JSON is cut off",
    "openfold3": "JSON is cut off",
    "colabfold": "",
    "colabfold-csv": "row has another width",
    "colabfold-a3m": "row has another width",
    "chai": "not the tree of a glycan",
}


@pytest.mark.parametrize("format", FULL)
def test_a_file_that_is_cut_off_is_refused(tmp_path: Path, format: str):
    """One clear error; only where a shorter file is a whole one again (letters of FASTA) nothing can be known of it."""
    path = lay_full(tmp_path, format)
    path.write_bytes(path.read_bytes()[:-20])
    _, errors, _ = complaints(path, format)
    if CUT[format]:
        said = [str(error) for error in errors if any(part in str(error) for part in CUT[format].split("|"))]
        assert len(said) == 1 and path.name in said[0], list(map(str, errors))


DOUBLED = {
    "alphafold3": ('"id": "C"', '"id": "A"'),
    "boltz": ("id: C", "id: B"),
    "boltz-fasta": (">C|rna", ">B|rna"),
    "protenix": ('"id": ["A", "X1"]', '"id": ["A", "A"]'),
    "openfold3": ('"chain_ids": "C"', '"chain_ids": "B"'),
}


@pytest.mark.parametrize("format", DOUBLED)
def test_a_chain_id_that_is_used_twice_is_refused(tmp_path: Path, format: str):
    """Others let the later chain replace the earlier one."""
    path = lay_full(tmp_path, format)
    before, after = DOUBLED[format]
    assert before in path.read_text()
    path.write_text(path.read_text().replace(before, after))
    _, errors, _ = complaints(path, format)
    assert len([e for e in errors if "chain id is used twice" in str(e)]) == 1 and path.name in str(errors[0])


BEYOND = {
    "alphafold3": ('"ptmPosition": 7', '"ptmPosition": 9'),
    "server": ('"position": 4', '"position": 9'),
    "boltz": ("position: 7", "position: 9"),
    "protenix": ('"position": 5', '"position": 9'),
    "openfold3": ('{"7": "SEP"}', '{"9": "SEP"}'),
    "chai": ("A,N4@ND2", "A,N9@ND2"),
}


@pytest.mark.parametrize("format", BEYOND)
def test_a_position_beyond_the_end_is_refused(tmp_path: Path, format: str):
    """Others change the last residue, ignore it or break."""
    path = lay_full(tmp_path, format)
    changed = tmp_path / "full.restraints" if format == "chai" else path
    before, after = BEYOND[format]
    assert before in changed.read_text()
    changed.write_text(changed.read_text().replace(before, after))
    _, errors = read_jobs([path], format=format)
    (error,) = errors
    assert "9" in error.found and changed.name in str(error)


@pytest.mark.parametrize("format", FULL)
def test_random_damage_is_never_a_traceback(tmp_path: Path, format: str):
    """Bytes dropped, doubled and changed anywhere: jobs or InputErrors, nothing else."""
    path, rng = lay_full(tmp_path, format), random.Random(format)
    whole = path.read_bytes()
    for _ in range(60):
        start, length = rng.randrange(len(whole)), rng.randrange(1, 12)
        piece = rng.choice([b"", whole[start : start + length] * 2, bytes(rng.choices(b'{}[]",:|>#-\n\t\\0A\xff', k=length))])
        path.write_bytes(whole[:start] + piece + whole[start + length :])
        for chosen in ("", format):
            jobs, errors = read_jobs([path], format=chosen)
            assert jobs or errors
            assert all(type(error) is InputError and error.where for error in errors)


TOKENS = [
    '{"dialect":"alphafold3"',
    "[",
    "]",
    "{",
    "}",
    ":",
    ",",
    '"sequences"',
    '"queries"',
    "version: 1\n",
    "sequences:\n",
    "- ",
    "a: &a [*a]",
    "'",
    ">x|protein\n",
]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.one_of(st.sampled_from(TOKENS), st.text(max_size=8)), max_size=10).map("".join))
def test_any_text_gives_jobs_or_input_errors(tmp_path_factory: pytest.TempPathFactory, text: str):
    """Whatever stands in the file."""
    path = tmp_path_factory.getbasetemp() / "fuzz.txt"
    path.write_text(text, encoding="utf-8", errors="surrogatepass")
    for format in ("", *FULL):
        jobs, errors = read_jobs([path], format=format)
        assert jobs or errors
        assert all(type(error) is InputError and str(path) in str(error) for error in errors)
