"""The GPU's layer norm against torch's. Runs where there is a GPU, and anywhere with Triton and TRITON_INTERPRET=1."""

from __future__ import annotations

import importlib.util
import os

import pytest
import torch
from torch.nn import functional as F

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
RUNS = importlib.util.find_spec("triton") is not None and (torch.cuda.is_available() or INTERPRETED)
pytestmark = pytest.mark.skipif(not RUNS, reason="needs a GPU, or Triton's interpreter")
DEVICE = "cpu" if INTERPRETED else "cuda"


@pytest.mark.parametrize("c", [16, 48, 64, 200])
@pytest.mark.parametrize("planes", [False, True], ids=["rows", "planes"])
@pytest.mark.parametrize("affine", ["both", "scale", "none"])
def test_layer_norm_and_its_gradients(c: int, planes: bool, affine: str) -> None:
    """Values and all gradients in float32, for dense rows and for planes, with more rows than one tile."""
    from structgen.nn.kernels import layer_norm

    rng = torch.Generator().manual_seed(c)
    x = torch.randn(2, 7, 19, c, generator=rng) * 3 + 1
    weight = torch.randn(c, generator=rng).to(DEVICE).requires_grad_() if affine != "none" else None
    bias = torch.randn(c, generator=rng).to(DEVICE).requires_grad_() if affine == "both" else None
    upper = torch.randn(x.shape, generator=rng).to(DEVICE)
    x = (x.permute(0, 3, 1, 2).contiguous().permute(0, 2, 3, 1) if planes else x).to(DEVICE).requires_grad_()
    leaves = [leaf for leaf in (x, weight, bias) if leaf is not None]
    wanted = torch.autograd.grad((F.layer_norm(x, (c,), weight, bias, 1e-5) * upper).sum(), leaves)
    value = layer_norm(x, weight, bias, 1e-5)
    assert value.is_contiguous()
    torch.testing.assert_close(value, F.layer_norm(x, (c,), weight, bias, 1e-5), atol=2e-5, rtol=1e-5)
    for found, expected in zip(torch.autograd.grad((value * upper).sum(), leaves), wanted, strict=True):
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
