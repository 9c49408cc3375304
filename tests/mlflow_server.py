"""The real thing: `mlflow server` over a home's default store, on a loopback port, one for a whole test session."""

from __future__ import annotations

import os
import signal
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.warm import Program, shared
from twinseal.registry.store import server_command

PATIENCE_S = 90.0


@contextmanager
def serving(home: Path) -> Iterator[str]:
    """The address of a server over the default store of the deployment at `home`; ended by its id."""
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    settings = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    words = server_command(home, port=port)
    # In a group of its own: the command starts uvicorn, in a new interpreter, which must end with it.
    with (home / "server.log").open("wb") as log:
        process = shared().start(*words, cwd=home, env=os.environ | settings, stdout=log, stderr=log)
    try:
        _wait(process, address, home / "server.log")
        yield address
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(timeout=20)


def _wait(process: Program, address: str, log: Path) -> None:
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        if process.poll() is not None:
            raise RuntimeError(f"mlflow server ended with {process.returncode}: {log.read_text()[-2000:]}")
        try:
            with urllib.request.urlopen(f"{address}/health", timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    raise RuntimeError(f"mlflow server did not answer within {PATIENCE_S} s: {log.read_text()[-2000:]}")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
