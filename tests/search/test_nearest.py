"""The nearest sequence of a set, and the residues that correspond."""

from __future__ import annotations

import numpy as np

from structgen.search.nearest import block_of, nearest

LETTERS = np.array(list("ACDEFGHIKLMNPQRSTVWY"))


def random_sequence(seed: int, length: int = 90) -> str:
    return "".join(np.random.default_rng(seed).choice(LETTERS, length))


def test_a_shifted_copy_with_a_gap_is_found_and_paired() -> None:
    """The query's letters lie on equal letters of the copy, across an insertion; another sequence of the set is not taken."""
    query = random_sequence(0)
    copy = random_sequence(1, 12) + query[:40] + "WWW" + query[40:] + random_sequence(2, 9)
    found = nearest(query, block_of({"far": random_sequence(3), "near": copy}))
    assert found is not None and found.name == "near" and found.e_value < 1e-10
    pairs = list(zip(found.own.tolist(), found.other.tolist(), strict=True))
    assert len(pairs) > 80 and [copy[j] for _, j in pairs] == [query[i] for i, _ in pairs]
    assert (0, 12) in pairs and (89, 12 + 89 + 3) in pairs


def test_nothing_alike_is_nothing() -> None:
    """A sequence whose like is not in the set has no neighbour; the limit decides."""
    block = block_of({str(k): random_sequence(k + 10) for k in range(20)})
    assert nearest(random_sequence(0), block, e_value=1e-3) is None
