"""One prediction, whole, by structgen and by Protenix's own package on the CPU: the same answers, then time and peak memory in turns.

Run from the root of the repository, in an environment that has both (docs/benchmarks.md says how to make it):

    python -m benchmarks.protenix_predict --tokens 128 256 384 --repeats 3

Both sides get the same random weights, the same features of one job, the same random numbers, cycles, steps and samples. Every
prediction is a process of its own (`protenix_predict_side`), one at a time: A B C A B C ... Loading and features are not timed. Ends with
an error where float32 answers differ by more than 1e-4 of the largest value: coordinates and contacts anywhere, pLDDT, PAE and PDE in more
than one value of a thousand (a distance on the edge of a bin falls to either side by its last digit, and changes its pair).
"""

from __future__ import annotations

import argparse
import json
import os
import select
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

from benchmarks.protenix_checkpoint import POLL, memory
from structgen.precision import native_precision

TOLERANCE = 1e-4
EDGES = 1e-3  # share of the values of confidence that may lie beyond the tolerance
OURS = "structgen"
NATIVE = "structgen, in the processor's own precision"  # what its command takes where nothing is said
WAYS = {  # of Protenix: in place, fused, shared variables kept
    "Protenix, as its runner predicts": True,
    "Protenix, nothing in place, fused or kept": False,
}


@dataclass(frozen=True)
class Task:
    """What a side is told; written as JSON."""

    model: str
    blocks: int | None  # of the pairformer, where they are fewer than the model's
    tokens: int
    rows: int
    cycles: int | None
    steps: int | None
    samples: int
    threads: int
    precision: str
    way: str
    folder: str


@dataclass(frozen=True)
class Turn:
    """One prediction: seconds; MiB of anonymous memory above the loaded model, of anonymous memory and of resident memory in all."""

    cpu: float
    wall: float
    above: float
    anonymous: float
    resident: float


def main() -> None:
    arguments = _arguments()
    ways = (OURS, *([NATIVE] if native_precision() == "bfloat16" else []), *WAYS)
    print("| tokens | precision | implementation | CPU s | wall s | MiB above the model | MiB | resident MiB | "
          "times as slow | times the memory | of all anonymous memory | difference |")  # fmt: skip
    print("|---|" + "---|" * 11, flush=True)
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        for tokens in arguments.tokens:
            reference: dict[str, np.ndarray] = {}
            for precision in arguments.precision:
                shared = {name: getattr(arguments, name) for name in ("model", "blocks", "rows", "cycles", "steps", "samples", "threads")}
                held = {NATIVE: native_precision()}
                tasks = [Task(**shared, tokens=tokens, precision=held.get(way, precision), way=way, folder=folder) for way in ways]
                report(tasks, arguments.repeats, arguments.plain, reference)


def report(tasks: list[Task], repeats: int, plain: int, reference: dict[str, np.ndarray]) -> None:
    """All ways in turns, then a row for each. `reference` is what Protenix says in float32, once known."""
    turns: dict[str, list[Turn]] = {task.way: [] for task in tasks}
    answers: dict[str, dict[str, np.ndarray]] = {}
    for turn in range(repeats):
        for task in tasks:
            if WAYS.get(task.way, True) or turn < plain:
                turns[task.way].append(predicted(task))
                answers[task.way] = load_file(Path(task.folder, "answer.safetensors"))
                print(f"{task.tokens} {task.precision} {task.way}: {turns[task.way][-1]}", file=sys.stderr, flush=True)
    reference.update(reference or answers[next(iter(WAYS))])
    for task in tasks:
        if turns[task.way]:
            print(row(task, turns[task.way], turns[OURS], max(differences(answers[task.way], reference).values())), flush=True)
            if task.precision == "float32":
                hold(task.way, answers[task.way], reference)


def predicted(task: Task) -> Turn:
    """Run one side; its memory is read from outside while it predicts."""
    environment = os.environ | {"OMP_NUM_THREADS": str(task.threads), "PYTHONPATH": os.getcwd()}
    command = [sys.executable, "-m", "benchmarks.protenix_predict_side", json.dumps(asdict(task))]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        said = _lines(process)
        loaded = next(said)
        peaks, spent = [], None
        for spent in said:
            peaks.append(memory(process.pid))
            if spent:
                break
    if process.returncode or not spent or not loaded:
        raise SystemExit(f"{task.way} failed")
    anonymous, resident = (max(values) for values in zip(*peaks, strict=True))
    return Turn(spent["cpu"], spent["wall"], anonymous - loaded["anonymous"], anonymous, resident)


def _lines(process: subprocess.Popen[str]) -> Iterator[dict[str, float] | None]:
    """The lines of JSON that the process prints; None where it said nothing for a moment, but its first line is waited for."""
    assert process.stdout is not None
    first = True
    while first or process.poll() is None:
        ready, _, _ = select.select([process.stdout], [], [], None if first else POLL)
        line = process.stdout.readline() if ready else ""
        if line.startswith("{"):
            first = False
            yield json.loads(line)
        elif ready and not line:
            return
        elif not first:
            yield None


def differences(ours: dict[str, np.ndarray], theirs: dict[str, np.ndarray], share: float = 0.0) -> dict[str, float]:
    """Of every answer, relative to its largest value: the largest, or the one that only this share of the values exceeds."""
    if {name: x.shape for name, x in ours.items()} != {name: x.shape for name, x in theirs.items()}:
        raise SystemExit("answers have other shapes")
    return {name: float(np.quantile(np.abs(ours[name] - x) / np.abs(x).max(), 1 - share)) for name, x in theirs.items()}


def hold(way: str, ours: dict[str, np.ndarray], theirs: dict[str, np.ndarray]) -> None:
    """End the run where answers in float32 are not the same."""
    whole, most = differences(ours, theirs), differences(ours, theirs, EDGES)
    worst = max(*(whole[name] for name in ("coordinates", "contacts")), *most.values())
    if not worst <= TOLERANCE:
        raise SystemExit(f"{way}: answers differ by {worst:.1e}")


def row(task: Task, turns: list[Turn], ours: list[Turn], worst: float) -> str:
    """Medians; the ratios are medians of the ratios of single turns."""

    def median(name: str) -> float:
        return statistics.median(getattr(turn, name) for turn in turns)

    def ratio(name: str) -> float:
        return statistics.median(getattr(a, name) / getattr(b, name) for a, b in zip(turns, ours, strict=False))

    numbers = [f"{median('cpu'):.1f}", f"{median('wall'):.1f}", *(f"{median(name):.0f}" for name in ("above", "anonymous", "resident"))]
    ratios = [f"{ratio(name):.2f}" for name in ("cpu", "above", "anonymous")]
    return "| " + " | ".join([str(task.tokens), task.precision, task.way, *numbers, *ratios, f"{worst:.1e}"]) + " |"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=["tiny", "mini", "base"], default="tiny", help="Of version v0.5.0, without templates.")
    parser.add_argument("--blocks", type=int, help="Fewer blocks of the pairformer than the model has.")
    parser.add_argument("--tokens", type=int, nargs="+", default=[128, 256, 384])
    parser.add_argument("--rows", type=int, default=128, help="Of the alignment.")
    parser.add_argument("--cycles", type=int, help="The model's own if not given, as are the steps.")
    parser.add_argument("--steps", type=int)
    parser.add_argument("--samples", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--precision", nargs="+", choices=["float32", "bfloat16"], default=["float32"])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--plain", type=int, default=3, help="Turns of Protenix with nothing in place, fused or kept.")
    parser.add_argument("--folder", type=Path, help="Where a checkpoint may lie for the time.")
    return parser.parse_args()


if __name__ == "__main__":
    main()
