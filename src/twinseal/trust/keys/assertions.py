"""Assertions: what a passkey signed, and what the library `webauthn` does not look at, or reads less strictly.

The value of a passkey's signature is the hex of the canonical JSON of exactly

    {"authenticator_data": base64url, "client_data": base64url, "digests": [hex SHA-256, ...], "signature": base64url}

Base64url is without padding and in its one form. Whatever is wrong with untrusted parts is an UnverifiedSignatureError,
as securesystemslib has it. `twinseal.trust.keys.passkeys` verifies; this module only parses.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from typing import Any, Literal

from securesystemslib.exceptions import UnverifiedSignatureError

from twinseal.digests import canonical_json, is_sha256, parse_json, sha256
from twinseal.errors import EvidenceError

MAX_VALUE_BYTES, MAX_CLIENT_DATA_BYTES = 8 << 10, 2 << 10
MAX_DIGESTS = 8
AUTHENTICATOR_DATA_BYTES = 37  # of an assertion: SHA-256 of the rp id, flags, counter (WebAuthn level 3, section 6.1)
_FLAGS_WITH_MORE = 0x40 | 0x80  # attested credential data, extensions
FIELDS = frozenset(("authenticator_data", "client_data", "digests", "signature"))
_BASE64URL = re.compile(r"[A-Za-z0-9_-]*\Z")


def parse_value(sig: object) -> dict[str, Any]:
    """The fields of a signature's value.

    Raises:
        UnverifiedSignatureError: It is not the hex of canonical JSON of exactly these, at most 8 KiB.
    """
    if not isinstance(sig, str) or len(sig) > 2 * MAX_VALUE_BYTES:
        raise UnverifiedSignatureError(f"passkey: expected at most {2 * MAX_VALUE_BYTES} hex digits, got more or none")
    try:
        data = bytes.fromhex(sig)
        value = parse_json(data, "passkey signature", limit=MAX_VALUE_BYTES)
        canonical = isinstance(value, dict) and data.hex() == sig and canonical_json(value) == data
    except (ValueError, TypeError, RecursionError, EvidenceError) as error:
        raise UnverifiedSignatureError(
            f"passkey: expected hex of canonical JSON, got something else ({error})"
        ) from error
    if not canonical or set(value) != FIELDS:
        raise UnverifiedSignatureError(f"passkey: expected canonical JSON of {', '.join(sorted(FIELDS))}, got another")
    digests = value["digests"]
    if not isinstance(digests, list) or not 1 <= len(digests) <= MAX_DIGESTS or not all(map(is_sha256, digests)):
        raise UnverifiedSignatureError(f"passkey: expected 1 to {MAX_DIGESTS} digests, got {str(digests)[:80]}")
    if len(set(digests)) != len(digests):
        raise UnverifiedSignatureError("passkey: expected each digest once, got one twice")
    for name in FIELDS - {"digests"}:
        decode(value[name])
    return dict(value)


def check_authenticator_data(data: bytes) -> None:
    """Refuse authenticator data with an extension or an attested key, or of another length.

    Raises:
        UnverifiedSignatureError: It is such data.
    """
    if len(data) != AUTHENTICATOR_DATA_BYTES or data[32] & _FLAGS_WITH_MORE:
        raise UnverifiedSignatureError(
            f"passkey: expected {AUTHENTICATOR_DATA_BYTES} bytes of authenticator data without more, got {len(data)}"
        )


def check_client_data(
    data: bytes, kind: Literal["webauthn.get", "webauthn.create"], expected: bytes, origin: str
) -> None:
    """What the library does not look at, or reads less strictly: keys twice, embedding, another form of the challenge.

    Raises:
        UnverifiedSignatureError: It is refused.
    """
    try:
        value = parse_json(data, "client data", limit=MAX_CLIENT_DATA_BYTES)
    except EvidenceError as error:
        raise UnverifiedSignatureError(f"passkey: {error}") from error
    if not isinstance(value, dict):
        raise UnverifiedSignatureError(f"passkey: expected client data, got {str(value)[:80]}")
    if value.get("crossOrigin", False) is not False or "topOrigin" in value:
        raise UnverifiedSignatureError("passkey: expected a page of its own, got one that another site embeds")
    for name, wanted in (("type", kind), ("challenge", encode(expected)), ("origin", origin)):
        if value.get(name) != wanted:
            raise UnverifiedSignatureError(f"passkey: {name}: expected {wanted}, got {str(value.get(name))[:80]!r}")


def challenge_of(digests: Sequence[str]) -> bytes:
    """The challenge over several texts, by their digests."""
    return bytes.fromhex(sha256(canonical_json(list(digests))))


def encode(data: bytes) -> str:
    """Base64url without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def decode(text: object) -> bytes:
    """The bytes of base64url without padding, in its canonical form.

    Raises:
        UnverifiedSignatureError: It is in another form.
    """
    if isinstance(text, str) and len(text) % 4 != 1 and _BASE64URL.match(text):
        data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
        if encode(data) == text:
            return data
    raise UnverifiedSignatureError(f"passkey: expected base64url without padding, got {str(text)[:40]!r}")
