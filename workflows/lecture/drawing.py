"""How everything is drawn: one set of colours, and the few shapes that the pictures are made of."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Circle
from PIL import Image
from torch import Tensor

from structgen.errors import ConfigError
from structgen.store import replace_file

INK, PALE = "#22303c", "#c3ccd4"
DATA, NOISE = "#1b5e9e", "#8a97a3"  # what is data and what is noise, in every picture
SURE, RANDOM = "#1b5e9e", "#e07b39"  # deterministic and stochastic ways
RIGHT, WRONG = "#2a8c6e", "#c0392b"
SERIES = ("#1b5e9e", "#e07b39", "#2a8c6e", "#c0392b", "#7b5ea7", "#b58900", "#3aa6b9", "#d16ba5", "#5d6d7e")  # one a method or a mode
SHADES = LinearSegmentedColormap.from_list("shades", ["#ffffff", "#dbe6f0", "#8fb3d4", "#3c77b0", "#123b66"])
LARGEST = 58_000  # bytes of a PNG, so that all can be kept in the repository

STYLE: dict[Any, Any] = {
    "font.size": 10,
    "axes.titlesize": 10.5,
    "axes.labelsize": 10,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "lines.linewidth": 1.6,
    "svg.hashsalt": "structgen",
}


def page(rows: int, columns: int, *, height: float, title: str) -> tuple[Figure, list[list[Axes]]]:
    """A figure 10 inches wide and its axes, row by row."""
    figure = Figure(figsize=(10.0, height), layout="constrained")
    figure.suptitle(title, fontsize=12, color=INK)
    return figure, figure.subplots(rows, columns, squeeze=False).tolist()


def plane(ax: Axes, title: str = "", reach: float = 2.4, below: str = "") -> Axes:
    """The square [-reach, reach]^2 with equal axes and a frame."""
    ax.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal", title=title, xlabel=below)
    ax.set_xticks([])
    ax.set_yticks([])
    for spine in ax.spines.values():
        spine.set(visible=True, color=PALE)
    return ax


def dots(ax: Axes, x: Tensor, colour: str | Sequence[str] = DATA, size: float = 5.0, label: str = "") -> None:
    """States [n, 2] as small discs."""
    ax.scatter(x[:, 0].detach(), x[:, 1].detach(), s=size, c=colour, linewidths=0, alpha=0.75, label=label or None, rasterized=True)


def strands(ax: Axes, states: Tensor, colour: str | Sequence[str] = PALE, width: float = 0.8, ends: bool = True) -> None:
    """Trajectories [steps + 1, n, 2] as lines; with their starts as rings and their ends as discs."""
    ax.add_collection(LineCollection(list(states.detach().transpose(0, 1).numpy()), colors=colour, linewidths=width, alpha=0.8))
    first, last = states[0].detach(), states[-1].detach()
    if ends:
        ax.scatter(first[:, 0], first[:, 1], s=9, facecolors="white", edgecolors=NOISE, linewidths=0.8, zorder=3)
        ax.scatter(last[:, 0], last[:, 1], s=9, c=DATA, linewidths=0, zorder=3)


def pairs(ax: Axes, x: Tensor, y: Tensor, colour: str = PALE) -> None:
    """Straight lines between states of the same index, both [n, 2]."""
    strands(ax, torch.stack([x, y]), colour)


def mesh(reach: float, count: int) -> Tensor:
    """Points [count^2, 2] of the square [-reach, reach]^2 in float64, rows of `shade` after each other."""
    line = torch.linspace(-reach, reach, count, dtype=torch.float64)
    y, x = torch.meshgrid(line, line, indexing="ij")
    return torch.stack([x.flatten(), y.flatten()], 1)


def shade(ax: Axes, density: Callable[[Tensor], Tensor], reach: float = 2.4, count: int = 120) -> None:
    """A density as shades, its square root so that tails are seen."""
    values = density(mesh(reach, count)).clamp_min(0).sqrt().reshape(count, count)
    ax.imshow(values.numpy(), origin="lower", extent=(-reach, reach, -reach, reach), cmap=SHADES, interpolation="bilinear", zorder=0)


def contours(ax: Axes, density: Callable[[Tensor], Tensor], reach: float = 2.4, count: int = 120) -> None:
    """A density as a few pale lines, where dots of many colours lie over it."""
    line = torch.linspace(-reach, reach, count)
    values = density(mesh(reach, count)).clamp_min(0).sqrt().reshape(count, count)
    ax.contour(line, line, values.numpy(), levels=6, colors=NOISE, linewidths=0.7, zorder=0)


def circle(ax: Axes, radius: float) -> None:
    """Around the origin."""
    ax.add_patch(Circle((0, 0), radius, fill=False, color=PALE, lw=1.2))


def arrows(ax: Axes, field: Callable[[Tensor], Tensor], colour: str = INK, reach: float = 2.4, count: int = 17) -> None:
    """A vector field, its lengths softened so that the weak parts are seen."""
    at = mesh(0.94 * reach, count)
    vector = field(at).detach()
    length = vector.norm(dim=1, keepdim=True)
    vector = vector / (length + length.median())
    head: dict[str, Any] = {"headwidth": 3.2, "headlength": 4, "headaxislength": 3.5}
    ax.quiver(*at.T.numpy(), *vector.T.numpy(), color=colour, scale=0.95 * count, width=0.004, pivot="mid", zorder=2, **head)


def logarithmic(ax: Axes, counts: Sequence[int]) -> None:
    """Both axes, with these ticks on the first."""
    ax.set(xscale="log", yscale="log")
    ax.set_xticks(counts, [str(count) for count in counts])
    ax.minorticks_off()


def coloured(owners: Tensor) -> list[str]:
    """A colour for each state, by the mode that it belongs to [n]."""
    return [SERIES[k % len(SERIES)] for k in owners.tolist()]


def save(draw: Callable[[], Figure], path: Path) -> None:
    """Draw in the house's style and write a PNG of few colours, or whatever else matplotlib makes of the name's ending. Raises
    `ConfigError` for one that it does not know."""
    form = path.suffix.removeprefix(".").lower()
    if form not in Figure().canvas.get_supported_filetypes():
        raise ConfigError(f"{path}: the name of a picture ends in .png or .svg")
    with rc_context(STYLE):
        figure, buffer = draw(), io.BytesIO()
        figure.savefig(buffer, format=form, dpi=100, metadata={"Date": None} if form == "svg" else None)
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, _few_colours(buffer) if form == "png" else buffer.getvalue())


def _few_colours(png: io.BytesIO) -> bytes:
    """The picture with as many colours as `LARGEST` allows."""
    picture = Image.open(png).convert("RGB")
    for colours in (256, 128, 64):
        small = io.BytesIO()
        few = picture.quantize(colours, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
        few.save(small, format="PNG", optimize=True)
        if small.tell() <= LARGEST:
            break
    return small.getvalue()
