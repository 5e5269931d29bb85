"""Strict JSON with positions: no duplicate keys, NaN, comments, trailing commas or text behind the end."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from json import JSONDecodeError
from json.decoder import scanstring  # type: ignore[attr-defined]  # the parser's own, in C

from structgen.errors import InputError
from structgen.io.jobs.value import DEEPEST, Value, line_column, member, syntax_error

_BLANK = re.compile(r"[ \t\n\r]*")
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")
_NOT_FINITE = re.compile(r"-?(?:NaN|Infinity|nan|inf|Inf)\b")
_WORDS: dict[str, bool | None] = {"true": True, "false": False, "null": None}
_LONGEST_NUMBER = 400  # characters


def parse_json(text: str, where: str) -> Value:
    """The one value of a JSON text. Raises `InputError` with line, column and what to do for everything that RFC 8259 does not allow."""
    parser = _Parser(text, where)
    value, end = parser.value(0, "")
    end = parser.skip(end)
    if end < len(text):
        raise parser.error(end, "text behind the end of the JSON value", found=repr(text[end : end + 20]), remedy="remove it")
    return value


@dataclass(frozen=True)
class _Parser:
    text: str
    where: str
    open: list[tuple[str, int]] = field(default_factory=list)  # brackets that are not closed yet, and where they stand

    def error(self, offset: int, message: str, **parts: str) -> InputError:
        return syntax_error(self.text, offset, self.where, message, **parts)

    def skip(self, offset: int) -> int:
        """The next character that is not blank; a comment there is an error."""
        end = _BLANK.match(self.text, offset).end()  # type: ignore[union-attr]
        if self.text.startswith(("//", "/*", "#"), end):
            raise self.error(end, "JSON has no comments", found=repr(self.text[end : end + 20]), remedy="remove it")
        return end

    def value(self, offset: int, path: str) -> tuple[Value, int]:
        """The value at or behind an offset, and where it ends."""
        offset = self.skip(offset)
        first = self.text[offset : offset + 1]
        if first == "{":
            return self._mapping(offset, path)
        if first == "[":
            return self._list(offset, path)
        if first == '"':
            data, end = self._string(offset)
            return Value(data, offset, path), end
        return self._scalar(offset, path)

    def _mapping(self, offset: int, path: str) -> tuple[Value, int]:
        self._enter("{", offset)
        entries: dict[str, Value] = {}
        places: dict[str, int] = {}
        end = self.skip(offset + 1)
        while self.text[end : end + 1] != "}":
            if self.text[end : end + 1] != '"':
                raise self._unexpected(end, "a key in double quotes")
            key, after = self._string(end)
            if key in entries:
                found = f"{key!r} again, first at {line_column(self.text, places[key])}"
                raise self.error(end, "duplicate key", found=found, expected="each key once", remedy="remove one of them")
            places[key], after = end, self.skip(after)
            if self.text[after : after + 1] != ":":
                raise self._unexpected(after, f"':' behind the key {key!r}")
            entries[key], end = self.value(after + 1, member(path, key))
            end = self._next(end, "}")
        self.open.pop()
        return Value(entries, offset, path), end + 1

    def _list(self, offset: int, path: str) -> tuple[Value, int]:
        self._enter("[", offset)
        items: list[Value] = []
        end = self.skip(offset + 1)
        while self.text[end : end + 1] != "]":
            item, end = self.value(end, f"{path}[{len(items)}]")
            items.append(item)
            end = self._next(end, "]")
        self.open.pop()
        return Value(items, offset, path), end + 1

    def _enter(self, bracket: str, offset: int) -> None:
        if len(self.open) >= DEEPEST:
            raise self.error(offset, "brackets are nested too deeply", found=f"more than {DEEPEST} levels", remedy="this is no job file")
        self.open.append((bracket, offset))

    def _next(self, offset: int, bracket: str) -> int:
        """Where the next entry begins, or the closing bracket stands."""
        offset = self.skip(offset)
        following = self.text[offset : offset + 1]
        if following == ",":
            after = self.skip(offset + 1)
            if self.text[after : after + 1] == bracket:
                raise self.error(offset, "trailing comma", found=f"',' before '{bracket}'", remedy="remove the comma")
            return after
        if following != bracket:
            raise self._unexpected(offset, f"',' or '{bracket}'")
        return offset

    def _string(self, offset: int) -> tuple[str, int]:
        try:
            return scanstring(self.text, offset + 1, True)
        except JSONDecodeError as error:
            raise self._bad_string(offset, error) from None

    def _bad_string(self, offset: int, error: JSONDecodeError) -> InputError:
        if error.msg.startswith("Unterminated"):
            return self._cut_off(offset, "inside a text")
        found = repr(self.text[error.pos : error.pos + 2])
        if "escape" in error.msg:
            remedy = "write two backslashes (\\\\) for each one of a SMILES string or a path"
            return self.error(error.pos, "a single backslash", found=found, remedy=remedy)
        remedy = "close the quotes before the end of the line; write \\n for a line break"
        return self.error(error.pos, "control character in a text", found=found, remedy=remedy)

    def _scalar(self, offset: int, path: str) -> tuple[Value, int]:
        for word, meaning in _WORDS.items():
            if self.text.startswith(word, offset):
                return Value(meaning, offset, path), offset + len(word)
        if found := _NOT_FINITE.match(self.text, offset):
            raise self.error(offset, f"{path or 'the value'} is no number", found=found[0], expected="a finite number")
        number = _NUMBER.match(self.text, offset)
        if not number:
            raise self._unexpected(offset, "a value")
        if len(number[0]) > _LONGEST_NUMBER:
            raise self.error(offset, "number is too long", found=f"{len(number[0]):,} characters")
        data = float(number[0]) if number[1] or number[2] else int(number[0])
        if data in (float("inf"), float("-inf")):
            raise self.error(offset, f"{path or 'the value'} is too large", found=number[0], expected="a finite number")
        return Value(data, offset, path), number.end()

    def _unexpected(self, offset: int, expected: str) -> InputError:
        if offset >= len(self.text):
            return self._cut_off(offset, "where more is expected")
        found = self.text[offset : offset + 20].splitlines()[0]
        remedy = "texts and keys stand in double quotes" if found[:1] in "'`" or found[:1].isalpha() else ""
        return self.error(offset, "not JSON", found=repr(found), expected=expected, remedy=remedy)

    def _cut_off(self, offset: int, place: str) -> InputError:
        last = f"; last open bracket '{self.open[-1][0]}' at {line_column(self.text, self.open[-1][1])}" if self.open else ""
        found = f"the end of the file {place}{last}"
        return self.error(min(offset, len(self.text)), "JSON is cut off", found=found, remedy="copy the file again, or close the brackets")
