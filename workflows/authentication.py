"""How this process proves itself to a Ray cluster. Ray reads it once, when it is imported: so this comes before, and imports no Ray."""

from __future__ import annotations

import ipaddress
import os
import secrets
import sys
import urllib.parse
import urllib.request
from pathlib import Path

from structgen.errors import ConfigError

PATIENCE = 10.0  # seconds for a dashboard to answer


def declare(where: str) -> None:
    """Say explicitly whether tokens are used: Ray's own default differs between its commands, and between machines.

    A local cluster gets a token of its own that is written nowhere, so that no other user of the machine can run code in it; for a
    running one a token is used if the user has one. What the user set himself, or Ray has read already, stays. Raises `ConfigError` for
    an address beyond this machine without a token, unless the user has said RAY_AUTH_MODE=disabled.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if "RAY_AUTH_MODE" in os.environ or "ray" in sys.modules:
        return
    if where == "local":
        os.environ["RAY_AUTH_MODE"] = "token"
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
        return
    host, _, port = where.rpartition(":")
    if port.isdigit() and not has_token() and not is_loopback(host.strip("[]")):
        raise ConfigError(f"cluster {where}: no token, and this is not this machine; set RAY_AUTH_TOKEN_PATH, or RAY_AUTH_MODE=disabled")
    os.environ["RAY_AUTH_MODE"] = "token" if has_token() else "disabled"


def require_token(address: str, *, insecure: bool) -> None:
    """Settle how a submission to a dashboard proves itself, before Ray is imported.

    Raises `ConfigError` where the address is none, and, beyond this machine, where there is no token or the cluster asks for none: whoever
    reaches an open cluster can run code on it. `insecure` accepts that.
    """
    host = _host(address)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    mode = os.environ.setdefault("RAY_AUTH_MODE", "token" if has_token() else "disabled")
    if insecure or is_loopback(host):
        return
    if mode != "token" or not has_token():
        raise ConfigError(
            f"{address}: no token, and this is not this machine; set RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH to that of the cluster, "
            "or accept with --insecure that whoever reaches it can run code on it"
        )
    if is_open(address):
        raise ConfigError(
            f"{address} asks for no token: whoever reaches it can run code on it; start it with RAY_AUTH_MODE=token, or use --insecure"
        )


def has_token() -> bool:
    """Whether the user has a token where Ray looks for one."""
    own = os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token"
    return bool(os.environ.get("RAY_AUTH_TOKEN")) or Path(own).is_file()


def is_loopback(host: str) -> bool:
    """Whether only this machine is behind a host's name."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_open(address: str) -> bool:
    """Whether a dashboard answers about its jobs without a token. False too where it cannot be reached: that is told later."""
    try:
        with urllib.request.urlopen(f"{address.rstrip('/')}/api/jobs/", timeout=PATIENCE) as answer:
            return answer.status == 200
    except (OSError, ValueError):
        return False


def _host(address: str) -> str:
    parts = urllib.parse.urlsplit(address)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError(f"--address {address!r}: expected the dashboard of the head, for example http://127.0.0.1:8265")
    return parts.hostname
