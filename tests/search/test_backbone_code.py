"""Coded backbones: how near the decoded one is, that errors do not add up, and that what is odd keeps its place."""

from __future__ import annotations

import numpy as np
import pytest

from structgen.io.structures import read_entry
from structgen.io.textfile import read_text_bytes
from structgen.metrics.rmsd import superpose
from structgen.search.backbone_code import OFF, decode, encode
from tests.search.test_templates import STRUCTURES


def full_backbone(name: str) -> np.ndarray:
    """[n, 3, 3] N, CA, C of the first protein of an example, NaN where unresolved."""
    polymer = read_entry(read_text_bytes(STRUCTURES / name), name).proteins[0]
    atoms = np.full((len(polymer.sequence), 3, 3), np.nan)
    for k, residue in zip(polymer.place, polymer.residues, strict=True):
        for slot, atom in enumerate(("N", "CA", "C")):
            found = [a for a in residue if a.name == atom]
            atoms[k, slot] = found[0].pos.tolist() if found else np.nan
    return atoms


def deviations(atoms: np.ndarray, found: np.ndarray) -> np.ndarray:
    """[m, 3] distance of every decoded atom from its place after superposition of the CA atoms."""
    known = np.isfinite(atoms).all((1, 2))
    mine, true = found[known].astype(np.float64), atoms[known]
    moved = superpose(mine[:, 1], true[:, 1])(mine.reshape(-1, 3)).reshape(mine.shape)
    return np.linalg.norm(moved - true, axis=-1)


@pytest.mark.parametrize("name", ["6lu7.cif.gz", "1dul.cif.gz"])
def test_a_decoded_backbone_is_near_the_encoded_one(name: str) -> None:
    """Masks equal; CA atoms within 0.25 angstrom by root mean square, N and C within 0.35, wherever along the chain; few keep numbers."""
    atoms = full_backbone(name)
    resolved = np.isfinite(atoms).all((1, 2))
    code = encode(atoms, resolved)
    found = decode(code)
    assert np.array_equal(np.isfinite(found).all((1, 2)), resolved)
    apart = deviations(atoms, found)
    root = np.sqrt((apart**2).mean(0))
    assert root[1] < 0.25 and root.max() < 0.35 and apart[:, 1].max() < 2 * OFF
    half = len(apart) // 2
    assert np.sqrt((apart[half:, 1] ** 2).mean()) < 1.5 * np.sqrt((apart[:half, 1] ** 2).mean())
    assert code.kept.mean() < 0.1 and code.free.mean() < 0.05


def test_breaks_cis_peptides_and_odd_atoms_are_kept() -> None:
    """A gap in the chain, a jump, and an atom far from where geometry puts it come back in their places."""
    atoms = full_backbone("6lu7.cif.gz")[:60]
    resolved = np.isfinite(atoms).all((1, 2))
    resolved[20:25] = False
    atoms[40, 0] += [1.5, 0, 0]
    atoms[50:] += np.array([300.0, -40.0, 7.0])  # one step of 300 angstrom
    shown = np.where(resolved[:, None, None], atoms, np.nan)
    found = decode(encode(shown, resolved))
    apart = deviations(shown, found)
    assert apart[:, 1].max() < 2 * OFF and apart.max() < 1.5 and np.isnan(found[20:25]).all()
    assert apart[35, 0] < 0.6  # residue 40 after the gap of five: its own N


@pytest.mark.parametrize("length", [1, 2, 3])
def test_shortest_chains(length: int) -> None:
    """One to three residues, also on a straight line."""
    atoms = full_backbone("6lu7.cif.gz")[:length]
    assert np.isfinite(decode(encode(atoms, np.ones(length, bool)))).all()
    line = np.zeros((length, 3, 3))
    line[:, :, 0] = 3.8 * np.arange(length)[:, None] + [-1.2, 0.0, 1.2]
    assert deviations(line, decode(encode(line, np.ones(length, bool)))).max() < 1.2 if length > 2 else True
