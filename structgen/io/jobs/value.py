"""Values of a JSON or YAML text that know where they stand."""

from __future__ import annotations

import re
from bisect import bisect_right
from dataclasses import dataclass
from functools import lru_cache

from structgen.errors import InputError

DEEPEST = 64  # levels of nesting in a job file


@dataclass(frozen=True)
class Value:
    """One value: `path` such as `sequences[0].protein.id`, `offset` in characters of the text.

    `plain` is true for a scalar of YAML that stands without quotes: its data is the text as written, whatever YAML makes of it.
    """

    data: str | int | float | bool | list[Value] | dict[str, Value] | None
    offset: int
    path: str
    plain: bool = False

    @property
    def kind(self) -> str:
        """What the value is, in words of a user."""
        names = {dict: "a mapping", list: "a list", str: "text", bool: "true or false", int: "a number", float: "a number"}
        return names.get(type(self.data), "null")


def line_column(text: str, offset: int) -> str:
    """`line 3, column 7` of an offset, both from 1."""
    starts = _line_starts(text)
    line = bisect_right(starts, offset)
    return f"line {line}, column {offset - starts[line - 1] + 1}"


@lru_cache(maxsize=1)
def _line_starts(text: str) -> list[int]:
    """Offsets at which lines begin. Of one text many places are asked for, one after the other."""
    return [0, *(match.end() for match in re.finditer("\n" if "\n" in text else "\r", text))]


def syntax_error(text: str, offset: int, where: str, message: str, **parts: str) -> InputError:
    """The error for a text that cannot be parsed, at its line and column."""
    return InputError(message, where=f"{where}: {line_column(text, offset)}", **parts)


def member(path: str, key: str) -> str:
    """Path of a mapping's entry."""
    return f"{path}.{key}" if path else key
