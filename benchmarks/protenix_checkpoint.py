"""A full-size Protenix checkpoint with random weights: time and memory of converting and of loading it, each as a process of its own.

    python -m benchmarks.protenix_checkpoint --folder /tmp

The checkpoint is written by our own table read backwards. Anonymous memory is what a process holds itself; resident memory also counts
the pages of files that it has mapped, which the system takes back when it needs them.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from structgen.alphafold3 import protenix
from structgen.alphafold3.convert import revert
from structgen.alphafold3.convert_protenix import protenix_table
from structgen.alphafold3.model import AlphaFold3

POLL = 0.01  # seconds
LOAD = """
import sys, time
import torch
from structgen.alphafold3.model import load_model
start = time.perf_counter()
model = load_model(sys.argv[1])
ready = time.perf_counter()
with torch.no_grad():
    total = sum(float(tensor.abs().max()) for tensor in model.network.state_dict().values())
print(f"{ready - start:.2f} {time.perf_counter() - start:.2f}")
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="Where two files of 1.5 GB may lie for a minute.")
    parser.add_argument("--write", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.write:
        return write(arguments.write)
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        source, out = Path(folder) / "base.pt", Path(folder) / "base.safetensors"
        subprocess.run([sys.executable, "-m", "benchmarks.protenix_checkpoint", "--write", str(source)], check=True)
        print(f"checkpoint: {source.stat().st_size / 2**20:.0f} MiB; memory in MiB\n")
        print("| process | wall s | peak anonymous | peak resident |\n|---|---|---|---|")
        watch("structgen convert", [sys.executable, "-m", "workflows.cli", "convert", str(source), str(out)])
        said = watch("load_model, and every weight read", [sys.executable, "-c", LOAD, str(out)])
        ready, read = said.split()
        print(f"\nloading alone: {ready} s; with every weight read: {read} s")


def write(path: Path) -> None:
    """protenix_base_default_v1.0.0 with random weights, as Protenix saves it."""
    network = AlphaFold3(protenix.base_v1())
    torch.save({"model": revert(network.state_dict(), protenix_table(network.config))}, path)


def watch(name: str, command: list[str]) -> str:
    """Print a row for the process; returns what it printed."""
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    anonymous = resident = 0.0
    while process.poll() is None:
        anonymous, resident = (max(*pair) for pair in zip((anonymous, resident), memory(process.pid), strict=True))
        time.sleep(POLL)
    print(f"| {name} | {time.perf_counter() - start:.1f} | {anonymous:.0f} | {resident:.0f} |", flush=True)
    if process.returncode:
        raise SystemExit(f"{name} failed")
    return process.stdout.read() if process.stdout else ""


def memory(pid: int) -> tuple[float, float]:
    """Anonymous and resident MiB of a process, 0 once it has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0.0, 0.0
    sizes = {line.split(":")[0]: float(line.split()[1]) / 1024 for line in lines if line.startswith("Rss") or line.startswith("VmRSS")}
    return sizes.get("RssAnon", 0.0), sizes.get("VmRSS", 0.0)


if __name__ == "__main__":
    main()
