"""MQTT 5: estimates, alerts, and whether the twin is there; at QoS 1.

    PREFIX/<model>/<unit>/rul       each answer; the newest is retained, until it expires
    PREFIX/<model>/<unit>/alerts    alerts about a machine; not retained, because each would replace another
    PREFIX/<model>/alerts           all others
    PREFIX/<model>/status           `online` or `offline`, retained; `offline` is the twin's last will

A unit's name is one level of a topic, whatever is in it: every byte but ASCII's letters, digits, `-`, `_`, `.` and `~`
is written `%XX`. An answer to a row that named no unit has the level `%`, which no name gives.

The connection is held by a task of its own, which connects again after a loss, later each time and with jitter.
A message counts as delivered when the broker has acknowledged it, and said that it is allowed.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import Any
from urllib.parse import quote

import aiomqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from twinseal.errors import ConfigError
from twinseal.telemetry.unit_names import unit_name
from twinseal.twin.answers import Answer
from twinseal.twin.inputs.backoff import Backoff
from twinseal.twin.outputs.alert import Alert
from twinseal.twin.outputs.output import Message, OutputError, Tell
from twinseal.twin.outputs.settings import MqttSettings
from twinseal.webhooks import read_secret_line

QOS = 1
TIMEOUT_S = 10.0
KEEPALIVE_S = 30
_INFLIGHT = 100  # messages that wait for an acknowledgement
ONLINE, OFFLINE = "online", "offline"
_LOG = logging.getLogger("twinseal.mqtt")  # of the library: what it says is said by us
_LOG.addHandler(logging.NullHandler())
_LOG.propagate = False


def level(name: str) -> str:
    """A name as one level of a topic.

    >>> level("pump/1"), level("+"), level("Süd 3"), level("")
    ('pump%2F1', '%2B', 'S%C3%BCd%203', '%')
    """
    return quote(name, safe="") or "%"


class MqttOutput:
    """One broker.

    Args:
        name: Its name in the twin's settings.
        settings: Which, and of what.
        model: Name of the twin's model.
        backoff: The waits between attempts to connect.
    """

    def __init__(self, name: str, settings: MqttSettings, model: str, backoff: Backoff | None = None) -> None:
        self._name, self._settings, self._backoff = name, settings, backoff or Backoff(most_s=30.0)
        self._place = f"the broker at {settings.host}:{settings.usual_port}"
        self._base = f"{settings.prefix}/{level(model)}"
        self._identifier = settings.client_id or f"twinseal-{model}"[:64]
        self._client: _Client | None = None
        self._connected, self._reason = asyncio.Event(), "not connected yet"
        self._task: asyncio.Task[None] | None = None

    @property
    def name(self) -> str:
        """As Output says."""
        return self._name

    def takes(self, message: Message) -> bool:
        """As Output says."""
        return self._settings.messages in ("all", "answers" if isinstance(message, Answer) else "alerts")

    async def open(self, _tell: Tell) -> None:
        """As Output says. The broker may be away: it is connected to as soon as it is there."""
        self._settings.tls()  # refuses files that cannot work
        self._password()
        self._task = asyncio.create_task(self._hold(), name=self.name)

    async def publish(self, messages: Sequence[Message]) -> None:
        """As Output says."""
        try:
            async with asyncio.timeout(TIMEOUT_S):
                await self._connected.wait()
        except TimeoutError:
            raise OutputError(
                f"{self.name}: expected a connection with {self._place}, got none ({self._reason})"
            ) from None
        client = self._client
        if client is None:
            raise OutputError(f"{self.name}: expected a connection with {self._place}, got one that ended")
        found = [self._packet(message) for message in messages]
        for start in range(0, len(found), _INFLIGHT):
            await self._send(client, found[start : start + _INFLIGHT])

    def reopen(self) -> None:
        """As Output says: nothing."""

    async def close(self) -> None:
        """As Output says; the twin is said to be offline."""
        if self._client is not None:
            with contextlib.suppress(OutputError, TimeoutError):
                async with asyncio.timeout(TIMEOUT_S):
                    await self._send(self._client, [self._status(OFFLINE)])
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _hold(self) -> None:
        while True:
            try:
                async with self._new_client() as client:
                    await self._send(client, [self._status(ONLINE)])
                    self._client = client
                    self._backoff.reset()
                    self._connected.set()
                    async for _ in client.messages:  # there are none: it ends with the connection
                        pass
            except (aiomqtt.MqttError, OutputError, OSError, ValueError, ConfigError) as error:
                self._reason = " ".join(str(error).split())[:120] or type(error).__name__
            finally:
                self._client = None
                self._connected.clear()
            await asyncio.sleep(self._backoff.next_s())

    def _new_client(self) -> _Client:
        topic, payload, retain, properties = self._status(OFFLINE, will=True)
        settings = self._settings
        client = _Client(
            settings.host,
            settings.usual_port,
            protocol=aiomqtt.ProtocolVersion.V5,
            identifier=self._identifier,
            username=settings.username or None,
            password=self._password(),
            tls_context=settings.tls(),
            will=aiomqtt.Will(topic, payload, qos=QOS, retain=retain, properties=properties),
            keepalive=KEEPALIVE_S,
            timeout=TIMEOUT_S,
            max_inflight_messages=_INFLIGHT,
            logger=_LOG,
        )
        client.pending_calls_threshold = _INFLIGHT
        return client

    def _password(self) -> str | None:
        place = self._settings.password_file
        try:
            return read_secret_line(place) if place else None
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(
                f"{self.name}: expected a file with the password, got {place} ({type(error).__name__})",
                remedy=f"Make the file, or correct password_file of {self.name} in twin.yaml.",
            ) from error

    async def _send(self, client: _Client, packets: Iterable[_Packet]) -> None:
        """Send packets together, in order, and wait for all acknowledgements.

        Raises:
            OutputError: One was not acknowledged, or not allowed.
        """
        sent = [
            asyncio.ensure_future(client.publish(topic, payload, qos=QOS, retain=retain, properties=properties))
            for topic, payload, retain, properties in packets
        ]
        failed = [found for found in await asyncio.gather(*sent, return_exceptions=True) if found is not None]
        refused, client.refused = client.refused, ""
        if refused:
            raise OutputError(f"{self.name}: expected {self._place} to allow messages, got: {refused}")
        if failed:
            raise OutputError(f"{self.name}: expected {len(sent)} acknowledgements, got {failed[0]}") from failed[0]

    def _packet(self, message: Message) -> _Packet:
        properties = _expires(PacketTypes.PUBLISH, self._settings.expiry_s)
        payload = message.to_json().rstrip("\n").encode("utf-8", "replace")
        if isinstance(message, Alert):
            unit = f"/{level(message.unit)}" if message.unit else ""
            return f"{self._base}{unit}/alerts", payload, False, properties
        return f"{self._base}/{level(unit_name(message.unit))}/rul", payload, True, properties

    def _status(self, word: str, *, will: bool = False) -> _Packet:
        kind = PacketTypes.WILLMESSAGE if will else PacketTypes.PUBLISH
        return f"{self._base}/status", word.encode(), True, Properties(kind)  # type: ignore[no-untyped-call]


_Packet = tuple[str, bytes, bool, Properties]  # topic, payload, retained, properties


class _Client(aiomqtt.Client):
    """aiomqtt's client, which takes any acknowledgement for success: this one reads what it says (MQTT 5, 3.4.2.1).

    Attributes:
        refused: Why the broker did not allow a message; "" if it did.
    """

    refused = ""

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        with contextlib.suppress(aiomqtt.MqttError):
            await super().__aexit__(exc_type, exc, tb)
        if self._client.socket() is not None:  # aiomqtt leaves it open where it takes the connection for lost
            self._client.disconnect()
        if self._disconnected.done() and not self._disconnected.cancelled():
            self._disconnected.exception()  # it was told; asyncio would tell it again

    def _on_publish(
        self, client: Any, userdata: Any, mid: int, reason_code: ReasonCode, properties: Properties
    ) -> None:
        if reason_code.is_failure:
            self.refused = str(reason_code)
        super()._on_publish(client, userdata, mid, reason_code, properties)


def _expires(kind: int, seconds: int) -> Properties:
    found = Properties(kind)  # type: ignore[no-untyped-call]
    found.MessageExpiryInterval = seconds
    return found
