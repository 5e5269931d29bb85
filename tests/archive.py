"""A small archive of chains in the format of `features.chains`, written by its definition."""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from structgen.features.chains import AMINO_ACIDS

COLUMNS = ("index", "id", "length", "tier", "split", "cluster", "primary", "has_profile")
ATOMS = dict(zip(AMINO_ACIDS, (5, 11, 8, 8, 6, 9, 9, 4, 10, 8, 8, 9, 8, 11, 7, 6, 7, 14, 12, 7, 5), strict=True))


@dataclass(frozen=True)
class Made:
    """A chain to write: a helix whose side-chain atoms lie around their CA, or a backbone that is given."""

    id: str
    sequence: str
    split: str = "train"
    tier: str = "full"
    profile: bool = False
    backbone: np.ndarray | None = None  # [n, 3, 3] angstrom: N, CA, C


def random_chains(rng: np.random.Generator, count: int, length: int, **fields: str | bool) -> list[Made]:
    """Chains of random sequences, each a cluster of its own."""
    letters = np.array(list(AMINO_ACIDS[:20]))
    split = fields.get("split", "train")
    return [Made(f"{split}{k}_A", "".join(rng.choice(letters, length)), **fields) for k in range(count)]  # type: ignore[arg-type]


def write_archive(folder: Path, chains: Sequence[Made], rng: np.random.Generator, clusters: Sequence[int] = ()) -> Path:
    """`chains.npz`, `chains.tsv.gz` and `chains_profiles.npz` in `folder`; every chain is a cluster unless `clusters` says otherwise."""
    folder.mkdir(parents=True, exist_ok=True)
    masks = [_mask(chain) for chain in chains]
    xyz = np.concatenate([_positions(chain, mask, rng) for chain, mask in zip(chains, masks, strict=True)])
    change = np.diff(xyz, axis=0, prepend=np.zeros((1, 3), np.int16)).astype(np.int16).T
    zigzag = ((change << 1) ^ (change >> 15)).astype(np.uint16)
    np.savez(
        folder / "chains.npz",
        aatype=np.array([AMINO_ACIDS.index(a) for chain in chains for a in chain.sequence], np.uint8),
        atom_mask=np.concatenate([(mask << np.arange(14)).sum(1) for mask in masks]).astype(np.uint16),
        res_offset=np.cumsum([0, *(len(chain.sequence) for chain in chains)]),
        atom_offset=np.cumsum([0, *(int(mask.sum()) for mask in masks)]),
        dxyz_lo=(zigzag & 255).astype(np.uint8),
        dxyz_hi=(zigzag >> 8).astype(np.uint8),
    )
    with gzip.open(folder / "chains.tsv.gz", "wt", encoding="utf-8") as handle:
        handle.write("\t".join(COLUMNS) + "\n")
        for k, chain in enumerate(chains):
            primary = str(int(chain.split != "train"))
            cluster = str(clusters[k] if clusters else k)
            row = (str(k), chain.id, str(len(chain.sequence)), chain.tier, chain.split, cluster, primary, str(int(chain.profile)))
            handle.write("\t".join(row) + "\n")
    known = [k for k, chain in enumerate(chains) if chain.profile]
    packed = [rng.integers(0, 256, (10, len(chains[k].sequence)), np.uint8) for k in known]
    np.savez(
        folder / "chains_profiles.npz",
        chain_index=np.array(known, np.int32),
        offset=np.cumsum([0, *(p.shape[1] for p in packed)]),
        packed=np.concatenate([*packed, np.zeros((10, 0), np.uint8)], axis=1),
    )
    return folder


def _mask(chain: Made) -> np.ndarray:
    """[n, 14]: all atoms of each residue, or its backbone."""
    if chain.backbone is not None:
        return (np.arange(14) < 3).astype(np.int64) * np.ones((len(chain.sequence), 1), np.int64)
    counts = np.array([4 if chain.tier == "bb" else ATOMS[a] for a in chain.sequence])
    return (np.arange(14) < counts[:, None]).astype(np.int64)


def _positions(chain: Made, mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """[atoms, 3] int16 hundredths of an angstrom; atom 1 of a residue is its CA."""
    if chain.backbone is not None:
        return np.round(100 * (chain.backbone - chain.backbone[:, 1].mean(0))).astype(np.int16).reshape(-1, 3)
    turn, n = np.radians(100) * np.arange(len(mask)), len(mask)
    trace = np.stack([2.3 * np.cos(turn), 2.3 * np.sin(turn), 1.5 * (np.arange(n) - n / 2)], -1)
    around = rng.normal(size=(n, 14, 3)) * 1.5
    around[:, 1] = 0
    return np.round(100 * (trace[:, None] + around))[mask.astype(bool)].astype(np.int16)
