"""Mini roll-outs and the loss that the confidence head is trained with on them (SI 4.3 and Algorithm 18 with few steps).

The network is rolled out once per example, without gradients, and everything that the head reads is kept: the head alone is trained, so the
same roll-out serves many steps.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch

from structgen.alphafold3.confidence import ConfidenceHead
from structgen.alphafold3.confidence_losses import confidence_losses
from structgen.alphafold3.config import Sampling
from structgen.alphafold3.drawing import draw_atoms
from structgen.alphafold3.labels import make_labels
from structgen.alphafold3.model import AlphaFold3
from structgen.alphafold3.symmetry import fitted
from structgen.alphafold3.trunk import TrunkOutput
from structgen.features.batch import Batch
from structgen.features.examples import Example
from structgen.typing import Bool, Float, Tensor

BACKBONE_ATOMS = 4  # N, CA, C, O: the first slots of every amino acid


@dataclass(frozen=True)
class Rollout:
    """One crop (b = 1), its truth, what the trunk said of it, and samples of its structure. Coordinates in angstrom; no gradients."""

    batch: Batch
    positions: Float[Tensor, "1 l 3"]
    resolved: Bool[Tensor, "1 l"]
    trunk: TrunkOutput
    samples: Float[Tensor, "samples l 3"]

    @property
    def has_side_chains(self) -> bool:
        """Whether the truth resolves any atom beyond the backbone: where none was kept, a missing atom says nothing of the experiment."""
        return bool((self.resolved & (self.batch.atom_slot >= BACKBONE_ATOMS)).any())

    def to(self, device: torch.device | str) -> Rollout:
        """The same roll-out on another device."""
        trunk = TrunkOutput(**{f.name: getattr(self.trunk, f.name).to(device) for f in fields(TrunkOutput)})
        moved = (self.positions.to(device), self.resolved.to(device))
        return Rollout(self.batch.to(device), *moved, trunk, self.samples.to(device))

    def tensors(self) -> dict[str, Tensor]:
        """Name to tensor, each in memory of its own, for safetensors."""
        trunk = {f"trunk.{f.name}": getattr(self.trunk, f.name) for f in fields(TrunkOutput)}
        own = {"positions": self.positions, "resolved": self.resolved, "samples": self.samples}
        named = {f"batch.{name}": tensor for name, tensor in self.batch.tensors().items()} | trunk | own
        return {name: tensor.clone(memory_format=torch.contiguous_format) for name, tensor in named.items()}

    @classmethod
    def from_tensors(cls, tensors: dict[str, Tensor]) -> Rollout:
        """Inverse of `tensors`."""
        batch = Batch(**{f.name: tensors[f"batch.{f.name}"] for f in fields(Batch)})
        trunk = TrunkOutput(**{f.name: tensors[f"trunk.{f.name}"] for f in fields(TrunkOutput)})
        return cls(batch, tensors["positions"], tensors["resolved"], trunk, tensors["samples"])


@torch.no_grad()
def roll_out(network: AlphaFold3, example: Example, sampling: Sampling, rng: torch.Generator) -> Rollout:
    """`sampling.samples` structures of the example (b = 1) by SI Algorithm 18. The network is in evaluation mode.

    Raises `NumericalError` when coordinates are not finite.
    """
    batch = example.batch
    trunk = network.trunk(batch, cycles=sampling.cycles, rng=rng)
    condition = network.diffusion.condition(batch, trunk)
    atoms = draw_atoms(network, batch, condition, sampling, sampling.samples, rng)
    return Rollout(batch, example.positions, example.resolved, trunk, atoms)


@dataclass(frozen=True)
class ConfidenceTerms:
    """Shares of the losses of SI section 4.3. Where the head alone is trained, the SI's common factor of 1e-4 is left out."""

    plddt: float = 1.0
    pae: float = 1.0
    pde: float = 1.0
    resolved: float = 1.0


@dataclass(frozen=True)
class ConfidenceLoss:
    """The head's loss on one sample of a roll-out, drawn by `rng`, and its parts: a `train.Loss`."""

    head: ConfidenceHead
    terms: ConfidenceTerms

    def __call__(self, rollout: Rollout, rng: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        return self.of_sample(rollout, int(torch.randint(len(rollout.samples), (), generator=rng)))

    def of_sample(self, rollout: Rollout, k: int) -> tuple[Tensor, dict[str, float]]:
        """The loss on sample k, with equal chains and atoms named as they fit it best (SI 4.2)."""
        batch = rollout.batch
        named = fitted(Example(batch, rollout.positions, rollout.resolved), rollout.samples[k, None])
        labels = make_labels(batch, named.positions, named.resolved)
        mask = None if batch.token_mask.all() else batch.token_mask
        atoms = rollout.samples[k, None]
        losses = confidence_losses(self.head(batch, rollout.trunk, atoms, mask), atoms, batch, labels)
        shares = {f.name: getattr(self.terms, f.name) for f in fields(self.terms)}
        parts = {name: getattr(losses, name).mean() for name in shares}
        parts["resolved"] = parts["resolved"] * rollout.has_side_chains
        total = torch.stack([share * parts[name] for name, share in shares.items()]).sum()
        return total, {name: part.item() for name, part in parts.items()}
