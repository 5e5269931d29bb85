"""Sixty bad inputs: each has one clear error (or one note), and what it says is enough to mend the file."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from structgen.features.job import Limits
from structgen.io.jobs.reading import Options
from tests.io.jobs.made import A3M, QUERY, af3, complaints, component_cif, lay_files, ligand, protein, structure_cif

P = QUERY
FORMAT_NAMES = ("AlphaFold 3 JSON", "Boltz YAML", "Protenix JSON", "ColabFold FASTA", "Chai FASTA")


def seq(*elements: dict[str, Any], **changes: Any) -> str:
    """AlphaFold 3 JSON of these elements."""
    return json.dumps(af3(sequences=list(elements), **changes))


def boltz(*lines: str, sequence: str = P) -> str:
    return "\n".join(["version: 1", "sequences:", "- protein:", "    id: A", f"    sequence: {sequence}", *lines, ""])


def protenix(**fields: Any) -> str:
    element = {"sequence": P, "count": 2, "id": ["A", "B"]} | fields
    return json.dumps([{"name": "x", "sequences": [{"proteinChain": {k: v for k, v in element.items() if v is not None}}]}])


def server(*elements: dict[str, Any], **changes: Any) -> str:
    return json.dumps([{"name": "x", "modelSeeds": [], "sequences": list(elements), "dialect": "alphafoldserver", "version": 1} | changes])


BOMB = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{c}: &{c} [{', '.join([f'*{p}'] * 10)}]\n" for p, c in zip("abcd", "bcde", strict=True)
)
POCKET = "constraints:\n- pocket: {binder: A, contacts: [[A, %s]], max_distance: %s}"
CYCLIC_LIGAND = "- ligand:\n    id: L\n    smiles: CCO\n    cyclic: true"

BAD: list[tuple[str, str, str | bytes, tuple[str, ...]]] = [
    ("1", "x.json", b"", ("x.json: file is empty", *FORMAT_NAMES)),
    ("2", "x.json", "{}".encode("utf-16"), ("found UTF-16", "save as UTF-8")),
    ("3", "x.json", gzip.compress(b"{}"), ("the first bytes of gzip", "add .gz to its name")),
    (
        "4",
        "x.json",
        '{"dialect": "alphafold3",\n "sequences": [{"protein": {"id": "A"',
        ("line 2, column", "cut off", "last open bracket '{'"),
    ),
    ("5", "x.json", '{"a": [1,\n2,]}', ("line 2, column 2", "trailing comma")),
    ("6", "x.json", '{"a": 1 // one\n}', ("line 1", "JSON has no comments")),
    ("6b", "x.json", '{"a": 1 # one\n}', ("JSON has no comments",)),
    ("7", "x.json", '{"modelSeeds": [NaN]}', ("modelSeeds[0] is no number", "found NaN")),
    ("8", "x.json", '{"a": 1,\n"a": 2}', ("duplicate key", "'a' again", "line 1, column 2", "line 2")),
    ("8b", "x.yaml", "version: 1\nversion: 1\n", ("duplicate key", "'version' again", "line 1", "line 2")),
    ("9", "x.json", r'{"smiles": "F/C=C\F"}', ("line 1, column 18", "write two backslashes")),
    ("9b", "x.json", seq(ligand(smiles="F/C=C\n1")), ("control character", "write each backslash of a bond's direction twice")),
    ("10", "x.yaml", "version: 1\nsequences:\n\t- protein:\n", ("line 3", "a tab", "indent with blanks")),
    ("11", "x.yaml", "version: 1\n" + BOMB, ("too many aliases", "at most 10,000")),
    ("12", "x.yaml", "version: !!python/object/apply:os.system [x]\n", ("line 1", "tags are refused", "python/object/apply:os.system")),
    ("14", "x.json", f"[{json.dumps(af3())}]", ("not AlphaFold 3's form", "found a list of jobs", "expected one object")),
    (
        "14b",
        "x.json",
        json.dumps(af3(dialect="alphafoldserver")),
        ("not AlphaFold Server's form", "found one object", "expected a list of jobs"),
    ),
    ("15", "x.json", json.dumps(af3(dialect=None)), ("'dialect' is missing",)),
    ("15b", "x.json", json.dumps(af3(dialect="alphafold2")), ("found 'alphafold2'", "expected 'alphafold3'")),
    ("16", "x.json", json.dumps(af3(version="1")), ("version", "found '1'", "from 1 to 4")),
    ("16b", "x.json", json.dumps(af3(version=5)), ("version", "found 5", "from 1 to 4")),
    ("17", "x.json", seq(protein(msa="x")), ("sequences[0].protein.msa", "unknown key", "found 'msa'", "did you mean 'unpairedMsa'")),
    ("17b", "x.json", seq(protein(msaPath="x")), ("did you mean 'unpairedMsaPath'",)),
    ("17c", "x.yaml", boltz("    count: 3"), ("sequences[0].protein.count", "unknown key")),
    ("18", "x.json", json.dumps(af3(sequences=None)), ("'sequences' is missing",)),
    ("18b", "x.json", json.dumps(af3(sequences=[])), ("sequences", "list is empty")),
    ("19", "x.json", seq({"protein": {"id": "A", "sequence": P}, "rna": {"id": "B", "sequence": "G"}}), ("'protein' and 'rna'",)),
    ("20", "x.json", seq({"peptide": {"id": "A"}}), ("found 'peptide'", "one of protein, rna, dna, ligand")),
    ("21", "x.json", json.dumps(af3(name="")), ("name cannot be used", "at least one of A-Z")),
    ("21b", "x.json", json.dumps(af3(name="..")), ("found '..', of which '..' can be kept",)),
    ("21c", "x.json", json.dumps(af3(name="日本")), ("found '日本', of which '' can be kept",)),
    (
        "22",
        "x.json",
        json.dumps([{"name": n, "sequences": [{"ion": {"ion": "MG"}}]} for n in ("a b", "A_B")]),
        ("'A_B' of job 2", "'a b' of job 1"),
    ),
    ("23", "x.json", json.dumps(af3(modelSeeds=[])), ("no seeds", "0 to 4294967295")),
    ("23b", "x.json", json.dumps(af3(modelSeeds=[-1])), ("modelSeeds[0]", "found -1", "from 0 to 4,294,967,295")),
    ("23c", "x.json", json.dumps(af3(modelSeeds=[2**32])), ("found 4294967296",)),
    ("23d", "x.json", json.dumps(af3(modelSeeds=[1.7])), ("found 1.7",)),
    ("23e", "x.json", json.dumps(af3(modelSeeds=[3, 3])), ("equal seeds", "found 3 at 1 and 2")),
    ("23f", "x.json", json.dumps(af3(modelSeeds=[True])), ("found True",)),
    ("24", "x.json", seq({"protein": {"sequence": P}}), ("sequences[0].protein", "'id' is missing")),
    ("24b", "x.json", seq(protein(id="")), ("sequences[0].protein.id", "chain id cannot be used", "capitals A-Z")),
    ("24c", "x.json", seq(protein(id=1)), ("sequences[0].protein.id", "not a text", "found 1")),
    ("25", "x.json", seq(protein(), protein(sequence="GG")), ("chain id is used twice", "'A' again", "sequences[0]", "sequences[1]")),
    ("25b", "x.yaml", boltz("- protein:", "    id: A", "    sequence: GG"), ("chain id is used twice",)),
    ("25c", "x.fasta", f">A|protein\n{P}\n>A|protein\nGG\n", ("chain id is used twice", "record 1", "record 2")),
    ("26", "x.json", seq(protein(id="A1")), ("found 'A1'", "capitals A-Z", "write A")),
    ("26b", "x.json", seq(protein(id="ab")), ("found 'ab'", "write AB")),
    ("27", "x.json", protenix(id=["A"]), ("found 1 ids and count 2",)),
    ("28", "x.json", protenix(count=0, id=None, unpairedMsaPath="first.a3m"), ("proteinChain.count", "found 0", "of 1 or more|from 1")),
    ("28b", "x.json", protenix(count=-1, id=None, unpairedMsaPath="first.a3m"), ("found -1",)),
    ("28c", "x.json", protenix(count=None), ("'count' is missing",)),
    ("29", "x.json", seq(protein(sequence="")), ("sequences[0].protein.sequence", "sequence is empty")),
    ("30", "x.json", seq(protein(sequence="MK*T")), ("found '*' at position 3", "a stop sign may only stand at the end")),
    ("30b", "x.json", seq(protein(sequence="MK-T")), ("found '-' at position 3", "alignment row")),
    ("30c", "x.json", seq(protein(sequence="1MKT")), ("found '1' at position 1", "numbered sequence?")),
    ("30d", "x.yaml", boltz(sequence=">-\n      MKT\n      AYS"), ("found ' ' at position 4", "remove blanks and line breaks")),
    ("31", "x.json", seq(protein(sequence="mkTN")), ("found 2 of 4 letters small", "--uppercase")),
    (
        "32",
        "x.json",
        seq({"rna": {"id": "A", "sequence": "GTTTTTTA"}}),
        ("T in RNA", "T at 2, 3, 4, 5, 6 and 1 more", "is this DNA?", "--fix-nucleic"),
    ),
    ("32b", "x.json", seq({"dna": {"id": "A", "sequence": "GAUC"}}), ("U in DNA", "U at 3", "is this RNA?")),
    ("35", "x.json", seq(protein(sequence="MKαT")), ("U+03B1", "position 3")),
    ("35b", "x.json", seq(protein(sequence="MＫT")), ("U+FF2B", "position 2")),
    ("36", "x.json", seq(protein(modifications=[{"ptmType": "SEP", "ptmPosition": 0}])), ("found position 0", "from 1 to 8")),
    ("36b", "x.yaml", boltz("    modifications:", "    - {position: -1, ccd: SEP}"), ("found position -1", "from 1 to 8")),
    ("36c", "x.json", protenix(modifications=[{"ptmType": "CCD_SEP", "ptmPosition": 9}]), ("found position 9", "from 1 to 8")),
    (
        "37",
        "x.json",
        seq(protein(modifications=[{"ptmType": "SEP", "ptmPosition": 7}, {"ptmType": "TPO", "ptmPosition": 7}])),
        ("SEP and TPO at position 7",),
    ),
    ("38", "x.json", seq(ligand(ccdCodes=["XYZQ"])), ("XYZQ", "component")),
    ("39", "x.json", seq(protein(modifications=[{"ptmType": "CCD_SEP", "ptmPosition": 7}])), ("found 'CCD_SEP'", "write SEP")),
    (
        "39b",
        "x.json",
        server({"proteinChain": {"sequence": P, "modifications": [{"ptmType": "SEP", "ptmPosition": 7}]}}),
        ("found 'SEP'", "write CCD_SEP"),
    ),
    ("40", "x.json", seq(protein(modifications=[{"ptmType": "ATP", "ptmPosition": 7}])), ("ATP", "polymer")),
    ("42", "x.json", seq(ligand(smiles="C", ccdCodes=["ATP"])), ("ligand L needs one molecule", "found both")),
    ("42b", "x.yaml", boltz("- ligand:", "    id: L"), ("ligand L needs one molecule", "found neither")),
    ("42c", "x.json", seq(ligand(ccdCodes=[])), ("list is empty",)),
    ("43", "x.json", seq(ligand(smiles="")), ("SMILES string is empty",)),
    ("43b", "x.json", seq(ligand(smiles="CC(C")), ("CC(C", "SMILES")),
    ("44", "x.json", seq(ligand(smiles="[Na+].[Cl-]")), ("one chain",)),
    (
        "46",
        "x.json",
        json.dumps([{"name": "x", "sequences": [{"ligand": {"ligand": "FILE_gone.sdf", "count": 1}}]}]),
        ("gone.sdf", "does not exist"),
    ),
    (
        "47",
        "x.json",
        json.dumps(af3(userCCD=component_cif().replace("_chem_comp.formula_weight 28.01", "#"))),
        ("component ABC-1", "without _chem_comp.formula_weight"),
    ),
    ("47b", "x.json", json.dumps(af3(userCCD=component_cif().replace("data_ABC-1", "data_XYZ"))), ("data_XYZ with ABC-1",)),
    ("48", "x.json", seq(ligand(ccdCodes=["Mg2+"])), ("found 'Mg2+'", "use MG")),
    ("49", "x.json", seq(protein(), bondedAtomPairs=[[["Z", 1, "N"], ["A", 1, "SD"]]]), ("bondedAtomPairs[0]", "found 'Z'", "one of A")),
    ("49b", "x.json", seq(protein(), bondedAtomPairs=[[["A", 9, "N"], ["A", 1, "SD"]]]), ("residue 9 of chain A", "1 to 8")),
    (
        "49c",
        "x.json",
        seq(protein(), ligand(ccdCodes=["NAG"]), bondedAtomPairs=[[["A", 4, "ND2"], ["L", 1, "Q9"]]]),
        ("Q9", "C1"),
    ),
    (
        "50",
        "x.json",
        seq(protein(), ligand(smiles="CCO"), bondedAtomPairs=[[["A", 1, "N"], ["L", 1, "C1"]]]),
        ("bondedAtomPairs[0]", "bond to a SMILES ligand"),
    ),
    ("50b", "x.json", seq(protein(), bondedAtomPairs=[[["A", 1, "SD"], ["A", 1, "SD"]]]), ("bond of an atom to itself",)),
    (
        "50c",
        "x.json",
        seq(protein(), bondedAtomPairs=[[["A", 1, "SD"], ["A", 7, "OG"]], [["A", 7, "OG"], ["A", 1, "SD"]]]),
        ("bondedAtomPairs[1]", "bond is given twice", "bond 1 already"),
    ),
    ("51", "x.json", seq(ligand(ccdCodes=["NAG", "NAG", "BMA"])), ("residues 2 (NAG), 3 (BMA) without a bond", "2 bonds or more")),
    ("52", "x.yaml", boltz(POCKET % (9, 6)), ("constraints[0].pocket.contacts[0]", "residue 9", "1 to 8")),
    ("52b", "x.yaml", boltz(POCKET % (1, 0)), ("max_distance", "must be above 0")),
    ("52c", "x.yaml", boltz(POCKET % (1, 21)), ("max_distance", "found '21'", "from 0 to 20")),
    ("53", "x.yaml", boltz(CYCLIC_LIGAND), ("chain L cannot be cyclic", "found a ligand")),
    ("53b", "x.yaml", boltz("    cyclic: true", sequence="M"), ("chain A cannot be cyclic", "found 1 residue")),
    ("54", "x.json", seq(protein(unpairedMsa=A3M)), ("only one of two alignments", 'set "pairedMsa": ""')),
    ("54b", "x.json", seq(protein(pairedMsa=A3M)), ('set "unpairedMsa": ""',)),
    ("55", "x.json", seq(protein(unpairedMsa="first.a3m", pairedMsa="")), ("found 'first.a3m'", "unpairedMsaPath")),
    ("55b", "x.json", seq(protein(unpairedMsa=A3M, unpairedMsaPath="first.a3m", pairedMsa="")), ("unpairedMsa and unpairedMsaPath",)),
    ("56", "x.json", seq(protein(unpairedMsaPath="gone.a3m", pairedMsa="")), ("file does not exist", "found 'gone.a3m'", "tried", " and ")),
    (
        "57",
        "x.json",
        seq(protein(unpairedMsa=">q\nMKTNAYAW\n", pairedMsa="")),
        ("first row is not the chain", "found A in column 7", "expected S"),
    ),
    ("58", "x.json", seq(protein(unpairedMsa=A3M + ">short\nMKT\n", pairedMsa="")), ("row 3 (>short)", "found 3 columns", "expected 8")),
    ("58b", "x.json", seq(protein(unpairedMsa=A3M + ">odd\nMKTN*YSW\n", pairedMsa="")), ("row 3 (>odd)", "found '*' at position 5")),
    (
        "59",
        "x.json",
        seq(protein(unpairedMsa="", pairedMsa="", templates=[{"mmcif": structure_cif("MKT", "GSH")}])),
        ("template must hold one chain", "found chains A, B"),
    ),
    (
        "59b",
        "x.json",
        seq(
            protein(unpairedMsa="", pairedMsa="", templates=[{"mmcif": structure_cif("MKT"), "queryIndices": [0], "templateIndices": [3]}])
        ),
        ("template index is out of range", "found 3", "0 to 2"),
    ),
    (
        "59c",
        "x.json",
        seq(
            protein(
                unpairedMsa="", pairedMsa="", templates=[{"mmcif": structure_cif("MKT"), "queryIndices": [0, 1], "templateIndices": [3]}]
            )
        ),
        ("found 2 queryIndices and 1 templateIndices",),
    ),
    (
        "59d",
        "x.json",
        seq(
            protein(unpairedMsa="", pairedMsa="", templates=[{"mmcif": structure_cif("MKT"), "queryIndices": [8], "templateIndices": [0]}])
        ),
        ("query index is out of range", "found 8", "0 to 7"),
    ),
    (
        "60",
        "x.json",
        seq(protein(id=["A", "B"], sequence="M" * 3000)),
        ("job is too large", "6,000 tokens", "at most 5,000", "the longest A"),
    ),
]


@pytest.mark.parametrize(("name", "data", "parts"), [row[1:] for row in BAD], ids=[row[0] for row in BAD])
def test_bad_input_has_one_clear_error(tmp_path: Path, name: str, data: str | bytes, parts: tuple[str, ...]):
    """One error that names the file and holds what a user needs; nothing is written anywhere."""
    lay_files(tmp_path)
    path = tmp_path / name
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    before = set(tmp_path.iterdir())
    _, errors, _ = complaints(path)
    assert len(errors) == 1, list(map(str, errors))
    text = str(errors[0])
    assert name in text or "alignment of chain" in text
    for part in parts:
        assert any(one in text for one in part.split("|")), (part, text)
    assert set(tmp_path.iterdir()) == before


NOTED = [
    (
        "13",
        "x.yaml",
        boltz().replace("id: A", "id: NO"),
        "sequences[0].protein.id: NO is true or false to YAML 1.1; it was read as text: quote it",
    ),
    ("13b", "x.yaml", boltz().replace("id: A", "id: 144"), "144 is a number to YAML 1.1"),
    ("13c", "x.yaml", boltz("- ligand:", "    id: L", "    ccd: NO"), "sequences[1].ligand.ccd: NO is true or false"),
    ("33", "x.json", seq(protein(sequence="ACGT" * 6)), "is this DNA or RNA?"),
    ("34", "x.json", seq(protein(sequence="MBKZJUO")), "B at 2: built as UNK"),
    ("34b", "x.json", seq(protein(sequence="MBKZJUO")), "U at 6: selenocysteine is built as UNK and read as C in alignments"),
    ("41", "x.json", seq(protein(modifications=[{"ptmType": "SEP", "ptmPosition": 2}])), "SEP"),
    ("stop", "x.json", seq(protein(sequence="MKT*")), "the stop sign '*' at the end was dropped"),
    ("code", "x.json", seq(ligand(ccdCodes=["atp "])), "component 'atp ' was read as ATP"),
    ("version", "x.json", seq(protein(description="x")), "description came with version 4 of the format; the file says version 1"),
    ("comment", "x.yaml", boltz("- ligand:", "    id: L", "    smiles: CC #C"), "what stands behind ' #' is a comment to YAML"),
]


@pytest.mark.parametrize(("name", "data", "note"), [row[1:] for row in NOTED], ids=[row[0] for row in NOTED])
def test_doubtful_input_is_read_with_a_note(tmp_path: Path, name: str, data: str, note: str):
    """No error, and the note says how it was understood."""
    (tmp_path / name).write_text(data)
    _, errors, notes = complaints(tmp_path / name)
    assert errors == [] and any(note in one for one in notes), notes


def test_options_read_what_is_refused_without_them(tmp_path: Path):
    """--uppercase and --fix-nucleic map letters, with a note each."""
    path = tmp_path / "x.json"
    path.write_text(seq(protein(sequence="mkt"), {"rna": {"id": "B", "sequence": "GTA"}}))
    (job,), errors, notes = complaints(path, options=Options(uppercase=True, fix_nucleic=True))
    assert errors == [] and [chain.sequence for chain in job.chains] == ["MKT", "GUA"]
    assert "chain A: lower case was read as capitals" in notes and "chain B: T at 2 was read as U" in notes


def test_files_can_be_kept_to_a_folder(tmp_path: Path):
    """A path that leads out of the allowed folder is refused, by a link too."""
    (tmp_path / "jobs").mkdir()
    (tmp_path / "out.a3m").write_text(A3M)
    (tmp_path / "jobs" / "link.a3m").symlink_to(tmp_path / "out.a3m")
    for named in ("../out.a3m", "link.a3m", str(tmp_path / "out.a3m")):
        (tmp_path / "jobs" / "x.json").write_text(seq(protein(unpairedMsaPath=named, pairedMsa="")))
        _, (error,), _ = complaints(tmp_path / "jobs" / "x.json", options=Options(files_under=str(tmp_path / "jobs")))
        assert "file lies outside the allowed folder" in str(error)


def test_files_are_sought_beside_the_job_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A file in the working folder is taken with a note, and only where there is none beside the job."""
    (tmp_path / "jobs").mkdir()
    (tmp_path / "first.a3m").write_text(A3M)
    (tmp_path / "jobs" / "x.json").write_text(seq(protein(unpairedMsaPath="first.a3m", pairedMsa=""), version=2))
    monkeypatch.chdir(tmp_path)
    (job,), errors, notes = complaints(tmp_path / "jobs" / "x.json")
    assert errors == [] and job.chains[0].msa and job.chains[0].msa.unpaired[0].path == str(tmp_path / "first.a3m")
    assert "first.a3m lies in the working folder, not beside x.json" in notes
    (tmp_path / "jobs" / "first.a3m").write_text(A3M)
    (job,), _, notes = complaints(tmp_path / "jobs" / "x.json")
    assert job.chains[0].msa and job.chains[0].msa.unpaired[0].path == str(tmp_path / "jobs" / "first.a3m") and notes == []


def test_limit_of_letters_holds_for_every_format(tmp_path: Path):
    """A chain that is too long is refused before anything is made of it."""
    path = tmp_path / "x.yaml"
    path.write_text(boltz(sequence="M" * 11))
    _, (error,), _ = complaints(path, options=Options(limits=Limits(letters=10)))
    assert "chain is too long; found 11 letters; expected at most 10" in str(error)
