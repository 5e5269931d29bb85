"""Glycans as trees: the texts of AlphaFold Server (linkages assumed) and of Chai (linkages written), and residues with bonds."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from structgen.errors import InputError
from structgen.features.job import AtomName, Bond, Chain

SUGARS = frozenset(
    "NAG NDG BMA MAN FUC FUL GAL GLA GLC BGC SIA SLB NGA A2G XYS XYP RAM RIB ARA AHR GCU BDP IDR GCS SGN IDS KDN NGC FRU LAC".split()
)
SITES = {"N": "ND2", "S": "OG", "T": "OG1"}  # where a glycan is joined to a protein, by the residue's letter
MOST_BRANCHES = 100
_LINK = re.compile(r"([1-9])-([1-9])\s*")


@dataclass(frozen=True)
class Sugar:
    """A residue of a glycan: `link` is the atom of its parent and its own atom of their bond, empty at the root."""

    code: str
    link: tuple[str, str] = ("", "")
    children: tuple[Sugar, ...] = ()

    def walk(self) -> Iterator[Sugar]:
        """The residues in order: each before its children."""
        yield self
        for child in self.children:
            yield from child.walk()

    @property
    def residues(self) -> tuple[str, ...]:
        """Component codes in order."""
        return tuple(sugar.code for sugar in self.walk())


def bonds_in(tree: Sugar, chain: str) -> list[Bond]:
    """The bonds between the residues of a tree, numbered in its order."""
    bonds: list[Bond] = []
    number = iter(range(1, len(tree.residues) + 1))

    def visit(sugar: Sugar, parent: int) -> None:
        own = next(number)
        if parent:
            bonds.append(Bond(AtomName(chain, parent, sugar.link[0]), AtomName(chain, own, sugar.link[1])))
        for child in sugar.children:
            visit(child, own)

    visit(tree, 0)
    return bonds


def tree_of(residues: Sequence[str], chain: str, bonds: Sequence[Bond]) -> Sugar | None:
    """The tree of a ligand's residues and bonds, or None where they are not numbered and bonded as a tree is."""
    inner = [
        bond if bond.first.residue < bond.second.residue else Bond(bond.second, bond.first)
        for bond in bonds
        if bond.first.chain == bond.second.chain == chain
    ]
    links = {bond.second.residue: bond for bond in inner}
    if len(links) != len(inner) or any(bond.first.residue == bond.second.residue for bond in inner):
        return None

    def build(number: int) -> Sugar:
        link = (links[number].first.atom, links[number].second.atom) if number in links else ("", "")
        children = tuple(build(child) for child in sorted(links) if links[child].first.residue == number)
        return Sugar(residues[number - 1], link, children)

    tree = build(1)
    return tree if tree.residues == tuple(residues) and set(bonds_in(tree, chain)) == set(inner) else None


def site_of(chain: Chain, bonds: Sequence[Bond]) -> tuple[AtomName, AtomName] | None:
    """The one atom outside of a ligand that it is bonded to, and its own atom there; None where there is not just one."""
    outer = [bond for bond in bonds if (bond.first.chain == chain.id) != (bond.second.chain == chain.id)]
    if len(outer) != 1:
        return None
    first, second = outer[0].first, outer[0].second
    return (second, first) if first.chain == chain.id else (first, second)


def parse_chai(text: str, where: str) -> Sugar:
    """`NAG(6-1 FUC)(4-1 NAG)`: O6 of the parent to C1 of the child."""
    return _tree(text, where, written=True)


def chai_text(tree: Sugar) -> str | None:
    """The text of a tree, or None where a linkage is not one of oxygen 1-9 to carbon 1-9, or a code has not three characters."""
    codes = all(len(sugar.code) == 3 for sugar in tree.walk())
    links = all(re.fullmatch("O[1-9]", a) and re.fullmatch("C[1-9]", b) for s in tree.walk() for a, b in [s.link] if s is not tree)
    return _written(tree, linked=True) if codes and links else None


def parse_server(text: str, where: str) -> Sugar:
    """`NAG(NAG(BMA(MAN)(MAN)))` with the usual linkages. Raises `InputError` with the tree where these are not unique."""
    return _linked(_tree(text, where, written=False), text, where)


def server_text(tree: Sugar) -> str | None:
    """The text of a tree, or None where reading it would give other linkages."""
    text = _written(tree, linked=False)
    try:
        return text if parse_server(text, "") == tree else None
    except InputError:
        return None


def _tree(text: str, where: str, *, written: bool) -> Sugar:
    if text.count("(") > MOST_BRANCHES:
        raise _bad_tree(text, where, f"{text.count('(')} branches, more than {MOST_BRANCHES}")
    tree, rest = _sugar(text.strip(), text, where, written=written)
    if rest:
        raise _bad_tree(text, where, f"{rest[:20]!r} behind the tree")
    return tree


def _sugar(text: str, whole: str, where: str, *, written: bool, link: tuple[str, str] = ("", "")) -> tuple[Sugar, str]:
    """The residue at the start of a text, with its children, and the text behind it."""
    head = re.match(r"[A-Z0-9]{3}" if written else r"[A-Z0-9]{1,5}", text)
    if not head:
        raise _bad_tree(whole, where, f"{text[:20]!r} where a code of {'three characters' if written else 'a sugar'} is expected")
    text, children = text[head.end() :].lstrip(), []
    while text.startswith("("):
        inner, child_link = text[1:].lstrip(), ("", "")
        if written:
            numbers = _LINK.match(inner)
            if not numbers:
                raise _bad_tree(whole, where, f"{inner[:20]!r} where a linkage such as 4-1 is expected")
            inner, child_link = inner[numbers.end() :], (f"O{numbers[1]}", f"C{numbers[2]}")
        child, inner = _sugar(inner, whole, where, written=written, link=child_link)
        if not inner.startswith(")"):
            raise _bad_tree(whole, where, f"{inner[:20]!r} where ')' is expected")
        children.append(child)
        text = inner[1:].lstrip()
    return Sugar(head[0], link, tuple(children)), text


def _linked(tree: Sugar, text: str, where: str) -> Sugar:
    """The tree with the usual linkages: the chitobiose core and lactosamine by O4, core fucose by O6, arms of a mannose by O3 and O6."""
    children = tuple(_linked(child, text, where) for child in tree.children)
    fucose = [child for child in children if child.code in ("FUC", "FUL")]
    others = [child for child in children if child not in fucose]
    if tree.code in ("NAG", "NDG"):
        atoms = ["O6" if child in fucose else "O4" for child in children]
        clear = len(fucose) <= 1 and len(others) <= 1 and all(child.code in ("NAG", "NDG", "BMA", "GAL", "MAN") for child in others)
    elif tree.code in ("BMA", "MAN"):
        atoms = ["O3", "O6"]
        clear = not children or (len(children) == 2 and children[0] == children[1] and not fucose)
    else:
        atoms, clear = [], not children
    if not clear:
        shown = f"{tree.code} with {' and '.join(child.code for child in children)}, in {text}"
        remedy = "give the residues as a ligand with its bonds in AlphaFold 3 JSON"
        raise InputError("linkage of a glycan is not clear", where=where, found=shown, expected="one usual linkage a branch", remedy=remedy)
    return Sugar(tree.code, tree.link, tuple(Sugar(c.code, (a, "C1"), c.children) for c, a in zip(children, atoms, strict=False)))


def _written(tree: Sugar, *, linked: bool) -> str:
    text = tree.code
    for child in tree.children:
        numbers = f"{child.link[0][1:]}-{child.link[1][1:]} " if linked else ""
        text += f"({numbers}{_written(child, linked=linked)})"
    return text


def _bad_tree(text: str, where: str, found: str) -> InputError:
    return InputError(
        "not the tree of a glycan", where=where, found=f"{found}, in {text[:100]}", expected="codes with branches in brackets"
    )
