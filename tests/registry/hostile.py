"""A hostile MLflow: a real `mlflow server` behind a proxy that rewrites its answers, and hosts that only listen.

Everything that any of them receives is kept, so that a test can say where files and credentials went.
"""

from __future__ import annotations

import http.client
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple
from urllib.parse import urlsplit


class Received(NamedTuple):
    """One request: its method and path, and its Authorization header, "" for none."""

    method: str
    path: str
    authorization: str


class Host:
    """An HTTP server on a loopback port. It answers 200 and nothing, and keeps what it was asked."""

    def __init__(self) -> None:
        self.received: list[Received] = []
        host = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True  # headers and body are two packets: the second would wait 40 ms

            def answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                host.received.append(Received(self.command, self.path, self.headers.get("Authorization", "")))
                status, headers, data = host.reply(self.command, self.path, dict(self.headers), body)
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = answer  # noqa: N815 - the names of http.server

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    def reply(
        self, _method: str, _path: str, _headers: dict[str, str], _body: bytes
    ) -> tuple[int, dict[str, str], bytes]:
        return 200, {}, b"{}"

    def __enter__(self) -> Any:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


class Proxy(Host):
    """What stands before a real server.

    Args:
        server: Address of the real server.
    """

    def __init__(self, server: str) -> None:
        super().__init__()
        self._behind = urlsplit(server).netloc
        self.rewrite: Callable[[str, bytes], bytes] = lambda _path, answer: answer
        self.redirect: Callable[[str, str], str] = lambda _method, _path: ""

    def reply(self, method: str, path: str, headers: dict[str, str], body: bytes) -> tuple[int, dict[str, str], bytes]:
        if there := self.redirect(method, path):
            return 307, {"Location": there}, b""
        connection = http.client.HTTPConnection(self._behind, timeout=60)
        passed = {name: value for name, value in headers.items() if name.lower() in ("content-type", "accept")}
        connection.request(method, path, body, passed)
        answer = connection.getresponse()
        data = self.rewrite(path, answer.read())
        connection.close()
        return answer.status, {"Content-Type": answer.headers.get("Content-Type", "text/plain")}, data
