"""What the page loads when a job is opened: one packed file for the job, one for every sample."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gemmi
import numpy as np

from structgen.features.job import Kind
from structgen.report.account import UNREADABLE, JobAccount, SampleAccount, read_json
from structgen.report.coverage import BANDS, coverages
from structgen.report.packing import by_columns, line_blocks, pack, quantise_pae

_COLUMNS = ["auth_asym_id", "auth_seq_id", "label_comp_id", "B_iso_or_equiv"]
_CHAIN = ("id", "kind", "description", "smiles")


def job_payload(job: JobAccount, store: str) -> bytes:
    """Chains, alignments and the scores of all samples; nothing but words for a job without results."""
    facts: dict[str, Any] = {"slug": job.slug, "seconds": dict(job.seconds), "errors": [list(error) for error in job.errors]}
    facts |= {"problem": job.problem, "samples": [], "chains": [], "bands": list(BANDS)}
    arrays: dict[str, np.ndarray] = {}
    if job.samples:
        chains = _chains(job)
        facts |= {name: job.manifest.get(name) for name in ("settings", "notes", "warnings", "templates", "model", "written", "device")}
        facts |= {"chains": [_about(chain, job) for chain in chains], "samples": [_scores(sample, arrays) for sample in job.samples]}
        described = [(str(chain.get("sequence", "")), _kind(chain)) for chain in chains]
        found = coverages(Path(store), job.evidence, described) if Path(store).is_absolute() else {}
        arrays |= {f"coverage/{index}": counts for index, counts in found.items()}
    return pack(facts, arrays)


def sample_payload(job: JobAccount, sample: SampleAccount) -> bytes:
    """One sample's structure as its files hold it, pLDDT of residues, PAE. What cannot be read is left out, and `missing` says so."""
    facts: dict[str, Any] = {"files": {}, "missing": []}
    arrays: dict[str, np.ndarray] = {}
    for add in (_structure, _pairs, _pdb):
        try:
            add(job, sample, facts, arrays)
        except UNREADABLE as error:
            facts["missing"].append(f"{add.__name__[1:]}: {type(error).__name__}: {error}")
    return pack(facts, arrays)


def _structure(job: JobAccount, sample: SampleAccount, facts: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
    text = sample.path("model.cif").read_text(encoding="utf-8")
    table = gemmi.cif.read_string(text).sole_block().find("_atom_site.", _COLUMNS)
    columns = [[gemmi.cif.as_string(row[k]) for row in table] for k in range(len(_COLUMNS))]
    ids = list(dict.fromkeys(columns[0]))
    keys = list(zip(*columns[:3], strict=True))
    first = {key: index for index, key in enumerate(dict.fromkeys(keys))}
    of_atom = np.array([first[key] for key in keys])
    means = np.bincount(of_atom, np.array(columns[3], float)) / np.bincount(of_atom)
    names = sorted({name for _, _, name in first})
    facts |= {"chains": ids, "components": names}
    arrays["residue/chain"] = np.array([ids.index(chain) for chain, _, _ in first], np.uint16)
    arrays["residue/number"] = np.array([int(number) for _, number, _ in first], np.int32)
    arrays["residue/component"] = np.array([names.index(name) for _, _, name in first], np.uint16)
    arrays["residue/plddt"] = np.rint(means * 100).astype(np.uint16)
    _embed(text, "cif", sample.path("model.cif"), facts, arrays)


def _pairs(job: JobAccount, sample: SampleAccount, facts: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
    with np.load(sample.path("pae.npz"), allow_pickle=False) as values:
        chains, pae = values["token_chain_ids"].tolist(), values["pae"]
        if pae.shape != (len(chains), len(chains)):
            raise ValueError(f"PAE of shape {pae.shape} for {len(chains)} tokens")
        ids = list(dict.fromkeys(chains))
        facts["token_chains"] = ids
        arrays["token/chain"] = np.array([ids.index(chain) for chain in chains], np.uint16)
        arrays["token/number"] = values["token_res_ids"].astype(np.int32)
        arrays["pae"] = quantise_pae(pae)


def _pdb(job: JobAccount, sample: SampleAccount, facts: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
    path = sample.path("model.pdb")
    if path.is_file():  # left out where the format cannot hold the structure
        _embed(path.read_text(encoding="utf-8"), "pdb", path, facts, arrays)


def _embed(text: str, kind: str, path: Path, facts: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
    facts["files"][kind] = {"name": path.name, "blocks": line_blocks(text)}
    arrays[kind] = np.frombuffer(by_columns(text), np.uint8)


def _scores(sample: SampleAccount, arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    """Seed, number and score; the texts of the two files of scores go to the arrays."""
    name = f"seed-{sample.seed}_sample-{sample.sample}"
    for ending in ("summary_confidences.json", "extras.json"):
        path = sample.path(ending)
        if read_json(path):
            arrays[f"{name}/{ending}"] = np.frombuffer(path.read_bytes(), np.uint8)
    return {"seed": sample.seed, "sample": sample.sample, "score": sample.score, "name": name, "stem": sample.stem}


def _chains(job: JobAccount) -> list[dict[str, Any]]:
    """The chains as the job was understood, in its order."""
    about = read_json(job.samples[0].folder.parent / f"{job.slug}_job.json").get("job", {})
    chains = about.get("chains", []) if isinstance(about, dict) else []
    return [chain for chain in chains if isinstance(chain, dict)]


def _about(chain: dict[str, Any], job: JobAccount) -> dict[str, Any]:
    depth = job.manifest.get("msa_depth", {})
    rows = depth.get(chain.get("id")) if isinstance(depth, dict) else None
    residues = len(chain.get("sequence") or "") or len(chain.get("residues") or []) or 1
    return {name: str(chain.get(name) or "") for name in _CHAIN} | {"residues": residues, "rows": rows}


def _kind(chain: dict[str, Any]) -> Kind:
    return Kind(chain["kind"]) if chain.get("kind") in tuple(Kind) else Kind.LIGAND
