"""The text of the page: a frame, a style sheet, a program, data that no browser takes for HTML, a policy that forbids the network."""

from __future__ import annotations

import base64
import gzip
import hashlib
import re
from html import escape
from pathlib import Path
from typing import Any

from structgen.report.packing import strict_json

ASSETS = Path(__file__).parent / "assets"
SCRIPTS = ("data", "draw", "theme", "table", "pae", "plots", "viewer", "scores", "job", "main")  # in this order, one scope
GENERATOR = "structgen report"


def head(index: dict[str, Any], *, split: bool) -> str:
    """Everything before the jobs' data: it shows the table by itself. `split`: data come from scripts in a folder beside the page."""
    style, program, library = _text("report.css"), _program(), _text("3Dmol-min.js")
    scripts = [_source(program), _source(library), *(["'self'", "file:"] if split else [])]
    policy = "; ".join(
        [
            "default-src 'none'",
            f"script-src {' '.join(scripts)}",
            f"style-src {_source(style)}",
            "img-src data: blob:",
            "base-uri 'none'",
            "form-action 'none'",
        ]
    )
    frame = _text("report.html")
    parts = {
        "POLICY": escape(policy),
        "TITLE": escape(f"{index['name']} · {GENERATOR}"),
        "GENERATOR": GENERATOR,
        "STYLE": style,
        "INDEX": json_text(index | {"split": split}),
        "LICENCE": escape(_text("3Dmol-LICENSE.txt")),
        "LIBRARY": base64.b64encode(gzip.compress(library.encode(), 9, mtime=0)).decode(),
        "PROGRAM": program,
    }
    return re.sub(r"\[\[([A-Z]+)\]\]", lambda mark: parts[mark[1]], frame)  # one pass: what looks like a mark in the data stays as it is


def block(name: str, payload: bytes) -> str:
    """A job's or sample's data inside the page."""
    return f'<script type="text/plain" id="{name}">{base64.b64encode(payload).decode()}</script>\n'


def script(name: str, payload: bytes) -> str:
    """The same as a file that the page loads."""
    return f'structgenData("{name}","{base64.b64encode(payload).decode()}")\n'


def json_text(value: Any) -> str:
    """JSON that ends no script element and no line of a program, whatever the texts in it."""
    return strict_json(value).replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


TAIL = "</body></html>\n"


def _program() -> str:
    parts = "\n".join(_text(f"{name}.js") for name in SCRIPTS)
    return f'"use strict";\n(() => {{\n{parts}\n}})();\n'


def _text(name: str) -> str:
    return (ASSETS / name).read_text(encoding="utf-8")


def _source(text: str) -> str:
    """What a policy calls this inline text."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
