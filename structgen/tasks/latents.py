"""Latents of a set of pictures on disk: encoded once, by many workers, for any number of trainings."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from structgen.data.parts import is_committed, open_part, read_array, write_part
from structgen.errors import ConfigError, InputError
from structgen.io.checkpoint import file_digest
from structgen.pictures.files import read_set
from structgen.pictures.sets import PictureSet, to_float
from structgen.store import replace_file
from structgen.vision.files import Coded, load

FACTS = "latents.json"
PART = 512  # pictures of a part, which one writer writes
AT_ONCE = 64


@dataclass(frozen=True)
class Encoding:
    """Which set is encoded by which codec; `frames` of every clip, 0: all."""

    data: Path
    codec: Path
    frames: int = 0
    side: int = 64  # of pictures from a folder

    def parts(self) -> int:
        return -(-len(read_set(self.data, self.side)) // PART)


@torch.no_grad()
def encode_part(out: Path, encoding: Encoding, part: int) -> None:
    """Write the latents of pictures `part` PART, ... as one zarr part; one that is there already stays."""
    if is_committed(_part(out, part)):
        return
    pictures = read_set(encoding.data, encoding.side)
    chosen = pictures.take(np.arange(part * PART, min((part + 1) * PART, len(pictures))))
    pixels = chosen.pixels[:, :, : encoding.frames] if encoding.frames else chosen.pixels
    latent = load(encoding.codec, Coded).codec.latent()
    codes = [latent.encoded(to_float(pixels[start : start + AT_ONCE])).numpy() for start in range(0, len(pixels), AT_ONCE)]
    arrays = {"latents": np.concatenate(codes), "labels": chosen.labels.astype(np.int64), "held_out": chosen.held_out}
    arrays |= {} if chosen.velocity is None else {"velocity": chosen.velocity}
    write_part(_part(out, part), arrays, {"captions": list(chosen.captions)})


def finish(out: Path, encoding: Encoding, parts: int) -> dict[str, Any]:
    """Write what the latents are of. Raises `InputError` if a part is missing."""
    pictures = read_set(encoding.data, encoding.side)
    size = list(pictures.pixels.shape[1:])
    size[1:2] = [encoding.frames] if encoding.frames else size[1:2]
    for part in range(parts):
        open_part(_part(out, part))
    facts = {
        "codec": file_digest(encoding.codec), "set": str(encoding.data), "parts": parts, "count": len(pictures), "size": size,
        "classes": list(pictures.classes),
    }  # fmt: skip
    replace_file(out / FACTS, (json.dumps(facts, indent=1) + "\n").encode())
    return facts


def claim(out: Path, encoding: Encoding) -> None:
    """Keep a folder for one codec and one set. Raises `ConfigError` if its parts are of another."""
    wanted = {"codec": file_digest(encoding.codec), "set": str(encoding.data), "frames": encoding.frames, "side": encoding.side}
    out.mkdir(parents=True, exist_ok=True)
    path = out / "made_of.json"
    if path.exists() and (known := json.loads(path.read_text(encoding="utf-8"))) != wanted:
        changed = ", ".join(name for name in wanted if known.get(name) != wanted[name])
        raise ConfigError(f"{out} holds latents of another {changed}; give another folder or remove it")
    replace_file(path, (json.dumps(wanted, indent=1) + "\n").encode())


def holds_latents(folder: Path) -> bool:
    """Whether `structgen data encode` finished there."""
    return (folder / FACTS).is_file()


def read_latents(folder: Path, codec: Path) -> tuple[PictureSet, tuple[int, ...]]:
    """The set with latents [n, *code] float32 for pixels, and the size of the pictures. Raises `ConfigError` for those of another codec
    and `InputError` for parts that are not whole."""
    facts = json.loads((folder / FACTS).read_text(encoding="utf-8"))
    if (digest := file_digest(codec)) != facts["codec"]:
        raise ConfigError(f"{folder} was encoded by a codec with sha256 {facts['codec'][:12]}..., {codec} has {digest[:12]}...")
    groups = [open_part(_part(folder, part)) for part in range(facts["parts"])]
    arrays = {name: np.concatenate([read_array(group, name) for group in groups]) for name in ("latents", "labels", "held_out")}
    if len(arrays["latents"]) != facts["count"]:
        raise InputError("latents are missing", where=str(folder), found=str(len(arrays["latents"])), expected=str(facts["count"]))
    captions = tuple(str(text) for group in groups for text in group.attrs["captions"])  # type: ignore[union-attr]
    found = PictureSet(arrays["latents"], arrays["held_out"], arrays["labels"], tuple(facts["classes"]), captions, where=str(folder))
    return found, tuple(facts["size"])


def _part(out: Path, part: int) -> Path:
    return out / "parts" / f"{part:05}"
