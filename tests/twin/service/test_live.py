"""The live twin: after kill -9 it goes on as before; it changes its model without a gap, and answers by no bad one."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.twin.deployment import CHANNELS, MODEL, write_untrained
from tests.twin.site import LATER, Site
from tests.twin.test_devices import KEYS, signer_of
from twinseal.errors import ThresholdError, TwinsealError
from twinseal.telemetry.unit_names import MAX_NAME, unit_name
from twinseal.trust.ceremonies import ceremony
from twinseal.trust.device_record import Device
from twinseal.trust.life_acts import Act
from twinseal.twin import frames
from twinseal.twin.answers import Answer
from twinseal.twin.byte_sources import DirectorySource
from twinseal.twin.delivered import Delivered, FrameMark
from twinseal.twin.devices import DEVICES
from twinseal.twin.enrolled_lives import LIVES
from twinseal.twin.frame_gate import Refused, Taken
from twinseal.twin.frames import MAX_CHANNELS, MAX_ROWS, MAX_UNITS, Frame
from twinseal.twin.inputs.source import Item, SignedFrame, Unreadable, UnsignedRow
from twinseal.twin.pull import pull
from twinseal.twin.row_journal import MAX_PAYLOAD_BYTES
from twinseal.twin.service import heard as hearing
from twinseal.twin.service.live import Limits, LiveTwin
from twinseal.twin.state import State

UNITS = ("pump-1", "pump-2")


class Plant(Site):
    """A site with a live twin; `kill` ends it as kill -9 does."""

    def __init__(self, path: Path, **limits: Any) -> None:
        super().__init__(path)
        self.limits, self.live = Limits(**limits), LiveTwin(self.twin, self.anchor, MODEL, LATER, Limits(**limits))

    def restart(self, now: datetime = LATER) -> LiveTwin:
        """Nothing of the old one is closed."""
        self.live = LiveTwin(self.twin, self.anchor, MODEL, now, self.limits)
        return self.live

    def say(self, *items: Item, now: datetime = LATER) -> list[Answer]:
        heard = self.live.hear(items, now)
        self.live.remember(heard)
        return list(self.live.answer(heard, now))

    def enroll_devices(self) -> None:
        device = Device("gate-1", KEYS[1], UNITS, tuple(sorted(CHANNELS)), 1000)
        self.sign(DEVICES, lambda record: record.with_device(device))

    def look(self, now: datetime = LATER) -> Any:
        source = DirectorySource(self.deployment.mirror)
        return pull(source, self.anchor, MODEL, self.twin, now, skip=State(self.twin).held()).model


@pytest.fixture
def plant(pulled: Path, tmp_path: Path) -> Plant:
    shutil.copytree(pulled, tmp_path / "site")
    return Plant(tmp_path / "site")


def rows(cycles: Sequence[int], units: Sequence[str] = UNITS, seed: int = 0) -> list[UnsignedRow]:
    rng, found = np.random.default_rng(seed), []
    for cycle in range(1, max(cycles) + 1):
        for unit in units:
            values = 5.0 + 0.3 * rng.normal(size=len(CHANNELS)).clip(-1, 1)
            if cycle in cycles:
                found.append(
                    UnsignedRow(
                        {"unit": unit, "cycle": cycle} | dict(zip(CHANNELS, values.tolist(), strict=True)), "test"
                    )
                )
    return found


def frame(sequence: int, cycle: int, at: datetime = LATER, unit: str = "pump-1", count: int = 3) -> SignedFrame:
    values = 5.0 + 0.3 * np.random.default_rng(sequence).normal(size=(count, len(CHANNELS))).clip(-1, 1)
    order = sorted(range(len(CHANNELS)), key=lambda place: CHANNELS[place])
    made = Frame(
        "gate-1",
        MODEL,
        sequence,
        int(at.timestamp() * 1000),
        {unit: cycle + count - 1},
        tuple(sorted(CHANNELS)),
        np.zeros(count, dtype=np.uint16),
        np.arange(cycle, cycle + count, dtype=np.uint32),
        values[:, order],
    )
    return SignedFrame(frames.sign(made, signer_of(1)), "test")


def plain(answers: Sequence[Answer]) -> list[tuple[Any, ...]]:
    return [(item.unit, item.cycle, item.rul_cycles, item.low_cycles, item.readings, item.advice) for item in answers]


@pytest.mark.parametrize("kept", [False, True])
def test_after_kill_9_it_answers_as_if_it_had_run_on(plant: Plant, tmp_path: Path, *, kept: bool) -> None:
    shutil.copytree(tmp_path / "site", tmp_path / "other")
    other = Plant(tmp_path / "other")
    for cycle in range(1, 12):
        part = rows([cycle])
        assert plain(plant.say(*part)) == plain(other.say(*part))
        if cycle == 7 and kept:
            plant.live.keep(LATER, always=True)
        if cycle in (4, 9):
            plant.restart()
    assert plain(plant.live.answers(LATER)) == plain(other.live.answers(LATER))


def test_a_delivery_that_was_remembered_and_not_answered_counts(plant: Plant) -> None:
    plant.say(*rows([1, 2, 3]))
    heard = plant.live.hear(rows([4]), LATER)
    plant.live.remember(heard)
    plant.restart()
    assert [4, 4] == [item.cycle for item in plant.live.answers(LATER)]


@pytest.mark.attack("T")
def test_frames_are_played_again_after_kill_9(plant: Plant) -> None:
    """A twin is killed before it has written more than rows; the frames of before come again: each is refused."""
    plant.enroll_devices()
    first = [frame(1, 1), frame(2, 4)]
    answers = plant.say(*first)
    assert [True] * 6 == [item.signed for item in answers]
    plant.restart()
    heard = plant.live.hear([*first, frame(3, 7)], LATER)
    assert ["played again", "played again", "taken"] == [
        item.reason if isinstance(item, Refused) else "taken" for item in heard.items if not hasattr(item, "origin")
    ]
    plant.live.remember(heard)
    assert [7, 8, 9] == [item.cycle for item in plant.live.answer(heard, LATER)]


@pytest.mark.attack("T")
def test_frames_are_played_again_after_a_new_model_and_a_kill(plant: Plant) -> None:
    """A twin is killed just after it has changed its model; the frames that it heard before come again."""
    plant.enroll_devices()
    plant.say(frame(1, 1))
    plant.deployment.publish(2, seed=1)
    assert not plant.live.adopt(plant.look(), LATER).fault
    plant.restart()
    assert ["played again"] == [item.reason for item in plant.live.hear([frame(1, 1)], LATER).items]  # type: ignore[union-attr]


def test_an_act_that_was_signed_while_the_twin_was_off_holds_after_the_frames_of_before(plant: Plant) -> None:
    plant.enroll_devices()
    plant.sign(LIVES, lambda record: record.with_machines(UNITS, Act("new machine", 0, 0), {}))
    plant.say(frame(1, 1))
    plant.live.keep(LATER, always=True)
    plant.say(frame(2, 4))  # killed after that
    plant.sign(LIVES, lambda record: record.with_act("pump-1", Act("counter replaced", 0, 6), 0))
    for sequence, cycle in ((3, 1), (4, 4)):
        plant.restart()
        (taken,) = plant.live.hear([frame(sequence, cycle)], LATER).items
        assert isinstance(taken, Taken), taken


def test_a_long_delivery_is_kept_in_parts_and_a_frame_in_one(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hearing, "MAX_PART", 5)
    plant.limits = Limits(unsigned=True)
    plant.enroll_devices()
    plant.restart()
    beat = frame(3, 4, count=0)
    heard = plant.live.hear([frame(1, 1), *rows([1, 2], ("pump-3",)), beat, frame(4, 4, count=9), frame(5, 13)], LATER)
    assert ((4, 1), (1, 1), (9, 1), (3, 1)) == heard.parts
    plant.live.remember(heard)
    before = plain(plant.live.answer(heard, LATER))[-1]
    again = plant.restart()
    assert before == plain(again.answers(LATER))[0]
    assert ["played again"] == [item.reason for item in again.hear([frame(5, 13)], LATER).items]  # type: ignore[union-attr]


@pytest.mark.attack("T")
def test_the_longest_names_in_the_longest_frame_fit_into_the_journal() -> None:
    """An enrolled device delivers so many rows with such long names that the twin could not keep them, and ends."""
    name = "\U0001f600" * MAX_NAME
    assert unit_name(name) == name
    units = {f"{number:04}{name[4:]}": 2**31 - 1 for number in range(MAX_UNITS)}
    channels = tuple(f"c{number}" for number in range(MAX_CHANNELS))
    mark, readings = FrameMark("0" * 64, 2**53 - 1, units), np.zeros((MAX_ROWS, MAX_CHANNELS))
    delivered = Delivered((name,) * MAX_ROWS, (2**31 - 1,) * MAX_ROWS, channels, readings, (mark,))
    assert len(delivered.to_bytes()) <= MAX_PAYLOAD_BYTES


@pytest.mark.attack("T")
def test_rows_without_a_signature_where_devices_are_enrolled(plant: Plant) -> None:
    """Somebody sends plain rows to a twin whose devices sign: allowed or not, none of a machine that one delivers."""
    plant.enroll_devices()
    heard = plant.live.hear(rows([1]), LATER)
    assert (0, ["unsigned", "unsigned"]) == (len(heard.rows), [item.reason for item in heard.items])  # type: ignore[union-attr]
    plant.limits = Limits(unsigned=True)
    plant.restart()
    heard = plant.live.hear(rows([1], (*UNITS, " pump-1\u00a0", "pump-3")), LATER)
    assert ["pump-3"] == list(heard.rows.units)
    assert [
        "row from test: expected pump-1 in a frame of gate-1, got a row",
        "row from test: expected pump-2 in a frame of gate-1, got a row",
        "row from test: expected pump-1 in a frame of gate-1, got a row",
    ] == [item.message for item in heard.items if isinstance(item, Unreadable)]
    assert [False] == [item.signed for item in plant.say(*rows([1], ("pump-3",)))]
    (plant.twin / DEVICES.file).write_bytes(b"{}")
    assert not plant.live.hear(rows([2], ("pump-3",)), LATER).rows  # nobody knows whose it is


@pytest.mark.attack("T")
def test_a_device_record_that_was_changed_lets_no_frame_in(plant: Plant) -> None:
    """The list of devices is changed on the twin's disk: no frame is taken, and the twin says why."""
    plant.enroll_devices()
    plant.say(frame(1, 1))
    file = plant.twin / DEVICES.file
    data = file.read_bytes()
    file.write_bytes(data[:200] + bytes([data[200] ^ 1]) + data[201:])
    heard = plant.live.hear([frame(2, 4)], LATER)
    assert not len(heard.rows)
    assert plant.live.devices.fault


def test_a_release_that_agrees_answers_at_once_and_goes_on_from_the_same_lives(plant: Plant) -> None:
    plant.say(*rows(range(1, 12)))
    before = plant.live.answers(LATER)
    plant.deployment.publish(2, seed=1)  # the same network once more
    adoption = plant.live.adopt(plant.look(), LATER)
    assert (2, "") == (adoption.release, adoption.fault)
    after = plant.live.answers(LATER)
    assert [2, 2] == [item.release for item in after]
    assert [item[:4] for item in plain(before)] == [item[:4] for item in plain(after)]
    plant.restart()
    assert plain(after) == plain(plant.live.answers(LATER))


@pytest.mark.attack("T")
def test_a_release_that_disagrees_about_every_machine_is_not_adopted(plant: Plant) -> None:
    """A signed and approved release says something else of every machine: the twin keeps its model, restarted too."""

    def contrary(folder: Path, seed: int, model: str) -> None:
        write_untrained(folder, seed, model, (4,))

    plant.say(*rows(range(1, 12)))
    for version in range(2, 20):
        plant.deployment.publish(version, seed=40 + version, write=contrary)
        verified = plant.look()
        adoption = plant.live.adopt(verified, LATER)
        if adoption.fault:
            break
    assert "machines on which the estimates agree" in adoption.fault
    running = plant.live.verified.release.version
    assert running == version - 1
    assert running == plant.look().release.version == plant.restart().verified.release.version
    assert ("held", "") == (
        plant.log()[-1][0],
        plant.live.older,
    )  # it says why in its log, and is not alarmed by itself


def test_a_twin_that_was_off_while_a_release_came_goes_on_from_the_rows_of_before(plant: Plant) -> None:
    plant.say(*rows(range(1, 12)))
    before = plant.live.answers(LATER)
    plant.deployment.publish(2, seed=1)
    plant.pull(LATER)
    plant.restart()
    assert [2, 2] == [item.release for item in plant.live.answers(LATER)]
    assert [item[:3] for item in plain(before)] == [item[:3] for item in plain(plant.live.answers(LATER))]


@pytest.mark.attack("T")
def test_a_reviewers_key_is_revoked_while_the_model_runs(plant: Plant) -> None:
    """A key that approved the running model was stolen and is revoked: the twin answers by that model no more."""
    plant.say(*rows(range(1, 12)))
    assert "ok" in {item.readings for item in plant.live.answers(LATER)}
    ceremony.revoke(plant.deployment.home, plant.deployment.roles, "alice", LATER)
    plant.deployment.update_mirror()
    with pytest.raises(ThresholdError, match="was signed by 1/2 keys"):
        plant.look()
    said = plant.live.check(LATER)
    assert "approved no longer" in said
    assert {("refused", None)} == {(item.readings, item.rul_cycles) for item in plant.live.answers(LATER)}
    plant.restart()
    assert "approved no longer" in plant.live.silent


def test_without_confirmation_for_too_long_every_machine_is_to_be_inspected(plant: Plant) -> None:
    plant.say(*rows(range(1, 12)))
    ended = min(item.expires for item in plant.live.ends.expiries)
    for after, silent in ((timedelta(days=6), False), (timedelta(days=8), True)):
        plant.live.check(ended + after)
        readings = {item.readings for item in plant.live.answers(ended + after)}
        assert (silent, {"refused"} if silent else {"ok"}) == (bool(plant.live.silent), readings)


@pytest.mark.attack("T")
def test_the_model_is_changed_on_the_disk_while_it_runs(plant: Plant) -> None:
    """A byte of the installed model is changed under a twin that runs: its next verification says so."""
    plant.say(*rows(range(1, 12)))
    assert not plant.live.verify_again(LATER)
    file = next((plant.twin / "models").glob("*/bundle/model/model.safetensors"))
    data = file.read_bytes()
    file.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    assert "not what was admitted" in plant.live.verify_again(LATER)
    assert {"refused"} == {item.readings for item in plant.live.answers(LATER)}


@pytest.mark.attack("T")
def test_the_memory_is_removed_so_that_a_worn_machine_seems_new(plant: Plant) -> None:
    """The memory of units is removed while the twin is off: machines are unknown until an act vouches for them."""
    plant.sign(LIVES, lambda record: record.with_machines(UNITS, Act("new machine", 0, 0), {}))
    most = plant.live.verified.model.life_bounds["plain"].unknown_cycles
    assert min(item.rul_cycles or 0 for item in plant.say(*rows(range(1, 12)))[-2:]) > most
    plant.live.close(LATER)
    shutil.rmtree(plant.twin / "units")
    plant.restart()
    assert plant.live.lost
    again = plant.say(*rows(range(1, 12)))
    assert max(item.rul_cycles or 0 for item in again) <= most
    assert "unknown machine" in again[-1].advice
    plant.restart()  # still so
    assert max(item.rul_cycles or 0 for item in plant.say(*rows([12]))) <= most
    plant.sign(LIVES, lambda record: record.with_act("pump-1", Act("sensor replaced", 12, 12), 0))
    later = {item.unit: item.rul_cycles or 0 for item in plant.say(*rows(range(13, 20)))[-2:]}
    assert later["pump-1"] > most >= later["pump-2"]


def test_an_act_that_comes_while_it_runs_is_done_once_also_after_kill_9(plant: Plant) -> None:
    plant.sign(LIVES, lambda record: record.with_machines(UNITS, Act("new machine", 0, 0), {}))
    plant.say(*rows(range(1, 12)))
    plant.sign(LIVES, lambda record: record.with_act("pump-1", Act("overhaul", 11, 0), 0))
    plant.say(*rows([12]))
    plant.restart()
    answers = {item.unit: item for item in plant.say(*rows([13]))}
    assert "a history of 2 cycles" in answers["pump-1"].advice
    assert "history" not in answers["pump-2"].advice


def test_taken_frames_are_told(plant: Plant) -> None:
    plant.enroll_devices()
    heard = plant.live.hear([frame(1, 1), frame(4, 10)], LATER)
    assert [(0, {}), (2, {"pump-1": 6})] == [
        (item.lost_frames, dict(item.lost_rows)) for item in heard.items if isinstance(item, Taken)
    ]


def test_a_remembered_row_that_ends_the_program_does_not_end_it_at_every_start(
    plant: Plant, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is no such row that we know of: one is simulated. The memory is then lost, and that is said."""
    plant.say(*rows(range(1, 12)))
    with monkeypatch.context() as patched:

        def fail(*_: object) -> None:
            raise ZeroDivisionError("a fault")

        patched.setattr("twinseal.twin.runtime.Runtime.predict_read", fail)
        plant.restart()
    assert "expected rows that can be read again, got a fault" in plant.live.lost
    assert "unknown machine" in plant.say(*rows([12]))[0].advice


def test_a_twin_goes_back_to_the_release_before_with_all_it_knows(plant: Plant) -> None:
    """As when more rows are refused after a swap: the lives go on, the release is not adopted again by itself."""
    plant.say(*rows(range(1, 12)))
    plant.deployment.publish(2, seed=1)
    plant.live.adopt(plant.look(), LATER)
    plant.say(*rows([12]))
    before = plant.live.answers(LATER)
    assert 1 == plant.live.fall_back("more rows are refused", LATER)
    after = plant.live.answers(LATER)
    assert [1, 1] == [item.release for item in after]
    assert [item[:4] for item in plain(before)] == [item[:4] for item in plain(after)]
    assert 1 == plant.look().release.version == plant.restart().verified.release.version
    assert plain(after) == plain(plant.live.answers(LATER))
    with pytest.raises(TwinsealError, match="to have one before it, got none"):  # never back to what is held
        plant.live.fall_back("once more", LATER)
    assert ["held"] == [event for event, _ in plant.log() if event == "held"]


@pytest.mark.attack("T")
def test_a_release_that_was_approved_by_a_revoked_key_is_not_gone_back_to(plant: Plant) -> None:
    """Both releases rest on a key that is revoked: the twin does not fall back to the one before, and stays silent."""
    plant.say(*rows(range(1, 12)))
    plant.deployment.publish(2, seed=1)
    plant.live.adopt(plant.look(), LATER)
    ceremony.revoke(plant.deployment.home, plant.deployment.roles, "alice", LATER)
    plant.deployment.update_mirror()
    with pytest.raises(ThresholdError):
        plant.look()
    assert plant.live.check(LATER)
    with pytest.raises(ThresholdError, match="expected 2 reviewers"):
        plant.live.fall_back("revoked", LATER)
    assert {"refused"} == {item.readings for item in plant.live.answers(LATER)}
