"""What joins the chains of a job: ends of bonds and constraints, each checked against the chains, and the whole job made of all."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from structgen.errors import InputError
from structgen.features.job import AtomName, Bond, Chain, Job, Kind
from structgen.io.jobs.reading import Reading
from structgen.io.jobs.value import Value

LONGEST_DISTANCE = 20.0  # angstrom, of contacts and pockets
Named = Mapping[str, Chain]  # chains by the ids that the file uses


def length(chain: Chain) -> int:
    """Residues of a chain; a ligand given as a molecule has one."""
    return len(chain.sequence) or len(chain.residues) or 1


def chain_at(reading: Reading, place: Value, chains: Named, name: str) -> Chain:
    """The chain of an id."""
    if name not in chains:
        raise reading.error(place, "chain does not exist", found=repr(name), expected=f"one of {', '.join(chains)}")
    return chains[name]


def end_at(reading: Reading, place: Value, chain: Chain, residue: int, atom: str = "") -> AtomName:
    """A residue or an atom of a chain; atoms of SMILES and files are known only once the molecule is built."""
    if not 1 <= residue <= length(chain):
        found, expected = f"residue {residue} of chain {chain.id}", f"1 to {length(chain):,}"
        raise reading.error(place, "residue does not exist", found=found, expected=expected)
    return AtomName(chain.id, residue, atom.strip())


def bond_at(reading: Reading, place: Value, first: AtomName, second: AtomName, known: Iterable[Bond]) -> Bond:
    """A bond between two different named atoms that is not there yet, in either direction."""
    for atom in (first, second):
        if not atom.atom:
            raise reading.error(place, "bond without an atom name", found=shown(atom), expected="the name of an atom, for example SG")
    if first == second:
        raise reading.error(place, "bond of an atom to itself", found=shown(first), expected="two atoms")
    for number, bond in enumerate(known, 1):
        if {bond.first, bond.second} == {first, second}:
            found = f"{shown(first)} to {shown(second)}, bond {number} already"
            raise reading.error(place, "bond is given twice", found=found, expected="each bond once", remedy="remove one of them")
    return Bond(first, second)


def polymer_end_at(reading: Reading, place: Value, chain: Chain, item: Value) -> AtomName:
    """A residue number, or for a ligand an atom's name (or the number of one of its residues)."""
    if chain.kind is Kind.LIGAND and isinstance(item.data, str) and not (item.plain and item.data.isdigit()):
        return end_at(reading, place, chain, 1, reading.text(item))
    return end_at(reading, place, chain, reading.integer(item))


def distance_at(reading: Reading, value: Value) -> float:
    """A distance above 0 and up to 20 angstrom."""
    distance = reading.number(value, 0, LONGEST_DISTANCE)
    if distance <= 0:
        raise reading.error(value, "distance must be above 0", found=f"{distance:g}", expected=f"0 to {LONGEST_DISTANCE:g} angstrom")
    return distance


def check_cyclic(chain: Chain, where: str) -> None:
    """A ring needs a polymer of more than one residue."""
    if chain.cyclic and (chain.kind is Kind.LIGAND or len(chain.sequence) < 2):
        found = "a ligand" if chain.kind is Kind.LIGAND else "1 residue"
        raise InputError(f"chain {chain.id} cannot be cyclic", where=where, found=found, expected="a polymer of 2 or more residues")


def whole_job(reading: Reading, name: str, chains: Sequence[Chain], *, bonds: Sequence[Bond] = (), source: str = "", **rest: Any) -> Job:
    """The job of all its parts, its slug not chosen yet. Raises `InputError` where they do not fit together."""
    if not chains:
        raise InputError("job has no chains", where=reading.where, found="none", expected="at least one")
    for chain in chains:
        check_cyclic(chain, reading.where)
        _check_joined(reading, chain, bonds)
    job = Job(name, "", tuple(chains), source or reading.where, tuple(reading.notes), bonds=tuple(bonds), **rest)
    _check_size(reading, job)
    return job


def shown(atom: AtomName) -> str:
    """An atom in an error: `A 12 SG`."""
    return f"{atom.chain} {atom.residue} {atom.atom}".strip()


def _check_joined(reading: Reading, chain: Chain, bonds: Sequence[Bond]) -> None:
    """The residues of a ligand of several must hang together."""
    inner = [{b.first.residue, b.second.residue} for b in bonds if b.first.chain == b.second.chain == chain.id]
    joined = {1}
    while more := [pair for pair in inner if pair & joined and not pair <= joined]:
        joined = joined.union(*more)
    loose = [f"{number} ({code})" for number, code in enumerate(chain.residues, 1) if number not in joined]
    if loose:
        expected = f"{len(chain.residues) - 1} bonds or more between its {len(chain.residues)} residues"
        found = f"residues {', '.join(loose[:5])} without a bond to the first"
        raise InputError(
            f"ligand {chain.id} is not one molecule", where=reading.where, found=found, expected=expected, remedy="add the bonds"
        )


def _check_size(reading: Reading, job: Job) -> None:
    limit = reading.options.limits.tokens
    if job.residues > limit:
        longest = max(job.chains, key=lambda chain: len(chain.sequence))
        found = f"{job.residues:,} tokens in {len(job.chains)} chain(s), the longest {longest.id} with {len(longest.sequence):,}"
        remedy = "predict domains or fewer chains, or raise the limit of tokens where memory allows"
        raise InputError("job is too large", where=job.source, found=found, expected=f"at most {limit:,} tokens", remedy=remedy)
