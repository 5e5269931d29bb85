"""Templates that a job gives, and relatives that are found in a folder of structures."""

from __future__ import annotations

import gzip
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from structgen.artifacts import templates_from_bytes, templates_to_bytes
from structgen.errors import InputError
from structgen.features import chemistry
from structgen.features.job import Chain, Given, Kind, Template
from structgen.features.msa import Msa, query_only
from structgen.features.templates import MOST, Templates
from structgen.io.structures import read_given
from structgen.search.template_index import build_index, load_index
from structgen.search.templates import TemplateSettings, find_templates, own_template_digests, own_templates, wants_templates
from structgen.store import Store
from tests.io.jobs.made import structure_cif

STRUCTURES = Path(__file__).parents[2] / "data" / "examples" / "structures"
PROTEASE = read_given(Given(path=str(STRUCTURES / "6lu7.cif.gz"))).proteins[0].sequence
SRP = read_given(Given(path=str(STRUCTURES / "1dul.cif.gz"))).proteins[0]
CHANGES = "T35V A46S S65N L86V R88K S94A H134F K180N L202V A267S T285A I286L"  # of SARS-CoV-1 to SARS-CoV-2 (6LU7)
DEFAULT = TemplateSettings()


def relative() -> str:
    """The main protease of SARS-CoV-1."""
    letters = list(PROTEASE)
    for change in CHANGES.split():
        assert letters[int(change[1:-1]) - 1] == change[-1]
        letters[int(change[1:-1]) - 1] = change[0]
    return "".join(letters)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Laid out as a mirror of the PDB, with a file that is none and one of another kind."""
    for name in ("6lu7", "1dul"):
        (tmp_path / "pdb" / name[1:3]).mkdir(parents=True)
        shutil.copyfile(STRUCTURES / f"{name}.cif.gz", tmp_path / "pdb" / name[1:3] / f"{name}.cif.gz")
    (tmp_path / "pdb" / "readme.txt").write_text("x")
    return tmp_path / "pdb"


def search(query: str, folder: Path, store: Store, msa: Msa | None = None, **settings: object) -> Templates:
    index = load_index(store, build_index(folder, store).digest)
    return find_templates(query, msa, index, folder, replace(DEFAULT, **settings))  # type: ignore[arg-type]


def test_the_relative_is_found_with_its_residues(folder: Path, store: Store):
    """SARS-CoV-1's protease finds that of SARS-CoV-2, residue on residue, and nothing else."""
    found = search(relative(), folder, store)
    (used,) = found.used
    assert (used.file, used.chain, used.released) == ("lu/6lu7.cif.gz", "A", "2020-02-05")
    assert (
        used.aligned >= 300 and used.identity == pytest.approx(294 / 306, abs=2e-3) and used.e_value is not None and used.e_value < 1e-100
    )
    there = read_given(Given(path=str(folder / "lu" / "6lu7.cif.gz"))).proteins[0].backbone()
    on = found.restype[0] != chemistry.GAP
    np.testing.assert_array_equal(found.frame[0, on], there.frame[on])
    np.testing.assert_array_equal(found.pseudo_beta[0, on], there.pseudo_beta[on])
    assert found.restype[0, on].tolist() == chemistry.encode(PROTEASE, chemistry.RESIDUE_OF_LETTER)[on].tolist()


def test_a_profile_finds_it_too_and_its_states_are_residues(folder: Path, store: Store):
    """The alignment's insertions and gaps do not shift the residues; the query's own row alone is a search by sequence."""
    query = "GSHMASGS" + relative()[100:]
    rows = np.stack([chemistry.encode(row, chemistry.MSA_OF_LETTER) for row in (query, "-" * 8 + PROTEASE[100:], query[:120] + "-" * 94)])
    msa = Msa(rows, np.where(np.arange(len(query)) == 50, 7, 0) * np.array([[0], [1], [1]], np.int32), ("query", "a", "b"))
    found = search(query, folder, store, msa)
    there = read_given(Given(path=str(folder / "lu" / "6lu7.cif.gz"))).proteins[0].backbone()
    on = np.flatnonzero(found.frame_mask[0])
    assert len(found) == 1 and len(on) > 195 and on.min() >= 7
    np.testing.assert_array_equal(found.frame[0, on], there.frame[on + 92])
    alone, without = (search(query, folder, store, one) for one in (query_only(query), None))
    np.testing.assert_array_equal(alone.frame, without.frame)
    assert alone.used == without.used


def test_unresolved_residues_count_in_what_is_found(folder: Path, store: Store):
    """1DUL has 105 residues, 36 of them unresolved in the middle: frames stand where the file's own numbers put them."""
    query = SRP.sequence[:50] + "W" + SRP.sequence[51:]
    found = search(query, folder, store)
    np.testing.assert_array_equal(np.flatnonzero(found.frame_mask[0]), [k for k in sorted(SRP.place) if found.restype[0, k] != 31])
    assert found.used[0].file == "du/1dul.cif.gz" and found.frame_mask[0].sum() > 60 and (found.restype[0] != 31).sum() > 95


def test_an_almost_whole_part_of_the_query_is_no_template_unless_asked_for(folder: Path, store: Store):
    """The entry of the query itself, whole or 96 % of it, is left out; 90 % of it is not."""
    assert len(search(PROTEASE, folder, store)) == 0
    assert len(search("GSHMASMTGG" + PROTEASE, folder, store)) == 0
    assert len(search("GSHMASMTGG" + PROTEASE, folder, store, max_subsequence=1.0)) == 1
    assert len(search("GSHMASMTGGQQMGRGSEFGSHMASMTGGQQMGRGS" + PROTEASE, folder, store)) == 1


def test_dates_lengths_and_shares_are_respected(folder: Path, store: Store):
    """Released in February 2020: not in January's list. A hit below the least length or share of the query is none."""
    assert len(search(relative(), folder, store, max_date="2020-02-05")) == 1
    assert len(search(relative(), folder, store, max_date="2020-02-04")) == 0
    assert len(search(relative(), folder, store, min_length=307)) == 0
    long = relative()[:60] + "G" * 560
    assert len(search(long, folder, store)) == 0 and len(search(long, folder, store, min_aligned=0.05)) == 1
    assert len(search(relative(), folder, store, e_value=1e-300)) == 0


def test_a_hit_is_as_good_in_a_large_folder_as_in_a_small_one(folder: Path, store: Store):
    """E-values are those of a library of the PDB's size: unrelated files change nothing."""
    alone = search(relative(), folder / "lu", store)
    assert alone.used[0].e_value == search(relative(), folder, store).used[0].e_value


def test_structures_of_unknown_date_are_new(folder: Path, store: Store):
    """A file without revisions is used where no date is asked for."""
    shutil.rmtree(folder / "lu")
    (folder / "own.cif").write_text(
        _text("6lu7").replace("_pdbx_audit_revision_history.revision_date", "_pdbx_audit_revision_history.other")
    )
    assert search(relative(), folder, store).used[0].released == ""
    assert len(search(relative(), folder, store, max_date="2030-01-01")) == 0


def _text(name: str) -> str:
    return gzip.decompress((STRUCTURES / f"{name}.cif.gz").read_bytes()).decode()


def test_equal_hits_are_one_template_and_the_best_come_first(folder: Path, store: Store):
    """A copy adds nothing, and serves where the first is too new; different relatives are several, at most as many as asked for."""
    (folder / "zz.cif").write_text(_text("6lu7").replace("2020-02-05", "2019-02-05"))
    assert [used.file for used in search(relative(), folder, store).used] == ["lu/6lu7.cif.gz"]
    assert [used.file for used in search(relative(), folder, store, max_date="2019-12-31").used] == ["zz.cif"]
    for k in range(5):  # residue k + 1 of the sequence, serine, glycine, ..., is called tryptophan
        (folder / f"more{k}.cif").write_text(_with_tryptophan(_text("6lu7"), 10 * k + 150))
    many = search(relative(), folder, store)
    assert (
        len(many) == 4
        and len(search(relative(), folder, store, used=2)) == 2
        and len(search(relative(), folder, store, found=1, used=1)) == 1
    )
    assert [used.e_value for used in many.used] == sorted(used.e_value for used in many.used)  # type: ignore[type-var]
    assert len({used.file for used in many.used}) == 4


def _with_tryptophan(text: str, number: int) -> str:
    """The stated sequence of 6LU7's protease with TRP at that place."""
    lines = text.split("\n")
    (place,) = [k for k, line in enumerate(lines) if line.split()[:2] == ["1", str(number)] and line.split()[3:] == ["n"]]
    lines[place] = f"1 {number} TRP n"
    return "\n".join(lines)


def test_index_reads_a_file_once(folder: Path, store: Store):
    """Files of known size and time are not read again; another file is; the digest is that of what is there, not of where it is."""
    seen: list[tuple[int, int]] = []
    first = build_index(folder, store, lambda done, of: seen.append((done, of)))
    assert seen[-1] == (2, 2) and [file.name for file in first.files] == ["du/1dul.cif.gz", "lu/6lu7.cif.gz"]
    path, state = folder / "du" / "1dul.cif.gz", (folder / "du" / "1dul.cif.gz").stat()
    path.write_bytes(b"x" * state.st_size)
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert build_index(folder, store).digest == first.digest
    os.utime(path)
    again = build_index(folder, store)
    assert again.digest != first.digest and [file.name for file in again.unreadable] == ["du/1dul.cif.gz"]
    shutil.copytree(folder, folder.parent / "elsewhere")
    assert build_index(folder.parent / "elsewhere", store).digest == again.digest
    with pytest.raises(InputError, match=r"du/1dul\.cif\.gz"):
        find_templates(SRP.sequence[:50] + "W" + SRP.sequence[51:], None, first, folder, DEFAULT)


def test_many_files_are_indexed_and_one_more_is_cheap(tmp_path: Path, store: Store):
    """Beyond a few files these are cached in groups: a new file does not touch the others' artifacts."""
    (tmp_path / "many").mkdir()
    for k in range(80):
        (tmp_path / "many" / f"{k}.cif").write_text(structure_cif("MKT" + chemistry.AMINO_ACIDS[k % 20] * (3 + k // 20)))
    first = build_index(tmp_path / "many", store)
    assert len(first.files) == 80 and len(first.names) == 80
    before = len(list(store.root.glob("??/*")))
    (tmp_path / "many" / "new.cif").write_text(structure_cif("WWWW"))
    assert "WWWW" in build_index(tmp_path / "many", store).sequences
    assert len(list(store.root.glob("??/*"))) == before + 2  # its group and the whole


def test_what_cannot_be_searched_is_refused_and_one_bad_file_is_not_all(tmp_path: Path, folder: Path, store: Store):
    """No such folder, no structure in it, none that can be read; a changed file is not taken for what was indexed."""
    (tmp_path / "empty").mkdir()
    for path, message in (("absent", "no such file"), ("empty", "holds no structure file")):
        with pytest.raises(InputError, match=message):
            build_index(tmp_path / path, store)
    (tmp_path / "empty" / "x.cif").write_text("data_x\nloop_\n_a.b\n_a.c\n1\n")
    with pytest.raises(InputError, match=r"no structure file can be read.*x\.cif: structure cannot be read"):
        build_index(tmp_path / "empty", store)
    (folder / "broken.cif.gz").write_bytes(b"\x1f\x8bxx")
    index = build_index(folder, store)
    assert [file.name for file in index.unreadable] == ["broken.cif.gz"] and len(index.names) == 3
    with gzip.open(folder / "lu" / "6lu7.cif.gz", "wt") as file:
        file.write(_text("6lu7") + "#\n")
    with pytest.raises(InputError, match="changed since the run began"):
        find_templates(relative(), None, index, folder, DEFAULT)


def test_one_file_is_searched_alone(folder: Path, store: Store):
    """Also one whose name says nothing, and none beside it."""
    shutil.copyfile(folder / "lu" / "6lu7.cif.gz", folder / "mine.gz")
    assert search(relative(), folder / "mine.gz", store).used[0].file == "mine.gz"


def chain(sequence: str, *templates: Template) -> Chain:
    return Chain("A", Kind.PROTEIN, sequence, templates=templates)


def test_own_templates_without_indices_are_aligned_to_the_chain_most_like_the_query():
    """The protease of 6LU7's two protein chains; named, the peptide."""
    given = Given(path=str(STRUCTURES / "6lu7.cif.gz"))
    found = own_templates(chain(relative(), Template(given)))
    assert (found.used[0].chain, found.used[0].identity, found.used[0].coverage) == ("A", 294 / 306, 1.0)
    assert found.frame_mask.all() and found.used[0].e_value is None
    named = own_templates(chain("GAVLGG", Template(given, chain="C")))
    assert named.used[0].chain == "C" and named.frame_mask[0].tolist() == [False, True, True, True, False, False]


def test_own_indices_are_followed():
    """AlphaFold 3's lists on a file with unresolved residues."""
    given = Given(text=_text("1dul"))
    found = own_templates(chain("MKTAYIA", Template(given, query_indices=(0, 3, 6), template_indices=(1, 40, 104))))
    there = SRP.backbone()
    assert found.frame_mask[0, [0, 3, 6]].tolist() == there.frame_mask[[1, 40, 104]].tolist()
    np.testing.assert_array_equal(found.frame[0, [0, 3, 6]], there.frame[[1, 40, 104]])
    assert found.used[0].file == "text of the job" and found.used[0].aligned == 3


@pytest.mark.parametrize(
    ("template", "message"),
    [
        (Template(Given(text=_text("6lu7")), query_indices=(0,), template_indices=(0,)), "found chains A, C; expected one protein chain"),
        (Template(Given(text=_text("6lu7")), chain="Q"), "found no protein chain 'Q'; chains A, C; expected one of A, C"),
        (Template(Given(text=_text("1dul")), chain="B"), "found no protein chain 'B'; chains B, A; expected one of A"),
        (Template(Given(text=_text("1dul")), query_indices=(0,), template_indices=(105,)), "found 105; expected 0 to 104"),
        (
            Template(Given(text=_text("1dul")), query_indices=(9,), template_indices=(5,)),
            "query index of a template is out of range; found 9",
        ),
        (Template(Given(text=_text("1dul")), query_indices=(0, 1), template_indices=(5,)), "found 2 query and 1 template indices"),
        (Template(Given(text="hello")), "holds no atoms"),
    ],
)
def test_own_templates_that_do_not_fit_are_one_clear_error(template: Template, message: str):
    """Several chains, no such chain, one that is no protein, indices, text that is no structure."""
    with pytest.raises(InputError) as caught:
        own_templates(chain("MKTAYI", template))
    assert message in str(caught.value)


def test_the_first_four_are_used_and_their_digests_say_what_is_taken(tmp_path: Path):
    """A fifth changes nothing; another chain, index or content does. Chains below five residues have none."""
    texts = [structure_cif("MKTAYI" + letter) for letter in "ACDEF"]
    given = [Template(Given(text=text)) for text in texts]
    five = chain("MKTAYI", *given)
    assert len(own_templates(five)) == MOST == 4 and own_template_digests(five) == own_template_digests(chain("MKTAYI", *given[:4]))
    (tmp_path / "x.cif").write_text(texts[0])
    changed = [given[1], replace(given[0], chain="A"), replace(given[0], query_indices=(0,), template_indices=(1,))]
    changed += [Template(Given(path=str(tmp_path / "x.cif")))]
    digests = {tuple(own_template_digests(chain("MKTAYI", one))) for one in (given[0], *changed)}
    assert len(digests) == 5
    assert wants_templates(five) and not wants_templates(chain("MKTA"))


def test_templates_come_back_from_their_bytes(folder: Path, store: Store):
    """Arrays and what is said of them; equal templates give equal bytes."""
    found = search(relative(), folder, store)
    back = templates_from_bytes(templates_to_bytes(found))
    assert back.used == found.used and templates_to_bytes(back) == templates_to_bytes(found)
    np.testing.assert_array_equal(back.frame, found.frame)
    assert templates_from_bytes(templates_to_bytes(own_templates(chain("MKTAYI")))).used == ()
