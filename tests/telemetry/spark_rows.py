"""What workers of Spark are given in the tests: tasks that end badly. Workers import it, so it imports little."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from twinseal.errors import DataError
from twinseal.telemetry.contract import Contract


@dataclass(frozen=True)
class Rows:
    """One row for each block; and on the way there what `what` says, in a worker only."""

    contract: Contract
    what: str
    mark: Path
    caller: int

    def rows(self, _fleet: Any, block: Any) -> dict[str, Any]:
        """The row of a block."""
        if os.getpid() != self.caller:
            self._happen(block.number)
        return {"block": np.full(1, block.number, dtype=np.int32)}

    def _happen(self, number: int) -> None:
        if self.what == "die once" and number == 1 and not self.mark.exists():
            self.mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        if self.what == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.what == "kill the executor once" and number == 1 and not self.mark.exists():
            self.mark.touch()
            os.kill(os.getppid() if "java" in _name(os.getppid()) else _parent(os.getppid()), signal.SIGKILL)
        if self.what == "wait":
            self.mark.touch()
            time.sleep(60)
        if self.what == "refuse":
            raise DataError("block: expected a fleet, got none", remedy="Bring one.")
        if self.what == "fail":
            raise KeyError("internals")


def _name(pid: int) -> str:
    return Path(f"/proc/{pid}/comm").read_text()


def _parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
