"""What the reviewer reads: the report, the card and the figures must be those that the signed verdict names."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from twinseal.digests import sha256
from twinseal.errors import DigestMismatchError, EvidenceError
from twinseal.evidence import Statement, reports
from twinseal.reading import read_regular

FOLDER = "reports"
SHOWN = ("report.html", "model_card.md", "verdict.json", "figures")
MAX_REPORT_BYTES = 64 << 20
_REMEDY = "Do not decide by it. Find out who changed it; then write the report again: dvc repro --force assess"


def report_files(root: Path) -> list[Path]:
    """Every file that a reviewer is shown, below `root`/reports, sorted."""
    return sorted(path for name in SHOWN for path in _files(root / FOLDER / name))


def require_reports(verdict: Statement, root: Path) -> list[Path]:
    """The files that a reviewer is shown, once they are exactly those that `verdict` names.

    Args:
        verdict: The signed verdict.
        root: The working directory, with reports/ in it.

    Raises:
        DigestMismatchError: A file was changed, added or removed after the verdict.
        EvidenceError: The verdict names no report, or a file elsewhere.
    """
    named = {item.name: item.sha256 for item in reports(verdict)}
    if not named:
        raise EvidenceError("verdict: expected the digests of the report, got none", remedy="dvc repro --force assess")
    for name in named:
        parts = PurePosixPath(name).parts
        if parts[:1] != (FOLDER,) or ".." in parts or parts[1:2] not in [(shown,) for shown in SHOWN]:
            raise EvidenceError(f"verdict: expected reports below {FOLDER}/, got {name[:80]!r}")
    found = {path.relative_to(root).as_posix(): path for path in report_files(root)}
    for name in sorted(named.keys() | found.keys()):
        if name not in found:
            raise DigestMismatchError(f"{name}: expected the file that the verdict names, got none", remedy=_REMEDY)
        if name not in named:
            raise DigestMismatchError(
                f"{name}: expected the files that the verdict names alone, got one more", remedy=_REMEDY
            )
        got = sha256(read_regular(found[name], MAX_REPORT_BYTES))
        if got != named[name]:
            raise DigestMismatchError(
                f"{name}: expected sha256 {named[name][:12]}… as the assessor signed it, got {got[:12]}…",
                remedy=_REMEDY,
            )
    return [found[name] for name in sorted(found)]


def _files(path: Path) -> Iterator[Path]:
    """The file at `path`, or all in the folder; links and other things too, which are then refused when read."""
    if path.is_dir() and not path.is_symlink():
        yield from (item for item in path.rglob("*") if item.is_symlink() or not item.is_dir())
    elif path.exists() or path.is_symlink():
        yield path
