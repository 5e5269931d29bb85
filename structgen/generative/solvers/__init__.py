"""Solvers, one method a file."""

from structgen.generative.solvers.churn import Churn
from structgen.generative.solvers.ddim import Ddim
from structgen.generative.solvers.dpm import DpmPlusPlus2M
from structgen.generative.solvers.euler import Euler
from structgen.generative.solvers.heun import Heun

__all__ = ["Churn", "Ddim", "DpmPlusPlus2M", "Euler", "Heun"]
