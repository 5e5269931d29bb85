"""A job's folder: what lies in it, that equal input gives equal bytes, that it is whole or absent, and that nothing is lost in silence."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import gemmi
import numpy as np
import pytest

from structgen.errors import InputError, NumericalError
from structgen.features.job import Job
from structgen.features.tokens import Tokens
from structgen.io.writer import Manifest, write_job
from structgen.prediction import Prediction
from tests.io.made import made_job, made_prediction, made_provenance, made_tokens

SAMPLE = ("model.cif", "model.pdb", "confidences.json", "summary_confidences.json", "pae.npz", "extras.json")
SCORES = {(2, 0): 0.5, (1, 0): 0.2, (1, 1): 0.5, (2, 1): 0.4}  # two are equal: seed 1, sample 1 comes first


@pytest.fixture
def tokens() -> Tokens:
    return made_tokens(("A", "MKW"), ("B", "GX"), ("C", "MKW"))


def _predictions(tokens: Tokens) -> list[Prediction]:
    return [made_prediction(tokens, seed=seed, sample=sample, ranking_score=score) for (seed, sample), score in SCORES.items()]


def _write(folder: Path, tokens: Tokens, predictions: list[Prediction] | None = None, **changes: object) -> Manifest:
    provenance = made_provenance(*tokens.structure.chain_ids, **{"source": "in.fasta, record 1", **changes})
    return write_job(folder, made_job(tokens), tokens, predictions or _predictions(tokens), provenance)


def _contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_the_layout_is_alphafold_3s_and_more(tmp_path: Path, tokens: Tokens) -> None:
    """Every file by name, and no other; the output folder holds the job's folder alone."""
    _write(tmp_path / "out", tokens)
    expected = {f"seed-{s}_sample-{k}/job_seed-{s}_sample-{k}_{ending}" for s, k in SCORES for ending in SAMPLE}
    expected |= {f"job_{ending}" for ending in SAMPLE[:4]}
    expected |= {"job_ranking_scores.csv", "ranking_scores.csv", "job_data.json", "job_job.json", "job_manifest.json"}
    expected |= {"TERMS_OF_USE.md", "LOG.txt"}
    assert set(_contents(tmp_path / "out" / "job")) == expected
    assert os.listdir(tmp_path / "out") == ["job"]
    assert not any(path.is_symlink() for path in (tmp_path / "out").rglob("*"))


def test_the_best_sample_is_copied_and_ties_go_to_the_lower_seed(tmp_path: Path, tokens: Tokens) -> None:
    """Ranking score descending, then seed, then sample; the table, the manifest and the copies agree."""
    manifest = _write(tmp_path, tokens)
    order = [(1, 1, 0.5), (2, 0, 0.5), (2, 1, 0.4), (1, 0, 0.2)]
    assert list(manifest.ranking) == order
    table = (tmp_path / "job/ranking_scores.csv").read_text()
    assert table == "seed,sample,ranking_score\n" + "".join(f"{s},{k},{score}\n" for s, k, score in order)
    for ending in SAMPLE[:4]:
        best = tmp_path / f"job/seed-1_sample-1/job_seed-1_sample-1_{ending}"
        assert (tmp_path / f"job/job_{ending}").read_bytes() == best.read_bytes()


def test_equal_runs_give_equal_bytes(tmp_path: Path, tokens: Tokens) -> None:
    """Device, seconds and the date show in the manifest alone; the order in which samples come does not matter."""
    _write(tmp_path / "a", tokens, device="cpu", seconds={"fold": 1.5})
    _write(tmp_path / "b", tokens, _predictions(tokens)[::-1], device="other", seconds={"fold": 9.0})
    first, second = _contents(tmp_path / "a/job"), _contents(tmp_path / "b/job")
    assert {path for path in first if first[path] != second[path]} == {"job_manifest.json"}


def test_other_coordinates_give_other_bytes(tmp_path: Path, tokens: Tokens) -> None:
    """The comparison above can fail: a shift of 0.01 angstrom shows in every structure file."""
    _write(tmp_path / "a", tokens)
    _write(tmp_path / "b", tokens, [replace(p, positions=p.positions + np.float32(0.01)) for p in _predictions(tokens)])
    first, second = _contents(tmp_path / "a/job"), _contents(tmp_path / "b/job")
    differing = {path for path in first if first[path] != second[path]}
    assert differing == {path for path in first if path.endswith((".cif", ".pdb", "manifest.json"))}


def test_the_manifest_accounts_for_every_file(tmp_path: Path, tokens: Tokens) -> None:
    """Digests of all files but itself, and what the folder was made from and with."""
    manifest = _write(tmp_path, tokens, device="cpu", seconds={"fold": 1.5})
    stored = json.loads((tmp_path / "job/job_manifest.json").read_text())
    assert stored == json.loads(manifest.to_json())
    files = _contents(tmp_path / "job")
    del files["job_manifest.json"]
    assert stored["files"] == {path: hashlib.sha256(content).hexdigest() for path, content in files.items()}
    assert stored["input_sha256"] == stored["files"]["job_job.json"]
    assert (stored["name"], stored["slug"], stored["source"], stored["schema"]) == ("my Job", "job", "in.fasta, record 1", 1)
    assert (stored["software"], stored["model"], stored["seeds"]) == ("0.1.0", "toy", [1, 2])
    assert (stored["device"], stored["seconds"], stored["msa_depth"]) == ("cpu", {"fold": 1.5}, {"A": 17, "B": 1, "C": 1})
    assert stored["written"].endswith("+00:00")


def test_a_structure_too_large_for_pdb_is_named_and_kept_as_mmcif(tmp_path: Path, tokens: Tokens) -> None:
    """The sample that does not fit has no PDB file; manifest and log say which and why; the other samples have theirs."""
    first, *others = _predictions(tokens)
    manifest = _write(tmp_path, tokens, [replace(first, positions=first.positions + 1e5), *others])
    files = _contents(tmp_path / "job")
    assert sum(path.endswith(".pdb") for path in files) == 4  # of three samples and the best
    assert "seed-2_sample-0/job_seed-2_sample-0_model.pdb" not in files
    (reason,) = [warning for warning in manifest.warnings if "PDB" in warning]
    assert reason.startswith("seed 2, sample 0: no PDB file: coordinates from ") and "mmCIF" in reason
    assert reason in files["LOG.txt"].decode()


def test_mapped_chains_and_undefined_values_are_named(tmp_path: Path) -> None:
    """Long chain ids and NaN in the PAE show in manifest and log."""
    tokens = made_tokens(("AA", "MK"), ("b2", "GG"))
    prediction = made_prediction(tokens)
    pae = prediction.pae.copy()
    pae[0, 1] = np.nan
    manifest = _write(tmp_path, tokens, [replace(prediction, pae=pae)])
    assert manifest.pdb_chains == {"AA": "A", "b2": "B"}
    assert "chain b2 is chain B in the PDB files" in manifest.warnings
    assert "seed 1, sample 0: pae is undefined in places, written as null" in manifest.warnings
    assert "job_data.json: chain ids: b2 is A there" in manifest.warnings
    log = (tmp_path / "job/LOG.txt").read_text()
    assert all(f"warning: {warning}\n" in log for warning in manifest.warnings)
    assert "chain AA: protein, 2 residues, 17 alignment rows" in log


def test_the_job_is_written_for_alphafold_3(tmp_path: Path, tokens: Tokens) -> None:
    """Lowest version; a chain without an alignment says so, one with an alignment asks for a search, which is named as a loss."""
    manifest = _write(tmp_path, tokens)
    job = json.loads((tmp_path / "job/job_data.json").read_text())
    assert (job["dialect"], job["version"], job["name"], job["modelSeeds"]) == ("alphafold3", 1, "my Job", [1, 2])
    alone = {"unpairedMsa": "", "pairedMsa": "", "templates": []}
    assert job["sequences"] == [
        {"protein": {"id": "A", "sequence": "MKW"}},
        {"protein": {"id": "B", "sequence": "GX", **alone}},
        {"protein": {"id": "C", "sequence": "MKW", **alone}},
    ]
    assert manifest.warnings == ("job_data.json: chain A: the alignment is not in this file, AlphaFold 3 would search its own",)
    whole = json.loads((tmp_path / "job/job_job.json").read_text())
    assert Job.from_json(json.dumps(whole["job"])) == made_job(tokens)
    assert whole["msa_rows"] == {"A": 17, "B": 1, "C": 1} and whole["seeds"] == [1, 2]


def test_names_that_alphafold_3_refuses_become_the_slug(tmp_path: Path, tokens: Tokens) -> None:
    """A name without any ASCII letter or digit stays in our own files and is the slug in AlphaFold 3's."""
    write_job(tmp_path, made_job(tokens, slug="job-1", name="日本"), tokens, _predictions(tokens), made_provenance("A", "B", "C"))
    assert json.loads((tmp_path / "job-1/job-1_data.json").read_text())["name"] == "job-1"
    assert json.loads((tmp_path / "job-1/job-1_job.json").read_text())["job"]["name"] == "日本"
    assert "job: 日本\n" in (tmp_path / "job-1/LOG.txt").read_text(encoding="utf-8")


def test_terms_are_those_of_the_model(tmp_path: Path, tokens: Tokens) -> None:
    """What the checkpoint states, or that it states nothing; never the lower-case name, which readers take for another layout."""
    _write(tmp_path / "a", tokens, terms="Weights: Apache-2.0.")
    _write(tmp_path / "b", tokens)
    assert "Weights: Apache-2.0." in (tmp_path / "a/job/TERMS_OF_USE.md").read_text()
    assert "states no terms" in (tmp_path / "b/job/TERMS_OF_USE.md").read_text()


def test_results_are_replaced_and_other_folders_are_not(tmp_path: Path, tokens: Tokens) -> None:
    """A second write of a job leaves only the new files; a folder that is not a result is refused and stays."""
    _write(tmp_path, tokens)
    _write(tmp_path, tokens, _predictions(tokens)[:1])
    assert [path.name for path in (tmp_path / "job").iterdir() if path.is_dir()] == ["seed-2_sample-0"]
    assert os.listdir(tmp_path) == ["job"]
    (tmp_path / "other/job").mkdir(parents=True)
    (tmp_path / "other/job/thesis.txt").write_text("mine")
    with pytest.raises(InputError, match=r"other/job: results cannot be written; found something else of that name"):
        _write(tmp_path / "other", tokens)
    assert (tmp_path / "other/job/thesis.txt").read_text() == "mine"


@pytest.mark.parametrize("slug", ["", ".", "..", "../x", "a/b", "/x"])
def test_a_slug_cannot_leave_the_folder(tmp_path: Path, tokens: Tokens, slug: str) -> None:
    """Only a plain file name is taken, and nothing is written for another."""
    with pytest.raises(InputError, match="plain name"):
        write_job(tmp_path / "out", made_job(tokens, slug=slug), tokens, _predictions(tokens), made_provenance("A"))
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("spoil", ["positions", "ranking_score"])
def test_a_failed_write_leaves_nothing(tmp_path: Path, tokens: Tokens, spoil: str) -> None:
    """Values that are not finite stop the job before or in the middle of its files; the earlier result stays."""
    _write(tmp_path, tokens)
    before = _contents(tmp_path)
    *others, last = _predictions(tokens)
    bad = replace(last, positions=last.positions * np.nan) if spoil == "positions" else made_prediction(tokens, ranking_score=np.nan)
    with pytest.raises(NumericalError):
        _write(tmp_path, tokens, [*others, bad])
    with pytest.raises(NumericalError, match="no prediction"):
        write_job(tmp_path, made_job(tokens), tokens, [], made_provenance("A"))
    assert _contents(tmp_path) == before


KILLED = """
import os, sys
from pathlib import Path
from structgen.io import folder
from tests.io.made import made_job, made_prediction, made_provenance, made_tokens
from structgen.io.writer import write_job
rename, calls = os.rename, []
def dying(source, target):
    calls.append(target)
    if len(calls) == int(sys.argv[2]):
        os.kill(os.getpid(), 9)
    rename(source, target)
folder.os.rename = dying
tokens = made_tokens(("A", "MKW"), ("B", "GX"), ("C", "MKW"))
write_job(Path(sys.argv[1]), made_job(tokens), tokens, [made_prediction(tokens)], made_provenance("A", "B", "C"))
"""


@pytest.mark.parametrize("call", [1, 2])
def test_a_killed_writer_leaves_no_half_folder(tmp_path: Path, tokens: Tokens, call: int) -> None:
    """SIGKILL before the old folder moves away, or before the new one takes its place: old, or none, and the next write cleans up."""
    _write(tmp_path, tokens)
    before = _contents(tmp_path / "job")
    run = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path), str(call)], cwd=Path(__file__).parents[2], check=False)
    assert run.returncode == -9
    assert len(list(tmp_path.glob(".job.*"))) == call
    assert (_contents(tmp_path / "job") == before) if call == 1 else not (tmp_path / "job").exists()
    _write(tmp_path, tokens)
    assert os.listdir(tmp_path) == ["job"]
    assert {path: content for path, content in _contents(tmp_path / "job").items() if path in before}.keys() == before.keys()


def test_the_written_structures_are_the_predictions(tmp_path: Path, tokens: Tokens) -> None:
    """Each sample's files hold that sample: read back by gemmi from the folder."""
    _write(tmp_path, tokens)
    for prediction in _predictions(tokens):
        sample = f"seed-{prediction.seed}_sample-{prediction.sample}"
        for ending in ("cif", "pdb"):
            model = gemmi.read_structure(str(tmp_path / f"job/{sample}/job_{sample}_model.{ending}"))[0]
            positions = np.array([found.atom.pos.tolist() for found in model.all()])
            assert np.abs(positions - prediction.positions).max() < 0.00051
        summary = json.loads((tmp_path / f"job/{sample}/job_{sample}_summary_confidences.json").read_text())
        assert summary["ranking_score"] == prediction.summary.ranking_score
