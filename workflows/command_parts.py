"""Options that several commands share, written once: a command whose options are the fields of dataclasses."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import MISSING, Field, fields
from typing import Any, get_type_hints


def options_of(*parts: type) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """The command that is called with one object of each dataclass, made from the options that are their fields, in this order."""

    def decorated(command: Callable[..., None]) -> Callable[..., None]:
        def called(**values: Any) -> None:
            command(*(part(**{field.name: values[field.name] for field in fields(part)}) for part in parts))

        called.__doc__, called.__name__ = command.__doc__, command.__name__
        called.__signature__ = inspect.Signature([option for part in parts for option in _options(part)])  # type: ignore[attr-defined]
        return called

    return decorated


def _options(part: type) -> list[inspect.Parameter]:
    hints = get_type_hints(part, include_extras=True)
    return [
        inspect.Parameter(field.name, inspect.Parameter.KEYWORD_ONLY, default=_default(field), annotation=hints[field.name])
        for field in fields(part)
    ]


def _default(field: Field[Any]) -> Any:
    return inspect.Parameter.empty if field.default is MISSING else field.default
