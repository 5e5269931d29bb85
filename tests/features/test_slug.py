"""Folder names: inside the output folder, on every file system, without collisions."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from structgen.features.slug import LONGEST, safe_slug, unique_slugs

HOSTILE = [
    "../../x",
    "a/b",
    "a\\b",
    "..",
    ".",
    "",
    " ",
    "-rf",
    "~",
    "$HOME",
    "x" * 300,
    "日本",
    "Ünïcode name",
    "CON",
    "nul.txt",
    "COM1",
    "lpt9.a",
    "run.json",
    "RUN.JSON",
    "a:b",
    'a"b',
    "a\0b",
    "\x1b[31mred",
    ".hidden",
    "trailing.",
    "x\n",
    "%2e%2e%2f",
    "conin$",
]


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_stay_inside(tmp_path: Path, name: str) -> None:
    """The slug is one path component that exists nowhere else, and a folder can be made of it."""
    slug = safe_slug(name)
    folder = tmp_path / slug
    folder.mkdir()
    assert folder.resolve().parent == tmp_path.resolve()
    assert len(slug) <= LONGEST and slug.isascii() and slug[0] not in ".-" and slug[-1] not in ". "
    assert slug.split(".")[0].lower() not in {"con", "nul", "com1", "lpt9", "conin$"} and slug.lower() != "run.json"


def test_plain_names_are_kept() -> None:
    """What is safe already is not touched; other characters become one underscore."""
    assert safe_slug("1UBQ_A-v1.2") == "1UBQ_A-v1.2"
    assert safe_slug("sp|P0CG48|UBC_HUMAN Polyubiquitin") == "sp_P0CG48_UBC_HUMAN_Polyubiquitin"
    assert safe_slug("../../x") == "_.._x"


def test_long_names_that_differ_at_the_end_differ() -> None:
    """The hash of the whole name is kept."""
    assert safe_slug("x" * 300) != safe_slug("x" * 299 + "y")


def test_first_of_equal_slugs_keeps_its_name_and_the_rest_depend_on_content_alone() -> None:
    """Case and cleaning make names equal; the suffix of a job does not change when jobs are added before it."""
    slugs = unique_slugs(["a b", "A_B", "a/b", "c"], ["M", "M", "K", "M"])
    assert slugs[0] == "a_b" and slugs[3] == "c"
    assert len({slug.lower() for slug in slugs}) == 4
    longer = unique_slugs(["a b", "z", "y", "A_B", "a/b"], ["M", "M", "M", "M", "K"])
    assert longer[3:] == slugs[1:3]


def test_the_same_record_three_times_is_counted() -> None:
    """Equal name and content: name, name-hash, name-hash-2; and a name that looks like a suffix does not collide."""
    first, second, third = unique_slugs(["a"] * 3, ["M"] * 3)
    assert first == "a" and second.startswith("a-") and third == f"{second}-2"
    slugs = unique_slugs(["a", second, "a"], ["M"] * 3)
    assert len(set(slugs)) == 3


@given(st.lists(st.tuples(st.one_of(st.text(max_size=200), st.sampled_from(HOSTILE)), st.text(max_size=3)), max_size=12))
def test_any_batch_of_names_has_distinct_safe_slugs(batch: list[tuple[str, str]]) -> None:
    """Distinct without case, printable ASCII of [A-Za-z0-9_.-], at most 150 characters, never hidden."""
    slugs = unique_slugs([name for name, _ in batch], [content for _, content in batch])
    assert len({slug.lower() for slug in slugs}) == len(batch)
    for slug in slugs:
        assert 0 < len(slug) <= LONGEST and slug[0] not in ".-"
        assert all(c.isascii() and (c.isalnum() or c in "_.-") for c in slug)
