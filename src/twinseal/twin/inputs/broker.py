"""The way to an MQTT 5 broker: TLS 1.3 with certificates of both sides, and a session that outlives the connection.

What is acknowledged, and when:

1. The broker keeps the session (clean start false, session expiry) and with it each message of QoS 1 that the twin has
   not acknowledged, while the twin or the network is away.
2. A message is acknowledged when the next ones are asked for: when the twin has answered, and remembers.
3. The broker is asked to send no more than `unacknowledged` messages ahead (Receive Maximum). Mosquitto 2.0.11 sends
   more, once some were acknowledged: then no more is read. So a slow twin holds few messages, and the broker the rest.
   Of QoS 0 a sender is promised nothing: more than fit are dropped and counted.
4. After a loss the broker sends again what it has no acknowledgement of. What was delivered before that is acknowledged
   and not delivered twice: the same packet number, marked as sent again, with the same bytes. That is forgotten when
   this program ends: what was answered and not acknowledged then comes again, and the frame gate says `played again`.

Messages that the broker has retained are not asked for; one that comes is said to be so, and is not read: it is old.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twinseal.config import Settings
from twinseal.errors import ConfigError
from twinseal.twin.inputs.backoff import Backoff
from twinseal.twin.inputs.source import SourceEvent, Tell

if TYPE_CHECKING:
    from twinseal.twin.inputs.broker_session import Session

LOOPBACK = ("127.0.0.1", "::1", "localhost")
_INSTALL = "Install what the twin's service needs: python -m pip install 'twinseal[service]'"


class BrokerSettings(Settings):
    """Where a broker is, and who the twin is there.

    Attributes:
        host: Its name, as its certificate has it.
        port: Its port.
        client_id: The name of the twin's session, no other program's. Where the broker takes the name in the
            certificate for it (`use_username_as_clientid`), a certificate serves one connection.
        ca: PEM file with the certificates of who may sign the broker's; no others count.
        certificate: PEM file with the twin's certificate.
        key: PEM file with its private key, without a passphrase.
        plain_on_loopback: No TLS, to a broker on this machine.
        keepalive_s: A silent connection counts as lost after one and a half times so long.
        session_s: How long the broker keeps messages for a twin that is away.
        unacknowledged: How many messages may wait here for an answer.
        max_payload_bytes: A longer message is not read, and said to be too long.

    Raises:
        ValueError: A number is out of range; a file is missing, or named where there is no TLS; or there would be no
            TLS to another machine.
    """

    host: str
    port: int = 8883
    client_id: str
    ca: str = ""
    certificate: str = ""
    key: str = ""
    plain_on_loopback: bool = False
    keepalive_s: int = 30
    session_s: int = 7 * 86_400
    unacknowledged: int = 32
    max_payload_bytes: int = 1 << 20

    def model_post_init(self, _context: Any, /) -> None:
        """Refuse what would not be safe."""
        for name, low, high in (
            ("port", 1, 65_535),
            ("keepalive_s", 5, 3_600),
            ("session_s", 0, 365 * 86_400),
            ("unacknowledged", 1, 1_000),
            ("max_payload_bytes", 1_000, 16 << 20),
        ):
            if not low <= getattr(self, name) <= high:
                raise ValueError(f"{name}: expected {low} to {high}, got {getattr(self, name)}")
        if not 1 <= len(self.client_id) <= 200 or not self.client_id.isprintable():
            raise ValueError(f"client_id: expected 1 to 200 printable letters, got {self.client_id[:60]!r}")
        files = [name for name in ("ca", "certificate", "key") if getattr(self, name)]
        if self.plain_on_loopback:
            if self.host not in LOOPBACK or files:
                raise ValueError(
                    f"plain_on_loopback: expected {', '.join(LOOPBACK)} as host and no certificates, got {self.host!r}"
                )
        elif len(files) < 3:
            raise ValueError(
                f"expected ca, certificate and key (or plain_on_loopback: true, on this machine), got {files or 'none'}"
            )


@dataclass(frozen=True)
class Message:
    """A message, as it came.

    Attributes:
        topic: As the sender wrote it; do not show it as it is.
        payload: Its bytes; empty where there are more than the settings allow.
        length: How many bytes there were.
        retained: Whether the broker has kept it from before.
    """

    topic: str
    payload: bytes
    length: int
    retained: bool = False


@dataclass(frozen=True)
class Dropped:
    """Messages of QoS 0 that found no room.

    Attributes:
        number: How many.
    """

    number: int


class Broker:
    """A broker, as long as somebody asks for its messages.

    Args:
        settings: Where it is.
        filters: What to subscribe to.
        name: Of the source, for messages.
        tell: Told of each connection and each loss.
        backoff: The waits between attempts.
    """

    def __init__(
        self, settings: BrokerSettings, filters: Sequence[str], name: str, tell: Tell, backoff: Backoff | None = None
    ) -> None:
        self._settings, self._filters, self._name, self._tell = settings, filters, name, tell
        self._backoff, self._session = backoff or Backoff(), None

    _session: Session | None

    async def batches(self) -> AsyncGenerator[list[Message | Dropped], None]:
        """The messages that have come, in order; those before are acknowledged when the next ones are asked for.

        Raises:
            ConfigError: A file of the settings cannot be used, or what this needs is not installed.
        """
        context = None if self._settings.plain_on_loopback else tls_context(self._settings)
        session_module = _session_module()
        delivered = session_module.Delivered(4 * self._settings.unacknowledged)
        while True:
            try:
                async with session_module.Session(self._settings, context, delivered) as self._session:
                    self._session.subscribe_to(self._filters, lambda: self._tell(SourceEvent("connected", self._name)))
                    async with aclosing(self._session.batches()) as batches:
                        async for batch in batches:
                            self._backoff.reset()
                            yield batch
            except session_module.LostError as error:
                place = f"{self._settings.host}:{self._settings.port}"
                message = f"{self._name}: expected a connection with the broker at {place}, got {error}"
                self._tell(SourceEvent("lost", self._name, message))
            finally:
                self._session = None
            await asyncio.sleep(self._backoff.next_s())

    async def publish(self, topic: str, payload: bytes) -> bool:
        """Publish once, QoS 0; whether there was a connection to do it."""
        return self._session is not None and await self._session.publish_once(topic, payload)


def tls_context(settings: BrokerSettings) -> ssl.SSLContext:
    """TLS 1.3, with the certificates of the settings and no others.

    Raises:
        ConfigError: A file is missing, or is not what it should be.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    try:
        context.load_verify_locations(cafile=settings.ca)
    except OSError as error:  # also ssl.SSLError
        raise ConfigError(
            f"{settings.ca}: expected the certificates of who signs the broker's, in PEM, got none ({error})",
            remedy=f"Look at it: openssl x509 -noout -subject -in {settings.ca}",
        ) from error
    try:
        # Without a password of ours, OpenSSL would ask for one at a terminal that nobody sits at.
        context.load_cert_chain(settings.certificate, settings.key, password="")
    except OSError as error:
        raise ConfigError(
            f"{settings.certificate}, {settings.key}: expected a certificate and its key without a passphrase, in PEM, "
            f"got others ({error})",
            remedy=f"Look at them: openssl x509 -noout -subject -in {settings.certificate}; "
            f"openssl pkey -noout -in {settings.key}; ls -l {Path(settings.key).parent}",
        ) from error
    return context


def _session_module() -> Any:
    try:
        from twinseal.twin.inputs import broker_session  # noqa: PLC0415  # with aiomqtt, which few twins need
    except ModuleNotFoundError as error:
        raise ConfigError(f"source: expected the package {error.name}, got none", remedy=_INSTALL) from error
    return broker_session
