"""Frames: what is signed is what is read, to the last bit of a reading; whatever is no frame is refused."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from twinseal.errors import EvidenceError
from twinseal.telemetry.unit_names import unit_name
from twinseal.trust.signing import cbor
from twinseal.twin.frames import MAX_ROWS, MAX_SEQUENCE, Frame
from twinseal.twin.rows import ReadRows

names = st.text(st.characters(categories=("L", "N")), min_size=1, max_size=12)
units = names.map(unit_name).filter(bool)


@st.composite
def frames(draw: st.DrawFn) -> Frame:
    counts = draw(st.dictionaries(units, st.integers(20, 10_000), min_size=1, max_size=4))
    channels = draw(st.lists(names, min_size=1, max_size=4, unique=True))
    of = np.array(draw(st.lists(st.integers(0, len(counts) - 1), max_size=20)), dtype=np.uint16)
    kind = draw(st.sampled_from([np.float32, np.float64]))
    return Frame(
        draw(names),
        draw(names),
        draw(st.integers(1, MAX_SEQUENCE)),
        draw(st.integers(0, 2**45)),
        counts,
        tuple(channels),
        of,
        np.arange(1, len(of) + 1, dtype=np.uint32),
        draw(arrays.arrays(kind, (len(of), len(channels)))),
    )


@given(frames())
def test_a_frame_reads_back_as_itself(frame: Frame) -> None:
    back = Frame.from_bytes(frame.to_bytes())
    assert frame.to_bytes() == back.to_bytes()
    assert frame.readings.tobytes() == back.readings.tobytes()  # NaN, too
    rows = list(back.rows())
    assert len(frame) == len(rows) == sum(back.row_counts().values())
    for at, row in enumerate(rows):
        assert list(frame.units)[frame.of[at]] == row["unit"]
        assert at + 1 == row["cycle"]
        for channel, value in zip(frame.channels, frame.readings[at].tolist(), strict=True):
            assert value == row[channel] or (math.isnan(value) and math.isnan(row[channel]))


@given(st.binary(max_size=200))
def test_other_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(EvidenceError, match="frame: expected"):
        Frame.from_bytes(data)


FRAME = Frame(
    "gate-1",
    "pump-rul",
    7,
    1_772_366_400_000,
    {"pump-1": 3, "pump-2": 9},
    ("flow", "heat"),
    np.array([0, 1, 0], dtype=np.uint16),
    np.array([2, 9, 3], dtype=np.uint32),
    np.array([[1.0, 2.0], [3.0, math.nan], [5.0, 6.5]]),
)


def said(**changes: Any) -> bytes:
    return cbor.encode({**cbor.decode(FRAME.to_bytes(), ""), **changes})


def test_what_a_frame_says() -> None:
    assert {"pump-1": 2, "pump-2": 9} == FRAME.first_cycles()
    assert {"pump-1": 2, "pump-2": 1} == FRAME.row_counts()
    assert {"unit": "pump-1", "cycle": 3, "flow": 5.0, "heat": 6.5} == list(FRAME.rows())[2]
    empty = replace(FRAME, of=FRAME.of[:0], cycles=FRAME.cycles[:0], readings=FRAME.readings[:0])
    assert [] == list(Frame.from_bytes(empty.to_bytes()).rows())
    assert {} == empty.first_cycles()


FAULTS: dict[str, tuple[dict[str, Any], str]] = {
    "a field more": ({"more": 1}, "expected exactly"),
    "a device that is no text": ({"device": 5}, "printable names"),
    "no device": ({"device": ""}, "printable names"),
    "an escape in a name": ({"model": "a\x1b[2J"}, "printable names"),
    "a channel that is a list": ({"channels": [[], []]}, "printable names"),
    "a channel twice": ({"channels": ["flow", "flow"]}, "each once"),
    "channels that are text": ({"channels": "ab"}, "lists of channels"),
    "no channels": ({"channels": []}, "rows of 0 numbers"),
    "sequence 0": ({"sequence": 0}, "a sequence from 1"),
    "a sequence beyond": ({"sequence": MAX_SEQUENCE + 1}, "a sequence from 1"),
    "a sequence that is text": ({"sequence": "1"}, "a sequence from 1"),
    "a time before 1970": ({"time": -1}, "a time since 1970"),
    "a time beyond the calendar": ({"time": 2**60}, "a time since 1970"),
    "a unit twice": ({"units": [["a", 3], ["a", 9]]}, "each unit once"),
    "a unit with blanks": ({"units": [["a ", 3], ["b", 9]]}, "names of units"),
    "a unit without a count": ({"units": [["a"], ["b"]]}, "as name and count"),
    "a count below zero": ({"units": [["a", 3], ["b", -9]]}, "with counts"),
    "a count that is text": ({"units": [["a", 3], ["b", "9"]]}, "with counts"),
    "a row of a unit that is not there": ({"units": [["a", 3]]}, "rows of its 1 units"),
    "a cycle beyond the operating count": ({"units": [["a", 2], ["b", 9]]}, "rise up to each unit's operating count"),
    "cycles that fall": ({"cycles": np.array([3, 9, 2], "<u4").tobytes()}, "cycles that rise"),
    "a cycle twice": ({"cycles": np.array([3, 9, 3], "<u4").tobytes()}, "cycles that rise"),
    "cycle 0": ({"cycles": np.array([0, 9, 3], "<u4").tobytes()}, "cycles that rise"),
    "a row less": ({"of": b"\0\0\1\0"}, "rows of equal length"),
    "half a number": ({"of": b"\0\0\1\0\0"}, "rows of 1 numbers of 2 bytes"),
    "half a row": ({"readings": bytes(8 * 5)}, "rows of 2 numbers of 8 bytes"),
    "readings of 2 bytes": ({"bytes": 2}, "readings of 4 or 8 bytes"),
    "readings as a list": ({"readings": [1, 2]}, "readings of 4 or 8 bytes"),
    "more rows than a frame has": (
        {"of": bytes(2 * MAX_ROWS + 2), "cycles": bytes(4 * MAX_ROWS + 4), "readings": bytes(16 * MAX_ROWS + 16)},
        f"at most {MAX_ROWS} rows",
    ),
}


@pytest.mark.attack("T")
@pytest.mark.parametrize("fault", FAULTS)
def test_a_malformed_frame_is_refused(fault: str) -> None:
    """An enrolled device signs a frame that is none: wrong counts, names, lengths, or cycles that fall."""
    changes, message = FAULTS[fault]
    with pytest.raises(EvidenceError, match=message):
        Frame.from_bytes(said(**changes))


@given(frames(), st.lists(st.sampled_from(["flow", "heat", "a", "b", "absent"]), unique=True))
def test_a_model_reads_a_frame_as_it_reads_its_rows(made: Frame, inputs: list[str]) -> None:
    names = [*made.channels[:3], *inputs]
    rows, read = ReadRows.of(list(made.rows()), names), made.read(names)
    assert (list(rows.units), list(rows.cycles)) == (list(read.units), list(read.cycles))
    np.testing.assert_array_equal(rows.readings, read.readings)
