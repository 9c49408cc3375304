"""Debian's mosquitto on loopback, TLS 1.3 with client certificates; a client that listens."""

from __future__ import annotations

import asyncio
import os
import pwd
import shutil
import signal
import socket
import ssl
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiomqtt
import pytest
import trustme

from tests.server.receivers import free_port
from twinseal.config import parse
from twinseal.twin.outputs.settings import MqttSettings

PROGRAM = shutil.which("mosquitto", path=f"{os.environ['PATH']}:/usr/sbin")
needs_mosquitto = pytest.mark.skipif(PROGRAM is None, reason="expected mosquitto: apt-get install mosquitto")
ACL = "user twin\ntopic write twinseal/pump-rul/#\nuser reader\ntopic read twinseal/#\n"


@dataclass
class Broker:
    """A broker in a folder of its own; what it retained is kept from one start to the next."""

    folder: Path
    port: int = field(default_factory=free_port)
    _process: subprocess.Popen[bytes] | None = None
    _authority: trustme.CA = field(default_factory=trustme.CA)

    def __post_init__(self) -> None:
        self._authority.cert_pem.write_to_path(str(self.folder / "ca.pem"))
        for name in ("broker", "twin", "reader", "stranger"):
            issued = self._authority.issue_cert("localhost", common_name=name)
            issued.private_key_and_cert_chain_pem.write_to_path(str(self.folder / f"{name}.pem"))
        (self.folder / "acl").write_text(ACL)
        (self.folder / "broker.conf").write_text(
            f"user {pwd.getpwuid(os.getuid()).pw_name}\nlistener {self.port} 127.0.0.1\nallow_anonymous false\n"
            f"cafile {self.folder}/ca.pem\ncertfile {self.folder}/broker.pem\nkeyfile {self.folder}/broker.pem\n"
            "require_certificate true\nuse_identity_as_username true\ntls_version tlsv1.3\n"
            f"acl_file {self.folder}/acl\npersistence true\npersistence_location {self.folder}/\n"
            "max_inflight_messages 0\nmax_queued_messages 0\n"
        )

    def start(self) -> None:
        assert PROGRAM is not None
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen([PROGRAM, "-c", str(self.folder / "broker.conf")], stdout=log, stderr=log)
        end = time.monotonic() + 20
        while time.monotonic() < end:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                time.sleep(0.02)
        raise AssertionError((self.folder / "log").read_text()[-2000:])

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(timeout=20)
            self._process = None

    def settings(self, who: str = "twin", **more: Any) -> MqttSettings:
        files = {"ca": f"{self.folder}/ca.pem", "certificate": f"{self.folder}/{who}.pem"}
        base = {"kind": "mqtt", "host": "localhost", "port": self.port, "key": f"{self.folder}/{who}.pem"}
        return parse(MqttSettings, {**base, **files, **more}, "twin.yaml")

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[Heard]:
        """What a reader of everything hears; retained messages first."""
        tls = ssl.create_default_context(cafile=str(self.folder / "ca.pem"))
        tls.load_cert_chain(self.folder / "reader.pem")
        async with aiomqtt.Client(
            "localhost", self.port, protocol=aiomqtt.ProtocolVersion.V5, tls_context=tls, timeout=10
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
