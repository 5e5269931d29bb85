"""Templates of a chain: those that a job gives, or relatives found in an index of structures by hmmsearch (SI 2.4), or by comparing
profiles where that finds none."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from pyhmmer.easel import TextMSA, TextSequence
from pyhmmer.plan7 import HMM, Background, Builder, Pipeline, TopHits

from structgen.errors import InputError
from structgen.features import chemistry
from structgen.features.job import Chain, Given, Template
from structgen.features.msa import Msa, deduplicate
from structgen.features.templates import MOST, SHORTEST_CHAIN, Templates, Used, align, lay, stack
from structgen.io.structures import Entry, Polymer, read_given
from structgen.io.textfile import read_text_bytes
from structgen.search.columns import columns_of, frequencies_of
from structgen.search.library import is_library, open_library
from structgen.search.nearest import AMINO, corresponding
from structgen.search.remote import remote_hits
from structgen.search.template_index import IndexedFile, TemplateIndex, backbone_of
from structgen.store import canonical_json

_LETTERS = np.frombuffer((chemistry.AMINO_ACIDS + "X" * 11 + "-").encode(), np.uint8)  # of the 32 classes
_PROFILE_ROWS = 10_000  # of the alignment, the first ones
_LIBRARY = 200_000  # sequences for which E-values are told, about the distinct ones of the PDB: a small folder makes no hit better


@dataclass(frozen=True)
class TemplateSettings:
    """Which hits become templates: AlphaFold 3's filters. Everything here is part of the result."""

    max_date: str = ""  # latest release, YYYY-MM-DD; empty: any
    min_aligned: float = 0.1  # more than this share of the query is aligned
    min_length: int = 10  # residues of the hit
    max_subsequence: float = 0.95  # a hit that is literally a part of the query is at most this share of it; 1 keeps all
    max_identity: float = 1.0  # share of equal residues in a hit; less than 1 to judge by, or to train on, farther relatives than there are
    e_value: float = 0.01  # in a library of the size of the PDB; AlphaFold 3 has 100, and hits of pure chance where nothing is better
    remote_e_value: float = 0.01  # of relatives that profiles alone tell, in a library with profiles, where nothing else is found; 0: none
    found: int = 20  # hits that are looked at
    used: int = MOST
    seed: int = 42


@dataclass(frozen=True)
class Hit:
    """A stretch of an indexed sequence on the query: residue `other[k]` on residue `own[k]`, both from 0."""

    sequence: str  # of the whole chain
    e_value: float  # of the stretch
    own: np.ndarray
    other: np.ndarray

    @property
    def stretch(self) -> str:
        """The hit's residues from the first to the last that is aligned."""
        return self.sequence[self.other[0] : self.other[-1] + 1]


def wants_templates(chain: Chain) -> bool:
    """Whether a chain can have templates at all."""
    return len(chain.sequence) >= SHORTEST_CHAIN


def own_template_digests(chain: Chain) -> list[str]:
    """Of the structures that a job gives its chain and that are used: what is taken of each, and the sha256 of its content.

    Raises `InputError` for a file that cannot be read.
    """
    return [
        canonical_json([_name(template), template.chain, template.query_indices, template.template_indices, _digest(template.structure)])
        for template in (chain.templates or ())[:MOST]
    ]


def _digest(given: Given) -> str:
    data = read_text_bytes(Path(given.path)) if given.path else given.text.encode()
    return hashlib.sha256(data).hexdigest()


def own_templates(chain: Chain) -> Templates:
    """The templates that a job gives its chain, the first four of them.

    Raises `InputError` for a structure that cannot be read, lacks the chain, or has indices that do not fit.
    """
    parts = [_own(template, chain) for template in (chain.templates or ())[:MOST]]
    return stack(parts, len(chain.sequence))


def _own(template: Template, chain: Chain) -> Templates:
    where = f"template of chain {chain.id}" + (f": {template.structure.path}" if template.structure.path else "")
    entry = read_given(template.structure, where)
    own, other, polymer = list(template.query_indices), list(template.template_indices), _named(template, entry)
    if polymer is None and (own or other) and len(entry.proteins) > 1:
        found = f"chains {', '.join(p.name for p in entry.proteins)}"
        raise InputError("indices of a template need its chain", where=where, found=found, expected="one protein chain, or its id")
    if not own and not other:
        candidates = entry.proteins if polymer is None else (polymer,)
        aligned = [(align(chain.sequence, each.sequence), each) for each in candidates]
        (own, other, _), polymer = max(aligned, key=lambda pair: pair[0][2])
    polymer = polymer or entry.proteins[0]
    laid = lay(polymer.backbone(), chain.sequence, own, other, _origin(_name(template), polymer, entry))
    if template.force and not laid.frame_mask.any():
        found = "no aligned residue has N, CA and C"
        raise InputError("a forced template says nothing of its chain", where=where, found=found, remedy="give another template, or none")
    return laid


def _name(template: Template) -> str:
    return Path(template.structure.path).name if template.structure.path else "text of the job"


def _named(template: Template, entry: Entry) -> Polymer | None:
    """The chain that a template names; None where it names none. It has to be a protein."""
    found = entry.find(template.chain) if template.chain else None
    if (template.chain and (found is None or not found.is_protein)) or not entry.proteins:
        expected = f"one of {', '.join(p.name for p in entry.proteins)}" if entry.proteins else "a protein chain"
        polymers = ", ".join(p.name for p in entry.polymers) or "none"
        named = f"no protein chain {template.chain!r}; " if template.chain else ""
        raise InputError("template has no such protein chain", where=entry.where, found=f"{named}chains {polymers}", expected=expected)
    return found


def find_templates(
    sequence: str, msa: Msa | None, index: TemplateIndex, folder: Path, settings: TemplateSettings, frequencies: np.ndarray | None = None
) -> Templates:
    """The best hits in the index that pass the filters and are resolved where they are aligned, the lowest E-value first; where there is
    none and the index is a library with profiles, its remote relatives.

    `frequencies` [n, 20] of homologues stand in for an alignment where there is none. The same arguments give the same templates. Raises
    `InputError` for a file that is not any more what was indexed.
    """
    near = _laid(_candidates(hits(sequence, msa, index, settings), sequence, index, settings), sequence, folder, settings)
    if near or not settings.remote_e_value:
        return stack(near, len(sequence))
    known = frequencies_of(msa) if msa is not None and len(msa.rows) > 1 else frequencies
    remote = _candidates(remote_relatives(sequence, known, folder, settings), sequence, index, settings)
    return stack(_laid(remote, sequence, folder, settings), len(sequence))


def _laid(
    candidates: Iterator[tuple[Hit, IndexedFile, str]], sequence: str, folder: Path, settings: TemplateSettings
) -> list[Templates]:
    """The first of them that say anything."""
    chosen: list[Templates] = []
    for hit, file, chain in islice(candidates, settings.found):
        backbone, name = backbone_of(folder, file, chain)
        origin = Used(name, chain, file.released, file.sha256, aligned=0, identity=0.0, coverage=0.0, e_value=hit.e_value)
        template = lay(backbone, sequence, hit.own.tolist(), hit.other.tolist(), origin)
        if template.frame_mask.any():
            chosen.append(template)
        if len(chosen) == settings.used:
            break
    return chosen


def remote_relatives(sequence: str, frequencies: np.ndarray | None, path: Path, settings: TemplateSettings) -> Iterator[Hit]:
    """Chains of a library that align with the query profile by profile, the lowest E-value first; none where there are no profiles."""
    library = open_library(path) if is_library(path) else None
    if library is None or library.remote is None:
        return
    for hit in remote_hits(columns_of(sequence, frequencies), library.remote, e_value=settings.remote_e_value):
        yield Hit(library.sequences[hit.chain], hit.e_value, hit.own, hit.other)


def _origin(name: str, polymer: Polymer, entry: Entry) -> Used:
    return Used(name, polymer.name, entry.released, entry.sha256, aligned=0, identity=0.0, coverage=0.0)


def _candidates(
    found: Iterable[Hit], sequence: str, index: TemplateIndex, settings: TemplateSettings
) -> Iterator[tuple[Hit, IndexedFile, str]]:
    """Hits that pass the filters, each stretch once, with the file and chain of the first structure that is old enough."""
    seen: set[str] = set()
    for hit in found:
        old = [named for named in index.sequences[hit.sequence] if _is_old(named[0].released, settings.max_date)]
        if old and hit.stretch not in seen and _passes(hit, sequence, settings):
            seen.add(hit.stretch)
            yield hit, *old[0]


def _is_old(released: str, latest: str) -> bool:
    """A structure of unknown date is not old enough for any date."""
    return not latest or (bool(released) and released <= latest)


def _passes(hit: Hit, query: str, settings: TemplateSettings) -> bool:
    part = len(hit.stretch) / len(query)
    is_duplicate = hit.stretch in query and part > settings.max_subsequence
    long = len(hit.own) > settings.min_aligned * len(query) and len(hit.stretch) >= settings.min_length
    return long and not is_duplicate and (settings.max_identity >= 1 or _identity(hit, query) <= settings.max_identity)


def _identity(hit: Hit, query: str) -> float:
    return sum(query[i] == hit.sequence[j] for i, j in zip(hit.own, hit.other, strict=True)) / len(hit.own)


def hits(sequence: str, msa: Msa | None, index: TemplateIndex, settings: TemplateSettings) -> list[Hit]:
    """hmmsearch with the alignment's profile, or phmmer with the sequence where there is no alignment: every domain by E-value."""
    found = _search(sequence, msa, index, settings)
    result = []
    for hit in found:
        for domain in hit.domains.reported:
            own, other = corresponding(domain.alignment)
            result.append(Hit(index.names[int(hit.name)], domain.i_evalue, own, other))
    return sorted((hit for hit in result if len(hit.own)), key=lambda hit: hit.e_value)


def _search(sequence: str, msa: Msa | None, index: TemplateIndex, settings: TemplateSettings) -> TopHits:
    e = settings.e_value
    pipeline = Pipeline(AMINO, seed=settings.seed, Z=_LIBRARY, domZ=_LIBRARY, E=e, domE=e, incE=e, incdomE=e)
    if msa is None or len(msa.rows) == 1:
        query = TextSequence(name="query", sequence=sequence).digitize(AMINO)
        return pipeline.search_seq(query, index.block)  # type: ignore[arg-type]  # AA is not exported
    return pipeline.search_hmm(_profile(msa, settings.seed), index.block)  # type: ignore[arg-type]


def _profile(msa: Msa, seed: int) -> HMM:
    """A profile with one match state for every residue of the query, so that a hit's states are residues."""
    rows = deduplicate(msa).rows[:_PROFILE_ROWS]
    rows = rows[(rows != chemistry.GAP).any(1)]
    texts = [TextSequence(name=str(number), sequence=_LETTERS[row].tobytes().decode()) for number, row in enumerate(rows)]
    alignment = TextMSA(name="query", sequences=texts)
    alignment.reference = "x" * rows.shape[1]
    builder = Builder(AMINO, architecture="hand", seed=seed)
    return builder.build_msa(alignment.digitize(AMINO), Background(AMINO))[0]
