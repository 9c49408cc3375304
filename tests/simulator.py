"""A registry over loopback HTTP that misbehaves on demand.

It answers as a stock MLflow server does, from a mirror's folder (see `twinseal.twin.byte_sources`), until it is told
how to misbehave for the paths that contain some text. Other tests use the real `mlflow server` (`server` in
tests/conftest.py); this one exists only because the real one cannot be made to do wrong.
"""

from __future__ import annotations

import gzip
import json
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from urllib.parse import parse_qs, urlsplit

METADATA_RUN = "0123456789abcdef0123456789abcdef"


class Registry:
    """The server. `with Registry(folder) as registry: RestSource(registry.url, "pump-rul")`.

    Attributes:
        misbehave: What to do instead of answering, for the first key that the path contains.
        asked: Every path that was asked for, in order.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.misbehave: dict[str, Behaviour] = {}
        self.asked: list[str] = []
        self.closing = threading.Event()
        handler = type("Handler", (_Handler,), {"registry": self})
        self._server = _Server(("127.0.0.1", 0), handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Registry:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.closing.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Whoever asked has hung up, as they should."""


class _Handler(BaseHTTPRequestHandler):
    registry: Registry
    last = False  # misbehaves, then hangs up
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else each answer, headers first, waits 40 ms for the other side's acknowledgement

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        query = {key: values[0] for key, values in parse_qs(parts.query).items()}
        path = _path(parts.path, query)
        self.registry.asked.append(path)
        behaviour = next((do for key, do in self.registry.misbehave.items() if key in path), None)
        body = _answer(self.registry.folder, path)
        self.last = behaviour is not None
        try:
            if behaviour is not None:
                behaviour(self, body or b"")
            elif body is None:
                self.reply(b'{"error_code": "RESOURCE_DOES_NOT_EXIST"}', status=404)
            else:
                self.reply(body)
        except OSError:
            pass  # whoever asked has hung up, as they should
        self.close_connection |= self.last

    def reply(self, body: bytes, *, status: int = 200, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for key, value in ({"Content-Length": str(len(body))} | (headers or {})).items():
            self.send_header(key, value)
        if self.last:
            self.send_header("Connection", "close")  # or the next to ask might race with our hanging up
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


Behaviour = Callable[[_Handler, bytes], None]


def serve(body: bytes) -> Behaviour:
    """Something else than what was asked for."""
    return lambda handler, _: handler.reply(body)


def status(code: int) -> Behaviour:
    """An error."""
    return lambda handler, _: handler.reply(b"no", status=code)


def flip(handler: _Handler, body: bytes) -> None:
    """One bit of the middle byte."""
    changed = bytearray(body)
    changed[len(body) // 2] ^= 1
    handler.reply(bytes(changed))


def cut(handler: _Handler, body: bytes) -> None:
    """Half of the bytes, honestly announced."""
    handler.reply(body[: len(body) // 2])


def hang_up(handler: _Handler, body: bytes) -> None:
    """Half of the announced bytes, then nothing."""
    handler.reply(body[: len(body) // 2], headers={"Content-Length": str(len(body))})


def endless(handler: _Handler, body: bytes) -> None:
    """The bytes again and again, of no announced length."""
    handler.send_response(200)
    handler.send_header("Connection", "close")
    handler.end_headers()
    while not handler.registry.closing.is_set():
        handler.wfile.write(body or b"x" * 4096)


def trickle(handler: _Handler, body: bytes) -> None:
    """A byte now and then: often enough for every socket's timeout."""
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    _drip(handler, body)


def trickle_headers(handler: _Handler, body: bytes) -> None:
    """Headers that never end, a byte now and then."""
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
    _drip(handler, b"x" * 60_000)


def redirect(to: str) -> Behaviour:
    """Ask someone else."""
    return lambda handler, _: handler.reply(b"", status=302, headers={"Location": to})


def compress(handler: _Handler, body: bytes) -> None:
    """A body that grows when it is unpacked."""
    handler.reply(gzip.compress(body), headers={"Content-Encoding": "gzip"})


def _drip(handler: _Handler, body: bytes) -> None:
    for byte in body:
        if handler.registry.closing.is_set():
            return
        handler.wfile.write(bytes([byte]))
        time.sleep(0.02)


def _path(path: str, query: dict[str, str]) -> str:
    if path == "/get-artifact" and query.get("run_uuid") == METADATA_RUN:
        return query.get("path", "")
    if path.startswith("/ajax-api/2.0/mlflow/logged-models/") and path.endswith("/artifacts/files"):
        return f"candidates/{path.split('/')[5]}/{query.get('artifact_file_path', '')}"
    return path


def _answer(folder: Path, path: str) -> bytes | None:
    if path == "/api/2.0/mlflow/registered-models/get":
        tag = {"key": "twinseal.metadata_run", "value": METADATA_RUN}
        return json.dumps({"registered_model": {"name": "any", "tags": [tag]}}).encode()
    file = folder / path.lstrip("/")
    return file.read_bytes() if file.is_file() else None
