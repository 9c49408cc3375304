"""What an enrolled device, gate-2, or the thief of its key may say of its own machine: others do not notice.

Nothing tells a thief's frame from the device's. What he can do is harm the machine of that key, until commissioners
act.
"""

from __future__ import annotations

import math
import struct
from datetime import timedelta

from tests.twin.telemetry_attacks.attack import OWN, Sent, attack
from tests.twin.telemetry_attacks.scene import NAMES, RATE, Scene
from twinseal.trust.life_acts import Act
from twinseal.twin.devices import DEVICES
from twinseal.twin.enrolled_lives import LIVES
from twinseal.twin.frame_gate import BURST_S

HARMS = ("pump-3",)
WIDTH = len(NAMES)


def a_new_key(scene: Scene) -> None:
    """Commissioners enroll a new key of the device; the old one is revoked by that."""
    scene.enroll("gate-2", 0)


def a_new_key_and_a_count(scene: Scene) -> None:
    """Commissioners enroll a new key of the device, and sign the machine's true count."""
    a_new_key(scene)
    a_count(scene)


def a_count(scene: Scene) -> None:
    """Commissioners sign the machine's true count."""
    act = Act("counter replaced", scene.round, scene.round)
    scene.sign(LIVES, lambda record: record.with_act("pump-3", act, 0), now=scene.now)


def a_count_and_a_look(scene: Scene) -> None:
    """Commissioners enroll a new key, look at the machine, and sign its true age and count."""
    a_new_key(scene)
    act = Act("sensor replaced", scene.round, scene.round)
    scene.sign(LIVES, lambda record: record.with_act("pump-3", act, 0), now=scene.now)
    a_count(scene)


@attack("taken", OWN, harms=HARMS, way_out=a_count_and_a_look)
def readings_that_are_no_numbers(scene: Scene) -> Sent:
    """Says NaN with a message in its bits, infinities, the largest and smallest floats, and minus zero."""
    at, number = scene.round + 1, scene.number("gate-2")
    values = (math.nan, math.inf, -math.inf, 1.7e308, -1.7e308, 5e-324, -0.0, 1e300)
    rows = [struct.pack("<d", value) * WIDTH for value in values]
    rows.append(bytes.fromhex("01000000deadf07f") * WIDTH)
    return [
        scene.stolen(sequence=number + n, units=[["pump-3", at + n]], rows=[(0, at + n)], readings=row)
        for n, row in enumerate(rows)
    ]


@attack("taken", OWN, harms=HARMS, way_out=a_new_key)
def readings_in_the_shorter_form(scene: Scene) -> Sent:
    """Says floats of 4 bytes: the largest of them, infinities, and a NaN that signals."""
    values = (struct.pack("<f", value) for value in (3.4e38, math.inf, -math.inf, math.nan, 1e-45, -0.0, 5.0))
    return scene.stolen(bytes=4, readings=b"".join(values) + bytes.fromhex("0100a07f"))


@attack("taken", OWN, harms=HARMS, way_out=a_new_key)
def fewer_channels_than_before(scene: Scene) -> Sent:
    """Says one channel of eight, so that the others are missing without a word."""
    return scene.stolen(channels=("heat",))


@attack("taken", OWN, harms=HARMS, way_out=a_new_key_and_a_count)
def an_age_that_locks_the_machine_out(scene: Scene) -> Sent:
    """Says a row of cycle 2^31 - 1, so that every true row comes after it: an age bomb."""
    most = 2**31 - 1
    return scene.stolen(units=[["pump-3", most]], rows=[(0, most)])


@attack("taken", OWN, harms=HARMS, way_out=a_new_key_and_a_count)
def an_age_without_a_row(scene: Scene) -> Sent:
    """Says an operating count of 2^31 - 1 and no row."""
    return scene.stolen(units=[["pump-3", 2**31 - 1]], rows=())


@attack("taken", OWN, harms=HARMS, way_out=a_count_and_a_look)
def an_age_that_could_be_true(scene: Scene) -> Sent:
    """Says a row fifty cycles ahead, which a machine may reach, so that life is spent that nobody lived."""
    at = scene.round + 50
    return scene.stolen(units=[["pump-3", at]], rows=[(0, at)])


@attack("taken", OWN, harms=HARMS, way_out=a_new_key)
def a_sequence_that_jumps_to_its_end(scene: Scene) -> Sent:
    """Signs number 2^53 - 1, so that every frame of the device looks as if it were played again."""
    return scene.stolen(sequence=2**53 - 1)


@attack("taken", OWN, harms=HARMS, way_out=a_new_key)
def a_frame_before_the_devices_own(scene: Scene) -> Sent:
    """Signs the device's next number first, with rows of his own: the device's frame is then played again."""
    return scene.stolen(readings=struct.pack("<d", 5.5) * WIDTH)


@attack("taken", OWN, harms=HARMS, way_out=a_count_and_a_look, slow=True)
def as_many_rows_as_a_frame_has(scene: Scene) -> Sent:
    """Says 8,192 rows in one frame, one cycle each, so that the others wait and the memory grows."""
    at = scene.round + 1
    rows = [(0, cycle) for cycle in range(at, at + 8192)]
    return scene.stolen(units=[["pump-3", at + 8191]], rows=rows, channels=NAMES)


@attack("taken", OWN, harms=HARMS, way_out=a_new_key)
def as_many_frames_as_it_may(scene: Scene) -> Sent:
    """Signs frames without a row, as fast as its rate and its burst allow."""
    number, at = scene.number("gate-2"), scene.round
    return [scene.stolen(sequence=number + n, units=[["pump-3", at]], rows=()) for n in range(BURST_S * RATE - 1)]


@attack("taken", OWN, harms=HARMS, way_out=a_new_key)
def a_frame_of_nothing(scene: Scene) -> Sent:
    """Signs a frame of no unit and no row."""
    return scene.stolen(units=(), rows=())


@attack("too many", OWN, harms=HARMS, way_out=a_new_key)
def a_flood_of_good_frames(scene: Scene) -> Sent:
    """Signs more frames than the device may, at once: what is beyond its rate is refused and counted."""
    number, at = scene.number("gate-2"), scene.round
    made = [scene.stolen(sequence=number + n, units=[["pump-3", at]], rows=()) for n in range(BURST_S * RATE + 50)]
    scene.send(*made[: BURST_S * RATE], now=scene.now + timedelta(seconds=1))
    return made[BURST_S * RATE :]


@attack("revoked device", OWN, harms=HARMS)
def a_stolen_key_after_its_revocation(scene: Scene) -> Sent:
    """Goes on signing with a device's key, once commissioners have revoked it."""
    made = [scene.stolen(), scene.stolen(sequence=2**53 - 1), scene.honest("gate-2"), scene.honest("gate-2", 1)]
    scene.sign(DEVICES, lambda record: record.without("gate-2"), now=scene.now)
    return made


@attack("revoked device", OWN)
def a_stolen_key_after_a_new_one(scene: Scene) -> Sent:
    """Goes on signing with a device's old key beside the new one, and has frames that it had signed for later."""
    if scene.keys["gate-2"] == 2:
        scene.enroll("gate-2", 0)
    later = scene.number("gate-2") + 9
    return [
        scene.stolen(key=2),
        scene.stolen(key=2, sequence=later),
        scene.stolen(key=2, units=[["pump-3", 2**31 - 1]]),
    ]
