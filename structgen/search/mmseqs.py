"""mmseqs2: the homologues of many sequences at once in prebuilt databases, as alignments of our own making."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from structgen.features import chemistry
from structgen.features.msa import Msa, query_only
from structgen.search.hmmer import SHORTEST_QUERY
from structgen.search.mmseqs_binary import MmseqsError, run_mmseqs
from structgen.search.mmseqs_database import MmseqsDatabase, Shard, has_members, sibling

_FIELDS = "query,evalue,bits,qstart,tstart,tend,qaln,taln,theader"
_MMAP = "2"  # `--db-load-mode`: database and index are mapped, so that the pages of the last search are still in memory


@dataclass(frozen=True)
class MmseqsSettings:
    """How a search is run. Everything here is part of its result, and nothing else but the sequence and the database is."""

    iterations: int = 3
    e_value: float = 1e-3  # in the whole database, for reporting and for the next iteration's profile
    sensitivity: float = 8.0
    max_rows: int = 10_000
    prefilter: Literal["kmer", "ungapped"] = "kmer"  # ungapped: every sequence is aligned; for small databases, mmseqs2 16 and newer


@dataclass(frozen=True)
class _Hit:
    """A local alignment: columns of the query from `start` (from 0), and the target's letters and insertions in them."""

    e_value: float
    bits: float
    start: int
    classes: np.ndarray
    deletions: np.ndarray
    description: str


def search_mmseqs(sequences: Sequence[str], database: MmseqsDatabase, settings: MmseqsSettings, threads: int) -> dict[str, Msa]:
    """The alignment of every sequence: the query and its hits by E-value, one a target. Short queries are not searched.

    Raises `MmseqsError` where the program fails, `ConfigError` where there is none.
    """
    queries = [sequence for sequence in dict.fromkeys(sequences) if len(sequence) >= SHORTEST_QUERY]
    hits: dict[str, list[_Hit]] = {sequence: [] for sequence in sequences}
    if queries:
        with tempfile.TemporaryDirectory(prefix="structgen-mmseqs-") as folder:
            for number, hit in _search(queries, database, settings, Path(folder), threads):
                hits[queries[number]].append(hit)
    return {sequence: _alignment(sequence, found, settings.max_rows) for sequence, found in hits.items()}


def _search(
    queries: Sequence[str], database: MmseqsDatabase, settings: MmseqsSettings, folder: Path, threads: int
) -> Iterator[tuple[int, _Hit]]:
    (folder / "queries.fasta").write_text("".join(f">{number}\n{sequence}\n" for number, sequence in enumerate(queries)))
    run_mmseqs("createdb", folder / "queries.fasta", folder / "queries", "--dbtype", "1", "--shuffle", "0", "-v", "1")
    for shard in database.shards:
        share = shard.residues / database.residues
        table = _search_shard(database.prefix(shard), shard, settings, folder, share, threads)
        with open(table, encoding="utf-8", errors="replace", newline="\n") as lines:
            yield from (_parsed(line, share, f"mmseqs {shard.name}: line {number}") for number, line in enumerate(lines, 1))


def _search_shard(prefix: Path, shard: Shard, settings: MmseqsSettings, folder: Path, share: float, threads: int) -> Path:
    """Table of a shard's hits. A shard has fewer chance hits than the whole: its limit is lower by its share of the residues."""
    results, table, limit = folder / f"{shard.name}.hits", folder / f"{shard.name}.tsv", f"{settings.e_value * share:.3E}"
    common = ["--threads", str(threads), "--db-load-mode", _MMAP, "-v", "1"]
    words = ["--num-iterations", str(settings.iterations), "-s", str(settings.sensitivity), "--max-seqs", str(settings.max_rows)]
    words += ["-e", limit, "--e-profile", limit] if settings.iterations > 1 else ["-e", limit]
    words += ["--prefilter-mode", "1"] if settings.prefilter == "ungapped" else []
    run_mmseqs("search", folder / "queries", prefix, results, folder / "tmp", "-a", *words, *common)
    if has_members(prefix):
        prefix, results = _with_members(prefix, results, folder, settings, limit, common)
    run_mmseqs("convertalis", folder / "queries", prefix, results, table, "--format-output", _FIELDS, *common)
    return table


def _with_members(
    prefix: Path, results: Path, folder: Path, settings: MmseqsSettings, limit: str, common: Sequence[str]
) -> tuple[Path, Path]:
    """Hits of representatives as hits of all that their clusters hold, each aligned to the query's profile; and where these lie."""
    members, expanded, aligned = sibling(prefix, "_seq"), results.with_suffix(".expanded"), results.with_suffix(".aligned")
    profile = folder / "tmp" / "latest" / f"profile_{settings.iterations - 2}" if settings.iterations > 1 else folder / "queries"
    everything = ["--expansion-mode", "0", "-e", "inf", "--expand-filter-clusters", "0", "--max-seq-id", "1.0"]
    run_mmseqs("expandaln", folder / "queries", members, results, sibling(prefix, "_aln"), expanded, *everything, *common)
    run_mmseqs("align", profile, members, expanded, aligned, "-a", "-e", limit, "--max-accept", str(settings.max_rows), *common)
    return members, aligned


def _parsed(line: str, share: float, where: str) -> tuple[int, _Hit]:
    """The query's number, and a hit whose E-value is that of the whole database."""
    fields = line.rstrip("\n").split("\t", 8)
    try:
        query, e_value, bits, start, first, last, own, other, header = fields
        aligned = np.frombuffer(f"{own}{other}".upper().encode("ascii"), np.uint8).reshape(2, -1)
        columns = aligned[0] != ord("-")
        classes = chemistry.MSA_OF_LETTER[aligned[1][columns]]
        inserted = np.cumsum(~columns, dtype=np.int32)[columns]
        name, _, text = header.strip().partition(" ")
        description = f"{name}/{first}-{last} {text}".strip()
        hit = _Hit(float(e_value) / share, float(bits), int(start) - 1, classes, np.diff(inserted, prepend=0), description)
        return int(query), hit
    except ValueError as error:
        raise MmseqsError(f"{where}: found {line[:80]!r}; expected {_FIELDS}") from error


def _alignment(sequence: str, hits: Sequence[_Hit], max_rows: int) -> Msa:
    """The query's row, and below it the best hits; what is not aligned is a gap."""
    best = sorted(hits, key=lambda hit: (hit.e_value, -hit.bits, hit.description))[: max_rows - 1]
    query = query_only(sequence)
    rows = np.full((1 + len(best), len(sequence)), chemistry.GAP, np.uint8)
    deletions = np.zeros(rows.shape, np.int32)
    rows[0] = query.rows[0]
    for row, counts, hit in zip(rows[1:], deletions[1:], best, strict=True):
        span = slice(hit.start, hit.start + len(hit.classes))
        row[span], counts[span] = hit.classes, hit.deletions
    return Msa(rows, deletions, (*query.descriptions, *(hit.description for hit in best)))
