"""The broker of tests with the configuration that ships: the twin's connection for what it says, and who reads it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiomqtt

from tests.mosquitto import Mosquitto
from twinseal.config import parse
from twinseal.twin.outputs.settings import MqttSettings


@dataclass
class Broker(Mosquitto):
    """A broker whose ACL has one who reads all that twins say."""

    def __post_init__(self) -> None:
        super().__post_init__()
        with (self.folder / "twinseal/twinseal.acl").open("a") as acl:
            acl.write("user reader\ntopic read twinseal/#\n")

    def output(self, who: str = "twin-out", **more: Any) -> MqttSettings:
        """The settings of an output."""
        base = {"kind": "mqtt", "host": "127.0.0.1", "port": self.port, **self.certificate(who).as_settings()}
        return parse(MqttSettings, {**base, **more}, "twin.yaml")

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[Heard]:
        """What a reader of everything hears; retained messages first."""
        version, tls = aiomqtt.ProtocolVersion.V5, self.context("reader")
        async with aiomqtt.Client(
            "127.0.0.1", self.port, protocol=version, tls_context=tls, timeout=10, identifier="reader"
        ) as client:
            await client.subscribe("twinseal/#", qos=1)
            heard = Heard()
            task = asyncio.create_task(heard.listen(client))
            try:
                yield heard
            finally:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)


@dataclass
class Heard:
    """Messages in order."""

    messages: list[aiomqtt.Message] = field(default_factory=list)

    async def listen(self, client: aiomqtt.Client) -> None:
        async for message in client.messages:
            self.messages.append(message)

    def on(self, topic: str) -> list[bytes]:
        return [bytes(item.payload) for item in self.messages if str(item.topic) == topic]  # type: ignore[arg-type]

    async def until(self, topic: str, number: int = 1) -> list[bytes]:
        async with asyncio.timeout(20):
            while len(self.on(topic)) < number:
                await asyncio.sleep(0.005)
        return self.on(topic)


@contextmanager
def broker(folder: Path) -> Iterator[Broker]:
    """A broker that runs until the end of the block."""
    made = Broker(folder)
    made.start()
    try:
        yield made
    finally:
        made.stop()
