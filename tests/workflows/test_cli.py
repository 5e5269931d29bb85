"""The command line in process: results, batches with bad records, hostile names, resuming, settings, exit status."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import gemmi
import pytest

from structgen.manifest import run_lock, stage_entries
from tests.workflows.conftest import REPOSITORY, Command, differing, results

EXAMPLES = REPOSITORY / "data" / "examples"
LETTERS = "ACDEFGHIKLMNPQRSTVWY"


def write_fasta(path: Path, records: list[tuple[str, str]]) -> Path:
    path.write_text("".join(f">{name}\n{sequence}\n" for name, sequence in records), encoding="utf-8")
    return path


def sequence(number: int, length: int = 9) -> str:
    """A sequence of its own for every number."""
    return "".join(LETTERS[(number * 7 + i * (number + 3)) % 20] for i in range(length))


def attempts(run: Path) -> dict[tuple[str, str, str], int]:
    """How often each stage of each job (and seed) of a run was worked on."""
    jobs = json.loads((run / "run.json").read_text())["jobs"]
    counts = {}
    for slug, job in jobs.items():
        for stage, entry in job["stages"].items():
            for seed, one in entry.items() if stage == "fold" else [("", entry)]:
                counts[slug, stage, seed] = one["attempts"]
    return counts


def coordinates(run: Path, slug: str) -> dict[str, str]:
    """x of the atoms of every sample, as written."""
    models = sorted(run.glob(f"{slug}/seed-*/*_model.cif"))
    return {path.parent.name: " ".join(gemmi.cif.read(str(path)).sole_block().find_values("_atom_site.Cartn_x")) for path in models}


def test_prediction_from_fasta_to_ranked_folder(command: Command, tmp_path: Path):
    """One record gives one folder under runs/<stem>; status says that all is done; the manifest holds every stage."""
    write_fasta(tmp_path / "in.fasta", [("my protein", sequence(1)), ("pair", f"{sequence(2)}:{sequence(3)}")])
    outcome = command("predict", "in.fasta", "--seeds", "1,2", "--samples", "2")
    assert outcome.status == 0, outcome.text
    assert "2 of 2 done" in outcome.text
    run = tmp_path / "runs" / "in"
    assert {path.name for path in run.iterdir() if path.is_dir()} == {"my_protein", "pair"}
    assert len(coordinates(run, "pair")) == 4
    document = json.loads((run / "run.json").read_text())
    assert document["settings"]["seeds"] == [1, 2] and document["settings"]["sampling"]["samples"] == 2
    stages = document["jobs"]["my_protein"]["stages"]
    assert list(stages) == ["search", "featurise", "fold", "write"]
    assert all(entry["status"] == "done" for stage in stages for entry in stage_entries(document["jobs"]["pair"], stage))
    assert all(len(entry["key"]) == 64 and entry["seconds"] > 0 for entry in stages["fold"].values())
    said = command("status", run)
    assert said.status == 0 and "done     my_protein  9 tokens, 2 of 2 seeds folded" in said.text and "not running" in said.text


def test_seeds_decide_the_coordinates(command: Command, tmp_path: Path):
    """Two runs of one seed give the same bytes in every file; different seeds and samples give different coordinates."""
    write_fasta(tmp_path / "in.fasta", [("a", sequence(1)), ("b", f"{sequence(2)}:{sequence(2)}")])
    for out, store in (("x", "store-1"), ("y", "store-2")):
        assert command("predict", "in.fasta", "--out", out, "--store", store, "--seeds", "1,2", "--samples", "2").status == 0
    assert differing(results(tmp_path / "x"), results(tmp_path / "y")) == {}
    for slug in ("a", "b"):
        models = coordinates(tmp_path / "x", slug)
        assert len(models) == 4 and len(set(models.values())) == 4


def test_batch_of_twenty_with_three_bad_records(command: Command, tmp_path: Path):
    """17 are predicted; the illegal letter, the empty sequence and the 100,000 residues are each reported once with record and reason."""
    records = [(f"job{n}", sequence(n)) for n in range(20)]
    records[4] = ("wrong letter", "ACD1EF")
    records[9] = ("nothing", "")
    records[15] = ("titan", "ACDEFGHIKL" * 10_000)
    write_fasta(tmp_path / "batch.fasta", records)
    outcome = command("predict", "batch.fasta", "--samples", "1")
    assert outcome.status == 2
    run = tmp_path / "runs" / "batch"
    assert len(list(run.glob("*/*_model.cif"))) == 17
    assert "17 of 20 done, 3 refused" in outcome.text
    tail = outcome.text[outcome.text.index("3 errors:") :]
    for record, name, reason in [(5, "wrong letter", "'1'"), (10, "nothing", "empty"), (16, "titan", "100,000")]:
        (line,) = [line for line in tail.splitlines() if f"record {record} " in line]
        assert name in line and reason in line, line
    rejected = json.loads((run / "run.json").read_text())["rejected"]
    assert [entry["where"].split(" (")[0] for entry in rejected] == [f"batch.fasta: record {n}" for n in (5, 10, 16)]
    again = command("status", run)
    assert again.status == 2 and "3 errors:" in again.text


def test_limit_of_tokens_is_a_setting(command: Command, tmp_path: Path):
    """A job above the limit is refused with both numbers; nothing of the limit enters the result's key."""
    write_fasta(tmp_path / "in.fasta", [("a", sequence(1, 12))])
    refused = command("predict", "in.fasta", "--set", "limits.tokens=11")
    assert refused.status == 2 and "12 tokens" in refused.text and "at most 11" in refused.text
    assert command("predict", "in.fasta", "--set", "limits.tokens=12").status == 0
    assert command("predict", "in.fasta").status == 0
    assert attempts(tmp_path / "runs" / "in")["a", "write", ""] == 1


def test_hostile_names_stay_inside_and_collide_with_nothing(command: Command, tmp_path: Path):
    """Whatever a record is called, its folder is a direct child of the output folder, and every record has one of its own."""
    names = [
        "../../x",
        "a/b",
        "y" * 300,
        "蛋白质 αβ",
        "twin",
        "twin",
        "TWIN",
        "..",
        "run.json",
        ".journal",
        "CON",
        "/etc/passwd",
        "~",
        "a\\b",
    ]
    write_fasta(tmp_path / "in.fasta", [(name, sequence(n, 5)) for n, name in enumerate(names)])
    before = set(tmp_path.iterdir())
    outcome = command("predict", "in.fasta", "--out", "out", "--samples", "1", "--steps", "1", "--cycles", "1")
    assert outcome.status == 0, outcome.text
    assert set(tmp_path.iterdir()) - before == {tmp_path / "out", tmp_path / "store"}
    document = json.loads((tmp_path / "out" / "run.json").read_text())
    assert [job["name"] for job in document["jobs"].values()] == names
    folders = [path.name for path in (tmp_path / "out").iterdir() if path.is_dir()]
    assert sorted(folders) == sorted(document["jobs"]) and len({name.lower() for name in folders}) == len(names)
    assert all((tmp_path / "out" / slug / f"{slug}_model.cif").is_file() for slug in folders)


def test_same_command_again_computes_and_writes_nothing(command: Command, tmp_path: Path):
    """A complete run is left as it is: no attempt is added and no file of a job is touched."""
    write_fasta(tmp_path / "in.fasta", [(f"job{n}", sequence(n)) for n in range(3)])
    assert command("predict", "in.fasta").status == 0
    run = tmp_path / "runs" / "in"
    counted, touched = attempts(run), {path: path.stat().st_mtime_ns for path in run.glob("*/**/*")}
    again = command("predict", "in.fasta")
    assert again.status == 0 and "3 of 3 jobs are done" in again.text
    assert attempts(run) == counted and {path: path.stat().st_mtime_ns for path in run.glob("*/**/*")} == touched


def test_damaged_or_lost_results_are_written_again_without_computing(command: Command, tmp_path: Path):
    """A folder that lacks a file or holds a changed one is written anew from the store; a whole one stays, with what a user put there."""
    write_fasta(tmp_path / "in.fasta", [(f"job{n}", sequence(n)) for n in range(3)])
    assert command("predict", "in.fasta").status == 0
    run = tmp_path / "runs" / "in"
    whole, counted = results(run), attempts(run)
    (run / "job0" / "job0_model.cif").unlink()
    (run / "job1" / "LOG.txt").write_text("changed")
    (run / "job2" / "notes.txt").write_text("mine")
    assert command("predict", "in.fasta").status == 0
    assert (run / "job2" / "notes.txt").read_text() == "mine"
    assert differing({name: content for name, content in results(run).items() if not name.endswith("notes.txt")}, whole) == {}
    expected = {key: count + (key[1] == "write" and key[0] != "job2") for key, count in counted.items()}
    assert attempts(run) == expected


def test_damaged_artifact_is_computed_again(command: Command, tmp_path: Path):
    """A fold whose artifact was damaged on disk is folded anew, to the same bytes; its neighbours are not."""
    write_fasta(tmp_path / "in.fasta", [("a", sequence(1)), ("b", sequence(2))])
    assert command("predict", "in.fasta", "--seeds", "1,2").status == 0
    run = tmp_path / "runs" / "in"
    whole = results(run)
    key = json.loads((run / "run.json").read_text())["jobs"]["a"]["stages"]["fold"]["2"]["key"]
    path = tmp_path / "store" / key[:2] / key
    path.write_bytes(path.read_bytes()[:-7])
    (run / "a" / "a_model.cif").unlink()
    assert command("predict", "in.fasta", "--seeds", "1,2").status == 0
    counts = attempts(run)
    assert (counts["a", "fold", "1"], counts["a", "fold", "2"], counts["b", "fold", "2"]) == (1, 2, 1)
    assert differing(results(run), whole) == {}


def test_changed_settings_recompute_what_depends_on_them_and_say_so(command: Command, tmp_path: Path):
    """More seeds keep the old ones; other steps fold anew but keep the features; the change is named."""
    write_fasta(tmp_path / "in.fasta", [("a", sequence(1))])
    assert command("predict", "in.fasta", "--seeds", "1").status == 0
    run = tmp_path / "runs" / "in"
    more = command("predict", "in.fasta", "--seeds", "1,2")
    assert "seeds: [1] -> [1, 2]" in more.text
    assert attempts(run) == {
        ("a", "search", ""): 0,
        ("a", "featurise", ""): 1,
        ("a", "fold", "1"): 1,
        ("a", "fold", "2"): 1,
        ("a", "write", ""): 1,
    }
    assert len(coordinates(run, "a")) == 4
    other = command("predict", "in.fasta", "--seeds", "2", "--set", "sampling.steps=2")
    assert "sampling.steps: 4 -> 2" in other.text and "seeds: [1, 2] -> [2]" in other.text
    assert attempts(run) == {("a", "search", ""): 0, ("a", "featurise", ""): 1, ("a", "fold", "2"): 1, ("a", "write", ""): 1}
    assert set(coordinates(run, "a")) == {"seed-2_sample-0", "seed-2_sample-1"}


def test_equal_complexes_are_folded_once(command: Command, tmp_path: Path):
    """Two records with one sequence share features and fold; each has its own folder."""
    write_fasta(tmp_path / "in.fasta", [("a", sequence(1)), ("b", sequence(1))])
    assert command("predict", "in.fasta").status == 0
    counts = attempts(tmp_path / "runs" / "in")
    assert (counts["a", "fold", "1"], counts["b", "fold", "1"], counts["b", "featurise", ""], counts["b", "write", ""]) == (1, 0, 0, 1)


def test_given_and_searched_alignments_reach_the_result(command: Command, tmp_path: Path):
    """Depth and origin of an alignment are in the manifest; a search is stored and not done twice; other evidence gives another fold."""
    ubiquitin = next(line for line in (EXAMPLES / "demo.fasta").read_text().splitlines() if line.startswith("MQIF"))[:76]
    write_fasta(tmp_path / "in.fasta", [("u", ubiquitin), ("short", sequence(5))])
    fast = ["--samples", "1", "--steps", "1", "--cycles", "1", "--set", "alignment.rows=20"]
    assert command("predict", "in.fasta", "--out", "none", *fast).status == 0
    assert command("predict", "in.fasta", "--out", "given", "--msa", EXAMPLES / "msas", *fast).status == 0
    assert command("predict", "in.fasta", "--out", "found", "--seqdb", EXAMPLES / "seqdb.fasta.gz", *fast).status == 0
    told = {out: json.loads((tmp_path / out / "u" / "u_manifest.json").read_text()) for out in ("none", "given", "found")}
    assert told["none"]["msa_depth"] == {"A": 1} and told["none"]["notes"] == []
    assert told["given"]["msa_depth"]["A"] > 20 and "chain A: alignment from ubiquitin.a3m" in told["given"]["notes"]
    assert told["found"]["msa_depth"]["A"] > 1 and "chain A: searched in seqdb.fasta.gz" in told["found"]["notes"]
    missing = json.loads((tmp_path / "given" / "short" / "short_manifest.json").read_text())
    assert any("no alignment" in note for note in missing["notes"])
    assert len({json.loads((tmp_path / out / "run.json").read_text())["jobs"]["u"]["stages"]["fold"]["1"]["key"] for out in told}) == 3
    assert command("predict", "in.fasta", "--out", "again", "--seqdb", EXAMPLES / "seqdb.fasta.gz", *fast).status == 0
    assert attempts(tmp_path / "found")["u", "search", ""] == 1 and attempts(tmp_path / "again")["u", "search", ""] == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["absent.fasta"], "absent.fasta"),
        (["in.fasta", "--set", "sampling.stpes=3"], "did you mean 'sampling.steps'?"),
        (["in.fasta", "--steps", "0"], "sampling.steps: found 0"),
        (["in.fasta", "--seeds", "1,x"], "--seeds 1,x: expected numbers"),
        (["in.fasta", "--seeds", "1,1"], "each seed once"),
        (["in.fasta", "--model", "no-such-model"], "no-such-model"),
        (["in.fasta", "--model", "in.fasta"], "in.fasta"),
        (["in.fasta", "--msa", "absent.a3m"], "absent.a3m"),
        (["in.fasta", "--seqdb", "absent.fasta"], "absent.fasta: cannot be read"),
        (["in.fasta", "--config", "absent.yaml"], "absent.yaml cannot be read"),
        (["in.fasta", "--out", "in.fasta"], "in.fasta"),
        (["in.fasta", "--bogus"], "No such option"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line_with_status_2(command: Command, tmp_path: Path, arguments: list[str], message: str):
    """Wrong input and settings end with status 2 (a broken model file with 3) before anything is computed or any folder made."""
    write_fasta(tmp_path / "in.fasta", [("a", sequence(1))])
    outcome = command("predict", *arguments)
    assert outcome.status == (3 if arguments[1:] == ["--model", "in.fasta"] else 2), outcome.text
    assert message in outcome.text.replace("\n", " ") and "Traceback" not in outcome.text
    assert {path.name for path in tmp_path.iterdir()} <= {"in.fasta", "runs", "store"}
    assert not list(tmp_path.glob("runs/*/*/")) and not list(tmp_path.glob("store/*"))


def test_folder_in_use_and_folder_without_a_run(command: Command, tmp_path: Path):
    """Two commands never write one folder at once; status of a folder that is no run says so."""
    write_fasta(tmp_path / "in.fasta", [("a", sequence(1))])
    with run_lock(tmp_path / "taken"):
        outcome = command("predict", "in.fasta", "--out", "taken")
    assert outcome.status == 2 and "another structgen is at work" in outcome.text
    said = command("status", tmp_path)
    assert said.status == 2 and "holds no run" in said.text


def test_configuration_file_and_options(command: Command, tmp_path: Path):
    """Options win over the file, --set over options; the shipped example is a valid one."""
    write_fasta(tmp_path / "in.fasta", [("a", sequence(1))])
    (tmp_path / "run.yaml").write_text("seeds: [5]\nsampling: {steps: 3, samples: 3, cycles: 1}\n")
    assert command("predict", "in.fasta", "--config", "run.yaml", "--samples", "2", "--set", "sampling.steps=2").status == 0
    settings = json.loads((tmp_path / "runs" / "in" / "run.json").read_text())["settings"]
    assert (settings["seeds"], settings["sampling"]["steps"], settings["sampling"]["samples"]) == ([5], 2, 2)
    shipped = command(
        "predict", "in.fasta", "--out", "o", "--config", REPOSITORY / "configs" / "predict.yaml", "--steps", "1", "--samples", "1"
    )
    assert shipped.status == 0, shipped.text


def test_job_that_fails_in_the_middle_hides_and_stops_nothing(command: Command, tmp_path: Path):
    """A job whose place is taken by something else fails in its last stage with its reason; the others finish; later it resumes."""
    write_fasta(tmp_path / "in.fasta", [(f"job{n}", sequence(n)) for n in range(3)])
    (tmp_path / "out" / "job1").mkdir(parents=True)
    (tmp_path / "out" / "job1" / "precious.txt").write_text("mine")
    outcome = command("predict", "in.fasta", "--out", "out")
    assert outcome.status == 2 and "2 of 3 done, 1 failed" in outcome.text
    assert "in.fasta: record 2 (>job1): write: " in outcome.text
    assert (tmp_path / "out" / "job1" / "precious.txt").read_text() == "mine"
    (tmp_path / "out" / "job1").rename(tmp_path / "elsewhere")
    assert command("predict", "in.fasta", "--out", "out").status == 0
    counts = attempts(tmp_path / "out")
    assert counts["job1", "fold", "1"] == 1 and counts["job1", "write", ""] == 2


def test_help_is_there_at_once():
    """The command line does not import torch or Ray before it knows what to do: help takes less than a second of computing."""
    code = "import sys, workflows.cli; assert not {'torch', 'ray', 'numpy'} & sys.modules.keys()"
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-m", "workflows.cli", "--help"], check=True, env=environment, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 1.0
