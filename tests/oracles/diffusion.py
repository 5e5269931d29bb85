"""SI Algorithms 18 and 20-22 written out, for one example and one sample without padding."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from structgen.features.batch import Batch
from tests.oracles import atoms
from tests.oracles.inputs import relative_features
from tests.oracles.transformer import diffusion_transformer, layer_norm, linear, transition


def fourier(module: nn.Module, x: Tensor) -> Tensor:
    """Algorithm 22."""
    return torch.stack([torch.cos(2 * math.pi * (x * w + b)) for w, b in zip(module.w.double(), module.b.double(), strict=True)])


def conditioning(
    module: nn.Module, batch: Batch, trunk: tuple[Tensor, Tensor, Tensor], noise: Tensor
) -> tuple[list[Tensor], Tensor]:
    """Algorithm 21 at noise = log(t / sigma_data) / 4; the trunk is (s_inputs, s, z)."""
    s_inputs, s_trunk, z_trunk = trunk
    n = batch.tokens
    z = torch.zeros_like(z_trunk)
    for i in range(n):
        for j in range(n):
            relative = relative_features(batch, module.inputs, i, j)
            relative = relative if module.relative is None else linear(module.relative.out, relative)
            pair = linear(module.pair, layer_norm(module.pair_norm, torch.cat([z_trunk[i, j], relative])))
            for step in module.pair_transitions:
                pair = pair + transition(step, pair)
            z[i, j] = pair
    level = linear(module.noise, layer_norm(module.noise_norm, fourier(module.fourier, noise)))
    s = []
    for i in range(n):
        row = linear(module.single, layer_norm(module.single_norm, torch.cat([s_trunk[i], s_inputs[i]]))) + level
        for step in module.single_transitions:
            row = row + transition(step, row)
        s.append(row)
    return s, z


def denoise(
    module: nn.Module, batch: Batch, trunk: tuple[Tensor, Tensor, Tensor], x: Tensor, t: float, sigma_data: float
) -> Tensor:
    """Algorithm 20: x [l, 3] at noise level t to its denoised positions."""
    s, z = conditioning(module.conditioning, batch, trunk, torch.tensor(math.log(t / sigma_data) / 4, dtype=x.dtype))   # line 1
    r = x / math.sqrt(t**2 + sigma_data**2)                                                                       # line 2
    a, skip = atoms.encode(module.encoder, batch, module.to_atoms, (trunk[1], z, r))                              # line 3
    a = [row + linear(module.single, layer_norm(module.single_norm, s[i])) for i, row in enumerate(a)]            # line 4
    everyone = list(range(batch.tokens))
    a = diffusion_transformer(module.transformer, a, s, lambda i, j: z[i, j], lambda i: everyone)                 # line 5
    a = [layer_norm(module.norm, row) for row in a]                                                               # line 6
    update = torch.stack(atoms.decode(module.decoder, a, skip, batch))                                            # line 7
    scale = sigma_data * t / math.sqrt(sigma_data**2 + t**2)
    return sigma_data**2 / (sigma_data**2 + t**2) * x + scale * update                                            # line 8


def sample(
    denoiser: Callable[[Tensor, float], Tensor],
    augment: Callable[[Tensor], Tensor],
    normal: Callable[[], Tensor],
    x: Tensor,
    levels: list[float],
    *,
    gamma_0: float,
    gamma_min: float,
    noise_scale: float,
    step_scale: float,
) -> Tensor:
    """Algorithm 18 from positions x at levels[0]."""
    for n in range(1, len(levels)):
        x = augment(x)
        gamma = gamma_0 if levels[n] > gamma_min else 0.0
        t = levels[n - 1] * (gamma + 1)
        noisy = x if gamma == 0 else x + noise_scale * math.sqrt(t**2 - levels[n - 1] ** 2) * normal()
        slope = (noisy - denoiser(noisy, t)) / t
        x = noisy + step_scale * (levels[n] - t) * slope
    return x
