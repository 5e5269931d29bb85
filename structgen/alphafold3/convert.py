"""Weights of other implementations in the names and shapes of this one: every tensor used exactly once, nothing guessed.

A converter is a table of rules, each of which makes one of our tensors of one or more of theirs and can undo it.
`convert_protenix` and `convert_openfold3` hold the tables of the public models.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from structgen.errors import CheckpointError


@dataclass(frozen=True)
class Rule:
    """Our tensor `ours` is `make` of their tensors `theirs`, which are `undo` of it. Without `ours`: tensors that are checked, not kept."""

    ours: str | None
    theirs: tuple[str, ...]
    make: Callable[[Sequence[Tensor]], Tensor]
    undo: Callable[[Tensor], Sequence[Tensor]]

    def under(self, ours: str, theirs: str) -> Rule:
        """The same rule inside a module of ours and one of theirs."""
        return replace(self, ours=None if self.ours is None else ours + self.ours, theirs=tuple(theirs + name for name in self.theirs))

    def made_of(self, theirs: Mapping[str, Tensor]) -> Tensor:
        """Our tensor. Raises `CheckpointError` where theirs do not go together."""
        try:
            return self.make([theirs[name] for name in self.theirs])
        except RuntimeError as error:  # torch's own complaint about shapes
            raise CheckpointError(f"{', '.join(self.theirs)}: {error}") from error


Table = tuple[Rule, ...]


class Converted(Mapping[str, Tensor]):
    """Their tensors as ours, each made when it is asked for: nothing is held twice."""

    def __init__(self, theirs: Mapping[str, Tensor], table: Iterable[Rule], expected: Mapping[str, Tensor]) -> None:
        """`expected` gives the names and shapes that must come out: a network's `state_dict()`, on the meta device if need be.

        Raises `CheckpointError` where a tensor of theirs is missing or left over, where one of ours has another shape or no source,
        and where a tensor that is only checked fails.
        """
        rules = tuple(table)
        _require_same("their tensors", set(theirs), [name for rule in rules for name in rule.theirs])
        _require_same("our tensors", set(expected), [rule.ours for rule in rules if rule.ours is not None])
        self.theirs = theirs
        self.rules = {rule.ours: rule for rule in rules if rule.ours is not None}
        _require_shapes(self.rules, theirs, expected)
        for rule in rules:
            if rule.ours is None:
                rule.made_of(theirs)

    def __getitem__(self, name: str) -> Tensor:
        return self.rules[name].made_of(self.theirs)

    def __iter__(self) -> Iterator[str]:
        return iter(self.rules)

    def __len__(self) -> int:
        return len(self.rules)


def convert(theirs: Mapping[str, Tensor], table: Iterable[Rule], expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Our whole state dict; raises as `Converted` does."""
    return dict(Converted(theirs, table, expected))


def revert(ours: Mapping[str, Tensor], table: Iterable[Rule]) -> dict[str, Tensor]:
    """Inverse of `convert`: the state dict as the other implementation writes it, with its constants."""
    nothing = torch.empty(0)
    pairs = (zip(rule.theirs, rule.undo(nothing if rule.ours is None else ours[rule.ours]), strict=True) for rule in table)
    return {name: tensor for pair in pairs for name, tensor in pair}


def _require_same(what: str, names: set[str], table: list[str]) -> None:
    """The table must speak of every name, once."""
    missing, surplus = sorted(set(table) - names), sorted(names - set(table))
    if missing or surplus:
        raise CheckpointError(f"{what}: missing {_first(missing)}, left over {_first(surplus)}")
    twice = sorted(name for name, count in Counter(table).items() if count > 1)
    if twice:
        raise CheckpointError(f"{what}: the table names {_first(twice)} more than once")


def _require_shapes(rules: Mapping[str, Rule], theirs: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    """Found out on the meta device, without a look at the numbers."""
    shapes = {name: tensor.to("meta") for name, tensor in theirs.items()}
    made = {name: tuple(rule.made_of(shapes).shape) for name, rule in rules.items()}
    wrong = [f"{name} would be {shape}, not {tuple(expected[name].shape)}" for name, shape in made.items() if shape != expected[name].shape]
    if wrong:
        raise CheckpointError(f"shapes do not fit the configuration: {_first(wrong)}")


def _first(names: Sequence[str], most: int = 5) -> str:
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + rest if names else "nothing"


# What tables are made of.


def tensor(ours: str, theirs: str) -> Rule:
    """The same tensor under another name."""
    return Rule(ours, (theirs,), lambda tensors: tensors[0], lambda made: (made,))


def weight(ours: str, theirs: str) -> Table:
    """A linear map without bias, or a layer norm without offset."""
    return (tensor(f"{ours}.weight", f"{theirs}.weight"),)


def affine(ours: str, theirs: str) -> Table:
    """A linear map with bias, or a layer norm with offset."""
    return (*weight(ours, theirs), tensor(f"{ours}.bias", f"{theirs}.bias"))


def joined(ours: str, *theirs: str) -> Table:
    """Several linear maps of one input, all with as many outputs, as one."""
    names = tuple(f"{name}.weight" for name in theirs)
    return (Rule(f"{ours}.weight", names, lambda tensors: torch.cat(list(tensors)), lambda made: made.chunk(len(names))),)


def concatenated(ours: str, parts: Mapping[str, int]) -> Table:
    """The sum of several linear maps as one of their inputs put side by side; `parts` are their names and widths."""
    names, widths = tuple(f"{name}.weight" for name in parts), list(parts.values())
    return (Rule(f"{ours}.weight", names, lambda tensors: torch.cat(list(tensors), dim=1), lambda made: made.split(widths, dim=1)),)


def checked(theirs: Mapping[str, Tensor], why: str) -> Rule:
    """Constants that their checkpoints hold and our configurations say: refused where they differ by more than rounding."""

    def check(found: Sequence[Tensor]) -> Tensor:
        for (name, expected), value in zip(theirs.items(), found, strict=True):
            known = value.shape == expected.shape and (value.is_meta or torch.allclose(value.float(), expected.to(value.dtype).float()))
            if not known:
                shown = [", ".join(f"{number:g}" for number in numbers.flatten()[:4].tolist()) for numbers in (value, expected)]
                raise CheckpointError(f"{name} begins with {shown[0]}; expected {shown[1]}: {why}")
        return found[0]

    return Rule(None, tuple(theirs), check, lambda _: tuple(theirs.values()))


def under(ours: str, theirs: str, table: Iterable[Rule]) -> Table:
    """A table inside a module of ours and one of theirs."""
    return tuple(rule.under(ours, theirs) for rule in table)


def numbered(ours: str, theirs: str, count: int, table: Table) -> Table:
    """The table once for every block, 0 to `count` - 1."""
    return tuple(rule for i in range(count) for rule in under(f"{ours}.{i}.", f"{theirs}.{i}.", table))
