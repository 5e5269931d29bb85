"""Who talks to whom: every token's neighbours in space and along the chain, as a table of fixed width."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from structgen.typing import Bool, Float, Int, Tensor


@dataclass(frozen=True)
class Graph:
    """k neighbours of each of n tokens in S samples. A table needs no scattered sums, so results do not depend on their order."""

    neighbours: Int[Tensor, "S n k"]
    mask: Bool[Tensor, "S n k"]  # false for what fills the rows of tokens with fewer neighbours

    def of(self, x: Float[Tensor, "S n c"]) -> Float[Tensor, "S n k c"]:
        """The neighbours' rows."""
        samples, n, k = self.neighbours.shape
        rows = self.neighbours.reshape(samples, n * k, 1).expand(-1, -1, x.shape[-1])
        return x.gather(1, rows).view(samples, n, k, x.shape[-1])

    def of_pairs(self, z: Float[Tensor, "b n n c"]) -> Float[Tensor, "S n k c"]:
        """The pairs' rows; z of b examples of S / b samples each."""
        samples = len(self.neighbours) // len(z)
        example = torch.arange(len(self.neighbours), device=z.device)[:, None, None] // samples
        return z[example, torch.arange(z.shape[1], device=z.device)[:, None], self.neighbours]


def connect(
    positions: Float[Tensor, "S n 3"], mask: Bool[Tensor, "S n"], near: Bool[Tensor, "S n n"], nearest: int, window: int
) -> Graph:
    """The pairs marked in `near`, at most 2 `window` a token, and then the nearest in space, up to 2 `window` + `nearest` in all.

    Distances decide, which no rotation or shift changes. A token is not its own neighbour; masked ones are nobody's.
    """
    n = positions.shape[1]
    with torch.no_grad():
        distance = torch.cdist(positions, positions, compute_mode="donot_use_mm_for_euclid_dist")
        allowed = mask[:, None] & mask[:, :, None] & ~torch.eye(n, dtype=torch.bool, device=mask.device)
        order = torch.where(near, distance - distance.amax() - 1.0, distance).masked_fill(~allowed, torch.inf)
        found = order.topk(min(n, 2 * window + nearest), dim=-1, largest=False)
    return Graph(found.indices, found.values.isfinite())


def along_chain(residue: Int[Tensor, "b n"], chain: Int[Tensor, "b n"], window: int) -> Bool[Tensor, "b n n"]:
    """Pairs of tokens of one chain whose residues are at most `window` apart."""
    close = (residue[:, :, None] - residue[:, None]).abs() <= window
    return close & (chain[:, :, None] == chain[:, None])
