"""Where measured figures go: one JSON line each, appended to the file that $STRUCTGEN_MEASURED names, so that a command can collect
them."""

from __future__ import annotations

import json
import os
from collections.abc import Callable

import pytest


@pytest.fixture
def measured(request: pytest.FixtureRequest) -> Callable[..., None]:
    """measured(row, what, value, threshold, note=""): does nothing if the variable is not set."""

    def write(row: str, what: str, value: float, threshold: float | None, note: str = "") -> None:
        if path := os.environ.get("STRUCTGEN_MEASURED"):
            line = dict(row=row, what=what, value=float(value), threshold=threshold, note=note, test=request.node.nodeid)
            with open(path, "a") as file:
                file.write(json.dumps(line) + "\n")

    return write
