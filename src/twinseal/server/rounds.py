"""Rounds: what the workers do again and again in the background, and no two at once.

Example:
    Round("registrar", home.path / "mlflow/registrar.lock", 30.0, registrar.one_round).start()
"""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import structlog

log = structlog.get_logger(__name__)


class Round:
    """Calls `work` in a thread of its own, until it is stopped.

    Args:
        name: For the log.
        lock: The file that only the worker whose turn it is holds.
        every_s: How long to wait in between.
        work: What is done; it is given the time. What it raises is logged: the next round may do better.
    """

    def __init__(self, name: str, lock: Path, every_s: float, work: Callable[[datetime], None]) -> None:
        self._name, self._lock, self._every_s, self._work = name, lock, every_s, work
        self._wake, self._ended = threading.Event(), False

    def start(self) -> None:
        """Begin, at once: the server before this one may have been killed."""
        self._wake.set()
        threading.Thread(target=self._go_round, name=self._name, daemon=True).start()

    def hurry(self) -> None:
        """There is something to do: do not wait for the next round."""
        self._wake.set()

    def stop(self) -> None:
        """No further round."""
        self._ended = True
        self._wake.set()

    def _go_round(self) -> None:
        while not self._ended:
            self._wake.wait(self._every_s)
            self._wake.clear()
            if not self._ended:
                self._once()

    def _once(self) -> None:
        try:
            with locked(self._lock, wait=False) as is_alone:
                if is_alone:
                    self._work(datetime.now(UTC))
        except Exception as error:  # the server goes on
            log.warning(f"{self._name}.failed", error=f"{type(error).__name__}: {error}")


@contextmanager
def locked(path: Path, *, wait: bool) -> Iterator[bool]:
    """Hold the file at `path` for the length of the block; whether it is held: without `wait`, another may have it.

    Raises:
        OSError: The file cannot be made.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
            return
        yield True
    finally:
        os.close(descriptor)  # and with it the lock
