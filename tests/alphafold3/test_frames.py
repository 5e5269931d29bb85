"""SI Algorithms 29 and 30 and the rule that makes a frame valid."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from structgen.alphafold3.frames import alignment_error, express_in_frames, gather_frames, not_collinear
from tests.alphafold3.crop import ATOMS, crop, random_rotation
from tests.oracles import losses as oracle
from tests.tolerance import FLOAT64_IDENTITY, FLOAT64_ORACLE, assert_close


def normal(rng: torch.Generator, *shape: int) -> Tensor:
    return 10 * torch.randn(*shape, generator=rng, dtype=torch.float64)


def test_coordinates_equal_the_oracle(rng: torch.Generator) -> None:
    """Algorithm 29 point by point."""
    points, frames = normal(rng, 2, 7, 3), normal(rng, 2, 5, 3, 3)
    out = express_in_frames(points, frames)
    for b, f, n in np.ndindex(2, 5, 7):
        assert_close(out[b, f, n], torch.from_numpy(oracle.in_frame(points[b, n].numpy(), *frames[b, f].numpy())), FLOAT64_ORACLE)


def test_coordinates_do_not_see_rigid_motions(rng: torch.Generator) -> None:
    """Moving everything changes nothing, a mirror flips the third axis, and lengths are kept: the frame is orthonormal."""
    points, frames = normal(rng, 1, 7, 3), normal(rng, 1, 5, 3, 3)
    out = express_in_frames(points, frames)
    rotation, shift = random_rotation(rng), normal(rng, 3)
    assert_close(express_in_frames(points @ rotation.mT + shift, frames @ rotation.mT + shift), out, FLOAT64_IDENTITY)
    assert_close(express_in_frames(-points, -frames), out * torch.tensor([1.0, 1.0, -1.0]), FLOAT64_IDENTITY)
    assert_close(out.norm(dim=-1), (points[:, None] - frames[:, :, 1, None]).norm(dim=-1), FLOAT64_IDENTITY)


def test_exchanging_the_ends_flips_two_axes(rng: torch.Generator) -> None:
    """The first axis halves the angle: it does not know a from c."""
    points, frames = normal(rng, 1, 7, 3), normal(rng, 1, 5, 3, 3)
    expected = express_in_frames(points, frames) * torch.tensor([1.0, -1.0, -1.0])
    assert_close(express_in_frames(points, frames.flip(-2)), expected, FLOAT64_IDENTITY)


def test_collinear_frames_are_finite() -> None:
    """Points on a line or in one place give numbers, not NaN."""
    line = torch.arange(3.0)[:, None] * torch.ones(3)
    frames = torch.stack([line, torch.zeros(3, 3)])[None]
    assert express_in_frames(torch.ones(1, 4, 3), frames).isfinite().all()


def test_alignment_error_equals_the_oracle(rng: torch.Generator) -> None:
    """Algorithm 30, whatever the number of frames in a block."""
    x, truth, frames, true_frames = normal(rng, 2, 7, 3), normal(rng, 2, 7, 3), normal(rng, 2, 5, 3, 3), normal(rng, 2, 5, 3, 3)
    expected = [oracle.alignment_error(*(t[b].numpy() for t in (x, truth, frames, true_frames))) for b in range(2)]
    for rows in (2, 5, 512):
        assert_close(alignment_error(x, truth, frames, true_frames, rows), torch.tensor(np.array(expected)), FLOAT64_ORACLE)


def test_alignment_error_of_a_rigid_motion(rng: torch.Generator) -> None:
    """A truth that is only moved has no error but the square root's floor; moving one part shows, and not symmetrically."""
    truth = normal(rng, 1, 6, 3)
    index = torch.tensor([[0, 1, 2], [3, 4, 5]])
    x = truth @ random_rotation(rng).mT + 30
    assert_close(alignment_error(x, truth, x[:, index], truth[:, index]), torch.full((1, 2, 6), 1e-4), FLOAT64_ORACLE)
    x[:, 3:] = x[:, 3:] @ random_rotation(rng).mT
    error = alignment_error(x, truth, x[:, index], truth[:, index])
    assert error[0, 0, :3].max() < 1e-3 < error[0, 0, 3:].min() and error[0, 1, 3:].max() < 1e-3 < error[0, 1, :3].min()
    assert (error[0, 0, 3] - error[0, 1, 0]).abs() > 1e-3


@pytest.mark.parametrize(("degrees", "valid"), [(0, False), (24.9, False), (25.1, True), (90, True), (154.9, True), (155.1, False)])
def test_angle_rule(degrees: float, valid: bool) -> None:
    """Valid between 25 and 155 degrees, at any length of the two arms."""
    angle = math.radians(degrees)
    arms = [torch.tensor([3.0, 0.0, 0.0]), torch.zeros(3), 0.1 * torch.tensor([math.cos(angle), math.sin(angle), 0.0])]
    assert not_collinear(torch.stack(arms) + 5).item() is valid


def test_coinciding_points_make_no_frame() -> None:
    """Neither arm may be zero."""
    assert not not_collinear(torch.tensor([[1.0, 0, 0], [1.0, 0, 0], [0, 1.0, 0]]))


def test_frames_are_gathered_by_token(rng: torch.Generator) -> None:
    """Token n's frame is its atoms a, b and c."""
    batch, x = crop(2), normal(rng, 2, sum(ATOMS), 3)
    frames = gather_frames(batch, x)
    for b, n, k in np.ndindex(2, len(ATOMS), 3):
        assert torch.equal(frames[b, n, k], x[b, batch.frame_atoms[b, n, k]])
