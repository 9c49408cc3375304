from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twinseal.prognostics.ledger import Ledger

CAP, WINDOW, SHARE = 125.0, 20, 0.2

steps = st.lists(
    st.tuples(
        st.one_of(st.just(1), st.integers(-3, 30)),  # how much older than at the row before
        st.floats(0, CAP),  # the estimate
        st.one_of(st.floats(0, 80), st.just(np.inf)),  # its margin
        st.booleans() | st.just(True),  # whether the row counts
    ),
    min_size=1,
    max_size=60,
)


def ledger(units: int = 1) -> Ledger:
    return Ledger(units, WINDOW, SHARE, 0.95 * CAP)


def told(book: Ledger, ages: list[int], estimate: float, at_most: float = np.inf) -> list[float]:
    """The answers of unit 0 at each of the ages, with one estimate and statement."""
    return [float(book.enter([0], [age], [estimate], [at_most]).answers[0]) for age in ages]


@settings(max_examples=300, deadline=None)
@given(steps)
def test_no_answer_is_above_an_earlier_statement_minus_the_cycles_since(steps: list[tuple]) -> None:
    """Law: whatever estimates, gaps, losses, repeated and refused rows come."""
    book, age, statements = ledger(), 0, []
    for step, estimate, margin, counts in steps:
        age = max(1, age + step)
        later = age > book.ages[0]
        entry = book.enter([0], [age], [estimate], [estimate + margin], [counts])
        if later and counts:
            statements.append(age + estimate + margin)
        answer = float(entry.answers[0])
        assert 0 <= answer <= CAP
        assert all(answer <= max(0.0, end - age) + 1e-9 for end in statements)
        assert bool(entry.refused[0]) >= (not later or not counts or bool(entry.too_many_lost[0]))
        assert entry.refused[0] or answer <= estimate


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.floats(0, CAP), st.floats(0, 60)), min_size=5, max_size=60), st.data())
def test_losing_rows_never_raises_an_answer_above_what_was_stated(rows: list[tuple], data: st.DataObject) -> None:
    """Law: with any rows lost, an answer is still within every statement of the rows that came."""
    arrives = data.draw(st.lists(st.booleans(), min_size=len(rows), max_size=len(rows)))
    book, stated = ledger(), np.inf
    for age, ((estimate, margin), here) in enumerate(zip(rows, arrives, strict=True), start=1):
        if here:
            stated = min(stated, age + estimate + margin)
            assert book.enter([0], [age], [estimate], [estimate + margin]).answers[0] <= max(0.0, stated - age) + 1e-9


@settings(max_examples=100, deadline=None)
@given(st.lists(steps, min_size=2, max_size=5))
def test_units_side_by_side_are_as_each_alone(lives: list[list[tuple]]) -> None:
    """Law: a batch over units is each unit by itself."""
    together, alone = ledger(len(lives)), [ledger() for _ in lives]
    ages = [0] * len(lives)
    for at in range(max(map(len, lives))):
        here = [unit for unit, life in enumerate(lives) if at < len(life)]
        for unit in here:
            ages[unit] = max(1, ages[unit] + lives[unit][at][0])
        told = [lives[unit][at] for unit in here]
        estimates, margins, counts = (np.array([row[k] for row in told]) for k in (1, 2, 3))
        both = together.enter(here, [ages[u] for u in here], estimates, estimates + margins, counts)
        for place, unit in enumerate(here):
            one = alone[unit].enter(
                [0], [ages[unit]], estimates[[place]], (estimates + margins)[[place]], counts[[place]]
            )
            assert one.answers[0] == both.answers[place] and one.lost[0] == both.lost[place]
            assert one.refused[0] == both.refused[place] and one.at_most[0] == both.at_most[place]


@settings(max_examples=100, deadline=None)
@given(steps)
def test_it_counts_the_cycles_that_were_lost(steps: list[tuple]) -> None:
    book, age, seen = ledger(), 0, set()
    for step, estimate, _, counts in steps:
        age = max(1, age + step)
        if age > book.ages[0] and counts:
            seen.add(age)
        entry = book.enter([0], [age], [estimate], [estimate], [counts])
        newest = int(book.ages[0])
        lost = set(range(max(1, newest - WINDOW + 1), newest + 1)) - seen
        assert len(lost) == entry.lost[0]


def test_an_estimate_at_the_cap_states_nothing_and_a_later_one_is_held_to() -> None:
    book = ledger()
    assert told(book, [1, 2], 125.0) == [125.0, 125.0]
    assert told(book, [3], 40.0, 60.0) == [40.0]
    assert told(book, [4, 5], 125.0) == [59.0, 58.0]


@pytest.mark.attack("P")
def test_rows_that_are_withheld_are_spent() -> None:
    """The newest rows of a failing machine are withheld, and then one row reads as new."""
    book = ledger()
    told(book, list(range(1, 40)), 125.0)
    told(book, [40], 30.0, 35.0)
    entry = book.enter([0], [46], [125.0], [np.inf])
    assert entry.too_many_lost[0] and entry.answers[0] == 0
    few = ledger()
    told(few, list(range(1, 41)), 80.0)
    assert told(few, [43], 125.0) == [77.0]  # no statement, and still three cycles older


def test_after_a_gap_the_machine_has_worn_until_the_window_is_full_again() -> None:
    book = ledger()
    told(book, list(range(1, 41)), 80.0)
    after = told(book, list(range(44, 80)), 125.0)
    held = next(at for at, answer in enumerate(after) if answer == 125.0)
    assert after[:held] == [80.0 - (44 + at - 40) for at in range(held)]
    assert held == WINDOW


def test_single_rows_that_are_lost_make_no_life_shorter() -> None:
    """A tenth of the rows never comes, as radio loses them: the answers are those of the estimates."""
    book, lost = ledger(), 0
    for age in range(1, 200):
        if age % 10:
            entry = book.enter([0], [age], [max(0.0, 200.0 - age) % 119], [np.inf])
            assert entry.refused[0] or entry.answers[0] == max(0.0, 200.0 - age) % 119
            lost += int(entry.refused[0])
    assert lost == 0


def test_more_than_the_cap_before_a_gap_is_no_bound_after_it() -> None:
    book = ledger()
    told(book, list(range(1, 41)), 125.0)
    assert told(book, [44, 45], 122.0) == [122.0, 122.0]


@pytest.mark.attack("P")
@pytest.mark.parametrize("age", [-5, 0, 3, 40])
def test_a_row_of_an_earlier_age_is_refused_and_changes_nothing(age: int) -> None:
    """Old rows come again: replayed, or numbered from the beginning after a reset."""
    book = ledger()
    told(book, list(range(1, 40)), 125.0)
    told(book, [40], 30.0, 35.0)
    entry = book.enter([0], [age], [125.0], [np.inf])
    assert entry.refused[0] and entry.answers[0] == 0
    assert told(book, [41], 125.0) == [34.0]


@pytest.mark.attack("P")
def test_a_unit_that_is_first_heard_of_late_in_life_is_inspected() -> None:
    """A twin that lost its memory, or a unit under a new name: what it did not hear of is lost, not new."""
    book = ledger()
    assert book.enter([0], [90], [125.0], [np.inf]).too_many_lost[0]
    signed = ledger()
    signed.begin([0], [89])
    assert told(signed, [90], 100.0) == [100.0]


def test_a_signed_act_begins_a_life_anew() -> None:
    book = ledger()
    told(book, list(range(1, 41)), 5.0, 6.0)
    book.begin([0], [40])
    assert told(book, [41], 100.0) == [100.0]


def test_each_lost_cycle_lowers_the_low_end() -> None:
    book = ledger()
    told(book, list(range(1, 40)), 125.0)
    told(book, [40], 80.0, 100.0)
    entry = book.enter([0], [43], [70.0], [200.0])
    low, high = entry.interval([60.0], [125.0])
    assert (low.tolist(), high.tolist()) == ([58.0], [97.0])
    refused = book.enter([0], [60], [70.0], [200.0])
    assert [float(end[0]) for end in refused.interval([60.0], [80.0])] == [0.0, 0.0]


@pytest.mark.parametrize(("estimate", "at_most"), [(np.nan, 1.0), (np.inf, np.inf), (-1.0, 5.0), (1.0, np.nan)])
def test_what_is_no_estimate_is_no_entry(estimate: float, at_most: float) -> None:
    book = ledger()
    with pytest.raises(ValueError, match="expected estimates and statements of 0 or more cycles"):
        book.enter([0], [1], [estimate], [at_most])
    assert book.ages[0] == 0
    assert book.enter([0], [1], [estimate], [at_most], [False]).refused[0]


@pytest.mark.attack("P")
def test_a_twin_that_lost_its_window_waits_until_it_is_full_again() -> None:
    """The twin is made to start again, and is told the unit's first rows as if they were the newest."""
    book = ledger()
    told(book, list(range(1, 41)), 100.0)
    book.lose_window([0])
    answers = told(book, list(range(41, 41 + WINDOW)), 125.0)
    most = int(SHARE * WINDOW)
    assert answers[: WINDOW - most - 1] == [0.0] * (WINDOW - most - 1)
    assert answers[WINDOW - most - 1] == 100.0 - (WINDOW - most)  # worn since, and not as new
