"""`structgen evaluate RUN --truth DIR`: the structures of a prediction run beside experimental ones.

The truth of a job is `DIR/<slug>.cif` (or .pdb, each also .gz). Chains are found by sequence, equal ones in the order that fits best.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import permutations
from pathlib import Path

import gemmi
import numpy as np

from structgen.errors import InputError
from structgen.features import chemistry
from structgen.features.atoms import Structure, build_atoms
from structgen.features.job import Job, Kind
from structgen.features.templates import align
from structgen.features.tokens import Tokens, tokenise
from structgen.io.structures import Entry, Polymer, read_entry
from structgen.io.textfile import read_text_bytes
from structgen.metrics.rmsd import rmsd
from structgen.metrics.sample import CA, SLOTS, Known, Sample, laid_traces, residue_atoms, score_sample
from workflows.baselines import Baselines, joined, trace_row
from workflows.evaluate import Row, Source
from workflows.evaluate_model import identity_bin
from workflows.evaluation_tables import AS_PREDICTED

MOST_ORDERS = 720  # of equal chains that are tried
ENDINGS = (".cif", ".cif.gz", ".pdb", ".pdb.gz")


@dataclass(frozen=True, eq=False)
class RunSource(Source):
    """The finished jobs of a run that have a truth. Raises `InputError` where there is none."""

    run: Path
    truth: Path
    baselines: Baselines

    def protocol(self) -> Row:
        compared = {"training": self.baselines.trained is not None}
        return {"run": str(self.run.resolve()), "truth": str(self.truth.resolve())} | compared | self.baselines.searched()

    def targets(self) -> list[str]:
        return list(self._jobs)

    def facts(self) -> Row:
        return {"jobs_without_truth": self.missing}

    @cached_property
    def missing(self) -> list[str]:
        """Jobs whose truth is not there."""
        return [folder.name for folder in self._finished() if truth_file(folder.name, self.truth) is None]

    @cached_property
    def _jobs(self) -> dict[str, tuple[Path, Path]]:
        """Folder and truth of every job by its key: name, and digest of what was written and of the truth."""
        found = {}
        for folder in self._finished():
            path = truth_file(folder.name, self.truth)
            if path is not None:
                content = (folder / f"{folder.name}_manifest.json").read_bytes() + path.read_bytes()
                found[f"{folder.name} {hashlib.sha256(content).hexdigest()[:12]}"] = folder, path
        if not found:
            raise InputError("no truth for any job", where=str(self.truth), expected=f"{self.missing[0]}{' or '.join(ENDINGS)}")
        return found

    def _finished(self) -> list[Path]:
        folders = sorted(p.parent for p in self.run.glob("*/*_job.json"))
        if not folders:
            raise InputError("no finished job in this run", where=str(self.run), expected="folders with a *_job.json")
        return folders

    def row(self, key: str) -> Row:
        started, (folder, path) = time.monotonic(), self._jobs[key]
        truth = read_entry(read_text_bytes(path), str(path))
        written = json.loads((folder / f"{folder.name}_job.json").read_text(encoding="utf-8"))
        tokens = tokenise(build_atoms(Job.from_json(json.dumps(written["job"]))))
        samples = sorted(read_samples(folder, tokens), key=lambda sample: -np.nan_to_num(sample.ranking, nan=-np.inf))
        known = [best_naming(tokens, sample.positions, truth) for sample in samples]
        rows = [score_sample(*pair) for pair in zip(samples, known, strict=True)]
        length = int(np.isin(tokens.structure.residue_chain, known[0].chains).sum())
        row = {"target": folder.name, "length": length, **_compared(tokens, known[0], self.baselines)}
        own = {"ranked": 0, "samples": rows, "traces": laid_traces(samples[0], known[0])}
        return row | {"predictions": {AS_PREDICTED: own}, "seconds": round(time.monotonic() - started, 2)}


def _compared(tokens: Tokens, known: Known, baselines: Baselines) -> Row:
    """The template that covers most, and the baselines: chain by chain, each superposed alone, as means by resolved residues."""
    structure, parts, best = tokens.structure, list[dict[str, Row | None]](), None
    residues = []
    for chain in known.chains:
        own = structure.residue_chain == chain
        resolved = known.resolved[own]
        if resolved.any():
            sequence = sequence_of(structure, chain)
            templates = baselines.structures.templates(sequence) if baselines.structures else None
            traces = baselines.traces(sequence, templates)
            parts.append({name: trace_row(found, known.trace[own], resolved) for name, found in traces.items()})
            residues.append(int(resolved.sum()))
            used = templates.used[0] if templates is not None and len(templates) else None
            best = used if best is None or (used is not None and used.aligned > best.aligned) else best
    scores = {name: joined([part[name] for part in parts], residues) for name in parts[0]}
    bin = identity_bin(best.identity if best else None) if baselines.structures else ""
    return {"identity": bin, "template": dataclasses.asdict(best) if best else None, "baselines": scores}


def truth_file(slug: str, folder: Path) -> Path | None:
    """The experimental structure of a job."""
    return next((folder / f"{slug}{end}" for end in ENDINGS if (folder / f"{slug}{end}").is_file()), None)


def read_samples(folder: Path, tokens: Tokens) -> list[Sample]:
    """Every sample's folder of a job. Raises `InputError` for atoms that are not the job's."""
    found = []
    for path in sorted(folder.glob("seed-*_sample-*/*_model.cif")):
        beside = path.with_name(path.name.replace("_model.cif", "_confidences.json"))
        said = json.loads(beside.read_text(encoding="utf-8"))
        score = json.loads(beside.with_name(beside.name.replace("_confidences", "_summary_confidences")).read_text(encoding="utf-8"))
        positions = written_positions(path, tokens.structure)
        pae = np.array(said["pae"], np.float64)
        ptm = float("nan") if score["ptm"] is None else float(score["ptm"])
        name, plddt = path.parent.name, np.array(said["atom_plddts"], np.float64)
        found.append(Sample(name, tokens, positions, plddt, pae, ptm, float(score["ranking_score"])))
    return found


def written_positions(path: Path, structure: Structure) -> np.ndarray:
    """[L, 3] coordinates of a file of ours, whose atoms are in the order of the job."""
    block = gemmi.cif.read(str(path)).sole_block()
    table = block.find("_atom_site.", ["label_atom_id", "Cartn_x", "Cartn_y", "Cartn_z"])
    names = [gemmi.cif.as_string(row[0]) for row in table]
    if names != structure.atom_names.tolist():
        expected = str(len(structure.atom_names))
        raise InputError("atoms are not those of the job", where=str(path), found=f"{len(names)} atoms", expected=expected)
    return np.array([[float(row[k]) for k in (1, 2, 3)] for row in table])


def best_naming(tokens: Tokens, positions: np.ndarray, truth: Entry) -> Known:
    """Of the ways to pair equal chains, the one with the least RMSD of CA atoms. Raises `InputError` where no chain is found."""
    structure = tokens.structure
    mine = [c for c, kind in enumerate(structure.chain_kinds) if kind is Kind.PROTEIN]
    trace = residue_atoms(structure, positions)[0][:, CA]
    best: tuple[float, Known] | None = None
    for polymers in pairings([sequence_of(structure, c) for c in mine], truth.proteins):
        known = laid(structure, tuple(zip(mine, polymers, strict=False)))
        there = known.mask[:, CA]
        if there.sum() >= 3:
            value = rmsd(trace[there], known.positions[there, CA])
            best = (value, known) if best is None or value < best[0] else best
    if best is None:
        raise InputError("no protein chain of the truth is like one of the job's", where=truth.where)
    return best[1]


def pairings(sequences: Sequence[str], polymers: Sequence[Polymer]) -> Iterator[tuple[Polymer, ...]]:
    """Chains of the truth for every chain of the job, of the most similar sequence: all orders, unless there are too many."""
    for number, order in enumerate(permutations(polymers, min(len(sequences), len(polymers)))):
        if number >= MOST_ORDERS:
            return
        if all(like(s, p.sequence) >= max(like(s, q.sequence) for q in polymers) - 0.02 for s, p in zip(sequences, order, strict=False)):
            yield order


@lru_cache(maxsize=1024)
def like(first: str, second: str) -> float:
    """Share of the first sequence's residues that are equal in the alignment."""
    own, other, _ = align(first, second)
    return sum(first[i] == second[j] for i, j in zip(own, other, strict=True)) / max(1, len(first))


def sequence_of(structure: Structure, chain: int) -> str:
    names = structure.residue_names[structure.residue_chain == chain]
    return "".join(gemmi.find_tabulated_residue(str(n)).one_letter_code.upper().strip() or "X" for n in names)


def laid(structure: Structure, pairs: tuple[tuple[int, Polymer], ...]) -> Known:
    """The truth's atoms on the job's residues, by aligning sequences."""
    size = len(structure.residue_names)
    positions, mask = np.zeros((size, SLOTS, 3)), np.zeros((size, SLOTS), bool)
    classes = structure.residue_class
    for chain, polymer in pairs:
        residues = np.flatnonzero(structure.residue_chain == chain)
        own, other, _ = align(sequence_of(structure, chain), polymer.sequence)
        there = dict(zip(polymer.place, polymer.residues, strict=True))
        for i, j in zip(own, other, strict=True):
            for atom in there.get(j, ()):
                place = np.flatnonzero(chemistry.ATOM_NAMES[classes[residues[i]]][:SLOTS] == atom.name)
                if len(place) and not mask[residues[i], place[0]]:
                    positions[residues[i], place[0]], mask[residues[i], place[0]] = atom.pos.tolist(), True
    return Known(positions, mask, tuple(chain for chain, _ in pairs))
