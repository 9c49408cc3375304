"""Your own table, CSV or Parquet: params map its columns to the channels. A new kind of asset needs no code.

    data:
      source: table
      asset: transformer                # a contract of this name in policy/contract.yaml
      path: measurements.csv
      table:
        unit: Trafo                     # your column that names the machine
        cycle: Tag                      # your column that counts 1, 2, 3, …
        settings: {Last: load}          # your column: the channel of the contract
        sensors: {Oel: oil_temperature, H2: hydrogen}
        rul: Rest                       # your column of true remaining cycles; or null
        ends_in_failure: false          # true: no such column is needed, every history ends in the failure

Rules: every mapped column must exist, and every channel of the contract must be mapped; other columns are not read.
Without `rul` and `ends_in_failure` the remaining life is unknown: every history is censored, every label is NaN, and
nothing can be trained on the table. Values are not cleaned here: validation judges them.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from twinseal.digests import sha256
from twinseal.errors import ConfigError, DataError
from twinseal.evidence import Subject
from twinseal.reading import read_regular
from twinseal.sources.source import SourceParams
from twinseal.telemetry.columns import how_to_separate, list_names, nearest
from twinseal.telemetry.contract import Contract
from twinseal.telemetry.fleet import Fleet
from twinseal.telemetry.tables import MAX_FILE_BYTES, check_csv, parquet_names, read_parquet


class TableParams(SourceParams):
    """Which column of the table holds which channel.

    Attributes:
        unit: Column that names the machine.
        cycle: Column that counts the cycles from 1.
        settings: Column → setting of the contract.
        sensors: Column → sensor of the contract.
        rul: Column of true remaining cycles; null if there is none.
        ends_in_failure: Every history ends in the failure, so that 0 cycles remain at its last row.

    Raises:
        ValueError: A column or a channel is mapped twice, or both `rul` and `ends_in_failure` are given.
    """

    unit: str
    cycle: str
    settings: dict[str, str]
    sensors: dict[str, str]
    rul: str | None = None
    ends_in_failure: bool = False

    def model_post_init(self, _context: Any, /) -> None:
        """Refuse a mapping with two meanings."""
        channel_names = [*self.settings.values(), *self.sensors.values()]
        own_columns = [self.unit, self.cycle, *self.settings, *self.sensors, *([self.rul] if self.rul else [])]
        if len(set(channel_names)) != len(channel_names) or len(set(own_columns)) != len(own_columns):
            raise ValueError("expected each column and each channel mapped once")
        if self.rul and self.ends_in_failure:
            raise ValueError("expected rul or ends_in_failure, got both")

    def open(self, path: Path, contract: Contract) -> Table:
        """The table at `path`; see `Table.open`."""
        return Table.open(path, self, contract)

    @property
    def columns(self) -> dict[str, str]:
        """Column → channel or key, for every column that is read."""
        labels = {self.rul: "rul"} if self.rul else {}
        return {self.unit: "unit", self.cycle: "cycle", **labels, **self.settings, **self.sensors}


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
            DataError: It is not CSV or Parquet, a mapped column is missing, or a value has the wrong type.
        """
        table = self._mapped_columns().rename(columns=self.params.columns)
        table["unit"] = table["unit"].map(str, na_action="ignore")
        if not self.params.rul:
            known = self.params.ends_in_failure and pd.api.types.is_numeric_dtype(table["cycle"])
            last = table.groupby("unit")["cycle"].transform("max") if known else np.nan
            table["rul"] = last - table["cycle"] if known else np.nan
        table["censored"] = False
        fleet = Fleet.of(table[list(self.contract.columns)])
        return Fleet(fleet.table.assign(censored=_censoring(fleet)))

    def _mapped_columns(self) -> pd.DataFrame:
        """The mapped columns, under their own names."""
        wanted = list(self.params.columns)
        try:
            if self._is_csv:
                check_csv(io.BytesIO(self.data), self.name)
            header = self._column_names()
            missing, twice = [n for n in wanted if n not in header], [n for n in wanted if header.count(n) > 1]
            if missing or twice:
                raise DataError(
                    f"{self.name}: expected the columns {wanted} once, missing {missing}, twice {twice}, "
                    f"got {list_names(header)}",
                    remedy=_how_to_map(self.name, missing, header),
                )
            if self._is_csv:
                return pd.read_csv(io.BytesIO(self.data), usecols=wanted, dtype={self.params.unit: str})
            return read_parquet(io.BytesIO(self.data), self.name, wanted)
        except (ValueError, OSError) as error:
            raise DataError(
                f"{self.name}: expected a table, got something else ({str(error)[:120]})",
                remedy="Write it again as CSV with commas and one header line, or as Parquet; then: dvc repro",
            ) from error

    def _column_names(self) -> list[str]:
        if self._is_csv:
            # Read as a row: pandas would rename a duplicate column without a word.
            row = pd.read_csv(io.BytesIO(self.data), header=None, nrows=1, dtype=str, keep_default_na=False)
            return [str(name) for name in row.iloc[0]]
        return parquet_names(io.BytesIO(self.data), self.name)

    @property
    def _is_csv(self) -> bool:
        return self.name.lower().endswith(".csv")


def _how_to_map(name: str, missing: list[str], header: list[str]) -> str:
    separate = how_to_separate(name, header)
    if separate:
        return f"{separate}   (in its folder; then set data.path in params.yaml to the new file)"
    meant = "; ".join(f"for '{column}' it has '{near}'" for column, near in nearest(missing, header).items())
    return f"Name its columns under data.table in params.yaml{f' ({meant})' if meant else ''}; then: dvc repro"


def _censoring(fleet: Fleet) -> Any:
    """Whether the history of each row's unit ends before the failure, (R,) bool. An unknown end is no failure."""
    last = fleet.table["rul"].to_numpy()[fleet.starts + fleet.lengths - 1]
    return np.repeat(~(last <= 0), fleet.lengths)
