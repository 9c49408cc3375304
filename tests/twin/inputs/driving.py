"""What the tests of several sources share: to publish, and to collect what a source delivers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress

import aiomqtt
import paho.mqtt.client as paho

from tests.mosquitto import Mosquitto
from twinseal.twin.inputs.source import Item, Source, SourceEvent, Unreadable, UnsignedRow

PATIENCE_S = 30.0


class Told:
    """The events that a source told."""

    def __init__(self) -> None:
        self.events: list[SourceEvent] = []

    def __call__(self, event: SourceEvent) -> None:
        self.events.append(event)

    def kinds(self) -> list[str]:
        return [event.kind for event in self.events]

    async def until(self, kind: str, number: int = 1) -> None:
        """Wait for so many events of a kind."""
        async with asyncio.timeout(PATIENCE_S):
            while self.kinds().count(kind) < number:
                await asyncio.sleep(0.005)


async def collect(source: Source, number: int, slow_s: float = 0.0) -> list[Item]:
    """The items until there are `number`, all answered: then the next ones are asked for, and the source is closed."""
    items: list[Item] = []
    deliveries = source.deliveries()
    async with asyncio.timeout(PATIENCE_S):
        while len(items) < number:
            delivery = await anext(deliveries)
            assert delivery
            items += delivery
            await asyncio.sleep(slow_s)
    with suppress(TimeoutError, StopAsyncIteration):
        items += await asyncio.wait_for(anext(deliveries), 0.05)
    await deliveries.aclose()  # type: ignore[attr-defined]
    return items


@asynccontextmanager
async def publishing(broker: Mosquitto, name: str = "gate-1") -> AsyncIterator[aiomqtt.Client]:
    """A client that publishes."""
    context = None if broker.plain else broker.context(name)
    version = aiomqtt.ProtocolVersion.V5
    async with aiomqtt.Client(
        "127.0.0.1", broker.port, identifier=name, protocol=version, tls_context=context, timeout=5
    ) as client:
        client.pending_calls_threshold = 1_000
        yield client


async def publish_all(
    broker: Mosquitto,
    messages: Iterable[tuple[str, bytes]],
    name: str = "gate-1",
    *,
    qos: int = 1,
    retain: bool = False,
) -> None:
    """Publish in order, in a thread; returns when the broker has acknowledged them."""
    await asyncio.to_thread(_publish_all, broker, list(messages), name, qos, retain)


def _publish_all(broker: Mosquitto, messages: list[tuple[str, bytes]], name: str, qos: int, retain: bool) -> None:
    client = paho.Client(paho.CallbackAPIVersion.VERSION2, name, protocol=paho.MQTTv5)
    client.max_inflight_messages_set(100)
    if not broker.plain:
        client.tls_set_context(broker.context(name))
    client.connect("127.0.0.1", broker.port)
    client.loop_start()
    try:
        sent = [client.publish(topic, payload, qos=qos, retain=retain) for topic, payload in messages]
        sent[-1].wait_for_publish(PATIENCE_S)
        assert all(info.is_published() for info in sent)
    finally:
        client.disconnect()
        client.loop_stop()


def rows(items: Iterable[Item]) -> list[dict[str, object]]:
    return [dict(item.row) for item in items if isinstance(item, UnsignedRow)]


def reasons(items: Iterable[Item]) -> list[str]:
    return [item.reason for item in items if isinstance(item, Unreadable)]
