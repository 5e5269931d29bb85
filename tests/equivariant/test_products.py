"""Products of neighbours' features with directions, against e3nn's tensor product and by turning what goes in."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from e3nn import o3
from torch import Tensor

from structgen.equivariant.layers import HARMONICS, Mix, irreps
from structgen.equivariant.products import NeighbourProduct
from tests.tolerance import FLOAT64_IDENTITY, assert_close

KIND = irreps(6, 3, 2)


@pytest.fixture(autouse=True)
def float64() -> Iterator[None]:
    """Coefficients are made in the default type."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def given(rng: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=rng)


def test_it_is_e3nns_tensor_product_added_up(rng: torch.Generator) -> None:
    """Values and all gradients equal those of `o3.TensorProduct` on every edge, then the weighted sum over the neighbours."""
    ours = NeighbourProduct(KIND, HARMONICS)
    paths = [(path.feature, path.harmonic, place, "uvu", True) for place, path in enumerate(ours.paths)]
    theirs = o3.TensorProduct(KIND, HARMONICS, ours.out, paths, shared_weights=False, internal_weights=False)
    assert ours.weight_numel == theirs.weight_numel and {path.ir.l for path in ours.paths} == {0, 1, 2} and len(ours.paths) == 15
    inputs = [given(rng, 2, 5, 7, width).requires_grad_() for width in (KIND.dim, HARMONICS.dim, ours.weight_numel)]
    share = given(rng, 2, 5, 7).requires_grad_()
    results = ours(*inputs, share), torch.einsum("snk,snkc->snc", share, theirs(*inputs))
    assert_close(*results, FLOAT64_IDENTITY)
    upstream = given(rng, *results[0].shape)
    gradients = [torch.autograd.grad(result, [*inputs, share], upstream) for result in results]
    for own, other in zip(*gradients, strict=True):
        assert_close(own, other, FLOAT64_IDENTITY)


def test_its_result_turns_with_features_and_directions(rng: torch.Generator) -> None:
    """Wigner matrices of one rotation on features and harmonics: those of the result, by its irreps."""
    product = NeighbourProduct(KIND, HARMONICS)
    turn = o3.rand_matrix()
    x, y, w, share = (given(rng, 2, 5, 7, width) for width in (KIND.dim, HARMONICS.dim, product.weight_numel, 1))
    of = {kind: kind.D_from_matrix(turn) for kind in (KIND, HARMONICS, product.out)}
    turned = product(x @ of[KIND].T, y @ of[HARMONICS].T, w, share[..., 0])
    assert_close(turned, product(x, y, w, share[..., 0]) @ of[product.out].T, FLOAT64_IDENTITY)


def test_channels_mix_as_in_e3nns_linear_layer(rng: torch.Generator) -> None:
    """With its weights, scaled as it scales them; orders that do not come in are zero in both."""
    kind, to = o3.Irreps("6x0e + 3x1e"), o3.Irreps("4x0e + 5x1e + 2x2e")
    ours, theirs, x = Mix(kind, to), o3.Linear(kind, to), given(rng, 2, 5, kind.dim)
    for part, linear, weight in zip(kind, ours.linears, theirs.weight_views(), strict=False):
        linear.weight.data = weight.T / part.mul**0.5
    result = ours(x)
    assert_close(result, theirs(x), FLOAT64_IDENTITY)
    assert (result[..., :-10] != 0).all() and (result[..., -10:] == 0).all()
