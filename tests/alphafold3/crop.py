"""A small batch with every kind of chain, made by hand: what losses, confidence and ranking are tested on."""

from __future__ import annotations

import torch
from torch import Tensor

from structgen.features.batch import Batch

ATOMS = (5, 4, 7, 6, 5, 20, 22, 1, 1, 1, 1)  # atoms of every token: five residues, two nucleotides, an atomised residue's atom, a ligand
KIND = (0, 0, 0, 0, 0, 1, 2, 0, 3, 3, 3)
CHAIN = (1, 1, 1, 2, 2, 3, 4, 2, 5, 5, 5)


def random_rotation(rng: torch.Generator, *batch: int) -> Tensor:
    """Proper rotations [*batch, 3, 3] in float64."""
    q, r = torch.linalg.qr(torch.randn(*batch, 3, 3, generator=rng, dtype=torch.float64))
    q = q * torch.diagonal(r, dim1=-2, dim2=-1).sign()[..., None, :]
    return q * torch.linalg.det(q)[..., None, None]


def crop(examples: int = 2, *, padding: tuple[int, int] = (0, 0)) -> Batch:
    """Equal crops, padded by so many tokens and atoms."""
    n, l = len(ATOMS), sum(ATOMS)  # noqa: E741
    first = torch.tensor([sum(ATOMS[:i]) for i in range(n)])
    counts = torch.tensor(ATOMS)
    second = first + (counts > 1)
    last = first + counts - 1
    token = torch.arange(n).repeat_interleave(counts)
    ligand = first[-3:]
    frames = torch.stack([first, second, first + (counts > 2) * 2], 1)
    frames[-3:] = torch.stack([ligand.roll(1), ligand, ligand.roll(-1)], 1)
    bonds = torch.zeros(n, n)
    bonds[3, 8] = bonds[8, 3] = bonds[8, 9] = bonds[9, 8] = 1.0
    kind, chain = torch.tensor(KIND), torch.tensor(CHAIN)

    def rows(x: Tensor, extra: int) -> Tensor:
        """Copies with zero rows appended along the first dimension."""
        return torch.cat([x, x.new_zeros(extra, *x.shape[1:])])[None].repeat(examples, *[1] * x.ndim)

    more_n, more_l = padding
    square = torch.zeros(n + more_n, n + more_n)
    square[:n, :n] = bonds
    zeros = torch.zeros
    return Batch(
        token_index=rows(torch.arange(n) + 1, more_n), residue_index=rows(torch.arange(n) + 1, more_n), asym_id=rows(chain, more_n),
        entity_id=rows(chain, more_n), sym_id=rows(torch.ones_like(chain), more_n), kind=rows(kind, more_n),
        restype=rows(torch.arange(n) % 20, more_n), profile=rows(zeros(n, 32), more_n), deletion_mean=rows(zeros(n), more_n),
        token_bonds=square[None].repeat(examples, 1, 1), token_mask=rows(torch.ones(n, dtype=torch.bool), more_n),
        centre_atom=rows(second, more_n), representative_atom=rows(last, more_n), frame_atoms=rows(frames, more_n),
        frame_mask=rows((counts > 1) | (kind == 3), more_n), atom_to_token=rows(token, more_l),
        atom_slot=rows(torch.arange(l) - first[token], more_l), ref_pos=rows(zeros(l, 3), more_l), ref_charge=rows(zeros(l), more_l),
        ref_mask=rows(torch.ones(l, dtype=torch.bool), more_l), ref_element=rows(torch.full((l,), 6), more_l),
        ref_atom_name_chars=rows(torch.ones(l, 4, dtype=torch.int64), more_l), ref_space_uid=rows(token, more_l),
        atom_mask=rows(torch.ones(l, dtype=torch.bool), more_l), msa=zeros(examples, 1, n + more_n, dtype=torch.int64),
        has_deletion=zeros(examples, 1, n + more_n), deletion_value=zeros(examples, 1, n + more_n),
        msa_mask=rows(torch.ones(n, dtype=torch.bool), more_n)[:, None], template_restype=zeros(examples, 0, n + more_n, dtype=torch.int64),
        template_frame=zeros(examples, 0, n + more_n, 3, 3), template_frame_mask=zeros(examples, 0, n + more_n, dtype=torch.bool),
        template_pseudo_beta=zeros(examples, 0, n + more_n, 3), template_pseudo_beta_mask=zeros(examples, 0, n + more_n, dtype=torch.bool),
    )  # fmt: skip
