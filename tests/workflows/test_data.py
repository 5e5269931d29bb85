"""`structgen data` as a user types it: in process and on Ray the same archive, and what goes wrong is told."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from structgen.data.archive import digest
from tests.archive import random_chains, write_archive
from tests.workflows.conftest import REPOSITORY, Command

DATABASE = REPOSITORY / "data" / "examples" / "seqdb.fasta.gz"
STRUCTURES = REPOSITORY / "data" / "examples" / "structures"


@pytest.fixture(scope="module")
def chains(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = np.random.default_rng(0)
    return write_archive(tmp_path_factory.mktemp("set"), random_chains(rng, 7, 30) + random_chains(rng, 2, 20, split="val"), rng)


def test_an_archive_is_the_same_from_a_cluster(command: Command, chains: Path, ray_session: None):
    """Built on Ray it has the digest of one that was built in this process; `info` counts it."""
    assert command("data", "build", "--chains", chains, "a.zarr", "--set", "part_size=4").status == 0
    assert command("data", "build", "--chains", chains / "chains.npz", "b.zarr", "--set", "part_size=4", "--cluster", "local").status == 0
    assert digest(Path("a.zarr")) == digest(Path("b.zarr"))
    facts = json.loads(command("data", "info", "a.zarr", "--json", "--verify").text)
    assert facts["splits"]["train"]["chains"] == 7 and facts["splits"]["val"]["residues"] == 40
    assert "complete" in command("data", "build", "--chains", chains, "a.zarr", "--set", "part_size=4").text
    assert "train: chains 7, clusters 7, entries 7" in command("data", "info", "a.zarr").text


def test_deposited_entries_are_built_with_their_reasons(command: Command, monkeypatch: pytest.MonkeyPatch):
    """A folder of mmCIF: one entry passes the filter, the other is refused and counted with why."""
    monkeypatch.setenv("PATH", "")  # no mmseqs: clusters are found in process
    found = command("data", "build", "--mmcif", STRUCTURES, "c.zarr", "--set", "filters.max_resolution=2.0")
    assert found.status == 0, found.text
    text = command("data", "info", "c.zarr").text
    assert "refused: resolution 1" in text and "licences: CC0 1" in text and "clustered: phmmer" in text and "rna 1" in text


def test_wrong_commands_are_told(command: Command, chains: Path, tmp_path: Path):
    """No source, two sources, an unknown setting, a folder that is no archive."""
    assert command("data", "build", "x.zarr").status == 2
    assert command("data", "build", "x.zarr", "--chains", chains, "--mmcif", STRUCTURES).status == 2
    assert command("data", "build", "x.zarr", "--chains", chains, "--set", "relatives.mots=3").status == 2
    assert command("data", "info", tmp_path).status == 2


def test_profiles_are_searched_once(command: Command):
    """One alignment a sequence; the second run finds nothing to do."""
    Path("q.fasta").write_text(">u\nMQIFVKTLTGKTITLEVEPSDTIENVKAKIQDKEGIPPDQQRLIFAGKQLEDGRTLSDYNIQKESTLHLVLRLRGG\n")
    first = command("data", "profiles", "q.fasta", DATABASE, "msas", "--set", "iterations=1")
    assert first.status == 0 and "1 of 1: 76 residues" in first.text
    assert len(list(Path("msas").rglob("*.a3m.gz"))) == 1
    assert command("data", "profiles", "q.fasta", DATABASE, "msas", "--set", "iterations=1").text == ""
