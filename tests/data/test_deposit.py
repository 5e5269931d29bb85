"""Deposited entries: what is kept of them, where its atoms are, and what is left out with which reason."""

from __future__ import annotations

import gzip
from pathlib import Path

import gemmi
import numpy as np
import pytest

from structgen.data.assemble import assemble
from structgen.data.deposit import Filters, Rejected, near_pairs, read_deposit
from structgen.features import chemistry

EXAMPLES = Path(__file__).parents[2] / "data" / "examples" / "structures"


def read(name: str, **filters: object):
    return read_deposit(EXAMPLES / name, name, Filters(**filters))  # type: ignore[arg-type]


def test_a_complex_of_protein_rna_and_ions_is_whole():
    """1DUL: chains, kinds, interfaces, and every atom where the file has it."""
    packed = read("1dul.cif.gz")
    entry, about = packed.entry, packed.about
    assert entry.kind.tolist()[:2] == [1, 0] and set(entry.kind.tolist()[2:]) == {3} and about["resolution"] == 1.8
    assert [0, 1] in about["interfaces"] and about["released"] == "2000-02-28" and about["method"] == "X-RAY DIFFRACTION"
    structure = gemmi.make_structure_from_block(gemmi.cif.read_string(gzip.decompress((EXAMPLES / "1dul.cif.gz").read_bytes()))[0])
    wanted = {
        tuple(np.round(atom.pos.tolist(), 2))
        for chain in structure[0]
        for residue in chain
        if residue.name not in ("HOH",)
        for atom in residue
        if atom.element.name != "H" and atom.altloc in ("\0", "A")
    }
    found = assemble(entry, np.arange(entry.tokens))
    positions = found.positions[found.resolved]
    shift = np.array(sorted(wanted)).mean(0) - positions.mean(0)
    near = [np.abs(np.array(sorted(wanted)) - (p + shift)).max(1).min() for p in positions[::17]]
    assert len(positions) > 0.97 * len(wanted) and np.median(near) < 0.2


def test_the_assembly_is_built_and_modified_residues_are_atoms():
    """6LU7: the biological assembly is the dimer; the inhibitor's odd residues are tokens by atom, or unknown."""
    packed = read("6lu7.cif.gz")
    entry = packed.entry
    assert [chain["code"].count(" ") + 1 for chain in packed.about["chains"]] == [306, 6, 306, 6]
    assert entry.entity.tolist() == [1, 2, 1, 2] and entry.copy.tolist() == [1, 1, 2, 2] and entry.single.any()
    first, second = (entry.restype[(entry.chain == c)] for c in (0, 2))
    assert np.array_equal(first, second) and chemistry.AMINO_ACIDS[first[0]] == "S"


@pytest.mark.parametrize(
    ("filters", "reason"),
    [
        ({"max_resolution": 1.0}, "resolution"),
        ({"max_date": "1990-01-01"}, "released later"),
        ({"max_chains": 1}, "too many chains"),
        ({"min_resolved": 10_000}, "no polymer"),
        ({"max_tokens": 10}, "too many tokens"),
    ],
)
def test_filters_leave_out_and_say_why(filters: dict[str, object], reason: str):
    """Each filter by itself."""
    with pytest.raises(Rejected, match=reason):
        read("1dul.cif.gz", **filters)


def test_a_file_that_is_no_structure_is_left_out(tmp_path: Path):
    """With the reader's own reason."""
    (tmp_path / "x.cif").write_text("data_x\n_cell.length_a 1\n")
    with pytest.raises(Rejected, match="cannot be read"):
        read_deposit(tmp_path / "x.cif", "x.cif", Filters())


def test_large_assemblies_are_cut_down_to_one_interface():
    """Of four polymers two stay, neighbours of each other, and always the same."""
    packed = [read("6lu7.cif.gz", chains=2) for _ in range(2)]
    assert len(packed[0].entry.kind) == 2 and packed[0].about["interfaces"] == [[0, 1]]
    assert np.array_equal(packed[0].entry.xyz, packed[1].entry.xyz)


def test_near_pairs_are_those_of_all_pairs():
    """Cells find what a matrix of distances finds."""
    rng = np.random.default_rng(0)
    positions, group = rng.normal(size=(300, 3)) * 8, rng.integers(0, 4, 300)
    apart = np.linalg.norm(positions[:, None] - positions, axis=-1)
    wanted = {(i, j) for i, j in zip(*np.nonzero((apart < 3.0) & (group[:, None] != group)), strict=True)}
    first, second = near_pairs(positions, group, 3.0)
    assert {(i, j) for i, j in zip(first, second, strict=True)} == wanted and len(first) == len(wanted) > 50
