"""One linear map, whichever library multiplies."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from structgen.nn.linear import MANY, SOME, Linear, affine, gelu_of_affine
from tests.tolerance import FLOAT32_LAYER, assert_close


@pytest.mark.parametrize("shape", [(5,), (1, 7), (3, 4, 6), (2, 3, 4, 5), (0, 3), (300, 129)])
@pytest.mark.parametrize("bias", [True, False])
def test_affine_is_the_linear_map(rng, shape, bias):
    """Without gradients, for any number of leading dimensions, empty ones too."""
    x = torch.randn(*shape, 13, generator=rng)
    weight, offset = torch.randn(11, 13, generator=rng), torch.randn(11, generator=rng) if bias else None
    with torch.inference_mode():
        assert_close(affine(x, weight, offset), F.linear(x, weight, offset), FLOAT32_LAYER)


@pytest.mark.parametrize("shape", [(5,), (0, 3), (3, SOME), (SOME // 2, 3)])
@pytest.mark.parametrize("bias", [True, False])
def test_gelu_of_affine_is_that(rng, shape, bias):
    """x Phi(x) with tanh for the error function, in float64, of few rows and of many, with gradients and without."""
    x = 3 * torch.randn(*shape, 13, generator=rng)
    weight, offset = torch.randn(11, 13, generator=rng), torch.randn(11, generator=rng) if bias else None
    y = x.double() @ weight.double().T + (0 if offset is None else offset.double())
    wanted = (y / 2 * (1 + torch.tanh((2 / torch.pi) ** 0.5 * (y + 0.044715 * y**3)))).float()
    assert_close(gelu_of_affine(x, weight, offset), wanted, FLOAT32_LAYER)
    with torch.inference_mode():
        assert_close(gelu_of_affine(x, weight, offset), wanted, FLOAT32_LAYER)


@pytest.mark.parametrize("rows", [20, MANY])
def test_affine_reads_any_layout(rng, rows):
    """Transposed and sliced inputs and weights are what they say, not what lies in memory."""
    x, weight = torch.randn(13, 2 * rows, generator=rng).T[::2, 1:], torch.randn(24, 11, generator=rng).T[:, ::2]
    with torch.no_grad():
        assert_close(affine(x, weight), x.contiguous() @ weight.contiguous().T, FLOAT32_LAYER)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_types_stay_what_they_are(rng, dtype):
    """Only float32 takes the other library."""
    x, weight = torch.randn(MANY, 4, generator=rng).to(dtype), torch.randn(5, 4, generator=rng).to(dtype)
    with torch.no_grad():
        assert torch.equal(affine(x, weight), F.linear(x, weight))


def test_gradients_flow():
    """A layer that trains is torch's own."""
    layer = Linear(3, 2, bias=True)
    layer(torch.ones(4, 3)).sum().backward()
    assert layer.weight.grad is not None and torch.equal(layer.weight.grad, torch.full((2, 3), 4.0))


def test_the_meta_device_draws_and_computes_nothing():
    """A network that is built to be loaded has shapes only."""
    with torch.device("meta"), torch.no_grad():
        assert Linear(3, 2)(torch.ones(4, 3)).shape == (4, 2)
