"""The gateway: frames that a gate takes, numbers that are never used twice, and no life that begins again."""

from __future__ import annotations

import json
import math
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.twin.deployment import MODEL, NOW
from tests.twin.test_devices import KEYS, signer_of
from twinseal.errors import DataError, EvidenceError
from twinseal.trust.device_record import Device, DeviceRecord
from twinseal.trust.signing import cose
from twinseal.twin.frame_gate import FrameGate, Taken
from twinseal.twin.frames import Frame
from twinseal.twin.gateway import Gateway, SignedUntil, set_count

SIGNER = signer_of(1)
DEVICES = DeviceRecord(MODEL, 1, 60, (Device("gate-1", KEYS[1], ("pump-1", "pump-2"), ("flow", "heat")),), (), NOW)


def row(cycle: Any = 1, unit: Any = "pump-1", **channels: Any) -> dict[str, Any]:
    return {"unit": unit, "cycle": cycle, "flow": 0.1, "heat": 300.0} | channels


class Made:
    """A gateway, and what it set aside."""

    def __init__(self, path: Path, **options: Any) -> None:
        self.aside: list[str] = []
        self.memory = path / "gate.json"
        chosen = {"rows": 3, "signer": SIGNER} | options
        self.gateway = Gateway("gate-1", MODEL, memory=self.memory, set_aside=self.aside.append, **chosen)

    def frames(self, *rows: dict[str, Any], end: bool = True) -> list[Frame]:
        found = [data for item in rows for data in self.gateway.add(item, NOW)]
        found += self.gateway.flush(NOW) if end else []
        return [Frame.from_bytes(cose.parse(data).verify(SIGNER.key)) for data in found]


def test_rows_come_out_as_they_went_in(tmp_path: Path) -> None:
    rows = [row(1), row(1, "pump-2"), row(2, flow=math.nan), row(3), row(5, heat=1 / 3)]
    found = Made(tmp_path).frames(*rows)
    assert [(1, 3), (2, 2)] == [(item.sequence, len(item)) for item in found]
    assert [{"pump-1": 2, "pump-2": 1}, {"pump-1": 5}] == [dict(item.units) for item in found]
    assert str(rows) == str([item for frame in found for item in frame.rows()])


def test_a_gate_takes_what_it_signs_over_a_restart_of_both(tmp_path: Path) -> None:
    for start in (1, 11):
        gateway, gate = Made(tmp_path).gateway, FrameGate(tmp_path, DEVICES)
        data = [item for cycle in range(start, start + 10) for item in gateway.add(row(cycle), NOW)]
        done = gate.take([*data, *gateway.flush(NOW)], NOW)
        assert all(isinstance(item, Taken) and not item.lost_frames and not item.lost_rows for item in done)
    assert (8, 20) == (gate.counts["taken"], gate.counts["rows"])


@pytest.mark.attack("T")
def test_a_life_does_not_begin_again_at_the_gateway(tmp_path: Path) -> None:
    """Somebody sets a machine's counter back, or plays its first cycles again, before the gateway."""
    assert [3] == [len(item) for item in Made(tmp_path).frames(row(7), row(8), row(9))]
    made = Made(tmp_path)  # after a restart, too
    assert [1] == [len(item) for item in made.frames(row(1), row(9), row(10), row(10), row(2))]
    assert 4 == len(made.aside)
    assert "row: expected a unit and a cycle after 9, got cycle 1 of 'pump-1'" == made.aside[0]


def test_a_count_goes_on_from_another_number_where_the_counter_was_replaced(tmp_path: Path) -> None:
    Made(tmp_path).frames(row(7), row(8), row(1, "pump-2"))
    memory = Made(tmp_path).memory
    assert 8 == set_count(memory, "pump-1", 2)
    made = Made(tmp_path)
    (found,) = made.frames(row(2), row(3), row(1, "pump-2"), row(2, "pump-2"))
    assert (2, {"pump-1": 3, "pump-2": 2}) == (found.sequence, dict(found.units))
    assert 2 == len(made.aside)
    with pytest.raises(EvidenceError, match="expected pump-1, pump-2, got 'pump-9'"):
        set_count(memory, "pump-9", 0)
    with pytest.raises(EvidenceError, match="expected what this gateway has signed, got none"):
        set_count(tmp_path / "nowhere.json", "pump-1", 0)
    with pytest.raises(DataError, match="expected a count from 0"):
        set_count(memory, "pump-1", -1)


@pytest.mark.parametrize(
    "bad",
    [
        *(row(0), row(1.5), row("x"), row(unit=""), row(unit=None), row(unit=[]), {}, {"unit": "pump-1", "cycle": 1}),
        *(row(**{"\x1b": 1.0}), row(**{"": 1.0}), row(**{"x" * 300: 1.0}), row(**{f"c{n}": 1.0 for n in range(600)})),
    ],
)
def test_what_is_no_row_is_set_aside_and_the_next_is_signed(bad: dict[str, Any], tmp_path: Path) -> None:
    made = Made(tmp_path)
    assert [1] == [len(item) for item in made.frames(bad, row(1))]
    assert 1 == len(made.aside)


def test_rows_with_other_channels_begin_a_new_frame(tmp_path: Path) -> None:
    found = Made(tmp_path).frames(row(1), {"unit": "pump-2", "cycle": 1, "flow": "text"}, row(2))
    assert [("flow", "heat"), ("flow",), ("flow", "heat")] == [item.channels for item in found]
    assert math.isnan(found[1].readings[0, 0])


def test_no_frame_is_too_long(tmp_path: Path) -> None:
    wide = {f"channel-{n}": 1.0 for n in range(500)}
    made = Made(tmp_path, rows=8192)
    data = [item for n in range(1, 400) for item in made.gateway.add({"unit": "pump-1", "cycle": n} | wide, NOW)]
    assert len(data) >= 2
    assert max(map(len, data)) < cose.MAX_MESSAGE_BYTES
    many = Made(tmp_path, rows=8192)
    data = [item for n in range(3000) for item in many.gateway.add(row(1, "ü" * 60 + str(n)), NOW)]
    assert len(data) == 2
    assert all(len(cose.parse(item).verify(SIGNER.key)) < cose.MAX_MESSAGE_BYTES for item in data)


def test_a_row_waits_so_long_and_no_longer(tmp_path: Path) -> None:
    gateway = Made(tmp_path, wait_s=2.0).gateway
    assert gateway.due_in(NOW) is None
    gateway.add(row(1), NOW)
    gateway.add(row(2), NOW + timedelta(seconds=1))
    assert 0.5 == gateway.due_in(NOW + timedelta(seconds=1.5))
    assert 0.0 == gateway.due_in(NOW + timedelta(seconds=9))
    assert 1 == len(gateway.flush(NOW))
    assert (None, []) == (gateway.due_in(NOW), gateway.flush(NOW))


def test_short_readings_are_half_as_long(tmp_path: Path) -> None:
    (found,) = Made(tmp_path, single=True).frames(row(1))
    assert pytest.approx(0.1, rel=1e-7) == float(found.readings[0, 0])
    assert 4 == found.readings.dtype.itemsize


def test_a_number_is_never_used_twice_though_the_disk_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = Made(tmp_path)
    made.frames(row(1))

    def full(*given: Any, **named: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space"):
        patch.setattr("twinseal.twin.gateway.write_whole", full)
        made.frames(row(2))
    assert [3] == [item.sequence for item in made.frames(row(3))]  # 2 was signed, not sent: a gap
    assert 3 == SignedUntil.from_bytes(made.memory.read_bytes(), "").sequence


@given(st.integers(0, 2**53 - 1), st.dictionaries(st.text("ab", min_size=1), st.integers(0, 2**31 - 1)))
def test_its_memory_reads_back_as_itself(sequence: int, units: dict[str, int]) -> None:
    value = SignedUntil("0" * 64, sequence, units)
    assert value == SignedUntil.from_bytes(value.to_bytes(), "")


@pytest.mark.parametrize(
    "change", [{"sequence": -1}, {"sequence": "1"}, {"key": "x"}, {"units": {"a": -1}}, {"units": []}, {"more": 1}]
)
def test_a_memory_that_somebody_changed_is_refused(change: dict[str, Any], tmp_path: Path) -> None:
    made = Made(tmp_path)
    made.frames(row(1))
    made.memory.write_text(json.dumps(json.loads(made.memory.read_text()) | change))
    with pytest.raises(EvidenceError, match="expected"):
        Made(tmp_path)


def test_each_key_has_its_own_memory_and_names_are_names(tmp_path: Path) -> None:
    Made(tmp_path).frames(row(1))
    with pytest.raises(EvidenceError, match="expected what the key .* has signed, got that of"):
        Made(tmp_path, signer=signer_of(2))
    with pytest.raises(DataError, match="expected frames of 1 to 8192 rows, got 0"):
        Made(tmp_path, rows=0)
    with pytest.raises(DataError, match="printable names of device and model"):
        Gateway("", MODEL, SIGNER, tmp_path / "x.json")
