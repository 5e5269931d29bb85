"""What a prediction is: coordinates of one sample and the model's confidence in them. numpy only, no network."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Summary:
    """Scores of one sample (SI 5.9). Chains are in the order of the job; NaN where a value is undefined (ipTM of one chain)."""

    ranking_score: float
    ptm: float
    iptm: float
    fraction_disordered: float
    has_clash: bool
    mean_plddt: float  # 0-100, mean over atoms
    gpde: float  # angstrom
    chain_ptm: np.ndarray  # [C]
    chain_iptm: np.ndarray  # [C]
    chain_plddt: np.ndarray  # [C], 0-100
    chain_pair_iptm: np.ndarray  # [C, C], symmetric, diagonal = chain pTM
    chain_pair_pae_min: np.ndarray  # [C, C], angstrom, row = frame's chain
    chain_pair_clashes: np.ndarray  # [C, C] int, atom pairs closer than 1.1 angstrom


@dataclass(frozen=True)
class Prediction:
    """One sample of one seed. L atoms and N tokens in the order of the job's `Structure`."""

    seed: int
    sample: int
    positions: np.ndarray  # [L, 3] float32, angstrom
    atom_plddt: np.ndarray  # [L] float32, 0-100
    pae: np.ndarray  # [N, N] float32, angstrom; row = frame, column = displaced token
    pde: np.ndarray  # [N, N] float32, angstrom
    contact_probs: np.ndarray  # [N, N] float32, probability of representative atoms within 8 angstrom
    summary: Summary
