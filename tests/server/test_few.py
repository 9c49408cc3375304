"""Few at a time, over a real uvicorn: slow senders and slow readers have no turn; nobody sends more than a review."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from twinseal.server.few import AT_A_TIME, MAX_BODY_BYTES, UNDER_WAY, Few

REVIEWS = "/api/twinseal/v1/reviews"
BIG = 32 << 20


@contextmanager
def serving(patience_s: float) -> Iterator[int]:
    """A server of a few pages behind it; its port."""

    async def echo(request: Request) -> Response:
        return PlainTextResponse(f"{len(await request.body())}")

    routes = [Route(REVIEWS, echo, methods=["GET", "POST"]), Route("/twinseal/review", lambda _: Response(bytes(BIG)))]
    place = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(Few(Starlette(routes=routes), patience_s), log_level="critical"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [place]})
    thread.start()
    try:
        yield place.getsockname()[1]
    finally:
        server.should_exit = server.force_exit = True
        thread.join()
        place.close()


def opened(port: int, sent: bytes) -> socket.socket:
    found = socket.create_connection(("127.0.0.1", port), timeout=10)
    found.sendall(sent)
    return found


def post(length: int) -> bytes:
    return f"POST {REVIEWS} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n".encode()


def answer(connection: socket.socket) -> tuple[int, bytes]:
    with connection, connection.makefile("rb") as stream:
        status = int(stream.readline().split()[1])
        headers = dict(line.lower().split(b": ") for line in iter(stream.readline, b"\r\n"))
        return status, stream.read(int(headers[b"content-length"]))


@pytest.mark.attack("S")
def test_who_sends_nothing_keeps_nobody_waiting() -> None:
    """A reader opens requests and sends no body: they had all turns of a worker."""
    with serving(3.0) as port, ExitStack() as stack:
        slow = [stack.enter_context(opened(port, post(9))) for _ in range(AT_A_TIME)]
        started = time.monotonic()
        assert (200, b"0") == answer(opened(port, f"GET {REVIEWS} HTTP/1.1\r\nHost: x\r\n\r\n".encode()))
        assert (200, b"4") == answer(opened(port, post(4) + b"body"))
        assert time.monotonic() - started < 2
        status, said = answer(slow[0])
        assert (408, "body: expected all of it within 3 s, got less") == (status, json.loads(said)["message"])


@pytest.mark.attack("S")
def test_who_reads_nothing_keeps_nobody_waiting() -> None:
    """A reader asks for two pages at once on each of some connections, and takes none of the answers."""
    page = b"GET /twinseal/review HTTP/1.1\r\nHost: x\r\n\r\n"
    with serving(9.0) as port, ExitStack() as stack:
        for _ in range(AT_A_TIME):
            stack.enter_context(opened(port, page * 2))
        time.sleep(0.5)
        assert (200, b"4") == answer(opened(port, post(4) + b"body"))


@pytest.mark.attack("S")
def test_nobody_sends_more_than_a_review() -> None:
    """A reader sends megabytes where a signed review is expected, or many at the same time."""
    with serving(9.0) as port, ExitStack() as stack:
        many = post(MAX_BODY_BYTES + 1) + bytes(MAX_BODY_BYTES + 1)
        assert 413 == answer(opened(port, many))[0]
        assert (200, b"%d" % MAX_BODY_BYTES) == answer(opened(port, post(MAX_BODY_BYTES) + bytes(MAX_BODY_BYTES)))
        for _ in range(UNDER_WAY):
            stack.enter_context(opened(port, post(9)))
        time.sleep(0.5)
        assert 429 == answer(opened(port, post(9)))[0]
