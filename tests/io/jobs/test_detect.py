"""The format is found by content; what fits two is an error that names both."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from structgen.errors import InputError
from structgen.io.jobs.detect import detect
from structgen.io.jobs.read import read_jobs
from structgen.io.jobs.reading import Source
from tests.io.jobs.made import CHAI_TABLE, FULL, QUERY, lay_full

PLAIN = {"proteinChain": {"sequence": QUERY, "count": 1}}


def found(text: str, name: str = "x.txt") -> str:
    return detect(Source(name, text, Path())).name


@pytest.mark.parametrize("format", FULL)
def test_full_files_are_known_whatever_they_are_called(format: str):
    """By content alone."""
    text = FULL[format][1]()
    assert found(text) == format
    assert found("\n" + text if format not in ("colabfold-a3m", "colabfold-csv") else text, "y.json") == format


def listed(**entries: object) -> str:
    return json.dumps([{"name": "x", "sequences": [PLAIN]} | entries])


def test_lists_of_jobs_are_told_apart_by_what_one_of_them_says():
    """Bonds, ids, paths, SMILES: Protenix; a dialect, glycans, template switches, no count: AlphaFold Server."""
    assert found(listed(dialect="alphafoldserver", version=1)) == "server"
    assert found(listed(covalent_bonds=[])) == "protenix"
    assert found(listed(sequences=[{"ligand": {"ligand": "CCO", "count": 1}}])) == "protenix"
    assert found(listed(sequences=[{"ligand": {"ligand": "CCD_NAG_NAG", "count": 1}}])) == "protenix"
    assert found(listed(sequences=[{"proteinChain": {"sequence": "MK"}}])) == "server"
    assert found(listed(sequences=[{"proteinChain": {"sequence": "MK", "count": 1, "useStructureTemplate": True}}])) == "server"
    assert found(listed()) == "server"  # both read it alike


def test_a_list_that_both_would_read_otherwise_is_not_guessed():
    """From the 27th chain on the two letter chains in another order; and a list may say things of both."""
    many = [{"proteinChain": {"sequence": QUERY, "count": 28}}]
    mixed = [{"proteinChain": {"sequence": QUERY, "count": 1, "id": ["A"], "glycans": []}}]
    for sequences in (many, mixed):
        with pytest.raises(InputError) as caught:
            found(listed(sequences=sequences))
        assert "AlphaFold Server JSON and Protenix JSON" in str(caught.value)
        assert "--format server or --format protenix" in str(caught.value)


def test_an_object_that_is_of_two_formats_is_not_guessed():
    """A dialect and queries."""
    with pytest.raises(InputError, match="both OpenFold3 JSON and AlphaFold 3 JSON"):
        found(json.dumps({"dialect": "alphafold3", "queries": {}}))
    with pytest.raises(InputError, match=r"not a job of a known format; found an object with the keys a, b"):
        found('{"a": 1, "b": 2}')


def test_headers_that_fit_two_formats_are_not_guessed():
    """`dna|rna` is a chain of Chai's called rna, or Boltz's chain dna of RNA; one clear record decides."""
    with pytest.raises(InputError, match="both Chai FASTA and Boltz FASTA"):
        found(">dna|rna\nGG\n")
    assert found(">dna|rna\nGG\n>B|protein\nMK\n") == "boltz-fasta"
    assert found(">dna|rna\nGG\n>protein|long name\nMK\n") == "chai"
    assert found(">sp|P1|X_HUMAN\nMK\n") == "colabfold"


def test_alignments_are_known_by_their_rows_or_their_name():
    """Gaps below a first row without any, in rows of equal width."""
    assert found(">a\nMKT\n>b\nM-aT\n") == "colabfold-a3m"
    assert found(">a\nMKT\n>b\nMKT\n") == "colabfold"
    assert found(">a\nMKT\n>b\nMKT\n", "x.a3m") == "colabfold-a3m"
    assert found(">a\nMKT\n>b\nM-KTA\n") == "colabfold"


def test_a_named_format_overrides(tmp_path: Path):
    """And an unknown one is refused with all names."""
    path = tmp_path / "x.json"
    path.write_text(listed())
    assert [len(read_jobs([path], format=name)[0]) for name in ("server", "protenix", "boltz")] == [1, 1, 0]
    with pytest.raises(InputError, match="one of alphafold3, server, boltz"):
        read_jobs([path], format="af3")


def test_a_folder_gives_jobs_and_leaves_what_lies_beside_them(tmp_path: Path):
    """Alignments and tables of restraints are no jobs there; a folder of nothing else is one of ColabFold's."""
    lay_full(tmp_path, "chai")
    jobs, errors = read_jobs([tmp_path])
    assert [job.name for job in jobs] == ["full"] and errors == []
    (tmp_path / "tables").mkdir()
    (tmp_path / "tables" / "x.csv").write_text(f"id,sequence\na,{QUERY}\n")
    (tmp_path / "tables" / "y.csv").write_text(CHAI_TABLE)
    jobs, errors = read_jobs([tmp_path / "tables"])
    assert [job.name for job in jobs] == ["a"] and errors == []


def test_a_table_of_restraints_is_read_with_its_fasta_alone(tmp_path: Path):
    """Named beside its FASTA it is no second job; named alone it is an error."""
    path = lay_full(tmp_path, "chai")
    jobs, errors = read_jobs([path, tmp_path / "full.restraints"])
    assert len(jobs) == 1 and errors == []
    jobs, (error,) = read_jobs([tmp_path / "full.restraints"])
    assert jobs == [] and "a table of restraints is no job" in str(error)
