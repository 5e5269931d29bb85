"""Each format to the schema and back is the identity; AlphaFold 3 to any and back loses what is named, and nothing else."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from structgen.features.job import Alignments, AtomName, Bond, Chain, Contact, Given, Job, Kind, Modification, Pocket, Template
from structgen.io.jobs.formats import FORMATS
from structgen.io.jobs.read import read_jobs
from structgen.io.jobs.written import Written
from tests.io.jobs.made import A3M, FULL, QUERY, RNA_A3M, SECOND, af3, component_cif, lay_full, ligand, protein, structure_cif


def written_to(folder: Path, format: str, job: Job) -> tuple[Path, Written]:
    """The job in a format, with the files beside it."""
    written = FORMATS[format].write(job)
    folder.mkdir(exist_ok=True)
    path = folder / f"{job.slug}{FORMATS[format].suffix}"
    path.write_bytes(written.data)
    for name, data in written.beside.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(data)
    return path, written


def said(job: Job) -> Job:
    """What a job says, wherever it stood and however it was noted; files by their content, bonds in any order."""
    bonds = tuple(sorted(job.bonds, key=lambda bond: (bond.first, bond.second)))
    chains = tuple(replace(chain, msa=content(chain.msa), templates=structures(chain)) for chain in job.chains)
    components = tuple(map(text_of, job.components))
    return replace(job, slug="", source="", notes=(), bonds=bonds, chains=chains, components=components)


def text_of(given: Given) -> Given:
    return Given(text=Path(given.path).read_text()) if given.path else given


def content(msa: Alignments | None) -> Alignments | None:
    return msa and Alignments(tuple(map(text_of, msa.unpaired)), tuple(map(text_of, msa.paired)))


def structures(chain: Chain) -> tuple[Template, ...] | None:
    if chain.templates is None:
        return None
    return tuple(replace(template, structure=text_of(template.structure)) for template in chain.templates)


@pytest.mark.parametrize("format", FULL)
def test_every_format_gives_itself_back(tmp_path: Path, format: str):
    """All that a format can hold is read, written without a loss, found again by content, and read as the same."""
    jobs, errors = read_jobs([lay_full(tmp_path, format)])
    assert errors == [] and jobs
    for job in jobs:
        path, written = written_to(tmp_path / "again", format, job)
        assert written.losses == ()
        (again,), errors = read_jobs([path], format="" if job.name != "second" else format)
        assert errors == [] and said(again) == said(job)
        assert FORMATS[format].write(replace(again, slug=job.slug)).data == written.data or written.beside


def test_full_files_are_full(tmp_path: Path):
    """The files of the test above use every field of the schema somewhere."""
    jobs = []
    for format in FULL:
        (tmp_path / format).mkdir()
        jobs += read_jobs([lay_full(tmp_path / format, format)])[0]
    for name, empty in vars(Job("", "", ())).items():
        assert any(getattr(job, name) != empty for job in jobs), name
    for name, empty in vars(Chain("", Kind.PROTEIN)).items():
        assert any(getattr(chain, name) != empty for job in jobs for chain in job.chains), name
    constraints = [c for job in jobs for c in (*job.contacts, *job.pockets)]
    assert all(any(getattr(c, name) for c in constraints) for name in ("min_distance", "force", "name"))
    assert any(c.confidence != 1 for c in constraints)


BONDED = [[["A", 3, "OG1"], ["L", 1, "C1"]]]
SUGARS = [[["A", 4, "ND2"], ["L", 1, "C1"]], [["L", 1, "O4"], ["L", 2, "C1"]]]
STATES = {"unpairedMsa": "", "pairedMsa": ""}
TEMPLATE = {"mmcif": structure_cif("MKT"), "queryIndices": [0, 1], "templateIndices": [1, 2]}
ITEMS = {
    "proteins": af3(sequences=[protein(id=["A", "B"]), {"protein": {"id": "C", "sequence": SECOND}}]),
    "nucleic acids": af3(sequences=[protein(), {"rna": {"id": "B", "sequence": "GGCA"}}, {"dna": {"id": "C", "sequence": "GATC"}}]),
    "chain ids": af3(sequences=[protein(id="HL")]),
    "seeds": af3(modelSeeds=[5, 6]),
    "modified residues": af3(sequences=[protein(sequence="MKTNAYXW", modifications=[{"ptmType": "SEP", "ptmPosition": 7}])]),
    "ligand by code": af3(sequences=[protein(), ligand(id="B", ccdCodes=["ATP"])]),
    "SMILES": af3(sequences=[protein(), ligand(id="B", smiles="CC(=O)O")]),
    "own components": af3(sequences=[protein(), ligand(id="B", ccdCodes=["ABC-1"])], userCCD=component_cif()),
    "bond to a ligand": af3(sequences=[protein(), ligand(ccdCodes=["ACE"])], bondedAtomPairs=BONDED),
    "bond of polymers": af3(
        sequences=[protein(), {"protein": {"id": "B", "sequence": SECOND}}], bondedAtomPairs=[[["A", 7, "OG"], ["B", 2, "OG"]]]
    ),
    "glycan": af3(sequences=[protein(), ligand(ccdCodes=["NAG", "NAG"])], bondedAtomPairs=SUGARS),
    "unpaired MSA": af3(sequences=[protein(unpairedMsa=A3M, pairedMsa="")]),
    "paired MSA": af3(sequences=[protein(unpairedMsa="", pairedMsa=A3M)]),
    "RNA MSA": af3(sequences=[protein(), {"rna": {"id": "B", "sequence": "GGCA", "unpairedMsa": RNA_A3M}}]),
    "no MSA": af3(sequences=[protein(**STATES)]),
    "templates": af3(sequences=[protein(**STATES, templates=[TEMPLATE])]),
    "no templates": af3(sequences=[protein(templates=[])]),
    "description": af3(sequences=[protein(description="the first")]),
}
ALWAYS = {  # of these jobs, whatever else they say: one seed, and no chain but A to Z
    "boltz": {"seeds"},
    "boltz-fasta": {"seeds"},
    "colabfold": {"seeds"},
    "colabfold-csv": {"seeds"},
    "colabfold-a3m": {"seeds", "search"},
    "chai": {"seeds"},
}
LOST = {
    "server": {
        "chain ids": {"chain ids"},
        "SMILES": {"SMILES"},
        "own components": {"own components"},
        "bond to a ligand": {"bonds", "chain ids"},
        "bond of polymers": {"bonds"},
        "glycan": {"chain ids"},
        "unpaired MSA": {"unpaired MSA"},
        "paired MSA": {"paired MSA"},
        "RNA MSA": {"RNA MSA"},
        "no MSA": {"no MSA"},
        "templates": {"no MSA", "templates"},
        "description": {"description"},
    },
    "boltz": {
        "own components": {"own components"},
        "paired MSA": {"paired MSA"},
        "RNA MSA": {"RNA MSA"},
        "templates": {"template indices"},
        "no templates": {"no templates"},
        "description": {"description"},
    },
    "boltz-fasta": {
        "modified residues": {"modified residues"},
        "own components": {"own components"},
        "bond to a ligand": {"bonds"},
        "bond of polymers": {"bonds"},
        "glycan": {"ligand of several codes", "bonds"},
        "paired MSA": {"paired MSA"},
        "RNA MSA": {"RNA MSA"},
        "templates": {"templates"},
        "no templates": {"no templates"},
        "description": {"description"},
    },
    "protenix": {
        "own components": {"own components"},
        "no MSA": {"no MSA"},
        "templates": {"no MSA", "templates"},
        "no templates": {"no templates"},
        "description": {"description"},
    },
    "openfold3": {
        "own components": {"own components"},
        "bond to a ligand": {"bonds"},
        "bond of polymers": {"bonds"},
        "glycan": {"ligand of several codes", "bonds"},
        "templates": {"template indices"},
        "no templates": {"no templates"},
    },
    "colabfold": {
        "chain ids": {"chain ids"},
        "modified residues": {"modified residues"},
        "own components": {"own components"},
        "bond to a ligand": {"bonds", "chain ids"},
        "bond of polymers": {"bonds"},
        "glycan": {"ligand of several codes", "bonds"},
        "unpaired MSA": {"unpaired MSA"},
        "paired MSA": {"paired MSA"},
        "RNA MSA": {"RNA MSA"},
        "no MSA": {"no MSA"},
        "templates": {"no MSA", "templates"},
        "no templates": {"no templates"},
        "description": {"description"},
    },
    "chai": {
        "chain ids": {"chain ids"},
        "ligand by code": {"ligand by code"},
        "own components": {"own components", "ligand by code"},
        "bond to a ligand": {"ligand by code", "bonds"},
        "glycan": {"chain ids"},
        "unpaired MSA": {"unpaired MSA"},
        "paired MSA": {"paired MSA"},
        "RNA MSA": {"RNA MSA"},
        "no MSA": {"no MSA"},
        "templates": {"no MSA", "templates"},
        "no templates": {"no templates"},
    },
    "alphafold3": {},
}
LOST["colabfold-csv"] = {k: v for k, v in LOST["colabfold"].items() if k != "unpaired MSA"} | {"templates": {"no MSA", "template indices"}}
LOST["colabfold-a3m"] = {
    **{k: v for k, v in LOST["colabfold"].items() if k not in ("unpaired MSA", "no MSA")},
    "nucleic acids": {"rna", "dna"},
    "ligand by code": {"ligand"},
    "SMILES": {"ligand"},
    "own components": {"ligand", "own components"},
    "bond to a ligand": {"ligand", "bonds"},
    "glycan": {"ligand", "bonds"},
    "RNA MSA": {"rna"},
    "templates": {"templates"},
}
SEARCHED = {"unpaired MSA", "paired MSA", "no MSA", "templates"}  # jobs whose protein asks for no search


@pytest.mark.parametrize("item", ITEMS)
@pytest.mark.parametrize("format", FORMATS)
def test_alphafold3_to_any_and_back_loses_what_is_named(tmp_path: Path, format: str, item: str):
    """The named items are those of the table; with none (but seeds) named, the job comes back as it was."""
    (tmp_path / "job.json").write_text(json.dumps(ITEMS[item]))
    (job,), errors = read_jobs([tmp_path / "job.json"])
    assert errors == []
    job = replace(job, slug="made")
    path, written = written_to(tmp_path / "there", format, job)
    always = ALWAYS.get(format, set()) - ({"search"} if item in SEARCHED and item != "paired MSA" else set())
    always -= {"search"} if item == "paired MSA" else set()
    assert {loss.item for loss in written.losses} == LOST[format].get(item, set()) | always
    (there,), errors = read_jobs([path], format=format)
    assert errors == []
    back, written = written_to(tmp_path / "back", "alphafold3", there)
    (again,), errors = read_jobs([back])
    assert errors == []
    if LOST[format].get(item, set()) == set() and "search" not in always:
        seeds = job.seeds if format in ("alphafold3", "server", "protenix", "openfold3") else (1,)
        assert said(again) == said(replace(job, seeds=seeds))


def full_job() -> Job:
    """Constraints and what AlphaFold 3 cannot say."""
    chains = (
        Chain("a1", Kind.PROTEIN, QUERY, (Modification(2, "SEP"),), cyclic=True),
        Chain("B", Kind.PROTEIN, SECOND),
        Chain("L", Kind.LIGAND, smiles="CCO"),
        Chain("F", Kind.LIGAND, file="/x/ligand.sdf"),
        Chain("G", Kind.LIGAND, residues=("NAG", "NAG")),
    )
    bonds = (Bond(AtomName("a1", 4, "ND2"), AtomName("G", 1, "C1")), Bond(AtomName("G", 1, "O4"), AtomName("G", 2, "C1")))
    contact = Contact(AtomName("a1", 1, "CA"), AtomName("L", 1, "C1"), 8.0, 2.0, force=True, confidence=0.5, name="near")
    pocket = Pocket("L", (AtomName("a1", 1, "CA"), AtomName("G", 2)), 6.0, force=True, name="site")
    return Job("x/y", "xy", chains, bonds=bonds, contacts=(contact,), pockets=(pocket,), affinity="L")


@pytest.mark.parametrize(
    ("format", "items"),
    [
        ("alphafold3", {"chain ids", "cyclic", "ligand file", "bonds", "contacts", "pockets", "affinity", "seeds"}),
        ("server", {"chain ids", "cyclic", "ligand file", "SMILES", "contacts", "pockets"}),
        ("boltz", {"name", "ligand file", "contacts", "pockets"}),
        ("protenix", {"contacts", "pockets", "affinity"}),
        ("openfold3", {"name", "ligand file", "ligand of several codes", "bonds", "contacts", "pockets", "affinity"}),
        ("chai", {"name", "chain ids", "cyclic", "ligand file", "letters under modifications", "contacts", "pockets", "affinity"}),
    ],
)
def test_constraints_rings_and_files_are_lost_by_name(format: str, items: set[str]):
    """What AlphaFold 3 cannot say is named as well when it is lost."""
    losses = {loss.item for loss in FORMATS[format].write(full_job()).losses}
    assert losses == items - ({"bonds", "seeds"} if format == "alphafold3" else set()) | ({"seeds"} if format == "alphafold3" else set())
