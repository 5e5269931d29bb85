"""What Protenix answers, part by part, compared with structgen; one line of JSON a part.

Run by `benchmarks.fidelity` in an environment that has both; with a path it writes the record that tests read. Its knobs for parity:
no dropout on recycled pairs, all rows of the alignment, kernels of torch, nothing fused or kept, our random numbers in place of its own.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy
import torch
from torch import Tensor

from benchmarks import protenix_peer as peer
from benchmarks.fidelity_job import CYCLES, LEVELS, MOST_STEPS, ROWS, SAMPLES, SLOTS, Draws, Given, job, small
from benchmarks.fidelity_parts import Parts, ours
from benchmarks.fidelity_rows import converted, record, report
from structgen.alphafold3 import protenix
from structgen.alphafold3.config import Config, Sampling
from structgen.alphafold3.convert_protenix import protenix_table
from structgen.features.batch import Batch
from structgen.features.conformers import rotations

MODELS: dict[str, tuple[Config, int]] = {  # a configuration and the number of templates
    "tiny v0.5.0": (protenix.tiny_v0_5(), 0),
    "mini v0.5.0": (protenix.mini_v0_5(), 0),
    "base v0.5.0, small": (small(protenix.base_v0_5()), 0),
    "base v1.0.0, small": (small(protenix.base_v1()), 2),
    "base v1.0.0, small, no template": (small(protenix.base_v1()), 0),
    "v2, small": (small(protenix.v2()), 2),
}
RECORD = "base v1.0.0, small"
CENTRE = 1  # CA


def main() -> None:
    """Every model, or with a path the record of one."""
    for name in [RECORD] if sys.argv[1:] else MODELS:
        config, templates = MODELS[name]
        config = replace(config, msa=replace(config.msa, subset="all"))  # all rows, in any order: the mean over rows does not see it
        batch = job(templates=templates)
        sampling = replace(config.sampling, cycles=CYCLES, samples=SAMPLES, steps=min(MOST_STEPS, config.sampling.steps))
        given, model = Given.draw(config, batch), peer.build(config)
        answers = theirs(model, batch, given, sampling, config)
        if sys.argv[1:]:
            return record(answers, Path(sys.argv[1]))
        report(name, ours(converted(model.state_dict(), config, protenix_table(config)), batch, given, sampling), answers)


@torch.no_grad()
def theirs(model: Any, batch: Batch, given: Given, sampling: Sampling, config: Config) -> Parts:
    """The parts of `fidelity_parts.ours`."""
    model.msa_module.msa_configs["test_lowerb"] = ROWS
    features = peer.features(batch, model) | template_features(batch)
    return {
        **_trunk_parts(model, features, given),
        **_diffusion_parts(model, features, given, batch, config),
        **_wholes(model, features, given),
        **_prediction(model, features, batch, sampling, config),
    }


def template_features(batch: Batch) -> dict[str, Tensor]:
    """Protenix's own features, made by its own code of coordinates in dense atoms (N, CA, C, O, CB, ...)."""
    from protenix.data.template.template_featurizer import Templates

    count, tokens = batch.template_restype.shape[1:]
    residue = numpy.zeros((SLOTS, tokens), numpy.int64)
    residue[0] = 31  # what it writes for a chain without any template; later slots stay 0
    atoms, mask = numpy.zeros((SLOTS, tokens, 24, 3), numpy.float32), numpy.zeros((SLOTS, tokens, 24), bool)
    for t in range(count):
        known = batch.template_frame_mask[0, t].numpy()
        present = numpy.isin(batch.asym_id[0].numpy(), batch.asym_id[0].numpy()[known])
        residue[t, present] = batch.template_restype[0, t].numpy()[present]
        atoms[t, :, :3], mask[t, :, :3] = batch.template_frame[0, t], known[:, None]
        beta = batch.template_pseudo_beta_mask[0, t].numpy()
        place = numpy.where(batch.template_restype[0, t] == 7, CENTRE, 4)
        for token in numpy.flatnonzero(known):
            mask[t, token, place[token]] = beta[token]
            if beta[token]:
                atoms[t, token, place[token]] = batch.template_pseudo_beta[0, t, token]
    made = Templates(residue, atoms, mask).as_protenix_dict()
    return {name: torch.from_numpy(numpy.asarray(value)) for name, value in made.items()}


def _trunk_parts(model: Any, features: dict[str, Any], given: Given) -> Parts:
    kernels = {"triangle_multiplicative": "torch", "triangle_attention": "torch"}
    block, first = model.msa_module.blocks[0], model.pairformer_stack.blocks[0]
    z, s, m = given.z, given.s, given.m
    out_s, out_z = model.pairformer_stack(s.clone(), z.clone(), pair_mask=None, **kernels)
    parts = {
        "2 input features": model.input_embedder(features, inplace_safe=False, chunk_size=None),
        "3 relative positions": model.relative_position_encoding(features["relp"]),
        "8 MSA module": model.msa_module(features, z.clone(), given.s_inputs, pair_mask=None, **kernels),
        "9 outer product mean": block.outer_product_mean_msa(m),
        "11 transition": first.pair_transition(z),
        "12 triangle multiplication, outgoing": first.tri_mul_out(z, mask=None),
        "13 triangle multiplication, incoming": first.tri_mul_in(z, mask=None),
        "14 triangle attention, starting": first.tri_att_start(z, mask=None),
        "15 triangle attention, ending": first.tri_att_end(z.transpose(0, 1), mask=None).transpose(0, 1),
        "17 pairformer, single": out_s,
        "17 pairformer, pair": out_z,
        "24 attention with pair bias, trunk": first.attention_pair_bias(a=s, s=None, z=z),
    }
    if len(model.msa_module.blocks) > 1:
        parts["10 averages weighted by pairs"] = block.msa_stack.msa_pair_weighted_averaging(m, z)
    if model.template_embedder.n_blocks:
        parts["16 templates"] = model.template_embedder(features, z)
    return parts


def _diffusion_parts(model: Any, features: dict[str, Any], given: Given, batch: Batch, config: Config) -> Parts:
    module, z, a, s = model.diffusion_module, given.z, given.a, given.single
    level = torch.tensor(LEVELS)
    names = ("ref_pos", "ref_charge", "ref_mask", "ref_element", "ref_atom_name_chars", "atom_to_token_idx", "d_lm", "v_lm", "pad_info")
    atoms = {name: features[name] for name in names}
    tokens, q, c, p = module.atom_attention_encoder(**atoms, r_l=given.positions / 16, s=given.s[None], z=z[None])
    conditioning = module.diffusion_conditioning
    single, pair = conditioning(level, features["relp"], given.s_inputs, given.s, z, None)
    attention = module.diffusion_transformer.blocks[0].attention_pair_bias
    return {
        "5 atoms to tokens, tokens": tokens,
        "5 atoms to tokens, atoms": q,
        "6 tokens to atoms": module.atom_attention_decoder(features["atom_to_token_idx"], a, q, c, p),
        "21 conditioning, pair": pair,
        "21 conditioning, single": single,
        "22 Fourier embedding": conditioning.fourier_embedding((level / config.diffusion.sigma_data).log() / 4),
        "23 diffusion transformer": module.diffusion_transformer(a, s, z[None]),
        "24 attention with pair bias, diffusion": attention(a, s, z[None]),
        "25 conditioned transition": module.diffusion_transformer.blocks[0].conditioned_transition_block(a, s),
        "26 adaptive layer norm": attention.layernorm_a(a, s),
    }


def _wholes(model: Any, features: dict[str, Any], given: Given) -> Parts:
    _, s, z = model.get_pairformer_output(features, N_cycle=CYCLES)
    denoised = model.diffusion_module(
        x_noisy=given.positions, t_hat_noise_level=torch.tensor(LEVELS), input_feature_dict=features, s_inputs=given.s_inputs,
        s_trunk=given.s, z_trunk=given.z, pair_z=None, p_lm=None, c_l=None,
    )  # fmt: skip
    plddt, pae, pde, resolved = model.confidence_head(features, given.s_inputs, given.s, given.z, None, given.positions[:1])
    return {
        "1 trunk, two cycles: single": s,
        "1 trunk, two cycles: pair": z,
        "1 distogram": model.distogram_head(given.z),
        "20 denoiser call at two levels": denoised,
        "31 pLDDT": plddt[0],
        "31 PAE": pae[0],
        "31 PDE": pde[0],
        "31 resolved": resolved[0],
    }


def _prediction(model: Any, features: dict[str, Any], batch: Batch, sampling: Sampling, config: Config) -> Parts:
    """Protenix's whole forward pass, which empties the features that it is given."""
    model.configs.sample_diffusion.N_sample, model.configs.sample_diffusion.N_step = sampling.samples, sampling.steps
    frames = {"has_frame": torch.ones(batch.tokens, dtype=torch.bool), "is_ligand": torch.zeros(batch.atoms, dtype=torch.int64)}
    model.N_cycle = CYCLES
    with injected(Draws(sampling, config.diffusion.sigma_data, batch.atoms)):
        said, _, _ = model.main_inference_loop(
            features | frames, None, CYCLES, "inference", inplace_safe=False, chunk_size=None, mc_dropout_apply_rate=0.0
        )
    return {
        "a prediction: coordinates": said["coordinate"],
        "a prediction: pLDDT": said["plddt"],
        "a prediction: PAE": said["pae"],
    }


@contextmanager
def injected(draws: Draws) -> Iterator[None]:
    """`torch.randn` and the sampler of rotations give what `draws` says."""
    from protenix.model import utils

    randn, rotation = torch.randn, utils.uniform_random_rotation

    def numbers(*args: Any, size: tuple[int, ...] = (), **kwargs: Any) -> Tensor:
        if args or kwargs.get("generator") is not None:
            return randn(*args, *((size,) if size else ()), **kwargs)
        return draws.coordinates() if tuple(size) == draws.shape else draws.translations().reshape(size)

    torch.randn, utils.uniform_random_rotation = cast(Any, numbers), lambda N_sample: rotations(draws.quaternions())
    try:
        yield
    finally:
        torch.randn, utils.uniform_random_rotation = randn, rotation


if __name__ == "__main__":
    main()
