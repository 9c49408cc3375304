"""An authenticator in software: it makes real registrations and assertions, and real ones that are wrong on demand.

It follows WebAuthn level 3 with `cryptography` alone, and knows nothing of our own code for passkeys. What it gives is
the JSON that a browser gives: `PublicKeyCredential.toJSON()`.

    authenticator = Authenticator()
    authenticator.register(challenge)                 # after navigator.credentials.create
    authenticator.touch(challenge)                    # after navigator.credentials.get
    authenticator.touch(challenge, origin="https://evil.example")
"""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import dataclass, field
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

RP_ID, ORIGIN = "plant.example", "https://review.plant.example"
UP, UV, AT, ED = 0x01, 0x04, 0x40, 0x80


@dataclass
class Authenticator:
    """One device with one passkey.

    Attributes:
        counter: How often it has signed; None: it keeps no counter, as passkeys in the cloud.
    """

    rp_id: str = RP_ID
    origin: str = ORIGIN
    counter: int | None = 0
    private: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))
    credential_id: bytes = b""

    def __post_init__(self) -> None:
        self.credential_id = (
            self.credential_id or hashlib.sha256(repr(self.private.private_numbers()).encode()).digest()
        )

    def register(self, challenge: bytes, **wrong: Any) -> dict[str, Any]:
        """The answer to `navigator.credentials.create`.

        Args:
            challenge: What was asked.
            wrong: Another `origin`, `rp_id`, `kind`, `flags`, `alg`, `fmt`, or `client` data beside.
        """
        name = self.credential_id
        numbers = self.private.public_key().public_numbers()
        x, y = (number.to_bytes(32, "big") for number in (numbers.x, numbers.y))
        cose = cbor({1: 2, 3: wrong.get("alg", -7), -1: 1, -2: x, -3: y})
        attested = bytes(16) + len(name).to_bytes(2, "big") + name + cose
        data = self._data(wrong, UP | UV | AT) + attested
        statement = wrong.get("statement", {})
        made = cbor({"fmt": wrong.get("fmt", "none"), "attStmt": statement, "authData": data})
        response = {
            "clientDataJSON": b64(self._client_data(challenge, "webauthn.create", wrong)),
            "attestationObject": b64(made),
            "transports": ["internal"],
        }
        return self._credential(response)

    def touch(self, challenge: bytes, **wrong: Any) -> dict[str, Any]:
        """The answer to `navigator.credentials.get`.

        Args:
            challenge: What was asked.
            wrong: Another `origin`, `rp_id`, `kind`, `flags`, `counter`, `data` behind the authenticator's, `client`
                data beside, or raw `client_bytes`.
        """
        if self.counter is not None:
            self.counter += 1
        data = self._data(wrong, UP | UV) + wrong.get("data", b"")
        client = wrong.get("client_bytes") or self._client_data(challenge, "webauthn.get", wrong)
        signature = self.private.sign(data + hashlib.sha256(client).digest(), ec.ECDSA(hashes.SHA256()))
        response = {
            "clientDataJSON": b64(client),
            "authenticatorData": b64(data),
            "signature": b64(signature),
            "userHandle": None,
        }
        return self._credential(response)

    def _credential(self, response: dict[str, Any]) -> dict[str, Any]:
        name = b64(self.credential_id)
        return {
            "id": name,
            "rawId": name,
            "type": "public-key",
            "authenticatorAttachment": "platform",
            "clientExtensionResults": {},
            "response": response,
        }

    def _data(self, wrong: dict[str, Any], flags: int) -> bytes:
        counter = wrong.get("counter", self.counter or 0)
        rp = hashlib.sha256(wrong.get("rp_id", self.rp_id).encode()).digest()
        return bytes(rp) + bytes([wrong.get("flags", flags)]) + int(counter).to_bytes(4, "big")

    def _client_data(self, challenge: bytes, kind: str, wrong: dict[str, Any]) -> bytes:
        value = {
            "type": wrong.get("kind", kind),
            "challenge": b64(challenge),
            "origin": wrong.get("origin", self.origin),
            "crossOrigin": False,
        }
        return json.dumps(value | wrong.get("client", {}), separators=(",", ":")).encode()


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def cbor(value: Any) -> bytes:
    """As much of CBOR (RFC 8949) as an authenticator needs."""
    if isinstance(value, int):
        return _head(0, value) if value >= 0 else _head(1, -1 - value)
    if isinstance(value, bytes):
        return _head(2, len(value)) + value
    if isinstance(value, str):
        return _head(3, len(value.encode())) + value.encode()
    if isinstance(value, list):
        return _head(4, len(value)) + b"".join(map(cbor, value))
    return _head(5, len(value)) + b"".join(cbor(key) + cbor(item) for key, item in value.items())


def _head(kind: int, number: int) -> bytes:
    for more, size in ((24, 1), (25, 2), (26, 4)):
        if number < 24:
            return bytes([kind << 5 | number])
        if number < 1 << 8 * size:
            return bytes([kind << 5 | more]) + number.to_bytes(size, "big")
    raise ValueError(number)
