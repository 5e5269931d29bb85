"""Generative modelling on one line between data and noise, for any kind of tensor. Imports nothing but torch.

A `Path` says how data turns to noise, a `Denoiser` predicts both ends of the line from a state on it, a `Solver` walks back in `sample`,
and an `Objective` trains.
"""

from structgen.generative import times, weights
from structgen.generative.coupling import Coupling, Independent
from structgen.generative.denoiser import Denoise, Denoiser, Network, Reading
from structgen.generative.ema import Ema
from structgen.generative.noise import Rng, generators, normal_like
from structgen.generative.objective import Error, Loss, Noised, Objective, Regression, data_error, noise_error, velocity_error
from structgen.generative.path import Endpoints, Path, Time, X, over
from structgen.generative.paths import (
    Betas,
    Cosine,
    CosineBetas,
    Linear,
    LinearBetas,
    SubVariancePreserving,
    VarianceExploding,
    VariancePreserving,
)
from structgen.generative.readings import Preconditioned, ReadData, ReadNoise, ReadVelocity
from structgen.generative.sample import Solver, advance, identity, sample
from structgen.generative.solvers import Churn, Ddim, DpmPlusPlus2M, Euler, Heun
from structgen.generative.times import LogitNormal, LogNormal, TimeSampler, Uniform
from structgen.generative.weights import Weight

__all__ = [
    "Betas",
    "Churn",
    "Cosine",
    "CosineBetas",
    "Coupling",
    "Ddim",
    "Denoise",
    "Denoiser",
    "DpmPlusPlus2M",
    "Ema",
    "Endpoints",
    "Error",
    "Euler",
    "Heun",
    "Independent",
    "Linear",
    "LinearBetas",
    "LogNormal",
    "LogitNormal",
    "Loss",
    "Network",
    "Noised",
    "Objective",
    "Path",
    "Preconditioned",
    "ReadData",
    "ReadNoise",
    "ReadVelocity",
    "Reading",
    "Regression",
    "Rng",
    "Solver",
    "SubVariancePreserving",
    "Time",
    "TimeSampler",
    "Uniform",
    "VarianceExploding",
    "VariancePreserving",
    "Weight",
    "X",
    "advance",
    "data_error",
    "generators",
    "identity",
    "noise_error",
    "normal_like",
    "over",
    "sample",
    "times",
    "velocity_error",
    "weights",
]
