"""The configuration of OpenFold3 0.5.0 (Apache-2.0, code and weights), as far as it differs from the SI.

Where it leaves the SI's text: layer norms of pairs once a stack; the ending node's bias as in AlphaFold 3's code; keys of the atom
attention have an AdaLN of their own and their window is shifted inwards; relative positions enter the diffusion module as they are;
confidence heads normalise their inputs; templates are averaged over four slots, of which those that are empty count too.
"""

from __future__ import annotations

from dataclasses import replace

from structgen.alphafold3.config import Atoms, Confidence, Config, Diffusion, Distogram, Inputs, Msa, Pair, Pairformer, Template
from structgen.alphafold3.sizes import Sizes

NAME = "openfold3_v0.5.0"


def v0_5() -> Config:
    """OpenFold3 0.5.0: 368.3 million parameters, 4 cycles, 200 steps."""
    return _switched(Config(name=NAME))


def read_config(sizes: Sizes) -> Config:
    """The configuration of a checkpoint of any size."""
    found = _sized(sizes)
    return replace(found, name=NAME) if replace(found, name=NAME) == v0_5() else found


def _switched(sized: Config) -> Config:
    """The same sizes with OpenFold3's readings of the SI."""

    def atoms(sized: Atoms) -> Atoms:
        return replace(sized, kv_norm="separate", key_window="shifted", pair_norm="per_stack")

    def pair(sized: Pair) -> Pair:
        return replace(sized, end_node_bias="ik")

    return replace(
        sized,
        inputs=replace(sized.inputs, element_offset=1, element_classes=119, ref_charge="arcsinh"),
        atoms=atoms(sized.atoms),
        msa=replace(sized.msa, last_update=False, subset="shuffle_first"),
        template=replace(sized.template, trained=True, mean_over="slots", no_residue="gap", pair=pair(sized.template.pair)),
        pairformer=replace(sized.pairformer, pair=pair(sized.pairformer.pair)),
        diffusion=replace(sized.diffusion, atoms=atoms(sized.diffusion.atoms), relpos="raw", pair_norm="per_stack", fourier_bias="uniform"),
        confidence=replace(sized.confidence, atoms_per_token=23, slots="present", head_norm=True, pde_symmetry="logits_after"),
    )


def _sized(sizes: Sizes) -> Config:
    """Everything that shapes say."""
    c_s, c_z = sizes.of("layer_norm_s"), sizes.of("layer_norm_z")
    encoder, former = "input_embedder.atom_attn_enc", "pairformer_stack.blocks.0"
    return _switched(
        Config(
            name="openfold3",
            c_s=c_s,
            inputs=Inputs(c_s_inputs_atom=sizes.of(f"{encoder}.linear_q.0")),
            atoms=_atoms(sizes, encoder),
            msa=_msa(sizes),
            template=_template(sizes),
            pairformer=Pairformer(
                blocks=sizes.blocks("pairformer_stack.blocks"),
                heads=sizes.of(f"{former}.attn_pair_bias.linear_z"),
                transition=sizes.of(f"{former}.single_transition.swiglu.linear_a") // c_s,
                pair=_pair(sizes, f"{former}.pair_stack", c_z),
            ),
            diffusion=_diffusion(sizes),
            confidence=Confidence(
                blocks=sizes.blocks("aux_heads.pairformer_embedding.pairformer_stack.blocks"),
                bins_pae=sizes.of("aux_heads.pae.linear"),
                bins_pde=sizes.of("aux_heads.pde.linear"),
                distance_bins=sizes.of("aux_heads.pairformer_embedding.linear_distance", 1),
            ),
            distogram=Distogram(bins=sizes.of("aux_heads.distogram.linear")),
        )
    )


def _pair(sizes: Sizes, block: str, c_z: int) -> Pair:
    heads = sizes.of(f"{block}.tri_att_start.linear_z")
    return Pair(
        c_z=c_z,
        tri_hidden=sizes.of(f"{block}.tri_mul_out.linear_a_p"),
        heads=heads,
        c_head=sizes.of(f"{block}.tri_att_start.mha.linear_q") // heads,
        transition=sizes.of(f"{block}.pair_transition.swiglu.linear_a") // c_z,
    )


def _atoms(sizes: Sizes, encoder: str) -> Atoms:
    blocks, reference = f"{encoder}.atom_transformer.blocks", f"{encoder}.ref_atom_feature_embedder"
    c_atom = sizes.of(f"{reference}.linear_ref_pos")
    return Atoms(
        c_atom=c_atom,
        c_pair=sizes.of(f"{reference}.linear_ref_offset"),
        blocks=sizes.blocks(blocks),
        heads=sizes.of(f"{blocks}.0.attention_pair_bias.linear_z"),
        transition=sizes.of(f"{blocks}.0.conditioned_transition.swiglu.linear_a") // c_atom,
    )


def _msa(sizes: Sizes) -> Msa:
    """A module of one block has no average over rows, so its sizes do not matter."""
    blocks, c_m = sizes.blocks("msa_module.blocks"), sizes.of("msa_module_embedder.linear_m")
    sized = Msa(blocks=blocks, c_m=c_m, c_opm=sizes.of("msa_module.blocks.0.outer_product_mean.linear_1"))
    if blocks == 1:
        return sized
    heads = sizes.of("msa_module.blocks.0.msa_att_row.linear_z")
    return replace(
        sized,
        pwa_heads=heads,
        pwa_channels=sizes.of("msa_module.blocks.0.msa_att_row.linear_v") // heads,
        transition=sizes.of("msa_module.blocks.0.msa_transition.swiglu.linear_a") // c_m,
    )


def _template(sizes: Sizes) -> Template:
    name, c = "template_embedder.template_pair_stack.blocks", sizes.of("template_embedder.linear_t", 1)
    return Template(blocks=sizes.blocks(name), c=c, pair=_pair(sizes, f"{name}.0", c))


def _diffusion(sizes: Sizes) -> Diffusion:
    blocks, c_token = "diffusion_module.diffusion_transformer.blocks", sizes.of("diffusion_module.layer_norm_a")
    return Diffusion(
        blocks=sizes.blocks(blocks),
        heads=sizes.of(f"{blocks}.0.attention_pair_bias.linear_z"),
        c_token=c_token,
        c_fourier=sizes.of("diffusion_module.diffusion_conditioning.fourier_emb.w"),
        transition=sizes.of(f"{blocks}.0.conditioned_transition.swiglu.linear_a") // c_token,
        atoms=_atoms(sizes, "diffusion_module.atom_attn_enc"),
    )
