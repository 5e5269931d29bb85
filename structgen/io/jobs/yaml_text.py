"""Strict YAML with positions: every scalar is the text that was written, keys are unique, aliases are bounded, tags are refused."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import yaml

from structgen.errors import InputError
from structgen.io.jobs.value import DEEPEST, Value, line_column, member, syntax_error

MOST_ALIASED = 10_000  # values that aliases stand for
LARGEST = 4 * 2**20  # characters of a file
_NULLS = ("", "~", "null", "Null", "NULL")
_MEANINGS = {"bool": "true or false", "int": "a number", "float": "a number", "timestamp": "a date", "merge": "a merge key"}


def parse_yaml(text: str, where: str) -> Value:
    """The one document of a YAML text. Plain scalars stay text (`Value.plain`), but for the words of null, which are None.

    Raises `InputError` with line and column for what is not YAML, for duplicate keys, tags, several documents, and for aliases that
    stand for more than 10,000 values.
    """
    if len(text) > LARGEST:
        raise InputError("YAML is too large", where=where, found=f"{len(text):,} characters", expected=f"at most {LARGEST:,}")
    try:
        return _Composer(text, where, yaml.parse(text, Loader=yaml.SafeLoader)).document()
    except yaml.MarkedYAMLError as error:
        raise _syntax(text, where, error) from error
    except yaml.YAMLError as error:  # characters that YAML does not allow
        offset = getattr(error, "position", 0)
        found = repr(text[offset : offset + 1])
        raise syntax_error(text, offset, where, "character that YAML does not allow", found=found, remedy="remove it") from error


def other_meaning(text: str) -> str:
    """What YAML 1.1 makes of a plain scalar that is not text to it, in words; empty for text."""
    tag = _RESOLVER.resolve(yaml.ScalarNode, text, (True, False))
    return _MEANINGS.get(str(tag).rpartition(":")[2], "")


_RESOLVER = yaml.resolver.Resolver()


def _syntax(text: str, where: str, error: yaml.MarkedYAMLError) -> InputError:
    mark = error.problem_mark or error.context_mark
    offset = mark.index if mark else 0
    problem = str(error.problem or error.context)
    if "\\t" in problem or text[offset : offset + 1] == "\t":
        return syntax_error(text, offset, where, "a tab in the indent", found="a tab", remedy="indent with blanks")
    if "undefined alias" in problem:
        problem = "alias without an anchor"
    remedy = "put the text in quotes" if text[offset : offset + 1] in tuple(":[]{}#&*!|>%@`") else ""
    return syntax_error(text, offset, where, f"not YAML: {problem}", remedy=remedy)


@dataclass
class _Composer:
    """Events of one document to values."""

    text: str
    where: str
    events: Iterator[yaml.Event]
    anchors: dict[str, tuple[Value, int]] = field(default_factory=dict)  # with the number of values under each
    aliased: int = 0

    def document(self) -> Value:
        next(self.events)  # the stream's start
        start = next(self.events)
        if isinstance(start, yaml.StreamEndEvent):
            raise InputError("file is empty", where=self.where, found="no value")
        value, _ = self._value(next(self.events), "", 0)
        next(self.events)
        after = next(self.events)
        if not isinstance(after, yaml.StreamEndEvent):
            raise self._error(after, "several documents in one file", found="'---'", remedy="one file is one job: split it")
        return value

    def _value(self, event: yaml.Event, path: str, depth: int) -> tuple[Value, int]:
        """The value that begins with an event, and how many values it holds."""
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event)
        if getattr(event, "tag", None) is not None:
            raise self._error(event, "YAML tags are refused", found=f"{event.tag!r}", remedy="remove the tag")
        if depth > DEEPEST:
            raise self._error(event, "values are nested too deeply", found=f"more than {DEEPEST} levels")
        offset = event.start_mark.index
        if isinstance(event, yaml.MappingStartEvent):
            value, size = self._mapping(offset, path, depth)
        elif isinstance(event, yaml.SequenceStartEvent):
            value, size = self._list(offset, path, depth)
        else:
            value, size = self._scalar(event, offset, path), 1
        if event.anchor:
            self.anchors[event.anchor] = value, size
        return value, size

    def _alias(self, event: yaml.AliasEvent) -> tuple[Value, int]:
        if event.anchor not in self.anchors:
            raise self._error(event, "alias without an anchor before it", found=f"*{event.anchor}")
        value, size = self.anchors[event.anchor]
        self.aliased += size
        if self.aliased > MOST_ALIASED:
            found = f"aliases that stand for {self.aliased:,} values"
            raise self._error(event, "too many aliases", found=found, expected=f"at most {MOST_ALIASED:,}", remedy="write the values out")
        return value, size

    def _mapping(self, offset: int, path: str, depth: int) -> tuple[Value, int]:
        entries: dict[str, Value] = {}
        places: dict[str, int] = {}
        total = 1
        while not isinstance(event := next(self.events), yaml.MappingEndEvent):
            if not isinstance(event, yaml.ScalarEvent) or event.tag is not None:
                raise self._error(event, "a key must be plain text", expected="text")
            key = event.value
            if key in entries:
                found = f"{key!r} again, first at {line_column(self.text, places[key])}"
                raise self._error(event, "duplicate key", found=found, expected="each key once", remedy="remove one of them")
            places[key] = event.start_mark.index
            entries[key], size = self._value(next(self.events), member(path, key), depth + 1)
            total += size
        return Value(entries, offset, path), total

    def _list(self, offset: int, path: str, depth: int) -> tuple[Value, int]:
        items: list[Value] = []
        total = 1
        while not isinstance(event := next(self.events), yaml.SequenceEndEvent):
            item, size = self._value(event, f"{path}[{len(items)}]", depth + 1)
            items.append(item)
            total += size
        return Value(items, offset, path), total

    def _scalar(self, event: yaml.ScalarEvent, offset: int, path: str) -> Value:
        plain = event.style is None
        return Value(None if plain and event.value in _NULLS else event.value, offset, path, plain)

    def _error(self, event: yaml.Event, message: str, **parts: str) -> InputError:
        return syntax_error(self.text, event.start_mark.index, self.where, message, **parts)
