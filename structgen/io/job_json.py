"""A job as it was understood, as JSON: in AlphaFold 3's dialect, and whole in our own schema."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

from structgen.features.job import Alignments, Chain, Job, Kind
from structgen.io.jobs import alphafold3
from structgen.io.provenance import Provenance

SCHEMA = 2


def structgen_job(job: Job, provenance: Provenance) -> str:
    """The job in the common schema, nothing of the input lost, and with what it was run."""
    whole = {
        "schema": SCHEMA,
        "job": asdict(job),
        "seeds": list(provenance.seeds),
        "settings": dict(provenance.settings),
        "msa_rows": dict(provenance.msa_depth),
        "templates": {chain: [asdict(used) for used in all_used] for chain, all_used in provenance.templates.items()},
        "notes": list(provenance.notes),
    }
    return json.dumps(whole, indent=1, allow_nan=False) + "\n"


def af3_job(job: Job, provenance: Provenance) -> tuple[str, list[str]]:
    """The same job for AlphaFold 3, and what this says otherwise than the job was run, in words.

    A chain predicted from its sequence alone says so (empty alignments, no templates); one with an alignment that is not the job's own
    asks for a new search, because the alignment itself is not among the results.
    """
    chains, searched, found = [], [], []
    for chain in job.chains:
        alone = provenance.msa_depth.get(chain.id, 1) <= 1
        searched += [chain.id] if not alone and chain.msa is None else []
        found += [chain.id] if provenance.templates.get(chain.id) and chain.templates is None else []
        chains.append(_alone(chain, templates=chain.id in found) if alone and chain.msa is None else chain)
    usable = any(character.isascii() and character.isalnum() for character in job.name)  # AlphaFold 3 makes a file name of it
    run = replace(job, name=job.name if usable else job.slug, seeds=provenance.seeds, chains=tuple(chains))
    written = alphafold3.write(run)
    lost = [f"chain {', '.join(searched)}: the alignment is not in this file, AlphaFold 3 would search its own"] if searched else []
    lost += [f"chain {', '.join(found)}: the templates are not in this file, AlphaFold 3 would search its own"] if found else []
    return written.data.decode(), [*lost, *map(str, written.losses)]


def _alone(chain: Chain, *, templates: bool) -> Chain:
    """The chain without rows where it could have them, and without templates unless some were found."""
    if chain.kind is Kind.PROTEIN:
        return replace(chain, msa=Alignments(), templates=chain.templates if templates else chain.templates or ())
    return replace(chain, msa=Alignments()) if chain.kind is Kind.RNA else chain
