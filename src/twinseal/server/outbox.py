"""The outbox: notices on the disk until their receivers have them.

    <home>/mlflow/notices/waiting/<number>-<id>.<channel>.json   one notice for one receiver
    <home>/mlflow/notices/failed/                                what was given up; moved back, it is tried again
    <home>/mlflow/notices/counts.json                            how many were sent, and given up

A receiver that fails is asked again after 5 s, half a minute, and so on up to a day; then the notice is given up.
Notices about one candidate reach one receiver in order: a later one waits for the earlier. A receiver that is down
costs a round five seconds, and holds nobody else up for longer.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import structlog

from twinseal.digests import parse_json
from twinseal.errors import EvidenceError, TwinsealError
from twinseal.files import sync_folder, write_json
from twinseal.reading import read_regular
from twinseal.server.notice_settings import NoticeSettings
from twinseal.server.senders import Channel, SendError, send
from twinseal.trust.release.review_file import said_at
from twinseal.trust.root.home import Home

log = structlog.get_logger(__name__)

DELAYS_S = (5, 30, 120, 600, 3600, 3 * 3600, 6 * 3600, 12 * 3600, 24 * 3600)
WAITING, FAILED, COUNTS = "waiting", "failed", "counts.json"
MAX_BYTES = 64 << 10
_NAME = re.compile(r"(?P<number>[0-9]{12})-(?P<id>msg_[0-9a-f]{32})\.(?P<channel>[a-z0-9-]{1,40})\.json\Z")

Send = Callable[[Channel, dict[str, Any], NoticeSettings], None]


def notices_folder(home: Home) -> Path:
    """Where everything about notices is."""
    return home.path / "mlflow" / "notices"


@dataclass(frozen=True)
class _Letter:
    """One file of the outbox: the notice, how often it was tried, and from when it may be tried again."""

    path: Path
    channel: str
    notice: dict[str, Any]
    tries: int
    after: str

    @property
    def line(self) -> str:
        """Those of one line are sent in order."""
        return f"{self.notice.get('model')}/{self.notice.get('candidate') or self.notice.get('id')}"


class Outbox:
    """Keeps notices, and sends them.

    Args:
        home: The deployment.
        settings: Who is told of what.
        send: Sends one.
    """

    def __init__(
        self,
        home: Home,
        settings: NoticeSettings,
        send: Send = send,
    ) -> None:
        self._folder, self._settings, self._send = notices_folder(home), settings, send

    def put(self, notice: dict[str, Any], number: int) -> None:
        """Keep a notice for everyone who is told of its event; on the disk when this returns. Again: the same files.

        Raises:
            OSError: It cannot be written.
        """
        waiting = self._folder / WAITING
        for name, channel in self._settings.channels.items():
            if notice["event"] in channel.events:
                path = waiting / f"{number:012d}-{notice['id']}.{name}.json"
                write_json(path, {"notice": notice, "tries": 0, "after": "", "error": ""})
                sync_folder(waiting)

    def deliver(self, now: datetime) -> None:
        """Send what is due. One process at a time. Whatever goes wrong at one receiver, the others have their turn."""
        letters = list(self._letters())
        for name, channel in {**dict.fromkeys(letter.channel for letter in letters), **self._settings.channels}.items():
            own = [letter for letter in letters if letter.channel == name]
            try:
                self._deliver_to(channel, own, now)
            except Exception as error:  # a full disk, say, or a fault of ours
                log.error("notice.round_failed", channel=name, error=f"{type(error).__name__}: {error}")

    def _deliver_to(self, channel: Channel | None, letters: list[_Letter], now: datetime) -> None:
        """Send to one receiver, until it fails once: then it has had its time in this round."""
        if channel is None:
            for letter in letters:
                self._give_up(letter, "nobody of that name is in the settings any more")
            return
        held, stamp, is_down = set[str](), said_at(now), False
        for letter in letters:
            if is_down or letter.line in held or letter.after > stamp:
                held.add(letter.line)
                continue
            try:
                self._send(channel, letter.notice, self._settings)
            except Exception as error:  # a notice that a sender cannot even write is tried again, and given up, too
                is_known = isinstance(error, (SendError, TwinsealError))
                is_down = True
                if self._put_off(letter, str(error) if is_known else f"{type(error).__name__}: {error}"):
                    held.add(letter.line)
                continue
            letter.path.unlink(missing_ok=True)
            self._count("sent")
            log.info("notice.sent", id=letter.notice.get("id"), channel=letter.channel)

    def _put_off(self, letter: _Letter, error: str) -> bool:
        """Try it again later; False when it was given up."""
        if letter.tries >= len(DELAYS_S):
            self._give_up(letter, error)
            return False
        after = said_at(datetime.now(UTC) + timedelta(seconds=DELAYS_S[letter.tries]))
        value = {"notice": letter.notice, "tries": letter.tries + 1, "after": after, "error": error[:300]}
        write_json(letter.path, value)
        log.warning("notice.put_off", id=letter.notice.get("id"), channel=letter.channel, until=after, error=error)
        return True

    def _give_up(self, letter: _Letter, error: str) -> None:
        (self._folder / FAILED).mkdir(exist_ok=True)
        write_json(letter.path, {"notice": letter.notice, "tries": 0, "after": "", "error": error[:300]})
        letter.path.replace(self._folder / FAILED / letter.path.name)
        self._count("failed")
        log.error("notice.failed", id=letter.notice.get("id"), channel=letter.channel, error=error)

    def _letters(self) -> Iterator[_Letter]:
        """What waits, the oldest first. What is no letter is left where it is."""
        for path in sorted((self._folder / WAITING).glob("*.json")):
            named = _NAME.match(path.name)
            try:
                value = parse_json(read_regular(path, MAX_BYTES), path.name, limit=MAX_BYTES)
                if named is None or value["notice"]["id"] != named["id"]:
                    raise ValueError("another name than its own")
                yield _Letter(path, named["channel"], value["notice"], int(value["tries"]), str(value["after"]))
            except (OSError, ValueError, KeyError, TypeError, EvidenceError) as error:
                log.warning("notice.unreadable", file=path.name, error=f"{type(error).__name__}: {error}")

    def _count(self, what: str) -> None:
        write_json(self._folder / COUNTS, {**_counts(self._folder), what: _counts(self._folder)[what] + 1})


def counts(home: Home) -> dict[str, int]:
    """How many notices were sent, and given up, since the home was made; and how many wait: of all workers."""
    folder = notices_folder(home)
    return {**_counts(folder), "waiting": len(list((folder / WAITING).glob("*.json")))}


def _counts(folder: Path) -> dict[str, int]:
    found: dict[str, int] = {}
    with suppress(OSError, ValueError, TypeError, AttributeError, EvidenceError):
        value = parse_json(read_regular(folder / COUNTS, MAX_BYTES), COUNTS, limit=MAX_BYTES)
        found = {name: int(value.get(name, 0)) for name in ("sent", "failed")}
    return {"sent": 0, "failed": 0, **found}
