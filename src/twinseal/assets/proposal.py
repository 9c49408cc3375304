"""The whole proposal for a new asset: the mapping of its files, its contract, and what its attackers control."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from twinseal.assets.bounds import Proposed, propose_contract
from twinseal.assets.columns import Columns, LeftOut, kinds_of, tell_columns
from twinseal.assets.exports import FILE, Asked, Export, look_at
from twinseal.assets.measured import trend
from twinseal.assets.moments import Choices, cycle_in_words
from twinseal.assets.names import description
from twinseal.assets.plans import About, ChannelPlan, wide_contract
from twinseal.assets.queries import look_at_query
from twinseal.assets.readings import Reading, fields_of, reading_of
from twinseal.assets.threats import propose_threats
from twinseal.assets.units_of_measure import NONE
from twinseal.config import parse
from twinseal.errors import ConfigError, DataError, suggest
from twinseal.sources.cmapss import SENSORS, SETTINGS, CmapssParams
from twinseal.sources.plant import PlantParams
from twinseal.sources.sql import SqlParams
from twinseal.sources.table import TableParams
from twinseal.telemetry.contract import Channel, Contract
from twinseal.telemetry.fleet import Fleet
from twinseal.telemetry.regimes import count_levels
from twinseal.telemetry.screening import Finding, screen

NAME = re.compile(r"[a-z][a-z0-9_]{0,39}\Z")


@dataclass(frozen=True)
class Request:
    """What a person asks for.

    Attributes:
        asset: Name of the new asset.
        paths: Its files, or one folder with them.
        patterns: Which files of the folder; () for all.
        date: Of today, as the mark of the proposal says it.
        model: Of the model; "" for the asset's name.
        description: What the asset is.
        cycle: What one cycle is.
        rul_cap_cycles: None: from the lives.
        kept: Units that count as healthy.
        like: The contract of an asset with the same channels, which gives units, descriptions, and which are used.
        asked: How the files are written.
        choices: What the columns are.
        averaged: Whether a cycle is the mean of several rows.
    """

    asset: str
    paths: tuple[Path, ...]
    date: str
    patterns: tuple[str, ...] = ()
    model: str = ""
    description: str = ""
    cycle: str = ""
    rul_cap_cycles: float | None = None
    kept: frozenset[str] = frozenset()
    like: Contract | None = None
    asked: Asked = field(default_factory=Asked)
    choices: Choices = field(default_factory=Choices)
    averaged: bool = False

    def __post_init__(self) -> None:
        """Refuse a name that no asset has.

        Raises:
            ConfigError: It is not plain.
        """
        if not NAME.match(self.asset):
            raise ConfigError(
                f"asset: expected a name of a-z, 0-9 and _ that begins with a letter, got {self.asset[:60]!r}",
                remedy="For example: twinseal asset new trafo --from export.csv",
            )


@dataclass(frozen=True)
class Proposal:
    """What is proposed.

    Attributes:
        source: The source in params.yaml: table, sql or cmapss.
        path: What `data.path` is.
        mapping: The section of the source in params.yaml.
        fleet: The telemetry, read with it.
        proposed: The contract and what it rests on.
        threats: The entry of policy/threats.yaml.
        threats_basis: What that rests on.
        columns: Channel → its column in the files.
        findings: What the contract says of this fleet itself.
        readings: How cells become readings, where that is not as they stand there.
        left_out: The columns that no model reads.
        said: What was found out or assumed, one sentence each.
    """

    source: str
    path: Path
    mapping: Mapping[str, Any]
    fleet: Fleet
    proposed: Proposed
    threats: Mapping[str, Any]
    threats_basis: str
    columns: Mapping[str, str]
    findings: tuple[Finding, ...]
    readings: tuple[Reading, ...] = ()
    left_out: tuple[LeftOut, ...] = ()
    said: tuple[str, ...] = ()

    @property
    def contract(self) -> Contract:
        """The contract."""
        return self.proposed.contract

    @property
    def refused_units(self) -> tuple[str, ...]:
        """The units of this fleet that the contract refuses."""
        return tuple(sorted({finding.unit for finding in self.findings}))


def propose_table(request: Request) -> Proposal:
    """What is proposed for a table.

    Raises:
        ConfigError: What was asked for does not fit the files, or they can be read in two ways.
        DataError: They are no table of histories.
        OSError: They cannot be read.
    """
    beside = request.choices.event_paths
    export = look_at(request.paths, request.patterns, request.choices.unit_in_name, request.asked, beside)
    return _of_export(request, export, "table", TableParams, {})


def propose_sql(request: Request, connection: str, query: str) -> Proposal:
    """What is proposed for a query to a database.

    Args:
        request: What a person asks for; it names no files.
        connection: The environment variable that has the address.
        query: One SELECT.

    Raises:
        ConfigError: The variable is not set, or what was asked for does not fit; or as `propose_table`.
        DataError: The database refuses; or its answer is no table of histories.
    """
    export = look_at_query(connection, query)
    return _of_export(request, export, "sql", SqlParams, {"connection": connection, "query": query})


def _of_export(
    request: Request, export: Export, source: str, params: type[PlantParams], fixed: Mapping[str, Any]
) -> Proposal:
    """What is proposed for an export that was looked at: read by its source with what is proposed for it."""
    columns = tell_columns(export, request.choices)
    cycle = request.cycle or (request.like.cycle if request.like else cycle_in_words(columns.time))
    averaged = columns.time is not None and columns.time.gather == "mean"
    request = replace(request, cycle=cycle, averaged=averaged)
    readings = {column: _reading(column, channel, columns, request) for column, channel in columns.channels.items()}
    plans = {column: _plan(reading, columns.channels[column], request) for column, reading in readings.items()}

    def mapping() -> dict[str, Any]:
        return {**fixed, **_mapping(export, columns, plans), **fields_of(readings.values())}

    read = parse(params, mapping(), f"data.{source}")
    fleet, remarks = _read(read, export.path, request, tuple(plans.values()))
    kinds = kinds_of(columns, _levelled(fleet, plans))
    plans = {column: replace(plan, kind=kinds[column]) for column, plan in plans.items()}
    ordered = sorted(plans.values(), key=lambda plan: plan.kind == "sensor")
    found = _proposal(request, source, export.path, mapping(), fleet, ordered)
    return replace(
        found,
        columns={plan.name: column for column, plan in plans.items()},
        readings=tuple(reading for reading in readings.values() if reading.becomes),
        left_out=columns.left_out,
        said=(*export.said, *columns.said, *remarks, *found.said),
    )


def propose_cmapss(request: Request, subset: str) -> Proposal:
    """What is proposed for a subset of C-MAPSS.

    Raises:
        ConfigError, DataError, OSError: As the source `cmapss`.
    """
    plans = [replace(_plan(Reading(name), name, request), kind="setting") for name in SETTINGS]
    plans += [_plan(Reading(name), name, request) for name in SENSORS]
    params = parse(CmapssParams, {"subset": subset}, "--subset")
    (path,) = request.paths
    fleet = params.open(path, wide_contract(_about(request, None), plans)).read()
    mapping = {"subset": subset, "max_units": None}
    found = _proposal(request, "cmapss", path, mapping, fleet, plans)
    return replace(found, said=(f"C-MAPSS, {subset}", *found.said))


def propose(request: Request, fleet: Fleet, plans: list[ChannelPlan]) -> Proposed:
    """The contract for a fleet that is at hand, whatever its source.

    Raises:
        DataError: It has one unit only.
    """
    return propose_contract(fleet, plans, _about(request, fleet))


def _proposal(
    request: Request,
    source: str,
    path: Path,
    mapping: Mapping[str, Any],
    fleet: Fleet,
    plans: list[ChannelPlan],
) -> Proposal:
    fleet = Fleet(fleet.table[[*fleet.table.columns[:4], *(plan.name for plan in plans)]])
    empty = [plan.name for plan in plans if fleet.table[plan.name].isna().all()]
    if empty:
        raise DataError(f"{path}: expected readings of {', '.join(empty)}, got none in any row")
    infinite = [plan.name for plan in plans if np.isinf(fleet.table[plan.name].to_numpy()).any()]
    if infinite:
        raise DataError(
            f"{path}: expected numbers that float32 can hold, got larger ones in {', '.join(infinite)}",
            remedy="Leave the column out (--ignore COLUMN), or export it in another unit of measure.",
        )
    found = propose(request, fleet, plans)
    threats, basis = propose_threats(fleet, found)
    return Proposal(
        source=source,
        path=path,
        mapping=mapping,
        fleet=fleet,
        proposed=found,
        threats=threats,
        threats_basis=basis,
        columns={plan.name: plan.name for plan in plans},
        said=_as_there(request.like, found),
        findings=screen(fleet, found.contract),
    )


def _about(request: Request, fleet: Fleet | None) -> About:
    like, mark = request.like, ""
    if fleet is not None:
        files = request.paths[0].name if len(request.paths) == 1 else f"{len(request.paths)} files"
        files = files if request.paths else "a query to a database"
        what = f"{len(fleet.units):,} units, {len(fleet):,} rows"
        mark = f"twinseal asset new on {request.date} from {files}, {what}"
    return About(
        asset=request.asset,
        model=request.model or f"{request.asset.replace('_', '-')}-rul",
        description=request.description or (like.description if like else request.asset.replace("_", " ")),
        cycle=request.cycle or (like.cycle if like else "One row of the export"),
        rul_cap_cycles=request.rul_cap_cycles or (like.rul_cap_cycles if like else None),
        kept=request.kept,
        proposed=mark,
        averaged=request.averaged,
    )


def _as_there(like: Contract | None, found: Proposed) -> tuple[str, ...]:
    """Which channels are used as in the asset that this one is like, and which are not, and why."""
    if like is None:
        return ()
    here, there = found.contract.all_channels, like.all_channels
    said = [f"{len(here.keys() & there.keys())} channels are used, or not, as in {like.asset}"]
    differ = [name for name in here if name in there and there[name].used != here[name].used]
    others = [f"{name} ({found.reasons.get(name, 'else none would be used')})" for name in differ]
    said += [f"but for {', '.join(others)}"] if others else []
    absent, new = [name for name in there if name not in here], [name for name in here if name not in there]
    said += [f"{', '.join(absent)} of {like.asset} are not here"] if absent else []
    said += [f"{', '.join(new)} are not in {like.asset}, so that the data decide"] if new else []
    return ("; ".join(said),)


def _reading(column: str, channel: str, columns: Columns, request: Request) -> Reading:
    known = request.like.all_channels.get(channel) if request.like else None
    return reading_of(
        column,
        request.choices,
        known_unit=known.unit if known else NONE,
        words=columns.words.get(column, ()),
        beside=columns.channels,
    )


def _plan(reading: Reading, channel: str, request: Request) -> ChannelPlan:
    known: Channel | None = request.like.all_channels.get(channel) if request.like else None
    unit = known.unit if known and reading.unit == NONE else reading.unit
    about = known.description if known else description(reading.column)
    return ChannelPlan(channel, "sensor", unit, about, known.used if known else None, reading.words)


def _mapping(export: Export, columns: Columns, plans: Mapping[str, ChannelPlan]) -> dict[str, Any]:
    """The section `table` of params.yaml: what is not the default."""
    found: dict[str, Any] = {"files": list(export.files)} if export.files else {}
    found |= {"unit_in_name": export.unit_in_name} if columns.unit == FILE else {"unit": columns.unit}
    if columns.time is None:
        found["cycle"] = columns.cycle
    else:
        default = type(columns.time)(column=columns.time.column).model_dump()
        time = columns.time.model_dump()
        found["time"] = {k: v for k, v in time.items() if v != default[k] or k in ("column", "zone", "cycle")}
    for kind in ("setting", "sensor"):
        found[f"{kind}s"] = {column: plan.name for column, plan in plans.items() if plan.kind == kind}
    if columns.rul:
        found["rul"] = columns.rul
    if columns.ends_in_failure:
        found["ends_in_failure"] = True
    if columns.events:
        found["events"] = {kind: asdict(table) for kind, table in columns.events.items()}
    if export.form is not None:
        form, usual = export.form, type(export.form)()
        found |= {
            k: getattr(form, k) for k in ("separator", "decimal", "encoding") if getattr(form, k) != getattr(usual, k)
        }
        found |= {"missing": list(form.missing)} if form.missing else {}
    return found


def _read(
    params: PlantParams, path: Path, request: Request, plans: tuple[ChannelPlan, ...]
) -> tuple[Fleet, tuple[str, ...]]:
    """The fleet, by the real source, and its remarks."""
    options = "--missing WORD, --time-format, --zone, --cycle-length and --gather; or --ignore COLUMN"
    first = "Correct the file; or say how it is written: --separator, --decimal, --encoding, "
    remedy = f"{first if params.reads_files else 'Correct the query; or say how to read the answer: '}{options}"
    with suggest(remedy):
        try:
            table = params.open(path, wide_contract(_about(request, None), plans))
            return table.read(), table.remarks()
        except DataError as error:
            error.remedy = remedy
            raise


def _levelled(fleet: Fleet, plans: Mapping[str, ChannelPlan]) -> list[str]:
    """The columns with levels that follow no life: what somebody sets, not what wears."""
    found = []
    for column, plan in plans.items():
        values = fleet.table[plan.name].to_numpy()
        if count_levels(values) > 1 and trend(fleet, values.astype(np.float64)) < 0.1:
            found.append(column)
    return found if len(found) < len(plans) else []
