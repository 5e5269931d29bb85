"""The same stages on Ray: the same bytes, bounded retries for what dies, words for what is missing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from structgen.alphafold3.config import Sampling
from structgen.attempt import on_record
from structgen.errors import CheckpointError, ClusterError
from structgen.manifest import RunManifest, job_status, stage_entries
from structgen.run import Row, Run
from structgen.settings import Settings
from structgen.store import Store
from tests.workflows.conftest import CPUS, REPOSITORY, Command, differing, free_cpus, results, start_command
from tests.workflows.test_cli import attempts, sequence, write_fasta
from tests.workflows.test_resume import finished, kill_in_the_middle
from workflows import cluster, dispatch
from workflows.cluster import Node
from workflows.predict import Line, predict_here, predict_on_cluster
from workflows.resources import Demand

pytestmark = pytest.mark.timeout(300)  # a worker imports torch, which takes its time on a busy machine


class Pass:
    """A stage that adds its name to the row and, in fold, its process; some jobs have a fate."""

    def __init__(self, run: Run) -> None:
        self._run = run

    def __call__(self, row: Row) -> Row:
        stage = str(row.get("next", "search"))
        return on_record(self._run, stage, row, lambda row, attempt: self._work(row, stage))

    def _work(self, row: Row, stage: str) -> Row:
        if row["slug"] == f"raises in {stage}":
            raise ZeroDivisionError(f"no {stage}")
        if row["slug"] == f"kills its worker in {stage}":
            os.kill(os.getpid(), signal.SIGKILL)
        following = {"search": "featurise", "featurise": "fold", "fold": "write", "write": "end"}[stage]
        return {**row, "next": following} | ({"fold": f"{row['slug']} {row['seed']}"} if stage == "fold" else {})


def broken(run: Run) -> Pass:
    """What a model file that is damaged on a node does."""
    raise CheckpointError("weights are damaged here")


def row(slug: str, tokens: int = 5) -> Row:
    return {"slug": slug, "tokens": tokens, "error": ""}


@pytest.fixture
def run(tmp_path: Path) -> Run:
    settings = Settings(model="m", sampling=Sampling(), seeds=(3, 1))
    return Run(tmp_path / "run", Store(tmp_path / "store"), settings, model_name="m", weights="w", threads=1)


def on_cluster(line: Line, rows: list[Row], said: list[str] | None = None, patience: float = 0.0) -> list[Row]:
    return list(predict_on_cluster(line, rows, say=(said if said is not None else []).append, patience=patience))


def test_every_job_ends_once_whatever_happens_to_it(ray_session: None, run: Run, monkeypatch: pytest.MonkeyPatch):
    """Errors in any stage and dead workers end only their own job, with the reason in its row and on record; seeds meet again."""
    monkeypatch.setattr(dispatch, "TRIES", 2)
    raised = [f"raises in {stage}" for stage in ("search", "featurise", "fold", "write")]
    killed = [f"kills its worker in {stage}" for stage in ("featurise", "fold")]
    said: list[str] = []
    own: Row = {**row("own"), "seeds": "9,7"}
    ended = on_cluster(Line(run, Pass, Pass, Pass, Pass), [own, *(row(slug) for slug in ["good", *raised, *killed, "fine"])], said)
    rows = {str(r["slug"]): r for r in ended}
    assert len(ended) == len(rows) == 9
    assert rows["own"]["folds"] == '{"7": "own 7", "9": "own 9"}'
    for slug in ("good", "fine"):
        assert rows[slug]["error"] == "" and rows[slug]["folds"] == f'{{"1": "{slug} 1", "3": "{slug} 3"}}'
    for slug in raised:
        assert str(rows[slug]["error"]).startswith(f"ZeroDivisionError: no {slug.split()[-1]}")
    manifest = RunManifest.load(run.folder)
    for slug, stage in zip(killed, ("featurise", "fold"), strict=True):
        assert "the worker died" in str(rows[slug]["error"]) and "2 workers died of this work" in str(rows[slug]["error"])
        assert sum(line.startswith(f"{slug}: {stage}: ") for line in said) == (2 if stage == "fold" else 1)  # both seeds of a fold
        failures = stage_entries(manifest.jobs[slug], stage)
        assert all((entry["status"], entry["kind"]) == ("failed", "run") for entry in failures)


def test_in_process_line_treats_errors_alike(run: Run):
    """The loop in process gives the same rows for jobs that end well or raise."""
    slugs = ["good", *(f"raises in {stage}" for stage in ("search", "featurise", "fold", "write")), "fine"]
    rows = list(predict_here(Line(run, Pass, Pass, Pass, Pass), [row(slug) for slug in slugs]))
    assert [r["slug"] for r in rows] == slugs
    assert [bool(r["error"]) for r in rows] == [False, True, True, True, True, False]
    (own,) = predict_here(Line(run, Pass, Pass, Pass, Pass), [{**row("own"), "seeds": "9,7"}])
    assert own["folds"] == '{"7": "own 7", "9": "own 9"}'


def test_longest_job_is_folded_first(ray_session: None, run: Run):
    """With one place to fold, jobs that wait for it go by falling length."""
    import ray

    lengths = [10, 40, 20, 50, 30]
    cpus = int(ray.cluster_resources()["CPU"])
    line = Line(Run(run.folder, run.store, run.settings, "m", "w", threads=cpus), Pass, Pass, Pass, Pass)
    on_cluster(line, [row(f"job{n}", n) for n in lengths])
    journals = [path.read_text().splitlines() for path in (run.folder / ".journal").iterdir()]
    (folded,) = [lines for lines in journals if any('"stage":"fold"' in line for line in lines)]
    order = [line.split('"job":"job')[1][:2] for line in folded]
    assert order == sorted(order, reverse=True) and len(order) == 2 * len(lengths)


def test_model_that_cannot_be_loaded_ends_the_run_with_its_reason(ray_session: None, run: Run):
    """What is wrong for every job is said once, as an error of the cluster. While the error is held, its workers are not."""
    with pytest.raises(ClusterError, match="cannot load the model: weights are damaged here") as error:
        on_cluster(Line(run, Pass, Pass, broken, Pass), [row("a"), row("b")])
    assert free_cpus() == CPUS, error


def test_missing_resource_is_named(ray_session: None, run: Run):
    """Work that no node can hold does not wait in silence: which resource, how much of it there is, and what to do."""
    line = Line(Run(run.folder, run.store, run.settings, "m", "w", threads=64), Pass, Pass, Pass, Pass)
    said: list[str] = []
    with pytest.raises(ClusterError, match=r"fold needs 64 CPU on one node; missing CPU \(most on one node: \d+\), 1 live node.*--threads"):
        on_cluster(line, [row("a")], said, patience=1.0)
    assert any("waiting: fold needs 64 CPU" in line for line in said)


def test_run_that_stands_still_says_what_it_waits_for(ray_session: None, run: Run, monkeypatch: pytest.MonkeyPatch):
    """Where other work holds the CPUs, the run waits for them and says so."""
    import ray

    @ray.remote(num_cpus=1)
    class Other:
        def here(self) -> bool:
            return True

    monkeypatch.setattr(dispatch, "STILL", 2.0)
    others = [Other.remote(), Other.remote()]
    assert all(ray.get([other.here.remote() for other in others]))
    line, said = Line(run, Pass, Pass, Pass, Pass), []

    def say(text: str) -> None:
        said.append(text)
        while others:
            ray.kill(others.pop())

    (ended,) = predict_on_cluster(line, [row("a")], say=say, patience=0.0)
    assert ended["error"] == "" and "0.5 CPU needed" in said[0] and "of 2 free" in said[0]


def test_fold_that_fits_no_node_is_named(ray_session: None, run: Run):
    """What fits is folded; then the run waits, says which memory is needed and which is there, and ends."""
    said: list[str] = []
    rows = [row("small"), {**row("huge", 9), "mib": 1e9}]
    ended: list[Row] = []
    with pytest.raises(ClusterError, match=r"fold of huge needs about 1,000,000,000 MiB, the largest node has [\d,]+\."):
        for one in predict_on_cluster(Line(run, Pass, Pass, Pass, Pass), rows, say=said.append, patience=8.0):
            ended.append(one)
    assert [one["slug"] for one in ended] == ["small"] and any("waiting: fold of huge" in line for line in said)


def test_places_and_what_is_lacking():
    """Places are counted on single nodes that have the labels; a sentence names what is short, or that no node has all of it together."""
    places, lacking = cluster.places, cluster.lacking
    nodes = [Node("a", {"CPU": 4.0, "memory": 1e9}), Node("b", {"CPU": 2.0, "GPU": 1.0}, {"kind": "H100"})]
    assert [places(Demand(cpus=n), nodes) for n in (1.0, 1.5, 2.0, 3.0, 5.0)] == [6, 3, 3, 1, 0]
    assert places(Demand(0.5, 1.0), nodes) == 1 and places(Demand(4.0), nodes) == 1
    assert places(Demand(1.0, labels={"kind": "H100"}), nodes) == 2
    assert lacking({"fold": Demand(2.0)}, nodes) == []
    assert lacking({"search": Demand(custom={"msa": 1.0})}, nodes) == [
        "search needs 1 msa on one node; missing msa (most on one node: 0), 2 live nodes"
    ]
    assert lacking({"fold": Demand(4.0, 1.0)}, nodes) == [
        "fold needs 4 CPU, 1 GPU on one node; no single node has all of these, 2 live nodes"
    ]
    assert lacking({"fold": Demand(1.0, labels={"kind": "B200"})}, nodes) == [
        "fold needs 1 CPU, kind=B200 on one node; no node has the label kind=B200, 2 live nodes"
    ]
    assert lacking({"fold": Demand(3.0, labels={"kind": "H100"})}, nodes) == [
        "fold needs 3 CPU, kind=H100 on one node; missing CPU (most on one node: 2), 2 live nodes"
    ]
    assert "0 live nodes" in lacking({"fold": Demand(1.0)}, [])[0]


AUTHENTICATION = """
import json, os, sys
from workflows.authentication import declare
declare(sys.argv[1])
assert "ray" not in sys.modules
print(json.dumps({name: value for name, value in os.environ.items() if name.startswith("RAY_")}))
"""


@pytest.mark.parametrize(
    ("where", "given", "mode"),
    [
        ("local", {}, "token"),
        ("auto", {}, "disabled"),
        ("10.0.0.1:6379", {"RAY_AUTH_TOKEN_PATH": __file__}, "token"),
        ("local", {"RAY_AUTH_MODE": "disabled"}, "disabled"),
    ],
)
def test_authentication_is_always_declared(tmp_path: Path, where: str, given: dict[str, str], mode: str):
    """RAY_AUTH_MODE is never left to Ray's changing defaults; a local cluster has a token that no file holds."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    environment = clean | given | {"HOME": str(tmp_path), "PYTHONPATH": str(REPOSITORY)}
    words = [sys.executable, "-c", AUTHENTICATION, where]
    told = subprocess.run(words, env=environment, check=True, capture_output=True, text=True).stdout
    assert f'"RAY_AUTH_MODE": "{mode}"' in told and '"RAY_USAGE_STATS_ENABLED": "0"' in told
    assert ('"RAY_AUTH_TOKEN": ' in told) == (where == "local" and mode == "token")
    assert not list(tmp_path.iterdir())


def test_cluster_gives_the_bytes_of_the_process(ray_session: None, command: Command, tmp_path: Path):
    """In process and with --cluster local, every file of every job is equal, bit for bit, also for jobs that were refused."""
    records = [
        ("one", sequence(1)),
        ("pair", f"{sequence(2)}:{sequence(3, 12)}"),
        ("bad", "AC1"),
        ("twins", f"{sequence(4)}:{sequence(4)}"),
    ]
    write_fasta(tmp_path / "in.fasta", records)
    options = ["--seeds", "1,2", "--samples", "2", "--threads", "1"]
    here = command("predict", "in.fasta", "--out", "here", "--store", "store-1", *options)
    there = command("predict", "in.fasta", "--out", "there", "--store", "store-2", "--cluster", "local", *options)
    assert (here.status, there.status) == (2, 2), there.text
    assert differing(results(tmp_path / "here"), results(tmp_path / "there")) == {}
    assert attempts(tmp_path / "here") == attempts(tmp_path / "there")
    assert "3 of 4 done, 1 refused" in there.text and "pair: seed 2 folded" in there.text
    again = command("predict", "in.fasta", "--out", "there", "--store", "store-2", *options)
    assert "3 of 3 jobs are done" in again.text and attempts(tmp_path / "there") == attempts(tmp_path / "here")


def test_threads_of_a_fold_are_the_same_on_a_cluster(ray_session: None, command: Command, tmp_path: Path):
    """With two threads a fold, too, the cluster gives the bytes of the process: workers do not choose their own number."""
    write_fasta(tmp_path / "in.fasta", [("long", sequence(6, 70))])
    for out, place in (("here", []), ("there", ["--cluster", "local"])):
        options = ["--out", out, "--store", f"store-{out}", "--samples", "1", "--threads", "2"]
        assert command("predict", "in.fasta", *options, *place).status == 0
    assert differing(results(tmp_path / "here"), results(tmp_path / "there")) == {}


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("ray://127.0.0.1:1", "ray job submit"),
        ("127.0.0.1:1", "Connection refused"),
        ("nonsense", "expected local, auto, or host:port"),
        ("host:port", "expected local, auto, or host:port"),
        ("127.0.0.1:99999999", "cannot be reached"),
    ],
)
def test_unreachable_cluster_is_named_at_once(address: str, message: str, monkeypatch: pytest.MonkeyPatch):
    """An address where no cluster is, what is no address, and Ray's client protocol are refused in words."""
    import ray

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    with pytest.raises(ClusterError, match=message), cluster.connected(address):
        raise AssertionError("connected")


def test_cluster_error_ends_the_command_with_status_3(checkpoint: Path, tmp_path: Path):
    """The command says what is wrong with the cluster; nothing is computed, and nothing counts as failed."""
    write_fasta(tmp_path / "in.fasta", [("a", sequence(1))])
    process = start_command(checkpoint, tmp_path, "in.fasta", "--cluster", "127.0.0.1:1", "--out", "run")
    assert process.wait(timeout=300) == 3
    assert "structgen: cluster '127.0.0.1:1' cannot be reached" in (tmp_path / "output.txt").read_text()
    assert job_status(RunManifest.load(tmp_path / "run").jobs["a"]) == "waiting"


@pytest.mark.slow
def test_killed_driver_of_a_cluster_resumes(command: Command, checkpoint: Path, tmp_path: Path):
    """kill -9 of the command that drives a local cluster: the same command again repeats nothing that was finished, with the same bytes."""
    write_fasta(tmp_path / "in.fasta", [(f"job{n}", sequence(n)) for n in range(10)])
    options = ["in.fasta", "--seeds", "1,2", "--samples", "1", "--steps", "6", "--threads", "1"]
    kill_in_the_middle(start_command(checkpoint, tmp_path, *options, "--out", "run", "--cluster", "local"), tmp_path / "run", written=3)
    done = finished(tmp_path / "run")
    assert len({slug for slug, stage in done if stage == "write 0"}) < 10
    again = start_command(checkpoint, tmp_path, *options, "--out", "run", "--cluster", "local")
    assert again.wait(timeout=400) == 0
    counts = finished(tmp_path / "run")
    assert {place: counts[place] for place in done} == done
    assert command("predict", *options, "--out", "whole", "--store", "other").status == 0
    assert differing(results(tmp_path / "run"), results(tmp_path / "whole")) == {}


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopped_driver_of_a_cluster_says_how_to_go_on(checkpoint: Path, tmp_path: Path, number: int):
    """Ctrl-C and a batch system's end signal stop a cluster run as they stop one in process; Ray's own handler does not come first."""
    write_fasta(tmp_path / "in.fasta", [(f"job{n}", sequence(n)) for n in range(10)])
    process = start_command(checkpoint, tmp_path, "in.fasta", "--steps", "6", "--threads", "1", "--out", "run", "--cluster", "local")
    kill_in_the_middle(process, tmp_path / "run", written=1, number=number)
    assert process.returncode == 130
    assert "the same command again goes on" in (tmp_path / "output.txt").read_text()
    assert not (tmp_path / "run" / ".journal").exists()
