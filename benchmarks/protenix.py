"""One pairformer block and one diffusion call against Protenix: the same numbers first, then time and memory in turns.

Run from the root of the repository, in an environment that has both (docs/benchmarks.md says how to make it):

    python -m benchmarks.protenix --tokens 256 --threads 1 --size tiny
"""

from __future__ import annotations

import argparse
import copy
import os
import platform
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks import protenix_peer as peer
from benchmarks.made import made_batch
from benchmarks.measure import Cost, Way, measure
from structgen.alphafold3 import protenix
from structgen.alphafold3.config import Config
from structgen.alphafold3.convert import convert
from structgen.alphafold3.convert_protenix import PAIRFORMER_BLOCK, diffusion_module
from structgen.alphafold3.diffusion import DiffusionModule
from structgen.alphafold3.pairformer import PairformerBlock
from structgen.alphafold3.trunk import TrunkOutput
from structgen.features.batch import Batch

OURS = "structgen"
TOLERANCE = 1e-4  # of the largest value, in float32
SIZES: dict[str, Callable[[], Config]] = {"tiny": protenix.tiny_v0_5, "base": protenix.base_v0_5}


@dataclass(frozen=True)
class Case:
    """One call in one precision; every way of doing it, ours under the name `OURS`."""

    call: str
    precision: str
    ways: dict[str, Way]
    first: Callable[[Any], Tensor]  # of what a way returns, the tensor that is compared


def main() -> None:
    args = _arguments()
    torch.set_num_threads(args.threads)
    config = SIZES[args.size]()
    rng = torch.Generator().manual_seed(0)
    batch = made_batch(args.tokens, atoms_per_token=args.atoms_per_token, rows=1, rng=rng)
    model = peer.build(config)
    features = peer.features(batch, model)
    block, theirs = model.pairformer_stack.blocks[0], model.diffusion_module
    del model
    trunk = TrunkOutput(
        torch.randn(1, args.tokens, config.inputs.c_s_inputs, generator=rng),
        torch.randn(1, args.tokens, config.c_s, generator=rng),
        torch.randn(1, args.tokens, args.tokens, config.c_z, generator=rng),
    )
    print(_machine(args, config))
    print("| call | precision | implementation | CPU s | wall s | peak MiB | times as slow | times the memory | difference |")
    print("|---|---|---|---|---|---|---|---|---|")
    if "pairformer" in args.calls:
        _report(pairformer_cases(config, block, trunk), args.repeats)
    del block
    if "diffusion" in args.calls:
        _report(diffusion_cases(config, theirs, batch, features, trunk, rng), args.repeats)


def pairformer_cases(config: Config, theirs: nn.Module, trunk: TrunkOutput) -> Iterator[Case]:
    """SI Algorithm 17, lines 2 to 8, in float32 and bfloat16."""
    former = config.pairformer
    block = PairformerBlock(c_s=config.c_s, heads=former.heads, transition=former.transition, pair=former.pair)
    ours = _ours(block, theirs, PAIRFORMER_BLOCK)
    kernels = {"pair_mask": None, "triangle_multiplicative": "torch", "triangle_attention": "torch", "chunk_size": None}

    def way(block: nn.Module, dtype: torch.dtype, *, in_place: bool, cast: bool = False) -> Way:
        def run(s: Tensor, z: Tensor) -> Any:
            with peer.reduced(autocast=cast):
                return block(s, z, inplace_safe=in_place, **kernels)

        return Way(run, lambda: (trunk.s[0].to(dtype, copy=True), trunk.z[0].to(dtype, copy=True)))

    def own(block: nn.Module, dtype: torch.dtype) -> Way:
        return Way(lambda s, z: block(s, z, None), lambda: (trunk.s.to(dtype, copy=True), trunk.z.to(dtype, copy=True)))

    wide, half = torch.float32, torch.bfloat16
    yield Case(
        "pairformer block",
        "float32",
        {"Protenix": way(theirs, wide, in_place=False), "Protenix, in place": way(theirs, wide, in_place=True), OURS: own(ours, wide)},
        lambda result: result[1],
    )
    low, own_low = copy.deepcopy(theirs).to(half), copy.deepcopy(ours).to(half)
    yield Case(
        "pairformer block",
        "bfloat16",
        {
            "Protenix, autocast": way(theirs, half, in_place=False, cast=True),
            "Protenix, autocast, in place": way(theirs, half, in_place=True, cast=True),
            "Protenix, bfloat16 weights, in place": way(low, half, in_place=True),
            OURS: own(own_low, half),
        },
        lambda result: result[1],
    )


def diffusion_cases(
    config: Config, theirs: Any, batch: Batch, features: dict[str, Any], trunk: TrunkOutput, rng: torch.Generator
) -> Iterator[Case]:
    """SI Algorithm 20 for one sample: with all that does not depend on the noise (cold), and without where it can be kept (a step)."""
    ours = _ours(DiffusionModule(config), theirs, diffusion_module(config))
    level, sigma = torch.tensor([10.0]), config.diffusion.sigma_data
    r, times = torch.randn(1, batch.atoms, 3, generator=rng), (torch.log(level / sigma) / 4)[:, None]
    for dtype, low in ((torch.float32, False), (torch.bfloat16, True)):
        seen = TrunkOutput(trunk.s_inputs.to(dtype), trunk.s.to(dtype), trunk.z.to(dtype))
        module = ours.to(dtype)
        kept, cond = _Kept.of(theirs, features, seen, cast=low), module.condition(batch, seen)

        def protenix_way(kept: _Kept, *, in_place: bool, fused: bool, seen: TrunkOutput = seen, cast: bool = low) -> Way:
            def run() -> Tensor:
                with peer.reduced(autocast=cast):
                    return theirs.f_forward(
                        r_noisy=r, t_hat_noise_level=level, input_feature_dict=features, s_inputs=seen.s_inputs[0], s_trunk=seen.s[0],
                        z_trunk=seen.z[0], pair_z=kept.pair_z, p_lm=kept.p_lm, c_l=kept.c_l, inplace_safe=in_place,
                        enable_efficient_fusion=fused,
                    )  # fmt: skip

            return Way(run)

        nothing = _Kept(None, None, None)
        name = "bfloat16" if low else "float32"
        plain, kept_ones = protenix_way(nothing, in_place=False, fused=False), protenix_way(kept, in_place=True, fused=True)
        fused = protenix_way(nothing, in_place=True, fused=True)
        whole = Way(lambda module=module, seen=seen: module(r, times, module.condition_once(batch, seen)))
        step = Way(lambda module=module, cond=cond: module(r, times, cond))
        cold = {"Protenix": plain, "Protenix, in place, fused": fused, OURS: whole}
        warm = {"Protenix": plain, "Protenix, in place, fused, shared variables kept": kept_ones, OURS: step}
        yield Case("diffusion call, cold", name, cold, lambda result: result)
        yield Case("diffusion call, a step", name, warm, lambda result: result)


@dataclass(frozen=True)
class _Kept:
    """Protenix's own cache of what does not depend on the noise (`enable_diffusion_shared_vars_cache`)."""

    pair_z: Tensor | None
    p_lm: Tensor | None
    c_l: Tensor | None

    @classmethod
    @torch.no_grad()
    def of(cls, module: Any, features: dict[str, Any], trunk: TrunkOutput, *, cast: bool) -> _Kept:
        names = ("ref_pos", "ref_charge", "ref_mask", "ref_element", "ref_atom_name_chars", "atom_to_token_idx", "d_lm", "v_lm", "pad_info")
        with peer.reduced(autocast=cast):
            pair_z = module.diffusion_conditioning.prepare_cache(features["relp"], trunk.z[0], False)
            atoms = {name: features[name] for name in names}
            return cls(pair_z, *module.atom_attention_encoder.prepare_cache(**atoms, r_l=True, z=pair_z))


def _ours(module: nn.Module, theirs: nn.Module, table: Any) -> Any:
    module.load_state_dict(convert(theirs.state_dict(), table, module.state_dict()))
    return module.eval().requires_grad_(False)


def _report(cases: Iterator[Case], repeats: int) -> None:
    """A table row for every way; in float32 nothing is timed before all ways agree."""
    exact: dict[str, Tensor] = {}
    for case in cases:
        with torch.no_grad():
            results = {name: case.first(way.run(*way.prepare())).float().squeeze(0) for name, way in case.ways.items()}
        reference = exact.setdefault(case.call, next(iter(results.values())))
        worst = {name: ((result - reference).abs().max() / reference.abs().max()).item() for name, result in results.items()}
        if case.precision == "float32" and max(worst.values()) > TOLERANCE:
            raise SystemExit(f"{case.call}: outputs differ: {worst}")
        costs = measure(case.ways, repeats=repeats)  # the calls that were compared have warmed all ways up
        for name, cost in costs.items():
            print(_row(case, name, cost, costs[OURS], worst[name]), flush=True)


def _row(case: Case, name: str, cost: Cost, ours: Cost, difference: float) -> str:
    ratios = f"{cost.cpu / ours.cpu:.2f} | {cost.memory / ours.memory:.2f}"
    numbers = f"{cost.cpu:.3f} | {cost.wall:.3f} | {cost.memory:.0f} | {ratios} | {difference:.1e}"
    return f"| {case.call} | {case.precision} | {name} | {numbers} |"


def _machine(args: argparse.Namespace, config: Config) -> str:
    with open("/proc/cpuinfo") as file:
        processor = next((line.split(":")[1].strip() for line in file if line.startswith("model name")), platform.machine())
    return (
        f"{args.tokens} tokens, {args.atoms_per_token} atoms each, {config.name} ({config.diffusion.blocks} token blocks), "
        f"{args.threads} thread, median of {args.repeats}, torch {torch.__version__}, {processor}, {os.cpu_count()} cores\n"
    )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=256)
    parser.add_argument("--atoms-per-token", type=int, default=8)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--size", choices=sorted(SIZES), default="tiny")
    parser.add_argument("--calls", nargs="+", choices=["pairformer", "diffusion"], default=["pairformer", "diffusion"])
    return parser.parse_args()


if __name__ == "__main__":
    main()
