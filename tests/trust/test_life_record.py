"""The life record: it reads back as itself, acts follow each other, and nothing that was signed is taken back."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinseal.digests import canonical_json, sha256
from twinseal.errors import EvidenceError, RollbackError
from twinseal.evidence import LIFE_RECORD, REVIEW, Statement, Subject
from twinseal.trust.life_acts import MAX_COUNT, Act
from twinseal.trust.life_record import MAX_ACTS, MAX_ALL_ACTS, MAX_UNITS, Life, LifeRecord

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
NEW = Act("new machine", 0, 0)
OLD = Life((NEW, Act("overhaul", 200, 50), Act("counter replaced", 0, 90)), baseline=1)
RECORD = LifeRecord("pump-rul", 3, 1, {"pump-1": OLD, "pump-2": Life((Act("new machine", 7, 400),), retired=True)}, NOW)


@st.composite
def lives(draw: st.DrawFn) -> Life:
    acts = [Act("new machine", draw(st.integers(0, 999)), draw(st.integers(0, 999)))]
    for _ in range(draw(st.integers(0, 5))):
        last, kind = acts[-1], draw(st.sampled_from(["overhaul", "sensor replaced", "counter replaced", "new machine"]))
        cycle = last.cycle + draw(st.integers(1, 99))
        age = last.age + cycle - last.cycle
        if kind == "overhaul":
            acts.append(Act("overhaul", cycle, draw(st.integers(0, age))))
        elif kind == "sensor replaced":
            acts.append(Act("sensor replaced", cycle, age))
        elif kind == "counter replaced":
            acts.append(Act("counter replaced", draw(st.integers(0, 99)), age))
        else:
            acts.append(Act("new machine", draw(st.integers(0, 99)), draw(st.integers(0, 99))))
    return Life(tuple(acts), draw(st.booleans()), draw(st.integers(0, 9)))


@given(
    st.dictionaries(st.sampled_from(["pump-1", "ü 2", '"', "[{\\"]), lives()),
    st.integers(1, 2**31),
    st.datetimes(timezones=st.just(UTC)),
)
def test_a_record_reads_back_as_itself(found: dict[str, Life], version: int, time: datetime) -> None:
    record = LifeRecord("pump-rul", version, 1, found, time.replace(microsecond=0))
    assert record == LifeRecord.from_bytes(record.to_bytes())


def test_a_fleet_of_ten_thousand_with_long_names_reads_back() -> None:
    name = "ü" * 50
    acts = (NEW, *(Act("sensor replaced", n, n) for n in range(1, 4)))
    record = replace(RECORD, lives={f"{name}-{n:05}": Life(acts) for n in range(MAX_UNITS)})
    data = record.to_bytes()
    assert len(data) < 4 << 20
    assert record == LifeRecord.from_bytes(data)


@pytest.mark.parametrize(
    "found",
    [
        {f"pump-{n}": Life((NEW,)) for n in range(MAX_UNITS + 1)},
        {f"{'ü' * 190}-{n}": Life((NEW,)) for n in range(5000)},
        dict.fromkeys(
            map(str, range(MAX_ALL_ACTS // MAX_ACTS + 1)),
            Life((NEW, *(Act("sensor replaced", n, n) for n in range(1, MAX_ACTS)))),
        ),
    ],
    ids=["units", "names", "acts"],
)
def test_a_record_that_could_not_be_read_again_is_refused(found: dict[str, Life]) -> None:
    with pytest.raises(EvidenceError, match=f"expected at most {MAX_UNITS} units, {MAX_ALL_ACTS} acts"):
        replace(RECORD, lives=found)


def said(**changes: Any) -> bytes:
    value = json.loads(RECORD.to_bytes())["predicate"] | changes
    digest = sha256(canonical_json(value["lives"]))
    return Statement((Subject("lives", digest),), LIFE_RECORD, value).to_bytes()


def of_life(*acts: Any, **changes: Any) -> dict[str, Any]:
    return {"lives": {"pump-1": {"acts": list(acts), "retired": False, "baseline": 0} | changes}}


BEGUN = ["new machine", 0, 0]
FAULTS: dict[str, tuple[dict[str, Any], str]] = {
    "a field more": ({"more": 1}, "expected exactly"),
    "version 0": ({"version": 0}, "expected versions from 1"),
    "a version that is true": ({"version": True}, "expected versions from 1"),
    "begun later than now": ({"begun": 4}, "expected versions from 1"),
    "no model": ({"model": ""}, "expected a name"),
    "another time": ({"time": "yesterday"}, "expected a time"),
    "lives as a list": ({"lives": []}, "expected exactly"),
    "an escape in a name": ({"lives": {"\x1b": of_life(BEGUN)["lives"]["pump-1"]}}, "expected a name"),
    "a life that is text": ({"lives": {"pump-1": "new"}}, "expected acts"),
    "no act": (of_life(), f"expected 1 to {MAX_ACTS} acts, a new machine first"),
    "an overhaul first": (of_life(["overhaul", 1, 0]), "a new machine first"),
    "an act of two parts": (of_life(["new machine", 0]), "its kind, count and age"),
    "an act that is an object": (of_life({"kind": "overhaul"}), "its kind, count and age"),
    "another kind": (of_life(BEGUN, ["repaired", 1, 0]), "expected one of"),
    "a kind that is a list": (of_life([[], 1, 0]), "expected one of"),
    "a count that is a float": (of_life(["new machine", 1.0, 0]), "operating count a whole number"),
    "a count that is true": (of_life(["new machine", True, 0]), "operating count a whole number"),
    "an age below 0": (of_life(["new machine", 0, -1]), "as age a whole number"),
    "a count without end": (of_life(["new machine", MAX_COUNT + 1, 0]), "operating count a whole number"),
    "retired, and a number": (of_life(BEGUN, retired=1), "whether it is retired"),
    "a baseline that is text": (of_life(BEGUN, baseline="1"), "whether it is retired"),
    "a baseline below 0": (of_life(BEGUN, baseline=-1), "whether it is retired"),
    "an act before the last one": (of_life(BEGUN, ["overhaul", 9, 0], ["overhaul", 8, 0]), "count of at least 9"),
    "an overhaul that ages": (of_life(BEGUN, ["overhaul", 9, 10]), "expected at most the age before it, 9, got 10"),
    "a sensor that rejuvenates": (of_life(BEGUN, ["sensor replaced", 9, 0]), "expected the age to stay, 9, got 0"),
    "a counter that rejuvenates": (
        of_life(["new machine", 0, 50], ["counter replaced", 0, 49]),
        "expected an age of at least 50, got 49",
    ),
    "an act twice": (of_life(BEGUN, ["overhaul", 9, 0], ["overhaul", 9, 0]), "got the same again"),
    "too many acts": (of_life(*[BEGUN] * (MAX_ACTS + 1)), f"expected 1 to {MAX_ACTS} acts"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_malformed_record_is_refused(fault: str) -> None:
    assert RECORD == LifeRecord.from_bytes(said())
    changes, message = FAULTS[fault]
    with pytest.raises(EvidenceError, match=message):
        LifeRecord.from_bytes(said(**changes))


def test_another_statement_is_no_life_record() -> None:
    other = Statement((Subject("lives", "0" * 64),), REVIEW, {"a": 1}).to_bytes()
    with pytest.raises(EvidenceError, match=f"expected {LIFE_RECORD}, got {REVIEW}"):
        LifeRecord.from_bytes(other)
    value = json.loads(RECORD.to_bytes())
    value["subject"][0]["digest"]["sha256"] = "0" * 64
    with pytest.raises(EvidenceError, match="canonical form"):
        LifeRecord.from_bytes(canonical_json(value))


def test_acts_are_added_and_machines_are_retired() -> None:
    assert {"pump-1": OLD.acts} == RECORD.acts
    assert (200, 95) == (OLD.begins, OLD.age_at(5))
    record = RECORD.with_act("pump-1", Act("overhaul", 5, 0), baseline=4)
    assert (4, 5, 4) == (record.lives["pump-1"].baseline, record.lives["pump-1"].begins, len(record.acts["pump-1"]))
    assert 1 == RECORD.with_act("pump-1", Act("counter replaced", 8, 95), baseline=4).lives["pump-1"].baseline
    for unit, got in (("pump-2", "a retired one"), ("pump-9", "none of this name")):
        with pytest.raises(EvidenceError, match=f"expected a machine that is enrolled, got {got}"):
            RECORD.with_act(unit, Act("overhaul", 900, 0), 0)
        with pytest.raises(EvidenceError, match="expected a machine that is enrolled"):
            RECORD.without([unit])
    with pytest.raises(EvidenceError, match="expected a machine that is not enrolled"):
        RECORD.with_machines(["pump-3", "pump-1"], NEW, {})
    again = RECORD.with_machines(["pump-2", "pump-3"], NEW, {"pump-2": 6, "pump-3": 2})
    assert (Act("new machine", 7, 400), NEW) == again.acts["pump-2"]
    assert (6, 0) == (again.lives["pump-2"].baseline, again.lives["pump-3"].baseline)  # a first one keeps its baseline
    anew = replace(RECORD, begun=2).with_machines(["pump-3"], NEW, {"pump-3": 2})
    assert 2 == anew.lives["pump-3"].baseline  # it may have been overhauled, by the record that was lost
    assert {} == again.without(["pump-1", "pump-2", "pump-3"]).acts


def changed(**lives: Life | None) -> LifeRecord:
    found = {name.replace("_", "-"): life for name, life in lives.items()}
    kept = {unit: life for unit, life in {**RECORD.lives, **found}.items() if life is not None}
    return replace(RECORD, version=4, lives=kept)


@pytest.mark.attack("T")
@pytest.mark.parametrize(
    ("record", "message"),
    [
        (changed(pump_1=None), "the 3 acts of version 3 first"),
        (changed(pump_1=replace(OLD, acts=OLD.acts[:2])), "the 3 acts of version 3 first"),
        (changed(pump_1=replace(OLD, acts=(*OLD.acts[:2], Act("counter replaced", 0, 60)))), "the 3 acts of version 3"),
        (changed(pump_1=replace(OLD, baseline=0)), "baseline records to end after 1, got 0"),
        (changed(pump_2=replace(RECORD.lives["pump-2"], retired=False)), "it retired, or a new machine under its name"),
        (
            changed(pump_2=Life((Act("new machine", 7, 400), Act("overhaul", 8, 0)))),
            "it retired, or a new machine under its name",
        ),
        (replace(changed(), begun=2), "the 3 acts of version 3 first"),
    ],
    ids=["a machine", "an act", "another act", "a baseline", "not retired", "overhauled", "begun anew in the past"],
)
def test_a_record_that_takes_something_back_does_not_follow(record: LifeRecord, message: str) -> None:
    """One commissioner's tool, or a thief of enough keys, signs a newer record without acts that were signed before."""
    RECORD.with_act("pump-1", Act("overhaul", 5, 0), 0).check_follows(RECORD)
    RECORD.with_machines(["pump-2"], NEW, {}).check_follows(RECORD)
    replace(changed(pump_1=None), begun=4).check_follows(RECORD)  # it says itself that it was begun anew
    with pytest.raises(RollbackError, match=message):
        record.check_follows(RECORD)
