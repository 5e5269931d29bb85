"""Confidence in numbers: expectations of the logits, pTM and its relatives, clashes, the ranking score (SI 4.3 and 5.9)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch

from structgen.alphafold3.confidence import ERROR_BIN, ConfidenceLogits
from structgen.alphafold3.config import Distogram
from structgen.alphafold3.losses import distogram_edges, wide
from structgen.features.atoms import Structure
from structgen.features.batch import Batch
from structgen.features.job import Kind
from structgen.features.tokens import Tokens
from structgen.heap import trim
from structgen.metrics.neighbours import pairs_within
from structgen.metrics.sasa import fraction_disordered
from structgen.prediction import Prediction, Summary
from structgen.typing import Float, Tensor

if TYPE_CHECKING:
    from structgen.alphafold3.model import AlphaFold3
    from structgen.alphafold3.trunk import TrunkOutput

RankedBy = Literal["tm", "pae"]
CONTACT = 8.0  # angstrom between representative atoms
CLASH = 1.1  # angstrom
ROWS = 64  # of the probabilities of PDE, held at once
CLASHING_PAIRS, CLASHING_SHARE = 100, 0.5  # more than either, of a pair of polymer chains, is a clash


def predictions(
    tokens: Tokens,
    batch: Batch,
    network: AlphaFold3,
    trunk: TrunkOutput,
    positions: Float[Tensor, "samples l 3"],
    seed: int,
    ranked_by: RankedBy = "tm",
) -> list[Prediction]:
    """Every sample of a seed with its confidence, in the given order; one sample's pair tensors are held at a time."""
    contact = contact_probabilities(network.distogram(wide(trunk.z))[0], network.config.distogram)
    mask = None if batch.token_mask.all() else batch.token_mask
    made = []
    for k, x in enumerate(positions):
        logits = network.confidence(batch, trunk, x[None], mask)
        made.append(prediction(tokens, x, logits, contact, seed=seed, sample=k, ranked_by=ranked_by))
        trim()
    return made


def prediction(
    tokens: Tokens,
    positions: Float[Tensor, "l 3"],
    logits: ConfidenceLogits,
    contact: Float[Tensor, "n n"],
    *,
    seed: int,
    sample: int,
    ranked_by: RankedBy = "tm",
) -> Prediction:
    """One sample with its confidence; the logits (b = 1) and tensors may be padded beyond the atoms and tokens of the job."""
    n, l = len(tokens.residue), len(tokens.atom_token)  # noqa: E741
    probabilities = wide(logits.pae[0, :n, :n]).softmax(-1)
    plddt = expected_plddt(logits.plddt[0, :l])
    pde = torch.cat([expected_error(wide(rows).softmax(-1)) for rows in logits.pde[0, :n, :n].split(ROWS)])
    xyz = _numpy(positions[:l])
    summary = summarise(
        tokens, xyz, plddt=plddt, pae_probabilities=probabilities, pde=pde, contact=contact[:n, :n], ranked_by=ranked_by
    )
    return Prediction(
        seed=seed,
        sample=sample,
        positions=xyz,
        atom_plddt=_numpy(plddt),
        pae=_numpy(expected_error(probabilities)),
        pde=_numpy(pde),
        contact_probs=_numpy(contact[:n, :n]),
        summary=summary,
    )


def best(candidates: Sequence[Prediction]) -> int:
    """Index of the highest ranking score, the first of equals; an undefined score ranks last."""
    scores = np.array([p.summary.ranking_score for p in candidates])
    return int(np.argmax(np.where(np.isnan(scores), -np.inf, scores)))


def summarise(
    tokens: Tokens,
    positions: np.ndarray,
    *,
    plddt: Float[Tensor, " l"],
    pae_probabilities: Float[Tensor, "n n bins"],
    pde: Float[Tensor, "n n"],
    contact: Float[Tensor, "n n"],
    ranked_by: RankedBy = "tm",
) -> Summary:
    """All scores of one sample. `positions` [L, 3] in angstrom; plddt 0-100; pde in angstrom.

    The ranking score is the SI's, or, by "pae", has in the places of pTM and ipTM how far the mean PAE, of all pairs and of those of two
    chains, is below the largest that there is: 1 - PAE / 32. Where no sample has a good frame, pTM is that of the luckiest frame.
    """
    structure = tokens.structure
    alignment = Alignment(pae_probabilities, tokens.chain, torch.from_numpy(tokens.frame_mask).to(pae_probabilities.device))
    ptm, iptm, pairs = alignment.ptm(), alignment.iptm(), alignment.chain_pair_iptm()
    whole, between = (ptm, iptm) if ranked_by == "tm" else alignment.nearness()
    clashes = chain_pair_clashes(structure, positions)
    clash, disordered = has_clash(structure, clashes), fraction_disordered(structure, positions)
    return Summary(
        ranking_score=ranking_score(ptm=whole, iptm=between, fraction_disordered=disordered, clash=clash),
        ptm=ptm,
        iptm=iptm,
        fraction_disordered=disordered,
        has_clash=clash,
        mean_plddt=plddt.mean().item(),
        gpde=global_pde(contact, pde),
        chain_ptm=np.diagonal(pairs).copy(),
        chain_iptm=_mean_over_partners(pairs),
        chain_plddt=_chain_means(structure, _numpy(plddt)),
        chain_pair_iptm=pairs,
        chain_pair_pae_min=alignment.chain_pair_pae_min(),
        chain_pair_clashes=clashes,
    )


def ranking_score(*, ptm: float, iptm: float, fraction_disordered: float, clash: bool) -> float:
    """SI 5.9.3, item 1. Where ipTM is undefined, as for a single chain, pTM stands for both; of nothing but ions both are, and count 0."""
    confidence = float(np.nan_to_num(ptm)) if np.isnan(iptm) else 0.8 * iptm + 0.2 * ptm
    return confidence + 0.5 * fraction_disordered - 100.0 * clash


def expected_plddt(logits: Float[Tensor, "l bins"]) -> Float[Tensor, " l"]:
    """pLDDT from 0 to 100."""
    return wide(logits).softmax(-1) @ _centres(logits.shape[-1], 100 / logits.shape[-1], logits.device)


def expected_error(probabilities: Float[Tensor, "n n bins"]) -> Float[Tensor, "n n"]:
    """PAE or PDE in angstrom."""
    return probabilities @ _centres(probabilities.shape[-1], ERROR_BIN, probabilities.device).to(probabilities)


def _centres(bins: int, width: float, device: torch.device) -> Float[Tensor, " bins"]:
    return (torch.arange(bins, dtype=torch.float32, device=device) + 0.5) * width


def contact_probabilities(logits: Float[Tensor, "n n bins"], config: Distogram) -> Float[Tensor, "n n"]:
    """Probability of the distance classes that lie below 8 angstrom as a whole: the first 19 of 64."""
    below = int((distogram_edges(config) <= CONTACT).sum())
    return wide(logits).softmax(-1)[..., :below].sum(-1)


def global_pde(contact: Float[Tensor, "n n"], pde: Float[Tensor, "n n"]) -> float:
    """Mean PDE in angstrom, pairs weighted by their probability of contact; NaN without any."""
    return ((contact * pde).sum() / contact.sum()).item()


@dataclass(frozen=True)
class Alignment:
    """The predicted aligned error of one sample as probabilities, and what its scores restrict it by. Tokens of a chain are consecutive."""

    probabilities: Float[Tensor, "n n bins"]  # frame i, token j
    chain: np.ndarray  # [n] index of the chain, ascending
    frame: Tensor  # [n] bool: the token has a valid frame

    def chains(self) -> list[slice]:
        """The tokens of every chain."""
        edges = np.searchsorted(self.chain, np.arange(int(self.chain.max()) + 2)).tolist()
        return [slice(start, stop) for start, stop in pairwise(edges)]

    def ptm(self) -> float:
        """Best frame's mean over all tokens; NaN if no token has a frame."""
        return _best(self._tm(slice(None), slice(None), len(self.chain)).mean(1), self.frame)

    def iptm(self) -> float:
        """Best frame's mean over the tokens of the other chains; NaN for one chain or if no token has a frame."""
        chain = torch.from_numpy(self.chain).to(self.frame.device)
        other = chain[:, None] != chain
        tm = self._tm(slice(None), slice(None), len(chain))
        return _best((tm * other).sum(1) / other.sum(1), self.frame & other.any(1))

    def nearness(self) -> tuple[float, float]:
        """1 - PAE / 32, its mean over all tokens in all frames, and over those of other chains; NaN where there is no such pair."""
        chain = torch.from_numpy(self.chain).to(self.frame.device)
        near = 1 - expected_error(self.probabilities) / (ERROR_BIN * self.probabilities.shape[-1])
        pairs = self.frame[:, None].expand_as(near)
        whole, between = (
            near[of].mean().item() if of.any() else float("nan") for of in (pairs, pairs & (chain[:, None] != chain))
        )
        return whole, between

    def chain_pair_iptm(self) -> np.ndarray:
        """[C, C] ipTM of every two chains by themselves, their tokens alone setting the scale; on the diagonal the chains' pTM."""
        chains = self.chains()
        scores = np.full((len(chains), len(chains)), np.nan)
        for c, own in enumerate(chains):
            scores[c, c] = self._over(own, own)
            for d, other in enumerate(chains[:c]):
                scores[c, d] = scores[d, c] = np.fmax(self._over(own, other), self._over(other, own))
        return scores

    def chain_pair_pae_min(self) -> np.ndarray:
        """[C, C] least PAE in angstrom of a token of the column's chain in a frame of the row's; NaN for a row without frames."""
        chains = self.chains()
        pae = expected_error(self.probabilities)
        least = [[pae[own, other][self.frame[own]] for other in chains] for own in chains]
        return np.array([[block.min().item() if len(block) else np.nan for block in row] for row in least])

    def _over(self, frames: slice, points: slice) -> float:
        """Best mean over the points of one chain in the frames of another or the same."""
        tokens = {*range(frames.start, frames.stop), *range(points.start, points.stop)}
        return _best(self._tm(frames, points, len(tokens)).mean(1), self.frame[frames])

    def _tm(self, frames: slice, points: slice, n: int) -> Float[Tensor, "frames points"]:
        """Expected TM terms 1 / (1 + (error / d0)^2), d0 that of n tokens (SI equations 17 and 18)."""
        d0 = 1.24 * (max(n, 19) - 15) ** (1 / 3) - 1.8
        error = _centres(self.probabilities.shape[-1], ERROR_BIN, self.probabilities.device).to(self.probabilities)
        return self.probabilities[frames, points] @ (1 / (1 + (error / d0).square()))


def _best(scores: Tensor, frame: Tensor) -> float:
    return scores[frame].max().item() if frame.any() else float("nan")


def _mean_over_partners(pairs: np.ndarray) -> np.ndarray:
    """[C] mean of the defined entries beside the diagonal; NaN if there is none."""
    defined = ~np.isnan(pairs) & ~np.eye(len(pairs), dtype=bool)
    count = defined.sum(1)
    return np.divide(np.where(defined, pairs, 0.0).sum(1), count, out=np.full(len(pairs), np.nan), where=count > 0)


def _chain_means(structure: Structure, values: np.ndarray) -> np.ndarray:
    """[C] mean over the atoms of every chain."""
    chains = len(structure.chain_ids)
    return np.bincount(structure.atom_chain, values, chains) / np.bincount(structure.atom_chain, minlength=chains)


def chain_pair_clashes(structure: Structure, positions: np.ndarray) -> np.ndarray:
    """[C, C] number of pairs of atoms of two chains, of any kind, at most 1.1 angstrom apart; symmetric, zero on the diagonal."""
    chain, chains = structure.atom_chain, len(structure.chain_ids)
    i, j = pairs_within(np.asarray(positions, np.float64), CLASH)
    counts = np.bincount(chain[i] * chains + chain[j], minlength=chains**2).reshape(chains, chains)
    counts = counts + counts.T
    np.fill_diagonal(counts, 0)
    return counts


def has_clash(structure: Structure, clashes: np.ndarray) -> bool:
    """SI 5.9.2: two polymer chains share more than 100 clashing pairs of atoms, or more than half as many as the smaller one has atoms."""
    polymer = np.array([kind is not Kind.LIGAND for kind in structure.chain_kinds])
    atoms = np.bincount(structure.atom_chain, minlength=len(polymer))
    limit = np.minimum(CLASHING_PAIRS, CLASHING_SHARE * np.minimum(atoms[:, None], atoms))
    return bool(((clashes > limit) & polymer[:, None] & polymer).any())


def _numpy(x: Tensor) -> np.ndarray:
    return x.detach().to("cpu", torch.float32).numpy()
