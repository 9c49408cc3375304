"""A source of telemetry, and what it delivers: signed frames, rows that nobody signed, and what could not be read.

A source reads the form that its sensors or their gateway speak, and no more: it verifies nothing, remembers nothing,
and knows no model. Each source is a module of its own beside this one; a new one changes no other.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol


@dataclass(frozen=True)
class SignedFrame:
    """A frame as it came; the frame gate verifies it.

    Attributes:
        message: COSE Sign1, as `twin.frames` says.
        origin: Where it came from, for messages: a topic, a file.
    """

    message: bytes
    origin: str


@dataclass(frozen=True)
class UnsignedRow:
    """A row that no device has signed.

    Attributes:
        row: `unit`, `cycle` and channels; as in a line of JSON, anything else may be in it.
        origin: As in SignedFrame.
    """

    row: Mapping[str, Any]
    origin: str


@dataclass(frozen=True)
class Unreadable:
    """What came, and is neither: counted by its reason, and said.

    Attributes:
        reason: A short name, the same for all of its kind: `malformed`, `too long`, `dropped`.
        message: Expected, got, where.
        origin: As in SignedFrame.
        number: How many of them this stands for.
    """

    reason: str
    message: str
    origin: str
    number: int = 1


Item = SignedFrame | UnsignedRow | Unreadable


@dataclass(frozen=True)
class SourceEvent:
    """What happened to the way that telemetry comes.

    Attributes:
        kind: `connected`, `lost` (the source goes on trying), or `ended` (nothing more will come).
        source: The source's name.
        message: Of a loss: expected, got, where; else "".
    """

    kind: Literal["connected", "lost", "ended"]
    source: str
    message: str = ""


Tell = Callable[[SourceEvent], None]


class Source(Protocol):
    """One way that telemetry comes.

    A source connects and reconnects by itself, later each time and with jitter, and tells of each loss. It holds a
    bounded number of items; what it must drop is delivered as an Unreadable that counts it.
    """

    @property
    def name(self) -> str:
        """Its name in the twin's settings, for messages."""
        ...

    def deliveries(self) -> AsyncGenerator[Sequence[Item], None]:
        """What comes, some items at a time and in order, as soon as there is any; never an empty delivery.

        The next delivery is asked for when this one is answered and remembered on the disk: a source that can
        acknowledge to its sender does it then, not before. It ends when nothing more can come, or when it is closed
        (`aclose`, or the task is cancelled); it then gives its connection back.

        Raises:
            ConfigError: It is set so that it can never work; remedy included.
        """
        ...
