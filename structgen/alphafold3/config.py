"""Every hyperparameter and switch of SI Algorithms 1-31, once; presets for our own models.

A switch is named as in the table of deviations between the SI, AlphaFold 3's code, Protenix and OpenFold3; its default is the
corrected reading of the SI. The object is its own configuration: it prints, compares, and travels as JSON inside a checkpoint.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from typing import Literal

from structgen.configuration import from_mapping
from structgen.errors import ConfigError


@dataclass(frozen=True)
class Inputs:
    """Features and SI Algorithms 2-4."""

    c_s_inputs_atom: int = 384  # token width of the input embedder's atom encoder; s_inputs = this + 32 + 32 + 1
    restypes: Literal[31, 32] = 32  # classes of residues: 32 with the gap last, or 31 as in AlphaFold 3's code (`inputs.classes`)
    r_max: int = 32
    s_max: int = 2
    element_classes: int = 128
    element_offset: int = 0  # class of an element = atomic number - offset
    ref_charge: Literal["raw", "arcsinh"] = "raw"
    ref_mask_gate: bool = False  # multiply the atom embedding by ref_mask
    relpos_chain: Literal["same_entity", "not_same_chain"] = "same_entity"

    @property
    def c_s_inputs(self) -> int:
        return self.c_s_inputs_atom + 2 * self.restypes + 1

    @property
    def c_relative(self) -> int:
        return 2 * (2 * self.r_max + 2) + 1 + 2 * self.s_max + 2


@dataclass(frozen=True)
class Atoms:
    """SI Algorithms 5-7."""

    c_atom: int = 128
    c_pair: int = 16
    blocks: int = 3
    heads: int = 4
    transition: int = 2
    queries: int = 32
    keys: int = 128
    q_init: Literal["after", "before"] = "after"  # q starts from c after or before the trunk single is added
    kv_norm: Literal["shared", "separate", "chained"] = "shared"
    key_window: Literal["centred", "shifted"] = "centred"
    pair_norm: Literal["per_block", "per_stack"] = "per_block"
    decoder_out_init: Literal["zero", "default"] = "zero"


@dataclass(frozen=True)
class Pair:
    """The pair track of a block: SI Algorithms 11-15."""

    c_z: int = 128
    tri_hidden: int = 128
    attention: bool = True  # Algorithms 14 and 15; without them a block is two multiplications and a transition, and costs a third
    heads: int = 4
    c_head: int = 32
    transition: int = 4
    dropout: float = 0.25
    end_node_bias: Literal["ki", "ik"] = "ki"
    incoming: Literal["a_ki", "a_kj"] = "a_ki"  # Algorithm 13 sums a_ki b_kj, or a_kj b_ki


@dataclass(frozen=True)
class Msa:
    """SI Algorithms 8-10."""

    blocks: int = 4
    c_m: int = 64
    c_opm: int = 32
    pwa_heads: int = 8
    pwa_channels: int = 8
    transition: int = 4
    dropout: float = 0.15
    opm_eps: float = 1e-3
    last_update: bool = True  # build the last block's (unused) MSA update
    subset: Literal["random_depth", "shuffle_first", "all"] = "random_depth"
    rows: int = 1024  # at most so many rows enter a cycle
    outer_residual: bool = False


@dataclass(frozen=True)
class Template:
    """SI Algorithm 16."""

    blocks: int = 2
    c: int = 64
    pair: Pair = field(default_factory=lambda: Pair(c_z=64, tri_hidden=64, heads=4, c_head=16, transition=2))
    bins: int = 39
    first_bin: float = 3.25
    last_bin: float = 50.75
    mean_over: Literal["given", "slots"] = "given"
    slots: int = 4
    trained: bool = False  # with templates: without, the weights are as they were drawn, and predictions leave templates out
    no_residue: Literal["gap", "gap_first", "zero"] = "gap"  # class of a chain's residues in the slots without a template for the chain
    outer_residual: bool = False


@dataclass(frozen=True)
class Pairformer:
    """SI Algorithm 17."""

    blocks: int = 48
    heads: int = 16
    transition: int = 4
    pair: Pair = field(default_factory=Pair)


@dataclass(frozen=True)
class Diffusion:
    """SI Algorithms 20-26."""

    sigma_data: float = 16.0
    blocks: int = 24
    heads: int = 16
    c_token: int = 768
    c_fourier: int = 256
    transition: int = 2
    atoms: Atoms = field(default_factory=Atoms)
    relpos: Literal["projected", "raw"] = "projected"
    pair_norm: Literal["per_block", "per_stack"] = "per_block"
    fourier_bias: Literal["normal", "uniform"] = "normal"


@dataclass(frozen=True)
class Equivariant:
    """Sizes of the SE(3)-equivariant head (`structgen.equivariant`): features that do not turn, vectors and l = 2 of every token."""

    layers: int = 4
    scalars: int = 128
    vectors: int = 32
    tensors: int = 8
    c_edge: int = 32  # what an edge says: distance and trunk pair
    radial: int = 24  # Gaussians of the distance
    heads: int = 4  # of the attention over all tokens
    nearest: int = 16  # neighbours in space
    window: int = 3  # and along the chain, on either side
    c_fourier: int = 64


@dataclass(frozen=True)
class Head:
    """Which network moves the atoms, and as what it is trained and read: every combination works."""

    network: Literal["transformer", "equivariant"] = "transformer"  # SI Algorithm 20, or `structgen.equivariant`
    objective: Literal["diffusion", "flow"] = "diffusion"  # EDM preconditioning and noise levels, or flow matching on the straight path
    equivariant: Equivariant = field(default_factory=Equivariant)


@dataclass(frozen=True)
class Confidence:
    """SI Algorithm 31 and the summaries of SI 5.9."""

    blocks: int = 4
    bins_pae: int = 64
    bins_pde: int = 64
    bins_plddt: int = 50
    atoms_per_token: int = 24
    distance_bins: int = 39
    first_bin: float = 3.25
    last_bin: float = 50.75
    slots: Literal["dictionary", "present"] = "dictionary"  # an atom's row: its place among its residue's atoms, or the existing ones
    row: Literal["first", "second"] = "first"  # which of the two projections of s_inputs is added along the rows
    extra_distance: bool = False
    s_norm: bool = False
    head_norm: bool = False
    pde_symmetry: Literal["pair_before", "pair_before_norm", "logits_after"] = "pair_before"
    dropout: float = 0.25
    outer_residual: bool = False
    size: bool = False  # tell the head how many tokens there are


@dataclass(frozen=True)
class Distogram:
    """Line 17 of SI Algorithm 1."""

    bins: int = 64
    first: float = 2.0
    last: float = 22.0
    bias: bool = False


@dataclass(frozen=True)
class Sampling:
    """How a model is run when the user does not say: SI Algorithm 18 and the number of cycles."""

    cycles: int = 4
    samples: int = 5
    steps: int = 200
    sigma_max: float = 160.0  # in units of sigma_data
    sigma_min: float = 4e-4
    rho: float = 7.0
    gamma_0: float = 0.8
    gamma_min: float = 1.0
    noise_scale: float = 1.003
    step_scale: float = 1.5
    last_sigma: Literal["sigma_min", "zero"] = "sigma_min"
    right_handed: bool = False  # mirror samples whose chains wind to the left (`handedness`)
    held: float = 0.0  # backbones lie within so many expected deviations of where the best template has them (`holding`); 0: anywhere
    relaxed: bool = False  # move atoms to the nearest coordinates with the lengths, angles and hands of chemistry (`relaxation`)
    ranked_by: Literal["tm", "pae"] = "tm"  # samples, by ipTM and pTM as the SI has it or by the mean PAE (`ranking.summarise`)


@dataclass(frozen=True)
class Config:
    """The whole network. `name` is the preset's, recorded in checkpoints and outputs."""

    name: str = "af3"
    c_s: int = 384
    inputs: Inputs = field(default_factory=Inputs)
    atoms: Atoms = field(default_factory=Atoms)  # of the input embedder
    z_init_from: Literal["s_inputs", "s_init"] = "s_inputs"
    msa: Msa = field(default_factory=Msa)
    template: Template = field(default_factory=Template)
    pairformer: Pairformer = field(default_factory=Pairformer)
    diffusion: Diffusion = field(default_factory=Diffusion)
    head: Head = field(default_factory=Head)
    confidence: Confidence = field(default_factory=Confidence)
    distogram: Distogram = field(default_factory=Distogram)
    sampling: Sampling = field(default_factory=Sampling)

    @property
    def c_z(self) -> int:
        return self.pairformer.pair.c_z

    def to_json(self) -> str:
        """The configuration as JSON with sorted keys, as it is written into a checkpoint's metadata."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Config:
        """Inverse of `to_json`. Raises `ConfigError` for text that is not JSON and for an unknown key, a wrong type or a wrong value."""
        try:
            values = json.loads(text)
        except json.JSONDecodeError as error:
            raise ConfigError(f"configuration is not JSON: {error}") from error
        return from_mapping(cls, values)


def af3() -> Config:
    """The SI's own sizes: 368 million parameters."""
    return Config()


def _pair(c_z: int, *, heads: int, c_head: int, transition: int = 2, dropout: float = 0.1) -> Pair:
    return Pair(c_z=c_z, tri_hidden=c_z, heads=heads, c_head=c_head, transition=transition, dropout=dropout)


def small() -> Config:
    """The shape of the default model that ships with structgen: every algorithm of the SI at the width that two cores can train and run.

    Trained without alignments, so it reads an alignment's profile and the query row alone.
    """
    atoms = Atoms(c_atom=48, c_pair=16, blocks=1, heads=4)
    return Config(
        name="structgen-small",
        c_s=128,
        inputs=Inputs(c_s_inputs_atom=128, ref_charge="arcsinh"),
        atoms=atoms,
        msa=Msa(blocks=1, c_m=32, c_opm=16, pwa_heads=4, pwa_channels=8, transition=2, rows=1, subset="all", last_update=False),
        template=Template(blocks=1, c=32, pair=_pair(32, heads=2, c_head=16)),
        pairformer=Pairformer(blocks=4, heads=4, transition=2, pair=_pair(48, heads=2, c_head=24)),
        diffusion=Diffusion(blocks=5, heads=4, c_token=192, c_fourier=64, atoms=atoms),
        confidence=Confidence(blocks=1, head_norm=True),
        sampling=Sampling(cycles=1, samples=5, steps=40),
    )


def tiny() -> Config:
    """A few thousand parameters with every part present: for tests."""
    atoms = Atoms(c_atom=16, c_pair=8, blocks=1, heads=2)
    return Config(
        name="structgen-tiny",
        c_s=24,
        inputs=Inputs(c_s_inputs_atom=24),
        atoms=atoms,
        msa=Msa(blocks=2, c_m=8, c_opm=4, pwa_heads=2, pwa_channels=4, transition=2, rows=16),
        template=Template(blocks=1, c=8, pair=_pair(8, heads=2, c_head=4), trained=True),
        pairformer=Pairformer(blocks=2, heads=4, transition=2, pair=_pair(16, heads=2, c_head=8)),
        diffusion=Diffusion(blocks=2, heads=4, c_token=32, c_fourier=16, atoms=atoms),
        confidence=Confidence(blocks=1),
        sampling=Sampling(cycles=2, samples=2, steps=4),
    )
