"""The training losses on coordinates and on the distogram (SI Algorithms 27 and 28, section 3.7). All in float32 or better.

Predictions x hold B = b k samples: k of each of the b labelled crops, those of one crop next to each other. Every loss returns one
number per sample (or crop).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from structgen.alphafold3.config import Distogram
from structgen.alphafold3.labels import Labels, Pairs, make_labels
from structgen.features.batch import Batch
from structgen.generative import Endpoints, Loss, Noised
from structgen.typing import Bool, Float, Int, Tensor, typed

__all__ = [
    "Labels", "StructureError", "aligned_mse", "bond_loss", "distogram_loss", "make_labels", "smooth_lddt_loss", "weighted_rigid_align",
]  # fmt: skip

THRESHOLDS = (0.5, 1.0, 2.0, 4.0)  # angstrom, of lDDT


def wide(x: Tensor) -> Tensor:
    """x in float32, or as it is in float64."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


@typed
def weighted_rigid_align(x: Float[Tensor, "b l 3"], target: Float[Tensor, "b l 3"], weight: Float[Tensor, "b l"]) -> Float[Tensor, "b l 3"]:
    """SI Algorithm 28: x after the rotation and translation that bring it closest to the target. No gradient flows through.

    Always a proper rotation, also onto a mirror image. Points on a line or a plane leave a freedom; any of the best motions is
    returned. Atoms of weight 0 are moved along.
    """
    with torch.no_grad(), torch.autocast(x.device.type, enabled=False):
        x, target, w = wide(x), wide(target), wide(weight)[..., None]
        total = w.sum(1, keepdim=True).clamp_min(torch.finfo(w.dtype).tiny)
        mu, mu_target = (w * x).sum(1, keepdim=True) / total, (w * target).sum(1, keepdim=True) / total  # line 1
        u, _, vh = torch.linalg.svd((w * (target - mu_target)).mT @ (x - mu))  # line 2
        sign = torch.ones_like(u[:, 0])
        sign[:, 2] = torch.linalg.det(u @ vh).sign()
        rotation = (u * sign[:, None]) @ vh
        return (x - mu) @ rotation.mT + mu_target  # line 3


@typed
def aligned_mse(
    x: Float[Tensor, "b l 3"], truth: Float[Tensor, "b l 3"], weight: Float[Tensor, "b l"], resolved: Bool[Tensor, "b l"]
) -> Float[Tensor, " b"]:
    """SI equation 3: weighted mean squared deviation per coordinate (angstrom^2) from the truth, moved onto the prediction.

    The weighted sum is divided by the unweighted number of resolved atoms.
    """
    weight = wide(weight) * resolved
    moved = weighted_rigid_align(truth, x, weight)
    square = (wide(x) - moved).square().sum(-1)
    return (weight * square).sum(-1) / (3 * resolved.sum(-1).clamp_min(1))


@typed
def smooth_lddt_loss(x: Float[Tensor, "b l 3"], pairs: Pairs) -> Float[Tensor, " b"]:
    """SI Algorithm 27: 1 - lDDT with sigmoids for steps; 0.1959 at best, 1 at worst and 0 for a crop without any pair.

    Works through the list of pairs in blocks and makes the gradient on the way, so memory is that of one block.
    """
    return _SmoothLddt.apply(wide(x), pairs)


class _SmoothLddt(torch.autograd.Function):
    """x [b k, l, 3], pairs of b crops -> [b k]. Samples lie innermost, so that gathering an atom is one contiguous read."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, pairs: Pairs) -> Tensor:
        crops, length = len(pairs.total), x.shape[1]
        samples = len(x) // crops
        atoms = x.detach().unflatten(0, (crops, samples)).permute(0, 2, 3, 1).reshape(crops * length, 3 * samples)
        force, score = torch.zeros_like(atoms), atoms.new_zeros(crops * length, samples)
        block = max(1, (1 << 18 if x.device.type == "cpu" else 1 << 26) // atoms.shape[1])  # one block fits a core's cache
        for columns in zip(*(column.split(block) for column in (pairs.first, pairs.second, pairs.distance, pairs.weight)), strict=True):
            _add_block(atoms, force, score, columns)
        total = pairs.total.to(x.dtype)[:, None]
        least = total.clamp_min(1)
        force = force.view(crops, length, 3, samples) / least[:, :, None, None]
        ctx.save_for_backward(force.permute(0, 3, 1, 2).reshape(x.shape))
        return torch.where(total > 0, 1 - score.view(crops, length, samples).sum(1) / least, 0.0).flatten()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (force,) = ctx.saved_tensors
        return grad[:, None, None] * force, None


def _add_block(atoms: Tensor, force: Tensor, score: Tensor, columns: tuple[Tensor, ...]) -> None:
    """Add the weighted scores of a block of pairs to their first atoms' `score`, and the gradient of minus the score to `force`."""
    first, second, truth, weight = columns
    between = (atoms.index_select(0, first) - atoms.index_select(0, second)).view(len(first), 3, atoms.shape[1] // 3)
    square = between.square().sum(1)
    inverse = square.clamp_min(1e-20).rsqrt()
    change = square * inverse - truth.to(atoms.dtype)[:, None]
    growth = change.abs().clamp_max(60).exp()  # sig(tau - delta) = e^tau / (e^tau + e^delta): one exponential for all thresholds
    kept, slope = torch.zeros_like(growth), torch.zeros_like(growth)
    for tau in torch.tensor(THRESHOLDS, dtype=torch.float64).exp().tolist():
        step = tau / (growth + tau)
        kept += step
        slope += step - step.square()
    weight = weight.to(atoms.dtype)[:, None] / len(THRESHOLDS)
    pull = (between * (slope.mul_(inverse).mul_(change.sign()).mul_(weight))[:, None]).view(len(first), atoms.shape[1])
    force.index_add_(0, first, pull).index_add_(0, second, pull, alpha=-1)
    score.index_add_(0, first, kept.mul_(weight))


@typed
def bond_loss(x: Float[Tensor, "b l 3"], truth: Float[Tensor, "b l 3"], bonds: tuple[Int[Tensor, "_ 2"], ...]) -> Float[Tensor, " b"]:
    """SI equation 5: mean squared error of the lengths of polymer-ligand bonds (angstrom^2); 0 for a crop without any."""
    if not any(map(len, bonds)):
        return wide(x).new_zeros(len(x))
    samples = len(x) // len(bonds)
    lengths = zip(wide(x).split(samples), wide(truth).split(samples), bonds, strict=True)
    return torch.cat([(_length(a, pair) - _length(b, pair)).square().sum(-1) / max(len(pair), 1) for a, b, pair in lengths])


def _length(x: Tensor, bonds: Tensor) -> Tensor:
    """[k, bonds] lengths; the floor keeps the gradient of coinciding atoms finite."""
    return (x[:, bonds[:, 0]] - x[:, bonds[:, 1]]).square().sum(-1).clamp_min(1e-12).sqrt()


@dataclass(frozen=True)
class StructureError:
    """The `error` of AlphaFold 3's `Regression` (SI equation 6): what labelled crops say of the samples drawn for them.

    The truth that was noised may be in a frame of its own for every sample. The weight of the noise level applies to deviations and
    bonds, not to smooth lDDT.
    """

    labels: Labels
    bond: float  # alpha_bond: 0 at first, 1 in fine-tuning
    smooth: float  # weight of smooth lDDT
    further: Mapping[str, tuple[float, Callable[[Tensor], Tensor]]] = field(default_factory=dict)  # weights of other losses of x, and they

    def __call__(self, guess: Endpoints, example: Noised, cond: Any) -> Loss:
        x, truth = guess.data, example.truth.data
        weight, resolved = (y.repeat_interleave(len(x) // len(y), 0) for y in (self.labels.weight, self.labels.resolved))
        parts = {
            "mse": aligned_mse(x, truth, weight, resolved),
            "bonds": bond_loss(x, truth, self.labels.bonds),
            "smooth_lddt": smooth_lddt_loss(x, self.labels.pairs),
        }
        weighted = example.weight * (parts["mse"] + self.bond * parts["bonds"])
        others = {name: loss(x) for name, (_, loss) in self.further.items()}
        total = weighted + self.smooth * parts["smooth_lddt"]
        for name, (share, _) in self.further.items():
            total = total + share * others[name]
        return Loss(total, parts | {"weighted_mse": example.weight * parts["mse"]} | others)


@typed
def distogram_loss(logits: Float[Tensor, "b n n bins"], batch: Batch, labels: Labels, config: Distogram) -> Float[Tensor, " b"]:
    """Cross-entropy of the distance between representative atoms, averaged over pairs of tokens that have both resolved."""
    positions, known = representatives(batch, labels.positions, labels.resolved)
    pair = known[:, :, None] & known[:, None]
    distance = torch.cdist(positions, positions, compute_mode="donot_use_mm_for_euclid_dist")
    target = torch.bucketize(distance, distogram_edges(config).to(positions))
    entropy = F.cross_entropy(wide(logits).permute(0, 3, 1, 2), target, reduction="none")
    return (entropy * pair).sum((1, 2)) / pair.sum((1, 2)).clamp_min(1)


def representatives(batch: Batch, positions: Float[Tensor, "b l 3"], resolved: Bool[Tensor, "b l"]) -> tuple[Tensor, Tensor]:
    """[b, n, 3] coordinates of the tokens' representative atoms and [b, n] which of them count."""
    at = batch.representative_atom
    return positions.gather(1, at[..., None].expand(-1, -1, 3)), resolved.gather(1, at) & batch.token_mask


def distogram_edges(config: Distogram) -> Float[Tensor, " edges"]:
    """The bins - 1 inner borders in angstrom of bins of equal width from `first` to `last`; the outermost classes are open."""
    width = (config.last - config.first) / config.bins
    return torch.linspace(config.first + width, config.last - width, config.bins - 1, dtype=torch.float64)
