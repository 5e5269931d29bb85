"""Experimental chains to training examples: crops, features, coordinates as labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import torch

from structgen.features.atoms import build_atoms
from structgen.features.batch import Batch
from structgen.features.chains import ChainRecord
from structgen.features.conformers import pose_conformers
from structgen.features.featurise import collate, featurise
from structgen.features.job import Chain, Job, Kind
from structgen.features.tokens import tokenise
from structgen.typing import Bool, Float, Tensor

GAP = 31


@dataclass(frozen=True)
class Example:
    """Features and truth of b crops. Unresolved atoms have any position."""

    batch: Batch
    positions: Float[Tensor, "b l 3"]  # angstrom
    resolved: Bool[Tensor, "b l"]
    names: tuple[str, ...] = ()  # [b] ids of what was drawn, where they are known

    def to(self, device: torch.device | str) -> Example:
        """The same example on another device."""
        return Example(self.batch.to(device), self.positions.to(device), self.resolved.to(device), self.names)


@dataclass(frozen=True)
class Crops:
    """How chains become crops (SI 2.7.1, contiguous) and how much of the evidence is shown."""

    tokens: int = 96
    batch: int = 1
    profile_keep: float = 0.7  # else the profile is the sequence itself, as for a user without an alignment
    gap_share: float = 0.5  # at most so large a share of gaps is mixed into a profile: alignments have them, the archive's do not


class Records(Protocol):
    """Chains by index: an archive, or a view of one."""

    def __getitem__(self, i: int, /) -> ChainRecord: ...


def draw_example(chains: Records, clusters: Sequence[Sequence[int]], crops: Crops, rng: np.random.Generator) -> Example:
    """`crops.batch` chains, each drawn by cluster first and then within it, cropped, featurised and posed."""
    drawn, ids = [], []
    for _ in range(crops.batch):
        cluster = clusters[int(rng.integers(len(clusters)))]
        record = chains[cluster[int(rng.integers(len(cluster)))]]
        drawn.append(_example(record, crops, rng))
        ids.append(record.id)
    batch = collate([batch for batch, _, _ in drawn])
    positions = torch.zeros(crops.batch, batch.atoms, 3)
    resolved = torch.zeros(crops.batch, batch.atoms, dtype=torch.bool)
    for k, (_, xyz, mask) in enumerate(drawn):
        positions[k, : len(xyz)], resolved[k, : len(mask)] = torch.from_numpy(xyz), torch.from_numpy(mask)
    pose = torch.Generator().manual_seed(int(rng.integers(2**62)))
    return Example(pose_conformers(batch, pose), positions, resolved, tuple(ids))


def _example(record: ChainRecord, crops: Crops, rng: np.random.Generator) -> tuple[Batch, np.ndarray, np.ndarray]:
    length = min(crops.tokens, len(record.sequence))
    start = int(rng.integers(len(record.sequence) - length + 1))
    crop = record.crop(start, length)
    batch, positions, resolved = labelled(crop, first_residue=start + 1, ends_chain=False)
    if crop.profile is not None and rng.random() < crops.profile_keep:
        batch = show_profile(batch, crop.profile, gaps=float(rng.uniform(0, crops.gap_share)))
    return batch, positions, resolved


def labelled(record: ChainRecord, *, first_residue: int = 1, ends_chain: bool = True) -> tuple[Batch, np.ndarray, np.ndarray]:
    """(features [b = 1], positions [l, 3] angstrom, resolved [l]) of a chain; the archive has no OXT, so that atom is never resolved."""
    job = Job(name=record.id, slug="example", chains=(Chain("A", Kind.PROTEIN, record.sequence),), source=record.id)
    tokens = tokenise(build_atoms(job, first_residue=first_residue, ends_chain=ends_chain))
    slot = np.minimum(tokens.atom_slot, record.mask.shape[1] - 1)
    inside = tokens.atom_slot < record.mask.shape[1]
    inside &= tokens.structure.atom_names != "OXT"
    positions = record.positions[tokens.atom_token, slot]
    resolved = record.mask[tokens.atom_token, slot] & inside
    return featurise(tokens, [None]), positions, resolved


def show_profile(batch: Batch, frequencies: np.ndarray, *, gaps: float = 0.0) -> Batch:
    """The batch with the profile of homologues [n, 20]; residues without one keep their own letter's."""
    profile = batch.profile.clone()
    known = torch.from_numpy(frequencies.sum(1) > 0.5)
    profile[0, known] = 0.0
    profile[0, known, :20] = torch.from_numpy(frequencies)[known] * (1 - gaps)
    profile[0, known, GAP] = gaps
    return replace(batch, profile=profile)
