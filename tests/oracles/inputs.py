"""SI Algorithms 2-4 written out pair by pair, and the random jobs that they and the atom algorithms are tested on."""

from __future__ import annotations

from dataclasses import fields, replace

import torch
from torch import Tensor, nn

from structgen.alphafold3.config import Inputs
from structgen.features.batch import Batch
from tests.oracles import atoms

# chain, residue, atoms of every token: two copies of one chain with an atomised residue in the second, a short chain, a ligand
TOKENS = ((1, 1, 5), (1, 2, 3), (1, 3, 6), (2, 1, 5), (2, 2, 1), (2, 2, 1), (2, 3, 4), (3, 1, 2), (4, 1, 1), (4, 1, 1))
ENTITY = {1: 1, 2: 1, 3: 2, 4: 3}
COPY = {1: 1, 2: 2, 3: 1, 4: 1}


def job(seed: int, tokens: tuple[tuple[int, int, int], ...] = TOKENS) -> Batch:
    """One example with random features and no padding."""
    rng = torch.Generator().manual_seed(seed)
    chain, residue, count = torch.tensor(tokens).T
    n, atoms_of = len(tokens), int(count.sum())
    first = count.cumsum(0) - count
    token = torch.arange(n).repeat_interleave(count)

    def integers(high: int, *shape: int) -> Tensor:
        return torch.randint(0, high, shape, generator=rng)

    def numbers(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=rng)

    values = {
        "token_index": torch.arange(n) + 1, "residue_index": residue, "asym_id": chain,
        "entity_id": torch.tensor([ENTITY[int(c)] for c in chain]), "sym_id": torch.tensor([COPY[int(c)] for c in chain]),
        "kind": torch.zeros(n, dtype=torch.int64), "restype": integers(32, n), "profile": numbers(n, 32).abs(),
        "deletion_mean": numbers(n).abs(), "token_bonds": torch.zeros(n, n), "token_mask": torch.ones(n, dtype=torch.bool),
        "centre_atom": first, "representative_atom": first, "frame_atoms": first[:, None].expand(n, 3),
        "frame_mask": torch.zeros(n, dtype=torch.bool), "atom_to_token": token, "atom_slot": torch.arange(atoms_of) - first[token],
        "ref_pos": numbers(atoms_of, 3) * 2, "ref_charge": integers(5, atoms_of).float() - 2,
        "ref_mask": integers(5, atoms_of) > 0, "ref_element": 1 + integers(20, atoms_of),
        "ref_atom_name_chars": integers(64, atoms_of, 4), "ref_space_uid": (chain * 100 + residue)[token],
        "atom_mask": torch.ones(atoms_of, dtype=torch.bool), "msa": integers(32, 1, n), "has_deletion": torch.zeros(1, n),
        "deletion_value": torch.zeros(1, n), "msa_mask": torch.ones(1, n, dtype=torch.bool),
        "template_restype": torch.zeros(0, n, dtype=torch.int64), "template_frame": torch.zeros(0, n, 3, 3),
        "template_frame_mask": torch.zeros(0, n, dtype=torch.bool), "template_pseudo_beta": torch.zeros(0, n, 3),
        "template_pseudo_beta_mask": torch.zeros(0, n, dtype=torch.bool),
    }  # fmt: skip
    return Batch(**{name: value[None].clone() for name, value in values.items()})


def padded(batch: Batch, tokens: int, atoms: int) -> Batch:
    """The batch with so many more tokens and atoms that do not exist, full of garbage where the masks do not say so."""
    out = {}
    for field in fields(batch):
        value = getattr(batch, field.name)
        dims = str(field.type).replace("'", '"').split('"')[1].split()
        for axis, name in enumerate(dims):
            more = {"n": tokens, "l": atoms}.get(name, 0)
            if more:
                shape = (*value.shape[:axis], more, *value.shape[axis + 1 :])
                value = torch.cat([value, value.new_full(shape, 3.0 if value.is_floating_point() else 0)], dim=axis)
        out[field.name] = value
    return replace(batch, **out)


def together(*jobs: Batch) -> Batch:
    """Jobs of different size as one batch."""
    tokens, atoms = max(job.tokens for job in jobs), max(job.atoms for job in jobs)
    rows = [padded(job, tokens - job.tokens, atoms - job.atoms) for job in jobs]
    return Batch(**{field.name: torch.cat([getattr(row, field.name) for row in rows]) for field in fields(Batch)})


def one_hot(x: float, bins: list[float]) -> list[float]:
    """Algorithm 4."""
    best = 0
    for b in range(len(bins)):
        if abs(x - bins[b]) < abs(x - bins[best]):
            best = b
    return [float(b == best) for b in range(len(bins))]


def relative_features(batch: Batch, config: Inputs, i: int, j: int) -> Tensor:
    """Algorithm 3, lines 1-5, for one pair."""

    def differ(name: str, limit: int) -> int:
        values = getattr(batch, name)[0]
        return min(max(int(values[i] - values[j]) + limit, 0), 2 * limit)

    def same(name: str) -> bool:
        return bool(getattr(batch, name)[0][i] == getattr(batch, name)[0][j])

    r, s = config.r_max, config.s_max
    same_chain, same_residue, same_entity = same("asym_id"), same("asym_id") and same("residue_index"), same("entity_id")
    clipped = same_entity if config.relpos_chain == "same_entity" else not same_chain
    residue = differ("residue_index", r) if same_chain else 2 * r + 1
    token = differ("token_index", r) if same_residue else 2 * r + 1
    chain = differ("sym_id", s) if clipped else 2 * s + 1
    parts = one_hot(residue, [float(k) for k in range(2 * r + 2)]), one_hot(token, [float(k) for k in range(2 * r + 2)])
    return torch.tensor([*parts[0], *parts[1], float(same_entity), *one_hot(chain, [float(k) for k in range(2 * s + 2)])]).double()


def input_features(module: nn.Module, batch: Batch) -> list[Tensor]:
    """Algorithm 2 for one example without padding."""
    a, _ = atoms.encode(module.atoms, batch)
    out = []
    for i in range(batch.tokens):
        restype = one_hot(float(batch.restype[0, i]), [float(k) for k in range(32)])
        numbers = torch.tensor([*restype, *batch.profile[0, i].tolist(), float(batch.deletion_mean[0, i])])
        out.append(torch.cat([a[i], numbers.double()]))
    return out
