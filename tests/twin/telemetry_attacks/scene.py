"""Where every attack of the battery happens: a real twin, two gateways that deliver three machines to it, an attacker.

The honest gateways say one row of each machine a second, always the same, so that a twin that nobody attacks says what
every attacked one must say: `Honest.answers`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from tests.twin.deployment import CHANNELS, MODEL, Deployment
from tests.twin.site import LATER, Site
from tests.twin.telemetry_attacks import cose_by_hand
from tests.twin.test_devices import KEYS, signer_of
from twinseal.trust.device_record import Device
from twinseal.trust.life_acts import Act
from twinseal.twin import frames
from twinseal.twin.answers import Answer
from twinseal.twin.devices import DEVICES
from twinseal.twin.enrolled_lives import LIVES
from twinseal.twin.frame_gate import Refused, Taken
from twinseal.twin.frame_memory import read_frame_memory
from twinseal.twin.frames import Frame
from twinseal.twin.inputs.source import Item, SignedFrame, Unreadable, UnsignedRow
from twinseal.twin.service.live import Limits, LiveTwin
from twinseal.twin.state import State

NAMES = tuple(sorted(CHANNELS))
UNITS = {"gate-1": ("pump-1", "pump-2"), "gate-2": ("pump-3",)}
BEFORE = 10  # rounds that the twin has heard when an attack begins
RATE = 20  # frames a second, of each device

Told = Taken | Refused | Unreadable


@dataclass(frozen=True)
class Said:
    """What became of a delivery: what the twin told of each frame, and what it answered to each honest row."""

    told: tuple[Told, ...]
    answers: tuple[Answer, ...]

    def reasons(self) -> list[str]:
        return ["taken" if isinstance(item, Taken) else item.reason for item in self.told]


def answers_of(answers: Sequence[Answer], harmed: Sequence[str] = ()) -> list[Answer]:
    return [item for item in answers if item.unit not in harmed]


class Scene(Site):
    """A twin that is attacked.

    Attributes:
        live: The twin.
        round: How many rounds of honest rows it has heard.
        keys: The number of each device's key.
    """

    def __init__(self, path: Path, **limits: Any) -> None:
        self.path, self.limits = path, Limits(**limits)
        self.deployment = Deployment(path / "deployment")
        self.anchor, self.twin = self.deployment.anchor, path / "twin"
        self.keys = {"gate-1": 1, "gate-2": 2}
        self._before = {"gate-1": 0, "gate-2": 0}  # how far a device's numbers are ahead of the rounds
        self.round = 0
        self.restart()

    @classmethod
    def prepare(cls, path: Path) -> None:
        """Enroll devices and machines at the site at `path`, and say the first rounds."""
        made = cls(path)
        for name, key in made.keys.items():
            made.enroll(name, key)
        units = [unit for units in UNITS.values() for unit in units]
        made.sign(LIVES, lambda record: record.with_machines(units, Act("new machine", 0, 0), {}))
        for _ in range(BEFORE):
            made.go_on()
        made.live.close(made.now)

    @classmethod
    def prepared(cls, path: Path, **limits: Any) -> Scene:
        """The scene at `path`, a copy of one that was prepared."""
        made = cls(path, **limits)
        made.round = BEFORE
        return made

    def enroll(self, name: str, key: int) -> None:
        """Let a device deliver its machines by the key of this number; its numbers begin anew if it had another."""
        device = Device(name, KEYS[key], UNITS[name], NAMES, RATE)
        self.sign(DEVICES, lambda record: record.with_device(device), now=max(self.now, LATER))
        if key != self.keys[name]:
            self.keys[name], self._before[name] = key, -self.round

    @property
    def now(self) -> datetime:
        return LATER + timedelta(seconds=self.round)

    def restart(self) -> None:
        """As after kill -9: nothing of the old one is closed."""
        self.live = LiveTwin(self.twin, self.anchor, MODEL, self.now, self.limits)

    @property
    def counts(self) -> Mapping[str, int]:
        """How many frames the twin has refused, by reason."""
        gate = self.live.devices._gate
        return read_frame_memory(State(self.twin)).counts if gate is None else gate.counts

    def number(self, device: str) -> int:
        """Of the device's frame in the next round."""
        return self.round + 1 + self._before[device]

    def honest(self, device: str, back: int = 0) -> bytes:
        """The device's frame of the next round; or of so many rounds before that one: somebody has recorded it."""
        at = self.round + 1 - back
        units = UNITS[device]
        rng = np.random.default_rng([at, self.deployment.roles.models.index(MODEL), len(units)])
        made = Frame(
            device,
            MODEL,
            at + self._before[device],
            int((LATER + timedelta(seconds=at)).timestamp() * 1000),
            dict.fromkeys(units, at),
            NAMES,
            np.arange(len(units), dtype=np.uint16),
            np.full(len(units), at, dtype=np.uint32),
            5.0 + 0.3 * rng.normal(size=(len(units), len(NAMES))).clip(-1, 1),
        )
        return frames.sign(made, signer_of(self.keys[device]))

    def beat(self, device: str) -> bytes:
        """A frame of an honest device that has no row: its number is then used."""
        made = Frame(
            device,
            MODEL,
            self.number(device),
            int(self.now.timestamp() * 1000),
            dict.fromkeys(UNITS[device], self.round),
            NAMES,
            np.zeros(0, dtype=np.uint16),
            np.zeros(0, dtype=np.uint32),
            np.zeros((0, len(NAMES))),
        )
        self._before[device] += 1
        return frames.sign(made, signer_of(self.keys[device]))

    def stolen(self, by: str = "gate-2", key: int = 0, **changes: Any) -> bytes:
        """A message by who has the device's key, or another key: its next row, unless `changes` say otherwise."""
        return cose_by_hand.sign1(self.body(by, **changes), cose_by_hand.key_of(key or self.keys[by]))

    def body(self, by: str = "gate-2", **changes: Any) -> bytes:
        """What such a message says."""
        at, units = self.round + 1, UNITS[by]
        said: dict[str, Any] = {
            "device": by,
            "sequence": self.number(by),
            "time_ms": int(self.now.timestamp() * 1000),
            "units": [[unit, at] for unit in units],
            "rows": [(of, at) for of in range(len(units))],
            "channels": NAMES,
        }
        return cose_by_hand.body(**(said | changes))

    def hear(self, items: Sequence[Item], now: datetime | None = None) -> Said:
        """A delivery, from hearing to answering."""
        heard = self.live.hear(items, now or self.now)
        self.live.remember(heard)
        return Said(heard.items, self.live.answer(heard, now or self.now))

    def send(self, *messages: bytes, now: datetime | None = None) -> list[Told]:
        """A delivery of the attacker's alone; what is told of it."""
        return list(self.hear([SignedFrame(data, "test") for data in messages], now).told)

    def go_on(self, *attack: bytes) -> tuple[list[Told], list[Answer]]:
        """The next round, behind what the attacker sends: what is told of the attack; the answers to honest rows."""
        own = [self.honest(device) for device in UNITS]
        self.round += 1
        said = self.hear([SignedFrame(data, "test") for data in (*attack, *own)])
        taken = sum(len(item.frame) for item in said.told[: len(attack)] if isinstance(item, Taken))
        return list(said.told[: len(attack)]), list(said.answers[taken:])


class Honest:
    """What a twin says that nobody attacks.

    Args:
        path: A copy of a prepared site.
    """

    def __init__(self, path: Path) -> None:
        self._scene, self._said = Scene.prepared(path), dict[int, list[Answer]]()

    def answers(self, number: int, harmed: Sequence[str] = ()) -> list[Answer]:
        """To the rows of round `number`; not to those of machines that the attack may harm."""
        while self._scene.round < number:
            _, answers = self._scene.go_on()
            self._said[self._scene.round] = answers
        return answers_of(self._said[number], harmed)


def rows_of(*rows: dict[str, Any]) -> list[Item]:
    return [UnsignedRow(row, "test") for row in rows]
