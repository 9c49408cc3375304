"""A hundred thousand bad frames of each kind: what they cost, and that honest rows are answered as without them.

    python -m pytest -m proof -s tests/twin/telemetry_attacks/test_floods.py

prints what docs/robustness/telemetry.md says.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.twin.telemetry_attacks import bodies, messages
from tests.twin.telemetry_attacks.cose_by_hand import head
from tests.twin.telemetry_attacks.scene import Honest, Scene
from tests.twin.telemetry_attacks.topics import row
from twinseal.twin.inputs.source import Item, SignedFrame, UnsignedRow

pytestmark = pytest.mark.proof
NUMBER, AT_ONCE = 100_000, 1_000
MOST_CPU_S, MOST_MB = 300.0, 64  # a hundred times what it takes would be found; a busy machine is not

FLOODS: dict[str, Callable[[Scene], bytes | Item]] = {
    "noise of 200 bytes": lambda _: bytes(200),
    "forged, an honest frame with another reading": messages.a_reading_is_changed,  # type: ignore[return-value]
    "by a key that nobody enrolled": lambda scene: scene.stolen("gate-1", key=3),
    "the last frame again": lambda scene: scene.honest("gate-1", 1),
    "20 kB of small items": lambda _: b"\xd2" + head(4, 20_000, 2) + b"\x80" * 20_000,
    "20 kB of lists in lists": lambda _: b"\xd2" + b"\x81" * 20_000,
    "of a stolen key, another device's unit": lambda scene: bodies.rows_of_another_devices_unit(scene)[0],  # type: ignore[return-value]
    "of a stolen key, beyond its rate": lambda scene: scene.stolen(),
    "rows that nobody signed": lambda _: UnsignedRow(json.loads(json.dumps(row("pump-1", 1))), "test"),
}


def resident_mb() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 1e6


@pytest.mark.attack("T")
@pytest.mark.parametrize("kind", FLOODS)
def test_a_flood_costs_little_and_grows_nothing(scene: Scene, honest: Honest, kind: str) -> None:
    """Somebody floods the twin with a hundred thousand bad frames of one kind: it stays small, and answers the rest."""
    made = FLOODS[kind](scene)
    item = SignedFrame(made, "test") if isinstance(made, bytes) else made
    if kind.endswith("beyond its rate"):
        numbers = [
            scene.stolen(sequence=scene.number("gate-2") + n, units=[["pump-3", scene.round]], rows=())
            for n in range(201)
        ]
        scene.send(*numbers[:200])
        item = SignedFrame(numbers[200], "test")
    scene.hear([item] * AT_ONCE)
    size, start = resident_mb(), time.process_time()
    for _ in range(NUMBER // AT_ONCE):
        said = scene.hear([item] * AT_ONCE)
        assert not said.answers
        assert len(said.told) == AT_ONCE
    seconds, grown = time.process_time() - start, resident_mb() - size
    sys.stdout.write(f"| {kind} | {said.reasons()[0]} | {seconds / NUMBER * 1e6:.0f} |\n")
    assert seconds < MOST_CPU_S
    assert grown < MOST_MB
    harmed = ("pump-3",) if kind.endswith("beyond its rate") else ()
    _, answers = scene.go_on()
    assert [item.unit for item in honest.answers(scene.round, harmed)] == [
        item.unit for item in answers if item.unit not in harmed
    ]
    scene.restart()
    _, answers = scene.go_on()
    if not harmed:
        assert honest.answers(scene.round) == answers
