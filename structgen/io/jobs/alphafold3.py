"""AlphaFold 3's JSON, versions 1 to 4."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from structgen.errors import InputError
from structgen.features.job import Alignments, AtomName, Bond, Chain, Given, Job, Kind, Modification, Template
from structgen.io.jobs.components import component_names
from structgen.io.jobs.holds import Holds, hold
from structgen.io.jobs.json_text import parse_json
from structgen.io.jobs.links import bond_at, chain_at, end_at, whole_job
from structgen.io.jobs.molecules import code, inside_ids, modifications, sequence, smiles_at, spread
from structgen.io.jobs.reading import Reading, Source
from structgen.io.jobs.templates import check_template
from structgen.io.jobs.value import Value
from structgen.io.jobs.written import Loss, Written, entities, json_bytes, without_empty

HOLDS = Holds(
    title="AlphaFold 3 JSON",
    ids="A-Z",
    seeds=True,
    several_codes=True,
    own_components=True,
    bonds=True,
    bonds_to_smiles=False,
    alignments=("unpaired", "paired", "none"),
    rna_alignments=True,
    inline=True,
    templates=("structure", "indices", "none"),
    description=True,
)
_TOP = ("dialect", "version", "name", "modelSeeds", "sequences", "bondedAtomPairs", "userCCD", "userCCDPath")
_MSA = ("unpairedMsa", "unpairedMsaPath")
_PAIRED = ("pairedMsa", "pairedMsaPath")
_FIELDS = {
    Kind.PROTEIN: ("id", "sequence", "modifications", *_MSA, *_PAIRED, "templates", "description"),
    Kind.RNA: ("id", "sequence", "modifications", *_MSA, "description"),
    Kind.DNA: ("id", "sequence", "modifications", "description"),
    Kind.LIGAND: ("id", "ccdCodes", "smiles", "description"),
}
_MODIFICATION = {Kind.PROTEIN: ("ptmType", "ptmPosition")}
_BASE = ("modificationType", "basePosition")
_LONGEST_PATH = 256  # characters of a text that may be a path by mistake
_SINCE = {"unpairedMsaPath": 2, "pairedMsaPath": 2, "mmcifPath": 2, "userCCDPath": 3, "description": 4}


def read(source: Source) -> list[Job | InputError]:
    """The one job of a file."""
    reading = Reading(source)
    root = parse_json(source.text, source.file)
    if isinstance(root.data, list):
        remedy = "this is AlphaFold Server's or Protenix's form; give one object, or read it with --format server or protenix"
        raise reading.error(root, "not AlphaFold 3's form", found="a list of jobs", expected="one object", remedy=remedy)
    return [_Reader(reading).job(root)]


@dataclass
class _Reader:
    reading: Reading
    version: int = 1
    own: tuple[str, ...] = ()  # names of the user's components

    def job(self, root: Value) -> Job:
        reading = self.reading
        top = reading.fields(root, _TOP, ("dialect", "version", "name", "modelSeeds", "sequences"))
        if reading.text(top["dialect"]) != "alphafold3":
            expected = "'alphafold3' ('alphafoldserver' is a list of jobs)"
            raise reading.error(top["dialect"], "other dialect", found=repr(top["dialect"].data), expected=expected)
        self.version = reading.integer(top["version"], 1, 4)
        name, components = reading.name(top["name"]), self._components(top, root)
        seeds = reading.seeds(top["modelSeeds"])
        if not seeds:
            raise reading.error(top["modelSeeds"], "no seeds", found="[]", expected="at least one number from 0 to 4294967295")
        elements = [(element, *reading.one_of(element, [k.value for k in Kind])) for element in reading.items(top["sequences"], some=True)]
        drafts = [(Kind(kind), reading.fields(entity, _FIELDS[Kind(kind)], ("id",))) for _, kind, entity in elements]
        ids = [[self._id(item) for item in _as_list(reading, fields["id"])] for _, fields in drafts]
        places = [[reading.at(item) for item in _as_list(reading, fields["id"])] for _, fields in drafts]
        inside = inside_ids(reading, [pair for one, two in zip(ids, places, strict=True) for pair in zip(one, two, strict=True)])
        chains: dict[str, Chain] = {}
        for (kind, fields), (_, _, entity), names in zip(drafts, elements, ids, strict=True):
            copies = spread(self._chain(kind, fields, entity, inside[names[0]]), [inside[name] for name in names])
            chains |= dict(zip(names, copies, strict=True))
        bonds = self._bonds(top["bondedAtomPairs"], chains) if "bondedAtomPairs" in top else []
        return whole_job(reading, name, tuple(chains.values()), bonds=bonds, seeds=seeds, components=components)

    def _id(self, value: Value) -> str:
        text = self.reading.text(value)
        if not (text.isascii() and text.isalpha() and text.isupper()):
            letters = "".join(c for c in text.upper() if c.isascii() and c.isalpha())
            remedy = f"write {letters or 'A'}" + (" (or another free one)" if letters != text.upper() else "")
            raise self.reading.error(value, "chain id cannot be used", found=repr(text[:60]), expected="capitals A-Z", remedy=remedy)
        return text

    def _since(self, key: str) -> None:
        if self.version < _SINCE.get(key, 1):
            self.reading.note(f"{key} came with version {_SINCE[key]} of the format; the file says version {self.version}")

    def _chain(self, kind: Kind, fields: dict[str, Value], entity: Value, id: str) -> Chain:
        description = self.reading.text(fields["description"]) if "description" in fields else ""
        for key in fields:
            self._since(key)
        if kind is Kind.LIGAND:
            return self._ligand(fields, entity, id, description)
        if "sequence" not in fields:
            raise self.reading.error(entity, "'sequence' is missing", expected="the key 'sequence'")
        letters = sequence(self.reading, kind, fields["sequence"], id)
        changed = self._modifications(kind, fields["modifications"], len(letters)) if "modifications" in fields else ()
        msa = self._alignments(kind, fields, entity, id)
        templates = None
        if "templates" in fields:
            items = self.reading.items(fields["templates"])
            templates = tuple(self._template(item, len(letters)) for item in items)
            if templates and msa is None:
                remedy = 'set "unpairedMsa" and "pairedMsa" too ("" for none)'
                raise self.reading.error(fields["templates"], "templates without alignments", found="own templates", remedy=remedy)
        return Chain(id, kind, letters, changed, msa=msa, templates=templates, description=description)

    def _ligand(self, fields: dict[str, Value], entity: Value, id: str, description: str) -> Chain:
        if ("ccdCodes" in fields) == ("smiles" in fields):
            found = "both" if "smiles" in fields else "neither"
            raise self.reading.error(entity, f"ligand {id} needs one molecule", found=found, expected="ccdCodes or smiles")
        if "smiles" in fields:
            text = smiles_at(self.reading, self.reading.text(fields["smiles"]), self.reading.at(fields["smiles"]))
            return Chain(id, Kind.LIGAND, smiles=text, description=description)
        codes = [code(self.reading, item, own=self.own) for item in self.reading.items(fields["ccdCodes"], some=True)]
        return Chain(id, Kind.LIGAND, residues=tuple(codes), description=description)

    def _modifications(self, kind: Kind, value: Value, length: int) -> tuple[Modification, ...]:
        found = []
        type_key, position_key = _MODIFICATION.get(kind, _BASE)
        for item in self.reading.items(value):
            fields = self.reading.fields(item, (type_key, position_key), (type_key, position_key))
            found.append((item, self.reading.integer(fields[position_key]), code(self.reading, fields[type_key], own=self.own)))
        return modifications(self.reading, found, length)

    def _alignments(self, kind: Kind, fields: dict[str, Value], entity: Value, id: str) -> Alignments | None:
        unpaired = self._alignment(fields, *_MSA)
        if kind is not Kind.PROTEIN:
            return None if unpaired is None else Alignments(unpaired)
        paired = self._alignment(fields, *_PAIRED)
        if (unpaired is None) != (paired is None):
            given, lacking = ("unpairedMsa", "pairedMsa") if paired is None else ("pairedMsa", "unpairedMsa")
            remedy = f'set "{lacking}": "" for none'
            raise self.reading.error(entity, "only one of two alignments is set", found=given, expected="both or neither", remedy=remedy)
        return None if unpaired is None or paired is None else Alignments(unpaired, paired)

    def _alignment(self, fields: dict[str, Value], text_key: str, path_key: str) -> tuple[Given, ...] | None:
        """None where it is to be searched, () where there shall be none."""
        text = self.reading.text(fields[text_key]) if text_key in fields else None
        if path_key in fields:
            if text:
                raise self.reading.error(fields[path_key], "alignment is given twice", found=f"{text_key} and {path_key}", expected="one")
            return (self.reading.file(fields[path_key]),)
        if not text:
            return None if text is None else ()
        if not text.lstrip("\ufeff\0\n\r ").startswith((">", "#")):
            hint = f"a file is named with {path_key}" if len(text) < _LONGEST_PATH and "\n" not in text else "give A3M"
            raise self.reading.error(
                fields[text_key], "not the text of an alignment", found=repr(text[:60]), expected="A3M, from '>' on", remedy=hint
            )
        return (Given(text=text),)

    def _template(self, value: Value, length: int) -> Template:
        reading = self.reading
        fields = reading.fields(value, ("mmcif", "mmcifPath", "queryIndices", "templateIndices"))
        if ("mmcif" in fields) == ("mmcifPath" in fields):
            found = "both" if "mmcif" in fields else "neither"
            raise reading.error(value, "template needs one structure", found=found, expected="mmcif or mmcifPath")
        if "mmcifPath" in fields:
            self._since("mmcifPath")
        structure = Given(text=reading.text(fields["mmcif"])) if "mmcif" in fields else reading.file(fields["mmcifPath"])
        query, there = (self._indices(fields.get(key)) for key in ("queryIndices", "templateIndices"))
        if len(query) != len(there):
            found = f"{len(query)} queryIndices and {len(there)} templateIndices"
            raise reading.error(value, "index lists of a template differ in length", found=found, expected="equal lengths")
        repeated = next((i for n, i in enumerate(query) if i in query[:n]), None)
        if repeated is not None:
            raise reading.error(value, "query index is repeated", found=str(repeated), expected="each residue once")
        if wrong := [i for i in query if i >= length]:
            raise reading.error(value, "query index is out of range", found=str(wrong[0]), expected=f"0 to {length - 1:,}, from 0")
        template = Template(structure, query_indices=query, template_indices=there)
        check_template(template, reading.at(value), alone=True)
        return template

    def _indices(self, value: Value | None) -> tuple[int, ...]:
        return tuple(self.reading.integer(item, 0) for item in self.reading.items(value)) if value else ()

    def _bonds(self, value: Value, chains: dict[str, Chain]) -> list[Bond]:
        bonds: list[Bond] = []
        for place in self.reading.items(value):
            pair = self.reading.items(place)
            if len(pair) != 2:
                raise self.reading.error(place, "a bond has two ends", found=f"{len(pair)}", expected="[atom, atom]")
            first, second = (self._atom(item, chains) for item in pair)
            bonds.append(bond_at(self.reading, place, first, second, bonds))
            ends = [chain for chain in chains.values() if chain.id in (first.chain, second.chain)]
            if all(chain.kind is not Kind.LIGAND for chain in ends):
                self.reading.note(f"{place.path}: bonds between polymers are not what AlphaFold 3 was trained for")
        return bonds

    def _atom(self, value: Value, chains: dict[str, Chain]) -> AtomName:
        parts = self.reading.items(value)
        if len(parts) != 3:
            found, expected = f"{len(parts)} values", "[chain id, residue number from 1, atom name]"
            raise self.reading.error(value, "not an atom", found=found, expected=expected)
        chain = chain_at(self.reading, value, chains, self.reading.text(parts[0]))
        if chain.smiles:
            remedy = "give the ligand as a component (ccdCodes, or userCCD)"
            raise self.reading.error(value, "bond to a SMILES ligand", found=f"chain {chain.id}", expected="named atoms", remedy=remedy)
        return end_at(self.reading, value, chain, self.reading.integer(parts[1]), self.reading.text(parts[2]))

    def _components(self, top: dict[str, Value], root: Value) -> tuple[Given, ...]:
        if "userCCD" in top and "userCCDPath" in top:
            raise self.reading.error(root, "components are given twice", found="userCCD and userCCDPath", expected="one of them")
        key = "userCCD" if "userCCD" in top else "userCCDPath"
        if key not in top:
            return ()
        self._since(key)
        given = Given(text=self.reading.text(top[key])) if key == "userCCD" else self.reading.file(top[key])
        self.own = component_names(given, self.reading.at(top[key]))
        return (given,)


def _as_list(reading: Reading, value: Value) -> list[Value]:
    return reading.items(value, some=True) if isinstance(value.data, list) else [value]


def write(job: Job) -> Written:
    """The job in the lowest version that holds it."""
    job, losses = _without_lone_templates(*hold(job, HOLDS))
    sequences = [_element(chains) for chains in entities(job)]
    bonds = [[[a.chain, a.residue, a.atom] for a in (bond.first, bond.second)] for bond in job.bonds]
    components = {("userCCD" if given.text or not given.path else "userCCDPath"): given.text or given.path for given in job.components}
    body: dict[str, Any] = {"name": job.name, "modelSeeds": list(job.seeds or (1,)), "sequences": sequences}
    body |= ({"bondedAtomPairs": bonds} if bonds else {}) | components
    if not job.seeds:
        losses = (*losses, Loss("seeds", "none is named; AlphaFold 3 needs one, 1 is written"))
    version = max([1, *(_SINCE[key] for key in _SINCE if _holds_key(body, key))])
    return Written(json_bytes({"dialect": "alphafold3", "version": version} | body), losses)


def _without_lone_templates(job: Job, losses: tuple[Loss, ...]) -> tuple[Job, tuple[Loss, ...]]:
    """AlphaFold 3 refuses templates of a chain whose alignments are to be searched."""
    lone = [chain for chain in job.chains if chain.templates and chain.msa is None]
    more = [Loss("templates", f"chain {chain.id}: they need alignments of its own") for chain in lone]
    chains = tuple(replace(chain, templates=None) if chain in lone else chain for chain in job.chains)
    return replace(job, chains=chains), (*losses, *more)


def _holds_key(value: Any, key: str) -> bool:
    if isinstance(value, dict):
        return key in value or any(_holds_key(item, key) for item in value.values())
    return isinstance(value, list) and any(_holds_key(item, key) for item in value)


def _element(chains: Sequence[Chain]) -> dict[str, Any]:
    chain = chains[0]
    ids: Any = [c.id for c in chains] if len(chains) > 1 else chain.id
    if chain.kind is Kind.LIGAND:
        body = without_empty({"ccdCodes": list(chain.residues), "smiles": chain.smiles})
    else:
        type_key, position_key = _MODIFICATION.get(chain.kind, _BASE)
        changed = [{type_key: m.code, position_key: m.position} for m in chain.modifications]
        body = {"sequence": chain.sequence} | without_empty({"modifications": changed}) | _evidence(chain)
    return {chain.kind.value: {"id": ids} | body | without_empty({"description": chain.description})}


def _evidence(chain: Chain) -> dict[str, Any]:
    body: dict[str, Any] = {}
    if chain.msa is not None:
        body |= _written_alignment(chain.msa.unpaired, *_MSA)
        body |= _written_alignment(chain.msa.paired, *_PAIRED) if chain.kind is Kind.PROTEIN else {}
    if chain.templates is not None:
        body["templates"] = [_written_template(template) for template in chain.templates]
    return body


def _written_alignment(given: Sequence[Given], text_key: str, path_key: str) -> dict[str, str]:
    return {path_key: given[0].path} if given and given[0].path else {text_key: given[0].text if given else ""}


def _written_template(template: Template) -> dict[str, Any]:
    structure = {"mmcifPath": template.structure.path} if template.structure.path else {"mmcif": template.structure.text}
    return structure | {"queryIndices": list(template.query_indices), "templateIndices": list(template.template_indices)}
