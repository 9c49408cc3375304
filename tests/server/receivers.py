"""Receivers of notices on loopback, all real: an HTTP server and a mail server, which misbehave on demand."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, LoginPassword


@dataclass
class Received:
    """One request.

    Attributes:
        path: Asked for.
        headers: By lower-case name.
        body: All of it.
        answered: With which status.
    """

    path: str
    headers: dict[str, str]
    body: bytes
    answered: int

    @property
    def value(self) -> Any:
        return json.loads(self.body)


@dataclass
class Receiver:
    """An HTTP server.

    Attributes:
        port: On 127.0.0.1.
        statuses: What the next requests are answered with; then 204.
        delay_s: How long it takes.
        got: Every request.
    """

    port: int
    statuses: list[int] = field(default_factory=list)
    delay_s: float = 0.0
    got: list[Received] = field(default_factory=list)

    def taken(self, path: str = "/hook") -> list[Any]:
        """The bodies of what was answered with 2xx."""
        return [item.value for item in self.got if item.path == path and item.answered < 300]

    def url(self, path: str = "/hook") -> str:
        return f"http://127.0.0.1:{self.port}{path}"


@contextmanager
def receiving(port: int = 0, tls: ssl.SSLContext | None = None) -> Iterator[Receiver]:
    """A receiver, ended with the block; over TLS if it is given a certificate."""
    receiver = Receiver(port)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            time.sleep(receiver.delay_s)
            status = receiver.statuses.pop(0) if receiver.statuses else 204
            headers = {name.lower(): value for name, value in self.headers.items()}
            receiver.got.append(Received(self.path, headers, body, status))
            self.send_response(status)
            if 300 <= status < 400:
                self.send_header("Location", f"http://127.0.0.1:{receiver.port}/elsewhere")
            self.end_headers()

        def log_message(self, *_words: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    server.handle_error = lambda *_about: None  # type: ignore[method-assign]  # a client that did not wait
    receiver.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield receiver
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@dataclass
class Mailbox:
    """A mail server.

    Attributes:
        port: On 127.0.0.1.
        mails: What it took.
        raw: The same as bytes.
        refusals: What the next mails are answered with.
    """

    port: int
    mails: list[EmailMessage] = field(default_factory=list)
    raw: list[bytes] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:  # noqa: N802 - aiosmtpd calls it
        if self.refusals:
            return self.refusals.pop(0)
        self.raw.append(envelope.content)
        mail = message_from_bytes(envelope.content, policy=policy.default)
        assert isinstance(mail, EmailMessage)
        self.mails.append(mail)
        return "250 OK"


@contextmanager
def mailbox(tls: ssl.SSLContext | None = None, password: str = "") -> Iterator[Mailbox]:
    """A mail server, with STARTTLS when it is given a certificate, and a password when one is given."""
    box = Mailbox(free_port())

    def check(_server: Any, _session: Any, _envelope: Any, _mechanism: str, data: LoginPassword) -> AuthResult:
        return AuthResult(success=data.password == password.encode(), handled=False)

    how: dict[str, Any] = {"tls_context": tls, "require_starttls": True} if tls else {}
    how |= {"authenticator": check, "auth_required": True} if password else {}
    controller = Controller(box, hostname="127.0.0.1", port=box.port, **how)
    controller.start()
    try:
        yield box
    finally:
        controller.stop()


def new_secret(path: Path) -> bytes:
    """A secret file; the key in it."""
    key = secrets.token_bytes(32)
    path.write_text(f"whsec_{base64.b64encode(key).decode()}\n")
    path.chmod(0o600)
    return key


def is_signed(item: Received, key: bytes) -> bool:
    """As the Standard Webhooks specification says, written a second time."""
    about = f"{item.headers['webhook-id']}.{item.headers['webhook-timestamp']}.".encode() + item.body
    expected = "v1," + base64.b64encode(hmac.digest(key, about, hashlib.sha256)).decode()
    fresh = abs(time.time() - int(item.headers["webhook-timestamp"])) < 300
    return fresh and hmac.compare_digest(expected, item.headers["webhook-signature"])


def until(condition: Callable[[], Any], patience_s: float = 40.0) -> Any:
    """Wait until a condition holds; its value."""
    end = time.monotonic() + patience_s
    while time.monotonic() < end:
        found = condition()
        if found:
            return found
        time.sleep(0.05)
    return condition()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
