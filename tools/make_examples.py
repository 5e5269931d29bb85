"""Write data/examples: the demo's sequences, their alignments, and a slice of a sequence database.

    python tools/make_examples.py SEQDB.fasta.gz

SEQDB is a protein FASTA whose headers start with `part|accession`; data/README.md says which. Only UniProt parts (CC-BY-4.0) enter
the slice: every homologue of the demo's chains and each 40th other sequence of at most 400 residues.
"""

from __future__ import annotations

import gzip
import io
import sys
from pathlib import Path

from structgen.io.a3m import write_a3m
from structgen.io.fasta import Record, read_fasta
from structgen.io.jobs.read import read_jobs
from structgen.search.hmmer import JackhmmerSettings, load_database, search

EXAMPLES = Path(__file__).parents[1] / "data" / "examples"
UNIPROT_PARTS = ("sprot_human", "ecoli_k12")
ALIGNMENTS = {"ubiquitin": ("ubiquitin",), "insulin": ("insulin_a", "insulin_b")}
DEMO = """\
# The whole way from a sequence to ranked structures: one monomer and one complex of two chains.
>ubiquitin
MQIFVKTLTGKTITLEVEPSDTIENVKAKIQDKEGIPPDQQRLIFAGKQLEDGRTLSDYNIQKESTLHLVLRLRGG
>insulin
GIVEQCCTSICSLYQLENYCN:
FVNQHLCGSHLVEALYLVCGERGFFYTPKT
"""


def main() -> None:
    """Everything anew from the database; the same bytes every time."""
    database = load_database(Path(sys.argv[1]))
    (EXAMPLES / "demo.fasta").write_text(DEMO)
    found: set[str] = set()
    for job in read_jobs([EXAMPLES / "demo.fasta"])[0]:
        for name, chain in zip(ALIGNMENTS[job.name], job.chains, strict=True):
            alignment = search(chain.sequence, database, JackhmmerSettings())
            (EXAMPLES / "msas" / f"{name}.a3m").write_bytes(write_a3m(alignment))
            found |= {description.split("/")[0] for description in alignment.descriptions}
    records = [r for r in read_fasta(Path(sys.argv[1]))[0] if r.header.startswith(UNIPROT_PARTS)]
    chosen = [r for i, r in enumerate(records) if r.header.split()[0] in found or (i % 40 == 0 and len(r.sequence) <= 400)]
    (EXAMPLES / "seqdb.fasta.gz").write_bytes(_packed(chosen))


def _packed(records: list[Record]) -> bytes:
    """FASTA as gzip without a time stamp."""
    packed = io.BytesIO()
    with gzip.GzipFile(fileobj=packed, mode="wb", filename="", mtime=0) as file:
        file.write("".join(f">{r.header}\n{r.sequence}\n" for r in records).encode())
    return packed.getvalue()


if __name__ == "__main__":
    main()
