"""Telemetry by Sparkplug B: devices are units, metrics are channels. `sparkplug_nodes` has the rules.

    kind: sparkplug
    broker: {host: broker.plant.example, client_id: twin-1, ca: ca.pem, certificate: twin.pem, key: twin.key}
    group: plant-7                       # left out: every group
    carries: rows                        # nobody has signed them; or frames: then only those are read
    channels: {Motor/Vibration: vibration, Motor/Temperature: temperature}      # your metric: the channel
    cycle: {of: Motor/Starts}            # see machines.py
    units: {plant-7/edge-1/P1: pump-1}   # left out: the name of the device is the unit's

Births are not retained: a twin that starts, or that misses one, asks the edge node to be born again (NCMD, Node
Control/Rebirth). Sparkplug sends with QoS 0: what is sent while the twin is away is lost, and births are needed again.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from typing import Any, Literal

from twinseal.config import Field, Settings
from twinseal.telemetry.unit_names import unit_name
from twinseal.twin.inputs.backoff import Backoff
from twinseal.twin.inputs.broker import Broker, BrokerSettings, Dropped, Message
from twinseal.twin.inputs.machines import CycleSettings
from twinseal.twin.inputs.mqtt import readable, together
from twinseal.twin.inputs.source import Item, SourceEvent, Tell, Unreadable
from twinseal.twin.inputs.sparkplug_nodes import NAMESPACE, Nodes, Reading
from twinseal.twin.inputs.sparkplug_payload import BOOLEAN, Metric, Payload, encode
from twinseal.twin.inputs.topics import check_filter

REBIRTH = "Node Control/Rebirth"
REBIRTH_S = 10.0  # an edge node is asked no more often
_HEARD = ("NBIRTH", "DBIRTH", "NDATA", "DDATA", "NDEATH", "DDEATH")


class SparkplugSettings(Settings):
    """A source of this kind.

    Attributes:
        kind: `sparkplug`.
        broker: Where the broker is.
        group: Of the edge nodes; "" for all.
        carries: Signed frames alone; or rows that nobody has signed, and frames where there are some.
        frame_metric: Name of the metric that has a frame, of type Bytes.
        channels: Metric → channel.
        cycle: What a cycle is; for rows.
        units: "group/node/device" → unit, for a device whose name is not its unit's.
        ask_rebirth: Whether to ask for births that are missing.

    Raises:
        ValueError: There are rows without channels or cycle; or a name is none.
    """

    kind: Literal["sparkplug"]
    broker: BrokerSettings
    group: str = ""
    carries: Literal["frames", "rows"]
    frame_metric: str = "twinseal/frame"
    channels: dict[str, str] = Field(default_factory=dict)
    cycle: CycleSettings | None = None
    units: dict[str, str] = Field(default_factory=dict)
    ask_rebirth: bool = True

    def model_post_init(self, _context: Any, /) -> None:
        """Refuse what has no meaning."""
        rows = self.carries == "rows"
        if rows != bool(self.channels) or rows != (self.cycle is not None):
            raise ValueError("expected channels and cycle for carries: rows, and none of them for carries: frames")
        channels = list(self.channels.values())
        if len(set(channels)) != len(channels) or {"unit", "cycle"} & set(channels):
            raise ValueError("channels: expected each channel once, and none called unit or cycle")
        if self.cycle and self.cycle.of in self.channels:
            raise ValueError(f"cycle: of: expected a metric that is no channel, got {self.cycle.of!r}")
        if any(place.count("/") != 2 for place in self.units):
            raise ValueError("units: expected group/node/device as keys")
        if odd := [unit for unit in self.units.values() if unit_name(unit) != unit]:
            raise ValueError(f"units: expected names of units, got {odd[0]!r:.60}")
        if len(set(self.units.values())) != len(self.units):
            raise ValueError("units: expected each unit once")
        for pattern in self.filters:
            check_filter(pattern)

    @property
    def filters(self) -> list[str]:
        """What to subscribe to; not to the commands, which are not telemetry."""
        more = {kind: "/+" if kind.startswith("D") else "" for kind in _HEARD}
        return [f"{NAMESPACE}/{self.group or '+'}/{kind}/+{rest}" for kind, rest in more.items()]

    @property
    def reading(self) -> Reading:
        """How metrics become rows."""
        rows = self.carries == "rows"
        return Reading(self.channels, self.cycle or CycleSettings(of="-"), self.frame_metric, self.units, rows)


class SparkplugSource:
    """As `Source` says.

    Args:
        name: Its name in the twin's settings.
        settings: Of it.
        tell: Told of each connection and each loss.
        backoff: The waits between attempts.
        clock: Seconds that never run backwards.
    """

    def __init__(
        self,
        name: str,
        settings: SparkplugSettings,
        tell: Tell,
        backoff: Backoff | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._name, self._settings, self._tell, self._clock = name, settings, tell, clock
        self._broker = Broker(settings.broker, settings.filters, name, self._heard, backoff)
        self._nodes = Nodes(settings.reading)
        self._asked: dict[tuple[str, str], float] = {}

    @property
    def name(self) -> str:
        """As `Source` says."""
        return self._name

    async def deliveries(self) -> AsyncGenerator[Sequence[Item], None]:
        """As `Source` says."""
        async with aclosing(self._broker.batches()) as batches:
            async for batch in batches:
                for items in together(self._items(message) for message in batch):
                    yield items
                for node in self._nodes.rebirths():
                    await self._ask(node)

    def _heard(self, event: SourceEvent) -> None:
        if event.kind == "lost":  # what is sent meanwhile is lost too
            self._nodes.forget()
        self._tell(event)

    def _items(self, come: Message | Dropped) -> Sequence[Item]:
        message = readable(come, self._name, self._settings.broker)
        if isinstance(message, Unreadable):
            return [message]
        return self._nodes.take(message.topic, message.payload)

    async def _ask(self, node: tuple[str, str]) -> None:
        now = self._clock()
        if not self._settings.ask_rebirth or now - self._asked.get(node, -REBIRTH_S) < REBIRTH_S:
            return
        if len(self._asked) > 10_000:
            self._asked.clear()  # who may publish under so many names is asked more often
        self._asked[node] = now
        group, name = node
        payload = Payload(int(time.time() * 1000), None, (Metric(REBIRTH, None, BOOLEAN, True),))
        await self._broker.publish(f"{NAMESPACE}/{group}/NCMD/{name}", encode(payload))
