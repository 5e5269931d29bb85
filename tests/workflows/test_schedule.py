"""What goes first, where it goes, and how far ahead: decided without Ray, tried in pretended time."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from structgen.run import Row
from workflows.schedule import LIGHT, Piece, Place, Schedule, bucket
from workflows.simulate import Outcome, ideal, makespan, sharded, simulate

WIDE = dict.fromkeys(LIGHT, 10_000)


def row(slug: str, cost: float, tokens: int = 100, **more: str | float) -> Row:
    return {"slug": slug, "tokens": tokens, "cost": cost, "error": "", **more}


def one_seed(row: Row) -> tuple[int, ...]:
    return (1,)


def seconds(piece: Piece) -> float:
    return float(piece.row["cost"]) if piece.stage == "fold" else 0.0


def ready(schedule: Schedule, rows: list[Row]) -> None:
    """Carry rows up to the door of Fold."""
    assert list(schedule.enter(rows)) == []
    while pieces := list(schedule.light(WIDE)):
        for piece in pieces:
            assert list(schedule.ended(piece, piece.row)) == []


def folded(schedule: Schedule, places: list[Place]) -> Iterator[tuple[str, str]]:
    return ((str(piece.row["slug"]), place.name) for piece, place in schedule.fold(places))


def test_costliest_goes_first_by_cost_and_not_by_length():
    """A shorter job of many rows may cost more."""
    schedule = Schedule(one_seed)
    ready(schedule, [row("long", 5.0, 500), row("deep", 9.0, 200), row("small", 1.0, 50)])
    assert [slug for slug, _ in folded(schedule, [Place("a"), Place("b")])] == ["deep", "long"]
    assert schedule.waiting["fold"] == 1 and schedule.running["fold"] == 2


def test_equal_jobs_go_in_the_order_given():
    schedule = Schedule(one_seed)
    ready(schedule, [row(f"job{n}", 1.0) for n in range(5)])
    assert [slug for slug, _ in folded(schedule, [Place(str(n)) for n in range(5)])] == [f"job{n}" for n in range(5)]


def test_fold_waits_for_the_memory_of_a_node_and_a_smaller_one_goes_before():
    """Folds of one node together never take more than it has; what fits elsewhere does not wait."""
    schedule = Schedule(one_seed)
    schedule.nodes.memory = {"big": 100.0, "small": 40.0}
    ready(schedule, [row("a", 4.0, mib=70.0), row("b", 3.0, mib=60.0), row("c", 2.0, mib=30.0)])
    places = [Place("1", "big"), Place("2", "big"), Place("3", "small")]
    started = list(schedule.fold(places))
    assert [(piece.row["slug"], place.node) for piece, place in started] == [("a", "big"), ("c", "big")]
    list(schedule.ended(started[0][0], {**started[0][0].row, "fold": "k"}, started[0][1]))
    assert [(p.row["slug"], place.node) for p, place in schedule.fold([places[0], places[2]])] == [("b", "big")]


def test_fold_that_no_node_can_hold_is_known_while_others_go_on():
    """What fits is folded; what does not waits, and is told apart."""
    schedule = Schedule(one_seed)
    ready(schedule, [row("huge", 4.0, mib=700.0), row("fits", 1.0, mib=10.0)])
    assert schedule.too_large() == []
    schedule.nodes.memory = {"n": 100.0}
    assert [piece.row["slug"] for piece in schedule.too_large()] == ["huge"]
    assert dict(folded(schedule, [Place("a", "n"), Place("b", "n")])) == {"fits": "a"}
    schedule.nodes.memory = {"n": 1000.0}
    assert schedule.too_large() == [] and dict(folded(schedule, [Place("b", "n")])) == {"huge": "b"}


def test_worker_that_has_met_a_length_gets_it_again():
    """Shapes of one bucket stay with a worker, as far as it is free."""
    schedule = Schedule(one_seed)
    ready(schedule, [row("x", 9.0, 250), row("y", 8.0, 500), row("x2", 7.0, 200), row("y2", 6.0, 510)])
    first = dict(folded(schedule, [Place("a"), Place("b")]))
    assert first == {"x": "a", "y": "b"}
    assert dict(folded(schedule, [Place("b"), Place("a")])) == {"x2": "a", "y2": "b"}
    schedule.forget(Place("a"))
    ready(schedule, [row("x3", 7.0, 200)])
    assert dict(folded(schedule, [Place("b"), Place("a")])) == {"x3": "b"}


def test_buckets_hold_their_lengths():
    assert [bucket(n) for n in (1, 64, 65, 5000, 9000)] == [64, 64, 128, 5120, 9000]


def test_search_never_runs_further_ahead_than_the_window():
    """With slow folds the window bounds what is searched; with none, everything is searched at once."""
    rows = [row(f"job{n}", 1.0) for n in range(200)]

    def run(ahead: int) -> Outcome:
        return simulate(Schedule(one_seed, ahead=ahead), rows, [Place("a"), Place("b")], WIDE, seconds)

    bounded, free = run(6), run(0)
    assert bounded.furthest <= 6 and free.furthest > 150
    assert bounded.makespan == free.makespan == 100.0 and bounded.ended == 200


def test_lost_worker_gives_its_piece_back():
    """The piece waits again with one try more and other settings, and its memory is free."""
    schedule = Schedule(one_seed)
    schedule.nodes.memory = {"n": 50.0}
    ready(schedule, [row("a", 1.0, mib=40.0)])
    place = Place("1", "n")
    ((piece, _),) = schedule.fold([place])
    schedule.again(piece, place, at_once=2)
    ((again, _),) = schedule.fold([Place("2", "n")])
    assert (again.tries, again.row["at_once"]) == (2, 2) and schedule.running["fold"] == 1


def test_seeds_part_and_meet_and_a_lost_one_does_not_hold_back_the_others():
    schedule = Schedule(lambda row: (1, 2, 3))
    ready(schedule, [row("a", 1.0)])
    for piece, place in list(schedule.fold([Place(str(n)) for n in range(3)])):
        ended = {**piece.row, "error": "boom"} if piece.row["seed"] == 2 else {**piece.row, "fold": f"k{piece.row['seed']}"}
        assert list(schedule.ended(piece, ended, place)) == []
    (piece,) = schedule.light(WIDE)
    assert piece.stage == "write" and piece.row["folds"] == '{"1": "k1", "3": "k3"}' and piece.row["lost"] == '{"2": "boom"}'


@pytest.mark.parametrize("places", [1, 3, 8, 64])
def test_makespan_is_near_the_ideal_and_beats_other_orders(places: int):
    """Many jobs of very different length: within 5 % of what is possible, better than first-come and than static shares."""
    rng = random.Random(places)
    costs = [rng.lognormvariate(0, 1.2) for _ in range(600)]
    rows = [row(f"job{n}", cost) for n, cost in enumerate(costs)]
    ours = makespan(rows, one_seed, places)
    slots = [Place(str(n)) for n in range(places)]
    first_come = simulate(Schedule(one_seed, priority=lambda row: 0.0), rows, slots, WIDE, seconds)
    least = ideal(costs, places)
    assert least - 1e-9 <= ours <= least / 0.95
    assert first_come.ended == 600 and first_come.busy == pytest.approx(sum(costs))
    assert ours <= first_come.makespan + 1e-9 and ours <= sharded(costs, places) + 1e-9
    if places > 1:
        assert ours < sharded(costs, places)
