"""Networks of pictures beside those of diffusers with the same weights: docs/vision_parity.md and the answers that tests compare with.

    python -m venv peers && peers/bin/pip install -e . "torch>=2.9,<2.14" diffusers==0.42.1
    PYTHONPATH=. peers/bin/python -m benchmarks.vision_diffusers [--answers FILE] [--page FILE]

Each module is drawn by structgen, its weights are renamed and copied into the module of diffusers, both are called with equal inputs.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

import diffusers
import torch
from diffusers.models.attention_processor import Attention
from diffusers.models.controlnets.controlnet import ControlNetConditioningEmbedding
from diffusers.models.resnet import ResnetBlock2D
from safetensors.torch import save_file
from torch import Tensor

from structgen.vision.dit import DiT
from structgen.vision.mmdit import MMDiT
from structgen.vision.unet import UNet
from tests.vision.answers import CASES, Case

REPOSITORY = Path(__file__).parents[1]
ANSWERS, PAGE = REPOSITORY / "tests" / "vision" / "diffusers_answers.safetensors", REPOSITORY / "docs" / "vision_parity.md"
Weights = dict[str, Tensor]
Peer = tuple[torch.nn.Module, Callable[[torch.nn.Module, Mapping[str, Tensor]], Tensor]]


def renamed(weights: Weights, names: Mapping[str, str]) -> Weights:
    """Keys whose first matching beginning is replaced, in the order of `names`; others fall away."""
    found: Weights = {}
    for key, value in weights.items():
        for old, new in names.items():
            if key.startswith(old):
                found[new + key.removeprefix(old)] = value
                break
    return found


def attention_names(own: str, other: str) -> dict[str, str]:
    parts = {"q.": "to_q.", "k.": "to_k.", "v.": "to_v.", "out.": "to_out.0.", "norm_q.": "norm_q.", "norm_k.": "norm_k."}
    return {own + a: other + b for a, b in parts.items()}


def two_layers(own: str, other: str) -> dict[str, str]:
    return {own + "first.": other + "linear_1.", own + "second.": other + "linear_2."}


def feed_forward(own: str, other: str) -> dict[str, str]:
    return {own + "first.": other + "net.0.proj.", own + "second.": other + "net.2."}


def as_convolution(weight: Tensor, channels: int, patch: int) -> Tensor:
    """[width, p q c] -> [width, c, p, q]."""
    return weight.unflatten(1, (patch, patch, channels)).permute(0, 3, 1, 2).contiguous()


def swapped(weights: Weights, prefix: str) -> None:
    """DiT's shift and scale in the order of SD3's last norms: scale and shift."""
    for name in ("weight", "bias"):
        shift, scale = weights[f"{prefix}.{name}"].chunk(2)
        weights[f"{prefix}.{name}"] = torch.cat([scale, shift])


def dit(case: Case) -> Peer:
    module, side = cast(DiT, case.module), case.inputs["x"].shape[-1]
    config, patch = module.config, module.config.patch[0]
    model = diffusers.DiTTransformer2DModel(
        num_attention_heads=config.heads, attention_head_dim=config.width // config.heads, in_channels=4, out_channels=4,
        num_layers=config.depth, sample_size=side, patch_size=patch, num_embeds_ada_norm=config.steering.classes, norm_type="ada_norm_zero",
        norm_elementwise_affine=False, norm_eps=1e-6,
    )  # fmt: skip
    names = {"transformer.first.bias": "pos_embed.proj.bias", "transformer.first.weight": "pos_embed.proj.weight"}
    names |= {"transformer.final.modulation.linear.": "proj_out_1.", "transformer.final.linear.": "proj_out_2."}
    weights = dict(case.module.state_dict())
    for n in range(config.depth):
        own, other = f"transformer.blocks.{n}.", f"transformer_blocks.{n}."
        names |= {own + "modulation.linear.": other + "norm1.linear."} | attention_names(own + "attention.", other + "attn1.")
        names |= feed_forward(own + "feed_forward.", other + "ff.")
        for key, value in module.transformer.steer.state_dict().items():  # diffusers keeps a copy in every block
            weights[f"steer.{n}.{key}"] = value
        names |= two_layers(f"steer.{n}.times.0.", other + "norm1.emb.timestep_embedder.")
        names |= {f"steer.{n}.label.weight": other + "norm1.emb.class_embedder.embedding_table.weight"}
    found = renamed(weights, names)
    found["pos_embed.proj.weight"] = as_convolution(found["pos_embed.proj.weight"], 4, patch)
    model.load_state_dict(found)
    return model, lambda net, i: net(i["x"], timestep=i["t"] * 1000, class_labels=i["label"]).sample


NORMS = (("picture", "norm1"), ("text", "norm1_context"))
ADDED = {
    "q": "add_q_proj", "k": "add_k_proj", "v": "add_v_proj", "out": "to_add_out", "norm_q": "norm_added_q", "norm_k": "norm_added_k",
}  # fmt: skip


def mmdit(case: Case) -> Peer:
    config, side = cast(MMDiT, case.module).config, case.inputs["x"].shape[-1]
    model = diffusers.SD3Transformer2DModel(
        sample_size=side, patch_size=2, in_channels=4, out_channels=4, num_layers=config.depth, num_attention_heads=config.heads,
        attention_head_dim=config.width // config.heads, joint_attention_dim=config.c_tokens, caption_projection_dim=config.width,
        pooled_projection_dim=config.steering.c_vector, pos_embed_max_size=side // 2, qk_norm="rms_norm",
    )  # fmt: skip
    names = {"first.": "pos_embed.proj.", "words.": "context_embedder.", "final.linear.": "proj_out."}
    names |= {"final.modulation.linear.": "norm_out.linear."}
    names |= two_layers("steer.times.0.", "time_text_embed.timestep_embedder.")
    names |= two_layers("steer.vector.", "time_text_embed.text_embedder.")
    for n in range(config.depth):
        own, other = f"blocks.{n}.", f"transformer_blocks.{n}."
        names |= {f"{own}{stream}.modulation.linear.": f"{other}{norm}.linear." for stream, norm in NORMS}
        names |= attention_names(f"{own}picture.attention.", f"{other}attn.")
        names |= {f"{own}text.attention.{a}.": f"{other}attn.{b}." for a, b in ADDED.items()}
        names |= feed_forward(f"{own}picture.feed_forward.", f"{other}ff.")
        names |= feed_forward(f"{own}text.feed_forward.", f"{other}ff_context.")
    found = renamed(dict(case.module.state_dict()), names)
    found["pos_embed.proj.weight"] = as_convolution(found["pos_embed.proj.weight"], 4, 2)
    swapped(found, "norm_out.linear")
    swapped(found, f"transformer_blocks.{config.depth - 1}.norm1_context.linear")
    found["pos_embed.pos_embed"] = model.pos_embed.pos_embed
    model.load_state_dict(found)
    return model, lambda net, i: net(i["x"], i["tokens"], i["vector"], i["t"] * 1000).sample


def resnet_names(own: str, other: str) -> dict[str, str]:
    parts = {"scale_shift.": "time_emb_proj.", "shortcut.": "conv_shortcut."}
    parts |= {f"{name}.": f"{name}." for name in ("norm1", "conv1", "norm2", "conv2")}
    return {own + a: other + b for a, b in parts.items()}


def stage_names(own: str, block: str, k: int, attends: bool) -> dict[str, str]:
    names = resnet_names(own + "block.", f"{block}.resnets.{k}.")
    if attends:
        there = f"{block}.attentions.{k}."
        names |= {own + "attention.norm.": there + "group_norm."} | attention_names(own + "attention.own.", there)
    return names


def unet(case: Case) -> Peer:
    config = cast(UNet, case.module).config
    down = tuple("AttnDownBlock2D" if attend else "DownBlock2D" for attend in config.attend)
    up = tuple("AttnUpBlock2D" if attend else "UpBlock2D" for attend in reversed(config.attend))
    classes = config.steering.classes + 1 if config.steering.classes else None
    model = diffusers.UNet2DModel(
        sample_size=case.inputs["x"].shape[-1], in_channels=3, out_channels=3, block_out_channels=config.widths,
        layers_per_block=config.blocks, down_block_types=down, up_block_types=up, attention_head_dim=config.head_width,
        norm_num_groups=config.groups, norm_eps=1e-5, resnet_time_scale_shift="scale_shift", num_class_embeds=classes,
        class_embed_type=None, freq_shift=0, add_attention=True, attn_norm_num_groups=config.groups,
    )  # fmt: skip
    names = two_layers("steer.times.0.", "time_embedding.") | {"steer.label.": "class_embedding.", "descent.first.": "conv_in."}
    names |= {"norm.": "conv_norm_out.", "last.": "conv_out."}
    levels = len(config.widths)
    for n in range(levels):
        for k in range(config.blocks):
            names |= stage_names(f"descent.levels.{n}.{k}.", f"down_blocks.{n}", k, config.attend[n])
        for k in range(config.blocks + 1):
            names |= stage_names(f"ups.{n}.{k}.", f"up_blocks.{n}", k, config.attend[levels - 1 - n])
        names |= {f"descent.halves.{n}.": f"down_blocks.{n}.downsamplers.0.", f"enlarge.{n}.": f"up_blocks.{n}.upsamplers.0."}
    names |= stage_names("descent.middle.0.", "mid_block", 0, True) | stage_names("descent.middle.1.", "mid_block", 1, False)
    model.load_state_dict(renamed(dict(case.module.state_dict()), names))
    return model, lambda net, i: net(i["x"], i["t"] * 1000, class_labels=i["label"]).sample


def resnet(case: Case) -> Peer:
    model = ResnetBlock2D(
        in_channels=8, out_channels=16, temb_channels=12, groups=4, eps=1e-5, time_embedding_norm="scale_shift", non_linearity="silu"
    )
    model.load_state_dict(renamed(dict(case.module.state_dict()), resnet_names("", "")))
    return model, lambda net, i: net(i["x"], i["vector"])


def cross_attention(case: Case) -> Peer:
    model = Attention(query_dim=16, cross_attention_dim=10, heads=4, dim_head=4, bias=True)
    model.load_state_dict(renamed(dict(case.module.state_dict()), attention_names("", "")))

    def call(net: torch.nn.Module, i: Mapping[str, Tensor]) -> Tensor:
        bias = torch.where(i["mask"], 0.0, -1e9)[:, None]
        return net(i["x"], encoder_hidden_states=i["tokens"], attention_mask=bias.repeat_interleave(4, 0))

    return model, call


def hint(case: Case) -> Peer:
    model = ControlNetConditioningEmbedding(conditioning_embedding_channels=24, conditioning_channels=3, block_out_channels=(8, 12, 16))
    model.load_state_dict(renamed(dict(case.module.state_dict()), {"first.": "conv_in.", "layers.": "blocks.", "last.": "conv_out."}))
    return model, lambda net, i: net(i["control"])


PEERS = {"dit": dit, "mmdit": mmdit, "unet": unet, "resnet": resnet, "cross_attention": cross_attention, "hint": hint}
WORDS = {
    "dit": ("`DiT`, adaLN-Zero, classes", "`DiTTransformer2DModel`"),
    "mmdit": ("`MMDiT`, RMS norms of queries and keys, pooled vector", "`SD3Transformer2DModel`"),
    "unet": ("`UNet`, scale and shift, attention, classes", "`UNet2DModel`"),
    "resnet": ("`ResnetBlock`", "`ResnetBlock2D`"),
    "cross_attention": ("`Attention` to masked tokens", "`Attention`"),
    "hint": ("`Hint` of a `ControlNet`", "`ControlNetConditioningEmbedding`"),
}


def ratio_of_times(case: Case, peer: Peer, rounds: int = 40) -> float:
    """Median over rounds of structgen's CPU time over diffusers', the two called in turns."""
    model, call = peer
    found = []
    for _ in range(rounds):
        start = time.process_time()
        case.call(case.module, case.inputs)
        middle = time.process_time()
        call(model, case.inputs)
        found.append((middle - start) / max(time.process_time() - middle, 1e-9))
    return statistics.median(found)


HEAD = f"""# Pictures' networks beside diffusers

Made by `python -m benchmarks.vision_diffusers` (diffusers {diffusers.__version__}, torch {torch.__version__}); not to be edited. Weights
are drawn by structgen and copied into diffusers' module; the largest difference is relative to the larger of 1 and the largest output. The
recorded answers of diffusers are compared with in `tests/vision/test_parity.py`. Times: CPU time of structgen over that of diffusers,
median of paired calls, at these tiny sizes: mostly the cost of calling.

| structgen | diffusers | parameters | largest difference | CPU time, ratio |
| --- | --- | --- | --- | --- |
"""


@torch.no_grad()
def measure() -> tuple[str, dict[str, Tensor]]:
    """The page, and the answers of diffusers."""
    rows, answers = [], {}
    for name, make in CASES.items():
        case: Any = make()
        peer = PEERS[name](case)
        model, call = peer[0].eval(), peer[1]
        answers[name] = call(model, case.inputs).contiguous()
        off = (answers[name] - case.answer()).abs().max().item() / max(1.0, answers[name].abs().max().item())
        count = sum(parameter.numel() for parameter in case.module.parameters())
        rows.append(f"| {WORDS[name][0]} | {WORDS[name][1]} | {count:,} | {off:.1e} | {ratio_of_times(case, peer):.2f} |")
    return HEAD + "\n".join(rows) + "\n", answers


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--answers", type=Path, default=ANSWERS)
    parser.add_argument("--page", type=Path, default=PAGE)
    options = parser.parse_args()
    torch.set_num_threads(1)
    page, answers = measure()
    options.page.write_text(page, encoding="utf-8")
    save_file(answers, options.answers)


if __name__ == "__main__":
    main()
