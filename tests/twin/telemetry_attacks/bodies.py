"""Attacks by an enrolled device, gate-2, or the thief of its key: well signed, and not what a frame may say."""

from __future__ import annotations

import struct
from typing import Any

import cbor2

from tests.twin.deployment import OTHER
from tests.twin.telemetry_attacks.attack import BODIES, Sent, attack
from tests.twin.telemetry_attacks.cose_by_hand import cbor, head, key_of, sign1
from tests.twin.telemetry_attacks.scene import NAMES, Scene

WIDTH = len(NAMES)


def signed(payload: bytes) -> bytes:
    return sign1(payload, key_of(2))


@attack("malformed", BODIES)
def rows_of_unequal_number(scene: Scene) -> Sent:
    """Says more cycles than rows, fewer readings, half a reading, or readings without rows."""
    at = struct.pack("<I", scene.round + 1)
    changes: list[dict[str, Any]] = [
        {"cycles": at * 2},
        {"cycles": b""},
        {"readings": bytes(8 * WIDTH - 8)},
        {"readings": bytes(8 * WIDTH - 1)},
        {"readings": bytes(8 * WIDTH * 1000)},
        {"of": b""},
        {"of": b"\0"},
        {"rows": (), "readings": bytes(8 * WIDTH)},
    ]
    return [scene.stolen(**change) for change in changes]


@attack("malformed", BODIES)
def readings_of_another_width(scene: Scene) -> Sent:
    """Says that a reading has 0, 1, 2, 16, minus 8, or true bytes; or a text of bytes."""
    return [scene.stolen(bytes=size) for size in (0, 1, 2, 16, -8, 2**62, True, "8", b"\x08", [8], None)]


@attack("malformed", BODIES)
def numbers_that_are_none(scene: Scene) -> Sent:
    """Says sequence and time as floats, as NaN, true, text, bytes, nothing, zero, below it, and beyond 2^53."""
    some = (0, -1, 2**53, 2**63, 2**64, 1.0, float("nan"), float("inf"), True, "12", b"\x0c", None, [12])
    times = [item for item in some if item != 0] + [2**48]
    return [scene.stolen(sequence=item) for item in some] + [scene.stolen(time=item) for item in times]


@attack("malformed", BODIES)
def counts_that_are_none(scene: Scene) -> Sent:
    """Says an operating count below zero, of 2^31 and more, as a float, as true, as text, or none."""
    some = (-1, 2**31, 2**53, 2**64, 12.0, float("nan"), True, "12", None, [12])
    return [scene.stolen(units=[["pump-3", item]]) for item in some]


@attack("malformed", BODIES)
def cycles_that_do_not_rise(scene: Scene) -> Sent:
    """Says cycle 0, one cycle twice, cycles that fall, and cycles beyond the operating count."""
    at = scene.round + 1
    some = ([0], [at, at], [at + 1, at], [at, at + 2, at + 1], [2**32 - 1], [at + 5])
    return [scene.stolen(units=[["pump-3", at + 2]], rows=[(0, cycle) for cycle in cycles]) for cycles in some]


@attack("malformed", BODIES)
def a_unit_twice(scene: Scene) -> Sent:
    """Says its machine twice in a frame, with two counts, so that one is checked and the other used."""
    at = scene.round + 1
    return [
        scene.stolen(units=[["pump-3", at], ["pump-3", 1]], rows=[(1, 1)]),
        scene.stolen(units=[["pump-3", 1], ["pump-3", at]], rows=[(0, 1), (1, at)]),
        scene.stolen(units={"pump-3": at}),
        scene.stolen(units=[["pump-3", at, at]]),
        scene.stolen(units=["pump-3"]),
        scene.stolen(units="pump-3"),
    ]


@attack("malformed", BODIES)
def rows_of_a_unit_that_is_not_there(scene: Scene) -> Sent:
    """Says rows of unit 1, and of unit 65535, where the frame names one unit; and rows where it names none."""
    at = scene.round + 1
    return [scene.stolen(rows=[(1, at)]), scene.stolen(rows=[(65535, at)]), scene.stolen(units=[])]


@attack("malformed", BODIES)
def names_that_are_spelled_otherwise(scene: Scene) -> Sent:
    """Spells names with blanks, no-break and zero-width spaces, marks apart, controls, 65 letters, or nothing."""
    at = scene.round + 1
    names = ("pump-3 ", " pump-3", "pump-3\u00a0", "pump-3\u200b", "pump\x00-3", "pump-3\n", "\u202epump-3", "u\u0308")
    return [scene.stolen(units=[[name, at]]) for name in (*names, "\ud7a3\u0301\u0000", "", "x" * 65, "pump-3\ufeff")]


@attack("another device's unit", BODIES)
def names_that_look_alike(scene: Scene) -> Sent:
    """Says rows of machines whose names look like another's: other dashes, digits, letters, case, width, zeros."""
    at = scene.round + 1
    names = (
        "pump\u20101",
        "pump\u22121",
        "pump-\u0661",
        "\u0440ump-1",
        "PUMP-1",
        "\uff50ump-1",
        "pump-01",
        "pump-1\u0301",
    )
    return [scene.stolen(units=[[name, at]]) for name in names]


@attack("another device's unit", BODIES)
def rows_of_another_devices_unit(scene: Scene) -> Sent:
    """Says rows of pump-1, which gate-1 delivers: alone, behind a row of its own, and only a count of it."""
    at = scene.round + 1
    both = [["pump-3", at], ["pump-1", at]]
    return [
        scene.stolen(units=[["pump-1", at]]),
        scene.stolen(units=both, rows=[(0, at), (1, at)]),
        scene.stolen(units=both),
        scene.stolen(units=[["pump-1", 2**31 - 1]], rows=()),
        scene.stolen(units=[["pump-9", at]]),
    ]


@attack("another device's channel", BODIES)
def channels_that_are_no_channels(scene: Scene) -> Sent:
    """Calls channels `unit` and `cycle`, so that rows would name another machine and age; or as nobody enrolled."""
    some = (("unit", *NAMES[1:]), ("cycle", *NAMES[1:]), (*NAMES[:-1], "rul"), ("SPEED",), ("spee\u0501",))
    return [scene.stolen(channels=names) for names in some]


@attack("malformed", BODIES)
def channels_that_are_none(scene: Scene) -> Sent:
    """Says a channel twice, none, 513 of them, lists, numbers, and names of 201 letters or with escapes."""
    width = tuple(f"c{number}" for number in range(513))
    some: tuple[Any, ...] = (
        ("speed", "speed"),
        (),
        width,
        ([],),
        (1,),
        ("x" * 201,),
        ("a\x1b[2J",),
        ("",),
        (b"speed",),
    )
    return [scene.stolen(channels=names) for names in some]


@attack("malformed", BODIES)
def more_than_a_frame_has(scene: Scene) -> Sent:
    """Says 8,193 rows, 2,049 units, or twenty thousand of them."""
    at = scene.round + 1
    return [
        scene.stolen(units=[["pump-3", 9000]], rows=[(0, cycle) for cycle in range(at, at + 8193)], channels=("heat",)),
        scene.stolen(units=[[f"u{number}", at] for number in range(2049)]),
        scene.stolen(units=[[f"u{number}", at] for number in range(20_000)], rows=()),
    ]


@attack("malformed", BODIES)
def fields_more_or_fewer(scene: Scene) -> Sent:
    """Leaves out each field, adds others, and says the whole as a list, a text, or a frame in a frame."""
    names = ("device", "model", "sequence", "time", "units", "channels", "of", "cycles", "bytes", "readings")
    whole = cbor2.loads(scene.body())
    return [
        *(signed(cbor({name: value for name, value in whole.items() if name != gone})) for gone in names),
        scene.stolen(rul=125),
        signed(cbor(whole | {1: 2})),
        signed(cbor(list(whole.values()))),
        signed(cbor([whole])),
        signed(scene.stolen()),
        signed(scene.honest("gate-1")),
        signed(b""),
        signed(b"\xa0"),
    ]


@attack("malformed", BODIES)
def another_spelling_of_a_frame(scene: Scene) -> Sent:
    """Spells a whole frame otherwise: keys out of order, a key twice, longer numbers, endless, bytes behind it."""
    whole = cbor2.loads(scene.body())
    pairs = [cbor(name) + cbor(value) for name, value in sorted(whole.items(), key=lambda item: cbor(item[0]))]
    joined = b"".join(pairs)
    return [
        signed(b"\xaa" + b"".join(pairs[::-1])),
        signed(b"\xab" + pairs[0] + joined),
        signed(b"\xab" + joined + pairs[-1]),
        signed(head(5, 10, 1) + joined),
        signed(b"\xbf" + joined + b"\xff"),
        signed(b"\xaa" + joined + b"\0"),
        signed(b"\xd9\xd9\xf7\xaa" + joined),
        signed(cbor2.dumps(whole | {"sequence": cbor2.CBORTag(2, b"\x0c")})),
    ]


@attack("malformed", BODIES)
def text_that_is_no_text(scene: Scene) -> Sent:
    """Spells names in bytes that are no UTF-8: cut, overlong, half of a pair, beyond Unicode."""
    name = b"\x66pump-3"
    some = (b"\x66pump-\xff", b"\x66pum\xc0\xad3", b"\x66pu\xed\xa0\x80p", b"\x66pu\xf4\x90\x80\x80", b"\x66pump-\xc3")
    body = scene.body()
    assert name in body
    return [signed(body.replace(name, item)) for item in some]


@attack("malformed", BODIES)
def bombs_behind_the_signature(scene: Scene) -> Sent:
    """Signs lists a hundred thousand deep, a million small items, lengths of 2^63, and texts of a megabyte."""
    return [
        signed(b"\x81" * 100_000),
        signed(b"\xa1\x61a" * 100_000),
        signed(head(4, 1_000_000) + bytes(1_000_000)),
        *(signed(head(major, 2**63 - 1)) for major in (2, 3, 4, 5)),
        signed(cbor(dict.fromkeys(map(str, range(30_000)), 0))),
        scene.stolen(device="x" * 1_000_000),
        scene.stolen(units=[["x" * 1_000_000, 1]]),
        scene.stolen(units=[[["pump-3"], 1]]),
        scene.stolen(channels=["x" * 90_000] * 10),
    ]


@attack("malformed", BODIES)
def a_frame_in_the_name_of_another_device(scene: Scene) -> Sent:
    """Says in a frame of gate-2 that it is gate-1's; and says so in other letters and kinds."""
    return [
        scene.stolen(device=name) for name in ("gate-1", "GATE-2", "gate\u20102", "gate-2 ", 2, ["gate-2"], None, "")
    ]


@attack("of another model", BODIES)
def a_frame_for_another_model(scene: Scene) -> Sent:
    """Delivers frames that the same devices signed for the twin of another model, or of one with a similar name."""
    return [scene.stolen(model=name) for name in (OTHER, "pump-rul2", "Pump-rul", "pump\u2010rul")]
