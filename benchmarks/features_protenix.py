"""Features of the same inputs by structgen and by Protenix's own package, array by array: what is equal, and what is not and why.

Run from the root of the repository, in an environment that has both (docs/fidelity.md says how to make it), with a folder of entries of
the PDB as mmCIF (1b5f, 1dul, 1o3q, 1tcc, 2hw3, 3rer, 3vbt, 3vfj, 4en8, 5kds, 6lu7):

    PYTHONPATH=. peer-protenix/bin/python -m benchmarks.features_protenix ENTRIES
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import gemmi
import numpy as np
import torch

from benchmarks import protenix_dictionary
from structgen.alphafold3.labels import make_labels
from structgen.features.atoms import build_atoms
from structgen.features.batch import Batch
from structgen.features.dictionary import dictionary_component
from structgen.features.featurise import featurise
from structgen.features.job import Alignments, AtomName, Bond, Chain, Given, Job, Kind, Modification
from structgen.features.molecules import to_rdkit
from structgen.features.tokens import Tokens, tokenise
from structgen.io.jobs import protenix
from structgen.search.given import own_alignment

SPECIES = ("HUMAN", "MOUSE", "YEAST", "ECOLI", "DROME")


@dataclass(frozen=True)
class Entries:
    """Polymers of entries of the PDB."""

    folder: Path

    def polymer(self, entry: str, entity: str, id: str, kind: Kind = Kind.PROTEIN) -> Chain:
        """The sequence as it was crystallised, modified residues as such."""
        structure = gemmi.read_structure(str(self.folder / f"{entry}.cif.gz"))
        codes = [gemmi.Entity.first_mon(item) for item in structure.get_entity(entity).full_sequence]
        standard = [gemmi.find_tabulated_residue(code).one_letter_code.isupper() for code in codes]
        modified = [Modification(i, code) for i, (code, plain) in enumerate(zip(codes, standard, strict=True), 1) if not plain]
        unknown = "X" if kind is Kind.PROTEIN else "N"
        return Chain(id, kind, "".join(dictionary_component(code).letter or unknown for code in codes), tuple(modified))


def ligand(id: str, *codes: str) -> Chain:
    return Chain(id, Kind.LIGAND, residues=codes)


def bond(first: str, second: str) -> Bond:
    """Of 'A 74 ND2' and 'B 1 C1'."""
    ends = (text.split() for text in (first, second))
    return Bond(*(AtomName(chain, int(residue), atom) for chain, residue, atom in ends))


def smiles_of(code: str) -> str:
    from rdkit import Chem

    return Chem.MolToSmiles(Chem.RemoveHs(to_rdkit(dictionary_component(code))))


def cases(entries: Entries, folder: Path) -> Iterator[tuple[str, Job]]:
    """What must be looked at, by name."""

    def job(*chains: Chain, bonds: tuple[Bond, ...] = ()) -> Job:
        return Job("x", "x", chains, bonds=bonds)

    def aligned(chain: Chain, paired: bool, rows: int = 40) -> Chain:
        path = Given(path=str(made_alignment(chain, folder, rows, repeated=not paired)))
        return replace(chain, msa=Alignments(**{"paired" if paired else "unpaired": (path,)}))

    protease = entries.polymer("6lu7", "1", "A")
    yield "monomer (6lu7 A), alignment", job(aligned(protease, False))
    lipase = entries.polymer("1tcc", "1", "A")
    yield "homodimer (1tcc)", job(lipase, replace(lipase, id="B"))
    first, second = (entries.polymer("4en8", entity, id) for entity, id in (("1", "A"), ("2", "B")))
    for rows in (12, 40):
        yield f"heteromer (4en8), {rows} rows to pair", job(aligned(first, True, rows), aligned(second, True, rows))
    dna = [entries.polymer("1o3q", entity, id, Kind.DNA) for entity, id in (("1", "A"), ("2", "B"))]
    yield "protein-DNA (1o3q)", job(*dna, entries.polymer("1o3q", "3", "C"))
    rna = aligned(entries.polymer("1dul", "1", "A", Kind.RNA), False)
    yield "RNA with alignment, protein, CCC and MSE (1dul)", job(rna, entries.polymer("1dul", "2", "B"))
    hfq = aligned(entries.polymer("3rer", "1", "A"), False)
    yield "protein with alignment, ATP, Mg (of 3rer)", job(hfq, ligand("B", "ATP"), ligand("C", "MG"))
    yield "modified residues CCS, DAL (3vfj A)", job(entries.polymer("3vfj", "1", "A"))
    yield "modified DNA 6OG (2hw3)", job(*(entries.polymer("2hw3", e, id, Kind.DNA) for e, id in (("1", "A"), ("2", "B"))))
    glycan = (bond("A 74 ND2", "B 1 C1"), bond("B 1 O4", "B 2 C1"))
    yield "N-glycan (1tcc)", job(lipase, ligand("B", "NAG", "NAG"), bonds=glycan)
    mucin = entries.polymer("5kds", "1", "A")
    site = f"A {mucin.sequence.index('T') + 1} OG1"
    tree = (bond(site, "B 1 C1"), bond("B 1 O3", "B 2 C1"), bond("B 1 O6", "B 3 C2"))
    yield "O-glycan (5kds)", job(mucin, ligand("B", "A2G", "NAG", "SIA"), bonds=tree)
    yield "SMILES ligand 0F9 (3vbt)", job(entries.polymer("3vbt", "1", "A"), Chain("B", Kind.LIGAND, smiles=smiles_of("0F9")))
    yield "disulfide", job(Chain("A", Kind.PROTEIN, "GCAAKAACGG"), bonds=(bond("A 2 SG", "A 8 SG"),))
    yield "cyclic peptide", job(Chain("A", Kind.PROTEIN, "GRCTKSIPPICFPD", cyclic=True))


def made_alignment(chain: Chain, folder: Path, rows: int, *, repeated: bool) -> Path:
    """Rows mutated from the sequence by a seed, with gaps, insertions, a repeated row, and species of UniProt in the headers."""
    rng, alphabet = np.random.default_rng(len(chain.sequence)), "ACDEFGHIKLMNPQRSTVWY" if chain.kind is Kind.PROTEIN else "ACGU"
    lines = [">query", chain.sequence]
    for row in range(rows):
        letters = []
        for letter in chain.sequence:
            choice = rng.random()
            letters.append("-" if choice < 0.1 else rng.choice(list(alphabet)) if choice < 0.4 else letter)
            letters.append("".join(rng.choice(list("acg"), 2)) if rng.random() < 0.02 else "")
        accession = f"Q{chain.id}{row:04d}"
        lines += [f">tr|{accession}|{accession}_{SPECIES[rng.integers(len(SPECIES))]}/1-99", "".join(letters)]
    path = folder / f"{chain.id}_{len(chain.sequence)}_{rows}.a3m"
    path.write_text("\n".join([*lines, *lines[2 : 4 if repeated else 2]]) + "\n")
    return path


def theirs(job: Job, folder: Path) -> dict[str, Any]:
    """Protenix's feature arrays of the same job, by its own names."""
    from protenix.data.inference.json_to_feature import SampleDictToFeatures
    from protenix.data.msa.msa_featurizer import InferenceMSAFeaturizer

    written = protenix.write(job)
    if written.losses:
        raise ValueError(f"the job is not the same for Protenix: {written.losses}")
    told = json.loads(written.data)[0]
    protenix_dictionary.install([*(c for chain in job.chains for c in chain.residues), *_modifications(job)], folder)
    for module in _caches():
        module.cache_clear()
    features, atoms, _ = SampleDictToFeatures(told).get_feature_dict()
    features["distogram_rep_atom_mask"] = torch.as_tensor(atoms.distogram_rep_atom_mask)
    msa = InferenceMSAFeaturizer.make_msa_feature(told["sequences"], atoms, msa_pair_as_unpair=True)
    found = {name: torch.as_tensor(np.asarray(value)) for name, value in {**features, **msa}.items() if not isinstance(value, dict)}
    return found | {name: _query_once(found, name) for name in ("msa", "deletion_matrix")}


def _query_once(features: dict[str, Any], name: str) -> torch.Tensor:
    """Rows without the query that Protenix repeats on top of the unpaired ones, if no chain is paired."""
    paired = int(features["prot_paired_num_alignments"])
    if len(features["msa"]) <= paired or not torch.equal(features["msa"][paired], features["msa"][0]):
        return features[name]
    return torch.cat([features[name][:paired], features[name][paired + 1 :]])


def _modifications(job: Job) -> list[str]:
    return [m.code for chain in job.chains for m in chain.modifications]


def _caches() -> list[Any]:
    from protenix.data.core import ccd

    names = ("biotite_load_ccd_cif", "get_component_atom_array", "get_one_letter_code", "get_mol_type", "get_ccd_ref_info")
    return [getattr(ccd, name) for name in names]


def ours(job: Job) -> tuple[Tokens, Batch]:
    tokens = tokenise(build_atoms(job))
    return tokens, featurise(tokens, [own_alignment(chain) for chain in job.chains])


Pair = tuple[Any, Any]
COMPARED: Mapping[str, Callable[[Tokens, Batch, dict[str, Any]], Pair]] = {
    "token_index": lambda t, b, p: (b.token_index[0] - 1, p["token_index"]),
    "residue_index": lambda t, b, p: (b.residue_index[0], p["residue_index"]),
    "asym_id": lambda t, b, p: (b.asym_id[0] - 1, p["asym_id"]),
    "entity_id": lambda t, b, p: (b.entity_id[0] - 1, p["entity_id"]),
    "sym_id": lambda t, b, p: (b.sym_id[0] - 1, p["sym_id"]),
    "restype": lambda t, b, p: (b.restype[0], p["restype"].argmax(-1)),
    "is_protein/rna/dna/ligand": lambda t, b, p: (
        b.kind[0][b.atom_to_token[0]],
        torch.stack([p[f"is_{kind}"] for kind in ("protein", "rna", "dna", "ligand")]).argmax(0),
    ),
    "token_bonds": lambda t, b, p: (b.token_bonds[0], p["token_bonds"]),
    "atom_to_token": lambda t, b, p: (b.atom_to_token[0], p["atom_to_token_idx"]),
    "atom_to_tokatom (slot)": lambda t, b, p: (b.atom_slot[0], p["atom_to_tokatom_idx"]),
    "ref_element": lambda t, b, p: (b.ref_element[0] - 1, p["ref_element"].argmax(-1)),
    "ref_charge": lambda t, b, p: (b.ref_charge[0], p["ref_charge"]),
    "ref_mask": lambda t, b, p: (b.ref_mask[0], p["ref_mask"]),
    "ref_atom_name_chars": lambda t, b, p: (b.ref_atom_name_chars[0], p["ref_atom_name_chars"].argmax(-1)),
    "ref_space_uid": lambda t, b, p: (b.ref_space_uid[0], p["ref_space_uid"]),
    "ref_pos (distances in a residue)": lambda t, b, p: (_shape(b.ref_pos[0], b), _shape(p["ref_pos"], b)),
    "centre atom": lambda t, b, p: (b.centre_atom[0].sort()[0], p["pae_rep_atom_mask"].nonzero()[:, 0]),
    "distogram atom": lambda t, b, p: (b.representative_atom[0].sort()[0], p["distogram_rep_atom_mask"].nonzero()[:, 0]),
    "pLDDT reference atom": lambda t, b, p: (_reference(b).sort()[0], p["plddt_m_rep_atom_mask"].nonzero()[:, 0]),
    "has_frame": lambda t, b, p: (b.frame_mask[0], p["has_frame"]),
    "frame_atom_index": lambda t, b, p: (b.frame_atoms[0][b.frame_mask[0]], p["frame_atom_index"][b.frame_mask[0]]),
    "msa rows": lambda t, b, p: (b.msa[0], p["msa"]),
    "deletion counts": lambda t, b, p: (torch.tan(b.deletion_value[0] * torch.pi / 2) * 3, p["deletion_matrix"]),
    "profile": lambda t, b, p: (b.profile[0], p["profile"]),
    "deletion_mean": lambda t, b, p: (b.deletion_mean[0], p["deletion_mean"]),
}
"""Both sides of every feature, numbered alike: Protenix counts chains, entities, copies, tokens and elements from 0."""

REASONS = {
    "msa rows": "Protenix repeats the query in rows that DNA, RNA or ligands lack (SI and structgen: gaps); and it sorts the rows of a "
    "species with a sort that is not stable from 17 rows on, so that other rows of it pair",
    "deletion counts": "the second reason of msa rows",
    "ref_pos (distances in a residue)": "a random conformer of a SMILES without a seed; MET made of MSE keeps the conformer of MSE",
    "has_frame": "an angle near 25 degrees in Protenix's conformer of a SMILES, which has no seed",
    "frame_atom_index": "nearest neighbours in Protenix's conformer of a SMILES, which has no seed",
}


def _shape(positions: torch.Tensor, batch: Batch) -> torch.Tensor:
    """Distances of every atom to the next two of its residue: free of the pose that each side draws."""
    parts = [positions[batch.ref_space_uid[0] == uid].double() for uid in batch.ref_space_uid[0].unique()]
    return torch.cat([torch.cat([(x - x.roll(k, 0)).norm(dim=-1) for k in (1, 2)]) for x in parts])


def _reference(batch: Batch) -> torch.Tensor:
    zeros = torch.zeros(1, batch.atoms, 3)
    return make_labels(batch, zeros, batch.atom_mask).reference[0].nonzero()[:, 0]


def compare(mine: Any, other: Any) -> str:
    """`equal`, or how much of the array differs."""
    mine, other = (torch.as_tensor(x).double() for x in (mine, other))
    if mine.shape != other.shape:
        return f"shapes {tuple(mine.shape)} and {tuple(other.shape)}"
    wrong = (mine - other).abs() > 1e-3
    return "equal" if not wrong.any() else f"{int(wrong.sum()):,} of {wrong.numel():,} differ"


def main() -> None:
    """Print the table: a line a feature, with the cases where it differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("entries", type=Path)
    parser.add_argument("--only", default="", help="part of a case's name")
    arguments = parser.parse_args()
    found: dict[str, list[str]] = {name: [] for name in COMPARED}
    with tempfile.TemporaryDirectory() as folder:
        names = []
        for name, job in cases(Entries(arguments.entries), Path(folder)):
            if arguments.only not in name:
                continue
            (tokens, batch), peer = ours(job), theirs(job, Path(folder))
            names.append(f"{name}: {batch.tokens} tokens, {batch.atoms} atoms, {batch.msa.shape[1]} rows")
            for feature, both in COMPARED.items():
                if (answer := compare(*both(tokens, batch, peer))) != "equal":
                    found[feature].append(f"{name}: {answer}")
    print("\n".join(names))
    print()
    for feature, differences in found.items():
        print(
            f"| {feature} | {'; '.join(differences) or f'equal in all {len(names)}'} | {REASONS.get(feature, '') if differences else ''} |"
        )


if __name__ == "__main__":
    main()
