"""Backbones in about ten bits a residue: every CA by two angles from the two before it, and one angle for the peptide plane between.

A step from CA to CA is 3.8 angstrom long in a direction that is told by bend and turn in the frame of the step before. It is chosen from
where the decoder stands, so errors do not add up. C and the next N lie in a plane of ideal geometry that turns about the line between the
two CA atoms. What is not so keeps numbers of its own: CA atoms behind a gap or a cis peptide the whole step, odd N and C their places.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import acos, atan2, cos, pi, sin, sqrt

import numpy as np

STEP = 3.8  # angstrom from CA to CA
TURNS = 85  # of 360 degrees; three units of a byte each
BENDS, LEAST_BEND, BEND = 16, 25.0, 5.0  # levels, the first one's and the width of one in degrees; 0 would be straight on
PLANES = 16  # of 360 degrees
GRID = 0.1  # angstrom, of steps told whole
FINE = 0.05  # angstrom, of N and C that keep their places about CA
FAR = 6.3  # angstrom that FINE reaches in a signed byte
OFF = 0.4  # angstrom: a CA further from its place has its step told whole
AWAY = 0.5  # angstrom: a placed N or C further from its place is kept
N, CA, C = range(3)
_TRANS, _CIS, _SPLIT = 3.808, 2.958, 3.35  # angstrom between CA atoms

_PEPTIDES = np.array([[[1.431, 0.526], [2.401, -0.384]], [[0.801, 1.298], [2.144, 1.212]]])
"""C and the next N of a trans and a cis peptide: along the line from CA to the next CA, and away from it in the plane (angstrom).

Medians over 52,000 trans and 151 cis peptides of experimental chains; the cis ones made to agree with the bond lengths.
"""

Vector = tuple[float, float, float]


@dataclass(frozen=True)
class Code:
    """A chain of n residues, of which m are resolved; of these f have their step told whole, and k keep N and C."""

    resolved: np.ndarray  # [n] bool: N, CA and C are known
    angles: np.ndarray  # [m, 2] uint8: 3 * turn of the step to this residue; 16 * plane of the peptide before it + bend
    free: np.ndarray  # [m] bool: the step follows in `steps`
    steps: np.ndarray  # [f, 3] int16, in units of GRID
    kept: np.ndarray  # [m] bool: N and C follow in `own`
    own: np.ndarray  # [k, 2, 3] int8, in units of FINE about CA


@dataclass
class _Walker:
    """Where the decoder stands: a point, the direction of its last step, and the normal of the last two."""

    at: Vector = (0.0, 0.0, 0.0)
    u: Vector = (1.0, 0.0, 0.0)
    n: Vector = (0.0, 0.0, 1.0)

    def angles_to(self, target: Vector) -> tuple[int, int]:
        """Levels of bend and turn of the step that comes nearest to a point."""
        t = _minus(target, self.at)
        m, length = _cross(self.n, self.u), sqrt(_dot(t, t)) or 1.0
        bend = acos(max(-1.0, min(1.0, _dot(t, self.u) / length))) * 180 / pi
        turn = atan2(_dot(t, self.n), _dot(t, m)) * TURNS / (2 * pi)
        return max(0, min(BENDS - 1, round((bend - LEAST_BEND) / BEND))), round(turn) % TURNS

    def stepped(self, bend: int, turn: int) -> _Walker:
        """After a step in this direction. The frame stays orthonormal: u x d is sin(bend) times the new normal."""
        m, b, t = _cross(self.n, self.u), (LEAST_BEND + BEND * bend) * pi / 180, 2 * pi * turn / TURNS
        along, side, up = cos(b), sin(b) * cos(t), sin(b) * sin(t)
        d = _sum3(along, self.u, side, m, up, self.n)
        return _Walker(_sum3(1.0, self.at, STEP, d, 0.0, d), d, _sum3(cos(t), self.n, -sin(t), m, 0.0, m))

    def moved(self, step: Vector) -> _Walker:
        """After a step told whole; the normal stays as far as it can."""
        length = sqrt(_dot(step, step))
        u = (step[0] / length, step[1] / length, step[2] / length) if length > 1e-6 else self.u
        for normal in (self.n, (0.0, 0.0, 1.0), (1.0, 0.0, 0.0)):
            n = _sum3(1.0, normal, -_dot(normal, u), u, 0.0, u)
            size = sqrt(_dot(n, n))
            if size > 1e-3:
                break
        return _Walker(_sum3(1.0, self.at, 1.0, step, 0.0, step), u, (n[0] / size, n[1] / size, n[2] / size))


def _dot(a: Vector, b: Vector) -> float:
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


def _minus(a: Vector, b: Vector) -> Vector:
    return a[0] - b[0], a[1] - b[1], a[2] - b[2]


def _cross(a: Vector, b: Vector) -> Vector:
    return a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]


def _sum3(p: float, a: Vector, q: float, b: Vector, r: float, c: Vector) -> Vector:
    return p * a[0] + q * b[0] + r * c[0], p * a[1] + q * b[1] + r * c[1], p * a[2] + q * b[2] + r * c[2]


def encode(atoms: np.ndarray, resolved: np.ndarray) -> Code:
    """The code of N, CA, C (and more) [n, 3 or more, 3] in angstrom where `resolved` [n].

    Raises ValueError for a chain with a gap of more than 3,200 angstrom.
    """
    known = atoms[resolved, :3].astype(np.float64)
    m = len(known)
    follows = np.diff(np.flatnonzero(resolved), prepend=-2) == 1  # the residue before it is resolved too
    known = _turned(known) if m > 2 else known - known[:1, CA : CA + 1]
    angles, free, steps = np.zeros((m, 2), np.uint8), np.zeros(m, bool), list[Vector]()
    walker, frames = _Walker(), np.zeros((m, 3, 3))
    for i, target in enumerate(map(tuple, known[:, CA].tolist())):
        if i:
            bend, turn = walker.angles_to(target)
            following = walker.stepped(bend, turn)
            off = _minus(following.at, target)
            if not follows[i] or _dot(off, off) > OFF**2:
                free[i] = True
                steps.append(_whole(_minus(target, walker.at)))
                walker = walker.moved(_scaled(steps[-1]))
            else:
                angles[i], walker = (3 * turn, bend), following
        frames[i] = walker.at, walker.u, walker.n
    angles[:, 1] += PLANES * _planes(known, frames, follows)
    placed = _placed(angles, frames, follows)
    apart = np.nan_to_num(np.linalg.norm(placed - known, axis=-1), nan=np.inf)
    kept: np.ndarray = (apart[:, [N, C]] > AWAY).any(-1)
    about = known[kept][:, [N, C]] - known[kept, CA : CA + 1]
    own = np.round(np.clip(about, -FAR, FAR) / FINE).astype(np.int8)
    return Code(resolved, angles, free, np.array(steps, np.int16).reshape(-1, 3), kept, own)


def decode(code: Code) -> np.ndarray:
    """[n, 3, 3] float32 N, CA, C in angstrom, in a frame of the code's own; NaN where nothing is known."""
    follows = np.diff(np.flatnonzero(code.resolved), prepend=-2) == 1
    steps = iter(code.steps.tolist())
    walker, frames = _Walker(), np.zeros((len(code.angles), 3, 3))
    for i, ((turn, low), free) in enumerate(zip(code.angles.tolist(), code.free.tolist(), strict=True)):
        if i:
            walker = walker.moved(_scaled(next(steps))) if free else walker.stepped(low % BENDS, turn // 3)
        frames[i] = walker.at, walker.u, walker.n
    atoms = _placed(code.angles, frames, follows)
    at = frames[code.kept, 0]
    atoms[code.kept, N], atoms[code.kept, C] = (code.own[:, k].astype(np.float64) * FINE + at for k in range(2))
    full = np.full((len(code.resolved), 3, 3), np.nan, np.float32)
    full[code.resolved] = atoms
    return full


def _turned(known: np.ndarray) -> np.ndarray:
    """The chain with its first CA at the origin and its first two steps where levels of bend and turn are, the second as near as may be."""
    bend = (LEAST_BEND + BEND * (BENDS // 2)) * pi / 180
    first = np.array([cos(bend), sin(bend), 0.0])
    wanted = np.stack([first, [-sin(bend), cos(bend), 0.0], [0.0, 0.0, 1.0]])
    x, y = np.diff(known[:3, CA], axis=0)
    x = x / (np.linalg.norm(x) or 1.0)
    y = y - (y @ x) * x
    y = y / (np.linalg.norm(y) or 1.0)
    return (known - known[0, CA]) @ np.stack([x, y, np.cross(x, y)], 1) @ wanted


def _whole(step: Vector) -> Vector:
    counts = tuple(round(x / GRID) for x in step)
    if max(map(abs, counts)) > 32_000:
        raise ValueError("a chain has a gap of more than 3,200 angstrom")
    return counts  # type: ignore[return-value]


def _scaled(counts: Vector) -> Vector:
    return counts[0] * GRID, counts[1] * GRID, counts[2] * GRID


def _planes(known: np.ndarray, frames: np.ndarray, follows: np.ndarray) -> np.ndarray:
    """[m] uint8 level of where C and the next N lie about the line between two neighbouring CA atoms; at the second of them."""
    at = np.flatnonzero(follows)
    turn = np.zeros(len(known))
    if len(at):
        side, third, plane = _axes(frames, at)
        shift = frames[at - 1, 0] - known[at - 1, CA], frames[at, 0] - known[at, CA]
        c, n = known[at - 1, C] + shift[0], known[at, N] + shift[1]
        lean = (c - frames[at - 1, 0]) * plane[:, :1, 1] + (n - frames[at - 1, 0]) * plane[:, 1:, 1]
        turn[at] = np.arctan2((lean * third).sum(-1), (lean * side).sum(-1))
    return (np.round(turn * PLANES / (2 * np.pi)).astype(np.int64) % PLANES).astype(np.uint8)


def _placed(angles: np.ndarray, frames: np.ndarray, follows: np.ndarray) -> np.ndarray:
    """[m, 3, 3] N, CA, C: CA where the walker was, C and N by the planes, NaN at ends."""
    atoms = np.full((len(angles), 3, 3), np.nan)
    atoms[:, CA] = frames[:, 0]
    at = np.flatnonzero(follows)
    if len(at):
        side, third, plane = _axes(frames, at)
        angle = (angles[at, 1] // PLANES) * (2 * np.pi / PLANES)
        away = np.cos(angle)[:, None] * side + np.sin(angle)[:, None] * third
        points = frames[at - 1, None, 0] + plane[..., :1] * frames[at, None, 1] + plane[..., 1:] * away[:, None]
        atoms[at - 1, C], atoms[at, N] = points[:, 0], points[:, 1]
    return atoms


def _axes(frames: np.ndarray, at: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Two unit vectors [k, 3] across the steps to residues `at`, and the plane [k, 2, 2] by their lengths, stretched to these."""
    third = frames[at, 2]
    apart = np.linalg.norm(frames[at, 0] - frames[at - 1, 0], axis=-1)
    cis = apart < _SPLIT
    plane = _PEPTIDES[cis.astype(int)].copy()
    plane[..., 0] *= (apart / np.where(cis, _CIS, _TRANS))[:, None]
    return np.cross(third, frames[at, 1]), third, plane
