"""Diffusion of codes: data seen through an encoder that was trained before."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.func import jacrev, vmap

from structgen.errors import ConfigError
from structgen.generative.likelihood import LogDensity
from structgen.generative.path import X


@dataclass(frozen=True, eq=False)
class Latent:
    """An encoder [b, *event] -> [b, *code] and its decoder, with codes shifted and scaled to mean 0 and variance 1 (Rombach et al. 2022,
    section 3.2 and appendix G).

    What is trained and sampled are codes: `encoded` data go into an `Objective`, `decoded` samples are data. `mean` and `std` are those of
    the encoder's own codes and broadcast to them; paths and preconditioning count on a variance near 1.
    """

    encode: Callable[[X], X]
    decode: Callable[[X], X]
    mean: Tensor
    std: Tensor

    @classmethod
    def fitted(cls, encode: Callable[[X], X], decode: Callable[[X], X], data: X) -> Latent:
        """Mean and standard deviation of all entries of the codes of these data. Raises `ConfigError` if the codes do not vary."""
        with torch.no_grad():
            codes = encode(data)
        std, mean = torch.std_mean(codes)
        if not std > 0:
            raise ConfigError(f"the encoder gives the same code {mean.item():g} to all {len(data)} examples: there is nothing to model")
        return cls(encode, decode, mean, std)

    def encoded(self, data: X) -> X:
        """Codes of variance 1."""
        return (self.encode(data) - self.mean) / self.std

    def decoded(self, codes: X) -> X:
        """Data of codes of variance 1."""
        return self.decode(codes * self.std + self.mean)

    @torch.no_grad()
    def signal_to_noise(self, data: X, peak: float) -> Tensor:
        """The peak signal-to-noise ratio [b] of decoded(encoded(data)) in dB, for data that range over `peak`: samples are no better than
        this, so it is reported beside their quality."""
        error = (self.decoded(self.encoded(data)) - data).square().flatten(1).mean(1)
        return 10 * (peak**2 / error).log10()

    def log_density(self, data: X, of_codes: LogDensity, *, tolerance: float = 1e-3) -> Tensor:
        """log p(data) in nats [b], from that of codes: log p(code) + log |det d code / d data|.

        Only a change of variables carries a density over. Raises `ConfigError` if the codes have another number of entries than the data,
        or do not hold them (decoded(encoded(data)) off by more than `tolerance`): then a likelihood of codes is none of data, and the two
        must not be compared.
        """
        codes = self.encoded(data)
        if codes[0].numel() != data[0].numel():
            raise ConfigError(
                f"codes of {codes[0].numel()} entries have no density over data of {data[0].numel()}: likelihoods of codes can be compared "
                "only with those of the same encoder's codes"
            )
        if (off := (self.decoded(codes) - data).abs().max().item()) > tolerance:
            raise ConfigError(f"the decoder does not undo the encoder (off by {off:.2g}): likelihoods of codes are none of data")
        jacobian = vmap(jacrev(lambda x: self.encoded(x[None])[0]))(data)
        size = data[0].numel()
        return of_codes(codes) + torch.linalg.slogdet(jacobian.reshape(len(data), size, size))[1]
