"""Protenix's JSON: a list of jobs whose bonds and constraints name elements and copies by number."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from structgen.errors import InputError
from structgen.features.job import Alignments, AtomName, Bond, Chain, Contact, Given, Job, Kind, Pocket, Template
from structgen.io.jobs.beside import Beside
from structgen.io.jobs.counted import (
    KINDS,
    NAMES,
    count_of,
    is_ion,
    jobs_of_list,
    polymer_element,
    prefixed_modifications,
    spreadsheet_ids,
)
from structgen.io.jobs.holds import Holds, hold
from structgen.io.jobs.json_text import parse_json
from structgen.io.jobs.links import LONGEST_DISTANCE, bond_at, check_cyclic, distance_at, end_at, whole_job
from structgen.io.jobs.molecules import code, code_at, inside_ids, sequence, smiles_at, spread
from structgen.io.jobs.reading import Reading, Source
from structgen.io.jobs.value import Value
from structgen.io.jobs.written import Written, entities, json_bytes, without_empty

HOLDS = Holds(
    title="Protenix JSON",
    several_jobs=True,
    seeds=True,
    several_codes=True,
    files=True,
    bonds=True,
    cyclic=True,
    alignments=("unpaired", "paired"),
    rna_alignments=True,
    templates=("hits", "only-one"),
    contacts=("min", "atoms"),
    pockets=("one",),
)
RINGS = {Kind.PROTEIN: ("N", "C"), Kind.DNA: ("P", "O3'"), Kind.RNA: ("P", "O3'")}  # first and last residue's atoms of a ring's bond
LIGAND_FILES = (".sdf", ".mol", ".mol2", ".pdb")
_JOB = ("name", "sequences", "covalent_bonds", "constraint", "modelSeeds", "assembly_id")
_PROTEIN = ("sequence", "count", "id", "modifications", "pairedMsaPath", "unpairedMsaPath", "templatesPath", "msa")
_FIELDS = {
    "proteinChain": _PROTEIN,
    "dnaSequence": ("sequence", "count", "id", "modifications"),
    "rnaSequence": ("sequence", "count", "id", "modifications", "unpairedMsaPath"),
    "ligand": ("ligand", "count", "id"),
    "ion": ("ion", "count", "id"),
}
_PLACE = ("entity", "copy", "position", "atom")
_OLD = re.compile(r"(left|right)_(entity|copy|position|atom)")


def read(source: Source) -> list[Job | InputError]:
    """The jobs of a file."""
    return jobs_of_list(source, parse_json(source.text, source.file), "Protenix", lambda reading, item: _Reader(reading).job(item))


@dataclass
class _Reader:
    reading: Reading
    elements: list[list[str]] = field(default_factory=list)  # names of the copies of each element
    chains: dict[str, Chain] = field(default_factory=dict)

    def job(self, item: Value) -> Job:
        reading = self.reading
        fields = reading.fields(item, _JOB, ("name", "sequences"))
        name = reading.name(fields["name"])
        if "assembly_id" in fields:
            reading.note("assembly_id says where the job was taken from; it is not kept")
        self._read_elements(reading.items(fields["sequences"], some=True))
        bonds: list[Bond] = []
        for place in reading.items(fields["covalent_bonds"]) if "covalent_bonds" in fields else ():
            self._bond(place, bonds)
        contacts, pockets = self._constraint(fields["constraint"]) if "constraint" in fields else ((), ())
        seeds = reading.seeds(fields["modelSeeds"]) if "modelSeeds" in fields else ()
        return whole_job(reading, name, tuple(self.chains.values()), bonds=bonds, seeds=seeds, contacts=contacts, pockets=pockets)

    def _read_elements(self, elements: Sequence[Value]) -> None:
        reading = self.reading
        parts = [(key, value, reading.fields(value, _FIELDS[key])) for key, value in (reading.one_of(e, tuple(KINDS)) for e in elements)]
        given = [self._ids(value, fields) for _, value, fields in parts]
        following = spreadsheet_ids([id for _, ids in given for id in ids])
        names = [ids or [following() for _ in range(count)] for count, ids in given]
        places = [(id, reading.at(value)) for (_, value, _), ids in zip(parts, names, strict=True) for id in ids]
        inside = inside_ids(reading, places)
        for (key, value, fields), ids in zip(parts, names, strict=True):
            self.elements.append(ids)
            chain = self._chain(key, value, fields, inside[ids[0]])
            self.chains |= dict(zip(ids, spread(chain, [inside[id] for id in ids]), strict=True))

    def _ids(self, value: Value, fields: Mapping[str, Value]) -> tuple[int, list[str]]:
        """How many copies, and their ids where these are given."""
        if "count" not in fields:
            raise self.reading.error(value, "'count' is missing", expected="the key 'count', 1 or more")
        count, ids = count_of(self.reading, fields), self.reading.texts(fields["id"]) if "id" in fields else []
        if ids and len(ids) != count:
            found = f"{len(ids)} ids and count {count}"
            raise self.reading.error(fields["id"], "ids and count differ", found=found, expected="one id a copy")
        if "" in ids:
            raise self.reading.error(fields["id"], "chain id is empty", found="''", expected="a text")
        return count, ids

    def _chain(self, key: str, value: Value, fields: Mapping[str, Value], id: str) -> Chain:
        reading, kind = self.reading, KINDS[key]
        first = "sequence" if kind is not Kind.LIGAND else key
        if first not in fields:
            raise reading.error(value, f"{first!r} is missing", expected=f"the key {first!r}")
        if key == "ion":
            return Chain(id, kind, residues=(code(reading, fields["ion"]),))
        if key == "ligand":
            return self._ligand(fields["ligand"], id)
        letters = sequence(reading, kind, fields["sequence"], id)
        changed = prefixed_modifications(reading, kind, fields["modifications"], len(letters)) if "modifications" in fields else ()
        unpaired, paired = (tuple([reading.file(fields[k])] if k in fields else ()) for k in ("unpairedMsaPath", "pairedMsaPath"))
        if "msa" in fields:
            more = self._old_msa(fields["msa"])
            unpaired, paired = unpaired or more[0], paired or more[1]
        templates = (Template(reading.file(fields["templatesPath"])),) if "templatesPath" in fields else None
        msa = Alignments(unpaired, paired) if unpaired or paired else None
        return Chain(id, kind, letters, changed, msa=msa, templates=templates)

    def _old_msa(self, value: Value) -> tuple[tuple[Given, ...], tuple[Given, ...]]:
        """The files of an older form: a folder with `non_pairing.a3m` and `pairing.a3m`."""
        reading = self.reading
        fields = reading.fields(value, ("precomputed_msa_dir", "pairing_db"), ("precomputed_msa_dir",))
        folder = reading.file(fields["precomputed_msa_dir"]).path
        paths = [os.path.join(folder, name) for name in ("non_pairing.a3m", "pairing.a3m")]
        found = [tuple([Given(path=path)] if os.path.isfile(path) else ()) for path in paths]
        if not any(found):
            expected = "non_pairing.a3m or pairing.a3m"
            raise reading.error(value, "folder holds no alignment of Protenix", found=folder, expected=expected)
        return found[0], found[1]

    def _ligand(self, value: Value, id: str) -> Chain:
        reading = self.reading
        text, where = reading.text(value), reading.at(value)
        if text.startswith("CCD_"):
            return Chain(id, Kind.LIGAND, residues=tuple(code_at(reading, part, where) for part in text[4:].split("_")))
        if text.startswith("FILE_"):
            given = reading.named_file(text[5:], where)
            if not given.path.lower().endswith(LIGAND_FILES):
                raise reading.error(value, "not a file of a ligand", found=Path(given.path).name, expected=", ".join(LIGAND_FILES))
            return Chain(id, Kind.LIGAND, file=given.path)
        if re.fullmatch(r"[A-Z0-9]{1,5}", text) and not re.fullmatch(r"[BCNOPSFI0-9]+", text):
            raise reading.error(
                value, "neither SMILES nor a code with CCD_", found=repr(text), expected="SMILES", remedy=f"write CCD_{text}"
            )
        return Chain(id, Kind.LIGAND, smiles=smiles_at(reading, text, where))

    def _bond(self, place: Value, bonds: list[Bond]) -> None:
        """One bond, or one for each pair of copies; a bond that closes a chain to a ring makes it cyclic."""
        sides = [self._side(place, number) for number in (1, 2)]
        (first, at_first), (second, at_second) = (self._copies(place, fields) for fields in sides)
        if ("copy" in sides[0]) != ("copy" in sides[1]):
            raise self.reading.error(place, "only one end names its copy", expected="both or neither")
        if len(first) != len(second):
            found = f"{len(first)} and {len(second)} copies"
            raise self.reading.error(place, "ends have different numbers of copies", found=found, expected="equal, or copy1 and copy2")
        for one, other in zip(first, second, strict=True):
            bond = bond_at(self.reading, place, self._atom(place, one, at_first), self._atom(place, other, at_second), bonds)
            if one == other and self._closes(self.chains[one], bond):
                self.chains[one] = replace(self.chains[one], cyclic=True)
                check_cyclic(self.chains[one], self.reading.at(place))
            else:
                bonds.append(bond)

    def _closes(self, chain: Chain, bond: Bond) -> bool:
        if chain.kind not in RINGS or len(chain.sequence) < 2:
            return False
        start, end = RINGS[chain.kind]
        ring = {AtomName(chain.id, 1, start), AtomName(chain.id, len(chain.sequence), end)}
        return ring == {bond.first, bond.second}

    def _side(self, place: Value, number: int) -> dict[str, Value]:
        """One end of a bond or contact: entity, copy, position, atom, under today's or older names."""
        side = ("left", "right")[number - 1]
        known = [f"{key}{n}" for key in _PLACE for n in (1, 2)] + [f"{old}_{key}" for key in _PLACE for old in ("left", "right")]
        fields = self.reading.fields(place, (*known, "max_distance", "min_distance"))
        named = {key: fields.get(f"{key}{number}", fields.get(f"{side}_{key}")) for key in _PLACE}
        for key in ("entity", "position"):
            if named[key] is None:
                raise self.reading.error(place, f"'{key}{number}' is missing", expected=f"the key '{key}{number}'")
        return {key: value for key, value in named.items() if value is not None}

    def _copies(self, place: Value, fields: Mapping[str, Value]) -> tuple[list[str], Mapping[str, Value]]:
        """The copies that an end speaks of."""
        entity = self.reading.integer(fields["entity"], 1, len(self.elements), texts=True)
        names = self.elements[entity - 1]
        if "copy" in fields:
            names = [names[self.reading.integer(fields["copy"], 1, len(names), texts=True) - 1]]
        return names, fields

    def _atom(self, place: Value, name: str, fields: Mapping[str, Value]) -> AtomName:
        position, atom = self.reading.integer(fields["position"], texts=True), ""
        if "atom" in fields:
            value = fields["atom"]
            atom = str(value.data) if type(value.data) is int else self.reading.text(value)
        return end_at(self.reading, place, self.chains[name], position, atom)

    def _one(self, place: Value, fields: Mapping[str, Value]) -> AtomName:
        names, fields = self._copies(place, fields)
        if len(names) > 1:
            raise self.reading.error(place, "copy is missing", found=f"{len(names)} copies", expected="which of them")
        return self._atom(place, names[0], fields) if "position" in fields else AtomName(self.chains[names[0]].id, 1)

    def _constraint(self, value: Value) -> tuple[tuple[Contact, ...], tuple[Pocket, ...]]:
        reading = self.reading
        fields = reading.fields(value, ("contact", "pocket"))
        contacts = [self._contact(place) for place in reading.items(fields["contact"])] if "contact" in fields else []
        if "pocket" not in fields:
            return tuple(contacts), ()
        pocket = reading.fields(
            fields["pocket"], ("binder_chain", "contact_residues", "max_distance"), ("binder_chain", "contact_residues", "max_distance")
        )
        binder = self._one(pocket["binder_chain"], reading.fields(pocket["binder_chain"], ("entity", "copy"), ("entity",)))
        residues = tuple(
            self._one(place, reading.fields(place, ("entity", "copy", "position"), ("entity", "position")))
            for place in reading.items(pocket["contact_residues"], some=True)
        )
        return tuple(contacts), (Pocket(binder.chain, residues, distance_at(reading, pocket["max_distance"])),)

    def _contact(self, place: Value) -> Contact:
        reading = self.reading
        first, second = (self._one(place, self._side(place, number)) for number in (1, 2))
        fields = reading.entries(place)
        if "max_distance" not in fields:
            raise reading.error(place, "'max_distance' is missing", expected="the key 'max_distance'")
        farthest = distance_at(reading, fields["max_distance"])
        nearest = reading.number(fields["min_distance"], 0, LONGEST_DISTANCE) if "min_distance" in fields else 0.0
        return Contact(first, second, farthest, nearest)


def write(job: Job) -> Written:
    """The job as a list of one; alignments that were given as text become files beside it."""
    job, losses = hold(job, HOLDS)
    beside = Beside(job)
    groups = entities(job)
    places = {chain.id: (entity, copy) for entity, group in enumerate(groups, 1) for copy, chain in enumerate(group, 1)}
    rings = [_ring(chain) for chain in job.chains if chain.cyclic]
    bonds = [_numbered(places, bond.first, 1) | _numbered(places, bond.second, 2) for bond in (*job.bonds, *rings)]
    contacts = [
        _numbered(places, c.first, 1)
        | _numbered(places, c.second, 2)
        | {"max_distance": c.max_distance}
        | ({"min_distance": c.min_distance} if c.min_distance else {})
        for c in job.contacts
    ]
    constraint: dict[str, Any] = without_empty({"contact": contacts})
    for pocket in job.pockets:
        binder = {"entity": places[pocket.binder][0], "copy": places[pocket.binder][1]}
        residues = [{"entity": places[a.chain][0], "copy": places[a.chain][1], "position": a.residue} for a in pocket.contacts]
        constraint["pocket"] = {"binder_chain": binder, "contact_residues": residues, "max_distance": pocket.max_distance}
    sequences = [_element(group, beside) for group in groups]
    body = {"name": job.name, "sequences": sequences}
    body |= without_empty({"covalent_bonds": bonds, "constraint": constraint, "modelSeeds": list(job.seeds)})
    return Written(json_bytes([body]), losses, beside.files)


def _ring(chain: Chain) -> Bond:
    start, end = RINGS[chain.kind]
    return Bond(AtomName(chain.id, 1, start), AtomName(chain.id, len(chain.sequence), end))


def _numbered(places: Mapping[str, tuple[int, int]], atom: AtomName, number: int) -> dict[str, Any]:
    entity, copy = places[atom.chain]
    name: Any = int(atom.atom) if atom.atom.isdigit() else atom.atom
    values = {"entity": entity, "copy": copy, "position": atom.residue} | ({"atom": name} if atom.atom else {})
    return {f"{key}{number}": value for key, value in values.items()}


def _element(group: Sequence[Chain], beside: Beside) -> dict[str, Any]:
    chain = group[0]
    copies = {"count": len(group), "id": [c.id for c in group]}
    if chain.kind is Kind.LIGAND:
        if is_ion(chain):
            return {"ion": {"ion": chain.residues[0]} | copies}
        text = chain.smiles or (f"FILE_{chain.file}" if chain.file else f"CCD_{'_'.join(chain.residues)}")
        return {"ligand": {"ligand": text} | copies}
    element = polymer_element(chain) | copies
    if chain.msa is not None:
        for key, given in (("unpairedMsaPath", chain.msa.unpaired), ("pairedMsaPath", chain.msa.paired)):
            element |= {key: beside.name(given[0], f"{key[:-7]}_{chain.id}", ".a3m")} if given else {}
    if chain.templates:
        element["templatesPath"] = chain.templates[0].structure.path
    return {NAMES[chain.kind]: element}
