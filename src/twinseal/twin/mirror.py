"""Mirrors: the current release of one model on a disk, to be carried to a twin without a network.

A mirror is made by a pull: what the pull reads from the registry is written down as it comes, and once the pull has
admitted the release, the folder holds all that another pull with the same anchor needs. It is then read once more, from
the disk, and only then takes the place of an earlier mirror. Nobody has to trust it: whoever pulls from it verifies all
of it again.

    write_mirror     where the registry can be reached
    verify_mirror    anywhere, with the anchor: all that a pull verifies, and nothing is installed
    pull             where the twin is: `twinseal pull --from FOLDER`
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from twinseal.errors import ConfigError
from twinseal.files import check_path, sync_folder
from twinseal.trust.release.release import Release
from twinseal.trust.root.anchor import Anchor
from twinseal.twin.byte_sources import DirectorySource, Source
from twinseal.twin.pull import pull
from twinseal.twin.state import State
from twinseal.twin.trust_ends import trust_ends

TIMESTAMP = "metadata/timestamp.json"


@dataclass(frozen=True)
class VerifiedMirror:
    """What a mirror holds.

    Attributes:
        release: Verified, as a twin that pulls from it would.
        ends: When the first of what was signed ends: from then on, no twin takes it.
        demo: Whether the anchor is of throw-away keys.
    """

    release: Release
    ends: datetime
    demo: bool


def write_mirror(source: Source, anchor: Anchor, model: str, folder: Path, now: datetime) -> VerifiedMirror:
    """Pull the current release of `model`, and leave what was read in `folder`.

    Side effects: makes the folder, or replaces an earlier mirror there; what is there is whole, new or as before.

    Args:
        source: Where from; not trusted.
        anchor: That of the twins which it is for.
        model: Name of the model.
        folder: Where to.
        now: Aware, UTC.

    Raises:
        ConfigError: Something else than a mirror is at `folder`.
        TwinsealError, OSError: As `pull`.
    """
    _require_place(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    new = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}.new."))
    try:
        new.chmod(0o755)  # nothing in it is secret, and another user may mount the disk
        with tempfile.TemporaryDirectory(prefix="twinseal-") as state:
            pull(_Recorder(source, new), anchor, model, Path(state), now)
        found = verify_mirror(new, anchor, model, now)
        _replace(folder, new)
    finally:
        shutil.rmtree(new, ignore_errors=True)
    return found


def verify_mirror(folder: Path, anchor: Anchor, model: str, now: datetime) -> VerifiedMirror:
    """Verify a mirror as a twin that has never pulled: every step of `pull` and of admission, and nothing is kept.

    What only a twin knows is not compared: which release it has seen last.

    Raises:
        TwinsealError, OSError: As `pull`.
    """
    with tempfile.TemporaryDirectory(prefix="twinseal-") as state:
        admitted = pull(DirectorySource(folder), anchor, model, Path(state), now).model
        expiries = trust_ends(State(Path(state)), anchor, model).expiries
    return VerifiedMirror(admitted.release, min(item.expires for item in expiries), admitted.demo)


def is_mirror(folder: Path) -> bool:
    """Whether a folder looks like a mirror."""
    return (folder / TIMESTAMP).is_file()


def model_in(folder: Path, anchor: Anchor) -> str:
    """The one model of the anchor that a mirror has a release of.

    Raises:
        ConfigError: It has none, or several.
    """
    found = [model for model in anchor.models if (folder / "targets" / model).is_dir()]
    if len(found) != 1:
        raise ConfigError(
            f"{folder}: expected a release of one model, got {', '.join(found) or 'none'}",
            remedy=f"Name the model: --model {' or --model '.join(anchor.models)}",
        )
    return found[0]


def _require_place(folder: Path) -> None:
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise ConfigError(f"--to {folder}: expected a folder, got a file or a link", remedy="Name another folder.")
    if folder.exists() and any(folder.iterdir()) and not is_mirror(folder):
        raise ConfigError(
            f"--to {folder}: expected a new folder, or an earlier mirror, got a folder with other files",
            remedy=f"Name a folder below it: --to {folder / 'mirror'}",
        )


def _replace(folder: Path, new: Path) -> None:
    """Put `new` into the place of `folder`; what was there goes when the new one is there."""
    for inner, _, _ in os.walk(new, topdown=False):
        sync_folder(Path(inner))
    old = new.with_name(new.name.replace(".new.", ".old."))
    if folder.exists():
        folder.replace(old)
    new.replace(folder)
    sync_folder(folder.parent)
    shutil.rmtree(old, ignore_errors=True)


class _Recorder:
    """A source that writes down what it hands on."""

    def __init__(self, source: Source, folder: Path) -> None:
        self._source, self._folder = source, folder

    def open(self, path: str, limit: int) -> Iterator[bytes]:
        """As Source says."""
        check_path(path)
        return self._record(self._source.open(path, limit), self._folder / path)

    def _record(self, chunks: Iterator[bytes], target: Path) -> Iterator[bytes]:
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("wb") as stream:  # no mode is set: file systems of memory sticks have none
            for chunk in chunks:
                stream.write(chunk)
                yield chunk
            stream.flush()
            os.fsync(stream.fileno())
