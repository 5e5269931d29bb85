"""Backbones of entries as templates: N, CA, C and CB of chains, real or implied, on the tokens of a crop."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from structgen.data.assemble import slot_positions
from structgen.data.dataset import Relative
from structgen.data.entry import Entry
from structgen.features import chemistry
from structgen.search.library import implied_beta

N, CA, C, CB = 0, 1, 2, 4  # slots of amino acids
_GLYCINE = chemistry.AMINO_ACIDS.index("G")


@dataclass(frozen=True)
class TemplateRows:
    """One template on n residues or tokens: a slot of `Batch.template_*`. Coordinates in angstrom, 0 where there are none."""

    restype: np.ndarray  # [n] uint8; 31 where nothing lies
    frame: np.ndarray  # [n, 3, 3] float32: N, CA, C
    frame_mask: np.ndarray  # [n] bool
    pseudo_beta: np.ndarray  # [n, 3] float32
    pseudo_beta_mask: np.ndarray  # [n] bool

    def at(self, own: np.ndarray, size: int, onto: np.ndarray) -> TemplateRows:
        """Rows `own` placed on rows `onto` of an otherwise empty template of that size."""
        empty = nothing(size)
        for name, target in vars(empty).items():
            target[onto] = getattr(self, name)[own]
        return empty

    def without(self, lost: np.ndarray) -> TemplateRows:
        """The same with nothing where `lost` [n]."""
        kept = ~lost
        return TemplateRows(
            np.where(kept, self.restype, chemistry.GAP).astype(np.uint8),
            self.frame * kept[:, None, None],
            self.frame_mask & kept,
            self.pseudo_beta * kept[:, None],
            self.pseudo_beta_mask & kept,
        )


def nothing(size: int) -> TemplateRows:
    """An empty slot."""
    return TemplateRows(
        np.full(size, chemistry.GAP, np.uint8),
        np.zeros((size, 3, 3), np.float32),
        np.zeros(size, bool),
        np.zeros((size, 3), np.float32),
        np.zeros(size, bool),
    )


def rows_of_backbone(restype: np.ndarray, frame: np.ndarray, mask: np.ndarray) -> TemplateRows:
    """A template of N, CA and C [n, 3, 3] where `mask` [n]; CB is implied, CA for glycine."""
    beta = np.where((restype == _GLYCINE)[:, None], frame[:, 1], implied_beta(frame))
    frame = np.where(mask[:, None, None], frame, 0).astype(np.float32)
    return TemplateRows(restype.astype(np.uint8), frame, mask, np.where(mask[:, None], beta, 0).astype(np.float32), mask.copy())


def backbone_rows(entry: Entry, tokens: np.ndarray) -> TemplateRows:
    """The tokens of a protein chain as a template of themselves; a CB that is not known is implied."""
    restype = entry.restype[tokens]
    standard = ~entry.single[tokens] & (restype <= chemistry.UNKNOWN)
    atoms, known = [], []
    for slot in (N, CA, C, CB):
        atoms.append(slot_positions(entry, np.full(entry.tokens, slot, np.uint32))[tokens])
        known.append(((entry.resolved[tokens] >> slot) & 1).astype(bool) & standard)
    rows = rows_of_backbone(restype, np.stack(atoms[:3], 1), known[0] & known[1] & known[2])
    real = known[3] & (restype != _GLYCINE)
    return replace(
        rows,
        pseudo_beta=np.where(real[:, None], atoms[3], rows.pseudo_beta).astype(np.float32),
        pseudo_beta_mask=rows.pseudo_beta_mask | real,
    )


def chain_tokens(entry: Entry, chain: int) -> np.ndarray:
    """Tokens of a chain."""
    return np.flatnonzero(entry.chain == chain)


def lay_relative(relative: Relative, other: Entry, residues: int) -> TemplateRows:
    """A relative on the residues of its query chain."""
    own, there = (np.concatenate([np.arange(length) + start for start, length in relative.runs[:, [k, 2]]]) for k in (0, 1))
    return backbone_rows(other, chain_tokens(other, relative.chain)).at(there, residues, own)
