"""The stages one by one: keys, what is published, errors on the row, fan-out and gathering."""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from structgen import predict
from structgen.alphafold3.config import Sampling, tiny
from structgen.alphafold3.model import AlphaFold3, Model
from structgen.artifacts import batch_from_bytes, predictions_from_bytes
from structgen.attempt import failed, on_record
from structgen.errors import CheckpointError
from structgen.features.atoms import build_atoms
from structgen.features.featurise import featurise
from structgen.features.job import Job, protein_chains
from structgen.features.msa import RowLimits, query_only
from structgen.features.tokens import tokenise
from structgen.io.a3m import write_a3m
from structgen.manifest import RunManifest, job_status
from structgen.run import Row, Run, fan_out, first_row, gather
from structgen.search.hmmer import JackhmmerSettings
from structgen.search.sources import FastaSource
from structgen.settings import Settings
from structgen.stages import Featurise, Fold, Search, Write, is_complete, read_msa, result_key
from structgen.store import Store

SEQDB = Path(__file__).parents[1] / "data" / "examples" / "seqdb.fasta.gz"
SAMPLING = Sampling(cycles=1, samples=2, steps=2)


@pytest.fixture(scope="module")
def model() -> Model:
    network = AlphaFold3(tiny())
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.02 * torch.randn(parameter.shape, generator=generator)
    return Model(network.eval().requires_grad_(False), "d" * 64, "")


@pytest.fixture
def run(tmp_path: Path) -> Run:
    settings = Settings(model="m", sampling=SAMPLING, seeds=(2, 1))
    return Run(tmp_path / "run", Store(tmp_path / "store"), settings, model_name="tiny", weights="d" * 64)


def with_settings(run: Run, **changes: object) -> Run:
    return dataclasses.replace(run, settings=dataclasses.replace(run.settings, **changes))  # type: ignore[arg-type]


def job(*sequences: str, slug: str = "a") -> Job:
    return Job(slug.upper(), slug, protein_chains(sequences), source=f"x.fasta: record {slug}", notes=("read as given",))


def entry(run: Run, slug: str, stage: str) -> dict:
    return RunManifest.load(run.folder).jobs[slug]["stages"][stage]


def alignment(path: Path, query: str, *others: str) -> Path:
    path.write_text("".join(f">{n}\n{row}\n" for n, row in enumerate((query, *others))))
    return path


def test_line_of_stages_gives_what_the_library_gives(run: Run, model: Model):
    """Keys through the four stages end in the folder of results, and the artifacts hold just what direct calls give."""
    row = Featurise(run)(Search(run)(first_row(job("MKTAYI", "GSH"))))
    tokens = tokenise(build_atoms(job("MKTAYI", "GSH")))
    batch = featurise(tokens, [None, None], RowLimits())
    stored = batch_from_bytes(run.store.read(str(row["features"])))
    assert all(torch.equal(tensor, stored.tensors()[name]) for name, tensor in batch.tensors().items())
    folds = [Fold(run, model)(one) for one in fan_out(row, run.settings.seeds)]
    direct = predict.fold(tokens, batch, model, SAMPLING, 1)
    for ours, theirs in zip(predictions_from_bytes(run.store.read(str(folds[1]["fold"]))), direct, strict=True):
        np.testing.assert_array_equal(ours.positions, theirs.positions)
        assert ours.summary.ranking_score == theirs.summary.ranking_score
    last = Write(run)(gather(folds))
    assert last["error"] == "" and last["folder"] == "a"
    told = json.loads((run.folder / "a" / "a_manifest.json").read_text())
    assert (told["seeds"], told["model_sha256"], told["msa_depth"]) == ([2, 1], "d" * 64, {"A": 1, "B": 1})
    assert told["settings"]["steps"] == 2 and told["settings"]["precision"] == "float32" and told["notes"] == ["read as given"]
    assert {seed for seed, _, _ in told["ranking"]} == {1, 2}


def test_failed_seed_does_not_hold_back_the_others_and_is_named(run: Run, model: Model):
    """The folder holds what the other seeds gave and says what is missing and why; a later run knows it as not finished."""
    row = Featurise(run)(Search(run)(first_row(job("MKTAYI"))))
    first, second = fan_out(row, run.settings.seeds)
    lost = failed(run, "fold", second, ZeroDivisionError("odd"))
    last = Write(run)(gather([Fold(run, model)(first), lost]))
    assert last["error"] == "" and is_complete(run.folder / "a")
    told = json.loads((run.folder / "a" / "a_manifest.json").read_text())
    assert told["seeds"] == [2] and {seed for seed, _, _ in told["ranking"]} == {2}
    assert told["notes"] == ["read as given", "seed 1 is missing: ZeroDivisionError: odd"]
    assert entry(run, "a", "write")["key"] != result_key(run, Search(run), job("MKTAYI"))
    assert job_status(RunManifest.load(run.folder).jobs["a"]) == "failed"


def test_result_is_known_by_its_key_before_anything_is_computed(run: Run, model: Model, tmp_path: Path):
    """The key of a job's folder can be told from job, settings and evidence alone; it is the one that Write records."""
    run = with_settings(run, msa=str(alignment(tmp_path / "one.a3m", "MKTAYI", "MKTAYV")))
    search = Search(run)
    key = result_key(run, search, job("MKTAYI", "GS"))
    assert not list(run.store.root.glob("??/*"))
    row = Featurise(run)(search(first_row(job("MKTAYI", "GS"))))
    last = Write(run)(gather([Fold(run, model)(one) for one in fan_out(row, run.settings.seeds)]))
    assert last["error"] == "" and entry(run, "a", "write")["key"] == key
    assert result_key(run, search, job("MKTAYI", "GS", slug="b")) != key
    folder = run.folder / "a"
    assert is_complete(folder)
    (folder / "notes.txt").write_text("mine")
    assert is_complete(folder)
    (folder / "LOG.txt").write_text("changed")
    assert not is_complete(folder)
    assert not is_complete(run.folder / "absent")


def test_rows_hold_only_texts_and_numbers(run: Run, model: Model):
    """A row travels anywhere: it is small, and JSON holds it."""
    row: Row = first_row(job("MKTAYI" * 8))
    row = gather([Fold(run, model)(one) for one in fan_out(Featurise(run)(Search(run)(row)), (1,))])
    assert all(type(value) in (str, int, float) for value in row.values())
    assert len(json.dumps(row)) < 2000


def test_keys_change_with_what_decides_the_result_and_with_nothing_else(run: Run, model: Model):
    """Name, slug, source and notes of a job do not matter to features and folds; sampling, precision, seed, weights and chains do."""

    def keys(run: Run, job: Job, seed: int = 1, digest: str = "d" * 64) -> tuple[str, str]:
        row = Featurise(run)(Search(run)(first_row(job)))
        fold = Fold(dataclasses.replace(run, weights=digest), dataclasses.replace(model, digest=digest))
        return str(row["features"]), str(fold({**row, "seed": seed})["fold"])

    features, fold = keys(run, job("MKT", "GS"))
    assert keys(run, job("MKT", "GS", slug="other")) == (features, fold)
    assert keys(dataclasses.replace(run, threads=2), job("MKT", "GS")) == (features, fold)
    for changed in (
        keys(with_settings(run, sampling=dataclasses.replace(SAMPLING, noise_scale=1.0)), job("MKT", "GS")),
        keys(with_settings(run, precision="bfloat16"), job("MKT", "GS")),
        keys(run, job("MKT", "GS"), seed=2),
        keys(run, job("MKT", "GS"), digest="e" * 64),
    ):
        assert changed[0] == features and changed[1] != fold
    for changed in (keys(run, job("GS", "MKT")), keys(with_settings(run, alignment=RowLimits(rows=2)), job("MKT", "GS"))):
        assert changed[0] != features and changed[1] != fold


def test_every_distinct_sequence_has_one_alignment(run: Run, tmp_path: Path):
    """Equal chains of a job and of other jobs share an artifact; a chain without an alignment has none; the origin is told."""
    (tmp_path / "msas").mkdir()
    alignment(tmp_path / "msas" / "first.a3m", "MKTAYI", "MKTaaAYV", "-KTAYI")
    run = with_settings(run, msa=str(tmp_path / "msas"))
    row = Search(run)(first_row(job("MKTAYI", "GSHM", "MKTAYI")))
    first, none, third = json.loads(str(row["msas"]))
    assert none == "" and first == third
    assert json.loads(str(row["notes"]))[0] == "chain A: alignment from first.a3m"
    assert entry(run, "a", "search")["attempts"] == 1
    msa = read_msa(run.store, first)
    assert msa.rows.shape == (3, 6) and msa.deletions[1].tolist() == [0, 0, 0, 2, 0, 0]
    assert gzip.decompress(run.store.read(first)) == write_a3m(msa)
    Search(run)(first_row(job("MKTAYI", slug="b")))
    assert (entry(run, "b", "search")["attempts"], entry(run, "b", "search")["key"]) == (0, first)


def test_alignment_is_known_by_its_content(run: Run, tmp_path: Path):
    """A changed file is another alignment, the same file elsewhere is the same one."""
    path = alignment(tmp_path / "one.a3m", "MKTAYI", "MKTAYV")
    before = Search(with_settings(run, msa=str(path)))(first_row(job("MKTAYI")))["msas"]
    moved = path.rename(tmp_path / "two.a3m")
    assert Search(with_settings(run, msa=str(moved)))(first_row(job("MKTAYI")))["msas"] == before
    alignment(moved, "MKTAYI", "MKTAYL")
    assert Search(with_settings(run, msa=str(moved)))(first_row(job("MKTAYI")))["msas"] != before


def test_given_alignment_comes_before_a_search(run: Run, tmp_path: Path):
    """With both sources a chain's own file is taken, and the others are searched."""
    path = alignment(tmp_path / "one.a3m", "MKTAYI", "MKTAYV")
    run = dataclasses.replace(with_settings(run, msa=str(path)), sources=(fasta(digest(SEQDB)),))
    row = Search(run)(first_row(job("MKTAYI", "GSHMKTAYIAKQR")))
    assert row["error"] == ""
    assert json.loads(str(row["notes"])) == ["chain A: alignment from one.a3m", "chain B: searched in seqdb.fasta.gz"]
    assert read_msa(run.store, json.loads(str(row["msas"]))[1]).rows[0].tolist() == query_only("GSHMKTAYIAKQR").rows[0].tolist()


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def fasta(digest: str) -> FastaSource:
    return FastaSource(str(SEQDB), digest, JackhmmerSettings())


def test_database_that_changed_under_a_run_is_refused(run: Run):
    """A search never publishes under the key of another database."""
    run = dataclasses.replace(run, sources=(fasta("0" * 64),))
    row = Search(run)(first_row(job("GSHMKTAYIAKQR")))
    assert "database changed" in str(row["error"]) and entry(run, "a", "search")["kind"] == "input"


def test_other_weights_than_the_run_s_are_refused(run: Run, model: Model):
    """A worker that finds another checkpoint under the model's name does not fold with it."""
    with pytest.raises(CheckpointError, match="another file"):
        Fold(dataclasses.replace(run, weights="e" * 64), model)


def test_error_is_carried_through_and_recorded_once(run: Run, model: Model):
    """After a failing stage the row passes the others unchanged; the account names stage, kind and place."""

    def work(row: Row, attempt: object) -> Row:
        raise ValueError("odd")

    row = on_record(run, "featurise", first_row(job("MKT")), work)
    assert str(row["error"]).startswith("ValueError: odd (in test_stages.py:")
    folded = gather([Fold(run, model)(one) for one in fan_out(row, (1, 2))])
    assert Write(run)(folded)["error"] == row["error"] == Featurise(run)(Search(run)(row))["error"]
    stages = RunManifest.load(run.folder).jobs["a"]["stages"]
    assert list(stages) == ["featurise"] and (stages["featurise"]["status"], stages["featurise"]["kind"]) == ("failed", "run")


def test_broken_alignment_fails_its_job_as_an_input_error(run: Run, tmp_path: Path):
    """A file with a row of another width is the user's to mend: kind input, file and row named."""
    path = alignment(tmp_path / "one.a3m", "MKTAYI", "MKT")
    row = Search(with_settings(run, msa=str(path)))(first_row(job("MKTAYI")))
    assert "one.a3m" in str(row["error"]) and "3 columns" in str(row["error"])
    assert entry(run, "a", "search")["kind"] == "input"


def test_stop_request_is_no_error_of_a_job(run: Run):
    """Ctrl-C leaves a stage as it is: it is not caught and not recorded as a failure."""

    def work(row: Row, attempt: object) -> Row:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        on_record(run, "fold", {**first_row(job("MKT")), "seed": 1}, work)
    assert RunManifest.load(run.folder).jobs == {}


def test_gathered_row_has_the_seeds_in_order_and_what_was_lost():
    """Whatever order the seeds end in, their row is the same; a failed seed is named and holds back none, all failed fail the job."""
    rows = [{"slug": "a", "error": "", "seed": seed, "fold": f"k{seed}"} for seed in (10, 9, 2)]
    assert gather(rows) == gather(rows[::-1]) == {"slug": "a", "error": "", "folds": '{"2": "k2", "9": "k9", "10": "k10"}'}
    lost = {"slug": "a", "error": "not finite", "seed": 9}
    some = gather([rows[0], lost, rows[2]])
    assert some == {"slug": "a", "error": "", "folds": '{"2": "k2", "10": "k10"}', "lost": '{"9": "not finite"}'}
    assert gather([{**lost, "seed": 10}, {**lost, "error": "first"}])["error"] == "first"
