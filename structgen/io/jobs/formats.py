"""The formats of jobs: their names, readers, writers, and the table of what each holds."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from structgen.errors import InputError
from structgen.features.job import Job
from structgen.io.jobs import alphafold3, boltz, boltz_fasta, chai, colabfold, colabfold_a3m, colabfold_table, openfold3, protenix, server
from structgen.io.jobs.holds import Holds
from structgen.io.jobs.reading import Source
from structgen.io.jobs.written import Written, json_bytes


@dataclass(frozen=True)
class Format:
    """One format: `read` gives a job, or why there is none, for every record; `write` one job and what is lost."""

    name: str
    suffix: str
    holds: Holds
    read: Callable[[Source], list[Job | InputError]]
    write: Callable[[Job], Written]
    join: Callable[[Sequence[bytes]], bytes] | None = None  # texts of several jobs as one; None: a file each


def _lists(texts: Sequence[bytes]) -> bytes:
    return json_bytes([job for text in texts for job in json.loads(text)])


_ALL = (
    Format("alphafold3", ".json", alphafold3.HOLDS, alphafold3.read, alphafold3.write),
    Format("server", ".json", server.HOLDS, server.read, server.write, _lists),
    Format("boltz", ".yaml", boltz.HOLDS, boltz.read, boltz.write),
    Format("boltz-fasta", ".fasta", boltz_fasta.HOLDS, boltz_fasta.read, boltz_fasta.write),
    Format("protenix", ".json", protenix.HOLDS, protenix.read, protenix.write, _lists),
    Format("openfold3", ".json", openfold3.HOLDS, openfold3.read, openfold3.write),
    Format("colabfold", ".fasta", colabfold.HOLDS, colabfold.read, colabfold.write, b"".join),
    Format("colabfold-csv", ".csv", colabfold_table.HOLDS, colabfold_table.read, colabfold_table.write),
    Format("colabfold-a3m", ".a3m", colabfold_a3m.HOLDS, colabfold_a3m.read, colabfold_a3m.write),
    Format("chai", ".fasta", chai.HOLDS, chai.read, chai.write),
)
FORMATS = {format.name: format for format in _ALL}


def format_named(name: str) -> Format:
    """The format of a name. Raises `InputError` that lists all names."""
    if name not in FORMATS:
        raise InputError("format is not known", found=repr(name), expected=f"one of {', '.join(FORMATS)}")
    return FORMATS[name]
