"""A job file as it is being read: what its values may be, where they stand, what is noted, which files it names."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from structgen.errors import InputError
from structgen.features.job import DEFAULT_LIMITS, Given, Limits
from structgen.io.jobs.value import Value, line_column
from structgen.io.jobs.yaml_text import other_meaning

LARGEST_SEED = 2**32 - 1
_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]*)")
_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")
_HALF = re.compile("[\ud800-\udfff]")
_FLAGS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}


@dataclass(frozen=True)
class Options:
    """How inputs are read."""

    uppercase: bool = False  # read small letters of sequences in JSON and YAML as capitals
    fix_nucleic: bool = False  # read T in RNA as U, and U in DNA as T
    files_under: str = ""  # files that inputs name must lie in this folder; empty: anywhere
    limits: Limits = DEFAULT_LIMITS


@dataclass(frozen=True)
class Source:
    """The text of an input, the name by which errors call it, and the folder against which it names other files."""

    file: str
    text: str
    folder: Path
    options: Options = Options()

    @property
    def stem(self) -> str:
        """The file's name without its suffixes of format and packing."""
        return Path(self.file).name.removesuffix(".gz").rpartition(".")[0] or Path(self.file).name


@dataclass(frozen=True)
class Reading:
    """One job of a source as it is being read. Only `notes` changes: it collects how the input was understood."""

    source: Source
    job: str = ""  # which job of the file, where it holds several
    notes: list[str] = field(default_factory=list)

    @property
    def options(self) -> Options:
        """How the input is to be read."""
        return self.source.options

    @property
    def where(self) -> str:
        """File and job."""
        return f"{self.source.file}: {self.job}" if self.job else self.source.file

    def of_job(self, job: str) -> Reading:
        """The same source at another job of it."""
        return replace(self, job=job, notes=[])

    def note(self, text: str) -> None:
        """Put how something was read on record, once."""
        if text not in self.notes:
            self.notes.append(text)

    def at(self, value: Value) -> str:
        """Where a value stands."""
        return f"{self.where}: {value.path or 'top level'} ({line_column(self.source.text, value.offset)})"

    def error(self, value: Value, message: str, *, found: str = "", expected: str = "", remedy: str = "") -> InputError:
        """The error for a value, with its place."""
        return InputError(message, where=self.at(value), found=found, expected=expected, remedy=remedy)

    # values of one type

    def fields(self, value: Value, known: Iterable[str], required: Sequence[str] = ()) -> dict[str, Value]:
        """The entries of a mapping without those that are null. Unknown keys are errors; the nearest known one is named."""
        entries = self.entries(value)
        known = tuple(known)
        for key, entry in entries.items():
            if key not in known:
                near = [k for k in known if key.lower() in k.lower()][:1] or difflib.get_close_matches(key, known, n=1, cutoff=0.5)
                remedy = f"did you mean {near[0]!r}?" if near else "remove it"
                raise self.error(entry, "unknown key", found=repr(key), expected=f"one of {', '.join(known)}", remedy=remedy)
        for key in required:
            if key not in entries or entries[key].data is None:
                raise self.error(value, f"{key!r} is missing", expected=f"the key {key!r}")
        return {key: entry for key, entry in entries.items() if entry.data is not None}

    def entries(self, value: Value) -> Mapping[str, Value]:
        """The entries of a mapping, whatever its keys."""
        if not isinstance(value.data, dict):
            raise self.error(value, "not a mapping", found=value.kind, expected="keys with values")
        return value.data

    def one_of(self, value: Value, known: Sequence[str]) -> tuple[str, Value]:
        """The single entry of a mapping that says by its key what it holds."""
        entries = self.entries(value)
        for key in entries:
            if key not in known:
                near = difflib.get_close_matches(key, known, n=1)
                remedy = f"did you mean {near[0]!r}?" if near else ""
                raise self.error(value, "unknown type", found=repr(key), expected=f"one of {', '.join(known)}", remedy=remedy)
        if len(entries) != 1:
            found = " and ".join(map(repr, entries)) or "none"
            raise self.error(value, "one type an element", found=found, expected=f"exactly one of {', '.join(known)}", remedy="split it")
        return next(iter(entries.items()))

    def items(self, value: Value, *, some: bool = False) -> list[Value]:
        """The items of a list; with `some` at least one."""
        if not isinstance(value.data, list):
            raise self.error(value, "not a list", found=value.kind, expected="a list")
        if some and not value.data:
            raise self.error(value, "list is empty", found="[]", expected="at least one")
        return value.data

    def text(self, value: Value) -> str:
        """A text. A plain scalar of YAML is taken as it is written; what YAML itself would have made of it is noted."""
        if not isinstance(value.data, str):
            raise self.error(value, "not a text", found=_shown(value), expected="text in quotes")
        if value.plain and (meaning := other_meaning(value.data)):
            self.note(f"{value.path}: {value.data} is {meaning} to YAML 1.1; it was read as text: quote it")
        if not value.data.isascii() and _HALF.search(value.data):
            raise self.error(value, "text holds half a character", found="a lone surrogate", remedy="write the character itself")
        return value.data

    def texts(self, value: Value) -> list[str]:
        """A text or a list of at least one."""
        return [self.text(item) for item in self.items(value, some=True)] if isinstance(value.data, list) else [self.text(value)]

    def flag(self, value: Value) -> bool:
        """true or false."""
        if isinstance(value.data, bool):
            return value.data
        if value.plain and isinstance(value.data, str) and value.data.lower() in _FLAGS:
            return _FLAGS[value.data.lower()]
        raise self.error(value, "neither true nor false", found=_shown(value), expected="true or false")

    def integer(self, value: Value, lowest: int | None = None, highest: int | None = None, *, texts: bool = False) -> int:
        """A whole number in a range; with `texts` also one in quotes."""
        data = value.data
        if isinstance(data, str) and (value.plain or texts) and _INTEGER.fullmatch(data) and len(data) < 20:
            data = int(data)
        expected = "a whole number" + _range(lowest, highest)
        if type(data) is not int or (lowest is not None and data < lowest) or (highest is not None and data > highest):
            raise self.error(value, "not a number that fits", found=_shown(value), expected=expected)
        return data

    def number(self, value: Value, lowest: float, highest: float) -> float:
        """A number in a range."""
        data = value.data
        if isinstance(data, str) and value.plain and _NUMBER.fullmatch(data):
            data = float(data)
        if isinstance(data, bool) or not isinstance(data, int | float) or not lowest <= data <= highest:
            raise self.error(value, "not a number that fits", found=_shown(value), expected=f"a number from {lowest:g} to {highest:g}")
        return float(data)

    # what many formats say

    def name(self, value: Value) -> str:
        """The name of a job: free text of which a folder's name can be made."""
        text = self.text(value)
        if not re.search(r"[A-Za-z0-9]", text):
            cleaned = re.sub(r"[^A-Za-z0-9_.-]", "", text)
            expected = "at least one of A-Z, a-z, 0-9: folders and files are named after it"
            raise self.error(value, "name cannot be used", found=f"{text!r}, of which {cleaned!r} can be kept", expected=expected)
        return text

    def seeds(self, value: Value, *, texts: bool = False) -> tuple[int, ...]:
        """Distinct seeds from 0 to 2^32 - 1."""
        seeds = [self.integer(item, 0, LARGEST_SEED, texts=texts) for item in self.items(value)]
        for i, seed in enumerate(seeds):
            if seed in seeds[:i]:
                found = f"{seed} at {seeds.index(seed) + 1} and {i + 1}"
                raise self.error(value, "equal seeds", found=found, expected="each seed once", remedy="remove one of them")
        return tuple(seeds)

    def file(self, value: Value) -> Given:
        """A file or folder that a value names."""
        return self.named_file(self.text(value), self.at(value))

    def named_file(self, name: str, where: str) -> Given:
        """The readable file or folder of a name: beside the job file, else, with a note, in the working folder. Its path is absolute."""
        tried = list(dict.fromkeys(Path(os.path.abspath(base / name)) for base in (self.source.folder, Path.cwd())))
        found = next((path for path in tried if name and os.path.exists(path)), None)
        if found is None:
            remedy = "paths are relative to the job file; correct it or give an absolute one"
            shown = " and ".join(str(path)[:300] for path in tried)
            raise InputError("file does not exist", where=where, found=repr(name[:300]), expected=f"a file; tried {shown}", remedy=remedy)
        root = self.options.files_under
        if root and not found.resolve().is_relative_to(Path(root).resolve()):
            raise InputError("file lies outside the allowed folder", where=where, found=str(found), expected=f"a path in {root}")
        if not os.access(found, os.R_OK):
            raise InputError("file cannot be read", where=where, found=str(found), remedy="change its permissions")
        if found != tried[0]:
            self.note(f"{name} lies in the working folder, not beside {Path(self.source.file).name}")
        return Given(path=str(found))


def _range(lowest: int | None, highest: int | None) -> str:
    if lowest is None:
        return ""
    return f" of {lowest:,} or more" if highest is None else f" from {lowest:,} to {highest:,}"


def _shown(value: Value) -> str:
    """A value as it is shown in an error."""
    return value.kind if isinstance(value.data, dict | list) else "null" if value.data is None else repr(value.data)[:80]
