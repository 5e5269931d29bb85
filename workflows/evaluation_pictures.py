"""An evaluation as pictures: what confidence promised against what was found, and every target beside the best that needs no model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from structgen.metrics.calibration import Tally
from structgen.metrics.sample import PAE_SCALE
from workflows.scoreboard import BASELINES, ranked

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Row = dict[str, Any]
COLOURS = ("#1b5e9e", "#c8553d", "#5a8f3c", "#8a5fa8")
LINE = "#c3ccd4"
PANELS = 5


def draw_calibration(rows: Sequence[Row], path: Path) -> bool:
    """pLDDT of residues and of samples, and PAE, with the diagonal, as a PNG. False, and no picture, where matplotlib is not installed."""
    figure = _figure(3)
    if figure is None:
        return False
    panels = [
        _panel(figure, k, 1.0 if k < 3 else PAE_SCALE, f"predicted {what}", f"found {what}")
        for k, what in ((1, "lDDT of residues"), (2, "lDDT of samples"), (3, "error (A)"))
    ]
    for colour, (name, samples) in zip(COLOURS, _by_evidence(rows).items(), strict=False):
        for axes, tally, scale in ((panels[0], "plddt_tally", 1.0), (panels[2], "pae_tally", PAE_SCALE)):
            whole = Tally.total([Tally.from_lists(sample[tally]) for sample in samples])
            used = whole.count > 0
            x, y = (scale * sums[used] / whole.count[used] for sums in (whole.predicted, whole.true))
            axes.scatter(x, y, s=8 + 60 * np.sqrt(whole.count[used] / whole.count.sum()), color=colour, label=name, alpha=0.8)
        said = [sample["plddt"] / 100 for sample in samples]
        panels[1].scatter(said, [sample["lddt"] for sample in samples], s=8, color=colour, alpha=0.5, linewidths=0)
    panels[0].legend(frameon=False, fontsize=8)
    return _save(figure, path)


def draw_accuracy(rows: Sequence[Row], path: Path) -> bool:
    """TM-score of the sample ranked first: against the best baseline of the same target, and against its length."""
    figure = _figure(2)
    if figure is None:
        return False
    beside = _panel(figure, 1, 1.0, "TM-score of the best baseline", "TM-score, ranked first", columns=2)
    along = figure.add_subplot(1, 2, 2, xlabel="residues", ylabel="TM-score, ranked first", ylim=(0, 1))
    for colour, name in zip(COLOURS, _by_evidence(rows), strict=False):
        own = [row for row in rows if name in row["predictions"]]
        found = [ranked(row, name)["tm"] for row in own]
        best = [max((row["baselines"][key] or {"tm": 0.0})["tm"] for key in BASELINES if key in row["baselines"]) for row in own]
        beside.scatter(best, found, s=10, color=colour, label=name, alpha=0.7, linewidths=0)
        along.scatter([row["length"] for row in own], found, s=10, color=colour, alpha=0.7, linewidths=0)
    beside.legend(frameon=False, fontsize=8)
    return _save(figure, path)


def draw_structures(rows: Sequence[Row], path: Path) -> bool:
    """Samples ranked first on the true CA traces, from the best TM-score to the worst in equal steps: a line of panels an evidence."""
    names = list(_by_evidence(rows))
    figure = _figure(PANELS, len(names))
    if figure is None:
        return False
    for line, name in enumerate(names):
        own = sorted((row for row in rows if name in row["predictions"]), key=lambda row: -ranked(row, name)["tm"])
        places = np.unique(np.linspace(0, len(own) - 1, PANELS).round().astype(int))
        for column, row in enumerate(own[place] for place in places.tolist()):
            axes = figure.add_subplot(len(names), PANELS, line * PANELS + column + 1, aspect="equal")
            true, predicted = (np.array(row["predictions"][name]["traces"][key]) for key in ("true", "predicted"))
            plane = np.linalg.svd(true - true.mean(0), full_matrices=False)[2][:2]
            for trace, colour, width in ((true, LINE, 3.0), (predicted, COLOURS[line % len(COLOURS)], 1.2)):
                axes.plot(*(plane @ (trace - true.mean(0)).T), color=colour, linewidth=width)
            scores = ranked(row, name)
            axes.set_title(f"{row['target']}, {name}\nTM {scores['tm']:.2f}, pLDDT {scores['plddt']:.0f}", fontsize=8)
            axes.set_axis_off()
    return _save(figure, path)


def _by_evidence(rows: Sequence[Row]) -> dict[str, list[Row]]:
    samples: dict[str, list[Row]] = {}
    for row in rows:
        for name, own in row["predictions"].items():
            samples.setdefault(name, []).extend(own["samples"])
    return samples


def _figure(panels: int, lines: int = 1) -> Figure | None:
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return None
    return Figure(figsize=(4 * panels, 4) if lines == 1 else (2.6 * panels, 2.8 * lines), layout="constrained")


def _panel(figure: Figure, place: int, scale: float, x: str, y: str, columns: int = 3) -> Axes:
    axes = figure.add_subplot(1, columns, place, xlabel=x, ylabel=y)
    axes.plot([0, scale], [0, scale], color=LINE, linewidth=1)
    return axes


def _save(figure: Figure, path: Path) -> bool:
    temporary = path.with_suffix(".part.png")
    figure.savefig(temporary, dpi=110, metadata={"Software": None})
    temporary.replace(path)
    return True
