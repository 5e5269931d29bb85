"""The report in a real browser: its picture for the docs, and how fast one of hundreds of jobs opens.

    python -m benchmarks.report picture runs/7wux docs/report.png
    python -m benchmarks.report speed runs/demo --jobs 500

`speed` makes a run of that many jobs from the jobs of a real one: their results under new names, with ranking scores of their own.
Times are the browser's own (Performance API), counted from the start of the navigation, medians of `--repeats` fresh browsers.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.browser import Page, browse
from structgen.report import Written, write_folder, write_page

TIMES = """(() => {
  const [entry] = performance.getEntriesByType('navigation');
  const paint = performance.getEntriesByName('first-contentful-paint')[0];
  return { 'table in the document': performance.getEntriesByName('table-shown')[0].startTime, 'first paint': paint && paint.startTime,
           'DOMContentLoaded': entry.domContentLoadedEventEnd, 'first job shown': performance.getEntriesByName('job-shown')[0].startTime };
})()"""
SORT = """(() => { const start = performance.now(); document.querySelector('th[data-key=plddt] button').click();
  document.body.offsetHeight; return performance.now() - start; })()"""
SEARCH = """(() => { const start = performance.now(), box = document.getElementById('search'); box.value = 'job-0041';
  box.dispatchEvent(new Event('input')); document.body.offsetHeight; return performance.now() - start; })()"""
OPEN = """new Promise((done) => { const start = performance.now();
  document.addEventListener('structure-shown', () => done(performance.now() - start), { once: true });
  document.querySelectorAll('#table tbody button')[%d].click(); })"""


def many(run: Path, folder: Path, jobs: int) -> Path:
    """A run of `jobs` jobs at `folder`: copies of the finished jobs of `run`, in turn, as `job-0000` and so on."""
    document = json.loads((run / "run.json").read_text())
    originals = [slug for slug in document["jobs"] if (run / slug / f"{slug}_manifest.json").is_file()]
    rng, accounts = random.Random(0), {}
    for k in range(jobs):
        original, slug = originals[k % len(originals)], f"job-{k:04d}"
        _copy(run / original, folder / slug, original, slug, shift=rng.uniform(-0.1, 0.1))
        accounts[slug] = document["jobs"][original] | {"name": f"{document['jobs'][original]['name']} {k}"}
    (folder / "run.json").write_text(json.dumps(document | {"jobs": accounts}))
    return folder


def _copy(source: Path, target: Path, old: str, new: str, shift: float) -> None:
    shutil.copytree(source, target)
    for path in sorted(target.rglob(f"{old}_*")):
        path.rename(path.with_name(new + path.name[len(old) :]))
    path = target / f"{new}_manifest.json"
    manifest = json.loads(path.read_text())
    manifest["ranking"] = [[seed, sample, score + shift] for seed, sample, score in manifest["ranking"]]
    path.write_text(json.dumps(manifest))


def opened(page: Page, path: Path) -> dict[str, float]:
    """Milliseconds until the page at `path` was usable, and what the first interactions took."""
    page.resize(1400, 1000)
    page.call("Performance.enable", timeDomain="threadTicks")
    page.open(path.as_uri())
    page.wait("document.querySelector('.stage canvas') && performance.getEntriesByName('job-shown').length")
    metrics = {entry["name"]: entry["value"] for entry in page.call("Performance.getMetrics")["metrics"]}
    times = dict(page.run(TIMES)) | {"processor time of the page": 1000 * metrics["TaskDuration"]}
    return times | {"sort": page.run(SORT), "open another job": page.run(OPEN % 7), "search": page.run(SEARCH)}


def speed(run: Path, jobs: int, repeats: int) -> None:
    """Print a table in Markdown."""
    with tempfile.TemporaryDirectory(prefix="structgen-report-") as folder:
        made = many(run, Path(folder) / "run", jobs)
        rows = [("one page", *_written(write_page, made, made.parent / "page.html"))]
        rows += [("`--split`", *_written(write_folder, made, made.parent / "split"))]
        print(f"| {jobs} jobs | written in (s) | size (MB) | samples with structure |\n| --- | --- | --- | --- |")
        for name, written, seconds in rows:
            print(f"| {name} | {seconds:.1f} | {written.size / 1e6:.1f} | {written.samples} of {written.samples + written.left_out} |")
        found = {name: [_once(written.page) for _ in range(repeats)] for name, written, _ in rows}
    print(f"\n| milliseconds, median of {repeats} | one page | `--split` |\n| --- | --- | --- |")
    for what in found["one page"][0]:
        medians = [statistics.median(times[what] for times in all_times) for all_times in found.values()]
        print(f"| {what} | " + " | ".join(f"{value:.0f}" for value in medians) + " |")


def _written(write: Any, run: Path, to: Path) -> tuple[Written, float]:
    start = time.process_time()
    return write(run, to), time.process_time() - start


def _once(page: Path) -> dict[str, float]:
    with browse(timeout=120) as tab:
        return opened(tab, page)


def picture(run: Path, out: Path, job: str, theme: str, width: int, height: int) -> None:
    """A PNG of the page with one job open."""
    with tempfile.TemporaryDirectory(prefix="structgen-report-") as folder, browse() as page:
        path = write_page(run, Path(folder) / "report.html").page
        page.resize(width, height)
        page.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": theme}])
        page.open(f"{path.as_uri()}#{job}")
        page.wait("performance.getEntriesByName('job-shown').length")
        page.picture(out, width, height)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    drawn = commands.add_parser("picture")
    drawn.add_argument("run", type=Path)
    drawn.add_argument("out", type=Path)
    drawn.add_argument("--job", default="")
    drawn.add_argument("--theme", choices=("light", "dark"), default="light")
    drawn.add_argument("--width", type=int, default=1400)
    drawn.add_argument("--height", type=int, default=1500)
    timed = commands.add_parser("speed")
    timed.add_argument("run", type=Path)
    timed.add_argument("--jobs", type=int, default=500)
    timed.add_argument("--repeats", type=int, default=5)
    given = parser.parse_args()
    if given.command == "picture":
        picture(given.run, given.out, given.job, given.theme, given.width, given.height)
    else:
        speed(given.run, given.jobs, given.repeats)


if __name__ == "__main__":
    main()
