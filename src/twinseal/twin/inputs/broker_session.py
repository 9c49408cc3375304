"""One connection with an MQTT broker: aiomqtt, with a bounded room for messages and acknowledgements that we give.

aiomqtt's own queue drops what does not fit, with no more than a line in a log, and paho acknowledges a message when it
has come. `broker` says what happens here instead. This is the only module that imports aiomqtt and paho.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import ssl
from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import aiomqtt
import paho.mqtt.client as paho
from aiomqtt.types import PahoSocket
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from twinseal.twin.inputs.broker import BrokerSettings, Dropped, Message

_MAX_PACKET_BYTES = 16 << 20  # the broker sends no longer one; one at a time is read
_MAX_LOOSE = 1_024  # messages of QoS 0 that wait
_MAX_LOOSE_BYTES = 32 << 20
_CONNECT_S = 10.0
_OWN = "it may not take the twin's certificate"
_LOG = logging.getLogger("twinseal.mqtt")  # of the library: what it says is said by us
_LOG.addHandler(logging.NullHandler())
_LOG.propagate = False
_ENDED, _TAKEN_OVER = 128, 142  # reason codes: paho's for an end without one; MQTT 5, 4.13: session taken over


class LostError(Exception):
    """The connection could not be made, or is lost; says why."""


@dataclass(frozen=True)
class _Arrival:
    message: Message
    number: int  # of the packet, to be acknowledged; 0 for QoS 0

    def digest(self) -> bytes:
        topic, payload = self.message.topic.encode("utf-8", "replace"), self.message.payload
        return hashlib.sha256(b"%d %d %s%s" % (self.message.length, len(topic), topic, payload)).digest()


class Delivered:
    """Which packets were delivered last, over the connections of one session.

    Args:
        most: How many are remembered: more than can be without an acknowledgement.
    """

    def __init__(self, most: int) -> None:
        self._most, self._digests = most, OrderedDict[int, bytes]()

    def add(self, arrival: _Arrival) -> None:
        """Remember one of QoS 1."""
        self._digests.pop(arrival.number, None)
        self._digests[arrival.number] = arrival.digest()
        if len(self._digests) > self._most:
            self._digests.popitem(last=False)

    def knows(self, arrival: _Arrival) -> bool:
        """Whether it is one of these, sent again."""
        return self._digests.get(arrival.number) == arrival.digest()

    def forget(self) -> None:
        """The broker has no session of before: it numbers its packets anew."""
        self._digests.clear()


class Session(aiomqtt.Client):
    """One connection; as a context manager.

    Args:
        settings: Where the broker is.
        context: For TLS; None for none.
        delivered: What was delivered over the connections before.

    Raises:
        LostError: On entering: there is no connection. Elsewhere: it is lost.
    """

    def __init__(self, settings: BrokerSettings, context: ssl.SSLContext | None, delivered: Delivered) -> None:
        wanted = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        wanted.SessionExpiryInterval = settings.session_s
        wanted.ReceiveMaximum = settings.unacknowledged
        wanted.MaximumPacketSize = _MAX_PACKET_BYTES + (128 << 10)
        super().__init__(
            settings.host,
            settings.port,
            identifier=settings.client_id,
            protocol=aiomqtt.ProtocolVersion.V5,
            clean_start=False,
            keepalive=settings.keepalive_s,
            properties=wanted,
            tls_context=context,
            timeout=_CONNECT_S,
            logger=_LOG,
        )
        self._client.manual_ack_set(True)
        self._settings, self._delivered = settings, delivered
        self._arrived: list[_Arrival] = []
        self._promised = 0  # of QoS 1, come and not acknowledged
        self._paused: PahoSocket | None = None  # what is not read from, until something is acknowledged
        self._loose, self._loose_bytes, self._dropped = 0, 0, 0
        self._changed = asyncio.Event()
        self._filters: Sequence[str] = ()
        self._when_done: Callable[[], None] = lambda: None

    async def __aenter__(self) -> Self:
        try:
            await super().__aenter__()
        except aiomqtt.MqttError as error:
            self._close()
            raise LostError(_words(error)) from error
        except BaseException:
            self._close()
            raise
        self._disconnected.add_done_callback(lambda _: self._changed.set())
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        with suppress(aiomqtt.MqttError):
            await super().__aexit__(exc_type, exc, tb)
        self._close()
        if self._disconnected.done() and not self._disconnected.cancelled():
            self._disconnected.exception()  # it was told; asyncio would tell it again

    def _close(self) -> None:
        """Give the socket back, also where aiomqtt takes the connection for closed."""
        if self._client.socket() is not None:
            self._client.disconnect()

    def subscribe_to(self, filters: Sequence[str], when_done: Callable[[], None]) -> None:
        """Subscribe with QoS 1, without the messages that the broker has retained.

        Its answer may come behind messages that wait from before: they are given first. A refusal ends the connection.
        """
        self._filters, self._when_done = filters, when_done
        options = SubscribeOptions(qos=1, retainHandling=SubscribeOptions.RETAIN_DO_NOT_SEND)
        self._client.subscribe([(text, options) for text in filters])

    def _on_subscribe(
        self,
        _client: paho.Client,
        _userdata: Any,
        _mid: int,
        reason_codes: list[ReasonCode],
        _properties: Properties | None = None,
    ) -> None:
        for text, code in zip(self._filters, reason_codes, strict=False):
            if code.is_failure and not self._disconnected.done():
                self._disconnected.set_exception(LostError(f"a refusal to subscribe to {text!r}: {code}"))
        if not self._disconnected.done():
            self._when_done()

    async def publish_once(self, topic: str, payload: bytes) -> bool:
        """Publish with QoS 0; whether it was sent."""
        try:
            await self.publish(topic, payload, qos=0)
        except aiomqtt.MqttError:
            return False
        return True

    async def batches(self) -> AsyncGenerator[list[Message | Dropped], None]:
        """The messages as they come; those before are acknowledged when the next ones are asked for.

        Raises:
            LostError: The connection is lost; what had come was given before.
        """
        while True:
            while not (self._arrived or self._dropped or self._disconnected.done()):
                self._changed.clear()
                await self._changed.wait()
            if not (self._arrived or self._dropped):
                raise LostError(_words(self._disconnected.exception()))
            arrived, dropped = self._arrived, self._dropped
            self._arrived, self._dropped, self._loose, self._loose_bytes = [], 0, 0, 0
            given: list[Message | Dropped] = [arrival.message for arrival in arrived]
            for arrival in arrived:
                if arrival.number:
                    self._delivered.add(arrival)
            yield [*given, Dropped(dropped)] if dropped else given
            for arrival in arrived:
                self._acknowledge(arrival)
            self._resume()

    def _acknowledge(self, arrival: _Arrival) -> None:
        if arrival.number and not self._disconnected.done():
            self._promised -= 1
            self._client.ack(arrival.number, 1)  # where it is not sent, the broker sends the message again

    def _on_socket_open(self, client: paho.Client, userdata: Any, sock: PahoSocket) -> None:
        super()._on_socket_open(client, userdata, sock)
        self._loop.call_soon_threadsafe(self._loop.add_reader, sock.fileno(), self._read, sock)  # for aiomqtt's reader

    def _on_socket_close(self, client: paho.Client, userdata: Any, sock: PahoSocket) -> None:
        self._paused = None
        super()._on_socket_close(client, userdata, sock)

    def _read(self, sock: PahoSocket) -> None:
        """Read what has come; no more once there is too much: Mosquitto 2.0.11 may send more than Receive Maximum."""
        try:
            while self._promised <= self._settings.unacknowledged:
                self._client.loop_read()
                if self._client.socket() is not sock or not (isinstance(sock, ssl.SSLSocket) and sock.pending()):
                    return
        except Exception as error:  # as aiomqtt's: whatever it is, this connection is of no more use
            if not self._disconnected.done():
                self._disconnected.set_exception(error)
            return
        self._paused = sock
        self._loop.remove_reader(sock.fileno())

    def _resume(self) -> None:
        if (sock := self._paused) is not None and self._promised <= self._settings.unacknowledged:
            self._paused = None
            self._loop.add_reader(sock.fileno(), self._read, sock)
            self._loop.call_soon(self._read, sock)  # what TLS has read already is no event

    def _on_connect(
        self,
        client: paho.Client,
        userdata: Any,
        flags: paho.ConnectFlags,
        reason_code: ReasonCode,
        properties: Properties | None = None,
    ) -> None:
        if not flags.session_present:
            self._delivered.forget()
        super()._on_connect(client, userdata, flags, reason_code, properties)

    def _on_disconnect(
        self,
        client: paho.Client,
        userdata: Any,
        flags: paho.DisconnectFlags,
        reason_code: ReasonCode,
        properties: Properties | None = None,
    ) -> None:
        if self._connected.cancelled():  # entering has ended, and aiomqtt would ask for its result
            return
        if not self._connected.done():  # aiomqtt would wait for an answer until the time is up
            self._connected.set_exception(aiomqtt.MqttError(f"an end of it before the broker's answer; {_OWN}"))
        super()._on_disconnect(client, userdata, flags, reason_code, properties)

    def _on_message(self, _client: paho.Client, _userdata: Any, message: paho.MQTTMessage) -> None:
        try:
            topic = message.topic
        except UnicodeDecodeError:
            topic = "\N{REPLACEMENT CHARACTER}"  # of no filter
        length = len(message.payload)
        payload = bytes(message.payload) if length <= self._settings.max_payload_bytes else b""
        arrival = _Arrival(Message(topic, payload, length, message.retain), message.mid if message.qos else 0)
        if arrival.number:
            self._take(arrival, again=message.dup)
        elif self._loose < _MAX_LOOSE and self._loose_bytes + len(payload) <= _MAX_LOOSE_BYTES:
            self._loose, self._loose_bytes = self._loose + 1, self._loose_bytes + len(payload)
            self._arrived.append(arrival)
        else:
            self._dropped += 1
        self._changed.set()

    def _take(self, arrival: _Arrival, *, again: bool) -> None:
        self._promised += 1
        if again and self._delivered.knows(arrival):
            self._acknowledge(arrival)
        else:
            self._arrived.append(arrival)


def _words(error: BaseException | None) -> str:
    code = error.rc if isinstance(error, aiomqtt.exceptions.MqttCodeError) else None
    value = code.value if isinstance(code, ReasonCode) else 0
    if error is None or value in (_ENDED, _TAKEN_OVER):
        return "its end: the network, the broker, or another program with the same client_id or certificate"
    return " ".join(str(error).split())[:200] or type(error).__name__
