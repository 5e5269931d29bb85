"""A proxy before an object store that tears answers, or holds requests, as a bad network does."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPResponse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

Tear = Callable[[BaseHTTPRequestHandler, HTTPResponse, bytes], bool]
"""Sees a request, its answer and body; true when it has dealt with them."""

HOP = ("connection", "transfer-encoding", "content-length", "server", "date")


def cut(handler: BaseHTTPRequestHandler, answer: HTTPResponse, body: bytes) -> bool:
    """Promise the whole body and send half of it."""
    _head(handler, answer, len(body))
    handler.wfile.write(body[: len(body) // 2])
    handler.close_connection = True
    return True


def shorten(handler: BaseHTTPRequestHandler, answer: HTTPResponse, body: bytes) -> bool:
    """Send half of the body and say that this is all."""
    _head(handler, answer, len(body) // 2)
    handler.wfile.write(body[: len(body) // 2])
    return True


def corrupt(handler: BaseHTTPRequestHandler, answer: HTTPResponse, body: bytes) -> bool:
    """Send other bytes of the same number."""
    _head(handler, answer, len(body))
    handler.wfile.write(body[:-1] + bytes([body[-1] ^ 1]))
    return True


@contextmanager
def proxied(address: str, tear: Tear) -> Iterator[str]:
    """The address of a proxy to a server; `tear` sees every answer to a GET with a body, and every answer to a PUT."""
    target = urlsplit(address)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def forward(self) -> None:
            content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            there = HTTPConnection(str(target.hostname), target.port)
            there.request(self.command, self.path, content, dict(self.headers))
            answer = there.getresponse()
            body = answer.read()
            if (self.command == "PUT" or (self.command == "GET" and body)) and tear(self, answer, body):
                return
            _head(self, answer, int(answer.headers.get("Content-Length", len(body))) if self.command == "HEAD" else len(body))
            self.wfile.write(body)

        do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = forward

        def log_message(self, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def _head(handler: BaseHTTPRequestHandler, answer: HTTPResponse, length: int) -> None:
    handler.send_response(answer.status)
    for name, value in answer.getheaders():
        if name.lower() not in HOP and not name.lower().startswith("x-amz-checksum"):
            handler.send_header(name, value)
    handler.send_header("Content-Length", str(length))
    handler.end_headers()
