"""How fast crops are made: `python -m benchmarks.loader DIR|ARCHIVE.zarr [--steps 60]`. Prints a Markdown table.

CPU seconds of one process, so that a busy machine does not change the result: crops for a CPU second, with and without templates, beside
the way that builds every crop as a job (`features.examples.draw_example`); what share of a batch is padding; where the time goes.
"""

from __future__ import annotations

import argparse
import cProfile
import pstats
import time
from itertools import islice
from pathlib import Path

import numpy as np
import torch

from structgen.data.archive import Archive
from structgen.data.dataset import ChainDataset, Dataset
from structgen.data.examples import Loading, TemplateDraws
from structgen.data.loader import examples
from structgen.features.chains import ChainSet
from structgen.features.examples import Crops, draw_example

PARTS = {
    "crop": "crops.py:crop",
    "tokens and atoms by table": "assemble.py:assemble",
    "templates": "examples.py:_templates",
    "evidence": "examples.py:_profile",
    "padding": "examples.py:_padded",
    "conformers": "examples.py:_posed",
    "tensors": "examples.py:to_example",
}


def measure(dataset: Dataset, settings: Loading, steps: int) -> tuple[float, float, int]:
    """Crops a CPU second, share of padded tokens, number of shapes."""
    stream = examples(dataset, settings, 1)
    next(stream)
    start, real, padded, shapes = time.process_time(), 0, 0, set()
    for example in islice(stream, steps):
        real += int(example.batch.token_mask.sum())
        padded += example.batch.token_mask.numel()
        shapes.add((example.batch.tokens, example.batch.atoms))
    return steps * settings.batch / (time.process_time() - start), 1 - real / padded, len(shapes)


def shares(dataset: Dataset, settings: Loading, steps: int) -> dict[str, float]:
    """Share of the time of each part."""
    profile, stream = cProfile.Profile(), examples(dataset, settings, 1)
    next(stream)
    profile.enable()
    for _ in range(steps):
        next(stream)
    profile.disable()
    stats = pstats.Stats(profile).stats  # type: ignore[attr-defined]
    spent = {f"{Path(file).name}:{name}": cumulative for (file, _, name), (_, _, _, cumulative, _) in stats.items()}
    total = max(spent.values())
    return {part: spent.get(name, 0.0) / total for part, name in PARTS.items()}


def main() -> None:
    """The command line of this module."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--tokens", type=int, default=256)
    parser.add_argument("--batch", type=int, default=8)
    options = parser.parse_args()
    torch.set_num_threads(1)
    is_archive = options.data.suffix == ".zarr"
    dataset: Dataset = Archive(options.data) if is_archive else ChainDataset.open(options.data)
    plain = Loading(batch=options.batch, tokens=options.tokens)
    shown = Loading(batch=options.batch, tokens=options.tokens, templates=TemplateDraws(slots=4))
    print("| what is loaded | crops a CPU second | padding | shapes |\n| --- | --- | --- | --- |")
    for name, settings in (("chains, no templates", plain), ("chains, up to four templates", shown)):
        rate, waste, shapes = measure(dataset, settings, options.steps)
        print(f"| {name} | {rate:.0f} | {waste:.1%} | {shapes} |")
    if not is_archive:
        chains = ChainSet(options.data)
        clusters, rng = chains.clusters(chains.split("train")), np.random.default_rng(1)
        start = time.process_time()
        for _ in range(max(1, options.steps // 8)):
            draw_example(chains, clusters, Crops(tokens=options.tokens, batch=options.batch), rng)
        rate = max(1, options.steps // 8) * options.batch / (time.process_time() - start)
        print(f"| every crop as a job, no templates, no buckets | {rate:.0f} | | |")
    print("\n| part | share of the time |\n| --- | --- |")
    for part, share in shares(dataset, shown, max(1, options.steps // 3)).items():
        print(f"| {part} | {share:.0%} |")


if __name__ == "__main__":
    main()
