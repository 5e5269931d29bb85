"""A batch as laboratories send them: real sequences, duplicates and broken records, through the whole pipeline on a local cluster, twice.

    python -m benchmarks.search_batch SEQUENCES.fasta.gz [--records 200] [--seqdb data/examples/seqdb.fasta.gz] [--model NAME]

Says what became of every record, how often each sequence was searched (by the run's account and by the artifacts of the store), and how
long the same command takes again. `--cluster ''` runs without Ray.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from structgen.alphafold3.config import tiny
from structgen.alphafold3.model import AlphaFold3, save_model
from structgen.search.hmmer import JackhmmerSettings
from structgen.search.sources import FastaSource
from structgen.store import Store

BAD = ("MKTAYIAKQR1QISFVK", "", "MKTAY*IAKQR", "MKTAYIAKQ?RQISF", "MKTAYIAKQ-RQISF", "MKTÄYIAKQR", "MKTAYIAKQR::MKT", "<html>MKT</html>",
       "MKT...AYIAKQR", "MKT_AYIAKQR")  # fmt: skip
CHEAP = ("--samples", "1", "--steps", "2", "--cycles", "1", "--threads", "1")
DUPLICATES = 0.15  # of all records


@dataclass(frozen=True)
class Spent:
    """One run of the command: exit status, seconds on the clock, and seconds of the processor (driver and what it waited for)."""

    status: int
    wall: float
    cpu: float
    text: str


def sampled(path: Path, count: int, rng: random.Random) -> list[str]:
    """So many distinct sequences of 50 to 300 residues, usual letters only."""
    records = gzip.open(path, "rt").read().split(">")[1:]
    sequences = {"".join(record.split("\n")[1:]) for record in records}
    fit = sorted(s for s in sequences if 50 <= len(s) <= 300 and set(s) <= set("ACDEFGHIKLMNPQRSTVWY"))
    return rng.sample(fit, count)


def batch(path: Path, records: int, rng: random.Random) -> list[str]:
    """All records' sequences, shuffled."""
    duplicates = int(records * DUPLICATES)
    unique = sampled(path, records - duplicates - len(BAD), rng)
    mixed = [*unique, *rng.choices(unique, k=duplicates), *BAD]
    rng.shuffle(mixed)
    return mixed


def small_model(folder: Path) -> Path:
    """Every part of the network, at the size of the tests; its structures mean nothing."""
    torch.manual_seed(0)
    path = folder / "small.safetensors"
    save_model(AlphaFold3(tiny()), path, card="Random weights.")
    return path


def timed(words: list[str], environment: dict[str, str]) -> Spent:
    """Run a command to its end."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    done = subprocess.run([sys.executable, "-m", "workflows.cli", *words], env=environment, capture_output=True, text=True, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Spent(done.returncode, time.monotonic() - began, cpu, done.stdout + done.stderr)


def account(folder: Path) -> dict[str, Any]:
    """The run's own."""
    return json.loads((folder / "run" / "run.json").read_text())


def attempts(document: dict[str, Any], stage: str) -> int:
    """How often the stage was at work in all jobs."""
    entries = [job["stages"].get(stage, {}) for job in document["jobs"].values()]
    entries = [one for entry in entries for one in entry.values()] if stage == "fold" else entries
    return sum(entry["attempts"] for entry in entries)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sequences", type=Path)
    parser.add_argument("--records", type=int, default=200)
    parser.add_argument("--seqdb", type=Path, default=Path("data/examples/seqdb.fasta.gz"))
    parser.add_argument("--cluster", default="local")
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--model", default="", help="a small network with random weights when not given: folds that cost little")
    options = parser.parse_args()
    folder = options.folder or Path(tempfile.mkdtemp(prefix="structgen-batch-"))
    folder.mkdir(parents=True, exist_ok=True)
    sequences = batch(options.sequences, options.records, random.Random(0))
    (folder / "batch.fasta").write_text("".join(f">r{number}\n{sequence}\n" for number, sequence in enumerate(sequences)))
    environment = os.environ | {"PYTHONPATH": os.getcwd(), "OMP_NUM_THREADS": "1"}
    words = ["predict", str(folder / "batch.fasta"), "--out", str(folder / "run"), "--store", str(folder / "store"), *CHEAP]
    words += ["--seqdb", str(options.seqdb), "--model", options.model or str(small_model(folder))]
    words += ["--cluster", options.cluster] if options.cluster else []
    first = timed(words, environment)
    (folder / "first.txt").write_text(first.text)
    report(folder, sequences, options.seqdb, first, timed(words, environment), account(folder))


def report(folder: Path, sequences: list[str], seqdb: Path, first: Spent, second: Spent, after: dict[str, Any]) -> None:
    """The table, and an error where a promise is broken."""
    good = [sequence for sequence in sequences if sequence not in BAD]
    jobs = Counter(job["stages"]["write"]["status"] for job in after["jobs"].values())
    digest = subprocess.run(["sha256sum", str(seqdb)], capture_output=True, text=True, check=True).stdout.split()[0]
    source, store = FastaSource(str(seqdb.absolute()), digest, JackhmmerSettings()), Store(folder / "store")
    found = sum(store.holds(source.key(sequence)) for sequence in set(good))
    rows = {
        "records": len(sequences),
        "refused, each with file, record and reason": len(after["rejected"]),
        "predicted": jobs["done"],
        "distinct sequences among these": len(set(good)),
        "alignments in the store": found,
        "searches (attempts in run.json, after both runs)": attempts(after, "search"),
        "folds": attempts(after, "fold"),
        "first run, seconds (processor of the driver)": f"{first.wall:.0f} ({first.cpu:.0f})",
        "second run, seconds (processor)": f"{second.wall:.1f} ({second.cpu:.1f})",
        "exit status of both (2: some input was wrong)": f"{first.status}, {second.status}",
        "load of the machine at the end": f"{os.getloadavg()[0]:.0f} on {os.cpu_count()} cores",
    }
    print("| | |\n| --- | --- |\n" + "\n".join(f"| {name} | {value} |" for name, value in rows.items()))
    print(next(line for line in second.text.splitlines() if line.startswith("Resuming")))
    assert len(after["rejected"]) + jobs["done"] == len(sequences) and first.status == second.status == 2, second.text
    assert attempts(after, "search") == found == len(set(good)), "a sequence was searched twice, or not at all"


if __name__ == "__main__":
    main()
