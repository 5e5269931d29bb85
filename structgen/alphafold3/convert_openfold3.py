"""The table that reads OpenFold3 (PyPI `openfold3`, checked against 0.5.0); `alphafold3.openfold3` holds its configuration."""

from __future__ import annotations

from structgen.alphafold3.config import Atoms, Config
from structgen.alphafold3.convert import Table, affine, concatenated, joined, numbered, tensor, under, weight

# SI Algorithms 8-17.

_TRANSITION: Table = (
    *affine("norm", "layer_norm"),
    *joined("wide", "swiglu.linear_a", "swiglu.linear_b"),
    *weight("out", "linear_out"),
)

_MULTIPLICATION: Table = (
    *affine("norm", "layer_norm_in"),
    *joined("projections", "linear_a_p", "linear_b_p"),
    *joined("gates", "linear_a_g", "linear_b_g"),
    *affine("norm_out", "layer_norm_out"),
    *weight("out", "linear_z"),
    *weight("gate_out", "linear_g"),
)

_TRIANGLE_ATTENTION: Table = (
    *affine("norm", "layer_norm"),
    *joined("qkv", "mha.linear_q", "mha.linear_k", "mha.linear_v"),
    *weight("bias", "linear_z"),
    *weight("gate", "mha.linear_g"),
    *weight("out", "mha.linear_o"),
)

_PAIR: Table = (
    *under("outgoing.", "tri_mul_out.", _MULTIPLICATION),
    *under("incoming.", "tri_mul_in.", _MULTIPLICATION),
    *under("starting.", "tri_att_start.", _TRIANGLE_ATTENTION),
    *under("ending.", "tri_att_end.", _TRIANGLE_ATTENTION),
    *under("transition.", "pair_transition.", _TRANSITION),
)

_ATTENTION: Table = (  # the projections that SI Algorithm 24 has with and without conditioning
    *affine("q", "mha.linear_q"),
    *joined("kv", "mha.linear_k", "mha.linear_v"),
    *weight("gate", "mha.linear_g"),
    *weight("out", "mha.linear_o"),
)

PAIRFORMER_BLOCK: Table = (
    *under("pair.", "pair_stack.", _PAIR),
    *affine("single.attention.norm", "attn_pair_bias.layer_norm_a"),
    *under("single.attention.", "attn_pair_bias.", _ATTENTION),
    *affine("single.attention.norm_z", "attn_pair_bias.layer_norm_z"),
    *weight("single.attention.bias", "attn_pair_bias.linear_z"),
    *under("single.transition.", "single_transition.", _TRANSITION),
)

_MSA_PAIR: Table = (
    *affine("outer.norm", "outer_product_mean.layer_norm"),
    *weight("outer.left", "outer_product_mean.linear_1"),
    *weight("outer.right", "outer_product_mean.linear_2"),
    *affine("outer.out", "outer_product_mean.linear_out"),
    *under("pair.", "pair_stack.", _PAIR),
)

_MSA_BLOCK: Table = (
    *_MSA_PAIR,
    *affine("average.norm", "msa_att_row.layer_norm_m"),
    *weight("average.value", "msa_att_row.linear_v"),
    *affine("average.norm_z", "msa_att_row.layer_norm_z"),
    *weight("average.bias", "msa_att_row.linear_z"),
    *weight("average.gate", "msa_att_row.linear_g"),
    *weight("average.out", "msa_att_row.linear_o"),
    *under("transition.", "msa_transition.", _TRANSITION),
)


def _msa(config: Config) -> Table:
    """The last block leaves the alignment as it is."""
    last = config.msa.blocks - 1
    return (
        *weight("features", "msa_module_embedder.linear_m"),
        *weight("s_inputs", "msa_module_embedder.linear_s_input"),
        *numbered("blocks", "msa_module.blocks", last, _MSA_BLOCK),
        *under(f"blocks.{last}.", f"msa_module.blocks.{last}.", _MSA_PAIR),
    )


def _template(config: Config) -> Table:
    bins, classes = config.template.bins, config.inputs.restypes
    features = {
        "dgram_linear": bins, "pseudo_beta_mask_linear": 1, "aatype_linear_2": classes, "aatype_linear_1": classes, "x_linear": 1,
        "y_linear": 1, "z_linear": 1, "backbone_mask_linear": 1,
    }  # fmt: skip
    return (
        *affine("norm_z", "template_pair_embedder.layer_norm_z"),
        *weight("z", "template_pair_embedder.linear_z"),
        *concatenated("features", {f"template_pair_embedder.{name}": width for name, width in features.items()}),
        *numbered("stack.blocks", "template_pair_stack.blocks", config.template.blocks, under("pair.", "", _PAIR)),
        *affine("norm", "template_pair_stack.layer_norm"),
        *weight("out", "linear_t"),
    )


# SI Algorithms 5-7 and 20-26.

_ADALN: Table = (*weight("norm_s", "layer_norm_s"), *affine("scale", "linear_g"), *weight("shift", "linear_s"))

_CONDITIONED_TRANSITION: Table = (
    *under("norm.", "layer_norm.", _ADALN),
    *joined("wide", "swiglu.linear_a", "swiglu.linear_b"),
    *weight("out", "linear_out"),
    *affine("s_gate", "linear_g"),
)


def _transformer(blocks: int, *, windows: bool) -> Table:
    """SI Algorithm 23, over all tokens or over windows of atoms, where keys and values have an AdaLN of their own."""
    norms = (
        *under("norm.", "layer_norm_a_q." if windows else "layer_norm_a.", _ADALN),
        *(under("norm_kv.", "layer_norm_a_k.", _ADALN) if windows else ()),
    )
    conditioned: Table = (*norms, *_ATTENTION, *affine("s_gate", "linear_ada_out"))
    return (
        *weight("pair_norms.0", "layer_norm_z"),
        *(
            rule
            for i in range(blocks)
            for rule in (
                *under(f"attentions.{i}.", f"blocks.{i}.attention_pair_bias.", conditioned),
                *under(f"transitions.{i}.", f"blocks.{i}.conditioned_transition.", _CONDITIONED_TRANSITION),
                *weight(f"pair_biases.{i}", f"blocks.{i}.attention_pair_bias.linear_z"),
            )
        ),
    )


def _atom_transformer(atoms: Atoms) -> Table:
    return under("transformer.", "atom_transformer.", _transformer(atoms.blocks, windows=True))


def _encoder(atoms: Atoms, elements: int) -> Table:
    reference = {
        "linear_ref_pos": 3, "linear_ref_charge": 1, "linear_ref_mask": 1, "linear_ref_element": elements, "linear_ref_atom_chars": 256,
    }  # fmt: skip
    return (
        *concatenated("reference", {f"ref_atom_feature_embedder.{name}": width for name, width in reference.items()}),
        *weight("pairs.offset", "ref_atom_feature_embedder.linear_ref_offset"),
        *weight("pairs.inverse", "ref_atom_feature_embedder.linear_inv_sq_dists"),
        *weight("pairs.same", "ref_atom_feature_embedder.linear_valid_mask"),
        *weight("pairs.query", "linear_l"),
        *weight("pairs.key", "linear_m"),
        *(rule for i in (1, 3, 5) for rule in weight(f"pairs.mlp.{i}", f"pair_mlp.{i}")),
        *_atom_transformer(atoms),
        *weight("out", "linear_q.0"),
    )


_TO_ATOMS: Table = (
    *weight("single_norm", "layer_norm_s"),
    *weight("single", "linear_s"),
    *weight("pair_norm", "layer_norm_z"),
    *weight("pair", "linear_z"),
    *weight("position", "linear_r"),
)

_CONDITIONING: Table = (
    *weight("pair_norm", "layer_norm_z"),
    *weight("pair", "linear_z"),
    *numbered("pair_transitions", "transition_z", 2, _TRANSITION),
    *weight("single_norm", "layer_norm_s"),
    *weight("single", "linear_s"),
    tensor("fourier.w", "fourier_emb.w"),
    tensor("fourier.b", "fourier_emb.b"),
    *weight("noise_norm", "layer_norm_n"),
    *weight("noise", "linear_n"),
    *numbered("single_transitions", "transition_s", 2, _TRANSITION),
)


def diffusion_module(config: Config) -> Table:
    """SI Algorithm 20: `DiffusionModule` here and in OpenFold3."""
    atoms = config.diffusion.atoms
    return (
        *under("conditioning.", "diffusion_conditioning.", _CONDITIONING),
        *under("to_atoms.", "atom_attn_enc.noisy_position_embedder.", _TO_ATOMS),
        *under("encoder.", "atom_attn_enc.", _encoder(atoms, config.inputs.element_classes)),
        *weight("single_norm", "layer_norm_s"),
        *weight("single", "linear_s"),
        *under("transformer.", "diffusion_transformer.", _transformer(config.diffusion.blocks, windows=False)),
        *weight("norm", "layer_norm_a"),
        *weight("decoder.token", "atom_attn_dec.linear_q_in"),
        *under("decoder.", "atom_attn_dec.", _atom_transformer(atoms)),
        *weight("decoder.norm", "atom_attn_dec.layer_norm"),
        *weight("decoder.out", "atom_attn_dec.linear_q_out"),
    )


# SI Algorithms 1, 2 and 31.


def _trunk(config: Config) -> Table:
    return (
        *under("inputs.atoms.", "input_embedder.atom_attn_enc.", _encoder(config.atoms, config.inputs.element_classes)),
        *weight("relative.out", "input_embedder.linear_relpos"),
        *weight("s_init", "input_embedder.linear_s"),
        *weight("z_rows", "input_embedder.linear_z_i"),
        *weight("z_columns", "input_embedder.linear_z_j"),
        *weight("bonds", "input_embedder.linear_token_bonds"),
        *affine("s_norm", "layer_norm_s"),
        *weight("s_recycle", "linear_s"),
        *affine("z_norm", "layer_norm_z"),
        *weight("z_recycle", "linear_z"),
        *under("template.", "template_embedder.", _template(config)),
        *under("msa.", "", _msa(config)),
        *numbered("pairformer.blocks", "pairformer_stack.blocks", config.pairformer.blocks, PAIRFORMER_BLOCK),
    )


def _confidence(config: Config) -> Table:
    heads = {"pae": "pae", "pde": "pde", "plddt": "plddt", "resolved": "experimentally_resolved"}
    return (
        *weight("first", "pairformer_embedding.linear_i"),
        *weight("second", "pairformer_embedding.linear_j"),
        *weight("distance_bins", "pairformer_embedding.linear_distance"),
        *numbered("stack.blocks", "pairformer_embedding.pairformer_stack.blocks", config.confidence.blocks, PAIRFORMER_BLOCK),
        *(rule for ours, theirs in heads.items() for rule in affine(f"{ours}_norm", f"{theirs}.layer_norm")),
        *(rule for ours, theirs in heads.items() for rule in weight(ours, f"{theirs}.linear")),
    )


def openfold3_table(config: Config) -> Table:
    """Everything: `OpenFold3(...).state_dict()`, without version and repetitions, to `AlphaFold3(config).state_dict()`."""
    return (
        *under("trunk.", "", _trunk(config)),
        *under("denoiser.network.", "diffusion_module.", diffusion_module(config)),
        *weight("distogram.project", "aux_heads.distogram.linear"),
        *under("confidence.", "aux_heads.", _confidence(config)),
    )
