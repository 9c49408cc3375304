"""What `twinseal run` says: the answers, what was set aside or refused, and when trust ends."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from twinseal.console import NO_TELEMETRY, NONE_ANSWERED, UNANSWERED, err, new_table, out, printable

if TYPE_CHECKING:
    from twinseal.twin.admit import VerifiedModel
    from twinseal.twin.runtime import Prediction
    from twinseal.twin.trust_ends import TrustEnds

MAX_NAMED = 10  # units in one line


def write_answers(
    answers: Iterable[Prediction], verified: VerifiedModel, ends: TrustEnds, signed: bool | None, *, as_csv: bool
) -> None:
    """One line for each answer, as they come: a row of a stream waits for no other."""
    from twinseal.twin.answers import Answer, csv_header

    if as_csv:
        sys.stdout.write(csv_header())
    said = ends.state(datetime.now(UTC))
    for item in answers:
        now = datetime.now(UTC)
        if (trust := ends.state(now)) != said:  # it has ended while this ran
            said = trust
            warn_of_trust(ends)
        answer = Answer.of(item, verified.release.model, verified.release.version, trust, now, signed)
        sys.stdout.write(answer.to_csv() if as_csv else answer.to_json())
        sys.stdout.flush()


def warn_of_trust(ends: TrustEnds) -> None:
    """Say what has ended or ends soon, and who must act."""
    now = datetime.now(UTC)
    colour = "red" if ends.state(now) in ("ended", "unknown") else "yellow"
    for text in ends.warnings(now):
        err.print(f"[{colour}]{printable(text)}[/]")


def counted(answers: Iterable[Prediction], seen: Counter[str], unanswered: Counter[str]) -> Iterator[Prediction]:
    """The answers as they come, counted by unit; those that were refused also in `unanswered`."""
    for item in answers:
        seen[item.unit or "(no name)"] += 1
        if item.readings == "refused":
            unanswered[item.unit or "(no name)"] += 1
        yield item


def set_line_aside(why: str, aside: Counter[str]) -> None:
    """Count a line that is no row, and say why; of many, only of the first."""
    aside["line"] += 1
    if aside["line"] <= MAX_NAMED:
        err.print(f"[yellow]set aside[/]  {printable(why)}")


def _print_aside(aside: Counter[str]) -> None:
    for what, reason in (("line", "no row of telemetry, and set aside"), ("frame", "refused")):
        if number := aside[what]:
            were = f"1 {what} was" if number == 1 else f"{number} {what}s were"
            err.print(f"[yellow]{were} {reason}[/]: look at what sends them")


def _print_unanswered(unanswered: Counter[str]) -> None:
    units = [printable(unit) for unit in unanswered]
    names = ", ".join(units[:MAX_NAMED]) + (f" and {len(units) - MAX_NAMED} more" if len(units) > MAX_NAMED else "")
    rows = "1 row" if unanswered.total() == 1 else f"{unanswered.total()} rows"
    err.print(f"[red]no estimate[/] for {rows} of {names}: the telemetry was refused; inspect these machines now")


def print_predictions(predictions: list[Prediction], verified: VerifiedModel) -> None:
    """The answers as a table. `ok` is about the telemetry that came in, so its column says so."""
    release, cap = verified.release, verified.model.rul_cap_cycles
    columns = ("unit", "cycle", "RUL, cycles", "90 % interval", "telemetry", "advice")
    table = new_table(*columns, numbers=columns[1:4], title=f"{printable(release.model)} release {release.version}")
    colours = {"ok": "green", "degraded": "yellow", "refused": "red"}
    for item in predictions:
        telemetry = f"[{colours[item.readings]}]{item.readings}[/]"
        interval = "–" if item.readings == "refused" else f"{item.low_cycles:.0f} to {item.high_cycles:.0f}"
        life = "–" if item.readings == "refused" else f"more than {cap:.0f}" if item.more else f"{item.rul_cycles:.1f}"
        life += "*" if item.commissioned else ""
        table.add_row(printable(item.unit), str(item.cycle), life, interval, telemetry, printable(item.advice))
    notes = ["telemetry: whether the readings can be used; it does not say that the machine is healthy"]
    notes += ["* with the unit's baseline record"] if any(item.commissioned for item in predictions) else []
    table.caption, table.caption_justify = "\n".join(notes), "left"
    out.print(table)


def exit_code(telemetry: Path, seen: Counter[str], unanswered: Counter[str], aside: Counter[str]) -> int:
    """Say what was set aside, refused, or not there; gives the exit code."""
    if aside:
        _print_aside(aside)
    if unanswered:
        _print_unanswered(unanswered)
    if not seen and not aside:
        err.print(f"[red]no telemetry[/]  {printable(telemetry)}: expected rows, got none. Ask why nothing was sent.")
        return NO_TELEMETRY
    if unanswered or aside:
        return UNANSWERED if seen.total() > unanswered.total() else NONE_ANSWERED
    return 0
