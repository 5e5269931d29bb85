"""Heads and objectives beside each other: the same eight chains, learnt by heart. `python -m benchmarks.heads --data DIR`.

Every pair trains `configs/train_heads.yaml` with its two words changed, to the last step or until its processor time is used up.
Then each chain is folded and compared with itself. Prints a table in Markdown; what is there is not made again.
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
from structgen.tasks.crops import Selection, selected
from workflows.train import World, train
from workflows.training_run import TrainingRun, read_run

CONFIG = Path(__file__).parents[1] / "configs" / "train_heads.yaml"
PAIRS = [(network, objective) for network in ("transformer", "equivariant") for objective in ("diffusion", "flow")]
LEVELS = {"transformer": 4, "equivariant": 2}  # noise levels of a crop: the equivariant head learns more of each, and each takes longer
CA = 1


class Worked(World):
    """This process alone, until the processor has worked for so many seconds."""

    def __init__(self, seconds: float) -> None:
        self.end = time.process_time() + seconds

    def any(self, flag: bool) -> bool:
        return flag or time.process_time() > self.end


def run_of(pair: tuple[str, str], data: Path) -> TrainingRun:
    """The run of a pair."""
    head = {"network": pair[0], "objective": pair[1]}
    return read_run(CONFIG, {"data": str(data), "task": {"model": {"head": head}, "loss": {"noise_levels": LEVELS[pair[0]]}}})


def trained(run: TrainingRun, out: Path, minutes: float) -> tuple[int, float]:
    """Steps and CPU minutes of a run, over all its starts."""
    spent_file = out / "cpu_seconds.json"
    spent = json.loads(spent_file.read_text()) if spent_file.exists() else 0.0
    out.mkdir(parents=True, exist_ok=True)
    began = time.process_time()
    step = train(run, out, Worked(60 * minutes - spent)).step
    spent += time.process_time() - began
    spent_file.write_text(json.dumps(spent))
    return step, spent / 60


def judged(run: TrainingRun, model: Path, samples: int, noise_scale: float | None = None) -> list[TraceScores]:
    """Scores of the samples of every chain that was trained on; the sampler's noise scale is the model's own when not given."""
    loaded, chains = heads.load(str(model)), ChainSet(Path(run.data))
    own = loaded.config.sampling
    sampling = dataclasses.replace(own, samples=samples, noise_scale=own.noise_scale if noise_scale is None else noise_scale)
    found = []
    for i in selected(chains, "train", Selection(**run.task["chains"])):
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
    parser.add_argument("--minutes", type=float, default=30.0, help="of CPU time for each pair at most")
    parser.add_argument("--samples", type=int, default=5)
    parser.add_argument("--noise-scale", type=float, help="of the sampler; the configuration's when not given")
    parser.add_argument("--pairs", nargs="*", default=["-".join(pair) for pair in PAIRS], help="NETWORK-OBJECTIVE")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(f"| head | objective | steps | CPU minutes | lDDT-CA | worst chain | RMSD (A) | mirror images |\n{'| --- ' * 8}|")
    for pair in PAIRS:
        if "-".join(pair) not in options.pairs:
            continue
        run, out = run_of(pair, options.data), options.out / "-".join(pair)
        steps, minutes = trained(run, out, options.minutes)
        scores = judged(run, out / "model.safetensors", options.samples, options.noise_scale)
        lddt, rmsd = (np.array([getattr(s, name) for s in scores]) for name in ("lddt", "rmsd"))
        worst = lddt.reshape(-1, options.samples).mean(1).min()
        cells = [*pair, str(steps), f"{minutes:.1f}", f"{lddt.mean():.3f}", f"{worst:.3f}", f"{rmsd.mean():.2f}"]
        cells.append(f"{np.mean([s.mirror for s in scores]):.0%}")
        print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
