"""What structgen answers, part by part: the same names, shapes and inputs as the peers' modules in `fidelity_protenix` and its sibling."""

from __future__ import annotations

from functools import partial
from typing import cast

import torch
from torch import Tensor

from benchmarks.fidelity_job import CYCLES, LEVELS, SEED, Given
from structgen.alphafold3.atoms import AtomLayout, TrunkFeatures
from structgen.alphafold3.config import Sampling
from structgen.alphafold3.diffusion import DiffusionModule
from structgen.alphafold3.inputs import relative_classes
from structgen.alphafold3.model import AlphaFold3
from structgen.alphafold3.msa import MsaBlock, draw_rows
from structgen.alphafold3.pairformer import PairformerBlock
from structgen.alphafold3.sampling import CentreRandomAugmentation, sampling_schedule
from structgen.alphafold3.transformer import AttentionPairBias, Everyone, pair_biases
from structgen.alphafold3.trunk import TrunkOutput
from structgen.features.batch import Batch
from structgen.generative import generators, normal_like, sample

Parts = dict[str, Tensor]  # name of a part to its output, without a dimension for the batch


@torch.no_grad()
def ours(model: AlphaFold3, batch: Batch, given: Given, sampling: Sampling) -> Parts:
    """Every part on its own, then the trunk, a denoiser call, the heads and a whole prediction."""
    parts = _trunk_parts(model, batch, given) | _diffusion_parts(model, batch, given)
    return parts | wholes(model, batch, given) | _prediction(model, batch, sampling)


def _trunk_parts(model: AlphaFold3, batch: Batch, given: Given) -> Parts:
    trunk, z, s, m = model.trunk, given.z[None], given.s[None], given.m[None]
    rows = draw_rows(batch, model.config.msa, torch.Generator().manual_seed(SEED))
    block, first = trunk.msa.blocks[0], trunk.pairformer.blocks[0]
    assert isinstance(block, MsaBlock) and isinstance(first, PairformerBlock) and first.single is not None
    starting, ending = first.pair.starting, first.pair.ending
    assert starting is not None and ending is not None
    out_s, out_z = trunk.pairformer(s, z, None)
    assert out_s is not None
    parts = {
        "2 input features": trunk.inputs(batch),
        "3 relative positions": trunk.relative(batch),
        "8 MSA module": trunk.msa(rows, z.clone(), given.s_inputs[None], None),
        "9 outer product mean": block.outer(m, torch.ones(m.shape[:3], dtype=torch.bool)),
        "11 transition": first.pair.transition(z),
        "12 triangle multiplication, outgoing": first.pair.outgoing(z, None),
        "13 triangle multiplication, incoming": first.pair.incoming(z, None),
        "14 triangle attention, starting": starting(z, None),
        "15 triangle attention, ending": ending(z, None),
        "17 pairformer, single": out_s,
        "17 pairformer, pair": out_z,
        "24 attention with pair bias, trunk": first.single.attention(s, z, None),
    }
    if block.average is not None:
        parts["10 averages weighted by pairs"] = block.average(m, z, None)
    if model.config.template.blocks:
        parts["16 templates"] = trunk.template(batch, z, None)
    return {name: value[0] for name, value in parts.items()}


def _diffusion_parts(model: AlphaFold3, batch: Batch, given: Given) -> Parts:
    module, z, a, s = _diffusion(model), given.z[None], given.a[None], given.single[None]
    trunk = TrunkOutput(given.s_inputs[None], given.s[None], z)
    conditioning, transformer, layout = module.conditioning, module.transformer, AtomLayout.of(batch, module.encoder.config)
    attention = transformer.attentions[0]
    assert isinstance(attention, AttentionPairBias)
    times = (torch.tensor([LEVELS]) / model.config.diffusion.sigma_data).log() / 4
    bias = pair_biases(transformer.pair_weight(), z, batch.token_mask)
    features = TrunkFeatures(module.to_atoms.tokens(given.s[None]), module.to_atoms.pairs(z))
    atoms = module.encoder.condition(batch, layout, (module.encoder.transformer, module.decoder.transformer), features)
    tokens, q = module.encoder(layout, atoms, module.to_atoms.positions(layout.pad(given.positions / 16)[None]))
    parts = {
        "5 atoms to tokens, tokens": tokens,
        "5 atoms to tokens, atoms": q[:, :, : batch.atoms],
        "6 tokens to atoms": module.decoder(a, q, layout, atoms)[:, :, : batch.atoms],
        "21 conditioning, pair": conditioning.pairs(z.clone(), _relative(model, batch)),
        "21 conditioning, single": conditioning(conditioning.tokens(trunk), times),
        "22 Fourier embedding": conditioning.fourier(times),
        "23 diffusion transformer": transformer(a, s, bias, Everyone()),
        "24 attention with pair bias, diffusion": attention(a, s, bias[:, None, : transformer.heads], Everyone()),
        "25 conditioned transition": transformer.transitions[0](a, s),
        "26 adaptive layer norm": attention.norm(a, s),
    }
    return {name: value[0] for name, value in parts.items()}


def _relative(model: AlphaFold3, batch: Batch) -> Tensor:
    return _diffusion(model).conditioning.relative_table()[relative_classes(batch, model.config.inputs)]


def _diffusion(model: AlphaFold3) -> DiffusionModule:
    return cast(DiffusionModule, model.diffusion)


@torch.no_grad()
def wholes(model: AlphaFold3, batch: Batch, given: Given) -> Parts:
    """The trunk from features, and a denoiser call and the heads from a given trunk."""
    trunk = _trunk(model, batch)
    seen = TrunkOutput(given.s_inputs[None], given.s[None], given.z[None])
    level = torch.tensor(LEVELS)
    denoised = model.denoiser(given.positions, level, level, model.diffusion.condition(batch, seen)).data
    logits = model.confidence(batch, seen, given.positions[:1], None)
    return {
        "1 trunk, two cycles: single": trunk.s[0],
        "1 trunk, two cycles: pair": trunk.z[0],
        "1 distogram": model.distogram(given.z[None])[0],
        "20 denoiser call at two levels": denoised,
        "31 pLDDT": logits.plddt[0],
        "31 PAE": logits.pae[0],
        "31 PDE": logits.pde[0],
        "31 resolved": logits.resolved[0],
    }


def _trunk(model: AlphaFold3, batch: Batch) -> TrunkOutput:
    return model.trunk(batch, cycles=CYCLES, rng=torch.Generator().manual_seed(SEED))


def _prediction(model: AlphaFold3, batch: Batch, sampling: Sampling) -> Parts:
    """As `structgen.predict.fold` samples."""
    trunk = _trunk(model, batch)
    times, solver = sampling_schedule(sampling, model.config.diffusion.sigma_data)
    draws = generators(SEED, sampling.samples)
    noise = normal_like(torch.zeros(sampling.samples, batch.atoms, 3), draws)
    denoise = partial(model.denoiser, cond=model.diffusion.condition(batch, trunk))
    before = CentreRandomAugmentation(batch.atom_mask)
    x = sample(model.denoiser.path, denoise, solver, times, float(times[0]) * noise, draws, before_step=before)
    heads = [model.confidence(batch, trunk, one[None], None) for one in x]
    return {
        "a prediction: coordinates": x,
        "a prediction: pLDDT": torch.cat([head.plddt for head in heads]),
        "a prediction: PAE": torch.cat([head.pae for head in heads]),
    }
