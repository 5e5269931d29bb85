"""All that is measured of one predicted structure beside its truth: accuracy, interfaces, geometry, and how right its confidence is."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np

from structgen.features import chemistry
from structgen.features.atoms import Structure
from structgen.features.tokens import Tokens
from structgen.metrics.calibration import Tally
from structgen.metrics.dockq import score_interface
from structgen.metrics.geometry import clashes_per_thousand, consecutive, distances
from structgen.metrics.lddt import lddt, lddt_by_point
from structgen.metrics.rmsd import superpose
from structgen.metrics.stereochemistry import bond_checks, chirality_checks
from structgen.metrics.trace import score_trace

CA, SLOTS = 1, 14
CA_CA = (3.6, 4.0)  # angstrom between the CA atoms of neighbours, trans peptide bonds
PAE_SCALE = 32.0  # angstrom: the largest error that is predicted, and so the largest that is counted
Row = dict[str, Any]


@dataclass(frozen=True, eq=False)
class Sample:
    """A predicted structure of L atoms and N tokens."""

    name: str
    tokens: Tokens
    positions: np.ndarray  # [L, 3] angstrom
    plddt: np.ndarray  # [L], 0-100
    pae: np.ndarray  # [N, N] angstrom; row = frame, column = displaced token
    ptm: float
    ranking: float


@dataclass(frozen=True, eq=False)
class Known:
    """The truth in the job's order: residues [R, 14, 3] of its protein chains in angstrom, and which of these atoms are resolved."""

    positions: np.ndarray
    mask: np.ndarray  # [R, 14] bool
    chains: tuple[int, ...]  # the job's chains that the truth has

    @property
    def trace(self) -> np.ndarray:
        """[R, 3] CA atoms."""
        return self.positions[:, CA]

    @property
    def resolved(self) -> np.ndarray:
        """[R] bool."""
        return self.mask[:, CA]


def score_sample(sample: Sample, known: Known) -> Row:
    """Scores from 0 to 1 but for RMSD, pLDDT (0-100), clashes (for 1,000 atoms) and PAE (angstrom); tallies of both confidences."""
    structure = sample.tokens.structure
    mine, there = residue_atoms(structure, sample.positions)
    both = known.mask & there
    residue = np.repeat(np.arange(len(mine)), SLOTS)[both.ravel()]
    trace = dataclasses.asdict(score_trace(mine[:, CA], known.trace, known.resolved))
    atoms = {"lddt_all_atom": lddt(mine[both], known.positions[both], residue)}
    found = _interfaces(structure, mine, known, both) | _geometry(structure, sample.positions, mine)
    return {"sample": sample.name} | trace | atoms | found | _confidence(sample, known, mine)


def laid_traces(sample: Sample, known: Known) -> Row:
    """CA atoms of the resolved residues, for a picture: the `true` ones, and the `predicted` ones laid on them; tenths of an angstrom."""
    there = known.resolved
    mine, true = residue_atoms(sample.tokens.structure, sample.positions)[0][there, CA], known.trace[there]
    return {"true": true.round(1).tolist(), "predicted": superpose(mine, true)(mine).round(1).tolist()}


def residue_atoms(structure: Structure, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """[R, 14, 3] heavy atoms of standard residues in the fixed order, and which there are."""
    out, mask = np.zeros((len(structure.residue_names), SLOTS, 3)), np.zeros((len(structure.residue_names), SLOTS), bool)
    names = chemistry.ATOM_NAMES[structure.residue_class[structure.atom_residue]][:, :SLOTS]
    atom, slot = np.nonzero(names == structure.atom_names[:, None])
    residue = structure.atom_residue[atom]
    out[residue, slot], mask[residue, slot] = positions[atom], True
    return out, mask


def _interfaces(structure: Structure, mine: np.ndarray, known: Known, both: np.ndarray) -> Row:
    """DockQ of every pair of chains that touch in the truth, and the mean; None where none do."""
    of = {c: structure.residue_chain == c for c in known.chains}
    found = {}
    for a in of:
        for b in of:
            if a < b:
                pair = [tuple(x[of[c]] for c in (a, b)) for x in (mine, known.positions, both)]
                one = score_interface(pair[0], pair[1], pair[2])  # type: ignore[arg-type]
                if one is not None:
                    name = f"{structure.chain_ids[a]}-{structure.chain_ids[b]}"
                    found[name] = {k: round(v, 4) for k, v in dataclasses.asdict(one).items()}
    mean = float(np.mean([one["dockq"] for one in found.values()])) if found else None
    return {"dockq": mean, "interfaces": found}


def _geometry(structure: Structure, positions: np.ndarray, mine: np.ndarray) -> Row:
    """Clashes; shares of neighbouring CA atoms 3.6 to 4.0 angstrom apart, of bonds and of stereocentres that are right."""
    there: np.ndarray = np.asarray(mine[:, CA].any(-1))
    along = consecutive(structure) & there[:-1] & there[1:]
    steps = distances(mine[:-1, CA], mine[1:, CA])[along]
    bonds, hands = bond_checks(structure, positions), chirality_checks(structure, positions)
    return {
        "clashes": clashes_per_thousand(structure, positions),
        "ca_ca": _share((steps > CA_CA[0]) & (steps < CA_CA[1])),
        "bonds_right": _share(bonds.right),
        "chirality_right": _share(hands.right),
    }


def _share(right: np.ndarray) -> float:
    return float(right.mean()) if len(right) else 1.0


def _confidence(sample: Sample, known: Known, mine: np.ndarray) -> Row:
    """pLDDT of CA atoms and PAE, and sums from which their calibration is made."""
    plddt = np.full(len(mine), np.nan)
    plddt[sample.tokens.residue] = sample.plddt[sample.tokens.centre_atom]
    local = lddt_by_point(mine[:, CA], known.trace, np.arange(len(mine)), mask=known.resolved)
    said, error = pae_pairs(sample, known, mine)
    return {
        "plddt": float(np.nanmean(plddt[known.resolved])),
        "ptm": sample.ptm,
        "ranking_score": sample.ranking,
        "plddt_tally": Tally.of(plddt / 100, local).lists(),
        "pae": float(said.mean()) if len(said) else None,
        "pae_error": float(error.mean()) if len(error) else None,
        "pae_tally": Tally.of(np.minimum(said / PAE_SCALE, 1 - 1e-6), np.minimum(error / PAE_SCALE, 1)).lists(),
    }


def pae_pairs(sample: Sample, known: Known, mine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Predicted aligned error, and the error of CA of residue j in the frame of N, CA, C of residue i, over resolved protein residues."""
    token = np.full(len(mine), -1)
    token[sample.tokens.residue[::-1]] = np.arange(len(sample.tokens.residue))[::-1]
    at = np.flatnonzero(known.mask[:, :3].all(1) & (token >= 0))
    seen = [in_frames(x[at][:, :3], x[at, CA]) for x in (mine, known.positions)]
    error = np.linalg.norm(seen[0] - seen[1], axis=-1)
    return sample.pae[np.ix_(token[at], token[at])].ravel(), error.ravel()


def in_frames(frames: np.ndarray, points: np.ndarray) -> np.ndarray:
    """[f, n, 3] points in frames of N, CA, C: the first axis towards C, the second in the plane of N (Jumper et al. 2021, Algorithm 21)."""
    n, ca, c = (frames[:, k] for k in range(3))
    e1 = (c - ca) / np.linalg.norm(c - ca, axis=-1, keepdims=True)
    v = n - ca
    e2 = v - (v * e1).sum(-1, keepdims=True) * e1
    e2 /= np.linalg.norm(e2, axis=-1, keepdims=True)
    axes = np.stack([e1, e2, np.cross(e1, e2)], -1)
    return (points[None] - ca[:, None]) @ axes
