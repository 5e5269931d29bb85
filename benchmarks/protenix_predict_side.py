"""One side of `protenix_predict`: loads the weights, says so, predicts once, says what it took and leaves its answer in the folder."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import save_file
from torch import Tensor

from benchmarks.fidelity_job import SEED, Draws
from benchmarks.predict import SEQUENCE
from benchmarks.protenix_checkpoint import memory
from benchmarks.protenix_predict import NATIVE, OURS, WAYS, Task
from structgen.alphafold3 import protenix
from structgen.alphafold3.config import Config, Sampling
from structgen.features.atoms import build_atoms
from structgen.features.batch import Batch
from structgen.features.conformers import pose_conformers
from structgen.features.featurise import featurise
from structgen.features.job import Chain, Job, Kind
from structgen.features.msa import Msa, query_only
from structgen.features.tokens import Tokens, tokenise
from structgen.predict import fold, generator

Answer = dict[str, np.ndarray]
MODELS = {"tiny": protenix.tiny_v0_5, "mini": protenix.mini_v0_5, "base": protenix.base_v0_5}
CHANGED = 0.6  # of the letters of an alignment's row


def main() -> None:
    task = Task(**json.loads(sys.argv[1]))
    torch.set_num_threads(task.threads)
    if task.way == "checkpoint":
        return write_checkpoint(task)
    predict = ours(task) if task.way in (OURS, NATIVE) else theirs(task)
    cpu, wall = time.process_time(), time.perf_counter()
    answer = predict()
    _say(cpu=time.process_time() - cpu, wall=time.perf_counter() - wall)
    save_file({name: np.ascontiguousarray(x) for name, x in answer.items()}, Path(task.folder, "answer.safetensors"))


def ours(task: Task) -> Any:
    """`structgen.predict.fold` as the command line calls it."""
    from structgen.alphafold3.model import load_model

    path = checkpoint(task)
    if not path.exists():
        subprocess.run([sys.executable, "-m", __spec__.name, json.dumps({**vars(task), "way": "checkpoint"})], check=True)
    model = load_model(str(path), precision="bfloat16" if task.precision == "bfloat16" else "float32")
    _loaded()
    tokens, batch = job(task)

    def predict() -> Answer:
        samples = fold(tokens, batch, model, sampling(task), SEED)
        names = {"coordinates": "positions", "plddt": "atom_plddt", "pae": "pae", "pde": "pde"}
        answer = {name: np.stack([getattr(one, field) for one in samples]) for name, field in names.items()}
        return answer | {"contacts": samples[0].contact_probs}

    return predict


def theirs(task: Task) -> Any:
    """Protenix's loop of a prediction, on our features and random numbers, without its dropout of recycled pairs."""
    from benchmarks import protenix_peer as peer
    from benchmarks.fidelity_protenix import injected

    model, settings, fast = peer.build(config(task)), sampling(task), WAYS[task.way]
    model.enable_diffusion_shared_vars_cache = model.enable_efficient_fusion = fast
    model.configs.sample_diffusion.N_sample, model.configs.sample_diffusion.N_step = settings.samples, settings.steps
    model.msa_module.msa_configs["test_lowerb"] = task.rows
    model.requires_grad_(False)
    _loaded()
    _, batch = job(task)
    posed = pose_conformers(batch, generator(SEED, "conformers"))
    frames = {"has_frame": batch.frame_mask[0], "is_ligand": torch.zeros(batch.atoms, dtype=torch.int64)}
    features = peer.features(posed, model) | frames
    draws = Draws(settings, config(task).diffusion.sigma_data, batch.atoms)

    @torch.no_grad()
    def predict() -> Answer:
        low = peer.reduced(autocast=True) if task.precision == "bfloat16" else contextlib.nullcontext()
        with injected(draws), exact_distances(), low:
            said, _, _ = model.main_inference_loop(
                features, None, settings.cycles, "inference", inplace_safe=fast, mc_dropout_apply_rate=0.0
            )
        return protenix_answer(said)

    return predict


@contextlib.contextmanager
def exact_distances() -> Iterator[None]:
    """Distances are differences, not products: by products an atom is 0.01 angstrom from itself, which the confidence head can see."""
    distances = torch.cdist
    torch.cdist = partial(distances, compute_mode="donot_use_mm_for_euclid_dist")
    try:
        yield
    finally:
        torch.cdist = distances


def protenix_answer(said: dict[str, Any]) -> Answer:
    """In our units."""

    def stacked(name: str) -> np.ndarray:
        return torch.stack([_plain(one[name]) for one in said["full_data"]]).numpy()

    return {
        "coordinates": _plain(said["coordinate"]).numpy(),
        "plddt": 100 * stacked("atom_plddt"),
        "pae": stacked("token_pair_pae"),
        "pde": stacked("token_pair_pde"),
        "contacts": _plain(said["contact_probs"]).numpy(),
    }


def config(task: Task) -> Config:
    """Of a public model, or of one with fewer blocks. All rows of the alignment are read, in any order: the mean does not see it."""
    full = MODELS[task.model]()
    full = replace(full, msa=replace(full.msa, subset="all"))
    if task.blocks is None:
        return full
    return replace(full, name=f"{full.name}, {task.blocks} blocks", pairformer=replace(full.pairformer, blocks=task.blocks))


def sampling(task: Task) -> Sampling:
    """The model's own with what was asked for."""
    own = config(task).sampling
    return replace(own, cycles=task.cycles or own.cycles, steps=task.steps or own.steps, samples=task.samples)


def job(task: Task) -> tuple[Tokens, Batch]:
    """The start of a protein, with an alignment whose rows differ from it at random."""
    sequence = SEQUENCE[: task.tokens]
    chain = Chain(id="A", kind=Kind.PROTEIN, sequence=sequence)
    tokens = tokenise(build_atoms(Job(name="albumin", slug="albumin", chains=(chain,))))
    rng, query = np.random.default_rng(SEED), query_only(sequence).rows[0]
    other = rng.integers(0, 20, (task.rows - 1, len(query)), dtype=np.uint8)
    rows = np.concatenate([query[None], np.where(rng.random(other.shape) < CHANGED, other, query)])
    msa = Msa(rows, rng.integers(0, 2, rows.shape, dtype=np.int32), tuple(f"row{i}" for i in range(len(rows))))
    return tokens, featurise(tokens, [msa])


def write_checkpoint(task: Task) -> None:
    """Protenix's random weights as our checkpoint."""
    from benchmarks import protenix_peer as peer
    from benchmarks.fidelity_rows import converted
    from structgen.alphafold3.convert_protenix import protenix_table
    from structgen.alphafold3.model import save_model

    full = config(task)
    save_model(converted(peer.build(full).state_dict(), full, protenix_table(full)), checkpoint(task))


def checkpoint(task: Task) -> Path:
    return Path(task.folder, f"{task.model}-{task.blocks}.safetensors")


def _plain(x: Tensor) -> Tensor:
    return x.detach().float()


def _loaded() -> None:
    """Say what the process holds before there are features."""
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    anonymous, resident = memory(os.getpid())
    _say(anonymous=anonymous, resident=resident)


def _say(**numbers: float) -> None:
    print(json.dumps(numbers), flush=True)


if __name__ == "__main__":
    main()
