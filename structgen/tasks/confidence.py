"""Training of the confidence head alone, on roll-outs of a finished model.

Two parts, each of which goes on where it was cut off: the roll-outs (one file each, drawn from (seed, number) alone), then the head's steps
over them. Nothing but the head is changed, so the model's structures stay what they were.
"""

from __future__ import annotations

import copy
import dataclasses
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from torch import Tensor

from structgen import heads
from structgen.alphafold3.config import Sampling
from structgen.alphafold3.labels import PROTEIN
from structgen.alphafold3.model import AlphaFold3, Model, save_model
from structgen.alphafold3.rollout import ConfidenceLoss, ConfidenceTerms, Rollout, roll_out
from structgen.data.dataset import ChainDataset, Unit
from structgen.data.examples import Loading
from structgen.data.sampling import Sampler
from structgen.data.stream import Stream, open_dataset
from structgen.errors import ConfigError
from structgen.features import chemistry
from structgen.features.chains import ChainSet, in_judged_order
from structgen.features.examples import Crops, Example, draw_example
from structgen.features.templates import MOST, padded_templates
from structgen.generative import generators
from structgen.generative.ema import Weights
from structgen.search.library import is_library
from structgen.search.template_index import TemplateIndex, library_index
from structgen.search.templates import TemplateSettings, find_templates
from structgen.store import replace_file
from structgen.tasks.crops import means
from structgen.tasks.structure import with_weights
from structgen.tasks.task import Context, Task
from structgen.train import Metrics

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Unseen:
    """Chains of a set that the network was not trained on: it knows less of them than of its own, so a head that was to learn from those
    alone would say too much of new ones. Clusters that are judged stay out.
    """

    holdout: str = ""  # the table that the network's training data were made with, where there was one
    splits: tuple[str, ...] = ("val",)  # drawn from equally often, and of each a cluster first
    judged: int = 48  # the first so many primary chains of `val` and chains of `homolog`, as `structgen evaluate --limit` takes them


@dataclass(frozen=True)
class Rollouts:
    """Which chains are rolled out and how.

    Whole chains of `shortest` to `longest` residues of a set, a cluster first and then a chain in it; or, with `loading`, what the loader
    draws of any data, with templates where it gives some (then only `shortest`, `longest`, `full_atom_share` and what is said of evidence
    beside it are not read).
    """

    count: int = 160
    held_out: int = 16  # the last ones are not trained on; the head's loss on them is the validation
    shortest: int = 40
    longest: int = 192
    full_atom_share: float = 0.5  # of the roll-outs, of chains with side chains; the rest has a profile
    profile_keep: float = 0.75
    gap_share: float = 0.4
    samples: int = 3
    steps: int = 20
    loading: Loading | None = None  # of one crop a batch
    unseen: Unseen | None = None  # which chains the loader draws from, instead of a split
    library: str = ""  # a structure library's file: some crops are shown what predictions would find in it, not the loader's templates
    searched: float = 0.4  # share of these
    max_identity: tuple[float, ...] = (0.3, 0.3, 0.5, 0.7, 0.95)  # one is drawn for each: nearer relatives are as if not known


@dataclass(frozen=True)
class ConfidenceTraining:
    """All that a training of the head is, beside the loop and `init`, the model: what `task:` of `kind: confidence` holds."""

    sampling: Sampling | None = None  # how the finished model is run when the user does not say; its own if not given
    size: bool = False  # give a head without it the number of tokens as an input that starts at no effect
    rollouts: Rollouts = field(default_factory=Rollouts)
    loss: ConfidenceTerms = field(default_factory=ConfidenceTerms)

    def build(self, context: Context) -> ConfidenceTask:
        return ConfidenceTask(self, context)


class ConfidenceTask(Task[Rollout]):
    """Makes the roll-outs that are missing, then draws them in epochs."""

    network: AlphaFold3

    def __init__(self, settings: ConfidenceTraining, context: Context) -> None:
        if not context.init:
            raise ConfigError("init: a confidence head is trained on roll-outs of a model: name its file")
        model = heads.load(context.init)
        network = told_size(model.network) if settings.size else model.network
        self.settings, self.context, self.network = settings, context, network.to(context.device)
        self.network.config = dataclasses.replace(self.network.config, sampling=settings.sampling or self.network.config.sampling)
        self.paths = self._rolled_out(model)
        self.network.confidence.requires_grad_(True).train()
        self._loss = ConfidenceLoss(self.network.confidence, settings.loss)

    @property
    def trained_on(self) -> list[Path]:
        return self.paths[: len(self.paths) - self.settings.rollouts.held_out]

    def example(self, place: int) -> Rollout:
        """Every epoch is a permutation of its own."""
        return read_rollout(in_epochs(self.trained_on, place, self.context.seed))

    def loss(self, example: Rollout, rng: torch.Generator) -> tuple[Tensor, Metrics]:
        return self._loss(example.to(self.context.device), rng)

    def config(self) -> str:
        return self.network.config.to_json()

    def publish(self, average: Weights, path: Path, *, card: str) -> None:
        save_model(with_weights(self.network, average), path, card=card)

    @torch.no_grad()
    def validate(self, average: Weights) -> Metrics:
        """Mean losses of the averaged head, without dropout, on the first sample of every held-out roll-out."""
        head = copy.deepcopy(self.network.confidence).eval()
        head.load_state_dict({n.removeprefix("confidence."): w for n, w in average.items() if n.startswith("confidence.")})
        judged = dataclasses.replace(self._loss, head=head)
        held_out = self.paths[len(self.trained_on) :]
        return means([judged.of_sample(read_rollout(path).to(self.context.device), 0)[1] for path in held_out]) if held_out else {}

    def names(self, example: Rollout) -> Sequence[str]:
        return ()

    def tensors(self, example: Rollout) -> dict[str, Tensor]:
        return example.tensors()

    def _rolled_out(self, model: Model) -> list[Path]:
        folder, own = self.context.out / "rollouts", self.settings.rollouts
        if own.unseen and not (own.loading and (self.context.data / "chains.tsv.gz").exists()):
            found = f"{self.context.data}" if own.loading else "no loading"
            raise ConfigError(f"task.rollouts.unseen: needs task.rollouts.loading, and a set of chains as data; found {found}")
        folder.mkdir(parents=True, exist_ok=True)
        settings = {"rollouts": dataclasses.asdict(own), "sampling": dataclasses.asdict(self.network.config.sampling)}
        claim(folder / "made_of.json", {"model": model.digest, "seed": self.context.seed, **settings})
        return Maker(self).paths(folder)


@dataclass(frozen=True, eq=False)
class Maker:
    """Roll-outs of a task's network, one file each; those that are there already are kept."""

    task: ConfidenceTask

    @cached_property
    def chains(self) -> ChainSet:
        return ChainSet(self.task.context.data)

    @cached_property
    def stream(self) -> Stream:
        """Of the loader. Raises `ConfigError` for batches of several crops: a roll-out is one crop's."""
        own = self.task.settings.rollouts.loading
        assert own is not None
        if own.batch != 1:
            raise ConfigError(f"task.rollouts.loading.batch: found {own.batch}; expected 1")
        unseen, data, seed = self.task.settings.rollouts.unseen, self.task.context.data, self.task.context.seed
        if unseen is None:
            return Stream.of(open_dataset(data), own, seed)
        chains = ChainDataset(ChainSet(data, Path(unseen.holdout) if unseen.holdout else None))
        return Stream(chains, own, Sampler.over(unseen_units(chains.chains, unseen), chains, own.sizes, seed))

    @cached_property
    def library(self) -> tuple[Path, TemplateIndex]:
        """The structures that are searched. Raises `ConfigError` for a file that is no library."""
        path = Path(self.task.settings.rollouts.library)
        if not is_library(path):
            raise ConfigError(f"task.rollouts.library: {path} is no structure library; make one with `structgen data library`")
        return path, library_index(path)

    @cached_property
    def pools(self) -> list[list[list[int]]]:
        return [self.chains.clusters(pool) for pool in candidates(self.task.settings.rollouts, self.chains)]

    def paths(self, folder: Path) -> list[Path]:
        """The files, in order, all of them there."""
        self.task.network.eval()
        count = self.task.settings.rollouts.count
        files = [folder / f"{number:05}.safetensors" for number in range(count)]
        for number, path in enumerate(files):
            if not path.exists():
                replace_file(path, safetensors.torch.save(self._made(number).tensors()))
                log.info("roll-out %s of %s", number + 1, count)
        return files

    def _made(self, number: int) -> Rollout:
        own, seed, device = self.task.settings.rollouts, self.task.context.seed, self.task.context.device
        network = self.task.network
        sampling = dataclasses.replace(network.config.sampling, samples=own.samples, steps=own.steps)
        example = self._example(number).to(device)
        return roll_out(network, example, sampling, generators(seed, 1, first=number)[0]).to("cpu")

    def _example(self, number: int) -> Example:
        own = self.task.settings.rollouts
        if own.loading:
            example, rng = self.stream.example(number), np.random.default_rng((self.task.context.seed, 2, number))
            if own.library and rng.random() < own.searched:
                return with_searched(example, self.library, float(rng.choice(own.max_identity)))
            return example
        crops = Crops(tokens=own.longest, batch=1, profile_keep=own.profile_keep, gap_share=own.gap_share)
        data = np.random.default_rng((self.task.context.seed, number))
        pool = self.pools[int(data.random() >= own.full_atom_share)]
        return draw_example(self.chains, pool, crops, data)


def unseen_units(chains: ChainSet, own: Unseen) -> list[Unit]:
    """What can be drawn of chains that were not trained on. Raises `ConfigError` for `train`, for `test`, and for a split that has none."""
    judged = [i for s in ("val", "homolog") for i in in_judged_order(chains.split(s, primary=s == "val"), chains.name)[: own.judged]]
    taken = {chains.rows[i]["cluster"] for i in judged}
    units = []
    for split in own.splits:
        clusters = [c for c in chains.clusters(chains.split(split)) if chains.rows[c[0]]["cluster"] not in taken]
        if split in ("train", "test") or not clusters:
            expected = "val, or a split of the table of held-out chains, with clusters that are not judged"
            raise ConfigError(f"task.rollouts.unseen.splits: found {split!r}; expected {expected}")
        units += [Unit(i, (0,), 1.0 / len(cluster) / len(clusters)) for cluster in clusters for i in cluster]
    return units


def with_searched(example: Example, library: tuple[Path, TemplateIndex], max_identity: float) -> Example:
    """A crop of one protein chain (b = 1) with the templates that its sequence and profile find, none that are more like it than that.

    Raises `ConfigError` for a crop of anything else: templates of complexes are not searched here.
    """
    batch, (path, index) = example.batch, library
    n = int(batch.token_mask[0].sum())
    if len(batch.asym_id[0, :n].unique()) > 1 or (batch.kind[0, :n] != PROTEIN).any():
        where = ", ".join(example.names) or "a crop"
        raise ConfigError(f"task.rollouts.library: {where} is not one protein chain; leave it out, or train on data of single chains")
    sequence = "".join((chemistry.AMINO_ACIDS + "X" * 12)[k] for k in batch.restype[0, :n].tolist())
    shown = batch.profile[0, :n, : len(chemistry.AMINO_ACIDS)].numpy()  # gaps aside; of the letters alone where no profile is shown
    frequencies = shown / np.maximum(shown.sum(1, keepdims=True), 1e-6)
    found = find_templates(sequence, None, index, path, TemplateSettings(max_identity=max_identity), frequencies)
    arrays = {name: torch.from_numpy(array)[None] for name, array in padded_templates(found, MOST, batch.tokens).items()}
    return dataclasses.replace(example, batch=dataclasses.replace(batch, **arrays))


def told_size(network: AlphaFold3) -> AlphaFold3:
    """The same network, whose confidence head knows the number of tokens; as it was until that input is trained."""
    if network.config.confidence.size:
        return network
    config = dataclasses.replace(network.config, confidence=dataclasses.replace(network.config.confidence, size=True))
    told = heads.build(config)
    told.load_state_dict(told.state_dict() | network.state_dict())
    return told.eval().requires_grad_(False)


def claim(path: Path, identity: dict[str, object]) -> None:
    """Write what a folder's roll-outs are made of. Raises `ConfigError` if it holds those of another model or other settings."""
    text = json.dumps(identity, sort_keys=True, indent=1) + "\n"
    if not path.exists():
        replace_file(path, text.encode())
    elif path.read_text(encoding="utf-8") != text:
        raise ConfigError(f"{path}: this folder holds roll-outs of another model or with other settings; give another --out or remove it")


def candidates(own: Rollouts, chains: ChainSet) -> tuple[list[int], list[int]]:
    """Training chains of the right length: those with side chains, and those with a profile. Raises `ConfigError` if either is empty."""
    fitting = [i for i in chains.split("train") if own.shortest <= chains.length(i) <= own.longest]
    full, known = [i for i in fitting if chains.rows[i]["tier"] == "full"], [i for i in fitting if chains.has_profile(i)]
    for name, pool, share in (("side chains", full, own.full_atom_share), ("a profile", known, 1 - own.full_atom_share)):
        if not pool and share > 0:
            lengths = f"{own.shortest} to {own.longest} residues"
            raise ConfigError(f"{chains.folder}: no training chain of {lengths} has {name}; change task.rollouts")
    return full, known


def in_epochs(paths: Sequence[Path], place: int, seed: int) -> Path:
    """The file at a place of an endless order in which every epoch is a permutation of its own."""
    order = np.random.default_rng((seed, place // len(paths))).permutation(len(paths))
    return paths[order[place % len(paths)]]


def read_rollout(path: Path) -> Rollout:
    """A roll-out that a `Maker` wrote."""
    return Rollout.from_tensors(safetensors.torch.load_file(path))
