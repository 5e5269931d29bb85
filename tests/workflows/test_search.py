"""Evidence found ahead: several databases, a server, one queue for a batch, archives, and runs that must not search."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from structgen.carried import is_archive, unpack
from structgen.errors import InputError
from structgen.features.pairing import pair_rows
from structgen.homologues import read_msa
from structgen.search import server_http
from structgen.search.server_http import Patience
from structgen.store import Store
from tests.search.colabfold_server import Stub, honest, serving
from tests.search.test_mmseqs import needs_mmseqs
from tests.workflows.conftest import REPOSITORY, Command, results
from tests.workflows.test_cli import attempts, sequence, write_fasta

EXAMPLES = REPOSITORY / "data" / "examples"
SEQDB = EXAMPLES / "seqdb.fasta.gz"
FAST = ("--samples", "1", "--steps", "1", "--cycles", "1", "--set", "alignment.rows=20")
UBIQUITIN = "MQIFVKTLTGKTITLEVEPSDTIENVKAKIQDKEGIPPDQQRLIFAGKQLEDGRTLSDYNIQKESTLHLVLRLRGG"
INSULIN = ("GIVEQCCTSICSLYQLENYCN", "FVNQHLCGSHLVEALYLVCGERGFFYTPKT")


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stub]:
    """A server, and a client that does not wait for seconds."""
    monkeypatch.setattr("workflows.evidence.Patience", lambda deadline: Patience(deadline, answer=5.0, first_wait=0.001, longest_wait=0.01))
    with serving() as running:
        yield running


@pytest.fixture
def halves(tmp_path: Path) -> tuple[Path, Path]:
    """The example database in two, the odd records and the even ones."""
    records = gzip.decompress(SEQDB.read_bytes()).decode().split(">")[1:]
    paths = tmp_path / "odd.fasta", tmp_path / "even.fasta"
    for path, part in zip(paths, (records[::2], records[1::2]), strict=True):
        path.write_text("".join(f">{record}" for record in part))
    return paths


def told(run: Path, slug: str) -> dict:
    return json.loads((run / slug / f"{slug}_manifest.json").read_text())


def listed(run: Path) -> dict[str, dict]:
    return {chain["sequence"]: chain for chain in json.loads((run / "evidence.json").read_text())["chains"]}


def test_several_databases_are_one_alignment_and_another_one_costs_only_itself(command: Command, tmp_path: Path, halves: tuple[Path, Path]):
    """The rows of one below those of the other, the query once; what was searched before is not searched again."""
    odd, even = halves
    write_fasta(tmp_path / "in.fasta", [("u", UBIQUITIN)])
    for out, databases in {"odd": [odd], "even": [even], "both": [odd, even]}.items():
        said = command("search", "in.fasta", "--out", out, *(word for path in databases for word in ("--seqdb", path)))
        assert said.status == 0 and f"searched in {', '.join(path.name for path in databases)}" in said.text
    store = Store(tmp_path / "store")
    one, two, both = (read_msa(store, listed(tmp_path / out)[UBIQUITIN]["msa"]) for out in ("odd", "even", "both"))
    assert both.descriptions == one.descriptions + two.descriptions[1:] and len(one.rows) > 5 and len(two.rows) > 5
    named = json.loads((tmp_path / "both" / "run.json").read_text())["jobs"]["u"]["stages"]["search"]["key"].split(",")
    assert set(named) >= {listed(tmp_path / out)[UBIQUITIN]["msa"] for out in ("odd", "even", "both")}  # a sweep of the store keeps them
    before = {path.name for path in (tmp_path / "store").glob("??/*")}
    assert command("search", "in.fasta", "--out", "again", "--seqdb", even, "--seqdb", odd).status == 0
    assert len({path.name for path in (tmp_path / "store").glob("??/*")} - before) == 1  # the other order of the same two


def test_a_batch_asks_a_server_once_for_every_sequence_and_pair(command: Command, tmp_path: Path, stub: Stub):
    """Duplicates in a batch, and later batches, ask nothing; the pair of a complex is asked for once in whatever order."""
    a, b, c = sequence(30), sequence(31)[:28], sequence(32)
    write_fasta(tmp_path / "in.fasta", [("m", a), ("n", a), ("p", f"{a}:{b}"), ("q", f"{b}:{a}"), ("bad", "MKT1")])
    said = command("predict", "in.fasta", "--out", "one", "--msa-server", stub.host, *FAST)
    assert said.status == 2 and "4 of 5 done, 1 refused" in said.text
    assert sorted(stub.sequences()) == sorted({a, b})
    assert len(stub.asked("/ticket/pair")) == len({r.path for r in stub.asked("/ticket/pair")}) == 1
    assert told(tmp_path / "one", "m")["msa_depth"]["A"] == 6 and told(tmp_path / "one", "p")["msa_depth"]["A"] == 8
    asked = len(stub.requests)
    write_fasta(tmp_path / "more.fasta", [("x", b), ("y", f"{a}:{b}:{a}")])
    assert command("predict", "more.fasta", "--out", "two", "--msa-server", stub.host, *FAST).status == 0
    assert len(stub.requests) == asked
    write_fasta(tmp_path / "most.fasta", [("z", f"{a}:{c}")])
    assert command("predict", "most.fasta", "--out", "three", "--msa-server", stub.host, *FAST).status == 0
    assert sorted(stub.sequences()) == sorted({a, b, c}) and len(stub.asked("/ticket/pair")) == 2
    assert "credential" not in json.dumps(json.loads((tmp_path / "one" / "run.json").read_text())["settings"])


def test_rows_that_a_server_pairs_are_paired_in_the_features(command: Command, tmp_path: Path, stub: Stub):
    """Pairing happens late, by what the header says, beside the unpaired rows."""
    a, b = sequence(30), sequence(31)
    write_fasta(tmp_path / "in.fasta", [("p", f"{a}:{b}")])
    assert command("search", "in.fasta", "--out", "s", "--msa-server", stub.host).status == 0
    chains = json.loads((tmp_path / "s" / "evidence.json").read_text())["chains"]
    keys = {chain["sequence"]: chain["msa"] for chain in chains if chain["partners"]}
    assert len(chains) == 4 and {tuple(chain["partners"]) for chain in chains} == {(), tuple(sorted((a, b)))}
    msas = [read_msa(Store(tmp_path / "store"), keys[each]) for each in (a, b)]
    assert len(pair_rows([msa.descriptions for msa in msas], per_species=9)) == 2
    asked = len(stub.requests)
    write_fasta(tmp_path / "same.fasta", [("p", f"{b}:{a}"), ("alone", a)])
    assert command("predict", "same.fasta", "--out", "o", "--evidence", "s", *FAST).status == 0
    write_fasta(tmp_path / "other.fasta", [("q", f"{a}:{sequence(32)}"), ("r", a)])
    said = command("predict", "other.fasta", "--out", "n", "--evidence", "s", *FAST)
    assert said.status == 2 and "1 chain(s) lack evidence" in said.text and "the rows that pair it with the other chains" in said.text
    assert len(stub.requests) == asked


def test_one_bad_answer_fails_one_job(command: Command, tmp_path: Path, stub: Stub):
    """The others are predicted; the reason is on record; the same command asks for what is missing alone."""
    good, bad = sequence(30), sequence(31)
    stub.behaviour.archive = lambda files: honest(files | {"uniref.a3m": files["uniref.a3m"].replace(f"-{bad[1:]}\n", f"{bad}A\n")})
    write_fasta(tmp_path / "in.fasta", [("good", good), ("bad", bad)])
    said = command("predict", "in.fasta", "--out", "o", "--msa-server", stub.host, *FAST)
    assert said.status == 3 and "1 of 2 done, 1 failed" in said.text and "record 2" in said.text and "row has another width" in said.text
    stub.behaviour.archive = None
    assert command("predict", "in.fasta", "--out", "o", "--msa-server", stub.host, *FAST).status == 0
    assert stub.sequences().count(good) == 1 and stub.sequences().count(bad) == 2
    stub.behaviour.posts = ["500"] * 99
    write_fasta(tmp_path / "new.fasta", [("new", sequence(33)), ("good", good)])
    said = command("predict", "new.fasta", "--out", "n", "--msa-server", stub.host, *FAST)
    assert said.status == 3 and "HTTP 500, 6 times in a row" in said.text and "1 of 2 done, 1 failed" in said.text


def test_evidence_travels_to_where_nothing_can_be_searched(command: Command, tmp_path: Path, halves: tuple[Path, Path]):
    """An archive, or the store with the list, gives the results of a run that searched itself, bit for bit, without the databases."""
    databases = ("--seqdb", halves[0], "--seqdb", halves[1])
    write_fasta(tmp_path / "in.fasta", [("u", UBIQUITIN), ("insulin", ":".join(INSULIN)), ("short", sequence(5))])
    said = command("search", "in.fasta", "--out", "s", "--export", "e.tar", *databases)
    assert said.status == 0 and "3 of 3 done, 3 of them searched" in said.text and ": e.tar" in said.text
    assert "insulin B     30 residues" in said.text and attempts(tmp_path / "s")["u", "search", ""] == 1
    assert command("predict", "in.fasta", "--out", "here", *databases, *FAST).status == 0
    assert attempts(tmp_path / "here")["u", "search", ""] == 0
    for path in halves:
        path.unlink()
    assert command("predict", "in.fasta", "--out", "list", "--evidence", "s", *FAST).status == 0
    assert command("predict", "in.fasta", "--out", "far", "--evidence", "e.tar", "--store", "elsewhere", *FAST).status == 0
    here = results(tmp_path / "here")
    assert len(here) > 9 and results(tmp_path / "list") == here and results(tmp_path / "far") == here
    write_fasta(tmp_path / "more.fasta", [("u", UBIQUITIN), ("new", sequence(40))])
    said = command("predict", "more.fasta", "--out", "more", "--evidence", "e.tar", "--store", "elsewhere", *FAST)
    assert said.status == 2 and "1 chain(s) lack evidence" in said.text and "record 2" in said.text and not (tmp_path / "more").exists()
    said = command("predict", "in.fasta", "--out", "none", "--evidence", "s", "--store", "empty", *FAST)
    assert said.status == 2 and "the store lacks evidence of the list" in said.text and "--export" in said.text


def test_offline_means_that_nothing_is_searched(command: Command, tmp_path: Path):
    """What the store lacks is told for the whole batch before any fold; what it has is used."""
    write_fasta(tmp_path / "in.fasta", [("u", UBIQUITIN), ("v", sequence(20))])
    words = ("predict", "in.fasta", "--seqdb", SEQDB, *FAST)
    said = command(*words, "--out", "o", "--offline")
    assert said.status == 2 and "2 chain(s) lack evidence" in said.text and not (tmp_path / "o").exists()
    assert command("search", "in.fasta", "--seqdb", SEQDB, "--out", "s").status == 0
    assert command(*words, "--out", "o", "--offline").status == 0
    assert attempts(tmp_path / "o")["u", "search", ""] == 0 and told(tmp_path / "o", "u")["msa_depth"]["A"] > 40


def tar(path: Path, members: list[tuple[str | tarfile.TarInfo, bytes]]) -> Path:
    with tarfile.open(path, "w") as archive:
        for name, content in members:
            info = tarfile.TarInfo(name) if isinstance(name, str) else name
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def evil_link() -> tarfile.TarInfo:
    info = tarfile.TarInfo("artifacts/" + "a" * 64)
    info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
    return info


LIST = json.dumps({"format": 1, "chains": [], "artifacts": {"a" * 64: "b" * 64}}).encode()
REFUSED: dict[str, tuple[Callable[[Path], object], str]] = {
    "a path upwards": (lambda p: tar(p, [("evidence.json", LIST), ("../x", b"x")]), "refused; found member '../x'"),
    "an absolute path": (lambda p: tar(p, [("evidence.json", LIST), ("/tmp/x", b"x")]), "refused; found member '/tmp/x'"),
    "a name that is no key": (lambda p: tar(p, [("evidence.json", LIST), ("artifacts/x", b"x")]), "refused"),
    "a link": (lambda p: tar(p, [("evidence.json", LIST), (evil_link(), b"")]), "refused"),
    "no list": (lambda p: tar(p, [("artifacts/" + "a" * 64, b"x")]), "refused"),
    "another content": (lambda p: tar(p, [("evidence.json", LIST), ("artifacts/" + "a" * 64, b"x")]), "another sha256"),
    "one that is not listed": (lambda p: tar(p, [("evidence.json", LIST), ("artifacts/" + "c" * 64, b"x")]), "another sha256"),
    "cut off": (lambda p: tar(p, [("evidence.json", LIST)]), "1 artifacts missing"),
    "empty": (lambda p: p.write_bytes(b""), "archive"),
    "no archive": (lambda p: p.write_bytes(b"x" * 2000), "archive cannot be read"),
    "another format": (lambda p: tar(p, [("evidence.json", b'{"format": 9}')]), "is no list of evidence"),
    "no JSON": (lambda p: tar(p, [("evidence.json", b"<html>")]), "list of evidence cannot be read"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_archives_that_are_not_ours_are_refused(tmp_path: Path, name: str):
    """Hostile names, links, other contents, parts: nothing is published."""
    make, text = REFUSED[name]
    make(tmp_path / "e.tar")
    assert is_archive(tmp_path / "e.tar")
    with pytest.raises(InputError, match=text):
        unpack(tmp_path / "e.tar", Store(tmp_path / "store"))
    assert not list(tmp_path.glob("store/??/*")) and {path.name for path in tmp_path.iterdir()} <= {"e.tar", "store"}


def test_wrong_words_are_told(command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """No program, no database, no server, evidence together with a search."""
    write_fasta(tmp_path / "in.fasta", [("u", UBIQUITIN)])
    (tmp_path / "db").mkdir()
    (tmp_path / "s").mkdir()
    for words, text in [
        (["--mmseqs-db", "absent"], "is no database of mmseqs2"),
        (["--mmseqs-db", "db"], "build it with `structgen search-db build FASTA OUT`"),
        (["--msa-server", "somewhere"], "expected http(s)://"),
        (["--evidence", "s"], "evidence.json: cannot be read"),
        (["--evidence", "s", "--seqdb", str(SEQDB)], "it takes the place of all searches"),
        (["--set", "server.pairing=often"], "expected one of 'greedy', 'complete', 'none'"),
    ]:
        said = command("predict", "in.fasta", *words)
        assert said.status == 2 and text in said.text, said.text
    monkeypatch.setenv("STRUCTGEN_MMSEQS", str(tmp_path / "no-program"))
    said = command("search-db", "build", SEQDB, "new")
    assert said.status == 2 and "is no program that can be run" in said.text and not (tmp_path / "new").exists()
    assert server_http.Access.from_environment({}).headers == {}


def test_chains_that_were_searched_alone_pair_in_any_complex(command: Command, tmp_path: Path):
    """Rows are paired when features are made, by the species in their headers: a complex of known chains searches nothing."""
    write_fasta(tmp_path / "alone.fasta", list(zip("ab", INSULIN, strict=True)))
    said = command("search", "alone.fasta", "--out", "alone", "--seqdb", SEQDB)
    assert said.status == 0 and "2 of 2 done, 2 of them searched" in said.text
    write_fasta(tmp_path / "complex.fasta", [("ab", ":".join(INSULIN)), ("bab", ":".join((INSULIN[1], *INSULIN)))])
    assert command("predict", "complex.fasta", "--out", "o", "--seqdb", SEQDB, "--offline", *FAST).status == 0
    assert attempts(tmp_path / "o")["ab", "search", ""] == attempts(tmp_path / "o")["bab", "search", ""] == 0
    store = Store(tmp_path / "store")
    msas = [read_msa(store, listed(tmp_path / "alone")[chain]["msa"]) for chain in INSULIN]
    assert len(pair_rows([msa.descriptions for msa in msas], per_species=9)) >= 1


def test_the_cluster_finds_the_same(command: Command, tmp_path: Path, ray_session: None):
    """The stage alone on Ray: the same list, the same artifacts; a record whose search fails is told and ends no other."""
    (tmp_path / "broken.a3m").write_text(f">q\n{UBIQUITIN}\n>x\nMK\n")
    write_fasta(tmp_path / "in.fasta", [("u", UBIQUITIN), ("a", INSULIN[0]), ("b", INSULIN[1]), ("b2", INSULIN[1])])
    words = ("search", "in.fasta", "--seqdb", SEQDB, "--msa", "broken.a3m")
    here = command(*words, "--out", "here")
    there = command(*words, "--out", "there", "--cluster", "local", "--store", "other")
    words = "row has another width; found"
    told = [[line for line in said.text.splitlines() if words in line and "Error:" not in line] for said in (here, there)]
    assert here.status == there.status == 2 and len(told[0]) == 1 and told[0] == told[1]
    assert listed(tmp_path / "here") == listed(tmp_path / "there") and len(listed(tmp_path / "there")) == 2
    counts = attempts(tmp_path / "there")
    assert counts["b", "search", ""] + counts["b2", "search", ""] == counts["a", "search", ""] == 1
    for chain in listed(tmp_path / "here").values():
        assert Store(tmp_path / "store").read(chain["msa"]) == Store(tmp_path / "other").read(chain["msa"])


@needs_mmseqs
def test_mmseqs_searches_a_batch_at_once(command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """One call for all distinct sequences; what is known needs neither the program nor a search; without it there is one error."""
    assert "383 sequences, 95,460 residues in 2 shard(s)" in command("search-db", "build", SEQDB, "db", "--shards", "2", "--no-index").text
    write_fasta(tmp_path / "in.fasta", [("u", UBIQUITIN), ("ins", ":".join(INSULIN)), ("v", UBIQUITIN)])
    words = ("search", "in.fasta", "--mmseqs-db", "db", "--set", "mmseqs.prefilter=ungapped")
    said = command(*words, "--out", "s")
    assert said.status == 0 and "db: searching for 3 of 3 alignments" in said.text
    store = Store(tmp_path / "store")
    rows = {each: len(read_msa(store, chain["msa"]).rows) for each, chain in listed(tmp_path / "s").items()}
    assert rows[UBIQUITIN] > 30 and len(rows) == 3
    monkeypatch.setenv("STRUCTGEN_MMSEQS", "no-such-program")
    assert "searching" not in command(*words, "--out", "again").text.replace("searched", "")
    write_fasta(tmp_path / "in.fasta", [("u", UBIQUITIN), ("new", sequence(40)), ("newer", sequence(41))])
    said = command(*words, "--out", "again")
    assert said.status == 2 and said.text.count("is no program that can be run") == 1
