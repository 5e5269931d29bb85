"""AlphaFold Server's list of jobs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Any

from structgen.errors import InputError
from structgen.features.job import AtomName, Bond, Chain, Job, Kind, chain_id, chain_ids
from structgen.io.jobs.counted import (
    KINDS,
    NAMES,
    count_of,
    is_ion,
    jobs_of_list,
    polymer_element,
    prefixed_modifications,
)
from structgen.io.jobs.glycan import SITES, SUGARS, bonds_in, parse_server, server_text, site_of, tree_of
from structgen.io.jobs.holds import Holds, hold
from structgen.io.jobs.json_text import parse_json
from structgen.io.jobs.links import shown, whole_job
from structgen.io.jobs.molecules import code, sequence
from structgen.io.jobs.reading import Reading, Source
from structgen.io.jobs.value import Value
from structgen.io.jobs.written import Written, json_bytes, without_empty

HOLDS = Holds(title="AlphaFold Server JSON", several_jobs=True, ids="order", seeds=True, smiles=False, templates=("none",))
_PROTEIN = ("sequence", "count", "modifications", "useStructureTemplate", "maxTemplateDate", "glycans")
_FIELDS = {
    "proteinChain": _PROTEIN,
    "dnaSequence": ("sequence", "count", "modifications"),
    "rnaSequence": ("sequence", "count", "modifications"),
    "ligand": ("ligand", "count"),
    "ion": ("ion", "count"),
}
Glycan = tuple[int, str]  # position in the chain, and the tree's text


def read(source: Source) -> list[Job | InputError]:
    """The jobs of a file."""
    return jobs_of_list(source, parse_json(source.text, source.file), "AlphaFold Server", lambda reading, item: _Reader(reading).job(item))


@dataclass(frozen=True)
class _Reader:
    reading: Reading
    chains: list[Chain] = field(default_factory=list)
    glycans: list[tuple[int, Value, Glycan]] = field(default_factory=list)  # index of the chain, place, glycan
    bonds: list[Bond] = field(default_factory=list)

    def job(self, item: Value) -> Job:
        reading = self.reading
        fields = reading.fields(item, ("name", "modelSeeds", "sequences", "dialect", "version"), ("name", "sequences"))
        if ("dialect" in fields) != ("version" in fields):
            raise reading.error(item, "only one of dialect and version", found=str(next(k for k in ("dialect", "version") if k in fields)))
        if "dialect" in fields and reading.text(fields["dialect"]) != "alphafoldserver":
            expected = "'alphafoldserver' ('alphafold3' is one object, not a list)"
            raise reading.error(fields["dialect"], "other dialect", found=repr(fields["dialect"].data), expected=expected)
        if "version" in fields:
            reading.integer(fields["version"], 1, 1)
        name = reading.name(fields["name"])
        seeds = reading.seeds(fields["modelSeeds"], texts=True) if "modelSeeds" in fields else ()
        for element in reading.items(fields["sequences"], some=True):
            self._element(element)
        for glycan in self.glycans:
            self._glycan(*glycan)
        ids = chain_ids(len(self.chains))
        chains = [replace(chain, id=id) for chain, id in zip(self.chains, ids, strict=True)]
        return whole_job(reading, name, chains, bonds=self.bonds, seeds=seeds)

    def _element(self, element: Value) -> None:
        reading = self.reading
        key, value = reading.one_of(element, tuple(KINDS))
        kind, fields = KINDS[key], reading.fields(value, _FIELDS[key], _FIELDS[key][:1])
        count, id = count_of(reading, fields), chain_id(len(self.chains))
        if kind is Kind.LIGAND:
            residue = code(reading, fields[key], prefix="CCD_" if key == "ligand" else "")
            self.chains.extend([Chain(id, kind, residues=(residue,))] * count)
            return
        letters = sequence(reading, kind, fields["sequence"], id)
        changed = prefixed_modifications(reading, kind, fields["modifications"], len(letters)) if "modifications" in fields else ()
        templates = () if "useStructureTemplate" in fields and not reading.flag(fields["useStructureTemplate"]) else None
        if "maxTemplateDate" in fields:
            reading.note(f"chain {id}: maxTemplateDate {reading.text(fields['maxTemplateDate'])} is the Server's choice, not kept")
        glycans = [self._glycan_text(item, letters) for item in reading.items(fields["glycans"])] if "glycans" in fields else []
        for _ in range(count):
            self.glycans.extend((len(self.chains), value, glycan) for value, glycan in glycans)
            self.chains.append(Chain(id, kind, letters, changed, templates=templates))

    def _glycan_text(self, value: Value, letters: str) -> tuple[Value, Glycan]:
        fields = self.reading.fields(value, ("residues", "position"), ("residues", "position"))
        position = self.reading.integer(fields["position"])
        if not 1 <= position <= len(letters):
            expected = f"1 to {len(letters):,}"
            raise self.reading.error(value, "glycan lies outside of the chain", found=f"position {position}", expected=expected)
        if letters[position - 1] not in SITES:
            found, expected = f"{letters[position - 1]} at position {position}", f"one of {', '.join(SITES)}"
            raise self.reading.error(value, "glycan at a residue that carries none", found=found, expected=expected)
        return fields["residues"], (position, self.reading.text(fields["residues"]))

    def _glycan(self, index: int, place: Value, glycan: Glycan) -> None:
        """One more chain, bonded to its protein as is usual; every bond is noted."""
        position, text = glycan
        own, id = chain_id(index), chain_id(len(self.chains))
        tree = parse_server(text, self.reading.at(place))
        for sugar in tree.residues:
            if sugar not in SUGARS:
                raise self.reading.error(place, "not a sugar", found=f"{sugar}, in {text[:100]}", expected="codes of sugars such as NAG")
        site = AtomName(own, position, SITES[self.chains[index].sequence[position - 1]])
        bonds = [Bond(site, AtomName(id, 1, "C1")), *bonds_in(tree, id)]
        for bond in bonds:
            self.reading.note(f"glycan {text} is chain {id}: the bond {shown(bond.first)} to {shown(bond.second)} is assumed")
        self.bonds.extend(bonds)
        self.chains.append(Chain(id, Kind.LIGAND, residues=tree.residues))


def write(job: Job) -> Written:
    """The job as a list of one."""
    ordered, glycans = _glycans(job)
    job, losses = hold(ordered, HOLDS, frozenset(chain.id for chain in ordered.chains[len(ordered.chains) - len(glycans) :]))
    by_chain: dict[str, list[Glycan]] = {}
    for chain in job.chains[len(job.chains) - len(glycans) :]:
        site, tree = site_of(chain, job.bonds), tree_of(chain.residues, chain.id, job.bonds)
        if site and tree:
            by_chain.setdefault(site[0].chain, []).append((site[0].residue, server_text(tree) or ""))
    chains = job.chains[: len(job.chains) - len(glycans)]
    groups = groupby(chains, key=lambda chain: (chain.content, chain.templates, tuple(by_chain.get(chain.id, ()))))
    sequences = [_written(list(copies), by_chain) for _, copies in groups]
    body = {"name": job.name, "modelSeeds": list(job.seeds), "sequences": sequences, "dialect": "alphafoldserver", "version": 1}
    return Written(json_bytes([body]), losses)


def _glycans(job: Job) -> tuple[Job, list[str]]:
    """The job with the ligands that the Server writes as trees behind all others, in the order in which they are read; and their ids."""
    chains = {chain.id: chain for chain in job.chains}
    order = {id: index for index, id in enumerate(chains)}
    keys = {chain.id: key for chain in job.chains if (key := _site_key(chain, chains, job.bonds, order)) is not None}
    ids = sorted(keys, key=lambda id: keys[id])
    rest = [chain for chain in job.chains if chain.id not in keys]
    return replace(job, chains=(*rest, *(chains[id] for id in ids))), ids


def _site_key(chain: Chain, chains: Mapping[str, Chain], bonds: Sequence[Bond], order: Mapping[str, int]) -> tuple[int, int] | None:
    """Protein and position of a ligand that is a glycan with the usual linkages, else None."""
    site = site_of(chain, bonds) if chain.residues and set(chain.residues) <= SUGARS else None
    tree = tree_of(chain.residues, chain.id, bonds) if site else None
    if site is None or tree is None or server_text(tree) is None or site[1] != AtomName(chain.id, 1, "C1"):
        return None
    other, protein = site[0], chains[site[0].chain]
    if protein.kind is not Kind.PROTEIN or any(m.position == other.residue for m in protein.modifications):
        return None
    return (order[other.chain], other.residue) if SITES.get(protein.sequence[other.residue - 1]) == other.atom else None


def _written(copies: Sequence[Chain], glycans: Mapping[str, Sequence[Glycan]]) -> dict[str, Any]:
    chain = copies[0]
    if chain.kind is Kind.LIGAND:
        residue = chain.residues[0]
        element = {"ion": residue} if is_ion(chain) else {"ligand": f"CCD_{residue}"}
        return {"ion" if is_ion(chain) else "ligand": element | {"count": len(copies)}}
    element = polymer_element(chain) | {"count": len(copies)}
    trees = [{"residues": text, "position": position} for position, text in glycans.get(chain.id, ())]
    element |= without_empty({"glycans": trees}) | ({"useStructureTemplate": False} if chain.templates == () else {})
    return {NAMES[chain.kind]: element}
