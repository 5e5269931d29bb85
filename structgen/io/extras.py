"""What AlphaFold 3's files have no place for, a file a sample: interfaces, residues beyond the standard ones, geometry, settings."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from math import isfinite
from typing import Any

import numpy as np

from structgen.features.atoms import Structure
from structgen.features.tokens import Tokens
from structgen.io.confidences import rounded
from structgen.io.provenance import Provenance
from structgen.metrics.interfaces import chain_pair_pde, interface_scores, residue_plddt
from structgen.metrics.stereochemistry import angle_checks, bond_checks, chirality_checks, double_bond_checks
from structgen.prediction import Prediction

CHECKS = {"bonds": bond_checks, "angles": angle_checks, "stereocentres": chirality_checks, "double_bonds": double_bond_checks}
WRONG_NAMED = 50  # of each kind


def extras(tokens: Tokens, prediction: Prediction, provenance: Provenance) -> str:
    """The text of the file: strict JSON, sorted keys; the ranking score is exact, other scores are to 0.01."""
    structure, summary = tokens.structure, prediction.summary
    values = {
        "calibrated": False,  # confidences are the network's own, not fitted to outcomes
        "chain_ids": list(structure.chain_ids),
        "chain_pair_clashes": np.asarray(summary.chain_pair_clashes).tolist(),
        "geometry": _geometry(structure, prediction),
        "interfaces": list(_interfaces(tokens, prediction)),
        "ranking_score": summary.ranking_score if isfinite(summary.ranking_score) else None,
        "residues": list(_residues(structure, prediction)),
        "sample": prediction.sample,
        "seed": prediction.seed,
        "settings": dict(provenance.settings),
        "templates": {chain: [asdict(used) for used in all_used] for chain, all_used in provenance.templates.items()},
    }
    return json.dumps(values, indent=1, sort_keys=True, allow_nan=False) + "\n"


def _interfaces(tokens: Tokens, prediction: Prediction) -> Iterator[dict[str, Any]]:
    """One entry a pair of chains; the PAE is the lower of the two directions."""
    summary, ids = prediction.summary, tokens.structure.chain_ids
    lowest = np.fmin(summary.chain_pair_pae_min, summary.chain_pair_pae_min.T)
    scores = interface_scores(tokens.structure, summary.chain_iptm)
    mean_pde, least_pde = chain_pair_pde(tokens, prediction.pde)
    for a in range(len(ids)):
        for b in range(a + 1, len(ids)):
            yield {
                "chains": [ids[a], ids[b]],
                "clashes": int(summary.chain_pair_clashes[a, b]),
                "iptm": rounded(summary.chain_pair_iptm[a, b], 2),
                "pae_min": rounded(lowest[a, b], 2),
                "pde_mean": rounded(mean_pde[a, b], 2),
                "pde_min": rounded(least_pde[a, b], 2),
                "score": rounded(scores[a, b], 2),
            }


def _residues(structure: Structure, prediction: Prediction) -> Iterator[dict[str, Any]]:
    """Every modified residue of a polymer and every residue of a ligand, with its mean pLDDT."""
    plddt = rounded(residue_plddt(structure, prediction.atom_plddt), 2)
    for r in np.flatnonzero(structure.atomised).tolist():
        chain, number = structure.chain_ids[structure.residue_chain[r]], int(structure.residue_numbers[r])
        yield {"chain": chain, "position": number, "component": str(structure.residue_names[r]), "plddt": plddt[r]}


def _geometry(structure: Structure, prediction: Prediction) -> dict[str, Any]:
    """How many bonds, angles, stereocentres and double bonds there are, and which are not what the chemistry says; by chain."""
    found: dict[str, Any] = {}
    for name, look in CHECKS.items():
        check = look(structure, prediction.positions)
        counted = np.bincount(structure.atom_chain[check.atoms[:, 0]], minlength=len(structure.chain_ids))
        wrong = np.bincount(structure.atom_chain[check.wrong[:, 0]], minlength=len(structure.chain_ids))
        named = [" ".join(_atom_name(structure, atom) for atom in row) for row in check.wrong[:WRONG_NAMED].tolist()]
        found[name] = {"checked": counted.tolist(), "wrong": wrong.tolist(), "first_wrong": named}
    return found


def _atom_name(structure: Structure, atom: int) -> str:
    residue = structure.atom_residue[atom]
    return f"{structure.chain_ids[structure.residue_chain[residue]]}:{structure.residue_numbers[residue]}:{structure.atom_names[atom]}"
