"""Clusters of sequences at an identity, and splits of whole clusters: both depend on the sequences alone, not on their order."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from structgen.data.relatives import find
from structgen.errors import StructgenError
from structgen.search.nearest import block_of

MMSEQS = "mmseqs"


@dataclass(frozen=True)
class ClusterSettings:
    """When a sequence belongs to a longer one: share of equal aligned residues, and of its own residues that are aligned."""

    identity: float = 0.3
    coverage: float = 0.5
    e_value: float = 1e-3
    use_mmseqs: bool = True  # where the program is there; else phmmer in process


@dataclass(frozen=True)
class SplitSettings:
    """Shares of the clusters that are held out, and no more than so many entries of one cluster may be."""

    val: float = 0.01
    test: float = 0.01
    largest: int = 50


class ClusteringError(StructgenError):
    """mmseqs2 failed."""


def cluster(sequences: Sequence[str], settings: ClusterSettings) -> dict[str, str]:
    """Every distinct sequence to the representative of its cluster."""
    distinct = sorted(set(sequences), key=lambda sequence: (-len(sequence), sequence))
    if settings.use_mmseqs and shutil.which(MMSEQS) and len(distinct) > 1:
        return _by_mmseqs(distinct, settings)
    return _greedily(distinct, settings)


def tool(settings: ClusterSettings) -> str:
    """What `cluster` uses here."""
    return "mmseqs2 easy-cluster" if settings.use_mmseqs and shutil.which(MMSEQS) else "phmmer, greedy by length"


def _greedily(distinct: Sequence[str], settings: ClusterSettings) -> dict[str, str]:
    """The longest sequence that has no cluster begins one and takes all shorter ones that are near enough (as CD-HIT does)."""
    named = {str(number): sequence for number, sequence in enumerate(distinct)}
    block, found = block_of(named), dict[str, str]()
    for sequence in distinct:
        if sequence in found:
            continue
        found[sequence] = sequence
        for hit in find(sequence, named, block, settings.e_value) if len(sequence) >= 10 else ():
            other = named[hit.name]
            if other not in found and hit.identity >= settings.identity and len(hit.other) >= settings.coverage * len(other):
                found[other] = sequence
    return found


def _by_mmseqs(distinct: Sequence[str], settings: ClusterSettings) -> dict[str, str]:
    with tempfile.TemporaryDirectory() as folder:
        fasta, out = Path(folder) / "all.fasta", Path(folder) / "out"
        fasta.write_text("".join(f">{number}\n{sequence}\n" for number, sequence in enumerate(distinct)))
        options = ["--min-seq-id", str(settings.identity), "-c", str(settings.coverage), "--cov-mode", "1", "-e", str(settings.e_value)]
        command = [MMSEQS, "easy-cluster", str(fasta), str(out), str(Path(folder) / "tmp"), *options, "-s", "7", "-v", "1"]
        result = subprocess.run(command, capture_output=True, text=True)
        if result.returncode:
            raise ClusteringError(f"mmseqs easy-cluster failed: {(result.stderr or result.stdout).strip()[-300:]}")
        pairs = [line.split("\t") for line in (Path(folder) / "out_cluster.tsv").read_text().splitlines()]
    return {distinct[int(member)]: distinct[int(representative)] for representative, member in pairs}


def split_entries(clusters: Sequence[Sequence[str]], settings: SplitSettings) -> list[str]:
    """train, val or test for every entry, given the clusters of its chains: two entries that share a cluster are in one split.

    Entries that hang together by clusters form groups; a group's hash decides, and large groups stay in training.
    """
    group = _groups(clusters)
    sizes = Counter(group)
    return [_split_of(name, settings) if sizes[name] <= settings.largest else "train" for name in group]


def _split_of(group: str, settings: SplitSettings) -> str:
    place = int.from_bytes(hashlib.sha256(f"split {group}".encode()).digest()[:8], "big") / 2**64
    return "val" if place < settings.val else "test" if place < settings.val + settings.test else "train"


def _groups(clusters: Sequence[Sequence[str]]) -> list[str]:
    """The first cluster by name of everything that each entry hangs together with (union-find)."""
    parent: dict[str, str] = {}

    def root(name: str) -> str:
        while parent.setdefault(name, name) != name:
            parent[name] = parent[parent[name]]
            name = parent[name]
        return name

    for own in clusters:
        for name in own:
            first, second = sorted((root(own[0]), root(name)))
            parent[second] = first
    return [root(own[0]) for own in clusters]


def names_of(representative: Mapping[str, str]) -> dict[str, str]:
    """A short stable name for the cluster of every sequence: the beginning of its representative's sha256."""
    return {sequence: hashlib.sha256(longest.encode()).hexdigest()[:12] for sequence, longest in representative.items()}
