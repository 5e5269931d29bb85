"""The page as text: what is in it, that hostile names stay text, that nothing points outside, that files come back byte for byte."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from structgen.errors import ConfigError
from structgen.report import write, write_folder, write_page
from structgen.report.account import read_run
from structgen.report.index import index
from structgen.report.packing import by_rows, restore_pae, strict_json, unpack
from tests.report.conftest import HOSTILE, make_run


class Reader(HTMLParser):
    """Elements with their attributes, and the text of scripts and styles by id or place."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.inside = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self.texts.append("")
        self.inside = True

    def handle_endtag(self, tag: str) -> None:
        self.inside = False

    def handle_data(self, data: str) -> None:
        if self.inside:
            self.texts[-1] += data

    def by_id(self, name: str) -> str:
        return next(text for (_, attributes), text in zip(self.elements, self.texts, strict=True) if attributes.get("id") == name)

    def of(self, tag: str) -> list[tuple[dict[str, str | None], str]]:
        return [(attributes, text) for (name, attributes), text in zip(self.elements, self.texts, strict=True) if name == tag]


@pytest.fixture(scope="module")
def page(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Reader:
    """The page of the run, read back."""
    path = tmp_path_factory.mktemp("page") / "report.html"
    assert write_page(run, path).samples == 3
    return Reader(path.read_text(encoding="utf-8"))


def _payload(page: Reader, name: str) -> tuple[dict, dict[str, np.ndarray]]:
    return unpack(base64.b64decode(page.by_id(name), validate=True))


def test_hostile_names_are_text(page: Reader, run: Path):
    """No element and no attribute comes from a name; the index holds the names as they are."""
    assert {tag for tag, _ in page.elements} <= set(
        "html head meta title style body a header div h1 h2 p button main section label span input select output table caption thead tbody "
        "footer details summary pre noscript script".split()
    )
    assert not any(name.startswith("on") for _, attributes in page.elements for name in attributes)
    found = json.loads(page.by_id("index"))
    assert found["rows"] == index(read_run(run))["rows"] and found["rejected"] == [f"bad.fasta: {HOSTILE}"]
    facts, _ = _payload(page, "job0")
    assert HOSTILE in facts["notes"]


def test_no_address_leads_out_of_the_page(page: Reader):
    """Links are to places in the page; nothing has a source."""
    assert not any("src" in attributes or "srcset" in attributes for _, attributes in page.elements)
    assert all((attributes.get("href") or "#").startswith("#") for _, attributes in page.elements)
    style = page.of("style")[0][1]
    assert "url(" not in style and "@import" not in style


def test_the_policy_allows_just_the_programs_of_the_page(page: Reader):
    """Nothing by default; scripts and the style by their digests; no network, no form, no base."""
    policy = next(attributes["content"] for attributes, _ in page.of("meta") if attributes.get("http-equiv") == "Content-Security-Policy")
    rules = dict(rule.split(" ", 1) for rule in str(policy).split("; "))
    program = next(text for attributes, text in page.of("script") if "type" not in attributes)
    style = page.of("style")[0][1]
    library = (Path(write.__file__).parent / "assets/3Dmol-min.js").read_text(encoding="utf-8")
    digest = [f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'" for text in (program, library, style)]
    assert rules["default-src"] == "'none'" and rules["base-uri"] == "'none'" and rules["form-action"] == "'none'"
    assert rules["script-src"].split() == digest[:2] and rules["style-src"].split() == digest[2:]
    assert "connect-src" not in rules and rules["img-src"] == "data: blob:"


def test_the_program_makes_no_markup_of_data():
    """Our own scripts have none of the ways in which text becomes markup or program."""
    assets = Path(write.__file__).parent / "assets"
    for path in assets.glob("*.js"):
        if path.name != "3Dmol-min.js":
            text = path.read_text(encoding="utf-8")
            forbidden = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|DOMParser|fetch\(|XMLHttp"
            assert not re.search(forbidden, text)


def test_files_come_back_byte_for_byte(page: Reader, run: Path):
    """mmCIF, PDB and both files of scores of every sample in the page; PAE to half a step; pLDDT of residues as mmCIF says it."""
    for number, slug, k in ((0, "complex", 0), (0, "complex", 1), (1, "alone", 0)):
        facts, arrays = _payload(page, f"job{number}-{k}")
        _, scores = _payload(page, f"job{number}")
        name = f"seed-1_sample-{k}"
        for kind in ("cif", "pdb"):
            about = facts["files"][kind]
            text = by_rows(arrays[kind].tobytes(), about["blocks"])
            assert text.encode() == (run / slug / name / about["name"]).read_bytes()
        for ending in ("summary_confidences.json", "extras.json"):
            assert scores[f"{name}/{ending}"].tobytes() == (run / slug / name / f"{slug}_{name}_{ending}").read_bytes()
        with np.load(run / slug / name / f"{slug}_{name}_pae.npz") as values:
            assert np.abs(restore_pae(arrays["pae"]) - np.minimum(values["pae"].astype(float), 31.75)).max() <= 0.0625
            assert [facts["token_chains"][c] for c in arrays["token/chain"]] == values["token_chain_ids"].tolist()
        assert facts["missing"] == []
        local = re.findall(r"^\d+ +1 (\w+) +(\d+) +(\w+) +2 +([\d.]+) *$", text if kind == "cif" else _cif(run, slug, name), re.M)
        said = zip(*(arrays[f"residue/{part}"].tolist() for part in ("chain", "number", "component", "plddt")), strict=True)
        found = [(facts["chains"][c], n, facts["components"][m], p / 100) for c, n, m, p in said]
        assert [row[:3] for row in found] == [(chain, int(n), name) for chain, n, name, _ in local]
        assert np.allclose([row[3] for row in found], [float(value) for *_, value in local], atol=0.011)


def _cif(run: Path, slug: str, name: str) -> str:
    return (run / slug / name / f"{slug}_{name}_model.cif").read_text()


def test_alignments_are_in_the_page(page: Reader):
    """The first chain of the complex has its depth, the second none."""
    _, arrays = _payload(page, "job0")
    assert arrays["coverage/0"].sum(0).tolist() == [4, 4, 4, 3, 3, 4] and "coverage/1" not in arrays


def test_failed_and_lost_jobs_say_why(page: Reader):
    """Their payloads hold the words and no results."""
    assert _payload(page, "job2")[0]["errors"] == [["featurise", f"too large {HOSTILE}"]]
    assert "not in" in _payload(page, "job3")[0]["problem"]
    assert not any(attributes.get("id") in ("job2-0", "job3-0") for _, attributes in page.elements)


def test_equal_runs_give_equal_pages(run: Path, tmp_path: Path):
    """Byte for byte."""
    write_page(run, tmp_path / "a.html")
    write_page(run, tmp_path / "b.html")
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()


def test_a_small_limit_leaves_the_best_samples(run: Path, tmp_path: Path):
    """One structure a job, all scores, and the count of what is left out."""
    written = write_page(run, tmp_path / "small.html", limit=0)
    assert (written.samples, written.left_out, written.jobs) == (2, 1, 4)
    page = Reader((tmp_path / "small.html").read_text())
    assert len(_payload(page, "job0")[0]["samples"]) == 2 and not any(a.get("id") == "job0-1" for _, a in page.elements)


def test_the_folder_holds_the_same_data(run: Path, tmp_path: Path, page: Reader):
    """Each payload of the page is a script beside the folder's page; again over itself, never over something else."""
    for _ in range(2):
        written = write_folder(run, tmp_path / "report")
    assert written.page == tmp_path / "report/index.html" and written.left_out == 0
    names = {str(attributes["id"]) for attributes, _ in page.of("script") if str(attributes.get("id", "")).startswith("job")}
    assert {path.stem for path in (tmp_path / "report/data").iterdir()} == names
    for name in names:
        assert (tmp_path / f"report/data/{name}.js").read_text() == f'structgenData("{name}","{page.by_id(name).strip()}")\n'
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.tex").write_text("years of work")
    with pytest.raises(ConfigError, match="something else than a report"):
        write_folder(run, tmp_path / "mine")
    assert (tmp_path / "mine/thesis.tex").read_text() == "years of work"


def test_nothing_half_written_is_left(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A writer that stops leaves the earlier page, and no other file."""
    (tmp_path / "report.html").write_text("earlier")

    def stop(*_: object) -> bytes:
        raise KeyboardInterrupt

    monkeypatch.setattr(write, "sample_payload", stop)
    with pytest.raises(KeyboardInterrupt):
        write_page(run, tmp_path / "report.html")
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"] and (tmp_path / "report.html").read_text() == "earlier"
    with pytest.raises(ConfigError, match="name it"):
        write_page(run, tmp_path / "report.pdf")


def test_damaged_files_of_a_sample_are_named(tmp_path: Path):
    """Without structure or PAE the rest is there, and the page says what is missing."""
    run = make_run(tmp_path)
    folder = run / "alone/seed-1_sample-0"
    next(folder.glob("*.cif")).write_text("data_x\nloop_\n")
    next(folder.glob("*.npz")).write_bytes(b"PK")
    write_page(run, tmp_path / "report.html")
    facts, arrays = _payload(Reader((tmp_path / "report.html").read_text()), "job1-0")
    assert len(facts["missing"]) == 2 and "pdb" in arrays and not {"cif", "pae"} & set(arrays)


def test_numbers_that_are_none_become_null():
    """JSON of others may hold NaN; the page's does not."""
    assert strict_json({"a": [float("nan"), -float("inf"), 1]}) == '{"a":[null,null,1]}'
