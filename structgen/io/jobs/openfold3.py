"""OpenFold3's queries."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from structgen.errors import InputError
from structgen.features.job import Alignments, Chain, Given, Job, Kind, Modification, Pocket, Template
from structgen.io.jobs.beside import Beside
from structgen.io.jobs.counted import require_new_name
from structgen.io.jobs.holds import Holds, hold
from structgen.io.jobs.json_text import parse_json
from structgen.io.jobs.links import chain_at, check_cyclic, distance_at, end_at, whole_job
from structgen.io.jobs.molecules import code, inside_ids, modifications, sequence, smiles_at, spread
from structgen.io.jobs.reading import Reading, Source
from structgen.io.jobs.templates import check_template, is_hits
from structgen.io.jobs.value import Value
from structgen.io.jobs.written import Loss, Written, entities, json_bytes, without_empty

HOLDS = Holds(
    title="OpenFold3 JSON",
    several_jobs=True,
    name="folder",
    seeds=True,
    cyclic=True,
    alignments=("unpaired", "paired", "several", "none"),
    rna_alignments=True,
    templates=("structure", "hits", "chain"),
    pockets=("ligand", "one"),
    description=True,
)
_TYPES = (Kind.PROTEIN, Kind.RNA, Kind.DNA, Kind.LIGAND)  # by number
_SWITCHES = ("use_msas", "use_main_msas", "use_paired_msas")
_QUERY = ("chains", *_SWITCHES, "covalent_bonds", "pocket_constraint")
_ANY = ("molecule_type", "chain_ids", "description")
_MAIN, _PAIRED = "main_msa_file_paths", "paired_msa_file_paths"
_TEMPLATES = ("template_alignment_file_path", "template_cif_paths", "template_cif_chain_ids", "template_entry_chain_ids")
_FIELDS = {
    Kind.PROTEIN: (*_ANY, "sequence", "non_canonical_residues", "cyclic", _MAIN, _PAIRED, *_TEMPLATES),
    Kind.RNA: (*_ANY, "sequence", "non_canonical_residues", "cyclic", _MAIN, _PAIRED),
    Kind.DNA: (*_ANY, "sequence", "non_canonical_residues", "cyclic"),
    Kind.LIGAND: (*_ANY, "smiles", "ccd_codes", "sdf_file_path"),
}
_EVERY = tuple(dict.fromkeys(key for keys in _FIELDS.values() for key in keys))
KNOWN_MSAS = frozenset(
    "uniref90_hits uniprot_hits uniprot bfd_uniclust_hits bfd_uniref_hits cfdb_uniref30 mgnify_hits rfam_hits rnacentral_hits nt_hits "
    "concat_cfdb_uniref100_filtered colabfold_main colabfold_paired dummy".split()
)


def read(source: Source) -> list[Job | InputError]:
    """The queries of a file."""
    reading = Reading(source)
    top = reading.fields(parse_json(source.text, source.file), ("seeds", "queries"), ("queries",))
    seeds = reading.seeds(top["seeds"]) if "seeds" in top else ()
    queries = reading.entries(top["queries"])
    if not queries:
        raise reading.error(top["queries"], "no queries", found="{}", expected="at least one")
    jobs: list[Job | InputError] = []
    names: dict[str, tuple[int, str]] = {}
    for number, (name, query) in enumerate(queries.items(), 1):
        one = reading.of_job(f"query {number} ({''.join(c if c.isprintable() else ' ' for c in name[:60])})")
        try:
            one.name(Value(name, query.offset, query.path))
            job = _Reader(one).job(name, query, seeds)
            require_new_name(one, number, name, names)
            jobs.append(job)
        except InputError as error:
            jobs.append(error)
    return jobs


@dataclass(frozen=True)
class _Reader:
    reading: Reading

    def job(self, name: str, query: Value, seeds: tuple[int, ...]) -> Job:
        reading = self.reading
        fields = reading.fields(query, _QUERY, ("chains",))
        if "covalent_bonds" in fields and reading.items(fields["covalent_bonds"]):
            remedy = "give the bonds in AlphaFold 3 JSON, Boltz YAML or Protenix JSON"
            found = "atoms as numbers, which OpenFold3 itself does not read"
            raise reading.error(fields["covalent_bonds"], "bonds cannot be understood in this format", found=found, remedy=remedy)
        use = {key: reading.flag(fields[key]) if key in fields else True for key in _SWITCHES}
        elements = reading.items(fields["chains"], some=True)
        parts = [self._fields(element) for element in elements]
        ids = [reading.texts(one["chain_ids"]) for _, one in parts]
        places = [(id, reading.at(element)) for names, element in zip(ids, elements, strict=True) for id in names]
        if any(not id for id, _ in places):
            raise reading.error(fields["chains"], "chain id is empty", found="''", expected="a text")
        inside = inside_ids(reading, places)
        chains: dict[str, Chain] = {}
        for (kind, one), element, names in zip(parts, elements, ids, strict=True):
            copies = spread(self._chain(kind, one, element, inside[names[0]], use), [inside[id] for id in names])
            chains |= dict(zip(names, copies, strict=True))
        pockets = (self._pocket(fields["pocket_constraint"], chains),) if "pocket_constraint" in fields else ()
        return whole_job(reading, name, tuple(chains.values()), seeds=seeds, pockets=pockets)

    def _fields(self, element: Value) -> tuple[Kind, dict[str, Value]]:
        reading = self.reading
        first = reading.fields(element, _EVERY, ("molecule_type", "chain_ids"))
        value = first["molecule_type"]
        names = [kind.value for kind in _TYPES]
        if type(value.data) is int and 0 <= value.data < len(_TYPES):
            kind = _TYPES[value.data]
        elif isinstance(value.data, str) and value.data.lower() in names:
            kind = Kind(value.data.lower())
        else:
            expected = f"one of {', '.join(names)}, or 0 to 3"
            raise reading.error(value, "unknown type", found=repr(value.data)[:40], expected=expected)
        return kind, reading.fields(element, _FIELDS[kind])

    def _chain(self, kind: Kind, fields: Mapping[str, Value], element: Value, id: str, use: Mapping[str, bool]) -> Chain:
        reading = self.reading
        description = reading.text(fields["description"]) if "description" in fields else ""
        if kind is Kind.LIGAND:
            return self._ligand(fields, element, id, description)
        if "sequence" not in fields:
            raise reading.error(element, "'sequence' is missing", expected="the key 'sequence'")
        letters = sequence(reading, kind, fields["sequence"], id)
        changed = self._modifications(fields["non_canonical_residues"], len(letters)) if "non_canonical_residues" in fields else ()
        cyclic = "cyclic" in fields and reading.flag(fields["cyclic"])
        msa = self._alignments(fields, id, use) if kind is not Kind.DNA else None
        templates = self._templates(fields, element) if kind is Kind.PROTEIN else None
        chain = Chain(id, kind, letters, changed, cyclic, msa=msa, templates=templates, description=description)
        check_cyclic(chain, reading.at(element))
        return chain

    def _ligand(self, fields: Mapping[str, Value], element: Value, id: str, description: str) -> Chain:
        reading = self.reading
        given = [key for key in ("smiles", "ccd_codes", "sdf_file_path") if key in fields]
        if len(given) != 1:
            found = " and ".join(given) or "neither"
            raise reading.error(element, f"ligand {id} needs one molecule", found=found, expected="smiles, ccd_codes or sdf_file_path")
        value = fields[given[0]]
        if given[0] == "smiles":
            return Chain(id, Kind.LIGAND, smiles=smiles_at(reading, reading.text(value), reading.at(value)), description=description)
        if given[0] == "sdf_file_path":
            return Chain(id, Kind.LIGAND, file=reading.file(value).path, description=description)
        items = reading.items(value, some=True) if isinstance(value.data, list) else [value]
        return Chain(id, Kind.LIGAND, residues=tuple(code(reading, item) for item in items), description=description)

    def _modifications(self, value: Value, length: int) -> tuple[Modification, ...]:
        found = []
        for position, item in self.reading.entries(value).items():
            if not position.isascii() or not position.lstrip("-").isdigit() or len(position) > 9:
                raise self.reading.error(item, "not a position", found=repr(position[:20]), expected="a number from 1 in quotes")
            found.append((item, int(position), code(self.reading, item)))
        return modifications(self.reading, found, length)

    def _alignments(self, fields: Mapping[str, Value], id: str, use: Mapping[str, bool]) -> Alignments | None:
        wanted = {_MAIN: use["use_main_msas"], _PAIRED: use["use_paired_msas"]}
        given: dict[str, tuple[Given, ...]] = {}
        for key, used in wanted.items():
            given[key] = self._files(fields[key]) if key in fields else ()
            if given[key] and not (used and use["use_msas"]):
                self.reading.note(f"chain {id}: {key} is not used, as the query says")
                given[key] = ()
        if not use["use_msas"]:
            return Alignments()
        return Alignments(given[_MAIN], given[_PAIRED]) if any(given.values()) else None

    def _files(self, value: Value) -> tuple[Given, ...]:
        """Files, and of folders those whose names say that they are alignments."""
        reading = self.reading
        files: list[Given] = []
        for item in reading.items(value) if isinstance(value.data, list) else [value]:
            given = reading.file(item)
            if not os.path.isdir(given.path):
                files.append(given)
                continue
            found = sorted(path for path in Path(given.path).iterdir() if path.name.partition(".")[0] in KNOWN_MSAS)
            if not found:
                expected = f"files named {', '.join(sorted(KNOWN_MSAS)[:4])} ..."
                raise reading.error(item, "folder holds no alignment of a known name", found=given.path, expected=expected)
            files += [Given(path=str(path)) for path in found]
        return tuple(files)

    def _templates(self, fields: Mapping[str, Value], element: Value) -> tuple[Template, ...] | None:
        reading = self.reading
        if "template_alignment_file_path" in fields:
            if "template_cif_paths" in fields:
                raise reading.error(element, "templates are given twice", found="an alignment and structures", expected="one of them")
            hits = reading.file(fields["template_alignment_file_path"])
            if not is_hits(Template(hits)):
                raise reading.error(
                    fields["template_alignment_file_path"], "not a file of hits", found=hits.path, expected=".a3m, .sto, .hhr"
                )
            entries = reading.texts(fields["template_entry_chain_ids"]) if "template_entry_chain_ids" in fields else [""]
            return tuple(Template(hits, entry) for entry in entries)
        if "template_cif_paths" not in fields:
            return None
        items = reading.items(fields["template_cif_paths"])
        ids = reading.items(fields["template_cif_chain_ids"]) if "template_cif_chain_ids" in fields else [None] * len(items)
        if len(ids) != len(items):
            found = f"{len(items)} paths and {len(ids)} chain ids"
            raise reading.error(element, "lists of templates differ in length", found=found, expected="equal lengths")
        templates = []
        for item, id in zip(items, ids, strict=True):
            named = "" if id is None or id.data is None else reading.text(id)
            templates.append(Template(reading.file(item), named))
            check_template(templates[-1], reading.at(item))
        return tuple(templates) or None

    def _pocket(self, value: Value, chains: Mapping[str, Chain]) -> Pocket:
        reading = self.reading
        keys = ("ligand_chain_id", "pocket_residues", "max_distance")
        fields = reading.fields(value, keys, keys)
        binder = chain_at(reading, fields["ligand_chain_id"], chains, reading.text(fields["ligand_chain_id"]))
        if binder.kind is not Kind.LIGAND:
            found = f"chain {binder.id}, a {binder.kind.value}"
            raise reading.error(fields["ligand_chain_id"], "binder is no ligand", found=found, expected="a ligand")
        contacts = []
        for item in reading.items(fields["pocket_residues"], some=True):
            parts = reading.items(item)
            if len(parts) != 2:
                raise reading.error(item, "not a residue", found=f"{len(parts)} values", expected="[chain id, residue number from 1]")
            chain = chain_at(reading, item, chains, reading.text(parts[0]))
            contacts.append(end_at(reading, item, chain, reading.integer(parts[1])))
        return Pocket(binder.id, tuple(contacts), distance_at(reading, fields["max_distance"]))


def write(job: Job) -> Written:
    """The job as the only query; what was given as text becomes files beside it."""
    job, losses = hold(job, HOLDS)
    able = [chain for chain in job.chains if chain.kind in (Kind.PROTEIN, Kind.RNA)]
    alone = [chain for chain in able if chain.msa == Alignments()]
    without = bool(alone) and len(alone) == len(able)
    if alone and not without:
        losses = (*losses, *(Loss("no MSA", f"chain {chain.id}: said for all chains or none") for chain in alone))
    beside = Beside(job)
    query: dict[str, Any] = {"chains": [_element(group, beside) for group in entities(job)]} | ({"use_msas": False} if without else {})
    for pocket in job.pockets:
        residues = [[atom.chain, atom.residue] for atom in pocket.contacts]
        query["pocket_constraint"] = {
            "ligand_chain_id": pocket.binder,
            "pocket_residues": residues,
            "max_distance": pocket.max_distance,
        }
    body = without_empty({"seeds": list(job.seeds)}) | {"queries": {job.name: query}}
    return Written(json_bytes(body), losses, beside.files)


def _element(group: Sequence[Chain], beside: Beside) -> dict[str, Any]:
    chain = group[0]
    changed = {str(m.position): m.code for m in chain.modifications}
    body: dict[str, Any] = {"molecule_type": chain.kind.value, "chain_ids": [c.id for c in group]}
    body |= without_empty({"sequence": chain.sequence, "smiles": chain.smiles, "ccd_codes": list(chain.residues)})
    body |= without_empty({"non_canonical_residues": changed}) | ({"cyclic": True} if chain.cyclic else {})
    if chain.msa is not None:
        for key, title, given in ((_MAIN, "colabfold_main", chain.msa.unpaired), (_PAIRED, "colabfold_paired", chain.msa.paired)):
            names = [beside.name(one, title, ".a3m", folder=chain.id) for one in given]
            body |= {key: names} if names else {}
    if chain.templates:
        body |= _written_templates(chain.templates, chain.id, beside)
    return body | without_empty({"description": chain.description})


def _written_templates(templates: Sequence[Template], id: str, beside: Beside) -> dict[str, Any]:
    named = [template.chain or None for template in templates]
    if is_hits(templates[0]):
        entries = {"template_entry_chain_ids": named} if any(named) else {}
        return {"template_alignment_file_path": templates[0].structure.path} | entries
    paths = [beside.name(template.structure, f"template_{id}", ".cif") for template in templates]
    return {"template_cif_paths": paths} | ({"template_cif_chain_ids": named} if any(named) else {})
