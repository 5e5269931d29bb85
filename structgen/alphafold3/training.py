"""What a crop costs: the trunk once, many noise levels of the diffusion, and the distogram (SI 3.7, equation 1)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from structgen.alphafold3.labels import Labels, make_labels
from structgen.alphafold3.losses import StructureError, distogram_loss
from structgen.alphafold3.model import AlphaFold3
from structgen.alphafold3.sampling import CentreRandomAugmentation
from structgen.features.examples import Example
from structgen.generative import Denoiser, LogNormal, Regression
from structgen.generative.weights import Edm
from structgen.precision import Precision, autocast


@dataclass(frozen=True)
class LossTerms:
    """Terms of the loss (SI equation 1 and 6) and how often each crop is noised."""

    noise_levels: int = 48
    cycles: int = 4  # their number is uniform from 1 to this
    diffusion: float = 4.0
    distogram: float = 0.03
    bond: float = 0.0
    smooth_lddt: float = 1.0
    noise_mean: float = -1.2
    noise_std: float = 1.5


@dataclass(frozen=True)
class StructureLoss:
    """The loss of an example under a network, and its parts: a `train.Loss`."""

    network: AlphaFold3
    terms: LossTerms
    precision: Precision = "float32"  # of trunk and diffusion module; coordinates and losses are never rounded

    def __call__(self, example: Example, rng: torch.Generator) -> tuple[torch.Tensor, dict[str, float]]:
        network, terms = self.network, self.terms
        device = next(network.parameters()).device
        example = example.to(device)
        batch = example.batch
        labels = make_labels(batch, example.positions, example.resolved)
        cycles = int(torch.randint(1, terms.cycles + 1, (), generator=rng))
        with autocast(device, self.precision):
            trunk = network.trunk(batch, cycles=cycles, rng=rng)
            condition = network.diffusion.condition(batch, trunk)
            logits = network.distogram(trunk.z)
        data = repeat(labels.positions, terms.noise_levels)
        data = CentreRandomAugmentation(repeat(labels.resolved, terms.noise_levels))(data, rng)
        denoiser = Denoiser(_Rounded(network.diffusion, self.precision), network.denoiser.path, network.denoiser.reading)
        diffusion = self._regression(labels)(denoiser, data, condition, rng)
        distogram = distogram_loss(logits, batch, labels, network.config.distogram).mean()
        total = terms.diffusion * diffusion.total.mean() + terms.distogram * distogram
        parts = {name: part.detach().mean().item() for name, part in diffusion.parts.items()}
        return total, {"distogram": distogram.item(), **parts}

    def _regression(self, labels: Labels) -> Regression:
        """SI 3.7.1: log-normal noise levels, the weight that makes the raw output's weight 1 (erratum E3), errors after alignment."""
        sigma_data = self.network.config.diffusion.sigma_data
        return Regression(
            path=self.network.denoiser.path,
            times=LogNormal(self.terms.noise_mean, self.terms.noise_std, scale=sigma_data),
            weight=Edm(sigma_data),
            error=StructureError(labels, bond=self.terms.bond, smooth=self.terms.smooth_lddt),
        )


class _Rounded(nn.Module):
    """A network whose matrix products are in another precision; everything around it stays as it is."""

    def __init__(self, network: nn.Module, precision: Precision) -> None:
        super().__init__()
        self.network, self.precision = network, precision

    def forward(self, x: Tensor, times: Tensor, cond: object) -> Tensor:
        with autocast(x.device, self.precision):
            return self.network(x, times, cond)


def repeat(x: torch.Tensor, samples: int) -> torch.Tensor:
    """[b, ...] to [b * samples, ...], samples of one example next to each other."""
    return x.repeat_interleave(samples, dim=0)
