"""Alignments from a server that speaks ColabFold's protocol (MMseqs2-App): tickets are submitted, looked at until complete, downloaded.

One queue for a whole batch, one ticket at a time: no sequence is asked twice, and the server sees one polite client however many jobs wait.
"""

from __future__ import annotations

import gzip
import itertools
import logging
import re
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from structgen.errors import InputError, ServerError, StructgenError
from structgen.features.msa import query_only
from structgen.io.a3m import a3m_records, parse_a3m, write_a3m
from structgen.search.hmmer import SHORTEST_QUERY
from structgen.search.server_archive import ArchiveLimits, DamagedArchive, read_archive
from structgen.search.server_http import Http, ServerDown

logger = logging.getLogger(__name__)

PER_TICKET = 16  # sequences that are searched together
_FIRST = 101  # number of the first query of a ticket, in this protocol
_DOWNLOADS = 3  # of an archive that arrives damaged
_UNIREF, _ENVIRONMENT, _PAIRED = "uniref.a3m", "bfd.mgnify30.metaeuk30.smag30.a3m", "pair.a3m"
_TICKET = re.compile(r"[A-Za-z0-9_=-]{1,200}")


@dataclass(frozen=True)
class ServerSettings:
    """What is asked of a server. Everything here is part of its result."""

    environment: bool = True  # metagenomic sequences too
    filter: bool = True  # redundant rows are left out
    pairing: Literal["greedy", "complete", "none"] = "greedy"  # of the chains of a complex; complete: only species that all chains have

    @property
    def mode(self) -> str:
        """The protocol's word for unpaired searches."""
        if self.filter:
            return "env" if self.environment else "all"
        return "env-nofilter" if self.environment else "nofilter"

    @property
    def pair_mode(self) -> str:
        """The protocol's word for paired searches."""
        return f"pair{self.pairing}" + ("-env" if self.environment else "")


@dataclass(frozen=True)
class Query:
    """A sequence whose homologues are asked for, or several whose homologues shall be paired."""

    sequences: tuple[str, ...]
    paired: bool = False


Answer = dict[str, bytes]
"""Packed A3M of every sequence of a query."""


class Refused(ServerError):
    """The server ended a ticket with an error."""


def search_on_server(http: Http, settings: ServerSettings, queries: Sequence[Query]) -> Iterator[tuple[Query, Answer | StructgenError]]:
    """Every query with its answer or with why it has none, as they come.

    A ticket that the server ends with an error is split, so that one bad sequence costs the others nothing. Where nothing more can be had
    from the server, all that is left fails with that reason, and no further request is made.
    """
    short = [_is_short(query) for query in queries]
    alone = itertools.compress(queries, short)
    yield from ((query, {s: _packed(write_a3m(query_only(s)).decode()) for s in query.sequences}) for query in alone)
    queue = deque(_tickets([query for query, is_short in zip(queries, short, strict=True) if not is_short]))
    while queue:
        batch = queue.popleft()
        try:
            yield from _answers(http, settings, batch)
        except ServerDown as error:
            yield from ((query, error) for query in itertools.chain(batch, *queue))
            return
        except Refused as error:
            if len(batch) == 1:
                yield batch[0], error
            else:
                queue.extendleft([batch[len(batch) // 2 :], batch[: len(batch) // 2]])
        except ServerError as error:
            yield from ((query, error) for query in batch)


def _is_short(query: Query) -> bool:
    return min(map(len, query.sequences)) < SHORTEST_QUERY


def _tickets(queries: Sequence[Query]) -> Iterator[list[Query]]:
    """Unpaired queries together, short ones with short ones; a paired one alone."""
    unpaired = sorted((query for query in queries if not query.paired), key=lambda query: (len(query.sequences[0]), query.sequences))
    for start in range(0, len(unpaired), PER_TICKET):
        yield unpaired[start : start + PER_TICKET]
    yield from ([query] for query in queries if query.paired)


def _answers(http: Http, settings: ServerSettings, batch: Sequence[Query]) -> list[tuple[Query, Answer | StructgenError]]:
    sequences = [sequence for query in batch for sequence in query.sequences]
    if batch[0].paired:
        blocks = _ask(http, "ticket/pair", settings.pair_mode, sequences, [_PAIRED])
        return [(batch[0], _paired(blocks, sequences, http.host))]
    files = [_UNIREF, _ENVIRONMENT] if settings.environment else [_UNIREF]
    blocks = _ask(http, "ticket/msa", settings.mode, sequences, files)
    return [(query, _unpaired(block, query.sequences[0], http.host)) for query, block in zip(batch, blocks, strict=True)]


def _ask(http: Http, endpoint: str, mode: str, sequences: Sequence[str], files: Sequence[str]) -> list[str]:
    """The text of every sequence, its files one below the other."""
    form = {"q": "".join(f">{number}\n{sequence}\n" for number, sequence in enumerate(sequences, _FIRST)), "mode": mode}
    ticket = _complete(http, endpoint, form, f"{len(sequences)} sequence(s)")
    members = _downloaded(http, ticket, files)
    parts = [_blocks(members[name], len(sequences), f"{http.host}: ticket {ticket}: {name}") for name in files]
    return ["".join(blocks) for blocks in zip(*parts, strict=True)]


def _complete(http: Http, endpoint: str, form: dict[str, str], what: str) -> str:
    """The ticket, once it is complete. One that the server does not know any more is submitted again."""
    ticket, last = "", ""
    for times in itertools.count():
        reply = http.ask(f"ticket/{ticket}") if ticket else http.ask(endpoint, form)
        status = str(reply.get("status", ""))
        if status != last and status.isalpha():
            http.say(f"{http.host}: {what}: {status[:20]}")
            last = status
        if status == "COMPLETE":
            return _ticket_of(reply, http.host)
        if status == "ERROR":
            raise Refused(f"{http.host}: the server ended the search of {what} with an error; is it a protein of usual letters and length?")
        if status == "UNKNOWN":
            ticket = ""
        elif status in ("PENDING", "RUNNING"):
            ticket = _ticket_of(reply, http.host)
        elif status not in ("RATELIMIT", "MAINTENANCE"):
            raise ServerDown(f"{http.host}: found status {status[:40]!r}; is this the address of a ColabFold server?")
        http.wait(times, f"{what}, ticket {ticket or 'not accepted yet'}: {status}", least=_asked_for(reply))
    raise AssertionError


def _ticket_of(reply: dict[str, Any], host: str) -> str:
    ticket = str(reply.get("id", ""))
    if not _TICKET.fullmatch(ticket):
        raise ServerDown(f"{host}: found ticket {ticket[:40]!r}; expected letters, digits, '-', '_' and '='")
    return ticket


def _asked_for(reply: dict[str, Any]) -> float:
    """Seconds that a busy server asks to wait, up to ten minutes."""
    after = str(reply.get("after", ""))
    return min(float(after), 600.0) if after.isdigit() else 0.0


def _downloaded(http: Http, ticket: str, files: Sequence[str]) -> dict[str, bytes]:
    """The wanted files of a ticket; nothing of a download that failed is kept."""
    where = f"{http.host}: ticket {ticket}"
    for number in range(_DOWNLOADS):
        with http.download(f"result/download/{ticket}") as file:
            try:
                members = read_archive(file, files, where, ArchiveLimits())
                break
            except DamagedArchive as error:
                if number + 1 == _DOWNLOADS:
                    raise
                http.wait(number, str(error))
    missing = [name for name in files if name not in members]
    if missing:
        raise ServerError(f"{where}: the archive lacks {', '.join(missing)}; found {', '.join(sorted(members)) or 'none of them'}")
    return members


def _blocks(content: bytes, count: int, where: str) -> list[str]:
    """The text of every query of a file, without the line that says its number, in the order of these. Each ends with a NUL byte."""
    try:
        texts = [block.strip("\r\n") for block in content.decode("ascii").split("\0")]
    except UnicodeDecodeError as error:
        raise ServerError(f"{where}: found byte {content[error.start]:#04x}; expected ASCII") from error
    blocks: dict[str, str] = {}
    for text in filter(None, texts):
        header, _, rest = text.partition("\n")
        number = header.removeprefix(">").strip()
        if not header.startswith(">") or not number.isdigit() or number in blocks:
            raise ServerError(f"{where}: found {header[:40]!r}; expected each query's number once")
        blocks[number] = rest + "\n"
    wanted = [str(number) for number in range(_FIRST, _FIRST + count)]
    if set(blocks) != set(wanted):
        found = ", ".join(sorted(blocks)[:5]) or "none"
        raise ServerError(f"{where}: found the queries {found} ({len(blocks)}); expected {wanted[0]} to {wanted[-1]}")
    return [f">query\n{blocks[number]}" for number in wanted]


def _unpaired(block: str, sequence: str, host: str) -> Answer | StructgenError:
    """The alignment as it came, checked: the query first, rows of its length, legal letters."""
    try:
        parse_a3m(block, f"{host}: alignment", sequence)
    except InputError as error:
        return ServerError(str(error))
    return {sequence: _packed(block)}


def _paired(blocks: Sequence[str], sequences: Sequence[str], host: str) -> Answer | StructgenError:
    """Row k of every chain belongs together, and says so in its header; a row without a residue stands for a chain that has none."""
    try:
        rows = [a3m_records(block, f"{host}: paired alignment") for block in blocks]
        if len({len(records) for records in rows}) > 1:
            raise ServerError(f"{host}: found {[len(records) for records in rows]} paired rows; expected as many of each chain")
        texts = ["".join(_keyed(records)) for records in rows]
        for text, sequence in zip(texts, sequences, strict=True):
            parse_a3m(text, f"{host}: paired alignment", sequence)
    except (InputError, ServerError) as error:
        return error if isinstance(error, ServerError) else ServerError(str(error))
    return {sequence: _packed(text) for sequence, text in zip(sequences, texts, strict=True)}


def _keyed(records: Sequence[tuple[str, str]]) -> Iterator[str]:
    yield f">query\n{records[0][1]}\n"
    for number, (header, letters) in enumerate(records[1:], 1):
        if letters.strip("-."):
            yield f">pairing_key=server-{number} {header}\n{letters}\n"


def _packed(text: str) -> bytes:
    return gzip.compress(text.encode("ascii"), mtime=0)
