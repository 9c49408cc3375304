"""Connections: TCP with one deadline for all waits, which reads large pieces.

httpcore has a timeout for each wait and none for all waits together, so a server that sends a byte now and then could
hold it for ever. And it reads at most 64 KiB at a time.

Example:
    deadline = Deadline(300.0)
    pool = httpcore.ConnectionPool(network_backend=DeadlineBackend(deadline))
"""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import httpcore

from twinseal.errors import RegistryError

CHUNK = 1 << 20  # read at most this much at once: fewer calls for each byte
LARGE_BYTES = 8 << 20  # from this size on, a faster route and larger reads are worth their cost
SOCKET_S = 10.0


class Deadline:
    """A limit in seconds for everything together, counted from the first use.

    Args:
        seconds: How many.
        clock: Seconds that never run backwards.
    """

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds, self._clock = seconds, clock
        self._end: float | None = None

    def remaining_s(self) -> float:
        """Seconds left.

        Raises:
            RegistryError: None are.
        """
        if self._end is None:
            self._end = self._clock() + self._seconds
        rest = self._end - self._clock()
        if rest <= 0:
            raise RegistryError(
                f"registry: expected everything within {self._seconds:g} s, got less",
                remedy="The registry or the network is very slow, or somebody slows it down on purpose.",
            )
        return rest

    @contextmanager
    def limit_wait(self, timeout: float | None) -> Iterator[float]:
        """Seconds to wait for the network now: a socket's, or what is left.

        Raises:
            RegistryError: None are left, before or after.
        """
        try:
            yield min(timeout or SOCKET_S, self.remaining_s())
        except httpcore.TimeoutException:
            self.remaining_s()
            raise


class ReceiveBatching:
    """Lets the bytes of a large body collect in the socket, so that one read returns more than 8 KiB.

    Only while many bytes are still to come, so that a read never waits for bytes that do not exist; and only without
    TLS: with TLS some of the bytes may have left the socket already.

    Args:
        response: The response with the body to read.
    """

    def __init__(self, response: httpcore.Response) -> None:
        length = {key.lower(): value for key, value in response.headers}.get(b"content-length", b"0")
        stream = response.extensions["network_stream"]
        plain = stream.get_extra_info("ssl_object") is None
        self._socket = stream.get_extra_info("socket")
        self._left, self._on = int(length) if plain else 0, False
        self.count_bytes(0)

    def count_bytes(self, size: int) -> None:
        """Count `size` more received bytes."""
        self._left -= size
        if self._on != (self._left >= LARGE_BYTES):
            self._on = not self._on
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, CHUNK // 2 if self._on else 1)


class DeadlineBackend(httpcore.SyncBackend):
    """TCP on which every wait ends with the deadline, also while headers come in slowly."""

    def __init__(self, deadline: Deadline) -> None:
        self._deadline = deadline

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        """As httpcore's, within what is left."""
        with self._deadline.limit_wait(timeout) as patience:
            stream = super().connect_tcp(host, port, patience, local_address, socket_options)
        return _DeadlineStream(stream, self._deadline)


class _DeadlineStream(httpcore.NetworkStream):
    def __init__(self, stream: httpcore.NetworkStream, deadline: Deadline) -> None:
        self._stream, self._deadline = stream, deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """Read more than was asked for, if it is there: httpcore asks for little, and its parser takes any amount."""
        with self._deadline.limit_wait(timeout) as patience:
            return self._stream.read(max(max_bytes, CHUNK), patience)

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        with self._deadline.limit_wait(timeout) as patience:
            self._stream.write(buffer, patience)

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        with self._deadline.limit_wait(timeout) as patience:
            return _DeadlineStream(self._stream.start_tls(ssl_context, server_hostname, patience), self._deadline)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)

    def close(self) -> None:
        self._stream.close()
