"""One job's ranked predictions with everything that is said about them in words: warnings, log, terms of use."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite

import numpy as np

from structgen.errors import NumericalError
from structgen.features.atoms import Structure
from structgen.features.job import Job, Kind
from structgen.features.tokens import Tokens
from structgen.io.confidences import framed_chains, undefined_values
from structgen.io.job_json import af3_job
from structgen.io.pdb import pdb_chain_ids, pdb_fits
from structgen.io.provenance import Provenance
from structgen.io.sdf import LARGEST, sdf_chains
from structgen.prediction import Prediction

NO_TERMS = "The model file states no terms: ask its makers before you pass these files on or use them commercially."
CAUTION = "These structures are predictions, not measurements. pLDDT, PAE and the scores say how far the model trusts them."


def rank(predictions: Sequence[Prediction]) -> tuple[Prediction, ...]:
    """The best first: ranking score descending, then seed, then sample. Raises `NumericalError` for none or a score that is not finite."""
    if not predictions:
        raise NumericalError("there is no prediction to rank")
    for p in predictions:
        if not isfinite(p.summary.ranking_score):
            raise NumericalError(f"ranking score of seed {p.seed}, sample {p.sample} is {p.summary.ranking_score}")
    return tuple(sorted(predictions, key=lambda p: (-p.summary.ranking_score, p.seed, p.sample)))


@dataclass(frozen=True)
class Results:
    """What is written for a job, whose slug names the folder and the files; `ranked` as `rank` gives it."""

    job: Job
    tokens: Tokens
    ranked: tuple[Prediction, ...]
    provenance: Provenance

    @property
    def structure(self) -> Structure:
        return self.tokens.structure

    @property
    def af3_job(self) -> tuple[str, list[str]]:
        """The job in AlphaFold 3's dialect, and what is lost in it."""
        return af3_job(self.job, self.provenance)

    @property
    def pdb_chains(self) -> dict[str, str]:
        """Chain id to the character in the PDB files, for the chains where these differ; empty where no PDB file is written."""
        if all(pdb_fits(self.structure, p.positions) for p in self.ranked):
            return {}
        return {own: here for own, here in zip(self.structure.chain_ids, pdb_chain_ids(self.structure), strict=True) if own != here}

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a reader of the files would miss, and why."""
        found = [f"chain {own} is chain {here} in the PDB files" for own, here in self.pdb_chains.items()]
        for p in self.ranked:
            sample, reason = f"seed {p.seed}, sample {p.sample}", pdb_fits(self.structure, p.positions)
            found += [f"{sample}: no PDB file: {reason}; the mmCIF file holds the structure"] if reason else []
            found += [f"{sample}: {value} is undefined in places, written as null" for value in undefined_values(self.tokens, p)]
        bare = [self.structure.chain_ids[c] for c in np.flatnonzero(~framed_chains(self.tokens))]
        found += [f"chains without a frame, their pTM and their PAE as frames undefined and written as null: {', '.join(bare)}"] * bool(
            bare
        )
        large = [c for c, kind in enumerate(self.structure.chain_kinds) if kind is Kind.LIGAND and c not in sdf_chains(self.structure)]
        atoms = np.bincount(self.structure.atom_chain)
        found += [f"chain {self.structure.chain_ids[c]}: no SDF file: more than {LARGEST} atoms or bonds" for c in large if atoms[c] > 1]
        return (*found, *(f"{self.job.slug}_data.json: {loss}" for loss in self.af3_job[1]))

    def terms_of_use(self) -> str:
        """The terms that the model's checkpoint states, as Markdown."""
        p = self.provenance
        made = f"Made by structgen {p.software} with the model {p.model} (sha256 {p.model_sha256})."
        return "\n\n".join(["# Terms of use", made, p.terms or NO_TERMS, CAUTION]) + "\n"

    def log(self) -> str:
        """The job as it was understood and ranked, line by line; no times, so that equal runs give equal text."""
        p, s = self.provenance, self.structure
        chains = [
            f"chain {id}: {kind.value}, {int((s.residue_chain == c).sum())} residues, {p.msa_depth.get(id, 1)} alignment rows"
            for c, (id, kind) in enumerate(zip(s.chain_ids, s.chain_kinds, strict=True))
        ]
        scores = [f"seed {q.seed}, sample {q.sample}, ranking score {q.summary.ranking_score:.4f}" for q in self.ranked]
        lines = [
            f"structgen {p.software}",
            f"job: {self.job.name}",
            f"source: {p.source}",
            f"model: {p.model}, sha256 {p.model_sha256}",
            f"settings: {p.settings_text}",
            *chains,
            f"{len(self.tokens.residue)} tokens, {len(s.atom_names)} atoms",
            *(f"template: chain {chain}: {template.text}" for chain, used in p.templates.items() for template in used),
            *(f"note: {note}" for note in p.notes),
            *(f"rank {place}: {score}" for place, score in enumerate(scores, 1)),
            *(f"warning: {warning}" for warning in self.warnings),
        ]
        return "\n".join([*lines, ""])
