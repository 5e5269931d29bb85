"""Shapes as types: jaxtyping names, checked at run time while testing and free of cost otherwise."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, TypeVar

from jaxtyping import Bool, Float, Int, jaxtyped
from torch import Tensor

__all__ = ["Bool", "Float", "Int", "Tensor", "typed"]

T = TypeVar("T", bound=Callable[..., Any] | type)


def typed(target: T) -> T:
    """Check the shapes of a function's (or every method's of a class) arguments and result when STRUCTGEN_TYPED=1, as under pytest."""
    if os.environ.get("STRUCTGEN_TYPED") != "1":
        return target
    from beartype import beartype

    if not isinstance(target, type):
        return jaxtyped(typechecker=beartype)(target)
    for name in ("forward", "__call__"):
        if name in vars(target):
            setattr(target, name, jaxtyped(typechecker=beartype)(vars(target)[name]))
    return target
