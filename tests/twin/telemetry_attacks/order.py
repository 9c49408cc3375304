"""Order, repetition, clocks and kills: frames that devices did sign, sent again, late, elsewhere, or after a kill."""

from __future__ import annotations

from datetime import timedelta

from tests.twin.telemetry_attacks.attack import ORDER, Sent, attack
from tests.twin.telemetry_attacks.scene import Scene

HOUR = timedelta(hours=1)


@attack("played again", ORDER)
def the_last_frames_again(scene: Scene) -> Sent:
    """Sends the newest frame of each device again, as it was."""
    return [scene.honest("gate-1", 1), scene.honest("gate-2", 1)]


@attack("played again", ORDER)
def a_life_from_its_beginning(scene: Scene) -> Sent:
    """Plays the first frames again, so that a worn machine looks new."""
    return [scene.honest(device, scene.round - n) for n in range(5) for device in ("gate-1", "gate-2")]


@attack("played again", ORDER)
def frames_backwards(scene: Scene) -> Sent:
    """Plays the last ten frames again, the newest first, and mixes those of two devices."""
    return [scene.honest(device, n) for n in range(1, 11) for device in ("gate-2", "gate-1")]


@attack("played again", ORDER)
def one_frame_a_hundred_times(scene: Scene) -> Sent:
    """Sends the newest frame a hundred times in one delivery, as a broker that lost its memory would."""
    return [scene.honest("gate-1", 1)] * 100


@attack("played again", ORDER)
def an_old_number_with_new_rows(scene: Scene) -> Sent:
    """Has the device's key, and signs new rows under a number that was used."""
    return [scene.stolen(sequence=scene.number("gate-2") - 1), scene.stolen(sequence=1)]


@attack("played again", ORDER)
def frames_again_after_a_kill(scene: Scene) -> Sent:
    """Has the twin killed, and plays again what it heard last before it could write more than rows."""
    scene.restart()
    return [scene.honest("gate-1", 1), scene.honest("gate-2", 1)]


@attack("played again", ORDER)
def frames_again_after_two_kills(scene: Scene) -> Sent:
    """Has the twin killed twice, the second time just after it had read its memory, and plays the frames again."""
    scene.restart()
    scene.restart()
    return [scene.honest("gate-1", 1), scene.honest("gate-2", 1), scene.honest("gate-1", 2)]


@attack("played again", ORDER)
def a_frame_without_rows_again_after_a_kill(scene: Scene) -> Sent:
    """Has the twin killed after a frame that told a count and no row, and plays that frame again."""
    beat = scene.beat("gate-1")
    assert [] == [item for item in scene.send(beat) if not hasattr(item, "frame")]
    scene.restart()
    return beat


@attack("played again", ORDER)
def frames_again_after_a_kill_without_a_device_record(scene: Scene) -> Sent:
    """Spoils the device record, has the twin killed twice, puts the record back, and plays the frames again."""
    file = scene.twin / "devices.dsse.json"
    data = file.read_bytes()
    file.write_bytes(data[:-9])
    scene.restart()
    scene.restart()
    file.write_bytes(data)
    return [scene.honest("gate-1", 1), scene.honest("gate-2", 1)]


@attack("played again", ORDER, clock=-timedelta(seconds=9))
def the_clock_is_set_back(scene: Scene) -> Sent:
    """Sets the twin's clock back to when the frames were new, and plays them again."""
    return [scene.honest(device, n) for device in ("gate-1", "gate-2") for n in (9, 8)]


@attack("from the future", ORDER, clock=-HOUR)
def the_clock_is_set_back_an_hour(scene: Scene) -> Sent:
    """Sets the twin's clock back an hour: true frames are refused then, and the words say by how much."""
    return [scene.honest("gate-1"), scene.honest("gate-2")]


@attack("too old", ORDER, clock=HOUR)
def the_clock_is_set_forward_an_hour(scene: Scene) -> Sent:
    """Sets the twin's clock forward an hour: true frames are refused then, and taken once it is right again."""
    return [scene.honest("gate-1"), scene.honest("gate-2")]


@attack("too old", ORDER, clock=timedelta(seconds=62))
def a_frame_that_was_held_back(scene: Scene) -> Sent:
    """Holds a frame back for two seconds more than the policy allows, and delivers it before the next one."""
    return scene.honest("gate-1")


@attack("from the future", ORDER)
def frames_for_later(scene: Scene) -> Sent:
    """Has the device's key for a moment, and signs frames for tomorrow and for the year 9999."""
    now = int(scene.now.timestamp() * 1000)
    return [scene.stolen(time_ms=now + 86_400_000), scene.stolen(time_ms=253_402_300_799_999)]


@attack("too old", ORDER)
def frames_of_before(scene: Scene) -> Sent:
    """Signs frames of an hour ago, of 1970, and just too old, with the device's key."""
    now = int(scene.now.timestamp() * 1000)
    return [scene.stolen(time_ms=time) for time in (now - 3_600_000, 0, now - 61_001)]


@attack("a count that fell", ORDER)
def a_machine_that_is_told_to_be_new(scene: Scene) -> Sent:
    """Has the device's key, and says cycle 1; a lower count without a row; old rows under a new number."""
    at = scene.round
    return [
        scene.stolen(units=[["pump-3", 1]], rows=[(0, 1)]),
        scene.stolen(units=[["pump-3", at - 1]], rows=()),
        scene.stolen(units=[["pump-3", 0]], rows=()),
        scene.stolen(units=[["pump-3", at + 1]], rows=[(0, at), (0, at + 1)]),
        scene.stolen(units=[["pump-3", at + 9]], rows=[(0, 1), (0, at + 9)]),
    ]
