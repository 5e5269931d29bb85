"""SI Algorithms 2-4: what the trunk is told about every token and every pair of tokens before it starts."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from structgen.alphafold3.atoms import AtomAttentionEncoder, AtomLayout
from structgen.alphafold3.config import Config, Inputs
from structgen.features.batch import Batch
from structgen.nn.linear import Linear
from structgen.typing import Float, Int, Tensor, typed

# In AlphaFold 3's code the gap follows UNK, RNA begins one later, and N and DN share the last class (AF3_ALGORITHMS 5.2).
SHORT_ALPHABET = (*range(21), *range(22, 26), 30, *range(26, 31), 21)


def classes(inputs: Inputs, device: torch.device) -> Int[Tensor, " letters"]:
    """The class that each of a batch's 32 residue types has in the network's alphabet."""
    return torch.tensor(SHORT_ALPHABET if inputs.restypes == 31 else range(32), device=device)


def one_hot(x: Tensor, bins: Tensor) -> Tensor:
    """SI Algorithm 4. [*] and [n] to [*, n]: one-hot of the bin nearest to x, the lower one of two that are equally near."""
    return F.one_hot((x[..., None] - bins).abs().argmin(dim=-1), len(bins)).to(x.dtype)


@typed
class InputFeatureEmbedder(nn.Module):
    """SI Algorithm 2. Atoms gathered into tokens, and beside them residue type, profile and mean deletion, in this order."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config.inputs
        self.atoms = AtomAttentionEncoder(config.inputs, config.atoms, config.inputs.c_s_inputs_atom)

    def forward(self, batch: Batch) -> Float[Tensor, "b n c_s_inputs"]:
        layout = AtomLayout.of(batch, self.atoms.config)
        a, _ = self.atoms(layout, self.atoms.condition(batch, layout, (self.atoms.transformer,)))
        known = classes(self.config, batch.restype.device)
        restype = F.one_hot(known[batch.restype], self.config.restypes)
        profile = batch.profile.new_zeros(restype.shape).index_add(-1, known, batch.profile)
        return torch.cat([a[:, 0], restype.to(a.dtype), profile.to(a.dtype), batch.deletion_mean[..., None].to(a.dtype)], dim=-1)


@typed
class RelativePositionEncoding(nn.Module):
    """SI Algorithm 3. Where token i stands from token j: in residues, in tokens of one residue, and in copies of the chain.

    The 139 features of a pair take only 1,584 different values, so their projection is a table that pairs look up; the one-hot
    features of all pairs are never held.
    """

    def __init__(self, inputs: Inputs, c_z: int) -> None:
        super().__init__()
        self.inputs = inputs
        self.out = Linear(inputs.c_relative, c_z)

    def table(self) -> Float[Tensor, "classes c_z"]:
        """The projection of every class of `relative_classes`."""
        features = relative_features(self.inputs, self.out.weight.device).to(self.out.weight.dtype)
        return self.out(features)

    def forward(self, batch: Batch) -> Float[Tensor, "b n n c_z"]:
        return F.embedding(relative_classes(batch, self.inputs), self.table())


def relative_classes(batch: Batch, inputs: Inputs) -> Int[Tensor, "b n n"]:
    """Class of every pair (row i, column j): the row of `relative_features` that holds its features (lines 1-4)."""
    same_chain, same_residue, same_entity = (_equal(x) for x in (batch.asym_id, batch.residue_index, batch.entity_id))
    same_residue &= same_chain
    far, far_chain = 2 * inputs.r_max + 1, 2 * inputs.s_max + 1
    residue = torch.where(same_chain, _clipped(batch.residue_index, inputs.r_max), far)
    token = _clipped(batch.token_index, inputs.r_max)
    chain_known = same_entity if inputs.relpos_chain == "same_entity" else ~same_chain
    chain = torch.where(chain_known, _clipped(batch.sym_id, inputs.s_max), far_chain)
    place = torch.where(same_residue, far + 1 + token, residue)
    return (place * 2 + same_entity) * (far_chain + 1) + chain


def relative_features(inputs: Inputs, device: torch.device) -> Float[Tensor, "classes c_relative"]:
    """The features of every class (line 5): one-hot residue offset, token offset, same entity, one-hot chain offset.

    Tokens are told apart only inside one residue, whose residue offset is 0: place 0..2r+1 is a residue offset with the token offset out of
    range, place 2r+2.. a token offset with residue offset 0.
    """
    far, chains = 2 * inputs.r_max + 1, 2 * inputs.s_max + 2
    place = torch.arange(2 * far + 1, device=device)
    residue = F.one_hot(torch.where(place <= far, place, inputs.r_max), far + 1)
    token = F.one_hot(torch.where(place <= far, far, place - far - 1), far + 1)
    entity = torch.tensor([[0], [1]], device=device)
    chain = torch.eye(chains, dtype=torch.int64, device=device)
    shape = (len(place), 2, chains)
    parts = (torch.cat([residue, token], dim=-1)[:, None, None], entity[None, :, None], chain[None, None])
    return torch.cat([part.expand(*shape, -1) for part in parts], dim=-1).flatten(0, 2).float()


def _equal(x: Tensor) -> Tensor:
    return x[:, :, None] == x[:, None, :]


def _clipped(x: Tensor, limit: int) -> Tensor:
    return (x[:, :, None] - x[:, None, :] + limit).clamp(0, 2 * limit)
