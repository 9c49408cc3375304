"""Attacks on the way in: topics and payloads of a broker, and rows that nobody signed."""

from __future__ import annotations

import json
from typing import Any

from tests.twin.deployment import CHANNELS
from tests.twin.telemetry_attacks.attack import ROWS, Sent, attack
from tests.twin.telemetry_attacks.scene import Scene
from twinseal.config import parse
from twinseal.twin.inputs.broker import Dropped, Message
from twinseal.twin.inputs.json_rows import rows_of
from twinseal.twin.inputs.machines import CycleSettings
from twinseal.twin.inputs.mqtt import MqttSettings, MqttSource
from twinseal.twin.inputs.source import Item
from twinseal.twin.inputs.sparkplug_nodes import Nodes, Reading

FRAMES, PLAIN = "telemetry/gate-1/frames", "telemetry/gate-1/rows"
SETTINGS = {
    "kind": "mqtt",
    "broker": {"host": "localhost", "client_id": "twin", "plain_on_loopback": True},
    "topics": [
        {"filter": "telemetry/+/frames", "carries": "frames"},
        {"filter": "telemetry/+/rows", "carries": "rows"},
    ],
}


def by_mqtt(*messages: Message | Dropped) -> list[Item]:
    """What the source makes of what a broker gives it."""
    source = MqttSource("plant", parse(MqttSettings, SETTINGS, "twin.yaml"), lambda _event: None)
    return [item for message in messages for item in source._items(message)]


def by_sparkplug(*messages: tuple[str, bytes]) -> list[Item]:
    nodes = Nodes(Reading({"Heat": "heat"}, CycleSettings(of="Starts"), "frame", {}, rows=True))
    return [item for topic, payload in messages for item in nodes.take(topic, payload)]


def message(payload: bytes, topic: str = FRAMES, *, retained: bool = False) -> Message:
    return Message(topic, payload, len(payload), retained)


def row(unit: Any, cycle: Any, **more: Any) -> dict[str, Any]:
    return {"unit": unit, "cycle": cycle, **dict.fromkeys(CHANNELS, 5.0), **more}


@attack("unsigned", ROWS)
def rows_where_devices_sign(scene: Scene) -> Sent:
    """Publishes rows of pump-1 as plain JSON to a twin whose devices sign."""
    rows = [row("pump-1", scene.round + n) for n in (0, 1, 2)] + [row("pump-9", 1), row(None, None)]
    return by_mqtt(*(message(json.dumps(item).encode(), PLAIN) for item in rows))


@attack("unsigned", ROWS, unsigned=True)
def rows_of_a_machine_whose_device_signs(scene: Scene) -> Sent:
    """Publishes rows of pump-1, spelled in many ways, where the operator allows rows of machines without a device."""
    units = ("pump-1", " pump-1", "pump-1\u00a0", "\u2003pump-1\u2003", "pump-2", "pump-3")
    rows = [row(unit, scene.round + 1) for unit in units] + [row("pump-1", 2**31 - 1), row("pump-1", 1)]
    return by_mqtt(message("\n".join(map(json.dumps, rows)).encode(), PLAIN))


@attack("answered", ROWS, unsigned=True)
def machines_that_nobody_knows(scene: Scene) -> Sent:
    """Publishes rows of two hundred machines that he makes up, with names like the enrolled ones."""
    names = [f"pump-{number}" for number in range(10, 203)]
    names += ["PUMP-1", "pump\u20101", "pump-01", "pump 1", "\u0440ump-1", "pump-1\u0301", "-1"]
    return by_mqtt(message("\n".join(json.dumps(row(name, scene.round)) for name in names).encode(), PLAIN))


@attack("answered", ROWS, unsigned=True)
def rows_with_odd_values(scene: Scene) -> Sent:
    """Publishes rows whose cycles, names and readings are lists, objects, true, texts, and numbers without bounds."""
    some: tuple[Any, ...] = (None, True, [], {}, [[1]], {"a": 1}, "", "x" * 9000, "1e999")
    odd = (*some, -1, 0, 2**53, 2**63, 1.5, -0.0)
    rows = [row(item, 1) for item in odd] + [row("odd", item) for item in odd]
    rows += [row("odd", n + 1, speed=item, heat=item) for n, item in enumerate(odd)]
    rows += [{}, {"unit": "odd"}, {"cycle": 3}, row("odd", 99, **{f"c{n}": n for n in range(500)})]
    text = "\n".join(map(json.dumps, rows)) + '\n{"unit": "odd", "cycle": 1e400}\n{"unit": 1e400, "cycle": 1}'
    return [item for item in rows_of(text.encode(), PLAIN) if not hasattr(item, "reason")]


@attack("malformed", ROWS)
def payloads_that_are_no_rows(scene: Scene) -> Sent:
    """Publishes broken JSON, NaN, keys twice, half letters, towers of brackets, frames where rows belong, and zeros."""
    payloads = (
        b"",
        b"\0",
        b"{",
        b"[1]",
        b'{"unit": "pump-1", "cycle": NaN}',
        b'{"unit": "pump-1", "unit": "pump-2"}',
        b'{"unit": "\\ud800"}',
        b'{"unit": "\xff"}',
        b"[" * 60_000,
        b'{"a":' * 10_000,
        b"9" * 60_000,
        scene.honest("gate-1"),
        bytes(60_000),
    )
    return by_mqtt(*(message(item, PLAIN) for item in payloads))


@attack("malformed", ROWS)
def a_will_on_a_topic_of_frames(scene: Scene) -> Sent:
    """Leaves a last will at the broker that is sent on the device's topic when he is cut off; and rows sent there."""
    return by_mqtt(*(message(item) for item in (b"offline", b"", b"\0", json.dumps(row("pump-1", 1)).encode())))


@attack("retained", ROWS)
def a_frame_that_the_broker_kept(scene: Scene) -> Sent:
    """Has the broker retain an honest frame, so that each new subscriber is given it."""
    return by_mqtt(message(scene.honest("gate-1"), retained=True), message(b"x", PLAIN, retained=True))


@attack("another topic", ROWS)
def topics_that_nobody_subscribed_to(scene: Scene) -> Sent:
    """Publishes honest frames on other topics: of the system, with wildcards, NUL, escapes, and empty levels."""
    data = scene.honest("gate-1")
    topics = ("$SYS/broker", "telemetry/+/rows/x", "telemetry/#", "telemetry//x/frames", "telemetry/gate-1/frames/", "")
    odd = ("telemetry/gate-1/frames\0", "\x1b[2J/a/frames", "telemetry/a/b/frames", "TELEMETRY/a/frames", "x" * 65_000)
    return by_mqtt(*(message(data, topic) for topic in (*topics, *odd)))


@attack("played again", ROWS)
def a_frame_by_another_devices_topic(scene: Scene) -> Sent:
    """Publishes gate-1's last frame on gate-2's topic, and on topics of devices that are none."""
    topics = ("telemetry/gate-2/frames", "telemetry/+/frames", "telemetry//frames", "telemetry/\0/frames")
    return by_mqtt(*(message(scene.honest("gate-1", 1), topic) for topic in topics))


@attack("too long", ROWS)
def a_payload_of_sixteen_megabytes(scene: Scene) -> Sent:
    """Publishes payloads that are longer than the twin reads: on topics of frames, of rows, and as one row."""
    long = 16 << 20
    big = json.dumps(row("x" * 70_000, 1)).encode()
    unread = Message(FRAMES, b"", long), Message(PLAIN, b"", long)
    return by_mqtt(*unread, message(bytes(1 << 20) + b"x"), message(big, PLAIN))


@attack("dropped", ROWS)
def a_flood_without_acknowledgement(scene: Scene) -> Sent:
    """Floods the broker with messages of QoS 0: what the twin has no room for is counted, not lost silently."""
    return by_mqtt(Dropped(100_000))


@attack("malformed", ROWS)
def payloads_that_are_no_sparkplug(scene: Scene) -> Sent:
    """Publishes as Sparkplug B: endless groups, lengths beyond the end, long varints, a frame, JSON, and zeros."""
    payloads = (b"\x0b" * 5000, b"\x12\xff\xff\xff\xff\x7f", b"\xff" * 400, scene.honest("gate-1"), b"{}", bytes(99))
    kinds = ("NBIRTH/edge", "DBIRTH/edge/pump-1", "NDATA/edge", "DDATA/edge/pump-1", "NDEATH/edge")
    return by_sparkplug(*((f"spBv1.0/plant/{kind}", item) for kind in kinds for item in payloads))
