"""Your own tables, CSV or Parquet: params map their columns to the channels. A new kind of asset needs no code.

    data:
      source: table
      asset: transformer                # a contract of this name in policy/contract.yaml
      path: export                      # a file, or a folder with all its files
      table:
        files: ["2025/*.csv"]           # which files of the folder; left out: every CSV and Parquet file in it
        unit: Trafo                     # and cycle or time, settings, sensors, …: see telemetry/mapping.py
        cycle: Tag
        settings: {Last: load}
        sensors: {Oel: oil_temperature, H2: hydrogen}
        measured_in: {Oel: degF}        # where the contract has another unit
        rul: Rest                       # your column of true remaining cycles; or null
        ends_in_failure: false          # true: no such column is needed, every history ends in the failure
        events: …                       # tables of failures, replacements, errors: see events.py

Rules: every mapped column must be in every file, and every channel of the contract must be mapped. The rows of a
machine may be in many files. Without `rul`, `ends_in_failure` and events the remaining life is unknown: every history
is censored, every label is NaN, and nothing can be trained on the table. What cannot be read is refused with file,
line, column and text, or set aside by policy: see plant.py. Values are not judged here.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from twinseal.digests import sha256
from twinseal.errors import ConfigError, suggest
from twinseal.evidence import Subject
from twinseal.sources.events import EventTables, add_events, label_lives
from twinseal.sources.plant import PlantParams, build_fleet, require_readable
from twinseal.telemetry.contract import Contract
from twinseal.telemetry.fleet import Fleet
from twinseal.telemetry.mapped_rows import SUFFIXES, join, read_file, to_cycles
from twinseal.telemetry.mapping import ColumnMapping, check_channels, check_paths
from twinseal.telemetry.plant_files import file_bytes, files_below

SHOWN = 5
WRITE_AGAIN = "Look at that place in an editor, and export the file again. How files may be written: docs/data.md"


class TableParams(PlantParams):
    """Which column holds which channel, and where the labels are.

    Attributes:
        events: Tables beside the telemetry, from which lives and labels are cut.

    Raises:
        ValueError: Labels come from two places, or a path leads out of the folder; or as `PlantParams`.
    """

    events: EventTables = EventTables()

    def model_post_init(self, context: Any, /) -> None:
        """Refuse paths that lead elsewhere, and labels with two meanings."""
        PlantParams.model_post_init(self, context)
        check_paths(self.events.paths)
        if self.events.cut_lives and (self.rul or self.ends_in_failure):
            raise ValueError("expected events.failures, rul or ends_in_failure, got two of them")
        if self.events.replacements and not self.events.cut_lives:
            raise ValueError("events.replacements: expected events.failures beside it")

    def open(self, path: Path, contract: Contract) -> Table:
        """The table at `path`; see `Table.open`."""
        return Table.open(path, self, contract)


@dataclass(frozen=True)
class _Read:
    fleet: Fleet
    origin: tuple[Subject, ...]
    remarks: tuple[str, ...]


@dataclass(frozen=True)
class Table:
    """The user's own table as a source of telemetry.

    Attributes:
        params: The mapping.
        contract: What the telemetry must be.
        root: The folder with the files.
        names: Of the files below it, as POSIX paths.
        columns: How the columns become channels, units of measurement included.
    """

    params: TableParams
    contract: Contract
    root: Path
    names: tuple[str, ...]
    columns: ColumnMapping

    @classmethod
    def open(cls, path: Path, params: TableParams, contract: Contract) -> Table:
        """The source at `path`: its files are found here, and read once when the fleet is asked for.

        Raises:
            ConfigError: There is no file that fits, or the mapping does not fit the contract.
        """
        check_channels(params, contract, "data.table", params.events.channels)
        columns = params.mapping(contract)
        columns = columns.model_copy(update={"sums": tuple(dict.fromkeys((*columns.sums, *params.events.counts)))})
        if path.is_file() and path.suffix.lower() in SUFFIXES and not (params.files or params.events.paths):
            return cls(params, contract, path.parent, (path.name,), columns)
        if not path.is_dir():
            found = "no such file" if not path.exists() else "another suffix"
            if path.is_file() and path.suffix.lower() in SUFFIXES:
                found = "one file, beside `files` or `events` of a folder"
            raise ConfigError(
                f"data.path: expected a folder, or a {' or '.join(SUFFIXES)} file, got {found} at {path}",
                remedy="Put your table there, or set data.path in params.yaml; then: dvc repro",
            )
        names = files_below(path, params.files, params.events.paths)
        return cls(params, contract, path, names, columns)

    def origin(self) -> tuple[Subject, ...]:
        """Every file that was read, by digest."""
        return self._read.origin

    def read(self) -> Fleet:
        """The fleet that the tables describe.

        Raises:
            DataError: A file is no CSV or Parquet, a mapped column is missing, or a row cannot be read.
            OSError: A file cannot be read.
        """
        return self._read.fleet

    def remarks(self) -> tuple[str, ...]:
        """What was set aside, and what a person should know, after `read`."""
        return self._read.remarks

    def mapping(self) -> ColumnMapping:
        """How the columns became channels."""
        return self.columns

    @cached_property
    def _read(self) -> _Read:
        digests: dict[str, str] = {}

        def load(name: str) -> bytes:
            data = file_bytes(self.root / name)
            digests[name] = sha256(data)
            return data

        params, labels = self.params, self.params.labels
        with suggest(WRITE_AGAIN):
            rows = join([read_file(load(name), name, self.columns, labels, path=name) for name in self.names])
        if params.events.paths:
            rows = add_events(rows, params.events, self.columns, load)
        if self.columns.time:
            rows = to_cycles(rows, self.names, self.columns.time, self.columns.sums)
        said = require_readable(rows, self.columns, self.contract)
        table = label_lives(rows.table, self.columns) if params.events.cut_lives else rows.table
        fleet = build_fleet(table, params, self.contract, lost=rows.lost)
        subjects = tuple(Subject(name, digest) for name, digest in sorted(digests.items()))
        return _Read(fleet, subjects, (*rows.remarks, *said, *_not_read(self.root, digests, self.names)))


def _not_read(root: Path, read: dict[str, str], names: tuple[str, ...]) -> list[str]:
    """Files of the folder that nobody read: a forgotten one would be a machine less."""
    if len(names) == 1 and len(read) == 1:
        return []
    every = (path for path in sorted(root.rglob("*")) if path.is_file() and not path.name.startswith("."))
    others = [name for path in every if (name := path.relative_to(root).as_posix()) not in read]
    shown = ", ".join(others[:SHOWN]) + (" …" if len(others) > SHOWN else "")
    return [f"{len(others)} other files in that folder were not read: {shown}"] if others else []
