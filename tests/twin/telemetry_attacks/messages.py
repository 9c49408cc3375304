"""Attacks on messages: by somebody on the way who hears all that devices send, and has no key of theirs."""

from __future__ import annotations

import gzip
import hashlib
import hmac

import cbor2
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.twin.telemetry_attacks.attack import MESSAGES, Sent, attack
from tests.twin.telemetry_attacks.cose_by_hand import (
    CONTENT,
    ED25519,
    EDDSA,
    ES256,
    HMAC_256,
    IDENTITY,
    ORDER,
    cbor,
    fields,
    head,
    key_of,
    kid,
    message,
    parts,
    sign1,
    to_be_signed,
)
from tests.twin.telemetry_attacks.scene import Scene

LIMIT = 1 << 20


@attack("forged", MESSAGES)
def a_reading_is_changed(scene: Scene) -> Sent:
    """Changes one bit of a reading in the device's next frame."""
    data = bytearray(scene.honest("gate-1"))
    data[data.index(b"readings") + 40] ^= 1
    return bytes(data)


@attack("forged", MESSAGES)
def the_signature_is_changed(scene: Scene) -> Sent:
    """Changes a bit of the signature of the device's next frame, at eight places."""
    data = scene.honest("gate-1")
    return [data[: -64 + at] + bytes((data[-64 + at] ^ 1,)) + data[len(data) - 63 + at :] for at in range(0, 64, 9)]


@attack("forged", MESSAGES)
def a_signature_that_is_no_number(scene: Scene) -> Sent:
    """Signs with zeros, with ones, and with the point that adds nothing, which weak verifiers take for anybody's."""
    first, second, payload, _ = parts(scene.honest("gate-1"))
    return [message(first, payload, item, second) for item in (bytes(64), b"\xff" * 64, IDENTITY + bytes(32))]


@attack("forged", MESSAGES)
def the_signature_in_its_other_form(scene: Scene) -> Sent:
    """Adds the order of the group to an honest signature, so that one frame would have two messages."""
    first, second, payload, signature = parts(scene.honest("gate-1"))
    number = int.from_bytes(signature[32:], "little") + ORDER
    return message(first, payload, signature[:32] + number.to_bytes(32, "little"), second)


@attack("forged", MESSAGES)
def parts_of_two_frames(scene: Scene) -> Sent:
    """Puts the rows of an earlier frame under the signature of a later one, and the other way round."""
    new, old = parts(scene.honest("gate-1")), parts(scene.honest("gate-1", 1))
    return [message(new[0], old[2], new[3]), message(new[0], new[2], old[3])]


@attack("forged", MESSAGES)
def a_frame_under_another_devices_name(scene: Scene) -> Sent:
    """Names gate-2's key over gate-1's frame and signature."""
    _, second, payload, signature = parts(scene.honest("gate-1"))
    return message(fields(key_of(2)), payload, signature, second)


@attack("unknown device", MESSAGES)
def a_key_of_ones_own(scene: Scene) -> Sent:
    """Signs rows of gate-1 with a key that nobody enrolled."""
    return scene.stolen("gate-1", key=3)


@attack("forged", MESSAGES)
def a_key_of_ones_own_under_a_devices_name(scene: Scene) -> Sent:
    """Signs rows of gate-1 with a key of his own, and names gate-1's."""
    payload, protected = scene.body("gate-1"), fields(key_of(1))
    return message(protected, payload, key_of(3).sign(to_be_signed(protected, payload)))


@attack("malformed", MESSAGES)
def the_older_number_of_the_algorithm(scene: Scene) -> Sent:
    """Has an old gateway's frame with `EdDSA` instead of `Ed25519`: a second form of one message."""
    return sign1(scene.body("gate-1"), key_of(1), alg=EDDSA)


@attack("malformed", MESSAGES)
def another_algorithm(scene: Scene) -> Sent:
    """Says ES256, an algorithm as text, as a list, number 0, or none, so that the verifier picks what he can make."""
    payload = scene.body("gate-1")
    return [sign1(payload, key_of(3), kid=kid(key_of(1)), alg=alg) for alg in (ES256, "Ed25519", [ED25519], 0, None)]


@attack("malformed", MESSAGES)
def a_code_by_the_public_key(scene: Scene) -> Sent:
    """Makes an HMAC, with the device's public key as its secret, and says so: as COSE_Mac0, and as COSE_Sign1."""
    secret = key_of(1).public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    protected, payload = fields(key_of(1), alg=HMAC_256), scene.body("gate-1")
    code = hmac.digest(secret, cbor(["MAC0", protected, b"", payload]), "sha256")
    return [b"\xd1" + cbor([protected, {}, payload, code]), message(protected, payload, code + code)]


@attack("malformed", MESSAGES)
def fields_outside_the_signature(scene: Scene) -> Sent:
    """Adds fields that no signature covers: another key's name, an algorithm, a chain of certificates, a time."""
    first, _, payload, signature = parts(scene.honest("gate-1"))
    outside = ({4: kid(key_of(3))}, {1: ES256}, {33: b"a certificate"}, {1: ED25519, 4: kid(key_of(1))}, {15: {6: 1}})
    return [message(first, payload, signature, item) for item in outside]


@attack("malformed", MESSAGES)
def the_names_outside_the_signature_alone(scene: Scene) -> Sent:
    """Leaves the protected fields empty, and says algorithm and key where nothing protects them."""
    payload, key = scene.body("gate-1"), key_of(3)
    outside = {1: ED25519, 3: CONTENT, 4: kid(key_of(1))}
    return [message(empty, payload, key.sign(to_be_signed(empty, payload)), outside) for empty in (b"", b"\xa0")]


@attack("malformed", MESSAGES)
def fields_that_must_be_understood(scene: Scene) -> Sent:
    """Lists a field of his own as critical, or leaves the list empty; a reader that skips it takes what it cannot."""
    payload = scene.body("gate-1")
    return [sign1(payload, key_of(1), crit=crit, iv=b"x") for crit in ([5], [], ["twinseal"], [1, 2, 3])]


@attack("malformed", MESSAGES)
def a_signature_for_something_else(scene: Scene) -> Sent:
    """Has the device sign another kind of content, as a firmware update, and delivers that as a frame."""
    payload = scene.body("gate-1")
    kinds = ("application/cbor", CONTENT + ";v=2", CONTENT.upper(), 60, None)
    return [sign1(payload, key_of(1), content=content) for content in kinds]


@attack("forged", MESSAGES)
def a_signature_from_another_protocol(scene: Scene) -> Sent:
    """Has the device's signatures over the bare rows, over other contexts of COSE, and with data from outside."""
    payload, protected, key = scene.body("gate-1"), fields(key_of(1)), key_of(1)
    signed = [
        payload,
        to_be_signed(protected, payload, "Signature"),
        to_be_signed(protected, payload, "CounterSignature"),
        to_be_signed(protected, payload, outside=b"twinseal"),
        hashlib.sha256(to_be_signed(protected, payload)).digest(),
    ]
    return [message(protected, payload, key.sign(item)) for item in signed]


@attack("malformed", MESSAGES)
def protected_fields_in_another_form(scene: Scene) -> Sent:
    """Spells the protected fields otherwise: out of order, twice, in longer numbers, endless, more, as no bytes."""
    payload, key = scene.body("gate-1"), key_of(1)
    one, three, four = b"\x01\x32", b"\x03" + cbor(CONTENT), b"\x04" + cbor(kid(key))
    forms = [
        b"\xa3" + three + one + four,
        b"\xa4" + one + one + three + four,
        b"\xa3\x01\x38\x12" + three + four,
        b"\xb8\x03" + one + three + four,
        b"\xbf" + one + three + four + b"\xff",
        b"\xa3" + one + three + four + b"\xa0",
        b"\xa4" + one + three + four + b"\x05\x41x",
        b"\xa3" + one + three + b"\x04" + cbor(kid(key).hex()),
    ]
    made = [message(form, payload, key.sign(to_be_signed(form, payload))) for form in forms]
    return [*made, message({1: ED25519, 3: CONTENT, 4: kid(key)}, payload, bytes(64))]


@attack("malformed", MESSAGES)
def rows_that_come_beside(scene: Scene) -> Sent:
    """Takes the rows out of the message (RFC 9052 calls that detached), so that others can be put beside it."""
    first, second, payload, signature = parts(scene.honest("gate-1"))
    made = [message(first, item, signature, second) for item in (None, payload.hex(), [payload], cbor2.undefined)]
    return [*made, made[0] + payload]


@attack("forged", MESSAGES)
def a_message_without_rows(scene: Scene) -> Sent:
    """Takes the rows out, and leaves nothing in their place."""
    first, second, _, signature = parts(scene.honest("gate-1"))
    return message(first, b"", signature, second)


@attack("malformed", MESSAGES)
def a_message_with_many_signatures(scene: Scene) -> Sent:
    """Sends a COSE_Sign with gate-1's signature and his own, so that either would do."""
    first, second, payload, signature = parts(scene.honest("gate-1"))
    inner = [[first, second, signature], [fields(key_of(3)), {}, bytes(64)]]
    return [b"\xd8\x62" + cbor([b"", {}, payload, inner]), b"\xd2" + cbor([first, {}, payload, [signature, bytes(64)]])]


@attack("malformed", MESSAGES)
def tags_around_the_message(scene: Scene) -> Sent:
    """Wraps an honest message in tags, or takes its own away: each is another form of one message."""
    data = scene.honest("gate-1")
    return [data[1:], b"\xd2" + data, b"\xd8\x3d" + data, b"\xd9\xd9\xf7" + data, b"\xd8\x12" + data[1:]]


@attack("malformed", MESSAGES)
def tags_that_make_a_decoder_run(scene: Scene) -> Sent:
    """Puts tags in: a large number, a date, a regular expression, a value that refers to itself, a UUID, MIME."""
    first, second, payload, _ = parts(scene.honest("gate-1"))
    tags = ("c24a" + "ff" * 10, "c074" + "30" * 20, "d82361" + "28", "d81c81d81d00", "d82550" + "00" * 16, "d8246161")
    made = [b"\xd2\x84" + cbor(first) + cbor(second) + bytes.fromhex(tag) + cbor(bytes(64)) for tag in tags]
    return [*made, b"\xd2\x84" + cbor(first) + cbor(second) + cbor(payload) + b"\xc2\x58\x40" + bytes(64)]


@attack("malformed", MESSAGES)
def endless_lengths(scene: Scene) -> Sent:
    """Sends list, map, bytes and text without a length, in chunks, or never ended."""
    first, _, payload, signature = (cbor(item) for item in parts(scene.honest("gate-1")))
    chunks = b"\x5f" + payload[:3] + payload[3:] + b"\xff"
    return [
        b"\xd2\x9f" + first + b"\xa0" + payload + signature + b"\xff",
        b"\xd2\x84" + first + b"\xbf\xff" + payload + signature,
        b"\xd2\x84" + first + b"\xa0" + chunks + signature,
        b"\xd2\x9f" * 1000,
        b"\xd2\x84\x5f" + b"\x41a" * 1000,
    ]


@attack("malformed", MESSAGES)
def longer_numbers_than_needed(scene: Scene) -> Sent:
    """Spells the lengths of an honest message in more bytes, which other decoders take: a second form of it."""
    first, _, payload, signature = parts(scene.honest("gate-1"))
    sizes = [size for size in (2, 4, 8) if len(payload) < 1 << 8 * (size // 2) or size > 2]
    made = [b"\xd2\x84" + cbor(first) + b"\xa0" + head(2, len(payload), s) + payload + cbor(signature) for s in sizes]
    return [*made[1:], b"\xd2" + head(4, 4, 1) + cbor(first) + b"\xa0" + cbor(payload) + cbor(signature)]


@attack("malformed", MESSAGES)
def more_or_fewer_parts(scene: Scene) -> Sent:
    """Sends three parts, five, none, a map of them, or the parts in another order."""
    made = parts(scene.honest("gate-1"))
    return [
        b"\xd2" + cbor(item) for item in (made[:3], [*made, b""], [], dict(enumerate(made)), made[::-1], made[3], "x")
    ]


@attack("malformed", MESSAGES)
def bytes_behind_the_message(scene: Scene) -> Sent:
    """Appends bytes to an honest message, or the next message whole."""
    data = scene.honest("gate-1")
    return [data + b"\0", data + data, data + scene.honest("gate-2"), data + b"\n"]


@attack("malformed", MESSAGES)
def a_message_that_is_cut(scene: Scene) -> Sent:
    """Cuts an honest message off, at fifty places."""
    data = scene.honest("gate-1")
    return [data[:at] for at in range(0, len(data), max(1, len(data) // 50))]


@attack("malformed", MESSAGES)
def a_signature_of_another_length(scene: Scene) -> Sent:
    """Cuts a byte from the signature, doubles it, or sends none."""
    first, second, payload, signature = parts(scene.honest("gate-1"))
    return [message(first, payload, item, second) for item in (signature[:-1], signature * 2, b"", signature.hex())]


@attack("malformed", MESSAGES)
def lengths_beyond_the_end(scene: Scene) -> Sent:
    """Declares lists, maps, bytes and text of up to 2^64 items in a few bytes, so that memory is reserved for them."""
    return [b"\xd2\x84" + head(major, 2**bits - 1) for major in (2, 3, 4, 5) for bits in (31, 32, 63, 64)]


@attack("malformed", MESSAGES)
def lists_in_lists(scene: Scene) -> Sent:
    """Nests lists, maps and tags a hundred thousand deep, so that a decoder that calls itself is killed."""
    return [b"\xd2" + item * 100_000 for item in (b"\x81", b"\xa1\x01", b"\xd2", b"\xc1")]


@attack("malformed", MESSAGES)
def a_megabyte_of_small_items(scene: Scene) -> Sent:
    """Fills a message with a million empty lists, numbers, or keys, each a byte, so that reading it takes long."""
    size = LIMIT - 20
    return [b"\xd2" + head(4, size, 4) + b"\x80" * size, b"\xd2\x84" + head(4, size, 4) + bytes(size)]


@attack("too long", MESSAGES)
def a_message_that_is_too_long(scene: Scene) -> Sent:
    """Sends five megabytes of zeros, and an honest message made longer than a megabyte."""
    first, second, payload, signature = parts(scene.honest("gate-1"))
    return [bytes(5 << 20), message(first, payload + bytes(LIMIT), signature, second)]


@attack("malformed", MESSAGES)
def no_message_at_all(scene: Scene) -> Sent:
    """Sends nothing, noise, rows as JSON, a JWS, a request by HTTP, a zip bomb, and a pickle that runs a program."""
    return [
        b"",
        b"\xd2",
        bytes(range(256)),
        b'{"unit": "pump-1", "cycle": 7, "speed": 5.0}',
        b"eyJhbGciOiJub25lIn0.eyJ1bml0IjoicHVtcC0xIn0.",
        b"POST /telemetry HTTP/1.1\r\n\r\n",
        gzip.compress(bytes(1 << 20)),
        b"cposix\nsystem\n(S'true'\ntR.",
        b"\xff" * 4096,
        b"\xd2" + b"\xf6\xf7\xfb" * 9,
    ]


@attack("malformed", MESSAGES)
def words_for_the_log(scene: Scene) -> Sent:
    """Puts escape sequences, new lines and right-to-left marks where a refusal could print them."""
    text = "\x1b[2J\n2026-03-01 [info] all is well\u202e"
    payload = scene.body("gate-1")
    made = [sign1(payload, key_of(3), content=text), sign1(payload, key_of(3), iv=text)]
    return [*made, b"\xd2" + cbor({text: text}), text.encode()]
