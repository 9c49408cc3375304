"""All outputs together: none that fails or hangs stops another; what is dropped is counted and told."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from tests.twin.outputs.messages import Told, alert, answer
from twinseal.errors import ConfigError
from twinseal.twin.answers import Answer
from twinseal.twin.outputs import fan_out
from twinseal.twin.outputs.fan_out import Outputs
from twinseal.twin.outputs.output import Message, OutputError, Tell


class InMemory:
    """An output that keeps what it takes, and fails or waits when it is told to.

    Attributes:
        taken: What it took.
        faults: What the next calls raise.
        gate: Calls wait until it is set.
    """

    def __init__(self, name: str, only: type[Message] | None = None) -> None:
        self.name, self._only = name, only
        self.taken: list[Message] = []
        self.faults: list[Exception] = []
        self.always: Exception | None = None
        self.gate, self.is_open = asyncio.Event(), False
        self.gate.set()
        self.reopened = 0

    def takes(self, message: Message) -> bool:
        return self._only is None or isinstance(message, self._only)

    async def open(self, _tell: Tell) -> None:
        if isinstance(self.always, ConfigError):
            raise self.always
        self.is_open = True

    async def publish(self, messages: Sequence[Message]) -> None:
        await self.gate.wait()
        if self.always or self.faults:
            raise self.always or self.faults.pop(0)
        self.taken += messages

    def reopen(self) -> None:
        self.reopened += 1

    async def close(self) -> None:
        self.is_open = False


ROWS = [answer(cycle=number) for number in range(1, 41)]


async def in_order(outputs: Outputs, *expected: InMemory) -> None:
    await outputs.publish(ROWS[:30])
    await outputs.publish(ROWS[30:])
    await outputs.settled()
    assert all(output.taken == ROWS for output in expected)


def test_every_output_gets_all_messages_in_order_and_only_those_that_it_takes() -> None:
    async def scene() -> None:
        one, other, alerts = InMemory("one"), InMemory("other"), InMemory("alerts", type(alert()))
        outputs = Outputs([one, other, alerts], Told(), queue=7)
        await outputs.open()
        await in_order(outputs, one, other)
        await outputs.publish([alert()])
        outputs.reopen()
        await outputs.close(5)
        assert (1, 1, 1) == (one.reopened, other.reopened, alerts.reopened)
        assert ([*ROWS, alert()], [alert()]) == (one.taken, alerts.taken)
        assert not (one.is_open or other.is_open)

    asyncio.run(scene())


def test_one_that_fails_is_asked_again_with_the_same_and_told_once() -> None:
    async def scene() -> None:
        told, good, bad = Told(), InMemory("good"), InMemory("bad")
        outputs = Outputs([good, bad], told, wait_s=0.001)
        bad.faults = [OutputError("expected a broker, got none"), ValueError("odd"), OutputError("no")]
        await outputs.open()
        await outputs.publish(ROWS)
        await outputs.settled()
        assert ROWS == good.taken
        while told.kinds != ["failing", "working"]:
            await asyncio.sleep(0.001)
        assert ROWS == bad.taken
        assert "expected a broker, got none" == told.events[0].message
        await outputs.close(5)

    asyncio.run(scene())


def test_one_that_never_works_holds_nobody_up_and_loses_its_oldest_answers_first() -> None:
    async def scene() -> None:
        told, good, bad = Told(), InMemory("good"), InMemory("bad")
        bad.always = OutputError("expected a broker, got none")
        outputs = Outputs([good, bad], told, queue=10, wait_s=0.001)
        await outputs.open()
        await outputs.publish([alert(severity="note"), alert(detail="b")])
        for start in range(0, 40, 5):
            await outputs.publish(ROWS[start : start + 5])
        await outputs.settled()
        assert ROWS == good.taken[2:]
        assert ({"good": 0, "bad": 10}, {"good": 0, "bad": 32}) == (outputs.waiting, outputs.dropped)
        bad.always = None
        while outputs.waiting["bad"]:
            await asyncio.sleep(0.001)
        assert [alert(severity="note"), alert(detail="b"), *ROWS[-8:]] == bad.taken
        await outputs.close(5)
        assert 32 == sum(event.number for event in told.events)
        assert all("bad: expected all messages" in e.message for e in told.events if e.kind == "dropped")

    asyncio.run(scene())


def test_alerts_make_room_last_and_the_gravest_of_them_not_at_all() -> None:
    async def scene() -> None:
        bad = InMemory("bad")
        bad.always = OutputError("no")
        outputs = Outputs([bad], Told(), queue=4, wait_s=0.001)
        await outputs.open()
        grave = [alert(detail=letter) for letter in "abc"]
        await outputs.publish([*grave, alert(severity="note")])
        while not outputs._lanes[0].fails:
            await asyncio.sleep(0.001)
        await outputs.publish([answer()])
        await outputs.publish([alert(severity="warning")])
        bad.always = None
        await outputs.close(5)
        assert [*grave, alert(severity="warning")] == bad.taken

    asyncio.run(scene())


def test_one_that_is_slow_is_waited_for_and_one_that_hangs_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fan_out, "PATIENCE_S", 0.05)

    async def scene() -> None:
        told, good, slow = Told(), InMemory("good"), InMemory("slow")
        slow.gate.clear()
        outputs = Outputs([good, slow], told, queue=20)
        await outputs.open()
        await outputs.publish(ROWS[:20])
        waits = asyncio.create_task(outputs.publish(ROWS[20:30]))
        await asyncio.sleep(0.02)
        assert not waits.done()
        slow.gate.set()
        await waits
        await outputs.settled()
        assert (ROWS[:30], []) == (slow.taken, told.events)
        slow.gate.clear()
        await outputs.publish(ROWS[:20])
        await outputs.publish(ROWS[20:30])
        assert ["failing", "dropped"] == told.kinds
        assert 60 == len(good.taken)
        slow.gate.set()
        await outputs.close(5)
        assert ["failing", "dropped", "working"] == told.kinds

    asyncio.run(scene())


def test_what_is_left_at_the_end_is_counted_and_told() -> None:
    async def scene() -> None:
        told, bad = Told(), InMemory("bad")
        bad.gate.clear()
        outputs = Outputs([bad], told)
        await outputs.open()
        await outputs.publish(ROWS)
        await outputs.close(0.02)
        assert (40, ["dropped"], 40) == (told.events[0].number, told.kinds, outputs.dropped["bad"])

    asyncio.run(scene())


def test_one_that_can_never_work_is_refused_before_any_is_used() -> None:
    async def scene() -> None:
        good, bad = InMemory("good"), InMemory("bad")
        bad.always = ConfigError("expected a key, got none")
        with pytest.raises(ConfigError, match="expected a key"):
            await Outputs([good, bad], Told()).open()
        assert not good.is_open

    asyncio.run(scene())


def test_an_event_is_an_alert_of_its_output() -> None:
    told = Told()

    async def scene() -> None:
        bad = InMemory("bad")
        bad.always = OutputError("expected a broker, got none")
        outputs = Outputs([bad], told, queue=5, wait_s=0.001)
        await outputs.open()
        await outputs.publish(ROWS)
        await outputs.close(0)

    asyncio.run(scene())
    failing, dropped = told.events[:2]
    found = [event.alert("pump-rul", 3, alert().time) for event in (failing, dropped)]
    assert [("failing", "warning", "bad"), ("dropped", "critical", "bad")] == [
        (item.about, item.severity, item.detail) for item in found
    ]
    assert isinstance(ROWS[0], Answer)
