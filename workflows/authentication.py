"""How this process proves itself to a Ray cluster. Ray reads it once, when it is imported: so this comes before, and imports no Ray."""

from __future__ import annotations

import os
import secrets
import sys
from pathlib import Path


def declare(where: str) -> None:
    """Say explicitly whether tokens are used: Ray's own default differs between its commands, and between machines.

    A local cluster gets a token of its own that is written nowhere, so that no other user of the machine can run code in it; for a
    running one a token is used if the user has one. What the user set himself, or Ray has read already, stays.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if "RAY_AUTH_MODE" in os.environ or "ray" in sys.modules:
        return
    if where == "local":
        os.environ["RAY_AUTH_MODE"] = "token"
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
        return
    own = (Path.home() / ".ray" / "auth_token").exists()
    given = "RAY_AUTH_TOKEN" in os.environ or "RAY_AUTH_TOKEN_PATH" in os.environ
    os.environ["RAY_AUTH_MODE"] = "token" if own or given else "disabled"
