"""Frozen dataclasses from nested mappings: how every configuration file and checkpoint header is read."""

from __future__ import annotations

import dataclasses
import difflib
import enum
import types
import typing
from collections.abc import Mapping
from typing import Any, Literal, TypeVar

from structgen.errors import ConfigError

T = TypeVar("T")


def from_mapping(cls: type[T], values: Any, path: str = "config") -> T:
    """`cls(**values)` with nested dataclasses, every value checked against its annotation.

    Raises `ConfigError` naming the dotted path for an unknown key (and the nearest known one), a wrong type, a missing value or a
    value outside a switch.
    """
    if not isinstance(values, Mapping):
        raise ConfigError(f"{path}: found {values!r}; expected a mapping")
    hints = typing.get_type_hints(cls)
    known = {f.name: f for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    for name in values:
        if name not in known:
            near = difflib.get_close_matches(str(name), known, n=1)
            raise ConfigError(f"{path}: unknown key {name!r}; " + (f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"))
    required = [n for n, f in known.items() if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING]
    missing = [name for name in required if name not in values]
    if missing:
        raise ConfigError(f"{path}: {missing[0]!r} is missing")
    return cls(**{name: _value(hints[name], value, f"{path}.{name}") for name, value in values.items()})


def _value(hint: Any, value: Any, path: str) -> Any:
    if hint is Any:
        return value
    if dataclasses.is_dataclass(hint):
        return from_mapping(typing.cast(type, hint), value, path)
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        if value not in arguments:
            raise ConfigError(f"{path}: found {value!r}; expected one of {', '.join(map(repr, arguments))}")
        return value
    if origin is tuple:
        return _tuple(arguments, value, path)
    if origin is dict:
        return _dictionary(arguments[1], value, path)
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in arguments:
            return None
        return _value(next(a for a in arguments if a is not type(None)), value, path)
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return _member(hint, value, path)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if type(value) is not hint:
        raise ConfigError(f"{path}: found {value!r} of type {type(value).__name__}; expected {hint.__name__}")
    return value


def _dictionary(hint: Any, value: Any, path: str) -> dict[str, Any]:
    if not isinstance(value, Mapping) or not all(isinstance(name, str) for name in value):
        raise ConfigError(f"{path}: found {value!r}; expected a mapping")
    return {name: _value(hint, item, f"{path}.{name}") for name, item in value.items()}


def _member(hint: type[enum.Enum], value: Any, path: str) -> enum.Enum:
    try:
        return hint(value)
    except ValueError:
        raise ConfigError(f"{path}: found {value!r}; expected one of {', '.join(repr(member.value) for member in hint)}") from None


def _tuple(arguments: tuple[Any, ...], value: Any, path: str) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple):
        raise ConfigError(f"{path}: found {value!r}; expected a list")
    hints = [arguments[0]] * len(value) if arguments[-1] is Ellipsis else list(arguments)
    if len(hints) != len(value):
        raise ConfigError(f"{path}: found {len(value)} values; expected {len(hints)}")
    return tuple(_value(h, v, f"{path}[{i}]") for i, (h, v) in enumerate(zip(hints, value, strict=True)))
