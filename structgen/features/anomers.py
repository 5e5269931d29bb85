"""Sugars whose code does not fit the bond they are given: the dictionary has a code for each anomer, and the wrong one is easily taken."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from structgen.features import chemistry
from structgen.features.components import Component
from structgen.features.job import Job
from structgen.features.residues import Residues

CARRIES_BETA = {("ASN", "ND2"): "sugars on asparagine", ("NAG", "O4"): "sugars on O4 of NAG"}
"""Atoms that carry the beta form of a D sugar in the core of every N-glycan."""


def anomer_notes(job: Job, residues: Residues, bonds: Sequence[Sequence[tuple[int, str]]]) -> Iterator[str]:
    """A line for every bond (residue and atom name of both ends) between a sugar's anomeric carbon and what does not go with it.

    That is an alpha sugar where the core of N-glycans has a beta one, and a carbon that loses nothing for its bond.
    """
    for first, second in bonds:
        for (own, atom), (other, partner) in ((first, second), (second, first)):
            sugar = _sugar(residues, own)
            if sugar is None or not _anomeric(sugar, atom):
                continue
            where = f"{_shown(job, residues, own)} {atom}, bonded to {_shown(job, residues, other)} {partner}"
            if not sugar.leaving_groups(sugar.index[atom]):
                yield f"{where}: no atom leaves {atom} of {sugar.code}; a sugar that can be bonded there has another code"
            carrier = CARRIES_BETA.get((str(residues.names[other]), partner))
            if carrier and sugar.type.startswith("D-SACCHARIDE, ALPHA"):
                hint = "; NAG is the beta form" if sugar.code == "NDG" else "; BMA is the beta form" if sugar.code == "MAN" else ""
                yield f"{where}: {sugar.code} is an alpha sugar, {carrier} are beta in N-glycans{hint}"


def _sugar(residues: Residues, residue: int) -> Component | None:
    row = int(residues.rows[residue]) - chemistry.GAP
    return residues.components[row] if row >= 0 and "SACCHARIDE" in residues.components[row].type else None


def _anomeric(sugar: Component, atom: str) -> bool:
    """Whether the atom is a carbon with single bonds alone, two of them to oxygens: the ring's, and the one that the bond replaces."""
    here = sugar.index[atom]
    orders = sugar.orders[(sugar.bonds == here).any(1)]
    around = sugar.elements[sugar.neighbours()[here]]
    return str(sugar.elements[here]) == "C" and bool((orders == 1).all()) and int(np.count_nonzero(around == "O")) == 2


def _shown(job: Job, residues: Residues, residue: int) -> str:
    chain = job.chains[residues.chain[residue]]
    number = residue - int(np.searchsorted(residues.chain, residues.chain[residue])) + 1
    return f"chain {chain.id} {residues.names[residue]} {number}"
