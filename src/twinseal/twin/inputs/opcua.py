"""Telemetry by OPC UA: nodes are the channels of a unit; a row when its cycle changes. `opcua_session` connects.

    kind: opcua
    url: opc.tcp://plc.plant.example:4840
    certificate: twin.pem
    key: twin.key
    server_certificate: plc.pem          # this one, and no other
    carries: rows                        # or frames: of the nodes that have some
    units:
      pump-1:
        cycle: "ns=2;s=Pump1.Starts"
        channels: {vibration: "ns=2;s=Pump1.Vibration"}
      pump-2: {frame: "nsu=urn:plant:gateway;s=Pump2.Frame"}       # a ByteString; also the gateway's for many units

The channel is signed and encrypted (Basic256Sha256) between this program and the server. That says nothing of a row to
whoever reads the twin's answers, so rows count as unsigned; frames are signed at their gateway.

A row has the readings that came before the count of its cycle, or with it: by their source time stamps, within what
the server publishes together. A server should write the count last. The server keeps what the twin has not asked for
yet, up to `queue` values of a node; what it drops is said where the server says so.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from twinseal.config import Field, Settings
from twinseal.errors import ConfigError
from twinseal.reading import read_regular
from twinseal.telemetry.unit_names import unit_name
from twinseal.trust.signing.cose import MAX_MESSAGE_BYTES
from twinseal.twin.inputs.backoff import Backoff
from twinseal.twin.inputs.broker import LOOPBACK
from twinseal.twin.inputs.machines import CycleSettings, Machine
from twinseal.twin.inputs.source import Item, SignedFrame, SourceEvent, Tell, Unreadable

MAX_UNITS, MAX_NODES = 10_000, 100_000
_MAX_FILE_BYTES = 64 << 10
_OVERFLOW = 0x480  # an information bit of a status: values before this one were dropped (OPC UA 4, 7.39.1)
_NODE = re.compile(r"(ns=[0-9]{1,5};|nsu=[^;]{1,200};)?[isgb]=.{1,200}\Z")


class UnitNodes(Settings):
    """The nodes of a unit.

    Attributes:
        frame: Of its signed frames; or else
        cycle: Of the count of its cycles; "" where a cycle is one of the clock.
        channels: Channel → node.

    Raises:
        ValueError: There are both frames and channels, or none; or a node is none.
    """

    frame: str = ""
    cycle: str = ""
    channels: dict[str, str] = Field(default_factory=dict)

    def model_post_init(self, _context: Any, /) -> None:
        """Refuse what has no meaning."""
        if bool(self.frame) == bool(self.channels) or (self.frame and self.cycle):
            raise ValueError("expected channels, with the node of their cycle, or a frame, one of both")
        for node in filter(None, (self.frame, self.cycle, *self.channels.values())):
            if not _NODE.match(node):
                raise ValueError(f"expected a node such as ns=2;s=Pump1.Vibration, got {node[:60]!r}")
        if {"unit", "cycle"} & set(self.channels):
            raise ValueError("channels: expected none called unit or cycle")


class OpcuaSettings(Settings):
    """A source of this kind.

    Attributes:
        kind: `opcua`.
        url: Of the server.
        certificate: PEM file with the twin's certificate (RSA, with `application_uri` in it).
        key: PEM file with its private key, without a passphrase.
        server_certificate: PEM file with the server's certificate.
        application_uri: Name of this program in its certificate.
        plain_on_loopback: Nothing signed or encrypted, to a server on this machine.
        carries: Frames alone; or rows that nobody has signed, and frames where there are some.
        units: Unit → its nodes.
        clock: What a cycle is, for units without a node that counts.
        publish_ms: How often the server publishes.
        queue: How many values of a node it keeps.

    Raises:
        ValueError: A number is out of range, a file is missing, nothing would be signed on the way to another machine,
            there is no unit, or two have one node.
    """

    kind: Literal["opcua"]
    url: str
    certificate: str = ""
    key: str = ""
    server_certificate: str = ""
    application_uri: str = "urn:twinseal:twin"
    plain_on_loopback: bool = False
    carries: Literal["frames", "rows"]
    units: dict[str, UnitNodes]
    clock: CycleSettings | None = None
    publish_ms: int = 500
    queue: int = 100

    def model_post_init(self, _context: Any, /) -> None:
        """Refuse what would not be safe, or has two meanings."""
        host = urlsplit(self.url).hostname if self.url.startswith("opc.tcp://") else None
        if not host or "@" in self.url:
            raise ValueError(f"url: expected one such as opc.tcp://host:4840, got {self.url[:60]!r}")
        files = [name for name in ("certificate", "key", "server_certificate") if getattr(self, name)]
        if self.plain_on_loopback and (host not in LOOPBACK or files):
            raise ValueError(f"plain_on_loopback: expected {', '.join(LOOPBACK)} and no certificates, got {host!r}")
        if not self.plain_on_loopback and len(files) < 3:
            raise ValueError(f"expected certificate, key and server_certificate, got {files or 'none'}")
        for name, low, high in (("publish_ms", 10, 60_000), ("queue", 1, 10_000)):
            if not low <= getattr(self, name) <= high:
                raise ValueError(f"{name}: expected {low} to {high}, got {getattr(self, name)}")
        self._check_units()

    def _check_units(self) -> None:
        if not 1 <= len(self.units) <= MAX_UNITS:
            raise ValueError(f"units: expected 1 to {MAX_UNITS}, got {len(self.units)}")
        if odd := [unit for unit in self.units if unit_name(unit) != unit]:
            raise ValueError(f"units: expected names of units, got {odd[0]!r:.60}")
        if self.carries == "frames" and any(nodes.channels for nodes in self.units.values()):
            raise ValueError("units: expected a frame for each unit with carries: frames, got channels")
        if self.clock is not None and self.clock.of:
            raise ValueError("clock: expected length_s and since; a node that counts is `cycle` of its unit")
        without = [unit for unit, nodes in self.units.items() if nodes.channels and not nodes.cycle]
        if without and self.clock is None:
            raise ValueError(f"units: {without[0]}: expected the node of its cycle, or a clock, got none")
        nodes = [place.node for place in self.places]
        if len(set(nodes)) != len(nodes) or len(nodes) > MAX_NODES:
            raise ValueError(f"units: expected each node once, and at most {MAX_NODES} of them")

    @property
    def places(self) -> list[Place]:
        """Each node, and what it is."""
        found = []
        for unit, nodes in self.units.items():
            found += [Place(nodes.frame, unit, "", "frame")] if nodes.frame else []
            found += [Place(node, unit, channel, "channel") for channel, node in nodes.channels.items()]
            found += [Place(nodes.cycle, unit, "", "cycle")] if nodes.cycle else []
        return found


@dataclass(frozen=True)
class Place:
    """A node, and what it is.

    Attributes:
        node: Its id, as in the settings.
        unit: Whose it is.
        channel: Of a reading; "" else.
        kind: What it has.
    """

    node: str
    unit: str
    channel: str
    kind: Literal["frame", "channel", "cycle"]


@dataclass(frozen=True)
class Change:
    """A new value of a node.

    Attributes:
        place: Which node.
        value: As the server gave it; None where it is null.
        status: OPC UA's status code.
        time_us: When it was taken, microseconds since 1970; None where that is not said.
    """

    place: Place
    value: Any
    status: int
    time_us: int | None

    @property
    def time_ms(self) -> int | None:
        """The same in milliseconds."""
        return None if self.time_us is None else self.time_us // 1000


class OpcuaSource:
    """As `Source` says.

    Args:
        name: Its name in the twin's settings.
        settings: Of it.
        tell: Told of each connection and each loss.
        backoff: The waits between attempts.
    """

    def __init__(self, name: str, settings: OpcuaSettings, tell: Tell, backoff: Backoff | None = None) -> None:
        self._name, self._settings, self._tell, self._backoff = name, settings, tell, backoff or Backoff()
        self._machines = {}
        for unit, nodes in settings.units.items():
            cycle = CycleSettings(of=nodes.cycle) if nodes.cycle else settings.clock
            if nodes.channels and cycle is not None:
                self._machines[unit] = Machine(unit, cycle, f"{name}, {unit}")

    @property
    def name(self) -> str:
        """As `Source` says."""
        return self._name

    async def deliveries(self) -> AsyncGenerator[Sequence[Item], None]:
        """As `Source` says."""
        session_module = _session_module()
        files = None if self._settings.plain_on_loopback else read_files(self._settings)
        while True:
            try:
                async with session_module.Session(self._settings, files) as session:
                    refused = await session.subscribe_to(self._settings.places)
                    self._tell(SourceEvent("connected", self._name))
                    if refused:
                        yield [self._no_node(place, why) for place, why in refused]
                    async for changes, done in session.published():
                        self._backoff.reset()
                        if items := self.items(changes):
                            yield items
                        done()
            except session_module.LostError as error:
                message = f"{self._name}: expected a connection with the server at {self._settings.url}, got {error}"
                self._tell(SourceEvent("lost", self._name, message))
            await asyncio.sleep(self._backoff.next_s())

    def items(self, changes: Sequence[Change]) -> list[Item]:
        """What follows from what a server published together."""
        if all(change.time_us is not None for change in changes):
            changes = sorted(changes, key=lambda change: (change.time_us, change.place.kind == "cycle"))
        items: list[Item] = []
        for change in changes:
            place, origin = change.place, f"{self._name}, {change.place.node}"
            if change.status & _OVERFLOW == _OVERFLOW:
                text = f"{origin}: expected each value, got a note that the server's queue was full"
                items.append(Unreadable("dropped", text, origin))
            if place.kind == "frame":
                items.append(_frame(change, origin))
                continue
            value = change.value
            if change.status >> 30:  # neither good: the first two bits say so (OPC UA 4, 7.39)
                items.append(Unreadable("bad quality", f"{origin}: expected good, got {change.status:#010x}", origin))
                value = None
            elif value is None:
                items.append(Unreadable("null", f"{origin}: expected a number, got null", origin))
            items += self._machines[place.unit].take({place.channel: value}, change.time_ms)
        return items

    def _no_node(self, place: Place, why: str) -> Unreadable:
        origin = f"{self._name}, {place.node}"
        return Unreadable("no node", f"{origin}: expected a node that can be subscribed to, got {why}", origin)


def read_files(settings: OpcuaSettings) -> dict[str, bytes]:
    """The certificates and the key, by the names of the settings.

    Raises:
        ConfigError: One cannot be read.
    """
    found = {}
    for name in ("certificate", "key", "server_certificate"):
        path = Path(getattr(settings, name))
        try:
            found[name] = read_regular(path, _MAX_FILE_BYTES, follow=True)
        except OSError as error:
            remedy = f"Look where it is: ls -l {path.parent}"
            raise ConfigError(
                f"{path}: expected a file in PEM ({name}), got {error.strerror}", remedy=remedy
            ) from error
    return found


def _frame(change: Change, origin: str) -> Item:
    if change.status >> 30 or not isinstance(change.value, bytes):
        got = f"{change.status:#010x}" if change.status >> 30 else type(change.value).__name__
        return Unreadable("wrong datatype", f"{origin}: expected a ByteString of good quality, got {got}", origin)
    if len(change.value) > MAX_MESSAGE_BYTES:
        text = f"{origin}: expected at most {MAX_MESSAGE_BYTES} bytes, got {len(change.value)}"
        return Unreadable("too long", text, origin)
    return SignedFrame(change.value, origin)


def _session_module() -> Any:
    try:
        from twinseal.twin.inputs import opcua_session  # noqa: PLC0415  # with asyncua, which few twins need
    except ModuleNotFoundError as error:
        remedy = "Install what the twin's service needs: python -m pip install 'twinseal[service]'"
        raise ConfigError(f"source: expected the package {error.name}, got none", remedy=remedy) from error
    return opcua_session
