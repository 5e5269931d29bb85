"""`structgen evaluate structures RUN --truth DIR`: the structures of a prediction run beside experimental ones.

The truth of a job is `DIR/<slug>.cif` (or .pdb, each also .gz). Chains are found by sequence, equal ones in the order that fits best.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path
from typing import Any

import gemmi
import numpy as np
from rich.console import Console

from structgen.errors import InputError
from structgen.features import chemistry
from structgen.features.atoms import Structure, build_atoms
from structgen.features.job import Job, Kind
from structgen.features.templates import align
from structgen.features.tokens import Tokens, tokenise
from structgen.io.structures import Entry, Polymer, read_entry
from structgen.io.textfile import read_text_bytes
from structgen.metrics.calibration import Tally
from structgen.metrics.dockq import score_interface
from structgen.metrics.geometry import clashes_per_thousand
from structgen.metrics.lddt import lddt, lddt_by_point
from structgen.metrics.rmsd import rmsd
from structgen.metrics.stereochemistry import bond_checks, chirality_checks
from structgen.metrics.trace import ideal_helix, score_trace
from structgen.store import replace_file
from workflows.evaluate_pictures import draw_calibration

CA, SLOTS = 1, 14
MOST_ORDERS = 720  # of equal chains that are tried
ENDINGS = (".cif", ".cif.gz", ".pdb", ".pdb.gz")
Row = dict[str, Any]


@dataclass(frozen=True)
class RunRequest:
    """What was asked for."""

    run: Path
    truth: Path
    out: Path


@dataclass(frozen=True, eq=False)
class Sample:
    """One structure of a job: what was written, read back."""

    tokens: Tokens
    positions: np.ndarray  # [L, 3]
    plddt: np.ndarray  # [L], 0-100
    pae: np.ndarray  # [N, N]
    ranking: float


def evaluate_run(request: RunRequest, console: Console) -> int:
    """Write `evaluation.json`, `.csv`, `.md` and a picture into `request.out`; the exit status: 3 where a job has no truth."""
    folders = sorted(p.parent for p in request.run.glob("*/*_job.json"))
    if not folders:
        raise InputError("no finished job in this run", where=str(request.run), expected="folders with a *_job.json")
    rows, missing = [], []
    for folder in folders:
        truth = truth_of(folder.name, request.truth)
        if truth is None:
            missing.append(folder.name)
            continue
        rows += list(job_rows(folder, truth))
    if not rows:
        raise InputError("no truth for any job", where=str(request.truth), expected=f"{missing[0]}{' or '.join(ENDINGS)}")
    write(rows, missing, request)
    console.print(markdown(rows), markup=False, highlight=False)
    if missing:
        console.print(f"no truth for {', '.join(missing)}", markup=False, highlight=False)
    return 3 if missing else 0


def truth_of(slug: str, folder: Path) -> Entry | None:
    """The experimental structure of a job."""
    path = next((folder / f"{slug}{end}" for end in ENDINGS if (folder / f"{slug}{end}").is_file()), None)
    return None if path is None else read_entry(read_text_bytes(path), str(path))


def job_rows(folder: Path, truth: Entry) -> Iterator[Row]:
    """A row for every sample of a job, best ranked first, and one for the helix of its length."""
    written = json.loads((folder / f"{folder.name}_job.json").read_text(encoding="utf-8"))
    job = Job.from_json(json.dumps(written["job"]))
    tokens = tokenise(build_atoms(job))
    samples = sorted(read_samples(folder, tokens), key=lambda pair: -pair[1].ranking)
    for place, (name, sample) in enumerate(samples, 1):
        known = best_naming(tokens, sample.positions, truth)
        yield {"job": folder.name, "sample": name, "rank": place} | scores(sample, known)
        if place == 1:
            yield {"job": folder.name, "sample": "ideal helix", "rank": None} | helix_scores(tokens, known)


def read_samples(folder: Path, tokens: Tokens) -> list[tuple[str, Sample]]:
    """Every sample's folder of a job. Raises `InputError` for atoms that are not the job's."""
    found = []
    for path in sorted(folder.glob("seed-*_sample-*/*_model.cif")):
        beside = path.with_name(path.name.replace("_model.cif", "_confidences.json"))
        said = json.loads(beside.read_text(encoding="utf-8"))
        score = json.loads(beside.with_name(beside.name.replace("_confidences", "_summary_confidences")).read_text(encoding="utf-8"))
        positions = written_positions(path, tokens.structure)
        pae = np.array(said["pae"], np.float64)
        found.append((path.parent.name, Sample(tokens, positions, np.array(said["atom_plddts"]), pae, float(score["ranking_score"]))))
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


@dataclass(frozen=True, eq=False)
class Known:
    """The truth in the job's order: residues [R, 14, 3] of its protein chains and what of them is resolved."""

    positions: np.ndarray
    mask: np.ndarray
    chains: tuple[tuple[int, Polymer], ...]  # job's chain number, chain of the truth


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


def like(first: str, second: str) -> float:
    """Share of the first sequence's residues that are equal in the alignment."""
    own, other, _ = align(first, second)
    return sum(first[i] == second[j] for i, j in zip(own, other, strict=True)) / max(1, len(first))


def sequence_of(structure: Structure, chain: int) -> str:
    names = structure.residue_names[structure.residue_chain == chain]
    return "".join(gemmi.find_tabulated_residue(str(n)).one_letter_code.upper().strip() or "X" for n in names)


def residue_atoms(structure: Structure, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """[R, 14, 3] heavy atoms of standard residues in the fixed order, and which there are."""
    out, mask = np.zeros((len(structure.residue_names), SLOTS, 3)), np.zeros((len(structure.residue_names), SLOTS), bool)
    classes = structure.residue_class
    for atom, residue in enumerate(structure.atom_residue):
        place = np.flatnonzero(chemistry.ATOM_NAMES[classes[residue]][:SLOTS] == structure.atom_names[atom])
        if len(place):
            out[residue, place[0]], mask[residue, place[0]] = positions[atom], True
    return out, mask


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
    return Known(positions, mask, pairs)


def scores(sample: Sample, known: Known) -> Row:
    """Accuracy by trace and by atom, interfaces, geometry, confidence."""
    structure = sample.tokens.structure
    mine, there = residue_atoms(structure, sample.positions)
    both, resolved = known.mask & there, known.mask[:, CA]
    residue = np.repeat(np.arange(len(mine)), SLOTS)[both.ravel()]
    trace = dataclasses.asdict(score_trace(mine[:, CA], known.positions[:, CA], resolved))
    atoms = {"lddt_all_atom": lddt(mine[both], known.positions[both], residue)}
    found = interface_row(structure, mine, known, both) | geometry(structure, sample.positions)
    return trace | atoms | found | confidence(sample, known, mine)


def interface_row(structure: Structure, mine: np.ndarray, known: Known, both: np.ndarray) -> Row:
    """DockQ of every pair of chains that touch in the truth, and the mean."""
    of = {c: structure.residue_chain == c for c, _ in known.chains}
    found = {}
    for a in of:
        for b in of:
            if a < b:
                pair = [tuple(x[of[c]] for c in (a, b)) for x in (mine, known.positions, both)]
                one = score_interface(pair[0], pair[1], pair[2])  # type: ignore[arg-type]
                if one is not None:
                    name = f"{structure.chain_ids[a]}-{structure.chain_ids[b]}"
                    found[name] = {k: round(v, 4) for k, v in dataclasses.asdict(one).items()}
    mean = float(np.mean([one["dockq"] for one in found.values()])) if found else None
    return {"dockq": mean, "interfaces": found}


def geometry(structure: Structure, positions: np.ndarray) -> Row:
    """Clashes for 1,000 atoms; shares of bonds and of stereocentres that are right."""
    bonds, hands = bond_checks(structure, positions), chirality_checks(structure, positions)
    shares = {name: float(c.right.mean()) if len(c.right) else 1.0 for name, c in (("bonds_right", bonds), ("chirality_right", hands))}
    return {"clashes": clashes_per_thousand(structure, positions)} | shares


def confidence(sample: Sample, known: Known, mine: np.ndarray) -> Row:
    """pLDDT and PAE, and sums from which their calibration is made."""
    tokens, resolved = sample.tokens, known.mask[:, CA]
    plddt = np.full(len(mine), np.nan)
    plddt[tokens.residue] = sample.plddt[tokens.centre_atom]
    local = lddt_by_point(mine[:, CA], known.positions[:, CA], np.arange(len(mine)), mask=resolved)
    said, error = pae_pairs(sample, known, mine)
    return {
        "plddt": float(np.nanmean(plddt[resolved])),
        "ranking_score": sample.ranking,
        "plddt_tally": Tally.of(plddt / 100, local).lists(),
        "pae": float(said.mean()) if len(said) else None,
        "pae_error": float(error.mean()) if len(error) else None,
        "pae_tally": Tally.of(np.minimum(said, 31.999) / 32, np.minimum(error, 32) / 32).lists(),
    }


def pae_pairs(sample: Sample, known: Known, mine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Predicted aligned error, and the error in the frame of N, CA, C of residue i of CA of residue j, over resolved protein residues."""
    token = np.full(len(mine), -1)
    token[sample.tokens.residue[::-1]] = np.arange(len(sample.tokens.residue))[::-1]
    at = np.flatnonzero(known.mask[:, :3].all(1) & (token >= 0))
    seen = [in_frames(x[at][:, :3], x[at, CA]) for x in (mine, known.positions)]
    error = np.linalg.norm(seen[0] - seen[1], axis=-1)
    return sample.pae[np.ix_(token[at], token[at])].ravel(), error.ravel()


def in_frames(frames: np.ndarray, points: np.ndarray) -> np.ndarray:
    """[f, n, 3] points in frames of N, CA, C: the first axis towards C, the second in the plane of N (Jumper et al. 2021, Algorithm 21)."""
    n, ca, c = (frames[:, k] for k in range(3))
    e1 = (c - ca) / np.linalg.norm(c - ca, axis=-1, keepdims=True)
    v = n - ca
    e2 = v - (v * e1).sum(-1, keepdims=True) * e1
    e2 /= np.linalg.norm(e2, axis=-1, keepdims=True)
    axes = np.stack([e1, e2, np.cross(e1, e2)], -1)
    return (points[None] - ca[:, None]) @ axes


def helix_scores(tokens: Tokens, known: Known) -> Row:
    """The baseline that knows the lengths alone."""
    trace = np.concatenate([ideal_helix(int(n)) for n in np.bincount(tokens.structure.residue_chain)])
    return dataclasses.asdict(score_trace(trace, known.positions[:, CA], known.mask[:, CA]))


SHOWN = ("lddt", "lddt_all_atom", "tm", "gdt_ts", "rmsd", "dockq", "clashes", "bonds_right", "chirality_right", "plddt")


def markdown(rows: Sequence[Row]) -> str:
    """The table that is printed and written."""
    lines = ["| job | sample | rank | " + " | ".join(SHOWN) + " |", "| " + " | ".join(["---"] * (3 + len(SHOWN))) + " |"]
    for row in rows:
        cells = ["-" if row.get(name) is None else f"{row[name]:.3f}" for name in SHOWN]
        lines.append(f"| {row['job']} | {row['sample']} | {row['rank'] or '-'} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def write(rows: Sequence[Row], missing: Sequence[str], request: RunRequest) -> None:
    """All files of an evaluation."""
    request.out.mkdir(parents=True, exist_ok=True)
    summary = {"jobs_without_truth": list(missing), "calibration": calibration(rows), "rows": list(rows)}
    replace_file(request.out / "evaluation.json", (json.dumps(summary, indent=1) + "\n").encode())
    text = io.StringIO()
    table = csv.DictWriter(text, ["job", "sample", "rank", *SHOWN], extrasaction="ignore")
    table.writeheader()
    table.writerows(rows)
    replace_file(request.out / "evaluation.csv", text.getvalue().encode())
    said = "".join(f"- {name}: {value}\n" for name, value in summary["calibration"].items())  # type: ignore[attr-defined]
    replace_file(request.out / "evaluation.md", f"{markdown(rows)}\n\n{said}".encode())
    draw_calibration(rows, request.out / "calibration.png")


def calibration(rows: Sequence[Row]) -> Row:
    """Over all samples: expected calibration error, bias and correlation of pLDDT (0 to 1) and of PAE (angstrom)."""
    found: Row = {}
    for name, scale in (("plddt", 1.0), ("pae", 32.0)):
        tallies = [Tally.from_lists(row[f"{name}_tally"]) for row in rows if f"{name}_tally" in row]
        whole = Tally.total(tallies)
        values = {"error": scale * whole.calibration_error(), "bias": scale * whole.bias(), "r": whole.correlation()}
        found |= {f"{name}_{k}": round(v, 4) if np.isfinite(v) else None for k, v in values.items()}
    return found
