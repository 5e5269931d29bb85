"""A job as it was understood, as JSON: in AlphaFold 3's dialect, and whole in our own schema."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from itertools import product
from string import ascii_uppercase
from typing import Any

import numpy as np

from structgen.features.atoms import Structure
from structgen.features.job import Kind
from structgen.io.provenance import Provenance

AF3_VERSION = 4
SCHEMA = 1


def structgen_job(name: str, structure: Structure, provenance: Provenance) -> str:
    """The job in the common schema: nothing of the input is lost."""
    chains = [
        {"ids": ids, "kind": kind.value, "sequence": sequence, "msa_rows": [provenance.msa_depth.get(id, 1) for id in ids]}
        for ids, kind, sequence in _entities(structure)
    ]
    job = {
        "schema": SCHEMA,
        "name": name,
        "seeds": list(provenance.seeds),
        "chains": chains,
        "bonds": [],
        "constraints": [],
        "components": {},
        "settings": dict(provenance.settings),
        "notes": list(provenance.notes),
    }
    return json.dumps(job, indent=1, allow_nan=False) + "\n"


def af3_job(name: str, structure: Structure, provenance: Provenance) -> tuple[str, list[str]]:
    """The same job for AlphaFold 3, and what this says otherwise than the job was run, in words. Proteins only.

    A chain predicted from its sequence alone says so (empty alignments, no templates); one with an alignment asks for a new search,
    because the alignment itself is not among the results.
    """
    ids = _af3_ids(structure.chain_ids)
    losses = [f"AlphaFold 3's ids are capitals: chain {own} is {ids[own]} there" for own in structure.chain_ids if ids[own] != own]
    sequences = []
    for own, _, sequence in _entities(structure):
        protein: dict[str, Any] = {"id": [ids[id] for id in own], "sequence": sequence, "modifications": []}
        if any(provenance.msa_depth.get(id, 1) > 1 for id in own):
            losses.append(f"chain {', '.join(own)}: the alignment is not in this file, AlphaFold 3 would search its own")
        else:
            protein |= {"unpairedMsa": "", "pairedMsa": "", "templates": []}
        sequences.append({"protein": protein})
    job = {
        "dialect": "alphafold3",
        "version": AF3_VERSION,
        "name": name,
        "modelSeeds": list(provenance.seeds),
        "sequences": sequences,
        "bondedAtomPairs": None,
        "userCCD": None,
    }
    return json.dumps(job, indent=1, allow_nan=False) + "\n", losses


def _entities(structure: Structure) -> Iterator[tuple[list[str], Kind, str]]:
    """Ids, kind and sequence of every entity, by first appearance."""
    for first in sorted(np.unique(structure.chain_entity, return_index=True)[1].tolist()):
        copies = np.flatnonzero(structure.chain_entity == structure.chain_entity[first])
        yield [structure.chain_ids[c] for c in copies], structure.chain_kinds[first], structure.chain_sequences[first]


def _af3_ids(chain_ids: tuple[str, ...]) -> Mapping[str, str]:
    """Each id itself where AlphaFold 3 allows it (capitals only), else the first free one."""
    allowed = {id for id in chain_ids if id.isascii() and id.isalpha() and id.isupper()}
    spare = ("".join(letters) for length in (1, 2, 3) for letters in product(ascii_uppercase, repeat=length))
    free = (id for id in spare if id not in allowed)
    return {id: id if id in allowed else next(free) for id in chain_ids}
