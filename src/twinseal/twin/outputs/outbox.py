"""The outbox of one webhook: alerts on the disk until their receiver has them, also over a kill or a loss of power.

    <folder>/<number>-<severity>-<id>.json     {"alert": …, "since": "…"}

At most so many wait. When there are more, the oldest of the least severity are given up, and counted. A file that is no
alert is left where it is, and said.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Container
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from twinseal.digests import canonical_json, parse_json
from twinseal.errors import EvidenceError
from twinseal.files import sync_folder, write_whole
from twinseal.reading import read_regular
from twinseal.twin.outputs.alert import SEVERITIES, Alert

MAX_BYTES = 64 << 10
_NAME = re.compile(r"(?P<number>[0-9]{12})-(?P<rank>[0-2])-(?P<id>msg_[0-9a-f]{32})\.json\Z")


@dataclass(frozen=True)
class Letter:
    """An alert that waits.

    Attributes:
        alert: What is sent.
        since: When it was put here.
    """

    alert: Alert
    since: datetime


class Outbox:
    """A folder of alerts; of one program at a time, and of any of its threads.

    Args:
        folder: Made if it is not there.
        most: How many wait, at most.
        unreadable: Told of files that are no alert, by name.

    Raises:
        OSError: The folder cannot be made or read.
    """

    def __init__(self, folder: Path, most: int, unreadable: Callable[[str], None]) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._folder, self._most, self._unreadable = folder, most, unreadable
        self._waiting: dict[str, str] = {}  # the names of files by the ids of alerts, in order
        self._lock = threading.Lock()
        for path in sorted(folder.iterdir()):
            named = _NAME.match(path.name)
            if path.name.startswith("."):
                path.unlink()  # what a kill left of a file that was being written
            elif named is not None:
                self._waiting[named["id"]] = path.name
            else:
                unreadable(path.name)
        self._last = max((int(name[:12]) for name in self._waiting.values()), default=0)

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, alert: Alert, now: datetime) -> int:
        """Keep an alert, on the disk when this returns; how many others had to be given up. Again: nothing.

        Raises:
            OSError: It cannot be written.
        """
        with self._lock:
            if alert.id in self._waiting:
                return 0
            name = f"{self._last + 1:012d}-{SEVERITIES.index(alert.severity)}-{alert.id}.json"
            value = {"alert": alert.to_dict(), "since": now.isoformat()}
            write_whole(self._folder / name, canonical_json(value), mode=0o600)
            sync_folder(self._folder)
            self._last += 1
            self._waiting[alert.id] = name
            surplus = max(0, len(self._waiting) - self._most)
            if surplus:
                least = sorted(self._waiting, key=lambda item: (self._waiting[item][13], self._waiting[item]))
                for given_up in least[:surplus]:
                    self._remove(given_up)
            return surplus

    def first(self, but: Container[str] = ()) -> Letter | None:
        """The oldest that waits, but those of these ids; None if none does."""
        with self._lock:
            for number, name in list(self._waiting.items()):
                if number in but:
                    continue
                try:
                    value = parse_json(read_regular(self._folder / name, MAX_BYTES), name, limit=MAX_BYTES)
                    letter = Letter(Alert.from_dict(value["alert"]), datetime.fromisoformat(value["since"]))
                    if letter.alert.id != number or letter.since.tzinfo is None:
                        raise ValueError("another alert than its name says")
                    return letter
                except (OSError, ValueError, KeyError, TypeError, EvidenceError):
                    del self._waiting[number]
                    self._unreadable(name)
        return None

    def remove(self, letter: Letter) -> None:
        """Forget it: its receiver has it, or it is given up.

        Raises:
            OSError: It cannot be removed.
        """
        with self._lock:
            self._remove(letter.alert.id)

    def _remove(self, number: str) -> None:
        name = self._waiting.get(number)
        if name is not None:
            (self._folder / name).unlink(missing_ok=True)
            del self._waiting[number]
