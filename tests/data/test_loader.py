"""The loader: the same features as those of a prediction, steps that depend on nothing but their number, and crops of the right kind."""

from __future__ import annotations

import os
import signal
from collections import Counter
from dataclasses import fields, replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch

from structgen.data.assemble import assemble
from structgen.data.dataset import ChainDataset
from structgen.data.examples import Loading, TemplateDraws
from structgen.data.loader import LoaderError, Share, examples
from structgen.data.sampling import Sampler
from structgen.errors import ConfigError, InputError
from structgen.features.examples import Example, labelled
from tests.archive import random_chains, write_archive

SETTINGS = Loading(batch=4, tokens=48, buckets=(16, 32), templates=TemplateDraws(slots=2))


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> ChainDataset:
    rng = np.random.default_rng(3)
    chains = [chain for length in (12, 30, 47, 80) for chain in random_chains(rng, 3, length)]
    chains = [replace(chain, id=f"c{k}", profile=k % 2 == 0, tier=("full", "bb")[k % 3 == 0]) for k, chain in enumerate(chains)]
    return ChainDataset.open(write_archive(tmp_path_factory.mktemp("chains"), chains, rng))


def same(first: Example, second: Example) -> bool:
    """Whether every tensor and every name is equal."""
    pairs = [(getattr(first.batch, f.name), getattr(second.batch, f.name)) for f in fields(first.batch)]
    pairs += [(first.positions, second.positions), (first.resolved, second.resolved)]
    return first.names == second.names and all(a.dtype == b.dtype and torch.equal(a, b) for a, b in pairs)


def test_assembled_features_are_those_of_a_job(dataset: ChainDataset):
    """A chain by table look-up equals the chain built as a job, tokenised and featurised, in every array and every type."""
    for i in range(len(dataset)):
        batch, positions, resolved = labelled(dataset.chains[i], ends_chain=False)
        found = assemble(dataset.entry(i), np.arange(dataset.tokens(i)))
        for name, value in found.features.items():
            wanted = getattr(batch, name)[0].numpy()
            assert value.dtype == wanted.dtype and np.array_equal(value, wanted), name
        assert np.array_equal(found.resolved, resolved)
        assert np.allclose(found.positions[resolved], positions[resolved], atol=1e-4)


def test_a_crop_is_a_part_of_the_whole(dataset: ChainDataset):
    """Chosen tokens keep their numbers, atoms and truth, and point to their own atoms."""
    whole, chosen = assemble(dataset.entry(9), np.arange(80)), np.array([3, 4, 20, 79])
    part = assemble(dataset.entry(9), chosen)
    atoms = np.isin(whole.features["atom_to_token"], chosen)
    assert np.array_equal(part.positions, whole.positions[atoms])
    assert np.array_equal(part.features["token_index"], chosen + 1)
    centre = whole.positions[whole.features["centre_atom"][chosen]]
    assert np.array_equal(part.positions[part.features["centre_atom"]], centre)
    assert np.array_equal(np.unique(part.features["ref_space_uid"]), np.arange(4))


def test_steps_depend_on_their_number_alone(dataset: ChainDataset):
    """A stream that starts later, that workers make, or of which several processes have parts, has the same examples."""
    plain = list(islice(examples(dataset, SETTINGS, 7), 5))
    assert not same(plain[0], plain[1])
    assert all(map(same, islice(examples(dataset, SETTINGS, 7, 2), 3), plain[2:]))
    assert all(map(same, islice(examples(dataset, SETTINGS, 7, 1, workers=2), 4), plain[1:]))
    parts = [next(examples(dataset, SETTINGS, 7, 3, share=Share(rank, 2))) for rank in (0, 1)]
    for rank, part in enumerate(parts):
        assert part.names == plain[3].names[rank::2]
        assert torch.equal(part.positions, plain[3].positions[rank::2, : part.positions.shape[1]])


def test_batches_have_few_shapes_and_true_masks(dataset: ChainDataset):
    """All crops of a step fit its bucket, what is behind them is masked, and a chain's evidence is over its own tokens."""
    shapes = set()
    for example in islice(examples(dataset, SETTINGS, 1), 24):
        batch = example.batch
        shapes.add((batch.tokens, batch.atoms // batch.tokens))
        assert batch.tokens in SETTINGS.sizes and batch.template_restype.shape == (4, 2, batch.tokens)
        assert not example.resolved[~batch.atom_mask].any() and not batch.profile[~batch.token_mask].any()
        assert torch.allclose(batch.profile[batch.token_mask].sum(-1), torch.tensor(1.0), atol=1e-5)
        assert int(batch.token_mask.sum(1).max()) > max((0, *(s for s in SETTINGS.sizes if s < batch.tokens)))
    assert {tokens for tokens, _ in shapes} == set(SETTINGS.sizes) and len(shapes) <= 6


def test_chains_are_drawn_as_often_as_their_weights_say(dataset: ChainDataset):
    """Bucket first, then unit: over many draws every chain has its share, whatever its length."""
    sampler = Sampler.of(dataset, "train", SETTINGS.sizes, 5)
    drawn = Counter(sampler.draw(step, place)[0].entry for step in range(1500) for place in range(4))
    expected, spread = 6000 / 12, 4 * np.sqrt(6000 / 12)  # steps, not places, draw the bucket: twice the binomial deviation
    assert len(drawn) == 12 and all(abs(count - expected) < 2 * spread for count in drawn.values())


def test_a_worker_that_fails_or_dies_is_an_error(dataset: ChainDataset, monkeypatch: pytest.MonkeyPatch):
    """Neither an exception in a worker nor its end leaves the trainer waiting."""
    monkeypatch.setattr(ChainDataset, "profile", lambda self, entry: 1 / 0)
    with pytest.raises(LoaderError, match="step 4 cannot be loaded: ZeroDivisionError"):
        next(examples(dataset, SETTINGS, 1, 4, workers=1))
    monkeypatch.setattr("structgen.data.loader.PATIENCE", 0.2)
    monkeypatch.setattr(ChainDataset, "profile", lambda self, entry: os.kill(os.getpid(), signal.SIGKILL))
    with pytest.raises(LoaderError, match="died"):
        next(examples(dataset, SETTINGS, 1, workers=1))


def test_wrong_settings_are_told(dataset: ChainDataset):
    """A split that is empty and a batch that cannot be shared are refused."""
    with pytest.raises(InputError, match="nothing to draw"):
        next(examples(dataset, replace(SETTINGS, split="validation"), 1))
    with pytest.raises(ConfigError, match="multiple of the 3"):
        next(examples(dataset, SETTINGS, 1, share=Share(0, 3)))


def test_the_archive_of_today_is_read(tmp_path: Path):
    """A folder of chains is a dataset; its clusters are drawn uniformly."""
    rng = np.random.default_rng(0)
    dataset = ChainDataset.open(write_archive(tmp_path, random_chains(rng, 2, 20), rng))
    assert [unit.weight for unit in dataset.units("train")] == [1.0, 1.0] and dataset.name(1) == "train1_A"
