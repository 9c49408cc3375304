"""Connections: TCP on which no wait outlasts the deadline, and whose bytes come in pieces worth waking up for.

What httpcore leaves open: it has a timeout for each wait, none for all together, so that a byte now and then holds it
for ever; and it reads 64 KiB at a time, or less, as the server happened to write.

Example:
    deadline = Deadline(300.0)
    pool = httpcore.ConnectionPool(network_backend=PunctualBackend(deadline))
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

CHUNK = 1 << 20  # what is read at once, if it is there: fewer turns of the interpreter for each byte
LARGE_BYTES = 8 << 20  # from here on it pays to ask for a faster way, and to let the bytes gather
SOCKET_S = 10.0


class Deadline:
    """Seconds that everything together may take, counted from the first asking.

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
                remedy="The registry, or the way to it, is very slow; or it holds us up on purpose.",
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
    """Lets the bytes of a large body gather in the socket, instead of waking us for every 8 KiB that a server writes.

    Only while much is still to come, so that what a reading waits for does come; and only in the clear: under TLS a
    part of what is to come may have left the socket already.

    Args:
        response: Whose body is about to be read.
    """

    def __init__(self, response: httpcore.Response) -> None:
        length = {key.lower(): value for key, value in response.headers}.get(b"content-length", b"0")
        stream = response.extensions["network_stream"]
        plain = stream.get_extra_info("ssl_object") is None
        self._socket = stream.get_extra_info("socket")
        self._left, self._on = int(length) if plain else 0, False
        self.count_bytes(0)

    def count_bytes(self, size: int) -> None:
        """Say that `size` bytes more have come."""
        self._left -= size
        if self._on != (self._left >= LARGE_BYTES):
            self._on = not self._on
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, CHUNK // 2 if self._on else 1)


class DeadlineBackend(httpcore.SyncBackend):
    """TCP whose every wait ends with the deadline: also while headers trickle in, where no one else looks."""

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
        """More than was asked for, if it is there: httpcore asks for little, and its parser takes any amount."""
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
