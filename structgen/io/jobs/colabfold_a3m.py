"""ColabFold's A3M of a complex: the rows run over the columns of all chains; and plain A3M, the job of one chain."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from structgen.errors import InputError
from structgen.features.job import Alignments, Chain, Given, Job, Kind, chain_id, chain_ids
from structgen.io.fasta import Record, parse_fasta
from structgen.io.jobs.evidence_lost import is_table
from structgen.io.jobs.holds import Holds, hold
from structgen.io.jobs.links import whole_job
from structgen.io.jobs.molecules import sequence_at
from structgen.io.jobs.reading import Reading, Source
from structgen.io.jobs.written import Loss, Written
from structgen.io.textfile import decode, read_text_bytes

HOLDS = Holds(
    title="ColabFold A3M",
    name="file",
    ids="order",
    kinds=(Kind.PROTEIN,),
    modifications=False,
    alignments=("unpaired", "tables", "none"),
    inline=True,
)
COUNTS = re.compile(r"\0*#(\d+(?:,\d+)*)\t(\d+(?:,\d+)*)[ \t]*\r?\n")
MOST_COPIES = 10_000
Columns = tuple[str, int, Alignments]  # of one unique chain: sequence, copies, rows


def read(source: Source) -> list[Job | InputError]:
    """The one job of a file; its name is the file's."""
    reading = Reading(source)
    columns = columns_of(source.text, source.file)
    chains: list[Chain] = []
    for text, copies, msa in columns:
        id = chain_id(len(chains))
        letters = sequence_at(reading, Kind.PROTEIN, text, reading.where, id, small=True)
        chains += [Chain(id, Kind.PROTEIN, letters, msa=msa)] * copies
    chains = [replace(chain, id=id) for chain, id in zip(chains, chain_ids(len(chains)), strict=True)]
    return [whole_job(reading, source.stem, chains)]


@dataclass
class _Split:
    """The rows of one unique chain."""

    query: str
    unpaired: list[tuple[str, str]]
    paired: list[tuple[str, str]]  # key and row

    def alignments(self) -> Alignments:
        unpaired = "".join(f">{header}\n{row}\n" for header, row in [("query", self.query), *self.unpaired])
        table = "key,sequence\n" + "".join(f"{key},{row}\n" for key, row in [("", self.query), *self.paired])
        return Alignments(
            (Given(text=unpaired),) if self.unpaired else (),
            (Given(text=table),) if self.paired else (),
        )


def columns_of(text: str, where: str) -> list[Columns]:
    """The unique chains of a complex with their own columns; rows with residues of several chains are paired.

    Without a line of lengths there is one chain, whose sequence is the first row.
    """
    records = _records(text, where)
    lengths, copies = _counts(text, where) or ([len(records[0].sequence.replace(".", ""))], [1])
    query = _segments(records[0], lengths, where)
    if wrong := next((part for part in query if not re.fullmatch("[A-Z]+", part)), None):
        found = repr(wrong[:40])
        raise InputError("first row is not the query of all chains", where=f"{where}: row 1", found=found, expected="capitals only")
    splits = [_Split(part, [], []) for part in query]
    distinct: dict[tuple[str, str], Record] = {}
    for record in records[1:]:
        distinct.setdefault((record.header, record.sequence), record)
    for record in distinct.values():
        _place(splits, record, _segments(record, lengths, where))
    return [(split.query, count, split.alignments()) for split, count in zip(splits, copies, strict=True)]


def _counts(text: str, where: str) -> tuple[list[int], list[int]] | None:
    """Lengths and copies of the unique chains, or None where there is no such line."""
    head = COUNTS.match(text)
    if not head:
        return None
    lengths, copies = ([int(number[:9]) for number in part.split(",")] for part in (head[1], head[2]))
    if len(lengths) != len(copies) or not all(lengths) or not all(0 < count <= MOST_COPIES for count in copies):
        found, expected = head[0].strip(), "#L1,L2<tab>C1,C2: a length and a number of copies for each chain"
        raise InputError("lengths and copies do not fit", where=f"{where}: line 1", found=found, expected=expected)
    return lengths, copies


def _place(splits: Sequence[_Split], record: Record, segments: Sequence[str]) -> None:
    held = [k for k, segment in enumerate(segments) if re.search("[A-Z]", segment)]
    headers, key = record.header.split("\t"), str(1 + max((int(split.paired[-1][0]) for split in splits if split.paired), default=0))
    for k in held:
        header = headers[k] if len(headers) == len(splits) else headers[0]
        if len(held) > 1:
            splits[k].paired.append((key, segments[k]))
        elif not (segments[k] == splits[k].query and record.header.isdigit()):  # the block's own query
            splits[k].unpaired.append((header, segments[k]))


def _records(text: str, where: str) -> list[Record]:
    records, outside = parse_fasta(text.replace("\0", ""), where)
    if outside:
        raise outside[0]
    return records


def _segments(record: Record, lengths: Sequence[int], where: str) -> list[str]:
    """The row cut where the chains end; insertions belong to the column behind them, and behind the last column they are dropped."""
    letters = record.sequence.replace(".", "")
    if wrong := re.search("[^A-Za-z-]", letters):
        place = f"{where}: row {record.number} (>{record.header[:60]})"
        found, expected = f"{wrong[0]!r} at position {wrong.start() + 1}", "A-Z and '-' (columns), a-z (insertions), '.'"
        raise InputError("illegal character in the alignment", where=place, found=found, expected=expected)
    columns = re.findall("[a-z]*[A-Z-]", letters)
    if len(columns) != sum(lengths):
        place = f"{where}: row {record.number} (>{record.header[:60]})"
        found, expected = f"{len(columns)} columns", f"{sum(lengths)}, the sum of the lengths"
        raise InputError("row has another width", where=place, found=found, expected=expected)
    ends = [sum(lengths[: k + 1]) for k in range(len(lengths))]
    return ["".join(columns[end - length : end]) for end, length in zip(ends, lengths, strict=True)]


def write(job: Job) -> Written:
    """The job's chains and alignments; chains of one sequence stand together."""
    order = list(dict.fromkeys(chain.sequence for chain in job.chains))
    job = replace(job, chains=tuple(sorted(job.chains, key=lambda chain: order.index(chain.sequence))))
    job, losses = hold(job, HOLDS)
    more: list[Loss] = []
    unique: dict[str, list[Chain]] = {}
    for chain in job.chains:
        group = unique.setdefault(chain.sequence, [])
        group.append(chain)
        if chain.msa is None:
            more.append(Loss("search", f"chain {chain.id}: no rows are written"))
        elif chain.msa != group[0].msa:
            more.append(Loss("unpaired MSA", f"chain {chain.id}: that of chain {group[0].id}, its copy, is written"))
    groups = list(unique.values())
    if len(groups) == 1 and groups[0][0].msa and groups[0][0].msa.paired:
        more.append(Loss("paired MSA", f"chain {groups[0][0].id}: alone"))
    lines = [f"#{','.join(str(len(g[0].sequence)) for g in groups)}\t{','.join(str(len(g)) for g in groups)}"]
    lines += ["\t".join(f">{101 + k}" if k == 0 else str(101 + k) for k in range(len(groups))), "".join(unique)]
    lines += [line for row in (*_paired(groups), *_unpaired(groups)) for line in row]
    return Written(("\n".join(lines) + "\n").encode(), (*losses, *more))


def _paired(groups: Sequence[Sequence[Chain]]) -> Iterator[tuple[str, str]]:
    """Header and row for every key that several chains have."""
    if len(groups) == 1:
        return
    tables = [dict(_table(group[0])) for group in groups]
    for key in dict.fromkeys(key for table in tables for key in table):
        rows = [table.get(key, "-" * len(group[0].sequence)) for table, group in zip(tables, groups, strict=True)]
        yield ">" + "\t".join(f"paired_{key}" for _ in groups), "".join(rows)


def _table(chain: Chain) -> Iterator[tuple[str, str]]:
    """Key and row of a chain's paired rows."""
    for given in chain.msa.paired if chain.msa else ():
        for row in csv.DictReader(io.StringIO(_text(given), newline="")):
            if row.get("key"):
                yield row["key"], row["sequence"]


def _unpaired(groups: Sequence[Sequence[Chain]]) -> Iterator[tuple[str, str]]:
    """A block for every chain, with gaps in the columns of the others: its query, its rows."""
    lengths = [len(group[0].sequence) for group in groups]
    for k, group in enumerate(groups):
        before, after = "-" * sum(lengths[:k]), "-" * sum(lengths[k + 1 :])
        msa = group[0].msa
        rows = [record for given in (msa.unpaired if msa else ()) for record in _records(_text(given), given.path or "alignment")[1:]]
        if rows and len(groups) > 1:
            yield f">{101 + k}", f"{before}{group[0].sequence}{after}"
        for record in rows:
            yield f">{record.header}", f"{before}{record.sequence}{after}"


def _text(given: Given) -> str:
    """The text of something given; a Stockholm file is none of the two forms that can be joined."""
    text = given.text or decode(read_text_bytes(Path(given.path)), given.path)
    if not is_table(given) and not text.lstrip().startswith((">", "#")):
        raise InputError("alignment is not A3M", where=given.path, found=repr(text[:40]), expected="A3M or a table of keys")
    return text
