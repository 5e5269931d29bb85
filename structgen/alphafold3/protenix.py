"""Configurations of the public Protenix models (Apache-2.0, code and weights), as far as they differ from the SI.

Where these models leave the SI's text: z starts from s_init; keys of the atom attention pass a second AdaLN; the last block of the MSA
module leaves the alignment as it is; the confidence head normalises its inputs and outputs and sees distances twice. What Protenix does
while predicting and not in its network (dropout on the recycled pairs with probability 0.4) is no part of a configuration.
"""

from __future__ import annotations

from structgen.alphafold3.config import Atoms, Confidence, Config, Diffusion, Distogram, Inputs, Msa, Pair, Pairformer, Sampling, Template


def tiny_v0_5() -> Config:
    """protenix_tiny_default_v0.5.0: 109.5 million parameters, 5 steps of an ordinary differential equation."""
    return _few_steps("protenix_tiny_default_v0.5.0", pairformer_blocks=8)


def mini_v0_5() -> Config:
    """protenix_mini_default_v0.5.0: 134.1 million parameters, 5 steps of an ordinary differential equation."""
    return _few_steps("protenix_mini_default_v0.5.0", pairformer_blocks=16)


def base_v0_5() -> Config:
    """protenix_base_default_v0.5.0: 368.1 million parameters, 10 cycles, 200 steps."""
    return _config("protenix_base_default_v0.5.0", Pairformer(), Msa(last_update=False, rows=16384), _diffusion(24, 3), _sampling(10))


def base_v1() -> Config:
    """protenix_base_default_v1.0.0 and protenix_base_20250630_v1.0.0: as the base model, with templates; 368.5 million parameters."""
    template = Template(pair=Pair(c_z=64, tri_hidden=128, heads=4, c_head=32, transition=2), mean_over="slots")
    return _config(
        "protenix_base_default_v1.0.0", Pairformer(), Msa(last_update=False, rows=16384), _diffusion(24, 3), _sampling(10), template
    )


def _few_steps(name: str, pairformer_blocks: int) -> Config:
    sampling = Sampling(cycles=4, steps=5, gamma_0=0.0, step_scale=1.0, last_sigma="zero")
    msa = Msa(blocks=1, last_update=False, rows=16384)
    return _config(name, Pairformer(blocks=pairformer_blocks), msa, _diffusion(8, 1), sampling)


def _sampling(cycles: int) -> Sampling:
    return Sampling(cycles=cycles, last_sigma="zero")


def _atoms(blocks: int) -> Atoms:
    return Atoms(blocks=blocks, kv_norm="chained")


def _diffusion(blocks: int, atom_blocks: int) -> Diffusion:
    return Diffusion(blocks=blocks, atoms=_atoms(atom_blocks))


def _config(
    name: str, pairformer: Pairformer, msa: Msa, diffusion: Diffusion, sampling: Sampling, template: Template | None = None
) -> Config:
    """`template` is None for the models that were trained without: their template embedder has no blocks and adds nothing."""
    return Config(
        name=name,
        inputs=Inputs(element_offset=1, ref_charge="arcsinh", ref_mask_gate=True),
        atoms=_atoms(3),
        z_init_from="s_init",
        msa=msa,
        template=Template(blocks=0) if template is None else template,
        pairformer=pairformer,
        diffusion=diffusion,
        confidence=Confidence(
            row="second", extra_distance=True, s_norm=True, head_norm=True, pde_symmetry="pair_before_norm", dropout=0.0
        ),
        distogram=Distogram(bias=True),
        sampling=sampling,
    )
