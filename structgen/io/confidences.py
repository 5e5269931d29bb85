"""Confidence files: AlphaFold 3's keys and shapes in its two JSON files, everything else in files of our own.

Numbers are rounded, NaN is null, one input gives one text.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from io import BytesIO
from math import isfinite
from typing import Any

import numpy as np

from structgen.features.atoms import Structure
from structgen.features.tokens import Tokens
from structgen.io.provenance import Provenance
from structgen.metrics.stereochemistry import bond_checks, chirality_checks, double_bond_checks
from structgen.prediction import Prediction

WRONG_NAMED = 50  # of each kind, in the extras


def summary_confidences(structure: Structure, prediction: Prediction) -> str:
    """One sample's scores: AlphaFold 3's keys, to 0.01, and `mean_plddt`, `gpde`, `chain_plddt`. ipTM of a single chain is null.

    Chains are in the order of `chain_ids`; the diagonal of `chain_pair_iptm` is the chains' pTM; rows of `chain_pair_pae_min` are frames.
    """
    summary = prediction.summary
    values = {
        "chain_ids": list(structure.chain_ids),
        "chain_iptm": _rounded(summary.chain_iptm, 2),
        "chain_pair_iptm": _rounded(summary.chain_pair_iptm, 2),
        "chain_pair_pae_min": _rounded(summary.chain_pair_pae_min, 2),
        "chain_plddt": _rounded(summary.chain_plddt, 2),
        "chain_ptm": _rounded(summary.chain_ptm, 2),
        "fraction_disordered": _rounded(summary.fraction_disordered, 2),
        "gpde": _rounded(summary.gpde, 2),
        "has_clash": float(summary.has_clash),
        "iptm": _rounded(summary.iptm, 2),
        "mean_plddt": _rounded(summary.mean_plddt, 2),
        "ptm": _rounded(summary.ptm, 2),
        "ranking_score": _rounded(summary.ranking_score, 2),
    }
    return json.dumps(values, indent=1, sort_keys=True, allow_nan=False) + "\n"


def confidences(tokens: Tokens, prediction: Prediction) -> str:
    """One sample's values by atom and by pair of tokens, with AlphaFold 3's keys.

    pLDDT, 0-100, and contact probabilities to 0.01, PAE to 0.1 angstrom (row = frame).
    """
    structure = tokens.structure
    ids = np.array(structure.chain_ids)
    texts = {
        "atom_chain_ids": _compact(ids[structure.atom_chain].tolist()),
        "atom_plddts": _compact(_rounded(prediction.atom_plddt, 2)),
        "contact_probs": _matrix_text(prediction.contact_probs, 2),
        "pae": _matrix_text(prediction.pae, 1),
        "token_chain_ids": _compact(ids[tokens.chain].tolist()),
        "token_res_ids": _compact(structure.residue_numbers[tokens.residue].tolist()),
    }
    return "{" + ",".join(f'"{name}":{text}' for name, text in texts.items()) + "}\n"


def _compact(values: list[Any]) -> str:
    return json.dumps(values, separators=(",", ":"), allow_nan=False)


def _matrix_text(values: np.ndarray, decimals: int) -> str:
    """The JSON of a rounded matrix. Probabilities and errors have few distinct values: each is put into text once, not a million times."""
    finite, unit = np.isfinite(values), 10**decimals
    steps = np.rint(np.where(finite, values, 0).astype(np.float64) * unit).astype(np.int64)
    lowest, highest = (int(steps.min()), int(steps.max())) if steps.size else (0, 0)
    texts = np.array([*(repr(step / unit) for step in range(lowest, highest + 1)), "null"], object)
    rows = texts[np.where(finite, steps - lowest, -1)].tolist()
    return "[" + ",".join(f"[{','.join(row)}]" for row in rows) + "]"


def extras(structure: Structure, prediction: Prediction, provenance: Provenance) -> str:
    """What AlphaFold 3's files have no place for: seed, sample, exact ranking score, interfaces, clashes, geometry, settings."""
    summary = prediction.summary
    values = {
        "calibrated": False,  # confidences are the network's own, not fitted to outcomes
        "chain_ids": list(structure.chain_ids),
        "chain_pair_clashes": np.asarray(summary.chain_pair_clashes).tolist(),
        "geometry": _geometry(structure, prediction),
        "interfaces": list(_interfaces(structure, prediction)),
        "ranking_score": summary.ranking_score if isfinite(summary.ranking_score) else None,
        "sample": prediction.sample,
        "seed": prediction.seed,
        "settings": dict(provenance.settings),
        "templates": {chain: [asdict(used) for used in all_used] for chain, all_used in provenance.templates.items()},
    }
    return json.dumps(values, indent=1, sort_keys=True, allow_nan=False) + "\n"


def _geometry(structure: Structure, prediction: Prediction) -> dict[str, Any]:
    """How many bonds, stereocentres and double bonds there are, and which are not what the chemistry says; by chain."""
    checks = {
        "bonds": bond_checks(structure, prediction.positions),
        "stereocentres": chirality_checks(structure, prediction.positions),
        "double_bonds": double_bond_checks(structure, prediction.positions),
    }
    found: dict[str, Any] = {}
    for name, check in checks.items():
        counted = np.bincount(structure.atom_chain[check.atoms[:, 0]], minlength=len(structure.chain_ids))
        wrong = np.bincount(structure.atom_chain[check.wrong[:, 0]], minlength=len(structure.chain_ids))
        named = [" ".join(_atom_name(structure, atom) for atom in row) for row in check.wrong[:WRONG_NAMED].tolist()]
        found[name] = {"checked": counted.tolist(), "wrong": wrong.tolist(), "first_wrong": named}
    return found


def _atom_name(structure: Structure, atom: int) -> str:
    residue = structure.atom_residue[atom]
    return f"{structure.chain_ids[structure.residue_chain[residue]]}:{structure.residue_numbers[residue]}:{structure.atom_names[atom]}"


def _interfaces(structure: Structure, prediction: Prediction) -> Iterator[dict[str, Any]]:
    """One entry a pair of chains; the PAE is the lower of the two directions."""
    summary, ids = prediction.summary, structure.chain_ids
    lowest = np.fmin(summary.chain_pair_pae_min, summary.chain_pair_pae_min.T)
    for a in range(len(ids)):
        for b in range(a + 1, len(ids)):
            yield {
                "chains": [ids[a], ids[b]],
                "clashes": int(summary.chain_pair_clashes[a, b]),
                "iptm": _rounded(summary.chain_pair_iptm[a, b], 2),
                "pae_min": _rounded(lowest[a, b], 2),
            }


def pair_arrays(tokens: Tokens, prediction: Prediction) -> bytes:
    """The npz file of `pae`, `pde` (angstrom) and `contact_probs` as float16 [N, N], with `token_chain_ids` and `token_res_ids` [N]."""
    structure, file = tokens.structure, BytesIO()
    np.savez(  # float16 hardly shrinks, and what a compressor writes differs from one version to the next
        file,
        pae=prediction.pae.astype(np.float16),
        pde=prediction.pde.astype(np.float16),
        contact_probs=prediction.contact_probs.astype(np.float16),
        token_chain_ids=np.array(structure.chain_ids)[tokens.chain],
        token_res_ids=structure.residue_numbers[tokens.residue],
    )
    return file.getvalue()


def ranking_scores(ranked: Sequence[Prediction]) -> str:
    """CSV with a line a sample, in the order given; scores exact."""
    rows = [f"{p.seed},{p.sample},{float(p.summary.ranking_score)!r}" for p in ranked]
    return "\n".join(["seed,sample,ranking_score", *rows, ""])


def undefined_values(prediction: Prediction) -> list[str]:
    """Names of the values that hold a NaN or infinity where none belongs; ipTM and chain ipTM of a single chain are undefined by nature."""
    summary = prediction.summary
    expected = {"iptm", "chain_iptm"} if len(summary.chain_ptm) == 1 else set()
    scores = {name: value for name, value in vars(summary).items() if name not in expected}
    arrays = {name: getattr(prediction, name) for name in ("pae", "pde", "contact_probs")}
    return sorted(name for name, value in {**scores, **arrays}.items() if not np.isfinite(value).all())


def _rounded(values: np.ndarray | float, decimals: int) -> Any:
    """Nested lists of rounded floats, None for what is not finite; never minus zero."""
    rounded = np.round(np.asarray(values, np.float64), decimals) + 0.0
    finite = np.isfinite(rounded)
    if finite.all():
        return rounded.tolist()
    listed = np.full(rounded.shape, None, object)
    np.copyto(listed, rounded, where=finite)
    return listed.tolist()
