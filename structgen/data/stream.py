"""Examples by their place in a stream: what a training loop that makes its own worker processes asks for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from structgen.data.archive import Archive
from structgen.data.dataset import ChainDataset, Dataset
from structgen.data.examples import Loading, draw_step, to_example
from structgen.data.sampling import Sampler
from structgen.errors import ConfigError
from structgen.features.chains import ChainSet
from structgen.features.examples import Example


@dataclass(frozen=True, eq=False)
class Stream:
    """The steps of `data.loader.examples`, one by one and in any order."""

    dataset: Dataset
    settings: Loading
    sampler: Sampler

    @classmethod
    def of(cls, dataset: Dataset, settings: Loading, seed: int) -> Stream:
        return cls(dataset, settings, Sampler.of(dataset, settings.split, settings.sizes, seed))

    def example(self, step: int) -> Example:
        """The whole batch of a step."""
        return to_example(draw_step(self.dataset, self.sampler, self.settings, step, range(self.settings.batch)))


def open_dataset(path: Path, holdout: Path | None = None) -> Dataset:
    """An archive, or a folder of chains without those that the table holds out.

    Raises `ConfigError` for an archive with a table: it was built with one, or without.
    """
    if not (path / "build.json").exists():
        return ChainDataset(ChainSet(path, holdout))
    if holdout is not None:
        raise ConfigError(f"{path} is an archive: give the table of held-out chains to `structgen data build --holdout`, not here")
    return Archive(path)
