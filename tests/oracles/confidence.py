"""SI Algorithm 31 around its pairformer and the losses of SI section 4.3, one number at a time in float64."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from tests.oracles.losses import Points, alignment_error, cross_entropy, distance

Array = np.ndarray
Stack = Callable[[Array, Array], tuple[Array, Array]]


def layer_norm(x: Array, weight: Array, bias: Array) -> Array:
    return (x - x.mean()) / np.sqrt(x.var() + 1e-5) * weight + bias


def distance_one_hot(length: float) -> Array:
    """39 classes between strict edges: the zero vector below 3.25 and on an edge; the last class is open."""
    lower = [3.25 + 1.25 * k for k in range(39)]
    upper = [*lower[1:], np.inf]
    return np.array([float(a < length < b) for a, b in zip(lower, upper, strict=True)])


def pair_input(z: Array, s_inputs: Array, x: Points, weights: dict[str, Array], extra_distance: bool) -> Array:
    """Lines 2 and 3. `row`, `column` [c_z, c_in], `bins` [c_z, 39], `distance` [c_z, 1]; x [n, 3] of representative atoms."""
    out = z.copy()
    for i in range(len(x)):
        for j in range(len(x)):
            length = distance(x[i], x[j])
            out[i, j] += weights["row"] @ s_inputs[i] + weights["column"] @ s_inputs[j] + weights["bins"] @ distance_one_hot(length)
            if extra_distance:
                out[i, j] += weights["distance"][:, 0] * length
    return out


def pair_logits(z: Array, weight: Array, norm: Callable[[Array], Array]) -> Array:
    out = np.zeros((*z.shape[:2], len(weight)))
    for i in range(len(z)):
        for j in range(len(z)):
            out[i, j] = weight @ norm(z[i, j])
    return out


def pde_logits(z: Array, weight: Array, norm: Callable[[Array], Array], symmetry: str) -> Array:
    """Line 5 in the three readings."""
    out = np.zeros((*z.shape[:2], len(weight)))
    for i in range(len(z)):
        for j in range(len(z)):
            if symmetry == "pair_before":
                out[i, j] = weight @ (norm(z[i, j]) + norm(z[j, i]))
            elif symmetry == "pair_before_norm":
                out[i, j] = weight @ norm(z[i, j] + z[j, i])
            else:
                out[i, j] = weight @ norm(z[i, j]) + weight @ norm(z[j, i])
    return out


def atom_logits(s: Array, table: Array, token: Array, slot: Array, norm: Callable[[Array], Array]) -> Array:
    """Line 6. `table` [slots, bins, c_s]."""
    return np.array([table[slot[l]] @ norm(s[token[l]]) for l in range(len(token))])  # noqa: E741


@dataclass(frozen=True)
class Truth:
    """One crop in plain arrays."""

    positions: Points
    resolved: Array
    nucleic: Array  # [l]
    reference: list[int]  # atoms
    frames: list[tuple[int, int, int]]  # [n] atoms
    frame_valid: Array  # [n]
    centre: list[int]
    representative: list[int]


def lddt(x: Points, truth: Truth) -> Array:
    """[l] share of kept distances to reference atoms."""
    out = np.zeros(len(x))
    for l in range(len(x)):  # noqa: E741
        kept, count = 0, 0
        for m in truth.reference:
            if l == m or not truth.resolved[m]:
                continue
            true = distance(truth.positions[l], truth.positions[m])
            if true < (30 if truth.nucleic[m] else 15):
                count += 4
                kept += sum(abs(distance(x[l], x[m]) - true) < tau for tau in (0.5, 1, 2, 4))
        out[l] = kept / count if count else 0.0
    return out


def plddt_loss(logits: Array, x: Points, truth: Truth) -> float:
    score = lddt(x, truth)
    # the small number puts a score that is a whole number of bins but for rounding into the upper one
    terms = [cross_entropy(logits[l], min(int(score[l] * 50 + 1e-9), 49)) for l in range(len(x)) if truth.resolved[l]]  # noqa: E741
    return sum(terms) / len(terms)


def pae_loss(logits: Array, x: Points, truth: Truth) -> float:
    terms = []
    for i, frame in enumerate(truth.frames):
        if not truth.frame_valid[i] or not all(truth.resolved[a] for a in frame):
            continue
        here, true = (np.array([[p[a] for a in frame]]) for p in (x, truth.positions))
        error = alignment_error(x[truth.centre], truth.positions[truth.centre], here, true)[0]
        for j, m in enumerate(truth.centre):
            if truth.resolved[m]:
                terms.append(cross_entropy(logits[i, j], min(int(error[j] / 0.5), 63)))
    return sum(terms) / len(terms)


def pde_loss(logits: Array, x: Points, truth: Truth) -> float:
    terms = []
    for i, a in enumerate(truth.representative):
        for j, b in enumerate(truth.representative):
            if truth.resolved[a] and truth.resolved[b]:
                error = abs(distance(x[a], x[b]) - distance(truth.positions[a], truth.positions[b]))
                terms.append(cross_entropy(logits[i, j], min(int(error / 0.5), 63)))
    return sum(terms) / len(terms)


def resolved_loss(logits: Array, truth: Truth) -> float:
    terms = [cross_entropy(logits[l], int(truth.resolved[l])) for l in range(len(logits))]  # noqa: E741
    return sum(terms) / len(terms)
