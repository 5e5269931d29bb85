"""Between two states of noise."""

from __future__ import annotations

import torch

from structgen.generative.path import Time, X, over


def slerp(x: X, y: X, share: Time) -> X:
    """The point at `share` [b] of the way along the arc from x to y, both [b, *event] (DDIM, appendix D.4; Shoemake 1985).

    Noise of many dimensions lies on a sphere; the straight line between two draws passes inside it, where no noise is, and the arc does
    not. The length is interpolated too, so that the ends are x and y, bit for bit, whatever their lengths. Straight where the two point
    the same way; for opposite ones no arc is preferred, and the result is not defined.
    """
    lengths = [v.flatten(1).norm(dim=1) for v in (x, y)]
    cosine = (x * y).flatten(1).sum(1) / (lengths[0] * lengths[1])
    angle = torch.acos(cosine.clamp(-1, 1))
    bend = angle.sin()
    straight = bend < torch.finfo(x.dtype).eps ** 0.5
    safe = torch.where(straight, 1.0, bend)
    from_x = torch.where(straight, 1 - share, ((1 - share) * angle).sin() / safe)
    from_y = torch.where(straight, share, (share * angle).sin() / safe)
    length = (1 - share) * lengths[0] + share * lengths[1]
    mixed = over(length, x) * (over(from_x / lengths[0], x) * x + over(from_y / lengths[1], y) * y)
    return torch.where(over(share == 0, x), x, torch.where(over(share == 1, y), y, mixed))
