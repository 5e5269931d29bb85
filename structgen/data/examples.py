"""One step's crops as a batch with its truth, in the shapes of the step's bucket."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from structgen.data.assemble import Assembled, assemble
from structgen.data.backbones import TemplateRows, backbone_rows, chain_tokens, lay_relative, nothing
from structgen.data.crops import CropWeights, crop
from structgen.data.dataset import Dataset, Unit
from structgen.data.entry import Entry
from structgen.data.sampling import Sampler
from structgen.data.simulated import Simulation, simulate
from structgen.features import chemistry
from structgen.features.batch import Batch
from structgen.features.conformers import posed
from structgen.features.examples import Example
from structgen.features.featurise import AXES
from structgen.features.templates import MOST, SHORTEST_CHAIN

ATOMS_PER_TOKEN = (8, 9, 12, 24)  # a batch is padded to the first of these that holds it


@dataclass(frozen=True)
class TemplateDraws:
    """How often and which templates a chain is shown (SI 2.4: at most four, a random choice of the best twenty)."""

    slots: int = 0  # of the batch; 0: none at all
    keep: float = 0.6  # of the protein chains; the others have none
    simulated: float = 0.25  # of the chains with relatives are shown simulated ones instead
    best: bool = False  # the best relatives in their order, as predictions are given them, instead of a random choice
    orphans: bool = True  # chains without relatives are shown simulated ones; else none
    candidates: int = 20  # relatives that are drawn from
    max_identity: float = 0.95  # relatives more like the chain than this are its own structure again
    min_coverage: float = 0.1
    simulation: Simulation = field(default_factory=Simulation)


@dataclass(frozen=True)
class Loading:
    """How entries become batches. `tokens` is the largest crop; `buckets` are the sizes that smaller ones are padded to."""

    batch: int = 1
    tokens: int = 256
    buckets: tuple[int, ...] = (64, 128, 192)
    crops: CropWeights = field(default_factory=CropWeights)
    profile_keep: float = 0.7  # else the profile is the sequence itself, as for a user without an alignment
    gap_share: float = 0.5  # at most so large a share of gaps is mixed into a profile: alignments have them, archives' do not
    msa_rows: int = 1  # the query's among them
    msa_keep: float = 0.7
    templates: TemplateDraws = field(default_factory=TemplateDraws)
    split: str = "train"

    @property
    def sizes(self) -> tuple[int, ...]:
        """The lengths of all batches."""
        return (*(size for size in self.buckets if size < self.tokens), self.tokens)


@dataclass(frozen=True)
class _Drawn:
    """A crop of n tokens with what is random about it decided."""

    name: str
    assembled: Assembled
    profile: np.ndarray  # [n, 32] float32
    deletion_mean: np.ndarray  # [n]
    msa: np.ndarray  # [s, n] uint8
    deletions: np.ndarray  # [s, n]
    templates: list[TemplateRows]  # of n tokens each


def draw_step(dataset: Dataset, sampler: Sampler, settings: Loading, step: int, places: Sequence[int]) -> dict[str, np.ndarray]:
    """Those places of a step's batch as padded arrays, ready to be sent: `to_example` makes tensors of them."""
    units = [sampler.draw(step, place) for place in places]
    drawn = [_draw(dataset, settings, unit, rng) for unit, rng in units]
    arrays = _padded(drawn, sampler.buckets[sampler.bucket(step)], settings)
    turned = [_posed(arrays, i, int(rng.integers(2**62))) for i, (_, rng) in enumerate(units)]
    return arrays | {"names": np.array([one.name for one in drawn]), "ref_pos": np.concatenate(turned)}


def to_example(arrays: dict[str, np.ndarray]) -> Example:
    """Tensors of `draw_step`'s arrays."""
    tensors = {name: torch.from_numpy(value) for name, value in arrays.items() if name not in ("names", "bonds")}
    positions, resolved = tensors.pop("positions"), tensors.pop("resolved")
    b, n = tensors["token_mask"].shape
    bonds = torch.zeros(b, n, n)
    of, first, second = torch.from_numpy(arrays["bonds"]).unbind(-1)
    bonds[of, first, second] = bonds[of, second, first] = 1.0
    return Example(Batch(**tensors, token_bonds=bonds), positions, resolved, tuple(arrays["names"].tolist()))


def _posed(arrays: dict[str, np.ndarray], i: int, seed: int) -> np.ndarray:
    """[1, l, 3] reference positions of one crop, each conformer turned and moved; whichever crops are beside it."""
    position, uid, mask = (torch.from_numpy(arrays[name][i : i + 1]) for name in ("ref_pos", "ref_space_uid", "ref_mask"))
    return posed(position, uid, mask, torch.Generator().manual_seed(seed)).numpy()


def _draw(dataset: Dataset, settings: Loading, unit: Unit, rng: np.random.Generator) -> _Drawn:
    entry = dataset.entry(unit.entry)
    chosen = crop(entry, settings.tokens, unit.chains, settings.crops, rng)
    assembled = assemble(entry, chosen)
    own = np.eye(32, dtype=np.float32)[assembled.features["restype"]]
    rows, deletions = _rows(dataset, settings, unit, chosen, assembled, rng)
    return _Drawn(
        name=dataset.name(unit.entry),
        assembled=assembled,
        profile=_profile(dataset.profile(unit.entry), chosen, own, settings, rng),
        deletion_mean=deletions.mean(0, dtype=np.float32),
        msa=rows,
        deletions=deletions,
        templates=_templates(dataset, entry, unit.entry, chosen, settings.templates, rng),
    )


def _profile(known: np.ndarray | None, chosen: np.ndarray, own: np.ndarray, settings: Loading, rng: np.random.Generator) -> np.ndarray:
    """The frequencies of homologues with some gaps where they are known and shown, else the sequence's own letters."""
    shown, gaps = rng.random() < settings.profile_keep, np.float32(rng.uniform(0, settings.gap_share))
    if known is None or not shown:
        return own
    frequencies = known[chosen]
    there = frequencies.sum(1) > 0.5
    own[there] = 0
    own[there, :20] = frequencies[there] * (1 - gaps)
    own[there, chemistry.GAP] = gaps
    return own


def _rows(
    dataset: Dataset, settings: Loading, unit: Unit, chosen: np.ndarray, assembled: Assembled, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """The query, and a random choice of the alignment's other rows in their order."""
    query = assembled.features["restype"].astype(np.uint8)[None]
    alignment = dataset.alignment(unit.entry) if settings.msa_rows > 1 and rng.random() < settings.msa_keep else None
    if alignment is None:
        return query, np.zeros_like(query)
    others = np.sort(rng.permutation(len(alignment.rows) - 1)[: settings.msa_rows - 1]) + 1
    deletions = np.minimum(alignment.deletions[others][:, chosen], 255).astype(np.uint8)
    return np.concatenate([query, alignment.rows[others][:, chosen]]), np.concatenate([np.zeros_like(query), deletions])


def _templates(
    dataset: Dataset, entry: Entry, number: int, chosen: np.ndarray, settings: TemplateDraws, rng: np.random.Generator
) -> list[TemplateRows]:
    """At most `slots` templates of the crop; slot t holds the t-th of every protein chain."""
    slots = [nothing(entry.tokens) for _ in range(min(settings.slots, MOST))]
    proteins = np.flatnonzero(entry.kind == 0).tolist() if slots else []
    for c in proteins:
        tokens = chain_tokens(entry, c)
        if len(tokens) < SHORTEST_CHAIN or entry.single[tokens].any() or rng.random() >= settings.keep:
            continue
        for slot, rows in zip(slots, _of_chain(dataset, entry, number, c, tokens, settings, rng), strict=False):
            for name, target in vars(slot).items():
                target[tokens] = getattr(rows, name)
    return [slot.at(chosen, len(chosen), np.arange(len(chosen))) for slot in slots]


def _of_chain(
    dataset: Dataset, entry: Entry, number: int, chain: int, tokens: np.ndarray, settings: TemplateDraws, rng: np.random.Generator
) -> list[TemplateRows]:
    """The templates of a chain: k = min(uniform 1..n, slots) of its n best relatives, or as many simulated ones."""
    found = [
        relative
        for relative in dataset.relatives(number, chain)
        if relative.identity <= settings.max_identity and relative.coverage >= settings.min_coverage
    ][: settings.candidates]
    if found and rng.random() >= settings.simulated:
        count = settings.slots if settings.best else min(int(rng.integers(1, len(found) + 1)), settings.slots)
        order = range(len(found)) if settings.best else rng.permutation(len(found)).tolist()
        return [lay_relative(found[i], dataset.entry(found[i].entry), len(tokens)) for i in order[:count]]
    if not found and not settings.orphans:
        return []
    native = backbone_rows(entry, tokens)
    return [simulate(native, settings.simulation, rng) for _ in range(int(rng.integers(1, settings.slots + 1)))]


def _padded(drawn: Sequence[_Drawn], tokens: int, settings: Loading) -> dict[str, np.ndarray]:
    """All arrays of the batch, zeros behind the real entries."""
    most = max(len(one.assembled.resolved) for one in drawn)
    sizes = {"b": len(drawn), "n": tokens, "l": next(r * tokens for r in ATOMS_PER_TOKEN if r * tokens >= most)}
    sizes |= {"s": settings.msa_rows, "t": min(settings.templates.slots, MOST)}
    columns = [_columns(one) for one in drawn]
    arrays = {name: _stacked(name, [column[name] for column in columns], sizes) for name in columns[0]}
    bonds = [np.insert(one.assembled.bonds, 0, i, axis=1) for i, one in enumerate(drawn)]
    return arrays | {"bonds": np.concatenate(bonds).astype(np.int64)}


def _columns(one: _Drawn) -> dict[str, np.ndarray]:
    """Every array of a crop, without padding."""
    deletions = one.deletions.astype(np.float32)
    stacked = {
        f"template_{name}": np.stack([getattr(t, name) for t in one.templates]) if one.templates else None for name in vars(nothing(0))
    }
    n = len(one.profile)
    return {
        **one.assembled.features,
        "positions": one.assembled.positions,
        "resolved": one.assembled.resolved,
        "profile": one.profile,
        "deletion_mean": one.deletion_mean,
        "msa": one.msa.astype(np.int64),
        "has_deletion": np.minimum(deletions, 1),
        "deletion_value": np.arctan(deletions / 3) * np.float32(2 / np.pi),
        "msa_mask": np.ones(one.msa.shape, bool),
        **{name: np.zeros((0, n, *_TAIL[name]), _TYPE[name]) if v is None else v.astype(_TYPE[name]) for name, v in stacked.items()},
    }


_TAIL = {f"template_{name}": value.shape[1:] for name, value in vars(nothing(0)).items()}
_TYPE = {f"template_{name}": np.int64 if name == "restype" else value.dtype for name, value in vars(nothing(0)).items()}
_TRUTH = {"positions": ["b", "l", "3"], "resolved": ["b", "l"]}


def _stacked(name: str, parts: Sequence[np.ndarray], sizes: dict[str, int]) -> np.ndarray:
    axes = (_TRUTH.get(name) or AXES[name])[1:]
    shape = [sizes[axis] if axis in sizes else int(axis) for axis in axes]
    full = np.zeros((len(parts), *shape), parts[0].dtype)
    for row, part in zip(full, parts, strict=True):
        row[tuple(slice(size) for size in part.shape)] = part
    return full
