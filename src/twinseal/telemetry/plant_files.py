"""The files of a plant: which of a folder are telemetry, their bytes, and the names of their columns."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from twinseal.errors import ConfigError, DataError
from twinseal.reading import open_regular, read_regular
from twinseal.telemetry.csv_lines import MAX_FILE_BYTES
from twinseal.telemetry.delimited import read_header
from twinseal.telemetry.forms import Form
from twinseal.telemetry.mapped_rows import SUFFIXES
from twinseal.telemetry.tables import parquet_names

MAX_FILES = 100_000
HEAD_BYTES = 1 << 20
_ANY = ("**/*",)


def files_below(root: Path, patterns: Sequence[str] = (), beside: Collection[str] = ()) -> tuple[str, ...]:
    """The files of telemetry below a folder, as POSIX paths in order; those that are hidden are none.

    Args:
        root: The folder.
        patterns: Such as `2025/*.csv`; none means every CSV and Parquet file.
        beside: Files that hold something else.

    Raises:
        ConfigError: A pattern is none, or fits none, or there are too many.
    """
    found: set[str] = set()
    for pattern in patterns or _ANY:
        try:
            own = {path.relative_to(root).as_posix() for path in root.glob(pattern) if _is_telemetry(path, root)}
        except (ValueError, IndexError, NotImplementedError) as error:  # by what is wrong with it
            raise ConfigError(
                f"files: expected a pattern such as 2025/*.csv or **/*.csv, got {pattern[:60]!r} ({error})",
                remedy="Correct `files` in the mapping.",
            ) from error
        own -= set(beside)
        if not own:
            raise ConfigError(
                f"{root}: expected files{f' like {pattern}' if patterns else ''} ({', '.join(SUFFIXES)}), got none",
                remedy="Put your tables there, or correct the folder, or `files` in the mapping.",
            )
        found |= own
    if len(found) > MAX_FILES:
        raise ConfigError(f"{root}: expected at most {MAX_FILES} files, got {len(found)}")
    return tuple(sorted(found))


def file_bytes(path: Path) -> bytes:
    """The bytes of one file.

    Raises:
        DataError: It is longer than a table of telemetry can be.
        OSError: It cannot be read.
    """
    data = read_regular(path, MAX_FILE_BYTES, follow=True)
    if len(data) > MAX_FILE_BYTES:
        raise DataError(f"{path}: expected at most {MAX_FILE_BYTES} bytes, got more")
    return data


def file_header(path: Path, form: Form) -> list[str]:
    """The names of the columns of one file.

    Raises:
        DataError: It has none, or is broken.
        OSError: It cannot be read.
    """
    if path.suffix.lower() == ".parquet":
        with open_regular(path, follow=True) as stream:
            return parquet_names(stream, str(path))
    return read_header(read_regular(path, HEAD_BYTES, follow=True), str(path), form)


def _is_telemetry(path: Path, root: Path) -> bool:
    hidden = any(part.startswith((".", "~")) for part in path.relative_to(root).parts)
    return path.suffix.lower() in SUFFIXES and not hidden and path.is_file()
