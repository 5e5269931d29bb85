"""Calibration as a picture: what confidence promised against what was found."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from structgen.metrics.calibration import Tally


def draw_calibration(rows: Sequence[dict[str, Any]], path: Path) -> bool:
    """pLDDT and PAE by bin, with the diagonal, as a PNG. False, and no picture, where matplotlib is not installed."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return False
    figure = Figure(figsize=(8, 4), layout="constrained")
    for k, (name, scale, what) in enumerate((("plddt", 1.0, "lDDT"), ("pae", 32.0, "error (A)"))):
        whole = Tally.total([Tally.from_lists(row[f"{name}_tally"]) for row in rows if f"{name}_tally" in row])
        used = whole.count > 0
        axes = figure.add_subplot(1, 2, k + 1, xlabel=f"predicted {what}", ylabel=f"found {what}")
        axes.plot([0, scale], [0, scale], color="#c3ccd4", linewidth=1)
        x, y = (scale * sums[used] / whole.count[used] for sums in (whole.predicted, whole.true))
        axes.scatter(x, y, s=8 + 60 * np.sqrt(whole.count[used] / whole.count.sum()), color="#1b5e9e")
    temporary = path.with_suffix(".part.png")
    figure.savefig(temporary, dpi=110)
    temporary.replace(path)
    return True
