"""The table of docs/fidelity.md: how far structgen's answers are from those of the public models' own packages.

Run from the root of the repository, with the Python of an environment for each peer (docs/fidelity.md says how to make them):

    python -m benchmarks.fidelity --protenix peer-protenix/bin/python --openfold3 peer-openfold3/bin/python

Ends with an error where a difference exceeds 1e-4 of the largest value.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess

TOLERANCE = 1e-4
Rows = dict[str, dict[str, float]]  # part, model: difference


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--protenix", required=True, metavar="PYTHON")
    parser.add_argument("--openfold3", required=True, metavar="PYTHON")
    arguments = parser.parse_args()
    peers = {"Protenix 2.0.0": ("protenix", arguments.protenix), "OpenFold3 0.5.0": ("openfold3", arguments.openfold3)}
    for title, (peer, python) in peers.items():
        rows = measured(python, f"benchmarks.fidelity_{peer}")
        print(f"\n### {title}\n\n{table(rows)}")
        worst = max(difference for models in rows.values() for difference in models.values())
        if not worst <= TOLERANCE:
            raise SystemExit(f"{title}: a difference of {worst:.1e} exceeds {TOLERANCE:.0e}")


def measured(python: str, module: str) -> Rows:
    """What the module prints in the peer's environment."""
    environment = os.environ | {"PYTHONPATH": os.getcwd(), "OMP_NUM_THREADS": "1"}
    output = subprocess.run([python, "-m", module], env=environment, check=True, stdout=subprocess.PIPE, text=True).stdout
    rows: Rows = {}
    for line in output.splitlines():
        if line.startswith("{"):
            row = json.loads(line)
            rows.setdefault(row["part"], {})[row["model"]] = row["difference"]
    return rows


def table(rows: Rows) -> str:
    """Markdown: a line a part, a column a model; the number of an algorithm leads its part."""
    models = list(dict.fromkeys(model for found in rows.values() for model in found))
    lines = ["| SI Algorithm | " + " | ".join(models) + " |", "|---|" + "---|" * len(models)]
    for part in sorted(rows, key=lambda part: (int(part.split()[0]) if part[0].isdigit() else 99, part)):
        shown = (f"{rows[part][model]:.1e}" if model in rows[part] else "-" for model in models)
        lines.append(f"| {part} | " + " | ".join(shown) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
