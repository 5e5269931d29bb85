"""Whether the programs that read AlphaFold 3's results read ours: each is run on the same folder of results.

In an environment of its own with the readers (docs/fidelity.md says how to make it), on the folder of one job:

    readers/bin/python -m benchmarks.readers runs/RUN/JOB

Prints a table: what each reader said last, and its exit status. Ends with an error where one fails.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

AF_ANALYSIS = """
import sys
import af_analysis
from af_analysis import analysis

data = af_analysis.Data(sys.argv[1], format="AF3_local")
for method in (analysis.ipSAE, analysis.pdockq, analysis.LIS_matrix):
    data = method(data) or data
print(len(data.df), "models,", sum(name.startswith("ipSAE") for name in data.df.columns), "columns of ipSAE; ipTM", list(data.df["ipTM"]))
"""


def commands(job: Path, folder: Path) -> dict[str, list[str | Path]]:
    """The reader's command on a copy of the job's folder; `folder` is empty and takes what a reader writes."""
    best, judged = job / f"{job.name}_model.cif", folder / "judged.csv"
    tools = Path(sys.executable).parent
    return {
        "foldmetrics": [tools / "foldmetrics", "score", job],
        "alphajudge": [tools / "alphajudge", job, "--skip_pae_png", "--no-report", "--skip_biophysical_scores", "-o", judged],
        "alphacert": [tools / "alphacert", "assess", "-i", best, "-o", folder / "certificate"],
        "foldreport": [tools / "foldreport", "-o", folder / "report.html", "--csv", folder / "report.csv", job],
        "af-analysis": [sys.executable, "-c", AF_ANALYSIS, job.parent],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("job", type=Path, help="Folder of one job's results.")
    job = parser.parse_args().job.resolve()
    print("| reader | version | exit status | its last words |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(shutil.copytree(job, Path(scratch, "run", job.name)))
        Path(scratch, "out").mkdir()
        failed = [name for name, command in commands(copy, Path(scratch, "out")).items() if row(name, command)]
    if failed:
        raise SystemExit(f"not read by {', '.join(failed)}")


def row(name: str, command: list[str | Path], say: Callable[[str], None] = print) -> int:
    """Run a reader and print its row; returns its exit status."""
    done = subprocess.run([str(word) for word in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    words = [line.strip() for line in done.stdout.splitlines() if any(letter.isalnum() for letter in line)]
    say(f"| {name} | {version(name)} | {done.returncode} | {words[-1][:150].replace('|', ' ') if words else ''} |")
    return done.returncode


if __name__ == "__main__":
    main()
