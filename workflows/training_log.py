"""The record of a training run: `log.jsonl`, a row whenever something is known, and its curves as a picture."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from structgen.store import replace_file
from structgen.tasks.crops import means
from structgen.train import Metrics

log = logging.getLogger(__name__)
Row = dict[str, Any]


class Record:
    """Rows of one start of a run: the steps' means every `every` steps, and what validation says.

    A run that goes on from a checkpoint makes some steps again: their rows of the start before are dropped.
    """

    def __init__(self, path: Path, step: int, every: int) -> None:
        self.path, self.every, self.started = path, every, time.monotonic()
        self._metrics: list[Metrics] = []
        kept = [row for row in read_rows(path) if row.get("step", 0) <= step]
        replace_file(path, "".join(json.dumps(row) + "\n" for row in kept).encode())

    @property
    def seconds(self) -> float:
        """Since this start."""
        return round(time.monotonic() - self.started, 1)

    def step(self, step: int, metrics: Metrics) -> None:
        """Metrics of the step that has just been made, which is the `step`th."""
        self._metrics.append(metrics)
        if step % self.every == 0:
            self._write({"step": step, "seconds": self.seconds, **means(self._metrics)})
            self._metrics = []

    def validation(self, step: int, metrics: Metrics) -> None:
        """Figures of the averaged weights after `step` steps."""
        if metrics:
            self._write({"step": step, "seconds": self.seconds, "validation": metrics})

    def _write(self, row: Row) -> None:
        with open(self.path, "a", encoding="utf-8") as handle:
            handle.write(json.dumps(row) + "\n")
        log.info("%s", json.dumps(row))


def read_rows(path: Path) -> list[Row]:
    """The rows of a log; none if there is none. A last line that was cut off is left out."""
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith("\n")]


def curves(rows: Sequence[Row]) -> dict[str, dict[str, tuple[list[int], list[float]]]]:
    """figure -> {"training" | "validation": (steps, values)} of everything that was logged."""
    found: dict[str, dict[str, tuple[list[int], list[float]]]] = {}
    for row in rows:
        sort, figures = ("validation", row["validation"]) if "validation" in row else ("training", row)
        for name, value in _figures(figures).items():
            steps, values = found.setdefault(name, {}).setdefault(sort, ([], []))
            steps.append(row["step"])
            values.append(value)
    return found


def _figures(row: Mapping[str, Any]) -> dict[str, float]:
    return {name: value for name, value in row.items() if name not in ("step", "seconds") and isinstance(value, int | float)}


def draw(rows: Sequence[Row], path: Path) -> bool:
    """Loss, its parts and validation against steps as a PNG. False, and none, where matplotlib is not installed or nothing was logged."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return False
    found = curves(rows)
    if not found:
        return False
    width = min(3, len(found))
    height = -(-len(found) // width)
    figure = Figure(figsize=(4 * width, 2.6 * height), layout="constrained")
    for k, (name, lines) in enumerate(found.items()):
        axes = figure.add_subplot(height, width, k + 1, title=name)
        for sort, (steps, values) in lines.items():
            axes.plot(steps, values, label=sort, linewidth=1.2, marker="." if sort == "validation" else "")
        axes.tick_params(labelsize=8)
    figure.axes[0].legend(fontsize=8)
    temporary = path.with_suffix(".part.png")
    figure.savefig(temporary, dpi=110)
    temporary.replace(path)
    return True
