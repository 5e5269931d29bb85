"""The head's training goes on where it was cut, and changes nothing but the head."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from structgen.alphafold3.config import Sampling, tiny
from structgen.alphafold3.model import AlphaFold3, load_model, save_model
from structgen.data.libraries import LibrarySettings, chains_of_set
from structgen.errors import ConfigError
from structgen.features import chemistry
from structgen.features.chains import AMINO_ACIDS, ChainSet, in_judged_order
from structgen.features.examples import Example
from structgen.features.templates import MOST
from structgen.search.library import write_library
from structgen.search.template_index import library_index
from structgen.tasks.confidence import Rollouts, Unseen, candidates, in_epochs, read_rollout, told_size, unseen_units, with_searched
from structgen.train import Optimisation, TrainState
from tests.alphafold3.weights import randomise
from tests.archive import random_chains, write_archive
from workflows.train import train
from workflows.training_log import read_rows
from workflows.training_run import TrainingRun, read_run, task_settings

pytestmark = pytest.mark.usefixtures("one_thread")
ROLLOUTS = Rollouts(count=4, held_out=1, shortest=12, longest=20, samples=2, steps=2)
RUN = TrainingRun(
    kind="confidence",
    steps=6,
    seed=2,
    device="cpu",
    log_every=2,
    checkpoint_every=2,
    task={"rollouts": dataclasses.asdict(ROLLOUTS)},
    optimisation=Optimisation(warmup_steps=2),
)


def train_confidence(model: Path, chains: ChainSet, out: Path, *, task: dict[str, Any] | None = None, **changes: Any) -> TrainState:
    """The run with some of its settings changed."""
    run = dataclasses.replace(RUN, **{"init": str(model), "data": str(chains.folder)} | changes)
    return train(dataclasses.replace(run, task=run.task | (task or {})), out)


@pytest.fixture
def chains(tmp_path: Path) -> ChainSet:
    rng = np.random.default_rng(0)
    training = [*random_chains(rng, 3, 16), *random_chains(rng, 2, 14, tier="bb", profile=True), *random_chains(rng, 2, 40)]
    return ChainSet(write_archive(tmp_path / "chains", training, rng))


@pytest.fixture
def path(tmp_path: Path, rng: torch.Generator) -> Path:
    save_model(randomise(AlphaFold3(tiny()), rng, scale=0.1), tmp_path / "model.safetensors")
    return tmp_path / "model.safetensors"


def test_a_cut_run_ends_as_an_uncut_one(chains: ChainSet, path: Path, tmp_path: Path) -> None:
    """Cut among the roll-outs, then after two steps: roll-outs, state and model are the same bytes in the end."""
    uncut, cut = tmp_path / "uncut", tmp_path / "cut"
    train_confidence(path, chains, uncut)
    train_confidence(path, chains, cut, steps=2)
    (cut / "rollouts" / "00002.safetensors").unlink()
    train_confidence(path, chains, cut)
    names = [file.relative_to(uncut) for file in sorted(uncut.rglob("*.safetensors"))]
    assert len(names) == 4 + 2
    assert all((cut / name).read_bytes() == (uncut / name).read_bytes() for name in names)
    validations = [row["validation"] for row in read_rows(uncut / "log.jsonl") if "validation" in row]
    assert len(validations) == 3 and validations[-1].keys() == {"plddt", "pae", "pde", "resolved"}


def test_only_the_head_changes(chains: ChainSet, path: Path, tmp_path: Path) -> None:
    """The published model has another head and the sampling that the run says, and every other tensor of the model that it was given."""
    sampling = Sampling(cycles=1, steps=3, step_scale=1.25)
    train_confidence(path, chains, tmp_path / "run", task={"sampling": dataclasses.asdict(sampling)})
    before, after = load_model(str(path)), load_model(str(tmp_path / "run" / "model.safetensors"))
    weights = [one.network.state_dict() for one in (before, after)]
    changed = {name for name in weights[0] if not torch.equal(weights[0][name], weights[1][name])}
    assert changed and all(name.startswith("confidence.") for name in changed)
    assert after.config == dataclasses.replace(before.config, sampling=sampling)


def test_a_head_is_told_the_size(chains: ChainSet, path: Path, tmp_path: Path) -> None:
    """With `size` the head gets one more matrix: without effect at first, trained then, and there when the model is loaded."""
    before = load_model(str(path)).network
    told = told_size(before)
    assert told.confidence.size is not None and not told.confidence.size.weight.any() and told_size(told) is told
    assert all(torch.equal(weight, told.state_dict()[name]) for name, weight in before.state_dict().items())
    train_confidence(path, chains, tmp_path / "run", task={"size": True})
    after = load_model(str(tmp_path / "run" / "model.safetensors"))
    assert after.config.confidence.size and after.network.confidence.size is not None and after.network.confidence.size.weight.any()


def test_rollouts_of_another_model_are_refused(chains: ChainSet, path: Path, tmp_path: Path) -> None:
    """A folder's roll-outs belong to one model and one way of making them."""
    train_confidence(path, chains, tmp_path / "run")
    (tmp_path / "run" / "run.json").unlink()
    with pytest.raises(ConfigError, match="another model or with other settings"):
        train_confidence(path, chains, tmp_path / "run", task={"rollouts": dataclasses.asdict(dataclasses.replace(ROLLOUTS, samples=3))})
    with pytest.raises(ConfigError, match="name its file"):
        train(dataclasses.replace(RUN, data=str(chains.folder)), tmp_path / "other")


def test_chains_are_whole_and_of_both_kinds(chains: ChainSet) -> None:
    """Only lengths in the range; full atoms in one pool, profiles in the other; an empty pool is named."""
    assert candidates(ROLLOUTS, chains) == ([0, 1, 2], [3, 4])
    with pytest.raises(ConfigError, match="no training chain of 30 to 60 residues has a profile"):
        candidates(dataclasses.replace(ROLLOUTS, shortest=30, longest=60), chains)


def test_rollouts_of_what_the_loader_draws(chains: ChainSet, path: Path, tmp_path: Path) -> None:
    """With `loading`, the crops are the loader's, templates among them; batches of several crops are refused."""
    loading = {"batch": 1, "tokens": 16, "buckets": [], "templates": {"slots": 1, "keep": 1.0}}
    rollouts = {"count": 3, "held_out": 1, "samples": 2, "steps": 2, "loading": loading}
    state = train_confidence(path, chains, tmp_path / "run", task={"rollouts": rollouts})
    assert state.step == 6
    made = [read_rollout(tmp_path / "run" / "rollouts" / f"{k:05}.safetensors") for k in range(3)]
    assert all(one.batch.tokens == 16 and one.batch.template_frame_mask.any() and len(one.samples) == 2 for one in made)
    with pytest.raises(ConfigError, match=r"loading\.batch: found 2"):
        train_confidence(path, chains, tmp_path / "two", task={"rollouts": rollouts | {"loading": loading | {"batch": 2}}})


def test_rollouts_with_what_a_library_finds(chains: ChainSet, path: Path, tmp_path: Path) -> None:
    """A share of the roll-outs has the templates that a search finds, none nearer than the identity that is drawn; the others are the
    loader's to the last byte."""
    library = tmp_path / "train.library"
    own = list(chains_of_set(chains, LibrarySettings(shortest=5)))
    write_library(library, [dataclasses.replace(one, sequence=one.sequence[:8] + "WW" + one.sequence[10:]) for one in own], {})
    loading = {"batch": 1, "tokens": 40, "buckets": [], "templates": {"slots": 1, "keep": 0.0}}
    rollouts = {"count": 8, "held_out": 1, "samples": 1, "steps": 2, "loading": loading}
    searched = rollouts | {"library": str(library), "searched": 0.5, "max_identity": [1.0]}
    train_confidence(path, chains, tmp_path / "loader", task={"rollouts": rollouts})
    train_confidence(path, chains, tmp_path / "searched", task={"rollouts": searched})
    files = [f"rollouts/{k:05}.safetensors" for k in range(8)]
    others = [read_rollout(tmp_path / "searched" / name).batch for name in files if differ(tmp_path, name)]
    assert 2 <= len(others) <= 6 and all(batch.template_frame_mask.shape[1] == MOST for batch in others)
    batch = max(others, key=lambda batch: int(batch.template_frame_mask.sum()))
    n, same = int(batch.token_mask.sum()), batch.template_restype == batch.restype[:, None]
    assert batch.template_frame_mask[0, 0, 10:n].all() and same[0, 0, 10:n].all()
    assert (batch.template_restype[0, :, n:] == chemistry.GAP).all() and not batch.template_frame_mask[0, 1:].any()
    found = (library, library_index(library))
    for identity, frames in ((0.99, batch.template_frame_mask), (0.3, torch.zeros_like(batch.template_frame_mask))):
        again = with_searched(Example(batch, torch.zeros(1), torch.zeros(1)), found, identity).batch
        assert torch.equal(again.template_frame_mask, frames) and torch.equal(again.restype, batch.restype)
    pair = dataclasses.replace(batch, asym_id=batch.asym_id + (torch.arange(batch.tokens) > 5).int())
    with pytest.raises(ConfigError, match="two_A is not one protein chain"):
        with_searched(Example(pair, torch.zeros(1), torch.zeros(1), ("two_A",)), found, 0.99)
    with pytest.raises(ConfigError, match="absent is no structure library"):
        train_confidence(path, chains, tmp_path / "absent", task={"rollouts": searched | {"library": "absent"}})


def differ(folder: Path, name: str) -> bool:
    return (folder / "loader" / name).read_bytes() != (folder / "searched" / name).read_bytes()


def test_rollouts_of_chains_that_were_not_trained_on(path: Path, tmp_path: Path) -> None:
    """Chains of other splits, each split as often as the next, a cluster before a chain; without the clusters that are judged."""
    rng = np.random.default_rng(1)
    training, unseen = random_chains(rng, 9, 16), random_chains(rng, 5, 14, split="val")
    test = random_chains(rng, 1, 14, split="test")
    groups = [0, 1, 2, 3, 3, 4, 4, 4, 5, 6, 7, 8, 9, 9, 10]  # of `training`, `unseen` and `test`; below: 3 is judged, 4 is not
    folder = write_archive(tmp_path / "chains", [*training, *unseen, *test], rng, groups)
    rows = [
        ("train3_A", "homolog"),
        ("train4_A", "near"),
        ("train5_A", "near"),
        ("train6_A", "near"),
        ("train7_A", "near"),
        ("train8_A", "near"),
    ]
    (tmp_path / "held.tsv").write_text(
        "id\tsplit\tbin\trelative\tidentity\tcoverage\n" + "".join(f"{name}\t{split}\t0-0\ttrain0_A\t0.5\t1.0\n" for name, split in rows)
    )
    chains, own = ChainSet(folder, tmp_path / "held.tsv"), Unseen(str(tmp_path / "held.tsv"), ("val", "near"), judged=1)
    first = in_judged_order(chains.split("val"), chains.name)[0]
    weights = {chains.name(unit.entry): unit.weight for unit in unseen_units(chains, own)}
    alone = [name for name in ("val0_A", "val1_A", "val2_A") if name != chains.name(first)]
    pair = ["val3_A", "val4_A"] if chains.name(first) not in ("val3_A", "val4_A") else []
    assert weights.keys() == {*alone, *pair, "train5_A", "train6_A", "train7_A", "train8_A"}
    assert weights["train5_A"] == pytest.approx(1 / 6) and weights["train8_A"] == pytest.approx(1 / 2)
    assert sum(weights.values()) == pytest.approx(2.0) and all(
        weights[name] == pytest.approx(1 / (len(alone) + bool(pair))) for name in alone
    )
    for split in ("train", "test", "none"):
        with pytest.raises(ConfigError, match=f"unseen.splits: found '{split}'; expected val"):
            unseen_units(chains, dataclasses.replace(own, splits=(split,)))
    with pytest.raises(ConfigError, match="found 'val'"):
        unseen_units(chains, dataclasses.replace(own, judged=5))
    loading = {"batch": 1, "tokens": 16, "buckets": [], "templates": {"slots": 0}}
    rollouts = {"count": 6, "held_out": 1, "samples": 1, "steps": 2, "loading": loading, "unseen": dataclasses.asdict(own)}
    train_confidence(path, chains, tmp_path / "run", task={"rollouts": rollouts})
    made = [read_rollout(tmp_path / "run" / "rollouts" / f"{k:05}.safetensors").batch for k in range(6)]
    with pytest.raises(ConfigError, match=r"task\.rollouts\.unseen: needs .* found no loading"):
        train_confidence(path, chains, tmp_path / "none", task={"rollouts": rollouts | {"loading": None}})
    with pytest.raises(ConfigError, match="a set of chains as data; found "):
        train_confidence(path, chains, tmp_path / "empty", data=str(tmp_path / "run"), task={"rollouts": rollouts})
    shown = {tuple(batch.restype[0, batch.token_mask[0]].tolist()) for batch in made}
    assert shown <= {tuple(AMINO_ACIDS.index(a) for a in one.sequence) for one in (*training, *unseen) if one.id in weights}


def test_an_epoch_shows_every_rollout_once() -> None:
    """Seven roll-outs: fourteen places hold each one twice, in orders of their own."""
    paths = [Path(str(k)) for k in range(7)]
    shown = [in_epochs(paths, place, 2) for place in range(14)]
    assert sorted(shown[:7]) == sorted(shown[7:]) == paths and shown[:7] != shown[7:]


def test_the_run_that_ships_can_be_read() -> None:
    """The configurations of the default model's head are valid and train on most of their roll-outs, more than once."""
    folder = Path(__file__).parents[2] / "configs"
    runs = [read_run(folder / f"train_{name}.yaml") for name in ("confidence", "default_confidence", "default_calibration")]
    assert task_settings(runs[2]).rollouts.unseen.holdout == "data/homolog.tsv"  # type: ignore[attr-defined]
    for run in runs:
        rollouts = task_settings(run).rollouts  # type: ignore[attr-defined]
        assert rollouts.held_out < 0.2 * rollouts.count and run.steps > rollouts.count - rollouts.held_out
