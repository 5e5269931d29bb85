"""Scores of a sample against hand-made logits, loops and the limits of the formulas (SI 4.3.2, 5.9)."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch
from torch import Tensor

from structgen.alphafold3 import ranking
from structgen.alphafold3.confidence import ConfidenceLogits
from structgen.alphafold3.config import Distogram, tiny
from structgen.alphafold3.model import AlphaFold3
from structgen.alphafold3.ranking import Alignment
from structgen.alphafold3.trunk import TrunkOutput
from structgen.features.atoms import Structure, build_atoms
from structgen.features.featurise import featurise, pad
from structgen.features.job import Chain, Job, Kind
from structgen.features.tokens import Tokens, tokenise
from structgen.prediction import Prediction, Summary
from tests.tolerance import BFLOAT16, FLOAT32_LAYER, FLOAT64_IDENTITY, FLOAT64_ORACLE, assert_close


def make_tokens(residues: tuple[int, ...], kinds: tuple[Kind, ...] | None = None) -> Tokens:
    """Chains of glycines (N, CA, C), or of single-atom residues if they are ligands, which have no frame."""
    kinds = kinds or (Kind.PROTEIN,) * len(residues)
    chain = np.repeat(np.arange(len(residues)), residues)
    atoms = np.array([1 if kinds[c] is Kind.LIGAND else 3 for c in chain])
    residue = np.repeat(np.arange(len(chain)), atoms)
    first = np.cumsum(atoms) - atoms
    slot = np.arange(len(residue)) - first[residue]
    structure = Structure(
        chain_ids=tuple("ABCDEFGH"[: len(residues)]),
        chain_kinds=kinds,
        chain_sequences=tuple("G" * n for n in residues),
        chain_entity=np.ones(len(residues), np.int64),
        chain_copy=np.arange(len(residues)) + 1,
        residue_names=np.full(len(chain), "GLY"),
        residue_numbers=np.concatenate([np.arange(n) + 1 for n in residues]),
        residue_chain=chain,
        atom_names=np.array(["N", "CA", "C"])[slot],
        elements=np.array(["N", "C", "C"])[slot],
        charges=np.zeros(len(residue), np.int64),
        atom_residue=residue,
    )
    centre = first + (atoms > 1)
    frames = np.stack([first, centre, first + atoms - 1], 1)
    reference = np.zeros((len(residue), 3))
    return Tokens(structure, np.arange(len(chain)), np.full(len(chain), 7), residue, slot, centre, centre, frames, atoms == 3, reference)


def alignment(tokens: Tokens, probabilities: Tensor) -> Alignment:
    return Alignment(probabilities, tokens.chain, torch.from_numpy(tokens.frame_mask))


def certain(classes: Tensor) -> Tensor:
    """Probabilities that are 1 for the given classes."""
    return torch.nn.functional.one_hot(classes, 64).double()


def random_probabilities(rng: torch.Generator, n: int) -> Tensor:
    return (3 * torch.randn(n, n, 64, generator=rng, dtype=torch.float64)).softmax(-1)


def spread(tokens: Tokens, distance: float = 50.0) -> np.ndarray:
    """Atoms so far apart that nothing touches."""
    return distance * np.stack([np.arange(len(tokens.atom_token)), *np.zeros((2, len(tokens.atom_token)))], 1)


def d0(n: int) -> float:
    return 1.24 * (max(n, 19) - 15) ** (1 / 3) - 1.8


def tm(probabilities: np.ndarray, n: int) -> float:
    return sum(p / (1 + ((0.25 + 0.5 * b) / d0(n)) ** 2) for b, p in enumerate(probabilities))


def loop_iptm(probabilities: Tensor, tokens: Tokens, chosen: list[int], *, same: bool) -> float:
    """The formula of SI 5.9.1 over the chosen tokens alone: of the same chain (pTM of a chain) or of the others."""
    best = float("nan")
    for i in chosen:
        others = [j for j in chosen if same or tokens.chain[j] != tokens.chain[i]]
        if tokens.frame_mask[i] and others:
            best = np.fmax(best, np.mean([tm(probabilities[i, j].numpy(), len(chosen)) for j in others]))
    return float(best)


@pytest.mark.parametrize(("n", "expected"), [(5, 0.168), (19, 0.168), (50, 2.26), (100, 3.65), (384, 7.09), (1000, 10.5)])
def test_least_error_gives_the_largest_score(n: int, expected: float) -> None:
    """All PAE in the first bin: pTM = 1 / (1 + (0.25 / d0)^2), with the published values of d0."""
    assert d0(n) == pytest.approx(expected, rel=0.01)
    tokens = make_tokens((n,))
    score = alignment(tokens, certain(torch.tensor(0)).expand(n, n, 64)).ptm()
    assert score == pytest.approx(1 / (1 + (0.25 / d0(n)) ** 2), abs=FLOAT64_IDENTITY)


def test_scores_equal_loops(rng: torch.Generator) -> None:
    """pTM, ipTM, chain and chain-pair scores of four chains, one of them a ligand without frames."""
    tokens = make_tokens((11, 9, 7, 2), (Kind.PROTEIN, Kind.PROTEIN, Kind.PROTEIN, Kind.LIGAND))
    probabilities = random_probabilities(rng, 29)
    scores = alignment(tokens, probabilities)
    everything = list(range(29))
    assert scores.ptm() == pytest.approx(loop_iptm(probabilities, tokens, everything, same=True), abs=FLOAT64_ORACLE)
    assert scores.iptm() == pytest.approx(loop_iptm(probabilities, tokens, everything, same=False), abs=FLOAT64_ORACLE)
    pairs, least = scores.chain_pair_iptm(), scores.chain_pair_pae_min()
    for c, d in np.ndindex(4, 4):
        chosen = [j for j in everything if tokens.chain[j] in (c, d)]
        expected = loop_iptm(probabilities, tokens, chosen, same=c == d)
        assert pairs[c, d] == pytest.approx(expected, abs=FLOAT64_ORACLE, nan_ok=True)
        errors = [
            sum(p * (0.25 + 0.5 * b) for b, p in enumerate(probabilities[i, j].tolist()))
            for i in everything
            for j in everything
            if tokens.chain[i] == c and tokens.chain[j] == d and tokens.frame_mask[i]
        ]
        assert least[c, d] == pytest.approx(min(errors, default=math.nan), abs=FLOAT64_ORACLE, nan_ok=True)
    assert np.isnan(pairs[3, 3]) and np.isnan(least[3]).all() and not np.isnan(pairs[:3]).any()
    assert not np.allclose(least[:3, :3], least[:3, :3].T)


def test_frame_mask_is_of_the_aligned_token_alone(rng: torch.Generator) -> None:
    """A token without a frame still counts as a point, but no score is read in its frame."""
    tokens = make_tokens((4, 3))
    classes = torch.full((7, 7), 30)
    classes[2] = 0
    best = alignment(tokens, certain(classes))
    assert best.ptm() == pytest.approx(1 / (1 + (0.25 / d0(7)) ** 2), abs=FLOAT64_IDENTITY)
    masked = dataclasses.replace(tokens, frame_mask=np.arange(7) != 2)
    assert alignment(masked, certain(classes)).ptm() == pytest.approx(1 / (1 + (15.25 / d0(7)) ** 2), abs=FLOAT64_IDENTITY)
    assert best.chain_pair_pae_min()[0].tolist() == [0.25, 0.25] and best.chain_pair_pae_min()[1].tolist() == [15.25, 15.25]


def summary(
    tokens: Tokens, probabilities: Tensor, positions: np.ndarray, plddt: Tensor | None = None, ranked_by: ranking.RankedBy = "tm"
) -> Summary:
    n = len(tokens.residue)
    ones = torch.ones(n, n, dtype=torch.float64)
    plddt = torch.full((len(tokens.atom_token),), 50.0) if plddt is None else plddt
    errors = {"pae_probabilities": probabilities, "pde": 3 * ones, "contact": 0.2 * ones}
    return ranking.summarise(tokens, positions, plddt=plddt, ranked_by=ranked_by, **errors)


def test_single_chain(rng: torch.Generator) -> None:
    """ipTM is undefined and pTM stands for it in the ranking score; atoms apart are all exposed, so all residues are disordered."""
    tokens = make_tokens((8,))
    out = summary(tokens, random_probabilities(rng, 8), spread(tokens))
    assert math.isnan(out.iptm) and np.isnan(out.chain_iptm).all()
    assert out.chain_pair_iptm.tolist() == [[out.ptm]] and out.chain_ptm.tolist() == [out.ptm]
    assert out.fraction_disordered == 1.0 and not out.has_clash
    assert out.ranking_score == pytest.approx(out.ptm + 0.5)


def test_complex(rng: torch.Generator) -> None:
    """The ranking score's formula, and the chains' own means; a constant PDE is its own global mean."""
    tokens = make_tokens((4, 3, 2))
    plddt = torch.linspace(10, 90, 27)
    out = summary(tokens, random_probabilities(rng, 9), spread(tokens), plddt)
    assert out.ranking_score == pytest.approx(0.8 * out.iptm + 0.2 * out.ptm + 0.5)
    assert out.chain_plddt == pytest.approx([plddt[:12].mean().item(), plddt[12:21].mean().item(), plddt[21:].mean().item()])
    assert out.mean_plddt == pytest.approx(50.0) and out.gpde == pytest.approx(3.0)
    pairs = out.chain_pair_iptm
    assert out.chain_iptm == pytest.approx([(pairs[c].sum() - pairs[c, c]) / 2 for c in range(3)])
    assert out.chain_ptm == pytest.approx(np.diagonal(pairs)) and not np.shares_memory(out.chain_ptm, pairs)


@pytest.mark.parametrize("lengths", [(8,), (4, 3, 2)])
def test_ranked_by_the_mean_error(rng: torch.Generator, lengths: tuple[int, ...]) -> None:
    """1 - PAE / 32 in the places of pTM and ipTM, by loops over frames that there are; nothing else of a summary changes."""
    tokens = make_tokens(lengths)
    tokens = dataclasses.replace(tokens, frame_mask=np.arange(sum(lengths)) != 1)
    probabilities = random_probabilities(rng, sum(lengths))
    near: dict[bool, list[float]] = {True: [], False: []}
    for i in range(sum(lengths)):
        for j in range(sum(lengths)):
            error = sum(p * 0.5 * (k + 0.5) for k, p in enumerate(probabilities[i, j].tolist()))
            if tokens.frame_mask[i]:
                near[bool(tokens.chain[i] != tokens.chain[j])].append(1 - error / 32)
    whole = np.mean(near[True] + near[False])
    expected = whole if len(lengths) == 1 else 0.8 * np.mean(near[True]) + 0.2 * whole
    out, usual = (summary(tokens, probabilities, spread(tokens), ranked_by=by) for by in ("pae", "tm"))
    assert out.ranking_score == pytest.approx(expected + 0.5) and out.ptm == usual.ptm
    assert np.array_equal(out.chain_pair_iptm, usual.chain_pair_iptm, equal_nan=True)


def test_nothing_has_a_frame(rng: torch.Generator) -> None:
    """Ions alone have no frames: every score is undefined, none is invented; the job has a rank, to be written by."""
    tokens = make_tokens((1, 1), (Kind.LIGAND, Kind.LIGAND))
    out = summary(tokens, random_probabilities(rng, 2), spread(tokens))
    assert math.isnan(out.ptm) and math.isnan(out.iptm) and out.ranking_score == 0 and np.isnan(out.chain_pair_iptm).all()
    assert summary(tokens, random_probabilities(rng, 2), spread(tokens), ranked_by="pae").ranking_score == 0
    assert out.fraction_disordered == 0.0


@pytest.mark.parametrize(("clashing", "expected"), [(100, False), (101, True)])
def test_more_than_a_hundred_clashing_pairs(clashing: int, expected: bool) -> None:
    """In chains of 300 atoms the hundred-and-first pair makes a clash, which costs a hundred."""
    tokens = make_tokens((100, 100))
    positions = spread(tokens, 5.0)
    positions[300:, 1] += 20
    positions[300 : 300 + clashing] = positions[:clashing] + np.array([0, 1.05, 0])
    counts = ranking.chain_pair_clashes(tokens.structure, positions)
    assert counts.tolist() == [[0, clashing], [clashing, 0]]
    assert ranking.has_clash(tokens.structure, counts) is expected


@pytest.mark.parametrize(("clashing", "expected"), [(3, False), (4, True)])
def test_more_than_half_of_a_small_chain(clashing: int, expected: bool) -> None:
    """Of a chain of six atoms, four."""
    tokens = make_tokens((20, 2))
    positions = spread(tokens, 5.0)
    positions[60 : 60 + clashing] = positions[:clashing] + np.array([0, 0, 0.5])
    assert ranking.has_clash(tokens.structure, ranking.chain_pair_clashes(tokens.structure, positions)) is expected


def test_clashes_inside_a_chain_and_with_ligands_are_no_clash() -> None:
    """They are counted between chains of any kind, but only polymers can clash, and a chain not with itself."""
    tokens = make_tokens((4, 3), (Kind.PROTEIN, Kind.LIGAND))
    positions = np.zeros((15, 3))
    counts = ranking.chain_pair_clashes(tokens.structure, positions)
    assert counts.tolist() == [[0, 36], [36, 0]]
    assert not ranking.has_clash(tokens.structure, counts)


def test_clash_costs_a_hundred() -> None:
    score = {clash: ranking.ranking_score(ptm=0.5, iptm=0.25, fraction_disordered=0.4, clash=clash) for clash in (False, True)}
    assert score[False] == pytest.approx(0.5) and score[True] == pytest.approx(-99.5)


def test_a_job_of_ions_alone_has_a_rank() -> None:
    """Without any frame neither pTM nor ipTM is defined: they count zero, a clash still shows."""
    nothing = {"ptm": math.nan, "iptm": math.nan, "fraction_disordered": 0.0}
    assert ranking.ranking_score(**nothing, clash=False) == 0.0 and ranking.ranking_score(**nothing, clash=True) == -100.0


def test_expectations_of_certain_logits() -> None:
    """A certain class gives the centre of its bin; equal logits the middle of the range."""
    logits = 1e4 * torch.eye(64)[None, :3]
    assert_close(ranking.expected_error(logits.softmax(-1)), torch.tensor([[0.25, 0.75, 1.25]]), FLOAT32_LAYER)
    assert_close(ranking.expected_plddt(1e4 * torch.eye(50)[[0, 49]]), torch.tensor([1.0, 99.0]), FLOAT32_LAYER)
    assert_close(ranking.expected_plddt(torch.zeros(1, 50)), torch.tensor([50.0]), FLOAT32_LAYER)
    assert_close(ranking.expected_error(torch.full((1, 1, 64), 1 / 64)), torch.tensor([[16.0]]), FLOAT32_LAYER)


def test_contacts_are_the_first_nineteen_classes() -> None:
    """A distance of the class up to 7.94 angstrom is a contact, one of the next is not."""
    probabilities = ranking.contact_probabilities(1e4 * torch.eye(64)[None], Distogram())
    assert probabilities[0].tolist() == [1.0] * 19 + [0.0] * 45


def test_global_pde_is_weighted_by_contacts() -> None:
    contact, pde = torch.tensor([[1.0, 0.5], [0.5, 0.0]]), torch.tensor([[1.0, 4.0], [4.0, 100.0]])
    assert ranking.global_pde(contact, pde) == pytest.approx(2.5)


def test_prediction_cuts_the_padding(rng: torch.Generator) -> None:
    """Arrays in numpy, float32, of the job's own size; scores as of the unpadded logits."""
    tokens = make_tokens((4, 3))
    shapes = ((1, 30, 50), (1, 9, 9, 64), (1, 9, 9, 64), (1, 30, 2))
    logits = ConfidenceLogits(*(torch.randn(shape, generator=rng) for shape in shapes))
    out = ranking.prediction(tokens, torch.randn(30, 3, generator=rng), logits, torch.rand(9, 9, generator=rng), seed=5, sample=2)
    assert (out.seed, out.sample) == (5, 2)
    arrays = (out.positions, out.atom_plddt, out.pae, out.pde, out.contact_probs)
    assert [a.shape for a in arrays] == [(21, 3), (21,), (7, 7), (7, 7), (7, 7)]
    assert {a.dtype for a in arrays} == {np.dtype(np.float32)}
    assert out.summary.mean_plddt == pytest.approx(out.atom_plddt.mean(), rel=1e-5)
    assert out.summary.gpde == pytest.approx((out.contact_probs * out.pde).sum() / out.contact_probs.sum(), rel=1e-5)
    assert out.summary.chain_pair_pae_min[0, 1] == pytest.approx(out.pae[:4, 4:].min(), rel=1e-5)


def test_best_is_the_first_of_the_highest() -> None:
    """Ties go to the first, and an undefined score never wins."""
    tokens = make_tokens((2,))
    one = summary(tokens, certain(torch.zeros(2, 2, dtype=torch.int64)), spread(tokens))
    empty = np.zeros((0, 0))

    def scored(score: float) -> Prediction:
        return Prediction(1, 0, empty, empty, empty, empty, empty, dataclasses.replace(one, ranking_score=score))

    assert ranking.best([scored(s) for s in (math.nan, 0.3, 0.7, 0.7, -99.0)]) == 2


@torch.no_grad()
def test_predictions_of_a_network(rng: torch.Generator) -> None:
    """Every sample is scored as if it were alone, padding changes nothing, and a trunk in bfloat16 is taken up in float32."""
    network = AlphaFold3(tiny()).eval()
    for parameter in network.parameters():
        parameter.normal_(std=0.3, generator=rng)
    tokens = tokenise(build_atoms(Job("pair", "pair", (Chain("A", Kind.PROTEIN, "GAKWS"), Chain("B", Kind.PROTEIN, "MFT")))))
    batch = featurise(tokens, [None, None])
    n, l = batch.tokens, batch.atoms  # noqa: E741
    larger = pad(batch, tokens=n + 2, atoms=l + 5)
    trunk = network.trunk(larger, cycles=1, rng=rng)
    positions = 8 * torch.randn(2, l + 5, 3, generator=rng)
    both = ranking.predictions(tokens, larger, network, trunk, positions, seed=3)
    plain = TrunkOutput(trunk.s_inputs[:, :n], trunk.s[:, :n], trunk.z[:, :n, :n])
    for k, padded in enumerate(both):
        (alone,) = ranking.predictions(tokens, batch, network, plain, positions[k : k + 1, :l], seed=3)
        assert (padded.seed, padded.sample) == (3, k)
        for name in ("positions", "atom_plddt", "pae", "pde", "contact_probs"):
            assert_close(torch.from_numpy(getattr(padded, name)), torch.from_numpy(getattr(alone, name)), FLOAT32_LAYER)
        assert padded.summary.ranking_score == pytest.approx(alone.summary.ranking_score, abs=FLOAT32_LAYER)
    assert both[0].summary.ranking_score != both[1].summary.ranking_score
    half = TrunkOutput(plain.s_inputs.bfloat16(), plain.s.bfloat16(), plain.z.bfloat16())
    (rounded,) = ranking.predictions(tokens, batch, network, half, positions[:1, :l], seed=3)
    assert_close(torch.from_numpy(rounded.contact_probs), torch.from_numpy(both[0].contact_probs), BFLOAT16)
