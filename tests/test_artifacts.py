"""Features and predictions survive as bytes."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from structgen.artifacts import batch_from_bytes, batch_to_bytes, predictions_from_bytes, predictions_to_bytes
from structgen.features.atoms import build_atoms
from structgen.features.featurise import featurise
from structgen.features.job import Job, protein_chains
from structgen.features.tokens import tokenise
from structgen.prediction import Prediction, Summary


@pytest.mark.parametrize("sequences", [("MK",), ("GSHMW" * 70, "ACDX", "ACDX")])
def test_features_come_back_with_their_types(sequences: tuple[str, ...]):
    """Every tensor is equal in value, type and shape, and equal features are equal bytes."""
    batch = featurise(tokenise(build_atoms(Job("x", "x", protein_chains(sequences)))), [None] * len(sequences))
    content = batch_to_bytes(batch)
    again = batch_from_bytes(content)
    for name, tensor in batch.tensors().items():
        other = again.tensors()[name]
        assert other.dtype == tensor.dtype and other.shape == tensor.shape and torch.equal(other, tensor), name
    assert batch_to_bytes(again) == content


def _prediction(sample: int, chains: int, rng: np.random.Generator) -> Prediction:
    def scores(*shape: int) -> np.ndarray:
        return rng.normal(size=shape).astype(np.float32)

    summary = Summary(
        0.7, 0.8, float("nan"), 0.1, bool(sample), 88.5, 0.4,
        scores(chains), scores(chains), scores(chains),
        scores(chains, chains), scores(chains, chains), np.arange(chains**2).reshape(chains, -1),
    )  # fmt: skip
    return Prediction(2**32 - 1, sample, scores(11, 3), scores(11), scores(4, 4), scores(4, 4), scores(4, 4), summary)


@pytest.mark.parametrize("chains", [1, 3])
def test_predictions_come_back_with_their_types(chains: int):
    """Every field of every sample is equal in value and type, also NaN, truth values and large seeds."""
    rng = np.random.default_rng(0)
    predictions = [_prediction(k, chains, rng) for k in range(3)]
    content = predictions_to_bytes(predictions)
    for before, after in zip(predictions, predictions_from_bytes(content), strict=True):
        for f in dataclasses.fields(Prediction):
            if f.name != "summary":
                _assert_same(getattr(before, f.name), getattr(after, f.name))
        for f in dataclasses.fields(Summary):
            _assert_same(getattr(before.summary, f.name), getattr(after.summary, f.name))
    assert predictions_to_bytes(predictions_from_bytes(content)) == content


def _assert_same(before: object, after: object) -> None:
    assert type(before) is type(after)
    np.testing.assert_array_equal(before, after)
    if isinstance(before, np.ndarray) and isinstance(after, np.ndarray):
        assert before.dtype == after.dtype
