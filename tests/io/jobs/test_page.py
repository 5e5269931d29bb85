"""The page on inputs says what the code does: its table is the code's, its examples are read as what they are called."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from structgen.io.jobs.detect import detect
from structgen.io.jobs.formats import FORMATS
from structgen.io.jobs.reading import Source
from structgen.io.jobs.table import markdown
from tests.io.jobs.made import complaints

PAGE = (Path(__file__).parents[3] / "docs" / "inputs.md").read_text(encoding="utf-8")
EXAMPLES = dict(re.findall(r"^### `([a-z0-9-]+)`.*?```\w+\n(.*?)```", PAGE, re.MULTILINE | re.DOTALL))


def test_table_is_the_one_of_the_code():
    """Run `python -m structgen.io.jobs.table` and put it in where this fails."""
    assert markdown() in PAGE


def test_every_format_has_an_example():
    """In the order of the table."""
    assert list(EXAMPLES) == list(FORMATS)


@pytest.mark.parametrize("format", FORMATS)
def test_example_is_understood(tmp_path: Path, format: str):
    """Found by content, read and built without an error."""
    path = tmp_path / f"job{FORMATS[format].suffix}"
    path.write_text(EXAMPLES[format])
    assert detect(Source(str(path), EXAMPLES[format], tmp_path)).name == format
    jobs, errors, _ = complaints(path)
    assert errors == [] and jobs
