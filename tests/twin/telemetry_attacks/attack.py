"""What an attack of the battery is, and the list that each one is added to.

@attack("forged", MESSAGES)
def a_reading_is_changed(scene: Scene) -> Bytes:
    \"\"\"Somebody on the way changes one reading of a frame.\"\"\"
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta

from tests.twin.telemetry_attacks.scene import Scene
from twinseal.twin.inputs.source import Item

MESSAGES, BODIES, OWN, ORDER, ROWS = (
    "Messages, by somebody without a key",
    "Frames that an enrolled device signs, and that are none",
    "What an enrolled device, or the thief of its key, may say of its own machines",
    "Order, repetition, clocks and kills",
    "Rows that nobody signed",
)
Sent = bytes | Sequence[bytes] | Sequence[Item]
Make = Callable[[Scene], Sent]


@dataclass(frozen=True)
class Attack:
    """One attack.

    Attributes:
        make: Gives what is sent, as the scene is then.
        expected: How each thing that is sent is refused and counted; "taken" where nothing tells it from an honest one;
            "answered" where rows are, as of machines that nobody vouches for.
        part: The part of the list that it is in.
        harms: Machines whose answers may change by it: the attacker's own, and no others.
        way_out: What commissioners do then; after it, these machines are answered again. Its docstring says it.
        clock: How far the twin's clock has been moved when it hears the attack.
        unsigned: The operator allows rows without a signature.
        slow: Takes the twin many seconds; run by `make proof`.
    """

    make: Make
    expected: str
    part: str
    harms: tuple[str, ...] = ()
    way_out: Callable[[Scene], None] | None = None
    clock: timedelta = timedelta()
    slow: bool = False
    unsigned: bool = False

    @property
    def name(self) -> str:
        return self.make.__name__

    @property
    def sentence(self) -> str:
        """What the attacker has and does."""
        return (self.make.__doc__ or "").strip()


ATTACKS: list[Attack] = []


def attack(
    expected: str,
    part: str,
    *,
    harms: tuple[str, ...] = (),
    way_out: Callable[[Scene], None] | None = None,
    clock: timedelta = timedelta(),
    slow: bool = False,
    unsigned: bool = False,
) -> Callable[[Make], Make]:
    """Add a function to the list of attacks."""

    def add(make: Make) -> Make:
        ATTACKS.append(Attack(make, expected, part, harms, way_out, clock, slow, unsigned))
        return make

    return add
