"""Write docs/lecture.md: every method of the lecture, its files, its tests and what they measured.

    python -m benchmarks.lecture [--quick] [--record FILE...] [--out docs/lecture.md]

Runs tests/conformance with what they measure recorded, and joins the record with docs/lecture.yaml. `--quick` leaves slow tests out;
`--record` takes the figures of runs made before (STRUCTGEN_MEASURED=FILE pytest tests/conformance -m ""). Raises `InputError` if a row
has no facts, no test or no figure, if a test or a figure belongs to no row, or if a named file is not there.
"""

from __future__ import annotations

import argparse
import ast
import itertools
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from structgen.errors import InputError, StructgenError
from structgen.store import replace_file

REPOSITORY = Path(__file__).parents[1]
FACTS, TESTS, PAGE = REPOSITORY / "docs" / "lecture.yaml", REPOSITORY / "tests" / "conformance", REPOSITORY / "docs" / "lecture.md"
SECTIONS = {
    "A": ("DDPM and DDIM", range(1, 18)),
    "B": ("Scores and stochastic differential equations", range(1, 15)),
    "C": ("Solvers", range(1, 9)),
    "D": ("Bridges, distillation, consistency", range(1, 10)),
    "E": ("Flows", range(1, 11)),
    "F": ("Pictures and clips", range(1, 18)),
}
ROWS = [f"{letter}{number}" for letter, (_, numbers) in SECTIONS.items() for number in numbers]
NOT_RUN = "*by slow tests, which were left out*"
FEW = 3  # figures of one test that are written one by one


@dataclass(frozen=True)
class Facts:
    """What docs/lecture.yaml says of a row."""

    method: str
    equation: str
    files: tuple[str, ...]
    misprint: str = ""
    peer: str = ""


@dataclass(frozen=True)
class Test:
    """A test function of tests/conformance."""

    name: str
    file: str  # from the repository's root
    line: int
    slow: bool
    measures: bool

    @property
    def rows(self) -> list[str]:
        """The rows that its name begins with: test_C3_C4_phi_form... is of C3 and C4."""
        return re.findall(r"[A-Z]\d+", _prefix(self.name))

    @property
    def words(self) -> str:
        return self.name.removeprefix(_prefix(self.name)).replace("_", " ")


def _prefix(name: str) -> str:
    match = re.match(r"test_(?:[A-Z]\d+_)+", name)
    return match.group() if match else "test_"


@dataclass(frozen=True)
class Figure:
    """One line of the record."""

    row: str
    what: str
    value: float
    threshold: float | None
    note: str
    test: str  # pytest's id


def read_facts(path: Path = FACTS) -> dict[str, Facts]:
    """Raises `InputError` for a row that the list does not have, one that is missing, an unknown key and a file that is not there."""
    document = yaml.safe_load(path.read_text(encoding="utf-8"))
    known = {field for field in Facts.__dataclass_fields__}
    wrong = [f"{row} is no row" for row in document if row not in ROWS] + [f"{row} is missing" for row in ROWS if row not in document]
    for row, facts in document.items():
        wrong += [f"{row}: {key} is no fact" for key in set(facts) - known]
        wrong += [f"{row}: {key} is missing" for key in ("method", "equation", "files") if not facts.get(key)]
        wrong += [f"{row}: no file {name}" for name in facts.get("files", ()) if not (REPOSITORY / name).is_file()]
    _refuse(wrong, path)
    return {row: Facts(**document[row] | {"files": tuple(document[row]["files"])}) for row in ROWS}


def find_tests(folder: Path = TESTS) -> list[Test]:
    """All test functions, read from their files. Raises `InputError` for one whose name begins with no row of the list."""
    tests = [test for path in sorted(folder.glob("test_*.py")) for test in _tests_of(path)]
    wrong = [f"{test.name} ({test.file}) is of no row" for test in tests if not test.rows or not set(test.rows) <= set(ROWS)]
    _refuse(wrong, folder)
    return tests


def _tests_of(path: Path) -> Iterable[Test]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    all_slow = any(
        isinstance(node, ast.Assign) and _names_slow(node) and ast.unparse(node.targets[0]) == "pytestmark" for node in tree.body
    )
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
            slow = all_slow or any(map(_names_slow, node.decorator_list))
            measures = "measured" in {argument.arg for argument in node.args.args}
            name = path.relative_to(REPOSITORY) if path.is_relative_to(REPOSITORY) else path
            yield Test(node.name, str(name), node.lineno, slow, measures)


def _names_slow(node: ast.AST) -> bool:
    return "pytest.mark.slow" in ast.unparse(node)


def measure(quick: bool) -> list[Figure]:
    """Run the tests. Raises `InputError` if one fails."""
    with tempfile.TemporaryDirectory() as folder:
        record = Path(folder) / "measured.jsonl"
        command = [sys.executable, "-m", "pytest", str(TESTS), "-q", "-m", "not slow" if quick else ""]
        done = subprocess.run(command, cwd=REPOSITORY, env=os.environ | {"STRUCTGEN_MEASURED": str(record)})
        if done.returncode:
            raise InputError("tests of the lecture's rows fail: the page is not written", where=str(TESTS))
        return read_records([record])


def read_records(paths: Sequence[Path]) -> list[Figure]:
    """Of what was measured more than once, the last."""
    lines = [Figure(**json.loads(line)) for path in paths for line in path.read_text(encoding="utf-8").splitlines()]
    return list({(figure.row, figure.what, figure.test): figure for figure in lines}.values())


def check(tests: Sequence[Test], figures: Sequence[Figure], quick: bool) -> None:
    """Raises `InputError` for a row without a test or a figure (if quick: unless its tests are slow), and a figure of no row or no test."""
    measured, names = {figure.row for figure in figures}, {(test.file, test.name) for test in tests}
    wrong = [f"{row} has no test" for row in ROWS if not any(row in test.rows for test in tests)]
    for row in ROWS:
        measuring = [test for test in tests if row in test.rows and test.measures]
        excused = quick and measuring and all(test.slow for test in measuring)
        wrong += [] if row in measured or excused else [f"{row} has no measured figure"]
    wrong += [f"{figure.test} measures {figure.row}, which is no row" for figure in figures if figure.row not in ROWS]
    wrong += [f"{figure.test} is in the record, and is no test" for figure in figures if _function(figure.test) not in names]
    _refuse(wrong, TESTS)


def _function(test: str) -> tuple[str, str]:
    """tests/conformance/test_x.py::test_A1_y[z] -> its file and test_A1_y."""
    file, _, name = test.partition("::")
    return file, name.partition("[")[0]


def _refuse(wrong: Sequence[str], where: Path) -> None:
    if wrong:
        raise InputError("the lecture's rows are not whole", where=str(where), found="; ".join(sorted(set(wrong))))


HEAD = """# The lecture, method by method

Made by `python -m benchmarks.lecture{quick}` from [lecture.yaml](lecture.yaml) and from what the tests in `tests/conformance` measured; not
to be edited. Time runs from data (t = 0) to noise in the code; equations are as the lecture writes them, with its misprints corrected.
A figure stands before the threshold that its test asserts (a slope before the order that it must meet); where a threshold of the plan
proved wrong or out of reach, the reason stands beside the figure. "Elsewhere" is what other libraries reach, on the same two mixtures
unless said otherwise (2-D: 8 modes on a ring; 64-D: 10 modes); the pictures are in the [gallery](gallery/README.md).
"""


def page(facts: dict[str, Facts], tests: Sequence[Test], figures: Sequence[Figure], pictures: dict[str, list[str]], quick: bool) -> str:
    """The text of docs/lecture.md; `pictures` are the names of those that show a row."""
    parts = [HEAD.format(quick=" --quick" if quick else "")]
    for letter, (title, numbers) in SECTIONS.items():
        parts.append(f"\n## {letter}. {title}\n\n| | method | files and tests | measured (threshold) | elsewhere |\n|---|---|---|---|---|")
        for row in (f"{letter}{number}" for number in numbers):
            own = [figure for figure in figures if figure.row == row]
            tested = [test for test in tests if row in test.rows]
            cells = (
                _method(facts[row], pictures.get(row, [])),
                _files_and_tests(facts[row], tested),
                _figures(own) or NOT_RUN,
                facts[row].peer,
            )
            parts.append(f"| **{row}** | " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(parts) + "\n"


def _method(facts: Facts, pictures: Sequence[str]) -> str:
    lines = [f"**{facts.method}**", f"$`{facts.equation}`$"]
    lines += [f"*Misprint:* {facts.misprint}."] if facts.misprint else []
    lines += ["Picture: " + ", ".join(f"[{name}](gallery/{name}.png)" for name in pictures)] if pictures else []
    return "<br>".join(lines)


def _files_and_tests(facts: Facts, tests: Sequence[Test]) -> str:
    files = ", ".join(f"[{name.removeprefix('structgen/')}](../{name})" for name in facts.files)
    slow = {True: " (slow)", False: ""}
    return "<br>".join([files, *(f"· [{test.words}](../{test.file}#L{test.line}){slow[test.slow]}" for test in tests)])


def _figures(figures: Sequence[Figure]) -> str:
    """Few figures of a kind one by one; many as their range."""
    kinds: dict[object, list[Figure]] = {}
    for figure in figures:
        kinds.setdefault((_function(figure.test), figure.threshold, figure.what.split()[0]), []).append(figure)
    lines = []
    for members in kinds.values():
        same = len({_plain(one.what) for one in members}) == 1
        if same or len(members) > FEW:
            lines.append(_line(_common([_plain(one.what) for one in members]), members))
        else:
            lines += [_line(_plain(one.what), [one], remarked=one is members[-1] or one.note != members[-1].note) for one in members]
    return "<br>".join(lines)


def _plain(text: str) -> str:
    """Without the fields of objects: VariancePreserving(betas=LinearBetas(...)) is VariancePreserving."""
    while text != (text := re.sub(r"\(\w*=?[^()]*\)", lambda match: match.group() if "=" not in match.group() else "", text)):
        pass
    return text.replace("()", "")


def _common(texts: Sequence[str]) -> str:
    """The words with which all begin."""
    words = itertools.takewhile(lambda column: len(set(column)) == 1, zip(*(text.split() for text in texts), strict=False))
    return " ".join(column[0] for column in words).rstrip(" ,=:")


def _line(what: str, members: Sequence[Figure], remarked: bool = True) -> str:
    """Figures of one threshold, and what was noted of them."""
    values = [number(one.value) for one in sorted(members, key=lambda one: one.value)]
    value = ", ".join(values) if len(values) <= FEW else f"{values[0]} to {values[-1]}, {len(values)} cases"
    notes = list(dict.fromkeys(one.note for one in members if one.note))
    remark = f" *{'; '.join(notes)}*" if remarked and 0 < len(notes) <= FEW else ""
    return f"{what}: {value}" + ("" if (limit := members[0].threshold) is None else f" ({number(limit)})") + remark


def number(value: float) -> str:
    """Three digits; whole numbers as they are."""
    return f"{value:.0f}" if value == int(value) and abs(value) < 1e4 else f"{value:.3g}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--record", type=Path, nargs="*", default=[])
    parser.add_argument("--out", type=Path, default=PAGE)
    options = parser.parse_args()
    try:
        write(options.out, options.record, options.quick)
    except StructgenError as error:
        raise SystemExit(f"lecture: {error}") from error


def write(out: Path, records: Sequence[Path], quick: bool) -> None:
    """The whole command."""
    from workflows.lecture import gallery

    facts, tests = read_facts(), find_tests()
    figures = read_records(records) if records else measure(quick)
    check(tests, figures, quick)
    pictures = {row: [name for name in gallery.PICTURES if row in gallery.rows(name)] for row in ROWS}
    replace_file(out, page(facts, tests, figures, pictures, quick).encode())


if __name__ == "__main__":
    main()
