"""Jobs from FASTA files: ColabFold's convention, the notes, and the text of every error."""

from __future__ import annotations

import gzip
import json
import string
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from structgen.errors import InputError
from structgen.features.job import DEFAULT_LIMITS, Chain, Job, Kind, Limits, chain_ids, protein_chains
from structgen.io.jobs.read import read_jobs
from structgen.io.jobs.reading import Options


def jobs_of(folder: Path, text: str | bytes, name: str = "in.fasta", limits: Limits = DEFAULT_LIMITS) -> tuple[list[Job], list[InputError]]:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_jobs([path], Options(limits=limits))


def error_of(folder: Path, text: str | bytes) -> str:
    jobs, (error,) = jobs_of(folder, text)
    assert jobs == []
    return str(error)


def test_one_record_is_one_job_and_colons_separate_chains(tmp_path: Path) -> None:
    """ColabFold's convention, with a line break after the colon and equal chains as copies."""
    jobs, errors = jobs_of(tmp_path, ">one\nMKT\n>two of a kind\nMKTA:\nMKTA:GSHM\n")
    assert errors == []
    assert jobs[0] == Job("one", "one", (Chain("A", Kind.PROTEIN, "MKT"),), f"{tmp_path}/in.fasta: record 1 (>one)")
    assert [(c.id, c.sequence) for c in jobs[1].chains] == [("A", "MKTA"), ("B", "MKTA"), ("C", "GSHM")]
    assert jobs[1].slug == "two_of_a_kind" and jobs[1].residues == 12


def test_chain_ids_turn_the_first_letter_fastest() -> None:
    """A to Z, then AA, BA as in the PDB's own files; the 703rd has three letters; all distinct."""
    ids = chain_ids(20_000)
    assert ids[:2] == ("A", "B") and ids[25:29] == ("Z", "AA", "BA", "CA") and ids[701:703] == ("ZZ", "AAA")
    assert len(set(ids)) == 20_000 and max(map(len, ids)) == 4


def test_json_round_trip_keeps_everything_and_refuses_the_rest() -> None:
    """from_json inverts to_json; the text is deterministic; wrong text is an InputError."""
    job = Job('q"uote é', "q", protein_chains(["MKT", "GS"]), "f: record 1", ("a note",))
    assert Job.from_json(job.to_json()) == job
    assert json.loads(job.to_json())["chains"][1].items() >= {"id": "B", "kind": "protein", "sequence": "GS"}.items()
    for text in ("", "[]", "{}", '{"name": "a"}', job.to_json().replace("protein", "peptide"), job.to_json().replace("notes", "note")):
        with pytest.raises(InputError, match="job cannot be read"):
            Job.from_json(text)


def test_folders_files_and_gzip_are_read_in_order(tmp_path: Path) -> None:
    """A folder gives its FASTA files by name, whatever the case of the suffix; other files in it are left alone."""
    (tmp_path / "b.fa").write_text(">b\nMK\n")
    (tmp_path / "a.FAA.gz").write_bytes(gzip.compress(b">a\nMK\n"))
    (tmp_path / "notes.txt").write_text("no FASTA")
    (tmp_path / "sub.fa").mkdir()
    (tmp_path / "odd.seq").write_text(">odd\nMK\n")
    jobs, errors = read_jobs([tmp_path / "odd.seq", str(tmp_path)])
    assert [job.name for job in jobs] == ["odd", "a", "b"] and errors == []


def test_folder_without_fasta_and_missing_file_are_errors(tmp_path: Path) -> None:
    """Both are named; neither stops the other paths."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "good.fa").write_text(">g\nMK\n")
    jobs, errors = read_jobs([tmp_path / "empty", tmp_path / "gone.fa", tmp_path / "good.fa"])
    assert [job.name for job in jobs] == ["g"]
    assert "empty: folder holds no job file; expected files that end in .fasta, .fa, .faa, .json, .yaml" in str(errors[0])
    assert "gone.fa: cannot be read: No such file" in str(errors[1])


def test_a_sequence_in_place_of_a_path_is_an_error() -> None:
    """Too long for any file name: still no traceback."""
    jobs, (error,) = read_jobs(["M" * 5000])
    assert jobs == [] and "cannot be read: File name too long; expected a readable file" in str(error)


WRONG = [
    (">a\n", "sequence is empty; found no residues; expected at least one; remedy: add it or drop the chain"),
    (">a\n*\n", "sequence is empty"),
    (">a\nMK:\n", ", chain B: sequence is empty"),
    (">a\nMK::MK\n", ", chain B: sequence is empty"),
    (">a\nMK/GS\n", "'/' does not separate chains; found '/' at position 3; expected letters A-Z; remedy: write ':' between the chains"),
    (">a\nMK-GS\n", "illegal character in the sequence; found '-' at position 3; expected letters A-Z; remedy: this is an alignment row"),
    (">a\nMK.GS\n", "'.' at position 3; expected letters A-Z; remedy: this is an alignment row"),
    (">a\n1 MKTAY IAKQR\n11 QISFV\n", "'1' at position 1; expected letters A-Z; remedy: a numbered sequence? remove the numbers"),
    (">a\nMK*GS\n", "'*' at position 3; expected letters A-Z; remedy: a stop sign may only stand at the end"),
    (">a\nMK**\n", "'*' at position 3"),
    (
        ">a\nMK(SEP)GS\n",
        "'(' at position 3; expected letters A-Z; remedy: write the parent's letter here",
    ),
    (">a\nMKαG\n", "U+03B1 (GREEK SMALL LETTER ALPHA) at position 3"),
    (">a\nMＫT\n", "U+FF2B (FULLWIDTH LATIN CAPITAL LETTER K) at position 2"),
    (">a\nM\u00a0K\n", "U+00A0 (NO-BREAK SPACE) at position 2"),
    (">a\nM\x00K\n", "U+0000 (control character) at position 2"),
    (b">a\nM\xe9K\n", "byte 0xe9, which is not UTF-8, at position 2"),
    (">a\nMK!\n", "'!' at position 3; expected letters A-Z; remedy: correct the sequence"),
    (">a\nMKT:RNA|\n", "chain B: sequence is empty"),
    (">a\nMKT:RNA|GGTA\n", "chain B: T in RNA; found T at 3; expected A C G U N; remedy: is this DNA?"),
    (">a\nMKT:dna|GAUC\n", "chain B: U in DNA; found U at 3; expected A C G T N; remedy: is this RNA?"),
    (">a\nMKT:DNA|GAUT\n", "remedy: is this DNA with letters of RNA? correct the type, or read U as T with --fix-nucleic"),
    (">a\nMKT:CCD|Mg2+|2\n", "chain B: an ion is named by its code; found 'Mg2+'; expected a component's code; remedy: use MG"),
    (">a\nMKT:CCD|ATP|0\n", "chain B: copies cannot be made; found 0"),
    (">a\nMKT:CCD|ATPATP\n", "chain B: not a component's code; found 'ATPATP'"),
    (">a\nMKT:SMILES|\n", "chain B: SMILES string is empty"),
    (
        ">101d_A mol:na length:12  DNA\nCGCGAATTCGCG\n",
        "header says nucleic acid; found mol:na in the header",
    ),
    (">a\n" + "M" * 100_001, "chain is too long; found 100,001 letters; expected at most 100,000; remedy: predict its domains"),
    (
        ">a\n" + "M" * 100_000,
        "job is too large; found 100,000 tokens in 1 chain(s), the longest A with 100,000; expected at most 5,000 tokens",
    ),
    (">a\n" + "MKT:" * 2000 + "MKTAY", "found 6,005 tokens in 2001 chain(s), the longest"),
]


@pytest.mark.parametrize(("text", "message"), WRONG)
def test_wrong_records_say_what_was_found_and_what_to_do(tmp_path: Path, text: str | bytes, message: str) -> None:
    """Every error names file, record number and header."""
    error = error_of(tmp_path, text)
    assert error.startswith(f"{tmp_path}/in.fasta: record 1 (>")
    assert message in error


def test_a_bad_record_hides_no_other(tmp_path: Path) -> None:
    """Twenty records with three bad ones give seventeen jobs and three errors with their record numbers."""
    bad = {3: "MK1T", 8: "", 15: "M" * 100_000}
    text = "".join(f">r{n}\n{bad.get(n, 'MKTAYIAK')}\n" for n in range(1, 21))
    jobs, errors = jobs_of(tmp_path, text)
    assert [job.name for job in jobs] == [f"r{n}" for n in range(1, 21) if n not in bad]
    for number, error in zip(bad, errors, strict=True):
        assert error.where == f"{tmp_path}/in.fasta: record {number} (>r{number})"


NOTES = [
    ("mktay", "chain A: lower case was read as capitals"),
    ("MKtaY", "chain A: mixed case: 2 of 5 letters are small (an alignment row, a masked region?); read as capitals"),
    ("MKTAY*", "chain A: the stop sign '*' at the end was dropped"),
    ("MBTAB", "chain A: B at 2, 5: built as UNK"),
    ("ZZZZZZZ", "chain A: Z at 1, 2, 3, 4, 5 and 2 more: built as UNK"),
    ("MJT", "chain A: J at 2: built as UNK"),
    ("MUT", "chain A: U at 2: selenocysteine is built as UNK and read as C in alignments"),
    ("MOT", "chain A: O at 2: pyrrolysine is built as UNK"),
    ("ACGT" * 6, "chain A: only the letters A C G T U N: is this DNA or RNA? It is read as protein"),
    ("M", "chain A: a chain of 1 residue"),
    ("MK", "chain A: a chain of 2 residues"),
]


@pytest.mark.parametrize(("sequence", "note"), NOTES)
def test_readings_that_change_the_input_are_noted(tmp_path: Path, sequence: str, note: str) -> None:
    """The job is built, in capitals, and the note says how its letters were understood."""
    (job,), errors = jobs_of(tmp_path, f">a\n{sequence}\n")
    assert errors == [] and job.notes == (note,)
    assert job.chains[0].sequence == sequence.rstrip("*").upper()


def test_plain_letters_and_x_carry_no_note(tmp_path: Path) -> None:
    """The 20 letters and X are the plain case."""
    (job,), _ = jobs_of(tmp_path, ">a\nACDEFGHIKLMNPQRSTVWYX\n")
    assert job.notes == ()


def test_parts_of_other_kinds_have_a_word_before_them(tmp_path: Path) -> None:
    """RNA, DNA, components and SMILES with copies; letters of polymers are read as capitals, those of SMILES never."""
    (job,), errors = jobs_of(tmp_path, ">a\nMKT:RNA|ggca:DNA|GATC:CCD|atp|2:SMILES|C[n;1]c|1\n")
    assert errors == []
    assert [(c.id, c.kind.value, c.sequence or c.smiles or c.residues) for c in job.chains] == [
        ("A", "protein", "MKT"),
        ("B", "rna", "GGCA"),
        ("C", "dna", "GATC"),
        ("D", "ligand", ("ATP",)),
        ("E", "ligand", ("ATP",)),
        ("F", "ligand", "C[n:1]c"),
    ]
    assert job.notes == (
        "chain B: lower case was read as capitals",
        "component 'atp' was read as ATP",
        "chain F: ColabFold itself reads SMILES in capitals: another molecule",
    )


def test_headers_of_uniprot_are_names(tmp_path: Path) -> None:
    """A bar in a header is no type."""
    jobs, errors = jobs_of(tmp_path, ">sp|P1|X_HUMAN a\nMKT\n>tr|Q1|Y_HUMAN b\nMKT\n")
    assert [job.name for job in jobs] == ["sp|P1|X_HUMAN a", "tr|Q1|Y_HUMAN b"] and errors == []


def test_names_stay_and_slugs_are_safe(tmp_path: Path) -> None:
    """The user's name is kept as it was; folders are distinct; a missing name is the file's and the record's number."""
    names = ["../../x", "a/b", "a_b", "A_B", "x" * 300, "日本語", ""]
    jobs, errors = jobs_of(tmp_path, "".join(f">{name}\nMKT\n" for name in names))
    assert errors == []
    assert [job.name for job in jobs] == [*names[:-1], "in-7"]
    assert len({job.slug.lower() for job in jobs}) == len(jobs)
    assert all((tmp_path / job.slug).resolve().parent == tmp_path.resolve() for job in jobs)


def test_control_characters_do_not_reach_names_or_errors(tmp_path: Path) -> None:
    """An escape sequence in a header cannot act on the terminal."""
    jobs, errors = jobs_of(tmp_path, b">ok\x1b[31m\xe9 red\nMKT\n>bad\x1b[31m\nM1\n")
    assert jobs[0].name == "ok [31m  red" and "became blanks" in jobs[0].notes[0]
    assert "\x1b" not in str(errors[0])


def test_limits_can_be_set(tmp_path: Path) -> None:
    """Exactly the limit passes, one more does not."""
    text = ">a\nMKT:MK\n"
    assert jobs_of(tmp_path, text, limits=Limits(letters=3, tokens=5))[1] == []
    assert "expected at most 4 tokens" in str(jobs_of(tmp_path, text, limits=Limits(tokens=4))[1][0])
    assert "expected at most 2" in str(jobs_of(tmp_path, text, limits=Limits(letters=2))[1][0])


PIECES = st.one_of(
    st.binary(max_size=40),
    st.sampled_from(
        [b">", b"\n>x|protein\n", b"\r\n", b":", b"/", b"#", b"RNA|", b"\xef\xbb\xbf", b"\xff\xfe", b"\x1f\x8b", b"*", b"\x00"]
    ),
    st.text(string.ascii_letters + ":", max_size=40).map(str.encode),
)


@settings(deadline=None)  # files on a busy machine
@given(st.lists(PIECES, max_size=12).map(b"".join))
def test_any_bytes_give_jobs_or_input_errors(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    """Whatever the file holds, every job is sound and nothing but InputError reports the rest."""
    path = tmp_path_factory.getbasetemp() / "fuzz.fasta"
    path.write_bytes(data)
    jobs, errors = read_jobs([path])
    assert jobs or errors
    assert all(type(error) is InputError and str(error).startswith(str(path)) for error in errors)
    for job in jobs:
        assert job.name and job.slug and job.chains
        assert all(chain.sequence and set(chain.sequence) <= set(string.ascii_uppercase) for chain in job.chains)
        assert Job.from_json(job.to_json()) == job
