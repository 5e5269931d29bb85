"""What data/ says of itself is true, and the demo goes all the way to features."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from structgen.features.atoms import build_atoms
from structgen.features.featurise import featurise
from structgen.features.job import Job, protein_chains
from structgen.features.msa import RowLimits, alignment_features
from structgen.features.pairing import species_key
from structgen.features.tokens import tokenise
from structgen.io.a3m import read_a3m
from structgen.io.jobs.read import read_jobs
from structgen.search.given import find_alignments

DATA = Path(__file__).parents[2] / "data"


def test_every_example_is_listed_with_its_sha256() -> None:
    """No file without provenance, no provenance without its file."""
    listed: dict[Path, str] = {}
    for readme in DATA.rglob("README.md"):
        rows = re.findall(r"^\| `([^`]+)` \|.*`([0-9a-f]{64})` \|$", readme.read_text(), re.MULTILINE)
        listed |= {(readme.parent / name).resolve(): digest for name, digest in rows}
    for path, digest in listed.items():
        assert hashlib.sha256(path.read_bytes()).hexdigest() == digest, path
    files = {path.resolve() for path in (DATA / "examples").rglob("*") if path.is_file() and path.name != "README.md"}
    assert files <= set(listed)


def test_the_demo_becomes_features_with_its_alignments() -> None:
    """Ubiquitin and insulin, 76 and 51 tokens, more than one row each, profile from the homologues."""
    jobs, errors = read_jobs([DATA / "examples" / "demo.fasta"])
    given = find_alignments(DATA / "examples" / "msas")
    assert errors == [] and [job.slug for job in jobs] == ["ubiquitin", "insulin"]
    batches = [featurise(tokenise(build_atoms(job)), [given.alignment_of(c.sequence) for c in job.chains]) for job in jobs]
    assert [(b.tokens, b.atoms) for b in batches] == [(76, 602), (51, 257 + 65 + 77 + 6)]  # insulin is C257 H383 N65 O77 S6
    assert batches[0].msa.shape[1] > 50 and batches[1].msa.shape[1] > 1
    assert (batches[0].profile.max(-1).values < 1).any()


def test_a_real_complex_is_paired_by_taxonomy() -> None:
    """Two chains with taxonomy numbers: the paired rows come first and hold residues of both chains."""
    msas = [read_a3m(DATA / "examples" / "msas" / f"7wux_{k}_pairing.a3m.gz") for k in (1, 2)]
    alphabet = "ARNDCQEGHILKMFPSTWYVX"
    job = Job("7wux", "7wux", protein_chains(["".join(alphabet[c] for c in msa.rows[0]) for msa in msas]))
    features = alignment_features(build_atoms(job), msas, RowLimits())
    shared = set.intersection(*({species_key(line) for line in msa.descriptions[1:]} - {None} for msa in msas))
    split = msas[0].rows.shape[1]
    both = ((features.rows[:, :split] != 31).any(1) & (features.rows[:, split:] != 31).any(1))[1:]
    assert len(shared) > 100 and both[: len(shared) // 2].all()
    assert len(features.rows) <= 1 + sum(len(msa.rows) - 1 for msa in msas)
