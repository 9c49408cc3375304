"""A table of the user's own: CSV or Parquet, its columns mapped to ours in params. A new kind of asset needs no code.

    data:
      source: table
      asset: transformer                # a contract of this name in policy/contract.yaml
      path: measurements.csv
      table:
        unit: Trafo                     # their column: which machine
        cycle: Tag                      # their column: 1, 2, 3, …
        settings: {Last: load}          # theirs: ours, the names of the contract
        sensors: {Oel: oil_temperature, H2: hydrogen}
        rul: Rest                       # their column: true remaining cycles; or null
        ends_in_failure: false          # true: no column is needed, every history ends in the failure

Rules: a column that is mapped must be there, and all of the contract's channels must be mapped; columns that nobody
mapped are not read. When neither `rul` nor `ends_in_failure` says so, nobody knows the remaining life: every history is
censored and every label NaN, and nothing can be trained on them. Values are not cleaned here: that is validation's.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from twinseal.digests import sha256
from twinseal.errors import ConfigError, DataError
from twinseal.evidence import Subject
from twinseal.sources.source import SourceParams
from twinseal.telemetry.contract import Contract
from twinseal.telemetry.fleet import Fleet


class TableParams(SourceParams):
    """Which of their columns is which of ours.

    Attributes:
        unit: Their column that names the machine.
        cycle: Their column that counts the cycles from 1.
        settings: Their column → our setting.
        sensors: Their column → our sensor.
        rul: Their column of true remaining cycles; null when they have none.
        ends_in_failure: Every history ends in the failure, so that the last cycle has 0 left.

    Raises:
        ValueError: A column is mapped twice, nothing is mapped, or `rul` and `ends_in_failure` are both given.
    """

    unit: str
    cycle: str
    settings: dict[str, str]
    sensors: dict[str, str]
    rul: str | None = None
    ends_in_failure: bool = False

    def model_post_init(self, _context: Any, /) -> None:
        """Refuse a mapping with two meanings."""
        ours = [*self.settings.values(), *self.sensors.values()]
        theirs = [self.unit, self.cycle, *self.settings, *self.sensors, *([self.rul] if self.rul else [])]
        if len(set(ours)) != len(ours) or len(set(theirs)) != len(theirs):
            raise ValueError("expected each column of theirs and each channel of ours mapped once")
        if self.rul and self.ends_in_failure:
            raise ValueError("expected rul or ends_in_failure, got both")

    def open(self, path: Path, contract: Contract) -> Table:
        """The table at `path`; see `Table.open`."""
        return Table.open(path, self, contract)

    @property
    def columns(self) -> dict[str, str]:
        """Their column → ours, for every column that is read."""
        labels = {self.rul: "rul"} if self.rul else {}
        return {self.unit: "unit", self.cycle: "cycle", **labels, **self.settings, **self.sensors}


@dataclass(frozen=True)
class Table:
    """A user's own table as a source of telemetry.

    Attributes:
        params: The mapping.
        contract: What the telemetry must be.
        name: File name; its suffix says CSV or Parquet.
        data: Its bytes, hashed and parsed once.
    """

    params: TableParams
    contract: Contract
    name: str
    data: bytes

    @classmethod
    def open(cls, path: Path, params: TableParams, contract: Contract) -> Table:
        """The source at `path`.

        Raises:
            ConfigError: Nothing is there, it is neither .csv nor .parquet, or the mapping is not the contract's.
            OSError: The file cannot be read.
        """
        if path.suffix.lower() not in (".csv", ".parquet") or not path.is_file():
            raise ConfigError(f"data.path: expected a .csv or .parquet file, got {path}")
        for kind in ("settings", "sensors"):
            expected, got = set(getattr(contract, kind)), set(getattr(params, kind).values())
            if expected != got:
                raise ConfigError(
                    f"data.table.{kind}: expected the {kind} of the contract for '{contract.asset}', "
                    f"missing {sorted(expected - got)}, unknown {sorted(got - expected)}"
                )
        return cls(params, contract, path.name, path.read_bytes())

    def origin(self) -> tuple[Subject, ...]:
        """The file, by digest."""
        return (Subject(self.name, sha256(self.data)),)

    def read(self) -> Fleet:
        """The fleet that the table describes.

        Raises:
            DataError: It is no CSV or Parquet, a mapped column is not in it, or a value cannot be what it should be.
        """
        table = self._theirs().rename(columns=self.params.columns)
        table["unit"] = table["unit"].map(str, na_action="ignore")
        if not self.params.rul:
            known = self.params.ends_in_failure and pd.api.types.is_numeric_dtype(table["cycle"])
            last = table.groupby("unit")["cycle"].transform("max") if known else np.nan
            table["rul"] = last - table["cycle"] if known else np.nan
        table["censored"] = False
        fleet = Fleet.of(table[list(self.contract.columns)])
        return Fleet(fleet.table.assign(censored=_censored(fleet)))

    def _theirs(self) -> pd.DataFrame:
        """The mapped columns, by their names."""
        wanted = list(self.params.columns)
        try:
            header = self._header()
            missing, twice = [n for n in wanted if n not in header], [n for n in wanted if header.count(n) > 1]
            if missing or twice:
                raise DataError(f"{self.name}: expected the columns {wanted} once, missing {missing}, twice {twice}")
            if self.name.lower().endswith(".csv"):
                return pd.read_csv(io.BytesIO(self.data), usecols=wanted, dtype={self.params.unit: str})
            theirs: pd.DataFrame = pq.read_table(io.BytesIO(self.data), columns=wanted).to_pandas(ignore_metadata=True)
            return theirs
        except (ValueError, OSError, pa.ArrowException) as error:
            raise DataError(f"{self.name}: expected a table, got something else ({str(error)[:120]})") from error

    def _header(self) -> list[str]:
        if self.name.lower().endswith(".csv"):
            # As a row of its own: pandas would rename a column given twice, in silence.
            row = pd.read_csv(io.BytesIO(self.data), header=None, nrows=1, dtype=str, keep_default_na=False)
            return [str(name) for name in row.iloc[0]]
        return [str(name) for name in pq.read_schema(io.BytesIO(self.data)).names]


def _censored(fleet: Fleet) -> Any:
    """For each row, whether its unit's history ends before the failure: (R,) bool. An unknown end is no failure."""
    last = fleet.table["rul"].to_numpy()[fleet.starts + fleet.lengths - 1]
    return np.repeat(~(last <= 0), fleet.lengths)
