"""Small molecules as tokens and batches, without files."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from structgen.features.atoms import build_atoms
from structgen.features.batch import Batch
from structgen.features.chains import ChainRecord
from structgen.features.featurise import featurise
from structgen.features.job import Chain, Job, Kind
from structgen.features.tokens import Tokens, tokenise


def record(sequence: str) -> ChainRecord:
    """A chain whose coordinates are all zero and all known."""
    n = len(sequence)
    return ChainRecord("made", sequence, np.zeros((n, 14, 3), np.float32), np.ones((n, 14), bool), None)


def tokens_of(*chains: str | tuple[Kind, str]) -> Tokens:
    """Tokens of proteins (a sequence), or of any kind of chain (a sequence, or SMILES), one chain each."""
    parts: Sequence[tuple[Kind, str]] = [(Kind.PROTEIN, chain) if isinstance(chain, str) else chain for chain in chains]
    ids = "ABCDEFGH"
    named = tuple(
        Chain(ids[k], kind, smiles=text) if kind is Kind.LIGAND else Chain(ids[k], kind, text) for k, (kind, text) in enumerate(parts)
    )
    return tokenise(build_atoms(Job(name="made", slug="made", chains=named, source="made")))


def batch_of(tokens: Tokens) -> Batch:
    """Their features without evidence."""
    return featurise(tokens, [None] * len(tokens.structure.chain_ids))
