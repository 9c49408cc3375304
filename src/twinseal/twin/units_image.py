"""An image of what a twin knows of its units: arrays with an entry for each, and texts; to bytes and from bytes.

The bytes are a safetensors file: its reader allocates no more than the file has, and runs nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from twinseal.digests import parse_json
from twinseal.errors import EvidenceError
from twinseal.guard.saved_arrays import Arrays
from twinseal.trust.life_acts import Act

_TEXTS = "texts"
MAX_TEXTS_BYTES = 64 << 20
_FIELDS = frozenset(("names", "sent", "acts", "flagged", "refusals", "notes"))

Sent = str | int | float | None
Flagged = tuple[tuple[str, ...], tuple[str, ...]]


@dataclass(frozen=True)
class UnitsTexts:
    """What is known of N units in words; see `units.Units`.

    Attributes:
        names: N, "" for rows that name no unit.
        sent: N, names as the last row had them.
        acts: N, the acts of commissioners that were done.
        flagged: By slot, the channels that were replaced in its last row, and by which rule each.
        refusals, notes: By slot, why there is no estimate, and why the last row was not used.
    """

    names: tuple[str, ...]
    sent: tuple[Sent, ...]
    acts: tuple[tuple[Act, ...], ...]
    flagged: Mapping[int, Flagged]
    refusals: Mapping[int, str]
    notes: Mapping[int, str]


@dataclass(frozen=True, eq=False)
class UnitsImage:
    """All that is known of N units.

    Attributes:
        arrays: By name, each with N entries.
        texts: In words.
    """

    arrays: Arrays
    texts: UnitsTexts

    def to_bytes(self) -> bytes:
        """One safetensors file."""
        texts = self.texts
        told = {
            "names": texts.names,
            "sent": texts.sent,
            "acts": [[[act.kind, act.cycle, act.age] for act in acts] for acts in texts.acts],
            "flagged": list(texts.flagged.items()),
            "refusals": list(texts.refusals.items()),
            "notes": list(texts.notes.items()),
        }
        words = np.frombuffer(json.dumps(told).encode(), dtype=np.uint8)
        arrays = {name: np.ascontiguousarray(array) for name, array in self.arrays.items()}
        return bytes(save(arrays | {_TEXTS: words}))

    @classmethod
    def from_bytes(cls, data: bytes) -> UnitsImage:
        """The image that `to_bytes` gave.

        Raises:
            EvidenceError: It is none.
        """
        try:
            arrays = load(data)
            words = arrays.pop(_TEXTS).tobytes()
        except (SafetensorError, KeyError, ValueError, TypeError) as error:
            raise EvidenceError(f"memory of units: expected arrays, got {error}"[:200]) from error
        told: Any = parse_json(words, "memory of units", limit=MAX_TEXTS_BYTES, nodes=MAX_TEXTS_BYTES)
        if not isinstance(told, dict) or set(told) != _FIELDS:
            raise EvidenceError(f"memory of units: expected {', '.join(sorted(_FIELDS))}, got {str(told)[:80]}")
        try:
            texts = UnitsTexts(
                names=tuple(map(_text, told["names"])),
                sent=tuple(told["sent"]),
                acts=tuple(tuple(Act(*act) for act in acts) for acts in told["acts"]),
                flagged={_slot(at): (_texts(names), _texts(rules)) for at, (names, rules) in told["flagged"]},
                refusals={_slot(at): _text(text) for at, text in told["refusals"]},
                notes={_slot(at): _text(text) for at, text in told["notes"]},
            )
        except (TypeError, ValueError) as error:
            raise EvidenceError(f"memory of units: expected its texts, got {error}"[:200]) from error
        if not len(texts.names) == len(texts.sent) == len(texts.acts):
            raise EvidenceError("memory of units: expected as many names as units, got others")
        return cls(arrays, texts)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r:.40} where a text belongs")
    return value


def _texts(value: Any) -> tuple[str, ...]:
    return tuple(map(_text, value))


def _slot(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise TypeError(f"{value!r:.40} where a number belongs")
    return value
