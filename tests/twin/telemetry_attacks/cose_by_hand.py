"""COSE and CBOR as an attacker writes them: by cbor2, cryptography and bytes, with nothing of twinseal's."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Mapping, Sequence
from typing import Any

import cbor2
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

CONTENT = "application/vnd.twinseal.frame+cbor"
ED25519, EDDSA, ES256, HMAC_256 = -19, -8, -7, 5  # of the IANA registry "COSE Algorithms"
ORDER = 2**252 + 27742317777372353535851937790883648493  # of the group, RFC 8032 section 5.1
IDENTITY = b"\x01" + bytes(31)  # the point that adds nothing


def key_of(number: int) -> Ed25519PrivateKey:
    """The private key of the tests with this number: a device's, that a thief has copied, or the attacker's own."""
    return Ed25519PrivateKey.from_private_bytes(number.to_bytes(32))


def kid(key: Ed25519PrivateKey) -> bytes:
    """What a message calls this key."""
    public = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(public).digest()


def cbor(value: Any) -> bytes:
    """In canonical form, RFC 8949 section 4.2.1."""
    return cbor2.dumps(value, canonical=True)


def head(major: int, number: int, size: int = 8) -> bytes:
    """The first bytes of an item, with its number in so many bytes, needed or not."""
    return bytes((major << 5 | {1: 24, 2: 25, 4: 26, 8: 27}[size],)) + number.to_bytes(size)


def fields(key: Ed25519PrivateKey, **changes: Any) -> bytes:
    """The protected fields: `alg`, `content` and `kid`, or others in their place; None leaves one out."""
    said = {"alg": ED25519, "content": CONTENT, "kid": kid(key)} | changes
    labels = {"alg": 1, "crit": 2, "content": 3, "kid": 4, "iv": 5}
    return cbor({labels.get(name, name): value for name, value in said.items() if value is not None})


def to_be_signed(protected: bytes, payload: bytes, context: str = "Signature1", outside: bytes = b"") -> bytes:
    """What a signature is over, RFC 9052 section 4.4."""
    return cbor([context, protected, outside, payload])


def sign1(payload: bytes, key: Ed25519PrivateKey, **changes: Any) -> bytes:
    """A message as a device sends it; `changes` of its protected fields are under the signature."""
    protected = fields(key, **changes)
    return message(protected, payload, key.sign(to_be_signed(protected, payload)))


def message(protected: Any, payload: Any, signature: Any, unprotected: Mapping[Any, Any] | None = None) -> bytes:
    """A message of these four parts."""
    return b"\xd2" + cbor([protected, dict(unprotected or {}), payload, signature])


def parts(data: bytes) -> list[Any]:
    """The four parts of a message."""
    return list(cbor2.loads(data[1:]))


def body(
    device: str,
    sequence: Any,
    time_ms: Any,
    units: Sequence[Sequence[Any]],
    rows: Sequence[tuple[int, int]],
    channels: Sequence[str],
    **changes: Any,
) -> bytes:
    """What a device says: for each row the number of its unit and its cycle; each reading is 5. `changes` by name."""
    said = {
        "device": device,
        "model": "pump-rul",
        "sequence": sequence,
        "time": time_ms,
        "units": list(map(list, units)),
        "channels": list(channels),
        "of": b"".join(struct.pack("<H", of) for of, _ in rows),
        "cycles": b"".join(struct.pack("<I", cycle) for _, cycle in rows),
        "bytes": 8,
        "readings": struct.pack("<d", 5.0) * (len(rows) * len(channels)),
    } | changes
    return cbor({name: value for name, value in said.items() if value is not ...})
