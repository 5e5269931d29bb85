"""Heads and objectives beside each other: the same eight chains, the same CPU time. `python -m benchmarks.heads --data DIR --minutes 10`.

Every pair trains `configs/train_heads.yaml` with two words changed, in pieces of `STEPS` steps that go on from each other, until the
processor has worked for the time given. Then each chain is folded and compared with itself. Prints a table in Markdown; goes on where it
was cut.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import time
from pathlib import Path

import numpy as np
import torch

from structgen import heads
from structgen.features.atoms import build_atoms
from structgen.features.chains import ChainSet
from structgen.features.examples import labelled
from structgen.features.job import Chain, Job, Kind
from structgen.features.tokens import tokenise
from structgen.metrics.trace import TraceScores, score_trace
from structgen.predict import fold
from structgen.tasks.structure import Selection, selected
from workflows.train import train
from workflows.training_run import read_run

CONFIG = Path(__file__).parents[1] / "configs" / "train_heads.yaml"
PAIRS = [(network, objective) for network in ("transformer", "equivariant") for objective in ("diffusion", "flow")]
STEPS = 50
CA = 1


def trained(pair: tuple[str, str], data: Path, out: Path, minutes: float) -> tuple[int, float]:
    """Steps and CPU minutes of a pair's run."""
    spent_file = out / "cpu_seconds.json"
    step, spent = json.loads(spent_file.read_text()) if spent_file.exists() else (0, 0.0)
    head = {"network": pair[0], "objective": pair[1]}
    while spent < 60 * minutes:
        run = read_run(CONFIG, {"data": str(data), "steps": step + STEPS, "task": {"model": {"head": head}}})
        began = time.process_time()
        step = train(run, out).step
        spent += time.process_time() - began
        spent_file.write_text(json.dumps((step, spent)))
    return step, spent / 60


def judged(model: Path, data: Path, samples: int, steps: int) -> list[TraceScores]:
    """Scores of the samples of every chain that was trained on."""
    loaded, chains = heads.load(str(model)), ChainSet(data)
    sampling = dataclasses.replace(loaded.config.sampling, samples=samples, steps=steps)
    found = []
    for i in selected(chains, "train", Selection(**read_run(CONFIG).task["chains"])):
        record = chains[i]
        job = Job(name=record.id, slug="judged", chains=(Chain("A", Kind.PROTEIN, record.sequence),), source=record.id)
        tokens = tokenise(build_atoms(job))
        for one in fold(tokens, labelled(record)[0], loaded, sampling, 1):
            found.append(score_trace(one.positions[tokens.centre_atom], record.positions[:, CA], record.mask[:, CA]))
    return found


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("runs/heads"))
    parser.add_argument("--minutes", type=float, default=10.0, help="of CPU time for each pair")
    parser.add_argument("--samples", type=int, default=5)
    parser.add_argument("--steps", type=int, default=40, help="of the sampler")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print("| head | objective | steps | CPU minutes | lDDT-CA | RMSD (A) | chains |\n| --- | --- | --- | --- | --- | --- | --- |")
    for pair in PAIRS:
        out = options.out / "-".join(pair)
        out.mkdir(parents=True, exist_ok=True)
        steps, minutes = trained(pair, options.data, out, options.minutes)
        scores = judged(out / "model.safetensors", options.data, options.samples, options.steps)
        lddt, rmsd = (np.mean([getattr(s, name) for s in scores]) for name in ("lddt", "rmsd"))
        cells = [*pair, str(steps), f"{minutes:.1f}", f"{lddt:.3f}", f"{rmsd:.2f}", str(len(scores) // options.samples)]
        print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
