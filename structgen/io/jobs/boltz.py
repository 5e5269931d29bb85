"""Boltz's YAML, version 1."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import yaml

from structgen.errors import InputError
from structgen.features.job import Alignments, AtomName, Bond, Chain, Contact, Given, Job, Kind, Pocket, Template
from structgen.io.jobs.beside import Beside
from structgen.io.jobs.evidence_lost import is_table
from structgen.io.jobs.holds import Holds, hold
from structgen.io.jobs.links import bond_at, chain_at, distance_at, end_at, polymer_end_at, whole_job
from structgen.io.jobs.molecules import code, inside_ids, modifications, sequence, smiles_at, spread
from structgen.io.jobs.reading import Reading, Source
from structgen.io.jobs.templates import check_template
from structgen.io.jobs.value import Value
from structgen.io.jobs.written import Written, entities, without_empty
from structgen.io.jobs.yaml_text import parse_yaml

HOLDS = Holds(
    title="Boltz YAML",
    name="file",
    several_codes=True,
    bonds=True,
    cyclic=True,
    alignments=("unpaired", "tables", "none", "only-one"),
    templates=("structure", "pdb", "chain", "force"),
    contacts=("force", "ligand-atoms"),
    pockets=("force", "ligand-atoms"),
    affinity=True,
)
_POLYMER = ("id", "sequence", "msa", "modifications", "cyclic")
_FIELDS = {
    Kind.PROTEIN: _POLYMER,
    Kind.RNA: tuple(key for key in _POLYMER if key != "msa"),
    Kind.DNA: tuple(key for key in _POLYMER if key != "msa"),
    Kind.LIGAND: ("id", "smiles", "ccd", "cyclic"),
}
_DISTANCE = 6.0  # angstrom, where a constraint names none


def read(source: Source) -> list[Job | InputError]:
    """The one job of a file; its name is the file's."""
    return [_Reader(Reading(source)).job(parse_yaml(source.text, source.file))]


@dataclass(frozen=True)
class _Reader:
    reading: Reading

    def job(self, root: Value) -> Job:
        reading = self.reading
        top = reading.fields(root, ("version", "sequences", "constraints", "templates", "properties"), ("sequences",))
        if "version" in top:
            reading.integer(top["version"], 1, 1)
        chains = self._chains(reading.items(top["sequences"], some=True))
        if "templates" in top:
            for item in reading.items(top["templates"]):
                self._template(item, chains)
        bonds: list[Bond] = []
        contacts: list[Contact] = []
        pockets: list[Pocket] = []
        for item in reading.items(top["constraints"]) if "constraints" in top else ():
            kind, value = reading.one_of(item, ("bond", "pocket", "contact"))
            if kind == "bond":
                fields = reading.fields(value, ("atom1", "atom2"), ("atom1", "atom2"))
                first, second = (self._atom(fields[key], chains) for key in ("atom1", "atom2"))
                bonds.append(bond_at(reading, value, first, second, bonds))
            elif kind == "contact":
                contacts.append(self._contact(value, chains))
            else:
                pockets.append(self._pocket(value, chains))
        affinity = self._affinity(top["properties"], chains) if "properties" in top else ""
        rest: dict[str, Any] = {"contacts": tuple(contacts), "pockets": tuple(pockets), "affinity": affinity}
        return whole_job(reading, reading.source.stem, tuple(chains.values()), bonds=bonds, **rest)

    def _chains(self, elements: Sequence[Value]) -> dict[str, Chain]:
        reading = self.reading
        drafts = [(Kind(kind), entity) for kind, entity in (reading.one_of(item, [k.value for k in Kind]) for item in elements)]
        fields = [reading.fields(entity, _FIELDS[kind], ("id",)) for kind, entity in drafts]
        ids = [reading.texts(one["id"]) for one in fields]
        for names, one in zip(ids, fields, strict=True):
            if bad := next((name for name in names if not name or len(name) > 5 or not name.isprintable()), None):
                raise reading.error(one["id"], "chain id cannot be used", found=repr(bad[:60]), expected="1 to 5 characters")
            if "" in names:
                raise reading.error(one["id"], "chain id is empty", found="''", expected="1 to 5 characters")
        inside = inside_ids(reading, [(name, reading.at(one["id"])) for names, one in zip(ids, fields, strict=True) for name in names])
        chains: dict[str, Chain] = {}
        for (kind, entity), one, names in zip(drafts, fields, ids, strict=True):
            chain = self._chain(kind, entity, one, inside[names[0]])
            chains |= dict(zip(names, spread(chain, [inside[name] for name in names]), strict=True))
        return chains

    def _chain(self, kind: Kind, entity: Value, fields: Mapping[str, Value], id: str) -> Chain:
        reading = self.reading
        cyclic = "cyclic" in fields and reading.flag(fields["cyclic"])
        if kind is Kind.LIGAND:
            return replace(self._ligand(entity, fields, id), cyclic=cyclic)
        if "sequence" not in fields:
            raise reading.error(entity, "'sequence' is missing", expected="the key 'sequence'")
        letters = sequence(reading, kind, fields["sequence"], id)
        found = []
        for item in reading.items(fields["modifications"]) if "modifications" in fields else ():
            one = reading.fields(item, ("position", "ccd"), ("position", "ccd"))
            found.append((item, reading.integer(one["position"]), code(reading, one["ccd"])))
        changed = modifications(reading, found, len(letters))
        msa = self._alignments(fields["msa"]) if "msa" in fields else None
        return Chain(id, kind, letters, changed, cyclic, msa=msa)

    def _ligand(self, entity: Value, fields: Mapping[str, Value], id: str) -> Chain:
        reading = self.reading
        if ("smiles" in fields) == ("ccd" in fields):
            found = "both" if "smiles" in fields else "neither"
            raise reading.error(entity, f"ligand {id} needs one molecule", found=found, expected="smiles or ccd")
        if "ccd" in fields:
            listed = isinstance(fields["ccd"].data, list)
            items = reading.items(fields["ccd"], some=True) if listed else [fields["ccd"]]
            return Chain(id, Kind.LIGAND, residues=tuple(code(reading, item) for item in items))
        value = fields["smiles"]
        if not isinstance(value.data, str):
            remedy = "put a SMILES string in quotes: YAML reads [ as the start of a list"
            raise reading.error(value, "not a SMILES string", found=value.kind, expected="text in quotes", remedy=remedy)
        if value.plain:
            line = reading.source.text[value.offset + len(value.data) :].partition("\n")[0]
            if line.lstrip().startswith("#"):
                reading.note(f"{value.path}: what stands behind ' #' is a comment to YAML; put the SMILES string in quotes")
        return Chain(id, Kind.LIGAND, smiles=smiles_at(reading, reading.text(value), reading.at(value)))

    def _alignments(self, value: Value) -> Alignments | None:
        text = self.reading.text(value)
        if text in ("", "empty"):
            return Alignments() if text else None
        given = self.reading.file(value)
        return Alignments(paired=(given,)) if is_table(given) else Alignments(unpaired=(given,))

    def _atom(self, value: Value, chains: Mapping[str, Chain]) -> AtomName:
        parts = self._parts(value, 3, "[chain id, residue number from 1, atom name]")
        chain = chain_at(self.reading, value, chains, self.reading.text(parts[0]))
        return end_at(self.reading, value, chain, self.reading.integer(parts[1]), self.reading.text(parts[2]))

    def _token(self, value: Value, chains: Mapping[str, Chain]) -> AtomName:
        parts = self._parts(value, 2, "[chain id, residue number, or a ligand's atom name]")
        chain = chain_at(self.reading, value, chains, self.reading.text(parts[0]))
        return polymer_end_at(self.reading, value, chain, parts[1])

    def _parts(self, value: Value, count: int, expected: str) -> list[Value]:
        parts = self.reading.items(value)
        if len(parts) != count:
            raise self.reading.error(value, "not a place in the job", found=f"{len(parts)} values", expected=expected)
        return parts

    def _limits(self, fields: Mapping[str, Value]) -> tuple[float, bool]:
        distance = distance_at(self.reading, fields["max_distance"]) if "max_distance" in fields else _DISTANCE
        return distance, "force" in fields and self.reading.flag(fields["force"])

    def _contact(self, value: Value, chains: Mapping[str, Chain]) -> Contact:
        fields = self.reading.fields(value, ("token1", "token2", "max_distance", "force"), ("token1", "token2"))
        distance, force = self._limits(fields)
        return Contact(self._token(fields["token1"], chains), self._token(fields["token2"], chains), distance, force=force)

    def _pocket(self, value: Value, chains: Mapping[str, Chain]) -> Pocket:
        reading = self.reading
        fields = reading.fields(value, ("binder", "contacts", "max_distance", "force"), ("binder", "contacts"))
        binder = chain_at(reading, fields["binder"], chains, reading.text(fields["binder"]))
        distance, force = self._limits(fields)
        contacts = tuple(self._token(item, chains) for item in reading.items(fields["contacts"], some=True))
        return Pocket(binder.id, contacts, distance, force=force)

    def _template(self, value: Value, chains: dict[str, Chain]) -> None:
        """Give a template to its chains: those that are named, else all proteins."""
        reading = self.reading
        fields = reading.fields(value, ("cif", "pdb", "chain_id", "template_id", "force", "threshold"))
        if ("cif" in fields) == ("pdb" in fields):
            found = "both" if "cif" in fields else "neither"
            raise reading.error(value, "template needs one structure", found=found, expected="cif or pdb")
        structure = reading.file(fields["cif" if "cif" in fields else "pdb"])
        proteins = [name for name, chain in chains.items() if chain.kind is Kind.PROTEIN]
        names = reading.texts(fields["chain_id"]) if "chain_id" in fields else proteins
        there = reading.texts(fields["template_id"]) if "template_id" in fields else [""] * len(names)
        if len(there) != len(names) or ("template_id" in fields and "chain_id" not in fields):
            found = f"{len(names) if 'chain_id' in fields else 0} chain_id and {len(there)} template_id"
            raise reading.error(value, "chain lists of a template differ in length", found=found, expected="equal lengths")
        force = "force" in fields and reading.flag(fields["force"])
        threshold = reading.number(fields["threshold"], 0, 1000) if "threshold" in fields else None
        if force and threshold is None:
            raise reading.error(value, "forced template without a threshold", expected="threshold in angstrom")
        for name, id in zip(names, there, strict=True):
            chain = chain_at(reading, value, chains, name)
            if chain.kind is not Kind.PROTEIN:
                raise reading.error(value, "template of a chain that is no protein", found=f"chain {name}", expected="a protein")
            template = Template(structure, id, force=force, threshold=threshold)
            check_template(template, reading.at(value))
            chains[name] = replace(chain, templates=(*(chain.templates or ()), template))

    def _affinity(self, value: Value, chains: Mapping[str, Chain]) -> str:
        reading = self.reading
        items = reading.items(value) if isinstance(value.data, list) else [value]
        if len(items) > 1:
            raise reading.error(value, "one affinity a job", found=f"{len(items)}", expected="one binder")
        for item in items:
            _, affinity = reading.one_of(item, ("affinity",))
            binder = reading.fields(affinity, ("binder",), ("binder",))["binder"]
            chain = chain_at(reading, binder, chains, reading.text(binder))
            if chain.kind is not Kind.LIGAND or len(chain.residues) > 1:
                found = f"chain {chain.id}, a {chain.kind.value} of {len(chain.sequence or chain.residues)} residues"
                raise reading.error(binder, "binder of an affinity is one small molecule", found=found, expected="a ligand of one residue")
            return chain.id
        return ""


def write(job: Job) -> Written:
    """The job; alignments and structures that were given as text become files beside it."""
    job, losses = hold(job, HOLDS)
    beside = Beside(job)
    kinds = {chain.id: chain.kind for chain in job.chains}
    constraints: list[dict[str, Any]] = [{"bond": {"atom1": _atom(b.first), "atom2": _atom(b.second)}} for b in job.bonds]
    for pocket in job.pockets:
        contacts = [_token(atom, kinds) for atom in pocket.contacts]
        constraints.append({"pocket": {"binder": pocket.binder, "contacts": contacts} | _limits_of(pocket)})
    for contact in job.contacts:
        tokens = {"token1": _token(contact.first, kinds), "token2": _token(contact.second, kinds)}
        constraints.append({"contact": tokens | _limits_of(contact)})
    body: dict[str, Any] = {"version": 1, "sequences": [_element(chains, beside) for chains in entities(_apart(job))]}
    body |= without_empty({"constraints": constraints, "templates": _templates(job, beside)})
    body |= {"properties": [{"affinity": {"binder": job.affinity}}]} if job.affinity else {}
    text = yaml.safe_dump(body, sort_keys=False, allow_unicode=True, width=10**9, default_flow_style=None)
    return Written(text.encode(), losses, beside.files)


def _apart(job: Job) -> Job:
    """Without templates: these are said for the whole job."""
    return replace(job, chains=tuple(replace(chain, templates=None) for chain in job.chains))


def _element(chains: Sequence[Chain], beside: Beside) -> dict[str, Any]:
    chain = chains[0]
    body: dict[str, Any] = {"id": [c.id for c in chains] if len(chains) > 1 else chain.id}
    codes = list(chain.residues) if len(chain.residues) > 1 else "".join(chain.residues)
    body |= without_empty({"sequence": chain.sequence, "smiles": chain.smiles, "ccd": codes})
    if chain.msa is not None:
        given = (*chain.msa.unpaired, *chain.msa.paired)
        body["msa"] = beside.name(given[0], f"msa_{chain.id}", ".csv" if is_table(given[0]) else ".a3m") if given else "empty"
    changed = [{"position": m.position, "ccd": m.code} for m in chain.modifications]
    return {chain.kind.value: body | without_empty({"modifications": changed}) | ({"cyclic": True} if chain.cyclic else {})}


def _templates(job: Job, beside: Beside) -> list[dict[str, Any]]:
    """One entry for each structure and the chains that it serves."""
    entries: dict[tuple[Any, ...], list[tuple[str, str]]] = {}
    for chain in job.chains:
        seen: dict[tuple[Given, bool, float | None], int] = {}
        for template in chain.templates or ():
            key = template.structure, template.force, template.threshold
            seen[key] = seen.get(key, 0) + 1
            entries.setdefault((*key, seen[key], bool(template.chain)), []).append((chain.id, template.chain))
    written = []
    for (structure, force, threshold, number, named), pairs in entries.items():
        path = beside.name(structure, f"template_{pairs[0][0]}_{number}", ".cif")
        kind = "pdb" if path.lower().removesuffix(".gz").endswith((".pdb", ".ent")) else "cif"
        entry = {kind: path, "chain_id": [id for id, _ in pairs]} | ({"template_id": [there for _, there in pairs]} if named else {})
        entry |= ({"force": True} if force else {}) | ({"threshold": threshold} if threshold is not None else {})
        written.append(entry)
    return written


def _atom(atom: AtomName) -> list[Any]:
    return [atom.chain, atom.residue, atom.atom]


def _token(atom: AtomName, kinds: Mapping[str, Kind]) -> list[Any]:
    return [atom.chain, atom.atom if kinds[atom.chain] is Kind.LIGAND and atom.atom else atom.residue]


def _limits_of(constraint: Contact | Pocket) -> dict[str, Any]:
    return {"max_distance": constraint.max_distance} | ({"force": True} if constraint.force else {})
