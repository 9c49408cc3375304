"""Notices: a candidate waits, was decided on, was published; something ends soon. Made from the audit log.

The log has every decision before it takes effect, so a notice cannot be lost: whatever ends this process, the next
collection begins at the entry where the last one ended. A notice's id follows from its entry: made twice, it is the
same notice.

    <home>/mlflow/notices/state.json   how far the log was read, and which ends were said
    <home>/mlflow/notices/waiting/     what is to be sent (`outbox.py`)

`published` is said once the repository of record has the release: the log has it before that.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import structlog

from twinseal.digests import canonical_json, sha256
from twinseal.errors import TwinsealError
from twinseal.files import write_json
from twinseal.reading import read_regular
from twinseal.server.notice_settings import Event
from twinseal.server.outbox import Outbox, notices_folder
from twinseal.server.reviews import Desk
from twinseal.server.rounds import locked
from twinseal.trust.audit import Entry, log_of
from twinseal.trust.ceremonies import overview
from twinseal.trust.ceremonies.overview import Expiry
from twinseal.trust.release import repository
from twinseal.trust.release.release import Release
from twinseal.trust.release.request import Request
from twinseal.trust.release.reviews import EVENTS as DECIDED

log = structlog.get_logger(__name__)

SCHEMA = "https://twinseal.dev/notice/v1"
STATE, LOCK = "state.json", "collect.lock"
MAX_STATE_BYTES = 16 << 20
WITHIN_DAYS = (30, 7, 1, 0)  # when an end is said; 0: it has come
_OF_ENTRY: dict[str, Event] = {
    "submitted": "waits",
    "approved": "approved",
    "rejected": "rejected",
    "withdrawn": "withdrawn",
    "commented": "commented",
    "registered": "published",
}


@dataclass(frozen=True)
class Notice:
    """What is said.

    Attributes:
        id: Its own; the same when it is sent again.
        time: When it happened, RFC 3339.
        event: What happened.
        model: The model; "" when it is about none.
        release: The release's number; 0 when it is about none.
        candidate: In MLflow; "" when it is not known.
        actor: Who did it; "" for time.
        comment: The actor's words, as the audit log has them: at most 500 characters. Text, whatever it looks like.
        url: The review's page; that of all reviews when there is no candidate.
        missing: What keeps the release from being published: signatures, further wants, who rejected it.
        expires: What ends, when, within how many days, and what to do; None for other events.
    """

    id: str
    time: str
    event: Event
    model: str = ""
    release: int = 0
    candidate: str = ""
    actor: str = ""
    comment: str = ""
    url: str = ""
    missing: dict[str, Any] = field(default_factory=lambda: {"signatures": 0, "wanting": [], "rejected_by": []})
    expires: dict[str, Any] | None = None

    def to_dict(self) -> dict[str, Any]:
        """As it is sent."""
        return {"schema": SCHEMA, **asdict(self)}


class Notices:
    """Makes notices of what the log says.

    Args:
        desk: The reviews.
        outbox: Where notices go.
        origin: Of the pages.
        hurry: Called when there may be something to send.
    """

    def __init__(self, desk: Desk, outbox: Outbox, origin: str, hurry: Callable[[], None] = lambda: None) -> None:
        self._desk, self._outbox, self._origin, self._hurry = desk, outbox, origin, hurry
        self._folder = notices_folder(desk.home)

    def begin(self) -> None:
        """Once, before the first request is answered: what was before notices is not said."""
        self._guarded(self._begin)

    def _begin(self) -> None:
        if not (self._folder / STATE).exists():
            audit = log_of(self._desk.home.path)
            head = audit.head() if audit.has_begun() else None
            self._write({"log": head.size if head else 0, "vkey": head.vkey if head else ""})

    def one_round(self, now: datetime) -> None:
        """Collect what happened without a request, or before this server was started; and what ends."""
        self.collect()
        self._guarded(lambda: self._collect_ends(now))

    def collect(self) -> None:
        """Put what happened since the last time into the outbox. A failure is logged, and made good by the next."""
        self._guarded(self._collect)

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            with locked(self._folder / LOCK, wait=True):
                work()
                self._hurry()
        except Exception as error:  # the decision stands, whoever is told of it
            log.warning("notices.failed", error=f"{type(error).__name__}: {error}")

    def _collect(self) -> None:
        self._begin()
        state, audit = self._read(), log_of(self._desk.home.path)
        if not audit.has_begun():
            return
        head = audit.head()
        start = state["log"] if state["vkey"] in ("", head.vkey) and state["log"] <= head.size else 0
        if start == head.size and not state["unpublished"]:
            return
        entries = [*state["unpublished"], *((index, entry) for index, entry in audit.read(start, head.size))]
        held: dict[tuple[str, int, str], tuple[int, Entry]] = {}
        for index, entry in entries:
            about = (entry.model, entry.version, entry.sha256)
            if entry.event == "registered" and not self._is_published(entry):
                held[about] = index, entry
                continue
            held.pop(about, None)
            for notice in self._notices_of(index, entry, head.vkey):
                self._outbox.put(notice.to_dict(), index)
        unpublished = [[index, entry.to_bytes().decode()] for index, entry in held.values()]
        self._write(state | {"log": head.size, "vkey": head.vkey, "unpublished": unpublished})

    def _is_published(self, entry: Entry) -> bool:
        """Whether the release is, or was, the current one."""
        current = repository.current_release(self._desk.home, entry.model)
        if current is None or current.version < entry.version:
            return False
        return current.version > entry.version or current.sha256 == entry.sha256

    def _notices_of(self, index: int, entry: Entry, vkey: str) -> Iterator[Notice]:
        event, actor = _OF_ENTRY.get(entry.event), entry.actor
        if entry.event == "received":  # a decision of another machine, which a registrar noted
            decided: dict[str, str] = {str(decision): word for decision, word in DECIDED.items()}
            event = _OF_ENTRY.get(decided.get(entry.details.get("decision", ""), ""))
            actor = entry.details.get("holder", actor)
        if event is None:
            return
        # A publication that was interrupted is logged again: it is one.
        told = [vkey, event, entry.model, entry.version, entry.sha256, -1 if event == "published" else index]
        candidate, missing = self._find(entry)
        yield Notice(
            f"msg_{sha256(canonical_json(told))[:32]}", f"{entry.time:%Y-%m-%dT%H:%M:%SZ}", event, entry.model,
            entry.version, candidate, actor, entry.details.get("comment", ""), self._url(candidate), missing,
        )  # fmt: skip

    def _find(self, entry: Entry) -> tuple[str, dict[str, Any]]:
        """The candidate of an entry, and what is missing now."""
        missing: dict[str, Any] = {"signatures": 0, "wanting": [], "rejected_by": []}
        for place in sorted(self._desk.folder.glob("m-*")):
            with suppress(TwinsealError):
                if Request.read(place).release.sha256 != entry.sha256:
                    continue
                case = self._desk.listing(place.name)
                if case.is_open:
                    count = case.reviews.count
                    rejected = [item.holder for item in case.reviews.rejections]
                    missing = {
                        "signatures": count.missing, "wanting": list(count.wanting), "rejected_by": rejected,
                    }  # fmt: skip
                return place.name, missing
        return _published_candidate(self._desk, entry), missing

    def _url(self, candidate: str) -> str:
        return f"{self._origin}/twinseal/review" + (f"/{candidate}" if candidate else "")

    def _collect_ends(self, now: datetime) -> None:
        state, said = self._read(), dict[str, int]()
        for item in overview.expiries(self._desk.home):
            key, within = f"{item.what} {_stamp(item.expires)}", _within(item, now)
            before = state["said"].get(key)
            if within is not None and (before is None or within < before):
                self._outbox.put(self._end_notice(item, within, now).to_dict(), state["log"])
                before = within
            if before is not None:
                said[key] = before  # what is renewed is forgotten: its end is another
        if said != state["said"]:
            self._write(state | {"said": said})

    def _end_notice(self, item: Expiry, within: int, now: datetime) -> Notice:
        name = sha256(canonical_json([item.what, _stamp(item.expires), within, self._desk.home.anchor().fingerprint]))
        model = item.what if item.what in self._desk.home.anchor().models else ""
        ends = {
            "what": item.what, "time": _stamp(item.expires), "within_days": within, "remedy": item.remedy,
        }  # fmt: skip
        return Notice(f"msg_{name[:32]}", _stamp(now), "expires_soon", model, url=self._url(""), expires=ends)

    def _read(self) -> dict[str, Any]:
        """How far notices are. Damaged: from the log's beginning, for twice is better than never; ids tell."""
        state: dict[str, Any] = {"log": 0, "vkey": "", "unpublished": [], "said": {}}
        try:
            state |= json.loads(read_regular(self._folder / STATE, MAX_STATE_BYTES))
            entries = [(int(index), Entry.from_bytes(text.encode())) for index, text in state["unpublished"]]
            return state | {"log": max(0, int(state["log"])), "said": dict(state["said"]), "unpublished": entries}
        except (OSError, ValueError, TypeError, AttributeError, TwinsealError) as error:
            log.warning("notices.state_unreadable", error=f"{type(error).__name__}: {error}")
            return {"log": 0, "vkey": "", "unpublished": [], "said": {}}

    def _write(self, state: dict[str, Any]) -> None:
        entries = [
            [index, entry if isinstance(entry, str) else entry.to_bytes().decode()]
            for index, entry in state.get("unpublished", ())
        ]
        write_json(self._folder / STATE, {"said": {}, **state, "unpublished": entries})


def _published_candidate(desk: Desk, entry: Entry) -> str:
    """The candidate of a published release that has no review here; "" when it is not known."""
    place = Path(desk.home.repository / "targets" / entry.model / f"{entry.sha256}.release.json")
    with suppress(TwinsealError, OSError):
        return Release.from_bytes(read_regular(place, 1 << 20), place.name).mlflow_model_id
    return ""


def _within(item: Expiry, now: datetime) -> int | None:
    """The smallest of the thresholds that its end is within; None for none, and for what is renewed by itself."""
    if item.remedy == overview.REGISTER and not item.is_urgent(now):
        return None
    left = [days for days in WITHIN_DAYS if item.expires - now <= timedelta(days=days)]
    return min(left) if left else None


def _stamp(time: datetime) -> str:
    return time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
