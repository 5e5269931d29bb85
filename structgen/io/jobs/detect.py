"""Which format a text is in, by its content. Two formats that fit are an error that names both."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from structgen.errors import InputError
from structgen.features.job import Job
from structgen.io.fasta import parse_fasta
from structgen.io.jobs.boltz_fasta import HEADER as BOLTZ_HEADER
from structgen.io.jobs.chai import HEADER as CHAI_HEADER
from structgen.io.jobs.chai_table import is_table
from structgen.io.jobs.colabfold_a3m import COUNTS
from structgen.io.jobs.colabfold_table import HEADER as TABLE_HEADER
from structgen.io.jobs.formats import FORMATS, Format
from structgen.io.jobs.json_text import parse_json
from structgen.io.jobs.reading import Source
from structgen.io.jobs.value import Value

_JSON = re.compile(r"\s*(?:[\[{]|//|/\*)")
_YAML = re.compile(r"(?:\s*(?:#[^\n]*)?\n)*(?:---|%YAML|(?:\"?(?:version|sequences|constraints|templates|properties)\"?)\s*:)")
_ONLY_SERVER = {"glycans", "useStructureTemplate", "maxTemplateDate"}
_ONLY_PROTENIX = {"id", "unpairedMsaPath", "pairedMsaPath", "templatesPath", "msa"}
_COLUMN = re.compile("[A-Z-]")


def detect(source: Source) -> Format:
    """The format of a source. Raises `InputError` where none or more than one fits."""
    text = source.text
    if _JSON.match(text):
        return _json(source)
    if _YAML.match(text):
        return FORMATS["boltz"]
    if COUNTS.match(text):
        return FORMATS["colabfold-a3m"]
    if is_table(text):
        remedy = "give the FASTA file of the same name; the table beside it is read with it"
        raise InputError("a table of restraints is no job", where=source.file, found="Chai's table", remedy=remedy)
    if TABLE_HEADER.match(text):
        return FORMATS["colabfold-csv"]
    return _fasta(source)


def _json(source: Source) -> Format:
    root = parse_json(source.text, source.file)
    if isinstance(root.data, list):
        return _list(source, root.data)
    keys = set(root.data) if isinstance(root.data, dict) else set()
    fitting = [FORMATS["openfold3"]] if "queries" in keys else []
    if "dialect" in keys or "sequences" in keys:
        dialect = root.data["dialect"].data if isinstance(root.data, dict) and "dialect" in keys else ""
        fitting.append(FORMATS["server" if dialect == "alphafoldserver" else "alphafold3"])
    if not fitting:
        found = f"an object with the keys {', '.join(sorted(keys)[:6])}" if keys else "an object without keys"
        expected = "dialect (AlphaFold 3), queries (OpenFold3), or a list of jobs (AlphaFold Server, Protenix)"
        raise InputError("JSON is not a job of a known format", where=source.file, found=found, expected=expected)
    return _only(source, fitting)


def _list(source: Source, jobs: Sequence[Value]) -> Format:
    """AlphaFold Server's or Protenix's list, by what only one of them says; else both must read the same jobs."""
    said = [job.data for job in jobs if isinstance(job.data, dict)]
    dialects = {str(job["dialect"].data) for job in said if "dialect" in job}
    if "alphafold3" in dialects:
        return FORMATS["alphafold3"]
    server, uncounted = bool(dialects), False
    protenix = any("covalent_bonds" in job or "constraint" in job or "assembly_id" in job for job in said)
    for key, element in (entry for job in said for entry in _elements(job)):
        server |= bool(_ONLY_SERVER & set(element))
        uncounted |= "count" not in element
        ligand = element[key].data if key == "ligand" and key in element else ""
        special = isinstance(ligand, str) and bool(ligand) and not re.fullmatch("CCD_[A-Z0-9]{1,5}", ligand)
        protenix |= bool(_ONLY_PROTENIX & set(element)) or special
    server |= uncounted and not protenix  # Protenix asks for the count
    if server != protenix:
        return FORMATS["server" if server else "protenix"]
    both = [FORMATS["server"], FORMATS["protenix"]]
    return both[0] if not server and _read_alike(source, both) else _only(source, both)


def _elements(job: dict[str, Value]) -> list[tuple[str, dict[str, Value]]]:
    """Kind and entries of every element that has the form of one."""
    sequences = job["sequences"].data if "sequences" in job else []
    elements = [element.data for element in sequences if isinstance(element.data, dict)] if isinstance(sequences, list) else []
    return [(key, value.data) for element in elements for key, value in element.items() if isinstance(value.data, dict)]


def _read_alike(source: Source, formats: Sequence[Format]) -> bool:
    """Whether the formats give the same jobs of a text, or the same number of errors and jobs."""
    first, second = ([_plain(job) for job in format.read(source)] for format in formats)
    return first == second


def _plain(job: Job | InputError) -> Job | None:
    return None if isinstance(job, InputError) else replace(job, notes=())


def _fasta(source: Source) -> Format:
    records, _ = parse_fasta(source.text, source.file)
    headers = [record.header for record in records]
    fitting = [
        FORMATS[name]
        for name, pattern in (("chai", CHAI_HEADER), ("boltz-fasta", BOLTZ_HEADER))
        if any(pattern.fullmatch(header) for header in headers)
    ]
    if len(fitting) == 2:  # some header fits both, or each fits some: take the one that fits all, if only one does
        whole = [f for f, p in zip(fitting, (CHAI_HEADER, BOLTZ_HEADER), strict=True) if all(map(p.fullmatch, headers))]
        fitting = whole if len(whole) == 1 else fitting
    if fitting:
        return _only(source, fitting)
    if len(records) > 1 and any("-" in record.sequence for record in records[1:]) and "-" not in records[0].sequence:
        widths = {len(_COLUMN.findall(record.sequence)) for record in records}
        if len(widths) == 1:
            return FORMATS["colabfold-a3m"]
    suffix = source.file.lower().removesuffix(".gz").endswith(".a3m")
    return FORMATS["colabfold-a3m" if suffix else "colabfold"]


def _only(source: Source, fitting: Sequence[Format]) -> Format:
    if len(fitting) == 1:
        return fitting[0]
    titles = " and ".join(format.holds.title for format in fitting)
    remedy = " or ".join(f"--format {format.name}" for format in fitting)
    raise InputError("format is not clear", where=source.file, found=f"both {titles}", expected="one", remedy=f"say {remedy}")
