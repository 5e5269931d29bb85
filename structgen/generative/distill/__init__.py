"""Fewer steps: students of a teacher's trajectories, and flows that need no teacher. Each is an `Objective`, or makes pairs for one."""

from structgen.generative.distill.consistency import (
    Consistency,
    GapWeight,
    PseudoHuber,
    doubling_steps,
    even,
    growing_steps,
    inverse_gap,
    target_decay,
)
from structgen.generative.distill.continuous import ContinuousConsistency
from structgen.generative.distill.meanflow import MeanFlow, Mixed
from structgen.generative.distill.pairs import Adjacent, Proportional, Sorted, TimePairs
from structgen.generative.distill.progressive import Progressive, halvings
from structgen.generative.distill.reflow import as_given, reflow_pairs
from structgen.generative.distill.tangent import Square, mean_square
from structgen.generative.distill.teacher import Teacher, with_weights

__all__ = [
    "Adjacent",
    "Consistency",
    "ContinuousConsistency",
    "GapWeight",
    "MeanFlow",
    "Mixed",
    "Progressive",
    "Proportional",
    "PseudoHuber",
    "Sorted",
    "Square",
    "Teacher",
    "TimePairs",
    "as_given",
    "doubling_steps",
    "even",
    "growing_steps",
    "halvings",
    "inverse_gap",
    "mean_square",
    "reflow_pairs",
    "target_decay",
    "with_weights",
]
