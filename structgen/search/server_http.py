"""HTTP to a ColabFold server: credentials, time limits, tries with growing waits, and one deadline for everything."""

from __future__ import annotations

import base64
import http.client
import json
import logging
import os
import random
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import IO, Any, BinaryIO, cast

import structgen
from structgen.errors import ConfigError, ServerError

logger = logging.getLogger(__name__)

_LARGEST_REPLY = 2**20  # bytes of an answer in JSON
_LARGEST_DOWNLOAD = 2**30
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True)
class Patience:
    """How long a server is waited for, in seconds. No part of what it answers."""

    deadline: float = 6 * 3600.0  # for the whole batch
    answer: float = 30.0  # for one answer of the network
    first_wait: float = 2.0  # before a ticket is looked at, or a request is made again; every further wait is half as long again
    longest_wait: float = 30.0
    tries: int = 6  # of a request that fails, in a row


@dataclass(frozen=True)
class Access:
    """What a request says of its sender. Never part of settings, keys or run files; `repr` does not show the secret."""

    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    contact: str = ""  # an address that a server's owner can write to

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Access:
        """STRUCTGEN_MSA_SERVER_USER and _PASSWORD (basic), or _HEADER ("Name: value"); STRUCTGEN_CONTACT. Raises `ConfigError`."""
        user, header = environment.get("STRUCTGEN_MSA_SERVER_USER"), environment.get("STRUCTGEN_MSA_SERVER_HEADER")
        contact = environment.get("STRUCTGEN_CONTACT", "")
        if user and header:
            raise ConfigError("STRUCTGEN_MSA_SERVER_USER and STRUCTGEN_MSA_SERVER_HEADER are both set; expected one of them")
        if user:
            secret = f"{user}:{environment.get('STRUCTGEN_MSA_SERVER_PASSWORD', '')}".encode()
            return cls({"Authorization": f"Basic {base64.b64encode(secret).decode()}"}, contact)
        if header:
            name, colon, value = header.partition(":")
            if not colon or not name.strip() or "\n" in header:
                raise ConfigError('STRUCTGEN_MSA_SERVER_HEADER: expected "Name: value", for example "X-API-Key: ..."')
            return cls({name.strip(): value.strip()}, contact)
        return cls(contact=contact)

    @property
    def agent(self) -> str:
        """The User-Agent header."""
        return f"structgen/{structgen.__version__}" + (f" ({self.contact})" if self.contact else "")


def check_host(host: str, access: Access) -> str:
    """The server's address without a slash at its end. Raises `ConfigError` for one that is none, or that would give a secret away."""
    parts = urllib.parse.urlsplit(host)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise ConfigError(f"--msa-server {host}: expected http(s)://name[:port][/path]")
    if parts.username or parts.password:
        raise ConfigError("--msa-server: the address holds a password, which goes on record; set STRUCTGEN_MSA_SERVER_USER and _PASSWORD")
    if access.headers and parts.scheme == "http" and parts.hostname not in _LOOPBACK:
        raise ConfigError(f"--msa-server {host}: credentials would travel unencrypted; give an https address")
    return host.rstrip("/")


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Credentials and sequences go to the host that was named and to no other."""

    def redirect_request(self, *arguments: Any) -> None:
        return None


class Http:
    """One server. The clock starts when it is made; `say` hears what happens."""

    def __init__(self, host: str, access: Access, patience: Patience, rng: random.Random, say: Callable[[str], None]) -> None:
        self.say = say
        self.host, self._access, self._patience, self._rng = check_host(host, access), access, patience, rng
        self._ends = time.monotonic() + patience.deadline
        self._opener = urllib.request.build_opener(_NoRedirect)

    def wait(self, times: int, why: str, least: float = 0.0) -> None:
        """Sleep before try number `times` + 1; every wait is longer, and none equals another. Raises `ServerError` at the deadline."""
        patience = self._patience
        planned = max(least, min(patience.longest_wait, patience.first_wait * 1.5**times)) * self._rng.uniform(0.75, 1.25)
        left = self._ends - time.monotonic()
        if left <= 0:
            waited = f"after {patience.deadline:g} s (--msa-deadline)"
            raise OutOfTime(f"{self.host}: given up {waited}: {why}; the same command again goes on, what was found is kept")
        logger.info("%s: %s; waiting %.1f s", self.host, why, min(planned, left))
        time.sleep(min(planned, left))

    def ask(self, path: str, form: Mapping[str, str] | None = None) -> dict[str, Any]:
        """The JSON object that the server answers with, whatever the status; a 429 is one with the status RATELIMIT.

        Raises `ServerDown` where there is no such answer after several tries, or the server refuses.
        """
        return json.loads(self._tried(path, form).read())

    def download(self, path: str) -> BinaryIO:
        """The body as a file that is gone when it is closed. Raises as `ask` does."""
        return self._tried(path, None, download=True)

    def _tried(self, path: str, form: Mapping[str, str] | None, download: bool = False) -> BinaryIO:
        for number in range(self._patience.tries):
            try:
                return self._once(path, form, download)
            except _Again as error:
                reason = str(error)
                if number + 1 < self._patience.tries:
                    self.wait(number, reason)
        raise ServerDown(f"{self.host}: {reason}, {self._patience.tries} times in a row; is this the address of a ColabFold server?")

    def _once(self, path: str, form: Mapping[str, str] | None, download: bool) -> BinaryIO:
        data = urllib.parse.urlencode(form).encode() if form is not None else None
        headers = {"User-Agent": self._access.agent, **self._access.headers}
        request = urllib.request.Request(f"{self.host}/{path}", data, headers)
        try:
            with self._opener.open(request, timeout=self._patience.answer) as reply:
                return self._body(reply, download)
        except urllib.error.HTTPError as error:
            with error:
                return self._refusal(error, download)
        except (OSError, http.client.HTTPException) as error:
            raise _Again(f"cannot be reached: {getattr(error, 'reason', error) or type(error).__name__}") from error

    def _body(self, reply: http.client.HTTPResponse, download: bool) -> BinaryIO:
        largest = _LARGEST_DOWNLOAD if download else _LARGEST_REPLY
        file: IO[bytes] = tempfile.SpooledTemporaryFile(max_size=64 * 2**20)
        while chunk := reply.read(2**16):
            file.write(chunk)
            if file.tell() > largest:
                raise ServerError(f"{self.host}: the answer is larger than {largest:,} bytes and was not read")
        said = reply.headers.get("Content-Length")
        if said and said.isdigit() and file.tell() != int(said):
            raise _Again(f"the answer was cut off: {file.tell():,} of {int(said):,} bytes")
        file.seek(0)
        if not download:
            _require_object(file.read(), str(reply.headers.get("Content-Type", "no content type")))
            file.seek(0)
        return cast(BinaryIO, file)

    def _refusal(self, error: urllib.error.HTTPError, download: bool) -> BinaryIO:
        """What a status of 300 and more means."""
        code, where = error.code, f"{self.host}: HTTP {error.code}"
        if code == 429:
            file = tempfile.TemporaryFile()
            file.write(json.dumps({"status": "RATELIMIT", "after": error.headers.get("Retry-After", "")}).encode())
            file.seek(0)
            return cast(BinaryIO, file)
        if code >= 500 or code == 408 or (download and code in (400, 404)):  # the last two: complete, but not yet there
            raise _Again(f"HTTP {code}")
        if code in (401, 403):
            remedy = "set STRUCTGEN_MSA_SERVER_USER and _PASSWORD, or STRUCTGEN_MSA_SERVER_HEADER"
            raise ServerDown(f"{where}: the server wants other credentials; {remedy}")
        if 300 <= code < 400:
            raise ServerDown(f"{where}: the server is elsewhere; give its own address: {error.headers.get('Location', '')[:200]!r}")
        said = error.read(200).decode("utf-8", "replace")
        raise ServerDown(f"{where}: {said!r}; is this the address of a ColabFold server?")


class ServerDown(ServerError):
    """Nothing more can be had from this server now."""


class OutOfTime(ServerDown):
    """The deadline is over."""


class _Again(Exception):
    """A request failed in a way that may not last."""


def _require_object(data: bytes, kind: str) -> None:
    try:
        found = json.loads(data)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise _Again(f"the answer is no JSON object but {kind}: {data[:60].decode('utf-8', 'replace')!r}")
