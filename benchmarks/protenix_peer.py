"""Protenix as its package builds it, for the CPU, with random weights and with the features of one of our batches."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

os.environ.setdefault("LAYERNORM_TYPE", "torch")  # its own layer norm needs CUDA; read when the package is imported

import numpy
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from structgen.alphafold3.config import Config, Pair
from structgen.features.batch import Batch

ARGUMENTS = "--project x --run_name y --base_dir z --eval_interval 1 --log_interval 1 --max_steps 1"


def build(config: Config) -> Any:
    """The model with the readings of `config`, without its slow first weights.

    A public model is made as the package makes it; any other size by the widths and depths of `config`.
    """
    _no_first_weights()
    from configs.configs_base import configs as base
    from configs.configs_data import data_configs
    from configs.configs_inference import inference_configs
    from configs.configs_model_type import model_configs
    from ml_collections import ConfigDict
    from protenix.config.config import parse_configs
    from protenix.model.protenix import Protenix

    public = config.name in model_configs
    widths = "" if public else _widths(config)
    made = parse_configs({**base, "data": data_configs, **inference_configs}, arg_str=ARGUMENTS + widths, fill_required_with_null=True)
    made.update(ConfigDict(model_configs[config.name] if public else _sizes(config)))
    made.update(ConfigDict({"triangle_multiplicative": "torch", "triangle_attention": "torch"}))
    model = Protenix(made).eval()
    model.load_state_dict(weights(shapes(model)) | constants(model))
    return model


def _widths(config: Config) -> str:
    """As on Protenix's command line."""
    atoms, pair = config.atoms, config.pairformer.pair
    values = {
        "c_s": config.c_s, "c_z": pair.c_z, "c_atom": atoms.c_atom, "c_atompair": atoms.c_pair, "c_token": config.inputs.c_s_inputs_atom,
        "c_s_inputs": config.inputs.c_s_inputs, "hidden_scale_up": str(_scaled(pair)).lower(),
    }  # fmt: skip
    return "".join(f" --{name} {value}" for name, value in values.items())


def _scaled(pair: Pair) -> bool:
    """Whether the hidden widths follow the width of the pairs, as in v2."""
    return (pair.tri_hidden, pair.heads) == (pair.c_z, pair.c_z // 32)


def _sizes(config: Config) -> dict[str, Any]:
    """What `configs_model_type` says of a public model, for another one."""
    diffusion, sampling = config.diffusion, config.sampling
    around = {"n_blocks": diffusion.atoms.blocks, "n_heads": diffusion.atoms.heads}
    return {
        "sample_diffusion": {"gamma0": sampling.gamma_0, "step_scale_eta": sampling.step_scale, "N_step": sampling.steps},
        "model": {
            "N_cycle": sampling.cycles,
            "template_embedder": {"n_blocks": config.template.blocks, "hidden_scale_up": _scaled(config.template.pair)},
            "msa_module": {"n_blocks": config.msa.blocks, "c_m": config.msa.c_m},
            "pairformer": {"n_blocks": config.pairformer.blocks, "n_heads": config.pairformer.heads},
            "confidence_head": {"n_blocks": config.confidence.blocks},
            "diffusion_module": {
                "c_token": diffusion.c_token,
                "atom_encoder": around,
                "transformer": {"n_blocks": diffusion.blocks, "n_heads": diffusion.heads},
                "atom_decoder": around,
            },
        },
    }


def _no_first_weights() -> None:
    import protenix.model.triangular.layers as layers

    layers.trunc_normal_init_ = lambda *args, **kwargs: None
    for name in ("trunc_normal_", "xavier_uniform_", "kaiming_normal_", "kaiming_uniform_"):
        setattr(nn.init, name, lambda tensor, *args, **kwargs: tensor)


def constants(model: nn.Module) -> dict[str, Tensor]:
    """Bin edges are stored beside the weights."""
    return {name: tensor for name, tensor in model.state_dict().items() if name.endswith("_bins")}


def shapes(model: nn.Module) -> dict[str, tuple[int, ...]]:
    """Name to shape of all that a checkpoint of the model holds."""
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}


def weights(shapes: dict[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """Random weights that depend on names and shapes alone; none is zero and every nonlinearity is at work, so no mistake hides."""
    return {name: _draw(name, shape) for name, shape in shapes.items()}


def _draw(name: str, shape: tuple[int, ...]) -> Tensor:
    normal = torch.from_numpy(numpy.random.default_rng(zlib.crc32(name.encode())).standard_normal(shape, dtype=numpy.float32))
    if len(shape) > 1:
        return normal / shape[-2 if len(shape) == 3 else -1] ** 0.5
    return 1 + 0.2 * normal if name.endswith(".weight") else 0.2 * normal


@contextmanager
def reduced(*, autocast: bool) -> Iterator[None]:
    """Protenix in bfloat16 on the CPU: with `autocast`, or on weights that are bfloat16.

    It hands attention float32 queries and bfloat16 values, which CUDA's autocast brings to bfloat16 and the CPU's refuses: they are here.
    """
    attention = F.scaled_dot_product_attention

    def one_type(query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, **rest: Any) -> Tensor:
        mask = None if attn_mask is None else attn_mask.to(value.dtype)
        return attention(query.to(value.dtype), key.to(value.dtype), value, attn_mask=mask, **rest)

    F.scaled_dot_product_attention = cast(Any, one_type)
    try:
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            yield
    finally:
        F.scaled_dot_product_attention = attention


def features(batch: Batch, model: Any) -> dict[str, Any]:
    """What Protenix calls its input features, for the one example of `batch`."""
    from protenix.model.protenix import update_input_feature_dict

    same = {name: getattr(batch, name)[0] for name in SAME}
    representative = torch.zeros(batch.atoms, dtype=torch.int64).scatter(0, batch.representative_atom[0], 1)
    made = {
        **same,
        "restype": F.one_hot(batch.restype[0], 32).float(),
        "atom_to_token_idx": batch.atom_to_token[0],
        "atom_to_tokatom_idx": batch.atom_slot[0],
        "ref_mask": batch.ref_mask[0].float(),
        "ref_element": F.one_hot(batch.ref_element[0] - 1, 128).float(),
        "ref_atom_name_chars": F.one_hot(batch.ref_atom_name_chars[0], 64).float(),
        "distogram_rep_atom_mask": representative,
    }
    return update_input_feature_dict(model.relative_position_encoding.generate_relp(made))


SAME = (
    *("token_index", "residue_index", "asym_id", "entity_id", "sym_id", "profile", "deletion_mean", "token_bonds"),
    *("ref_pos", "ref_charge", "ref_space_uid", "msa", "has_deletion", "deletion_value"),
)
