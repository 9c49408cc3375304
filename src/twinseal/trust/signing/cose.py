"""COSE_Sign1 (RFC 9052 section 4.2) by one algorithm, one form and one kind of content: frames of telemetry.

    18([protected, {}, payload, signature])
    protected   {1: -19 (Ed25519, RFC 9864), 3: CONTENT, 4: the fingerprint of the device's key}, as bytes

Nothing else is one: another algorithm, an unprotected field, another order of the fields. So one message has one form,
and a signature over something else can never be taken for one over a frame: CONTENT is under it.

The bytes are CBOR of `twinseal.trust.signing.cbor`, and the signatures are cryptography's. The package `cwt` would do
the same; its newest version needs a cbor2 older than the one that passkeys need. A test compares with its messages.
"""

from __future__ import annotations

from dataclasses import dataclass

from twinseal.errors import EvidenceError
from twinseal.trust.keys.device_keys import DeviceKey, DeviceSigner
from twinseal.trust.signing import cbor

CONTENT = "application/vnd.twinseal.frame+cbor"
MAX_MESSAGE_BYTES = 1 << 20
ED25519 = -19
_SIGN1 = b"\xd2"  # tag 18
_SIGNATURE_BYTES, _FINGERPRINT_BYTES = 64, 32
_ITEMS = 5  # a list of four parts; who has no key must not make a reader read more


@dataclass(frozen=True)
class Message:
    """A signed message that was parsed, and not verified yet.

    Attributes:
        fingerprint: Of the key that it says it is signed by.
        signature: 64 bytes.
    """

    fingerprint: str
    _protected: bytes
    _payload: bytes
    signature: bytes

    def verify(self, key: DeviceKey) -> bytes:
        """The payload, once `key` has signed it.

        Raises:
            SignatureError: It has not.
        """
        key.verify(self.signature, _to_be_signed(self._protected, self._payload))
        return self._payload


def sign(payload: bytes, signer: DeviceSigner) -> bytes:
    """The message that holds `payload` under a signature. Same payload and key, same bytes."""
    protected = _protected(signer.key.fingerprint)
    signature = signer.sign(_to_be_signed(protected, payload))
    return _SIGN1 + cbor.encode([protected, {}, payload, signature])


def parse(data: bytes, where: str = "frame") -> Message:
    """The message in untrusted bytes; nothing in it is to be believed before `Message.verify`.

    Raises:
        EvidenceError: They are no such message, in its one form.
    """
    if len(data) > MAX_MESSAGE_BYTES:
        raise EvidenceError(f"{where}: expected at most {MAX_MESSAGE_BYTES} bytes, got {len(data)}")
    if data[:1] != _SIGN1:
        raise EvidenceError(f"{where}: expected a COSE_Sign1 message, got {data[:4].hex() or 'nothing'}")
    parts = cbor.decode(data[1:], where, limit=MAX_MESSAGE_BYTES, items=_ITEMS)
    kinds = [type(part) for part in parts] if isinstance(parts, list) else []
    if kinds != [bytes, dict, bytes, bytes] or parts[1] or len(parts[3]) != _SIGNATURE_BYTES:
        raise EvidenceError(f"{where}: expected protected fields, {{}}, a payload and a signature, got something else")
    fields = cbor.decode(parts[0], f"{where}: protected fields", limit=200)
    key = fields.get(4) if isinstance(fields, dict) else None
    if not isinstance(key, bytes) or len(key) != _FINGERPRINT_BYTES or parts[0] != _protected(key.hex()):
        raise EvidenceError(f"{where}: expected Ed25519, {CONTENT} and a fingerprint, got {str(fields)[:80]}")
    return Message(key.hex(), parts[0], parts[2], parts[3])


def _protected(fingerprint: str) -> bytes:
    return cbor.encode({1: ED25519, 3: CONTENT, 4: bytes.fromhex(fingerprint)})


def _to_be_signed(protected: bytes, payload: bytes) -> bytes:
    return cbor.encode(["Signature1", protected, b"", payload])  # RFC 9052 section 4.4
