"""What a crop costs: the trunk once, many noise levels of the diffusion, and the distogram (SI 3.7, equation 1)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from structgen.alphafold3.frame_loss import frame_aligned_loss
from structgen.alphafold3.labels import Labels, make_labels
from structgen.alphafold3.losses import StructureError, distogram_loss
from structgen.alphafold3.model import AlphaFold3, StructureNetwork
from structgen.alphafold3.sampling import CentreRandomAugmentation, first_state, sampling_schedule
from structgen.alphafold3.symmetry import fitted
from structgen.features.batch import Batch
from structgen.features.examples import Example
from structgen.generative import Denoiser, LogitNormal, LogNormal, Regression, TimeSampler, Weight, normal_like, sample
from structgen.generative.weights import Edm, Flow
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
    frames: float = 0.0  # of `frame_loss`, which knows left from right
    rollout_steps: int = 0  # of a roll-out to which equal chains and atoms are renamed (SI 4.2); 0: named as they are
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
        cycles = int(torch.randint(1, terms.cycles + 1, (), generator=rng))
        labels = make_labels(batch, example.positions, example.resolved)  # first: its counts would make a GPU wait for the trunk
        with autocast(device, self.precision):
            trunk = network.trunk(batch, cycles=cycles, rng=rng)
            condition = network.diffusion.condition(batch, trunk)
            logits = network.distogram(trunk.z)
        if terms.rollout_steps:
            example = fitted(example, self._rolled_out(batch, condition, rng))
            labels = make_labels(batch, example.positions, example.resolved)
        data = repeat(labels.positions, terms.noise_levels)
        data = CentreRandomAugmentation(repeat(labels.resolved, terms.noise_levels))(data, rng)
        diffusion = self._regression(labels, batch)(self._denoiser(), data, condition, rng)
        distogram = distogram_loss(logits, batch, labels, network.config.distogram).mean()
        total = terms.diffusion * diffusion.total.mean() + terms.distogram * distogram
        parts = {name: part.detach().mean().item() for name, part in diffusion.parts.items()}
        return total, {"distogram": distogram.item(), **parts}

    @torch.no_grad()
    def _rolled_out(self, batch: Batch, condition: Any, rng: torch.Generator) -> Tensor:
        """[b, l, 3]: one structure of every crop in a few steps, without dropout and its gradients (SI 4.2)."""
        config, denoiser = self.network.config, self._denoiser()
        training, path = self.network.denoiser.training, denoiser.path
        self.network.denoiser.eval()
        times, solver = sampling_schedule(replace(config.sampling, steps=self.terms.rollout_steps), config.diffusion.sigma_data, path)
        noise = normal_like(torch.zeros(*batch.atom_mask.shape, 3, device=batch.atom_mask.device), rng)
        turn = CentreRandomAugmentation(batch.atom_mask)
        denoise = partial(denoiser, cond=condition)
        x = sample(path, denoise, solver, times, first_state(path, times, noise), rng, before_step=turn)
        self.network.denoiser.train(training)
        return x

    def _denoiser(self) -> Denoiser[Any]:
        """The network's, with matrix products in the precision of training."""
        own = self.network.denoiser
        return Denoiser(_Rounded(self.network.diffusion, self.precision), own.path, own.reading)

    def _regression(self, labels: Labels, batch: Batch) -> Regression:
        """SI 3.7.1: log-normal noise levels, the weight that makes the raw output's weight 1 (erratum E3), errors after alignment.

        Flow matching takes the same noise levels: its error in velocity is that in data times a weight, so alignment, bonds and lDDT stay.
        """
        config, terms = self.network.config, self.terms
        sigma_data = config.diffusion.sigma_data
        times: TimeSampler = LogNormal(terms.noise_mean, terms.noise_std, scale=sigma_data)
        weight: Weight = Edm(sigma_data)
        further = {"frames": (terms.frames, partial(frame_aligned_loss, batch=batch, labels=labels))} if terms.frames else {}
        if config.head.objective == "flow":
            times, weight = LogitNormal(terms.noise_mean, terms.noise_std), Flow(sigma_data)
        return Regression(
            path=self.network.denoiser.path,
            times=times,
            weight=weight,
            error=StructureError(labels, bond=terms.bond, smooth=terms.smooth_lddt, further=further),
        )


class _Rounded(nn.Module):
    """A network whose matrix products are in another precision; everything around it stays as it is."""

    def __init__(self, network: StructureNetwork, precision: Precision) -> None:
        super().__init__()
        self.network, self.precision = network, precision

    def forward(self, x: Tensor, times: Tensor, cond: object) -> Tensor:
        with autocast(x.device, self.precision):
            return self.network(x, times, cond)


def repeat(x: torch.Tensor, samples: int) -> torch.Tensor:
    """[b, ...] to [b * samples, ...], samples of one example next to each other."""
    return x.repeat_interleave(samples, dim=0)
