"""Ends a process as kill -9 does, with all of its group, right before the n-th step that it takes on a home's files.

A step: a file opened for writing, flushed to the disk, renamed, linked, cut or removed; a folder made; a transaction
of the database committed. Steps are seen by Python's audit events, so nothing in the product knows of this.

The file is a module of the tests, and, copied as `sitecustomize.py` into a folder on the PYTHONPATH, part of a server:
it watches once the file that $FAULT_ARMED names is there, and kills at the number that is in it.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
_EVENTS = ("os.rename", "os.link", "os.remove", "os.truncate", "os.mkdir")


class Watch:
    """Counts steps, and kills.

    Args:
        home: Only what is below it counts; but for locks, which hold no content, and the access log.
        kill_at: The number of the step that is not taken any more; 0: none.

    Attributes:
        steps: What was done, in words.
    """

    def __init__(self, home: str, kill_at: int = 0) -> None:
        self.home, self.kill_at, self.steps = home, kill_at, list[str]()

    def start(self) -> None:
        """Watch from now on, for as long as the process lives."""
        fsync = os.fsync

        def watched(descriptor: int) -> None:
            self.step("fsync", f"/proc/self/fd/{descriptor}")
            fsync(descriptor)

        os.fsync = watched  # type: ignore[assignment]  # it has no audit event
        sys.addaudithook(self.hear)

    def hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Of Python: what is about to be done."""
        if event == "open" and isinstance(arguments[2], int) and arguments[2] & _WRITING:
            self.step("open", arguments[0])
        elif event in _EVENTS and not (event == "os.mkdir" and os.path.isdir(arguments[0])):  # noqa: PTH112
            self.step(event, arguments[0])

    def step(self, what: str, place: Any) -> None:
        """A step, if it is one of the home's."""
        path = os.path.realpath(place) if what == "fsync" else str(place)
        if path.startswith(self.home) and not path.endswith(("lock", "access.log")):
            self.count(f"{what} {path[len(self.home) :]}")

    def count(self, words: str) -> None:
        """One more; the last one when it is the one to kill at."""
        self.steps.append(words)
        if len(self.steps) == self.kill_at:
            os.killpg(os.getpgid(0), signal.SIGKILL)


def _arm_when_told(armed: str) -> None:
    """Ask whether to watch before each step: a server is started long before the request that is to be interrupted."""
    watch: list[Watch] = []

    def hear(event: str, arguments: tuple[Any, ...]) -> None:
        if not watch and event == "open" and "/approvals/" in str(arguments[0]) and os.path.exists(armed):  # noqa: PTH110
            watch.append(Watch(os.environ["TWINSEAL_HOME"]))
            with open(armed) as stream:  # noqa: PTH123
                watch[0].kill_at = int(stream.read())
            watch[0].start()

    sys.addaudithook(hear)


if os.environ.get("FAULT_ARMED"):
    _arm_when_told(os.environ["FAULT_ARMED"])
