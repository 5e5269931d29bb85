"""The variants of Stable Diffusion 3's table 1 on pictures of clothing, trained alike and ranked as there: the table of docs/vision.md.

    python -m benchmarks.trajectories fashion_mnist_25k.npz runs/image_fashion_judge/model.safetensors OUT

Every variant trains the same small DiT, by the same trainer, on the same latents in the same order and from the same weights, and is drawn
with its own grid and solver. Ranks are those of non-dominated sorting by Frechet distance and class agreement (SD3: FID and CLIP score),
averaged over numbers of steps and over averaged and plain weights. A run that was cut goes on where it stopped.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

from structgen.generative import Ema
from structgen.io.checkpoint import read_checkpoint
from structgen.judging import drawn, in_parts
from structgen.metrics.frechet import frechet_distance
from structgen.pictures.files import read_set
from structgen.pictures.sets import PictureSet
from structgen.store import replace_file
from structgen.tasks.latents import Encoding, encode_part, finish, holds_latents
from structgen.train import Optimisation
from structgen.vision.draw import Drawing
from structgen.vision.files import Coded, load, model_file, save
from structgen.vision.judge import Judge
from structgen.vision.system import System
from structgen.vision.unclip import Models
from workflows.train import train
from workflows.training_run import TrainingRun

PER_CLASS, JUDGED, HELD_OUT, GUIDANCE = 500, 200, 1000, 2.0
FEW, MANY = 5, 20


@dataclass(frozen=True)
class Variant:
    """A row of the table: its name, its ranks there (all settings, 5 steps, 50 steps), and what it changes in the configuration."""

    name: str
    ranks: tuple[float, float, float]
    changes: dict[str, Any] = field(default_factory=dict)

    @property
    def folder(self) -> str:
        return re.sub(r"[^a-z0-9.-]+", "_", self.name).strip("_")


def log_normal(mean: float, std: float) -> dict[str, Any]:
    return {"trajectory": "edm", "density": "log-normal", "mean": mean, "std": std}


def logit_normal(mean: float, std: float) -> dict[str, Any]:
    return {"trajectory": "rf", "density": "logit-normal", "mean": mean, "std": std}


def own(trajectory: str) -> dict[str, Any]:
    return {"trajectory": trajectory, "density": "own"}


TABLE = (
    Variant("rf/lognorm(0.00, 1.00)", (1.54, 1.25, 1.50), logit_normal(0.0, 1.0)),
    Variant("rf/lognorm(1.00, 0.60)", (2.08, 3.50, 2.00), logit_normal(1.0, 0.6)),
    Variant("rf/lognorm(0.50, 0.60)", (2.71, 8.50, 1.00), logit_normal(0.5, 0.6)),
    Variant("rf/mode(1.29)", (2.75, 3.25, 3.00), {"trajectory": "rf", "density": "mode", "scale": 1.29}),
    Variant("rf/lognorm(0.50, 1.00)", (2.83, 1.50, 2.50), logit_normal(0.5, 1.0)),
    Variant("eps/linear", (2.88, 4.25, 2.75), own("eps/linear")),
    Variant("rf/mode(1.75)", (3.33, 2.75, 2.75), {"trajectory": "rf", "density": "mode", "scale": 1.75}),
    Variant("rf/cosmap", (4.13, 3.75, 4.00), {"trajectory": "rf", "density": "cosmap"}),
    Variant("edm(0.00, 0.60)", (5.63, 13.25, 3.25), log_normal(0.0, 0.6)),
    Variant("rf", (5.67, 6.50, 5.75), own("rf")),
    Variant("v/linear", (6.83, 5.75, 7.75), own("v/linear")),
    Variant("edm(0.60, 1.20)", (9.00, 13.00, 9.00), log_normal(0.6, 1.2)),
    Variant("v/cos", (9.17, 12.25, 8.75), own("v/cos")),
    Variant("edm/cos", (11.04, 14.25, 11.25), own("edm/cos")),
    Variant("edm/rf", (13.04, 15.25, 13.25), own("edm/rf")),
    Variant("edm(-1.20, 1.20)", (15.58, 20.25, 15.00), log_normal(-1.2, 1.2)),
)
"""SD3's table 1 (Esser et al. 2024), whose ranks are among 61 variants."""


def fronts(points: Sequence[tuple[float, ...]]) -> list[int]:
    """The rank of each point, smaller coordinates being better: 1 for those that no other is at least as good as and somewhere better,
    2 for those of the rest, and so on (SD3, section 5.1)."""
    found, left, rank = [0] * len(points), set(range(len(points))), 0
    while left:
        rank += 1
        best = {i for i in left if not any(dominates(points[j], points[i]) for j in left)}
        for i in best:
            found[i] = rank
        left -= best
    return found


def dominates(first: tuple[float, ...], second: tuple[float, ...]) -> bool:
    return first != second and all(a <= b for a, b in zip(first, second, strict=True))


def rank_correlation(first: Sequence[float], second: Sequence[float]) -> float:
    """Spearman's, equal values sharing their mean place."""
    return float(np.corrcoef(places(first), places(second))[0, 1])


def places(values: Sequence[float]) -> np.ndarray:
    x = np.asarray(values)
    return (x[:, None] > x).sum(1) + ((x[:, None] == x).sum(1) - 1) / 2


def prepare(pictures: Path, out: Path) -> None:
    """The codec of the shipped model, a part of the set, and its latents."""
    if holds_latents(out / "latents"):
        return
    out.mkdir(parents=True, exist_ok=True)
    system = load(model_file(Path("fashion")), System)
    if system.config.codec is None or system.codec is None:
        raise ValueError("the shipped model has no codec")
    coded = Coded(system.config.codec)
    coded.codec.load_state_dict(system.codec.state_dict())
    save(coded, out / "codec.safetensors", card="the codec of the model `fashion`")
    whole = read_set(pictures)
    shares = {"train": (whole.part(False), PER_CLASS), "test": (whole.part(True), JUDGED // 2)}
    arrays: dict[str, np.ndarray] = {}
    for name, (part, count) in shares.items():
        rows = np.concatenate([np.flatnonzero(part.labels == label)[:count] for label in range(len(part.classes))])
        arrays |= {f"{name}_images": part.pixels[rows, 0], f"{name}_labels": part.labels[rows]}
    np.savez(out / "fashion.npz", **cast(dict[str, Any], arrays))
    encoding = Encoding(out / "fashion.npz", out / "codec.safetensors")
    for n in range(encoding.parts()):
        encode_part(out / "latents", encoding, n)
    finish(out / "latents", encoding, encoding.parts())


def run_of(variant: Variant, out: Path, steps: int, batch: int) -> TrainingRun:
    steering = {"classes": 10, "frequencies": 64}
    network = {"dit": {"channels": 4, "patch": [1, 1], "width": 64, "depth": 3, "heads": 4, "steering": steering}}
    task = {"codec": str(out / "codec.safetensors"), "network": network, "batches": {"size": batch}, "guidance": GUIDANCE}
    optimisation = Optimisation(
        learning_rate=2e-3, betas=(0.9, 0.99), warmup_steps=50, decay=0.1, decay_steps=steps, clip_norm=1.0, ema=Ema(0.99)
    )
    return TrainingRun(
        kind="generator", steps=steps, data=str(out / "latents"), log_every=100, checkpoint_every=steps, task=task | variant.changes,
        optimisation=optimisation,
    )  # fmt: skip


@dataclass(frozen=True)
class Measure:
    """The classifier, held-out pictures whose classes are asked for, and the features of all held-out ones."""

    judge: Judge
    asked: PictureSet
    real: np.ndarray

    @classmethod
    def of(cls, judge: Judge, pictures: PictureSet, count: int) -> Measure:
        held_out = pictures.part(True)
        spread = held_out.take(np.linspace(0, len(held_out) - 1, HELD_OUT).astype(int))
        asked = spread.take(np.linspace(0, HELD_OUT - 1, count).astype(int))
        return cls(judge, asked, in_parts(judge.features)(spread.tensor()).numpy())

    def figures(self, system: System) -> dict[str, tuple[float, float]]:
        """(Frechet distance, share of classes missed) by number of steps."""
        found = {}
        for steps in (FEW, MANY):
            made = drawn(Models((system,)), self.asked, [Drawing(steps, GUIDANCE)])
            missed = float((in_parts(self.judge)(made).argmax(1).numpy() != self.asked.labels).mean())
            found[str(steps)] = (frechet_distance(in_parts(self.judge.features)(made).numpy(), self.real), missed)
        return found


def measured(variant: Variant, measure: Measure, out: Path, steps: int, batch: int) -> dict[str, Any]:
    """Trained and drawn, or read from where that was done: the figures by weights and steps."""
    folder = out / variant.folder
    path = folder / "figures.json"
    if not path.exists():
        train(run_of(variant, out, steps, batch), folder)
        system = load(folder / "model.safetensors", System)
        found = {"averaged": measure.figures(system)}
        plain = {name: tensor for name, tensor in read_checkpoint(folder / "state.safetensors")[0].items() if name.startswith("network.")}
        system.network.load_state_dict({name.removeprefix("network."): tensor for name, tensor in plain.items()})
        found["plain"] = measure.figures(system)
        replace_file(path, (json.dumps({"variant": asdict(variant), **found}, indent=1) + "\n").encode())
    return json.loads(path.read_text(encoding="utf-8"))


def ranks(rows: Sequence[dict[str, Any]]) -> tuple[list[float], list[float], list[float]]:
    """Of every row the mean rank over all settings, over those of few steps, and over those of many."""
    settings = [(weights, str(steps)) for weights in ("averaged", "plain") for steps in (FEW, MANY)]
    found = {setting: fronts([tuple(row[setting[0]][setting[1]]) for row in rows]) for setting in settings}

    def mean(chosen: Sequence[tuple[str, str]]) -> list[float]:
        return np.mean([found[setting] for setting in chosen], 0).tolist()

    return mean(settings), mean([s for s in settings if s[1] == str(FEW)]), mean([s for s in settings if s[1] == str(MANY)])


def table(rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Lines of Markdown, the best variant first."""
    names = [row["variant"]["name"] for row in rows]
    theirs = {variant.name: variant.ranks for variant in TABLE}
    every, few, many = ranks(rows)
    ranked = f"rank | {FEW} steps | {MANY} steps | SD3: rank | 5 steps | 50 steps"
    judged = f"Frechet, {FEW} | {MANY} | class, {FEW} | {MANY}"
    yield f"| variant | {ranked} | {judged} |"
    yield "| --- " * 11 + "|"
    for k in np.argsort(every, kind="stable"):
        averaged = rows[k]["averaged"]
        own = f"{every[k]:.2f} | {few[k]:.2f} | {many[k]:.2f} | " + " | ".join(f"{rank:.2f}" for rank in theirs[names[k]])
        distance = " | ".join(f"{averaged[str(steps)][0]:.2f}" for steps in (FEW, MANY))
        agreed = " | ".join(f"{1 - averaged[str(steps)][1]:.2f}" for steps in (FEW, MANY))
        yield f"| {names[k]} | {own} | {distance} | {agreed} |"
    pairs = zip(("all", "few steps", "many steps"), (every, few, many), range(3), strict=True)
    given = ", ".join(f"{rank_correlation(ours, [theirs[name][i] for name in names]):.2f} ({what})" for what, ours, i in pairs)
    yield f"\nRank correlation (Spearman) with SD3's table: {given}."


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pictures", type=Path)
    parser.add_argument("judge", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--count", type=int, default=JUDGED)
    options = parser.parse_args()
    torch.set_num_threads(1)
    prepare(options.pictures, options.out)
    measure, rows = Measure.of(load(options.judge, Judge), read_set(options.pictures), options.count), []
    for variant in TABLE:
        rows.append(measured(variant, measure, options.out, options.steps, options.batch))
        print(variant.name, rows[-1]["averaged"], flush=True)
    print("\n".join(table(rows)))


if __name__ == "__main__":
    main()
