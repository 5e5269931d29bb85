"""The usual scores of a CA trace against the truth, the same for a model and for what it is compared with."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from structgen.metrics.lddt import lddt
from structgen.metrics.rmsd import rmsd
from structgen.metrics.tm import gdt, tm_score

FEWEST = 4  # points; fewer superpose on anything


@dataclass(frozen=True)
class TraceScores:
    """lDDT, TM-score and GDT_TS from 0 to 1, over all resolved residues; RMSD in angstrom over those that the trace covers."""

    lddt: float
    tm: float
    gdt_ts: float
    rmsd: float  # NaN where fewer than four residues are covered
    mirror: bool  # the mirror image superposes better
    coverage: float  # share of the resolved residues that have a position in the trace


def score_trace(trace: np.ndarray, true: np.ndarray, resolved: np.ndarray) -> TraceScores:
    """Scores of `trace` [n, 3], NaN where it says nothing of a residue, against `true` [n, 3], known where `resolved` [n].

    Residue i of one is residue i of the other. What is not covered counts as wrong in lDDT, TM-score and GDT_TS.
    """
    covered = resolved & np.isfinite(trace).all(-1)
    local = lddt(trace, true, np.arange(len(true)), mask=resolved)
    known, share = int(resolved.sum()), float(covered.sum() / resolved.sum())
    if covered.sum() < FEWEST:
        return TraceScores(lddt=local, tm=0.0, gdt_ts=0.0, rmsd=float("nan"), mirror=False, coverage=share)
    mine, target = trace[covered].astype(np.float64), true[covered].astype(np.float64)
    deviation = rmsd(mine, target)
    return TraceScores(
        lddt=local,
        tm=tm_score(mine, target, known),
        gdt_ts=gdt(mine, target, length=known),
        rmsd=deviation,
        mirror=rmsd(mine * [1, 1, -1], target) < deviation,
        coverage=share,
    )


def ideal_helix(residues: int) -> np.ndarray:
    """[n, 3] CA trace in angstrom of a right-handed alpha helix: 100 degrees and 1.5 angstrom a residue, radius 2.3 angstrom."""
    turn = np.radians(100.0) * np.arange(residues)
    return np.stack([2.3 * np.cos(turn), 2.3 * np.sin(turn), 1.5 * np.arange(residues)], axis=-1)
