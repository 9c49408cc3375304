"""The mapping: which column of a plant's files holds which channel, and how those files are written.

It is part of the params of the sources that read files of other people's making, it is in the signed record of the
stage ingest, and with that record it is in every bundle: the twin reads the plant's files as the training did.

    unit: Trafo                       # your column that names the machine; or else
    unit_in_name: "trafo-{unit}.csv"  # the name of the machine is in the name of its file
    cycle: Tag                        # your column that counts 1, 2, 3, …; or `time`, see time_stamps.py
    files: ["2025/*.csv"]             # which files of a folder; left out: every CSV and Parquet file in it
    settings: {Last: load}            # your column: the channel of the contract
    sensors: {Oel: oil_temperature, H2: hydrogen}
    categories: {Mode: {idle: 0, run: 1}}    # words of a column that become numbers
    scale: {Oel: [0.1, -20]}          # reading = 0.1 × cell - 20
    separator: ";"                    # of CSV; and decimal, encoding, missing: see delimited.py
    decimal: ","
    encoding: cp1252
    missing: [Bad, "I/O Timeout"]

Rules: a column has one meaning and a channel one column. Columns that are not named are not read. A mapping is bounded
in all it has: whoever signed one that a twin reads may be hostile. Its patterns take no more time than the files below
a folder are many: `**` once, and names of machines are what stands between two fixed texts.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable
from pathlib import PurePosixPath
from typing import Any

from twinseal.config import Field, Settings
from twinseal.errors import ConfigError
from twinseal.telemetry.contract import Contract
from twinseal.telemetry.csv_lines import MAX_COLUMNS
from twinseal.telemetry.forms import Form
from twinseal.telemetry.time_params import TimeParams

MAPPING = "mapping"  # its name among the parameters in the record of ingest
UNIT = "{unit}"
KINDS = ("settings", "sensors")
MAX_CATEGORIES = 1000
MAX_PATTERNS, MAX_WILD, MAX_PATTERN = 10_000, 100, 300  # most may be names of files; each of the others is a walk
MAX_NAME = 200  # letters of the name of a column, or of a word
_RECURSIVE = "**"


class ColumnMapping(Settings):
    """Which column holds which channel, and how the files are written.

    Attributes:
        unit: Column that names the machine; or else
        unit_in_name: The name of a machine's file, or the end of its path, with {unit} where the machine is named.
        files: Patterns of the files in a folder, such as `2025/*.csv`; none means every file of telemetry in it.
        cycle: Column that counts the cycles from 1; or else
        time: The time stamps that become cycles.
        settings: Column → setting of the contract.
        sensors: Column → sensor of the contract.
        categories: Column → word → number that stands for it. Another word in that column is at fault.
        scale: Column → factor and offset: reading = factor × cell + offset.
        sums: Channels that add up where several rows become one cycle; those that count events do.
        separator: Between two cells of CSV.
        decimal: Of numbers in CSV.
        encoding: Of CSV.
        missing: Words in CSV that stand for no value, beside the usual ones.

    Raises:
        ValueError: A column or a channel is mapped twice; both or none of `unit` and `unit_in_name`, or of `cycle` and
            `time`, are given; a category or a scale is of a column that holds no channel, or is no finite number; or
            `Form` refuses how the file is written; a pattern leads out of the folder, or has `**` more than once; or a
            name is too long.
    """

    unit: str = ""
    unit_in_name: str = ""
    files: tuple[str, ...] = ()
    cycle: str | None = None
    time: TimeParams | None = None
    settings: dict[str, str]
    sensors: dict[str, str]
    categories: dict[str, dict[str, float]] = Field(default_factory=dict)
    scale: dict[str, tuple[float, float]] = Field(default_factory=dict)
    sums: tuple[str, ...] = ()
    separator: str = ","
    decimal: str = "."
    encoding: str = "utf-8"
    missing: tuple[str, ...] = ()

    def model_post_init(self, _context: Any, /) -> None:
        """Refuse a mapping with two meanings."""
        if bool(self.unit) == bool(self.unit_in_name):
            raise ValueError("expected unit (a column) or unit_in_name (of each file), one of both")
        if self.unit_in_name and self.unit_in_name.count(UNIT) != 1:
            raise ValueError(f"unit_in_name: expected {UNIT} once, as in 'pump-{UNIT}.csv', got {self.unit_in_name!r}")
        if (self.cycle is None) == (self.time is None):
            raise ValueError("expected cycle (a column that counts) or time (time stamps), one of both")
        channels = list(self.channels.values())
        columns = [name for name in (self.unit, self.moment, *self.settings, *self.sensors) if name]
        if len(set(channels)) != len(channels) or len(set(columns)) != len(columns):
            raise ValueError("expected each column and each channel mapped once")
        self._check_sizes()
        check_paths(self.files)
        self._check_numbers()
        self.form  # noqa: B018 - it refuses

    def _check_sizes(self) -> None:
        words = [word for names in self.categories.values() for word in names]
        long = [name for name in (self.unit, self.moment, *self.channels, *self.sums, *words) if len(name) > MAX_NAME]
        if long:
            raise ValueError(
                f"expected names of at most {MAX_NAME} letters, got {len(long)} longer ones: {long[0][:40]!r}"
            )
        if len(self.channels) > MAX_COLUMNS or len(self.sums) > MAX_COLUMNS:
            raise ValueError(f"expected at most {MAX_COLUMNS} columns, got {max(len(self.channels), len(self.sums))}")
        if len(self.unit_in_name) > MAX_PATTERN:
            raise ValueError(f"unit_in_name: expected at most {MAX_PATTERN} letters, got {len(self.unit_in_name)}")
        if len(self.files) > MAX_PATTERNS:
            raise ValueError(f"files: expected at most {MAX_PATTERNS:,} patterns, got {len(self.files):,}")
        slow = [name for name in self.files if len(name) > MAX_PATTERN or name.count(_RECURSIVE) > 1]
        if slow:
            expected = f"patterns of at most {MAX_PATTERN} letters with {_RECURSIVE} once"
            raise ValueError(f"files: expected {expected}, got {slow[0][:60]!r}")
        wild = [name for name in self.files if set("*?") & set(name.replace("[*]", "").replace("[?]", ""))]
        if len(wild) > MAX_WILD:
            raise ValueError(f"files: expected at most {MAX_WILD} patterns with * or ?, got {len(wild)}")

    def _check_numbers(self) -> None:
        for kind in ("categories", "scale"):
            unknown = [name for name in getattr(self, kind) if name not in self.channels]
            if unknown:
                raise ValueError(f"{kind}: expected columns of settings or sensors, got {unknown}")
        for name, words in self.categories.items():
            if not 0 < len(words) <= MAX_CATEGORIES or not all(map(math.isfinite, words.values())):
                raise ValueError(f"categories: {name}: expected 1 to {MAX_CATEGORIES} words, each a finite number")
            if name in self.scale:
                raise ValueError(f"scale: expected a column of numbers, got '{name}', which has categories")
        for name, (factor, offset) in self.scale.items():
            if not (math.isfinite(factor) and math.isfinite(offset) and factor):
                raise ValueError(
                    f"scale: {name}: expected a factor that is not 0, and an offset, got {factor}, {offset}"
                )

    @property
    def form(self) -> Form:
        """How CSV is written."""
        return Form(self.separator, self.decimal, self.encoding, self.missing)

    @property
    def moment(self) -> str:
        """The column that orders the rows of a unit: cycles or time stamps."""
        return self.time.column if self.time else str(self.cycle)

    @property
    def channels(self) -> dict[str, str]:
        """Column → channel."""
        return {**self.settings, **self.sensors}

    @property
    def running(self) -> tuple[str, ...]:
        """The column that tells whether the machine runs, if a cycle is a run."""
        return (self.time.running,) if self.time and self.time.running else ()

    def only(self, channels: Collection[str]) -> ColumnMapping:
        """The mapping of these channels alone."""
        chosen = {kind: {k: v for k, v in getattr(self, kind).items() if v in channels} for kind in KINDS}
        kept = {name for columns in chosen.values() for name in columns}
        numbers = {
            kind: {k: v for k, v in getattr(self, kind).items() if k in kept} for kind in ("categories", "scale")
        }
        return self.model_copy(
            update={**chosen, **numbers, "sums": tuple(name for name in self.sums if name in channels)}
        )

    def unit_of(self, path: str) -> str | None:
        """The machine that the POSIX path of a file names; None if its end is not like `unit_in_name`.

        >>> mapping = ColumnMapping(unit_in_name="{unit}/log.csv", cycle="n", settings={}, sensors={})
        >>> mapping.unit_of("export/T 1/log.csv")
        'T 1'
        """
        depth = len(PurePosixPath(self.unit_in_name).parts)
        before, after = map(re.escape, self.unit_in_name.split(UNIT))
        found = re.fullmatch(f"{before}([^/]+){after}", "/".join(PurePosixPath(path).parts[-depth:]))
        return found[1] if found else None


def check_channels(mapping: ColumnMapping, contract: Contract, section: str, beside: tuple[str, ...] = ()) -> None:
    """Refuse a mapping that does not give each channel of the contract.

    Args:
        mapping: The mapping.
        contract: What the telemetry must be.
        section: Where the mapping is, for messages.
        beside: Channels that come from other tables.

    Raises:
        ConfigError: A channel is missing, or the contract has none of that name.
    """
    for kind in KINDS:
        own = list(getattr(mapping, kind).values())
        expected = set(getattr(contract, kind))
        got = {*own, *(name for name in beside if name in expected)}
        if expected != got or set(own) & set(beside):
            raise ConfigError(
                f"{section}.{kind}: expected the {kind} of the contract for '{contract.asset}', "
                f"missing {sorted(expected - got)}, unknown {sorted(got - expected)}",
                remedy=f"Map a column to each of them under {section}.{kind} in params.yaml; then: dvc repro",
            )
    odd = sorted(set(mapping.sums) - set(contract.all_channels))
    if odd:
        raise ConfigError(f"{section}.sums: expected channels of the contract, got {odd}")
    unknown = sorted(set(beside) - set(contract.all_channels))
    if unknown:
        raise ConfigError(f"{section}.events: expected channels of the contract, got {unknown}")


def check_paths(paths: Iterable[str]) -> None:
    """Refuse a path or a pattern that does not stay below a folder.

    Raises:
        ValueError: One leads out of it.
    """
    for path in paths:
        if not path or PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts:
            raise ValueError(f"files: expected paths below data.path, got {path!r}")
