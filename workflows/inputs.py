"""What is said of inputs without running them: `structgen validate`, and the same jobs in another format: `structgen convert-input`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from structgen.errors import ConfigError, InputError
from structgen.features.atoms import build_atoms
from structgen.features.job import DEFAULT_LIMITS, Alignments, Chain, Job, Kind
from structgen.features.slug import safe_slug
from structgen.features.tokens import check_size, tokenise
from structgen.io.jobs.formats import Format, format_named
from structgen.io.jobs.links import shown
from structgen.io.jobs.read import read_jobs
from structgen.io.jobs.reading import Options
from structgen.io.jobs.unsupported import unsupported
from structgen.io.jobs.written import Written
from structgen.search.given import own_alignment
from structgen.store import replace_file


@dataclass(frozen=True)
class Understood:
    """A job as it was understood, or why it cannot be used."""

    job: Job
    tokens: int = 0
    rows: Mapping[str, int] = field(default_factory=dict)  # of each chain's own alignment, the query among them
    notes: tuple[str, ...] = ()
    errors: tuple[InputError, ...] = ()


def understand(job: Job) -> Understood:
    """Build the job's molecules and read its alignments, without weights; every error of either is kept."""
    rows: dict[str, int] = {}
    errors: list[InputError] = []
    tokens, notes = 0, job.notes
    for chain in job.chains:
        try:
            msa = own_alignment(chain)
            rows |= {chain.id: len(msa.rows)} if msa else {}
        except InputError as error:
            errors.append(error)
    try:
        built = tokenise(build_atoms(job))
        tokens, notes = len(built.residue), (*notes, *built.structure.notes)
        check_size(built, DEFAULT_LIMITS.tokens, job.source)
    except InputError as error:
        errors.append(error)
    return Understood(job, tokens, rows, notes, tuple(errors))


def validate(inputs: Sequence[Path], options: Options, format: str, *, as_json: bool, console: Console) -> int:
    """Say what was understood of every job; returns the exit status, 2 where something cannot be used."""
    jobs, rejected = read_jobs(inputs, options, format=format)
    understood = [understand(job) for job in jobs]
    errors = [*rejected, *dict.fromkeys(error for one in understood for error in one.errors)]
    if as_json:
        document = {"jobs": [_document(one) for one in understood], "errors": [_error(error) for error in rejected]}
        console.out(json.dumps(document, indent=1, ensure_ascii=True), highlight=False)
        return 2 if errors else 0
    lines = [line for one in understood for line in _lines(one)]
    bad = sum(bool(one.errors) for one in understood) + len(rejected)
    waiting = sum(not one.errors and bool(unsupported(one.job)) for one in understood)
    lines += [f"{len(errors)} error{'s' * (len(errors) > 1)}:", *(f"  {error}" for error in errors)] if errors else []
    lines.append(
        f"{len(understood) + len(rejected) - bad} of {len(understood) + len(rejected)} understood, {waiting} of these cannot run yet"
    )
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    return 2 if errors else 0


def _lines(one: Understood) -> list[str]:
    """The account of a job for people."""
    job = one.job
    amount = f"{one.tokens:,} tokens" if one.tokens else f"{job.residues:,} residues"
    seeds = f"seeds {', '.join(map(str, job.seeds))}" if job.seeds else "seeds of the run"
    lines = [f"{job.slug}  ({job.source}): {len(job.chains)} chain{'s' * (len(job.chains) > 1)}, {amount}, {seeds}"]
    entities: dict[Any, list[Chain]] = {}
    for chain in job.chains:
        entities.setdefault((chain.content, chain.msa, chain.templates), []).append(chain)
    for chains in entities.values():
        lines.append(f"  {', '.join(chain.id for chain in chains)}  {_entity(chains[0], one.rows)}")
    lines += [f"  bond  {shown(bond.first)} to {shown(bond.second)}" for bond in job.bonds]
    lines += [f"  contact  {shown(c.first)} to {shown(c.second)} within {c.max_distance:g} A" for c in job.contacts]
    lines += [f"  pocket  {p.binder} at {', '.join(map(shown, p.contacts))} within {p.max_distance:g} A" for p in job.pockets]
    lines += [f"  affinity  of {job.affinity}"] if job.affinity else []
    lines += [f"  note  {note}" for note in one.notes]
    lines += [f"  not yet  {error.where.removeprefix(job.source + ': ')}: {error.message}" for error in unsupported(job)]
    return lines


def _entity(chain: Chain, rows: Mapping[str, int]) -> str:
    """What a chain is made of, in one line."""
    if chain.kind is Kind.LIGAND:
        return f"ligand  {'-'.join(chain.residues) or chain.smiles or chain.file}"
    parts = [f"{chain.kind.value}  {len(chain.sequence):,} residues"]
    parts += ["cyclic"] if chain.cyclic else []
    parts += [f"{m.code} at {m.position}" for m in chain.modifications]
    parts += [_msa(chain, rows)] if chain.msa is not None else []
    parts += [f"{len(chain.templates) or 'no'} template{'s' * (len(chain.templates) != 1)}"] if chain.templates is not None else []
    return ", ".join(parts)


def _msa(chain: Chain, rows: Mapping[str, int]) -> str:
    if chain.msa == Alignments():
        return "no MSA"
    return f"MSA of {rows[chain.id]:,} rows" if chain.id in rows else "MSA"


def _document(one: Understood) -> dict[str, Any]:
    """The account of a job for programs."""
    job = json.loads(one.job.to_json())
    for chain in job["chains"]:
        chain["msa_rows"] = one.rows.get(chain["id"])
        for given in [g for role in (chain["msa"] or {}).values() for g in role] + [t["structure"] for t in chain["templates"] or ()]:
            given["text"] = len(given["text"])  # characters: the text itself stands in the input
    job["components"] = [{**given, "text": len(given["text"])} for given in job["components"]]
    return job | {
        "tokens": one.tokens,
        "residues": one.job.residues,
        "notes": list(one.notes),
        "not_yet": [str(error) for error in unsupported(one.job)],
        "errors": [_error(error) for error in one.errors],
    }


def _error(error: InputError) -> dict[str, str]:
    parts = {name: getattr(error, name) for name in ("message", "where", "found", "expected", "remedy")}
    return parts | {"text": str(error)}


@dataclass(frozen=True)
class Conversion:
    """What `convert-input` is asked for."""

    inputs: tuple[Path, ...]
    to: str
    out: Path
    strict: bool = False  # a loss is an error
    format: str = ""
    options: Options = field(default_factory=Options)


def convert(wanted: Conversion, console: Console, losses: Console) -> int:
    """Write every job in another format, and say what that does not hold; returns the exit status."""
    target = format_named(wanted.to)
    jobs, errors = read_jobs(wanted.inputs, wanted.options, format=wanted.format)
    as_file = bool(wanted.out.suffix) and not wanted.out.is_dir()
    if as_file and len(jobs) > 1 and target.join is None:
        raise ConfigError(f"--out {wanted.out}: {len(jobs)} jobs of {target.holds.title} are a file each; give a folder")
    if as_file and len(jobs) == 1:  # what lies beside the file is called after it
        jobs = [replace(jobs[0], slug=safe_slug(wanted.out.name.removesuffix(wanted.out.suffix)))]
    written: list[tuple[Job, Written]] = []
    for job in jobs:
        one = _written(job, target, errors)
        if one is None:
            continue
        for loss in one.losses:
            losses.print(f"{job.source}: lost: {loss}", markup=False, highlight=False, soft_wrap=True)
        if wanted.strict and one.losses:
            remedy = "convert without --strict, or to a format that holds it"
            errors.append(InputError(f"{target.holds.title} does not hold the whole job", where=job.source, remedy=remedy))
        else:
            written.append((job, one))
    for path in _save(written, target, wanted, as_file=as_file):
        console.print(str(path), markup=False, highlight=False, soft_wrap=True)
    for error in errors:
        losses.print(f"structgen: {error}", markup=False, highlight=False, soft_wrap=True)
    return 2 if errors else 0


def _written(job: Job, target: Format, errors: list[InputError]) -> Written | None:
    """The job in the format, or None and an error where nothing of it is left."""
    try:
        one = target.write(job)
    except InputError as error:
        errors.append(error)
        return None
    left_out = sum(str(loss).endswith("is left out") for loss in one.losses)
    if left_out == len(job.chains):
        errors.append(InputError(f"{target.holds.title} holds no chain of the job", where=job.source, found=f"{left_out} left out"))
        return None
    return one


def _save(written: Sequence[tuple[Job, Written]], target: Format, wanted: Conversion, *, as_file: bool) -> list[Path]:
    """Write the files, none of them over an input or over each other; returns the paths of the jobs."""
    folder = wanted.out.parent if as_file else wanted.out
    files: dict[Path, bytes] = {}
    jobs: list[Path] = []

    def add(path: Path, data: bytes) -> None:
        if path in files:
            raise InputError("two files of one name", where=str(path), remedy="convert the inputs one by one")
        if path.resolve() in {given.resolve() for given in wanted.inputs}:
            raise ConfigError(f"--out: {path} is an input; choose another place")
        files[path] = data

    if as_file and target.join and written:
        jobs = [wanted.out]
        add(wanted.out, target.join([one.data for _, one in written]))
    for job, one in written:
        if not jobs or not as_file:
            jobs.append(wanted.out if as_file else folder / f"{job.slug}{target.suffix}")
            add(jobs[-1], one.data)
        for name, data in one.beside.items():
            add(folder / name, data)
    for path, data in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, data)
    return jobs
