"""An output: where answers and alerts go, one connection or file each.

An output makes no decision and keeps no queue but what it must: `fan_out.Outputs` stands before all outputs, keeps what
one cannot take yet, tries again, and counts what must be dropped. So no output that fails stops another, or the twin.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Protocol, TypeAlias

from twinseal.twin.answers import Answer
from twinseal.twin.outputs.alert import Alert

Message: TypeAlias = Answer | Alert


class OutputError(Exception):
    """An output did not take messages now: expected, got, where. It is asked again with the same messages.

    Like a sender's error in the review server, it does not leave its package: `fan_out` makes an OutputEvent of it.
    """


@dataclass(frozen=True)
class OutputEvent:
    """What happened at an output.

    Attributes:
        kind: `failing` (it is asked again, later each time), `working` (again), or `dropped`.
        output: The output's name.
        message: Expected, got, where; "" for `working`.
        number: How many messages were dropped.
    """

    kind: Literal["failing", "working", "dropped"]
    output: str
    message: str = ""
    number: int = 0

    def alert(self, model: str, release: int, now: datetime) -> Alert:
        """The alert that says it; `working` is the end of `failing`: `AlertBook.end(event.alert(...).key, now)`."""
        about = "dropped" if self.kind == "dropped" else "failing"
        remedy = f"Look at the output {self.output}, and at the way to it. The twin answers, and tries again."
        severity: Literal["warning", "critical"] = "critical" if about == "dropped" else "warning"
        return Alert("output", about, severity, self.message, model, release, now, detail=self.output, remedy=remedy)


Tell = Callable[[OutputEvent], None]


class Output(Protocol):
    """One place that messages go to."""

    @property
    def name(self) -> str:
        """Its name, in messages, alerts and metrics; the same after a restart."""
        ...

    def takes(self, message: Message) -> bool:
        """Whether this output is for such a message. Only these are offered."""
        ...

    async def open(self, tell: Tell) -> None:
        """Begin: what is done once, before the first message. It waits for no other machine.

        Args:
            tell: Told of messages that the output has taken, and must drop later.

        Raises:
            ConfigError: It is set so that it can never work; remedy included.
        """
        ...

    async def publish(self, messages: Sequence[Message]) -> None:
        """Deliver some messages, in order. When it returns they are safe: at the receiver, or on the disk.

        After an error, all of them are offered again: a receiver may have one twice, and never none.

        Raises:
            OutputError: They were not all taken.
        """
        ...

    def reopen(self) -> None:
        """Open files anew with the next messages: whoever rotates them says so. Other outputs have nothing to do."""
        ...

    async def close(self) -> None:
        """Finish what was taken, as far as that is quick, and give back the connection or file."""
        ...
