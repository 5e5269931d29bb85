"""Structure libraries: what they keep of a chain, how exactly, and that they are searched as a folder of the same structures is."""

from __future__ import annotations

import gzip
import shutil
from pathlib import Path

import numpy as np
import pytest

from structgen.data.alignments import alignment_path
from structgen.data.libraries import LibrarySettings, chains_of_folder, chains_of_set, with_profiles
from structgen.errors import InputError
from structgen.features.chains import ChainSet
from structgen.io.structures import read_entry
from structgen.io.textfile import read_text_bytes
from structgen.metrics.rmsd import rmsd
from structgen.search.columns import columns_of
from structgen.search.copied import copied_trace
from structgen.search.library import Library, LibraryChain, is_library, write_library
from structgen.search.template_index import build_index, load_index
from structgen.search.templates import TemplateSettings, find_templates
from structgen.store import Store
from tests.archive import Made, write_archive
from tests.search.test_templates import STRUCTURES, relative


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("library") / "made.library"
    folder = path.parent / "pdb"
    folder.mkdir()
    for name in ("6lu7.cif.gz", "1dul.cif.gz"):
        shutil.copyfile(STRUCTURES / name, folder / name)
    (folder / "bad.cif").write_text("data_x\n")
    refused: list[tuple[str, str]] = []
    chains = list(chains_of_folder(folder, LibrarySettings(), lambda name, reason: refused.append((name, reason))))
    write_library(path, chains, {"of": "tests"})
    assert [name for name, _ in refused] == ["bad.cif"]
    return path


def test_a_library_holds_its_chains(library: Path):
    """Names, dates, sequences and frames of the files; equal chains give equal bytes."""
    found = Library(library)
    assert is_library(library) and not is_library(STRUCTURES / "6lu7.cif.gz") and found.about == {"of": "tests"}
    assert found.names == [("1dul.cif.gz", "A", "2000-02-28"), ("6lu7.cif.gz", "A", "2020-02-05")]
    polymer = read_entry(read_text_bytes(STRUCTURES / "6lu7.cif.gz"), "x").proteins[0]
    wanted, backbone = polymer.backbone(), found.backbone(1)
    assert backbone.sequence == wanted.sequence and np.array_equal(backbone.frame_mask, wanted.frame_mask)
    on = wanted.frame_mask
    assert rmsd(backbone.frame[on].reshape(-1, 3), wanted.frame[on].reshape(-1, 3)) < 0.3
    assert rmsd(backbone.pseudo_beta[on], wanted.pseudo_beta[on]) < 0.5  # CB is implied


def test_a_library_is_searched_as_its_folder_is(library: Path, tmp_path: Path):
    """The same template on the same residues with the same E-value, from both."""
    store = Store(tmp_path / "store")
    found = []
    for source in (library, STRUCTURES):
        index = load_index(store, build_index(source, store).digest)
        found.append(find_templates(relative(), None, index, source, TemplateSettings()))
    first, second = found
    assert first.used[0].file == "6lu7.cif.gz" and first.used[0].e_value == second.used[0].e_value
    assert np.array_equal(first.restype, second.restype) and np.array_equal(first.frame_mask, second.frame_mask)
    on = first.frame_mask[0]
    assert rmsd(first.frame[0, on].reshape(-1, 3), second.frame[0, on].reshape(-1, 3)) < 0.3
    trace = copied_trace(first)
    assert trace is not None and np.isnan(trace[~on]).all() and copied_trace(first) is not None


def test_a_set_of_chains_gives_its_training_split_without_near_copies(tmp_path: Path):
    """Held-out chains are never in a library, copies of a chain are there once, short ones not at all."""
    rng = np.random.default_rng(0)
    letters = np.array(list("ARNDCQEGHILKMFPSTWYV"))
    one, other, held, short = ("".join(rng.choice(letters, n)) for n in (60, 60, 60, 10))
    made = [Made("a", one), Made("copy", one[2:]), Made("b", other), Made("v", held, split="val"), Made("s", short)]
    chains = ChainSet(write_archive(tmp_path, made, rng, clusters=[0, 0, 0, 1, 2]))
    assert sorted(chain.name for chain in chains_of_set(chains, LibrarySettings())) == ["a", "b"]


def test_chains_get_the_profiles_of_their_alignments(library: Path, tmp_path: Path):
    """Of two chains one has an alignment: the library has columns then, and of the other chain those of its letters."""
    folder, bare = tmp_path / "msas", Library(library)
    path = alignment_path(folder, bare.sequences[1])
    path.parent.mkdir(parents=True)
    own = bare.sequences[1]
    path.write_bytes(gzip.compress(f">query\n{own}\n>other\n{own[:50].replace('L', 'I')}{own[50:]}\n".encode()))
    chains = [
        LibraryChain(entry, chain, date, sequence, np.where(on[:, None, None], frame, np.nan))
        for k, ((entry, chain, date), sequence) in enumerate(zip(bare.names, bare.sequences, strict=True))
        for frame, on in [(bare.backbone(k).frame, bare.backbone(k).frame_mask)]
    ]
    write_library(tmp_path / "known.library", with_profiles(chains, folder), {})
    known = Library(tmp_path / "known.library").remote
    assert bare.remote is None and known is not None and len(known) == 2 and known.lengths.tolist() == list(map(len, bare.sequences))
    first = known.alphabet.letters[known.chain(0)]
    assert np.abs(first - columns_of(bare.sequences[0], None)).max() < 0.01
    place = own.index("L")
    likeliest = known.alphabet.letters[known.chain(1)][place].argsort()[-2:]
    assert place < 50 and {"ARNDCQEGHILKMFPSTWYV"[k] for k in likeliest} == {"I", "L"}


def test_a_damaged_or_empty_library_is_told(library: Path, tmp_path: Path):
    """One clear error each."""
    path = tmp_path / "x.library"
    content = bytearray(library.read_bytes())
    content[len(content) // 3] ^= 255
    path.write_bytes(content)
    with pytest.raises(InputError, match="structure library cannot be read"):
        damaged = Library(path)
        for k in range(2):
            damaged.backbone(k)
    with pytest.raises(InputError, match="no chain for a structure library"):
        write_library(tmp_path / "y.library", [], {})
    assert not (tmp_path / "y.library").exists()
