"""Connections: HTTP to one host, with one deadline for all waits, which reads large pieces.

httpcore has a timeout for each wait and none for all waits together, so a server that sends a byte now and then could
hold it for ever. And it reads at most 64 KiB at a time.

Example:
    client = Client("https://host:5000", Deadline(300.0))
    answer = client.ask("https://host:5000/health", "health")
    b"".join(limit_bytes(answer.chunks(100), "health", 100))
"""

from __future__ import annotations

import base64
import socket
import ssl
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import httpcore

from twinseal.errors import DigestMismatchError, RegistryError

SIGN_IN = "Set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD to those of your account on that server."
CHUNK = 1 << 20  # read at most this much at once: fewer calls for each byte
LARGE_BYTES = 8 << 20  # from this size on, a faster route and larger reads are worth their cost
SOCKET_S = 10.0
_FOREIGN = (httpcore.TimeoutException, httpcore.NetworkError, httpcore.ProtocolError, httpcore.UnsupportedProtocol)


class Deadline:
    """A limit in seconds for everything together, counted from the first use.

    Args:
        seconds: How many.
        clock: Seconds that never run backwards.
    """

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds, self._clock = seconds, clock
        self._end: float | None = None

    def restart(self) -> None:
        """Count anew, from the next use."""
        self._end = None

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


class Client:
    """HTTP to one host: no redirects, no compressed bodies, no proxies. Holds connections: close it.

    Args:
        base: The host's address.
        deadline: For all waits.
        authorization: The value of that header; "" for none.
        name: What it is, for messages.
        alive: A path that it answers when it runs; "" for none that is known.
        tls: Which certificates count; None: those of this machine.
    """

    def __init__(
        self,
        base: str,
        deadline: Deadline,
        *,
        authorization: str = "",
        name: str = "registry",
        alive: str = "/health",
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.deadline, self.name, self._alive = deadline, name, alive
        self._headers: dict[bytes | str, bytes | str] = {
            "Host": urlsplit(base).netloc,
            "Accept-Encoding": "identity",
            "User-Agent": "twinseal",
        }
        if authorization:
            self._headers["Authorization"] = authorization
        self.pool = httpcore.ConnectionPool(
            ssl_context=tls or ssl.create_default_context(),
            max_connections=2,
            network_backend=DeadlineBackend(deadline),
        )

    def close(self) -> None:
        """Close the connections."""
        self.pool.close()

    def ask(
        self, url: str, what: str, content: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """The answer, whatever its status: close it, or read its body. JSON as `content` is sent by POST.

        `headers` are sent beside those that a request always has.

        Raises:
            RegistryError: There is none.
        """
        sent, method = dict(self._headers), "GET" if content is None else "POST"
        sent.update(headers or {})
        if content is not None:
            sent |= {"Content-Type": "application/json", "Content-Length": str(len(content))}
        waits = dict.fromkeys(("connect", "read", "write", "pool"), SOCKET_S)
        with self.errors(what):
            request = httpcore.Request(method, url, headers=sent, content=content, extensions={"timeout": waits})
            try:
                response = self.pool.handle_request(request)
            except (httpcore.RemoteProtocolError, httpcore.ReadError):
                if content is not None:
                    raise
                # A connection that was kept, and that the server has closed meanwhile: once more, on a fresh one.
                response = self.pool.handle_request(request)
        return Answer(response, what, self)

    @contextmanager
    def errors(self, what: str) -> Iterator[None]:
        """Map what the network raises to RegistryError: `what` was being asked for."""
        try:
            yield
        except (*_FOREIGN, OSError, ValueError) as error:
            reason = " ".join(str(error).split())[:120] or type(error).__name__
            raise RegistryError(
                f"{what[:80]}: expected an answer of the {self.name}, got none ({reason})",
                remedy="Is the server running, and its address right?"
                + (f" A server answers: curl URL{self._alive}" if self._alive else ""),
            ) from error


class Answer:
    """What a host answered. Made by `Client.ask`.

    Attributes:
        status: Of HTTP.
    """

    def __init__(self, response: httpcore.Response, what: str, client: Client) -> None:
        self._response, self._what, self._client = response, what, client
        self.status = response.status

    def close(self) -> None:
        """Read no more of it."""
        self._response.close()

    def chunks(self, limit: int) -> Iterator[bytes]:
        """The body as it comes; closed at its end, and when it is refused.

        Raises:
            RegistryError: It is compressed; or, while reading, it does not come.
            DigestMismatchError: It is said to be longer than `limit`. How long it is, `limit_bytes` counts.
        """
        headers = {key.lower(): value for key, value in self._response.headers}
        encoding, length = headers.get(b"content-encoding", b"identity"), headers.get(b"content-length", b"0")
        try:
            if encoding.lower() != b"identity":
                raise RegistryError(
                    f"{self._what}: expected plain bytes of the {self._client.name}, got encoding {encoding[:20]!r}"
                )
            if not length.isdigit() or int(length[:20]) > limit:
                raise DigestMismatchError(
                    f"{self._what}: expected at most {limit} bytes, got a length of {length[:20]!r}"
                )
        except BaseException:
            self.close()
            raise
        return self._chunks()

    def _chunks(self) -> Iterator[bytes]:
        try:
            with self._client.errors(self._what):
                gathering = ReceiveBatching(self._response)
                for chunk in self._response.iter_stream():
                    gathering.count_bytes(len(chunk))
                    yield chunk
        finally:
            self.close()


def limit_bytes(chunks: Iterator[bytes], path: str, limit: int) -> Iterator[bytes]:
    """`chunks`, as long as they come to no more than `limit` bytes.

    Raises:
        DigestMismatchError: They come to more; the surplus was not handed on.
    """
    total = 0
    for chunk in chunks:
        total += len(chunk)
        if total > limit:
            raise DigestMismatchError(f"{path}: expected at most {limit} bytes, got more")
        yield chunk


def basic(user: str, password: str) -> str:
    """The header Authorization for a name and a password."""
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
