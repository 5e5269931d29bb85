"""Write docs/pictures/README.md and its pictures: what trained models draw, the failures beside the rest.

    python -m tools.gallery SET.npz MODEL JUDGE [SET.npz MODEL JUDGE ...] [--out docs/pictures] [--count 64] [--steps N]

MODEL is a file or the name of a shipped model, JUDGE a classifier of the same pictures, named alike (of clips: of single frames). Pictures
are drawn for the labels and captions of held-out ones, in their order and from one seed, and nobody chooses among them: those that the
judge finds as asked, surest first, and those that it does not. Of clips the centre of light must move as the caption says, too. The page's
sections about other models stay as they are.
"""

from __future__ import annotations

import argparse
import re
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from structgen.judging import cut, drawn, frames, in_parts, motion_fits
from structgen.metrics.motion import speeds
from structgen.pictures.files import contact_sheet, read_set, write_gif, write_png
from structgen.pictures.sets import PictureSet, to_bytes
from structgen.store import replace_file
from structgen.vision.draw import Drawing
from structgen.vision.files import card, load, model_file
from structgen.vision.judge import Judge
from structgen.vision.unclip import Models
from workflows.cascades import load_models

OUT = Path(__file__).parents[1] / "docs" / "pictures"
COLUMNS, SCALE, SEED = 8, 2, 0
HEAD = """# What the models draw

Made by `python -m tools.gallery`; not to be edited. Each sheet holds pictures for the labels or captions of held-out ones, drawn one after
another from one seed; none was left out. The judge, a classifier trained on the same set, says which of them show what was asked for.
Figures of quality are in [vision.md](../vision.md).
"""


@dataclass(frozen=True)
class Drawn:
    """Pictures [n, *size] in [-1, 1], how sure the judge is of what was asked for [n], and whether it sees that [n]."""

    pixels: Tensor
    sure: np.ndarray
    right: np.ndarray


def drawn_and_judged(models: Models, judge: Judge, asked: PictureSet, drawings: Sequence[Drawing]) -> Drawn:
    made = drawn(models, asked, drawings)
    odds = in_parts(lambda x: judge(frames(x)).softmax(1))(made).reshape(len(made), -1, len(judge.config.classes)).mean(1).numpy()
    right = odds.argmax(1) == asked.labels
    if asked.is_video and asked.captions:
        right &= np.array([motion_fits(speed, caption) for speed, caption in zip(speeds(to_bytes(made)), asked.captions, strict=True)])
    return Drawn(made, odds[np.arange(len(made)), asked.labels], right)


def section(path: Path, judge: Judge, pictures: PictureSet, count: int, steps: int | None, out: Path) -> Iterator[str]:
    """Lines of the page about one model; its sheets are written."""
    models, file_of_model = load_models(path), model_file(path)
    drawings = [Drawing(steps or system.config.steps, system.config.guidance, SEED) for system in models.stages]
    asked, drawing = cut(pictures.part(True), models.stages[-1], count), drawings[0]
    found = drawn_and_judged(models, judge, asked, drawings)
    name = named(path)
    kind = "clips" if asked.is_video else "pictures"
    yield f"\n## {name}\n"
    said_of_it = card(file_of_model) if file_of_model.suffix == ".safetensors" else "A cascade; its models have cards of their own."
    yield from textwrap.wrap(said_of_it or "A model without a card.", 140)
    drawn_in = ", ".join(str(one.steps) for one in drawings)
    yield f"\n{len(asked)} {kind}, {drawn_in} steps, guidance {drawing.guidance:g}, seed {SEED}: {found.right.sum()} as asked."
    for right, words in ((True, "As asked, surest first"), (False, "Not as asked, least sure last")):
        rows = np.flatnonzero(found.right == right)
        if len(rows):
            rows = rows[np.argsort(-found.sure[rows], kind="stable")]
            file = f"{name}_{'right' if right else 'wrong'}.{'gif' if asked.is_video else 'png'}"
            sheet = contact_sheet(to_bytes(found.pixels[torch.from_numpy(rows)]), columns=COLUMNS, scale=SCALE)
            (write_gif if asked.is_video else write_png)(out / file, np.ascontiguousarray(sheet))
            said = [asked.captions[i] if asked.captions else asked.classes[asked.labels[i]] for i in rows]
            yield f"\n{words}:\n\n![{len(rows)} {kind} of {name}]({file})\n"
            yield from textwrap.wrap(f"In reading order: {'; '.join(said)}.", 140)


def named(path: Path) -> str:
    """What a model is called on the page."""
    return path.stem if path.stem != "model" else path.parent.name


def sections(page: str) -> dict[str, str]:
    """The sections of a page by the name of their model, in order, each with its title."""
    starts = [*(found.start() for found in re.finditer(r"^## ", page, re.MULTILINE)), len(page)]
    parts = [page[start:end].strip() for start, end in pairwise(starts)]
    return {part.partition("\n")[0].removeprefix("## "): part for part in parts}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("named", type=Path, nargs="+", metavar="SET MODEL JUDGE")
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--count", type=int, default=64)
    parser.add_argument("--steps", type=int, help="the model's own when not given")
    options = parser.parse_args()
    if len(options.named) % 3:
        parser.error("give a set, a model and a judge for each section")
    options.out.mkdir(parents=True, exist_ok=True)
    page = options.out / "README.md"
    found = sections(page.read_text(encoding="utf-8")) if page.exists() else {}
    for k in range(0, len(options.named), 3):
        pictures, model, judge = options.named[k : k + 3]
        lines = section(model, load(model_file(judge), Judge), read_set(pictures), options.count, options.steps, options.out)
        found[named(model)] = "\n".join(lines).strip()
    replace_file(page, ("\n\n".join([HEAD.rstrip(), *found.values()]) + "\n").encode())


if __name__ == "__main__":
    main()
