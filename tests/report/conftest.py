"""A run with everything that a report must bear: a complex with hostile names, a chain alone, a failure, lost results, refused input."""

from __future__ import annotations

import gzip
from dataclasses import replace
from pathlib import Path

import pytest

from structgen.io.writer import write_job
from structgen.manifest import Event, RunManifest
from structgen.store import Store
from tests.io.made import made_job, made_prediction, made_provenance, made_tokens

HOSTILE = "</script><img src=x onerror=\"window.pwned=1\">'&[[PROGRAM]]<!--\u2028é"
KEY = "ab" * 32
ALIGNMENT = ">query\nMKWVTF\n>a\nMKWVTF\n>b\nMKW--F\n>c\nAAWVaaTF\n"
SCORES = {"complex": (0.9, 0.8), "alone": (0.3,)}


def make_run(folder: Path) -> Path:
    """The run in `folder / "run"`, its store beside it."""
    run, store = folder / "run", folder / "store"
    Store(store).publish(KEY, gzip.compress(ALIGNMENT.encode(), mtime=0))
    for slug, chains in {"complex": (("A", "MKWVTF"), ("B", "GXYLLK")), "alone": (("A", "MKWVTF"),)}.items():
        tokens = made_tokens(*chains)
        samples = [made_prediction(tokens, sample=k, ranking_score=score) for k, score in enumerate(SCORES[slug])]
        provenance = made_provenance(*(id for id, _ in chains), notes=(HOSTILE,), source=f"{HOSTILE}: record 1")
        write_job(run, replace(made_job(tokens, slug=slug), name=HOSTILE), tokens, samples, provenance)
    manifest = RunManifest(run, {"schema": 1, "jobs": {}, "rejected": [], "journals": {}})
    jobs = {slug: {"name": f"{slug} {HOSTILE}", "source": HOSTILE, "tokens": 12} for slug in ("alone", "failed", "complex", "lost")}
    manifest.plan(jobs, seeds=[1], rejected=[{"error": f"bad.fasta: {HOSTILE}"}], software="0.1.0", model="toy", settings={"seeds": [1]})
    manifest.document["store"] = str(store)
    for slug in ("alone", "complex", "lost"):
        manifest.apply(Event(slug, "search", "done", key=KEY, seconds=0.5))
        manifest.apply(Event(slug, "fold", "done", seed=1, seconds=2))
        manifest.apply(Event(slug, "write", "done", seconds=1))
    manifest.apply(Event("failed", "featurise", "failed", error=f"too large {HOSTILE}", kind="input"))
    manifest.save()
    return run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`make_run`'s folder; not to be changed."""
    return make_run(tmp_path_factory.mktemp("report"))
