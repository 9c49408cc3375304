"""What the sources have in common that read what a plant wrote: a mapping, labels, and faults that policy bears or not.

A row that is set aside (see `telemetry.mapped_rows`) is refused with its file, line, column and text. Where the
contract allows a share of unreadable rows (`max_unreadable_share`), it is set aside, and said; where that leaves a gap
in the cycles, the cycle is kept, with readings that are missing: validation decides by their share.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from twinseal.config import Field
from twinseal.errors import ConfigError, DataError
from twinseal.sources.measurement_units import conversion
from twinseal.sources.source import SourceParams
from twinseal.telemetry.contract import Contract
from twinseal.telemetry.fleet import Fleet
from twinseal.telemetry.mapped_rows import Rows
from twinseal.telemetry.mapping import ColumnMapping

SHOWN = 5  # faults in a message
MAX_WORDS = 3  # that could stand for no value


class PlantParams(SourceParams, ColumnMapping):
    """The mapping of a plant's columns, and where the labels are.

    Attributes:
        measured_in: Column → unit of measurement in which it is written, where that is not the contract's.
        rul: Column of true remaining cycles; null if there is none.
        ends_in_failure: Every history ends in the failure, so that 0 cycles remain at its last row.

    Raises:
        ValueError: `rul` and `ends_in_failure` are both given, or a column has two meanings; or as `ColumnMapping`.
    """

    measured_in: dict[str, str] = Field(default_factory=dict)
    rul: str | None = None
    ends_in_failure: bool = False

    def model_post_init(self, context: Any, /) -> None:
        """Refuse labels with two meanings."""
        ColumnMapping.model_post_init(self, context)
        if self.rul and self.ends_in_failure:
            raise ValueError("expected rul or ends_in_failure, got both")
        if self.rul and self.rul in (self.unit, self.moment, *self.channels):
            raise ValueError("expected each column and each channel mapped once")
        if self.rul and self.time and self.time.seconds is not None:
            raise ValueError("rul: expected cycles that are in the table, got time stamps that become cycles")
        odd = [name for name in self.measured_in if name not in self.channels or name in self.scale]
        if odd:
            raise ValueError(f"measured_in: expected mapped columns without a scale of their own, got {odd}")

    @property
    def labels(self) -> dict[str, str]:
        """Column → name, of the labels."""
        return {self.rul: "rul"} if self.rul else {}

    def mapping(self, contract: Contract) -> ColumnMapping:
        """The mapping alone, with the factors of the units of measurement: all that the twin needs.

        Raises:
            ConfigError: A unit of measurement does not become that of the contract.
        """
        scale = dict(self.scale)
        for name, written in self.measured_in.items():
            try:
                scale[name] = conversion(written, contract.all_channels[self.channels[name]].unit)
            except ValueError as error:
                raise ConfigError(
                    f"measured_in: {name}: {error}",
                    remedy="Name it as pint does (degF, kPa, l/min), or give its factor and offset under `scale`.",
                ) from error
        fields = {name: getattr(self, name) for name in ColumnMapping.model_fields}
        return ColumnMapping(**{**fields, "scale": scale})


def require_readable(rows: Rows, params: ColumnMapping, contract: Contract) -> tuple[str, ...]:
    """What was set aside, in words.

    Raises:
        DataError: Something is at fault, and the contract does not allow it.
    """
    if not rows.faults:
        return ()
    share = rows.rows_at_fault / max(rows.total, 1)
    shown = "; ".join(map(str, rows.faults[:SHOWN]))
    more = f"; {rows.rows_at_fault:,} rows in all" if len(rows.faults) > SHOWN else ""
    if share > contract.max_unreadable_share:
        raise DataError(
            f"{shown}{more}",
            remedy=f"{_advice(rows, params)} Policy can set aside rows that cannot be read: max_unreadable_share in "
            f"policy/contract.yaml, which is {contract.max_unreadable_share:.2%}; here it is {share:.2%} of the rows.",
            findings=tuple(map(str, rows.faults)),
        )
    return (f"{share:.2%} of the rows cannot be read whole; readings are taken as missing: {shown}{more}",)


def _advice(rows: Rows, params: ColumnMapping) -> str:
    """What would probably read the cells that are at fault."""
    cells = {fault.got for fault in rows.faults if fault.column}
    moments = {fault.got for fault in rows.faults if fault.column == params.cycle}
    if moments and pd.to_datetime(pd.Series(sorted(moments)), errors="coerce", format="mixed").notna().all():
        return f"The column {params.cycle} has time stamps: in place of cycle, write time: {{column: {params.cycle}}}."
    if any(fault.column == "" for fault in rows.faults) and params.decimal == "." and not cells:
        return "Correct the file: was it written with decimal commas, between columns that are separated by commas?"
    if cells and len(cells) <= MAX_WORDS and not any(letter.isdigit() for cell in cells for letter in cell):
        return f"If that stands for no value, say so: missing: [{', '.join(sorted(cells))}] beside the mapping."
    return "Correct the file; or say how it is written: separator, decimal, encoding, missing, time beside the mapping."


def build_fleet(table: pd.DataFrame, params: PlantParams, contract: Contract, *, lost: Mapping[str, int]) -> Fleet:
    """The fleet in the long form.

    Args:
        table: `unit`, `cycle`, the channels, and `rul` if there are labels.
        params: How histories end.
        contract: What the columns are.
        lost: Machine → how many of its rows were set aside; "": of rows that name none.

    Raises:
        DataError: A column does not fit the long form.
    """
    table = _keep_cycles(table, lost)
    if "rul" not in table:
        last = table.groupby("unit")["cycle"].transform("max") if params.ends_in_failure else np.nan
        table = table.assign(rul=last - table["cycle"] if params.ends_in_failure else np.nan)
    fleet = Fleet.of(table.assign(censored=False)[list(contract.columns)])
    return Fleet(fleet.table.assign(censored=_censoring(fleet)))


def _keep_cycles(table: pd.DataFrame, lost: Mapping[str, int]) -> pd.DataFrame:
    """The table with a row of missing readings for each cycle that was lost with a row.

    A gap that is longer than the rows that its own machine lost, and those that name no machine could have filled, is
    one: validation finds it.
    """
    if not any(lost.values()) or table.duplicated(["unit", "cycle"]).any():
        return table
    cycles = table.groupby("unit")["cycle"]
    first, last = cycles.min(), cycles.max()
    gaps = last - first + 1 - cycles.nunique()
    gaps = gaps[gaps > 0]
    own = pd.Series({unit: lost.get(unit, lost.get(unit.rpartition("#")[0] or unit, 0)) for unit in gaps.index})
    beyond = (gaps - own).clip(lower=0) if len(gaps) else gaps
    gaps = gaps if beyond.sum() <= lost.get("", 0) else gaps[beyond == 0]
    if not len(gaps):
        return table
    torn = table["unit"].isin(set(gaps.index))
    whole = pd.MultiIndex.from_tuples(
        [(unit, cycle) for unit in gaps.index for cycle in range(int(first[unit]), int(last[unit]) + 1)],
        names=["unit", "cycle"],
    )
    mended = table[torn].set_index(["unit", "cycle"]).reindex(whole).reset_index()
    if "rul" in mended:
        known = mended["cycle"].where(mended["rul"].notna())
        after = mended.assign(cycle=known).groupby("unit")[["rul", "cycle"]].bfill()
        mended["rul"] = after["rul"] + after["cycle"] - mended["cycle"]
    return pd.concat([table[~torn], mended], ignore_index=True)


def _censoring(fleet: Fleet) -> Any:
    """Whether the history of each row's unit ends before the failure, (R,) bool. An unknown end is no failure."""
    last = fleet.table["rul"].to_numpy()[fleet.starts + fleet.lengths - 1]
    return np.repeat(~(last <= 0), fleet.lengths)
