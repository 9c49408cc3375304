"""Telemetry by MQTT 5: signed frames, or rows as JSON where the settings say so. `broker` has the connection.

    kind: mqtt
    broker: {host: broker.plant.example, client_id: twin-1, ca: ca.pem, certificate: twin.pem, key: twin.key}
    topics:
      - {filter: telemetry/+/frames, carries: frames}
      - {filter: telemetry/+/rows, carries: rows}     # nobody has signed them; the twin's answers say so

A message is one frame, or one JSON object, or one object a line. A topic has one meaning: filters do not overlap.

The broker keeps subscriptions with the session. Who takes a filter out of the settings, or makes it wider, gives the
twin another `client_id` too (where the broker takes that from the certificate: another certificate).
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing
from itertools import combinations
from typing import Any, Literal

from twinseal.config import Settings
from twinseal.trust.signing.cose import MAX_MESSAGE_BYTES
from twinseal.twin.inputs.backoff import Backoff
from twinseal.twin.inputs.broker import Broker, BrokerSettings, Dropped, Message
from twinseal.twin.inputs.json_rows import rows_of
from twinseal.twin.inputs.source import Item, SignedFrame, Tell, Unreadable
from twinseal.twin.inputs.topics import MAX_FILTERS, check_filter, matches, overlap, shown

AT_ONCE = 1_024  # items in a delivery, or those of one message


class TopicSettings(Settings):
    """What comes by some topics.

    Attributes:
        filter: Which topics, as MQTT has it.
        carries: Signed frames; or rows that nobody has signed.

    Raises:
        ValueError: It is no filter.
    """

    filter: str
    carries: Literal["frames", "rows"]

    def model_post_init(self, _context: Any, /) -> None:
        """Refuse what is no filter."""
        check_filter(self.filter)


class MqttSettings(Settings):
    """A source of this kind.

    Attributes:
        kind: `mqtt`.
        broker: Where the broker is.
        topics: What to subscribe to.
        plant_columns: Whether rows have the plant's own columns: see `plant_rows`.

    Raises:
        ValueError: There is no topic, there are too many, or two of them overlap.
    """

    kind: Literal["mqtt"]
    broker: BrokerSettings
    topics: tuple[TopicSettings, ...]
    plant_columns: bool = False

    def model_post_init(self, _context: Any, /) -> None:
        """Refuse topics with two meanings."""
        if not 1 <= len(self.topics) <= MAX_FILTERS:
            raise ValueError(f"topics: expected 1 to {MAX_FILTERS}, got {len(self.topics)}")
        for one, other in combinations((topic.filter for topic in self.topics), 2):
            if overlap(one, other):
                raise ValueError(f"topics: expected filters that do not overlap, got {one!r} and {other!r}")


class MqttSource:
    """As `Source` says.

    Args:
        name: Its name in the twin's settings.
        settings: Of it.
        tell: Told of each connection and each loss.
        backoff: The waits between attempts.
    """

    def __init__(self, name: str, settings: MqttSettings, tell: Tell, backoff: Backoff | None = None) -> None:
        self._name, self._settings = name, settings
        filters = [topic.filter for topic in settings.topics]
        self._broker = Broker(settings.broker, filters, name, tell, backoff)

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

    def _items(self, come: Message | Dropped) -> Sequence[Item]:
        message = readable(come, self._name, self._settings.broker)
        if isinstance(message, Unreadable):
            return [message]
        origin = shown(message.topic)
        carries = next((topic.carries for topic in self._settings.topics if matches(topic.filter, message.topic)), "")
        if carries == "frames":
            if message.length > MAX_MESSAGE_BYTES:
                return [_too_long(message.length, MAX_MESSAGE_BYTES, origin)]
            return [SignedFrame(message.payload, origin)]
        if carries == "rows":
            return rows_of(message.payload, origin)
        text = (
            f"{self._name}: expected a topic of the settings, got {origin!r}: the broker has kept a subscription "
            "of before with the session; another client_id has none"
        )
        return [Unreadable("another topic", text, origin)]


def readable(message: Message | Dropped, name: str, settings: BrokerSettings) -> Message | Unreadable:
    """A message, if it may be read; else why not."""
    if isinstance(message, Dropped):
        text = f"{name}: expected room for messages of QoS 0, got {message.number} more; send them with QoS 1"
        return Unreadable("dropped", text, name, message.number)
    origin = shown(message.topic)
    if message.retained:
        text = f"{origin}: expected what is measured now, got a message that the broker has retained"
        return Unreadable("retained", text, origin)
    if message.length > settings.max_payload_bytes:
        return _too_long(message.length, settings.max_payload_bytes, origin)
    return message


def together(parts: Iterator[Sequence[Item]]) -> Iterator[Sequence[Item]]:
    """The items of several messages, in deliveries that are not much longer than AT_ONCE, none of them empty."""
    items: list[Item] = []
    for part in parts:
        items += part
        if len(items) >= AT_ONCE:
            yield items
            items = []
    if items:
        yield items


def _too_long(length: int, most: int, origin: str) -> Unreadable:
    return Unreadable("too long", f"{origin}: expected at most {most} bytes, got {length}", origin)
