"""Text of the user inside files that hold printable ASCII only."""

from __future__ import annotations


def printable(text: str) -> str:
    """The text with everything but printable ASCII and line ends as backslash escapes; no line starts with a semicolon but the first.

    (A semicolon at the start of a line would end a text field of CIF.)
    """
    if text.isascii() and text.isprintable():
        return text
    escaped = (c if c == "\n" or (c.isascii() and c.isprintable()) else c.encode("unicode_escape").decode() for c in text)
    return "".join(escaped).replace("\n;", "\n ;")
