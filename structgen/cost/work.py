"""What is to be computed, in the numbers on which its cost depends."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from structgen.alphafold3.config import Msa, Sampling
from structgen.features.tokens import Tokens


@dataclass(frozen=True)
class Work:
    """One fold: one seed of one job."""

    tokens: int
    atoms: int
    rows: int  # of the job's alignment, the query among them
    templates: int
    samples: int
    steps: int
    cycles: int
    at_once: int = 0  # samples that are denoised together; 0: all

    @property
    def together(self) -> int:
        """How many samples are denoised at once."""
        return min(self.at_once or self.samples, self.samples)

    def in_parts(self, at_once: int) -> Work:
        """The same with so many samples at once."""
        return replace(self, at_once=at_once)


def work_of(tokens: Tokens, sampling: Sampling, *, rows: int, templates: int = 0) -> Work:
    """The fold of a tokenised job."""
    return Work(
        tokens=len(tokens.residue),
        atoms=len(tokens.atom_token),
        rows=rows,
        templates=templates,
        samples=sampling.samples,
        steps=sampling.steps,
        cycles=sampling.cycles,
    )


def most_rows(rows: int, msa: Msa) -> int:
    """The most rows that a cycle reads."""
    return min(rows, msa.rows)


def mean_rows(rows: int, msa: Msa) -> float:
    """How many rows a cycle reads on average: with `random_depth` their number is uniform between 1 and the depth, then cut."""
    if msa.subset != "random_depth" or not rows:
        return float(most_rows(rows, msa))
    cut = min(rows, msa.rows)
    return (cut * (cut + 1) / 2 + (rows - cut) * cut) / rows


def smaller_parts(samples: int) -> Sequence[int]:
    """How many samples at once to try, from all of them down to one: each about half of the one before."""
    sizes = [samples]
    while sizes[-1] > 1:
        sizes.append((sizes[-1] + 1) // 2)
    return sizes
