"""Laws: the memory of units on the disk is whole or lost, and a twin that goes on from it answers as before."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.twin.deployment import NOW
from tests.twin.test_batches import CYCLES, READINGS, UNITS, baselines_of, build_model, params, parts, stream
from twinseal.errors import EvidenceError
from twinseal.guard.parameters import GuardParams
from twinseal.prognostics.checkpoint import Model
from twinseal.trust.audit import Entry, log_of
from twinseal.twin.delivered import Delivered, FrameMark
from twinseal.twin.row_journal import RowJournal, read_journal
from twinseal.twin.rows import ReadRows
from twinseal.twin.runtime import UnverifiedRuntime
from twinseal.twin.unit_memory import UnitMemory

__all__ = ["params"]  # a fixture
RELEASE, OWNER = "a" * 64, b"o" * 32


@pytest.fixture(scope="module")
def model(params: GuardParams) -> Model:
    return build_model(params, "mean", regimes=True)


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """Of a twin that has a log, as every twin after its first pull."""
    path = tmp_path / "twin"
    path.mkdir(mode=0o700)
    log_of(path).append(Entry(NOW, "anchored", "twin", "pump-rul"))
    return path


def delivered_of(rows: list[Any], model: Model) -> Delivered:
    return Delivered.of(ReadRows.of(rows, model.contract.inputs), model.contract.inputs)


def runtime_of(model: Model) -> UnverifiedRuntime:
    return UnverifiedRuntime(model, baselines_of(model), keep_rows=True)


def recalled(model: Model, state: Path) -> UnverifiedRuntime:
    """A twin that starts again."""
    found = UnitMemory(state, "pump-rul").recall()
    assert found is not None
    runtime = runtime_of(model)
    runtime.restore(found.image)
    for delivered in found.deliveries:
        runtime.predict_read(delivered.rows(model.contract.inputs))
    return runtime


def test_a_twin_that_starts_again_answers_as_if_it_had_run_on(model: Model, state: Path) -> None:
    rows, runtime, memory = stream(3, 700, len(model.normaliser.mean)), runtime_of(model), UnitMemory(state, "pump-rul")
    assert memory.recall() is None
    memory.keep(runtime.image(), RELEASE, NOW)
    for number, part in enumerate(parts(3, rows[:600])):
        delivered = delivered_of(part, model)
        memory.append(delivered)
        runtime.predict_rows(part)
        if number == 3:
            memory.keep(runtime.image(), RELEASE, NOW)
    memory.close()
    again = recalled(model, state)
    assert list(again.predictions()) == list(runtime.predictions())
    for part in parts(4, rows[600:]):
        assert again.predict_rows(part) == runtime.predict_rows(part)
    assert sorted(path.name for path in (state / "units").iterdir()) == ["2.image", "2.rows", "current"]


cells = st.sampled_from([*READINGS, 1.0, 2, -3.5, "x", np.float64(2.0), np.int64(4), "\ud800"])
rows_of_any_kind = st.fixed_dictionaries(
    {}, optional={"unit": st.sampled_from([*UNITS, "\ud800"]), "cycle": st.sampled_from([*CYCLES, 3, 4.0]), "c": cells}
)


@given(st.lists(rows_of_any_kind | st.sampled_from([[1], "x", None]), max_size=6))
def test_a_delivery_reads_back_as_it_was(rows: list[Any]) -> None:
    marks = [FrameMark("b" * 64, 7, {"pump": 3})]
    item = Delivered.of(ReadRows.of(rows, ["c", "absent"]), ["c", "absent"], marks)
    again = Delivered.from_bytes(item.to_bytes())
    assert (item.units, item.cycles, item.frames) == (again.units, again.cycles, again.frames)
    np.testing.assert_array_equal(item.readings, again.readings)


@settings(max_examples=20)
@given(st.binary(max_size=200))
def test_no_bytes_make_a_delivery_by_chance(data: bytes) -> None:
    with pytest.raises(EvidenceError):
        Delivered.from_bytes(data)


def payloads(path: Path) -> list[bytes]:
    return [payload for payload, _ in read_journal(path, OWNER) if payload]


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    path = tmp_path / "1.rows"
    with RowJournal.begin(path, OWNER) as opened:
        for text in (b"first", b"second", b"third"):
            opened.append(text)
    return path


@pytest.mark.attack("T")
def test_a_journal_that_was_changed_is_not_used(journal: Path) -> None:
    """A byte of the rows that a twin keeps is changed on its disk: nothing of them is used."""
    data = journal.read_bytes()
    last = data.rindex(b"third") - 16  # what is changed from here on looks like a record that was not written whole
    for at in range(last):
        journal.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
        with pytest.raises(EvidenceError, match="expected the (journal|record)"):
            payloads(journal)
    with pytest.raises(EvidenceError, match="journal of this memory"):
        list(read_journal(journal, b"x" * 32))


def test_what_a_kill_cut_off_is_dropped_and_the_journal_goes_on(journal: Path) -> None:
    data = journal.read_bytes()
    for length in range(32, len(data) + 1):
        journal.write_bytes(data[:length])
        *_, (_, end) = read_journal(journal, OWNER)
        found = payloads(journal)
        assert found == [b"first", b"second", b"third"][: len(found)]
        with RowJournal.go_on(journal, end) as opened:
            opened.append(b"next")
        assert payloads(journal) == [*found, b"next"]


def test_blocks_that_a_loss_of_power_left_empty_are_dropped(journal: Path) -> None:
    with journal.open("ab") as stream:
        stream.write(bytes(500))
    assert payloads(journal) == [b"first", b"second", b"third"]


@pytest.mark.attack("T")
def test_empty_blocks_before_other_rows_are_no_end(journal: Path) -> None:
    """Zeros are written over the head of a row on the twin's disk, so that it forgets all that came after."""
    data = journal.read_bytes()
    journal.write_bytes(data[:32] + bytes(12) + data[44:])
    with pytest.raises(EvidenceError, match="expected the record at byte 32 as it was written"):
        payloads(journal)


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """After so many bytes in all, the disk is full."""
    left, write = [10**9], os.pwrite

    def pwrite(descriptor: int, data: bytes, at: int) -> int:
        if left[0] < len(data):
            write(descriptor, data[: left[0]], at)
            raise OSError(28, "No space left on device")
        left[0] -= len(data)
        return write(descriptor, data, at)

    monkeypatch.setattr(os, "pwrite", pwrite)
    yield left


def test_a_full_disk_leaves_the_rows_before_and_goes_on_when_there_is_room(
    model: Model, state: Path, full_disk: list[int]
) -> None:
    memory, runtime = UnitMemory(state, "pump-rul"), runtime_of(model)
    memory.keep(runtime.image(), RELEASE, NOW)
    one = delivered_of([{"unit": "a", "cycle": 1}], model)
    memory.append(one)
    full_disk[0] = 10
    for _ in range(3):
        with pytest.raises(OSError, match="No space"):
            memory.append(one)
    full_disk[0] = 10**9
    memory.append(one)
    memory.close()
    found = UnitMemory(state, "pump-rul").recall()
    assert found is not None and len(found.deliveries) == 2


@pytest.mark.attack("T")
def test_a_memory_that_is_gone_or_changed_is_said_to_be_lost(model: Model, state: Path) -> None:
    """What a twin keeps of its machines is removed, changed, or put back from before: it is lost, and said to be."""
    memory, runtime = UnitMemory(state, "pump-rul"), runtime_of(model)
    memory.keep(runtime.image(), RELEASE, NOW)
    memory.append(delivered_of([{"unit": "a", "cycle": 1}], model))
    memory.close()
    whole = state.parent / "whole"
    shutil.copytree(state, whole)
    files = ["units", "units/current", "units/1.image", "units/1.rows"]
    for name in files:
        path = state / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
        with pytest.raises(EvidenceError, match="expected"):
            UnitMemory(state, "pump-rul").recall()
        shutil.rmtree(state)
        shutil.copytree(whole, state)
    for name in ("units/current", "units/1.image"):
        data = (whole / name).read_bytes()
        for at in range(0, len(data), max(1, len(data) // 50)):
            (state / name).write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
            with pytest.raises(EvidenceError):
                UnitMemory(state, "pump-rul").recall()
        (state / name).write_bytes(data)
    found = UnitMemory(state, "pump-rul").recall()
    assert found is not None and len(found.deliveries) == 1


def test_a_kill_between_any_two_operations_leaves_the_image_before_or_the_new_one(
    model: Model, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.twin.test_state import killed_before

    memory, runtime = UnitMemory(state, "pump-rul"), runtime_of(model)
    memory.keep(runtime.image(), RELEASE, NOW)
    rows = stream(3, 60, len(model.normaliser.mean))
    memory.append(delivered_of(rows, model))
    memory.close()
    runtime.predict_rows(rows)
    start, numbers = state.parent / "start", []
    shutil.copytree(state, start)
    for operation in range(100):
        shutil.rmtree(state)
        shutil.copytree(start, state)
        again = UnitMemory(state, "pump-rul")
        again.recall()
        with killed_before(operation, monkeypatch) as done:
            again.keep(runtime.image(), RELEASE, NOW)
        found = UnitMemory(state, "pump-rul").recall()
        assert found is not None
        numbers.append(found.kept.number)
        assert list(recalled(model, state).predictions()) == list(runtime.predictions())
        if "killed" not in done:
            break
    assert numbers == sorted(numbers)
    assert set(numbers) == {1, 2}
