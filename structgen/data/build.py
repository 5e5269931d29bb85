"""How an archive is made, step by step: entries, index, relatives, and the mark that says that all of it is there.

Every step works part by part, and a part that is marked is never made again: a build that was killed at any instant goes on where it was,
and ends with the same bytes as one that was not. Nothing here knows where it runs.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from structgen.data.archive import FORMAT, Parts, open_parts
from structgen.data.clustering import ClusterSettings, SplitSettings, cluster, names_of, split_entries, tool
from structgen.data.packing import pack
from structgen.data.parts import MARK, is_committed, mark_digest, write_part
from structgen.data.relatives import Found, RelativeSettings, relatives_in
from structgen.data.sources import Source, chain_sequences
from structgen.errors import ConfigError
from structgen.features.job import Kind
from structgen.store import canonical_json, replace_file

PROTEIN = 0


@dataclass(frozen=True)
class BuildSettings:
    """What is done with the entries of a source."""

    clusters: ClusterSettings = field(default_factory=ClusterSettings)
    splits: SplitSettings = field(default_factory=SplitSettings)
    relatives: RelativeSettings = field(default_factory=RelativeSettings)


def begin(out: Path, source: Source, settings: BuildSettings) -> None:
    """Make the archive's folder and write down what it is to be. Raises `ConfigError` where it is, or was begun as, something else."""
    identity = json.loads(canonical_json({"format": FORMAT, "source": source.identity(), "settings": asdict(settings)}))
    plan = out / "build.json"
    if plan.exists():
        if json.loads(plan.read_bytes()) != identity:
            raise ConfigError(f"{out} was begun from other data or with other settings; choose another folder, or remove it")
    else:
        out.mkdir(parents=True, exist_ok=True)
        if any(not path.name.startswith(".") for path in out.iterdir()):  # what a killed writer left begins with a dot
            raise ConfigError(f"{out} is not empty and no archive; choose another folder")
        replace_file(plan, json.dumps(identity, indent=1, sort_keys=True).encode())
    if not (out / "zarr.json").exists():
        zarr.create_group(out, zarr_format=3)


def entries_part(out: Path, part: int) -> Path:
    """Where a part of the entries lies."""
    return out / "entries" / f"part-{part:05d}"


def relatives_part(out: Path, part: int) -> Path:
    """Where the relatives of a part's chains lie."""
    return out / "relatives" / f"part-{part:05d}"


def write_entries(out: Path, source: Source, part: int) -> None:
    """Step 1: parse and filter a part of the source."""
    if is_committed(entries_part(out, part)):
        return
    kept, refused = source.read(part)
    arrays, attributes = pack(kept) if kept else ({}, {"entries": []})
    write_part(entries_part(out, part), arrays, attributes | {"refused": refused, "sequences": [chain_sequences(one) for one in kept]})


def write_index(out: Path, parts: int, settings: BuildSettings) -> None:
    """Step 2: cluster all chains and give every entry a split, unless the source says both."""
    if is_committed(out / "index"):
        return
    found = open_parts([entries_part(out, part) for part in range(parts)])
    sequences = [sequences for part in found.attributes for sequences in part["sequences"]]
    given = ["clusters" in about for about in found.about]
    clusters = [about["clusters"] for about in found.about] if all(given) else _clustered(found, sequences, settings.clusters)
    splits = [about["split"] for about in found.about] if all(given) else split_entries(clusters, settings.splits)
    names = sorted({name for own in clusters for name in own})
    number, split_names = {name: k for k, name in enumerate(names)}, sorted(set(splits))
    chains = [(e, c, found.kind(e)[c], len(sequence)) for e, own in enumerate(sequences) for c, sequence in enumerate(own)]
    pairs = [(e, *pair) for e, about in enumerate(found.about) for pair in about.get("interfaces", ())]
    write_part(
        out / "index",
        {
            "chains": np.array(chains, np.int32).reshape(-1, 4),  # entry, chain of it, kind, residues
            "clusters": np.array([number[name] for own in clusters for name in own], np.int32),
            "interfaces": np.array(pairs, np.int32).reshape(-1, 3),  # entry, two chains of it
            "splits": np.array([split_names.index(split) for split in splits], np.uint8),
        },
        {"splits": split_names, "clusters": names, "clustered": "by the source" if all(given) else tool(settings.clusters)},
    )


def _clustered(found: Parts, sequences: Sequence[Sequence[str]], settings: ClusterSettings) -> list[list[str]]:
    """Cluster names of the chains: proteins by identity; peptides below ten residues, nucleic acids and ligands by what they are."""
    every = (pair for e, own in enumerate(sequences) for pair in zip(own, found.kind(e), strict=True))
    proteins = {sequence for sequence, kind in every if kind == PROTEIN and len(sequence) >= 10}
    names = names_of(cluster(sorted(proteins), settings))
    kinds, about = [kind.value for kind in Kind], found.about

    def name(sequence: str, kind: int, code: str) -> str:
        known = names.get(sequence) if kind == PROTEIN else None
        return known or f"{kinds[kind]} {code if kinds[kind] == Kind.LIGAND.value else sequence}"

    return [
        [name(s, k, chain["code"]) for s, k, chain in zip(own, found.kind(e), about[e]["chains"], strict=True)]
        for e, own in enumerate(sequences)
    ]


def write_relatives(out: Path, parts: int, part: int, settings: RelativeSettings) -> None:
    """Step 3: for every protein chain of a part, the training chains of its cluster that are like it, and how they lie on it."""
    if is_committed(relatives_part(out, part)):
        return
    known = _proteins(out, parts)
    found = [_of_chain(known, chain, settings) for chain in known.of_part(part)]
    flat = [hit for hits in found for hit in hits]
    runs = [hit.runs for hit in flat]
    write_part(
        relatives_part(out, part),
        {
            "of": np.array([known.chains[c][:2] for c in known.of_part(part)], np.int32).reshape(-1, 2),  # entry, chain of it
            "offset": np.cumsum([0, *map(len, found)]).astype(np.int64),
            "relative": np.array([known.chains[int(hit.name)][:2] for hit in flat], np.int32).reshape(-1, 2),
            "share": np.array([(hit.identity, hit.coverage) for hit in flat], np.float32).reshape(-1, 2),
            "runs_offset": np.cumsum([0, *map(len, runs)]).astype(np.int64),
            "runs": np.concatenate([*runs, np.zeros((0, 3), np.int32)]).astype(np.uint16),
        },
        {},
    )


@dataclass(frozen=True, eq=False)
class _Proteins:
    """Every protein chain of the archive by its number in the index."""

    chains: np.ndarray  # [C, 4] as in the index
    sequences: list[str]  # [C]
    clusters: np.ndarray  # [C]
    candidates: dict[int, list[int]]  # of a cluster: training chains in the order of the hash of their names
    part_of: np.ndarray  # [entries]

    def of_part(self, part: int) -> list[int]:
        """Protein chains of a part."""
        mine = (self.part_of[self.chains[:, 0]] == part) & (self.chains[:, 2] == PROTEIN)
        return np.flatnonzero(mine).tolist()


@lru_cache(maxsize=1)
def _proteins(out: Path, parts: int) -> _Proteins:
    found = open_parts([entries_part(out, part) for part in range(parts)])
    index = zarr.open_group(out / "index", mode="r")
    chains, clusters, splits = (np.asarray(index[name][...]) for name in ("chains", "clusters", "splits"))  # type: ignore[index]
    names = list(index.attrs["splits"])  # type: ignore[arg-type]
    train = names.index("train") if "train" in names else -1
    trained = np.flatnonzero((splits[chains[:, 0]] == train) & (chains[:, 2] == PROTEIN))
    order = sorted(trained.tolist(), key=lambda c: hashlib.sha256(f"{found.about[chains[c, 0]]['name']} {chains[c, 1]}".encode()).digest())
    candidates: dict[int, list[int]] = {}
    for c in order:
        candidates.setdefault(int(clusters[c]), []).append(c)
    sequences = [s for part in found.attributes for own in part["sequences"] for s in own]
    return _Proteins(chains, sequences, clusters, candidates, found.part_of)


def _of_chain(known: _Proteins, chain: int, settings: RelativeSettings) -> list[Found]:
    """Relatives in other entries, one of each sequence, named by their number in the index."""
    sequence, entry = known.sequences[chain], known.chains[chain, 0]
    others = [c for c in known.candidates.get(int(known.clusters[chain]), ()) if known.chains[c, 0] != entry][: settings.candidates]
    distinct = {known.sequences[c]: str(c) for c in reversed(others)}
    if not distinct or len(sequence) < 10:
        return []
    return relatives_in({"": sequence}, {name: s for s, name in distinct.items()}, settings)[""]


def finish(out: Path, parts: int) -> dict[str, Any]:
    """Step 4: count what is there, and mark the archive as whole. Returns the facts of the mark."""
    folders = [entries_part(out, part) for part in range(parts)] + [relatives_part(out, part) for part in range(parts)] + [out / "index"]
    digests = {folder.relative_to(out).as_posix(): mark_digest(folder) for folder in folders}
    facts = statistics(open_parts([entries_part(out, part) for part in range(parts)]), out)
    replace_file(out / MARK, json.dumps({"format": FORMAT, "parts": digests, "facts": facts}, indent=1, sort_keys=True).encode())
    return facts


LENGTHS = (50, 100, 150, 200, 250, 300, 350, 400, 450, 512)


def statistics(found: Parts, out: Path) -> dict[str, Any]:
    """Counts by split, kind, length, source and method; what was refused, and why."""
    index = zarr.open_group(out / "index", mode="r")
    chains, clusters, splits = (np.asarray(index[name][...]) for name in ("chains", "clusters", "splits"))  # type: ignore[index]
    of = splits[chains[:, 0]]
    tokens = np.array([found.tokens(e) for e in range(len(found))])
    by_split = {
        str(name): {
            "entries": int((splits == s).sum()),
            "chains": int((of == s).sum()),
            "clusters": len(np.unique(clusters[of == s])),
            "residues": int(chains[of == s, 3].sum()),
            "tokens": int(tokens[splits == s].sum()),
        }
        for s, name in enumerate(index.attrs["splits"])  # type: ignore[arg-type]
    }
    reasons = Counter(reason for part in found.attributes for _, reason in part["refused"])
    lengths = np.bincount(np.searchsorted(LENGTHS, chains[chains[:, 2] == PROTEIN, 3], side="right"), minlength=len(LENGTHS) + 1)
    names = [f"{low}-{high - 1}" for low, high in zip((0, *LENGTHS), LENGTHS, strict=False)] + [f"{LENGTHS[-1]} and more"]
    return {
        "splits": by_split,
        "kinds": {kind.value: int((chains[:, 2] == k).sum()) for k, kind in enumerate(Kind)},
        "interfaces": index["interfaces"].shape[0],  # type: ignore[union-attr]
        "lengths": dict(zip(names, lengths.tolist(), strict=True)),
        "sources": dict(Counter(about["source"] for about in found.about).most_common()),
        "licences": dict(Counter(about.get("licence", "not stated") for about in found.about).most_common()),
        "methods": dict(Counter(about["method"] or "not stated" for about in found.about).most_common()),
        "resolution_known": sum(about["resolution"] > 0 for about in found.about),
        "with_profile": int(sum(found.has_profile(e) for e in range(len(found)))),
        "with_alignment": int(sum(found.rows(e) > 0 for e in range(len(found)))),
        "with_relatives": _with_relatives(out),
        "refused": dict(reasons.most_common()),
        "clustered": str(index.attrs["clustered"]),
    }


def _with_relatives(out: Path) -> int:
    """Chains that have at least one."""
    found = [np.asarray(zarr.open_group(part, mode="r")["offset"][...]) for part in sorted((out / "relatives").glob("part-*"))]  # type: ignore[index]
    return int(sum((np.diff(offset) > 0).sum() for offset in found))
