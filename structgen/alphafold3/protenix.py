"""Configurations of the public Protenix models (Apache-2.0, code and weights), as far as they differ from the SI.

Where these models leave the SI's text: z starts from s_init; keys of the atom attention pass a second AdaLN; the last block of the MSA
module leaves the alignment as it is; the confidence head normalises its inputs and outputs and sees distances twice; templates are
averaged over four slots, of which those that are empty count too. What Protenix does while predicting and not in its network (dropout
on the recycled pairs with probability 0.4) is no part of a configuration.
"""

from __future__ import annotations

from dataclasses import replace

from structgen.alphafold3.config import Atoms, Confidence, Config, Diffusion, Distogram, Inputs, Msa, Pair, Pairformer, Sampling, Template
from structgen.alphafold3.sizes import Sizes

SLOTS = 4  # templates of a job


def tiny_v0_5() -> Config:
    """protenix_tiny_default_v0.5.0: 109.5 million parameters, 5 steps of an ordinary differential equation."""
    return _few_steps("protenix_tiny_default_v0.5.0", pairformer_blocks=8)


def mini_v0_5() -> Config:
    """protenix_mini_default_v0.5.0: 134.1 million parameters, 5 steps of an ordinary differential equation."""
    return _few_steps("protenix_mini_default_v0.5.0", pairformer_blocks=16)


def base_v0_5() -> Config:
    """protenix_base_default_v0.5.0: 368.1 million parameters, 10 cycles, 200 steps."""
    return _config("protenix_base_default_v0.5.0", Pairformer(), Msa(), _diffusion(24, 3), SAMPLING)


def base_v1() -> Config:
    """protenix_base_default_v1.0.0 and protenix_base_20250630_v1.0.0: as the base model, with templates; 368.5 million parameters."""
    template = Template(pair=Pair(c_z=64, tri_hidden=128, heads=4, c_head=32, transition=2), trained=True)
    return _config("protenix_base_default_v1.0.0", Pairformer(), Msa(), _diffusion(24, 3), SAMPLING, template)


def v2() -> Config:
    """protenix-v2: wider pairs and alignments, with templates; 464.4 million parameters."""
    pairformer = Pairformer(pair=Pair(c_z=256, tri_hidden=256, heads=8, c_head=32))
    template = Template(pair=Pair(c_z=64, tri_hidden=64, heads=2, c_head=32, transition=2), trained=True)
    return _config("protenix-v2", pairformer, Msa(c_m=128), _diffusion(24, 3), SAMPLING, template)


def read_config(sizes: Sizes) -> Config:
    """The configuration of a checkpoint of any size; where its shapes are those of a public model, that model's, with its sampling."""
    found = _sized(sizes)
    for known in (tiny_v0_5(), mini_v0_5(), base_v0_5(), base_v1(), v2()):
        if replace(found, name=known.name, sampling=known.sampling) == known:
            return known
    return found


SAMPLING = Sampling(cycles=10, last_sigma="zero")


def _few_steps(name: str, pairformer_blocks: int) -> Config:
    sampling = Sampling(cycles=4, steps=5, gamma_0=0.0, step_scale=1.0, last_sigma="zero")
    return _config(name, Pairformer(blocks=pairformer_blocks), Msa(blocks=1), _diffusion(8, 1), sampling)


def _diffusion(blocks: int, atom_blocks: int) -> Diffusion:
    return Diffusion(blocks=blocks, atoms=Atoms(blocks=atom_blocks))


def _config(
    name: str, pairformer: Pairformer, msa: Msa, diffusion: Diffusion, sampling: Sampling, template: Template | None = None
) -> Config:
    """`template` is None for the models that were trained without: their template embedder has no blocks and adds nothing."""
    sized = Config(
        name=name,
        inputs=Inputs(),
        msa=msa,
        template=Template(blocks=0) if template is None else template,
        pairformer=pairformer,
        diffusion=diffusion,
        sampling=sampling,
    )
    return _switched(sized)


def _switched(sized: Config) -> Config:
    """The same sizes with Protenix's readings of the SI."""
    template = replace(sized.template, mean_over="slots", slots=SLOTS, no_residue="gap_first")
    return replace(
        sized,
        inputs=replace(sized.inputs, element_offset=1, ref_charge="arcsinh", ref_mask_gate=True),
        atoms=replace(sized.atoms, kv_norm="chained"),
        z_init_from="s_init",
        msa=replace(sized.msa, last_update=False, rows=16384),
        template=template if template.blocks else replace(template, mean_over="given"),
        diffusion=replace(sized.diffusion, atoms=replace(sized.diffusion.atoms, kv_norm="chained")),
        confidence=replace(
            sized.confidence,
            row="second",
            extra_distance=True,
            s_norm=True,
            head_norm=True,
            pde_symmetry="pair_before_norm",
            dropout=0.0,
        ),
        distogram=replace(sized.distogram, bias=True),
    )


def _sized(sizes: Sizes) -> Config:
    """Everything that shapes say."""
    c_s, c_z = sizes.of("linear_no_bias_sinit"), sizes.of("layernorm_z_cycle")
    encoder = "input_embedder.atom_attention_encoder"
    former, head = "pairformer_stack.blocks.0", "confidence_head"
    return _switched(
        Config(
            name="protenix",
            c_s=c_s,
            inputs=Inputs(c_s_inputs_atom=sizes.of(f"{encoder}.linear_no_bias_q")),
            atoms=_atoms(sizes, encoder),
            msa=_msa(sizes),
            template=_template(sizes),
            pairformer=Pairformer(
                blocks=sizes.blocks("pairformer_stack.blocks"),
                heads=sizes.of(f"{former}.attention_pair_bias.linear_nobias_z"),
                transition=sizes.of(f"{former}.single_transition.linear_no_bias_a") // c_s,
                pair=_pair(sizes, former, c_z),
            ),
            diffusion=_diffusion_sizes(sizes),
            confidence=Confidence(
                blocks=sizes.blocks(f"{head}.pairformer_stack.blocks"),
                bins_pae=sizes.of(f"{head}.linear_no_bias_pae"),
                bins_pde=sizes.of(f"{head}.linear_no_bias_pde"),
                bins_plddt=sizes.of(f"{head}.plddt_weight", 2),
                atoms_per_token=sizes.of(f"{head}.plddt_weight", 0),
                distance_bins=sizes.of(f"{head}.lower_bins"),
            ),
            distogram=Distogram(bins=sizes.of("distogram_head.linear")),
            sampling=SAMPLING,
        )
    )


def _pair(sizes: Sizes, block: str, c_z: int) -> Pair:
    heads = sizes.of(f"{block}.tri_att_start.linear")
    return Pair(
        c_z=c_z,
        tri_hidden=sizes.of(f"{block}.tri_mul_out.linear_a_p"),
        heads=heads,
        c_head=sizes.of(f"{block}.tri_att_start.mha.linear_q") // heads,
        transition=sizes.of(f"{block}.pair_transition.linear_no_bias_a") // c_z,
    )


def _atoms(sizes: Sizes, encoder: str) -> Atoms:
    blocks = f"{encoder}.atom_transformer.diffusion_transformer.blocks"
    c_atom = sizes.of(f"{encoder}.linear_no_bias_ref_pos")
    return Atoms(
        c_atom=c_atom,
        c_pair=sizes.of(f"{encoder}.linear_no_bias_d"),
        blocks=sizes.blocks(blocks),
        heads=sizes.of(f"{blocks}.0.attention_pair_bias.linear_nobias_z"),
        transition=sizes.of(f"{blocks}.0.conditioned_transition_block.linear_nobias_a1") // c_atom,
    )


def _msa(sizes: Sizes) -> Msa:
    """A module of one block has no average over rows, so its sizes do not matter."""
    blocks, c_m = sizes.blocks("msa_module.blocks"), sizes.of("msa_module.linear_no_bias_m")
    sized = Msa(blocks=blocks, c_m=c_m, c_opm=sizes.of("msa_module.blocks.0.outer_product_mean_msa.linear_1"))
    if blocks == 1:
        return sized
    average = "msa_module.blocks.0.msa_stack.msa_pair_weighted_averaging"
    heads = sizes.of(f"{average}.linear_no_bias_z")
    return replace(
        sized,
        pwa_heads=heads,
        pwa_channels=sizes.of(f"{average}.linear_no_bias_mv") // heads,
        transition=sizes.of("msa_module.blocks.0.msa_stack.transition_m.linear_no_bias_a") // c_m,
    )


def _template(sizes: Sizes) -> Template:
    name = "template_embedder.pairformer_stack.blocks"
    blocks, c = sizes.blocks(name), sizes.of("template_embedder.linear_no_bias_z")
    return Template(blocks=blocks, c=c, pair=_pair(sizes, f"{name}.0", c), trained=True) if blocks else Template(blocks=0, c=c)


def _diffusion_sizes(sizes: Sizes) -> Diffusion:
    blocks = "diffusion_module.diffusion_transformer.blocks"
    c_token = sizes.of("diffusion_module.layernorm_a")
    return Diffusion(
        blocks=sizes.blocks(blocks),
        heads=sizes.of(f"{blocks}.0.attention_pair_bias.linear_nobias_z"),
        c_token=c_token,
        c_fourier=sizes.of("diffusion_module.diffusion_conditioning.fourier_embedding.w"),
        transition=sizes.of(f"{blocks}.0.conditioned_transition_block.linear_nobias_a1") // c_token,
        atoms=_atoms(sizes, "diffusion_module.atom_attention_encoder"),
    )
