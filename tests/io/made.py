"""Predictions made of a job and a random generator: what the writers are tested on."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from structgen.features.atoms import Structure, build_atoms
from structgen.features.job import Chain, Job, Kind
from structgen.features.tokens import Tokens, tokenise
from structgen.io.provenance import Provenance
from structgen.prediction import Prediction, Summary


def made_tokens(*chains: tuple[str, str]) -> Tokens:
    """Tokens of protein chains, given as (id, sequence)."""
    return tokenise(build_atoms(Job("made", "made", tuple(Chain(id, Kind.PROTEIN, sequence) for id, sequence in chains))))


def made_job(tokens: Tokens, *, slug: str = "job", name: str = "my Job") -> Job:
    """The job that plain tokens were made of."""
    s = tokens.structure
    chains = (Chain(id, kind, sequence) for id, kind, sequence in zip(s.chain_ids, s.chain_kinds, s.chain_sequences, strict=True))
    return Job(name, slug, tuple(chains))


def made_prediction(tokens: Tokens, *, seed: int = 1, sample: int = 0, ranking_score: float = 0.75) -> Prediction:
    """Coordinates along a random walk, pLDDT from 0 to 100, both ends included; every score another number."""
    rng = np.random.default_rng([seed, sample])
    atoms, size, chains = len(tokens.atom_token), len(tokens.residue), len(tokens.structure.chain_ids)
    walk = np.cumsum(rng.normal(size=(size, 3)) * 2.2, 0)
    plddt = (rng.random(atoms) * 100).astype(np.float32)
    plddt[0], plddt[-1] = 0, 100
    pair = rng.random((3, size, size)).astype(np.float32)
    of_pairs = rng.random((2, chains, chains))
    summary = Summary(
        ranking_score=ranking_score,
        ptm=0.614,
        iptm=0.337 if chains > 1 else np.nan,
        fraction_disordered=0.128,
        has_clash=False,
        mean_plddt=float(plddt.mean()),
        gpde=1.236,
        chain_ptm=rng.random(chains),
        chain_iptm=rng.random(chains) if chains > 1 else np.array([np.nan]),
        chain_plddt=rng.random(chains) * 100,
        chain_pair_iptm=of_pairs[0] + of_pairs[0].T,
        chain_pair_pae_min=of_pairs[1] * 20,
        chain_pair_clashes=rng.integers(0, 5, (chains, chains)),
    )
    return Prediction(
        seed=seed,
        sample=sample,
        positions=(walk[tokens.atom_token] + rng.normal(size=(atoms, 3))).astype(np.float32),
        atom_plddt=plddt,
        pae=pair[0] * 32,
        pde=pair[1] * 32,
        contact_probs=pair[2],
        summary=summary,
    )


def made_provenance(*ids: str, **changes: object) -> Provenance:
    """A provenance of chains with these ids, the first with an alignment."""
    depth = {id: 17 if k == 0 else 1 for k, id in enumerate(ids)}
    whole = Provenance("0.1.0", "toy", "0123456789abcdef" * 4, {"steps": 20, "cycles": 2, "precision": "float32"}, (1, 2), depth)
    return replace(whole, **changes)


RNA_AND_LIGAND = Structure(
    chain_ids=("A", "B"),
    chain_kinds=(Kind.RNA, Kind.LIGAND),
    chain_sequences=("GU", ""),
    chain_entity=np.array([1, 2]),
    chain_copy=np.array([1, 1]),
    residue_names=np.array(["G", "U", "MG"]),
    residue_numbers=np.array([1, 2, 1]),
    residue_chain=np.array([0, 0, 1]),
    atom_names=np.array(["O5'", "C5'", "N9", "P", "O5'", "N1", "MG"]),
    elements=np.array(["O", "C", "N", "P", "O", "N", "MG"]),
    charges=np.array([0, 0, 0, 0, 0, 0, 2]),
    atom_residue=np.array([0, 0, 0, 1, 1, 1, 2]),
)
"""Six atoms of RNA and an ion: names with primes, HETATM, a charge, an element of two letters."""
