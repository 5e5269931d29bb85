"""UniPC: every step corrected by the next prediction."""

from __future__ import annotations

from structgen.generative.solvers.adams import EVERY_STEP
from structgen.generative.solvers.dpm_multistep import DataInLogSnr
from structgen.generative.solvers.multistep import Multistep, Rule


def unipc(order: int, rule: Rule = DataInLogSnr()) -> Multistep:  # noqa: B008  # a frozen value
    """UniP-order predictor, UniC-order corrector, one evaluation a step (Zhao et al. 2023, Algorithms 5 and 7).

    For order 2 and more the paper's equation R_p(h) a_p B(h) = phi_p(h) has one solution a_p B(h), whatever B is: the integrals of
    Lagrange's polynomials, which is what is computed here. The paper's exceptions (a_1 = 1/2 for one unknown) are not made. The last step
    is not corrected, as in the paper. With `VelocityInTime` it is `adams`.
    """
    return Multistep(rule, order, corrected=EVERY_STEP)
