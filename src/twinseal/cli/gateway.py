"""Telemetry in signed frames: the gateway that signs them, and what `twinseal run` says of those that come."""

from __future__ import annotations

import os
import select
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from twinseal.cli.options import examples
from twinseal.console import UNANSWERED, err, printable
from twinseal.errors import ConfigError, TwinsealError

if TYPE_CHECKING:
    from twinseal.trust.device_record import DeviceRecord
    from twinseal.trust.life_record import LifeRecord
    from twinseal.trust.root.anchor import Anchor
    from twinseal.twin.frame_gate import Refused, Taken
    from twinseal.twin.gateway import Cut, Gateway

GATEWAY_EXAMPLES = examples(
    "twinseal gateway rows.jsonl --device gate-1 --model pump-rul --key gate-1.pem --out rows.frames",
    "tail -f rows.jsonl | twinseal gateway - --device gate-1 --model pump-rul --key gate-1.pem "
    "| twinseal run - --frames --model pump-rul --json",
    "tail -f rows.jsonl | twinseal gateway - --device gate-1 --model pump-rul --key gate-1.pem --to broker.yaml",
)
MAX_NAMED = 10  # of each kind of refusal

Rows = Iterable[Mapping[str, Any]]


def gateway(
    telemetry: Annotated[Path, typer.Argument(help="JSON lines ('-': from stdin), CSV or Parquet: unit, cycle, …")],
    device: Annotated[str, typer.Option(metavar="NAME", help="This device, as it is enrolled.")],
    model: Annotated[str, typer.Option(help="Which model the rows are for, e.g. pump-rul.")],
    key: Annotated[Path, typer.Option(metavar="FILE.pem", help="Its key: twinseal device key.")],
    memory: Annotated[
        Path | None, typer.Option(metavar="FILE.json", help="What was signed last. Default: beside the key.")
    ] = None,
    out_file: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="A new file for the frames. Default: stdout.")
    ] = None,
    to: Annotated[
        Path | None, typer.Option("--to", metavar="FILE.yaml", help="Send the frames to this MQTT broker instead.")
    ] = None,
    rows: Annotated[int, typer.Option(metavar="N", help="Rows in a frame, at most.")] = 100,
    wait: Annotated[float, typer.Option(metavar="S", help="Seconds until a row is signed, at most.")] = 1.0,
    rate: Annotated[
        float, typer.Option(metavar="N", help="Frames a second, at most, as the device is enrolled.")
    ] = 100,
    single: Annotated[bool, typer.Option("--single", help="Readings in 4 bytes in place of 8.")] = False,
) -> None:
    """Sign telemetry where the sensors are: many rows a frame, each frame after its length.

    With --to each frame is one message on the topic telemetry/DEVICE/frames, acknowledged before the next is signed.
    While the broker is away rows are kept, and no more are read: nothing is lost. docs/sources.md has the file.

    Exit code 3: some rows were set aside: they had no unit, or no cycle after the unit's last.
    """
    from twinseal.trust.keys.device_keys import open_device_key
    from twinseal.twin import locks
    from twinseal.twin.gateway import Gateway

    if not 0 <= wait <= 3600 or not 0 < rate <= 10_000:
        raise ConfigError(f"--wait --rate: expected 0 to 3600 s, and up to 10000 frames a second, got {wait}, {rate}")
    if to is not None and out_file is not None:
        raise ConfigError("--to --out: expected one of them, got both")
    aside: Counter[str] = Counter()

    def set_aside(why: str) -> None:
        aside["row"] += 1
        if aside["row"] <= MAX_NAMED:
            err.print(f"[yellow]set aside[/]  {printable(why)}")

    place = memory or key.with_suffix(".signed.json")
    signer = open_device_key(key)
    with ExitStack() as stack:
        lock = place.with_suffix(".lock")
        stack.enter_context(locks.only_one(lock, f"twinseal gateway with {place.name}", datetime.now(UTC)))
        made = Gateway(device, model, signer, place, rows=rows, wait_s=wait, single=single, set_aside=set_aside)
        deliver = _to_stream(stack, made, out_file) if to is None else _to_broker(stack, made, to, device)
        pace = _Pace(1 / rate)

        def send(cuts: Iterable[Cut]) -> None:
            for cut in cuts:
                pace.wait()
                deliver(cut)

        for row in _rows(telemetry, set_aside, lambda: made.due_in(datetime.now(UTC)), lambda: send(made.cut())):
            send(made.take(row, datetime.now(UTC)))
            if made.due_in(datetime.now(UTC)) == 0:  # rows that come steadily must not wait for ever
                send(made.cut())
        send(made.cut())
    if aside:
        err.print(f"[yellow]rows that were not signed: {aside.total()}[/]")
        raise typer.Exit(UNANSWERED)


def _to_stream(stack: ExitStack, gateway: Gateway, out_file: Path | None) -> Callable[[Cut], None]:
    from twinseal.twin.frame_stream import with_length

    stream = stack.enter_context(out_file.open("xb")) if out_file else sys.stdout.buffer

    def deliver(cut: Cut) -> None:
        stream.write(with_length(gateway.sign(cut, datetime.now(UTC))))
        stream.flush()

    return deliver


def _to_broker(stack: ExitStack, gateway: Gateway, to: Path, device: str) -> Callable[[Cut], None]:
    from twinseal.config import load
    from twinseal.twin.inputs.broker import BrokerSettings

    try:
        from twinseal.twin.frame_sender import FrameSender
    except ModuleNotFoundError as error:
        remedy = "Install what a broker needs: python -m pip install 'twinseal[service]'"
        raise ConfigError(f"--to: expected the package {error.name}, got none", remedy=remedy) from error

    def tell(text: str) -> None:
        err.print(f"[yellow]{printable(text)}[/]")

    sender = stack.enter_context(FrameSender(load(BrokerSettings, to), device, tell, lambda: datetime.now(UTC)))
    return lambda cut: sender.send(gateway, cut)


def _rows(
    telemetry: Path, set_aside: Callable[[str], None], due_in: Callable[[], float | None], flush: Callable[[], None]
) -> Rows:
    from twinseal.twin import telemetry_reader

    if str(telemetry) == "-":
        return telemetry_reader.lines(_Input(sys.stdin.fileno(), due_in, flush), "standard input", set_aside)
    return telemetry_reader.read(telemetry, set_aside=set_aside)


class _Pace:
    """Keeps frames apart."""

    def __init__(self, seconds: float) -> None:
        self._seconds, self._next = seconds, 0.0

    def wait(self) -> None:
        now = time.monotonic()
        time.sleep(max(0.0, self._next - now))
        self._next = max(now, self._next) + self._seconds


class _Input:
    """Lines of the standard input, where a row that waits is signed also while no line comes."""

    def __init__(self, descriptor: int, due_in: Callable[[], float | None], flush: Callable[[], None]) -> None:
        self._descriptor, self._due_in, self._flush = descriptor, due_in, flush
        self._buffer = bytearray()

    def readline(self, limit: int, /) -> bytes:
        """The next line, or its first `limit` bytes; empty at the end."""
        while b"\n" not in self._buffer and len(self._buffer) < limit and self._fill():
            pass
        end = self._buffer.find(b"\n", 0, limit) + 1 or limit
        line = bytes(self._buffer[:end])
        del self._buffer[:end]
        return line

    def _fill(self) -> bool:
        while not select.select([self._descriptor], [], [], self._due_in())[0]:
            self._flush()
        data = os.read(self._descriptor, 64 << 10)
        self._buffer += data
        return bool(data)


def signed_telemetry(telemetry: Path, state: Path, anchor: Anchor, model: str, aside: Counter[str]) -> Rows:
    """The rows of the signed frames in a file or on the standard input; says what is refused and lost.

    Args:
        telemetry: The file, or `-`.
        state: The twin's own directory.
        anchor: The root that it was installed with.
        model: Which model reads the rows.
        aside: Counts frames that are refused, as `frame`.

    Raises:
        ConfigError: No device is enrolled here.
        TwinsealError: As `devices.enrolled_devices` and `enrolled_lives.enrolled_lives`.
        OSError: There is no such file.
    """
    from twinseal.twin.devices import CurrentDevices
    from twinseal.twin.enrolled_lives import CurrentLives

    devices, lives = CurrentDevices(state, anchor, model), CurrentLives(state, anchor, model)

    def enrolled(now: datetime) -> tuple[DeviceRecord, LifeRecord | None]:
        record = devices.record(now)
        if record is None:
            raise ConfigError(
                f"--frames: expected an enrolled device in {state}, got none",
                remedy="A commissioner enrolls the gateway's key: twinseal device enroll NAME FILE.pub "
                f"--model {model} --as HOLDER --unit UNIT",
            )
        return record, lives.record(now)

    enrolled(datetime.now(UTC))
    return _signed_rows(telemetry, state, enrolled, _Teller(aside))


def _signed_rows(
    telemetry: Path,
    state: Path,
    enrolled: Callable[[datetime], tuple[DeviceRecord, LifeRecord | None]],
    tell: _Teller,
) -> Iterator[Mapping[str, Any]]:
    from twinseal.reading import open_regular
    from twinseal.twin import locks
    from twinseal.twin.frame_gate import FrameGate
    from twinseal.twin.frame_stream import signed_rows

    now = datetime.now(UTC)
    with ExitStack() as stack:
        stack.enter_context(locks.only_one(state / "frames.lock", "twinseal run --frames", now))
        gate = FrameGate(state, *enrolled(now))
        stream: Any = sys.stdin.buffer
        if str(telemetry) != "-":
            stream = stack.enter_context(open_regular(telemetry, follow=True))
        yield from signed_rows(gate, stream, lambda: datetime.now(UTC), tell, enrolled)
    tell.summary(gate.counts)


def unsigned(state: Path, anchor: Anchor, model: str) -> bool | None:
    """Whether rows that come without frames are signed: False, and a warning, where devices are enrolled; else None."""
    from twinseal.twin.devices import enrolled_devices

    try:
        if enrolled_devices(state, anchor, model, datetime.now(UTC)) is None:
            return None
    except TwinsealError as error:
        err.print(f"[yellow]the devices that are enrolled here do not count[/]: {printable(error)}")
    err.print("[yellow]devices are enrolled here, and this telemetry is not signed[/]: signed frames come by --frames")
    return False


class _Teller:
    """Says what becomes of frames: of each kind of refusal the first few, and every gap."""

    def __init__(self, aside: Counter[str]) -> None:
        self._aside, self._told = aside, Counter[str]()
        self._strangers: set[str] = set()

    def __call__(self, item: Taken | Refused) -> None:
        from twinseal.twin.frame_gate import Refused

        if isinstance(item, Refused):
            self._aside["frame"] += 1
            self._say(item.reason, f"[red]{item.reason}[/]  {printable(item.message)}")
            return
        frame = item.frame
        where = f"{printable(frame.device)}, frame {frame.sequence}"
        if item.lost_frames:
            self._say("lost", f"[red]lost[/]  {where}: {item.lost_frames} frames before it did not come")
        for unit, cycles in item.lost_rows.items():
            self._say("lost rows", f"[red]lost[/]  {where}: {cycles} cycles of {printable(unit)} did not come")
        for unit in item.unknown:
            if unit not in self._strangers:
                self._strangers.add(unit)
                self._say("unknown", f"[yellow]unknown machine[/]  {where}: nobody has enrolled {printable(unit)}")
        if item.first:
            self._say("first", f"{where}: the first that this twin sees of its key; what came before is not known")

    def _say(self, kind: str, text: str) -> None:
        self._told[kind] += 1
        if self._told[kind] <= MAX_NAMED:
            err.print(text)

    def summary(self, counts: Mapping[str, int]) -> None:
        """What this twin has counted since its first frame."""
        from twinseal.twin.frame_gate import counted_words

        err.print(f"frames, since the first at this twin: {', '.join(counted_words(counts)) or 'none'}")
