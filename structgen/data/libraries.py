"""What goes into a structure library: the training chains of a set, or every protein chain of a folder of structure files."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from structgen.data.alignments import read_alignment
from structgen.data.sources import structure_files
from structgen.errors import InputError
from structgen.features.chains import ChainSet
from structgen.io.structures import Polymer, read_entry
from structgen.io.textfile import read_text_bytes
from structgen.search.columns import frequencies_of
from structgen.search.library import LibraryChain


@dataclass(frozen=True)
class LibrarySettings:
    """Which chains are taken."""

    shortest: int = 20  # residues
    words: int = 6  # letters of the words by which near copies are told
    shared: float = 0.7  # a chain with so large a share of its words in one taken before, of its group, is left out: about 95 % identity
    max_resolution: float = 4.0  # angstrom, where it is known
    max_date: str = ""  # latest release, YYYY-MM-DD


def chains_of_set(chains: ChainSet, settings: LibrarySettings, split: str = "train") -> Iterator[LibraryChain]:
    """The chains of a split, cluster by cluster, longer ones first, without near copies. Nothing of other splits."""
    for cluster in chains.clusters(chains.split(split)):
        order = sorted(cluster, key=lambda i: (-chains.length(i), chains.rows[i]["id"]))
        order = [i for i in order if chains.length(i) >= settings.shortest and _resolution(chains, i) <= settings.max_resolution]
        for i in _distinct(order, chains.sequence, settings):
            record = chains[i]
            atoms = np.where(record.mask[:, :3, None], record.positions[:, :3], np.nan)
            yield LibraryChain(record.id, chains.rows[i].get("chain", ""), "", record.sequence, atoms, record.profile)


def with_profiles(chains: Iterable[LibraryChain], alignments: Path) -> Iterator[LibraryChain]:
    """The chains, with profiles from a folder of `structgen data profiles` for those that have none and an alignment there."""
    for chain in chains:
        found = read_alignment(alignments, chain.sequence) if chain.profile is None else None
        yield chain if found is None else replace(chain, profile=frequencies_of(found))


def _resolution(chains: ChainSet, i: int) -> float:
    return float(chains.rows[i].get("resolution") or 0)


def chains_of_folder(folder: Path, settings: LibrarySettings, refuse: Callable[[str, str], None]) -> Iterator[LibraryChain]:
    """Every distinct protein chain of a folder's structure files in the order of their names; `refuse` hears what is left out and why."""
    seen: set[str] = set()
    for name in structure_files(str(folder)):
        try:
            entry = read_entry(read_text_bytes(folder / name), name)
        except InputError as error:
            refuse(name, error.message)
            continue
        if entry.structure.resolution > settings.max_resolution:
            refuse(name, "resolution")
        elif settings.max_date and not (entry.released and entry.released <= settings.max_date):
            refuse(name, "released later, or at an unknown date")
        else:
            for polymer in entry.proteins:
                if len(polymer.sequence) >= settings.shortest and polymer.sequence not in seen:
                    seen.add(polymer.sequence)
                    yield LibraryChain(Path(name).name, polymer.name, entry.released, polymer.sequence, _atoms(polymer))


def _atoms(polymer: Polymer) -> np.ndarray:
    """[n, 3, 3] N, CA, C, NaN where one of them is not resolved."""
    backbone = polymer.backbone()
    atoms = np.full((len(polymer.sequence), 3, 3), np.nan)
    atoms[backbone.frame_mask] = backbone.frame[backbone.frame_mask]
    return atoms


def _distinct(order: list[int], sequence: Callable[[int], str], settings: LibrarySettings) -> Iterator[int]:
    """Those of which not nearly all words are in one that came before."""
    taken: list[set[str]] = []
    for i in order:
        text = sequence(i)
        words = {text[k : k + settings.words] for k in range(len(text) - settings.words + 1)}
        if not any(len(words & other) >= settings.shared * len(words) for other in taken):
            taken.append(words)
            yield i
