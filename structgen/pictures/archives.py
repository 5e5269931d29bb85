"""Sets of pictures in NumPy archives: Fashion-MNIST's and MNIST's arrays, captioned pictures, clips with captions, and long films."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from structgen.errors import InputError
from structgen.pictures.sets import NO_LABEL, PictureSet, last_of_each
from structgen.store import replace_file

FASHION = ("T-shirt", "trousers", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")
WINDOW = 16  # frames of a clip that is cut from a film
TENTH = 10


def read_archive(path: Path) -> PictureSet:
    """The set in a .npz file, by the names of its arrays.

    `train_images` and `test_images`: the test part is held out. `images` with `labels`: the last tenth of each class is; with FILE.json
    beside it the captions are read from there, and a tenth of the base pictures is held out with all its variants. `videos` and `captions`:
    the last tenth. `frames`: all windows of 16 frames, the last fifth of the film held out, and windows across the cut left out.
    `pixels`: what `write_archive` wrote.
    Raises `InputError` for a file that cannot be read or holds none of these.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise InputError("not a NumPy archive of pictures", where=str(path), found=str(error), expected="a .npz file") from error
    for name, read in (("pixels", _whole), ("train_images", _split), ("videos", _clips), ("frames", _film), ("images", _labelled)):
        if name in arrays:
            return read(arrays, path)
    names = ", ".join(arrays) or "nothing"
    raise InputError("no pictures in the archive", where=str(path), found=names, expected="images, train_images, videos or frames")


def write_archive(pictures: PictureSet, path: Path) -> None:
    """A .npz file from which `read_archive` reads the same set."""
    arrays = {"pixels": pictures.pixels, "held_out": pictures.held_out, "labels": pictures.labels}
    arrays |= {"classes": np.array(pictures.classes, str), "captions": np.array(pictures.captions, str)}
    arrays |= {} if pictures.velocity is None else {"velocity": pictures.velocity}
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
    replace_file(path, file.getvalue())


def _whole(arrays: Mapping[str, np.ndarray], path: Path) -> PictureSet:
    found = {name: _array(arrays, name, path) for name in ("pixels", "held_out", "labels")}
    classes, captions = (tuple(str(text) for text in _array(arrays, name, path)) for name in ("classes", "captions"))
    return PictureSet(**found, classes=classes, captions=captions, velocity=arrays.get("velocity"), where=str(path))


def _split(arrays: Mapping[str, np.ndarray], path: Path) -> PictureSet:
    pixels = np.concatenate([_array(arrays, name, path) for name in ("train_images", "test_images")])
    labels = np.concatenate([_array(arrays, name, path) for name in ("train_labels", "test_labels")]).astype(np.int64)
    held_out = np.arange(len(pixels)) >= len(arrays["train_images"])
    names = FASHION if "fashion" in path.name else _numbers(labels)
    return PictureSet(_channels_first(pixels), held_out, labels, names, where=str(path))


def _labelled(arrays: Mapping[str, np.ndarray], path: Path) -> PictureSet:
    pixels, labels = _channels_first(_array(arrays, "images", path)), _array(arrays, "labels", path).astype(np.int64)
    if (beside := path.with_suffix(".json")).exists():
        return _captioned(pixels, labels, beside)
    count = max(1, len(labels) // len(np.unique(labels)) // TENTH)
    return PictureSet(pixels, last_of_each(labels, count), labels, _numbers(labels), where=str(path))


def _captioned(pixels: np.ndarray, labels: np.ndarray, path: Path) -> PictureSet:
    """A variant of a picture that is trained on is nothing new: what is held out is chosen by the first part of the code."""
    text: Any = json.loads(path.read_text(encoding="utf-8"))
    items = text["items"]
    if len(items) != len(pixels):
        raise InputError(
            "captions and pictures differ in number", where=str(path), found=f"{len(items)} captions", expected=f"{len(pixels)}"
        )
    held_out = np.array([_digest(item["code"].split("-")[0]) % TENTH == 0 for item in items])
    captions = tuple(item["caption"] for item in items)
    return PictureSet(pixels, held_out, labels, tuple(text["label_names"]), captions, where=str(path))


def _clips(arrays: Mapping[str, np.ndarray], path: Path) -> PictureSet:
    pixels, labels = _array(arrays, "videos", path)[:, None], _array(arrays, "labels", path).astype(np.int64)
    held_out = np.arange(len(pixels)) >= len(pixels) - max(1, len(pixels) // TENTH)
    captions = tuple(str(caption) for caption in _array(arrays, "captions", path))
    velocity = arrays["velocity"].astype(np.float32) if "velocity" in arrays else None
    return PictureSet(pixels, held_out, labels, _numbers(labels), captions, velocity, str(path))


def _film(arrays: Mapping[str, np.ndarray], path: Path) -> PictureSet:
    frames = arrays["frames"]
    if len(frames) < 3 * WINDOW:
        raise InputError("the film is too short", where=str(path), found=f"{len(frames)} frames", expected=f"{3 * WINDOW} or more")
    cut = len(frames) - max(WINDOW, len(frames) // 5)
    starts = np.array([*range(cut - WINDOW + 1), *range(cut, len(frames) - WINDOW + 1)])
    windows = np.lib.stride_tricks.sliding_window_view(frames, WINDOW, axis=0)  # [n, h, w, c, t]
    pixels = windows[starts].transpose(0, 3, 4, 1, 2)
    return PictureSet(pixels, starts >= cut, np.full(len(starts), NO_LABEL), where=str(path))


def _array(arrays: Mapping[str, np.ndarray], name: str, path: Path) -> np.ndarray:
    if name not in arrays:
        raise InputError("an array is missing", where=str(path), found=", ".join(arrays), expected=name)
    return arrays[name]


def _channels_first(pixels: np.ndarray) -> np.ndarray:
    """[n, h, w] or [n, h, w, c] -> [n, c, h, w]."""
    return pixels[:, None] if pixels.ndim == 3 else np.moveaxis(pixels, -1, 1)


def _numbers(labels: np.ndarray) -> tuple[str, ...]:
    return tuple(str(label) for label in range(int(labels.max()) + 1))


def _digest(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")
