"""Templates of chains without a near relative, by three searches: `python -m benchmarks.remote_relatives LIBRARY --chains DIR`.

phmmer with the sequence and hmmsearch with a profile (AlphaFold 3's search; the profile is built of sequences drawn from the frequencies)
over the sequences of a structure library, and the comparison of profiles with its columns. The CA atoms of the best hit on the alignment
are scored against the truth, 0 where nothing is found. Every query is searched backwards too, by the comparison of profiles, which finds
nothing but chance. Prints Markdown: what each search finds, and what hits are worth by their E-value.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice, pairwise
from pathlib import Path

import numpy as np

from structgen.features import chemistry
from structgen.features.chains import ChainRecord, ChainSet
from structgen.features.msa import Msa
from structgen.metrics.trace import score_trace
from structgen.search.columns import columns_of
from structgen.search.library import Library, open_library
from structgen.search.remote import RemoteLibrary, remote_hits
from structgen.search.template_index import TemplateIndex, library_index
from structgen.search.templates import Hit, TemplateSettings, hits

DRAWN = 100  # sequences of a profile
SURE = 0.01  # E-value up to which a hit counts as found: that of `TemplateSettings`
BINS = (0.0, 1e-10, 1e-5, 1e-3, 1e-2, 1e-1, 1.0)


@dataclass(frozen=True)
class Target:
    """A chain and how it may be searched."""

    record: ChainRecord
    frequencies: np.ndarray | None

    @property
    def alignment(self) -> Msa | None:
        """Sequences drawn from the frequencies, column by column, after the chain's own."""
        if self.frequencies is None:
            return None
        own = chemistry.encode(self.record.sequence, chemistry.RESIDUE_OF_LETTER).astype(np.uint8)
        rng = np.random.default_rng(len(own))
        known = self.frequencies.sum(1) > 0.5
        edges = np.cumsum(np.where(known[:, None], self.frequencies, 0.05), 1)
        drawn = (rng.random((DRAWN, len(own), 1)) * edges[:, -1:] > edges).sum(-1).clip(0, 19).astype(np.uint8)
        rows = np.concatenate([own[None], np.where(known, drawn, own)])
        return Msa(rows, np.zeros(rows.shape, np.int32), tuple(map(str, range(len(rows)))))


@dataclass(frozen=True, eq=False)
class Searches:
    """All of them over one library."""

    library: Library
    columns: RemoteLibrary
    index: TemplateIndex
    settings: TemplateSettings

    def sequence(self, target: Target) -> list[tuple[int, Hit]]:
        """phmmer."""
        return self._numbered(hits(target.record.sequence, None, self.index, self.settings))

    def profile(self, target: Target) -> list[tuple[int, Hit]]:
        """hmmsearch; phmmer where nothing but the sequence is known."""
        return self._numbered(hits(target.record.sequence, target.alignment, self.index, self.settings))

    def remote(self, target: Target, *, backwards: bool = False) -> list[tuple[int, Hit]]:
        """Profile by profile."""
        columns = columns_of(target.record.sequence, target.frequencies)
        columns = columns[::-1].copy() if backwards else columns
        found = islice(remote_hits(columns, self.columns, e_value=1.0), 20)
        return [(hit.chain, Hit(self.library.sequences[hit.chain], hit.e_value, hit.own, hit.other)) for hit in found]

    def _numbered(self, found: list[Hit]) -> list[tuple[int, Hit]]:
        """With the number of the first chain of the sequence."""
        return [(int(self.index.sequences[hit.sequence][0][0].name.rpartition(":")[2]), hit) for hit in found]


def copied(library: Library, target: ChainRecord, number: int, hit: Hit) -> float:
    """TM-score of the hit's CA atoms on the chain, with fixed correspondence."""
    backbone = library.backbone(number)
    trace = np.full((len(target.sequence), 3), np.nan)
    trace[hit.own] = np.where(backbone.frame_mask[:, None], backbone.frame[:, 1], np.nan)[hit.other]
    return score_trace(trace, target.positions[:, 1], target.mask[:, 1]).tm


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("library", type=Path)
    parser.add_argument("--chains", type=Path, required=True)
    parser.add_argument("--split", default="val")
    parser.add_argument("--limit", type=int, default=0, help="chains of each kind")
    own = parser.parse_args()
    chains, library = ChainSet(own.chains), open_library(own.library)
    if library.remote is None:
        raise SystemExit(f"{own.library}: has no profiles")
    searches = Searches(library, library.remote, library_index(own.library), TemplateSettings(e_value=1.0))
    judged = chains.split(own.split, primary=True)
    kinds: dict[str, list[Target]] = {
        "profile": [Target(chains[i], chains[i].profile) for i in judged if chains.has_profile(i)][: own.limit or None],
        "sequence": [Target(chains[i], None) for i in judged if not chains.has_profile(i)][: own.limit or None],
    }
    ways: dict[str, Callable[[Target], list[tuple[int, Hit]]]] = {
        "phmmer": searches.sequence,
        "hmmsearch": searches.profile,
        "profiles compared": searches.remote,
    }
    for kind, targets in kinds.items():
        print(f"\n{len(targets)} targets, {kind}\n\n| search | found (E <= {SURE:g}) | TM-score | above 0.5 | seconds a query |")
        print("| --- | --- | --- | --- | --- |", flush=True)
        best = dict[str, list[tuple[float, float]]]()
        for name, search in ways.items():
            if name == "hmmsearch" and kind == "sequence":
                continue
            seconds, best[name] = list[float](), list[tuple[float, float]]()
            for target in targets:
                started = time.perf_counter()
                found = search(target)
                seconds.append(time.perf_counter() - started)
                best[name].append((found[0][1].e_value, copied(library, target.record, *found[0])) if found else (np.inf, 0.0))
            values = np.array(best[name])
            sure = values[:, 0] <= SURE
            score = np.where(sure, values[:, 1], 0)
            print(f"| {name} | {sure.sum()} | {score.mean():.3f} | {(score > 0.5).sum()} | {np.median(seconds):.1f} |", flush=True)
        reversed_ = [searches.remote(target, backwards=True) for target in targets]
        backwards = np.array([found[0][1].e_value if found else np.inf for found in reversed_])
        values = np.array(best["profiles compared"])
        print("\n| E-value of the best hit | targets | TM-score | above 0.5 | reversed targets |")
        print("| --- | --- | --- | --- | --- |")
        for low, high in pairwise(BINS):
            inside = (values[:, 0] > low) & (values[:, 0] <= high)
            mean = f"{values[inside, 1].mean():.2f} | {(values[inside, 1] > 0.5).sum()}" if inside.any() else " | "
            chance = ((backwards > low) & (backwards <= high)).sum()
            print(f"| {low:g} to {high:g} | {inside.sum()} | {mean} | {chance} |", flush=True)


if __name__ == "__main__":
    main()
