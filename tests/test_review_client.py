"""A reviewer's machine and a server that does wrong, over loopback HTTP: what it may cost, and how long it may last."""

from __future__ import annotations

import hashlib
import json
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.twin.deployment import MODEL
from twinseal import review_client
from twinseal.errors import DigestMismatchError, RegistryError, TwinsealError
from twinseal.files import FileRecord
from twinseal.review_client import ReviewServer
from twinseal.trust.release.release import Release

CANDIDATE = f"m-{'a' * 32}"
BIG = 48 << 20
ZEROS = bytes(1 << 20)
Says = Callable[[BaseHTTPRequestHandler], None]


@contextmanager
def answering(says: Says) -> Iterator[str]:
    """A server that says this; its address."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            try:
                says(self)
            except OSError:
                self.close_connection = True  # whoever asked has hung up

        def log_message(self, *_words: object) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture(autouse=True)
def account(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "alice")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "p")


def whole(request: BaseHTTPRequestHandler, body: bytes, status: int = 200) -> None:
    request.send_response(status)
    request.send_header("Content-Length", str(len(body)))
    request.end_headers()
    request.wfile.write(body)


def release(*files: FileRecord, name: str = CANDIDATE) -> Release:
    """One with these files of a model; the others have one byte."""
    one = hashlib.sha256(b"x").hexdigest()
    others = (FileRecord("evidence/assess.dsse.json", 1, one), FileRecord("model.sig.json", 1, one))
    return Release(MODEL, 1, (*others, *files), one, "0" * 64, name)


def with_files(found: Release, send: Callable[[BaseHTTPRequestHandler, str], None]) -> Says:
    def says(request: BaseHTTPRequestHandler) -> None:
        if "/files/" in request.path:
            send(request, request.path.rpartition("/files/")[2])
        else:
            described = {"release_json": found.to_bytes().decode(), "role_json": "{}", "reviews": {}}
            whole(request, json.dumps(described).encode())

    return says


def in_pieces(request: BaseHTTPRequestHandler, pieces: int) -> None:
    """Chunked: without a length."""
    request.send_response(200)
    request.send_header("Transfer-Encoding", "chunked")
    request.end_headers()
    for _ in range(pieces):
        request.wfile.write(b"100000\r\n" + ZEROS + b"\r\n")
    request.wfile.write(b"0\r\n\r\n")


def test_reviewer_reads_longer_than_a_request_may_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(review_client, "LIMIT_S", 0.5)
    with answering(lambda request: whole(request, b"[]")) as url, ReviewServer(url) as server:
        assert () == server.waiting()
        time.sleep(0.7)
        assert () == server.waiting()


@pytest.mark.attack("S")
def test_answer_that_never_ends_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server sends a byte now and then, so that no single wait is long."""
    monkeypatch.setattr(review_client, "LIMIT_S", 0.5)
    closing = threading.Event()

    def drip(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.send_header("Content-Length", "1000")
        request.end_headers()
        while not closing.wait(0.05):
            request.wfile.write(b" ")

    with answering(drip) as url, ReviewServer(url) as server:
        started = time.monotonic()
        with pytest.raises(RegistryError, match="expected everything within 0.5 s"):
            server.waiting()
        assert time.monotonic() - started < 5
        closing.set()


@pytest.mark.attack("S")
@pytest.mark.parametrize("pieces", [BIG >> 20, (BIG >> 20) + 1])
def test_file_as_long_as_the_server_likes_stays_out_of_memory(tmp_path: Path, pieces: int) -> None:
    """A server lists a file of gigabytes, and sends it, or more than it."""

    def send(request: BaseHTTPRequestHandler, path: str) -> None:
        in_pieces(request, pieces) if path.startswith("model/") else whole(request, b"x")

    big = FileRecord("model/big.safetensors", BIG, hashlib.sha256(ZEROS * (BIG >> 20)).hexdigest())
    tracemalloc.start()
    try:
        with answering(with_files(release(big), send)) as url, ReviewServer(url) as server:
            if pieces << 20 == BIG:
                assert BIG == (server.fetch(CANDIDATE, tmp_path).bundle / big.path).stat().st_size
            else:
                with pytest.raises(DigestMismatchError, match="expected at most") as refusal:
                    server.fetch(CANDIDATE, tmp_path)
                assert "tell the registrar" in refusal.value.remedy
        assert tracemalloc.get_traced_memory()[1] < BIG / 3
    finally:
        tracemalloc.stop()


@pytest.mark.attack("S")
def test_candidate_for_which_there_is_no_room_is_not_fetched(tmp_path: Path) -> None:
    """A server lists files that would fill the reviewer's disk."""
    asked, huge = list[str](), (FileRecord(f"model/{number:04d}", 8 << 30, "0" * 64) for number in range(4000))
    says = with_files(release(*huge), lambda _request, path: asked.append(path))
    with (
        answering(says) as url,
        ReviewServer(url) as server,
        pytest.raises(RegistryError, match="for which there is room"),
    ):
        server.fetch(CANDIDATE, tmp_path)
    assert ([], []) == (asked, list(tmp_path.iterdir()))


@pytest.mark.attack("S")
@pytest.mark.parametrize("status", [200, 403, 500])
def test_answer_longer_than_one_may_be(status: int) -> None:
    """A server answers a question, or refuses it, with gigabytes; or with what takes a parser all of its stack."""

    def endless(request: BaseHTTPRequestHandler) -> None:
        request.send_response(status)
        request.send_header("Connection", "close")
        request.end_headers()
        for _ in range(64):
            request.wfile.write(ZEROS)

    for says, message in (
        (endless, "expected at most"),
        (lambda request: whole(request, b"[" * 60_000, status), "expected JSON, got|the server refused: HTTP"),
    ):
        with answering(says) as url, ReviewServer(url) as server, pytest.raises(TwinsealError, match=message):
            server.waiting()


@pytest.mark.attack("S")
def test_another_candidate_than_the_one_asked_for(tmp_path: Path) -> None:
    """A server answers with the release of another candidate."""
    other = release(FileRecord("model/a", 1, "0" * 64), name=f"m-{'b' * 32}")
    says = with_files(other, lambda request, _path: whole(request, b"x"))
    with (
        answering(says) as url,
        ReviewServer(url) as server,
        pytest.raises(RegistryError, match="expected its release, got that of m-bbb"),
    ):
        server.fetch(CANDIDATE, tmp_path)
