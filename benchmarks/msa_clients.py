"""The client of ColabFold's protocol beside public ones, unmodified, against one server on this machine: do all hand on the same A3M?

    python -m benchmarks.msa_clients boltz=ENV/bin/python colabfold=ENV/bin/python

Each argument names a client and the Python of an environment that has it. The server is busy first, then waits, and sees duplicates.
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from structgen.search.server import Answer, Query, ServerSettings, search_on_server
from structgen.search.server_http import Access, Http, Patience
from tests.search.colabfold_server import Behaviour, Stub, serving

SEQUENCES = ("MKTAYIAKQRQISFVKSHFSRQ", "GSHMLEDPVDAFKWW", "MKTAYIAKQRQISFVKSHFSRQ", "MVLSPADKTNVKAAWGKVGA")
CALLS = {
    "boltz": "from boltz.data.msa.mmseqs2 import run_mmseqs2 as run",
    "colabfold": "from colabfold.colabfold import run_mmseqs2 as run",
}
SCRIPT = """
import json, sys
{call}
arguments = json.loads(sys.argv[1])
found = run(arguments.pop("x"), arguments.pop("prefix"), **arguments)
json.dump(found, open(sys.argv[2], "w"))
"""
MODES: dict[str, tuple[dict[str, object], ServerSettings]] = {  # of the protocol: what the public clients call it, and what we do
    "env": ({}, ServerSettings()),
    "all": ({"use_env": False}, ServerSettings(environment=False)),
    "env-nofilter": ({"use_filter": False}, ServerSettings(filter=False)),
    "pairgreedy-env": ({"use_pairing": True}, ServerSettings()),
    "paircomplete": ({"use_pairing": True, "use_env": False, "pairing_strategy": "complete"},
                     ServerSettings(environment=False, pairing="complete")),
}  # fmt: skip


def theirs(python: str, call: str, stub: Stub, options: dict[str, object]) -> list[str]:
    """What a public client returns for every sequence, duplicates too."""
    with tempfile.TemporaryDirectory() as folder:
        arguments = {"x": SEQUENCES, "prefix": f"{folder}/x", "host_url": stub.host, **options}
        words = [python, "-c", SCRIPT.format(call=call), json.dumps(arguments), f"{folder}/out.json"]
        subprocess.run(words, check=True, cwd=folder, stdout=sys.stderr)
        return json.loads(Path(folder, "out.json").read_text())


def ours(stub: Stub, settings: ServerSettings, paired: bool) -> list[str]:
    """What structgen keeps for every sequence."""
    unique = tuple(dict.fromkeys(SEQUENCES))
    queries = [Query(unique, paired=True)] if paired else [Query((sequence,)) for sequence in unique]
    http = Http(stub.host, Access(), Patience(first_wait=0.1, longest_wait=0.5), random.Random(0), lambda text: None)
    found: Answer = {}
    for _, answer in search_on_server(http, settings, queries):
        assert isinstance(answer, dict), answer
        found |= answer
    return [gzip.decompress(found[sequence]).decode() for sequence in SEQUENCES]


def plain(text: str) -> str:
    """A query's number in a ticket is its place there and no part of the alignment: without it, without our keys and empty rows."""
    text = re.sub(r"^>\d+$", ">query", text, flags=re.MULTILINE)
    text = re.sub(r"^>pairing_key=server-\d+ ", ">", text, flags=re.MULTILINE)
    return re.sub(r"^>.*\n-+\n", "", text, flags=re.MULTILINE)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("clients", nargs="+", metavar="NAME=PYTHON")
    clients = dict(word.split("=", 1) for word in parser.parse_args().clients)
    print("| mode | client | alignments | equal, byte for byte | requests of it | of structgen |\n| --- | --- | --- | --- | --- | --- |")
    for mode, (options, settings) in MODES.items():
        for name, python in clients.items():
            with serving() as stub:
                stub.behaviour = Behaviour(posts=["ratelimit"])
                expected = theirs(python, CALLS[name], stub, options)
                asked = len(stub.requests)
                assert stub.requests[0].form["mode"] == mode
            with serving() as stub:
                stub.behaviour = Behaviour(posts=["ratelimit"])
                found = ours(stub, settings, mode.startswith("pair"))
                assert stub.requests[0].form["mode"] == mode
            equal = sum(plain(a) == plain(b) for a, b in zip(expected, found, strict=True))
            print(f"| {mode} | {name} | {len(expected)} | {equal} | {asked} | {len(stub.requests)} |", flush=True)


if __name__ == "__main__":
    main()
