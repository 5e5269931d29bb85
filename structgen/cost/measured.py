"""The phases of a fold measured while it runs: seconds of the processor and of the clock, and the process's memory at its peak.

`python -m structgen.cost.measured CASE` measures one case in a process of its own, which is how a calibration does it: memory that an
earlier fold left behind would count otherwise.
"""

from __future__ import annotations

import gc
import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from structgen import heads, predict
from structgen.alphafold3.config import Sampling
from structgen.alphafold3.model import Model
from structgen.cost.counts import MIB, PHASES
from structgen.cost.work import Work, work_of
from structgen.features.atoms import build_atoms
from structgen.features.batch import Batch
from structgen.features.featurise import featurise
from structgen.features.job import Chain, Job, Kind
from structgen.features.msa import Msa, query_only
from structgen.features.tokens import Tokens, tokenise
from structgen.heap import trim
from structgen.precision import Precision

RESIDUES = {Kind.PROTEIN: "MKTAYIAKQRQISFVSHFSRQLEERLGLIEVQAPILSRVGDGTQDNLSGAEKAVQVWCHPMTN", Kind.RNA: "GGCUAACGGAUCUCAGUUAC"}
WARM_UP = 24  # residues of the fold before the one that is measured: it loads what every fold needs


@dataclass(frozen=True)
class Phase:
    """One phase of a fold."""

    cpu: float = 0.0  # seconds
    wall: float = 0.0  # seconds
    mib: float = 0.0  # most resident memory above the process's before the features were there


@dataclass(frozen=True)
class Case:
    """A fold to be measured."""

    model: str
    precision: Precision
    threads: int
    residues: int
    rows: int
    sampling: Sampling
    kind: Kind = Kind.PROTEIN
    repeats: int = 1  # of which the shortest time counts; memory is that of the first


@dataclass(frozen=True)
class Measurement:
    """What a fold took."""

    work: Work
    phases: dict[str, Phase]
    resident: float  # MiB of the process before the features were there, model loaded and warm
    weights: float  # MiB of these, the network's own
    featurise: Phase

    @property
    def cpu(self) -> float:
        """Seconds of the processor for the whole fold."""
        return sum(phase.cpu for phase in self.phases.values())

    @property
    def wall(self) -> float:
        """Seconds of the clock for the whole fold."""
        return sum(phase.wall for phase in self.phases.values())

    @property
    def peak(self) -> float:
        """MiB of the process at its peak."""
        return self.resident + max(phase.mib for phase in self.phases.values())

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Measurement:
        """Inverse of `to_json`."""
        phases = {name: Phase(**phase) for name, phase in values["phases"].items()}
        return cls(Work(**values["work"]), phases, values["resident"], values["weights"], Phase(**values["featurise"]))


def made_job(residues: int, kind: Kind) -> Job:
    """A job of one chain of that length with the composition of real ones."""
    letters = RESIDUES[kind]
    return Job("calibration", "calibration", (Chain("A", kind, (letters * (residues // len(letters) + 1))[:residues]),))


def made_msa(query: str, kind: Kind, rows: int) -> Msa:
    """An alignment of that depth whose rows differ from the query in a third of the columns."""
    first, rng = query_only(query, kind), np.random.default_rng(0)
    drawn = np.repeat(first.rows, rows, axis=0)
    changed = rng.random(drawn.shape) < 1 / 3
    changed[0] = False
    drawn[changed] = rng.permutation(drawn[changed])
    return Msa(drawn, np.zeros(drawn.shape, np.int32), tuple(f"row{n}" for n in range(rows)))


def measure(case: Case) -> Measurement:
    """Load the model, fold something small, then fold the case and watch it."""
    torch.set_num_threads(case.threads)
    model = heads.load(case.model, precision=case.precision)
    small = Case(**{**vars(case), "residues": WARM_UP, "rows": min(case.rows, 4), "kind": Kind.PROTEIN})
    for _ in range(2):
        _features(small)
        watched(*_features(small), model, Sampling(cycles=1, samples=1, steps=2), 0.0)
    gc.collect()
    trim()
    resident, before = status_mib("VmRSS"), _clock()
    tokens, batch = _features(case)
    features = _since(before)
    work = work_of(tokens, case.sampling, rows=batch.msa.shape[1])
    phases = watched(tokens, batch, model, case.sampling, resident)
    for _ in range(case.repeats - 1):
        phases = _sooner(phases, watched(tokens, batch, model, case.sampling, resident))
    return Measurement(work, phases, resident, weights_mib(model.network), features)


def weights_mib(network: torch.nn.Module) -> float:
    """Memory of a network's own tensors."""
    return sum(tensor.numel() * tensor.element_size() for tensor in network.state_dict().values()) / MIB


def _sooner(first: dict[str, Phase], second: dict[str, Phase]) -> dict[str, Phase]:
    return {name: Phase(min(a.cpu, second[name].cpu), min(a.wall, second[name].wall), a.mib) for name, a in first.items()}


def _features(case: Case) -> tuple[Tokens, Batch]:
    job = made_job(case.residues, case.kind)
    tokens = tokenise(build_atoms(job))
    return tokens, featurise(tokens, [made_msa(job.chains[0].sequence, case.kind, case.rows)])


def watched(tokens: Tokens, batch: Batch, model: Model, sampling: Sampling, resident: float) -> dict[str, Phase]:
    """Fold, and say what every phase took, and how much memory above the `resident` MiB."""
    phases: dict[str, Phase] = {}
    last = _clock()
    _reset_peak()

    def ends(phase: str) -> None:
        nonlocal last
        spent = _since(last)
        phases[phase] = Phase(spent.cpu, spent.wall, max(0.0, status_mib("VmHWM") - resident))
        trim()  # as the fold itself does here, but before the next phase's peak is counted
        _reset_peak()
        last = _clock()

    def stepped(done: int, steps: int) -> None:
        if done == steps:
            ends("steps")

    with _phases(model, ends):
        predict.fold(tokens, batch, model, sampling, 1, on_step=stepped)
    ends("confidence")
    return {phase: phases[phase] for phase in PHASES}


@contextmanager
def _phases(model: Model, ends: Callable[[str], None]) -> Iterator[None]:
    """Tell where the trunk ends and where the first denoising begins."""
    network, conditioned = model.network, False

    def denoising(*_: Any) -> None:
        nonlocal conditioned
        if not conditioned:
            conditioned = True
            ends("condition")

    hooks = [
        network.trunk.register_forward_hook(lambda *_: ends("trunk")),
        network.denoiser.register_forward_pre_hook(denoising),
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _clock() -> tuple[float, float]:
    return time.process_time(), time.perf_counter()


def _since(before: tuple[float, float]) -> Phase:
    return Phase(time.process_time() - before[0], time.perf_counter() - before[1])


def _reset_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # Linux: VmHWM becomes VmRSS


def status_mib(key: str) -> float:
    """A size that Linux tells of this process, such as VmRSS, in MiB; 0 on systems that do not."""
    try:
        with open("/proc/self/status", encoding="ascii", errors="replace") as file:
            return next(int(line.split()[1]) * 1024 / MIB for line in file if line.startswith(key))
    except OSError:
        return 0.0


def case_of(text: str) -> Case:
    """A case as JSON."""
    values = json.loads(text)
    return Case(**{**values, "sampling": Sampling(**values["sampling"]), "kind": Kind(values["kind"])})


def case_text(case: Case) -> str:
    """Inverse of `case_of`."""
    return json.dumps({**asdict(case), "kind": case.kind.value})


if __name__ == "__main__":
    sys.stdout.write(json.dumps(measure(case_of(sys.argv[1])).to_json()) + "\n")
