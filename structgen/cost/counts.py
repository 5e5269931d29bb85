"""Operations and bytes of a fold as functions of its sizes and of the network's: the terms whose coefficients a calibration finds.

A fold has four phases, one after the other: trunk, condition (what all noise levels share), steps (the denoiser), confidence. The seconds
of each are a sum of terms, its bytes another; the fold takes the sum of the seconds and the largest of the bytes. Operations are in units
of 10^9 multiplications with addition, memory in MiB; `calls` stand for what every call costs whatever its size. N tokens, P = N^2 pairs,
L atoms, S samples.
"""

from __future__ import annotations

from collections.abc import Mapping

from structgen.alphafold3.config import Atoms, Config, Pair
from structgen.cost.work import Work, mean_rows, most_rows
from structgen.precision import Precision

PHASES = ("trunk", "condition", "steps", "confidence")
GIGA, MIB = 1e9, float(1 << 20)
ATOM_FEATURES = 389  # of an atom in its reference conformer: position, charge, mask, element, four letters of its name
BATCH_ROW = 17  # bytes of a token in a row of the alignment: class, deletions, mask (`Batch`)

Terms = Mapping[str, float]


def operations(config: Config, work: Work) -> dict[str, Terms]:
    """The terms of the seconds of every phase."""
    n, pairs, c_z, diffusion = work.tokens, work.tokens**2, config.c_z, config.diffusion
    former, confidence = config.pairformer, config.confidence
    dense = _pair_dense(former.pair) + c_z * former.heads
    cubic = _pair_cubic(former.pair)
    single = n * (4 + 3 * former.transition) * config.c_s**2 + 2 * pairs * config.c_s
    heads = c_z * (confidence.bins_pae + confidence.bins_pde)
    conditioned = 2 * c_z * c_z + 6 * diffusion.transition * c_z**2 + diffusion.blocks * diffusion.heads * c_z
    token = (5 + 3 * diffusion.transition) * diffusion.c_token**2 * diffusion.blocks
    adaptive = 6 * config.c_s * diffusion.c_token * diffusion.blocks
    trunk = former.blocks * (pairs * dense + single) + _alignment(config, work) + _templates(config, work)[0]
    cubes = n**3 * (former.blocks + config.msa.blocks) * cubic + _templates(config, work)[1]
    return {
        "trunk": {
            "calls": float(work.cycles),
            "dense": work.cycles * trunk / GIGA,
            "cubic": work.cycles * cubes / GIGA,
            "atoms": (_atom_condition(config.atoms, work.atoms, 1) + _atom_track(config.atoms, work.atoms)) / GIGA,
        },
        "condition": {
            "calls": 1.0,
            "dense": pairs * conditioned / GIGA,
            "atoms": _atom_condition(diffusion.atoms, work.atoms, 2) / GIGA,
        },
        "steps": {
            "calls": float(work.steps * _batches(work)),
            "dense": work.steps * n * (work.samples * token + _batches(work) * adaptive) / GIGA,
            "attention": work.steps * work.samples * pairs * 2 * diffusion.c_token * diffusion.blocks / GIGA,
            "atoms": work.steps * work.samples * 2 * _atom_track(diffusion.atoms, work.atoms) / GIGA,
        },
        "confidence": {
            "calls": float(work.samples),
            "dense": (work.samples * (pairs * (confidence.blocks * dense + heads) + confidence.blocks * single)) / GIGA,
            "cubic": work.samples * confidence.blocks * n**3 * cubic / GIGA,
            "atoms": work.samples * work.atoms / 1e6,  # scores in numpy: clashes, surface areas
        },
    }


def memory(config: Config, work: Work, precision: Precision) -> dict[str, Terms]:
    """The terms of the bytes of every phase, in MiB."""
    size = 2 if precision == "bfloat16" else 4
    n, pairs, diffusion, confidence = work.tokens, work.tokens**2, config.diffusion, config.confidence
    pair = pairs * config.c_z * size / MIB
    alignment = n * work.rows * BATCH_ROW / MIB
    drawn = (most_rows(work.rows, config.msa) - 1) * n * (config.msa.c_m * (2 + config.msa.transition) * size + BATCH_ROW) / MIB
    biases = pairs * diffusion.blocks * diffusion.heads * size / MIB
    windows = work.atoms * diffusion.atoms.keys * diffusion.atoms.c_pair * size / MIB
    scores = work.together * pairs * diffusion.heads * size / MIB
    tokens = work.together * n * diffusion.c_token * diffusion.transition * size / MIB
    atoms = work.together * work.atoms * diffusion.atoms.c_atom * size / MIB
    wide = pairs * (4 * config.c_z + 4 * (confidence.bins_pae + confidence.bins_pde)) / MIB
    kept = {"process": 1.0, "alignment": alignment}
    return {
        "trunk": kept | {"pair": pair, "drawn": drawn},
        "condition": kept | {"pair": pair, "biases": biases, "windows": windows},
        "steps": kept | {"pair": pair, "biases": biases, "windows": windows, "scores": scores, "tokens": tokens, "atoms": atoms},
        "confidence": kept | {"pair": pair, "wide": wide, "results": work.samples * pairs * 8 / MIB},
    }


def featurise_terms(work: Work) -> Terms:
    """The terms of the seconds of Featurise."""
    return {"calls": 1.0, "atoms": work.atoms / 1e3, "alignment": work.rows * work.tokens / 1e6, "pairs": work.tokens**2 / 1e6}


def _batches(work: Work) -> int:
    return -(-work.samples // work.together)


def _pair_dense(pair: Pair) -> float:
    """Of one pair in one block: SI Algorithms 11 to 15 without their sums over a third token."""
    c, h, w = pair.c_z, pair.tri_hidden, pair.heads * pair.c_head
    attention = 2 * (5 * w * c + c * pair.heads) if pair.attention else 0
    return 2 * (5 * h * c + c * c) + attention + 3 * pair.transition * c * c


def _pair_cubic(pair: Pair) -> float:
    """Of one triple of tokens in one block."""
    return 2 * pair.tri_hidden + (4 * pair.heads * pair.c_head if pair.attention else 0)


def _alignment(config: Config, work: Work) -> float:
    """SI Algorithms 8 to 10, with the pair track of their blocks."""
    msa, n, pairs = config.msa, work.tokens, work.tokens**2
    rows, width = mean_rows(work.rows, msa), msa.pwa_heads * msa.pwa_channels
    outer = rows * n * 2 * msa.c_m * msa.c_opm + pairs * msa.c_opm**2 * (rows + config.c_z)
    averaging = rows * (pairs * width + n * 3 * msa.c_m * width) + pairs * config.c_z * msa.pwa_heads
    transition = rows * n * 3 * msa.transition * msa.c_m**2
    return msa.blocks * (outer + averaging + transition + pairs * _pair_dense(config.pairformer.pair))


def _templates(config: Config, work: Work) -> tuple[float, float]:
    """SI Algorithm 16: what grows with the pairs, and with the triples. Without templates one empty one is read."""
    count, template, n = max(1, work.templates), config.template, work.tokens
    dense = n**2 * (template.blocks * _pair_dense(template.pair) + 2 * config.c_z * template.c)
    return count * dense, count * n**3 * template.blocks * _pair_cubic(template.pair)


def _atom_track(atoms: Atoms, count: int) -> float:
    """SI Algorithms 5 to 7 over all atoms."""
    c = atoms.c_atom
    return count * atoms.blocks * ((11 + 3 * atoms.transition) * c * c + 2 * atoms.keys * c)


def _atom_condition(atoms: Atoms, count: int, stacks: int) -> float:
    """What all samples share of SI Algorithms 5 to 7: features of atoms, and of their pairs in a window with the biases of all stacks."""
    c, pair = atoms.c_atom, atoms.c_pair
    window = 3 * pair**2 + 5 * pair + stacks * atoms.blocks * atoms.heads * pair
    return count * (atoms.keys * window + c * (ATOM_FEATURES + 6 * c + 2 * pair))
