"""Which files of an export are telemetry: those with the same columns; and whether their names name the machines."""

from __future__ import annotations

import glob
import os
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from twinseal.errors import ConfigError, DataError
from twinseal.escaping import visible
from twinseal.reading import open_regular
from twinseal.telemetry.csv_lines import MAX_LINE_BYTES
from twinseal.telemetry.mapped_rows import SUFFIXES
from twinseal.telemetry.plant_files import files_below
from twinseal.telemetry.tables import parquet_names

SHOWN = 5
SEPARATORS = "-_ ."  # between words in the name of a file


@dataclass(frozen=True)
class ExportFiles:
    """The files of an export.

    Attributes:
        path: What the source is given: the file, or the folder.
        root: The folder.
        names: Of the files of telemetry below it, as POSIX paths, in order.
        patterns: That name them in the mapping; () for all files of the folder, or the one file.
        said: Files that are something else.
    """

    path: Path
    root: Path
    names: tuple[str, ...]
    patterns: tuple[str, ...]
    said: tuple[str, ...] = ()


def export_files(paths: Sequence[Path], patterns: Sequence[str], beside: Sequence[str] = ()) -> ExportFiles:
    """The files of telemetry among `paths`; `beside` are files of the folder that hold something else.

    Raises:
        ConfigError: There is no such file, or one of another kind.
        DataError: Files have different columns, and none of the groups is the larger one.
    """
    for path in paths:
        if not path.is_dir() and (path.suffix.lower() not in SUFFIXES or not path.is_file()):
            found = "another suffix" if path.is_file() else "no such file"
            raise ConfigError(
                f"--from: expected files ({', '.join(SUFFIXES)}) or a folder of them, got {found} at {path}",
                remedy="Name the files of your export, and write them as CSV or Parquet: spreadsheets save as CSV.",
            )
    if len(paths) == 1 and not paths[0].is_dir():
        root, name = paths[0].parent, paths[0].name
        return ExportFiles(root if beside else paths[0], root, (name,), (glob.escape(name),) if beside else ())
    if len(paths) == 1:
        root, names, asked = paths[0], files_below(paths[0], patterns, beside), tuple(patterns)
    else:
        if any(path.is_dir() for path in paths):
            raise ConfigError(
                "--from: expected files, or one folder, got both", remedy="Name one folder for all of them."
            )
        root = Path(os.path.commonpath([path.parent for path in paths]))
        names = tuple(sorted({path.relative_to(root).as_posix() for path in paths}))
        asked = tuple(map(glob.escape, names))
    groups = defaultdict(list)
    for name in names:
        groups[_first_line(root / name)].append(name)
    if len(groups) == 1:
        return ExportFiles(root, root, names, asked)
    return _largest_group(root, list(groups.values()))


def _largest_group(root: Path, groups: list[list[str]]) -> ExportFiles:
    sizes = [sum((root / name).stat().st_size for name in group) for group in groups]
    mine = groups[sizes.index(max(sizes))]
    if 2 * max(sizes) < sum(sizes):
        shown = "; ".join(", ".join(group[:2]) for group in groups[:SHOWN])
        raise DataError(
            f"{root}: expected files with the same columns, got {len(groups)} kinds: {visible(shown)}",
            remedy='Say which are the telemetry: --files "telemetry/*.csv"',
        )
    others = [name for group in groups if group is not mine for name in group]
    shown = ", ".join(others[:SHOWN]) + (" …" if len(others) > SHOWN else "")
    said = (
        f"{len(others)} files have other columns, and are not telemetry: {visible(shown)}; tables of failures and of "
    )
    said += "maintenance are mapped under `events`, see docs/data.md"
    return ExportFiles(root, root, tuple(mine), _patterns(mine, others), (said,))


def _patterns(mine: Sequence[str], others: Sequence[str]) -> tuple[str, ...]:
    """Few words for these files: those of one folder, if it holds no others; else each by its name."""
    folders = {PurePosixPath(name).parent.as_posix() for name in mine}
    suffixes = {PurePosixPath(name).suffix for name in mine}
    if len(folders) == len(suffixes) == 1 and not folders & {PurePosixPath(name).parent.as_posix() for name in others}:
        return (f"{glob.escape(folders.pop())}/*{suffixes.pop()}",)
    return tuple(map(glob.escape, mine))


def _first_line(path: Path) -> tuple[str, ...]:
    with open_regular(path, follow=True) as stream:
        if path.suffix.lower() == ".parquet":
            return tuple(parquet_names(stream, str(path)))
        return (stream.readline(MAX_LINE_BYTES).decode("utf-8", "replace").strip("\ufeff\r\n "),)


def name_pattern(names: Sequence[str]) -> str:
    """What the names of files have in common, with {unit} where they differ; "" if nothing tells them apart.

    What they have in common is cut off at a separator only: T001 and T002 are names.

    >>> name_pattern(["2025/trafo-07.csv", "2025/trafo-12.csv"]), name_pattern(["T 1/log.csv", "T 2/log.csv"])
    ('trafo-{unit}.csv', '{unit}/log.csv')
    >>> name_pattern(["T001.csv", "T002.csv"]), name_pattern(["T001_day.csv", "T002_day.csv"])
    ('{unit}.csv', '{unit}_day.csv')
    """
    if len(set(names)) < 2:
        return ""
    parts = [PurePosixPath(name).parts for name in names]
    last = {part[-1] for part in parts}
    if len(last) == 1 and all(len(part) > 1 for part in parts):
        return f"{{unit}}/{last.pop()}" if len({part[-2] for part in parts}) == len(names) else ""
    if len(last) != len(names):
        return ""
    stems, suffixes = {PurePosixPath(name).stem for name in last}, {PurePosixPath(name).suffix for name in last}
    before, after = _beginning(stems), _beginning({stem[::-1] for stem in stems})[::-1]
    before = before[: 1 + max(before.rfind(sign) for sign in SEPARATORS)]
    after = after[min((at for sign in SEPARATORS if (at := after.find(sign)) >= 0), default=len(after)) :]
    if len(suffixes) > 1 or any(len(stem) <= len(before) + len(after) for stem in stems):
        return ""
    return f"{before}{{unit}}{after}{suffixes.pop()}".replace("{unit}{unit}", "{unit}")


def _beginning(words: set[str]) -> str:
    """What all words begin with."""
    first, last = min(words), max(words)
    same = [a == b for a, b in zip(first, last, strict=False)]
    return first[: same.index(False)] if False in same else first[: len(same)]
