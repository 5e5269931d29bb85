"""The job and the inputs of single modules on which structgen and its peers are compared, and the public models made small."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from benchmarks.made import made_batch
from structgen.alphafold3.config import Atoms, Config, Sampling
from structgen.alphafold3.sampling import sampling_schedule
from structgen.features.batch import Batch
from structgen.generative import generators, normal_like

TOKENS, ATOMS_PER_TOKEN, ROWS, SLOTS = 22, 7, 6, 4  # 154 atoms: five windows, and more atoms than a window has keys
CYCLES, SAMPLES, MOST_STEPS, SEED = 2, 2, 20, 5
LEVELS = (40.0, 2.0)  # noise levels of a denoiser call, one a sample, in angstrom
GLYCINE = 7


def job(*, templates: int) -> Batch:
    """Two chains with seven atoms a token: bonds, charges, unknown atoms, residues of two tokens, alignments, templates with holes.

    Every token is an amino acid for peers that look atoms up by residue: N, CA, C, O, CB, ... in this order. The second chain has no
    template in the second slot; tokens that a template leaves out have the class of a gap.
    """
    rng = torch.Generator().manual_seed(1)
    made = made_batch(TOKENS, atoms_per_token=ATOMS_PER_TOKEN, rows=ROWS, rng=rng)
    half = torch.arange(TOKENS) // 2 * 2  # tokens share a residue in pairs
    bonds = torch.zeros(1, TOKENS, TOKENS)
    bonds[0, 3, 10] = bonds[0, 10, 3] = 1.0
    first = torch.arange(TOKENS) * ATOMS_PER_TOKEN
    entity = made.entity_id + (torch.arange(TOKENS) >= 15)
    return replace(
        made,
        residue_index=half[None] + 1,
        ref_space_uid=made.atom_to_token // 2,
        token_bonds=bonds,
        ref_mask=torch.rand(1, made.atoms, generator=rng) > 0.2,
        entity_id=entity,
        representative_atom=first + torch.where(made.restype == GLYCINE, 1, 4),
        atom_slot=made.atom_slot + 3 * (made.atom_to_token % 2),
        **_templates(made, templates, rng),
    )


def _templates(batch: Batch, count: int, rng: torch.Generator) -> dict[str, Tensor]:
    shape = (1, count, TOKENS)
    frame = 3 * torch.randn(*shape, 3, 3, generator=rng) + 8 * torch.randn(*shape, 1, 3, generator=rng)
    backbone, side = (torch.rand(shape, generator=rng) > rate for rate in (0.3, 0.2))
    backbone[:, 1:] &= batch.asym_id[:, None] == 1
    residue = torch.where(backbone, torch.randint(0, 20, shape, generator=rng), 31)
    beta = frame[..., 1, :] + 1.5 * torch.randn(*shape, 3, generator=rng)
    return {
        "template_restype": residue,
        "template_frame": frame * backbone[..., None, None],
        "template_frame_mask": backbone,
        "template_pseudo_beta": torch.where((residue == GLYCINE)[..., None], frame[..., 1, :], beta) * (backbone & side)[..., None],
        "template_pseudo_beta_mask": backbone & side,
    }


def small(config: Config) -> Config:
    """A public model with every switch as it is and the widths and depths of a test."""
    scaled = config.pairformer.pair.c_z != 128  # Protenix v2 alone lets hidden widths follow the pairs'
    given = config.pairformer.pair
    pair = replace(given, c_z=64, tri_hidden=64, heads=2) if scaled else replace(given, c_z=32)

    def atoms(given: Atoms, blocks: int) -> Atoms:
        return replace(given, c_atom=32, c_pair=8, blocks=blocks)

    return replace(
        config,
        name=f"{config.name}, small",
        c_s=48,
        inputs=replace(config.inputs, c_s_inputs_atom=24),
        atoms=atoms(config.atoms, 3),
        msa=replace(config.msa, blocks=2, c_m=16, subset="all"),
        pairformer=replace(config.pairformer, blocks=2, pair=pair),
        diffusion=replace(config.diffusion, blocks=2, heads=4, c_token=64, atoms=atoms(config.diffusion.atoms, 2)),
        confidence=replace(config.confidence, blocks=1),
    )


@dataclass(frozen=True)
class Given:
    """Random inputs of single modules, without a dimension for the batch; nothing here is a result of either side."""

    s_inputs: Tensor  # [n, c_s_inputs]
    s: Tensor  # [n, c_s]
    z: Tensor  # [n, n, c_z]
    m: Tensor  # [rows, n, c_m]
    a: Tensor  # [samples, n, c_token]
    single: Tensor  # [samples, n, c_s], a conditioned single
    positions: Tensor  # [samples, atoms, 3] in angstrom

    @classmethod
    def draw(cls, config: Config, batch: Batch) -> Given:
        rng = torch.Generator().manual_seed(2)

        def normal(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=rng)

        return cls(
            normal(TOKENS, config.inputs.c_s_inputs),
            normal(TOKENS, config.c_s),
            normal(TOKENS, TOKENS, config.c_z),
            normal(ROWS, TOKENS, config.msa.c_m),
            normal(SAMPLES, TOKENS, config.diffusion.c_token),
            normal(SAMPLES, TOKENS, config.c_s),
            16 * normal(SAMPLES, batch.atoms, 3),
        )


class Draws:
    """The random numbers of a prediction in the order in which structgen draws them, for a peer to draw instead of its own."""

    def __init__(self, sampling: Sampling, sigma_data: float, atoms: int) -> None:
        times, _ = sampling_schedule(sampling, sigma_data)
        self.generators = generators(SEED, sampling.samples)
        self.shape = (sampling.samples, atoms, 3)
        self.raised = iter([sampling.gamma_0 > 0 and float(time) > sampling.gamma_min for time in times[1:]])
        self.pose = torch.zeros(0)
        self.started = False

    def coordinates(self) -> Tensor:
        """[samples, atoms, 3]: where sampling starts, then the noise of every step; zeros where none is added."""
        add = next(self.raised) if self.started else True
        self.started = True
        return normal_like(torch.zeros(self.shape), self.generators) if add else torch.zeros(self.shape)

    def quaternions(self) -> Tensor:
        """[samples, 4], drawn together with the translations of the same step."""
        self.pose = normal_like(torch.zeros(self.shape[0], 7), self.generators)
        return self.pose[:, :4]

    def translations(self) -> Tensor:
        """[samples, 3]"""
        return self.pose[:, 4:]
