"""The cost model on lengths that its calibration has not seen: python -m benchmarks.cost [--model ..] [--threads 1].

Run `structgen calibrate` first. Each row is one fold with the model's own samples and steps in a process of its own. With one thread the
seconds are those of the processor (`wall` is what the clock said meanwhile). `peak` is the resident memory of the whole process at its
highest, `working` the part of it above the process with its model loaded. Prints the table of docs/scaling.md and ends with status 1 where
a fold is off by more than 20 % in time or 10 % in memory.
"""

from __future__ import annotations

import argparse
from dataclasses import replace

from structgen.alphafold3.model import load_model
from structgen.cost import calibration
from structgen.cost.measured import Case
from structgen.features.job import Kind
from structgen.precision import native_precision
from workflows.calibrate import measure_apart

HELD_OUT = ((80, 1), (112, 300), (160, 1), (224, 2000), (320, 1), (448, 64))  # residues and rows; none is among the calibration's
TIME, MEMORY = 0.2, 0.1


def main() -> None:
    """Measure every length and compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="structgen-small")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=2)
    arguments = parser.parse_args()
    precision = native_precision()
    model = load_model(arguments.model, precision=precision)
    found = calibration.load(calibration.subject(model.digest, precision, arguments.threads))
    if not found.measured:
        raise SystemExit("not calibrated: run `structgen calibrate` with the same --model and --threads first")
    print("| residues | rows | estimate s | CPU s | error | wall s | estimate MiB | peak MiB | error | working: estimate, measured MiB |")
    print("| --- " * 10 + "|")
    worst = [0.0, 0.0]
    for residues, rows in HELD_OUT:
        sampling = replace(model.config.sampling)
        case = Case(arguments.model, precision, arguments.threads, residues, rows, sampling, Kind.PROTEIN, repeats=arguments.repeats)
        got = measure_apart(case)
        expected = found.estimate(model.config, got.work, got.weights)
        seconds = got.cpu if arguments.threads == 1 else got.wall
        errors = expected.seconds / seconds - 1, expected.peak / got.peak - 1
        worst = [max(old, abs(new)) for old, new in zip(worst, errors, strict=True)]
        working = f"{expected.peak - expected.resident:.0f}, {got.peak - got.resident:.0f}"
        times = f"{expected.seconds:.2f} | {got.cpu:.2f} | {errors[0]:+.0%} | {got.wall:.1f}"
        print(f"| {residues} | {rows} | {times} | {expected.peak:.0f} | {got.peak:.0f} | {errors[1]:+.1%} | {working} |", flush=True)
    print(f"\nlargest error: {worst[0]:.0%} in time, {worst[1]:.1%} in memory")
    raise SystemExit(int(worst[0] > TIME or worst[1] > MEMORY))


if __name__ == "__main__":
    main()
