"""The table that reads Protenix (PyPI `protenix`, checked against 2.0.0); `alphafold3.protenix` holds the configurations it needs."""

from __future__ import annotations

from dataclasses import replace

import torch

from structgen.alphafold3.config import Atoms, Config
from structgen.alphafold3.convert import Rule, Table, affine, checked, concatenated, joined, numbered, tensor, under, weight

# SI Algorithms 8-17.

_TRANSITION: Table = (
    *affine("norm", "layernorm1"),
    *joined("wide", "linear_no_bias_a", "linear_no_bias_b"),
    *weight("out", "linear_no_bias"),
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
    *weight("bias", "linear"),
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
    *affine("q", "attention.linear_q"),
    *joined("kv", "attention.linear_k", "attention.linear_v"),
    *weight("gate", "attention.linear_g"),
    *weight("out", "attention.linear_o"),
)

_SINGLE: Table = (
    *affine("attention.norm", "attention_pair_bias.layernorm_a"),
    *under("attention.", "attention_pair_bias.", _ATTENTION),
    *affine("attention.norm_z", "attention_pair_bias.layernorm_z"),
    *weight("attention.bias", "attention_pair_bias.linear_nobias_z"),
    *under("transition.", "single_transition.", _TRANSITION),
)

PAIRFORMER_BLOCK: Table = (*under("pair.", "", _PAIR), *under("single.", "", _SINGLE))

_MSA_PAIR: Table = (
    *affine("outer.norm", "outer_product_mean_msa.layer_norm"),
    *weight("outer.left", "outer_product_mean_msa.linear_1"),
    *weight("outer.right", "outer_product_mean_msa.linear_2"),
    *affine("outer.out", "outer_product_mean_msa.linear_out"),
    *under("pair.", "pair_stack.", _PAIR),
)

_AVERAGE: Table = (
    *affine("norm", "layernorm_m"),
    *weight("value", "linear_no_bias_mv"),
    *affine("norm_z", "layernorm_z"),
    *weight("bias", "linear_no_bias_z"),
    *weight("gate", "linear_no_bias_mg"),
    *weight("out", "linear_no_bias_out"),
)

_MSA_BLOCK: Table = (
    *_MSA_PAIR,
    *under("average.", "msa_stack.msa_pair_weighted_averaging.", _AVERAGE),
    *under("transition.", "msa_stack.transition_m.", _TRANSITION),
)


def _msa(config: Config) -> Table:
    whole = config.msa.blocks if config.msa.last_update else config.msa.blocks - 1
    return (
        *weight("features", "linear_no_bias_m"),
        *weight("s_inputs", "linear_no_bias_s"),
        *numbered("blocks", "blocks", whole, _MSA_BLOCK),
        *(rule for i in range(whole, config.msa.blocks) for rule in under(f"blocks.{i}.", f"blocks.{i}.", _MSA_PAIR)),
    )


def _template(config: Config) -> Table:
    """A Protenix without template blocks never calls its template embedder: a zero matrix at its end says the same."""
    blocks = config.template.blocks
    last = weight("out", "linear_no_bias_u")
    return (
        *affine("norm_z", "layernorm_z"),
        *weight("z", "linear_no_bias_z"),
        *weight("features", "linear_no_bias_a"),
        *numbered("stack.blocks", "pairformer_stack.blocks", blocks, under("pair.", "", _PAIR)),
        *affine("norm", "layernorm_v"),
        *(last if blocks else (replace(rule, make=lambda tensors: torch.zeros_like(tensors[0])) for rule in last)),
    )


# SI Algorithms 5-7 and 20-26.

_ADALN: Table = (*weight("norm_s", "layernorm_s"), *affine("scale", "linear_s"), *weight("shift", "linear_nobias_s"))

_CONDITIONED_TRANSITION: Table = (
    *under("norm.", "adaln.", _ADALN),
    *joined("wide", "linear_nobias_a1", "linear_nobias_a2"),
    *weight("out", "linear_nobias_b"),
    *affine("s_gate", "linear_s"),
)


def _transformer(blocks: int, *, norm_kv: bool) -> Table:
    """SI Algorithm 23; `norm_kv` where keys and values have an AdaLN of their own (atoms)."""
    conditioned: Table = (
        *under("norm.", "layernorm_a.", _ADALN),
        *(under("norm_kv.", "layernorm_kv.", _ADALN) if norm_kv else ()),
        *_ATTENTION,
        *affine("s_gate", "linear_a_last"),
    )
    return tuple(
        rule
        for i in range(blocks)
        for rule in (
            *under(f"attentions.{i}.", f"blocks.{i}.attention_pair_bias.", conditioned),
            *under(f"transitions.{i}.", f"blocks.{i}.conditioned_transition_block.", _CONDITIONED_TRANSITION),
            *weight(f"pair_norms.{i}", f"blocks.{i}.attention_pair_bias.layernorm_z"),
            *weight(f"pair_biases.{i}", f"blocks.{i}.attention_pair_bias.linear_nobias_z"),
        )
    )


def _atom_transformer(atoms: Atoms) -> Table:
    return under("transformer.", "atom_transformer.diffusion_transformer.", _transformer(atoms.blocks, norm_kv=atoms.kv_norm != "shared"))


def _encoder(atoms: Atoms, elements: int) -> Table:
    return (
        *concatenated("reference", {"linear_no_bias_ref_pos": 3, "linear_no_bias_ref_charge": 1, "linear_no_bias_f": 1 + elements + 256}),
        *weight("pairs.offset", "linear_no_bias_d"),
        *weight("pairs.inverse", "linear_no_bias_invd"),
        *weight("pairs.same", "linear_no_bias_v"),
        *weight("pairs.query", "linear_no_bias_cl"),
        *weight("pairs.key", "linear_no_bias_cm"),
        *(rule for i in (1, 3, 5) for rule in weight(f"pairs.mlp.{i}", f"small_mlp.{i}")),
        *_atom_transformer(atoms),
        *weight("out", "linear_no_bias_q"),
    )


_TO_ATOMS: Table = (
    *weight("single_norm", "layernorm_s"),
    *weight("single", "linear_no_bias_s"),
    *weight("pair_norm", "layernorm_z"),
    *weight("pair", "linear_no_bias_z"),
    *weight("position", "linear_no_bias_r"),
)

_CONDITIONING: Table = (
    *weight("relative.out", "relpe.linear_no_bias"),
    *weight("pair_norm", "layernorm_z"),
    *weight("pair", "linear_no_bias_z"),
    *under("pair_transitions.0.", "transition_z1.", _TRANSITION),
    *under("pair_transitions.1.", "transition_z2.", _TRANSITION),
    *weight("single_norm", "layernorm_s"),
    *weight("single", "linear_no_bias_s"),
    tensor("fourier.w", "fourier_embedding.w"),
    tensor("fourier.b", "fourier_embedding.b"),
    *weight("noise_norm", "layernorm_n"),
    *weight("noise", "linear_no_bias_n"),
    *under("single_transitions.0.", "transition_s1.", _TRANSITION),
    *under("single_transitions.1.", "transition_s2.", _TRANSITION),
)


def diffusion_module(config: Config) -> Table:
    """SI Algorithm 20: `DiffusionModule` here and in Protenix."""
    atoms = config.diffusion.atoms
    return (
        *under("conditioning.", "diffusion_conditioning.", _CONDITIONING),
        *under("to_atoms.", "atom_attention_encoder.", _TO_ATOMS),
        *under("encoder.", "atom_attention_encoder.", _encoder(atoms, config.inputs.element_classes)),
        *weight("single_norm", "layernorm_s"),
        *weight("single", "linear_no_bias_s"),
        *under("transformer.", "diffusion_transformer.", _transformer(config.diffusion.blocks, norm_kv=False)),
        *weight("norm", "layernorm_a"),
        *weight("decoder.token", "atom_attention_decoder.linear_no_bias_a"),
        *under("decoder.", "atom_attention_decoder.", _atom_transformer(atoms)),
        *weight("decoder.norm", "atom_attention_decoder.layernorm_q"),
        *weight("decoder.out", "atom_attention_decoder.linear_no_bias_out"),
    )


# SI Algorithms 1, 2 and 31.


def _trunk(config: Config) -> Table:
    return (
        *under("inputs.atoms.", "input_embedder.atom_attention_encoder.", _encoder(config.atoms, config.inputs.element_classes)),
        *weight("relative.out", "relative_position_encoding.linear_no_bias"),
        *weight("s_init", "linear_no_bias_sinit"),
        *weight("z_rows", "linear_no_bias_zinit1"),
        *weight("z_columns", "linear_no_bias_zinit2"),
        *weight("bonds", "linear_no_bias_token_bond"),
        *affine("s_norm", "layernorm_s"),
        *weight("s_recycle", "linear_no_bias_s"),
        *affine("z_norm", "layernorm_z_cycle"),
        *weight("z_recycle", "linear_no_bias_z_cycle"),
        *under("template.", "template_embedder.", _template(config)),
        *under("msa.", "msa_module.", _msa(config)),
        *numbered("pairformer.blocks", "pairformer_stack.blocks", config.pairformer.blocks, PAIRFORMER_BLOCK),
    )


def _slots(ours: str, theirs: str, slots: int) -> Rule:
    """A head that reads atoms by their slot: [slots, c_s, bins] as the linear map [slots * bins, c_s]."""
    return Rule(
        f"{ours}.weight",
        (theirs,),
        lambda tensors: tensors[0].transpose(1, 2).flatten(0, 1),
        lambda made: (made.unflatten(0, (slots, -1)).transpose(1, 2),),
    )


def _edges(config: Config) -> Rule:
    """Their bin edges, which here are part of the configuration; the last bin is open."""
    own = config.confidence
    edges = torch.linspace(own.first_bin, own.last_bin, own.distance_bins, device="cpu")
    upper = torch.cat([edges[1:], torch.tensor([1e6], device="cpu")])
    return checked({"lower_bins": edges, "upper_bins": upper}, "the confidence head would see other distance bins")


def _confidence(config: Config) -> Table:
    return (
        *affine("s_norm", "input_strunk_ln"),
        *weight("first", "linear_no_bias_s1"),
        *weight("second", "linear_no_bias_s2"),
        _edges(config),
        *weight("distance_bins", "linear_no_bias_d"),
        *weight("distance", "linear_no_bias_d_wo_onehot"),
        *numbered("stack.blocks", "pairformer_stack.blocks", config.confidence.blocks, PAIRFORMER_BLOCK),
        *(rule for head in ("pae", "pde", "plddt", "resolved") for rule in affine(f"{head}_norm", f"{head}_ln")),
        *weight("pae", "linear_no_bias_pae"),
        *weight("pde", "linear_no_bias_pde"),
        _slots("plddt", "plddt_weight", config.confidence.atoms_per_token),
        _slots("resolved", "resolved_weight", config.confidence.atoms_per_token),
    )


def protenix_table(config: Config) -> Table:
    """Everything: `Protenix(...).state_dict()` to `AlphaFold3(config).state_dict()`, configured as in `alphafold3.protenix`."""
    return (
        *under("trunk.", "", _trunk(config)),
        *under("denoiser.network.", "diffusion_module.", diffusion_module(config)),
        *affine("distogram.project", "distogram_head.linear"),
        *under("confidence.", "confidence_head.", _confidence(config)),
    )
