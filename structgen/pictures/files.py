"""Files of pictures: PNG, GIF, folders of them, and contact sheets."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageSequence, UnidentifiedImageError

from structgen.errors import InputError
from structgen.pictures.archives import TENTH, WINDOW, read_archive
from structgen.pictures.sets import NO_LABEL, PictureSet, last_of_each
from structgen.store import replace_file

PICTURES = {".png", ".jpg", ".jpeg", ".webp", ".bmp"}
CLIPS = {".gif"}
FRAME_MILLISECONDS = 120


def read_set(path: Path, size: int = 64) -> PictureSet:
    """A .npz archive (`read_archive`), or a folder of pictures or of GIF clips (`read_folder`). Raises `InputError`."""
    if path.is_dir():
        return read_folder(path, size)
    if not path.exists():
        raise InputError("no such file or folder of pictures", where=str(path))
    return read_archive(path)


def read_folder(folder: Path, size: int) -> PictureSet:
    """All pictures below a folder, or all its GIF clips, cut to a square in the middle and scaled to `size`.

    Folders are classes, NAME.txt beside NAME.png is its caption, and of a clip the first 16 frames are read. The last tenth of each
    class is held out. Raises `InputError` if there is none, if pictures and clips are mixed, or if one cannot be read.
    """
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in PICTURES | CLIPS)
    kinds = {path.suffix.lower() in CLIPS for path in paths}
    if len(kinds) != 1:
        found = "both pictures and GIF clips" if kinds else "none"
        raise InputError("a folder holds pictures or clips", where=str(folder), found=found, expected="PNG, JPEG, WebP or BMP; or GIF")
    pixels = np.stack([read_clip(path, size) if kinds == {True} else read_picture(path, size) for path in paths])
    parents = sorted({path.parent.relative_to(folder).as_posix() for path in paths})
    labels = np.array([parents.index(path.parent.relative_to(folder).as_posix()) for path in paths])
    held_out = last_of_each(labels, max(1, len(paths) // len(parents) // TENTH)) if len(paths) > 1 else np.zeros(1, bool)
    captions = tuple(_caption(path) for path in paths)
    if len(parents) == 1:
        labels, parents = np.full(len(paths), NO_LABEL), []
    return PictureSet(pixels, held_out, labels, tuple(parents), captions if any(captions) else (), where=str(folder))


def _caption(path: Path) -> str:
    beside = path.with_suffix(".txt")
    return beside.read_text(encoding="utf-8").strip() if beside.exists() else ""


def read_picture(path: Path, size: int, *, grey: bool = False) -> np.ndarray:
    """[c, size, size] uint8 of the middle square; what is transparent becomes white. Raises `InputError`."""
    try:
        with Image.open(path) as image:
            return _square(image, size, grey)
    except (OSError, UnidentifiedImageError) as error:
        raise InputError("not a picture", where=str(path), found=str(error), expected="PNG, JPEG, WebP, BMP or GIF") from error


def read_clip(path: Path, size: int, *, frames: int = WINDOW, grey: bool = False) -> np.ndarray:
    """[c, frames, size, size] uint8, the first frames of a GIF. Raises `InputError` for a shorter one."""
    try:
        with Image.open(path) as image:
            read = [_square(frame, size, grey) for _, frame in zip(range(frames), ImageSequence.Iterator(image), strict=False)]
    except (OSError, UnidentifiedImageError) as error:
        raise InputError("not a clip", where=str(path), found=str(error), expected="GIF") from error
    if len(read) < frames:
        raise InputError("the clip is too short", where=str(path), found=f"{len(read)} frames", expected=f"{frames} or more")
    return np.stack(read, 1)


def _square(image: Image.Image, size: int, grey: bool) -> np.ndarray:
    image = image.convert("RGBA")
    white = Image.new("RGBA", image.size, "white")
    image = Image.alpha_composite(white, image).convert("L" if grey else "RGB")
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    image = image.crop((left, top, left + side, top + side)).resize((size, size), Image.Resampling.LANCZOS)
    array = np.asarray(image)
    return array[None] if grey else np.moveaxis(array, -1, 0)


def write_png(path: Path, pixels: np.ndarray) -> None:
    """A picture [c, h, w] uint8 with one channel or three."""
    _write(path, [pixels], "PNG")


def write_gif(path: Path, pixels: np.ndarray) -> None:
    """A clip [c, t, h, w] uint8, repeated without end."""
    _write(path, list(pixels.swapaxes(0, 1)), "GIF")


def _write(path: Path, frames: Sequence[np.ndarray], form: str) -> None:
    images = [Image.fromarray(frame[0] if len(frame) == 1 else np.ascontiguousarray(np.moveaxis(frame, 0, -1))) for frame in frames]
    file = io.BytesIO()
    if form == "GIF":
        images[0].save(file, form, save_all=True, append_images=images[1:], duration=FRAME_MILLISECONDS, loop=0)
    else:
        images[0].save(file, form, optimize=True)
    replace_file(path, file.getvalue())


def contact_sheet(pixels: np.ndarray, columns: int = 0, scale: int = 1, gap: int = 2) -> np.ndarray:
    """Pictures [n, c, h, w] or clips [n, c, t, h, w] as one, in reading order on white, enlarged `scale` times; columns 0: a square."""
    pixels = pixels.repeat(scale, -1).repeat(scale, -2)
    columns = columns or math.ceil(math.sqrt(len(pixels)))
    rows, (height, width) = math.ceil(len(pixels) / columns), pixels.shape[-2:]
    whole = (rows * (height + gap) + gap, columns * (width + gap) + gap)
    sheet = np.full((*pixels.shape[1:-2], *whole), 255, np.uint8)
    for n, one in enumerate(pixels):
        top, left = gap + n // columns * (height + gap), gap + n % columns * (width + gap)
        sheet[..., top : top + height, left : left + width] = one
    return sheet
