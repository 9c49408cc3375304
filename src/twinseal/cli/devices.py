"""What is done for sensors' gateways: a key where the gateway is; enrolled and revoked by commissioners at the twin."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from twinseal.cli.commissioners import Desk, sign_record, some_of, unit_names
from twinseal.cli.options import (
    AnchorDir,
    As,
    AsJson,
    KeyUri,
    StateDir,
    ask_new_passphrase,
    confirm,
    examples,
    read_anchor,
)
from twinseal.console import new_table, out, print_json, printable, refusals_as_json
from twinseal.errors import DataError

if TYPE_CHECKING:
    from twinseal.trust.device_record import Device, DeviceRecord
    from twinseal.trust.keys.device_keys import DeviceKey

ENROLL = "twinseal device enroll gate-1 gate-1.pub --model pump-rul --as emil --unit pump-001"
device = typer.Typer(
    help="Gateways of sensors: their keys, and what each may deliver.",
    epilog=examples("twinseal device key gate-1 --out gate-1.pem", ENROLL),
    no_args_is_help=True,
)

Name = Annotated[str, typer.Argument(metavar="NAME", help="The device's name, as its frames have it.")]
Model = Annotated[str, typer.Option(help="Which model reads the telemetry, e.g. pump-rul.")]
Sure = Annotated[bool, typer.Option("--yes", help="Do not ask.")]
Anew = Annotated[bool, typer.Option("--anew", help="Begin with no device: the record before does not count any more.")]
COUNTS = "it counts from now on, also for a [cyan]twinseal run --frames[/] that is running"


@device.command("key", epilog=examples("twinseal device key gate-1 --out /etc/twinseal/gate-1.pem --no-passphrase"))
def key(
    name: Name,
    out_file: Annotated[Path, typer.Option("--out", metavar="FILE.pem", help="Where the private half goes.")],
    no_passphrase: Annotated[
        bool, typer.Option("--no-passphrase", help="Leave the file unencrypted: the gateway starts by itself.")
    ] = False,
) -> None:
    """Make a device's key, where the gateway is. The private half never leaves it."""
    from twinseal.trust.keys import device_keys

    secret = None if no_passphrase else ask_new_passphrase(out_file.stem)
    made = device_keys.generate(out_file, passphrase=secret)
    out.print(f"[green]made[/]  the key of {printable(name)}; public half: {printable(out_file.with_suffix('.pub'))}")
    _print_fingerprint(made)
    out.print("next: a commissioner enrolls the public half where the twin is, and compares these lines")


@device.command("enroll", epilog=examples(ENROLL))
def enroll(
    name: Name,
    file: Annotated[Path, typer.Argument(metavar="FILE.pub", help="The public half of its key.")],
    model: Model,
    holder: As,
    units: Annotated[
        list[str], typer.Option("--unit", metavar="UNIT", help="Which machine it may deliver; repeat it for more.")
    ],
    channels: Annotated[
        list[str] | None,
        typer.Option("--channel", metavar="CHANNEL", help="Which channel; repeat it. Default: all of the model."),
    ] = None,
    rate: Annotated[int, typer.Option(metavar="N", help="Frames a second that are taken, in the long run.")] = 100,
    max_age: Annotated[
        int | None,
        typer.Option(
            metavar="S", help="Seconds that frames may be from the twin's clock, of all devices. At first 60."
        ),
    ] = None,
    anchor: AnchorDir = None,
    state: StateDir = Path("twin"),
    key_uri: KeyUri = None,
    anew: Anew = False,
    yes: Sure = False,
) -> None:
    """Sign which units and channels the device NAME may deliver; again to change it, or its key."""
    from dataclasses import replace

    from twinseal.trust.device_record import Device
    from twinseal.trust.keys.device_keys import DeviceKey
    from twinseal.twin import runtime
    from twinseal.twin.devices import DEVICES

    inputs = runtime.current_model(state, read_anchor(anchor), model).model.contract.inputs
    strangers = [channel for channel in channels or () if channel not in inputs]
    if strangers:
        raise DataError(f"--channel: expected channels of {model} ({', '.join(inputs)}), got {', '.join(strangers)}")
    public = DeviceKey.read(file)
    added = Device(name, public, unit_names(units), tuple(sorted(set(channels or inputs))), rate)

    def change(record: DeviceRecord) -> DeviceRecord:
        return replace(record, max_age_s=max_age or record.max_age_s).with_device(added)

    out.print(f"device [cyan]{printable(name)}[/] may deliver {some_of(added.units)}: {some_of(added.channels)}")
    _print_fingerprint(public)
    question = f"Sign as {holder} that this is the key of {name}, and that it measures these machines?"
    sign_record(DEVICES, change, question, Desk(holder, model, anchor, state, key_uri, yes), COUNTS, anew=anew)


@device.command("revoke", epilog=examples("twinseal device revoke gate-1 --model pump-rul --as emil"))
def revoke(
    name: Name,
    model: Model,
    holder: As,
    anchor: AnchorDir = None,
    state: StateDir = Path("twin"),
    key_uri: KeyUri = None,
    yes: Sure = False,
) -> None:
    """Sign that the device NAME delivers nothing any more. Its key never counts again."""
    from twinseal.twin.devices import DEVICES

    question = f"Sign as {holder} that {name} delivers nothing any more?"
    desk = Desk(holder, model, anchor, state, key_uri, yes)
    sign_record(DEVICES, lambda record: record.without(name), question, desk, COUNTS)


@device.command("counter", epilog=examples("twinseal device counter gate-1.pem --unit pump-001 --cycle 0"))
def counter(
    key_file: Annotated[Path, typer.Argument(metavar="FILE.pem", help="Its key: what it signed is beside it.")],
    unit: Annotated[str, typer.Option(metavar="UNIT", help="The machine whose counter was replaced.")],
    cycle: Annotated[int, typer.Option(metavar="N", help="What the new counter shows; the next row has more.")],
    memory: Annotated[
        Path | None, typer.Option(metavar="FILE.json", help="What was signed last. Default: beside the key.")
    ] = None,
    yes: Sure = False,
) -> None:
    """Let a machine's count begin at another number, where the gateway is, while it does not run.

    The twin goes on refusing the new count until commissioners have signed the same: twinseal unit counter-replaced.
    """
    from twinseal.twin import gateway, locks

    (name,), place = unit_names([unit]), memory or key_file.with_suffix(".signed.json")
    confirm(yes, f"Was the counter of {name} replaced, and does it show {cycle} now?", not_done="nothing was changed")
    with locks.only_one(place.with_suffix(".lock"), f"twinseal gateway with {place.name}", datetime.now(UTC)):
        before = gateway.set_count(place, name, cycle)
    out.print(f"the count of {printable(name)} goes on from {cycle}; it was {before}")


@device.command("show", epilog=examples("twinseal device show --model pump-rul --json"))
def show(model: Model, anchor: AnchorDir = None, state: StateDir = Path("twin"), as_json: AsJson = False) -> None:
    """Show the devices that are enrolled at this twin."""
    from twinseal.twin.devices import enrolled_devices

    with refusals_as_json(as_json):
        record = enrolled_devices(state, read_anchor(anchor), model, datetime.now(UTC))
    if as_json:
        print_json({"model": model, "version": record.version if record else 0, "devices": _listed(record)})
        return
    if record is None:
        out.print(f"no device is enrolled here: telemetry is taken unsigned. To change that: [cyan]{ENROLL}[/]")
        return
    table = new_table("device", "key", "units", "channels", "frames a second", numbers=("frames a second",))
    for item in record.devices:
        names = (printable(some_of(part)) for part in (item.units, item.channels))
        table.add_row(printable(item.name), item.key.fingerprint[:16], *names, str(item.frames_per_second))
    out.print(table)
    out.print(f"version {record.version}; frames may be {record.max_age_s} s from this clock")
    if record.revoked:
        out.print(f"revoked keys: {', '.join(item[:16] for item in record.revoked)}")


def _listed(record: DeviceRecord | None) -> list[dict[str, object]]:
    def line(item: Device) -> dict[str, object]:
        names = {"units": list(item.units), "channels": list(item.channels)}
        return {"name": item.name, "key": item.key.fingerprint, **names, "frames_per_second": item.frames_per_second}

    return [line(item) for item in record.devices] if record else []


def _print_fingerprint(public: DeviceKey) -> None:
    from twinseal.trust.keys.key import grouped_digits

    first, second = grouped_digits(public.fingerprint).splitlines()
    out.print(f"sha256  {first}\n        {second}")
