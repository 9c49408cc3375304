"""One connection with an OPC UA server, by asyncua, which only this module imports.

asyncua asks a server to publish again when what it published before was taken; here that is when it was answered. So a
slow twin holds one notification, and the server the rest.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Self

from asyncua import ua
from asyncua.client.client import Client
from asyncua.common.subscription import DataChangeEvent, Subscription
from asyncua.crypto.security_policies import SecurityPolicyBasic256Sha256
from asyncua.crypto.uacrypto import CertProperties

from twinseal.errors import ConfigError
from twinseal.twin.inputs.opcua import Change, OpcuaSettings, Place

logging.getLogger("asyncua").addHandler(logging.NullHandler())  # what it says is said by us
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MAX_MESSAGE_BYTES = 16 << 20
_REQUEST_S = 10.0
_NODES_AT_ONCE = 1_000  # in a request


class LostError(Exception):
    """The connection could not be made, or is lost; says why."""


class _Published:
    """What came together, until it is answered."""

    def __init__(self) -> None:
        self.waiting: asyncio.Queue[tuple[list[Change], asyncio.Event] | str] = asyncio.Queue()


class _Subscription(Subscription):
    """Gives what the server published together, and asks for more when it was answered."""

    def __init__(self, client: Client, parameters: ua.CreateSubscriptionParameters, published: _Published) -> None:
        super().__init__(client.uaclient.session, parameters)
        self._published, self.places = published, dict[ua.NodeId, Place]()

    async def publish_callback(self, publish_result: ua.PublishResult) -> None:
        """As asyncua asks for it; it publishes no more until this returns."""
        data = publish_result.NotificationMessage.NotificationData
        changes: list[Change] = []
        for event in self._explode_notifications(data or ()):
            if isinstance(event, DataChangeEvent):
                changes.append(_change(self.places[event.node.nodeid], event))
            else:
                self._published.waiting.put_nowait(f"another notification: {str(event)[:100]}")
        if changes:
            answered = asyncio.Event()
            self._published.waiting.put_nowait((changes, answered))
            await answered.wait()


class Session:
    """One connection; as a context manager.

    Args:
        settings: Where the server is.
        files: Certificates and key by their names in the settings; None for no security.

    Raises:
        ConfigError: On entering: a file is not what it should be, or a node is none.
        LostError: On entering: there is no connection. Elsewhere: it is lost.
    """

    def __init__(self, settings: OpcuaSettings, files: Mapping[str, bytes] | None) -> None:
        self._settings, self._files, self._published = settings, files, _Published()
        self._client = Client(settings.url, timeout=_REQUEST_S)
        self._client.application_uri = settings.application_uri
        self._client.name = self._client.description = "twinseal"
        self._client.max_messagesize = _MAX_MESSAGE_BYTES

    async def __aenter__(self) -> Self:
        if self._files is not None:
            await self._secure(self._files)
        self._client.connection_lost_callback = self._tell_loss
        try:
            await self._client.connect()
        except Exception as error:  # asyncua raises its own, sockets', cryptography's and more, by what a server says
            raise LostError(_words(error)) from error
        return self

    async def _secure(self, files: Mapping[str, bytes]) -> None:
        own, key, server = (CertProperties(files[name], "pem") for name in ("certificate", "key", "server_certificate"))
        try:
            await self._client.set_security(SecurityPolicyBasic256Sha256, own, key, server_certificate=server)
        except Exception as error:  # as above
            names = f"{self._settings.certificate}, {self._settings.key}, {self._settings.server_certificate}"
            raise ConfigError(
                f"{names}: expected a certificate, its RSA key without a passphrase, and the server's certificate, in "
                f"PEM, got others ({_words(error)})",
                remedy=f"Look at them: openssl x509 -noout -text -in {self._settings.certificate}",
            ) from error

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        with suppress(Exception):  # it may be lost
            async with asyncio.timeout(_REQUEST_S):
                await self._client.disconnect()

    async def _tell_loss(self, error: Exception) -> None:
        self._published.waiting.put_nowait(_words(error))

    async def subscribe_to(self, places: Sequence[Place]) -> list[tuple[Place, str]]:
        """Subscribe to nodes; those that the server refuses, and why.

        Raises:
            ConfigError: One is no node of this server's.
            LostError: The server refuses all.
        """
        parameters = ua.CreateSubscriptionParameters()
        parameters.RequestedPublishingInterval = self._settings.publish_ms
        parameters.RequestedLifetimeCount, parameters.RequestedMaxKeepAliveCount = 10_000, 20
        parameters.MaxNotificationsPerPublish, parameters.PublishingEnabled = 1_000, True
        refused: list[tuple[Place, str]] = []
        try:
            subscription = _Subscription(self._client, parameters, self._published)
            await subscription.init()
            subscription.places = {await self._node_id(place.node): place for place in places}
            ids = list(subscription.places)
            for start in range(0, len(ids), _NODES_AT_ONCE):
                nodes = [self._client.get_node(node) for node in ids[start : start + _NODES_AT_ONCE]]
                codes = await subscription.subscribe_data_change(nodes, queuesize=self._settings.queue)
                refused += [
                    (subscription.places[node.nodeid], code.name)
                    for node, code in zip(nodes, codes, strict=True)
                    if isinstance(code, ua.StatusCode)
                ]
        except ConfigError:
            raise
        except Exception as error:  # as on entering
            raise LostError(_words(error)) from error
        return refused

    async def _node_id(self, text: str) -> ua.NodeId:
        if text.startswith("nsu="):
            uri, _, rest = text.removeprefix("nsu=").partition(";")
            known = await self._client.get_namespace_array()
            if uri not in known:
                raise LostError(f"no namespace {uri!r}")
            text = f"ns={known.index(uri)};{rest}"
        try:
            return ua.NodeId.from_string(text)
        except ua.uaerrors.UaError as error:
            raise ConfigError(f"units: expected a node such as ns=2;s=Pump1.Vibration, got {text!r}") from error

    async def published(self) -> AsyncIterator[tuple[list[Change], Callable[[], None]]]:
        """What the server publishes, and what to call when it was answered.

        Raises:
            LostError: The connection is lost.
        """
        while True:
            come = await self._published.waiting.get()
            if isinstance(come, str):
                raise LostError(come)
            changes, answered = come
            yield changes, answered.set


def _change(place: Place, event: DataChangeEvent) -> Change:
    value = event.data.monitored_item.Value
    time = value.SourceTimestamp
    if time is not None and time.tzinfo is None:
        time = time.replace(tzinfo=UTC)
    status = value.StatusCode.value if value.StatusCode is not None else 0
    return Change(place, event.value, status, None if time is None else (time - _EPOCH) // timedelta(microseconds=1))


def _words(error: Exception) -> str:
    if isinstance(error, TimeoutError):  # a server need not answer a channel that was made for another certificate
        return f"no answer in {_REQUEST_S:.0f} s: it may have another certificate, or not take the twin's"
    return " ".join(str(error).split())[:200] or type(error).__name__
