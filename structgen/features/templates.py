"""Templates: known structures of relatives, residue by residue on the query (SI 2.4, AF3_ALGORITHMS 5.6)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from biotite.sequence import ProteinSequence
from biotite.sequence.align import SubstitutionMatrix, align_optimal

from structgen.errors import InputError
from structgen.features import chemistry
from structgen.features.job import Job, Kind
from structgen.features.tokens import Tokens

MOST = 4  # templates that a network sees of a chain
SHORTEST_CHAIN = 5  # residues; shorter chains have no templates

_GAP_OPEN, _GAP_EXTEND = -11, -1
_MATRIX = SubstitutionMatrix.std_protein_matrix()  # BLOSUM62
_NOT_IN_MATRIX = str.maketrans("JOU", "XXC")
_ARRAYS = ("restype", "frame", "frame_mask", "pseudo_beta", "pseudo_beta_mask")


NEAREST = 0.01  # angstrom: nothing is held nearer


def forced_templates(job: Job) -> dict[tuple[int, int], float]:
    """(chain, slot), both from 0 -> angstrom: the templates that predictions must keep to, and how near backbones must stay."""
    given = ((c, slot, template) for c, chain in enumerate(job.chains) for slot, template in enumerate((chain.templates or ())[:MOST]))
    return {(c, slot): max(template.threshold or 0.0, NEAREST) for c, slot, template in given if template.force}


@dataclass(frozen=True)
class Backbone:
    """What a template says of its chain of m residues, unresolved ones among them. Coordinates in angstrom, 0 where there are none."""

    sequence: str  # [m] one-letter codes; a modified residue has that of the one it derives from
    frame: np.ndarray  # [m, 3, 3] float32: N, CA, C
    frame_mask: np.ndarray  # [m] bool: all three are resolved
    pseudo_beta: np.ndarray  # [m, 3] float32: CB, or CA of glycine
    pseudo_beta_mask: np.ndarray  # [m] bool


@dataclass(frozen=True)
class Used:
    """Which structure a template is, and how it lies on the query."""

    file: str  # name or path as it was given
    chain: str  # id in the file
    released: str  # ISO date; empty where the file does not say
    sha256: str  # of the file's content, unpacked
    aligned: int  # residues of the query that lie on one of the template
    identity: float  # share of these that are the same
    coverage: float  # share of the query that these are
    e_value: float | None = None  # of a template that was searched

    @property
    def text(self) -> str:
        """In words."""
        found = "" if self.e_value is None else f", E-value {self.e_value:.1e}"
        released = f", released {self.released}" if self.released else ""
        share = f"{self.aligned} residues aligned, identity {self.identity:.2f}, coverage {self.coverage:.2f}"
        return f"{self.file} chain {self.chain}{released}, {share}{found}"


@dataclass(frozen=True)
class Templates:
    """T templates of a chain of n residues, in the numbering of the chain. Coordinates in angstrom."""

    restype: np.ndarray  # [T, n] uint8 class of the 32-letter alphabet; 31 where no residue of the template lies
    frame: np.ndarray  # [T, n, 3, 3] float32: N, CA, C
    frame_mask: np.ndarray  # [T, n] bool
    pseudo_beta: np.ndarray  # [T, n, 3] float32
    pseudo_beta_mask: np.ndarray  # [T, n] bool
    used: tuple[Used, ...]  # [T]

    def __len__(self) -> int:
        return len(self.used)


def stack(templates: Sequence[Templates], residues: int) -> Templates:
    """The templates of one chain of so many residues put together, in order; none at all is fine."""
    parts = [no_templates(residues), *templates]
    arrays = {name: np.concatenate([getattr(part, name) for part in parts]) for name in _ARRAYS}
    return Templates(**arrays, used=tuple(used for part in parts for used in part.used))


def no_templates(residues: int) -> Templates:
    """T = 0."""
    return Templates(
        restype=np.zeros((0, residues), np.uint8),
        frame=np.zeros((0, residues, 3, 3), np.float32),
        frame_mask=np.zeros((0, residues), bool),
        pseudo_beta=np.zeros((0, residues, 3), np.float32),
        pseudo_beta_mask=np.zeros((0, residues), bool),
        used=(),
    )


def lay(backbone: Backbone, query: str, own: Sequence[int], other: Sequence[int], origin: Used) -> Templates:
    """The one template whose residue `other[k]` lies on residue `own[k]` of the query, both from 0 and unresolved ones counted.

    A residue that is aligned and not resolved keeps its class. `aligned`, `identity` and `coverage` of `origin` are filled in. Raises
    `InputError` for lists of unequal length, none at all, an index out of range, or a residue of the query named twice.
    """
    _check_indices(own, other, len(query), len(backbone.sequence), f"{origin.file}: chain {origin.chain}")
    at, there = np.array(own, np.int64), np.array(other, np.int64)
    classes = chemistry.encode(backbone.sequence, chemistry.RESIDUE_OF_LETTER)
    restype = np.full((1, len(query)), chemistry.GAP, np.uint8)
    restype[0, at] = classes[there]
    arrays = {}
    for name in _ARRAYS[1:]:
        values = getattr(backbone, name)
        arrays[name] = np.zeros((1, len(query), *values.shape[1:]), values.dtype)
        arrays[name][0, at] = values[there]
    same = sum(query[i] == backbone.sequence[j] for i, j in zip(own, other, strict=True))
    used = Used(origin.file, origin.chain, origin.released, origin.sha256, len(own), same / len(own), len(own) / len(query), origin.e_value)
    return Templates(restype=restype, **arrays, used=(used,))


def _check_indices(own: Sequence[int], other: Sequence[int], residues: int, there: int, where: str) -> None:
    if len(own) != len(other):
        found = f"{len(own)} query and {len(other)} template indices"
        raise InputError("index lists of a template differ in length", where=where, found=found, expected="equal lengths")
    if not own:
        raise InputError("template lies on no residue of the query", where=where, found="nothing aligned", remedy="take it out")
    for name, indices, size in (("query", own, residues), ("template", other, there)):
        if wrong := [i for i in indices if not 0 <= i < size]:
            expected = f"0 to {size - 1}" + (": unresolved residues are counted" if name == "template" else "")
            raise InputError(f"{name} index of a template is out of range", where=where, found=str(wrong[0]), expected=expected)
    if twice := [i for i, count in Counter(own).items() if count > 1]:
        raise InputError("query index of a template stands twice", where=where, found=str(twice[0]), expected="every residue once")


def align(query: str, template: str) -> tuple[list[int], list[int], int]:
    """Which residues correspond (both from 0) and the score of the best alignment of two sequences end to end.

    Needleman-Wunsch by biotite with BLOSUM62, 11 for a gap's first residue and 1 for each further one; gaps at the ends cost nothing.
    Of equally good alignments always the same is taken. Letters that the matrix lacks: U counts as C, J and O as X.
    """
    first, second = (ProteinSequence(sequence.translate(_NOT_IN_MATRIX)) for sequence in (query, template))
    best = align_optimal(first, second, _MATRIX, gap_penalty=(_GAP_OPEN, _GAP_EXTEND), terminal_penalty=False, max_number=1)[0]
    both = best.trace[(best.trace >= 0).all(1)]
    return both[:, 0].tolist(), both[:, 1].tolist(), int(best.score)


def template_arrays(tokens: Tokens, templates: Sequence[Templates | None]) -> dict[str, np.ndarray]:
    """The template features [T, N, ...] of a job; `templates` holds those of every chain or None, and may be empty for none at all.

    Slot t holds the t-th template of every chain; a chain that has fewer, and everything that is no protein, has gaps there. Tokens of
    a residue of several share its column. Raises ValueError for templates of another length than their chain.
    """
    structure = tokens.structure
    given = [templates[c] if templates else None for c in range(len(structure.chain_ids))]
    lengths = np.bincount(structure.residue_chain, minlength=len(given))
    depth = max((len(part) for part in given if part is not None), default=0)
    columns = [_to_depth(part, int(length), depth) for part, length in zip(given, lengths, strict=True)]
    for c, (part, length) in enumerate(zip(given, lengths.tolist(), strict=True)):
        if part is not None and (part.restype.shape[1] != length or structure.chain_kinds[c] is not Kind.PROTEIN):
            raise ValueError(f"templates of {part.restype.shape[1]} residues for chain {structure.chain_ids[c]} of {length}")
    joined = {name: np.concatenate([getattr(part, name) for part in columns], axis=1)[:, tokens.residue] for name in _ARRAYS}
    return {f"template_{name}": array.astype(np.int64) if name == "restype" else array for name, array in joined.items()}


def padded_templates(templates: Templates, slots: int, residues: int) -> dict[str, np.ndarray]:
    """The template features [slots, residues, ...] of one chain that may be padded behind its end; there must be enough slots."""
    part, more = _to_depth(templates, templates.restype.shape[1], slots), residues - templates.restype.shape[1]
    arrays = {}
    for name in _ARRAYS:
        array = getattr(part, name)
        fill = chemistry.GAP if name == "restype" else 0
        arrays[name] = np.concatenate([array, np.full((slots, more, *array.shape[2:]), fill, array.dtype)], 1)
    return {f"template_{name}": array.astype(np.int64) if name == "restype" else array for name, array in arrays.items()}


def _to_depth(templates: Templates | None, residues: int, depth: int) -> Templates:
    """With empty slots behind the last template."""
    templates = no_templates(residues) if templates is None else templates
    more = depth - len(templates)
    arrays = {}
    for name in _ARRAYS:
        array = getattr(templates, name)
        fill = chemistry.GAP if name == "restype" else 0
        arrays[name] = np.concatenate([array, np.full((more, *array.shape[1:]), fill, array.dtype)])
    return Templates(**arrays, used=templates.used)
