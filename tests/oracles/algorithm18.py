"""SI Algorithm 18, line by line, with all random numbers given."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor

SIGMA_DATA, S_MAX, S_MIN, RHO = 16.0, 160.0, 4e-4, 7.0


def noise_schedule(steps: int) -> list[float]:
    """c_0, ..., c_T (SI eq. 7)."""
    return [SIGMA_DATA * (S_MAX ** (1 / RHO) + n / steps * (S_MIN ** (1 / RHO) - S_MAX ** (1 / RHO))) ** RHO for n in range(steps + 1)]


def sample_diffusion(
    denoise: Callable[[Tensor, float], Tensor],
    augment: Callable[[Tensor, int], Tensor],
    first_noise: Tensor,
    noise: Sequence[Tensor],
    c: Sequence[float],
    gamma_0: float = 0.8,
    gamma_min: float = 1.0,
    noise_scale: float = 1.003,
    step_scale: float = 1.5,
) -> Tensor:
    """x after the last level. `augment(x, tau)` stands for Algorithm 19 at step tau = 1, ..., T and `noise[tau - 1]` for line 6's normal.

    As corrected: the denoiser of line 7 is given x_noisy (the SI prints x), and the levels are those of its eq. 7.
    """
    x = c[0] * first_noise  # line 1
    for tau in range(1, len(c)):  # line 2
        x = augment(x, tau)  # line 3
        gamma = gamma_0 if c[tau] > gamma_min else 0.0  # line 4
        t_hat = c[tau - 1] * (gamma + 1)  # line 5
        xi = noise_scale * max(t_hat**2 - c[tau - 1] ** 2, 0.0) ** 0.5 * noise[tau - 1]  # line 6
        x_noisy = x + xi  # line 7
        x_denoised = denoise(x_noisy, t_hat)  # line 8
        delta = (x_noisy - x_denoised) / t_hat  # line 9
        dt = c[tau] - t_hat  # line 10
        x = x_noisy + step_scale * dt * delta  # line 11
    return x  # lines 12-13
