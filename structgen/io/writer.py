"""One job's results as a folder: AlphaFold 3's layout with more in it.

<job>/seed-<seed>_sample-<k>/<job>_seed-<seed>_sample-<k>_{model.cif, model.pdb, confidences.json, summary_confidences.json}
                                                          {pae.npz, extras.json, ligand_<chain>.sdf}
<job>/<job>_{model.cif, model.pdb, confidences.json, summary_confidences.json, ligand_<chain>.sdf}     copies of the best sample's
<job>/<job>_ranking_scores.csv and ranking_scores.csv, <job>_data.json, <job>_job.json, TERMS_OF_USE.md, LOG.txt, <job>_manifest.json
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from structgen.errors import InputError
from structgen.features.job import Job
from structgen.features.tokens import Tokens
from structgen.io.confidences import confidences, pair_arrays, ranking_scores, summary_confidences
from structgen.io.extras import extras
from structgen.io.folder import publish_folder
from structgen.io.job_json import structgen_job
from structgen.io.manifest import Manifest
from structgen.io.mmcif import write_mmcif
from structgen.io.pdb import pdb_fits, write_pdb
from structgen.io.provenance import Provenance
from structgen.io.results import Results, rank
from structgen.io.sdf import sdf_chains, write_sdf
from structgen.prediction import Prediction

__all__ = ["Manifest", "Provenance", "write_job"]

COPIED = ("model.cif", "model.pdb", "confidences.json", "summary_confidences.json", "ligand_")


def write_job(folder: Path, job: Job, tokens: Tokens, predictions: Sequence[Prediction], provenance: Provenance) -> Manifest:
    """Put the job's results at `folder / job.slug`, whole or not at all, in place of earlier results of that slug.

    Equal predictions and provenance give equal bytes in every file but the manifest, which is written last. Raises `InputError` for
    a slug that is no plain file name and where something else than results bears it, `NumericalError` for values that are not finite.
    """
    target = _target(folder, job.slug)
    results = Results(job, tokens, rank(predictions), provenance)
    manifests: list[Manifest] = []

    def fill(new: Path) -> None:
        digests = {}
        for path, content in _files(results):
            (new / path).parent.mkdir(exist_ok=True)
            (new / path).write_bytes(content)
            digests[path] = hashlib.sha256(content).hexdigest()
        manifests.append(_manifest(results, digests))
        (new / f"{job.slug}_manifest.json").write_text(manifests[0].to_json(), encoding="utf-8")

    publish_folder(target, fill)
    return manifests[0]


def _target(folder: Path, slug: str) -> Path:
    if slug in ("", ".", "..") or Path(slug).name != slug:
        raise InputError("the job's folder needs a plain name", found=repr(slug), expected="a file name without slashes")
    target = folder / slug
    if target.exists() and not (target / f"{slug}_manifest.json").is_file():
        remedy = "move it away or choose another folder"
        raise InputError("results cannot be written", where=str(target), found="something else of that name", remedy=remedy)
    return target


def _files(results: Results) -> Iterator[tuple[str, bytes]]:
    """Path in the job's folder and content of every file but the manifest."""
    slug = results.job.slug
    for place, prediction in enumerate(results.ranked):
        sample = f"seed-{prediction.seed}_sample-{prediction.sample}"
        for ending, content in _sample_files(results, prediction, f"{slug}_{sample}"):
            yield f"{sample}/{slug}_{sample}_{ending}", content
            if place == 0 and ending.startswith(COPIED):
                yield f"{slug}_{ending}", content
    yield f"{slug}_ranking_scores.csv", ranking_scores(results.ranked).encode()
    yield "ranking_scores.csv", ranking_scores(results.ranked).encode()
    yield f"{slug}_data.json", results.af3_job[0].encode()
    yield f"{slug}_job.json", _job_json(results)
    yield "TERMS_OF_USE.md", results.terms_of_use().encode()
    yield "LOG.txt", results.log().encode()


def _sample_files(results: Results, prediction: Prediction, entry: str) -> Iterator[tuple[str, bytes]]:
    structure, provenance = results.structure, results.provenance
    yield "model.cif", write_mmcif(structure, prediction, provenance, entry=entry).encode()
    if pdb_fits(structure, prediction.positions) is None:
        yield "model.pdb", write_pdb(structure, prediction, provenance, entry=entry).encode()
    yield "confidences.json", confidences(results.tokens, prediction).encode()
    yield "summary_confidences.json", summary_confidences(structure, prediction, provenance.templates).encode()
    yield "pae.npz", pair_arrays(results.tokens, prediction)
    yield "extras.json", extras(results.tokens, prediction, provenance).encode()
    for chain in sdf_chains(structure):
        title = f"{entry} chain {structure.chain_ids[chain]}"
        yield f"ligand_{structure.chain_ids[chain]}.sdf", write_sdf(structure, prediction, chain, title=title).encode()


def _job_json(results: Results) -> bytes:
    return structgen_job(results.job, results.provenance).encode()


def _manifest(results: Results, files: dict[str, str]) -> Manifest:
    p = results.provenance
    return Manifest(
        name=results.job.name,
        slug=results.job.slug,
        source=p.source,
        input_sha256=hashlib.sha256(_job_json(results)).hexdigest(),
        software=p.software,
        model=p.model,
        model_sha256=p.model_sha256,
        settings=dict(p.settings),
        seeds=p.seeds,
        msa_depth=dict(p.msa_depth),
        templates={chain: [asdict(used) for used in all_used] for chain, all_used in p.templates.items()},
        ranking=tuple((q.seed, q.sample, float(q.summary.ranking_score)) for q in results.ranked),
        notes=p.notes,
        warnings=results.warnings,
        pdb_chains=results.pdb_chains,
        files=files,
        device=p.device,
        seconds=dict(p.seconds),
        written=datetime.now(UTC).isoformat(timespec="seconds"),
    )
