"""Solvers, one method a file."""

from structgen.generative.solvers.adams import VelocityInTime, adams
from structgen.generative.solvers.adaptive import DORMAND_PRINCE, Pair, Tolerance, sample_adaptive
from structgen.generative.solvers.ancestral import Ancestral
from structgen.generative.solvers.churn import Churn
from structgen.generative.solvers.ddim import Ddim
from structgen.generative.solvers.deis import NoiseInTime, deis
from structgen.generative.solvers.dpm import DpmPlusPlus2M
from structgen.generative.solvers.dpm_multistep import DataInLogSnr, NoiseInLogSnr, dpm_multistep, dpm_plus_plus
from structgen.generative.solvers.dpm_single import DpmSingle2, DpmSingle3
from structgen.generative.solvers.euler import Euler
from structgen.generative.solvers.heun import Heun
from structgen.generative.solvers.langevin import AnnealedLangevin, langevin
from structgen.generative.solvers.maruyama import EulerMaruyama, StochasticHeun
from structgen.generative.solvers.multistep import Multistep, Rule
from structgen.generative.solvers.predictor_corrector import Corrected
from structgen.generative.solvers.runge_kutta import MIDPOINT, RALSTON3, RK4, RungeKutta, Tableau
from structgen.generative.solvers.unipc import unipc

__all__ = [
    "DORMAND_PRINCE",
    "MIDPOINT",
    "RALSTON3",
    "RK4",
    "Ancestral",
    "AnnealedLangevin",
    "Churn",
    "Corrected",
    "DataInLogSnr",
    "Ddim",
    "DpmPlusPlus2M",
    "DpmSingle2",
    "DpmSingle3",
    "Euler",
    "EulerMaruyama",
    "Heun",
    "Multistep",
    "NoiseInLogSnr",
    "NoiseInTime",
    "Pair",
    "Rule",
    "RungeKutta",
    "StochasticHeun",
    "Tableau",
    "Tolerance",
    "VelocityInTime",
    "adams",
    "deis",
    "dpm_multistep",
    "dpm_plus_plus",
    "langevin",
    "sample_adaptive",
    "unipc",
]
