"""What the atoms of a job should look like beside each other: lengths, angles, planes and hands from the reference conformers."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import combinations, pairwise
from typing import NamedTuple

import numpy as np
from scipy.sparse import csr_matrix, identity

from structgen.alphafold3.labels import DNA, PROTEIN, RNA
from structgen.features import chemistry
from structgen.features.batch import Batch
from structgen.features.components import METALS
from structgen.metrics.geometry import HYDROGEN_BOND, OVERLAP, POLAR, VAN_DER_WAALS
from structgen.metrics.neighbours import pairs_within
from structgen.metrics.stereochemistry import COVALENT_RADII, LONGEST, OTHER_RADIUS
from structgen.typing import Tensor


class Ends(NamedTuple):
    """An atom of a residue, one of the next, and their distance in angstrom."""

    here: str
    there: str
    distance: float


PEPTIDE = (Ends("C", "N", 1.33), Ends("CA", "N", 2.43), Ends("O", "N", 2.25), Ends("C", "CA", 2.43))
PHOSPHATE = (Ends("O3'", "P", 1.61), Ends("C3'", "P", 2.62), Ends("O3'", "O5'", 2.53))
LINKS = {PROTEIN: PEPTIDE, RNA: PHOSPHATE, DNA: PHOSPHATE}
"""By the kind of a polymer: the bond between neighbours, then the ends of angles about it (Engh & Huber 1991; Gelbin et al. 1996)."""
PROLINE = chemistry.AMINO_ACIDS.index("P")
RADIUS = 1.70  # angstrom, of other elements than those of `VAN_DER_WAALS`
SPARE = 0.2  # angstrom: how much less than the overlap that counts as a clash is allowed, since where terms disagree none is met in full
MARGIN = 1.0  # angstrom: how much farther apart than in contact atoms are looked at, as they may come nearer before the next look
SYMBOLS = np.array(["", *chemistry.ELEMENTS_IN_ORDER])


@dataclass(frozen=True, eq=False)
class Molecule:
    """What one job's n present atoms should look like. Arrays of ends are int64 [k, 2], of corners [k, 4] (the centre first)."""

    present: np.ndarray  # [n] their places in the batch
    bonds: np.ndarray
    bond_lengths: np.ndarray
    angles: np.ndarray  # the ends
    angle_lengths: np.ndarray
    peptides: np.ndarray  # CA atoms of neighbours
    to_proline: np.ndarray  # [k] bool, of `peptides`
    corners: np.ndarray
    volumes: np.ndarray
    radius: np.ndarray  # [n] van der Waals, angstrom
    polar: np.ndarray  # [n] bool
    centre: np.ndarray  # [n] bool: the atom that its token is placed by
    apart: np.ndarray  # [m] sorted keys i n + j, i < j, of the pairs that contacts leave out

    @classmethod
    def of(cls, batch: Batch) -> Molecule:
        """Of one job (b = 1), whose posed conformers give lengths, angles and volumes."""
        return _Reader(batch).molecule()

    def near(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Pairs [m, 2] of atoms that may clash at x [n, 3] or a little away from there, and how far apart each should be."""
        pairs = np.stack(pairs_within(x, 2 * max(VAN_DER_WAALS.values()) - OVERLAP + MARGIN), 1)
        pairs = pairs[~_among(self.apart, pairs[:, 0] * len(x) + pairs[:, 1])]
        i, j = pairs.T
        return pairs, self.radius[i] + self.radius[j] - (OVERLAP - SPARE) - HYDROGEN_BOND * (self.polar[i] & self.polar[j])


class _Reader:
    """Reads a `Molecule` off the features of one job."""

    def __init__(self, batch: Batch) -> None:
        def of(tensor: Tensor) -> np.ndarray:
            return tensor[0].cpu().numpy()

        self.present = np.flatnonzero(of(batch.atom_mask))
        self.token = of(batch.atom_to_token)[self.present]
        self.reference, self.known = of(batch.ref_pos)[self.present].astype(np.float64), of(batch.ref_mask)[self.present]
        self.kind, self.number, self.chain, self.restype = (
            of(x)[self.token] for x in (batch.kind, batch.residue_index, batch.asym_id, batch.restype)
        )
        self.residue = np.unique(of(batch.ref_space_uid)[self.present], return_inverse=True)[1]
        self.known = self.known & _apart(self.residue, self.reference)
        self.symbol = SYMBOLS[of(batch.ref_element)[self.present]]
        codes = (of(batch.ref_atom_name_chars)[self.present] + 32).astype(np.uint32)
        self.name = np.char.strip(np.ascontiguousarray(codes).view("<U4")[:, 0])
        self.centre = np.isin(self.present, of(batch.centre_atom)[of(batch.token_mask)])
        self.token_bonds = np.argwhere(np.triu(of(batch.token_bonds), 1) > 0)
        self.first = np.searchsorted(self.residue, np.arange(self.residue[-1] + 2))

    @cached_property
    def atomised(self) -> np.ndarray:
        """[n] bool: the atom is a token of its own."""
        return np.bincount(self.token)[self.token] == 1

    @cached_property
    def metal(self) -> np.ndarray:
        return np.isin(self.symbol, sorted(METALS))

    def molecule(self) -> Molecule:
        links, link_lengths, ends, end_lengths = self.links()
        own = np.concatenate([self.bonds_inside(), self.bonds_between()])
        bonds = np.concatenate([own, links])
        lengths = np.concatenate([np.where(self.inside(own), self.apart(own), self.covalent(own)), link_lengths])
        peptides = self.neighbours(PROTEIN, "CA", "CA")
        graph = _graph(bonds, len(self.present))
        angles, corners = self.angles(graph), self.corners(graph)
        flat = ~self.inside(corners)
        return Molecule(
            present=self.present,
            bonds=bonds,
            bond_lengths=lengths,
            angles=np.concatenate([angles, ends]),
            angle_lengths=np.concatenate([self.apart(angles), end_lengths]),
            peptides=peptides,
            to_proline=self.restype[peptides[:, 1]] == PROLINE,
            corners=corners,
            volumes=np.where(flat, 0.0, _volumes(self.reference[corners])),
            radius=np.array([VAN_DER_WAALS.get(element, RADIUS) for element in self.symbol]),
            polar=np.isin(self.symbol, POLAR),
            centre=self.centre,
            apart=self.excluded(graph),
        )

    def apart(self, ends: np.ndarray) -> np.ndarray:
        """[k] distances in the reference of the atoms [k, 2]."""
        return np.linalg.norm(self.reference[ends[:, 0]] - self.reference[ends[:, 1]], axis=-1)

    def covalent(self, bonds: np.ndarray) -> np.ndarray:
        """[k] length that two elements need."""
        radius = np.array([COVALENT_RADII.get(element, OTHER_RADIUS) for element in self.symbol])
        return radius[bonds].sum(1)

    def inside(self, atoms: np.ndarray) -> np.ndarray:
        """[k] whether the atoms [k, m] are of one residue and have places in its reference conformer."""
        return (self.residue[atoms] == self.residue[atoms[:, :1]]).all(1) & self.known[atoms].all(1)

    def bonds_inside(self) -> np.ndarray:
        """[k, 2] of standard residues by distance, of all others as the features name them."""
        found = []
        for start, end in pairwise(self.first.tolist()):
            if not self.atomised[start]:
                reference = self.reference[start:end]
                near = np.linalg.norm(reference[:, None] - reference, axis=-1) < LONGEST
                found.append(start + np.argwhere(np.triu(near & self.known[start:end], 1) & self.known[start:end, None]))
        tokens = self.named_bonds[self.residue[self.named_bonds[:, 0]] == self.residue[self.named_bonds[:, 1]]]
        return np.concatenate([np.zeros((0, 2), np.int64), *found, tokens])

    @cached_property
    def named_bonds(self) -> np.ndarray:
        """[k, 2] atoms of the bonds between two atoms that are tokens of their own, none of a metal."""
        one = self.atomised & ~self.metal
        atom = np.full(int(self.token.max()) + 1, -1)
        atom[self.token[one]] = np.flatnonzero(one)
        ends = atom[self.token_bonds]
        return ends[(ends >= 0).all(1)]

    def bonds_between(self) -> np.ndarray:
        """[k, 2] of the named bonds, those between residues."""
        return self.named_bonds[self.residue[self.named_bonds[:, 0]] != self.residue[self.named_bonds[:, 1]]]

    def links(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Bonds along polymers [k, 2] and their lengths [k], ends of the angles about them [m, 2] and their distances [m]."""
        bonds, angles = [], []
        for kind, (bond, *ends) in LINKS.items():
            bonds.append((self.neighbours(kind, bond.here, bond.there), bond.distance))
            angles += [(self.neighbours(kind, one.here, one.there), one.distance) for one in ends]
        return *_stacked(bonds), *_stacked(angles)

    @cached_property
    def along(self) -> np.ndarray:
        """[residues - 1] whether the next residue is the next one of the same chain."""
        start = self.first[:-1]
        return (np.diff(self.chain[start]) == 0) & (np.diff(self.number[start]) == 1)

    def neighbours(self, kind: int, here: str, there: str) -> np.ndarray:
        """[k, 2] atoms of a name in a residue of polymers of that kind and of another in the next one, where both are."""
        pairs = np.stack([self.named(here)[:-1], self.named(there)[1:]], 1)
        return pairs[self.along & (self.kind[self.first[:-2]] == kind) & (pairs >= 0).all(1)]

    def named(self, name: str) -> np.ndarray:
        """[residues] the atom of that name, -1 where there is none."""
        atoms = np.full(len(self.first) - 1, -1)
        found = np.flatnonzero(self.name == name)
        atoms[self.residue[found]] = found
        return atoms

    def angles(self, graph: csr_matrix) -> np.ndarray:
        """[k, 2] ends of every two bonds of one residue that share an atom."""
        ends = [(i, k, j) for k in range(graph.shape[0]) for i, j in combinations(_row(graph, k), 2)]
        found = np.array(ends, np.int64).reshape(-1, 3)
        return found[self.inside(found)][:, [0, 2]]

    def corners(self, graph: csr_matrix) -> np.ndarray:
        """[k, 4] atoms and three bonded neighbours: of one residue, or about C and N of a peptide bond, which are flat."""
        rows = [(k, *three) for k in range(graph.shape[0]) for three in combinations(_row(graph, k), 3)]
        found = np.array(rows, np.int64).reshape(-1, 4)
        centre = found[:, 0]
        peptide = (self.kind[centre] == PROTEIN) & np.isin(self.name[centre], ("C", "N"))
        return found[self.inside(found) | (peptide & self.known[found].all(1))]

    def excluded(self, graph: csr_matrix) -> np.ndarray:
        """Sorted keys of pairs that are no clash: up to three bonds apart, of two tokens that are bonded, sulphurs of two cysteines."""
        sulphur = np.flatnonzero((self.name == "SG") & (self.symbol == "S"))
        bonded = [
            np.array(np.meshgrid(np.flatnonzero(self.token == a), np.flatnonzero(self.token == b))).reshape(2, -1).T
            for a, b in self.token_bonds.tolist()
        ]
        pairs = np.concatenate([_within(graph, 3), np.array(list(combinations(sulphur, 2))).reshape(-1, 2), *bonded])
        low, high = pairs.min(1).astype(np.int64), pairs.max(1)
        return np.unique((low * len(self.present) + high)[low < high])


def _within(graph: csr_matrix, bonds: int) -> np.ndarray:
    """[k, 2] pairs of atoms at most so many bonds apart, each atom with itself among them."""
    step = graph + identity(graph.shape[0], dtype=np.int64, format="csr")
    reached = step
    for _ in range(bonds - 1):
        reached = reached @ step
    found = reached.tocoo()
    return np.stack([found.row, found.col], 1)


def _among(keys: np.ndarray, sought: np.ndarray) -> np.ndarray:
    """[k] bool: which of the sought numbers are among the sorted keys."""
    if not len(keys):
        return np.zeros(len(sought), bool)
    return keys[np.searchsorted(keys, sought).clip(max=len(keys) - 1)] == sought


def _apart(residue: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """[n] bool: no other atom of the residue has the place [n, 3]. Atoms that the dictionary has no coordinates of share one."""
    places = np.column_stack([residue, reference.round(2)])
    _, number, count = np.unique(places, axis=0, return_inverse=True, return_counts=True)
    return np.asarray(count[number.ravel()] == 1)


def _stacked(groups: list[tuple[np.ndarray, float]]) -> tuple[np.ndarray, np.ndarray]:
    """All pairs, and of each the distance of its group."""
    return np.concatenate([pairs for pairs, _ in groups]), np.repeat([d for _, d in groups], [len(pairs) for pairs, _ in groups])


def _graph(bonds: np.ndarray, atoms: int) -> csr_matrix:
    """Symmetric matrix [n, n], 1 where two atoms are bonded."""
    ends = np.concatenate([bonds, bonds[:, ::-1]])
    return csr_matrix((np.ones(len(ends), np.int64), (ends[:, 0], ends[:, 1])), (atoms, atoms))


def _row(graph: csr_matrix, k: int) -> list[int]:
    return sorted(graph.indices[graph.indptr[k] : graph.indptr[k + 1]].tolist())


def _volumes(points: np.ndarray) -> np.ndarray:
    """[k] of the points [k, 4, 3]: six times the volume of the tetrahedron of a centre and three neighbours, with its sign."""
    a, b, c = (points[:, k] - points[:, 0] for k in (1, 2, 3))
    return (a * np.cross(b, c)).sum(-1)
