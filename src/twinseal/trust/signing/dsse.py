"""DSSE envelopes (DSSE v1.0.2, secure-systems-lab): signed evidence as bytes, and back.

Verification, numbered as in the body of `verify_envelope`:

1. the bytes are one JSON object of exactly payload, payloadType, signatures, not too long
2. the payload type is in-toto's: the type is under the signature, and no other is ours
3. base64 is canonical: one byte string has one text
4. every signature is by a key of the role, over these bytes, each key once; no other signatures
5. there are as many signatures as the role's threshold

Step 4 is stricter than DSSE: an unchecked second signature could hide any bytes.
"""

from __future__ import annotations

import base64
import binascii
from typing import Any

from securesystemslib.dsse import Envelope

from twinseal.digests import canonical_json, parse_json
from twinseal.errors import EvidenceError, SignatureError, ThresholdError
from twinseal.trust.keys.key import ListSigner, short_fingerprint
from twinseal.trust.root.metadata import is_signed_by, parse_signature
from twinseal.trust.root.pins import RoleKeys

PAYLOAD_TYPE = "application/vnd.in-toto+json"
MAX_ENVELOPE_BYTES = 8 << 20


def sign_envelope(payload: bytes, signer: ListSigner) -> bytes:
    """The envelope that holds `payload` under one signature. Same payload and key file, same bytes.

    A key in a token draws its nonces at random: its envelopes differ each time, and all verify.
    """
    (signature,) = signer.sign_all([signed_text(payload)])
    return seal_envelope(payload, signature)


def seal_envelope(payload: bytes, signature: Any) -> bytes:
    """The envelope that holds `payload` under a signature that is there already, over `signed_text(payload)`."""
    return canonical_json(Envelope(payload, PAYLOAD_TYPE, {signature.keyid: signature}).to_dict())


def signed_text(payload: bytes) -> bytes:
    """The bytes that a signature of an envelope is over: DSSE's pre-authentication encoding."""
    pae: bytes = Envelope(payload, PAYLOAD_TYPE, {}).pae()
    return pae


def add_signature(data: bytes, signer: ListSigner, where: str = "envelope") -> bytes:
    """The same envelope with one more signature; the signatures in it are not verified.

    Raises:
        SignatureError: It is malformed, or `signer` has signed it already.
    """
    envelope = _parse(data, where)
    if signer.public_key.keyid in envelope.signatures:
        raise SignatureError(
            f"{where}: expected one signature by each key, got a second by {short_fingerprint(signer.public_key)}…"
        )
    (signature,) = signer.sign_all([envelope.pae()])
    envelope.signatures[signature.keyid] = signature
    return canonical_json(envelope.to_dict())


def envelope_keyids(data: bytes, where: str = "envelope") -> tuple[str, ...]:
    """Identifiers of the keys that an envelope names, in its order; the signatures are not verified.

    Raises:
        SignatureError: It is malformed.
    """
    return tuple(_parse(data, where).signatures)


def unverified_payload(data: bytes, where: str = "envelope") -> bytes:
    """The payload of an envelope, whoever signed it: for a caller who knows its digest from elsewhere.

    Raises:
        SignatureError: It is malformed.
    """
    content: bytes = _parse(data, where).payload
    return content


def verify_envelope(data: bytes, role: RoleKeys, where: str = "envelope") -> bytes:
    """The payload of an envelope, once enough holders of `role`, and no other keys, have signed it.

    Raises:
        SignatureError: Malformed, of another type, or with a signature that is not by the role.
        ThresholdError: All signatures are good, but too few.
    """
    envelope = _parse(data, where)
    payload = envelope.pae()
    keys = role.keys
    for keyid, item in envelope.signatures.items():  # 4
        if keyid not in keys:
            # The identifier in the envelope is not shown: it comes from outside, and is no fingerprint.
            raise SignatureError(
                f"{where}: expected a signature by {_names(role)} ({role.role}), got one by another key",
                remedy="Another role signed it, or the key was replaced. Keys that count: twinseal trust show",
            )
        if not is_signed_by(keys[keyid], item, payload):
            raise SignatureError(f"{where}: expected {role.holder_of(keyid)} to have signed these bytes, got another")
    if len(envelope.signatures) < role.threshold:  # 5; identifiers are computed, so distinct ones are distinct keys
        got = ", ".join(map(role.holder_of, envelope.signatures))
        raise ThresholdError(f"{where}: expected {role.threshold} of {_names(role)} to sign, got {got}")
    content: bytes = envelope.payload
    return content


def _parse(data: bytes, where: str) -> Any:
    try:
        value = parse_json(data, where, limit=MAX_ENVELOPE_BYTES)  # 1
    except EvidenceError as error:
        raise SignatureError(str(error)) from error
    if not isinstance(value, dict) or set(value) != {"payload", "payloadType", "signatures"}:
        raise SignatureError(f"{where}: expected a DSSE envelope, got {str(value)[:80]}")
    if value["payloadType"] != PAYLOAD_TYPE:  # 2
        raise SignatureError(f"{where}: expected a payload of {PAYLOAD_TYPE}, got {str(value['payloadType'])[:80]}")
    if not isinstance(value["signatures"], list) or not value["signatures"]:
        raise SignatureError(f"{where}: expected a signature, got none")
    signatures: dict[str, Any] = {}
    for item in value["signatures"]:
        fields = {**item, "sig": decode_strict_base64(item.get("sig"), where).hex()} if isinstance(item, dict) else item
        found = parse_signature(fields, where)
        if found.keyid in signatures:
            raise SignatureError(f"{where}: expected one signature by each key, got two under one identifier")
        signatures[found.keyid] = found
    return Envelope(decode_strict_base64(value["payload"], where), PAYLOAD_TYPE, signatures)


def decode_strict_base64(text: Any, where: str) -> bytes:
    """The bytes that `text` spells in standard base64, in its canonical form.

    Raises:
        SignatureError: It is not in that form.
    """
    try:
        data = base64.b64decode(text, validate=True) if isinstance(text, str) else None
    except (binascii.Error, ValueError) as error:
        raise SignatureError(f"{where}: expected base64, got something else") from error
    if data is None or base64.b64encode(data).decode() != text:  # 3
        raise SignatureError(f"{where}: expected canonical base64, got another form")
    return data


def _names(role: RoleKeys) -> str:
    return ", ".join(holder.name for holder in role.holders)
