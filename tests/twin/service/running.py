"""Programs of ours that run, for tests: started, asked, ended by their id."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

PATIENCE_S = 60
PROGRAM = (sys.executable, "-c", "from twinseal.cli import main; main()")


def program(folder: Path, *words: str) -> subprocess.Popen[str]:
    """`twinseal …` in a folder, with pipes."""
    return subprocess.Popen(
        [*PROGRAM, *words],
        cwd=folder,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
        text=True,
    )


def end(process: subprocess.Popen[str], number: int = signal.SIGTERM) -> int:
    """End a program if it runs, and close its pipes; its exit code."""
    if process.poll() is None:
        process.send_signal(number)
    code = process.wait(PATIENCE_S)
    for stream in (process.stdin, process.stdout, process.stderr):
        assert stream is not None
        with suppress(BrokenPipeError):
            stream.close()
    return code


class Running:
    """A twin that runs, with a pipe to it.

    Args:
        folder: With its `twin.yaml`.
        note: Told of each line that it says, when it comes.
    """

    def __init__(self, folder: Path, note: Callable[[str], None] | None = None) -> None:
        self.process = program(folder, "twin", "run")
        self._lines: queue.Queue[str] = queue.Queue()
        self._note = note or self._lines.put
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for text in self.process.stdout:
            self._note(text)

    def send(self, *lines: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("".join(lines))
        self.process.stdin.flush()

    def messages(self, enough: Callable[[list[dict[str, Any]]], bool]) -> list[dict[str, Any]]:
        """What it says, until there is enough."""
        found: list[dict[str, Any]] = []
        end = time.monotonic() + PATIENCE_S
        while not enough(found):
            try:
                found.append(json.loads(self._lines.get(timeout=max(0.1, end - time.monotonic()))))
            except queue.Empty:
                assert self.process.stderr is not None
                self.process.kill()
                raise AssertionError(f"got {found[-3:]}, and on stderr {self.process.stderr.read()[-2000:]}") from None
        return found

    def answers(self, count: int) -> list[dict[str, Any]]:
        """Its next answers."""
        found = self.messages(lambda items: sum("cycle" in item for item in items) == count)
        return [item for item in found if "cycle" in item]

    def alert(self, about: str) -> dict[str, Any]:
        """Its next alert of this kind."""
        return self.messages(lambda items: bool(items) and items[-1].get("about") == about)[-1]

    def end(self, number: int = signal.SIGTERM) -> int:
        """Its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        self.process.wait(PATIENCE_S)
        self._reader.join()
        return end(self.process)
