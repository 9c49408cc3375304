"""The gateway's way to an MQTT 5 broker: one frame at a time, QoS 1, until the broker has it for somebody.

1. Rows are signed when there is a connection, not before: a frame counts for the policy's seconds only (60).
2. The next frame is sent when the broker has acknowledged this one, and said that somebody gets it. A broker that lost
   the twin's session says that nobody does (`no matching subscribers`): then the frame is kept.
3. What was not acknowledged is sent again, over a new connection if need be: the same bytes for RESIGN_S, then the same
   rows, signed again under a new number. If the twin had it after all, it refuses the second one (`played again`, or `a
   count that fell`), so no row counts twice. If it did not, it counts one frame as lost, and no row.
4. Meanwhile nothing else is taken: no more rows than those of one frame wait here. Who gives them waits too.

This and the twin's own sources and outputs are what imports paho.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime
from queue import Empty, SimpleQueue
from ssl import SSLContext
from types import TracebackType
from typing import Any, Self

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from twinseal.errors import ConfigError
from twinseal.twin.gateway import Cut, Gateway
from twinseal.twin.inputs.backoff import Backoff
from twinseal.twin.inputs.broker import BrokerSettings, tls_context

RESIGN_S = 5.0
ANSWER_S = 10.0  # until an answer of the broker counts as lost
_NOBODY = 0x10  # MQTT 5, 3.4.2.1: no matching subscribers
_LOST = "expected an acknowledgement, got the end of the connection, or none in time"


class FrameSender:
    """Sends the frames of one device; as a context manager.

    Args:
        settings: Where the broker is, and who the device is there.
        device: Its name, as it is enrolled; the topic is `telemetry/<device>/frames`.
        tell: Told once when frames cannot be sent, and once when they can be again.
        now: Aware, UTC.
        backoff: The waits between attempts.

    Attributes:
        again: How many frames were sent again, the same bytes.
        signed_again: How many were signed again.

    Raises:
        ConfigError: The device's name is no level of a topic; or a file of the settings cannot be used.
    """

    def __init__(
        self,
        settings: BrokerSettings,
        device: str,
        tell: Callable[[str], None],
        now: Callable[[], datetime],
        backoff: Backoff | None = None,
    ) -> None:
        if set("+#/") & set(device) or device.startswith("$"):
            raise ConfigError(f"--device: expected a name without + # / for the topics of a broker, got {device!r}")
        self._settings, self._topic, self._tell, self._now = settings, f"telemetry/{device}/frames", tell, now
        self._context = None if settings.plain_on_loopback else tls_context(settings)
        self._backoff = backoff or Backoff(most_s=15.0)
        self._connection: _Connection | None = None
        self._fault = ""
        self.again = self.signed_again = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self._close()

    def send(self, gateway: Gateway, cut: Cut) -> None:
        """Sign rows and send them; returns when the broker has them for somebody, however long that takes.

        Raises:
            OSError: What was signed cannot be remembered.
        """
        message, signed_at = b"", 0.0
        while True:
            connection = self._connected()
            if not message or time.monotonic() - signed_at > RESIGN_S:
                self.signed_again += bool(message)
                message, signed_at = gateway.sign(cut, self._now()), time.monotonic()
            else:
                self.again += 1
            if not (fault := connection.publish(self._topic, message)):
                self._backoff.reset()
                self._say("")
                return
            self._say(fault)
            if not connection.lasts:
                self._close()
            time.sleep(self._backoff.next_s())

    def _connected(self) -> _Connection:
        while self._connection is None or not self._connection.lasts:
            self._close()
            try:
                self._connection = _Connection(self._settings, self._context)
            except OSError as error:
                self._say(" ".join(str(error).split())[:200] or type(error).__name__)
                time.sleep(self._backoff.next_s())
        return self._connection

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _say(self, fault: str) -> None:
        """Tell the first fault of several, and their end."""
        place = f"{self._settings.host}:{self._settings.port}"
        if fault and not self._fault:
            self._tell(f"the broker at {place} does not take frames: {fault}. Rows wait, and nothing more is read.")
        elif self._fault and not fault:
            self._tell(f"the broker at {place} takes frames again")
        self._fault = fault


class _Connection:
    """One connection; it ends for good.

    Attributes:
        lasts: Whether it is there.

    Raises:
        OSError: It cannot be made.
    """

    def __init__(self, settings: BrokerSettings, context: SSLContext | None) -> None:
        self.lasts = True
        self._answers: SimpleQueue[ReasonCode | None] = SimpleQueue()  # None: the connection ended
        client = paho.Client(
            CallbackAPIVersion.VERSION2, settings.client_id, protocol=paho.MQTTv5, reconnect_on_failure=False
        )
        self._client = client
        client.on_connect, client.on_publish, client.on_disconnect = self._on_connect, self._on_publish, self._on_end
        if context is not None:
            client.tls_set_context(context)
        expiry = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        expiry.SessionExpiryInterval = 0  # what is sent again is decided here, not by a session
        client.connect(settings.host, settings.port, settings.keepalive_s, clean_start=True, properties=expiry)
        client.loop_start()
        answer = self._answer()
        if answer is None or answer.is_failure:
            self.close()
            raise ConnectionError(f"expected a connection, got {answer or 'its end; it may not take the certificate'}")

    def publish(self, topic: str, message: bytes) -> str:
        """Publish, and wait for the acknowledgement; why the frame has not arrived, or the empty text."""
        if self._client.publish(topic, message, qos=1).rc != paho.MQTT_ERR_SUCCESS:
            self.lasts = False
            return _LOST
        answer = self._answer()
        if answer is None:
            self.lasts = False
            return _LOST
        if answer.value == _NOBODY:
            return "nobody has subscribed to them: is the twin there?"
        return f"expected them to be allowed, got {answer}" if answer.is_failure else ""

    def close(self) -> None:
        """End it."""
        self.lasts = False
        self._client.disconnect()
        self._client.loop_stop()

    def _answer(self) -> ReasonCode | None:
        try:
            return self._answers.get(timeout=ANSWER_S)
        except Empty:
            return None

    def _on_connect(self, _client: Any, _data: Any, _flags: Any, code: ReasonCode, _properties: Any) -> None:
        self._answers.put(code)

    def _on_publish(self, _client: Any, _data: Any, _mid: int, code: ReasonCode, _properties: Any) -> None:
        self._answers.put(code)

    def _on_end(self, _client: Any, _data: Any, _flags: Any, _code: ReasonCode, _properties: Any) -> None:
        self.lasts = False
        self._answers.put(None)
