"""A batch of any size with several chains, made of random numbers: what networks are timed on."""

from __future__ import annotations

import torch

from structgen.features.batch import Batch


def made_batch(tokens: int, *, atoms_per_token: int, rows: int, rng: torch.Generator) -> Batch:
    """One example: two copies of one chain of half the tokens each, residues with the same number of atoms, `rows` of alignment."""
    atoms, half = tokens * atoms_per_token, tokens // 2
    token, chain = torch.arange(tokens), (torch.arange(tokens) >= half).long()
    owner = token.repeat_interleave(atoms_per_token)
    first = token * atoms_per_token

    def pick(high: int, *shape: int) -> torch.Tensor:
        return torch.randint(0, high, shape, generator=rng)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=rng)

    single = {
        "token_index": token + 1, "residue_index": token - chain * half + 1, "asym_id": chain + 1, "entity_id": torch.ones_like(token),
        "sym_id": chain + 1, "kind": torch.zeros_like(token), "restype": pick(20, tokens),
        "profile": torch.rand(tokens, 32, generator=rng), "deletion_mean": torch.rand(tokens, generator=rng),
        "token_bonds": torch.zeros(tokens, tokens), "token_mask": torch.ones(tokens, dtype=torch.bool), "centre_atom": first + 1,
        "representative_atom": first + 2, "frame_atoms": torch.stack([first, first + 1, first + 2], dim=1),
        "frame_mask": torch.ones(tokens, dtype=torch.bool), "atom_to_token": owner, "atom_slot": torch.arange(atoms) % atoms_per_token,
        "ref_pos": 2 * normal(atoms, 3), "ref_charge": normal(atoms).round(), "ref_mask": torch.ones(atoms, dtype=torch.bool),
        "ref_element": 1 + pick(20, atoms), "ref_atom_name_chars": pick(64, atoms, 4), "ref_space_uid": owner,
        "atom_mask": torch.ones(atoms, dtype=torch.bool), "msa": pick(22, rows, tokens),
        "has_deletion": pick(2, rows, tokens).float(), "deletion_value": torch.rand(rows, tokens, generator=rng),
        "msa_mask": torch.ones(rows, tokens, dtype=torch.bool), "template_restype": torch.zeros(0, tokens, dtype=torch.int64),
        "template_frame": torch.zeros(0, tokens, 3, 3), "template_frame_mask": torch.zeros(0, tokens, dtype=torch.bool),
        "template_pseudo_beta": torch.zeros(0, tokens, 3), "template_pseudo_beta_mask": torch.zeros(0, tokens, dtype=torch.bool),
    }  # fmt: skip
    return Batch(**{name: tensor[None] for name, tensor in single.items()})
