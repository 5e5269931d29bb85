"""SI Algorithms 5-7 written out atom by atom, without windows: an atom has a list of the atoms that it sees."""

# ruff: noqa: E741 (l and m are atoms, as in the SI)

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from structgen.alphafold3.config import Atoms
from structgen.features.batch import Batch
from tests.oracles.transformer import diffusion_transformer, layer_norm, linear


@dataclass(frozen=True)
class Skip:
    """What the decoder takes from the encoder."""

    q: list[Tensor]
    c: list[Tensor]
    p: dict[tuple[int, int], Tensor]
    sees: list[list[int]]


def sees(count: int, config: Atoms) -> list[list[int]]:
    """For every atom the atoms in its window."""
    out = []
    for atom in range(count):
        first = atom // config.queries * config.queries - (config.keys - config.queries) // 2
        if config.key_window == "shifted":
            last = first + config.keys - 1
            if first < 0:
                first = 0
            elif last > count - 1:
                first = max(0, first + (count - 1) - last)
        out.append([m for m in range(first, first + config.keys) if 0 <= m < count])
    return out


def reference(module: nn.Module, batch: Batch, l: int) -> Tensor:
    """Algorithm 5, line 1."""
    inputs = module.inputs
    element, chars = torch.zeros(inputs.element_classes).double(), torch.zeros(4, 64).double()
    element[int(batch.ref_element[0, l]) - inputs.element_offset] = 1
    for place in range(4):
        chars[place, int(batch.ref_atom_name_chars[0, l, place])] = 1
    charge = batch.ref_charge[0, l].double()
    charge = torch.log(charge + torch.sqrt(charge**2 + 1)) if inputs.ref_charge == "arcsinh" else charge
    present = batch.ref_mask[0, l].double()
    c = linear(module.reference, torch.cat([batch.ref_pos[0, l].double(), charge[None], present[None], element, chars.flatten()]))
    return c * present if inputs.ref_mask_gate else c


def encode(
    module: nn.Module,
    batch: Batch,
    from_trunk: nn.Module | None = None,
    trunk: tuple[Tensor, Tensor, Tensor] | None = None,
) -> tuple[list[Tensor], Skip]:
    """Algorithm 5 for one example without padding; `trunk` is (s_trunk [n, c_s], z [n, n, c_z], r [l, 3])."""
    count, token = batch.atoms, batch.atom_to_token[0].tolist()
    neighbours = sees(count, module.config)
    c = [reference(module, batch, atom) for atom in range(count)]                                        # line 1
    p = {(l, m): geometry(module.pairs, batch, l, m) for l in range(count) for m in neighbours[l]}       # lines 2-3
    q = list(c)
    if from_trunk is not None and trunk is not None:                                                     # line 4
        s_trunk, z, r = trunk
        c = [row + linear(from_trunk.single, layer_norm(from_trunk.single_norm, s_trunk[token[l]])) for l, row in enumerate(c)]
        q = list(c) if module.config.q_init == "after" else q
        q = [row + linear(from_trunk.position, r[l]) for l, row in enumerate(q)]
        p = {(l, m): x + linear(from_trunk.pair, layer_norm(from_trunk.pair_norm, z[token[l], token[m]])) for (l, m), x in p.items()}
    query, key = [linear(module.pairs.query, row.relu()) for row in c], [linear(module.pairs.key, row.relu()) for row in c]
    p = {(l, m): x + query[l] + key[m] for (l, m), x in p.items()}                                       # line 5
    p = {pair: x + mlp(module.pairs.mlp, x) for pair, x in p.items()}                                    # line 6
    q = diffusion_transformer(module.transformer, q, c, lambda l, m: p[l, m], lambda l: neighbours[l])   # line 7
    a = []
    for i in range(batch.tokens):                                                                        # line 8
        rows = [linear(module.out, q[l]).relu() for l in range(count) if token[l] == i]
        a.append(torch.stack(rows).mean(dim=0))
    return a, Skip(q, c, p, neighbours)


def geometry(module: nn.Module, batch: Batch, l: int, m: int) -> Tensor:
    """Algorithm 5, lines 2-3."""
    offset = batch.ref_pos[0, l].double() - batch.ref_pos[0, m].double()
    same = (batch.ref_space_uid[0, l] == batch.ref_space_uid[0, m]).double()
    inverse = 1 / (1 + (offset**2).sum())
    return same * linear(module.offset, offset) + same * linear(module.inverse, inverse[None]) + linear(module.same, same[None])


def mlp(module: nn.Module, x: Tensor) -> Tensor:
    for layer in (1, 3, 5):
        x = linear(module[layer], x.relu())
    return x


def decode(module: nn.Module, a: list[Tensor], skip: Skip, batch: Batch) -> list[Tensor]:
    """Algorithm 6."""
    token = batch.atom_to_token[0].tolist()
    q = [row + linear(module.token, a[token[l]]) for l, row in enumerate(skip.q)]
    q = diffusion_transformer(module.transformer, q, skip.c, lambda l, m: skip.p[l, m], lambda l: skip.sees[l])
    return [linear(module.out, layer_norm(module.norm, row)) for row in q]
