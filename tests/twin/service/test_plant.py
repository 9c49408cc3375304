"""Simulated fleet → `twinseal gateway` → mosquitto → `twinseal twin run`, each as its own process."""

from __future__ import annotations

import asyncio
import json
import resource
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.mosquitto import needs_mosquitto
from tests.twin.deployment import MODEL
from tests.twin.inputs.driving import publishing
from tests.twin.service.plant import Gate, Plant, line
from tests.twin.service.running import Running, end
from twinseal.twin.runtime import Runtime, current_model

pytestmark = needs_mosquitto
UNITS = ("pump-1", "pump-2")


class Scene:
    """A plant, and what was started in it; all of it is ended."""

    def __init__(self, folder: Path) -> None:
        self.plant = Plant(folder, {"gate-1": UNITS})
        self.twins: list[Running] = []
        self.gates: list[Gate] = []

    def twin(self) -> Running:
        self.twins.append(self.plant.twin())
        return self.twins[-1]

    def gateway(self, *words: str) -> Gate:
        self.gates.append(self.plant.gateway("gate-1", "--wait", "0.02", *words))
        return self.gates[-1]

    def expected(self, cycles: int) -> dict[tuple[str, int], tuple[Any, ...]]:
        """What a twin says that never stopped, by unit and cycle."""
        runtime = Runtime(current_model(self.plant.site / "twin", self.plant.deployment.anchor, MODEL))
        found = runtime.predict_rows([json.loads(text) for text in rows(1, cycles)])
        return {
            (item.unit, item.cycle): (item.rul_cycles, item.low_cycles, item.high_cycles, item.advice) for item in found
        }

    def close(self) -> None:
        for one in self.twins:
            one.end(signal.SIGKILL)
        for gate in self.gates:
            end(gate.process, signal.SIGKILL)
        self.plant.broker.stop()


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    made = Scene(tmp_path)
    yield made
    made.close()


def rows(first: int, last: int) -> list[str]:
    return [line(unit, cycle) for cycle in range(first, last + 1) for unit in UNITS]


def told(answer: dict[str, Any]) -> tuple[Any, ...]:
    return answer["rul_cycles"], answer["low_cycles"], answer["high_cycles"], answer["advice"]


def until(twin: Running, cycle: int) -> list[dict[str, Any]]:
    """What the twin says until it has answered this cycle of every machine."""

    def enough(found: list[dict[str, Any]]) -> bool:
        return set(UNITS) <= {item["unit"] for item in found if item.get("cycle") == cycle}

    return twin.messages(enough)


def by_row(found: list[dict[str, Any]]) -> dict[tuple[str, int], tuple[Any, ...]]:
    """Answers by unit and cycle; a second one about the same is the same."""
    answers: dict[tuple[str, int], tuple[Any, ...]] = {}
    for item in found:
        if item.get("cycle"):
            assert told(item) == answers.setdefault((item["unit"], item["cycle"]), told(item))
    return answers


def about(found: list[dict[str, Any]]) -> set[str]:
    return {item["about"] for item in found if "about" in item}


def test_rows_of_a_gateway_are_answered_by_way_of_the_broker(scene: Scene) -> None:
    twin, gateway = scene.twin(), scene.gateway()
    gateway.give(rows(1, 8))
    found = twin.answers(16)
    assert scene.expected(8) == by_row(found)
    assert {True} == {answer["signed"] for answer in found}
    assert 0 == twin.end()
    said = gateway.finish()
    assert not said or "takes frames again" in said  # the twin may have come after the first frame


@pytest.mark.proof
def test_a_broker_that_restarts_costs_no_row(scene: Scene) -> None:
    """Stopped between rows, and while rows are on the way; the gateway keeps what is not acknowledged."""
    twin, gateway = scene.twin(), scene.gateway("--rows", "4")
    gateway.give(rows(1, 5))
    found = until(twin, 5)
    for first in (6, 56, 106):
        gateway.give(rows(first, first + 20))
        scene.plant.broker.stop()
        gateway.give(rows(first + 21, first + 49))
        time.sleep(0.5)
        scene.plant.broker.start()
        found += until(twin, first + 49)
    assert scene.expected(155) == by_row(found)
    assert "source lost" in about(found)
    assert "rows lost" not in about(found)
    said = gateway.finish()
    assert "does not take frames" in said
    assert "takes frames again" in said


@pytest.mark.proof
def test_a_broker_that_forgets_everything_costs_no_row_that_it_says_nobody_got(scene: Scene) -> None:
    """Killed, it knows no session of the twin any more: it says `no matching subscribers` until the twin is back."""
    twin, gateway = scene.twin(), scene.gateway("--rows", "4")
    gateway.give(rows(1, 5))
    found = until(twin, 5)
    scene.plant.broker.stop(signal.SIGKILL)
    gateway.give(rows(6, 40))
    time.sleep(6)  # longer than a signature is used
    scene.plant.broker.start()
    found += until(twin, 40)
    assert scene.expected(40) == by_row(found)
    assert "rows lost" not in about(found)
    gateway.finish()


@pytest.mark.proof
def test_a_twin_that_is_killed_gets_what_came_meanwhile_and_answers_as_one_that_ran_on(scene: Scene) -> None:
    twin, gateway = scene.twin(), scene.gateway("--rows", "2")
    gateway.give(rows(1, 5))
    found = until(twin, 5)
    for first in (6, 36, 66):
        gateway.give(rows(first, first + 9))
        assert -signal.SIGKILL == twin.end(signal.SIGKILL)  # while rows come
        gateway.give(rows(first + 10, first + 29))
        twin = scene.twin()
        found += until(twin, first + 29)
    answers, expected = by_row(found), scene.expected(95)
    assert answers == {row: expected[row] for row in answers}
    assert (
        expected.keys() >= answers.keys() >= {(unit, cycle) for unit in UNITS for cycle in (*range(1, 6), 35, 65, 95)}
    )
    assert not {"rows lost", "frames lost"} & about(found)
    gateway.finish()


@pytest.mark.proof
def test_it_goes_on_without_its_registry_and_says_so(scene: Scene) -> None:
    twin, gateway = scene.twin(), scene.gateway()
    gateway.give(rows(1, 5))
    found = until(twin, 5)
    mirror = scene.plant.deployment.mirror
    mirror.rename(mirror.with_name("away"))
    assert "The twin keeps its model." in twin.alert("registry lost")["remedy"]
    gateway.give(rows(6, 12))
    found += until(twin, 12)
    assert scene.expected(12) == by_row(found)
    mirror.with_name("away").rename(mirror)
    assert "over" == twin.messages(lambda items: bool(items) and items[-1].get("about") == "registry lost")[-1]["state"]


@pytest.mark.proof
def test_a_full_disk_stalls_it_and_costs_no_row(scene: Scene) -> None:
    """A limit on the length of the twin's files stands for the disk: writing fails, as it does there."""
    twin, gateway = scene.twin(), scene.gateway("--rows", "2")
    gateway.give(rows(1, 5))
    found = until(twin, 5)
    before = resource.prlimit(twin.process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(twin.process.pid, resource.RLIMIT_FSIZE, (16, before[1]))
    gateway.give(rows(6, 30))
    alert = twin.alert("failing")
    assert ("critical", True) == (alert["severity"], "Make room on the disk" in alert["remedy"])
    resource.prlimit(twin.process.pid, resource.RLIMIT_FSIZE, before)
    found += until(twin, 30)
    assert scene.expected(30) == by_row(found)
    resource.prlimit(twin.process.pid, resource.RLIMIT_FSIZE, (16, before[1]))
    gateway.give(rows(31, 32))
    twin.alert("failing")
    began = time.monotonic()
    twin.end()  # what is not on the disk is not acknowledged, and comes again
    assert time.monotonic() - began < 30
    second = scene.twin()
    assert scene.expected(32)["pump-1", 32] == by_row(until(second, 32))["pump-1", 32]


@pytest.mark.proof
@pytest.mark.attack("T")
def test_a_flood_of_what_is_no_frame_changes_no_answer(scene: Scene) -> None:
    """Somebody with a certificate of the plant sends a thousand messages that are no frames, among the frames."""
    twin, gateway = scene.twin(), scene.gateway("--rows", "2")
    gateway.give(rows(1, 5))
    found = until(twin, 5)

    async def flood() -> None:
        async with publishing(scene.plant.broker, "gate-2") as client:
            for number in range(1000):
                await client.publish("telemetry/gate-2/frames", b"\x84" * (number % 400), qos=number % 2)

    gateway.give(rows(6, 25))
    asyncio.run(flood())
    gateway.give(rows(26, 40))
    found += until(twin, 40)
    assert scene.expected(40) == by_row(found)
    assert "frames refused" in about(found)
    assert 0 == twin.end()
