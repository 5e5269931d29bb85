"""What a command line asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from structgen.io.jobs.reading import Options
from structgen.search.server_http import Patience
from structgen.store import Store
from workflows.resources import Resources


@dataclass(frozen=True)
class Request:
    """A prediction, or a search of evidence. All of it but `out` and `exact` is kept in run.json, to be asked for again."""

    inputs: tuple[Path, ...]
    out: Path
    store: Store
    model: str
    choices: Mapping[str, Any]
    format: str = ""  # of the inputs; empty: by content
    options: Options = field(default_factory=Options)  # how the inputs are read; its limits are those of the settings
    cluster: str = ""  # empty: in process
    threads: int = 0  # of one fold; 0: as many as the machine has cores
    resources: Resources = field(default_factory=Resources)
    offline: bool = False  # nothing is searched: what is not known is an error before the first fold
    exact: bool = False  # refuse where anything is not what the folder's run.json says
    deadline: float = Patience().deadline  # seconds for all that a server is asked for
