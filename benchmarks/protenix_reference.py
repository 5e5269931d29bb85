"""What a small Protenix answers: the numbers that tests compare with where Protenix itself is not installed.

    python -m benchmarks.protenix_reference tests/alphafold3/protenix_reference.safetensors

Weights and features are made anew from names and seeds on both sides; the file holds the outputs, and names and shapes of the weights.
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from benchmarks import protenix_peer as peer
from benchmarks.made import made_batch
from structgen.alphafold3 import protenix
from structgen.alphafold3.config import Config, Pair
from structgen.features.batch import Batch

TOKENS, CYCLES, ROWS, LEVELS = 12, 2, 6, (40.0, 2.0)


def config() -> Config:
    """The smallest network that has every part of the public models."""
    large = protenix.tiny_v0_5()
    pair = Pair(c_z=64, tri_hidden=64, heads=2, c_head=32)
    atoms = replace(large.atoms, c_atom=32, c_pair=8)
    return replace(
        large,
        c_s=48,
        inputs=replace(large.inputs, c_s_inputs_atom=24),
        atoms=atoms,
        msa=replace(large.msa, blocks=2, c_m=16, subset="all"),
        pairformer=replace(large.pairformer, blocks=2, pair=pair),
        diffusion=replace(large.diffusion, blocks=2, heads=4, c_token=64, atoms=replace(atoms, blocks=2)),
        confidence=replace(large.confidence, blocks=1),
        name="protenix, small",
    )


def batch() -> Batch:
    """Two chains of six tokens with seven atoms each: three windows of atoms, unknown atoms, charges, bonds, residues of two tokens."""
    rng = torch.Generator().manual_seed(1)
    made = made_batch(TOKENS, atoms_per_token=7, rows=ROWS, rng=rng)
    half = torch.arange(TOKENS) // 2 * 2  # tokens share a residue in pairs
    bonds = torch.zeros(1, TOKENS, TOKENS)
    bonds[0, 3, 10] = bonds[0, 10, 3] = 1.0
    known = torch.rand(1, made.atoms, generator=rng) > 0.2
    entity = made.entity_id + (torch.arange(TOKENS) >= 9)
    residues = {"residue_index": half[None] + 1, "ref_space_uid": made.atom_to_token // 2}
    return replace(made, **residues, token_bonds=bonds, ref_mask=known, entity_id=entity)


def positions() -> Tensor:
    """Noisy positions, one sample for every level, [samples, atoms, 3] in angstrom."""
    return 16 * torch.randn(len(LEVELS), batch().atoms, 3, generator=torch.Generator().manual_seed(2))


@torch.no_grad()
def outputs() -> tuple[dict[str, Tensor], dict[str, str]]:
    """All that the small Protenix says, and its weights' names and shapes."""
    model = peer.build(config())
    model.msa_module.msa_configs["test_lowerb"] = ROWS  # all rows of the alignment in every cycle, in any order
    features, x = peer.features(batch(), model), positions()
    s_inputs, s, z = model.get_pairformer_output(features, N_cycle=CYCLES)
    trunk = {"s_inputs": s_inputs, "s": s, "z": z, "distogram": model.distogram_head(z)}
    denoised = model.diffusion_module(
        x_noisy=x, t_hat_noise_level=torch.tensor(LEVELS), input_feature_dict=features, s_inputs=s_inputs, s_trunk=s, z_trunk=z,
        pair_z=None, p_lm=None, c_l=None,
    )  # fmt: skip
    logits = model.confidence_head(features, s_inputs, s, z, None, x[1:])
    heads = {name: value[0] for name, value in zip(("plddt", "pae", "pde", "resolved"), logits, strict=True)}
    return {**trunk, "denoised": denoised, **heads}, {"shapes": json.dumps(peer.shapes(model))}


if __name__ == "__main__":
    tensors, metadata = outputs()
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, Path(sys.argv[1]), metadata)
