"""The list of the lecture's methods is whole: facts, files, tests, figures, pictures; and its page says what it is given."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from benchmarks import lecture
from benchmarks.lecture import FACTS, ROWS, Facts, Figure, Test, check, find_tests, page, read_facts, read_records
from structgen.errors import InputError
from workflows.lecture import gallery

Test.__test__ = False  # type: ignore[attr-defined]  # a row's test, not one of pytest's


def test_every_row_has_facts_files_tests_figures_and_a_picture():
    """Each row has a test named by its id that measures; all are drawn on points but those of encoders and of pictures' networks."""
    facts, tests = read_facts(), find_tests()
    assert len(ROWS) == len(set(ROWS)) == 75 and list(facts) == ROWS
    assert [row for row in ROWS if not any(row in test.rows and test.measures for test in tests)] == []
    drawn = {row for name in gallery.PICTURES for row in gallery.rows(name)}
    pictures = {f"F{n}" for n in range(1, 18) if n != 15}
    assert set(ROWS) - drawn == {"A8", "A10", "A13"} | pictures and drawn <= set(ROWS)


def test_misprints_that_break_an_algorithm_are_named():
    """The two that fail as printed say so, and have a test that shows it."""
    facts, names = read_facts(), {test.name for test in find_tests()}
    assert "run so" in facts["A5"].misprint and "run so" in facts["D2"].misprint
    assert {"test_A5_ancestral_sampling_is_right_and_wrong_as_printed", "test_D2_the_lectures_algorithm_fails_as_printed"} <= names


@pytest.mark.parametrize(
    "row, change, said",
    [
        ("A1", {"files": ["structgen/absent.py"]}, "A1: no file structgen/absent.py"),
        ("A2", {"colour": "red"}, "A2: colour is no fact"),
        ("A3", {"equation": ""}, "A3: equation is missing"),
        ("Z9", {"method": "m", "equation": "e", "files": ["README.md"]}, "Z9 is no row"),
    ],
)
def test_wrong_facts_are_refused(row: str, change: dict, said: str, tmp_path: Path):
    """Each by its row; so is a row that is missing."""
    document = yaml.safe_load(FACTS.read_text())
    document[row] = document.get(row, {}) | change
    del document["C8"]
    (tmp_path / "facts.yaml").write_text(yaml.safe_dump(document))
    with pytest.raises(InputError, match="C8 is missing") as refused:
        read_facts(tmp_path / "facts.yaml")
    assert said in str(refused.value)


def test_tests_are_read_from_their_files(tmp_path: Path):
    """Rows by the name, slow by a mark of the function or the module, measuring by the fixture; one without a row is refused."""
    marks = "@pytest.mark.slow\n@pytest.mark.timeout(9)\n"
    (tmp_path / "test_x.py").write_text(
        f"{marks}def test_C3_C4_two_rows(measured):\n    pass\ndef test_A1_one(rng):\n    pass\ndef no(): pass\n"
    )
    (tmp_path / "test_y.py").write_text("pytestmark = [pytest.mark.slow]\ndef test_B2_all(measured):\n    pass\n")
    both, one, module = find_tests(tmp_path)
    assert (both.rows, both.words, both.slow, both.measures) == (["C3", "C4"], "two rows", True, True)
    assert (one.rows, one.slow, one.measures, one.line, module.slow) == (["A1"], False, False, 5, True)
    (tmp_path / "test_z.py").write_text("def test_Z1_other(): pass\ndef test_nothing(): pass\n")
    with pytest.raises(InputError, match=r"test_Z1_other .* is of no row; test_nothing"):
        find_tests(tmp_path)


def whole() -> tuple[list[Test], list[Figure]]:
    """A test and a figure for each row."""
    tests = [Test(f"test_{row}_holds", "tests/x.py", 1, row == "D9", True) for row in ROWS]
    return tests, [Figure(row, "error", 0.5, 1.0, "", f"tests/x.py::test_{row}_holds[a-b]") for row in ROWS]


def test_what_is_not_whole_is_refused():
    """No test, no figure, a figure of no row, a figure of a test that is gone; a quick run excuses rows of slow tests alone."""
    tests, figures = whole()
    check(tests, figures, quick=False)
    stray = [replace(figures[0], row="Q1"), replace(figures[0], test="tests/x.py::test_A1_gone")]
    with pytest.raises(InputError) as refused:
        check(tests[1:], [*figures[2:], *stray], quick=False)
    for said in (
        "A1 has no test",
        "A2 has no measured figure",
        "measures Q1, which is no row",
        "test_A1_gone is in the record, and is no test",
    ):
        assert said in str(refused.value)
    fast = [figure for figure in figures if figure.row != "D9"]
    check(tests, fast, quick=True)
    with pytest.raises(InputError, match="D9 has no measured figure"):
        check(tests, fast, quick=False)


def test_the_page_has_one_row_a_method(tmp_path: Path):
    """Figures of a kind as a range, equal names on one line, notes once; pipes do not break the table."""
    tests, figures = whole()
    facts = {row: Facts(f"Method {row}", "a=b", ("structgen/train.py",), "wrong" if row == "A1" else "", "") for row in ROWS}
    slopes = [
        Figure("C3", f"slope, {name}, Linear(sigma_min=0.0)", v, 2.0, "n", "tests/x.py::test_C3_holds")
        for name, v in zip("abcd", (2.0123, 1.9, 2, 2.1), strict=True)
    ]
    pair = [Figure("C4", "E|x| of P(b=Q(c=1), d=2)", v, None, "note", f"tests/x.py::test_C4_holds[{v}]") for v in (1e-9, 3.0)]
    text = page(facts, tests, [*figures, *slopes, *pair], {"A1": ["forward"]}, quick=True)
    lines = {line.split("|")[1].strip(" *"): line for line in text.splitlines() if line.startswith("| **")}
    assert list(lines) == ROWS
    assert "slope: 1.9 to 2.1, 4 cases (2) *n*" in lines["C3"] and "error: 0.5 (1)" in lines["C3"]
    assert "E\\|x\\| of P: 1e-09, 3 *note*" in lines["C4"]
    assert "*Misprint:* wrong." in lines["A1"] and "](gallery/forward.png)" in lines["A1"] and "Misprint" not in lines["A2"]
    assert "(slow)" in lines["D9"] and "--quick" in text
    assert all(line.replace("\\|", "").count("|") == 6 for line in lines.values())


def test_the_last_of_two_measurements_counts(tmp_path: Path):
    """A record may be appended to."""
    _, (one, *_) = whole()
    path = tmp_path / "record.jsonl"
    path.write_text("".join(json.dumps(vars(replace(one, value=v))) + "\n" for v in (1.0, 2.0)))
    assert [figure.value for figure in read_records([path])] == [2.0]


def test_the_shipped_page_is_of_these_rows():
    """docs/lecture.md has each row of the list, once, and names the facts' methods."""
    text = lecture.PAGE.read_text()
    assert all(text.count(f"| **{row}** | **{facts.method}**") == 1 for row, facts in read_facts().items())
