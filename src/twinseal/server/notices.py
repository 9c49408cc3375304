"""Notices: a candidate waits, was decided on, was published; something ends soon. Made from the audit log.

The log has every decision before it takes effect, so a notice cannot be lost: whatever ends this process, the next
collection begins at the entry where the last one ended. A notice's id follows from its entry: made twice, it is the
same notice.

    <home>/mlflow/notices/state.json   how far the log was read, and which ends were said
    <home>/mlflow/notices/waiting/     what is to be sent (`outbox.py`)

`published` is said once the repository of record has the release: the log has it before that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import structlog

from twinseal.digests import canonical_json, parse_json, sha256
from twinseal.errors import TwinsealError
from twinseal.files import write_json
from twinseal.reading import read_regular
from twinseal.server.notice_settings import Event
from twinseal.server.outbox import Outbox, notices_folder
from twinseal.server.reviews import Desk
from twinseal.server.rounds import locked
from twinseal.trust.audit import Entry, Log, log_of
from twinseal.trust.ceremonies import overview
from twinseal.trust.expiry import REGISTER, Expiry
from twinseal.trust.release import repository
from twinseal.trust.release.release import Release
from twinseal.trust.release.request import Request
from twinseal.trust.release.review_file import said_at
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


def _missing(signatures: int = 0, wanting: Iterable[str] = (), rejected_by: Iterable[str] = ()) -> dict[str, Any]:
    return {"signatures": signatures, "wanting": list(wanting), "rejected_by": list(rejected_by)}


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
    missing: dict[str, Any] = field(default_factory=_missing)
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
            self._write(_no_state() | ({"log": head.size, "vkey": head.vkey} if head else {}))

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
        entries = [*state["unpublished"], *audit.read(start, head.size)]
        held: dict[tuple[str, int, str], tuple[int, Entry]] = {}
        reviews = _Reviews(self._desk, audit)
        for index, entry in entries:
            about = (entry.model, entry.version, entry.sha256)
            if entry.event == "registered" and not self._is_published(entry):
                held[about] = index, entry
                continue
            held.pop(about, None)
            for notice in self._notices_of(index, entry, head.vkey, reviews):
                self._outbox.put(notice.to_dict(), index)
        self._write(state | {"log": head.size, "vkey": head.vkey, "unpublished": list(held.values())})

    def _is_published(self, entry: Entry) -> bool:
        """Whether the release is, or was, the current one."""
        current = repository.current_release(self._desk.home, entry.model)
        if current is None or current.version < entry.version:
            return False
        return current.version > entry.version or current.sha256 == entry.sha256

    def _notices_of(self, index: int, entry: Entry, vkey: str, reviews: _Reviews) -> Iterator[Notice]:
        event, actor = _OF_ENTRY.get(entry.event), entry.actor
        if entry.event == "received":  # a decision of another machine, which a registrar noted
            named = entry.details.get("decision", "")
            event = next((_OF_ENTRY[word] for decision, word in DECIDED.items() if decision == named), None)
            actor = entry.details.get("holder", actor)
        if event is None:
            return
        # A publication that was interrupted is logged again: it is one.
        told = [vkey, event, entry.model, entry.version, entry.sha256, -1 if event == "published" else index]
        candidate, missing = reviews.find(entry)
        yield Notice(
            f"msg_{sha256(canonical_json(told))[:32]}", said_at(entry.time), event, entry.model, entry.version,
            candidate, actor, entry.details.get("comment", ""), self._url(candidate), missing,
        )  # fmt: skip

    def _url(self, candidate: str) -> str:
        return f"{self._origin}/twinseal/review" + (f"/{candidate}" if candidate else "")

    def _collect_ends(self, now: datetime) -> None:
        state, said = self._read(), dict[str, int]()
        for item in overview.expiries(self._desk.home):
            key, within = f"{item.what} {said_at(item.expires)}", _within(item, now)
            before = state["said"].get(key)
            if within is not None and (before is None or within < before):
                self._outbox.put(self._end_notice(item, within, now).to_dict(), state["log"])
                before = within
            if before is not None:
                said[key] = before  # what is renewed is forgotten: its end is another
        if said != state["said"]:
            self._write(state | {"said": said})

    def _end_notice(self, item: Expiry, within: int, now: datetime) -> Notice:
        name = sha256(canonical_json([item.what, said_at(item.expires), within, self._desk.home.anchor().fingerprint]))
        model = item.what if item.what in self._desk.home.anchor().models else ""
        ends = {
            "what": item.what, "time": said_at(item.expires), "within_days": within, "remedy": item.remedy,
        }  # fmt: skip
        return Notice(f"msg_{name[:32]}", said_at(now), "expires_soon", model, url=self._url(""), expires=ends)

    def _read(self) -> dict[str, Any]:
        """How far notices are. Damaged: from the log's beginning, for twice is better than never; ids tell."""
        try:
            data = read_regular(self._folder / STATE, MAX_STATE_BYTES)
            state: dict[str, Any] = _no_state() | parse_json(data, STATE, limit=MAX_STATE_BYTES)
            entries = [(int(index), Entry.from_bytes(text.encode())) for index, text in state["unpublished"]]
            return state | {"log": max(0, int(state["log"])), "said": dict(state["said"]), "unpublished": entries}
        except (OSError, ValueError, TypeError, AttributeError, TwinsealError) as error:
            log.warning("notices.state_unreadable", error=f"{type(error).__name__}: {error}")
            return _no_state()

    def _write(self, state: dict[str, Any]) -> None:
        entries = [[index, entry.to_bytes().decode()] for index, entry in state["unpublished"]]
        write_json(self._folder / STATE, state | {"unpublished": entries})


def _no_state() -> dict[str, Any]:
    """How much of which log was read, which publications are not done yet, which ends were said: nothing."""
    return {"log": 0, "vkey": "", "unpublished": [], "said": {}}


class _Reviews:
    """The reviews as one round finds them: the log, and each of them, are read once, however many entries are new.

    Args:
        desk: The reviews.
        audit: The log.
    """

    def __init__(self, desk: Desk, audit: Log) -> None:
        self._desk, self._audit = desk, audit.once()
        self._missing: dict[str, dict[str, Any]] = {}
        self._names: dict[str, str] = {}
        for place in desk.folder.glob("m-*"):
            with suppress(TwinsealError):
                self._names[Request.read(place).release.sha256] = place.name

    def find(self, entry: Entry) -> tuple[str, dict[str, Any]]:
        """The candidate of an entry, and what is missing now."""
        name = self._names.get(entry.sha256, "")
        if name and name not in self._missing:
            self._missing[name] = self._missing_of(name)
        if not name:
            return _published_candidate(self._desk, entry), _missing()
        return name, self._missing[name]

    def _missing_of(self, name: str) -> dict[str, Any]:
        with suppress(TwinsealError):
            case = self._desk.listing(name, self._audit)
            if case.is_open:
                count, rejections = case.reviews.count, case.reviews.rejections
                return _missing(count.missing, count.wanting, (item.holder for item in rejections))
        return _missing()


def _published_candidate(desk: Desk, entry: Entry) -> str:
    """The candidate of a published release that has no review here; "" when it is not known."""
    place = Path(desk.home.repository / "targets" / entry.model / f"{entry.sha256}.release.json")
    with suppress(TwinsealError, OSError):
        return Release.from_bytes(read_regular(place, 1 << 20), place.name).mlflow_model_id
    return ""


def _within(item: Expiry, now: datetime) -> int | None:
    """The smallest of the thresholds that its end is within; None for none, and for what is renewed by itself."""
    if item.remedy == REGISTER and not item.is_urgent(now):
        return None
    left = [days for days in WITHIN_DAYS if item.expires - now <= timedelta(days=days)]
    return min(left) if left else None
