"""Names of jobs as folder names that are safe on every file system and unique in a batch."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence

LONGEST = 150
_DEVICES = {"con", "prn", "aux", "nul", "conin$", "conout$", *(f"{port}{n}" for port in ("com", "lpt") for n in range(10))}
_RESERVED = {"run.json"}  # what a batch itself writes beside its jobs' folders


def safe_slug(name: str) -> str:
    """Letters, digits, '_', '-' and '.' of a name, other characters as '_'; never empty, hidden, a device, or over 150 characters."""
    slug = re.sub(r"[^A-Za-z0-9_.-]+", "_", name).strip(".-")
    if not re.search(r"[A-Za-z0-9]", slug):
        slug = f"job-{_digest(name)}"
    if slug.split(".")[0].lower() in _DEVICES or slug.lower() in _RESERVED:
        slug = f"job-{slug}"
    return slug if len(slug) <= LONGEST else _with_suffix(slug, f"-{_digest(name)}")


def unique_slugs(names: Sequence[str], contents: Sequence[str]) -> list[str]:
    """A slug for every name. The first of equal slugs (case ignored) keeps its own; later ones end in a hash of name and content."""
    taken: set[str] = set()
    slugs = []
    for name, content in zip(names, contents, strict=True):
        slug = plain = safe_slug(name)
        hashed = "-" + _digest(f"{name}\0{content}")
        attempt = 0
        while slug.lower() in taken:
            attempt += 1
            slug = _with_suffix(plain, hashed if attempt == 1 else f"{hashed}-{attempt}")
        taken.add(slug.lower())
        slugs.append(slug)
    return slugs


def _with_suffix(slug: str, suffix: str) -> str:
    return slug[: LONGEST - len(suffix)].rstrip(".-") + suffix


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:8]
