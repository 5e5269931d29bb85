"""The pictures by name, and the page that shows them all."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from matplotlib.figure import Figure
from torch import Generator

from structgen.errors import ConfigError
from structgen.store import replace_file
from workflows.lecture import distilled, flows, learned, noising, sampling, scores, solving, transport
from workflows.lecture.drawing import save
from workflows.lecture.sets import Effort

Picture = Callable[[Effort, Generator], Figure]

PICTURES: dict[str, Picture] = {
    "forward": noising.forward,
    "schedules": noising.schedules,
    "posterior": noising.posterior,
    "bound": noising.bound,
    "embeddings": noising.embeddings,
    "equations": noising.equations,
    "grids": noising.grids,
    "densities": noising.densities,
    "ancestral": sampling.ancestral,
    "ddim": sampling.ddim,
    "interpolation": sampling.interpolation,
    "inversion": sampling.inversion,
    "curvature": sampling.curvature,
    "guidance": sampling.guidance,
    "learning": learned.learning,
    "score": scores.field,
    "matching": scores.matching,
    "langevin": scores.chains,
    "reverse": scores.reverse,
    "family": scores.family,
    "corrector": scores.corrector,
    "likelihood": scores.likelihood,
    "solvers": solving.solvers,
    "steps": solving.steps,
    "adaptive": solving.adaptive,
    "conditional": flows.conditional,
    "marginal": flows.marginal,
    "couplings": flows.couplings,
    "straight": solving.straight,
    "rectified": learned.rectified,
    "cnf": learned.continuous,
    "diffflow": transport.diffflow,
    "bridge": transport.bridge,
    "progressive": distilled.progressive,
    "consistency": distilled.consistency,
    "constant": distilled.constant,
    "meanflow": distilled.mean_flow,
}


def shows(name: str) -> str:
    """What a picture shows, in one line that ends with its rows of docs/lecture.md."""
    return (PICTURES[name].__doc__ or "").splitlines()[0]


def rows(name: str) -> list[str]:
    """The rows that a picture shows."""
    return re.findall(r"\b[A-F]\d+\b", shows(name).rpartition("(")[2])


def listing() -> str:
    """One line a picture."""
    width = max(map(len, PICTURES))
    return "\n".join(f"{name:{width}}  {shows(name)}" for name in PICTURES)


def draw(name: str, path: Path, seed: int = 0, effort: Effort = Effort()) -> None:  # noqa: B008  # a frozen value
    """Write one picture. Raises `ConfigError`, with the list, for a name that is none."""
    if name not in PICTURES:
        raise ConfigError(f"no picture is called {name!r}; there are\n{listing()}")
    save(lambda: PICTURES[name](effort, torch.Generator().manual_seed(seed)), path)


def draw_all(folder: Path, seed: int = 0, effort: Effort = Effort()) -> Iterator[Path]:  # noqa: B008
    """Write every picture and a page with all of them; yields each file when it is there."""
    for name in PICTURES:
        draw(name, path := folder / f"{name}.png", seed, effort)
        yield path
    replace_file(path := folder / "README.md", markdown().encode())
    yield path


def markdown() -> str:
    """The page."""
    head = (
        "# The lecture in pictures\n\nMade by `structgen lecture all --out docs/gallery`; one of them by `structgen lecture NAME`.\n"
        "The rows in brackets are those of [lecture.md](../lecture.md).\n"
    )
    return "\n".join([head, *(f"## {name}\n\n{shows(name)}\n\n![{name}]({name}.png)\n" for name in PICTURES)])
