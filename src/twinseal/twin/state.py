"""The twin's memory on disk: what it has seen, what it has installed, and which of that is current.

    last_seen.json           when the registry last answered, and the newest release it showed
    tuf/                     python-tuf's cache of verified metadata
    models/<sha256>.<any>/   an installed release: release.json, role.json (the reviewers' signatures), roots/ (those
                             that lead from the anchor to the one it was admitted under), bundle/
    incoming/                what is being fetched; removed after the pull, or by the next
    devices.dsse.json        which gateways may deliver what: `twinseal.twin.devices`
    lives.dsse.json          which machines there are, and what was done to each: `twinseal.twin.enrolled_lives`
    frames.json              how far their sequences have come: `twinseal.twin.frame_memory`
    current                  the name of the folder below models/ that is current
    previous                 that of the one before it, to which a twin that runs can fall back
    held.json                releases that a twin that ran fell back from; it does not adopt them again by itself
    units/                   what a twin that runs knows of its machines: `twinseal.twin.unit_memory`
    lock, pull.lock          `twinseal.twin.locks`

Rules: an installed folder is never changed. `current` is replaced in one step, last, after everything that it points
to is on the disk; so a process that is killed between any two operations leaves the old model or the new one,
complete. What was seen only grows. One directory serves one model.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from twinseal.digests import canonical_json, is_sha256, parse_json
from twinseal.errors import EvidenceError, ExpiredError, RollbackError, TrustError, TwinsealError
from twinseal.files import sync_folder, write_whole
from twinseal.reading import read_regular, require_folder
from twinseal.trust.release.release import MAX_RELEASE_BYTES, Release
from twinseal.twin import locks

MAX_HELD = 100
RELEASE, ROLE, ROOTS, BUNDLE = "release.json", "role.json", "roots", "bundle"
_FOLDER = re.compile(r"[0-9a-f]{64}\.[a-z0-9_]{1,40}\Z")  # the digest, and mkdtemp's letters
_REMEDY = "Somebody changed the twin's state. Find out who; then empty the folder, restore the anchor, and pull again."


@dataclass(frozen=True)
class LastSeen:
    """The newest release and time that the twin has seen; older ones are refused.

    Law: `LastSeen.from_bytes(seen.to_bytes()) == seen`.

    Attributes:
        model: Name of the model.
        time: When the registry last showed something fresh; aware, UTC.
        version: Newest release seen.
        sha256: Its digest.

    Raises:
        EvidenceError: A part does not fit this description.
    """

    model: str
    time: datetime
    version: int
    sha256: str

    def __post_init__(self) -> None:
        whole = isinstance(self.model, str) and type(self.version) is int and self.version >= 1
        if not whole or not is_sha256(self.sha256) or self.time.tzinfo is None:
            raise EvidenceError(f"last_seen.json: expected what a pull has seen, got {self}", remedy=_REMEDY)

    def to_bytes(self) -> bytes:
        """Canonical JSON."""
        time = self.time.astimezone(UTC).isoformat()
        return canonical_json({"model": self.model, "time": time, "version": self.version, "sha256": self.sha256})

    @classmethod
    def from_bytes(cls, data: bytes) -> LastSeen:
        """The value that `to_bytes` gave.

        Raises:
            EvidenceError: It is not such a value.
        """
        value = parse_json(data, "last_seen.json", limit=4096)
        try:
            time = datetime.fromisoformat(value["time"])
            seen = cls(**{**value, "time": time})
            seen.to_bytes()  # in the year 1 or 9999 a time of another zone may have no UTC
            return seen
        except (TypeError, ValueError, KeyError, OverflowError) as error:
            raise EvidenceError(
                f"last_seen.json: expected what a pull has seen, got {value}", remedy=_REMEDY
            ) from error

    def check_clock(self, now: datetime) -> None:
        """Refuse a clock that is earlier than the last time seen: it would make old metadata valid again.

        Raises:
            ExpiredError: `now` is earlier.
        """
        if now < self.time:
            raise ExpiredError(
                f"clock: expected {self.time:%Y-%m-%d %H:%M:%S} UTC or later, got {now:%Y-%m-%d %H:%M:%S}",
                remedy="If the clock is wrong, set it. If it is right, it was ahead in an earlier pull by "
                f"{_words(self.time - now)}: run the same command with --clock-is-right, or wait until then.",
            )

    def check_release(self, release: Release) -> None:
        """Refuse a release older than the newest one seen, or another one under the same version.

        Raises:
            RollbackError: It is.
        """
        if release.version < self.version:
            raise RollbackError(
                f"release version: expected >= {self.version}, got {release.version} ({release.model})",
                remedy="The registry offers an older model than it did before: ask who runs it.",
            )
        if release.version == self.version and release.sha256 != self.sha256:
            raise RollbackError(
                f"release {release.version} of {release.model}: expected {self.sha256[:12]}… as seen before, "
                f"got {release.sha256[:12]}…"
            )


@dataclass(frozen=True)
class State:
    """The directory of one twin.

    Attributes:
        path: Where. Made, private, by the first pull.
    """

    path: Path

    @property
    def metadata(self) -> Path:
        """The cache of verified TUF metadata."""
        return self.path / "tuf"

    def check_private(self) -> None:
        """Refuse a directory that other users can write to: they could change files between verification and use.

        Raises:
            TrustError: Others can write to it, it belongs to another user, or a link is in the place of a folder of it.
        """
        found = self.path.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_mode & 0o022 or found.st_uid not in (os.geteuid(), 0):
            raise TrustError(
                f"{self.path}: expected a folder of this user that no one else can write to, got "
                f"{stat.filemode(found.st_mode)} of user {found.st_uid}",
                remedy=f"Others may have changed what is in it: empty it, chmod 700 {self.path}, and pull again.",
            )
        for name in ("tuf", "models", "incoming"):
            below = self.path / name
            if below.is_symlink():
                raise TrustError(f"{below}: expected a folder, got a link", remedy=_REMEDY)

    @contextmanager
    def pull_lock(self, now: datetime) -> Iterator[None]:
        """Lock against a second pull, for as long as this one takes; it delays no start of the twin.

        Side effects: makes the directory; before and after, removes models that are not needed any more.

        Raises:
            BusyError: Another pull is running.
            TrustError: As `check_private`; or a file is in the place of the folder.
        """
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError) as error:
            raise TrustError(
                f"{self.path}: expected a folder for the twin, got a file or one above it",
                remedy="Name a new folder, or that of an earlier pull: --state DIR",
            ) from error
        self.check_private()
        with locks.only_one(self.path / "pull.lock", "twinseal pull", now):
            self._tidy()  # of what a killed pull left
            try:
                yield
            finally:
                self._tidy()  # of what was refused, or replaced

    @contextmanager
    def write_lock(self) -> Iterator[None]:
        """Lock for a few small writes: starts of the twin wait so long. Never wait for a network or a person in it."""
        with locks.alone(self.path / "lock"):
            yield

    @contextmanager
    def read_lock(self) -> Iterator[None]:
        """Lock for reading: what is installed is not replaced meanwhile.

        Raises:
            TrustError: Nothing was ever pulled into this directory; or as `check_private`.
        """
        lost = not (self.path / "lock").exists()
        if lost and not self.has_current():
            raise _no_model_error(self.path)
        self.check_private()
        with locks.shared(self.path / "lock", make=lost):
            yield

    def last_seen(self, model: str) -> LastSeen | None:
        """What was seen of `model`, as far as `last_seen.json` knows; None if there is no such file.

        Raises:
            EvidenceError: The memory is of another model, or is malformed.
        """
        try:
            seen = LastSeen.from_bytes(read_regular(self.path / "last_seen.json", 4096))
        except FileNotFoundError:
            return None
        if seen.model != model:
            raise EvidenceError(
                f"{self.path}: expected the state of {model}, got that of {seen.model}",
                remedy="Give each model's twin a folder of its own: " + pull_command(model, Path("DIR")),
            )
        return seen

    def remember(self, seen: LastSeen) -> None:
        """Keep what was seen.

        Raises:
            OSError: It cannot be written; what was kept before stands.
        """
        with self.write_lock():
            _write(self.path / "last_seen.json", seen.to_bytes())

    def new_folder(self) -> Path:
        """An empty private folder for what is being fetched; on the same disk, so that it can be moved into place."""
        incoming = self.path / "incoming"
        incoming.mkdir(mode=0o700, exist_ok=True)
        return Path(tempfile.mkdtemp(dir=incoming))

    def has_current(self) -> bool:
        """Whether anything is current."""
        return (self.path / "current").exists()

    def current(self) -> tuple[str, Path]:
        """The digest of the release that is current, and its folder.

        Raises:
            TrustError: None is.
            EvidenceError: The pointer is malformed.
        """
        name = self._pointer("current")
        return name[:64], self.path / "models" / name

    def before(self) -> Path:
        """The folder of the release that was current before.

        Raises:
            TrustError: None was.
            EvidenceError: A pointer is malformed; or the twin went back to it already.
        """
        before = self._pointer("previous")
        if before == self._pointer("current"):
            raise EvidenceError(f"{self.path}: expected release {before[:12]}… to have one before it, got none")
        return self.path / "models" / before

    def _pointer(self, which: str) -> str:
        """The name of the folder that is current, or was before it."""
        try:
            name = read_regular(self.path / which, 200).decode("ascii", "replace")
        except FileNotFoundError:
            raise _no_model_error(self.path) from None
        if not _FOLDER.match(name):
            raise EvidenceError(f"{self.path / which}: expected an installed release, got {name!r:.80}", remedy=_REMEDY)
        return name

    def release(self, folder: Path, digest: str) -> Release:
        """The release that is installed in `folder`.

        Raises:
            EvidenceError: It is gone, malformed, or not the one of that digest.
        """
        path = folder / RELEASE
        try:
            require_folder(folder.parent)  # else the release would be read from wherever a link leads
            require_folder(folder)
            release = Release.from_bytes(read_regular(path, MAX_RELEASE_BYTES), str(path))
        except OSError as error:
            raise EvidenceError(f"{path}: expected a release, got none ({error.strerror})", remedy=_REMEDY) from error
        if release.sha256 != digest:
            raise EvidenceError(f"{path}: expected release {digest[:12]}…, got {release.sha256[:12]}…", remedy=_REMEDY)
        return release

    def install(self, folder: Path, digest: str) -> None:
        """Make the release in `folder` current: all on the disk, then in its place, then pointed to.

        Args:
            folder: From `new_folder`; holds release.json, role.json, roots/ and bundle/, each file flushed already.
            digest: Of release.json.

        Raises:
            OSError: The old model stands.
        """
        for inner, _, _ in os.walk(folder, topdown=False):
            sync_folder(Path(inner))
        place = self.path / "models" / f"{digest}.{folder.name}"
        with self.write_lock():
            place.parent.mkdir(mode=0o700, exist_ok=True)
            folder.replace(place)
            sync_folder(place.parent)
            if self.has_current():
                _write(self.path / "previous", read_regular(self.path / "current", 200))
            _write(self.path / "current", place.name.encode())  # the switch

    def fall_back(self, digest: str) -> None:
        """Make the release before the current one current again, and hold the current one: it is not adopted again.

        Args:
            digest: Of the current release.

        Raises:
            TrustError: There is none before it.
            EvidenceError: A pointer is malformed, or the current release is another.
            OSError: The current one stands.
        """
        with self.write_lock():
            now, before = self._pointer("current"), self._pointer("previous")
            if now[:64] != digest or before[:64] == digest:
                raise EvidenceError(
                    f"{self.path}: expected release {digest[:12]}… to be current and another before it, "
                    f"got {now[:12]}… and {before[:12]}…"
                )
            _write(self.path / "held.json", canonical_json(sorted({*self.held(), digest})[-MAX_HELD:]))
            _write(self.path / "current", before.encode())  # and there is none before it: never back to what is held

    def held(self) -> frozenset[str]:
        """Digests of the releases that this twin fell back from.

        Raises:
            EvidenceError: The list is malformed.
        """
        try:
            found = parse_json(read_regular(self.path / "held.json", 64 << 10), "held.json")
        except FileNotFoundError:
            return frozenset()
        if not isinstance(found, list) or not all(map(is_sha256, found)):
            raise EvidenceError(f"held.json: expected digests of releases, got {str(found)[:80]}", remedy=_REMEDY)
        return frozenset(found)

    def installed(self, digest: str) -> Path | None:
        """The folder of the release of this digest, current or not; None if it is not here."""
        return next((self.path / "models").glob(f"{digest}.*"), None)

    def _tidy(self) -> None:
        """Remove what is not needed any more; no model, if it cannot be read which one is current."""
        shutil.rmtree(self.path / "incoming", ignore_errors=True)
        with self.write_lock():  # a start that still verifies the model before ends first
            self._remove_old_models()

    def _remove_old_models(self) -> None:
        """Remove all but the current model, the one before it, and the one that the memory of units is of."""
        try:
            keep = {self._pointer("current")} if self.has_current() else set()
        except EvidenceError:
            return
        remembered = ""
        with suppress(OSError):
            remembered = read_regular(self.path / "units" / "current", 64 << 20).decode("ascii", "replace")
        with suppress(TwinsealError, OSError):
            keep.add(self._pointer("previous"))
        for folder in (self.path / "models").glob("*"):
            if folder.name not in keep and folder.name[:64] not in remembered:
                shutil.rmtree(folder, ignore_errors=True)


def _words(time: timedelta) -> str:
    """A duration for people: `10 days`, `3 hours`, `2 minutes`."""
    for name, length in (("days", timedelta(days=1)), ("hours", timedelta(hours=1)), ("minutes", timedelta(minutes=1))):
        if time >= 2 * length:
            return f"{time / length:.0f} {name}"
    return f"{time.total_seconds():.0f} seconds"


def _write(path: Path, data: bytes) -> None:
    write_whole(path, data, mode=0o600)
    sync_folder(path.parent)  # the name, too, must survive a loss of power


def pull_command(model: str, state: Path) -> str:
    """The command that fetches `model` into the folder `state`. What only the operator knows is in capitals."""
    return f"twinseal pull --from URL --model {shlex.quote(model)} --anchor DIR --state {shlex.quote(str(state))}"


def _no_model_error(path: Path) -> TrustError:
    return TrustError(f"{path}: expected an installed model, got none")  # the caller knows which, and suggests a pull
