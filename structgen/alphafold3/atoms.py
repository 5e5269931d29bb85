"""SI Algorithms 5-7: attention among atoms, each of which sees its neighbours in the atom list, and the ways from tokens to atoms and back.

Atoms are one flat list [b, l], padded here to whole windows of 32 queries. All that the reference conformers and the trunk say about
atoms is the same at every noise level and for every sample, so it is made once (`AtomCondition`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

from structgen.alphafold3.config import Atoms, Inputs
from structgen.alphafold3.transformer import DiffusionTransformer, Neighbourhood, pair_biases
from structgen.alphafold3.transition import blocks, collect
from structgen.features.batch import Batch
from structgen.nn.linear import Linear
from structgen.nn.norms import LayerNorm
from structgen.typing import Bool, Float, Int, Tensor, typed

PAIRS = 512  # weight of a window against a row vector of the trunk: its atom pairs are many but narrow


@dataclass(frozen=True)
class AtomLayout(Neighbourhood):
    """The atoms of every token and the neighbours of every atom. `l` counts the padded atoms: w windows of `Atoms.queries` each."""

    atoms: int  # before padding to whole windows
    tokens: int
    token: Int[Tensor, "b l"]
    mask: Bool[Tensor, "b l"]
    neighbours: Int[Tensor, "b w keys"]
    neighbour_mask: Bool[Tensor, "b w keys"]

    @classmethod
    def of(cls, batch: Batch, config: Atoms) -> AtomLayout:
        """The layout of a batch."""
        padding = (0, -batch.atoms % config.queries)
        mask = F.pad(batch.atom_mask, padding)
        neighbours, inside = _windows(mask, config)
        seen = inside & mask.gather(1, neighbours.flatten(1)).view(neighbours.shape)
        return cls(batch.atoms, batch.tokens, F.pad(batch.atom_to_token, padding), mask, neighbours, seen)

    def pad(self, x: Tensor) -> Tensor:
        """[b, atoms, ...] to [b, l, ...] with zeros at the end."""
        return F.pad(x, (0, 0) * (x.ndim - 2) + (0, self.mask.shape[1] - self.atoms))

    def queries(self, x: Float[Tensor, "b s l c"]) -> Float[Tensor, "b s w i c"]:
        """The atoms of every window."""
        return x.unflatten(2, (self.neighbours.shape[1], -1))

    def keys(self, x: Float[Tensor, "b s l c"]) -> Float[Tensor, "b s w j c"]:
        """The neighbours of every window; anything where `neighbour_mask` is false."""
        return _rows(x, self.neighbours)

    def to_atoms(self, x: Float[Tensor, "b s n c"]) -> Float[Tensor, "b s l c"]:
        """Every atom gets its token's row."""
        return _rows(x, self.token)

    def to_tokens(self, x: Float[Tensor, "b s l c"]) -> Float[Tensor, "b s n c"]:
        """Mean over the existing atoms of every token, added up in float32 and in the order of the atoms; 0 for a token without any."""
        b, s, atoms, c = x.shape
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        shift = torch.arange(b * s, device=x.device).view(b, s, 1) * (self.tokens + 1)
        token = torch.where(self.mask, self.token, self.tokens)[:, None]  # atoms that do not exist go to a token that is cut off
        total = wide.new_zeros(b * s * (self.tokens + 1), c).index_add(0, (token + shift).flatten(), wide.reshape(b * s * atoms, c))
        count = wide.new_zeros(b, self.tokens + 1).scatter_add(1, token[:, 0], wide.new_ones(()).expand(b, atoms))
        mean = total.view(b, s, self.tokens + 1, c) / count.clamp(min=1)[:, None, :, None]
        return mean[:, :, : self.tokens].to(x.dtype)


def _windows(mask: Tensor, config: Atoms) -> tuple[Tensor, Tensor]:
    """Indices [b, w, keys] of the atoms that each window of queries sees, and which of them lie inside the list.

    centred: as many before the window as after it. shifted: the same, moved inwards at both ends so as to see as many atoms as possible.
    """
    b, atoms = mask.shape
    queries, keys = config.queries, config.keys
    first = torch.arange(0, atoms, queries, device=mask.device).expand(b, -1) - (keys - queries) // 2
    end = torch.full((b, 1), atoms, device=mask.device)
    if config.key_window == "shifted":
        end = (mask * torch.arange(1, atoms + 1, device=mask.device)).amax(dim=1, keepdim=True)
        first = torch.minimum(first, end - keys).clamp(min=0)
    index = first[..., None] + torch.arange(keys, device=mask.device)
    return index.clamp(0, atoms - 1), (index >= 0) & (index < end[..., None])


def _rows(x: Tensor, index: Tensor) -> Tensor:
    """x [b, s, rows, c] at index [b, ...], the same rows for every s: [b, s, ..., c]. The gradient of a look-up is deterministic."""
    b, s, rows, c = x.shape
    shift = torch.arange(b * s, device=x.device).view(b, s, *(1,) * (index.ndim - 1)) * rows
    return F.embedding(index[:, None] + shift, x.reshape(b * s * rows, c))


def float32(linear: Linear, x: Tensor) -> Tensor:
    """The linear map in float32 at least, even if its weights are bfloat16: positions would lose 0.1 angstrom and more."""
    dtype = _wide(linear)
    return F.linear(x.to(dtype), linear.weight.to(dtype), None if linear.bias is None else linear.bias.to(dtype))


def _wide(linear: Linear) -> torch.dtype:
    return torch.promote_types(linear.weight.dtype, torch.float32)


@dataclass(frozen=True)
class AtomCondition:
    """What atoms and atom pairs are before any noisy position is known; the pairs as the attention biases that they become."""

    q: Float[Tensor, "b 1 l c_atom"]  # the queries without their noisy positions
    c: Float[Tensor, "b 1 l c_atom"]
    biases: tuple[Float[Tensor, "b w blocks_heads queries keys"], ...]  # of every transformer that `condition` was given


@dataclass(frozen=True)
class TrunkFeatures:
    """What the trunk says about the atoms of tokens and token pairs (`TrunkToAtoms`)."""

    single: Float[Tensor, "b n c_atom"]
    pair: Float[Tensor, "b n n c_pair"]


@dataclass(frozen=True)
class _Side:
    """One side of the atom pairs of every window: the queries, or their neighbours."""

    position: Float[Tensor, "b w x 3"]
    uid: Int[Tensor, "b w x"]
    token: Int[Tensor, "b w x"]
    projected: Float[Tensor, "b w x c_pair"]

    def __getitem__(self, windows: slice) -> _Side:
        return _Side(self.position[:, windows], self.uid[:, windows], self.token[:, windows], self.projected[:, windows])


@typed
class TrunkToAtoms(nn.Module):
    """The projections of SI Algorithm 5, line 4: of trunk single, trunk pair and noisy positions."""

    def __init__(self, config: Atoms, c_s: int, c_z: int) -> None:
        super().__init__()
        self.single_norm = LayerNorm(c_s, offset=False)
        self.single = Linear(c_s, config.c_atom, init="zero")
        self.pair_norm = LayerNorm(c_z, offset=False)
        self.pair = Linear(c_z, config.c_pair, init="zero")
        self.position = Linear(3, config.c_atom)

    def tokens(self, s: Float[Tensor, "b n c_s"]) -> Float[Tensor, "b n c_atom"]:
        return self.single(self.single_norm(s))

    def pairs(self, z: Float[Tensor, "b i j c_z"]) -> Float[Tensor, "b i j c_pair"]:
        return self.pair(self.pair_norm(z))

    def positions(self, r: Float[Tensor, "b s l 3"]) -> Float[Tensor, "b s l c_atom"]:
        return float32(self.position, r).to(self.position.weight.dtype)


class AtomPairs(nn.Module):
    """SI Algorithm 5, lines 2-3 and 5-6: the pairs of atoms inside the windows."""

    COMPILED = ("forward",)

    def __init__(self, config: Atoms) -> None:
        super().__init__()
        c, p = config.c_atom, config.c_pair
        self.offset, self.inverse, self.same = Linear(3, p), Linear(1, p), Linear(1, p)
        self.query, self.key = Linear(c, p), Linear(c, p)
        self.mlp = nn.Sequential(
            nn.ReLU(), Linear(p, p, init="relu"), nn.ReLU(), Linear(p, p, init="relu"), nn.ReLU(), Linear(p, p, init="zero")
        )

    def sides(self, batch: Batch, layout: AtomLayout, c: Float[Tensor, "b 1 l c_atom"]) -> tuple[_Side, _Side]:
        """Queries and neighbours of all windows, with their share of line 5."""
        position, uid, active = layout.pad(batch.ref_pos)[:, None], layout.pad(batch.ref_space_uid), F.relu(c)
        shape, index = layout.neighbours.shape, layout.neighbours.flatten(1)
        return (
            _Side(layout.queries(position)[:, 0], uid.view(*shape[:2], -1), layout.token.view(*shape[:2], -1),
                  layout.queries(self.query(active))[:, 0]),
            _Side(layout.keys(position)[:, 0], uid.gather(1, index).view(shape), layout.token.gather(1, index).view(shape),
                  layout.keys(self.key(active))[:, 0]),
        )  # fmt: skip

    def forward(self, query: _Side, key: _Side, pair: Float[Tensor, "b n n c_pair"] | None) -> Float[Tensor, "b w i j c_pair"]:
        """The pairs of some windows, with the trunk's `pair` where there is a trunk."""
        p = self._geometry(query, key)
        if pair is not None:
            tokens = pair.shape[1]
            p = p + _rows(pair.flatten(1, 2)[:, None], query.token[..., None] * tokens + key.token[..., None, :])[:, 0]  # line 4
        p = p + query.projected[..., :, None, :] + key.projected[..., None, :, :]                                        # line 5
        return p + self.mlp(p)                                                                                           # line 6

    def _geometry(self, query: _Side, key: _Side) -> Tensor:
        """Lines 2-3 as one product: the three features are 0 where the two atoms do not share a conformer."""
        wide = _wide(self.offset)
        offset = query.position[..., :, None, :].to(wide) - key.position[..., None, :, :].to(wide)
        same = (query.uid[..., :, None] == key.uid[..., None, :])[..., None]
        inverse = 1 / (1 + offset.square().sum(dim=-1, keepdim=True))
        features = torch.cat([offset, inverse, torch.ones_like(inverse)], dim=-1) * same
        weight = torch.cat([self.offset.weight, self.inverse.weight, self.same.weight], dim=1)
        return F.linear(features.to(weight.dtype), weight)


@typed
class AtomAttentionEncoder(nn.Module):
    """SI Algorithm 5. Atoms attend within windows, then become tokens. What trunk and noisy positions add is projected outside."""

    def __init__(self, inputs: Inputs, config: Atoms, c_token: int) -> None:
        super().__init__()
        self.inputs, self.config = inputs, config
        self.reference = Linear(3 + 1 + 1 + inputs.element_classes + 4 * 64, config.c_atom)
        self.pairs = AtomPairs(config)
        self.transformer = atom_transformer(config)
        self.out = Linear(config.c_atom, c_token)

    def condition(
        self, batch: Batch, layout: AtomLayout, readers: Sequence[DiffusionTransformer], trunk: TrunkFeatures | None = None
    ) -> AtomCondition:
        """Lines 1-6; the pairs become the biases of `readers`, the transformers that attend with them."""
        q = c = layout.pad(self._reference(batch))[:, None]                                             # line 1
        if trunk is not None:
            c = c + layout.to_atoms(trunk.single[:, None])                                              # line 4
            q = c if self.config.q_init == "after" else q
        query, key = self.pairs.sides(batch, layout, c)
        weight = torch.cat([reader.pair_weight() for reader in readers])
        windows, pair = layout.neighbours.shape[1], None if trunk is None else trunk.pair
        made = ((x, pair_biases(weight, self.pairs(query[x], key[x], pair), layout.neighbour_mask[:, x])) for x in blocks(windows, PAIRS))
        return AtomCondition(q, c, collect(made, windows).split([reader.biases for reader in readers], dim=2))

    def forward(
        self, layout: AtomLayout, cond: AtomCondition, positions: Float[Tensor, "b s l c_atom"] | None = None
    ) -> tuple[Float[Tensor, "b s n c_token"], Float[Tensor, "b s l c_atom"]]:
        """Lines 4 (projected noisy positions), 7 and 8: the tokens, and the atoms that the decoder starts from."""
        q = cond.q if positions is None else cond.q + positions
        q = self.transformer(q, cond.c, cond.biases[0], layout)
        return layout.to_tokens(F.relu(self.out(q))), q

    def _reference(self, batch: Batch) -> Float[Tensor, "b atoms c_atom"]:
        classes, offset = self.inputs.element_classes, self.inputs.element_offset
        element = F.one_hot((batch.ref_element - offset).clamp(0, classes - 1), classes)
        charge = batch.ref_charge.to(_wide(self.reference))
        charge = charge.arcsinh() if self.inputs.ref_charge == "arcsinh" else charge
        present, letters = batch.ref_mask[..., None], F.one_hot(batch.ref_atom_name_chars, 64).flatten(-2)
        c = float32(self.reference, torch.cat([batch.ref_pos, charge[..., None], present, element, letters], dim=-1))
        return (c * present if self.inputs.ref_mask_gate else c).to(self.reference.weight.dtype)


@typed
class AtomAttentionDecoder(nn.Module):
    """SI Algorithm 6. Tokens back to atoms, and an update of every position."""

    def __init__(self, config: Atoms, c_token: int) -> None:
        super().__init__()
        self.token = Linear(c_token, config.c_atom)
        self.transformer = atom_transformer(config)
        self.norm = LayerNorm(config.c_atom, offset=False)
        self.out = Linear(config.c_atom, 3, init=config.decoder_out_init)

    def forward(
        self, a: Float[Tensor, "b s n c_token"], q: Float[Tensor, "b s l c_atom"], layout: AtomLayout, cond: AtomCondition
    ) -> Float[Tensor, "b s l 3"]:
        """`q` are the encoder's atoms; the last of the biases in `cond` are this transformer's."""
        q = q + layout.to_atoms(self.token(a))                              # line 1
        q = self.transformer(q, cond.c, cond.biases[-1], layout)            # line 2
        return float32(self.out, self.norm(q))                              # line 3


def atom_transformer(config: Atoms) -> DiffusionTransformer:
    """SI Algorithm 7. Algorithm 23 over windows of atoms, conditioned on what the atoms are."""
    return DiffusionTransformer(
        c=config.c_atom,
        c_s=config.c_atom,
        c_z=config.c_pair,
        blocks=config.blocks,
        heads=config.heads,
        transition=config.transition,
        pair_norm=config.pair_norm,
        kv_norm=config.kv_norm,
    )
