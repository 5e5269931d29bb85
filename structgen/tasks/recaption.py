"""Captions of a set of pictures or clips written anew by a captioner."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from structgen.pictures.files import read_set
from structgen.pictures.sets import PictureSet, to_float
from structgen.vision.coca import Coca
from structgen.vision.files import load

PART = 512  # pictures of a part, which one worker captions
AT_ONCE = 64


@dataclass(frozen=True)
class Recaptioning:
    """Which set is captioned by which captioner."""

    data: Path
    captioner: Path
    side: int = 64  # of pictures from a folder

    def parts(self) -> int:
        return -(-len(read_set(self.data, self.side)) // PART)


def captions_of_part(work: Recaptioning, part: int) -> list[str]:
    """What the captioner says of pictures `part` PART, ..."""
    pixels = read_set(work.data, work.side).pixels[part * PART : (part + 1) * PART]
    captioner = load(work.captioner, Coca)
    return [text for start in range(0, len(pixels), AT_ONCE) for text in captioner.captions(to_float(pixels[start : start + AT_ONCE]))]


def recaptioned(pictures: PictureSet, said: Sequence[str], share: float, seed: int) -> PictureSet:
    """The set with `said` as captions of `share` of its pictures, chosen by the seed; the rest keep their own (Betker et al. 2023, section
    3.2: some of people's own keep a generator used to how people write). What is held out keeps its own: it is the measure."""
    chosen = (np.random.default_rng(seed).random(len(pictures)) < share) & ~pictures.held_out
    own = pictures.captions or ("",) * len(pictures)
    return replace(pictures, captions=tuple(new if pick else old for new, old, pick in zip(said, own, chosen, strict=True)))
