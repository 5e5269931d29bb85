"""Equal chains and atoms are named as they fit a prediction best (SI 4.2), and a loss that knows left from right."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from torch import Tensor

from structgen.alphafold3.automorphisms import orders
from structgen.alphafold3.frame_loss import frame_aligned_loss
from structgen.alphafold3.labels import make_labels
from structgen.alphafold3.symmetry import exchange_atoms, exchange_chains, fitted, take
from structgen.alphafold3.units import units_of
from structgen.features.batch import Batch
from structgen.features.examples import Example
from structgen.features.job import Kind
from tests.alphafold3.crop import crop, random_rotation
from tests.oracles import symmetry as oracle
from tests.structures import batch_of, tokens_of
from tests.tolerance import FLOAT32_LAYER, FLOAT64_ORACLE, assert_close

TRIMER = ("ACDEFG", "ACDEFG", "ACDEFG")


def scattered(batch: Batch, rng: torch.Generator, width: float = 10.0) -> Tensor:
    """[l, 3]: atoms around their residue, residues around their chain, chains anywhere."""
    chain = batch.asym_id[0][batch.atom_to_token[0]]
    places = [width * torch.randn(count, 3, generator=rng, dtype=torch.float64) for count in (9, batch.tokens, batch.atoms)]
    return 2 * places[0][chain] + 0.5 * places[1][batch.atom_to_token[0]] + 0.1 * places[2]


def turned(x: Tensor, rng: torch.Generator) -> Tensor:
    return x @ random_rotation(rng).T + 7.0


def atoms_of(batch: Batch, chain: int) -> Tensor:
    return torch.nonzero(batch.asym_id[0][batch.atom_to_token[0]] == chain)[:, 0]


@pytest.mark.parametrize("noise", [0.0, 1.0, 4.0])
@pytest.mark.parametrize("order", [(1, 2, 3), (2, 3, 1), (3, 2, 1)])
def test_chains_are_named_as_the_best_of_all_permutations(rng: torch.Generator, noise: float, order: tuple[int, ...]) -> None:
    """A homotrimer predicted in another order of its chains, turned, with noise: the naming is the one that trying all of them finds."""
    batch = batch_of(tokens_of(*TRIMER))
    truth = scattered(batch, rng)
    predicted = truth.clone()
    for here, there in zip((1, 2, 3), order, strict=True):
        predicted[atoms_of(batch, here)] = truth[atoms_of(batch, there)]
    predicted = turned(predicted + noise * torch.randn(truth.shape, generator=rng, dtype=torch.float64), rng)
    found = exchange_chains(batch, truth, torch.ones(batch.atoms, dtype=torch.bool), predicted)
    centre = units_of(batch).centre
    split = [[x[atoms_of(batch, c)][centre[atoms_of(batch, c)]].numpy() for c in (1, 2, 3)] for x in (truth, predicted)]
    best, least = oracle.best_chains(split[0], split[1])
    assert [int(batch.asym_id[0][batch.atom_to_token[0]][found[atoms_of(batch, c)[0]]]) - 1 for c in (1, 2, 3)] == list(best)
    assert oracle.rmsd(take(truth, found)[centre].numpy(), predicted[centre].numpy()) == pytest.approx(least, rel=1e-6)
    if noise == 0:
        assert least < 1e-6 and [k + 1 for k in best] == list(order)


def test_what_is_bound_to_a_chain_goes_with_it(rng: torch.Generator) -> None:
    """Ligands that are bound to their protein are part of it; free ones are exchanged one by one."""
    tokens = tokens_of("ACDEF", "ACDEF")
    batch = batch_of(tokens)
    assert [len(copies) for copies in units_of(batch).copies] == [2]
    bonds = batch.token_bonds.clone()
    bonds[0, 2, 7] = bonds[0, 7, 2] = 1.0
    joined = dataclasses.replace(batch, token_bonds=bonds)
    assert [len(copies) for copies in units_of(joined).copies] == [1]
    truth = scattered(batch, rng)
    assert torch.equal(exchange_chains(joined, truth, torch.ones(batch.atoms, dtype=torch.bool), truth.flip(0)), torch.arange(batch.atoms))


def test_cropped_copies_lose_what_they_do_not_have(rng: torch.Generator) -> None:
    """Of a dimer whose copies are cropped in different places, labels that would be lost outweigh a better fit of those that both have."""
    whole = batch_of(tokens_of("ACDEFGHIKL", "ACDEFGHIKL"))
    token = whole.atom_to_token[0]
    hidden = (token < 2) | (token >= 18)  # the first two residues of one chain, the last two of the other
    mask = whole.token_mask.clone()
    mask[0, [0, 1, 18, 19]] = False
    batch = dataclasses.replace(whole, atom_mask=whole.atom_mask & ~hidden, token_mask=mask)
    truth, own = scattered(whole, rng), atoms_of(whole, 1)
    predicted = truth.clone()
    predicted[own], predicted[atoms_of(whole, 2)] = truth[atoms_of(whole, 2)], truth[own]
    example = Example(batch, truth[None].float(), ~hidden[None], ("dimer",))
    kept = exchange_chains(batch, truth, ~hidden, turned(predicted, rng))
    assert torch.equal(kept, torch.arange(batch.atoms))  # labels that would be lost outweigh a better fit
    named = fitted(example, turned(truth, rng)[None].float())
    assert torch.equal(named.resolved, example.resolved)
    assert_close(named.positions[0][~hidden], example.positions[0][~hidden], FLOAT32_LAYER)


def test_atoms_are_named_as_the_best_of_all_swaps(rng: torch.Generator) -> None:
    """Side chains with two equal ends: the sum of squares is that of the best of all 2^5 choices, and other residues stay."""
    batch = batch_of(tokens_of("DEFYRLVK"))
    names = ["".join(chr(c + 32) for c in row).strip() for row in batch.ref_atom_name_chars[0].tolist()]
    at = {(int(t), name): k for k, (t, name) in enumerate(zip(batch.atom_to_token[0], names, strict=True))}
    pairs = {0: ["OD1 OD2"], 1: ["OE1 OE2"], 2: ["CD1 CD2", "CE1 CE2"], 3: ["CD1 CD2", "CE1 CE2"], 4: ["NH1 NH2"]}
    swaps = [[(at[t, both.split()[0]], at[t, both.split()[1]]) for both in own] for t, own in pairs.items()]
    swaps.append([(at[7, "O"], at[7, "OXT"])])
    truth = scattered(batch, rng)
    predicted = turned(truth + 0.8 * torch.randn(truth.shape, generator=rng, dtype=torch.float64), rng)
    for swap in swaps[::2]:
        for a, b in swap:
            predicted[[a, b]] = predicted[[b, a]]
    order = exchange_atoms(batch, truth, torch.ones(batch.atoms, dtype=torch.bool), predicted)
    moved = torch.from_numpy(oracle.rigid_align(truth.numpy(), predicted.numpy(), np.ones(len(truth))))
    assert float((moved[order] - predicted).square().sum()) == pytest.approx(oracle.best_atoms(truth.numpy(), predicted.numpy(), swaps))
    assert {k for k in range(batch.atoms) if order[k] != k} >= {a for swap in swaps[::2] for pair in swap for a in pair}


def test_unresolved_atoms_never_win(rng: torch.Generator) -> None:
    """Where one of two equal oxygens is unresolved, its twin gets the label if it fits better, and a label is never lost."""
    batch = batch_of(tokens_of("ADA"))
    truth = scattered(batch, rng)
    resolved = torch.ones(batch.atoms, dtype=torch.bool)
    resolved[12] = False
    order = exchange_atoms(batch, truth, resolved, truth)
    assert int(take(resolved, order).sum()) == int(resolved.sum())


def test_orders_keep_elements_bonds_and_hands() -> None:
    """A phosphate's three free oxygens turn but do not swap (three orders), benzene has twelve, butane's carbons two, a fixed atom none."""
    up = np.array([0, 0, 1.5])
    free = [np.array([1.42 * np.cos(a), 1.42 * np.sin(a), -0.5]) for a in 2 * np.pi * np.arange(3) / 3]
    phosphate = np.stack([np.zeros(3), up, *free])
    assert len(orders([15, 6, 8, 8, 8], phosphate)) == 3
    assert orders([15, 6, 8, 8, 8], phosphate, fixed=[2]) == [[0, 1, 2, 3, 4]]
    ring = np.stack([[1.39 * np.cos(a), 1.39 * np.sin(a), 0] for a in np.pi / 3 * np.arange(6)])
    assert len(orders([6] * 6, ring)) == 12
    butane = np.array([[0, 0, 0], [1.4, 0.5, 0], [2.8, 0, 0], [4.2, 0.5, 0]])
    assert orders([6] * 4, butane) == [[0, 1, 2, 3], [3, 2, 1, 0]]
    assert orders([6] * 4, np.zeros((4, 3))) == [[0, 1, 2, 3]]


def test_ligands_are_exchanged_alone(rng: torch.Generator) -> None:
    """Two free copies of one ligand beside a protein: predicted in each other's place, they swap labels; the protein keeps its own."""
    batch = batch_of(tokens_of("ACDEFGHI", (Kind.LIGAND, "C1CCOC1"), (Kind.LIGAND, "C1CCOC1")))
    truth, pair = scattered(batch, rng), (2, 3)
    predicted = truth.clone()
    predicted[atoms_of(batch, pair[0])], predicted[atoms_of(batch, pair[1])] = truth[atoms_of(batch, 3)], truth[atoms_of(batch, 2)]
    order = exchange_chains(batch, truth, torch.ones(batch.atoms, dtype=torch.bool), turned(predicted, rng))
    assert torch.equal(order[atoms_of(batch, 2)], atoms_of(batch, 3)) and torch.equal(order[atoms_of(batch, 1)], atoms_of(batch, 1))


def test_frame_loss_equals_its_oracle(rng: torch.Generator) -> None:
    """Two samples of two padded crops with unresolved atoms, against loops in Python; frames of a few when there are many."""
    batch = crop(2, padding=(2, 3))
    truth = 6 * torch.randn(2, batch.atoms, 3, generator=rng, dtype=torch.float64)
    resolved = torch.rand(2, batch.atoms, generator=rng) > 0.15
    labels = make_labels(batch, truth, resolved)
    x = (truth.repeat_interleave(2, 0) + 3 * torch.randn(4, batch.atoms, 3, generator=rng, dtype=torch.float64)).requires_grad_()
    found, of_two = frame_aligned_loss(x, batch, labels), frame_aligned_loss(x, batch, labels, most=2)
    for row in range(4):
        known, b = labels.resolved[row // 2], row // 2
        frames = [
            tuple(abc) for t, abc in enumerate(batch.frame_atoms[b].tolist())
            if batch.frame_mask[b, t] and batch.token_mask[b, t] and known[abc].all()
        ]  # fmt: skip
        points = [int(k) for t, k in enumerate(batch.centre_atom[b]) if batch.token_mask[b, t] and known[k]]
        assert len(frames) > 2
        for value, used in ((found, frames), (of_two, [frames[0], frames[-1]])):
            expected = oracle.frame_aligned(x[row].detach().numpy(), labels.positions[b].numpy(), used, points, 10.0)  # type: ignore[arg-type]
            assert_close(value[row].detach(), torch.tensor(expected, dtype=torch.float64), FLOAT64_ORACLE)
    found.sum().backward()
    assert x.grad is not None and x.grad.isfinite().all() and (x.grad != 0).any()


def test_mirror_images_cost_most_by_frames(rng: torch.Generator) -> None:
    """No rigid motion costs anything; the mirror image, whose distances are all right, costs a third of the worst and more."""
    batch = batch_of(tokens_of("ACDEFGHIKLMN"))
    truth = scattered(batch, rng)
    labels = make_labels(batch, truth[None], torch.ones(1, batch.atoms, dtype=torch.bool))
    rigid, mirror = (frame_aligned_loss(x[None], batch, labels).item() for x in (turned(truth, rng), truth * torch.tensor([1, 1, -1])))
    assert rigid < 1e-4 and mirror > 1 / 3
