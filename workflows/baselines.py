"""What a prediction is compared with: a helix, a training chain of the length, the nearest one, a copied template. None needs a model."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from pyhmmer.easel import DigitalSequenceBlock

from structgen.features.chains import ChainRecord
from structgen.features.templates import Templates
from structgen.metrics.closing import close_gaps
from structgen.metrics.trace import ideal_helix, score_trace
from structgen.search.copied import copied_trace
from structgen.search.nearest import block_of, nearest
from structgen.search.template_index import TemplateIndex
from structgen.search.templates import TemplateSettings, find_templates

CA = 1
Row = dict[str, Any]


class Chains(Protocol):
    """Known chains by number: a set of chains, or an archive."""

    def __getitem__(self, i: int, /) -> ChainRecord: ...

    def split(self, name: str, *, primary: bool = False) -> list[int]:
        """Numbers of the chains of a split."""

    def length(self, i: int) -> int: ...

    def sequence(self, i: int) -> str: ...

    def has_profile(self, i: int) -> bool: ...

    def name(self, i: int) -> str: ...

    def clusters(self, indices: Sequence[int]) -> list[list[int]]:
        """The given chains grouped by cluster."""


@dataclass(frozen=True, eq=False)
class Trained:
    """The training chains, searched by phmmer and drawn from by length."""

    chains: Chains
    seed: int

    @cached_property
    def _order(self) -> list[int]:
        """Training chains, shorter ones first."""
        return sorted(self.chains.split("train"), key=lambda i: (self.chains.length(i), i))

    @cached_property
    def _block(self) -> DigitalSequenceBlock:
        """Their sequences, named by number."""
        return block_of({str(i): self.chains.sequence(i) for i in self._order})

    def random(self, sequence: str) -> np.ndarray:
        """The first residues of a training chain drawn from those of the same length, or of the next length that there is."""
        length = len(sequence)
        sizes = np.array([self.chains.length(i) for i in self._order])
        first = min(int(np.searchsorted(sizes, length)), len(sizes) - 1)
        last = int(np.searchsorted(sizes, sizes[first], side="right"))
        rng = np.random.default_rng([self.seed, *sequence.encode()])
        trace = _trace(self.chains[self._order[int(rng.integers(first, last))]])
        return np.concatenate([trace[:length], np.full((max(0, length - len(trace)), 3), np.nan)])

    def nearest(self, sequence: str) -> np.ndarray | None:
        """The best phmmer hit's CA atoms on the residues that its alignment pairs; None where there is no hit."""
        found = nearest(sequence, self._block)
        if found is None:
            return None
        trace = np.full((len(sequence), 3), np.nan)
        trace[found.own] = _trace(self.chains[int(found.name)])[found.other]
        return trace


def _trace(record: ChainRecord) -> np.ndarray:
    return np.where(record.mask[:, CA, None], record.positions[:, CA], np.nan)


@dataclass(frozen=True, eq=False)
class Structures:
    """Structures that are searched for templates: a library, or a folder of files."""

    path: Path
    index: TemplateIndex
    settings: TemplateSettings

    def templates(self, sequence: str, frequencies: np.ndarray | None = None) -> Templates:
        """What predictions would be given by the sequence, and by the frequencies [n, 20] of its homologues where they are known."""
        return find_templates(sequence, None, self.index, self.path, self.settings, frequencies)


@dataclass(frozen=True, eq=False)
class Baselines:
    """All that is compared with; what needs training chains or structures is left out where there are none."""

    trained: Trained | None = None
    structures: Structures | None = None

    def searched(self) -> Row:
        """What decides the templates, as plain JSON."""
        own = self.structures
        return {"structures": own.index.digest, "template_search": dataclasses.asdict(own.settings)} if own else {"structures": ""}

    def traces(self, sequence: str, templates: Templates | None) -> dict[str, np.ndarray | None]:
        """CA traces [n, 3] of a chain by name, NaN where one says nothing of a residue; None where nothing was found."""
        found: dict[str, np.ndarray | None] = {"helix": ideal_helix(len(sequence))}
        if self.trained is not None:
            found |= {"random": self.trained.random(sequence), "nearest": self.trained.nearest(sequence)}
        return found | ({"copied": copied_trace(templates)} if templates is not None else {})


def trace_row(trace: np.ndarray | None, true: np.ndarray, resolved: np.ndarray) -> Row | None:
    """Scores of a trace, None where there is none."""
    return None if trace is None else dataclasses.asdict(score_trace(trace, true, resolved))


def closed_row(templates: Templates, trace: np.ndarray, true: np.ndarray, resolved: np.ndarray) -> Row | None:
    """Scores of the best template with its gaps closed by a prediction that knew no templates; None where there is no template."""
    copied = copied_trace(templates)
    return None if copied is None else trace_row(close_gaps(copied, trace), true, resolved)


def joined(parts: list[Row | None], residues: list[int]) -> Row | None:
    """Scores of several chains, each superposed by itself, as means by resolved residues; a chain without any counts 0. None if all are."""
    if all(part is None for part in parts):
        return None
    names = next(part for part in parts if part is not None)
    share = np.array(residues, np.float64) / sum(residues)
    return {name: _mean([_value(part, name) for part in parts], share) for name in names}


def _value(part: Row | None, name: str) -> float:
    if part is None:
        return float("nan") if name == "rmsd" else 0.0
    return float(part[name])


def _mean(values: list[float], share: np.ndarray) -> float:
    known = np.isfinite(values)
    return float(np.average(np.array(values)[known], weights=share[known])) if known.any() else float("nan")
