"""Tables of events beside telemetry: failures and replacements cut histories into lives, and label them.

    events:
      failures:     {path: failures.csv, unit: machineID, time: datetime, only: {failure: [comp1]}}
      replacements: {path: maintenance.csv, unit: machineID, time: datetime}
      counts:       # a channel that counts the events of each cycle
        error1_count: {path: errors.csv, unit: machineID, time: datetime, only: {errorID: [error1]}}
      machines:     {path: machines.csv, unit: machineID, settings: {age: machine_age}}

This is how plants and the widespread public sets keep them: telemetry, errors, failures, maintenance, machines. Paths
are below `data.path`. `time` is a column of time stamps as in the telemetry, or of cycles where that has cycles.

The lives of machine M are called M, M#2, M#3, …: the rows after the event before, up to the event that ends it. One
that ends in a failure is labelled with the cycles from each row to the failure; where the telemetry stops more than a
cycle before the failure, its history is cut, and the label is known. A life that a replacement ended, or nothing yet,
is cut, and its label is unknown: nobody saw its failure. Before the first event a machine need not have been new: its
first life is kept, and said.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from twinseal.config import Field, Settings
from twinseal.errors import DataError
from twinseal.telemetry.delimited import Fault
from twinseal.telemetry.mapped_rows import Rows, read_columns, readings
from twinseal.telemetry.mapping import ColumnMapping
from twinseal.telemetry.time_stamps import read_stamps
from twinseal.telemetry.unit_names import unit_name

FAILURE, REPLACEMENT = "failure", "replacement"
SHOWN = 5
Read = Callable[[str], bytes]


class EventParams(Settings):
    """One table of events.

    Attributes:
        path: Of the file, below data.path.
        unit: Column that names the machine.
        time: Column of time stamps, or of cycles where the telemetry has cycles.
        only: Column → words: only the rows with one of these words count.
    """

    path: str
    unit: str
    time: str
    only: dict[str, tuple[str, ...]] = Field(default_factory=dict)


class MachineParams(Settings):
    """One table with a row for each machine.

    Attributes:
        path: Of the file, below data.path.
        unit: Column that names the machine.
        settings: Column → setting of the contract, the same in all rows of the machine.
        categories: Column → word → number, as in the mapping of the telemetry.
    """

    path: str
    unit: str
    settings: dict[str, str]
    categories: dict[str, dict[str, float]] = Field(default_factory=dict)


class EventTables(Settings):
    """The tables beside the telemetry.

    Attributes:
        failures: Events that end a life.
        replacements: Events after which a machine is as new: maintenance, a part replaced.
        counts: Channel of the contract → events that it counts, in each cycle.
        machines: What is known of each machine.
    """

    failures: EventParams | None = None
    replacements: EventParams | None = None
    counts: dict[str, EventParams] = Field(default_factory=dict)
    machines: MachineParams | None = None

    @property
    def paths(self) -> tuple[str, ...]:
        """Every file that is read."""
        given = (self.failures, self.replacements, *self.counts.values(), self.machines)
        return tuple(dict.fromkeys(item.path for item in given if item))

    @property
    def cut_lives(self) -> bool:
        """Whether lives and labels come from events."""
        return self.failures is not None

    @property
    def channels(self) -> tuple[str, ...]:
        """The channels of the contract that come from these tables."""
        return (*self.counts, *(self.machines.settings.values() if self.machines else ()))


def add_events(rows: Rows, events: EventTables, mapping: ColumnMapping, read: Read) -> Rows:
    """The rows with the channels that events and machines give, cut into lives if there are failures.

    Args:
        rows: As `join` gives them: `moment` or `cycle`, by unit.
        events: The tables.
        mapping: Of the telemetry: how files and time stamps are written.
        read: The bytes of a file below data.path.

    Raises:
        DataError: A file is absent or cannot be read, a row of it has no machine or time, or a machine is there twice.
    """
    clock = "moment" if mapping.time else "cycle"
    table, said = rows.table, list(rows.remarks)
    if events.machines:
        table = _with_machines(table, events.machines, mapping, read)
    ends = []
    for kind, table_of in ((FAILURE, events.failures), (REPLACEMENT, events.replacements)):
        if table_of:
            found, remarks = _events(table_of, kind, mapping, read, table)
            ends.append(found.assign(ends_by=kind))
            said += remarks
    if ends:
        table, remarks = _cut(table, pd.concat(ends, ignore_index=True), clock)
        said += remarks
    by_machine = table.assign(unit=table["machine"]) if ends else table
    for channel, params in events.counts.items():
        found, remarks = _events(params, channel, mapping, read, by_machine)
        table = table.assign(**{channel: _count(by_machine, found, clock)})
        said += (*remarks, *_not_counted(by_machine, found, clock, params.path))
    table = table.drop(columns="machine", errors="ignore")
    return replace(rows, table=table, remarks=tuple(said))


def label_lives(table: pd.DataFrame, mapping: ColumnMapping) -> pd.DataFrame:
    """The lives with their labels: `rul` in cycles, NaN where no failure was seen; cycles begin at 1 in each life.

    Args:
        table: With `cycle`, and `ends_at`, `ends_by` and `seen_until` of `add_events`.
        mapping: Of the telemetry.
    """
    lives = table.groupby("unit")
    if mapping.time is None:
        first = lives["cycle"].transform("min")
        left, cycle = table["ends_at"] - table["cycle"], table["cycle"] - first + 1
    else:
        seconds, cycle = mapping.time.seconds, table["cycle"]
        ends: Any = table["ends_at"]
        if seconds is None:  # each row or run is a cycle: after the last one, count usual steps
            usual = lives["moment"].diff().median()
            last = table["seen_until"] if mapping.running else lives["moment"].transform("max")
            later = (ends - last) // usual if pd.notna(usual) else 0
            left = lives["cycle"].transform("max") + later - cycle
        else:
            left = (ends - lives["moment"].transform("min")) // pd.Timedelta(seconds=seconds) + 1 - cycle
    cycles = np.asarray(left, dtype=np.float64)
    # A failure in the cycle after the last row, of which nothing was recorded, is the end of that row's cycle.
    cycles = cycles - (pd.Series(cycles, table.index).groupby(table["unit"]).transform("min") == 1)
    seen = (table["ends_by"] == FAILURE).to_numpy()
    rul = np.where(seen, cycles, np.nan)
    return table.assign(cycle=cycle, rul=rul).drop(columns=["ends_at", "ends_by", "seen_until"])


def _with_machines(table: pd.DataFrame, params: MachineParams, mapping: ColumnMapping, read: Read) -> pd.DataFrame:
    wanted = [params.unit, *params.settings]
    found = read_columns(read(params.path), params.path, mapping.form, wanted, [params.unit, *params.categories])
    units = found.frame[params.unit].map(unit_name, na_action="ignore").fillna("")
    machines = pd.DataFrame({"unit": units})
    faults = [
        replace(item, unit=str(units.iloc[at]) if (at := found.place(item.row)) is not None and item.column else "")
        for item in found.faults
    ]
    for name, channel in params.settings.items():
        words = params.categories.get(name)
        machines[channel], wrong = readings(found.frame[name], words, mapping.form)
        expected = "a number" if words is None else f"one of {', '.join(list(words)[:8])}"
        faults += [
            Fault(at, found.line(at), name, expected, str(found.frame[name].iloc[at])[:60], unit=str(units.iloc[at]))
            for at in map(int, np.flatnonzero(wrong)[:SHOWN])
        ]
    twice = machines["unit"].duplicated().to_numpy()
    for wrong, expected in ((twice, "one row for each machine"), ((units == "").to_numpy(), "the name of a machine")):
        faults += [
            Fault(at, found.line(at), params.unit, expected, str(found.frame[params.unit].iloc[at])[:60])
            for at in map(int, np.flatnonzero(wrong)[:SHOWN])
        ]
    _refuse(params.path, faults)
    absent = sorted(set(table["unit"]) - set(machines["unit"]))
    if absent:
        raise DataError(
            f"{params.path}: expected a row for each machine of the telemetry, got none for {', '.join(absent[:SHOWN])}"
            + (f" and {len(absent) - SHOWN} more" if len(absent) > SHOWN else ""),
            remedy="Add them to that table, or leave out `machines` under events in params.yaml.",
        )
    return table.merge(machines, on="unit", how="left")


def _events(
    params: EventParams, what: str, mapping: ColumnMapping, read: Read, table: pd.DataFrame
) -> tuple[pd.DataFrame, list[str]]:
    """The events that count: `unit`, `at` (a moment, or a cycle); and what a person should know of them."""
    wanted = list(dict.fromkeys((params.unit, params.time, *params.only)))
    found = read_columns(read(params.path), params.path, mapping.form, wanted, wanted)
    frame = found.frame
    counted = np.ones(len(frame), dtype=bool)
    for name, words in params.only.items():
        counted &= frame[name].astype(str).str.strip().isin(words).to_numpy()
    units = frame[params.unit].map(unit_name, na_action="ignore").fillna("").astype(str)
    if mapping.time:
        at, expected = read_stamps(frame[params.time], mapping.time)
    else:
        at, expected = pd.to_numeric(frame[params.time], errors="coerce").astype(np.float64), "a cycle"
        at = at.where(np.isfinite(at) & (at == np.floor(at)))
    faults = list(found.faults)
    for wrong, name, text in ((units == "", params.unit, "the name of a machine"), (at.isna(), params.time, expected)):
        faults += [
            Fault(row, found.line(row), name, text, str(frame[name].iloc[row])[:60])
            for row in map(int, np.flatnonzero(wrong.to_numpy() & counted)[:SHOWN])
        ]
    _refuse(params.path, faults)
    # A row that comes twice is one event; two that differ in what was asked for are two.
    asked = pd.DataFrame({name: frame[name].astype(str).str.strip() for name in params.only}, index=frame.index)
    events = pd.DataFrame({"unit": units, "at": at})[counted & ~asked.assign(_u=units, _t=at).duplicated().to_numpy()]
    unknown = sorted(set(events["unit"]) - set(table["unit"]))
    said = [] if counted.any() else [f"{params.path}: no row of it counts as {what}: are the words under `only` right?"]
    if unknown:
        names = ", ".join(unknown[:SHOWN]) + (" …" if len(unknown) > SHOWN else "")
        said.append(f"{params.path}: events of {len(unknown)} machines without telemetry: {names}")
    return events[events["unit"].isin(set(table["unit"]))], said


def _count(table: pd.DataFrame, events: pd.DataFrame, clock: str) -> Any:
    """How many events each row counts, (R,) float64: those since the row before, up to its own time; see `_places`."""
    places = _places(table, events, clock).dropna().to_numpy(dtype=np.intp)
    return np.bincount(places, minlength=len(table)).astype(np.float64)


def _places(table: pd.DataFrame, events: pd.DataFrame, clock: str) -> Any:
    """The row in which each event counts, NaN if in none.

    Those before the first row of a machine count nowhere: how long that was, nobody knows. What comes after the last
    row of a life, and not later than its end, is of this life, and counts in that row.

    Args:
        table: `unit` is the machine; with lives also `ends_at`.
        events: `unit` and `at`.
        clock: The column of moments or cycles.
    """
    events = events[~_is_before(table, events, clock)]
    wanted = ["unit", clock, *(["ends_at"] if "ends_at" in table else [])]
    ordered = table[wanted].assign(place=np.arange(len(table))).sort_values(clock, kind="stable")
    events = events.assign(at=events["at"].astype(ordered[clock].dtype)).sort_values("at", kind="stable")
    met = pd.merge_asof(events, ordered, left_on="at", right_on=clock, by="unit", direction="forward")
    place = met["place"]
    if "ends_at" in table:
        before = pd.merge_asof(events, ordered, left_on="at", right_on=clock, by="unit")
        place = place.where(
            ~(before["ends_at"] >= before["at"]) | (met["ends_at"] == before["ends_at"]), before["place"]
        )
    return place


def _is_before(table: pd.DataFrame, events: pd.DataFrame, clock: str) -> Any:
    first = table.groupby("unit")[clock].min()
    return (events["at"].astype(table[clock].dtype) < events["unit"].map(first)).to_numpy()


def _not_counted(table: pd.DataFrame, events: pd.DataFrame, clock: str, path: str) -> list[str]:
    early, late = int(_is_before(table, events, clock).sum()), int(_places(table, events, clock).isna().sum())
    said = [f"{path}: {early:,} events before the first row of their machine are not counted"] if early else []
    return said + ([f"{path}: {late:,} events after the last row of their machine are not counted"] if late else [])


def _cut(table: pd.DataFrame, ends: pd.DataFrame, clock: str) -> tuple[pd.DataFrame, list[str]]:
    """The rows by lives: `unit` is the life, `ends_at` and `ends_by` say how it ended; NaT or "" if it did not.

    `seen_until` is up to when telemetry shows what the machine did: its end, if the machine has later rows.
    """
    ends = ends.assign(ends_at=ends["at"].astype(table[clock].dtype)).drop(columns="at")
    ends = ends.sort_values(["ends_at", "ends_by"], kind="stable").drop_duplicates(["unit", "ends_at"])  # failure first
    rows = table.sort_values(clock, kind="stable")
    rows = pd.merge_asof(rows, ends, left_on=clock, right_on="ends_at", by="unit", direction="forward")
    rows["ends_by"] = rows["ends_by"].fillna("")
    last, until = rows.groupby("unit")[clock].transform("max"), rows["ends_at"]
    rows["seen_until"] = until.where(
        last > until, rows.groupby(["unit", "ends_at"], dropna=False)[clock].transform("max")
    )
    life = rows.groupby("unit")["ends_at"].rank(method="dense", na_option="bottom").astype(np.int64)
    machine = rows["machine"] = rows["unit"]
    rows["unit"] = machine.where(life == 1, machine + "#" + life.astype(str))
    shared = sorted(set(rows["unit"][life > 1]) & set(machine))
    if shared:
        raise DataError(
            f"unit {shared[0]}: expected a name that no life of another machine gets, got {len(shared)} such machines",
            remedy="Give those machines names without # and a number in the telemetry and the tables of events.",
        )
    kinds = rows.drop_duplicates("unit")["ends_by"].value_counts()
    failed, replaced = int(kinds.get(FAILURE, 0)), int(kinds.get(REPLACEMENT, 0))
    said = [
        f"{rows['unit'].nunique()} lives of {machine.nunique()} machines: {failed} end in a failure, {replaced} in a "
        f"replacement, {int(kinds.get('', 0))} run on; was each machine new in its first row?"
    ]
    pairs = [pd.MultiIndex.from_frame(frame) for frame in (ends[["unit", "ends_at"]], rows[["machine", "ends_at"]])]
    for kind, lost in ends["ends_by"][~pairs[0].isin(pairs[1])].value_counts().items():
        said.append(f"{lost:,} events of {kind} end no life: no row lies between them and the event before")
    return rows.sort_values(["unit", clock], kind="stable", ignore_index=True), said


def _refuse(path: str, faults: Sequence[Fault]) -> None:
    if faults:
        more = f"; and {len(faults) - SHOWN} more" if len(faults) > SHOWN else ""
        raise DataError(
            "; ".join(str(replace(fault, file=path)) for fault in faults[:SHOWN]) + more,
            remedy="Correct that table: an event that cannot be read would leave a life uncut, or a label wrong.",
        )
