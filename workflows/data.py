"""`structgen data`: archives, alignments, held-out chains and structure libraries. Everything goes on where it stopped."""

from __future__ import annotations

import gzip
import json
import logging
from collections.abc import Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from structgen.errors import ConfigError, InputError
from workflows.options import exit_status

app = typer.Typer(no_args_is_help=True, help="Training data: archives of structures, alignments, held-out chains, structure libraries.")
logger = logging.getLogger(__name__)
ClusterOption = Annotated[str, typer.Option(metavar="local|auto|ADDRESS", help="Run on Ray; in this process when not given.")]
SetOption = Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Any setting, e.g. filters.max_resolution=4.")]


@app.command(no_args_is_help=True)
def build(
    out: Annotated[Path, typer.Argument(metavar="OUT.zarr", help="The archive; an unfinished one is gone on with.")],
    mmcif: Annotated[Path | None, typer.Option(metavar="DIR", help="Folder of mmCIF files, however nested.")] = None,
    chains: Annotated[Path | None, typer.Option(metavar="DIR|FILE", help="Compact set of chains: chains.npz or its folder.")] = None,
    holdout: Annotated[Path | None, typer.Option(metavar="TSV", help="Chains that leave training; see `structgen data homologs`.")] = None,
    msas: Annotated[Path | None, typer.Option(metavar="DIR", help="Alignments of `structgen data profiles`.")] = None,
    licences: Annotated[Path | None, typer.Option(metavar="TSV", help="Licences of the sources of a set of chains.")] = None,
    without: Annotated[str, typer.Option(metavar="SOURCE,...", help="Sources of the set of chains that are left out.")] = "",
    cluster: ClusterOption = "",
    set_: SetOption = None,
) -> None:
    """Build a training archive: parse, filter, cluster, split, find relatives. The same command again goes on where it stopped."""
    with exit_status():
        from structgen.configuration import from_mapping
        from structgen.data.build import BuildSettings
        from structgen.data.deposit import Filters
        from structgen.data.sources import ChainSource, DepositSource, Evidence
        from structgen.settings import parse_assignments

        if (mmcif is None) == (chains is None):
            raise ConfigError("give either --mmcif DIR or --chains FILE")
        choices = parse_assignments(set_ or [])
        evidence = from_mapping(Evidence, choices.pop("evidence", {}) | ({"folder": str(msas.resolve())} if msas else {}), "evidence")
        filters = from_mapping(Filters, choices.pop("filters", {}), "filters")
        size = choices.pop("part_size", None)
        shared: dict[str, Any] = {"evidence": evidence} | ({"size": size} if size else {})
        source: ChainSource | DepositSource
        if chains is not None:
            folder = chains.resolve().parent if chains.is_file() else chains.resolve()
            shared |= {"holdout": str(holdout.resolve())} if holdout else {}
            shared |= {"licences": str(licences.resolve())} if licences else {}
            source = ChainSource(str(folder), without=tuple(filter(None, without.split(","))), **shared)
        else:
            source = DepositSource(str(mmcif.resolve()), filters=filters, **shared)  # type: ignore[union-attr]
        run_build(out.resolve(), source, from_mapping(BuildSettings, choices, "settings"), cluster, Console())


def run_build(out: Path, source: Any, settings: Any, cluster: str, console: Console) -> dict[str, Any]:
    """All steps of a build; returns its facts."""
    from structgen.data import build as steps
    from structgen.data.archive import read_mark
    from structgen.data.parts import MARK
    from structgen.manifest import run_lock

    out.parent.mkdir(parents=True, exist_ok=True)
    steps.begin(out, source, settings)
    with run_lock(out):
        if (out / MARK).exists():
            console.print(f"{out}: complete")
            return read_mark(out)["facts"]
        parts = source.parts()
        _all(partial(steps.write_entries, out, source), parts, cluster, console, "entries")
        steps.write_index(out, parts, settings)
        _all(partial(_relatives, out, parts, settings.relatives), parts, cluster, console, "relatives")
        facts = steps.finish(out, parts)
    console.print(f"{out}: {sum(split['entries'] for split in facts['splits'].values()):,} entries in {parts} parts")
    return facts


def _relatives(out: Path, parts: int, settings: Any, part: int) -> None:
    from structgen.data.build import write_relatives

    write_relatives(out, parts, part, settings)


def _all(work: Any, parts: int, cluster: str, console: Console, what: str) -> None:
    from workflows.parallel import each

    for done, _ in enumerate(each(work, range(parts), cluster), 1):
        console.print(f"{what}: {done} of {parts} parts", highlight=False)


@app.command(no_args_is_help=True)
def encode(
    pictures: Annotated[Path, typer.Argument(metavar="FILE|DIR", help="A set of pictures or clips: .npz, or a folder.")],
    codec: Annotated[Path, typer.Argument(metavar="CODEC.safetensors", help="Made by `structgen train` of kind codec.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder of the latents; an unfinished one is gone on with.")],
    frames: Annotated[int, typer.Option(min=0, help="Of every clip; 0: all.")] = 0,
    side: Annotated[int, typer.Option(min=1, help="To which pictures of a folder are scaled.")] = 64,
    cluster: ClusterOption = "",
) -> None:
    """Encode pictures or clips to latents in zarr parts, for `structgen train` of kind generator with --data OUT."""
    with exit_status():
        from structgen.tasks import latents

        encoding = latents.Encoding(pictures.resolve(), codec.resolve(), frames, side)
        latents.claim(out, encoding)
        parts = encoding.parts()
        _all(partial(latents.encode_part, out.resolve(), encoding), parts, cluster, Console(), "latents")
        facts = latents.finish(out.resolve(), encoding, parts)
        Console().print(f"{out}: latents of {facts['count']:,} pictures in {parts} parts", highlight=False)


@app.command(no_args_is_help=True)
def recaption(
    pictures: Annotated[Path, typer.Argument(metavar="FILE|DIR", help="A set of pictures or clips: .npz, or a folder.")],
    captioner: Annotated[Path, typer.Argument(metavar="CAPTIONER", help="`digits_captioner`, or a file made by `structgen train`.")],
    out: Annotated[Path, typer.Argument(metavar="OUT.npz", help="The set with new captions.")],
    share: Annotated[float, typer.Option(min=0, max=1, help="Of the training pictures; the rest keep their own captions.")] = 0.95,
    seed: Annotated[int, typer.Option(help="Which keep their own.")] = 0,
    side: Annotated[int, typer.Option(min=1, help="To which pictures of a folder are scaled.")] = 64,
    cluster: ClusterOption = "",
) -> None:
    """Write the captions of a set anew, for `structgen train` with --data OUT.npz. What is held out keeps its own."""
    with exit_status():
        from structgen.pictures.archives import write_archive
        from structgen.pictures.files import read_set
        from structgen.tasks.recaption import Recaptioning, captions_of_part, recaptioned
        from structgen.vision.files import model_file
        from workflows.parallel import each

        work = Recaptioning(pictures.resolve(), model_file(captioner).resolve(), side)
        said = dict(each(partial(captions_of_part, work), range(work.parts()), cluster))
        whole = recaptioned(read_set(work.data, side), [text for part in sorted(said) for text in said[part]], share, seed)
        write_archive(whole, out)
        Console().print(f"{out}: {len(whole):,} pictures, {share:.0%} of those to train on captioned anew", highlight=False)


@app.command(no_args_is_help=True)
def info(
    archive: Annotated[Path, typer.Argument(metavar="OUT.zarr")],
    verify: Annotated[bool, typer.Option("--verify", help="Read every file and compare its digest.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Say what an archive holds: counts, lengths, splits, sources and licences, digest. Exit status 2 where it is not whole."""
    with exit_status():
        from structgen.data.archive import digest, read_mark
        from structgen.data.archive import verify as wrong_files

        facts = read_mark(archive)["facts"] | {"digest": digest(archive)}
        if verify and (wrong := wrong_files(archive)):
            remedy = "remove their parts and build again"
            raise InputError("files of an archive are damaged", where=str(archive), found=", ".join(wrong[:5]), remedy=remedy)
        typer.echo(json.dumps(facts, indent=1) if as_json else _table(facts))


def _table(facts: dict[str, Any]) -> str:
    return "\n".join(_lines(facts))


def _lines(facts: dict[str, Any], indent: str = "") -> Iterator[str]:
    """Nested facts, one a line."""
    for name, value in facts.items():
        if isinstance(value, dict):
            flat = value and not any(isinstance(inner, dict) for inner in value.values())
            row = ", ".join(f"{key} {_shown(inner)}" for key, inner in value.items())
            yield f"{indent}{name}: {row if flat or not value else ''}".rstrip()
            yield from () if flat else _lines(value, indent + "  ")
        else:
            yield f"{indent}{name}: {_shown(value)}"


def _shown(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)


@app.command(no_args_is_help=True)
def homologs(
    chains: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of a set of chains.")],
    out: Annotated[Path, typer.Argument(metavar="OUT.tsv")],
    set_: SetOption = None,
) -> None:
    """Choose training chains to be predicted from a relative, and what has to leave training with them."""
    with exit_status():
        from structgen.configuration import from_mapping
        from structgen.data.homologs import HomologSettings, choose_homologs, write_holdout
        from structgen.features.chains import ChainSet
        from structgen.settings import parse_assignments
        from structgen.store import replace_file

        settings = from_mapping(HomologSettings, parse_assignments(set_ or []), "settings")
        rows = choose_homologs(ChainSet(chains), settings)
        replace_file(out, write_holdout(rows).encode())
        for low, high in settings.bins:
            span = f"{100 * low:.0f}-{100 * high:.0f}"
            count = [sum(row.bin == span and row.split == split for row in rows) for split in ("homolog", "left_out")]
            typer.echo(f"{span} %: {count[0]} targets, {count[1]} chains left out")


@app.command(no_args_is_help=True)
def library(
    source: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of mmCIF files, or of a set of chains (its training split).")],
    out: Annotated[Path, typer.Argument(metavar="OUT.library")],
    holdout: Annotated[Path | None, typer.Option(metavar="TSV", help="Chains to leave out; see `structgen data homologs`.")] = None,
    msas: Annotated[
        Path | None,
        typer.Option(metavar="DIR", exists=True, file_okay=False, help="Alignments of `structgen data profiles`: profiles of chains."),
    ] = None,
    set_: SetOption = None,
) -> None:
    """Make a structure library: backbones and sequences of many chains in one small file, for `structgen predict --templates`. Chains with
    profiles are found by remote relatives too."""
    with exit_status():
        from structgen.configuration import from_mapping
        from structgen.data.libraries import LibrarySettings, chains_of_folder, chains_of_set, with_profiles
        from structgen.features.chains import ChainSet
        from structgen.search.library import Library, write_library
        from structgen.settings import parse_assignments

        settings = from_mapping(LibrarySettings, parse_assignments(set_ or []), "settings")
        refused = list[tuple[str, str]]()
        is_set = (source / "chains.npz").exists()
        chains = (
            chains_of_set(ChainSet(source, holdout), settings)
            if is_set
            else chains_of_folder(source, settings, lambda name, reason: refused.append((name, reason)))
        )
        if msas is not None:
            chains = with_profiles(chains, msas)
        size = write_library(out, chains, {"settings": asdict(settings), "of": "training chains of a set" if is_set else "structure files"})
        for name, reason in refused:
            typer.echo(f"left out: {name}: {reason}", err=True)
        made = Library(out)
        typer.echo(f"{out}: {len(made):,} chains, {sum(map(len, made.sequences)):,} residues, {size / 1e6:.1f} MB")


@app.command(no_args_is_help=True)
def profiles(
    sequences: Annotated[Path, typer.Argument(metavar="DIR|FASTA", help="A set of chains, or protein sequences.")],
    seqdb: Annotated[Path, typer.Argument(metavar="FASTA[.gz]", help="Database to search with jackhmmer.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder of alignments; those that are there stay.")],
    split: Annotated[str, typer.Option(help="Of a set of chains: only these, with commas between them.")] = "",
    missing: Annotated[bool, typer.Option("--missing", help="Of a set of chains: only those without a profile.")] = False,
    limit: Annotated[int, typer.Option(min=0, help="At most so many new ones; 0: all.")] = 0,
    cluster: ClusterOption = "",
    set_: SetOption = None,
) -> None:
    """Search alignments for sequences, one file a distinct one. The same command again goes on where the last one stopped."""
    with exit_status():
        from structgen.configuration import from_mapping
        from structgen.data.alignments import alignment_path
        from structgen.search.hmmer import JackhmmerSettings
        from structgen.settings import parse_assignments
        from workflows.parallel import each

        settings = from_mapping(JackhmmerSettings, parse_assignments(set_ or []), "settings")
        wanted = [s for s in _sequences(sequences, split, missing) if not alignment_path(out, s).exists()]
        wanted = sorted(wanted, key=len, reverse=True)[: limit or None]
        work = partial(_search, out.resolve(), seqdb.resolve(), settings)
        for done, (sequence, rows) in enumerate(each(work, wanted, cluster), 1):
            typer.echo(f"{done} of {len(wanted)}: {len(sequence)} residues, {rows} rows")


def _search(out: Path, seqdb: Path, settings: Any, sequence: str) -> int:
    from structgen.data.alignments import search_into

    return search_into(out, sequence, seqdb, settings)


def _sequences(path: Path, split: str, missing: bool) -> list[str]:
    """Distinct sequences of a set of chains or a FASTA file."""
    from structgen.features.chains import ChainSet

    if path.is_dir():
        chains = ChainSet(path)
        chosen = [i for i, row in enumerate(chains.rows) if not split or row["split"] in split.split(",")]
        return sorted({chains[i].sequence for i in chosen if not (missing and chains.has_profile(i))})
    text = gzip.decompress(path.read_bytes()).decode() if path.suffix == ".gz" else path.read_text()
    records = ["".join(record.split("\n")[1:]) for record in text.split(">")[1:]]
    return sorted({"".join(record.split()).upper() for record in records})
