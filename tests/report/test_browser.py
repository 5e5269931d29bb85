"""The page in a real Chromium: what it shows, what its keys and buttons do, and that nothing leaves it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from benchmarks.browser import Page, browse, chromium
from structgen.report import write_folder, write_page
from structgen.report.page import json_text
from tests.report.conftest import HOSTILE

pytestmark = pytest.mark.skipif(chromium() is None, reason="there is no Chromium here")

NAMES = "[...document.querySelectorAll('#table tbody button')].map((button) => button.textContent)"
SHOWN = "performance.getEntriesByName('job-shown').length"
COLOURS = """(async () => {
  const picture = await createImageBitmap(document.querySelector('%s'));
  const pen = new OffscreenCanvas(picture.width, picture.height).getContext('2d');
  pen.drawImage(picture, 0, 0);
  const all = pen.getImageData(0, 0, picture.width, picture.height).data;
  const seen = new Map();
  for (let k = 0; k < all.length; k += 4) {
    const name = [all[k], all[k + 1], all[k + 2]].join();
    if (all[k + 3] > 200) seen.set(name, (seen.get(name) ?? 0) + 1);
  }
  return [...seen];
})()"""


@pytest.fixture(scope="module")
def tab() -> Iterator[Page]:
    """One browser for all tests."""
    with browse(timeout=60) as page:
        page.resize(1000, 800)
        yield page


@pytest.fixture(scope="module")
def report(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run as one page."""
    return write_page(run, tmp_path_factory.mktemp("browser") / "report.html").page


@pytest.fixture
def page(tab: Page, report: Path) -> Page:
    """The page, freshly opened, with its first job shown."""
    tab.open("about:blank#")
    tab.call("Page.navigate", url=report.as_uri())
    tab.wait(f"location.protocol === 'file:' && {SHOWN}")
    return tab


def _inside(addresses: list[str], report: Path) -> bool:
    return all(address == report.as_uri() or address.startswith(("data:", "blob:")) for address in addresses)


def test_nothing_leaves_the_page(page: Page, report: Path):
    """Of all that is asked for only the file itself; the policy refuses what a program would ask for; no name became markup."""
    page.run("document.querySelectorAll('#table tbody button')[1].click()")
    page.wait(f"document.querySelector('#job h2').textContent.startsWith('alone') && {SHOWN} > 1")
    assert report.as_uri() in page.requests() and _inside(page.requests(), report)
    assert page.complaints() == []
    assert page.run("fetch('http://127.0.0.1:9/').then(() => 'sent', () => 'refused')") == "refused"
    image = "new Promise((done) => { const i = new Image(); i.onerror = () => done('refused'); i.src = 'http://127.0.0.1:9/x.png'; })"
    assert page.run(image) == "refused"
    outside = [address for address in page.requests() if not _inside([address], report)]
    assert outside == page.refused() and any("Content Security Policy" in text for text in page.complaints())
    assert page.run("window.pwned") is None and page.run("document.querySelectorAll('#job img[src], #table img').length") == 0
    assert page.run(NAMES)[0] == f"complex {HOSTILE}"


def test_the_table_sorts_and_searches(page: Page):
    """A click on a head sorts, jobs without a value last both ways; words of a search must all be there; keys do the same."""
    first = [name.split()[0] for name in page.run(NAMES)]
    assert first == ["complex", "alone", "failed", "lost"]
    score = "document.querySelector('th[data-key=score] button')"
    page.run(f"{score}.click()")
    assert page.run("document.querySelector('th[data-key=score]').getAttribute('aria-sort')") == "descending"
    page.run(f"{score}.focus()")
    page.press("Enter")
    assert [name.split()[0] for name in page.run(NAMES)] == ["alone", "complex", "failed", "lost"]
    page.run("document.activeElement.blur()")
    page.press("/", "Slash")
    for letter in "fail":
        page.press(letter)
    assert [name.split()[0] for name in page.run(NAMES)] == ["failed"]
    assert page.run("document.getElementById('count').textContent") == "1 of 4 jobs"


def test_keys_go_from_job_to_job(page: Page):
    """Arrows move over the names, Enter opens and moves the focus to the job, n and p go on from there."""
    page.run("document.querySelector('#table tbody button').focus()")
    page.press("ArrowDown")
    page.press("ArrowDown")
    page.press("Enter")
    page.wait("document.querySelector('#job .note.bad')")
    assert page.run("document.activeElement === document.querySelector('#job h2')")
    assert f"too large {HOSTILE}" in page.run("document.querySelector('#job .note.bad').textContent")
    page.press("p")
    page.wait("document.querySelector('#job h2').textContent.startsWith('alone')")
    assert page.run("document.querySelector('#table tr.current button').textContent.startsWith('alone')")
    assert page.run("decodeURIComponent(location.hash)") == "#alone"


def test_the_structure_is_drawn_in_the_colours_of_plddt_and_of_chains(page: Page):
    """The 3-D picture is not empty; by chain it is blue and orange, which it is not before."""
    pixels = dict(page.run(COLOURS % ".stage canvas"))
    assert sum(pixels.values()) > 2000
    before = _hues(pixels)
    page.run("document.querySelector('input[name=view-colour][value=chain]').click()")
    page.wait("document.querySelector('input[name=view-colour][value=chain]').checked")
    after = _hues(dict(page.run(COLOURS % ".stage canvas")))
    assert sum(after.values()) > 2000 and after != before


def _hues(pixels: dict[str, int]) -> dict[str, int]:
    """Pixels by which of red, green, blue is the strongest."""
    counts: dict[str, int] = {}
    for name, count in pixels.items():
        values = [int(part) for part in name.split(",")]
        strongest = "rgb"[values.index(max(values))]
        counts[strongest] = counts.get(strongest, 0) + count
    return counts


def test_the_pae_picture_has_the_values_of_the_file(page: Page, run: Path):
    """Arrow keys name a pair of residues and its value to a tenth; the mouse finds the same."""
    with np.load(run / "complex/seed-1_sample-0/complex_seed-1_sample-0_pae.npz") as values:
        pae = values["pae"].astype(float)
    canvas = "[...document.querySelectorAll('#job canvas')].find((c) => c.getAttribute('aria-label')?.startsWith('Predicted aligned'))"
    readout = f"{canvas}.closest('.panel').querySelector('output').textContent"
    page.run(f"{canvas}.focus()")
    page.press("ArrowDown")
    for _ in range(7):
        page.press("ArrowRight")
    text = page.run(readout)
    assert text.startswith("aligned on A 2, scored B 2: ")
    assert abs(float(text.split()[-2]) - min(pae[1, 7], 31.75)) <= 0.12
    box = page.run(f"(() => {{ const b = {canvas}.getBoundingClientRect(); return [b.left, b.top, b.width]; }})()")
    side = min(box[2] - 52, 520)
    page.run("window.scrollTo(0, 0)")
    box = page.run(f"(() => {{ const b = {canvas}.getBoundingClientRect(); return [b.left, b.top, b.width]; }})()")
    point = {"clientX": box[0] + 46 + side * 2.5 / 12, "clientY": box[1] + 20 + side * 9.5 / 12}
    page.run(f"{canvas}.dispatchEvent(new PointerEvent('pointermove', {json.dumps(point)}))")
    assert page.run(readout).startswith("aligned on B 4, scored A 3: ")


def test_downloads_are_the_files_of_the_run(page: Page, run: Path, tmp_path: Path):
    """mmCIF, PDB and scores of the second sample, saved by the browser, equal the files of the folder."""
    page.call("Page.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path))
    page.run("document.querySelectorAll('input[name=sample]')[1].click()")
    page.wait(f"{SHOWN} > 1")
    folder = run / "complex/seed-1_sample-1"
    for k, ending in enumerate(("model.cif", "model.pdb", "summary_confidences.json", "extras.json")):
        page.run(f"document.querySelectorAll('#job .files button')[{k}].click()")
        original = folder / f"complex_seed-1_sample-1_{ending}"
        saved = _saved(page, tmp_path / original.name)
        assert saved == original.read_bytes()


def _saved(page: Page, path: Path) -> bytes:
    for _ in range(400):
        if path.is_file() and path.stat().st_size:
            return path.read_bytes()
        page.run("new Promise((done) => setTimeout(done, 25))")
    raise TimeoutError(f"no {path}")


def test_it_is_dark_light_and_printable(page: Page):
    """The button goes through the themes; on paper the page is white, and the structure is there as a picture."""
    paper = "getComputedStyle(document.body).backgroundColor"
    colours = []
    for _ in range(3):
        page.run("document.getElementById('theme').click()")
        colours.append((page.run("document.documentElement.dataset.theme"), page.run(paper)))
    found = dict(colours)
    assert set(found) == {"light", "dark", "auto"} and found["light"] != found["dark"]
    page.run("window.dispatchEvent(new Event('beforeprint'))")
    page.call("Emulation.setEmulatedMedia", media="print")
    assert page.run(paper) == "rgb(255, 255, 255)"
    still = "document.querySelector('.still')"
    assert page.run(f"{still}.decode().then(() => {still}.naturalWidth)") > 100
    page.call("Emulation.setEmulatedMedia", media="")


def test_every_control_has_a_name_and_rows_have_heads(page: Page):
    """What a screen reader reads: no button, field or picture without words; one h1; heads of rows and columns."""
    nodes = page.call("Accessibility.getFullAXTree")["nodes"]
    roles = ("button", "textbox", "searchbox", "radio", "combobox", "image", "application", "table")
    named = [(node["role"]["value"], node.get("name", {}).get("value", "")) for node in nodes if not node["ignored"]]
    controls = [(role, name) for role, name in named if role in roles]
    small = [name for role, name in controls if role == "table" and not name]
    assert [entry for entry in controls if not entry[1] and entry[0] != "table"] == [] and len(small) <= 3
    assert {"button", "searchbox", "radio", "image", "application"} <= {role for role, _ in controls}
    assert page.run("document.querySelectorAll('h1').length") == 1
    assert page.run("[...document.querySelectorAll('#table tbody tr')].every((row) => row.querySelector('th[scope=row]'))")


def test_the_folder_opens_from_a_disk(tab: Page, run: Path, tmp_path: Path):
    """`--split`: a job's data are asked for when it is opened, from the folder alone."""
    index = write_folder(run, tmp_path / "report").page
    tab.open(index.as_uri())
    tab.wait(f"location.href.includes('index.html') && {SHOWN}")
    asked = [Path(address).name for address in tab.requests()]
    assert asked[0] == "index.html" and sorted(asked[1:]) == ["job0-0.js", "job0.js"]
    tab.run("document.querySelectorAll('#table tbody button')[1].click()")
    tab.wait(f"{SHOWN} > 1")
    assert all(address.startswith(tmp_path.as_uri()) for address in tab.requests()) and tab.complaints() == []
    (tmp_path / "report/data/job0-1.js").unlink()
    tab.run("document.querySelector('#table tbody button').click()")
    tab.wait("document.querySelectorAll('input[name=sample]').length === 2")
    tab.run("document.querySelectorAll('input[name=sample]')[1].click()")
    tab.wait("document.querySelector('#job .note')?.textContent.includes('not in this page')")


def test_a_long_table_is_filled_as_it_is_scrolled(tab: Page, report: Path, tmp_path: Path):
    """Of 5,000 jobs a few are in the document at first; the rest come with scrolling, and all are found by a search."""
    text = report.read_text(encoding="utf-8")
    mark = '<script type="application/json" id="index">'
    head, _, rest = text.partition(mark)
    found, _, tail = rest.partition("</script>")
    index = json.loads(found)
    index["rows"] = [[f"job {k}", *index["rows"][3][1:]] for k in range(5000)]
    (tmp_path / "long.html").write_text(f"{head}{mark}{json_text(index)}</script>{tail}", encoding="utf-8")
    start = time.monotonic()
    tab.open((tmp_path / "long.html").as_uri())
    tab.wait("location.href.includes('long.html') && document.querySelectorAll('#table tbody tr').length")
    assert tab.run("document.querySelectorAll('#table tbody tr').length") < 300 and time.monotonic() - start < 120
    tab.run("document.getElementById('scroll').scrollTop = 1e9")
    tab.wait("document.querySelectorAll('#table tbody tr').length > 130")
    tab.run("(() => { const box = document.getElementById('search'); box.value = 'job 4999'; box.dispatchEvent(new Event('input')); })()")
    assert tab.run(NAMES) == ["job 4999"]
