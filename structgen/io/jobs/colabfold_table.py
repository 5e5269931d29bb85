"""ColabFold's CSV or TSV: `id`, `sequence`, and optionally `a3mpath` and `templatepath`; one line is one job."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from structgen.errors import InputError
from structgen.features.job import Alignments, Chain, Given, Job, Kind, Template
from structgen.io.jobs.beside import Beside
from structgen.io.jobs.colabfold import chains_of, joined, printable
from structgen.io.jobs.colabfold_a3m import COUNTS, columns_of
from structgen.io.jobs.counted import require_new_name
from structgen.io.jobs.holds import Holds, hold
from structgen.io.jobs.links import whole_job
from structgen.io.jobs.reading import Reading, Source
from structgen.io.jobs.templates import check_template
from structgen.io.jobs.written import Written
from structgen.io.textfile import decode, read_text_bytes

HOLDS = Holds(
    title="ColabFold CSV",
    several_jobs=True,
    name="line",
    ids="order",
    modifications=False,
    alignments=("unpaired",),
    templates=("structure", "pdb"),
)
_COLUMNS = ("id", "sequence", "a3mpath", "templatepath")
HEADER = re.compile(r'"?id"? *[,\t] *"?sequence"? *(?=[,\t\r\n]|$)', re.IGNORECASE)


def read(source: Source) -> list[Job | InputError]:
    """A job for each line."""
    jobs: list[Job | InputError] = []
    names: dict[str, tuple[int, str]] = {}
    for number, (line, row) in enumerate(table_rows(source.text, source.file, _COLUMNS, ("id", "sequence")), 1):
        reading = Reading(source, f"line {line} ({printable(row['id'])[:60]})")
        try:
            jobs.append(_job(reading, row))
            require_new_name(reading, number, row["id"].strip(), names)
        except InputError as error:
            jobs.append(error)
    return jobs


def table_rows(text: str, where: str, known: tuple[str, ...], required: tuple[str, ...]) -> Iterator[tuple[int, Mapping[str, str]]]:
    """Line number and entries of every row of a table with a header, commas or tabs between columns."""
    first = text.partition("\n")[0]
    reader = csv.reader(io.StringIO(text, newline=""), delimiter="\t" if "\t" in first and "," not in first else ",", strict=True)
    try:
        header = [name.strip() for name in next(reader)]
        for name in header:
            if name not in known or header.count(name) > 1:
                expected = f"each once of {', '.join(known)}"
                raise InputError("column is not known", where=f"{where}: line 1", found=repr(name[:40]), expected=expected)
        if missing := [name for name in required if name not in header]:
            raise InputError("column is missing", where=f"{where}: line 1", found=", ".join(header), expected=missing[0])
        for row in reader:
            if not any(cell.strip() for cell in row):
                continue
            if len(row) != len(header):
                found, expected = f"{len(row)} columns", f"{len(header)} as in the header"
                raise InputError("row has another width", where=f"{where}: line {reader.line_num}", found=found, expected=expected)
            yield reader.line_num, dict(zip(header, row, strict=True))
    except csv.Error as error:
        raise InputError(f"not a table: {error}", where=f"{where}: line {reader.line_num}", expected="CSV or TSV") from error
    except StopIteration:
        raise InputError("table is empty", where=where, expected="a header and rows") from None


def _job(reading: Reading, row: Mapping[str, str]) -> Job:
    name = printable(row["id"])
    if not name:
        raise InputError("id is empty", where=reading.where, expected="a name")
    chains = chains_of(reading, re.sub(r"\s", "", row["sequence"]))
    if row.get("a3mpath", "").strip():
        chains = _aligned(reading, chains, row["a3mpath"].strip())
    if row.get("templatepath", "").strip():
        template = Template(reading.named_file(row["templatepath"].strip(), f"{reading.where}: templatepath"))
        check_template(template, f"{reading.where}: templatepath")
        chains = [replace(chain, templates=(template,)) if chain.kind is Kind.PROTEIN else chain for chain in chains]
    return whole_job(reading, name, chains)


def _aligned(reading: Reading, chains: list[Chain], path: str) -> list[Chain]:
    """The chains with their columns of an alignment of the whole complex, or of the only protein."""
    where = f"{reading.where}: a3mpath"
    given = reading.named_file(path, where)
    text = decode(read_text_bytes(Path(given.path)), given.path)
    proteins = list(dict.fromkeys(chain.sequence for chain in chains if chain.kind is Kind.PROTEIN))
    if COUNTS.match(text):
        by_sequence = {sequence: msa for sequence, _, msa in columns_of(text, given.path)}
    elif len(proteins) == 1:
        by_sequence = {proteins[0]: Alignments((given,))}
    else:
        found = f"{len(proteins)} different chains, and no line with their lengths in {given.path}"
        raise InputError("alignment of several chains lacks their lengths", where=where, found=found, expected="#L1,L2<tab>C1,C2")
    if missing := [sequence for sequence in proteins if sequence not in by_sequence]:
        found = f"chain {missing[0][:20]}... is none of its {len(by_sequence)}"
        raise InputError("alignment is not that of the chains", where=where, found=found, expected="the chains of the line")
    return [replace(chain, msa=by_sequence[chain.sequence]) if chain.kind is Kind.PROTEIN else chain for chain in chains]


def write(job: Job) -> Written:
    """The job as a table of one line; an alignment that was given as text becomes a file beside it."""
    proteins = [chain for chain in job.chains if chain.kind is Kind.PROTEIN]
    alone = len({(chain.sequence, chain.msa) for chain in proteins}) == 1
    shared = {chain.templates for chain in proteins}
    same = len(shared) == 1 and all(templates and len(templates) == 1 for templates in shared)
    holds = replace(HOLDS, alignments=HOLDS.alignments if alone else (), templates=HOLDS.templates if same else ())
    job, losses = hold(job, holds)
    beside, row = Beside(job), {"id": job.name, "sequence": joined(replace(job, chains=tuple(map(_plain, job.chains))))}
    protein = next((chain for chain in job.chains if chain.kind is Kind.PROTEIN), None)
    if protein and protein.msa:
        row["a3mpath"] = beside.name(_first(protein.msa), "msa", ".a3m")
    if protein and protein.templates:
        row["templatepath"] = beside.name(protein.templates[0].structure, "template", ".cif")
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, row, lineterminator="\n")
    writer.writeheader()
    writer.writerow(row)
    return Written(text.getvalue().encode(), losses, beside.files)


def _plain(chain: Chain) -> Chain:
    return replace(chain, msa=None, templates=None)


def _first(msa: Alignments) -> Given:
    return msa.unpaired[0]
