"""Runs the commands of the story, shows them, and keeps MLflow's server for as long as it lasts."""

from __future__ import annotations

import os
import shlex
import signal
import socket
import subprocess
import time
import urllib.request
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from rich.console import Console
from rich.markup import escape

from twinseal.trust.root.checkout import Checkout
from twinseal.trust.root.home import Home

console = Console(highlight=False, soft_wrap=True, record=True)
HOME = Path(os.environ.get("TWINSEAL_HOME") or Home.of(Checkout.here()).path).absolute()
TRANSCRIPT = HOME / "demo.txt"


class StoryError(Exception):
    """A step did not end as the story says."""


def say(text: str) -> None:
    """One line of the story, for people."""
    console.print(text)


def act(title: str) -> None:
    """A new chapter."""
    console.print(f"\n[bold]── {title} [/]" + "─" * max(2, 100 - len(title)))


def write_transcript() -> None:
    """Keep all that was shown, as plain text: `python -m demo.readme` quotes it."""
    TRANSCRIPT.write_text(console.export_text())


def run(command: str, *, expect: tuple[int, ...] = (0,), quiet: bool = False) -> str:
    """Run a command as a person would, showing it and what it prints as it prints it; $TWINSEAL_HOME in it is the home.

    Commands with ` | ` between them are a pipeline, which fails as its last command that fails.

    Returns:
        What it printed, both streams.

    Raises:
        StoryError: Its exit code is none of `expect`.
    """
    console.print(f"[cyan]$ {escape(command)}[/]")
    lines = []
    with subprocess.Popen(
        _words(command),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=_environment(),
    ) as process:
        for line in process.stdout or ():
            lines.append(line)
            if not quiet:
                console.print(f"  {line.rstrip()}", markup=False)
    if process.returncode not in expect:
        shown = "".join(lines[-20:]) if quiet else ""
        wanted = " or ".join(map(str, expect))
        raise StoryError(f"{shown}`{command}` ended with {process.returncode}, expected {wanted}")
    return "".join(lines)


def _words(command: str) -> list[str]:
    if " | " in command:
        return ["bash", "-o", "pipefail", "-c", command.replace("$TWINSEAL_HOME", shlex.quote(str(HOME)))]
    return [word.replace("$TWINSEAL_HOME", str(HOME)) for word in shlex.split(command)]


def _environment() -> dict[str, str]:
    return os.environ | {
        "DVC_NO_ANALYTICS": "1",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "GX_ANALYTICS_ENABLED": "false",
        "PYTHONUNBUFFERED": "1",
    }


def free_port(wanted: int = 0) -> int:
    """The port of the loopback, or any other where a program has it already.

    Raises:
        StoryError: None is free.
    """
    for port in (wanted, 0):
        with suppress(OSError), socket.create_server(("127.0.0.1", port)) as probe:
            return int(probe.getsockname()[1])
    raise StoryError("no port is free")


class Server:
    """`mlflow server` over the local store, on a free port of the loopback, for the length of a with-block.

    It takes ten seconds to start: `address` waits for it, and says so, when it is needed.
    """

    def __enter__(self) -> Server:
        self._port = free_port()
        command = server_command(self._port)
        self._log = (HOME / "mlflow" / "server.log").open("w")
        self._process = subprocess.Popen(
            shlex.split(command),
            stdout=self._log,
            stderr=subprocess.STDOUT,
            env=_environment() | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
            start_new_session=True,
        )
        return self

    def address(self) -> str:
        """Where it answers, once it does.

        Raises:
            StoryError: It did not start.
        """
        act("MLflow's server has started; from here on it is the attacker's")
        console.print(f"[cyan]$ {server_command(self._port)}[/]")
        url = f"http://127.0.0.1:{self._port}"
        self._wait(f"{url}/health")
        return url

    def _wait(self, health: str) -> None:
        for _ in range(240):
            if self._process.poll() is not None:
                break
            try:
                with urllib.request.urlopen(health, timeout=1) as answer:  # noqa: S310 - our own loopback server
                    if answer.status == 200:
                        return
            except OSError:
                time.sleep(0.25)
        self.__exit__(None, None, None)
        raise StoryError(f"MLflow's server did not start; it says why in {self._log.name}")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            os.killpg(self._process.pid, signal.SIGTERM)
            self._process.wait(timeout=15)
        except ProcessLookupError:
            pass  # it had ended by itself
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
        self._log.close()


def server_command(port: int) -> str:
    """How to serve the local store: also what the reader is told to type for the UI."""
    return (
        f"mlflow server --host 127.0.0.1 --port {port} --workers 1"
        f" --backend-store-uri sqlite:///{HOME}/mlflow/mlflow.db --artifacts-destination {HOME}/mlflow/served"
    )
