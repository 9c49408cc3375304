"""The frame gate: honest frames go through; each attack has its name, is counted, and harms no other device."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.twin.deployment import MODEL, NOW, OTHER
from tests.twin.test_devices import KEYS, signer_of
from twinseal.errors import EvidenceError
from twinseal.trust.device_record import Device, DeviceRecord
from twinseal.trust.life_acts import Act
from twinseal.trust.life_record import Life, LifeRecord
from twinseal.trust.signing import cbor, cose
from twinseal.twin import frames
from twinseal.twin.frame_gate import BURST_S, ROWS_OF_ONE, UNKNOWN_ROWS, FrameGate, Refused, Taken, counted_words
from twinseal.twin.frame_memory import FILE, MAX_MISSING, FrameMemory, Sequence, read_frame_memory
from twinseal.twin.frame_stream import batches, signed_rows, with_length
from twinseal.twin.frames import MAX_ROWS, MAX_SEQUENCE, Frame
from twinseal.twin.state import State

DEVICES = DeviceRecord(
    MODEL,
    1,
    60,
    (
        Device("gate-1", KEYS[1], ("pump-1", "pump-2"), ("flow", "heat"), 20),
        Device("gate-2", KEYS[2], ("pump-3",), ("flow", "heat")),
    ),
    (),
    NOW,
)


def frame(sequence: int = 1, cycle: int = 1, rows: int = 2, at: datetime = NOW, **changes: Any) -> Frame:
    """`rows` rows of pump-1 from `cycle` on."""
    made = Frame(
        "gate-1",
        MODEL,
        sequence,
        int(at.timestamp() * 1000),
        {"pump-1": cycle + rows - 1},
        ("flow", "heat"),
        np.zeros(rows, dtype=np.uint16),
        np.arange(cycle, cycle + rows, dtype=np.uint32),
        np.full((rows, 2), 5.0),
    )
    return replace(made, **changes)


def signed(made: Frame, key: int = 1) -> bytes:
    return frames.sign(made, signer_of(key))


class Bench:
    """A gate over its state, which honest frames 1 to 3 have passed."""

    def __init__(self, path: Path, record: DeviceRecord = DEVICES) -> None:
        self.path, self.record = path, record
        self.gate = FrameGate(path, record)

    def take(self, *data: bytes, now: datetime = NOW) -> list[Taken | Refused]:
        return self.gate.take(data, now)

    def reason(self, data: bytes, now: datetime = NOW) -> str:
        (found,) = self.take(data, now=now)
        return found.reason if isinstance(found, Refused) else "taken"

    def restart(self, record: DeviceRecord | None = None) -> None:
        self.gate = FrameGate(self.path, record or self.record)

    def goes_on(self, sequence: int = 4, cycle: int = 7, now: datetime = NOW) -> None:
        """The honest devices are answered as before."""
        (own,) = self.take(signed(frame(sequence, cycle, at=now)), now=now)
        assert isinstance(own, Taken), own
        assert [cycle, cycle + 1] == [row["cycle"] for row in own.frame.rows()]
        known = self.gate._memory.units.get("pump-3", 0)
        seen = self.gate._memory.devices.get(KEYS[2].fingerprint, Sequence(1))
        other = frame(seen.last + 1, known + 1, at=now, device="gate-2", units={"pump-3": known + 2})
        assert "taken" == self.reason(signed(other, 2), now)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    made = Bench(tmp_path)
    done = made.take(*(signed(frame(n, 2 * n - 1)) for n in (1, 2, 3)))
    assert all(isinstance(item, Taken) and not item.lost_frames and not item.lost_rows for item in done)
    assert [True, False, False] == [item.first for item in done if isinstance(item, Taken)]
    return made


def test_rows_of_an_honest_device_come_out_as_they_went_in(bench: Bench) -> None:
    (found,) = bench.take(signed(frame(4, 7)))
    assert isinstance(found, Taken)
    assert [{"unit": "pump-1", "cycle": 7, "flow": 5.0, "heat": 5.0}] == list(found.frame.rows())[:1]
    assert {"taken": 4, "rows": 8} == {name: n for name, n in bench.gate.counts.items() if n}
    assert ["taken 4", "rows 8"] == list(counted_words(bench.gate.counts))


Attack = tuple[Callable[[], bytes], str]


def tampered() -> bytes:
    parts = cbor.decode(signed(frame(4, 7))[1:], "")
    parts[2] = frame(4, 7, readings=np.full((2, 2), 1.0)).to_bytes()
    return b"\xd2" + cbor.encode(parts)


def under_the_name_of_gate_1() -> bytes:
    parts = cbor.decode(signed(frame(4, 7))[1:], "")
    parts[3] = cbor.decode(signed(frame(4, 7), 2)[1:], "")[3]
    return b"\xd2" + cbor.encode(parts)


def not_a_frame(payload: bytes) -> Callable[[], bytes]:
    return lambda: cose.sign(payload, signer_of(1))


def second(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


ATTACKS: dict[str, Attack] = {
    "readings are changed on the way": (tampered, "forged"),
    "another device signs under the name of this one": (under_the_name_of_gate_1, "forged"),
    "an enrolled device calls itself another": (lambda: signed(frame(4, 7), 2), "malformed"),
    "a key that nobody enrolled": (lambda: signed(frame(4, 7), 3), "unknown device"),
    "the last frame again": (lambda: signed(frame(3, 5)), "played again"),
    "the first frame again": (lambda: signed(frame(1, 1)), "played again"),
    "an old number with new rows": (lambda: signed(frame(2, 7)), "played again"),
    "half a frame": (lambda: signed(frame(4, 7))[:-40], "malformed"),
    "a frame and more": (lambda: signed(frame(4, 7)) + b"\0", "malformed"),
    "nothing": (lambda: b"", "malformed"),
    "noise": (lambda: bytes(range(256)), "malformed"),
    "a text": (lambda: b'{"unit": "pump-1", "cycle": 7}', "malformed"),
    "five megabytes": (lambda: bytes(5 << 20), "too long"),
    "lists in lists": (lambda: b"\xd2" + b"\x81" * 100_000, "malformed"),
    "a list of 2^63 parts": (lambda: b"\xd2\x9b\x7f" + b"\xff" * 7, "malformed"),
    "a signed bomb of lists": (not_a_frame(b"\x81" * 50_000 + b"\0"), "malformed"),
    "a signed bomb of lengths": (not_a_frame(b"\xbb\x7f" + b"\xff" * 7), "malformed"),
    "a signed tag": (not_a_frame(b"\xd8\x1c\x81\xd8\x1d\0"), "malformed"),
    "a signed NaN as a key": (not_a_frame(b"\xa1\xfb\x7f\xf8" + bytes(7)), "malformed"),
    "a signed key twice": (not_a_frame(b"\xa2\x01\0\x01\0"), "malformed"),
    "a unit of another device": (lambda: signed(frame(4, 7, units={"pump-3": 8})), "another device's unit"),
    "a unit that nobody enrolled": (lambda: signed(frame(4, 7, units={"pump-9": 8})), "another device's unit"),
    "a look-alike name": (lambda: signed(frame(4, 7, units={"pump‐1": 8})), "another device's unit"),
    "a channel of another device": (
        lambda: signed(frame(4, 7, channels=("flow", "speed"))),
        "another device's channel",
    ),
    "rows for another model": (lambda: signed(frame(4, 7, model=OTHER)), "of another model"),
    "a frame of an hour ago": (lambda: signed(frame(4, 7, at=second(-3600))), "too old"),
    "a frame just too old": (lambda: signed(frame(4, 7, at=second(-61))), "too old"),
    "a frame of tomorrow": (lambda: signed(frame(4, 7, at=second(86_400))), "from the future"),
    "a frame of the year 9999": (lambda: signed(frame(4, 7, time_ms=frames.MAX_TIME_MS)), "from the future"),
    "a machine that is told to be new": (lambda: signed(frame(4, 1)), "a count that fell"),
    "a count that falls without a row": (
        lambda: signed(replace(frame(4, 1, rows=0), units={"pump-1": 2})),
        "a count that fell",
    ),
    "old rows under a new number": (lambda: signed(frame(4, 5, rows=4)), "a count that fell"),
    "a count that goes on over old rows": (
        lambda: signed(frame(4, 5, rows=2, units={"pump-1": 50})),
        "a count that fell",
    ),
}


@pytest.mark.attack("T")
@pytest.mark.parametrize("attack", ATTACKS)
def test_an_attack_on_frames_is_refused_by_its_name(bench: Bench, attack: str) -> None:
    """Frames are forged, played again, cut, bombs, out of time, of others' units, or make a machine younger."""
    make, reason = ATTACKS[attack]
    before = dict(bench.gate.counts)
    assert reason == bench.reason(make())
    assert {**before, reason: 1} == dict(bench.gate.counts)
    bench.goes_on()


@pytest.mark.attack("T")
def test_frames_that_change_places_are_told_from_those_played_again(bench: Bench) -> None:
    """Somebody on the way delays a frame behind the next, and plays it again later."""
    early, late = signed(frame(5, 9)), signed(frame(4, 7))
    (found,) = bench.take(early)
    assert isinstance(found, Taken)
    assert (1, {"pump-1": 2}) == (found.lost_frames, found.lost_rows)
    assert ["late", "late", "played again"] == [bench.reason(late), bench.reason(late), bench.reason(early)]
    bench.goes_on(6, 11)


@pytest.mark.attack("T")
def test_frames_that_are_withheld_are_missed(bench: Bench) -> None:
    """Somebody on the way drops nine frames, and then every second one."""
    (found,) = bench.take(signed(frame(13, 25)))
    assert isinstance(found, Taken)
    assert (9, {"pump-1": 18}) == (found.lost_frames, found.lost_rows)
    for n in (15, 17):
        (found,) = bench.take(signed(frame(n, 2 * n - 1)))
        assert isinstance(found, Taken)
        assert (1, {"pump-1": 2}) == (found.lost_frames, found.lost_rows)
    assert (11, 22) == (bench.gate.counts["lost frames"], bench.gate.counts["lost rows"])


def test_rows_that_the_gateway_itself_lost_are_missed(bench: Bench) -> None:
    (found,) = bench.take(signed(frame(4, 10)))
    assert isinstance(found, Taken)
    assert (0, {"pump-1": 3}) == (found.lost_frames, found.lost_rows)
    beat = replace(frame(5, 1, rows=0), units={"pump-1": 20})  # a sign of life without a row
    (found,) = bench.take(signed(beat))
    assert isinstance(found, Taken)
    assert {"pump-1": 9} == found.lost_rows


@pytest.mark.attack("T")
def test_a_stolen_key_ends_with_its_revocation(bench: Bench) -> None:
    """A thief of a device's key signs on after the commissioners have revoked it."""
    assert "taken" == bench.reason(signed(frame(4, 7)))  # a thief's: nothing tells it from the device's
    bench.restart(DEVICES.without("gate-1"))
    assert "revoked device" == bench.reason(signed(frame(5, 9)))
    renewed = DEVICES.with_device(Device("gate-1", KEYS[3], ("pump-1",), ("flow", "heat")))
    bench.restart(renewed)
    assert "revoked device" == bench.reason(signed(frame(5, 9)))
    (found,) = bench.take(signed(frame(1, 9), 3))
    assert isinstance(found, Taken)
    assert found.first
    assert "a count that fell" == bench.reason(signed(frame(2, 1), 3))  # the machine's age is not the key's


@pytest.mark.attack("T")
def test_a_sequence_that_jumps_to_its_end_silences_only_its_own_key(bench: Bench) -> None:
    """A thief of a device's key signs the greatest number, so that the honest device's frames look played again."""
    (found,) = bench.take(signed(frame(MAX_SEQUENCE, 7)))
    assert isinstance(found, Taken)
    assert MAX_SEQUENCE - 4 == found.lost_frames
    assert "played again" == bench.reason(signed(frame(4, 9)))
    memory = bench.gate._memory.devices[KEYS[1].fingerprint]
    assert MAX_MISSING == len(memory.missing)
    assert "late" == bench.reason(signed(frame(MAX_SEQUENCE - 1, 9)))
    bench.restart(DEVICES.with_device(Device("gate-1", KEYS[3], ("pump-1",), ("flow", "heat"))))
    assert "taken" == bench.reason(signed(frame(1, 9), 3))  # a new key begins anew


@pytest.mark.attack("T")
def test_nothing_is_played_again_after_a_restart(bench: Bench) -> None:
    """Somebody records frames, and plays them again to a twin that was restarted."""
    recorded = [signed(frame(n, 2 * n - 1)) for n in (1, 2, 3)]
    bench.restart()
    assert ["played again"] * 3 == [bench.reason(data) for data in recorded]
    bench.goes_on()
    bench.gate.close()
    bench.restart()
    assert 3 == bench.gate.counts["played again"]


@pytest.mark.attack("T")
def test_a_flood_is_cut_to_the_devices_rate_and_others_go_on(bench: Bench) -> None:
    """A thief of a device's key floods the twin, far beyond the device's rate."""
    many = [signed(frame(n, 2 * n - 1)) for n in range(4, 504)]
    done = bench.take(*many)
    taken = sum(isinstance(item, Taken) for item in done)
    assert BURST_S * 20 - 3 == taken
    assert 500 - taken == bench.gate.counts["too many"]
    assert "taken" == bench.reason(signed(frame(1, 1, device="gate-2", units={"pump-3": 2}), 2))
    later = second(10)
    assert "taken" == bench.reason(signed(frame(504, 2000, at=later)), later)


@pytest.mark.attack("T")
def test_many_rows_in_a_frame_count_as_many_frames(bench: Bench) -> None:
    """A thief of a device's key fills each frame with all the rows that fit, so that the twin does nothing else."""
    last = 6
    taken = []
    for n in range(4, 24):
        found = bench.reason(signed(frame(n, last + 1, rows=MAX_ROWS)))
        last += MAX_ROWS if found == "taken" else 0
        taken.append(found)
    assert ["taken"] * 3 + ["too many"] * 17 == taken  # 200 - 3 frames' worth, of which each uses 82
    owed = 3 * MAX_ROWS / ROWS_OF_ONE - (BURST_S * 20 - 3)
    for seconds, found in ((owed / 20 - 0.1, "too many"), (owed / 20 + 0.1, "taken")):
        assert found == bench.reason(signed(frame(30, last + 1, at=second(seconds))), second(seconds))


@pytest.mark.attack("T")
def test_a_flood_of_forgeries_does_not_use_up_the_devices_rate(bench: Bench) -> None:
    """Somebody without a key floods the twin under a device's name, so that its own frames are too many."""
    forged = tampered()
    written = (bench.path / FILE).stat().st_mtime_ns
    assert ["forged"] * 500 == [item.reason for item in bench.take(*[forged] * 500) if isinstance(item, Refused)]
    assert written == (bench.path / FILE).stat().st_mtime_ns  # nor the disk
    bench.goes_on()


@pytest.mark.attack("T")
def test_a_twins_clock_that_jumps_refuses_and_recovers(bench: Bench) -> None:
    """Somebody moves the twin's clock an hour ahead, then an hour back."""
    assert "too old" == bench.reason(signed(frame(4, 7)), second(3600))
    assert "from the future" == bench.reason(signed(frame(4, 7)), second(-3600))
    bench.goes_on()


def test_the_memory_is_written_before_rows_are_given_out(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: FrameMemory, state: State) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(FrameMemory, "store", full)
    with pytest.raises(OSError, match="No space left"):
        bench.take(signed(frame(4, 7)))


NEW = Act("new machine", 0, 0)


def lives(version: int = 1, begun: int = 1, **acts: tuple[Act, ...]) -> LifeRecord:
    return LifeRecord(MODEL, version, begun, {name.replace("_", "-"): Life(found) for name, found in acts.items()}, NOW)


def test_a_count_falls_once_where_the_counter_was_replaced(bench: Bench) -> None:
    bench.gate.use(DEVICES, lives(pump_1=(NEW,), pump_3=(NEW,)))
    assert "a count that fell" == bench.reason(signed(frame(4, 1)))  # the machine that was counted is the enrolled one
    replaced = lives(2, pump_1=(NEW, Act("counter replaced", 0, 6)), pump_3=(NEW,))
    bench.gate.use(DEVICES, replaced)
    (found,) = bench.take(signed(frame(4, 1)))
    assert isinstance(found, Taken)
    assert {} == found.lost_rows
    for record in (replaced, replace(replaced, version=3)):  # the same act, read again
        bench.gate.use(DEVICES, record)
        assert "a count that fell" == bench.reason(signed(frame(5, 1)))
    bench.restart()
    bench.gate.use(DEVICES, replaced)
    assert "a count that fell" == bench.reason(signed(frame(5, 1)))  # after a restart, too
    bench.goes_on(5, 3)
    other = lives(4, pump_1=(*replaced.acts["pump-1"], Act("counter replaced", 900, 60)), pump_3=(NEW,))
    bench.gate.use(DEVICES, other)
    assert "a count that fell" == bench.reason(signed(frame(6, 900, rows=1)))
    bench.goes_on(6, 901)


@pytest.mark.attack("T")
@pytest.mark.parametrize("act", [Act("overhaul", 6, 0), Act("sensor replaced", 6, 6)])
def test_an_overhaul_or_a_new_sensor_sets_no_count_back(bench: Bench, act: Act) -> None:
    """A thief of a device's key plays the machine's first rows again, once commissioners signed an overhaul."""
    bench.gate.use(DEVICES, lives(pump_1=(NEW, act)))
    assert "a count that fell" == bench.reason(signed(frame(4, 1)))
    bench.goes_on()


def test_a_new_machine_under_a_retired_name_begins_at_its_own_count(bench: Bench) -> None:
    first, other = (NEW, Act("overhaul", 5, 0)), Act("new machine", 2, 0)
    bench.gate.use(DEVICES, lives(pump_1=first))
    bench.gate.use(DEVICES, replace(lives(2), lives={"pump-1": Life(first, retired=True)}))
    assert "a count that fell" == bench.reason(signed(frame(4, 1)))
    bench.gate.use(DEVICES, lives(3, pump_1=(*first, other)))
    assert "a count that fell" == bench.reason(signed(frame(4, 1)))
    bench.goes_on(4, 3)


def test_a_record_that_was_begun_anew_sets_no_count_back_by_itself(bench: Bench) -> None:
    bench.gate.use(DEVICES, lives(pump_1=(NEW, Act("counter replaced", 6, 6), Act("counter replaced", 6, 7))))
    anew = lives(5, 5, pump_1=(Act("new machine", 0, 6),))
    bench.gate.use(DEVICES, anew)
    assert "a count that fell" == bench.reason(signed(frame(4, 1)))
    bench.gate.use(DEVICES, lives(6, 5, pump_1=(*anew.acts["pump-1"], Act("counter replaced", 0, 12))))
    bench.goes_on(4, 1)


def test_a_twin_that_has_lost_its_memory_begins_at_the_counts_that_were_signed(tmp_path: Path) -> None:
    gate = FrameGate(tmp_path, DEVICES, lives(pump_1=(Act("new machine", 40, 40),)))
    (old, new) = gate.take([signed(frame(1, 39)), signed(frame(2, 41))], NOW)
    assert ("a count that fell", True) == (getattr(old, "reason", ""), isinstance(new, Taken))


@pytest.mark.attack("T")
def test_rows_of_an_unknown_machine_are_counted(bench: Bench) -> None:
    """A worn machine is told under a name that its gateway may deliver, and that no commissioner has enrolled."""
    assert 0 == bench.gate.counts[UNKNOWN_ROWS]
    bench.gate.use(DEVICES, lives(pump_1=(NEW,)))
    (own, other) = bench.take(signed(frame(4, 7)), signed(frame(5, 1, units={"pump-2": 2})))
    assert isinstance(own, Taken)
    assert isinstance(other, Taken)
    assert ((), ("pump-2",), 2) == (own.unknown, other.unknown, bench.gate.counts[UNKNOWN_ROWS])
    assert f"{UNKNOWN_ROWS} 2" in list(counted_words(bench.gate.counts))
    bench.gate.use(DEVICES, replace(lives(2), lives={"pump-1": Life((NEW,), retired=True)}))
    (retired,) = bench.take(signed(frame(6, 9)))
    assert ("pump-1",) == getattr(retired, "unknown", ())


def test_the_memory_of_an_older_twin_is_read(bench: Bench) -> None:
    value = json.loads((bench.path / FILE).read_text())
    (bench.path / FILE).write_text(json.dumps({name: value[name] for name in ("devices", "units", "counts")}))
    bench.restart()
    assert "played again" == bench.reason(signed(frame(3, 5)))
    bench.gate.use(DEVICES, lives(pump_1=(NEW, Act("counter replaced", 0, 6)), pump_3=(NEW,)))
    bench.goes_on(4, 1)


numbers = st.integers(1, MAX_SEQUENCE)


@given(
    st.dictionaries(
        st.sampled_from([key.fingerprint for key in KEYS]),
        st.lists(numbers, min_size=1, max_size=9, unique=True).map(sorted),
    ),
    st.dictionaries(st.sampled_from(["pump-1", "ü 2"]), st.integers(0, 2**31 - 1)),
    st.dictionaries(st.sampled_from(["taken", "late"]), numbers),
    st.integers(0, 2**31),
    st.dictionaries(st.sampled_from(["pump-1", "ü 2"]), st.integers(0, 1000)),
)
def test_the_memory_reads_back_as_itself(
    devices: dict[str, list[int]], units: dict[str, int], counts: dict[str, int], begun: int, acts: dict[str, int]
) -> None:
    sequences = {name: Sequence(found[-1], tuple(found[:-1])) for name, found in devices.items()}
    memory = FrameMemory(sequences, units, FrameMemory().counts + type(FrameMemory().counts)(counts), begun, acts)
    assert memory == FrameMemory.from_bytes(memory.to_bytes())


@pytest.mark.parametrize(
    "change",
    [
        {"devices": {"x": [1, []]}},
        {"devices": {"0" * 64: [1]}},
        {"devices": {"0" * 64: [0, []]}},
        {"devices": {"0" * 64: [5, [7]]}},
        {"devices": {"0" * 64: [5, [3, 2]]}},
        {"devices": {"0" * 64: [True, []]}},
        {"devices": {"0" * 64: [2**60, []]}},
        {"devices": {"0" * 64: [400, list(range(1, 300))]}},
        {"devices": []},
        {"units": {"pump-1": -1}},
        {"units": {"pump-1": "3"}},
        {"units": {"\x1b": 3}},
        {"counts": {"taken": 1.5}},
        {"acts": {"pump-1": -1}},
        {"acts": {"pump-1": 1001}},
        {"acts": {"\x1b": 1}},
        {"acts": []},
        {"begun": -1},
        {"begun": True},
        {"begun": {}},
        {"more": {}},
    ],
)
def test_a_memory_that_somebody_changed_is_refused(bench: Bench, change: dict[str, Any]) -> None:
    value = json.loads((bench.path / FILE).read_text()) | change
    (bench.path / FILE).write_text(json.dumps(value))
    with pytest.raises(EvidenceError, match="expected"):
        bench.restart()


def stream_of(*items: bytes) -> io.BytesIO:
    return io.BytesIO(b"".join(items))


def test_a_stream_gives_its_frames_in_whatever_pieces_it_comes() -> None:
    data = [signed(frame(n, 2 * n - 1)) for n in range(1, 6)]
    whole = b"".join(map(with_length, data))

    class Pieces:
        def __init__(self, size: int) -> None:
            self.size, self.rest = size, whole

        def read1(self, size: int) -> bytes:
            found, self.rest = self.rest[: self.size], self.rest[self.size :]
            return found

    for size in (1, 3, 100, len(whole)):
        assert data == [item for batch in batches(Pieces(size)) for item in batch]


@pytest.mark.attack("T")
def test_a_stream_that_is_cut_or_has_a_false_length_is_said_to(bench: Bench) -> None:
    """Somebody cuts a stream of frames, or writes a length of 4 GB into it."""
    honest = with_length(signed(frame(4, 7)))
    told: list[Taken | Refused] = []
    rows = list(
        signed_rows(bench.gate, stream_of(honest, with_length(signed(frame(5, 9)))[:-9]), lambda: NOW, told.append)
    )
    assert [7, 8] == [row["cycle"] for row in rows]
    assert "cut off" == getattr(told[-1], "reason", "")
    told.clear()
    false = (2 << 20).to_bytes(4) + bytes(2 << 20)
    rows = list(signed_rows(bench.gate, stream_of(false, with_length(signed(frame(5, 9)))), lambda: NOW, told.append))
    assert [9, 10] == [row["cycle"] for row in rows]
    assert "too long" == getattr(told[0], "reason", "")
    assert (1, 1) == (bench.gate.counts["cut off"], bench.gate.counts["too long"])
    rows = list(signed_rows(bench.gate, stream_of(b"\xff" * 4, honest), lambda: NOW, told.append))
    assert ([], "cut off") == (rows, getattr(told[-1], "reason", ""))
    assert 2 == read_frame_memory(State(bench.path)).counts["cut off"]


@given(st.lists(st.binary(max_size=50) | st.just(with_length(b"\xd2\x84")), max_size=6))
def test_whatever_is_in_a_stream_ends(pieces: list[bytes]) -> None:
    found = [item for batch in batches(stream_of(*pieces)) for item in batch]
    assert len(found) <= sum(map(len, pieces))


def test_a_missing_reading_stays_missing(bench: Bench) -> None:
    (found,) = bench.take(signed(frame(4, 7, rows=1, readings=np.array([[math.nan, 1.0]]))))
    assert isinstance(found, Taken)
    assert math.isnan(next(found.frame.rows())["flow"])
