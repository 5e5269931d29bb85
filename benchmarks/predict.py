"""Time and peak memory of `structgen predict` against length, as whole processes: python benchmarks/predict.py [--lengths 64 128 256 512].

Each row is one process with an empty store, so that nothing is reused: start, loading of the model, features, trunk, five samples and
writing. Prints the table of docs/performance.md.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

# Human serum albumin (UniProt P02768), the mature chain: long enough for every row, and real.
SEQUENCE = (
    "DAHKSEVAHRFKDLGEENFKALVLIAFAQYLQQCPFEDHVKLVNEVTEFAKTCVADESAENCDKSLHTLFGDKLCTVATLRETYGEMADCCAKQEPERNECFLQHKDDNPNLPRLVRPEVDVM"
    "CTAFHDNEETFLKKYLYEIARRHPYFYAPELLFFAKRYKAAFTECCQAADKAACLLPKLDELRDEGKASSAKQRLKCASLQKFGERAFKAWAVARLSQRFPKAEFAEVSKLVTDLTKVHTECC"
    "HGDLLECADDRADLAKYICENQDSISSKLKECCEKPLLEKSHCIAEVENDEMPADLPSLAADFVESKDVCKNYAEAKDVFLGMFLYEYARRHPDYSVVLLLRLAKTYETTLEKCCAAADPHEC"
    "YAKVFDEFKPLVEEPQNLIKQNCELFEQLGEYKFQNALLVRYTKKVPQVSTPTLVEVSRNLGKVGSKCCKHPEAKRMPCAEDYLSVVLNQLCVLHEKTPVSDRVTKCCTESLVNRRPCFSALE"
    "VDETYVPKEFNAETFTFHADICTLSEKERQIKKQTALVELVKHKPKATKEQLKAVMDDFAAFVEKCCKADDKETCFAEEGKKLVAASQAALGL"
)


def measure(length: int, options: list[str]) -> dict[str, float]:
    """Wall and CPU seconds, peak resident MiB, and the seconds of the fold stage, of one prediction of the first `length` residues."""
    with tempfile.TemporaryDirectory() as folder:
        fasta = Path(folder) / "job.fasta"
        fasta.write_text(f">albumin\n{SEQUENCE[:length]}\n", encoding="utf-8")
        command = [sys.executable, "-m", "workflows.cli", "predict", str(fasta), "--out", f"{folder}/run", "--store", f"{folder}/store"]
        started = time.monotonic()
        process = subprocess.Popen([*command, *options], stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.monotonic() - started
        if status:
            raise SystemExit(f"{' '.join(command)} failed with status {os.waitstatus_to_exitcode(status)}")
        run = json.loads(Path(folder, "run", "run.json").read_text(encoding="utf-8"))
        return {"wall": wall, "cpu": usage.ru_utime + usage.ru_stime, "mib": usage.ru_maxrss / 1024, "fold": fold_seconds(run)}


def fold_seconds(run: dict) -> float:
    """Seconds of the fold stage of the run's only job."""
    (job,) = run["jobs"].values()
    return float(sum(seed["seconds"] for seed in job["stages"]["fold"].values()))


def main() -> None:
    """Print one row a length."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lengths", type=int, nargs="+", default=[64, 128, 256, 512])
    parser.add_argument("--repeats", type=int, default=3)
    arguments, options = parser.parse_known_args()
    print("| residues | fold (s) | whole process (s) | CPU (s) | peak memory (MiB) |\n| --- | --- | --- | --- | --- |")
    for length in arguments.lengths:
        rows = [measure(length, options) for _ in range(arguments.repeats)]
        fold, wall, cpu, mib = (statistics.median(row[name] for row in rows) for name in ("fold", "wall", "cpu", "mib"))
        print(f"| {length} | {fold:.1f} | {wall:.1f} | {cpu:.1f} | {mib:.0f} |", flush=True)


if __name__ == "__main__":
    main()
