"""`Batch`: every input feature of SI Table 5, with a leading batch dimension, as typed tensors instead of a dictionary.

Dimensions: b examples, n tokens, l atoms, s MSA rows, t templates. Padding is marked by the masks; padded entries of index
features are 0. `b` is 1 in a prediction (all samples of a seed share one trunk) and the number of crops in training.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import torch

from structgen.typing import Bool, Float, Int, Tensor


@dataclass(frozen=True)
class Batch:
    """Input features of SI Table 5 (AF3_ALGORITHMS 5.2-5.7). Integers are int64, floats float32, masks bool; lengths in angstrom."""

    # tokens
    token_index: Int[Tensor, "b n"]
    residue_index: Int[Tensor, "b n"]  # from 1 in every chain
    asym_id: Int[Tensor, "b n"]  # from 1, one per chain
    entity_id: Int[Tensor, "b n"]  # from 1
    sym_id: Int[Tensor, "b n"]  # from 1
    kind: Int[Tensor, "b n"]  # 0 protein, 1 RNA, 2 DNA, 3 ligand: the type of the token's chain
    restype: Int[Tensor, "b n"]  # class of the 32-letter alphabet (SI Table 13 with N and DN): 0-19 amino acids, 20 UNK, 31 gap
    profile: Float[Tensor, "b n 32"]
    deletion_mean: Float[Tensor, "b n"]
    token_bonds: Float[Tensor, "b n n"]
    token_mask: Bool[Tensor, "b n"]
    centre_atom: Int[Tensor, "b n"]  # CA, C1' or the atom itself
    representative_atom: Int[Tensor, "b n"]  # CB (CA of glycine), ...: distogram and distances
    frame_atoms: Int[Tensor, "b n 3"]  # (a, b, c) of SI Algorithm 29; b is the origin
    frame_mask: Bool[Tensor, "b n"]
    # atoms
    atom_to_token: Int[Tensor, "b l"]
    atom_slot: Int[Tensor, "b l"]  # position in the fixed order of its residue type (SI 5.3): row of the per-atom heads
    ref_pos: Float[Tensor, "b l 3"]
    ref_charge: Float[Tensor, "b l"]
    ref_mask: Bool[Tensor, "b l"]
    ref_element: Int[Tensor, "b l"]  # atomic number
    ref_atom_name_chars: Int[Tensor, "b l 4"]  # ASCII code - 32, 0 to 63
    ref_space_uid: Int[Tensor, "b l"]
    atom_mask: Bool[Tensor, "b l"]
    # alignment; row 0 is the query
    msa: Int[Tensor, "b s n"]
    has_deletion: Float[Tensor, "b s n"]
    deletion_value: Float[Tensor, "b s n"]
    msa_mask: Bool[Tensor, "b s n"]
    # templates, as coordinates: their pair features (Algorithm 16) are made block by block in the network
    template_restype: Int[Tensor, "b t n"]
    template_frame: Float[Tensor, "b t n 3 3"]  # N, CA, C
    template_frame_mask: Bool[Tensor, "b t n"]
    template_pseudo_beta: Float[Tensor, "b t n 3"]
    template_pseudo_beta_mask: Bool[Tensor, "b t n"]

    @property
    def tokens(self) -> int:
        return self.token_mask.shape[1]

    @property
    def atoms(self) -> int:
        return self.atom_mask.shape[1]

    def to(self, device: torch.device | str) -> Batch:
        """The same features on another device."""
        return replace(self, **{f.name: getattr(self, f.name).to(device) for f in fields(self)})

    def tensors(self) -> dict[str, Tensor]:
        """Name to tensor, for safetensors."""
        return {f.name: getattr(self, f.name) for f in fields(self)}
