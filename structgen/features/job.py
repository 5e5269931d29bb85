"""What is asked for: the one schema that every input format is read into and that travels through the stages as JSON.

A job is a complex; a chain is one molecule in it, one for each copy. Nothing here knows chemistry or a file format: readers of formats
make jobs, `build_atoms` says what a chain is made of.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from structgen.configuration import from_mapping
from structgen.errors import ConfigError, InputError


class Kind(StrEnum):
    """What a chain is made of."""

    PROTEIN = "protein"
    RNA = "rna"
    DNA = "dna"
    LIGAND = "ligand"


@dataclass(frozen=True)
class Given:
    """The content of a file that an input gives: its text, or the path where it lies (absolute once read). Both empty: an empty file."""

    text: str = ""
    path: str = ""


@dataclass(frozen=True)
class Alignments:
    """Given alignments of one chain, each in any format that `io` reads; none at all: no rows but the query.

    Rows of `paired` are paired with those of other chains by the key in their header or table; rows of `unpaired` never are.
    """

    unpaired: tuple[Given, ...] = ()
    paired: tuple[Given, ...] = ()


@dataclass(frozen=True)
class Template:
    """A given template: a structure file, a chain of it, and which query residue lies on which of its residues (both from 0).

    Empty indices: found by alignment. An empty `chain`: the only one, or the most similar. `force` holds the prediction within
    `threshold` angstrom of it. A file of hits (.a3m, .hhr) names structures: `chain` is then one of its hits, or empty for all.
    """

    structure: Given
    chain: str = ""
    query_indices: tuple[int, ...] = ()
    template_indices: tuple[int, ...] = ()
    force: bool = False
    threshold: float | None = None


@dataclass(frozen=True)
class Modification:
    """The residue at `position` (from 1) is the component `code` instead of what its letter says."""

    position: int
    code: str


@dataclass(frozen=True)
class Chain:
    """One molecule: `id` is 1 to 4 letters or digits.

    A polymer has a `sequence` of one-letter codes in capitals; at a modified position the letter is as the user wrote it. A ligand has
    exactly one of `residues` (component codes, one a residue), `smiles` and `file` (a path to SDF, MOL or MOL2).
    """

    id: str
    kind: Kind
    sequence: str = ""
    modifications: tuple[Modification, ...] = ()  # by position
    cyclic: bool = False  # the last residue is joined to the first
    residues: tuple[str, ...] = ()
    smiles: str = ""
    file: str = ""
    msa: Alignments | None = None  # None: searched, or what the run says
    templates: tuple[Template, ...] | None = None  # None: searched, or what the run says; (): none
    description: str = ""

    @property
    def content(self) -> tuple[Any, ...]:
        """What makes two chains copies of one entity: everything chemical about them (id, evidence and description are not)."""
        return self.kind, self.sequence, self.modifications, self.cyclic, self.residues, self.smiles, self.file


@dataclass(frozen=True, order=True)
class AtomName:
    """An atom, or with an empty `atom` a residue, of a job: chain id, residue number from 1, atom name."""

    chain: str
    residue: int
    atom: str = ""


@dataclass(frozen=True)
class Bond:
    """A covalent bond between two named atoms. Its order is the dictionary's business."""

    first: AtomName
    second: AtomName


@dataclass(frozen=True)
class Contact:
    """Two residues or atoms that shall be near: distances in angstrom. `force` asks for more than a hint."""

    first: AtomName
    second: AtomName
    max_distance: float
    min_distance: float = 0.0
    force: bool = False
    confidence: float = 1.0
    name: str = ""


@dataclass(frozen=True)
class Pocket:
    """The chain `binder` shall touch these residues or atoms within `max_distance` angstrom."""

    binder: str
    contacts: tuple[AtomName, ...]
    max_distance: float
    min_distance: float = 0.0
    force: bool = False
    confidence: float = 1.0
    name: str = ""


@dataclass(frozen=True)
class Job:
    """One complex to predict. `name` is the user's, `slug` a safe and unique folder name, `source` the file and record."""

    name: str
    slug: str
    chains: tuple[Chain, ...]
    source: str = ""
    notes: tuple[str, ...] = ()  # how the input was read where more than one reading was possible
    seeds: tuple[int, ...] = ()  # empty: the run's
    bonds: tuple[Bond, ...] = ()
    contacts: tuple[Contact, ...] = ()
    pockets: tuple[Pocket, ...] = ()
    affinity: str = ""  # id of the ligand chain whose affinity is asked for
    components: tuple[Given, ...] = ()  # the user's chemical components, CIF

    @property
    def residues(self) -> int:
        """Residues of the whole job; a ligand given as a molecule counts as one."""
        return sum(len(chain.sequence) or len(chain.residues) or 1 for chain in self.chains)

    def to_json(self) -> str:
        """The job as one line of JSON with sorted keys."""
        return json.dumps(asdict(self), sort_keys=True, ensure_ascii=True)

    @classmethod
    def from_json(cls, text: str) -> Job:
        """Inverse of `to_json`. Raises `InputError` for text that is not such a job."""
        try:
            return from_mapping(cls, json.loads(text), "job")
        except (ValueError, ConfigError) as error:
            raise InputError(f"job cannot be read: {error}", found=repr(text[:60]), expected="JSON as written by structgen") from error


def chain_ids(count: int) -> tuple[str, ...]:
    """Ids by position as the PDB gives them: A to Z, then AA, BA, ..., ZA, AB, ... (the first letter turns fastest)."""
    return tuple(chain_id(i) for i in range(count))


def chain_id(index: int) -> str:
    """The id by position, from 0."""
    letters = ""
    index += 1
    while index:
        index, letter = divmod(index - 1, 26)
        letters += chr(ord("A") + letter)
    return letters


def protein_chains(sequences: Sequence[str]) -> tuple[Chain, ...]:
    """Chains A, B, ... of proteins."""
    return tuple(Chain(id, Kind.PROTEIN, sequence) for id, sequence in zip(chain_ids(len(sequences)), sequences, strict=True))


@dataclass(frozen=True)
class Limits:
    """What is refused before anything is computed."""

    letters: int = 100_000  # of one chain
    tokens: int = 5_000  # of one job


DEFAULT_LIMITS = Limits()
