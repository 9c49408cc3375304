"""The real thing: Debian's mosquitto with the configuration that ships, on a loopback port, with a test authority."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import trustme

from tests.mlflow_server import free_port

SHIPPED = Path(__file__).parents[1] / "deploy/mosquitto"
PROGRAM = shutil.which("mosquitto", path=f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin")
PATIENCE_S = 20.0

needs_mosquitto = pytest.mark.skipif(PROGRAM is None, reason="expected mosquitto: apt-get install mosquitto")


@dataclass(frozen=True)
class Certificate:
    """The files of one who may connect, as `BrokerSettings` names them."""

    ca: str
    certificate: str
    key: str

    def as_settings(self) -> dict[str, str]:
        return {"ca": self.ca, "certificate": self.certificate, "key": self.key}


@dataclass
class Mosquitto:
    """A broker in a folder of its own; `stop` and `start` keep what it has stored."""

    folder: Path
    more: str = ""  # lines of configuration
    plain: bool = False  # no TLS, anybody: where a test is about something else
    port: int = field(default_factory=free_port)
    _process: subprocess.Popen[bytes] | None = None
    _authority: trustme.CA = field(default_factory=trustme.CA)

    def __post_init__(self) -> None:
        for name in ("twinseal", "stored"):
            (self.folder / name).mkdir(parents=True)
        self._authority.cert_pem.write_to_path(str(self.folder / "twinseal/ca.pem"))
        self._write("broker", "127.0.0.1")
        shutil.copy(SHIPPED / "twinseal.acl", self.folder / "twinseal")
        (self.folder / "broker.conf").write_text(self._configuration())

    def _configuration(self) -> str:
        user = f"user {pwd.getpwuid(os.getuid()).pw_name}\n"
        if self.plain:
            loose = "allow_anonymous true\nmax_inflight_messages 0\nmax_queued_messages 0\npersistence true\n"
            text = f"listener 8883\n{loose}persistence_location /var/lib/mosquitto/\n"
        else:
            text = (SHIPPED / "twinseal.conf").read_text()
        for old, new in (
            ("listener 8883", f"listener {self.port} 127.0.0.1"),
            ("/etc/mosquitto/twinseal/", f"{self.folder}/twinseal/"),
            ("/var/lib/mosquitto/", f"{self.folder}/stored/"),
        ):
            assert self.plain or old in text
            text = text.replace(old, new)
        return f"{user}{text}{self.more}\n"

    def certificate(self, name: str) -> Certificate:
        """A certificate with this common name, by the authority that the broker knows."""
        if not (self.folder / f"twinseal/{name}.pem").exists():
            self._write(name, f"{name}.test", name)
        return Certificate(*(f"{self.folder}/twinseal/{file}" for file in ("ca.pem", f"{name}.pem", f"{name}.key")))

    def _write(self, file: str, host: str, name: str | None = None) -> None:
        folder = self.folder / "twinseal"
        issued = self._authority.issue_cert(host, common_name=name)
        issued.private_key_pem.write_to_path(str(folder / f"{file}.key"))
        for blob in issued.cert_chain_pems:
            blob.write_to_path(str(folder / f"{file}.pem"), append=True)

    def settings(self, name: str = "twin", **more: object) -> dict[str, object]:
        """The section `broker` for a program with this name."""
        base: dict[str, object] = {"host": "127.0.0.1", "port": self.port, "client_id": name}
        base |= {"plain_on_loopback": True} if self.plain else self.certificate(name).as_settings()
        return base | more

    def context(self, name: str) -> ssl.SSLContext:
        """TLS for a client with this name."""
        files = self.certificate(name)
        context = ssl.create_default_context(cafile=files.ca)
        context.load_cert_chain(files.certificate, files.key)
        return context

    def start(self) -> None:
        """Start it, and wait until it answers."""
        assert PROGRAM is not None
        with (self.folder / "broker.log").open("ab") as log:
            words = [PROGRAM, "-c", str(self.folder / "broker.conf"), "-v"]
            self._process = subprocess.Popen(words, stdout=log, stderr=log)
        end = time.monotonic() + PATIENCE_S
        while time.monotonic() < end:
            assert self._process.poll() is None, self.log()[-2000:]
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                time.sleep(0.02)
        raise AssertionError(f"mosquitto did not answer: {self.log()[-2000:]}")

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        """Stop it, by its id."""
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(timeout=PATIENCE_S)
            self._process = None

    def log(self) -> str:
        """What it has written."""
        return (self.folder / "broker.log").read_text()


@contextmanager
def broker(folder: Path, more: str = "", *, plain: bool = False) -> Iterator[Mosquitto]:
    """A broker that runs until the end of the block."""
    running = Mosquitto(folder, more, plain)
    running.start()
    try:
        yield running
    finally:
        running.stop()
