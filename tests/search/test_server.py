"""The client of ColabFold's protocol against a real HTTP server that behaves well or badly."""

from __future__ import annotations

import gzip
import io
import random
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import replace

import pytest

from structgen.errors import ConfigError, ServerError, StructgenError
from structgen.features.pairing import pair_rows
from structgen.io.a3m import parse_a3m
from structgen.search import server, server_archive
from structgen.search.server import Answer, Query, ServerSettings, search_on_server
from structgen.search.server_archive import ArchiveLimits, DamagedArchive, read_archive
from structgen.search.server_http import Access, Http, Patience, ServerDown, check_host
from tests.search.colabfold_server import ENV, Archive, Behaviour, Stub, bomb, files_of, homologues, honest, serving, tar_of

A, B, C = "MKTAYIAKQRQISFVK", "GSHMLEDPVDAFK", "MVLSPADKTNVKAAW"
SAID: list[str] = []
QUICK = Patience(deadline=20.0, answer=5.0, first_wait=0.001, longest_wait=0.005, tries=4)


@pytest.fixture
def stub() -> Iterator[Stub]:
    with serving() as running:
        yield running


def ask(
    stub: Stub, queries: Sequence[Query], settings: ServerSettings | None = None, patience: Patience = QUICK, access: Access | None = None
) -> dict[Query, Answer | StructgenError]:
    http = Http(stub.host, access or Access(), patience, random.Random(0), SAID.append)
    return dict(search_on_server(http, settings or ServerSettings(), queries))


def one(*sequences: str) -> list[Query]:
    return [Query((sequence,)) for sequence in sequences]


def texts(found: dict[Query, Answer | StructgenError]) -> dict[str, str]:
    """A3M text by sequence; an error is raised."""
    result = {}
    for answer in found.values():
        if isinstance(answer, StructgenError):
            raise answer
        result |= {sequence: gzip.decompress(data).decode() for sequence, data in answer.items()}
    return result


def expected(sequence: str, *tags: str) -> str:
    return "".join(homologues("query", sequence, tag, False) for tag in tags)


def test_one_ticket_serves_a_batch_and_says_who_asks(stub: Stub):
    """Rows of both files as the server sent them; the query's number is gone, so the bytes depend on the sequence alone."""
    found = texts(ask(stub, one(A, B, C), access=Access(contact="lab@example.org")))
    assert found == {sequence: expected(sequence, "U", "E") for sequence in (A, B, C)}
    (post,) = stub.asked("/ticket/msa")
    assert post.form["mode"] == "env" and post.form["q"] == f">101\n{B}\n>102\n{C}\n>103\n{A}\n"
    assert all(request.headers["User-Agent"].startswith("structgen/") for request in stub.requests)
    assert all("lab@example.org" in request.headers["User-Agent"] for request in stub.requests)
    msa = parse_a3m(found[A], "x", A)
    assert msa.rows.shape == (6, 16) and msa.deletions[2].tolist() == [0] * 8 + [2] + [0] * 7


@pytest.mark.parametrize(
    ("settings", "mode", "tags"),
    [
        (ServerSettings(), "env", "UE"),
        (ServerSettings(environment=False), "all", "U"),
        (ServerSettings(filter=False), "env-nofilter", "UE"),
        (ServerSettings(environment=False, filter=False), "nofilter", "U"),
    ],
)
def test_modes(stub: Stub, settings: ServerSettings, mode: str, tags: str):
    """The protocol's words for what is searched, and the files that come of it."""
    assert texts(ask(stub, one(A), settings)) == {A: expected(A, *tags)}
    assert stub.asked("/ticket/msa")[0].form["mode"] == mode


def test_pairs_are_rows_of_equal_number(stub: Stub):
    """Row k of one chain pairs with row k of the other, and with nothing where the other has none."""
    found = texts(ask(stub, [Query((A, B), paired=True)]))
    (post,) = stub.asked("/ticket/pair")
    assert post.form["mode"] == "pairgreedy-env"
    msas = [parse_a3m(found[sequence], "x", sequence) for sequence in (A, B)]
    assert [len(msa.rows) for msa in msas] == [3, 2]  # B's second row has no residue
    assert pair_rows([msa.descriptions for msa in msas], per_species=9).tolist() == [[1, 1]]
    assert texts(ask(stub, [Query((A, C), paired=True)], ServerSettings(environment=False, pairing="complete"))).keys() == {A, C}
    assert stub.asked("/ticket/pair")[-1].form["mode"] == "paircomplete"


def test_large_batches_are_several_tickets_one_after_the_other(stub: Stub, monkeypatch: pytest.MonkeyPatch):
    """Every sequence in exactly one ticket; the next one is submitted when the last is complete."""
    monkeypatch.setattr(server, "PER_TICKET", 3)
    sequences = [A[k:] + "GG" * k for k in range(8)]
    found = texts(ask(stub, one(*sequences)))
    assert found.keys() == set(sequences) and sorted(stub.sequences()) == sorted(sequences)
    kinds = ["submit" if r.method == "POST" else "get" if "download" in r.path else "look" for r in stub.requests]
    assert kinds == ["submit", "look", "look", "get"] * 3


def test_short_sequences_are_not_sent(stub: Stub):
    """As with jackhmmer: below five residues there is nothing to find."""
    assert texts(ask(stub, one("MKT", A))) == {"MKT": ">query\nMKT\n", A: expected(A, "U", "E")}
    assert stub.sequences() == [A]


RECOVERED = {
    "busy": (Behaviour(posts=["ratelimit", "ratelimit", "maintenance"]), 4),
    "busy for a second": (Behaviour(posts=["busy"]), 2),
    "errors of the server": (Behaviour(posts=["500", "503"], polls=["500", "502"], downloads=["500"]), 3),
    "lost connections": (Behaviour(posts=["drop"], polls=["drop"], downloads=["drop"]), 2),
    "another page": (Behaviour(posts=["html"], polls=["html"]), 2),
    "a ticket that is forgotten": (Behaviour(polls=["unknown", "unknown"]), 3),
    "busy while looked at": (Behaviour(polls=["ratelimit", "ratelimit"]), 1),
    "download cut off": (Behaviour(downloads=["cut"]), 1),
    "archive cut off": (Behaviour(downloads=["truncated", "truncated"]), 1),
    "page instead of an archive": (Behaviour(downloads=["html"]), 1),
    "complete, but not yet there": (Behaviour(downloads=["400", "404"]), 1),
}


@pytest.mark.parametrize("name", RECOVERED)
def test_what_passes_is_waited_for(stub: Stub, name: str):
    """The same alignment in the end, after so many submissions."""
    stub.behaviour, posts = RECOVERED[name]
    SAID.clear()
    assert texts(ask(stub, one(A))) == {A: expected(A, "U", "E")}
    assert len(stub.asked("/ticket/msa")) == posts
    assert SAID[-2:] == [f"{stub.host}: 1 sequence(s): {status}" for status in ("RUNNING", "COMPLETE")]


LASTING = {
    "errors of the server": (Behaviour(posts=["500"] * 9), "HTTP 500, 4 times in a row", 4),
    "another page": (Behaviour(posts=["html"] * 9), "no JSON object but text/html: \"<html><body>Welcome", 4),
    "lost connections": (Behaviour(posts=["drop"] * 9), "cannot be reached", 4),
    "not allowed": (Behaviour(posts=["403"]), "wants other credentials; set STRUCTGEN_MSA_SERVER_USER", 1),
    "no such page": (Behaviour(posts=["404"]), "HTTP 404: 'so it is'; is this the address", 1),
    "elsewhere": (Behaviour(posts=["redirect"]), "the server is elsewhere; give its own address: 'http://elsewhere.example/'", 1),
    "another language": (Behaviour(posts=['{"status": "SLEEPING"}']), "found status 'SLEEPING'", 1),
    "a list": (Behaviour(posts=["[1]"] * 9), "no JSON object", 4),
    "a ticket that is a path": (Behaviour(posts=['{"status": "PENDING", "id": "../../etc"}']), "found ticket '../../etc'", 1),
}


@pytest.mark.parametrize("name", LASTING)
def test_what_lasts_ends_the_queue_with_one_reason(stub: Stub, name: str, monkeypatch: pytest.MonkeyPatch):
    """All queries that are left fail with it, and nothing more is asked."""
    monkeypatch.setattr(server, "PER_TICKET", 1)
    stub.behaviour, text, requests = LASTING[name]
    found = ask(stub, one(A, B, C))
    assert len(found) == 3 and len(stub.requests) == requests
    assert all(isinstance(error, ServerDown) and text in str(error) and str(error).startswith(stub.host) for error in found.values())


def test_a_server_that_is_not_there_is_told():
    """Nobody listens."""
    with serving() as stub:
        host = stub.host
    http = Http(host, Access(), QUICK, random.Random(0), SAID.append)
    ((_, error),) = search_on_server(http, ServerSettings(), one(A))
    assert isinstance(error, ServerDown) and "cannot be reached" in str(error) and "refused" in str(error)


@pytest.mark.parametrize("behaviour", [Behaviour(endless=True), Behaviour(posts=["ratelimit"] * 9999), Behaviour(polls=["unknown"] * 9999)])
def test_one_deadline_ends_every_wait(stub: Stub, behaviour: Behaviour):
    """Endless PENDING, RATELIMIT and UNKNOWN."""
    stub.behaviour = behaviour
    found = ask(stub, one(A), patience=replace(QUICK, deadline=0.3))
    (error,) = found.values()
    assert isinstance(error, ServerDown) and "given up after 0.3 s (--msa-deadline)" in str(error)
    assert "the same command again goes on" in str(error)


def test_a_bad_sequence_costs_the_others_nothing(stub: Stub):
    """A ticket that ends with ERROR is split until the bad one is alone."""
    stub.behaviour.bad = B
    found = ask(stub, one(A, B, C, A[3:], C[2:]))
    bad = found.pop(Query((B,)))
    assert isinstance(bad, ServerError) and "ended the search of 1 sequence(s) with an error" in str(bad)
    assert texts(found) == {sequence: expected(sequence, "U", "E") for sequence in (A, C, A[3:], C[2:])}


def link(kind: bytes, target: str = "/etc/passwd") -> tarfile.TarInfo:
    info = tarfile.TarInfo("uniref.a3m")
    info.type, info.linkname = kind, target
    return info


def with_first(member: str | tarfile.TarInfo) -> Archive:
    """A hostile member before the honest ones."""
    return lambda files: tar_of([(member, b"x"), *((name, text.encode()) for name, text in files.items())])


def changed(**texts: str) -> Archive:
    return lambda files: honest(files | {name.replace("_", "."): text for name, text in texts.items()})


HOSTILE: dict[str, tuple[Archive, str]] = {
    "a path upwards": (with_first("../evil"), "'../evil' leads out of it"),
    "a hidden path upwards": (with_first("a/../../evil"), "leads out of it"),
    "an absolute path": (with_first("/tmp/evil"), "leads out of it"),
    "a path of another system": (with_first("..\\evil"), "leads out of it"),
    "a symbolic link": (with_first(link(tarfile.SYMTYPE)), "is a link, a device"),
    "a hard link": (with_first(link(tarfile.LNKTYPE, "uniref.a3m")), "is a link, a device"),
    "a device": (with_first(link(tarfile.CHRTYPE)), "is a link, a device"),
    "a pipe": (with_first(link(tarfile.FIFOTYPE)), "is a link, a device"),
    "the same name twice": (with_first("uniref.a3m"), "'uniref.a3m' is in it twice"),
    "a bomb": (lambda files: bomb(2 * 2**20), "'uniref.a3m' has 2,097,152 bytes, over 1,048,576"),
    "many members": (lambda files: tar_of([(f"m{k}", b"") for k in range(60)]), "more than 50 members"),
    "a long tail": (lambda files: gzip.compress(gzip.decompress(honest(files)) + b"\0" * 2**23), "unpacks to more than 4,194,304 bytes"),
    "no such file": (lambda files: tar_of([("msa.sh", b"x")]), f"the archive lacks uniref.a3m, {ENV}; found none of them"),
    "other numbers": (changed(uniref_a3m=f">7\n{A}\n\0"), "found the queries 7 (1); expected 101 to 101"),
    "a number twice": (changed(uniref_a3m=f">101\n{A}\n\0>101\n{A}\n\0"), "expected each query's number once"),
    "no number": (changed(uniref_a3m=f">query\n{A}\n\0"), "found '>query'"),
    "nothing": (changed(uniref_a3m=""), "found the queries none (0)"),
    "other letters": (changed(uniref_a3m=">101\nMKTÄ\n\0"), "expected ASCII"),
    "another query": (changed(uniref_a3m=f">101\n{A[1:]}M\n\0"), "first row is not the chain; found K in column 1; expected M"),
    "a row of another length": (changed(uniref_a3m=f">101\n{A}\n>x\n{A}A\n\0"), "row has another width; found 17 columns"),
    "a page": (changed(uniref_a3m=f">101\n{A}\n>x\n<html>\n\0"), "illegal character"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_and_wrong_archives_are_refused(stub: Stub, name: str, monkeypatch: pytest.MonkeyPatch, tmp_path):
    """With the reason; nothing is written anywhere, and the archive is not asked for again."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(server, "ArchiveLimits", lambda: ArchiveLimits(members=50, bytes=2**22, member=2**20))
    archive, text = HOSTILE[name]
    stub.behaviour.archive = archive
    (error,) = ask(stub, one(A)).values()
    assert isinstance(error, ServerError) and not isinstance(error, ServerDown) and text in str(error)
    assert len(stub.asked("/result/download")) == 1 and list(tmp_path.iterdir()) == []


def test_an_answer_that_is_wrong_for_one_query_spares_the_others(stub: Stub):
    """Rows are checked query by query."""
    stub.behaviour.archive = lambda files: honest(files | {"uniref.a3m": files["uniref.a3m"].replace(f"-{A[1:]}\n", f"{A}A\n")})
    found = ask(stub, one(A, C))
    assert "row has another width" in str(found.pop(Query((A,))))
    assert texts(found) == {C: expected(C, "U", "E")}


@pytest.mark.parametrize("data", [b"", b"x", b"<html>", gzip.compress(b"no tar"), bytes(512)])
def test_what_is_no_archive_is_damaged(data: bytes):
    """Nothing, a page, packed text: another download may be better."""
    with pytest.raises(DamagedArchive, match="host: the archive is damaged"):
        read_archive(io.BytesIO(data), ["uniref.a3m"], "host", ArchiveLimits())


def test_every_cut_of_an_archive_is_seen():
    """At no byte does a part of an archive pass for the whole: gzip's own sum at the end is read."""
    whole = honest(files_of({"q": f">101\n{A}\n", "mode": "env", "paired": False}))
    assert read_archive(io.BytesIO(whole), ["uniref.a3m"], "host", ArchiveLimits())
    for size in range(len(whole)):
        with pytest.raises(DamagedArchive):
            read_archive(io.BytesIO(whole[:size]), ["uniref.a3m"], "host", ArchiveLimits())
    for place in (30, len(whole) // 2, len(whole) - 6):
        spoilt = bytearray(whole)
        spoilt[place] ^= 0x55
        with pytest.raises(ServerError):
            read_archive(io.BytesIO(bytes(spoilt)), ["uniref.a3m"], "host", ArchiveLimits())


def test_credentials_are_sent_and_never_shown(stub: Stub):
    """Basic or a header of its own, from the environment; a wrong one is told without it."""
    basic = Access.from_environment({"STRUCTGEN_MSA_SERVER_USER": "ann", "STRUCTGEN_MSA_SERVER_PASSWORD": "pw"})
    key = Access.from_environment({"STRUCTGEN_MSA_SERVER_HEADER": "X-API-Key: s3cret"})
    for access, secret in ((basic, ("Authorization", "Basic YW5uOnB3")), (key, ("X-API-Key", "s3cret"))):
        stub.behaviour.secret = secret
        assert texts(ask(stub, one(A), access=access)).keys() == {A}
        assert secret[1] not in repr(access)
    (error,) = ask(stub, one(A), access=basic).values()
    assert "HTTP 401: the server wants other credentials" in str(error) and "YW5u" not in str(error)


WRONG = [
    ("api.example.org", {}, "expected http(s)://name"),
    ("ftp://api.example.org", {}, "expected http(s)://name"),
    ("https://ann:pw@api.example.org", {}, "holds a password"),
    ("http://api.example.org", {"STRUCTGEN_MSA_SERVER_USER": "ann"}, "unencrypted"),
    ("https://api.example.org", {"STRUCTGEN_MSA_SERVER_USER": "a", "STRUCTGEN_MSA_SERVER_HEADER": "b: c"}, "both set"),
    ("https://api.example.org", {"STRUCTGEN_MSA_SERVER_HEADER": "secret"}, 'expected "Name: value"'),
]


@pytest.mark.parametrize(("host", "environment", "text"), WRONG)
def test_addresses_and_credentials_that_are_none(host: str, environment: dict[str, str], text: str):
    """Told before anything is sent, and the password is not in the text."""
    with pytest.raises(ConfigError) as caught:
        check_host(host, Access.from_environment(environment))
    assert text in str(caught.value) and ":pw" not in str(caught.value)
    assert check_host("https://api.example.org/v2/", Access({"X": "y"})) == "https://api.example.org/v2"


def test_limits_are_what_an_honest_ticket_never_reaches():
    """16 queries with 10,000 rows of 2,000 residues are 320 MB."""
    limits = server_archive.ArchiveLimits()
    assert server.PER_TICKET * 10_000 * 2_000 * 1.2 < limits.member <= limits.bytes
