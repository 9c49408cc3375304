"""What is done where the twin is: the operator's pull, verify and run; the commissioners' commission."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from twinseal.cli import answers as said
from twinseal.cli import delivery, gateway
from twinseal.cli.options import (
    AnchorDir,
    As,
    AsJson,
    KeyUri,
    StateDir,
    ask_passphrase,
    check_anchor_place,
    check_program,
    confirm,
    examples,
    read_anchor,
    warn_of_demo,
)
from twinseal.console import (
    err,
    new_table,
    out,
    print_json,
    printable,
    refusals_as_json,
)
from twinseal.errors import ConfigError
from twinseal.trust.root.home import Home

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from twinseal.trust.root.anchor import Anchor
    from twinseal.twin.admit import VerifiedModel
    from twinseal.twin.commissioner import CommissioningResult
    from twinseal.twin.commissioning import Signed
    from twinseal.twin.pull import PullResult

PULL_EXAMPLES = examples(
    "twinseal pull --from http://mlflow.example:5000 --model pump-rul --anchor anchor",
    "twinseal pull --from /media/usb/mirror --model pump-rul --anchor anchor --state twin --json",
)
VERIFY_EXAMPLES = examples(
    "twinseal verify models/bundle",
    "twinseal verify models/bundle --anchor anchor --json | jq .steps",
    "twinseal verify /media/usb/mirror --anchor anchor",
)
RUN_EXAMPLES = examples(
    "twinseal run telemetry.csv --model pump-rul --anchor anchor",
    "twinseal run telemetry.parquet --model pump-rul --last --limit 5",
    "tail -f readings.jsonl | twinseal run - --model pump-rul --json",
)
COMMISSION_EXAMPLES = examples(
    "twinseal commission new.csv --model pump-rul --as emil",
    "twinseal commission new.csv --model pump-rul --as emil --unit pump-001 --unit pump-002 --yes",
)

NOT_IN_A_BUNDLE = (1, 2, 3, 6, 7)  # steps of docs/trust.md that only a pull can check
LONG = timedelta(days=7)  # between two pulls


def pull(
    source: Annotated[str, typer.Option("--from", metavar="URL|DIR", help="MLflow's address, or a mirror on a disk.")],
    model: Annotated[str, typer.Option(help="Which model, e.g. pump-rul.")],
    anchor: AnchorDir = None,
    state: StateDir = Path("twin"),
    clock_is_right: Annotated[
        bool, typer.Option("--clock-is-right", help="The clock was ahead in an earlier pull, and is right now.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Fetch the current release and verify all of it; only then does it replace the model that runs."""
    with refusals_as_json(as_json):
        pinned = read_anchor(anchor)
        if clock_is_right:
            _correct_clock(state, model)
        admitted = _fetch(source, pinned, model, state)
    _warn_of_clock(admitted.since_last)
    release = admitted.model.release
    if as_json:
        result = "admitted" if admitted.changed else "current"
        names = {"model": release.model, "release": release.version, "release_sha256": release.sha256}
        print_json({"result": result, **names, "files": len(release.files), "demo": pinned.demo})
        return
    name, files = f"{release.model} release {release.version}", len(release.files)
    if admitted.changed:
        out.print(f"[green]admitted[/]  {name}: {files} files")
    else:
        out.print(f"[green]already up to date[/]  {name}: all {files} files verified")
    out.print(f"verified: root, clock, metadata, approval, files, signature, {len(pinned.evidence)} records, contents")
    warn_of_demo(pinned)


def verify(
    directory: Annotated[Path, typer.Argument(help="A mirror, or a signed bundle: model/, model.sig.json, evidence/.")],
    anchor: AnchorDir = None,
    model: Annotated[str | None, typer.Option(help="Of a mirror: which model. Default: the one that it has.")] = None,
    as_json: AsJson = False,
) -> None:
    """Verify a directory offline. Of a mirror: all that a pull verifies. Of a bundle: signature, evidence, verdict.

    A bundle cannot show approval or freshness. The steps have the numbers of docs/trust.md.
    """
    from twinseal.trust.release.candidate import A_BUNDLE, HOW_TO_MAKE_A_BUNDLE, verify_bundle

    steps: list[dict[str, object]] = []

    def record_step(step: int, check: str) -> None:
        steps.append({"step": step, "check": check})
        if not as_json:
            out.print(f"  [green]{step}[/]  {printable(check)}")

    with refusals_as_json(as_json):
        if not directory.is_dir():
            got = "a file" if directory.exists() else "no such folder"
            raise ConfigError(f"{directory}: expected {A_BUNDLE}, got {got}", remedy=HOW_TO_MAKE_A_BUNDLE)
        if anchor is not None:
            check_anchor_place(anchor)
        pinned = read_anchor(anchor)
        check_program(pinned)
        if delivery.is_mirror(directory):
            delivery.verify_mirror(directory, pinned, model, as_json=as_json)
            return
        record_step(0, f"trust anchor: root {pinned.version}, sha256 {pinned.fingerprint}")
        bundle = verify_bundle(directory, pinned, passed=record_step)
    if as_json:
        names = {"model": bundle.model, "files": len(bundle.files), "records": list(bundle.statements)}
        unchecked = list(NOT_IN_A_BUNDLE)
        print_json({"result": "verified", **names, "steps": steps, "not_checked": unchecked, "demo": pinned.demo})
        return
    counts = f"{len(bundle.files)} files, {len(bundle.statements)} records, PASSED"
    out.print(f"[green]verified[/]  {printable(bundle.model)}: {counts}")
    numbers = ", ".join(map(str, NOT_IN_A_BUNDLE))
    out.print(f"not checked: steps {numbers} (approval, freshness, transport, contents); twinseal pull checks them")
    warn_of_demo(pinned)


def run(
    telemetry: Annotated[
        Path, typer.Argument(help="CSV, Parquet, JSON lines ('-': from stdin), or the plant's files.")
    ],
    model: Annotated[str, typer.Option(help="Which model, e.g. pump-rul.")],
    anchor: AnchorDir = None,
    state: StateDir = Path("twin"),
    last: Annotated[bool, typer.Option("--last", help="Only each unit's newest cycle.")] = False,
    limit: Annotated[
        int, typer.Option(min=0, help="Show at most so many lines, the most urgent first. 0: all, in order.")
    ] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="JSON lines instead of a table, one at once a row.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="The same as CSV, with a header.")] = False,
    frames: Annotated[
        bool, typer.Option("--frames", help="TELEMETRY is signed frames, as twinseal gateway makes them.")
    ] = False,
) -> None:
    """Estimate remaining life with the admitted model; its guard checks every reading first.

    Exit code 3: some telemetry was refused and got no estimate; the units, or the lines, are named. 4: all of it was.
    5: there was none.
    """
    from twinseal.twin import commissioning, memory, runtime, telemetry_reader
    from twinseal.twin.rows import in_batches
    from twinseal.twin.state import State as TwinState
    from twinseal.twin.trust_ends import trust_ends

    if as_json and as_csv:
        raise ConfigError("--json --csv: expected one of them, got both", remedy="Leave one out.")
    pinned = read_anchor(anchor)
    verified = runtime.current_model(state, pinned, model)
    if warning := memory.describe_installed(TwinState(state), verified.release):
        err.print(f"[yellow]{printable(warning)}[/]")
    current = commissioning.CurrentSigned(state, pinned, verified)

    def news() -> commissioning.Signed | None:
        found = current.news(datetime.now(UTC))
        if found is not None:
            _warn_of_signed(found)
        return found

    now_signed = news() or commissioning.Signed(None, commissioning.Baselines())
    ends = trust_ends(TwinState(state), pinned, model)
    said.warn_of_trust(ends)
    unanswered: Counter[str] = Counter()
    aside: Counter[str] = Counter()
    rows_seen: Counter[str] = Counter()
    inputs = verified.model.contract.inputs
    if frames:
        signed: bool | None = True
        rows = in_batches(gateway.signed_telemetry(telemetry, state, pinned, model, aside), 1)
    else:
        signed = gateway.unsigned(state, pinned, model)
        rows = telemetry_reader.read_batches(
            telemetry, inputs, lambda why: said.set_line_aside(why, aside), verified.mapping, _note
        )
    answers = said.counted(
        runtime.run_batches(
            verified, rows, baselines=now_signed.baselines, acts=now_signed.acts, news=news, last_only=last
        ),
        rows_seen,
        unanswered,
    )
    if as_json or as_csv:
        said.write_answers(answers, verified, ends, signed, as_csv=as_csv)
    else:
        shown = sorted(answers, key=lambda item: item.rul_cycles) if limit else list(answers)
        if shown:
            said.print_predictions(shown[:limit] if limit else shown, verified)
    if code := said.exit_code(telemetry, rows_seen, unanswered, aside):
        raise typer.Exit(code)


def commission(
    telemetry: Annotated[Path, typer.Argument(help="CSV, Parquet or JSON lines, from each unit's cycle 1 on.")],
    model: Annotated[str, typer.Option(help="Which model, e.g. pump-rul.")],
    holder: As,
    units: Annotated[
        list[str] | None, typer.Option("--unit", metavar="UNIT", help="Which unit; repeat it for more. Default: all.")
    ] = None,
    anchor: AnchorDir = None,
    state: StateDir = Path("twin"),
    key: KeyUri = None,
    replacing: Annotated[
        bool, typer.Option("--replace", help="Also units that were commissioned before; only if they are as new.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask: I have compared the values.")] = False,
) -> None:
    """Sign the first 20 cycles of machines that are new, or overhauled, so that nobody can alter this reference."""
    from twinseal.trust.baseline_record import unit_key
    from twinseal.trust.keys.key import NamedSigner, open_signer
    from twinseal.twin import baseline_rows, commissioner, runtime, telemetry_reader
    from twinseal.twin.commissioners import ROLE, newest_root
    from twinseal.twin.enrolled_lives import enrolled_lives
    from twinseal.twin.seen_records import read_memory
    from twinseal.twin.state import State as TwinState

    if str(telemetry) == "-":
        raise ConfigError(
            "-: expected a file, got the standard input",
            remedy=f"What is signed must be there to keep: twinseal commission FILE --model {model} --as {holder}",
        )
    pinned, now = read_anchor(anchor), datetime.now(UTC)
    verified = runtime.current_model(state, pinned, model)
    root = newest_root(TwinState(state), pinned)
    root.roles[ROLE].key_of(holder)  # names the commissioners before a key is looked for
    contract = verified.model.contract
    rows_read = telemetry_reader.read(telemetry, contract.inputs, mapping=verified.mapping, note=_note)
    lives = enrolled_lives(state, pinned, model, now)
    begins = {unit: life.begins for unit, life in lives.lives.items()} if lives else {}
    found = baseline_rows.take_first_rows(rows_read, contract, units or (), begins)
    memory = read_memory(TwinState(state))
    for unit, rows in found.items():
        _print_baseline_rows(unit, rows, verified, begins.get(unit, 0))
        before = memory.get(unit_key(unit))
        if before is not None:
            out.print(f"[yellow]it was commissioned before[/]: version {before.version}")
    names = ", ".join(found) if len(found) <= 3 else f"{len(found)} units"
    confirm(yes, f"Sign as {holder} that these are the readings of {names} when new and healthy?")
    place = key or Home.default().key_uri(holder)
    signer = open_signer(place, passphrase=ask_passphrase(place, holder), holder=holder)
    signed = commissioner.commission(
        state, pinned, verified, found, NamedSigner(holder, signer), now=now, replacing=replacing
    )
    _print_commissioned(signed, ", ".join(item.name for item in root.roles[ROLE].holders))
    warn_of_demo(pinned)


def _warn_of_signed(signed: Signed) -> None:
    if signed.refused:
        err.print(f"[yellow]the life record does not count, each machine is unknown[/]: {printable(signed.refused)}")
    for refusal in signed.baselines.refused:
        err.print(
            f"[yellow]{printable(refusal.unit)}: its baseline record is not used[/], its life is estimated "
            f"without it: {printable(refusal.reason)}"
        )


def _correct_clock(state: Path, model: str) -> None:
    """Let a person say that the clock is right, if it is behind what the twin has seen."""
    from twinseal.twin import clock

    now, seen = datetime.now(UTC), clock.remembered_time(state, model)
    if seen is None or now >= seen:
        return
    confirm(
        False,
        f"This twin has pulled at {seen:%Y-%m-%d %H:%M} UTC by its clock. "
        f"Is it {now:%Y-%m-%d %H:%M} UTC now, by another clock than this machine's?",
        not_done="nothing was changed",
        remedy="Look at another clock, set this machine's, then run the same command at a terminal and answer y.",
    )
    if clock.correct(state, model, datetime.now(UTC)):
        err.print(f"[yellow]the time {seen:%Y-%m-%d %H:%M} UTC is no longer remembered[/]; this is in the audit log")


def _warn_of_clock(since_last: timedelta | None) -> None:
    """A clock that is ahead cannot be told from a long time without a pull; a person can."""
    if since_last is not None and since_last >= LONG:
        err.print(
            f"[yellow]by this machine's clock, the last pull was {since_last.days} days ago[/]. If that is not so, the "
            "clock is ahead and later pulls will be refused: set it, then pull with --clock-is-right"
        )


def _fetch(source: str, anchor: Anchor, model: str, state: Path) -> PullResult:
    """Pull from MLflow's address, or from the folder of a mirror."""
    from twinseal.twin import pull as puller

    with delivery.opened(source, model, state) as found:
        return puller.pull(found, anchor, model, state, datetime.now(UTC))


def _print_baseline_rows(unit: str, rows: NDArray[np.float64], verified: VerifiedModel, begin: int) -> None:
    """What is about to be signed: each channel's mean beside the contract's range and the mean of the fleet."""
    from twinseal.twin import runtime

    contract = verified.model.contract
    sigma = dict(zip(contract.channels, verified.model.normaliser.apply(rows).mean(axis=0), strict=True))
    name = unit if unit.isascii() else f"{unit} ({unit!a})"  # a look-alike letter shows itself
    distance = "σ from the fleet's mean"
    columns = ("channel", "mean", "lowest", "highest", "contract", "unit", distance)
    numbers = ("mean", "lowest", "highest", "contract", distance)
    table = new_table(*columns, numbers=numbers, title=f"{printable(name)}, cycles {begin + 1} to {begin + len(rows)}")
    for channel, values in zip(contract.inputs, rows.T, strict=True):
        limit = contract.all_channels[channel]
        values_of = (f"{value:.6g}" for value in (values.mean(), values.min(), values.max()))
        offset = f"{sigma[channel]:+.2f}" if channel in sigma else ""
        table.add_row(
            printable(channel), *values_of, f"{limit.minimum:g} to {limit.maximum:g}", printable(limit.unit), offset
        )
    out.print(table)
    values = (dict(zip(contract.inputs, row, strict=True)) for row in rows)
    telemetry = [{"unit": unit, "cycle": cycle, **row} for cycle, row in enumerate(values, start=1)]
    (answer,) = runtime.run(verified, telemetry, last_only=True)
    out.print(
        f"without a baseline the model gives it {answer.rul_cycles:.0f} of at most "
        f"{contract.rul_cap_cycles:.0f} cycles: {printable(answer.advice)}"
    )


def _print_commissioned(signed: Iterable[CommissioningResult], holders: str) -> None:
    colours = {"signed": "green", "countersigned": "green", "stands": "yellow"}
    for item in signed:
        waits = f"; {item.missing} more of {holders} must sign it: the same command, as them" if item.missing else ""
        record = item.record
        out.print(
            f"[{colours[item.outcome]}]{item.outcome}[/]  {printable(record.unit)} version {record.version}{waits}"
        )
        if item.replaced:
            out.print(f"the record that it replaces is kept: {printable(item.replaced)}")
    out.print("they count from the next start of [cyan]twinseal run[/]")


def _note(text: str) -> None:
    err.print(f"[yellow]note[/]  {printable(text)}")
