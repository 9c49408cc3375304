"""Your own table, CSV or Parquet: params map its columns to the channels. A new kind of asset needs no code.

    data:
      source: table
      asset: transformer                # a contract of this name in policy/contract.yaml
      path: measurements.csv
      table:
        unit: Trafo                     # your column that names the machine
        cycle: Tag                      # your column that counts 1, 2, 3, …; or `time`, see time_stamps.py
        settings: {Last: load}          # your column: the channel of the contract
        sensors: {Oel: oil_temperature, H2: hydrogen}
        rul: Rest                       # your column of true remaining cycles; or null
        ends_in_failure: false          # true: no such column is needed, every history ends in the failure
        separator: ";"                  # of CSV; and decimal, encoding, missing: see telemetry/delimited.py
        decimal: ","
        encoding: cp1252
        missing: [Bad, "I/O Timeout"]

Rules: every mapped column must exist, and every channel of the contract must be mapped; other columns are not read.
Without `rul` and `ends_in_failure` the remaining life is unknown: every history is censored, every label is NaN, and
nothing can be trained on the table.

A row with more or fewer cells than the header, or a cell that is no number, is refused with its line and column. Where
the contract allows a share of unreadable rows (`max_unreadable_share`), a cell of a channel that is no number is a
missing reading. A row of another width is always refused: nobody can say which of its cells is which. Values are not
judged here.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from twinseal.digests import sha256
from twinseal.errors import ConfigError, DataError
from twinseal.evidence import Subject
from twinseal.reading import read_regular
from twinseal.sources.source import SourceParams
from twinseal.sources.time_stamps import TimeParams, count_cycles, gather, read_stamps
from twinseal.sources.time_stamps import remarks as time_remarks
from twinseal.telemetry.columns import list_names, nearest, separator_in
from twinseal.telemetry.contract import Contract
from twinseal.telemetry.delimited import Delimited, Fault, Form, read_delimited, read_header
from twinseal.telemetry.fleet import Fleet
from twinseal.telemetry.tables import MAX_FILE_BYTES, parquet_names, read_parquet
from twinseal.telemetry.unit_names import alike, unit_name

SHOWN = 5  # faults in a message


class TableParams(SourceParams):
    """Which column of the table holds which channel, and how the file is written.

    Attributes:
        unit: Column that names the machine.
        cycle: Column that counts the cycles from 1; or else
        time: The time stamps that become cycles.
        settings: Column → setting of the contract.
        sensors: Column → sensor of the contract.
        rul: Column of true remaining cycles; null if there is none.
        ends_in_failure: Every history ends in the failure, so that 0 cycles remain at its last row.
        separator: Between two cells of CSV.
        decimal: Of numbers in CSV.
        encoding: Of CSV.
        missing: Words in CSV that stand for no value, beside the usual ones.

    Raises:
        ValueError: A column or a channel is mapped twice; both or none of `cycle` and `time` are given, or both `rul`
            and `ends_in_failure`; or `Form` refuses how the file is written.
    """

    unit: str
    cycle: str | None = None
    time: TimeParams | None = None
    settings: dict[str, str]
    sensors: dict[str, str]
    rul: str | None = None
    ends_in_failure: bool = False
    separator: str = ","
    decimal: str = "."
    encoding: str = "utf-8"
    missing: tuple[str, ...] = ()

    def model_post_init(self, _context: Any, /) -> None:
        """Refuse a mapping with two meanings."""
        if (self.cycle is None) == (self.time is None):
            raise ValueError("expected cycle (a column that counts) or time (time stamps), one of both")
        channel_names = [*self.settings.values(), *self.sensors.values()]
        own_columns = [self.unit, self.moment, *self.settings, *self.sensors, *([self.rul] if self.rul else [])]
        if len(set(channel_names)) != len(channel_names) or len(set(own_columns)) != len(own_columns):
            raise ValueError("expected each column and each channel mapped once")
        if self.rul and self.ends_in_failure:
            raise ValueError("expected rul or ends_in_failure, got both")
        if self.rul and self.time and self.time.length is not None:
            raise ValueError("rul: expected cycles that are in the table, got time stamps that become cycles")
        self.form  # noqa: B018 - it refuses

    def open(self, path: Path, contract: Contract) -> Table:
        """The table at `path`; see `Table.open`."""
        return Table.open(path, self, contract)

    @property
    def form(self) -> Form:
        """How CSV is written."""
        return Form(self.separator, self.decimal, self.encoding, self.missing)

    @property
    def moment(self) -> str:
        """The column that orders the rows of a unit: cycles or time stamps."""
        return self.time.column if self.time else str(self.cycle)

    @property
    def columns(self) -> dict[str, str]:
        """Column → channel or key, for every column that is read."""
        labels = {self.rul: "rul"} if self.rul else {}
        moment = "moment" if self.time else "cycle"
        return {self.unit: "unit", self.moment: moment, **labels, **self.settings, **self.sensors}


@dataclass(frozen=True)
class Table:
    """The user's own table as a source of telemetry.

    Attributes:
        params: The mapping.
        contract: What the telemetry must be.
        name: File name; its suffix tells CSV from Parquet.
        data: Its bytes, read once and then hashed and parsed.
    """

    params: TableParams
    contract: Contract
    name: str
    data: bytes

    @classmethod
    def open(cls, path: Path, params: TableParams, contract: Contract) -> Table:
        """The source at `path`.

        Raises:
            ConfigError: There is no file, it is neither .csv nor .parquet, or the mapping does not fit the contract.
            DataError: The file is too long.
            OSError: The file cannot be read.
        """
        if path.suffix.lower() not in (".csv", ".parquet") or not path.is_file():
            found = "another suffix" if path.is_file() else "a folder" if path.is_dir() else "no such file"
            raise ConfigError(
                f"data.path: expected a .csv or .parquet file, got {found} at {path}",
                remedy="Put your table there, or set data.path in params.yaml; then: dvc repro",
            )
        for kind in ("settings", "sensors"):
            expected, got = set(getattr(contract, kind)), set(getattr(params, kind).values())
            if expected != got:
                raise ConfigError(
                    f"data.table.{kind}: expected the {kind} of the contract for '{contract.asset}', "
                    f"missing {sorted(expected - got)}, unknown {sorted(got - expected)}",
                    remedy=f"Map a column to each of them under data.table.{kind} in params.yaml; then: dvc repro",
                )
        data = read_regular(path, MAX_FILE_BYTES, follow=True)
        if len(data) > MAX_FILE_BYTES:
            raise DataError(f"{path}: expected at most {MAX_FILE_BYTES} bytes, got more")
        return cls(params, contract, path.name, data)

    def origin(self) -> tuple[Subject, ...]:
        """The file, by digest."""
        return (Subject(self.name, sha256(self.data)),)

    def read(self) -> Fleet:
        """The fleet that the table describes.

        Raises:
            DataError: It is not CSV or Parquet, a mapped column is missing, or a row cannot be read.
        """
        return self._parsed[0]

    def remarks(self) -> tuple[str, ...]:
        """What was set aside, and what a person should know, after `read`."""
        return self._parsed[1]

    @cached_property
    def _parsed(self) -> tuple[Fleet, tuple[str, ...]]:
        read = self._columns()
        table = read.frame.rename(columns=self.params.columns)
        names = table["unit"].map(unit_name, na_action="ignore").fillna("")
        found = [*read.faults, *self._nameless(names, read, table["unit"])]
        spelled = table["unit"].astype(str).groupby(names).nunique()
        said = [f"unit {name}: written in {n} ways, read as one" for name, n in spelled[spelled > 1].items()]
        said += [f"units {a} and {b}: alike, read as two" for a, b in alike(spelled.index)]
        table["unit"] = names
        if self.params.time:
            table, more, faults = self._with_cycles(table, self.params.time, read)
            found, said = found + faults, said + list(more)
        said += self._require_readable(found, len(table))
        return self._fleet(table), tuple(said)

    def _fleet(self, table: pd.DataFrame) -> Fleet:
        if not self.params.rul:
            known = self.params.ends_in_failure and pd.api.types.is_numeric_dtype(table["cycle"])
            last = table.groupby("unit")["cycle"].transform("max") if known else np.nan
            table["rul"] = last - table["cycle"] if known else np.nan
        table["censored"] = False
        fleet = Fleet.of(table[list(self.contract.columns)])
        return Fleet(fleet.table.assign(censored=_censoring(fleet)))

    def _nameless(self, names: pd.Series[Any], read: Delimited, as_written: pd.Series[Any]) -> list[Fault]:
        rows = np.flatnonzero((names == "").to_numpy())
        return [
            Fault(int(i), read.line(int(i)), self.params.unit, "the name of a machine", str(as_written.iloc[i])[:60])
            for i in rows[:SHOWN]
        ]

    def _with_cycles(
        self, table: pd.DataFrame, time: TimeParams, read: Delimited
    ) -> tuple[pd.DataFrame, tuple[str, ...], list[Fault]]:
        """The table with cycles in place of time stamps."""
        moments, expected = read_stamps(table["moment"], time)
        bad = np.flatnonzero(moments.isna().to_numpy())
        faults = [
            Fault(int(i), read.line(int(i)), time.column, expected, str(table["moment"].iloc[i])[:60]) for i in bad
        ]
        table = table.assign(moment=moments)
        if faults:
            return table.assign(cycle=0), (), faults
        table["cycle"] = count_cycles(table["unit"], moments, time.length)
        twice = np.flatnonzero(table.duplicated(["unit", "moment" if time.length is None else "cycle"]).to_numpy())
        if len(twice) and not time.gather:
            what = "one row for each unit and time" if time.length is None else "one row in a cycle, or `gather`"
            faults = [Fault(int(i), read.line(int(i)), time.column, what, "another") for i in twice[:SHOWN]]
        said = time_remarks(table["unit"], moments)
        if time.gather:
            numbers = [name for name in table.columns if name not in ("unit", "cycle", "moment")]
            said += (
                (f"{len(twice):,} rows were gathered into cycles of {time.cycle}: {time.gather}",) if len(twice) else ()
            )
            table = gather(table[["unit", "cycle", "moment", *numbers]], time.gather)
        return table, said, faults

    def _require_readable(self, faults: list[Fault], rows: int) -> list[str]:
        """What is set aside, in words.

        Raises:
            DataError: Something is at fault, and the contract does not allow it.
        """
        if not faults:
            return []
        share = len({fault.row for fault in faults}) / max(rows, 1)
        keys = (self.params.unit, self.params.moment, self.params.rul)
        grave = [fault for fault in faults if not fault.column or fault.column in keys]
        shown = "; ".join(str(fault) for fault in (grave or faults)[:SHOWN])
        more = f"; and {len(faults) - SHOWN} more" if len(faults) > SHOWN else ""
        if grave or share > self.contract.max_unreadable_share:
            raise DataError(
                f"{self.name}, {shown}{more}",
                remedy="Correct the file; or say how it is written: separator, decimal, encoding, missing under "
                "data.table in params.yaml. Policy can take cells that are no number for missing readings: "
                "max_unreadable_share in policy/contract.yaml.",
                findings=tuple(f"{self.name}, {fault}" for fault in faults),
            )
        return [f"{share:.2%} of the rows have a cell that cannot be read, taken for a missing reading: {shown}{more}"]

    def _columns(self) -> Delimited:
        """The mapped columns, under their own names."""
        wanted = list(self.params.columns)
        if not self._is_csv:
            self._require(wanted, parquet_names(io.BytesIO(self.data), self.name))
            return Delimited(read_parquet(io.BytesIO(self.data), self.name, wanted))
        self._require(wanted, read_header(self.data, self.name, self.params.form))
        texts = {self.params.unit, *([self.params.moment] if self.params.time else [])}
        return read_delimited(self.data, self.name, self.params.form, wanted, set(wanted) - texts)

    def _require(self, wanted: list[str], header: list[str]) -> None:
        missing, twice = [n for n in wanted if n not in header], [n for n in wanted if header.count(n) > 1]
        if missing or twice:
            raise DataError(
                f"{self.name}: expected the columns {wanted} once, missing {missing}, twice {twice}, "
                f"got {list_names(header)}",
                remedy=_how_to_map(missing, header),
            )

    @property
    def _is_csv(self) -> bool:
        return self.name.lower().endswith(".csv")


def _how_to_map(missing: list[str], header: list[str]) -> str:
    separator = separator_in(header)
    if separator:
        decimal = ', and decimal: "," if its numbers have commas' if separator == ";" else ""
        return f"Set data.table.separator in params.yaml to {separator!r}{decimal}; then: dvc repro"
    meant = "; ".join(f"for '{column}' it has '{near}'" for column, near in nearest(missing, header).items())
    return f"Name its columns under data.table in params.yaml{f' ({meant})' if meant else ''}; then: dvc repro"


def _censoring(fleet: Fleet) -> Any:
    """Whether the history of each row's unit ends before the failure, (R,) bool. An unknown end is no failure."""
    last = fleet.table["rul"].to_numpy()[fleet.starts + fleet.lengths - 1]
    return np.repeat(~(last <= 0), fleet.lengths)
