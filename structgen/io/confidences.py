"""Confidence files: AlphaFold 3's keys and shapes in its two JSON files, everything else in files of our own.

Numbers are rounded, NaN is null, one input gives one text.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from io import BytesIO
from typing import Any

import numpy as np

from structgen.features.atoms import Structure
from structgen.features.templates import Used
from structgen.features.tokens import Tokens
from structgen.prediction import Prediction


def summary_confidences(structure: Structure, prediction: Prediction, templates: Mapping[str, Sequence[Used]] | None = None) -> str:
    """One sample's scores: AlphaFold 3's keys, to 0.01, and `mean_plddt`, `gpde`, `chain_plddt`. ipTM of a single chain is null.

    Chains are in the order of `chain_ids`; the diagonal of `chain_pair_iptm` is the chains' pTM; rows of `chain_pair_pae_min` are frames.
    Where chains have templates, `templates` names each with its identity and coverage, from 0 to 1.
    """
    summary = prediction.summary
    values = {
        "chain_ids": list(structure.chain_ids),
        "chain_iptm": rounded(summary.chain_iptm, 2),
        "chain_pair_iptm": rounded(summary.chain_pair_iptm, 2),
        "chain_pair_pae_min": rounded(summary.chain_pair_pae_min, 2),
        "chain_plddt": rounded(summary.chain_plddt, 2),
        "chain_ptm": rounded(summary.chain_ptm, 2),
        "fraction_disordered": rounded(summary.fraction_disordered, 2),
        "gpde": rounded(summary.gpde, 2),
        "has_clash": float(summary.has_clash),
        "iptm": rounded(summary.iptm, 2),
        "mean_plddt": rounded(summary.mean_plddt, 2),
        "ptm": rounded(summary.ptm, 2),
        "ranking_score": rounded(summary.ranking_score, 2),
    }
    used = {chain: [_template(one) for one in found] for chain, found in (templates or {}).items() if found}
    values |= {"templates": used} if used else {}
    return json.dumps(values, indent=1, sort_keys=True, allow_nan=False) + "\n"


def _template(used: Used) -> dict[str, Any]:
    return {
        "file": used.file,
        "chain": used.chain,
        "aligned": used.aligned,
        "identity": rounded(used.identity, 3),
        "coverage": rounded(used.coverage, 3),
    }


def confidences(tokens: Tokens, prediction: Prediction) -> str:
    """One sample's values by atom and by pair of tokens, with AlphaFold 3's keys.

    pLDDT, 0-100, and contact probabilities to 0.01, PAE to 0.1 angstrom (row = frame).
    """
    structure = tokens.structure
    ids = np.array(structure.chain_ids)
    texts = {
        "atom_chain_ids": _compact(ids[structure.atom_chain].tolist()),
        "atom_plddts": _compact(rounded(prediction.atom_plddt, 2)),
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


def undefined_values(tokens: Tokens, prediction: Prediction) -> list[str]:
    """Names of the values that hold a NaN or infinity where none belongs.

    By nature undefined are ipTM of a single chain, pTM and the PAE as a frame of chains without frames, and ipTM between two of these.
    """
    summary, framed = prediction.summary, framed_chains(tokens)
    pairs = framed[:, None] | framed
    partners = pairs & ~np.eye(len(framed), dtype=bool)
    defined = {
        "ptm": framed.any(),
        "iptm": partners.any(),
        "chain_ptm": framed,
        "chain_iptm": partners.any(1),
        "chain_pair_iptm": pairs,
        "chain_pair_pae_min": np.broadcast_to(framed[:, None], pairs.shape),
    }
    values = vars(summary) | {name: getattr(prediction, name) for name in ("pae", "pde", "contact_probs")}
    return sorted(name for name, value in values.items() if (~np.isfinite(value) & defined.get(name, True)).any())


def framed_chains(tokens: Tokens) -> np.ndarray:
    """[C] bool: a token of the chain has a frame."""
    return np.bincount(tokens.chain, tokens.frame_mask, len(tokens.structure.chain_ids)) > 0


def rounded(values: np.ndarray | float, decimals: int) -> Any:
    """Nested lists of rounded floats, None for what is not finite; never minus zero."""
    rounded = np.round(np.asarray(values, np.float64), decimals) + 0.0
    finite = np.isfinite(rounded)
    if finite.all():
        return rounded.tolist()
    listed = np.full(rounded.shape, None, object)
    np.copyto(listed, rounded, where=finite)
    return listed.tolist()
