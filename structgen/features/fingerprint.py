"""Everything chemical that a job's features depend on, as plain values: equal ones give equal features."""

from __future__ import annotations

import dataclasses
import hashlib
from importlib.metadata import version
from pathlib import Path
from typing import Any

from structgen.features.job import AtomName, Job, Kind

_LIBRARIES = ("biotite", "rdkit")  # the dictionary's atoms and the conformers are theirs


def fingerprint(job: Job) -> dict[str, Any]:
    """Chains in order without id, evidence and description; bonds by the number of the chain; the contents of files, not their paths.

    Names, notes and seeds do not matter. Jobs of plain polymers depend on no library.
    """
    chains = [dataclasses.replace(c, id="", msa=None, templates=None, description="", file=_digest(c.file)) for c in job.chains]
    found: dict[str, Any] = {"chains": [dataclasses.asdict(chain) for chain in chains]}
    place = {chain.id: number for number, chain in enumerate(job.chains)}
    if job.bonds:
        found["bonds"] = [[_end(bond.first, place), _end(bond.second, place)] for bond in job.bonds]
    if job.components:
        found["components"] = [_digest(given.path) if given.path else given.text for given in job.components]
    if any(chain.kind is Kind.LIGAND or chain.modifications for chain in job.chains):
        found["libraries"] = {name: version(name) for name in _LIBRARIES}
    return found


def _end(atom: AtomName, place: dict[str, int]) -> list[Any]:
    return [place.get(atom.chain, atom.chain), atom.residue, atom.atom]


def _digest(path: str) -> str:
    """sha256 of a file's content; empty for no path and for a file that is not there, which is an error where it is read."""
    try:
        return hashlib.sha256(Path(path).read_bytes()).hexdigest() if path else ""
    except OSError:
        return ""
