"""A server that speaks ColabFold's protocol on loopback, well or badly, as it is told. Its homologues are made from the query by a rule.

    python -m tests.search.colabfold_server PORT        serves well until it is interrupted
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import os
import sys
import tarfile
import threading
import urllib.parse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from unittest.mock import patch

ENV = "bfd.mgnify30.metaeuk30.smag30.a3m"
Files = dict[str, str]
Archive = Callable[[Files], bytes]


@dataclass
class Behaviour:
    """What goes wrong: the words of a list are used up, one a request; then all is well."""

    posts: list[str] = field(default_factory=list)  # ratelimit, busy, maintenance, 500, html, drop, 403, redirect, or a JSON text
    polls: list[str] = field(default_factory=list)  # unknown, 500, html, drop, ratelimit
    downloads: list[str] = field(default_factory=list)  # 400, 500, html, cut (of the announced length), truncated
    archive: Archive | None = None  # instead of an honest one
    bad: str = "no such sequence"  # a ticket with a sequence that holds this ends with ERROR
    endless: bool = False  # PENDING for ever
    secret: tuple[str, str] | None = None  # a header and its value, without which nothing is answered
    polls_to_complete: int = 2


@dataclass
class Request:
    """One request as it came."""

    method: str
    path: str
    form: dict[str, str]
    headers: dict[str, str]


def honest(files: Files) -> bytes:
    """The files as tar.gz."""
    return tar_of([(name, text.encode()) for name, text in files.items()])


def tar_of(members: list[tuple[str | tarfile.TarInfo, bytes]], mode: str = "w:gz") -> bytes:
    """An archive of any members, hostile ones too."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:  # type: ignore[call-overload]
        for name, content in members:
            info = tarfile.TarInfo(name) if isinstance(name, str) else name
            info.size = len(content) if info.isreg() else 0
            archive.addfile(info, io.BytesIO(content) if info.isreg() else None)
    return buffer.getvalue()


def homologues(number: str, sequence: str, tag: str, paired: bool) -> str:
    """The query and two rows: one lacks the first residue, one has an insertion, or nothing in pairs of what begins with G."""
    n = len(sequence)
    fields = f"\t100\t0.9\t1E-20\t0\t{n - 1}\t{n}\t0\t{n - 1}\t{n}"
    second = "-" * n if paired and sequence.startswith("G") else f"{sequence[: n // 2]}kk{sequence[n // 2 : -1]}-"
    return f">{number}\n{sequence}\n>{tag}_{sequence[:4]}{fields}\n-{sequence[1:]}\n>{tag}_second{fields}\n{second}\n"


class Stub(ThreadingHTTPServer):
    """Remembers what it was asked."""

    daemon_threads = True

    def __init__(self, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.behaviour, self.requests, self.tickets, self.lock = Behaviour(), [], {}, threading.Lock()

    behaviour: Behaviour
    requests: list[Request]
    tickets: dict[str, dict[str, Any]]

    @property
    def host(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def asked(self, start: str) -> list[Request]:
        """The requests whose path begins so."""
        return [request for request in self.requests if request.path.startswith(start)]

    def sequences(self) -> list[str]:
        """Every sequence of every accepted ticket for unpaired rows, in order."""
        return [s for t in self.tickets.values() if not t["paired"] for _ in range(t["accepted"]) for _, s in records(t["q"])]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away is not told on the terminal."""


def records(query: str) -> list[tuple[str, str]]:
    """Number and sequence of every record."""
    return [(r.split("\n", 1)[0], r.split("\n", 1)[1].replace("\n", "")) for r in query.strip().split(">")[1:]]


class _Handler(BaseHTTPRequestHandler):
    server: Stub
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments: object) -> None:
        """Silent."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        form = {name: values[0] for name, values in urllib.parse.parse_qs(body).items()}
        if self._noted("POST", form) and not self._went_wrong(self.server.behaviour.posts):
            self._submit(form)

    def do_GET(self) -> None:
        if not self._noted("GET", {}):
            return
        parts = self.path.strip("/").split("/")
        is_download = parts[:2] == ["result", "download"]
        words = self.server.behaviour.downloads if is_download else self.server.behaviour.polls
        if not self._went_wrong(words, self._archive(parts[-1]) if is_download else b""):
            if is_download:
                self._download(parts[-1])
            else:
                self._poll(parts[-1])

    def _noted(self, method: str, form: dict[str, str]) -> bool:
        with self.server.lock:
            self.server.requests.append(Request(method, self.path, form, dict(self.headers)))
        secret = self.server.behaviour.secret
        if secret and self.headers.get(secret[0]) != secret[1]:
            self._reply(b"who are you", 401)
            return False
        return True

    def _went_wrong(self, words: list[str], archive: bytes = b"") -> bool:
        with self.server.lock:
            word = words.pop(0) if words else ""
        if word in ("ratelimit", "busy"):
            extra = {"Retry-After": "1"} if word == "busy" else {}
            self._json({"status": "RATELIMIT", "reason": "too many"}, 429, extra)
        elif word in ("maintenance", "unknown"):
            self._json({"status": word.upper(), "id": "x"})
        elif word == "html":
            self._reply(b"<html><body>Welcome to the hotel's network</body></html>", 200, "text/html")
        elif word == "drop":
            self.close_connection = True
            self.connection.close()
        elif word == "redirect":
            self._reply(b"", 302, extra={"Location": "http://elsewhere.example/"})
        elif word == "cut":
            self._reply(archive, announced=len(archive) + 100)
        elif word == "truncated":
            self._reply(archive[: len(archive) // 2])
        elif word.isdigit():
            self._reply(b"so it is", int(word))
        elif word:
            self._reply(word.encode(), 200, "application/json")
        return bool(word)

    def _submit(self, form: dict[str, str]) -> None:
        paired = self.path.endswith("/pair")
        digest = hashlib.sha224((form["q"] + form["mode"]).encode()).digest()
        ticket = base64.urlsafe_b64encode(digest).decode().rstrip("=")
        with self.server.lock:
            new = {"q": form["q"], "mode": form["mode"], "paired": paired, "polls": 0, "accepted": 0}
            self.server.tickets.setdefault(ticket, new)["accepted"] += 1
        self._json({"id": ticket, "status": "PENDING"})

    def _poll(self, ticket: str) -> None:
        behaviour, found = self.server.behaviour, self.server.tickets.get(ticket)
        if found is None:
            return self._json({"id": ticket, "status": "UNKNOWN"})
        found["polls"] += 1
        done = "ERROR" if behaviour.bad in found["q"] else "COMPLETE"
        waiting = behaviour.endless or found["polls"] < behaviour.polls_to_complete
        self._json({"id": ticket, "status": "PENDING" if behaviour.endless else "RUNNING" if waiting else done})

    def _archive(self, ticket: str) -> bytes:
        found = self.server.tickets.get(ticket)
        return (self.server.behaviour.archive or honest)(files_of(found)) if found else b""

    def _download(self, ticket: str) -> None:
        found = self.server.tickets.get(ticket)
        if not found or found["polls"] < self.server.behaviour.polls_to_complete:
            return self._reply(b"not complete", 400)
        self._reply(self._archive(ticket))

    def _json(self, value: dict[str, Any], code: int = 200, extra: dict[str, str] | None = None) -> None:
        self._reply(json.dumps(value).encode(), code, "application/json", extra=extra)

    def _reply(self, body: bytes, code: int = 200, kind: str = "application/octet-stream", announced: int = -1,
               extra: dict[str, str] | None = None) -> None:  # fmt: skip
        self.send_response(code)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body) if announced < 0 else announced))
        for name, value in (extra or {}).items():
            self.send_header(name, value)
        if announced >= 0:
            self.close_connection = True
        self.end_headers()
        self.wfile.write(body)


def files_of(ticket: dict[str, Any]) -> Files:
    """What an honest server answers with: every query's block ends with a NUL byte."""
    tags = {"pair.a3m": "P"} if ticket["paired"] else {"uniref.a3m": "U"} | ({ENV: "E"} if "env" in ticket["mode"].split("-") else {})
    blocks = {name: [homologues(n, s, tag, ticket["paired"]) + "\0" for n, s in records(ticket["q"])] for name, tag in tags.items()}
    extra = {} if ticket["paired"] else {"msa.sh": "#!/bin/sh\n", "pdb70.m8": "101\t1abc_A\t0.9\n"}
    return {name: "".join(texts) for name, texts in blocks.items()} | extra


def bomb(size: int) -> bytes:
    """An archive of a few kilobytes that unpacks to `size` zeros."""
    info = tarfile.TarInfo("uniref.a3m")
    info.size = size
    buffer = io.BytesIO()
    with gzip.GzipFile(fileobj=buffer, mode="wb") as packed:
        packed.write(info.tobuf())
        for _ in range(size // 2**20):
            packed.write(b"\0" * 2**20)
    return buffer.getvalue()


@contextmanager
def serving(port: int = 0) -> Iterator[Stub]:
    """A server for the time of the block."""
    stub = Stub(port)
    thread = threading.Thread(target=stub.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        with patch.dict(os.environ, no_proxy="127.0.0.1"):  # whatever the machine's way to the network is
            yield stub
    finally:
        stub.shutdown()
        stub.server_close()
        thread.join()


if __name__ == "__main__":
    Stub(int(sys.argv[1])).serve_forever()
