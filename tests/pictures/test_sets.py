"""Archives and folders of pictures and clips."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from structgen.errors import InputError
from structgen.pictures.files import contact_sheet, read_clip, read_picture, read_set, write_gif, write_png
from structgen.pictures.sets import NO_LABEL, to_bytes, to_float

RNG = np.random.default_rng(0)


def grey(*shape: int) -> np.ndarray:
    return RNG.integers(0, 256, shape, np.uint8)


def test_an_archive_with_a_split_keeps_it(tmp_path: Path):
    """The test part is held out; names of clothing go with fashion."""
    labels = np.arange(20) % 10
    path = tmp_path / "fashion.npz"
    np.savez(path, train_images=grey(20, 6, 6), train_labels=labels, test_images=grey(10, 6, 6), test_labels=labels[:10])
    found = read_set(path)
    assert found.pixels.shape == (30, 1, 6, 6) and found.classes[8] == "bag" and not found.is_video
    assert len(found.part(True)) == 10 and len(found.part(False)) == 20
    assert (found.part(True).labels == labels[:10]).all()


def test_an_archive_without_a_split_holds_out_the_last_of_each_class(tmp_path: Path):
    """A tenth, in file order."""
    np.savez(tmp_path / "digits.npz", images=grey(60, 4, 4), labels=np.repeat([0, 1, 2], 20))
    found = read_set(tmp_path / "digits.npz")
    assert found.held_out.sum() == 6 and found.held_out[18:20].all() and not found.held_out[20:38].any()


def test_variants_of_a_picture_are_held_out_with_it(tmp_path: Path):
    """Captions come from the file beside; the code's first part decides."""
    codes = [f"{0x1F400 + n:X}{tone}" for n in range(60) for tone in ("", "-1F3FB")]
    items = [{"code": code, "caption": f"thing {code}"} for code in codes]
    np.savez(tmp_path / "emoji.npz", images=grey(120, 4, 4, 3), labels=np.zeros(120, np.uint8))
    (tmp_path / "emoji.json").write_text(json.dumps({"label_names": ["Things"], "items": items}))
    found = read_set(tmp_path / "emoji.npz")
    assert found.pixels.shape == (120, 3, 4, 4) and found.captions[1] == "thing 1F400-1F3FB"
    assert (found.held_out[::2] == found.held_out[1::2]).all() and 0 < found.held_out.sum() < 40
    (tmp_path / "emoji.json").write_text(json.dumps({"label_names": ["Things"], "items": items[1:]}))
    with pytest.raises(InputError, match="119 captions"):
        read_set(tmp_path / "emoji.npz")


def test_clips_come_with_captions_and_velocity(tmp_path: Path):
    """The last tenth is held out."""
    captions = np.array([f"clip {n}" for n in range(20)])
    np.savez(tmp_path / "clips.npz", videos=grey(20, 5, 4, 4), labels=np.arange(20) % 3, captions=captions, velocity=np.ones((20, 2)))
    found = read_set(tmp_path / "clips.npz").part(True)
    assert found.is_video and found.pixels.shape == (2, 1, 5, 4, 4) and found.captions == ("clip 18", "clip 19")
    assert found.velocity is not None and found.velocity.shape == (2, 2)


def test_windows_of_a_film_do_not_cross_the_cut(tmp_path: Path):
    """16 frames each; none has frames of both parts."""
    frames = np.repeat(np.arange(100, dtype=np.uint8), 4 * 6 * 3).reshape(100, 4, 6, 3)
    np.savez(tmp_path / "film.npz", frames=frames, fps=10)
    found = read_set(tmp_path / "film.npz")
    assert found.pixels.shape == (65 + 5, 3, 16, 4, 6) and (found.labels == NO_LABEL).all()
    assert found.part(False).pixels.max() == 79 and found.part(True).pixels.min() == 80
    assert (found.pixels[3, 0, :, 0, 0] == np.arange(3, 19)).all()
    np.savez(tmp_path / "short.npz", frames=frames[:20], fps=10)
    with pytest.raises(InputError, match="found 20 frames"):
        read_set(tmp_path / "short.npz")


def test_a_folder_of_pictures_has_folders_as_classes(tmp_path: Path):
    """Cut to squares; what is transparent is white; text files are captions."""
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        for n in range(3):
            write_png(tmp_path / name / f"{n}.png", np.full((3, 8, 12), 40 * n, np.uint8))
            (tmp_path / name / f"{n}.txt").write_text(f"{name} number {n}\n")
    found = read_set(tmp_path, size=8)
    assert found.pixels.shape == (6, 3, 8, 8) and found.classes == ("cat", "dog") and found.captions[4] == "dog number 1"
    assert found.held_out.tolist() == [False, False, True] * 2 and (found.pixels[1] == 40).all()


def test_a_folder_of_clips(tmp_path: Path):
    """GIFs of 16 frames or more; mixed folders and unreadable files are refused with their names."""
    clip = np.zeros((1, 16, 8, 8), np.uint8)
    clip[0, :, 2, 3] = np.linspace(0, 255, 16)
    write_gif(tmp_path / "a.gif", clip)
    found = read_set(tmp_path, size=8)
    assert found.pixels.shape == (1, 3, 16, 8, 8) and not found.classes and not found.held_out.any()
    assert np.abs(found.pixels[0, 0].astype(int) - clip[0]).max() <= 2
    write_gif(tmp_path / "a.gif", clip[:, :4])
    with pytest.raises(InputError, match=r"a.gif: the clip is too short; found 4 frames"):
        read_set(tmp_path, size=8)
    (tmp_path / "b.png").write_bytes(b"no picture")
    with pytest.raises(InputError, match="both pictures and GIF clips"):
        read_set(tmp_path)
    (tmp_path / "a.gif").unlink()
    with pytest.raises(InputError, match=r"b.png: not a picture"):
        read_set(tmp_path)


@pytest.mark.parametrize("name", ["absent.npz", "empty.npz", "text.npz"])
def test_other_files_are_refused(name, tmp_path: Path):
    """Missing, without pictures, and no archive."""
    np.savez(tmp_path / "empty.npz", x=np.zeros(3))
    (tmp_path / "text.npz").write_text("x")
    with pytest.raises(InputError, match=name):
        read_set(tmp_path / name)


def test_pixels_keep_their_values_through_floats_and_files(tmp_path: Path):
    """Bytes to [-1, 1] and back, PNG and back: nothing changes. GIF: one channel keeps its greys."""
    pixels = grey(3, 8, 8)
    assert (to_bytes(to_float(pixels)) == pixels).all() and to_float(np.array([0, 255], np.uint8)).tolist() == [-1, 1]
    assert (to_bytes(torch.tensor([-3.0, 3.0])) == [0, 255]).all()
    write_png(tmp_path / "a.png", pixels)
    assert (read_picture(tmp_path / "a.png", 8) == pixels).all()
    clip = grey(1, 16, 8, 8)
    write_gif(tmp_path / "a.gif", clip)
    assert (read_clip(tmp_path / "a.gif", 8, grey=True) == clip).all()


def test_a_contact_sheet_holds_every_picture_in_order():
    """On white, enlarged; of clips it is a clip."""
    pixels = np.stack([np.full((1, 2, 2), 10 * n, np.uint8) for n in range(5)])
    sheet = contact_sheet(pixels, columns=2, scale=3, gap=1)
    assert sheet.shape == (1, 3 * 7 + 1, 2 * 7 + 1) and sheet[0, 0, 0] == 255
    assert [int(sheet[0, 1 + 7 * (n // 2), 1 + 7 * (n % 2)]) for n in range(5)] == [0, 10, 20, 30, 40]
    assert contact_sheet(np.zeros((4, 3, 16, 2, 2), np.uint8)).shape == (3, 16, 10, 10)
