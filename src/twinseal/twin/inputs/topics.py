"""Topics of MQTT: which filters are ones (MQTT 5, 4.7), what they match, and whether two of them can match one topic.

>>> matches("telemetry/+/rows", "telemetry/gate-1/rows"), matches("telemetry/#", "telemetry"), matches("#", "$SYS/x")
(True, True, False)
>>> overlap("telemetry/+/rows", "telemetry/gate-1/#"), overlap("a/+", "b/#")
(True, False)
"""

from __future__ import annotations

MAX_FILTERS, MAX_FILTER_LETTERS = 100, 300
MAX_SHOWN = 200  # letters of a topic in a message


def check_filter(text: str) -> None:
    """Refuse what is no filter, or one that this twin must not use.

    Raises:
        ValueError: It is none; or a shared one, of which each client gets a part of the messages.
    """
    if not text or len(text) > MAX_FILTER_LETTERS or not text.isprintable():
        raise ValueError(f"expected 1 to {MAX_FILTER_LETTERS} printable letters, got {text[:60]!r}")
    levels = text.split("/")
    if levels[0].startswith("$"):
        raise ValueError(f"expected a filter of telemetry, got {text!r}: no {levels[0]} here")
    odd = [level for level in levels if len(level) > 1 and set("+#") & set(level)]
    if odd or "#" in levels[:-1]:
        raise ValueError(f"expected + as a whole level, and # as the last one, got {text!r}")


def matches(pattern: str, topic: str) -> bool:
    """Whether a filter matches a topic."""
    if topic.startswith("$"):
        return False
    wanted, levels = pattern.split("/"), topic.split("/")
    if wanted[-1] == "#":
        wanted.pop()
        levels = levels[: len(wanted)]
    return len(wanted) == len(levels) and all(a in ("+", b) for a, b in zip(wanted, levels, strict=True))


def overlap(one: str, other: str) -> bool:
    """Whether some topic matches both filters."""
    left, right = one.split("/"), other.split("/")
    for a, b in zip(left, right, strict=False):
        if "#" in (a, b):
            return True
        if a != b and "+" not in (a, b):
            return False
    more = left[len(right) :] or right[len(left) :]
    return not more or more == ["#"]


def shown(topic: str) -> str:
    """A topic for messages: who publishes chooses it."""
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in topic[:MAX_SHOWN])
