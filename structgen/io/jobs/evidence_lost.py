"""Alignments and templates of a chain as far as a format holds them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from structgen.features.job import Alignments, Chain, Given, Template
from structgen.io.jobs.templates import is_hits
from structgen.io.jobs.written import Loss


def is_table(given: Given) -> bool:
    """Whether an alignment is a table with a column of pairing keys."""
    if given.path:
        return given.path.lower().removesuffix(".gz").endswith(".csv")
    return not given.text.lstrip().startswith((">", "#"))


def held_alignments(chain: Chain, held: Sequence[str]) -> tuple[Alignments | None, list[Loss]]:
    """The chain's alignments in a format that holds `held` (see `Holds.alignments`)."""
    msa = chain.msa
    if msa is None:
        return None, []
    if msa == Alignments():
        return (msa, []) if "none" in held else (None, [Loss("no MSA", f"chain {chain.id}")])
    form = "tables" if any(map(is_table, msa.paired)) else "paired"
    unpaired, paired = msa.unpaired if "unpaired" in held else (), msa.paired if form in held else ()
    if "only-one" in held and unpaired:
        paired = ()
    if "several" not in held:
        unpaired, paired = unpaired[:1], paired[:1]
    losses = [] if unpaired == msa.unpaired else [Loss("unpaired MSA", _amount(chain, msa.unpaired, unpaired))]
    losses += [] if paired == msa.paired else [Loss("paired MSA", _amount(chain, msa.paired, paired))]
    kept = Alignments(unpaired, paired)
    return (kept if kept != Alignments() or "none" in held else None), losses


def _amount(chain: Chain, before: Sequence[Given], after: Sequence[Given]) -> str:
    return f"chain {chain.id}" + (f": {len(before) - len(after)} of {len(before)} files" if after else "")


def held_templates(chain: Chain, held: Sequence[str]) -> tuple[tuple[Template, ...] | None, list[Loss]]:
    """The chain's templates in a format that holds `held` (see `Holds.templates`)."""
    if chain.templates is None:
        return None, []
    if not chain.templates:
        return ((), []) if "none" in held else (None, [Loss("no templates", f"chain {chain.id}")])
    kept: list[Template] = []
    losses: list[Loss] = []
    for template in chain.templates:
        kind = "hits" if is_hits(template) else "structure"
        pdb = template.structure.path.lower().removesuffix(".gz").endswith((".pdb", ".ent"))
        if kind not in held or (pdb and "pdb" not in held):
            losses.append(Loss("templates", f"chain {chain.id}: {template.structure.path or 'a structure as text'}"))
            continue
        if template.query_indices and "indices" not in held:
            losses.append(Loss("template indices", f"chain {chain.id}"))
            template = replace(template, query_indices=(), template_indices=())
        if template.chain and "chain" not in held:
            losses.append(Loss("template chain", f"chain {chain.id}: {template.chain}"))
            template = replace(template, chain="")
        if template.force and "force" not in held:
            losses.append(Loss("template force", f"chain {chain.id}"))
            template = replace(template, force=False)
        if template.threshold is not None and "force" not in held:
            template = replace(template, threshold=None)
        other = kept and (is_hits(kept[0]) != is_hits(template) or (is_hits(template) and kept[0].structure != template.structure))
        if kept and ("only-one" in held or other):
            losses.append(Loss("templates", f"chain {chain.id}: {template.structure.path}"))
            continue
        kept.append(template)
    return (tuple(kept) if kept else None), losses
