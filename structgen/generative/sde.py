"""The stochastic differential equations whose marginals are those of a path."""

from __future__ import annotations

from structgen.generative.path import Path, Time


def coefficients(path: Path, t: Time) -> tuple[Time, Time]:
    """f and g^2 [b] of dx = f x dt + g dw (Song et al. 2021, appendix B): f = alpha' / alpha, g^2 = 2 sigma (sigma' - f sigma).

    VP: -beta / 2 and beta. VE: 0 and d sigma^2 / dt. Sub-VP: -beta / 2 and beta (1 - alpha^4). Defined where alpha > 0 and the rates are
    finite.
    """
    (alpha, sigma), (alpha_rate, sigma_rate) = path.alpha_sigma(t), path.rates(t)
    f = alpha_rate / alpha
    return f, 2 * sigma * (sigma_rate - f * sigma)


def diffusion_squared(path: Path, t: Time) -> Time:
    """g^2 [b] alone; infinite where alpha is 0."""
    return coefficients(path, t)[1]
