"""A right that is held by writing to an object again and again: who stops, because it died, loses it. All times are the server's."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

from structgen.errors import StructgenError

logger = logging.getLogger(__name__)

SECONDS = 30.0  # that a right lasts after it was last renewed
LOOK = 1.0  # seconds between looks of one who waits


class Objects(Protocol):
    """What a lease needs of an object store."""

    def create(self, name: str, content: bytes) -> bool:
        """Write an object; False where there is one of this name."""

    def replace(self, name: str, content: bytes) -> None:
        """Write an object, whatever lies there."""

    def delete(self, name: str) -> None:
        """Remove an object, if there is one."""

    def age(self, name: str) -> float | None:
        """Seconds since an object was written; nothing where there is none."""


@contextmanager
def leased(objects: Objects, name: str) -> Iterator[None]:
    """Hold the object of this name; waits while another one holds it.

    Two who find the right of a dead holder at one moment may both get it: it saves work, and nothing else may depend on it.
    """
    while not objects.create(name, b""):
        if not is_held(objects, name):
            objects.delete(name)
            continue
        time.sleep(LOOK)
    ended = threading.Event()
    renewing = threading.Thread(target=_renew, args=(lambda: objects.replace(name, b""), name, ended), daemon=True)
    renewing.start()
    try:
        yield
    finally:
        ended.set()
        renewing.join()
        objects.delete(name)


def is_held(objects: Objects, name: str) -> bool:
    """Whether the holder of a right lives."""
    age = objects.age(name)
    return age is not None and age < SECONDS


def _renew(renew: Callable[[], None], name: str, ended: threading.Event) -> None:
    while not ended.wait(SECONDS / 3):
        try:
            renew()
        except StructgenError as error:
            logger.warning("%s: cannot be renewed: %s", name, error)
