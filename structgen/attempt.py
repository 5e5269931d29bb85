"""A stage at work on a row: found or computed once, on record in the run's journal, and never the end of other rows."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from structgen.manifest import Event, Journal, error_kind, error_text
from structgen.run import Row, Run
from structgen.storage.folder import close_to_others

logger = logging.getLogger(__name__)

STEP_SECONDS = 0.5  # least time between two reports of a fold's progress


class Attempt:
    """One stage at work on one row, as it goes on record in the run's journal."""

    def __init__(self, run: Run, stage: str, row: Row) -> None:
        self._run, self._journal = run, Journal(run.folder)
        self._event = Event(str(row["slug"]), stage, "started", seed=int(row.get("seed", -1)))
        self._began = 0.0
        self._reported = 0.0

    def under(self, key: str) -> str:
        """Say under which key the result is known, before anything is computed."""
        self._event = replace(self._event, key=key)
        return key

    def artifact(self, key: str, make: Callable[[], bytes]) -> str:
        """The key, with its artifact in the store: found there, or made and published; of several processes only one makes it."""
        store = self._run.store
        if store.holds(key):
            return key
        with store.exclusive(key):
            if not store.holds(key):
                self.computing()
                store.publish(key, make())
        return key

    def computing(self) -> None:
        """Record that work began."""
        if not self._began:
            self._began = time.monotonic()
            self._emit("started")

    def step(self, done: int, steps: int) -> None:
        """Report how far the work is, not more often than anybody looks."""
        if time.monotonic() - self._reported >= STEP_SECONDS or done == steps:
            self._reported = time.monotonic()
            self._emit("step", step=done, steps=steps)

    def ended(self) -> None:
        """Record success: made now, or found."""
        self._emit("done" if self._began else "reused")

    def failed(self, error: BaseException) -> None:
        """Record why it ended without a result."""
        self._emit("failed", error=error_text(error), kind=error_kind(error))

    def _emit(self, status: Any, **facts: Any) -> None:
        seconds = time.monotonic() - self._began if self._began else 0.0
        self._journal.emit(replace(self._event, status=status, seconds=seconds, time=time.time(), **facts))


def on_record(run: Run, stage: str, row: Row, work: Callable[[Row, Attempt], Row]) -> Row:
    """The row that `work` makes of a row. No exception of one job leaves it: the row carries the error on."""
    if row["error"]:
        return row
    close_to_others()
    attempt = Attempt(run, stage, row)
    try:
        result = work(row, attempt)
    except Exception as error:
        logger.info("%s: %s failed", row["slug"], stage, exc_info=True)
        return _failed(attempt, row, error)
    attempt.ended()
    return result


def failed(run: Run, stage: str, row: Row, error: BaseException) -> Row:
    """The row of a job whose stage could not even run (its worker died), on record."""
    return _failed(Attempt(run, stage, row), row, error)


def _failed(attempt: Attempt, row: Row, error: BaseException) -> Row:
    attempt.failed(error)
    return {**row, "error": error_text(error)}
