"""Archives: built part by part, the same bytes whatever happened on the way, refused where they are not whole."""

from __future__ import annotations

import multiprocessing
import time
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from structgen.data.archive import Archive, digest, read_mark, verify
from structgen.data.build import BuildSettings, begin, finish, write_entries, write_index, write_relatives
from structgen.data.dataset import ChainDataset, Relative
from structgen.data.examples import Loading, TemplateDraws
from structgen.data.loader import examples
from structgen.data.parts import MARK, write_part
from structgen.data.sources import ChainSource, Evidence
from structgen.errors import ConfigError, InputError
from tests.archive import Made, random_chains, write_archive
from tests.data.test_loader import same

SETTINGS = BuildSettings()


def family(rng: np.random.Generator, count: int, length: int, changed: float) -> list[Made]:
    """Chains of one random sequence with that share of its letters changed, one cluster."""
    (first,) = random_chains(rng, 1, length)
    letters = np.array(list("ARNDCQEGHILKMFPSTWYV"))
    made = []
    for k in range(count):
        sequence = np.where(rng.random(length) < changed * bool(k), rng.choice(letters, length), list(first.sequence))
        made.append(Made(f"fam{length}_{k}", "".join(sequence), profile=k == 1))
    return made


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight single chains, and a family of four in one cluster."""
    rng = np.random.default_rng(11)
    chains = random_chains(rng, 6, 40) + random_chains(rng, 2, 25, split="val") + family(rng, 4, 60, 0.25)
    chains = [replace(chain, id=f"{chain.id}{k}") for k, chain in enumerate(chains)]
    return write_archive(tmp_path_factory.mktemp("set"), chains, rng, clusters=[*range(8), *[8] * 4])


def build(out: Path, source: ChainSource) -> Path:
    """All steps in order."""
    begin(out, source, SETTINGS)
    for part in range(source.parts()):
        write_entries(out, source, part)
    write_index(out, source.parts(), SETTINGS)
    for part in range(source.parts()):
        write_relatives(out, source.parts(), part, SETTINGS.relatives)
    finish(out, source.parts())
    return out


@pytest.fixture(scope="module")
def archive(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("archive") / "a.zarr", ChainSource(str(folder), size=5))


def test_an_archive_holds_what_the_set_of_chains_holds(folder: Path, archive: Path):
    """Entries, profiles, splits and weights are those of the set; the counts say so; and nothing is damaged."""
    chains, found = ChainDataset.open(folder), Archive(archive)
    for i in range(len(chains)):
        assert found.name(i) == chains.name(i) and found.tokens(i) == chains.tokens(i)
        for name, value in chains.entry(i).arrays().items():
            assert np.array_equal(value, getattr(found.entry(i), name)), name
        own = chains.profile(i)
        assert (own is None) == (found.profile(i) is None) and (own is None or np.array_equal(own, found.profile(i)))
    weights = {unit.entry: unit.weight for unit in chains.units("train")}
    assert {unit.entry: unit.weight / 1.5 for unit in found.units("train")} == pytest.approx(weights)
    assert found.facts["splits"]["val"] == {"entries": 2, "chains": 2, "clusters": 2, "residues": 50, "tokens": 50}
    assert found.facts["with_profile"] == 1 and found.facts["with_relatives"] == 4 and verify(archive) == []


def test_the_loader_gives_the_same_from_both(folder: Path, archive: Path):
    """Crop by crop: where a chain was read from does not matter."""
    settings = Loading(batch=3, tokens=32, buckets=(), templates=TemplateDraws(slots=0))
    pairs = zip(examples(ChainDataset.open(folder), settings, 5), examples(Archive(archive), settings, 5), strict=False)
    assert all(same(*pair) for pair in islice(pairs, 6))


def aligned(relative: Relative) -> tuple[np.ndarray, np.ndarray]:
    """Residues of the chain and of its relative that lie on each other."""
    own, other = (np.concatenate([np.arange(run[2]) + run[k] for run in relative.runs]) for k in (0, 1))
    return own, other


def test_relatives_lie_where_their_letters_agree(archive: Path):
    """Of every family member the others are found, aligned residue by residue, with the identity that the letters have."""
    found = Archive(archive)
    for entry in range(8, 12):
        relatives = found.relatives(entry, 0)
        assert {r.entry for r in relatives} == {8, 9, 10, 11} - {entry}
        for relative in relatives:
            own, other = aligned(relative)
            equal = found.entry(entry).restype[own] == found.entry(relative.entry).restype[other]
            assert relative.identity == pytest.approx(equal.mean(), abs=1e-6) and 0.4 < relative.identity < 0.95
            assert relative.coverage == pytest.approx(len(own) / 60, abs=1e-6) and relative.coverage > 0.8
    assert found.relatives(0, 0) == ()


def test_templates_of_relatives_enter_a_batch(archive: Path):
    """With real templates alone, only members of the family have any."""
    settings = Loading(batch=4, tokens=64, buckets=(), templates=TemplateDraws(slots=2, keep=1.0, simulated=0.0, orphans=False))
    dataset, seen = Archive(archive), 0
    for example in islice(examples(dataset, settings, 2), 8):
        for i, name in enumerate(example.names):
            mask = example.batch.template_frame_mask[i, 0]
            seen += name.startswith("fam")
            assert mask.sum() > 40 if name.startswith("fam") else not mask.any()
    assert seen > 3


def test_the_best_relatives_come_in_their_order(archive: Path):
    """As predictions are given them: the templates of a chain are its first relatives, all slots of them."""
    draws = TemplateDraws(slots=2, keep=1.0, simulated=0.0, best=True, orphans=False)
    dataset, seen = Archive(archive), 0
    numbers = {dataset.name(entry): entry for entry in range(len(dataset))}
    for example in islice(examples(dataset, Loading(batch=4, tokens=64, buckets=(), templates=draws), 2), 8):
        for i, name in enumerate(example.names):
            for slot, relative in enumerate(dataset.relatives(numbers[name], 0)[:2]):
                own, other = aligned(relative)
                laid = example.batch.template_restype[i, slot][own].numpy()
                assert np.array_equal(laid, dataset.entry(relative.entry).restype[other]) and len(own) > 40
                seen += 1
    assert seen > 6


def test_a_build_that_is_killed_ends_with_the_same_bytes(folder: Path, archive: Path, tmp_path: Path):
    """SIGKILL at five random instants: every run goes on, nothing half-written is trusted, and the digest is that of an uncut build."""
    out, rng = tmp_path / "cut.zarr", np.random.default_rng(1)
    for _ in range(5):
        process = multiprocessing.get_context("fork").Process(target=build, args=(out, ChainSource(str(folder), size=5)))
        process.start()
        time.sleep(float(rng.uniform(0.02, 0.5)))
        process.kill()
        process.join()
    assert digest(build(out, ChainSource(str(folder), size=5))) == digest(archive)
    assert not list(out.rglob(".*.tmp-*")) and verify(out) == []


def test_what_is_not_marked_is_not_read(folder: Path, tmp_path: Path):
    """An archive without its mark, a part without its mark, a changed file and another format are told apart."""
    source = ChainSource(str(folder), size=8)
    out = tmp_path / "a.zarr"
    begin(out, source, SETTINGS)
    with pytest.raises(InputError, match=r"not complete.*goes on where it stopped"):
        Archive(out)
    build(out, source)
    file = next(path for path in (out / "entries" / "part-00001" / "xyz").rglob("*") if path.is_file() and path.name != "zarr.json")
    content = bytearray(file.read_bytes())
    content[9] ^= 1
    file.write_bytes(content)
    assert verify(out) == [file.relative_to(out).as_posix()]
    (out / "entries" / "part-00000" / MARK).unlink()
    with pytest.raises(InputError, match="not the one that it was finished with"):
        Archive(out)
    with pytest.raises(InputError, match="no archive of structures"):
        read_mark(tmp_path)


def test_a_build_that_was_killed_at_its_first_files_goes_on(folder: Path, tmp_path: Path):
    """Litter alone, and a plan without a group, are no strange folders."""
    source, out = ChainSource(str(folder)), tmp_path / "a.zarr"
    out.mkdir()
    (out / ".build.json.x.tmp").write_text("{")
    begin(out, source, SETTINGS)
    (out / "zarr.json").unlink()
    begin(out, source, SETTINGS)
    assert (out / "zarr.json").exists()


def test_a_folder_of_another_build_is_refused(folder: Path, tmp_path: Path):
    """Neither other settings nor a folder of other things is mixed with an archive."""
    begin(tmp_path / "a.zarr", ChainSource(str(folder)), SETTINGS)
    with pytest.raises(ConfigError, match="other data or with other settings"):
        begin(tmp_path / "a.zarr", ChainSource(str(folder), size=3), SETTINGS)
    with pytest.raises(ConfigError, match="not empty and no archive"):
        begin(folder, ChainSource(str(folder)), SETTINGS)


def test_licences_are_on_record(folder: Path, tmp_path: Path):
    """By source, with the row `*` for all others; a file that is no such table is told."""
    table = tmp_path / "l.tsv"
    table.write_text("# x\nsource\tlicence\nelsewhere\tMIT\n*\tCC0\n")
    kept, _ = ChainSource(str(folder), licences=str(table)).read(0)
    assert {one.about["licence"] for one in kept} == {"CC0"}
    table = tmp_path / "m.tsv"
    table.write_text("one column\n")
    with pytest.raises(InputError, match="table of licences cannot be read"):
        ChainSource(str(folder), licences=str(table)).read(0)


def test_a_part_is_written_once(tmp_path: Path):
    """A second writer of a committed part changes nothing; litter of a killed one goes."""
    part, litter = tmp_path / "part-0", tmp_path / ".part-0.tmp-x"
    litter.mkdir()
    write_part(part, {"x": np.arange(10)}, {"a": 1})
    before = {path: path.read_bytes() for path in part.rglob("*") if path.is_file()}
    write_part(part, {"x": np.zeros(3)}, {})
    assert {path: path.read_bytes() for path in part.rglob("*") if path.is_file()} == before and not litter.exists()


def test_alignments_become_profiles_and_rows(folder: Path, tmp_path: Path):
    """A chain without a profile gets that of its alignment, and batches get the alignment's rows."""
    import gzip

    from structgen.data.alignments import alignment_path

    sequence = ChainDataset.open(folder).chains[0].sequence
    path = alignment_path(tmp_path / "msas", sequence)
    path.parent.mkdir(parents=True)
    path.write_bytes(gzip.compress(f">q\n{sequence}\n>a\n{'W' * 40}\n>b\n{'-' * 20}{sequence[20:]}\n".encode()))
    found = Archive(build(tmp_path / "a.zarr", ChainSource(str(folder), evidence=Evidence(str(tmp_path / "msas")))))
    profile, alignment = found.profile(0), found.alignment(0)
    assert profile is not None and alignment is not None and alignment.rows.shape == (3, 40)
    assert profile[0, 17] == pytest.approx(0.5, abs=0.05) and profile[30, 17] == pytest.approx(1 / 3, abs=0.05)
    settings = Loading(batch=8, tokens=64, buckets=(), msa_rows=4, msa_keep=1.0)
    for example in islice(examples(found, settings, 0), 20):
        for i, name in enumerate(example.names):
            rows = int(example.batch.msa_mask[i, :, 0].sum())
            assert rows == (3 if name == found.name(0) else 1)
