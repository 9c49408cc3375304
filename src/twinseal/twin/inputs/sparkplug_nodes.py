"""What edge nodes of Sparkplug B say: births, aliases, sequence, deaths; and the items of telemetry in it. No I/O.

An edge node is born (NBIRTH), then its devices (DBIRTH): births name metrics, their datatypes and their aliases. Data
(NDATA, DDATA) has the metrics that changed, by alias or name. A death (NDEATH, DDEATH) ends what a birth began: its
readings are not held any longer. Each message of a node but its death has the next number from 0 to 255.

- A number that is passed over is counted as lost; one of before is refused. 256 messages that are lost at once are not
  noticed, nor is one that is replayed at its place: only signed frames have a number that never repeats.
- Data before a birth cannot be read; nor an alias that no birth named. Whoever asks `rebirths` may ask the node to be
  born again.
- A frame beside is a metric of type Bytes with the name of the settings. A device with one, or whose node has one, has
  no unsigned rows beside it: they would be the same ones again.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from twinseal.errors import EvidenceError
from twinseal.telemetry.unit_names import unit_name
from twinseal.trust.signing.cose import MAX_MESSAGE_BYTES
from twinseal.twin.inputs.machines import COUNT, CycleSettings, Machine
from twinseal.twin.inputs.source import Item, SignedFrame, Unreadable
from twinseal.twin.inputs.sparkplug_payload import BYTES, NAMES, Metric, Payload, decode, typed
from twinseal.twin.inputs.topics import shown

NAMESPACE = "spBv1.0"
MAX_NODES, MAX_DEVICES, MAX_KNOWN = 1_000, 10_000, 1_000_000  # edge nodes, devices, and metrics of all births
BD_SEQ = "bdSeq"
_NODE, _DEVICE = ("NBIRTH", "NDATA", "NDEATH"), ("DBIRTH", "DDATA", "DDEATH")
_NUMBERS = range(1, 11)  # datatypes that a channel may have


@dataclass(frozen=True)
class Reading:
    """How metrics become rows.

    Attributes:
        channels: Metric → channel.
        cycle: What a cycle is; `of` is the name of a metric.
        frame: Name of the metric that carries signed frames.
        units: "group/node/device" → unit; a device that is not in it has its own name as unit.
        rows: Whether unsigned rows are made at all.
    """

    channels: dict[str, str]
    cycle: CycleSettings
    frame: str
    units: dict[str, str]
    rows: bool


@dataclass
class _Known:
    """What a birth has said of one metric."""

    name: str
    datatype: int


@dataclass
class _Device:
    """A device that was born; "" is the node itself."""

    machine: Machine | None
    metrics: dict[str, _Known]
    has_frame: bool


@dataclass
class _Node:
    """An edge node that was born."""

    bd_seq: object
    seq: int
    aliases: dict[int, tuple[str, _Known]] = field(default_factory=dict)  # → device, metric
    devices: dict[str, _Device] = field(default_factory=dict)


class _OddError(Exception):
    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason


class Nodes:
    """All edge nodes that are heard.

    Args:
        reading: How metrics become rows.
    """

    def __init__(self, reading: Reading) -> None:
        self._reading, self._nodes = reading, dict[tuple[str, str], _Node]()
        self._owners: dict[str, tuple[str, str]] = {}  # unit → its edge node
        self._wanted: set[tuple[str, str]] = set()

    def rebirths(self) -> list[tuple[str, str]]:
        """Group and name of the edge nodes whose birth is needed; each is named once for each time."""
        wanted, self._wanted = sorted(self._wanted), set()
        return wanted

    def forget(self) -> None:
        """Nothing is known any more: messages were lost, nobody knows how many, and births may be among them."""
        self._nodes.clear()
        self._owners.clear()

    def take(self, topic: str, data: bytes) -> list[Item]:
        """What follows from a message."""
        origin, items = shown(topic), list[Item]()
        try:
            group, kind, name, device = _place(topic)
            payload = decode(data, origin)
            self._take((group, name), kind, device, payload, origin, items)
        except EvidenceError as error:
            items.append(Unreadable("malformed", str(error), origin))
        except _OddError as error:
            items.append(Unreadable(error.reason, f"{origin}: {error}", origin))
        return items

    def _take(
        self, key: tuple[str, str], kind: str, device: str, payload: Payload, origin: str, items: list[Item]
    ) -> None:
        if kind == "NDEATH":
            self._die(key, payload)
            return
        if payload.seq is None:
            raise _OddError("malformed", "expected a sequence, got none")
        if kind == "NBIRTH":
            self._bear_node(key, payload)
        node = self._nodes.get(key)
        if node is None:
            self._wanted.add(key)
            raise _OddError("no birth", "expected the birth of the edge node first, got none")
        if kind != "NBIRTH":
            self._count(key, node, payload.seq, origin, items)
        if kind.endswith("BIRTH"):
            self._bear(key, node, device, payload)
        if kind == "DDEATH":
            self._forget(node, device)
        else:
            self._read(key, node, device, payload, origin, items)

    def _die(self, key: tuple[str, str], payload: Payload) -> None:
        """A death of another life of the node is none: it may come after the next birth."""
        node = self._nodes.get(key)
        if node is not None and _bd_seq(payload.metrics) == node.bd_seq:
            for device in list(node.devices):
                self._forget(node, device)
            del self._nodes[key]

    def _bear_node(self, key: tuple[str, str], payload: Payload) -> None:
        if key not in self._nodes and len(self._nodes) >= MAX_NODES:
            raise _OddError("too many", f"expected at most {MAX_NODES} edge nodes, got one more")
        before = self._nodes.get(key)
        for device in list(before.devices) if before else ():
            self._forget(before, device)  # type: ignore[arg-type]  # there is one
        self._nodes[key] = _Node(_bd_seq(payload.metrics), payload.seq or 0)

    def _count(self, key: tuple[str, str], node: _Node, seq: int, origin: str, items: list[Item]) -> None:
        missing = (seq - node.seq - 1) % 256
        if missing >= 128:
            self._wanted.add(key)  # or as many were lost: a birth begins anew either way
            raise _OddError("late", f"expected the sequence {(node.seq + 1) % 256}, got {seq}, which came before")
        node.seq = seq
        if missing:
            self._wanted.add(key)
            text = f"{origin}: expected the sequence {(seq - missing) % 256}, got {seq}"
            items.append(Unreadable("lost", text, origin, missing))

    def _bear(self, key: tuple[str, str], node: _Node, device: str, payload: Payload) -> None:
        self._forget(node, device)
        known = sum(len(one.metrics) for each in self._nodes.values() for one in each.devices.values())
        devices = sum(len(each.devices) for each in self._nodes.values())
        if known + len(payload.metrics) > MAX_KNOWN or devices >= MAX_DEVICES:
            raise _OddError("too many", f"expected at most {MAX_DEVICES} devices with {MAX_KNOWN} metrics, got more")
        metrics = {metric.name: _Known(metric.name, metric.datatype) for metric in payload.metrics if metric.name}
        if len(metrics) != len(payload.metrics):
            raise _OddError("malformed", "expected a name for each metric of a birth, each name once, got others")
        has_frame = self._reading.frame in metrics
        machine = self._machine(key, device) if device and self._reading.rows and not has_frame else None
        for metric in payload.metrics:
            if metric.alias is not None:
                if metric.alias in node.aliases:
                    raise _OddError("malformed", f"expected each alias once in an edge node, got {metric.alias} again")
                node.aliases[metric.alias] = (device, metrics[metric.name])
        node.devices[device] = _Device(machine, metrics, has_frame)

    def _machine(self, key: tuple[str, str], device: str) -> Machine:
        place = "/".join((*key, device))
        unit = self._reading.units.get(place, device)
        if not unit_name(unit):
            raise _OddError("no unit", f"expected a device whose name is that of a unit, got {device[:60]!a}")
        if self._owners.setdefault(unit, key) != key:
            raise _OddError("another node's unit", f"expected {unit!r} of {'/'.join(self._owners[unit])} alone, got it")
        return Machine(unit, self._reading.cycle, shown(place))

    def _forget(self, node: _Node, device: str) -> None:
        born = node.devices.pop(device, None)
        if born is not None:
            if born.machine is not None:
                self._owners.pop(born.machine.unit, None)
            node.aliases = {alias: known for alias, known in node.aliases.items() if known[0] != device}

    def _read(
        self, key: tuple[str, str], node: _Node, device: str, payload: Payload, origin: str, items: list[Item]
    ) -> None:
        born = node.devices.get(device)
        if born is None:
            self._wanted.add(key)
            raise _OddError("no birth", "expected the birth of the device first, got none")
        come: dict[str, int | float | None] = {}
        for metric in payload.metrics:
            known = self._known(key, node, device, born, metric)
            if isinstance(known, Unreadable):
                items.append(Unreadable(known.reason, f"{origin}: {known.message}", origin))
            elif known.name == self._reading.frame:
                items.append(_frame(metric, known, origin))
            elif known.name == self._reading.cycle.of or known.name in self._reading.channels:
                if metric.historical:
                    text = f"{origin}: {known.name}: expected what is measured now, got what was measured before"
                    items.append(Unreadable("historical", text, origin))
                elif isinstance(value := _number(metric, known), Unreadable):
                    items.append(Unreadable(value.reason, f"{origin}: {value.message}", origin))
                    come[self._reading.channels.get(known.name, COUNT)] = None
                else:
                    come[self._reading.channels.get(known.name, COUNT)] = value
        whole = node.devices.get("")
        if born.machine is not None and not (whole and whole.has_frame) and come:
            items += born.machine.take(come, payload.timestamp_ms)

    def _known(
        self, key: tuple[str, str], node: _Node, device: str, born: _Device, metric: Metric
    ) -> _Known | Unreadable:
        if metric.name:
            known = born.metrics.get(metric.name)
        else:
            of, known = node.aliases.get(metric.alias if metric.alias is not None else -1, ("", None))
            known = known if of == device else None
        if known is None:
            self._wanted.add(key)
            got = repr(metric.name[:60]) if metric.name else f"the alias {metric.alias}"
            return Unreadable("unknown metric", f"expected a metric of the birth, got {got}", "")
        return known


def _place(topic: str) -> tuple[str, str, str, str]:
    levels = topic.split("/")
    kind = levels[2] if len(levels) > 2 else ""
    right = (len(levels) == 4 and kind in _NODE) or (len(levels) == 5 and kind in _DEVICE)
    if levels[0] != NAMESPACE or not right or not all(levels):
        expected = f"{NAMESPACE}/GROUP/NBIRTH|NDATA|NDEATH/NODE or {NAMESPACE}/GROUP/DBIRTH|DDATA|DDEATH/NODE/DEVICE"
        raise _OddError("another topic", f"expected {expected}")
    return levels[1], kind, levels[3], levels[4] if len(levels) == 5 else ""


def _bd_seq(metrics: Iterable[Metric]) -> object:
    return next((metric.value for metric in metrics if metric.name == BD_SEQ), None)


def _frame(metric: Metric, known: _Known, origin: str) -> Item:
    if known.datatype != BYTES or not isinstance(metric.value, bytes):
        got = NAMES.get(known.datatype, known.datatype)
        return Unreadable("wrong datatype", f"{origin}: {known.name}: expected Bytes, got {got}", origin)
    if len(metric.value) > MAX_MESSAGE_BYTES:
        text = f"{origin}: {known.name}: expected at most {MAX_MESSAGE_BYTES} bytes, got {len(metric.value)}"
        return Unreadable("too long", text, origin)
    return SignedFrame(metric.value, origin)


def _number(metric: Metric, known: _Known) -> int | float | Unreadable:
    datatype = metric.datatype or known.datatype
    if datatype != known.datatype or datatype not in _NUMBERS:
        got = NAMES.get(datatype, datatype)
        return Unreadable("wrong datatype", f"{known.name}: expected a number, as in its birth, got {got}", "")
    if metric.value is None:
        return Unreadable("null", f"{known.name}: expected a number, got null", "")
    value = typed(metric.value, datatype)
    if not isinstance(value, int | float):
        return Unreadable("wrong datatype", f"{known.name}: expected {NAMES[datatype]}, got {metric.value!r:.40}", "")
    return value
