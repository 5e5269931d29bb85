"""mmseqs2 with and without a prebuilt index, and jackhmmer in process, on the same database: seconds of the processor, and what they find.

    python -m benchmarks.search_mmseqs DATABASE.fasta.gz [--queries data/examples/demo.fasta] [--threads 2]

Seconds on the clock are told too; they depend on what else the machine does.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

from structgen.features.msa import Msa
from structgen.io.fasta import read_fasta
from structgen.search.hmmer import JackhmmerSettings, load_database, search
from structgen.search.mmseqs import MmseqsSettings, search_mmseqs
from structgen.search.mmseqs_binary import run_mmseqs
from structgen.search.mmseqs_database import build_database

T = TypeVar("T")


def spent(work: Callable[[], T]) -> tuple[T, float, float]:
    """The result, seconds of the processor (this process and what it waits for), and seconds on the clock."""

    def cpu() -> float:
        used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        return sum(one.ru_utime + one.ru_stime for one in used)

    before, began = cpu(), time.monotonic()
    return work(), cpu() - before, time.monotonic() - began


def line(what: str, cpu: float, wall: float, found: dict[str, Msa] | None, reference: dict[str, Msa] | None = None) -> None:
    """A row of the table; the last column counts targets that the reference found too."""
    rows = shared = ""
    if found:
        rows = ", ".join(str(len(msa.rows) - 1) for msa in found.values())
        names = [{each.split()[0].rpartition("/")[0] for each in msa.descriptions[1:]} for msa in found.values()]
        if reference:
            others = [{each.split()[0].rpartition("/")[0] for each in msa.descriptions[1:]} for msa in reference.values()]
            shared = ", ".join(f"{len(a & b)}/{len(b)}" for a, b in zip(names, others, strict=True))
    print(f"| {what} | {cpu:.1f} | {wall:.0f} | {rows} | {shared} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("database", type=Path)
    parser.add_argument("--queries", type=Path, default=Path("data/examples/demo.fasta"))
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    queries = list(dict.fromkeys(chain for record in read_fasta(options.queries)[0] for chain in record.sequence.split(":")))
    print(f"mmseqs2 {run_mmseqs('version').strip()}, {len(queries)} queries, {options.threads} threads\n")
    print("| | processor, s | clock, s | hits of each query | of jackhmmer's targets |\n| --- | --- | --- | --- | --- |")
    database, cpu, wall = spent(lambda: load_database(options.database))
    line("jackhmmer: load the database", cpu, wall, None)
    reference, cpu, wall = spent(lambda: {query: search(query, database, JackhmmerSettings()) for query in queries})
    line("jackhmmer: search", cpu, wall, reference)
    with tempfile.TemporaryDirectory() as folder:
        for index in (False, True):
            out = Path(folder, f"index-{index}")
            built, cpu, wall = spent(partial(build_database, options.database, out, shards=1, index=index, threads=2))
            size = sum(file.stat().st_size for file in out.iterdir()) / 2**20
            line(f"mmseqs2: build{' with index' * index}, {size:,.0f} MiB", cpu, wall, None)
            for prefilter in ("kmer", "kmer") if index else ("kmer", "ungapped"):
                settings = MmseqsSettings(prefilter=prefilter)
                found, cpu, wall = spent(partial(search_mmseqs, queries, built, settings, options.threads))
                line(f"mmseqs2: search, {prefilter}{', index' * index}", cpu, wall, found, reference)


if __name__ == "__main__":
    main()
