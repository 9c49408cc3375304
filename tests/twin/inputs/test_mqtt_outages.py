"""What MQTT loses when a broker stops, the network breaks, the twin is slow, or somebody floods it. Slow."""

from __future__ import annotations

import asyncio
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import aiomqtt
import paho.mqtt.client as paho
import pytest
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from tests.mosquitto import Mosquitto, broker, needs_mosquitto
from tests.twin.inputs.driving import Told, collect, publish_all, publishing, reasons, rows
from tests.twin.inputs.test_mqtt import FRAMES, ROWS, source
from twinseal.twin.inputs.source import Item

pytestmark = [needs_mosquitto, pytest.mark.proof]


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Mosquitto]:
    with broker(tmp_path / "m") as one:
        yield one


def numbered(number: int, first: int = 1, size: int = 0) -> list[tuple[str, bytes]]:
    fill = "x" * size
    return [(ROWS, b'{"cycle": %d, "fill": "%s"}' % (cycle, fill.encode())) for cycle in range(first, first + number)]


def cycles(items: list[Item]) -> list[object]:
    return [row["cycle"] for row in rows(items)]


async def subscribed(running: Mosquitto, **more: object) -> Told:
    """The twin has been there once: the broker keeps its session."""
    told = Told()
    asking = asyncio.create_task(collect(source(running, told, **more), 1))
    await told.until("connected")
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    return told


def test_what_is_sent_while_the_twin_is_away_comes_when_it_is_back(running: Mosquitto) -> None:
    async def run() -> list[Item]:
        await subscribed(running)
        await publish_all(running, numbered(5_000))
        return await collect(source(running, Told()), 5_000)

    assert list(range(1, 5_001)) == cycles(asyncio.run(run()))


def test_a_restart_of_the_broker_loses_nothing_and_gives_nothing_twice(running: Mosquitto) -> None:
    """It stops with messages that the twin has, and has not acknowledged, and with others that wait."""
    told = Told()

    async def run() -> list[Item]:
        collecting = asyncio.create_task(collect(source(running, told), 3_000, slow_s=0.01))
        await told.until("connected")
        await publish_all(running, numbered(2_000))
        for _ in range(3):
            running.stop()
            await told.until("lost")
            running.start()
            await asyncio.sleep(0.3)
        await publish_all(running, numbered(1_000, first=2_001))
        return await collecting

    assert list(range(1, 3_001)) == cycles(asyncio.run(run()))
    assert told.kinds().count("connected") >= 3


def test_a_connection_that_is_cut_loses_nothing_and_gives_nothing_twice(running: Mosquitto) -> None:
    """Another program takes the twin's session over, again and again, while the twin has messages."""
    told = Told()

    async def run() -> list[Item]:
        collecting = asyncio.create_task(collect(source(running, told), 2_000, slow_s=0.01))
        await told.until("connected")
        for number in range(4):
            await publish_all(running, numbered(400, first=400 * number + 1))
            await asyncio.to_thread(take_over, running)
            await told.until("connected", number + 2)
        await publish_all(running, numbered(400, first=1_601))
        return await collecting

    assert list(range(1, 2_001)) == cycles(asyncio.run(run()))
    assert all("same client_id" in event.message for event in told.events if event.kind == "lost")


def take_over(running: Mosquitto) -> None:
    """Another program with the twin's certificate, which acknowledges nothing and keeps the session as it is."""
    lasts = Properties(PacketTypes.CONNECT)
    lasts.SessionExpiryInterval = 1_000
    client = paho.Client(paho.CallbackAPIVersion.VERSION2, "twin", protocol=paho.MQTTv5, manual_ack=True)
    client.tls_set_context(running.context("twin"))
    client.connect("127.0.0.1", running.port, clean_start=False, properties=lasts)
    while not client.is_connected():
        client.loop(0.1)
    client.disconnect()
    client.loop(0.1)


def test_a_twin_that_forgets_between_delivery_and_answer_is_given_it_again(running: Mosquitto) -> None:
    """It ends after a delivery that it has not answered."""

    async def run() -> tuple[list[Item], list[Item]]:
        told = Told()
        deliveries = source(running, told).deliveries()
        asking = asyncio.create_task(anext(deliveries))
        await told.until("connected")
        await publish_all(running, numbered(10))
        first = list(await asking)
        await deliveries.aclose()
        return first, await collect(source(running, Told()), 10)

    first, again = asyncio.run(run())
    assert first
    assert list(range(1, 11)) == cycles(again)


def test_a_slow_twin_loses_nothing_of_10000_messages_and_holds_few(running: Mosquitto) -> None:
    told = Told()
    most = 0

    async def run() -> list[Item]:
        nonlocal most
        deliveries = source(running, told).deliveries()
        asking = asyncio.create_task(anext(deliveries))
        await told.until("connected")
        publishing = asyncio.create_task(publish_all(running, numbered(10_000, size=200)))
        items: list[Item] = []
        while True:
            delivery = await asking
            most = max(most, len(delivery))
            items += delivery
            if len(items) >= 10_000:
                break
            await asyncio.sleep(0.005)
            asking = asyncio.ensure_future(anext(deliveries))
        await deliveries.aclose()
        await publishing
        return items

    assert list(range(1, 10_001)) == cycles(asyncio.run(run()))
    assert most <= 32
    assert ["connected"] == told.kinds()


def test_a_flood_of_qos_0_is_dropped_and_counted_and_takes_little_memory(running: Mosquitto) -> None:
    """80 messages of 1 MB and 50,000 small ones while the twin answers one delivery."""

    async def run() -> tuple[int, int, int]:
        told = Told()
        deliveries = source(running, told).deliveries()
        asking = asyncio.create_task(anext(deliveries))
        await told.until("connected")
        await publish_all(running, numbered(1))
        await asking
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        large = [(ROWS, b'{"unit": "%s"}' % (b"x" * 1_000_000))] * 80
        await publish_all(running, large, qos=0)
        await publish_all(running, numbered(50_000), "gate-1", qos=0)
        await asyncio.sleep(1)
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        items = [*await anext(deliveries), *await anext(deliveries)]
        await deliveries.aclose()
        dropped = sum(getattr(item, "number", 1) for item in items if "dropped" in reasons([item]))
        return len(items) - reasons(items).count("dropped"), dropped, grown >> 10

    came, dropped, grown_mib = asyncio.run(run())
    assert came <= 1_024
    assert came + dropped > 10_000  # Mosquitto drops some itself
    assert grown_mib < 150


def test_a_broker_that_is_killed_is_found_again(running: Mosquitto) -> None:
    """What it had not written to the disk is gone; what is sent afterwards comes."""
    told = Told()

    async def run() -> list[Item]:
        collecting = asyncio.create_task(collect(source(running, told), 1))
        await told.until("connected")
        running.stop(signal.SIGKILL)
        await told.until("lost")
        running.start()
        await told.until("connected", 2)
        await publish_all(running, numbered(1))
        return await collecting

    assert [1] == cycles(asyncio.run(run()))


def publish_apart(running: Mosquitto, number: int, size: int) -> None:
    """Publish in a program of its own, so that its memory is not this one's."""
    files = running.certificate("gate-1")
    program = f"""
import ssl, paho.mqtt.client as paho
client = paho.Client(paho.CallbackAPIVersion.VERSION2, "gate-1", protocol=paho.MQTTv5)
context = ssl.create_default_context(cafile={files.ca!r})
context.load_cert_chain({files.certificate!r}, {files.key!r})
client.tls_set_context(context)
client.connect("127.0.0.1", {running.port})
client.loop_start()
for _ in range({number}):
    client.publish({FRAMES!r}, bytes({size}), qos=1).wait_for_publish(30)
client.disconnect()
client.loop_stop()
"""
    subprocess.run([sys.executable, "-c", program], check=True)


def test_a_slow_twin_holds_few_large_messages(running: Mosquitto) -> None:
    """200 MB of frames that a broker has, and more than Receive Maximum that it sends."""

    async def run() -> tuple[int, int]:
        told, came = Told(), 0
        deliveries = source(running, told).deliveries()
        asking = asyncio.create_task(anext(deliveries))
        await told.until("connected")
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        publishing = asyncio.create_task(asyncio.to_thread(publish_apart, running, 200, 1_000_000))
        while True:
            came += len(await asking)
            if came == 200:
                break
            await asyncio.sleep(0.1)
            asking = asyncio.ensure_future(anext(deliveries))
        await deliveries.aclose()
        await publishing
        return came, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) >> 10

    came, grown_mib = asyncio.run(run())
    assert 200 == came
    assert grown_mib < 150


def test_who_sends_more_than_a_frame_is_disconnected_by_the_broker(running: Mosquitto) -> None:
    async def run() -> list[Item]:
        told = Told()
        collecting = asyncio.create_task(collect(source(running, told), 1))
        await told.until("connected")
        with pytest.raises(aiomqtt.MqttError):
            async with publishing(running) as client:
                await client.publish(ROWS, bytes(2_000_000), qos=1)
        await publish_all(running, numbered(1))
        assert ["connected"] == told.kinds()
        return await collecting

    assert [1] == cycles(asyncio.run(run()))
