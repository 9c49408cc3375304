"""A baseline record: what is signed is what is read, in canonical form, and nothing else is one."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.trust.scenes import NOW, Scene
from twinseal.digests import canonical_json, sha256
from twinseal.errors import EvidenceError, SignatureError, ThresholdError
from twinseal.evidence import BASELINE_RECORD, REVIEW, Statement, Subject
from twinseal.trust import baseline_record
from twinseal.trust.baseline_record import CYCLES, BaselineRecord, unit_key
from twinseal.trust.signing.dsse import add_signature, envelope_keyids, sign_envelope, verify_envelope

COLUMNS = (("flow", "m3/s"), ("heat", "K"))
FIRST = BaselineRecord(
    "pump-1", "pump", "pump-rul", 1, COLUMNS, tuple((n / 10, 300.0 + n) for n in range(CYCLES)), NOW.replace(second=7)
)

names = st.text(st.characters(categories=("L", "N", "P")), min_size=1, max_size=20)
readings = st.floats(allow_nan=False, allow_infinity=False)
columns = st.lists(st.tuples(names, st.text(max_size=5)), min_size=1, max_size=4, unique_by=lambda item: item[0])


@st.composite
def records(draw: st.DrawFn) -> BaselineRecord:
    chosen = draw(columns)
    row = st.tuples(*[readings] * len(chosen))
    rows = tuple(draw(st.lists(row, min_size=CYCLES, max_size=CYCLES)))
    time = draw(st.datetimes(timezones=st.just(UTC))).replace(microsecond=0)
    return BaselineRecord(draw(names), "pump", draw(names), draw(st.integers(1, 2**31)), tuple(chosen), rows, time)


@given(records())
def test_a_record_reads_back_as_itself(first: BaselineRecord) -> None:
    assert first == BaselineRecord.from_bytes(first.to_bytes())


def test_what_is_signed_is_an_in_toto_statement_about_the_rows() -> None:
    value = json.loads(FIRST.to_bytes())
    rows = [list(row) for row in FIRST.rows]
    assert [{"name": "first-cycles", "digest": {"sha256": sha256(canonical_json(rows))}}] == value["subject"]
    assert (BASELINE_RECORD, "pump-1", rows) == (
        value["predicateType"],
        value["predicate"]["unit"],
        value["predicate"]["rows"],
    )


def said(**changes: Any) -> bytes:
    predicate = {**json.loads(FIRST.to_bytes())["predicate"], **changes}
    subject = Subject("first-cycles", sha256(canonical_json(predicate["rows"])))
    return Statement((subject,), BASELINE_RECORD, predicate).to_bytes()


def rows(change: Any = None, count: int = CYCLES) -> list[list[Any]]:
    made: list[list[Any]] = [[1.0, 2.0] for _ in range(count)]
    made[3] = made[3] if change is None else change
    return made


def test_the_honest_statement_is_taken() -> None:
    assert FIRST == BaselineRecord.from_bytes(said())
    assert ((1.0, 2.0),) * CYCLES == BaselineRecord.from_bytes(said(rows=rows())).rows


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rows": rows(count=21)}, "expected 20 rows of 2 readings, got 21"),
        ({"rows": rows(count=19)}, "expected 20 rows of 2 readings, got 19"),
        ({"rows": []}, "expected 20 rows"),
        ({"rows": rows([1.0])}, "expected 20 rows of 2 readings"),
        ({"rows": rows([1.0, 2.0, 3.0])}, "expected 20 rows of 2 readings"),
        ({"rows": rows([1, 2.0])}, "expected finite readings"),
        ({"rows": rows([True, 2.0])}, "expected finite readings"),
        ({"rows": rows([None, 2.0])}, "expected finite readings"),
        ({"rows": rows(["1.0", 2.0])}, "expected finite readings"),
        ({"rows": rows("ab")}, "expected a list of lists"),
        ({"rows": "rows"}, "expected a list of lists"),
        ({"columns": []}, "expected columns"),
        ({"columns": [["flow", "K"], ["flow", "K"]]}, "expected columns of one name each"),
        ({"columns": [["flow"], ["heat"]]}, "expected columns of name and unit"),
        ({"columns": [[1, 2], [3, 4]]}, "expected columns of name and unit"),
        ({"columns": {"flow": "K"}}, "expected a list of lists"),
        ({"unit": ""}, "unit: expected a name"),
        ({"unit": " pump-1"}, "unit: expected a name"),
        ({"unit": "pump\u202e1"}, "unit: expected a name"),
        ({"unit": "p" * 201}, "unit: expected a name"),
        ({"unit": 1}, "unit: expected a name"),
        ({"model": ""}, "expected an asset and a model"),
        ({"asset": None}, "expected an asset and a model"),
        ({"version": 0}, "expected a version from 1"),
        ({"version": 2**31 + 1}, "expected a version from 1"),
        ({"version": True}, "expected a version from 1"),
        ({"version": "1"}, "expected a version from 1"),
        ({"time": "yesterday"}, "expected a time as"),
        ({"time": 1}, "expected a time as"),
        ({"time": "2026-03-01T12:00:7Z"}, "in its canonical form"),
        ({"extra": 1}, "expected exactly"),
    ],
)
def test_what_is_no_record_is_refused_whoever_signed_it(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(EvidenceError, match=message):
        BaselineRecord.from_bytes(said(**changes))


def test_not_a_number_has_no_spelling() -> None:
    for name in (b"NaN", b"Infinity", b"-Infinity", b"1e999"):
        data = FIRST.to_bytes().replace(b"303.0", name)
        assert data != FIRST.to_bytes()
        with pytest.raises(EvidenceError, match="expected JSON"):
            BaselineRecord.from_bytes(data)
    for value in (float("nan"), float("inf")):
        with pytest.raises(EvidenceError, match="expected finite readings"):
            replace(FIRST, rows=((value, 1.0), *FIRST.rows[1:]))


def test_another_spelling_another_subject_or_another_kind_is_no_record() -> None:
    data = FIRST.to_bytes()
    with pytest.raises(EvidenceError, match="in its canonical form"):
        BaselineRecord.from_bytes(data.replace(b'"version":1', b'"version": 1'))
    with pytest.raises(EvidenceError, match="in its canonical form"):
        BaselineRecord.from_bytes(data.replace(b"303.0", b"303.00"))
    predicate = json.loads(data)["predicate"]
    with pytest.raises(EvidenceError, match="in its canonical form"):
        BaselineRecord.from_bytes(
            Statement((Subject("first-cycles", "0" * 64),), BASELINE_RECORD, predicate).to_bytes()
        )
    with pytest.raises(EvidenceError, match="expected https://twinseal.dev/first-cycles/v1"):
        BaselineRecord.from_bytes(Statement((Subject("first-cycles", "0" * 64),), REVIEW, predicate).to_bytes())


def test_a_time_that_is_not_utc_in_whole_seconds_is_no_time() -> None:
    for time in (datetime(2026, 3, 1), NOW.replace(microsecond=1)):
        with pytest.raises(EvidenceError, match="expected a time in UTC"):
            replace(FIRST, time=time)


def test_names_that_look_alike_are_two_units() -> None:
    alike = ["pump-1", "Pump-1", "рump-1", "pump-１", "pump‑1", "é", "e\u0301"]
    assert len(alike) == len({unit_key(name) for name in alike})
    for name in ("../../etc/passwd", "CON", "a/b", ".."):  # no part of a name is part of a path
        assert 64 == len(unit_key(name))


def test_commissioners_sign_records_and_nobody_else(scene: Scene) -> None:
    role = scene.anchor.roles["commissioner"]
    made = baseline_record.sign(FIRST, scene.signer("emil"))
    assert FIRST == baseline_record.verify(made, role)
    assert made == baseline_record.sign(FIRST, scene.signer("emil"))
    for other in ("alice", "builder", "assessor", "registrar", "custodian-1"):
        with pytest.raises(SignatureError, match="expected a signature by emil"):
            baseline_record.verify(baseline_record.sign(FIRST, scene.signer(other)), role)


def test_signatures_are_added_one_by_one(scene: Scene) -> None:
    role, payload = scene.anchor.roles["reviewer"], FIRST.to_bytes()
    one = sign_envelope(payload, scene.signer("alice"))
    with pytest.raises(ThresholdError, match="expected 2"):
        verify_envelope(one, role)
    two = add_signature(one, scene.signer("bruno"))
    assert payload == verify_envelope(two, role)
    keys = tuple(scene.signer(name).public_key.keyid for name in ("alice", "bruno"))
    assert keys == envelope_keyids(two)
    with pytest.raises(SignatureError, match="expected one signature by each key"):
        add_signature(two, scene.signer("alice"))
