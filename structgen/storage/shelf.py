"""What a store needs of the place where its artifacts lie."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass


@dataclass(frozen=True)
class Item:
    """Something that lies there."""

    name: str  # an artifact's key; of litter, where it lies
    size: int  # bytes
    age: float  # seconds since it was written, by the clock of the place


class Shelf(ABC):
    """Sealed content under keys, for any number of processes on any number of nodes.

    Content appears under its key whole or not at all, is durable then, and is never replaced. Final: `Folder` and `Bucket`.
    """

    @abstractmethod
    def check(self) -> None:
        """Raise `ConfigError` unless this process can publish there as promised."""

    @abstractmethod
    def put(self, key: str, content: bytes) -> bool:
        """Publish. False when the key is taken: what lies there stays."""

    @abstractmethod
    def get(self, key: str) -> bytes:
        """The content. Raises `FileNotFoundError`; what was cut on the way is asked for again, what is damaged there comes as it is."""

    @abstractmethod
    def holds(self, key: str) -> bool:
        """Whether content lies there, and is whole as far as can be seen from where it lies. Raises `FileNotFoundError` for none."""

    @abstractmethod
    def set_aside(self, key: str) -> None:
        """Free the key of content that is damaged."""

    @abstractmethod
    def exclusive(self, key: str) -> AbstractContextManager[None]:
        """Hold the right to make what belongs under the key; others wait. The right of a holder that dies is freed."""

    @abstractmethod
    def in_use(self) -> AbstractContextManager[None]:
        """Keep everything that lies there from being removed while the block runs; waits for a removal that is under way."""

    @abstractmethod
    def unused(self) -> AbstractContextManager[bool]:
        """Keep others from `in_use` while the block runs; False where there is one already, or that cannot be known."""

    @abstractmethod
    def items(self) -> Iterator[Item]:
        """Everything that is published."""

    @abstractmethod
    def remove(self, key: str) -> None:
        """Remove what is published under a key; nothing happens where there is none."""

    @abstractmethod
    def litter(self, age: float) -> list[Item]:
        """What writers that died, and readers of damaged content, left behind longer ago than so many seconds."""

    @abstractmethod
    def clear(self, litter: Item) -> None:
        """Remove a piece of litter."""
