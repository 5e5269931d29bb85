"""Training chains put aside to be predicted from a relative: the `homolog` split.

A target's best relative that stays in training has an identity within its bin; everything nearer to it leaves training too. Targets are
chosen in the order of the sha256 of their names, one a cluster, so the same archive gives the same split.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from pyhmmer.easel import DigitalSequenceBlock

from structgen.data.relatives import Found, find
from structgen.features.chains import ChainSet, Holdout, name_hash
from structgen.search.nearest import block_of

CA = 1


@dataclass(frozen=True)
class HomologSettings:
    """What a target is. Identities are shares of the residues that phmmer's best domain aligns."""

    bins: tuple[tuple[float, float], ...] = ((0.30, 0.50), (0.50, 0.70), (0.70, 0.95))
    each: int = 100
    length: tuple[int, int] = (40, 350)
    min_coverage: float = 0.7  # of the target by its relative
    min_resolved: float = 0.95  # of its residues, and of their atoms
    max_removed: int = 12  # chains that leave training because of one target
    short: int = 20  # residues: a hit on fewer says nothing


@dataclass(frozen=True, eq=False)
class _Training:
    """Sequences that a target is compared with."""

    sequences: Mapping[str, str]

    @cached_property
    def block(self) -> DigitalSequenceBlock:
        return block_of(self.sequences)

    def hits(self, name: str) -> list[Found]:
        return [hit for hit in find(self.sequences[name], self.sequences, self.block) if hit.name != name]


@dataclass(frozen=True)
class _Target:
    name: str
    bin: int
    relative: Found
    removed: tuple[str, ...]


def choose_homologs(chains: ChainSet, settings: HomologSettings) -> list[Holdout]:
    """Targets and the chains that leave training with them, in the order of choice. Every relative stays in training."""
    training = _Training({chains.rows[i]["id"]: chains[i].sequence for i in chains.split("train")})
    chosen = list[_Target]()
    gone: set[str] = set()
    needed: set[str] = set()
    for names, cluster in _clusters(chains, settings):
        counts = [sum(t.bin == b for t in chosen) for b in range(len(settings.bins))]
        if min(counts) >= settings.each:
            break
        wanted = [b for b in np.argsort(counts, kind="stable").tolist() if counts[b] < settings.each]
        target = _choose(names, cluster, training, wanted, settings, gone, needed)
        if target is not None:
            chosen.append(target)
            gone |= {target.name, *target.removed}
            needed.add(target.relative.name)
    return [row for target in chosen for row in _rows(target, settings)]


def _clusters(chains: ChainSet, settings: HomologSettings) -> Iterator[tuple[list[str], _Training]]:
    """Possible targets and all members of every training cluster, in the order of the hash of the first target."""
    found = []
    for cluster in chains.clusters(chains.split("train")):
        members = {chains.rows[i]["id"]: chains[i].sequence for i in cluster}
        names = sorted((chains.rows[i]["id"] for i in cluster if len(cluster) > 1 and _is_sound(chains, i, settings)), key=name_hash)
        if names:
            found.append((names, _Training(members)))
    yield from sorted(found, key=lambda pair: name_hash(pair[0][0]))


def _is_sound(chains: ChainSet, i: int, settings: HomologSettings) -> bool:
    """A full-atom chain of known letters and the right length, resolved nearly everywhere."""
    low, high = settings.length
    if chains.rows[i]["tier"] != "full" or not low <= chains.length(i) <= high:
        return False
    record = chains[i]
    atoms = record.mask.sum() / max(1, sum(ATOMS[letter] for letter in record.sequence))
    return "X" not in record.sequence and record.mask[:, CA].mean() >= settings.min_resolved and atoms >= settings.min_resolved


ATOMS = dict(zip("ARNDCQEGHILKMFPSTWYVX", (5, 11, 8, 8, 6, 9, 9, 4, 10, 8, 8, 9, 8, 11, 7, 6, 7, 14, 12, 7, 5), strict=True))
"""Heavy atoms of every residue but OXT."""


def _choose(
    names: Sequence[str],
    cluster: _Training,
    training: _Training,
    wanted: Sequence[int],
    settings: HomologSettings,
    gone: set[str],
    needed: set[str],
) -> _Target | None:
    """The first member that can be a target of the emptiest bin possible; a look at its cluster comes before the search of all."""
    for name in names[:8]:
        if name in gone or name in needed:
            continue
        near = cluster.hits(name)
        for b in wanted:
            if _target(name, b, near, settings, gone, needed) is not None:
                target = _target(name, b, training.hits(name), settings, gone, needed)
                if target is not None:
                    return target
    return None


def _target(name: str, b: int, hits: Iterable[Found], settings: HomologSettings, gone: set[str], needed: set[str]) -> _Target | None:
    """The target if what stays of the hits has its best identity in bin b, and little has to go."""
    low, high = settings.bins[b]
    hits = [hit for hit in hits if hit.name not in gone and len(hit.own) >= settings.short]
    removed = tuple(hit.name for hit in hits if hit.identity >= high)
    if len(removed) > settings.max_removed or needed & set(removed):
        return None
    stay = [hit for hit in hits if hit.identity < high and hit.coverage >= settings.min_coverage]
    best = max(stay, key=lambda hit: (hit.identity, hit.name), default=None)
    return _Target(name, b, best, removed) if best is not None and best.identity >= low else None


def _rows(target: _Target, settings: HomologSettings) -> Iterator[Holdout]:
    low, high = settings.bins[target.bin]
    span, best = f"{100 * low:.0f}-{100 * high:.0f}", target.relative
    yield Holdout(target.name, "homolog", span, best.name, round(best.identity, 4), round(best.coverage, 4))
    for name in target.removed:
        yield Holdout(name, "left_out", span, target.name, 0.0, 0.0)


HEAD = """\
# Chains of a set that are taken out of its training split: `homolog` to be predicted from the relative named, which stays in training;
# `left_out` because they are nearer to such a target (named as their relative) than its bin allows.
# Made by: structgen data homologs DIR homolog.tsv
"""


def write_holdout(rows: Sequence[Holdout]) -> str:
    """The text of the table."""
    lines = [f"{r.id}\t{r.split}\t{r.bin}\t{r.relative}\t{r.identity:.4f}\t{r.coverage:.4f}\n" for r in rows]
    return HEAD + "id\tsplit\tbin\trelative\tidentity\tcoverage\n" + "".join(lines)
