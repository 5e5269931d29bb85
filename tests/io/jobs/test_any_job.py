"""Any job in any format: what comes back is the job as far as the format holds it, and what does not was named."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from structgen.features.job import Alignments, AtomName, Bond, Chain, Contact, Given, Job, Kind, Modification, Pocket
from structgen.io.jobs.formats import FORMATS
from structgen.io.jobs.holds import hold
from structgen.io.jobs.json_text import parse_json
from structgen.io.jobs.read import read_jobs
from structgen.io.jobs.value import Value, line_column
from structgen.io.jobs.yaml_text import parse_yaml
from tests.io.jobs.test_round_trips import said

LETTERS = {Kind.PROTEIN: "ACDEFGHIKLMNPQRSTVWYX", Kind.RNA: "ACGUN", Kind.DNA: "ACGTN"}
PLAIN = ("alphafold3", "boltz", "boltz-fasta", "protenix", "openfold3", "colabfold")  # whose writers add nothing to `hold`


@st.composite
def chains(draw: st.DrawFn, id: str) -> Chain:
    kind = draw(st.sampled_from(Kind))
    description = draw(st.sampled_from(["", "some words"]))
    if kind is Kind.LIGAND:
        if draw(st.booleans()):
            return Chain(id, kind, residues=(draw(st.sampled_from(["ATP", "MG", "NO"])),), description=description)
        return Chain(id, kind, smiles=draw(st.sampled_from(["CCO", "[Na+]", "C#N"])), description=description)
    sequence = draw(st.text(LETTERS[kind], min_size=2, max_size=9))
    places = draw(st.sets(st.integers(1, len(sequence)), max_size=2))
    changed = tuple(Modification(place, draw(st.sampled_from(["SEP", "5CM", "MSE"]))) for place in sorted(places))
    given_rows = Alignments((Given(text=f">q\n{sequence}\n"),), draw(st.sampled_from([(), (Given(text=f">q\n{sequence}\n"),)])))
    msa = draw(st.sampled_from([None, Alignments(), given_rows])) if kind is Kind.PROTEIN else None
    templates = draw(st.sampled_from([None, ()])) if kind is Kind.PROTEIN else None
    return Chain(id, kind, sequence, changed, draw(st.booleans()), msa=msa, templates=templates, description=description)


@st.composite
def jobs(draw: st.DrawFn) -> Job:
    ids = draw(st.lists(st.text("ABab01", min_size=1, max_size=3), min_size=1, max_size=4, unique=True))
    made = tuple(draw(chains(id)) for id in ids)

    def atom(name: bool) -> AtomName:
        chain = draw(st.sampled_from(made))
        return AtomName(chain.id, draw(st.integers(1, len(chain.sequence) or 1)), draw(st.sampled_from(["N", "C1", "O3'"])) if name else "")

    ends = [{atom(True), atom(True)} for _ in range(draw(st.integers(0, 2)))]
    bonds = tuple({frozenset(pair): Bond(*sorted(pair)) for pair in ends if len(pair) == 2 and not _closes(made, pair)}.values())
    contacts = tuple(
        Contact(
            atom(False),
            atom(draw(st.booleans())),
            draw(st.sampled_from([4.0, 7.5])),
            draw(st.sampled_from([0.0, 2.0])),
            draw(st.booleans()),
        )
        for _ in range(draw(st.integers(0, 2)))
    )
    binder = draw(st.sampled_from(made)).id
    pockets = tuple(Pocket(binder, (atom(False), atom(True)), 6.0) for _ in range(draw(st.integers(0, 2))))
    seeds = tuple(draw(st.lists(st.integers(0, 2**32 - 1), max_size=2, unique=True)))
    name = draw(st.sampled_from(["made", "a/b", "with blanks", "naïve", "../x", "x:y"]))
    return Job(name, "made", made, bonds=bonds, contacts=contacts, pockets=pockets, seeds=seeds)


def _closes(made: tuple[Chain, ...], pair: set[AtomName]) -> bool:
    """A bond of a chain's two ends is how Protenix says that it is cyclic."""
    first, second = sorted(pair)
    length = len(next(chain for chain in made if chain.id == first.chain).sequence)
    return first.chain == second.chain and {first.residue, second.residue} == {1, length}


@pytest.mark.parametrize("format", PLAIN)
@settings(max_examples=60, deadline=None)
@given(job=jobs())
def test_what_comes_back_is_what_the_format_holds(tmp_path_factory: pytest.TempPathFactory, format: str, job: Job):
    """Nothing is lost that is not named: the job less its losses is read again as it is."""
    held, losses = hold(job, FORMATS[format].holds)
    written = FORMATS[format].write(job)
    if not held.chains:
        return
    assert losses == written.losses[: len(losses)]
    assert (held == job) == (losses == ()) or format == "alphafold3"
    folder = tmp_path_factory.mktemp("any")
    path = folder / f"{held.name if FORMATS[format].holds.name == 'file' else 'made'}{FORMATS[format].suffix}"
    path.write_bytes(written.data)
    for name, data in written.beside.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(data)
    (back,), errors = read_jobs([path], format=format)
    assert errors == []
    expected = said(held)
    if format == "alphafold3":
        expected = replace(expected, seeds=expected.seeds or (1,))
    more = {loss.item for loss in written.losses[len(losses) :]}  # what only the writer sees
    assert more <= {"alphafold3": {"seeds"}, "openfold3": {"no MSA"}}.get(format, set())
    if "no MSA" in more:  # said for all chains or none
        expected = replace(expected, chains=tuple(replace(c, msa=None if c.msa == Alignments() else c.msa) for c in expected.chains))
    assert said(back) == expected


def plain(value: Value) -> object:
    """What a value holds, without its place."""
    if isinstance(value.data, dict):
        return {key: plain(entry) for key, entry in value.data.items()}
    return [plain(item) for item in value.data] if isinstance(value.data, list) else value.data


SCALARS = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text())
TREES = st.recursive(
    SCALARS, lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(), inner, max_size=4)), max_leaves=20
)


@settings(deadline=None)
@given(TREES, st.sampled_from([None, 1]), st.booleans())
def test_strict_json_reads_what_json_is(tree: object, indent: int | None, ascii: bool):
    """Equal to the standard library's reading of every valid text."""
    text = json.dumps(tree, indent=indent, ensure_ascii=ascii)
    assert plain(parse_json(text, "x")) == json.loads(text)


NAMES = st.text("abNO01: #-'\"[]{}&*!%@,é", max_size=8)


@settings(deadline=None)
@given(st.dictionaries(NAMES, st.one_of(NAMES, st.lists(NAMES, max_size=3)), max_size=4))
def test_strict_yaml_reads_texts_as_they_were_meant(tree: dict[str, object]):
    """Whatever quotes a writer chooses, a text is that text."""
    assert plain(parse_yaml(yaml.safe_dump(tree, allow_unicode=True), "x")) == tree


def test_places_count_lines_and_columns_from_one():
    """For all three line ends."""
    for end in ("\n", "\r\n", "\r"):
        text = end.join(["ab", "cd", "ef"])
        assert line_column(text, text.index("d")) == "line 2, column 2" and line_column(text, 0) == "line 1, column 1"


def test_job_files_beside_a_job_never_leave_its_folder(tmp_path: Path):
    """Whatever the job is called."""
    job = Job("../../x", "", (Chain("A", Kind.PROTEIN, "MK", msa=Alignments((Given(text=">q\nMK\n"),))),))
    for format in FORMATS.values():
        assert all((tmp_path / name).resolve().is_relative_to(tmp_path.resolve()) for name in format.write(job).beside)
