"""validate, convert-input, and predictions of jobs that bring seeds and alignments of their own."""

from __future__ import annotations

import json
from pathlib import Path

import gemmi
import pytest

from structgen.features.job import chain_ids
from structgen.io.jobs.formats import FORMATS
from tests.io.jobs.made import A3M, QUERY, af3, ligand, protein
from tests.io.jobs.test_bad_inputs import BAD
from tests.workflows.conftest import Command

FAST = ("--samples", "1", "--steps", "1", "--cycles", "1")
ALONE = {"unpairedMsa": "", "pairedMsa": ""}


def write(path: Path, **changes: object) -> Path:
    path.write_text(json.dumps(af3(**changes)))
    return path


def manifest(run: Path, slug: str = "made") -> dict:
    return json.loads((run / slug / f"{slug}_manifest.json").read_text())


def atoms(path: Path) -> list[str]:
    """x of every atom, as written."""
    return list(gemmi.cif.read(str(path)).sole_block().find_values("_atom_site.Cartn_x"))


def test_own_seeds_are_used_unless_the_run_names_some(command: Command, tmp_path: Path):
    """A job with seeds beside one without: each has its own, on record too; --seeds comes before both."""
    write(tmp_path / "a.json", name="a", modelSeeds=[5, 3])
    (tmp_path / "b.fasta").write_text(f">b\n{QUERY}\n")
    assert command("predict", "a.json", "b.fasta", "--out", "own", *FAST).status == 0
    assert manifest(tmp_path / "own", "a")["seeds"] == [5, 3] and manifest(tmp_path / "own", "b")["seeds"] == [1]
    said = command("status", tmp_path / "own")
    assert "a  8 tokens, 2 of 2 seeds folded" in said.text and "b  8 tokens, 1 of 1 seeds folded" in said.text
    again = command("predict", "a.json", "b.fasta", "--out", "own", *FAST)
    assert "2 of 2 jobs are done" in again.text
    assert command("predict", "a.json", "--out", "named", "--seeds", "9", *FAST).status == 0
    assert manifest(tmp_path / "named", "a")["seeds"] == [9]


def test_own_alignment_gives_what_the_option_gives(command: Command, tmp_path: Path):
    """The same features, so the same fold, whether a chain's rows come by text, by path or by --msa."""
    (tmp_path / "x.a3m").write_text(A3M)
    write(tmp_path / "text.json", sequences=[protein(unpairedMsa=A3M, pairedMsa="")])
    write(tmp_path / "path.json", version=2, sequences=[protein(unpairedMsaPath="x.a3m", pairedMsa="")])
    write(tmp_path / "none.json", sequences=[protein(**ALONE)])
    (tmp_path / "option.fasta").write_text(f">made\n{QUERY}\n")
    for name in ("text", "path", "none"):
        assert command("predict", f"{name}.json", "--out", name, *FAST).status == 0
    assert command("predict", "option.fasta", "--out", "option", "--msa", "x.a3m", *FAST).status == 0
    x = {name: atoms(tmp_path / name / "made" / "made_model.cif") for name in ("text", "path", "none", "option")}
    assert x["text"] == x["path"] == x["option"] != x["none"]
    assert manifest(tmp_path / "text")["msa_depth"] == {"A": 2} and manifest(tmp_path / "none")["msa_depth"] == {"A": 1}
    assert "chain A: alignment of the job" in manifest(tmp_path / "text")["notes"]
    assert "chain A: no alignment, as the job says" in manifest(tmp_path / "none")["notes"]


def test_changed_file_of_an_alignment_is_another_prediction(command: Command, tmp_path: Path):
    """Keys know what lies at a path, not the path alone."""
    (tmp_path / "x.a3m").write_text(A3M)
    write(tmp_path / "a.json", version=2, sequences=[protein(unpairedMsaPath="x.a3m", pairedMsa="")])
    assert command("predict", "a.json", "--out", "o", *FAST).status == 0
    (tmp_path / "x.a3m").write_text(A3M + ">more\nMRRRAYSW\n")
    assert "0 of 1 jobs are done" in command("predict", "a.json", "--out", "o", *FAST).text
    assert manifest(tmp_path / "o")["msa_depth"] == {"A": 3}


def test_what_a_run_cannot_use_is_refused_by_name_and_hides_nothing(command: Command, tmp_path: Path):
    """Contacts, pockets, templates and affinity: validate shows them, predict refuses the job and runs the others."""
    constraint = "constraints:\n- contact: {token1: [A, 1], token2: [A, 3]}\nproperties:\n- affinity: {binder: L}\n"
    job = f"sequences:\n- protein: {{id: A, sequence: {QUERY}}}\n- ligand: {{id: L, smiles: CCO}}\n"
    (tmp_path / "a.yaml").write_text(job + constraint)
    (tmp_path / "b.fasta").write_text(f">b\n{QUERY}\n")
    outcome = command("predict", "a.yaml", "b.fasta", "--out", "o", *FAST)
    assert outcome.status == 2 and "1 of 3 done, 2 refused" in outcome.text
    assert "a.yaml: contacts[0]: contacts cannot be used yet" in outcome.text and "affinity of L" in outcome.text
    said = command("validate", "a.yaml")
    assert said.status == 0 and "not yet  contacts[0]: contacts cannot be used yet" in said.text
    both = command("validate", "a.yaml", "b.fasta")
    assert both.text.strip().splitlines()[-1] == "2 of 2 understood, 1 of these cannot run yet"


def test_validate_says_what_was_understood(command: Command, tmp_path: Path):
    """Chains, residues, tokens, modifications, bonds, seeds, rows and notes, for people and for programs."""
    changed = [{"ptmType": "SEP", "ptmPosition": 7}]
    elements = [protein(id=["A", "B"], modifications=changed, unpairedMsa=A3M, pairedMsa=""), ligand(ccdCodes=["atp"])]
    write(tmp_path / "a.json", modelSeeds=[4], sequences=elements)
    (tmp_path / "bad.fasta").write_text(">bad\nMK1\n>good\nMKT\n")
    said = command("validate", "a.json", "bad.fasta")
    assert said.status == 2 and said.text.strip().splitlines()[-1] == "2 of 3 understood, 0 of these cannot run yet"
    for part in (
        "made  (a.json): 3 chains, 65 tokens, seeds 4",
        "  A, B  protein  8 residues, SEP at 7, MSA of 2 rows",
        "  L  ligand  ATP",
        "  note  component 'atp' was read as ATP",
        "good  (bad.fasta: record 2 (>good)): 1 chain, 3 tokens, seeds of the run",
        "bad.fasta: record 1 (>bad): illegal character",
    ):
        assert part in said.text, said.text
    document = json.loads(command("check", "a.json", "bad.fasta", "--json").text)
    first = document["jobs"][0]
    assert (first["tokens"], first["seeds"], first["errors"]) == (65, [4], []) and first["chains"][0]["msa_rows"] == 2
    assert document["errors"][0]["where"] == "bad.fasta: record 1 (>bad)"
    assert not (tmp_path / "runs").exists()


def test_validate_counts_tokens_against_the_limit(command: Command, tmp_path: Path):
    """162 molecules of 31 atoms are 5,022 tokens: said, and not counted as understood; 161 are."""
    for name, copies in (("large", 162), ("fits", 161)):
        write(tmp_path / f"{name}.json", name=name, sequences=[ligand(id=list(chain_ids(copies)), ccdCodes=["ATP"])])
    said = command("validate", "large.json", "fits.json")
    assert said.status == 2 and said.text.strip().splitlines()[-1] == "1 of 2 understood, 0 of these cannot run yet"
    assert "job is too large; found 5,022 tokens in 162 chain(s), the largest A with 31; expected at most 5,000" in said.text
    assert "fits  (fits.json): 161 chains, 4,991 tokens" in said.text


@pytest.mark.parametrize("to", FORMATS)
def test_convert_writes_every_format_and_names_what_is_lost(command: Command, tmp_path: Path, to: str):
    """A folder for several jobs, a file for one; each output is understood; --strict refuses losses and writes nothing."""
    elements = [protein(unpairedMsa=A3M, pairedMsa="", description="first")]
    write(tmp_path / "a.json", name="a/b", version=4, sequences=elements)
    (tmp_path / "b.fasta").write_text(f">second\n{QUERY}\n")
    outcome = command("convert-input", "a.json", "b.fasta", "--to", to, "--out", "out")
    assert outcome.status == 0, outcome.text
    suffix = FORMATS[to].suffix
    assert {f"a_b{suffix}", f"second{suffix}"} <= {path.name for path in (tmp_path / "out").iterdir()}
    assert command("validate", tmp_path / "out" / f"a_b{suffix}", "--format", to).status == 0
    assert command("convert-input", "a.json", "--to", to, "--out", f"one/x{suffix}").status == 0
    assert command("validate", tmp_path / "one" / f"x{suffix}").status == 0
    strict = command("convert-input", "a.json", "--to", to, "--out", "strict", "--strict")
    assert strict.status == (0 if to == "alphafold3" else 2) and (tmp_path / "strict").exists() == (to == "alphafold3")
    if to != "alphafold3":
        assert "a.json: lost: " in strict.text and "does not hold the whole job" in strict.text
    assert {path.name for path in tmp_path.iterdir()} <= {"a.json", "b.fasta", "out", "one", "strict", "store"}


def test_convert_never_overwrites_its_input_and_joins_where_a_format_can(command: Command, tmp_path: Path):
    """Several jobs in one file of a list format; a format of one job a file asks for a folder."""
    write(tmp_path / "a.json", name="a")
    write(tmp_path / "b.json", name="b")
    assert command("convert-input", "a.json", "b.json", "--to", "server", "--out", "all.json").status == 0
    assert [job["name"] for job in json.loads((tmp_path / "all.json").read_text())] == ["a", "b"]
    refused = command("convert-input", "a.json", "b.json", "--to", "boltz", "--out", "all.yaml")
    assert refused.status == 2 and "give a folder" in refused.text and not (tmp_path / "all.yaml").exists()
    before = (tmp_path / "a.json").read_bytes()
    refused = command("convert-input", "a.json", "--to", "protenix", "--out", "a.json")
    assert refused.status == 2 and "is an input" in refused.text and (tmp_path / "a.json").read_bytes() == before
    nothing = command("convert-input", "a.json", "--to", "nonsense", "--out", "o")
    assert nothing.status == 2 and "one of alphafold3, server" in nothing.text


def test_sixty_bad_inputs_in_one_batch(command: Command, tmp_path: Path):
    """Each is reported once, the good one beside them is done, nothing is written outside of the output folder."""
    (tmp_path / "in").mkdir()
    for number, (_, name, data, _) in enumerate(BAD):
        path = tmp_path / "in" / f"{number:03}_{name}"
        path.write_bytes(data if isinstance(data, bytes) else data.encode())
    write(tmp_path / "in" / "good.json", name="good")
    before = {path for path in tmp_path.rglob("*")}
    said = command("validate", "in")
    assert (
        said.status == 2 and "Traceback" not in said.text and f"2 of {len(BAD) + 2} understood" in said.text
    )  # and the first of two jobs of one name
    assert f"{len(BAD)} errors:" in said.text
    assert {path for path in tmp_path.rglob("*")} == before
    outcome = command("convert-input", "in/good.json", "in/004_x.json", "--to", "boltz", "--out", "out")
    assert outcome.status == 2 and [path.name for path in (tmp_path / "out").iterdir()] == ["good.yaml"]
