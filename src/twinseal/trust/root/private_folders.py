"""Folders that nobody else may write to: where a user's are, what makes one not private, and DVC's site cache.

DVC loads pickles from its site cache, and makes that folder for everyone to write to (CVE-2025-69872): whoever writes
there runs code as whoever runs DVC. `private_site_cache` makes it first, for its owner alone, outside of every
checkout. What others could ever write to is thrown away, not repaired: what they left there would stay.

Only the standard library is imported: requirements/install.sh copies this file into .venv, as `twinseal_dvc_guard`,
where it runs before DVC does, whatever branch is checked out.
"""

from __future__ import annotations

import errno
import grp
import os
import pwd
import stat
import sys
from pathlib import Path

FOLDERS = {"cache": ("XDG_CACHE_HOME", ".cache"), "config": ("XDG_CONFIG_HOME", ".config")}
FOLDERS["data"] = ("XDG_DATA_HOME", ".local/share")
SITE_CACHE = "DVC_SITE_CACHE_DIR"
OTHERS = stat.S_IWGRP | stat.S_IWOTH


def user_folder(kind: str) -> Path:
    """The folder of twinseal among a user's `data`, `config` or `cache` (XDG Base Directory 0.8). It need not exist.

    Raises:
        OSError: The user has no folder at all: neither $HOME nor the system names one.
    """
    variable, default = FOLDERS[kind]
    named = Path(os.environ.get(variable, ""))
    if named.is_absolute():
        return named / "twinseal"
    try:
        return Path.home() / default / "twinseal"
    except RuntimeError as error:
        raise OSError(errno.ENOENT, f"this user has no home folder: set $HOME or ${variable}", "~") from error


def fault_of(path: Path) -> str:
    """What lets others write to the folder `path`, or replace it, e.g. "mode 0777"; "" when nothing does.

    The folder need not exist.

    Every folder above it counts, as far as there is one: whoever may rename one of them can put another in its place.
    A sticky folder (as /tmp is) lets nobody rename what is somebody else's.
    """
    absolute = Path(os.path.abspath(path))  # noqa: PTH100 - `absolute` leaves `..` in, `resolve` follows links
    real = absolute.resolve()
    for place in (*reversed(absolute.parents), absolute):
        if place.is_symlink() and place.lstat().st_uid not in (0, os.geteuid()):
            return f"a link of {_owner(place.lstat().st_uid)}: {place}"
    for place in (real, *real.parents):
        if not os.path.lexists(place):
            continue
        status = place.stat()
        if status.st_uid not in (0, os.geteuid()):
            return f"one of {_owner(status.st_uid)}: {place}"
        if status.st_mode & OTHERS and (place == real or not _is_harmless(status)):
            return f"mode {stat.S_IMODE(status.st_mode):04o}" + ("" if place == real else f" of {place}")
    return ""


def make_private(path: Path) -> None:
    """Make a folder and those above it that are missing, each for its owner alone. One that exists stays as it is.

    Raises:
        OSError: It cannot be made.
    """
    if not path.is_dir():
        make_private(path.parent)
        path.mkdir(mode=0o700, exist_ok=True)


def private_site_cache() -> tuple[Path, str]:
    """Make DVC's site cache, for its owner alone; DVC takes it from $DVC_SITE_CACHE_DIR, which this sets.

    Side effects: $DVC_SITE_CACHE_DIR of this process and those that it starts. A cache of ours that others can write
    to, or that holds a file of somebody else, is thrown away, and an empty one takes its place.

    Returns:
        The folder; and what was thrown away, or why it cannot be had, in words: then DVC is given a folder that cannot
        exist, and refuses to run. "" when all was well.
    """
    said, place = "", Path(os.environ.get(SITE_CACHE, ""))
    try:
        cache = user_folder("cache")
        ours = cache / "dvc"
        place = place if os.environ.get(SITE_CACHE) else ours
        fault = fault_of(place / "repo") or fault_of(place) or _foreign(place)
        if fault and place == ours and not fault_of(cache.parent):
            said = f"DVC's site cache was thrown away, because others could write to it, and an empty one made: {fault}"
            _throw_away(cache)
            fault = ""
        if not fault:
            make_private(place / "repo")  # DVC would make both for everyone to write to
            fault = fault_of(place / "repo")
    except OSError as error:
        fault = f"{error.filename}: {error.strerror}"
    if fault:
        said = f"DVC's site cache: expected a folder that only its owner may write to, got {fault} ({place})"
        place = Path("/dev/null", "others can write to DVC's site cache")
    os.environ[SITE_CACHE] = str(place)
    return place, said


def guard() -> None:
    """What .venv does when Python starts: `private_site_cache`, with a word to whoever runs DVC."""
    _, said = private_site_cache()
    if said and any(Path(word).name == "dvc" for word in sys.orig_argv[:3]):
        sys.stderr.write(f"twinseal: {said}\n")


def _is_harmless(status: os.stat_result) -> bool:
    """Whether a folder above, to which others may write, is one where they can replace nothing of ours.

    It is sticky; or its group is its owner's alone, as on systems that give each user a group.
    """
    if status.st_mode & stat.S_ISVTX:
        return True
    if status.st_mode & stat.S_IWOTH:
        return False
    try:
        owner, group = pwd.getpwuid(status.st_uid), grp.getgrgid(status.st_gid)
    except KeyError:
        return False
    return group.gr_gid == owner.pw_gid and group.gr_name == owner.pw_name and set(group.gr_mem) <= {owner.pw_name}


def _foreign(folder: Path) -> str:
    """The first entry below `folder` that is somebody else's, in words; "" when there is none."""
    for top, folders, names in os.walk(folder):
        for name in folders + names:
            entry = Path(top, name)
            if entry.lstat().st_uid != os.geteuid():
                return f"a file of {_owner(entry.lstat().st_uid)}: {entry}"
    return ""


def _throw_away(folder: Path) -> None:
    """Remove it. First it is renamed: whoever has it open, or refills it while it is removed, has what no one reads."""
    import shutil  # noqa: PLC0415 - the guard runs whenever Python starts; this is seldom needed

    if folder.is_symlink() or not folder.is_dir():
        folder.unlink()
        return
    aside = folder.with_name(f".{folder.name}-{os.getpid()}")
    folder.rename(aside)
    aside.chmod(0o700)
    shutil.rmtree(aside, ignore_errors=True)


def _owner(uid: int) -> str:
    try:
        return f"{pwd.getpwuid(uid).pw_name} (uid {uid})"
    except KeyError:
        return f"uid {uid}"
