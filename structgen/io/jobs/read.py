"""Jobs from the files and folders that users give, whatever their format."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from structgen.errors import InputError
from structgen.features.job import Chain, Job
from structgen.features.slug import unique_slugs
from structgen.io.jobs.chai_table import SUFFIXES as TABLES
from structgen.io.jobs.chai_table import is_table_file
from structgen.io.jobs.detect import detect
from structgen.io.jobs.formats import FORMATS, format_named
from structgen.io.jobs.reading import Options, Source
from structgen.io.textfile import decode, files_in, read_text_bytes

SUFFIXES = (".fasta", ".fa", ".faa", ".json", ".yaml", ".yml")
MORE_SUFFIXES = (".csv", ".tsv", ".a3m")  # of a folder that holds none of the others: beside jobs they are alignments and restraints
DEFAULT_OPTIONS = Options()


def read_jobs(paths: Sequence[str | Path], options: Options = DEFAULT_OPTIONS, *, format: str = "") -> tuple[list[Job], list[InputError]]:
    """The jobs of files and of folders of them, in order, and an error for every file or record that is none.

    The format is found by content; `format` names it instead. Slugs are unique in the batch.
    """
    drafts: list[Job] = []
    errors: list[InputError] = []
    if format:
        format_named(format)
    for path in map(Path, paths):
        try:
            for file in job_files(path):
                if not _is_restraints_of(file, paths):
                    _read_file(file, options, format, drafts, errors)
        except InputError as error:
            errors.append(error)
    contents = [":".join(map(_content, job.chains)) for job in drafts]
    slugs = unique_slugs([job.name for job in drafts], contents)
    return [replace(job, slug=slug) for job, slug in zip(drafts, slugs, strict=True)], errors


def _content(chain: Chain) -> str:
    return chain.sequence or "_".join(chain.residues) or chain.smiles or chain.file


def job_files(path: Path) -> list[Path]:
    """The files that are read for an input: itself, or those of a folder. Raises `InputError` for a folder without any."""
    if not os.path.isdir(path):  # unlike Path.is_dir, false for what is too long to be a path
        return [path]
    found = files_in(path, SUFFIXES) or [file for file in files_in(path, MORE_SUFFIXES) if not is_table_file(file)]
    if not found:
        expected = f"files that end in {', '.join(SUFFIXES + MORE_SUFFIXES)} or one of these and .gz"
        raise InputError("folder holds no job file", where=str(path), expected=expected, remedy="name the files one by one")
    return found


def _is_restraints_of(file: Path, paths: Sequence[str | Path]) -> bool:
    """Whether a file is the table of restraints of another input, with which it is read."""
    if len(paths) < 2 or not file.name.endswith(TABLES) or not os.path.isfile(file):
        return False
    stem = next(file.name.removesuffix(suffix) for suffix in sorted(TABLES, key=len, reverse=True) if file.name.endswith(suffix))
    others = {path for path in map(Path, paths) if path != file and path.parent == file.parent}
    return any(path.name.removesuffix(".gz").rpartition(".")[0] == stem for path in others) and is_table_file(file)


def _read_file(file: Path, options: Options, format: str, jobs: list[Job], errors: list[InputError]) -> None:
    try:
        found = read_source(_source(file, options), format)
    except InputError as error:
        errors.append(error)
        return
    for job in found:
        if isinstance(job, InputError):
            errors.append(job)
        else:
            jobs.append(job)


def _source(file: Path, options: Options) -> Source:
    try:
        data = read_text_bytes(file)
    except InputError as error:
        if error.message != "file is empty":
            raise
        titles = ", ".join(format.holds.title for format in FORMATS.values())
        raise InputError(error.message, where=error.where, found=error.found, expected=titles, remedy=error.remedy) from error
    return Source(str(file), data.decode("utf-8", "surrogateescape"), Path(os.path.abspath(file)).parent, options)


def read_source(source: Source, format: str = "") -> list[Job | InputError]:
    """The jobs of one text, their slugs not chosen yet. Raises `InputError` where the text as a whole is wrong."""
    chosen = format_named(format) if format else None
    if chosen is None and not source.text.lstrip().startswith((">", "#")):
        decode(source.text.encode("utf-8", "surrogateescape"), source.file)
    chosen = chosen or detect(source)
    if chosen.name != "colabfold":  # there a byte that is not UTF-8 spoils its own record alone
        decode(source.text.encode("utf-8", "surrogateescape"), source.file)
    return chosen.read(source)
