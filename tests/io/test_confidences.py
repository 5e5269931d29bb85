"""Confidence files: keys, shapes, rounding, and what becomes null."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace

import numpy as np
import pytest

from structgen.features.atoms import build_atoms
from structgen.features.job import Chain, Job, Kind
from structgen.features.tokens import Tokens, tokenise
from structgen.io.confidences import confidences, framed_chains, pair_arrays, ranking_scores, summary_confidences, undefined_values
from structgen.io.extras import extras
from tests.io.made import made_prediction, made_provenance, made_tokens

AF3_SUMMARY = {
    "chain_ids", "chain_iptm", "chain_pair_iptm", "chain_pair_pae_min", "chain_ptm", "fraction_disordered", "has_clash", "iptm", "ptm",
    "ranking_score",
}  # fmt: skip
OURS = {"mean_plddt", "gpde", "chain_plddt"}
COLUMNS_OF_A_READER = {"pdb", "query", "model", "data_file", "seed_sample", "format", "plddt"}  # a key of these would break its table


@pytest.fixture
def tokens() -> Tokens:
    return made_tokens(("A", "MKW"), ("B", "GX"), ("AC", "MKW"))


def test_summary_has_the_keys_and_shapes_of_alphafold_3(tokens: Tokens) -> None:
    """One entry a chain, square matrices, numbers to 0.01, a number for the clash."""
    prediction = made_prediction(tokens)
    summary = json.loads(summary_confidences(tokens.structure, prediction))
    assert set(summary) == AF3_SUMMARY | OURS and not set(summary) & COLUMNS_OF_A_READER
    assert list(summary) == sorted(summary)
    assert summary["chain_ids"] == ["A", "B", "AC"]
    assert summary["has_clash"] == 0.0 and isinstance(summary["has_clash"], float)
    assert (summary["ptm"], summary["iptm"], summary["fraction_disordered"], summary["gpde"]) == (0.61, 0.34, 0.13, 1.24)
    for name in ("chain_ptm", "chain_iptm", "chain_pair_iptm", "chain_pair_pae_min", "chain_plddt"):
        expected = getattr(prediction.summary, name)
        assert np.shape(summary[name]) == expected.shape
        assert np.abs(np.array(summary[name]) - expected).max() <= 0.005 + 1e-12


def test_a_single_chain_has_no_iptm() -> None:
    """NaN becomes null, in a number and in a list; the file is strict JSON."""
    tokens = made_tokens(("A", "MKW"))
    text = summary_confidences(tokens.structure, made_prediction(tokens))
    summary = json.loads(text, parse_constant=lambda constant: pytest.fail(constant))
    assert summary["iptm"] is None and summary["chain_iptm"] == [None]
    assert len(summary["chain_pair_iptm"]) == 1 and isinstance(summary["chain_pair_iptm"][0][0], float)


def test_confidences_are_one_line_of_alphafold_3s_keys(tokens: Tokens) -> None:
    """Atoms and tokens in the order of the job; PAE to 0.1, probabilities and pLDDT to 0.01."""
    prediction, s = made_prediction(tokens), tokens.structure
    text = confidences(tokens, prediction)
    assert text.count("\n") == 1 and " " not in text
    values = json.loads(text)
    assert list(values) == ["atom_chain_ids", "atom_plddts", "contact_probs", "pae", "token_chain_ids", "token_res_ids"]
    assert values["atom_chain_ids"] == [s.chain_ids[c] for c in s.atom_chain]
    assert values["token_chain_ids"] == ["A"] * 3 + ["B"] * 2 + ["AC"] * 3
    assert values["token_res_ids"] == [1, 2, 3, 1, 2, 1, 2, 3]
    for name, expected, step in (
        ("pae", prediction.pae, 0.1),
        ("contact_probs", prediction.contact_probs, 0.01),
        ("atom_plddts", prediction.atom_plddt, 0.01),
    ):
        assert np.abs(np.array(values[name]) - expected).max() <= step / 2 + 1e-6
    assert all(len(str(value)) <= 4 for row in values["pae"] for value in row)  # 31.9: no binary dust behind the last digit
    assert all(len(str(value)) <= 4 for row in values["contact_probs"] for value in row)


def test_row_is_the_frame(tokens: Tokens) -> None:
    """PAE is not transposed on its way."""
    pae = np.zeros((8, 8), np.float32)
    pae[1, 6] = 20
    values = json.loads(confidences(tokens, replace(made_prediction(tokens), pae=pae)))
    assert values["pae"][1][6] == 20 and values["pae"][6][1] == 0


def test_undefined_values_are_null_and_named(tokens: Tokens) -> None:
    """A NaN in the PAE and in a chain's row is written as null, and reported unless the chain is alone by nature."""
    prediction = made_prediction(tokens)
    pae, lowest = prediction.pae.copy(), prediction.summary.chain_pair_pae_min.copy()
    pae[2, 3], lowest[1] = np.nan, np.nan
    spoilt = replace(prediction, pae=pae, summary=replace(prediction.summary, chain_pair_pae_min=lowest, iptm=np.inf))
    assert json.loads(confidences(tokens, spoilt))["pae"][2][3] is None
    assert json.loads(summary_confidences(tokens.structure, spoilt))["chain_pair_pae_min"][1] == [None] * 3
    assert undefined_values(tokens, spoilt) == ["chain_pair_pae_min", "iptm", "pae"]
    assert undefined_values(tokens, prediction) == []
    alone = made_tokens(("A", "MKW"))
    assert undefined_values(alone, made_prediction(alone)) == []


def test_what_a_chain_without_a_frame_lacks_is_not_reported() -> None:
    """Two ions beside a protein: their pTM, their rows of the PAE and their ipTM with each other; the same of the protein is reported."""
    ions = (Chain(id, Kind.LIGAND, residues=("MG",)) for id in "BC")
    tokens = tokenise(build_atoms(Job("x", "x", (Chain("A", Kind.PROTEIN, "MKW"), *ions))))
    assert framed_chains(tokens).tolist() == [True, False, False]
    prediction = made_prediction(tokens)
    s = prediction.summary
    ptm, pairs, lowest = s.chain_ptm.copy(), s.chain_pair_iptm.copy(), s.chain_pair_pae_min.copy()
    ptm[1:], pairs[1:, 1:], lowest[1:] = np.nan, np.nan, np.nan
    natural = replace(s, chain_ptm=ptm, chain_pair_iptm=pairs, chain_pair_pae_min=lowest)
    assert undefined_values(tokens, replace(prediction, summary=natural)) == []
    pairs[0, 1] = lowest[0, 2] = ptm[0] = np.nan
    assert undefined_values(tokens, replace(prediction, summary=natural)) == ["chain_pair_iptm", "chain_pair_pae_min", "chain_ptm"]


def test_extras_hold_the_interfaces(tokens: Tokens) -> None:
    """Every pair of chains once, with ipTM, the lower PAE of both directions and the clashes; the exact score and the settings."""
    prediction = made_prediction(tokens, seed=9, sample=4, ranking_score=0.123456789)
    values = json.loads(extras(tokens, prediction, made_provenance("A", "B", "AC")))
    assert (values["seed"], values["sample"], values["ranking_score"]) == (9, 4, 0.123456789)
    assert values["settings"] == {"steps": 20, "cycles": 2, "precision": "float32"} and values["calibrated"] is False
    assert [interface["chains"] for interface in values["interfaces"]] == [["A", "B"], ["A", "AC"], ["B", "AC"]]
    s = prediction.summary
    lower = min(s.chain_pair_pae_min[0, 2], s.chain_pair_pae_min[2, 0])
    assert values["interfaces"][1]["clashes"] == s.chain_pair_clashes[0, 2]
    assert values["interfaces"][1]["iptm"] == pytest.approx(s.chain_pair_iptm[0, 2], abs=0.0051)
    assert values["interfaces"][1]["pae_min"] == pytest.approx(lower, abs=0.0051)
    assert values["interfaces"][1]["score"] == pytest.approx((s.chain_iptm[0] + s.chain_iptm[2]) / 2, abs=0.0051)
    between = prediction.pde[:3, 5:]
    assert values["interfaces"][1]["pde_mean"] == pytest.approx(between.mean(), abs=0.0051)
    assert values["interfaces"][1]["pde_min"] == pytest.approx(between.min(), abs=0.0051)
    assert values["residues"] == []


def test_pair_arrays_read_back_without_pickle(tokens: Tokens) -> None:
    """float16 matrices with the ids of their rows; equal input gives equal bytes."""
    prediction = made_prediction(tokens)
    content = pair_arrays(tokens, prediction)
    assert content == pair_arrays(tokens, made_prediction(tokens))
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        assert set(arrays) == {"pae", "pde", "contact_probs", "token_chain_ids", "token_res_ids"}
        for name in ("pae", "pde", "contact_probs"):
            assert arrays[name].dtype == np.float16
            np.testing.assert_allclose(arrays[name], getattr(prediction, name), rtol=1e-3, atol=1e-6)
        assert arrays["token_chain_ids"].tolist() == ["A"] * 3 + ["B"] * 2 + ["AC"] * 3


def test_ranking_table_keeps_order_and_exact_scores(tokens: Tokens) -> None:
    """Columns seed, sample, ranking_score; the text reads back to the same numbers."""
    samples = [made_prediction(tokens, seed=2**32 - 1, ranking_score=1 / 3), made_prediction(tokens, sample=3, ranking_score=-99.5)]
    rows = list(csv.DictReader(io.StringIO(ranking_scores(samples))))
    assert [(int(row["seed"]), int(row["sample"]), float(row["ranking_score"])) for row in rows] == [(2**32 - 1, 0, 1 / 3), (1, 3, -99.5)]


def test_numbers_are_never_minus_zero(tokens: Tokens) -> None:
    """-0.001 rounds to 0.0."""
    prediction = made_prediction(tokens)
    summary = summary_confidences(tokens.structure, replace(prediction, summary=replace(prediction.summary, ptm=-0.001)))
    assert "-0.0" not in summary
