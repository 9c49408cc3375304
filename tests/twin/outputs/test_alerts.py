"""Alerts: their form; and the book, which says each once, and its end."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.twin.outputs.messages import NOW, alert, answer
from twinseal.errors import EvidenceError
from twinseal.twin import runtime
from twinseal.twin.outputs import alert_book
from twinseal.twin.outputs.alert import ABOUT, SEVERITIES, Alert
from twinseal.twin.outputs.alert_book import AlertBook

SECOND = timedelta(seconds=1)


@st.composite
def alerts(draw: Any) -> Alert:
    kind = draw(st.sampled_from(sorted(ABOUT)))
    text, moment = st.text(max_size=30), st.datetimes(timezones=st.just(UTC), min_value=datetime(2000, 1, 1))
    return Alert(
        kind, draw(st.sampled_from(ABOUT[kind])), draw(st.sampled_from(SEVERITIES)), draw(text), "pump-rul",
        draw(st.integers(0, 9)), draw(moment), unit=draw(text), detail=draw(text), remedy=draw(text),
        since=draw(st.none() | moment), state=draw(st.sampled_from(["raised", "over"])),
    )  # fmt: skip


@settings(max_examples=30)
@given(alerts())
def test_an_alert_is_read_as_it_was_written_and_keeps_its_id(item: Alert) -> None:
    line = item.to_json()
    assert "\n" == line[-1] and 1 == len(line.splitlines())
    again = Alert.from_dict(json.loads(line))
    assert (item, item.id) == (again, again.id)


@settings(max_examples=30)
@given(st.lists(alerts(), max_size=8))
def test_the_book_is_read_as_it_was_kept(items: list[Alert]) -> None:
    book = AlertBook()
    for item in items:
        book.tell(item)
    again = AlertBook.from_bytes(book.to_bytes(), "alerts.json")
    assert (book.held, book.to_bytes()) == (again.held, again.to_bytes())


def test_what_repeats_is_said_once_and_then_its_end() -> None:
    book = AlertBook()
    assert [alert(), None, None] == [book.tell(replace(alert(), time=NOW + n * SECOND)) for n in (0, 1, 2)]
    over = book.end(alert().key, NOW + 9 * SECOND)
    assert over is not None
    assert ("over", NOW, NOW + 9 * SECOND, "over (3 times): expected a broker, got none") == (
        over.state, over.since, over.time, over.message,
    )  # fmt: skip
    assert over.id != alert().id
    assert book.end(alert().key, NOW) is None
    assert alert() == book.tell(alert())


def test_another_source_or_a_worse_severity_is_said_too() -> None:
    book = AlertBook()
    first = alert(detail="a", severity="warning")
    assert [first, alert(detail="b")] == [book.tell(first), book.tell(alert(detail="b"))]
    worse = book.tell(alert(detail="a", time=NOW + SECOND))
    assert worse is not None
    assert ("critical", NOW) == (worse.severity, worse.since)
    assert worse.id != first.id, "a receiver that drops what it has would not see that it is worse"
    assert book.tell(first) is None


def test_what_repeats_ends_when_it_has_not_for_a_while_and_what_lasts_does_not() -> None:
    book = AlertBook()
    book.tell(alert())
    refused = alert("frames refused", "warning", "forged")
    book.tell(refused)
    book.tell(replace(refused, time=NOW + 50 * SECOND))
    assert [] == book.end_quiet(NOW + 109 * SECOND)
    (over,) = book.end_quiet(NOW + 110 * SECOND)
    assert ("frames refused", "over") == (over.about, over.state)
    assert (alert(),) == book.held


def test_what_happens_at_a_moment_is_always_said_and_never_held() -> None:
    book, swapped = AlertBook(), alert("swapped", "note", kind="model")
    assert [swapped, swapped] == [book.tell(swapped), book.tell(swapped)]
    assert () == book.held


def test_a_clock_that_was_set_back_ends_nothing_at_once_and_holds_nothing_for_ever() -> None:
    book, refused = AlertBook(), alert("frames refused", "warning", "forged")
    book.tell(refused)
    assert [] == book.end_quiet(NOW - 999 * SECOND)
    assert [] == book.end_quiet(NOW - 940 * SECOND)
    assert ["over"] == [item.state for item in book.end_quiet(NOW - 939 * SECOND)]


def hear(book: AlertBook, seconds: int, low: float | None) -> list[tuple[str, str]]:
    return [(item.about, item.state) for item in book.hear(answer(low=low), NOW + seconds * SECOND)]


def test_a_machine_is_said_once_and_a_lost_estimate_does_not_end_what_it_needs() -> None:
    book = AlertBook()
    said = [hear(book, seconds, low) for seconds, low in ((0, 30), (1, 0.5), (2, 0.4), (3, None))]
    assert [[], [("maintain now", "raised")], [], [("inspect now", "raised")]] == said
    assert {"maintain now", "inspect now"} == {item.about for item in book.held}
    assert [("inspect now", "over")] == hear(book, 70, 0.4)
    assert [("maintain now", "over")] == hear(book, 140, 30)
    assert () == book.held


@pytest.mark.attack("T")
def test_a_machine_that_is_good_and_bad_in_turn_is_said_once() -> None:
    """Somebody changes every second reading of a machine, so that its alerts bury all others."""
    book = AlertBook()
    said = [hear(book, second, low) for second in range(1000) for low in (None, 30, 0.1, 30)]
    assert 2 == sum(map(len, said))
    assert [("inspect now", "over"), ("maintain now", "over")] == hear(book, 1059, 30)


def test_machines_are_told_apart_by_their_names_and_a_row_without_one_is_of_none() -> None:
    book = AlertBook()
    for unit in ("7", 7, 7.0, "007"):
        book.hear(answer(unit, low=None), NOW)
    assert ["007", "7"] == sorted(item.unit for item in book.held)
    assert [] == book.hear(answer(None, low=None), NOW)


@pytest.mark.parametrize("low", [0.0, 0.99, 1.0, 1.01, 30.0])
def test_maintain_now_is_what_the_runtime_advises(low: float) -> None:
    said = AlertBook().hear(answer(low=low), NOW)
    assert (runtime._maintenance_advice(low) == "maintain now") == bool(said)


def test_a_full_book_says_alerts_again_rather_than_not_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alert_book, "MAX_HELD", 1)
    book = AlertBook()
    assert all((book.tell(alert()), book.tell(alert(detail="b")), book.tell(alert(detail="b"))))
    assert book.tell(alert()) is None


def test_a_full_fleets_book_can_be_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    full = alert_book.MAX_HELD
    monkeypatch.setattr(alert_book, "MAX_HELD", 300)
    book = AlertBook()
    for number in range(300):
        book.tell(alert(detail=f"{number}" + "語" * 80, message="語" * 600, remedy="語" * 600, unit="語" * 80))
    kept = book.to_bytes()
    assert len(kept) / 300 * full < alert_book.MAX_BYTES
    assert book.held == AlertBook.from_bytes(kept, "").held


@pytest.mark.parametrize(
    "data",
    [b"", b"[]", b"{}", b'{"alerts":[{}]}', b'{"alerts":[{"alert":{},"last":"2026-03-01T12:00:00+00:00","times":1}]}'],
)
def test_a_book_that_was_changed_is_refused(data: bytes) -> None:
    with pytest.raises(EvidenceError, match="alerts"):
        AlertBook.from_bytes(data, "alerts.json")


def test_an_alert_about_nothing_known_is_refused() -> None:
    with pytest.raises(ValueError, match="expected about one of"):
        alert("frames refused", kind="machine")
    with pytest.raises(ValueError, match="with a zone"):
        alert(time=datetime(2026, 3, 1))


@pytest.mark.parametrize("length", [398, 399, 400, 401])
def test_a_text_that_is_cut_is_cut_once(length: int) -> None:
    item = alert(message="x" * length + " yz")
    assert item == Alert.from_dict(item.to_dict())


def test_text_from_outside_cannot_repaint_a_terminal_or_make_a_line() -> None:
    item = alert(message="a\x1b[2J\nb\u202ec", unit="x" * 500)
    assert ("a�[2J b�c", 80) == (item.message, len(item.unit))
