"""Templates on the query: indices, alignment, and the arrays of a job."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from Bio.Align import PairwiseAligner, substitution_matrices

from structgen.errors import InputError
from structgen.features import chemistry
from structgen.features.atoms import build_atoms
from structgen.features.featurise import featurise
from structgen.features.job import Chain, Job, Kind, Modification
from structgen.features.templates import Backbone, Templates, Used, align, lay, no_templates, stack, template_arrays
from structgen.features.tokens import tokenise

ORIGIN = Used("x.cif", "A", "2001-02-03", "d" * 64, aligned=0, identity=0.0, coverage=0.0)


def backbone(sequence: str, *, unresolved: tuple[int, ...] = (), seed: int = 0) -> Backbone:
    rng = np.random.default_rng(seed)
    known = ~np.isin(np.arange(len(sequence)), unresolved)
    frame, beta = (10 * rng.normal(size=(len(sequence), *shape)).astype(np.float32) for shape in ((3, 3), (3,)))
    return Backbone(sequence, frame * known[:, None, None], known, beta * known[:, None], known)


def template(query: str, seed: int = 0) -> Templates:
    """The query on itself, one residue left out at each end."""
    inside = list(range(1, len(query) - 1))
    return lay(backbone(query, seed=seed), query, inside, inside, ORIGIN)


def classes(letters: str) -> list[int]:
    return [chemistry.GAP if letter == "-" else chemistry.AMINO_ACIDS.find(letter) for letter in letters]


def test_residues_lie_where_the_indices_say_and_unresolved_ones_count():
    """The query's 0, 2, 3 are residues 3, 1, 2 of the template, of which 1 is unresolved: it keeps its class and nothing else."""
    there = backbone("MKTAY", unresolved=(1,))
    made = lay(there, "ARYT", [0, 2, 3], [3, 1, 2], ORIGIN)
    assert made.restype.tolist() == [classes("A-KT")]
    assert made.frame_mask.tolist() == made.pseudo_beta_mask.tolist() == [[True, False, False, True]]
    np.testing.assert_array_equal(made.frame[0, [0, 3]], there.frame[[3, 2]])
    np.testing.assert_array_equal(made.pseudo_beta[0, [0, 3]], there.pseudo_beta[[3, 2]])
    assert not made.frame[0, 1:3].any() and not made.pseudo_beta[0, 1:3].any()
    used = made.used[0]
    assert (used.aligned, used.identity, used.coverage, used.file) == (3, 2 / 3, 0.75, "x.cif")
    assert used.text == "x.cif chain A, released 2001-02-03, 3 residues aligned, identity 0.67, coverage 0.75"


@pytest.mark.parametrize(
    ("own", "other", "message"),
    [
        ([0, 1], [0], "found 2 query and 1 template indices; expected equal lengths"),
        ([0, 4], [0, 1], "query index of a template is out of range; found 4; expected 0 to 3"),
        ([0, -1], [0, 1], "query index of a template is out of range; found -1"),
        ([0, 1], [0, 5], "template index of a template is out of range; found 5; expected 0 to 4: unresolved residues are counted"),
        ([2, 2], [0, 1], "query index of a template stands twice; found 2"),
        ([], [], "nothing aligned"),
    ],
)
def test_indices_that_do_not_fit_are_one_clear_error(own: list[int], other: list[int], message: str):
    """Unequal lengths, out of range, twice, none; the file and the chain are named."""
    with pytest.raises(InputError) as caught:
        lay(backbone("MKTAY"), "ARYT", own, other, ORIGIN)
    assert message in str(caught.value) and str(caught.value).startswith("x.cif: chain A")


def test_alignments_score_as_another_librarys():
    """Biopython's aligner with the same penalties: equal scores over random pairs of relatives, fragments among them."""
    other = PairwiseAligner(mode="global", substitution_matrix=substitution_matrices.load("BLOSUM62"))
    other.open_gap_score, other.extend_gap_score, other.end_gap_score = -11, -1, 0
    rng = np.random.default_rng(1)
    letters = np.array(list(chemistry.AMINO_ACIDS))
    for _ in range(40):
        first = "".join(rng.choice(letters, rng.integers(5, 60)))
        cut = sorted(rng.integers(0, len(first), 4))
        second = first[cut[0] : cut[1]] + "".join(rng.choice(letters, rng.integers(1, 20))) + first[cut[2] : cut[3] + 1]
        own, there, score = align(first, second)
        assert score == other.score(first, second)
        assert own == sorted(set(own)) and there == sorted(set(there)) and len(own) == len(there)


def test_a_fragment_lies_inside_and_rare_letters_are_no_obstacle():
    """Gaps at the ends are free; selenocysteine, pyrrolysine and J have a score too."""
    query = "MQIFVKTLTGKTITLEVEPSDTIENVKAKIQDKEG"
    assert align(query, query[10:30])[:2] == (list(range(10, 30)), list(range(20)))
    assert align(query[:20] + query[25:], query)[1] == [*range(20), *range(25, 35)]
    assert align("UCOJMKT", "CCKLMKT")[:2] == (list(range(7)), list(range(7)))


def test_slots_hold_every_chains_templates_in_order():
    """Two of chain A, one of chain C, none of B: the empty slots are gaps without geometry."""
    job = Job("x", "x", (Chain("A", Kind.PROTEIN, "MKTAYI"), Chain("B", Kind.RNA, "GCAU"), Chain("C", Kind.PROTEIN, "GSHMKT")))
    tokens = tokenise(build_atoms(job))
    two = stack([template("MKTAYI", 1), template("MKTAYI", 2)], 6)
    arrays = template_arrays(tokens, [two, None, template("GSHMKT", 3)])
    assert arrays["template_restype"].tolist() == [classes("-KTAY-----" + "-SHMK-"), classes("-KTAY-" + 10 * "-")]
    np.testing.assert_array_equal(arrays["template_frame"][:, :6], two.frame)
    np.testing.assert_array_equal(arrays["template_pseudo_beta"][0, 10:], template("GSHMKT", 3).pseudo_beta[0])
    assert arrays["template_frame_mask"].sum(1).tolist() == [8, 4] and arrays["template_pseudo_beta_mask"].sum(1).tolist() == [8, 4]
    assert not arrays["template_frame"][1, 6:].any()


def test_templates_follow_their_chains():
    """Chains in another order: the same columns in that order."""
    chains = (Chain("A", Kind.PROTEIN, "MKTAYI"), Chain("B", Kind.PROTEIN, "GSHM"))
    given = [template("MKTAYI", 1), template("GSHM", 2)]
    first = featurise(tokenise(build_atoms(Job("x", "x", chains))), [None, None], templates=given).tensors()
    second = featurise(tokenise(build_atoms(Job("x", "x", chains[::-1]))), [None, None], templates=given[::-1]).tensors()
    order = [*range(6, 10), *range(6)]
    for name in (name for name in first if name.startswith("template_")):
        assert torch.equal(first[name][:, :, order], second[name])
    assert first["template_restype"].dtype == torch.int64 and first["template_frame"].shape == (1, 1, 10, 3, 3)


def test_tokens_of_a_modified_residue_share_its_column():
    """Phosphoserine is a token an atom, each with the residue's class and frame."""
    job = Job("x", "x", (Chain("A", Kind.PROTEIN, "MKSAY", modifications=(Modification(3, "SEP"),)),))
    tokens = tokenise(build_atoms(job))
    given = template("MKSAY")
    arrays = template_arrays(tokens, [given])
    assert len(tokens.residue) == 4 + 10
    np.testing.assert_array_equal(arrays["template_restype"][0], given.restype[0][tokens.residue])
    np.testing.assert_array_equal(arrays["template_frame"][0, 2:12], np.repeat(given.frame[0, 2:3], 10, axis=0))


def test_none_is_no_slot_at_all():
    """Without templates T is 0, said or unsaid."""
    job = Job("x", "x", (Chain("A", Kind.PROTEIN, "MKTAYI"), Chain("L", Kind.LIGAND, smiles="CCO")))
    tokens = tokenise(build_atoms(job))
    for given in ([], [None, None], [no_templates(6), None]):
        arrays = template_arrays(tokens, given)
        assert {name: array.shape[:2] for name, array in arrays.items()} == {name: (0, 9) for name in arrays}
    with pytest.raises(ValueError, match="templates of 5 residues for chain A of 6"):
        template_arrays(tokens, [template("MKTAY"), None])
