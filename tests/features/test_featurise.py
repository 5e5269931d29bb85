"""Features of SI Table 5 for proteins: definitions, invariances, padding, conformers."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import fields, replace

import numpy as np
import pytest
import torch

from structgen.features import chemistry
from structgen.features.atoms import build_atoms
from structgen.features.batch import Batch
from structgen.features.conformers import pose_conformers, rotations
from structgen.features.featurise import collate, featurise, name_characters, pad
from structgen.features.job import Job, protein_chains
from structgen.features.msa import Msa, query_only
from structgen.features.tokens import tokenise
from tests.tolerance import FLOAT32_LAYER, assert_close

UBIQUITIN = "MQIFVKTLTGKTITLEVEPSDTIENVKAKIQDKEGIPPDQQRLIFAGKQLEDGRTLSDYNIQKESTLHLVLRLRGG"


def features(*sequences: str, msas: Sequence[Msa | None] | None = None, first_residue: int = 1) -> Batch:
    job = Job("test", "test", protein_chains(sequences))
    return featurise(tokenise(build_atoms(job, first_residue=first_residue)), msas or [None] * len(sequences))


def alignment(*rows: str) -> Msa:
    """Rows in A3M form."""
    columns = [[c for c in row if not c.islower()] for row in rows]
    deletions = []
    for row in rows:
        counts, run = [], 0
        for c in row:
            run = run + 1 if c.islower() else run
            if not c.islower():
                counts.append(run)
                run = 0
        deletions.append(counts)
    classes = np.stack([chemistry.encode("".join(c), chemistry.MSA_OF_LETTER) for c in columns])
    return Msa(classes, np.array(deletions, np.int32), tuple(f"row{i}" for i in range(len(rows))))


def test_ids_of_an_a3b2_complex() -> None:
    """asym 1-5, entity 1 1 1 2 2, sym 1 2 3 1 2, residues from 1 in every chain, tokens counted through, all protein."""
    batch = features("MK", "MK", "MK", "GSH", "GSH")
    assert batch.asym_id[0].tolist() == [1, 1, 2, 2, 3, 3, 4, 4, 4, 5, 5, 5]
    assert batch.entity_id[0].tolist() == [1] * 6 + [2] * 6
    assert batch.sym_id[0].tolist() == [1, 1, 2, 2, 3, 3, 1, 1, 1, 2, 2, 2]
    assert batch.residue_index[0].tolist() == [1, 2] * 3 + [1, 2, 3] * 2
    assert batch.token_index[0].tolist() == list(range(1, 13))
    assert batch.kind.sum() == 0 and batch.token_bonds.sum() == 0


def test_atom_features_of_ubiquitin() -> None:
    """602 heavy atoms; names as ASCII - 32 left-justified; elements as atomic numbers; one uid a residue."""
    batch = features(UBIQUITIN)
    assert (batch.tokens, batch.atoms) == (76, 602)
    assert batch.ref_atom_name_chars[0, 1].tolist() == [ord("C") - 32, ord("A") - 32, 0, 0]
    assert batch.ref_element[0, :8].tolist() == [7, 6, 6, 8, 6, 6, 16, 6]  # methionine: N CA C O CB CG SD CE
    assert torch.equal(batch.ref_space_uid, batch.atom_to_token) and batch.ref_space_uid.unique().numel() == 76
    assert batch.ref_mask.all() and batch.atom_mask.all() and batch.token_mask.all() and batch.msa_mask.all()
    assert batch.ref_charge.sum() == 7 + 4 + 1  # seven lysines, four arginines, one histidine as the dictionary has it


def test_name_characters_are_clipped_to_64_classes() -> None:
    """Primes and digits have their own class; what lies beyond is 63."""
    assert name_characters(np.array(["C1'", "OP3", "ABCD", "~"]))[:, 0].tolist() == [35, 47, 33, 63]
    assert name_characters(np.array(["C1'"])).tolist() == [[35, 17, 7, 0]]


def test_alignment_features_by_hand() -> None:
    """Deletion values are 2/pi arctan(d/3): 0 at 0, 1/2 at 3; profile and mean come from all distinct rows, gaps included."""
    msa = alignment("MKTA", "MaaaKT-", "-KTabcdefA", "MKTA")
    batch = features("MKTA", msas=[msa])
    assert batch.msa.shape == (1, 3, 4)  # the repeated query is gone
    deletions = torch.tensor([[0.0, 0, 0, 0], [0, 3, 0, 0], [0, 0, 0, 6]])
    assert_close(batch.has_deletion[0], deletions.clamp(max=1), FLOAT32_LAYER)
    assert_close(batch.deletion_value[0], 2 / torch.pi * torch.atan(deletions / 3), FLOAT32_LAYER)
    assert batch.deletion_value[0, 1, 1].item() == pytest.approx(0.5)
    assert_close(batch.deletion_mean[0], torch.tensor([0, 1.0, 0, 2.0]), FLOAT32_LAYER)
    methionine, alanine = chemistry.AMINO_ACIDS.index("M"), chemistry.AMINO_ACIDS.index("A")
    assert batch.profile[0, 0, [methionine, chemistry.GAP]].tolist() == pytest.approx([2 / 3, 1 / 3])
    assert batch.profile[0, 3, [alanine, chemistry.GAP]].tolist() == pytest.approx([2 / 3, 1 / 3])
    assert_close(batch.profile.sum(-1), torch.ones(1, 4), FLOAT32_LAYER)


def test_row_order_changes_no_summary() -> None:
    """Profile and deletion mean do not depend on the order of the hits."""
    rows = ("MKTA", "MaaaKT-", "-KTabA", "MRTA")
    first, second = features("MKTA", msas=[alignment(*rows)]), features("MKTA", msas=[alignment(rows[0], *rows[:0:-1])])
    assert torch.equal(first.profile, second.profile) and torch.equal(first.deletion_mean, second.deletion_mean)


def test_a_chain_without_alignment_is_its_own() -> None:
    """No alignment and an alignment of the query alone are the same features; unknown letters read as the alignment's letters."""
    none, alone = features("MBUX", "GS"), features("MBUX", "GS", msas=[query_only("MBUX"), query_only("GS")])
    assert all(torch.equal(a, b) for a, b in zip(none.tensors().values(), alone.tensors().values(), strict=True))
    assert none.restype[0, :4].tolist() == [12, 20, 20, 20]
    assert none.msa[0, 0, :4].tolist() == [12, 3, 4, 20]


def test_equal_chains_have_equal_rows_and_other_chains_gaps() -> None:
    """Homomers repeat every row in each copy; a chain without alignment has gaps below the query, and its own profile."""
    msa = alignment("MKT", "MRT", "M-T")
    batch = features("MKT", "GS", "MKT", msas=[msa, None, msa])
    assert torch.equal(batch.msa[0, :, :3], batch.msa[0, :, 5:])
    assert (batch.msa[0, 1:, 3:5] == chemistry.GAP).all() and batch.profile[0, 3:5].max(-1).values.tolist() == [1, 1]
    assert torch.equal(batch.msa[0, 0], torch.cat([batch.restype[0]]))


def test_wrong_alignments_are_refused() -> None:
    """One alignment a chain, whose first row is the chain."""
    with pytest.raises(ValueError, match="1 alignments for 2 chains"):
        features("MKT", "GS", msas=[None])
    with pytest.raises(ValueError, match="first row is not the sequence of chain B"):
        features("MKT", "GS", msas=[None, alignment("GA")])


def test_features_follow_the_chains() -> None:
    """Exchanging two chains exchanges their tokens and atoms and nothing else but the running numbers."""
    one, two = features("MKTAY", "GSW"), features("GSW", "MKTAY")
    tokens = torch.tensor([5, 6, 7, 0, 1, 2, 3, 4])
    atoms = torch.cat([torch.nonzero(one.asym_id[0][one.atom_to_token[0]] == chain)[:, 0] for chain in (2, 1)])
    for name in ("residue_index", "restype", "profile", "sym_id"):
        assert torch.equal(getattr(one, name)[0, tokens], getattr(two, name)[0])
    for name in ("ref_pos", "ref_element", "ref_charge", "ref_atom_name_chars", "atom_slot"):
        assert torch.equal(getattr(one, name)[0, atoms], getattr(two, name)[0])


def test_crop_of_a_chain_keeps_numbers_and_conformers() -> None:
    """A crop that starts at residue 20 differs from the whole chain in its running numbers only."""
    whole, crop = features(UBIQUITIN), features(UBIQUITIN[19:], first_residue=20)
    assert torch.equal(whole.residue_index[:, 19:], crop.residue_index) and torch.equal(whole.restype[:, 19:], crop.restype)
    assert torch.equal(whole.ref_pos[:, -crop.atoms :], crop.ref_pos)


def test_padding_adds_zeros_and_false_masks_alone() -> None:
    """The real entries are untouched, the rest is zero, every mask is false there, every field has its new size."""
    batch = features("MKT", "GS", msas=[alignment("MKT", "MRT"), None])
    padded = pad(batch, tokens=11, atoms=50, rows=7, templates=2)
    assert (padded.tokens, padded.atoms, padded.msa.shape[1], padded.template_frame.shape[1]) == (11, 50, 7, 2)
    for field in fields(Batch):
        real, grown = getattr(batch, field.name), getattr(padded, field.name)
        inside = tuple(slice(0, size) for size in real.shape)
        assert torch.equal(grown[inside], real), field.name
        rest = grown.clone()
        rest[inside] = 0
        assert not rest.any(), field.name
    assert padded.token_mask.sum() == 5 and padded.msa_mask.sum() == 10 and not padded.template_frame_mask.any()
    assert all(torch.equal(a, b) for a, b in zip(pad(batch).tensors().values(), batch.tensors().values(), strict=True))


def test_padding_below_the_size_is_refused() -> None:
    """Nothing is cut."""
    with pytest.raises(ValueError, match="cannot be padded"):
        pad(features("MKT"), tokens=2)


def test_collated_examples_are_padded_to_the_largest() -> None:
    """Each row of the batch equals the example padded alone."""
    one, two = features("MKT", msas=[alignment("MKT", "MRT")]), features("GSWAA")
    both = collate([one, two])
    alone = pad(one, tokens=5, atoms=both.atoms, rows=2)
    assert both.token_mask.shape == (2, 5) and both.token_mask.sum(1).tolist() == [3, 5]
    assert all(torch.equal(a[:1], b) for a, b in zip(both.tensors().values(), alone.tensors().values(), strict=True))


def distances(batch: Batch, residue: int) -> torch.Tensor:
    x = batch.ref_pos[0, (batch.ref_space_uid[0] == residue) & batch.atom_mask[0]]
    return torch.cdist(x, x)


def test_posed_conformers_are_rigid_and_of_one_hand() -> None:
    """Distances inside every residue stay; two copies of one residue are turned differently; chirality stays left."""
    batch = features("ALWA")
    posed = pose_conformers(batch, torch.Generator().manual_seed(0))
    for residue in range(4):
        assert_close(distances(posed, residue), distances(batch, residue), FLOAT32_LAYER)
    assert not torch.allclose(posed.ref_pos[0, :5], posed.ref_pos[0, -6:-1], atol=0.1)
    n, ca, c, _, cb = posed.ref_pos[0, :5]
    assert torch.dot(torch.linalg.cross(n - ca, c - ca), cb - ca) > 2


def test_pose_is_decided_by_the_seed_and_not_by_padding() -> None:
    """One seed, one pose, padded or not; another seed, another pose; features before posing have no chance in them."""
    batch = features("ALWA")
    first, second = (pose_conformers(batch, torch.Generator().manual_seed(7)).ref_pos for _ in range(2))
    other = pose_conformers(batch, torch.Generator().manual_seed(8)).ref_pos
    padded = pose_conformers(pad(batch, tokens=9, atoms=64, rows=3), torch.Generator().manual_seed(7)).ref_pos
    assert torch.equal(first, second) and not torch.allclose(first, other, atol=0.1)
    assert torch.equal(padded[:, : batch.atoms], first) and not padded[:, batch.atoms :].any()


def test_masked_atoms_move_no_centre() -> None:
    """The centre is that of the atoms present, and absent atoms stay at zero."""
    batch = features("A")
    mask = batch.ref_mask.clone()
    mask[0, 3] = False
    posed = pose_conformers(replace(batch, ref_mask=mask), torch.Generator().manual_seed(0))
    shift = torch.randn(1, 1, 7, generator=torch.Generator().manual_seed(0))[0, 0, 4:]
    assert not posed.ref_pos[0, 3].any()
    assert_close(posed.ref_pos[0, mask[0]].mean(0), shift, FLOAT32_LAYER)


def test_rotations_are_uniform() -> None:
    """Orthogonal with determinant 1; over 20,000 draws the mean matrix is 0 and the mean trace squared 1, within 4 standard errors."""
    count = 20_000
    r = rotations(torch.randn(count, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64))
    assert_close(r @ r.mT, torch.eye(3, dtype=torch.float64).expand_as(r), 1e-12)
    assert_close(torch.linalg.det(r), torch.ones(count, dtype=torch.float64), 1e-12)
    assert r.mean(0).abs().max() < 4 * (1 / 3 / count) ** 0.5  # every entry of a uniform rotation has variance 1/3
    trace = r.diagonal(dim1=-2, dim2=-1).sum(-1)
    assert abs((trace**2).mean() - 1) < 4 * (2 / count) ** 0.5  # E trace^2 = 1, E trace^4 = 3


def test_translations_have_a_standard_deviation_of_one_angstrom() -> None:
    """SI Algorithm 19's scale, per axis, over the residues of a long chain."""
    batch = pose_conformers(features("G" * 2000), torch.Generator().manual_seed(3))
    sums = torch.zeros(2000, 4).index_add_(0, batch.ref_space_uid[0], torch.nn.functional.pad(batch.ref_pos[0], (0, 1), value=1))
    centres = sums[:, :3] / sums[:, 3:]
    assert (centres.std(0) - 1).abs().max() < 4 * (1 / 2 / 2000) ** 0.5 and centres.mean(0).abs().max() < 4 / 2000**0.5


def test_three_hundred_residues_take_milliseconds() -> None:
    """Training featurises every crop: under 5 ms on one processor, 6.3 on a slower one; 20 is the bound for any."""
    job = Job("test", "test", protein_chains([(UBIQUITIN * 4)[:300]]))
    times = []
    for _ in range(10):
        start = time.perf_counter()
        featurise(tokenise(build_atoms(job, ends_chain=False)), [None])
        times.append(time.perf_counter() - start)
    assert min(times) < 2e-2
