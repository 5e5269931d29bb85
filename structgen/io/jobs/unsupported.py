"""What a job may say and a run cannot do yet: refused where the job is to be run, never dropped."""

from __future__ import annotations

import os
from typing import Any

from structgen.errors import InputError
from structgen.features.job import Alignments, Chain, Job, Kind
from structgen.features.templates import MOST
from structgen.io.jobs.templates import is_hits


def unsupported(job: Job) -> list[InputError]:
    """An error for every part of a job that would have no effect on its prediction. Entities are the business of `build_atoms`."""
    found: list[tuple[str, str]] = []
    found += [(f"contacts[{i}]", "contacts") for i, _ in enumerate(job.contacts)][:1]
    found += [(f"pockets[{i}]: binder {pocket.binder}", "pockets") for i, pocket in enumerate(job.pockets)][:1]
    found += [(f"affinity of {job.affinity}", "affinity")] if job.affinity else []
    firsts: dict[Any, Chain] = {}
    for chain in job.chains:
        first = firsts.setdefault(chain.content, chain)
        if chain.msa != first.msa:
            found.append((f"chain {chain.id}: msa", f"another alignment than that of chain {first.id}, its copy,"))
        found += [(f"chain {chain.id}: templates", what) for what in _templates(chain)][:1]
        if chain.msa not in (None, Alignments()) and chain.kind in (Kind.DNA, Kind.LIGAND):
            found.append((f"chain {chain.id}: msa", f"alignments of {chain.kind.value}"))
    return [
        InputError(f"{what} cannot be used yet", where=f"{job.source}: {where}", remedy="take them out of the job to run it without")
        for where, what in found
    ]


def _templates(chain: Chain) -> list[str]:
    """What of a chain's templates cannot be used: single structures of a protein can."""
    templates = chain.templates or ()
    found = [f"forced templates beyond the first {MOST}"] if any(template.force for template in templates[MOST:]) else []
    found += ["files of template hits"] if any(map(is_hits, templates)) else []
    found += ["folders of templates"] if any(os.path.isdir(template.structure.path) for template in templates) else []
    return found + ([f"templates of {chain.kind.value}"] if templates and chain.kind is not Kind.PROTEIN else [])
