"""SI Algorithms 27-30 and the losses of SI section 3.7, one number at a time in Python floats."""

from __future__ import annotations

import math

import numpy as np

Points = np.ndarray  # [atoms, 3] float64


def distance(a: Points, b: Points) -> float:
    return math.sqrt(sum((float(p) - float(q)) ** 2 for p, q in zip(a, b, strict=True)))


def smooth_lddt(x: Points, truth: Points, nucleic: np.ndarray, resolved: np.ndarray) -> float:
    """Algorithm 27."""
    total, count = 0.0, 0.0
    for l in range(len(x)):  # noqa: E741
        for m in range(len(x)):
            if l == m or not resolved[l] or not resolved[m]:
                continue
            true = distance(truth[l], truth[m])
            if true >= (30.0 if nucleic[l] else 15.0):
                continue
            delta = abs(distance(x[l], x[m]) - true)
            total += sum(1 / (1 + math.exp(delta - tau)) for tau in (0.5, 1.0, 2.0, 4.0)) / 4
            count += 1
    return 1 - total / count


def rigid_align(x: Points, target: Points, weight: np.ndarray) -> Points:
    """Algorithm 28 by another road: the best rotation as the leading quaternion of Horn's 4 x 4 matrix."""
    mu = sum(w * a for w, a in zip(weight, x, strict=True)) / sum(weight)
    mu_target = sum(w * a for w, a in zip(weight, target, strict=True)) / sum(weight)
    s = np.zeros((3, 3))
    for w, a, b in zip(weight, x, target, strict=True):
        for i in range(3):
            for j in range(3):
                s[i, j] += w * (a - mu)[i] * (b - mu_target)[j]
    n = np.array(
        [
            [s[0, 0] + s[1, 1] + s[2, 2], s[1, 2] - s[2, 1], s[2, 0] - s[0, 2], s[0, 1] - s[1, 0]],
            [s[1, 2] - s[2, 1], s[0, 0] - s[1, 1] - s[2, 2], s[0, 1] + s[1, 0], s[2, 0] + s[0, 2]],
            [s[2, 0] - s[0, 2], s[0, 1] + s[1, 0], s[1, 1] - s[0, 0] - s[2, 2], s[1, 2] + s[2, 1]],
            [s[0, 1] - s[1, 0], s[2, 0] + s[0, 2], s[1, 2] + s[2, 1], s[2, 2] - s[0, 0] - s[1, 1]],
        ]
    )
    a, b, c, d = np.linalg.eigh(n)[1][:, -1]
    rotation = np.array(
        [
            [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
            [2 * (b * c + a * d), a * a - b * b + c * c - d * d, 2 * (c * d - a * b)],
            [2 * (b * d - a * c), 2 * (c * d + a * b), a * a - b * b - c * c + d * d],
        ]
    )
    return np.array([rotation @ (p - mu) + mu_target for p in x])


def aligned_mse(x: Points, truth: Points, weight: np.ndarray, resolved: np.ndarray) -> float:
    weight = np.array([w if r else 0.0 for w, r in zip(weight, resolved, strict=True)])
    moved = rigid_align(truth, x, weight)
    return sum(w * distance(a, b) ** 2 for w, a, b in zip(weight, x, moved, strict=True)) / sum(map(int, resolved)) / 3


def bond_loss(x: Points, truth: Points, bonds: list[tuple[int, int]]) -> float:
    return sum((distance(x[l], x[m]) - distance(truth[l], truth[m])) ** 2 for l, m in bonds) / len(bonds)  # noqa: E741


def cross_entropy(logits: np.ndarray, label: int) -> float:
    largest = max(logits)
    return largest + math.log(sum(math.exp(v - largest) for v in logits)) - float(logits[label])


def distogram_class(length: float) -> int:
    """Number of the 63 borders 2.3125, 2.625, ... 21.6875 below the distance."""
    return sum(length > 2.3125 + 0.3125 * n for n in range(63))


def distogram_loss(logits: np.ndarray, truth: Points, known: np.ndarray) -> float:
    """logits [n, n, 64]; truth [n, 3] of representative atoms."""
    losses = []
    for i in range(len(truth)):
        for j in range(len(truth)):
            if known[i] and known[j]:
                losses.append(cross_entropy(logits[i, j], distogram_class(distance(truth[i], truth[j]))))
    return sum(losses) / len(losses)


def in_frame(point: Points, a: Points, b: Points, c: Points) -> Points:
    """Algorithm 29 for one point and one frame."""
    w1, w2 = (a - b) / distance(a, b), (c - b) / distance(c, b)
    e1, e2 = w1 + w2, w2 - w1
    e1, e2 = e1 / math.sqrt(e1 @ e1), e2 / math.sqrt(e2 @ e2)
    e3 = np.array([e1[1] * e2[2] - e1[2] * e2[1], e1[2] * e2[0] - e1[0] * e2[2], e1[0] * e2[1] - e1[1] * e2[0]])
    d = point - b
    return np.array([d @ e1, d @ e2, d @ e3])


def alignment_error(x: Points, truth: Points, frames: Points, true_frames: Points) -> np.ndarray:
    """Algorithm 30. x, truth [n, 3]; frames [n, 3, 3]."""
    error = np.zeros((len(frames), len(x)))
    for i in range(len(frames)):
        for j in range(len(x)):
            difference = in_frame(x[j], *frames[i]) - in_frame(truth[j], *true_frames[i])
            error[i, j] = math.sqrt(sum(difference**2) + 1e-8)
    return error
