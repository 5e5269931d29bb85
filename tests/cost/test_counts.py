"""The terms of the cost model beside what a fold really multiplies, and how they grow."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.overrides import TorchFunctionMode

from structgen.alphafold3.config import Config, Msa, Sampling, small
from structgen.alphafold3.model import AlphaFold3
from structgen.cost.counts import GIGA, PHASES, memory, operations
from structgen.cost.measured import made_job, made_msa
from structgen.cost.work import Work, mean_rows, most_rows, smaller_parts, work_of
from structgen.features.atoms import build_atoms
from structgen.features.featurise import featurise
from structgen.features.job import Kind
from structgen.features.tokens import tokenise


class Multiplications(TorchFunctionMode):
    """Counts the multiplications of every matrix product and attention that torch is asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_function__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        out = func(*args, **(kwargs or {}))
        name = getattr(func, "__name__", str(func))
        if "linear" in name:
            self.count += args[0].numel() * args[1].shape[0]
        elif name in ("matmul", "__matmul__", "bmm", "mm"):
            self.count += out.numel() * args[0].shape[-1]
        elif name == "baddbmm":
            self.count += out.numel() * args[1].shape[-1]
        elif name == "scaled_dot_product_attention":
            self.count += 2 * args[0].numel() * args[1].shape[-2]
        return out


def counted(call: Any) -> tuple[Any, float]:
    with Multiplications() as multiplications, torch.no_grad():
        out = call()
    return out, multiplications.count / GIGA


@pytest.mark.parametrize(("residues", "rows", "kind"), [(96, 1, Kind.PROTEIN), (64, 48, Kind.PROTEIN), (32, 1, Kind.RNA)])
def test_operations_are_those_of_the_network(residues: int, rows: int, kind: Kind):
    """Every phase within 15 % of what torch multiplies, the condition of the steps within 20 %."""
    config = Config(**{**vars(small()), "msa": Msa(**{**vars(small().msa), "rows": 64, "subset": "all"})})
    network, sampling = AlphaFold3(config).eval(), Sampling(cycles=1, samples=2, steps=1)
    job = made_job(residues, kind)
    tokens = tokenise(build_atoms(job))
    batch = featurise(tokens, [made_msa(job.chains[0].sequence, kind, rows)])
    work = work_of(tokens, sampling, rows=rows)
    terms = operations(config, work)
    expected = {phase: sum(amount for name, amount in terms[phase].items() if name != "calls") for phase in PHASES}
    trunk, found = counted(lambda: network.trunk(batch, cycles=1, rng=torch.Generator()))
    assert found == pytest.approx(expected["trunk"], rel=0.15)
    condition, found = counted(lambda: network.diffusion.condition(batch, trunk))
    assert found == pytest.approx(expected["condition"], rel=0.2)
    x, t = torch.randn(2, batch.atoms, 3), torch.full((2,), 4.0)
    _, found = counted(lambda: network.denoiser(x, t, t / 2, condition))
    assert found == pytest.approx(expected["steps"], rel=0.15)
    _, found = counted(lambda: network.confidence(batch, trunk, x[:1], None))
    scores = terms["confidence"]["dense"] + terms["confidence"]["cubic"]
    assert found == pytest.approx(scores / 2, rel=0.15)


WORK = Work(tokens=200, atoms=1600, rows=100, templates=0, samples=5, steps=20, cycles=2)


def test_terms_grow_as_they_should():
    """Twice the tokens: 8 times the cubic term; twice the steps, cycles or samples: twice what they repeat, and nothing else."""
    config = small()

    def terms(**changes: int) -> dict[str, Any]:
        return {phase: dict(values) for phase, values in operations(config, Work(**{**vars(WORK), **changes})).items()}

    one = terms()
    assert terms(tokens=400)["trunk"]["cubic"] == 8 * one["trunk"]["cubic"]
    steps = terms(steps=40)
    assert steps["steps"] == {name: 2 * amount for name, amount in one["steps"].items()} and steps["trunk"] == one["trunk"]
    cycles = terms(cycles=4)["trunk"]
    assert {name: cycles[name] / one["trunk"][name] for name in cycles} == {"calls": 2.0, "dense": 2.0, "cubic": 2.0, "atoms": 1.0}
    assert terms(samples=10)["confidence"] == {name: 2 * amount for name, amount in one["confidence"].items()}


def test_fewer_samples_at_once_take_less_memory_and_more_calls():
    config, parts = small(), WORK.in_parts(2)
    whole, part = memory(config, WORK, "float32")["steps"], memory(config, parts, "float32")["steps"]
    assert part["scores"] == whole["scores"] * 2 / 5 and part["pair"] == whole["pair"]
    assert operations(config, parts)["steps"]["calls"] == 3 * operations(config, WORK)["steps"]["calls"]
    assert memory(config, WORK, "bfloat16")["steps"]["biases"] == whole["biases"] / 2


def test_rows_that_a_cycle_reads():
    """All, the first few, or a uniform number: the mean of min(k, 4) over k = 1..6 is (1 + 2 + 3 + 4 + 4 + 4) / 6."""
    assert mean_rows(6, Msa(rows=4, subset="random_depth")) == pytest.approx(3.0)
    assert mean_rows(6, Msa(rows=4, subset="all")) == 4.0 and most_rows(6, Msa(rows=4)) == 4 and most_rows(2, Msa(rows=4)) == 2
    assert smaller_parts(5) == [5, 3, 2, 1]
