"""`structgen steps`: accuracy against the number of steps, of a model and its students on held-out chains: a table and a picture.

A row a chain, sampler and number of steps goes to `steps.jsonl` as soon as it is known; the same command goes on where it was cut off.
"""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from structgen import heads
from structgen.alphafold3.config import Sampling
from structgen.alphafold3.model import Model
from structgen.alphafold3.students import RAISED, student_sampling
from structgen.errors import ConfigError
from structgen.features.chains import ChainRecord, ChainSet
from structgen.metrics.sample import CA
from structgen.metrics.trace import score_trace
from structgen.store import replace_file
from workflows.evaluate_model import Protocol, predicted, selection

log = logging.getLogger(__name__)
STEPS = (1, 2, 4, 8, 20, 200)
Row = dict[str, Any]


@dataclass(frozen=True)
class StepsRequest:
    """What was asked for."""

    teacher: str
    students: tuple[str, ...]
    data: Path
    out: Path
    steps: tuple[int, ...] = STEPS
    chains: int = 20
    longest: int = 150
    samples: int = 2
    seed: int = 1


@dataclass(frozen=True)
class Curve:
    """A model and how it is sampled in any number of steps."""

    name: str
    model: Model
    sampling: Callable[[int], Sampling]
    most: int  # steps


def measure(request: StepsRequest, console: Console) -> int:
    """Measure, write `steps.md`, `steps.png` and `steps.json` into the folder, and print the table."""
    chains, curves = ChainSet(request.data), curves_of(request)
    request.out.mkdir(parents=True, exist_ok=True)
    found = list(rows(request, chains, curves))
    summary = summarise(found, curves)
    replace_file(request.out / "steps.json", (json.dumps(summary, indent=1) + "\n").encode())
    replace_file(request.out / "steps.md", (text := table(summary)).encode())
    picture(summary, request.out / "steps.png")
    console.print(text, markup=False, highlight=False, soft_wrap=True)
    return 0


def curves_of(request: StepsRequest) -> list[Curve]:
    """The teacher by its own sampler and by the deterministic one, then every student by its own."""
    teacher = heads.load(request.teacher)
    own = teacher.config.sampling
    most = max(request.steps)
    made = [
        Curve("teacher, its own sampler", teacher, lambda n: dataclasses.replace(own, steps=n), most),
        Curve("teacher, deterministic", teacher, lambda n: student_sampling(own, "progressive", n), most),
    ]
    return made + [_student(path, own) for path in request.students]


def _student(path: str, teacher: Sampling) -> Curve:
    """A student is asked for no more steps than 20: it was made for few."""
    model = heads.load(path)
    trained = model.config.sampling
    method = "consistency" if trained.gamma_0 == RAISED else "progressive"
    name = "consistency student" if method == "consistency" else f"progressive student of {trained.steps} steps"
    return Curve(name, model, lambda n: student_sampling(teacher, method, n), 20)


def rows(request: StepsRequest, chains: ChainSet, curves: Sequence[Curve]) -> Iterator[Row]:
    """A row for every chain, curve and number of steps; those of an earlier start are not made again."""
    path = request.out / "steps.jsonl"
    known = {row["key"]: row for row in _read(path)}
    fitting = selection(chains, _protocol(request, curves[0], 1))
    judged = [i for i in fitting if chains.length(i) <= request.longest][: request.chains]
    if not judged:
        raise ConfigError(f"{request.data}: no chain of the split val has at most {request.longest} residues")
    with open(path, "a", encoding="utf-8") as file:
        for index in judged:
            for curve in curves:
                for steps in (steps for steps in request.steps if steps <= curve.most):
                    protocol = _protocol(request, curve, steps)
                    key = json.dumps([chains.rows[index]["id"], dataclasses.asdict(protocol)], sort_keys=True)
                    if key not in known:
                        row = {"key": key, "curve": curve.name, "steps": steps, **_scores(chains[index], curve.model, protocol)}
                        file.write(json.dumps(row) + "\n")
                        file.flush()
                        known[key] = row
                        log.info("%s %s, %d steps: lDDT %.3f", row["id"], curve.name, steps, row["lddt"])
                    yield known[key]


def _read(path: Path) -> list[Row]:
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.exists() else []
    return [json.loads(line) for line in lines if line.endswith("\n")]


def _protocol(request: StepsRequest, curve: Curve, steps: int) -> Protocol:
    return Protocol(
        model=curve.model.name,
        weights=curve.model.digest,
        split="val",
        primary=True,
        limit=0,
        evidence=("profile",),
        seed=request.seed,
        sampling=dataclasses.replace(curve.sampling(steps), samples=request.samples),
    )


def _scores(record: ChainRecord, model: Model, protocol: Protocol) -> Row:
    """lDDT-CA and TM-score, means over the samples. A chain's profile is shown where it has one."""
    tokens, samples = predicted(record, model, protocol, "profile")
    true, resolved = record.positions[:, CA], record.mask[:, CA]
    scores = [score_trace(one.positions[tokens.centre_atom], true, resolved) for one in samples]
    return {"id": record.id, "lddt": float(np.mean([s.lddt for s in scores])), "tm": float(np.mean([s.tm for s in scores]))}


def summarise(found: Sequence[Row], curves: Sequence[Curve]) -> Row:
    """Means over chains with standard errors, by curve and steps."""
    by_curve = {curve.name: [row for row in found if row["curve"] == curve.name] for curve in curves}
    return {"chains": len({row["id"] for row in found}), "curves": {name: _by_steps(own) for name, own in by_curve.items()}}


def _by_steps(own: Sequence[Row]) -> Row:
    return {str(n): _mean([row for row in own if row["steps"] == n]) for n in sorted({row["steps"] for row in own})}


def _mean(own: Sequence[Row]) -> Row:
    values = np.array([row["lddt"] for row in own])
    error = float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else 0.0
    return {"lddt": float(values.mean()), "error": error, "tm": float(np.mean([row["tm"] for row in own]))}


def table(summary: Row) -> str:
    """lDDT-CA as Markdown: a line a curve, a column a number of steps."""
    numbers = sorted({int(n) for own in summary["curves"].values() for n in own})
    lines = [f"| lDDT-CA, {summary['chains']} chains | " + " | ".join(f"{n} steps" for n in numbers) + " |"]
    lines.append("| --- |" + " --- |" * len(numbers))
    for name, own in summary["curves"].items():
        cells = [f"{own[str(n)]['lddt']:.3f} ± {own[str(n)]['error']:.3f}" if str(n) in own else "" for n in numbers]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def picture(summary: Row, path: Path) -> None:
    """The table as curves over a logarithmic axis of steps."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for name, own in summary["curves"].items():
        numbers = [int(n) for n in own]
        means, errors = ([own[str(n)][which] for n in numbers] for which in ("lddt", "error"))
        axes.errorbar(numbers, means, errors, marker="o", capsize=2, label=name)
    axes.set(xscale="log", xlabel="steps", ylabel="lDDT-CA", title=f"{summary['chains']} held-out chains, mean and standard error")
    axes.set_xticks(sorted({int(n) for own in summary["curves"].values() for n in own}))
    axes.xaxis.set_major_formatter("{x:.0f}")
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=130, metadata={"Software": None})
