"""Weights of other implementations in the names and shapes of this one: every tensor used exactly once, nothing guessed.

A converter is a table of rules, each of which makes one of our tensors of one or more of theirs. The tables below read Protenix
(PyPI `protenix`, checked against 2.0.0); `structgen.alphafold3.protenix` holds the configurations that its models need.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from structgen.alphafold3.config import Atoms, Config
from structgen.errors import CheckpointError


@dataclass(frozen=True)
class Rule:
    """Our tensor `ours` is `make` of their tensors `theirs`. A rule without `ours` checks tensors that we do not keep."""

    ours: str | None
    theirs: tuple[str, ...]
    make: Callable[[list[Tensor]], Tensor]

    def under(self, ours: str, theirs: str) -> Rule:
        """The same rule inside a module of ours and one of theirs."""
        return replace(self, ours=None if self.ours is None else ours + self.ours, theirs=tuple(theirs + name for name in self.theirs))


Table = tuple[Rule, ...]


def convert(theirs: Mapping[str, Tensor], table: Iterable[Rule], expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Our state dict. `expected` gives the names and shapes that must come out: a network's `state_dict()`, on the meta device if need be.

    Raises `CheckpointError` where a tensor of theirs is missing or left over, and where one of ours has another shape or no source.
    """
    rules = tuple(table)
    _require_same("their tensors", set(theirs), [name for rule in rules for name in rule.theirs])
    _require_same("our tensors", set(expected), [rule.ours for rule in rules if rule.ours is not None])
    made = ((rule.ours, _make(rule, theirs)) for rule in rules)
    ours = {name: tensor for name, tensor in made if name is not None}
    for name, tensor in ours.items():
        if tensor.shape != expected[name].shape:
            raise CheckpointError(f"{name} would have shape {tuple(tensor.shape)}; the configuration needs {tuple(expected[name].shape)}")
    return ours


def _make(rule: Rule, theirs: Mapping[str, Tensor]) -> Tensor:
    try:
        return rule.make([theirs[name] for name in rule.theirs])
    except RuntimeError as error:  # torch's own complaint about shapes that do not go together
        raise CheckpointError(f"{', '.join(rule.theirs)}: {error}") from error


def _require_same(what: str, names: set[str], table: list[str]) -> None:
    """The table must speak of every name, once."""
    missing, surplus = sorted(set(table) - names), sorted(names - set(table))
    if missing or surplus:
        raise CheckpointError(f"{what}: missing {missing[:3]} ({len(missing)}), unknown {surplus[:3]} ({len(surplus)})")
    twice = sorted(name for name, count in Counter(table).items() if count > 1)
    if twice:
        raise CheckpointError(f"{what}: the table names {twice[:3]} more than once")


# What one of our tensors is made of.


def _tensor(ours: str, theirs: str) -> Rule:
    return Rule(ours, (theirs,), lambda tensors: tensors[0])


def _weight(ours: str, theirs: str) -> Table:
    """A linear map without bias, or a layer norm without offset."""
    return (_tensor(f"{ours}.weight", f"{theirs}.weight"),)


def _affine(ours: str, theirs: str) -> Table:
    """A linear map with bias, or a layer norm with offset."""
    return (*_weight(ours, theirs), _tensor(f"{ours}.bias", f"{theirs}.bias"))


def _joined(ours: str, *theirs: str, dim: int = 0) -> Table:
    """Several linear maps of one input (dim 0) or into one output (dim 1) as one."""
    return (Rule(f"{ours}.weight", tuple(f"{name}.weight" for name in theirs), lambda tensors: torch.cat(tensors, dim=dim)),)


def _under(ours: str, theirs: str, table: Table) -> Table:
    return tuple(rule.under(ours, theirs) for rule in table)


def _numbered(ours: str, theirs: str, count: int, table: Table) -> Table:
    """The table once for every block, 0 to `count` - 1."""
    return tuple(rule for i in range(count) for rule in _under(f"{ours}.{i}.", f"{theirs}.{i}.", table))


# Protenix: SI Algorithms 8-17.

_TRANSITION: Table = (
    *_affine("norm", "layernorm1"),
    *_joined("wide", "linear_no_bias_a", "linear_no_bias_b"),
    *_weight("out", "linear_no_bias"),
)

_MULTIPLICATION: Table = (
    *_affine("norm", "layer_norm_in"),
    *_joined("projections", "linear_a_p", "linear_b_p"),
    *_joined("gates", "linear_a_g", "linear_b_g"),
    *_affine("norm_out", "layer_norm_out"),
    *_weight("out", "linear_z"),
    *_weight("gate_out", "linear_g"),
)

_TRIANGLE_ATTENTION: Table = (
    *_affine("norm", "layer_norm"),
    *_joined("qkv", "mha.linear_q", "mha.linear_k", "mha.linear_v"),
    *_weight("bias", "linear"),
    *_weight("gate", "mha.linear_g"),
    *_weight("out", "mha.linear_o"),
)

_PAIR: Table = (
    *_under("outgoing.", "tri_mul_out.", _MULTIPLICATION),
    *_under("incoming.", "tri_mul_in.", _MULTIPLICATION),
    *_under("starting.", "tri_att_start.", _TRIANGLE_ATTENTION),
    *_under("ending.", "tri_att_end.", _TRIANGLE_ATTENTION),
    *_under("transition.", "pair_transition.", _TRANSITION),
)

_ATTENTION: Table = (  # the projections that SI Algorithm 24 has with and without conditioning
    *_affine("q", "attention.linear_q"),
    *_joined("kv", "attention.linear_k", "attention.linear_v"),
    *_weight("gate", "attention.linear_g"),
    *_weight("out", "attention.linear_o"),
)

_SINGLE: Table = (
    *_affine("attention.norm", "attention_pair_bias.layernorm_a"),
    *_under("attention.", "attention_pair_bias.", _ATTENTION),
    *_affine("attention.norm_z", "attention_pair_bias.layernorm_z"),
    *_weight("attention.bias", "attention_pair_bias.linear_nobias_z"),
    *_under("transition.", "single_transition.", _TRANSITION),
)

PAIRFORMER_BLOCK: Table = (*_under("pair.", "", _PAIR), *_under("single.", "", _SINGLE))

_MSA_PAIR: Table = (
    *_affine("outer.norm", "outer_product_mean_msa.layer_norm"),
    *_weight("outer.left", "outer_product_mean_msa.linear_1"),
    *_weight("outer.right", "outer_product_mean_msa.linear_2"),
    *_affine("outer.out", "outer_product_mean_msa.linear_out"),
    *_under("pair.", "pair_stack.", _PAIR),
)

_AVERAGE: Table = (
    *_affine("norm", "layernorm_m"),
    *_weight("value", "linear_no_bias_mv"),
    *_affine("norm_z", "layernorm_z"),
    *_weight("bias", "linear_no_bias_z"),
    *_weight("gate", "linear_no_bias_mg"),
    *_weight("out", "linear_no_bias_out"),
)

_MSA_BLOCK: Table = (
    *_MSA_PAIR,
    *_under("average.", "msa_stack.msa_pair_weighted_averaging.", _AVERAGE),
    *_under("transition.", "msa_stack.transition_m.", _TRANSITION),
)


def _msa(config: Config) -> Table:
    whole = config.msa.blocks if config.msa.last_update else config.msa.blocks - 1
    return (
        *_weight("features", "linear_no_bias_m"),
        *_weight("s_inputs", "linear_no_bias_s"),
        *_numbered("blocks", "blocks", whole, _MSA_BLOCK),
        *(rule for i in range(whole, config.msa.blocks) for rule in _under(f"blocks.{i}.", f"blocks.{i}.", _MSA_PAIR)),
    )


def _template(config: Config) -> Table:
    """A Protenix without template blocks never calls its template embedder: a zero matrix at its end says the same."""
    blocks = config.template.blocks
    last = _weight("out", "linear_no_bias_u")
    return (
        *_affine("norm_z", "layernorm_z"),
        *_weight("z", "linear_no_bias_z"),
        *_weight("features", "linear_no_bias_a"),
        *_numbered("stack.blocks", "pairformer_stack.blocks", blocks, _under("pair.", "", _PAIR)),
        *_affine("norm", "layernorm_v"),
        *(last if blocks else (replace(rule, make=lambda tensors: torch.zeros_like(tensors[0])) for rule in last)),
    )


# Protenix: SI Algorithms 5-7 and 20-26.

_ADALN: Table = (*_weight("norm_s", "layernorm_s"), *_affine("scale", "linear_s"), *_weight("shift", "linear_nobias_s"))

_CONDITIONED_TRANSITION: Table = (
    *_under("norm.", "adaln.", _ADALN),
    *_joined("wide", "linear_nobias_a1", "linear_nobias_a2"),
    *_weight("out", "linear_nobias_b"),
    *_affine("s_gate", "linear_s"),
)


def _transformer(blocks: int, *, norm_kv: bool) -> Table:
    """SI Algorithm 23; `norm_kv` where keys and values have an AdaLN of their own (atoms)."""
    conditioned: Table = (
        *_under("norm.", "layernorm_a.", _ADALN),
        *(_under("norm_kv.", "layernorm_kv.", _ADALN) if norm_kv else ()),
        *_ATTENTION,
        *_affine("s_gate", "linear_a_last"),
    )
    return tuple(
        rule
        for i in range(blocks)
        for rule in (
            *_under(f"attentions.{i}.", f"blocks.{i}.attention_pair_bias.", conditioned),
            *_under(f"transitions.{i}.", f"blocks.{i}.conditioned_transition_block.", _CONDITIONED_TRANSITION),
            *_weight(f"pair_norms.{i}", f"blocks.{i}.attention_pair_bias.layernorm_z"),
            *_weight(f"pair_biases.{i}", f"blocks.{i}.attention_pair_bias.linear_nobias_z"),
        )
    )


def _atom_transformer(atoms: Atoms) -> Table:
    return _under("transformer.", "atom_transformer.diffusion_transformer.", _transformer(atoms.blocks, norm_kv=atoms.kv_norm != "shared"))


def _encoder(atoms: Atoms) -> Table:
    return (
        *_joined("reference", "linear_no_bias_ref_pos", "linear_no_bias_ref_charge", "linear_no_bias_f", dim=1),
        *_weight("pairs.offset", "linear_no_bias_d"),
        *_weight("pairs.inverse", "linear_no_bias_invd"),
        *_weight("pairs.same", "linear_no_bias_v"),
        *_weight("pairs.query", "linear_no_bias_cl"),
        *_weight("pairs.key", "linear_no_bias_cm"),
        *(rule for i in (1, 3, 5) for rule in _weight(f"pairs.mlp.{i}", f"small_mlp.{i}")),
        *_atom_transformer(atoms),
        *_weight("out", "linear_no_bias_q"),
    )


_TO_ATOMS: Table = (
    *_weight("single_norm", "layernorm_s"),
    *_weight("single", "linear_no_bias_s"),
    *_weight("pair_norm", "layernorm_z"),
    *_weight("pair", "linear_no_bias_z"),
    *_weight("position", "linear_no_bias_r"),
)

_CONDITIONING: Table = (
    *_weight("relative.out", "relpe.linear_no_bias"),
    *_weight("pair_norm", "layernorm_z"),
    *_weight("pair", "linear_no_bias_z"),
    *_under("pair_transitions.0.", "transition_z1.", _TRANSITION),
    *_under("pair_transitions.1.", "transition_z2.", _TRANSITION),
    *_weight("single_norm", "layernorm_s"),
    *_weight("single", "linear_no_bias_s"),
    _tensor("fourier.w", "fourier_embedding.w"),
    _tensor("fourier.b", "fourier_embedding.b"),
    *_weight("noise_norm", "layernorm_n"),
    *_weight("noise", "linear_no_bias_n"),
    *_under("single_transitions.0.", "transition_s1.", _TRANSITION),
    *_under("single_transitions.1.", "transition_s2.", _TRANSITION),
)


def diffusion_module(config: Config) -> Table:
    """SI Algorithm 20: `DiffusionModule` here and in Protenix."""
    atoms = config.diffusion.atoms
    return (
        *_under("conditioning.", "diffusion_conditioning.", _CONDITIONING),
        *_under("to_atoms.", "atom_attention_encoder.", _TO_ATOMS),
        *_under("encoder.", "atom_attention_encoder.", _encoder(atoms)),
        *_weight("single_norm", "layernorm_s"),
        *_weight("single", "linear_no_bias_s"),
        *_under("transformer.", "diffusion_transformer.", _transformer(config.diffusion.blocks, norm_kv=False)),
        *_weight("norm", "layernorm_a"),
        *_weight("decoder.token", "atom_attention_decoder.linear_no_bias_a"),
        *_under("decoder.", "atom_attention_decoder.", _atom_transformer(atoms)),
        *_weight("decoder.norm", "atom_attention_decoder.layernorm_q"),
        *_weight("decoder.out", "atom_attention_decoder.linear_no_bias_out"),
    )


# Protenix: SI Algorithms 1, 2 and 31.


def _trunk(config: Config) -> Table:
    return (
        *_under("inputs.atoms.", "input_embedder.atom_attention_encoder.", _encoder(config.atoms)),
        *_weight("relative.out", "relative_position_encoding.linear_no_bias"),
        *_weight("s_init", "linear_no_bias_sinit"),
        *_weight("z_rows", "linear_no_bias_zinit1"),
        *_weight("z_columns", "linear_no_bias_zinit2"),
        *_weight("bonds", "linear_no_bias_token_bond"),
        *_affine("s_norm", "layernorm_s"),
        *_weight("s_recycle", "linear_no_bias_s"),
        *_affine("z_norm", "layernorm_z_cycle"),
        *_weight("z_recycle", "linear_no_bias_z_cycle"),
        *_under("template.", "template_embedder.", _template(config)),
        *_under("msa.", "msa_module.", _msa(config)),
        *_numbered("pairformer.blocks", "pairformer_stack.blocks", config.pairformer.blocks, PAIRFORMER_BLOCK),
    )


def _slots(ours: str, theirs: str) -> Rule:
    """A head that reads atoms by their slot: [slots, c_s, bins] as the linear map [slots * bins, c_s]."""
    return Rule(f"{ours}.weight", (theirs,), lambda tensors: tensors[0].transpose(1, 2).flatten(0, 1))


def _edges(config: Config) -> Rule:
    """Their lower bin edges, which here are part of the configuration."""
    own = config.confidence
    edges = torch.linspace(own.first_bin, own.last_bin, own.distance_bins)

    def check(tensors: list[Tensor]) -> Tensor:
        lower, upper = tensors
        if lower.shape != edges.shape or upper.shape != edges.shape:
            raise CheckpointError(f"the confidence head has {len(lower)} distance bins; the configuration needs {len(edges)}")
        if not lower.is_meta and not (torch.allclose(lower.float(), edges) and torch.allclose(upper[:-1].float(), edges[1:])):
            raise CheckpointError(f"the confidence head's distance bins run from {lower.min()}; the configuration says {edges.tolist()}")
        return lower

    return Rule(None, ("lower_bins", "upper_bins"), check)


def _confidence(config: Config) -> Table:
    return (
        *_affine("s_norm", "input_strunk_ln"),
        *_weight("first", "linear_no_bias_s1"),
        *_weight("second", "linear_no_bias_s2"),
        _edges(config),
        *_weight("distance_bins", "linear_no_bias_d"),
        *_weight("distance", "linear_no_bias_d_wo_onehot"),
        *_numbered("stack.blocks", "pairformer_stack.blocks", config.confidence.blocks, PAIRFORMER_BLOCK),
        *(rule for head in ("pae", "pde", "plddt", "resolved") for rule in _affine(f"{head}_norm", f"{head}_ln")),
        *_weight("pae", "linear_no_bias_pae"),
        *_weight("pde", "linear_no_bias_pde"),
        _slots("plddt", "plddt_weight"),
        _slots("resolved", "resolved_weight"),
    )


def protenix_table(config: Config) -> Table:
    """Everything: `Protenix(...).state_dict()` to `AlphaFold3(config).state_dict()`, configured as in `alphafold3.protenix`."""
    return (
        *_under("trunk.", "", _trunk(config)),
        *_under("denoiser.network.", "diffusion_module.", diffusion_module(config)),
        *_affine("distogram.project", "distogram_head.linear"),
        *_under("confidence.", "confidence_head.", _confidence(config)),
    )
