"""docs/generative.md from what `benchmarks.solvers`, `benchmarks.overhead` and `benchmarks.transport` measured.

python -m benchmarks.generative solvers.json overhead.json transport.jsonl [--out docs/generative.md]
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

Rows = list[dict[str, Any]]

HEAD = """# The generative core beside other libraries

Made by `python -m benchmarks.generative` from three runs; not to be edited. Each table is one process that calls all libraries in turns, so
a busy machine is busy for all; compare inside a table only. What every method must satisfy exactly stands in [lecture.md](lecture.md).

    python -m venv peers && peers/bin/pip install -e . "torch>=2.9,<2.14" diffusers==0.42.1 k-diffusion==0.1.1.post1 \\
        flow_matching==1.0.10 POT==0.9.7.post1 scipy
    PYTHONPATH=. peers/bin/python -m benchmarks.solvers --out solvers.json       # with dpm_solver.py of its authors on PYTHONPATH, too
    PYTHONPATH=. peers/bin/python -m benchmarks.overhead --out overhead.json
    PYTHONPATH=. peers/bin/python -m benchmarks.transport > transport.jsonl
"""
ACCURACY = """
## Error against evaluations

Median over 256 starts of the root mean square, over coordinates, of the distance to the exact end of the probability flow, with the exact
denoiser of two mixtures: 8 modes on a ring in the plane, 10 modes in 64 dimensions. Every row starts from its own noise level and is judged
against its own end point. In float64 no row of structgen has a floor: `tests/conformance/test_c_*.py` follows each solver's slope to 1e-8.
"""
OVERHEAD = """
## Cost of a step beyond the network

Microseconds of the processor a step, one thread, state of shape (1, 64), a model that returns a ready tensor, 50 steps; least of the
repeats. "Plan" is the share of what is computed once before the loop. One fused operation on such a tensor takes {floor:.1f} in this run,
the unit of the last column.
"""
TRANSPORT = """
## Exact optimal transport of minibatches

Milliseconds of the processor on one thread, squared distances between a mixture and noise. "Above" is how far the assignment's cost lies
above the lower bound that structgen's prices prove. POT stops after 100,000 pivots by default and is then not exact.
"""


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def accuracy(rows: Rows) -> Iterator[str]:
    yield ACCURACY
    counts = rows[0]["evaluations"]
    for dimensions, part in groupby(rows, lambda row: row["dimensions"]):
        yield f"\n{dimensions}-D\n\n"
        lines = [[row["library"], row["method"], *(f"{error:.1e}" for error in row["median"])] for row in part]
        yield table(["library", "method", *(f"{n} evaluations" for n in counts)], lines)


def overhead(rows: Rows) -> Iterator[str]:
    small = [row for row in rows if tuple(row["shape"]) == (1, 64)]
    floor = next(row["us_a_step"] for row in small if row["library"] == "floor")
    yield OVERHEAD.format(floor=floor) + "\n"
    lines = [
        [row["library"], row["method"], f"{row['us_a_step']:.1f}", f"{row['us_with_plan']:.1f}", f"{row['us_a_step'] / floor:.0f}"]
        for row in small
    ]
    yield table(["library", "method", "a step", "with its plan", "fused operations"], lines)


def transport(rows: Rows) -> Iterator[str]:
    yield TRANSPORT + "\n"
    lines = [
        [str(r["dimension"]), str(r["batch"]), r["solver"], f"{r['ms']:.1f}", f"{r['above the bound']:.0e}"]
        for r in rows
        if "ms" in r and "above the bound" in r
    ]
    yield table(["dimensions", "batch", "solver", "ms", "above"], lines)
    kept = [f"{row['share of the gain']:.2f} at batch {row['batch']}" for row in rows if "share of the gain" in row]
    yield f"\nThe default Sinkhorn plan keeps this share of what the exact one gains over the independent coupling: {', '.join(kept)}.\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("solvers", type=Path)
    parser.add_argument("overhead", type=Path)
    parser.add_argument("transport", type=Path)
    parser.add_argument("--out", type=Path, default=Path("docs/generative.md"))
    options = parser.parse_args()
    lines = [json.loads(line) for line in options.transport.read_text().splitlines() if line.startswith("{")]
    parts = (accuracy(json.loads(options.solvers.read_text())), overhead(json.loads(options.overhead.read_text())), transport(lines))
    options.out.write_text(HEAD + "".join(text for part in parts for text in part))


if __name__ == "__main__":
    main()
