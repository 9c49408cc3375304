"""What is done for machines at the twin: commissioners enroll them, and sign what was done to each."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from twinseal.cli.commissioners import Desk, sign_record, some_of, unit_names
from twinseal.cli.options import AnchorDir, As, AsJson, KeyUri, StateDir, examples, read_anchor
from twinseal.console import new_table, out, print_json, printable, refusals_as_json
from twinseal.errors import ConfigError

if TYPE_CHECKING:
    from twinseal.trust.life_acts import Act, Kind
    from twinseal.trust.life_record import Life, LifeRecord
    from twinseal.twin.signed_records import RecordKind

AT = "--model pump-rul --as emil"
ENROLL = f"twinseal unit enroll {AT} --unit pump-001 --unit pump-002"
COUNTS = "it counts from now on, also for a twin that is running"
MAX_FILE_BYTES = 4 << 20
unit = typer.Typer(
    help="Machines that the twin is to know, and what was done to each: only a signed act makes one younger.",
    epilog=examples(ENROLL, f"twinseal unit overhaul pump-001 {AT} --cycle 4100"),
    no_args_is_help=True,
)

Name = Annotated[str, typer.Argument(metavar="UNIT", help="The machine.")]
Model = Annotated[str, typer.Option(help="Which model the twin runs, e.g. pump-rul.")]
Units = Annotated[list[str] | None, typer.Option("--unit", metavar="UNIT", help="Which machine; repeat it for more.")]
UnitsFile = Annotated[
    Path | None, typer.Option("--units", metavar="FILE", help="More of them: a file with one name a line.")
]
Cycle = Annotated[int, typer.Option(metavar="N", help="The machine's operating count when it was done.")]
Sure = Annotated[bool, typer.Option("--yes", help="Do not ask.")]


@unit.command("enroll", epilog=examples(ENROLL, f"twinseal unit enroll {AT} --units fleet.txt --age 1200 --cycle 1200"))
def enroll(
    model: Model,
    holder: As,
    units: Units = None,
    units_file: UnitsFile = None,
    age: Annotated[int, typer.Option(metavar="N", help="Their age, cycles. 0: new.")] = 0,
    cycle: Annotated[int, typer.Option(metavar="N", help="What their counters show now. 0: before the first row.")] = 0,
    anchor: AnchorDir = None,
    state: StateDir = Path("twin"),
    key_uri: KeyUri = None,
    anew: Annotated[
        bool, typer.Option("--anew", help="Begin with no machine: the record before does not count any more.")
    ] = False,
    yes: Sure = False,
) -> None:
    """Sign that the twin is to know these machines, all of one age. Once one is enrolled, the others are unknown."""
    from twinseal.trust.life_acts import Act

    names, act = _chosen(units, units_file), Act("new machine", cycle, age)
    baselines = _baselines(state)
    what, many = "new" if age == 0 else f"{age} cycles old", len(names) > 1
    if many:
        out.print(f"{len(names)} machines: [cyan]{some_of(names)}[/]")
    them = f"these {len(names)} machines are {what}, their counters" if many else f"{names[0]} is {what}, its counter"
    question = f"Sign as {holder} that {them} at {cycle}?"
    desk = Desk(holder, model, anchor, state, key_uri, yes)
    sign_record(_kind(), lambda it: it.with_machines(names, act, baselines), question, desk, COUNTS, anew=anew)


@unit.command("overhaul", epilog=examples(f"twinseal unit overhaul pump-001 {AT} --cycle 4100"))
def overhaul(
    name: Name,
    model: Model,
    holder: As,
    cycle: Cycle,
    age: Annotated[int, typer.Option(metavar="N", help="Its age now, cycles, at most that before. 0: as new.")] = 0,
    anchor: AnchorDir = None,
    state: StateDir = Path("twin"),
    key_uri: KeyUri = None,
    yes: Sure = False,
) -> None:
    """Sign that a machine was overhauled: what the twin said of its life before does not hold any more."""
    what = "is as new" if age == 0 else f"is like one of {age} cycles"
    question = f"Sign as {holder} that {name} was overhauled at {cycle} and {what}?"
    desk = Desk(holder, model, anchor, state, key_uri, yes)
    _act(name, question, desk, lambda _: _made("overhaul", cycle, age))


@unit.command("sensor-replaced", epilog=examples(f"twinseal unit sensor-replaced pump-001 {AT} --cycle 2100"))
def sensor_replaced(
    name: Name,
    model: Model,
    holder: As,
    cycle: Cycle,
    anchor: AnchorDir = None,
    state: StateDir = Path("twin"),
    key_uri: KeyUri = None,
    yes: Sure = False,
) -> None:
    """Sign that a machine has a new sensor: its readings may jump once, and its age stays."""
    question = f"Sign as {holder} that a sensor of {name} was replaced at {cycle}, and nothing else changed?"
    desk = Desk(holder, model, anchor, state, key_uri, yes)
    _act(name, question, desk, lambda life: _made("sensor replaced", cycle, life.age_at(cycle)))


@unit.command(
    "counter-replaced",
    epilog=examples(f"twinseal unit counter-replaced pump-001 {AT} --old-cycle 3300 --new-cycle 0"),
)
def counter_replaced(
    name: Name,
    model: Model,
    holder: As,
    old_cycle: Annotated[int, typer.Option(metavar="N", help="What the old counter showed last.")],
    new_cycle: Annotated[int, typer.Option(metavar="N", help="What the new one shows; the next row has more.")],
    anchor: AnchorDir = None,
    state: StateDir = Path("twin"),
    key_uri: KeyUri = None,
    yes: Sure = False,
) -> None:
    """Sign that a machine counts its cycles anew: its age goes on, and all that was said of it.

    The gateway must be told as well, where it is: twinseal device counter.
    """
    question = f"Sign as {holder} that the counter of {name} was replaced: {old_cycle} before, {new_cycle} now?"
    desk = Desk(holder, model, anchor, state, key_uri, yes)
    _act(name, question, desk, lambda life: _made("counter replaced", new_cycle, life.age_at(old_cycle)))


@unit.command("retire", epilog=examples(f"twinseal unit retire {AT} --unit pump-001"))
def retire(
    model: Model,
    holder: As,
    units: Units = None,
    units_file: UnitsFile = None,
    anchor: AnchorDir = None,
    state: StateDir = Path("twin"),
    key_uri: KeyUri = None,
    yes: Sure = False,
) -> None:
    """Sign that machines are gone: the twin knows their names no longer, until another machine is enrolled so."""
    names = _chosen(units, units_file)
    question = f"Sign as {holder} that the twin is to know {some_of(names)} no longer?"
    desk = Desk(holder, model, anchor, state, key_uri, yes)
    sign_record(_kind(), lambda record: record.without(names), question, desk, COUNTS)


@unit.command("renew", epilog=examples(f"twinseal unit renew {AT}"))
def renew(
    model: Model,
    holder: As,
    anchor: AnchorDir = None,
    state: StateDir = Path("twin"),
    key_uri: KeyUri = None,
    yes: Sure = False,
) -> None:
    """Sign all acts again as they are, after a commissioner's key was replaced: what the old one signed ends."""
    from twinseal.twin.record_enroller import record_to_renew

    record = record_to_renew(_kind(), state, read_anchor(anchor), model, datetime.now(UTC))
    _print_table(record)
    question = f"Sign as {holder} that these {len(record.lives)} machines and their acts are right?"
    desk = Desk(holder, model, anchor, state, key_uri, yes)
    sign_record(_kind(), lambda found: found, question, desk, COUNTS, renewing=True)


@unit.command("show", epilog=examples("twinseal unit show --model pump-rul --json"))
def show(model: Model, anchor: AnchorDir = None, state: StateDir = Path("twin"), as_json: AsJson = False) -> None:
    """Show the machines that are enrolled at this twin, and what was done to each."""
    from twinseal.twin.enrolled_lives import enrolled_lives

    with refusals_as_json(as_json):
        record = enrolled_lives(state, read_anchor(anchor), model, datetime.now(UTC))
    if as_json:
        print_json({"model": model, "version": record.version if record else 0, "units": _listed(record)})
        return
    if record is None:
        out.print(f"no machine is enrolled here: each is what it says that it is. To change that: [cyan]{ENROLL}[/]")
        return
    _print_table(record)
    out.print(f"version {record.version}")


def _kind() -> RecordKind[LifeRecord]:
    from twinseal.twin.enrolled_lives import LIVES

    return LIVES


def _act(name: str, question: str, desk: Desk, act: Callable[[Life], Act]) -> None:
    (unit_name,) = unit_names([name])
    baseline = _baselines(desk.state).get(unit_name, 0)

    def change(record: LifeRecord) -> LifeRecord:
        return record.with_act(unit_name, act(record.life_of(unit_name)), baseline)

    sign_record(_kind(), change, question, desk, COUNTS)


def _made(kind: Kind, cycle: int, age: int) -> Act:
    from twinseal.trust.life_acts import Act

    return Act(kind, cycle, age)


def _chosen(units: list[str] | None, file: Path | None) -> tuple[str, ...]:
    """The machines of the command line and of a file.

    Raises:
        ConfigError: There is none, or a name is none.
    """
    from twinseal.reading import read_regular

    lines: Iterable[str] = ()
    if file is not None:
        data = read_regular(file, MAX_FILE_BYTES, follow=True)
        try:
            lines = [line for line in data.decode().splitlines() if line.strip()]
        except UnicodeDecodeError as error:
            raise ConfigError(f"--units: expected a text in UTF-8, got other bytes in {file}") from error
        if len(data) > MAX_FILE_BYTES:
            raise ConfigError(f"--units: expected at most {MAX_FILE_BYTES} bytes, got more in {file}")
    names = unit_names((*(units or ()), *lines))
    if not names:
        raise ConfigError("--unit: expected the names of machines, got none", remedy=f"For example: {ENROLL}")
    return names


def _baselines(state: Path) -> dict[str, int]:
    """The version of each unit's newest baseline record that this twin has seen."""
    from twinseal.twin.seen_records import read_memory
    from twinseal.twin.state import State as TwinState

    return {seen.unit: seen.version for seen in read_memory(TwinState(state)).values()}


def _listed(record: LifeRecord | None) -> list[dict[str, object]]:
    return [
        {
            "unit": name,
            "retired": life.retired,
            "acts": [{"kind": act.kind, "cycle": act.cycle, "age": act.age} for act in life.acts],
        }
        for name, life in (sorted(record.lives.items()) if record else ())
    ]


def _print_table(record: LifeRecord) -> None:
    table = new_table("unit", "last act", "at count", "age then", "acts", numbers=("at count", "age then", "acts"))
    for name, life in sorted(record.lives.items()):
        last = life.acts[-1]
        kind = "retired" if life.retired else last.kind
        table.add_row(printable(name), kind, str(last.cycle), str(last.age), str(len(life.acts)))
    out.print(table)
