"""Alignments as arrays, and the features made of them (SI 5.6)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from structgen.features import chemistry
from structgen.features.atoms import Structure
from structgen.features.job import Kind
from structgen.features.pairing import pair_rows
from structgen.features.residues import residue_letters


@dataclass(frozen=True)
class Msa:
    """One chain's alignment: S rows over the n residues of the query, row 0 the query itself."""

    rows: np.ndarray  # [S, n] uint8, classes of the 32-letter alphabet (31 = gap)
    deletions: np.ndarray  # [S, n] int32, inserted residues directly before the column
    descriptions: tuple[str, ...]  # [S] header lines without '>', for pairing by species

    def __post_init__(self) -> None:
        if not len(self.rows) or self.rows.shape != self.deletions.shape or len(self.rows) != len(self.descriptions):
            raise ValueError(f"{self.rows.shape} rows, {self.deletions.shape} deletions, {len(self.descriptions)} descriptions")


@dataclass(frozen=True)
class AlignmentFeatures:
    """The job's alignment: S rows over its R residues (query, paired rows, unpaired rows) and what summarises the unpaired one.

    A residue of several tokens has one column, which they share.
    """

    rows: np.ndarray  # [S, R] uint8 classes
    deletions: np.ndarray  # [S, R] int32
    profile: np.ndarray  # [R, 32] float32, share of every class in the column, gaps included
    deletion_mean: np.ndarray  # [R] float32, mean of the raw deletion count


@dataclass(frozen=True)
class RowLimits:
    """Most rows of a job's alignment (SI 2.2): `rows` in all, half of them, the query's row among these, paired."""

    rows: int = 16_384
    paired_per_species: int = 600


def letters_of(kind: Kind) -> np.ndarray:
    """[256] class of a letter in alignments of such chains."""
    return _LETTERS[kind]


_LETTERS = {Kind.PROTEIN: chemistry.MSA_OF_LETTER, Kind.RNA: chemistry.MSA_OF_RNA_LETTER, Kind.DNA: chemistry.DNA_OF_LETTER}


def query_only(sequence: str, kind: Kind = Kind.PROTEIN) -> Msa:
    """The alignment of a chain for which nothing else is known: its own row."""
    return _alone(chemistry.encode(sequence, letters_of(kind)))


def _alone(row: np.ndarray) -> Msa:
    return Msa(row[None], np.zeros((1, len(row)), np.int32), ("query",))


def deduplicate(msa: Msa) -> Msa:
    """Rows that equal an earlier one in all columns (insertions ignored) are gone."""
    keep = np.sort(first_equal_rows(msa.rows)[0])
    if len(keep) == len(msa.rows):
        return msa
    return Msa(msa.rows[keep], msa.deletions[keep], tuple(msa.descriptions[i] for i in keep))


def first_equal_rows(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Index of the first of every group of equal rows, and [S] for each row the index of the first row that equals it."""
    if len(rows) == 1:
        return np.zeros(1, np.int64), np.zeros(1, np.int64)
    keys = np.ascontiguousarray(rows).view(np.dtype((np.void, rows.shape[1]))).ravel()
    _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
    return first, first[inverse]


def alignment_features(structure: Structure, msas: Sequence[Msa | None], limits: RowLimits) -> AlignmentFeatures:
    """SI 2.3 and AF3_ALGORITHMS 5.6. `msas` holds one alignment a chain; equal chains share that of the first of them.

    Rows: the query; rows paired by species where the job has several distinct sequences; the remaining rows of every chain side by
    side, in their own order. A chain without a row there has gaps. Profile and deletion mean come from the unpaired alignments.
    DNA and ligands have the query row alone; only proteins are paired. A modified residue is the one it derives from.
    """
    entities = _entity_alignments(structure, msas)
    proteins = [structure.chain_kinds[list(structure.chain_entity).index(e + 1)] is Kind.PROTEIN for e in range(len(entities))]
    paired = _paired_rows(entities, proteins, limits)
    unpaired = [_unpaired_rows(msa, used) for msa, used in zip(entities, paired.T, strict=True)]
    depth = min(limits.rows, 1 + len(paired) + max(map(len, unpaired)))
    blocks = [_entity_block(*parts, depth) for parts in zip(entities, paired.T, unpaired, strict=True)]
    summaries = [_summary(msa) for msa in entities]
    order = structure.chain_entity - 1
    return AlignmentFeatures(
        rows=np.concatenate([blocks[e][0] for e in order], 1),
        deletions=np.concatenate([blocks[e][1] for e in order], 1),
        profile=np.concatenate([summaries[e][0] for e in order]),
        deletion_mean=np.concatenate([summaries[e][1] for e in order]),
    )


def _entity_alignments(structure: Structure, msas: Sequence[Msa | None]) -> list[Msa]:
    """The alignment of every entity, not deduplicated; raises ValueError where it is not one of the chain."""
    if len(msas) != len(structure.chain_ids):
        raise ValueError(f"{len(msas)} alignments for {len(structure.chain_ids)} chains")
    alignments: list[Msa] = []
    for c, (entity, msa) in enumerate(zip(structure.chain_entity, msas, strict=True)):
        if entity > len(alignments):
            alignments.append(_chain_alignment(structure, c, msa))
    return alignments


def _chain_alignment(structure: Structure, c: int, msa: Msa | None) -> Msa:
    """A chain's alignment with the residues that it is built of in the query row; that of the sequence as it was written is given."""
    kind, built = structure.chain_kinds[c], structure.residue_class[structure.residue_chain == c].astype(np.uint8)
    if kind is Kind.LIGAND:
        if msa is not None:
            raise ValueError(f"an alignment of the ligand {structure.chain_ids[c]}")
        return _alone(built)
    written = chemistry.encode(structure.chain_sequences[c], letters_of(kind))
    as_residues = chemistry.encode(structure.chain_sequences[c], residue_letters(kind))
    query = np.where(as_residues == built, written, built)
    if msa is None:
        return _alone(query)
    if not np.array_equal(msa.rows[0], written):
        raise ValueError(f"the alignment's first row is not the sequence of chain {structure.chain_ids[c]}")
    return msa if np.array_equal(query, written) else Msa(np.vstack([query[None], msa.rows[1:]]), msa.deletions, msa.descriptions)


def _paired_rows(entities: Sequence[Msa], proteins: Sequence[bool], limits: RowLimits) -> np.ndarray:
    """[P, E] row of every entity's alignment in each paired row, -1 where it has none."""
    headers = [msa.descriptions if protein else () for msa, protein in zip(entities, proteins, strict=True)]
    if sum(len(lines) > 1 for lines in headers) < 2:
        return np.zeros((0, len(entities)), np.int64)
    paired = pair_rows(headers, per_species=limits.paired_per_species)
    same = np.stack([np.append(first_equal_rows(msa.rows)[1], -1)[column] for msa, column in zip(entities, paired.T, strict=True)], 1)
    _, first = np.unique(np.vstack([np.zeros_like(same[:1]), same]), axis=0, return_index=True)
    new = np.sort(first[first > 0]) - 1  # neither the query's row again nor an earlier paired one
    return paired[new][: limits.rows // 2 - 1]


def _unpaired_rows(msa: Msa, paired: np.ndarray) -> np.ndarray:
    """Rows, in order, that equal neither the query, nor an earlier row, nor a paired one."""
    first, same = first_equal_rows(msa.rows)
    return np.setdiff1d(first, np.append(same[paired[paired >= 0]], 0))


def _entity_block(msa: Msa, paired: np.ndarray, unpaired: np.ndarray, depth: int) -> tuple[np.ndarray, np.ndarray]:
    """[depth, n] rows and deletions of one entity; gaps where `paired` is -1 and below its last row."""
    index = np.full(depth, -1, np.int64)
    wanted = np.concatenate([[0], paired, unpaired])[:depth]
    index[: len(wanted)] = wanted
    absent = index < 0
    rows, deletions = msa.rows[index], msa.deletions[index]
    rows[absent], deletions[absent] = chemistry.GAP, 0
    return rows, deletions


def _summary(msa: Msa) -> tuple[np.ndarray, np.ndarray]:
    """Profile [n, 32] and mean deletion count [n] of the deduplicated rows."""
    msa = deduplicate(msa)
    n = msa.rows.shape[1]
    cells = msa.rows.astype(np.int64) + 32 * np.arange(n)
    profile = np.bincount(cells.ravel(), minlength=32 * n).reshape(n, 32) / len(msa.rows)
    return profile.astype(np.float32), msa.deletions.mean(0, dtype=np.float64).astype(np.float32)
