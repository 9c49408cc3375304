"""COSE messages: the same bytes as another implementation makes; anything but the one form is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from twinseal.errors import EvidenceError, SignatureError
from twinseal.trust.keys.device_keys import DeviceSigner
from twinseal.trust.signing import cbor, cose

VECTORS = json.loads((Path(__file__).parents[2] / "vectors/cose/cwt.json").read_text())
MESSAGES = {item["name"]: item for item in VECTORS["messages"]}
SIGNER = DeviceSigner(Ed25519PrivateKey.from_private_bytes(bytes(range(32))))
OTHER = DeviceSigner(Ed25519PrivateKey.from_private_bytes(bytes(32)))


@pytest.mark.parametrize("name", [name for name in MESSAGES if name.startswith("valid")])
def test_cwt_makes_the_same_bytes(name: str) -> None:
    message, payload = (bytes.fromhex(MESSAGES[name][part]) for part in ("message", "payload"))
    assert VECTORS["public"] == SIGNER.key.pem
    assert message == cose.sign(payload, SIGNER)
    assert payload == cose.parse(message).verify(SIGNER.key)
    assert SIGNER.key.fingerprint == cose.parse(message).fingerprint


@pytest.mark.attack("T")
@pytest.mark.parametrize("name", [name for name in MESSAGES if not name.startswith("valid")])
def test_another_header_is_refused_though_the_key_signed_it(name: str) -> None:
    """A device's key signed another kind of message: another algorithm, content or field, or one that is not signed."""
    with pytest.raises(EvidenceError, match="frame: expected"):
        cose.parse(bytes.fromhex(MESSAGES[name]["message"]))


@given(st.binary(max_size=300))
def test_what_is_signed_is_what_is_read(payload: bytes) -> None:
    assert payload == cose.parse(cose.sign(payload, SIGNER)).verify(SIGNER.key)


@pytest.mark.attack("T")
@given(st.data())
def test_no_bit_can_be_changed(data: st.DataObject) -> None:
    """Somebody on the way changes one bit of a signed frame."""
    honest = cose.sign(b"twenty bytes of rows", SIGNER)
    place = data.draw(st.integers(0, 8 * len(honest) - 1))
    forged = bytearray(honest)
    forged[place // 8] ^= 1 << place % 8
    with pytest.raises((EvidenceError, SignatureError)):
        cose.parse(bytes(forged)).verify(SIGNER.key)


@pytest.mark.attack("T")
def test_a_signature_by_another_key_is_refused() -> None:
    """Somebody signs a frame with a key of their own under the name of an enrolled one."""
    parts = cbor.decode(cose.sign(b"rows", SIGNER)[1:], "")
    parts[3] = cbor.decode(cose.sign(b"rows", OTHER)[1:], "")[3]
    message = cose.parse(b"\xd2" + cbor.encode(parts))
    with pytest.raises(SignatureError, match=f"{SIGNER.key.fingerprint[:16]}.*expected its signature"):
        message.verify(SIGNER.key)
    with pytest.raises(SignatureError):
        cose.parse(cose.sign(b"rows", OTHER)).verify(SIGNER.key)


def other_forms() -> dict[str, Any]:
    parts = cbor.decode(cose.sign(b"rows", SIGNER)[1:], "")
    return {
        "nothing": b"",
        "no tag": cbor.encode(parts),
        "another tag": b"\xd1" + cbor.encode(parts),
        "a part less": b"\xd2" + cbor.encode(parts[:3]),
        "a part more": b"\xd2" + cbor.encode([*parts, b""]),
        "a map": b"\xd2" + cbor.encode({1: parts}),
        "a shorter signature": b"\xd2" + cbor.encode([*parts[:3], parts[3][:63]]),
        "no payload": b"\xd2" + cbor.encode([*parts[:2], [], parts[3]]),
        "protected fields as a list": b"\xd2" + cbor.encode([cbor.encode([1, 2]), *parts[1:]]),
        "no fingerprint": b"\xd2" + cbor.encode([cbor.encode({1: -19, 3: cose.CONTENT}), *parts[1:]]),
        "half a message": cose.sign(b"rows", SIGNER)[:-7],
        "two messages": cose.sign(b"rows", SIGNER) * 2,
    }


@pytest.mark.parametrize("form", other_forms())
def test_there_is_one_form(form: str) -> None:
    with pytest.raises(EvidenceError, match="frame: expected"):
        cose.parse(other_forms()[form])


@pytest.mark.attack("T")
def test_a_message_that_is_too_long_is_not_looked_at() -> None:
    """Somebody sends a frame of many megabytes."""
    with pytest.raises(EvidenceError, match="frame: expected at most 1048576 bytes, got 5000000"):
        cose.parse(bytes(5_000_000))
