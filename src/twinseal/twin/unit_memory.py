"""The memory of units on the disk: whole or not at all, also after kill -9 and a loss of power.

    units/current            which image counts: its number, its SHA-256, and of which release it is; canonical JSON
    units/<number>.image     all that a runtime knew of its units at some time (`units_image`)
    units/<number>.rows      the rows since then (`row_journal`), each delivery before it is answered

A twin that starts again reads the image and then answers the rows of the journal once more, to nobody: it then knows
what it knew. Images are renewed when the journal has grown, when a model or an act comes, and at the end.

The twin's own log says that there is a memory. If one is gone, or is not what was written, the twin says so, and begins
another; the machines that it knew are then unknown machines until a commissioner vouches for them again, by a new act.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from twinseal.digests import canonical_json, is_sha256, parse_json, sha256
from twinseal.errors import EvidenceError
from twinseal.files import sync_folder, write_whole
from twinseal.reading import read_regular, require_folder
from twinseal.trust.audit import Entry, log_of
from twinseal.trust.audit.entry import MAX_TEXT, truncate
from twinseal.twin.delivered import Delivered
from twinseal.twin.journal import ACTOR
from twinseal.twin.row_journal import RowJournal, read_journal
from twinseal.twin.state import State
from twinseal.twin.units_image import UnitsImage

FOLDER = "units"
MAX_IMAGE_BYTES = 4 << 30
LEAST_JOURNAL_BYTES = 16 << 20  # an image is not renewed before; then when the journal is longer than the image
_FIELDS = frozenset(("number", "sha256", "release", "forgotten"))


@dataclass(frozen=True)
class Kept:
    """Which image counts.

    Attributes:
        number: Of its file.
        sha256: Its digest.
        release: Digest of the release whose runtime it is of.
        forgotten: By unit, how many of its acts do not vouch for it any more, since a memory was lost after them; None
            if none was ever lost.
    """

    number: int
    sha256: str
    release: str
    forgotten: Mapping[str, int] | None = None

    def to_bytes(self) -> bytes:
        """Canonical JSON."""
        forgotten = None if self.forgotten is None else dict(self.forgotten)
        return canonical_json(
            {"number": self.number, "sha256": self.sha256, "release": self.release, "forgotten": forgotten}
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> Kept:
        """The value that `to_bytes` gave.

        Raises:
            EvidenceError: It is no such value.
        """
        value = parse_json(data, f"{FOLDER}/current")
        if not isinstance(value, dict) or set(value) != _FIELDS or type(value["number"]) is not int:
            raise EvidenceError(f"{FOLDER}/current: expected which memory counts, got {str(value)[:80]}")
        forgotten = value["forgotten"]
        counts = forgotten is None or (
            isinstance(forgotten, dict) and all(type(n) is int and n >= 0 for n in forgotten.values())
        )
        if value["number"] < 1 or not is_sha256(value["sha256"]) or not is_sha256(value["release"]) or not counts:
            raise EvidenceError(f"{FOLDER}/current: expected which memory counts, got {str(value)[:80]}")
        return cls(**value)


@dataclass(frozen=True, eq=False)
class Recalled:
    """What was found on the disk.

    Attributes:
        kept: Which image.
        image: What a runtime of `kept.release` knew.
        deliveries: The rows since then, in order.
    """

    kept: Kept
    image: UnitsImage
    deliveries: Sequence[Delivered]


class UnitMemory:
    """The memory of one twin; for one process at a time, who holds the lock of the service.

    Args:
        state_dir: The twin's own directory.
        model: Which model it runs.
    """

    def __init__(self, state_dir: Path, model: str) -> None:
        self._state, self._model, self._folder = State(state_dir), model, state_dir / FOLDER
        self._kept: Kept | None = None
        self._journal: RowJournal | None = None
        self._image_bytes = 0

    @property
    def forgotten(self) -> Mapping[str, int] | None:
        """As `Kept.forgotten`."""
        return None if self._kept is None else self._kept.forgotten

    def recall(self) -> Recalled | None:
        """What is on the disk, whole; None if this twin never had a memory.

        Raises:
            EvidenceError: It is lost: gone, or not what was written.
            OSError: It cannot be read.
        """
        try:
            kept = Kept.from_bytes(read_regular(self._folder / "current", 64 << 20))
        except FileNotFoundError:
            if self._had_one():
                raise EvidenceError(
                    f"{self._folder}: expected the memory of units that this twin began, got none"
                ) from None
            return None
        try:
            data = read_regular(require_folder(self._folder) / f"{kept.number}.image", MAX_IMAGE_BYTES)
            if sha256(data) != kept.sha256:
                raise EvidenceError(f"{self._folder}: expected image {kept.number} as it was written, got another")
            journal = self._folder / f"{kept.number}.rows"
            records = list(read_journal(journal, bytes.fromhex(kept.sha256)))
            deliveries = [Delivered.from_bytes(payload) for payload, _ in records if payload]
        except FileNotFoundError as error:
            raise EvidenceError(
                f"{self._folder}: expected image and rows {kept.number}, got no {error.filename}"
            ) from error
        image = UnitsImage.from_bytes(data)
        self._kept, self._image_bytes = kept, len(data)
        self._journal = RowJournal.go_on(journal, records[-1][1])
        return Recalled(kept, image, deliveries)

    def append(self, *delivered: Delivered) -> None:
        """Remember rows: they are on the disk when this returns. After a kill meanwhile, the first of them may be.

        Raises:
            OSError: They are not.
        """
        if self._journal is None:
            raise ValueError("memory of units: expected an image first, got rows")
        self._journal.append(*(item.to_bytes() for item in delivered))

    @property
    def is_due(self) -> bool:
        """Whether the journal has grown so much that the image should be renewed."""
        return self._journal is not None and self._journal.size > max(LEAST_JOURNAL_BYTES, self._image_bytes)

    def keep(
        self,
        image: UnitsImage,
        release: str,
        now: datetime,
        *,
        forgotten: Mapping[str, int] | None = None,
        lost: str = "",
    ) -> None:
        """Keep an image in place of the one before and its rows, in one step.

        Args:
            image: What the runtime knows now.
            release: Digest of its release.
            now: Aware, UTC.
            forgotten: As in `Kept`; that of before if it is None.
            lost: Why the memory before this one is lost; for the log.

        Raises:
            OSError: It is not kept; what was kept before still is, and goes on.
            AuditError: It is the first, or that before was lost, and this cannot be logged.
        """
        data = image.to_bytes()
        number = 1 + max([0 if self._kept is None else self._kept.number, *self._numbers()])
        kept = Kept(number, sha256(data), release, self.forgotten if forgotten is None else forgotten)
        self._folder.mkdir(mode=0o700, exist_ok=True)
        require_folder(self._folder)
        try:
            write_whole(self._folder / f"{number}.image", data, mode=0o600)
            journal = RowJournal.begin(self._folder / f"{number}.rows", bytes.fromhex(kept.sha256))
            if lost or (self._kept is None and not self._had_one()):
                details = {"units": truncate(f"lost: {lost}", MAX_TEXT) if lost else "from now on"}
                log_of(self._state.path).append(Entry(now, "remembered", ACTOR, self._model, details=details))
            write_whole(self._folder / "current", kept.to_bytes(), mode=0o600)
            sync_folder(self._folder)
        except OSError:
            for suffix in ("image", "rows"):
                (self._folder / f"{number}.{suffix}").unlink(missing_ok=True)
            raise
        self.close()
        self._kept, self._journal, self._image_bytes = kept, journal, len(data)
        self._remove_all_but(number)

    def close(self) -> None:
        """Close the journal; nothing more can be appended."""
        if self._journal is not None:
            self._journal.close()
            self._journal = None

    def _numbers(self) -> Iterator[int]:
        for path in self._folder.glob("*.*"):
            if path.stem.isascii() and path.stem.isdigit() and len(path.stem) < 18:
                yield int(path.stem)

    def _remove_all_but(self, number: int) -> None:
        for path in self._folder.glob("*.*"):
            if path.stem != str(number):
                with suppress(OSError):
                    path.unlink()

    def _had_one(self) -> bool:
        audit = log_of(self._state.path)
        if not audit.has_begun():
            return False
        wanted = b'"event":"remembered"'
        return any(entry.event == "remembered" for _, entry in audit.read(wanted=lambda data: wanted in data))
