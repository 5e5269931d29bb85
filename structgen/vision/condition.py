"""What pictures and clips are made from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from structgen.errors import ConfigError

NO_CLASS = -1


@dataclass(frozen=True)
class Condition:
    """The condition of b examples; what is not given is None. `NO_CLASS`, a vector of zeros and tokens of zeros say nothing."""

    label: Tensor | None = None  # [b] class
    vector: Tensor | None = None  # [b, c_vector], say the embedding of a text or of a picture
    tokens: Tensor | None = None  # [b, n, c_tokens], say the words of a text
    mask: Tensor | None = None  # [b, n] bool, True where there is a token; None: everywhere
    image: Tensor | None = None  # [b, c_image, *size of the state], joined to the channels: a smaller picture enlarged, known frames
    level: Tensor | None = None  # [b], the time to which `image` was noised
    control: Tensor | None = None  # [b, c_control, *size of the picture], for a ControlNet

    def each(self, change: Callable[[Tensor], Tensor]) -> Condition:
        """Every tensor that is given, changed."""
        given = {field.name: getattr(self, field.name) for field in fields(self)}
        return Condition(**{name: None if value is None else change(value) for name, value in given.items()})

    def rows(self, index: Tensor | slice) -> Condition:
        """The examples at `index`."""
        return self.each(lambda value: value[index])

    def require(self, name: str) -> Tensor:
        """A field that a network cannot do without. Raises `ConfigError`."""
        if (value := getattr(self, name)) is None:
            raise ConfigError(f"this network needs the condition {name!r}, which is not given")
        return value


def emptied(cond: Condition, lost: Tensor) -> Condition:
    """The condition in which the examples `lost` [b] bool say nothing of class, vector and tokens; for `Drop`. Pictures stay."""
    keep = ~lost
    return replace(
        cond,
        label=None if cond.label is None else torch.where(lost, NO_CLASS, cond.label),
        vector=None if cond.vector is None else cond.vector * keep[:, None],
        tokens=None if cond.tokens is None else cond.tokens * keep[:, None, None],
        mask=None if cond.mask is None else cond.mask | lost[:, None],  # a mask would tell how long the text was
    )


def without_words(cond: Condition, lost: Tensor) -> Condition:
    """The condition in which the examples `lost` [b] bool have no tokens; for `Drop`."""
    return replace(emptied(cond, lost), label=cond.label, vector=cond.vector)


def says_something(cond: Condition) -> bool:
    """Whether there is a class, a vector or tokens: what `emptied` takes away."""
    return not (cond.label is None and cond.vector is None and cond.tokens is None)


def empty_and_given(cond: Condition, size: int) -> Condition:
    """2 `size` examples, first those that say nothing: for `classifier_free_at_once`."""
    both = cond.each(lambda value: torch.cat([value, value]))
    return emptied(both, torch.arange(2 * size) < size)
