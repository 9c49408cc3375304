"""A man in the middle, between a gateway and a twin: changes, replays, drops and delays frames on their way.

He has no key, and none of our code: he sees a stream of messages, each after its length in 4 bytes. Numbers count the
messages from 1, as they come.

    twinseal gateway … | python -m demo.man_in_the_middle --change 6 --drop 30-39 | twinseal run - --frames …
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

LENGTH = 4


class Readable(Protocol):
    """What bytes come from."""

    def read(self, size: int, /) -> bytes:
        """Exactly `size` bytes, or fewer at the end."""
        ...


@dataclass(frozen=True)
class Plan:
    """Which messages, by number, are changed, sent once more behind the next one, dropped, or held until then."""

    change: Collection[int] = ()
    replay: Collection[int] = ()
    drop: Collection[int] = ()
    delay: Collection[int] = ()


def messages(stream: Readable) -> Iterator[bytes]:
    """Each message, with its length before it; at the end, what is left."""
    while head := stream.read(LENGTH):
        yield head + stream.read(int.from_bytes(head))


def meddle(found: Iterable[bytes], plan: Plan, tell: Callable[[str], None]) -> Iterator[bytes]:
    """What the twin gets instead.

    Args:
        found: What the gateway sent.
        plan: What is done to it.
        tell: Told of each thing that is done.
    """
    held: list[bytes] = []
    for number, message in enumerate(found, start=1):
        later: list[bytes] = []
        if number in plan.change:
            tell(f"frame {number}: one bit is changed")
            message = flipped(message)  # noqa: PLW2901 - what goes on is the false one
        if number in plan.drop:
            if number - 1 not in plan.drop:
                tell(f"{_all_from(number, plan.drop)}: dropped")
        elif number in plan.delay:
            tell(f"frame {number}: held back until the next one has gone")
            later = [message]
        else:
            yield message
        if number in plan.replay:
            tell(f"frame {number}: kept, and sent once more")
            later = [*later, message]
        yield from held
        held = later
    yield from held


def flipped(message: bytes) -> bytes:
    """The message with one bit in its middle changed."""
    place = (LENGTH + len(message)) // 2
    return message[:place] + bytes([message[place] ^ 1]) + message[place + 1 :]


def numbers(text: str) -> frozenset[int]:
    """Numbers and ranges of them.

    >>> sorted(numbers("3,7-9"))
    [3, 7, 8, 9]

    Raises:
        ValueError: It is something else.
    """
    ends = [(first, last or first) for first, _, last in (part.partition("-") for part in text.split(","))]
    return frozenset(number for first, last in ends for number in range(int(first), int(last) + 1))


def _all_from(first: int, dropped: Collection[int]) -> str:
    last = first
    while last + 1 in dropped:
        last += 1
    return f"frames {first} to {last}" if last > first else f"frame {first}"


def main() -> int:
    """Stand between the standard input and the standard output; what is done is said on the standard error."""
    parser = argparse.ArgumentParser(prog="python -m demo.man_in_the_middle", description=__doc__.splitlines()[0])
    for name in ("change", "replay", "drop", "delay"):
        parser.add_argument(f"--{name}", type=numbers, default=frozenset(), metavar="N,N-N")
    plan = Plan(**vars(parser.parse_args()))

    def tell(text: str) -> None:
        sys.stderr.write(f"the man in the middle: {text}\n")

    for message in meddle(messages(sys.stdin.buffer), plan, tell):
        sys.stdout.buffer.write(message)
        sys.stdout.buffer.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
