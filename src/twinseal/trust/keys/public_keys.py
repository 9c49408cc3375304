"""Public keys: in their one form, and compared by value. ECDSA on P-256, in a file, in a token or behind a passkey.

`fingerprint` is the SHA-256 of a key's value, whatever kind of key has it: one value in two forms is one key.

    >>> grouped_digits("0123456789abcdef" * 4).splitlines()[0]
    '0123 4567 89ab cdef 0123 4567 89ab cdef'
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeAlias

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from securesystemslib.signer import SSlibKey

from twinseal.digests import sha256
from twinseal.errors import SignatureError

Key: TypeAlias = Any
"""A public key: securesystemslib's SSlibKey, or our Passkey; always P-256. Any, because mypy skips the library."""


def public_key(pem: str | bytes, where: str) -> Key:
    """The public key in `pem`, in its one form.

    Raises:
        SignatureError: Not the PEM of a P-256 public key exactly as OpenSSL writes it. A second form of one key
            would be a second key to code that compares text.
    """
    try:
        text = pem.decode("ascii") if isinstance(pem, bytes) else pem
        loaded = serialization.load_pem_public_key(text.encode("ascii"))
    except (ValueError, TypeError, AttributeError, UnsupportedAlgorithm) as error:
        raise SignatureError(f"{where}: expected a public key in PEM, got something else") from error
    if not isinstance(loaded, ec.EllipticCurvePublicKey) or loaded.curve.name != "secp256r1":
        raise SignatureError(f"{where}: expected an ECDSA key on P-256, got {kind_name(loaded)}")
    key = SSlibKey.from_crypto(loaded)
    if key.keyval["public"] != text:
        raise SignatureError(
            f"{where}: expected the key in canonical PEM, got another form of {short_fingerprint(key)}…"
        )
    return key


def fingerprint(key: Key) -> str:
    """The SHA-256 of a key's value, whatever identifier it goes by: two keys are one if these are equal.

    Raises:
        SignatureError: It is no P-256 key.
    """
    value = key.keyval.get("public") if isinstance(getattr(key, "keyval", None), dict) else None
    try:
        loaded = serialization.load_pem_public_key(value.encode("ascii"))  # type: ignore[union-attr]
    except (ValueError, TypeError, AttributeError, UnsupportedAlgorithm) as error:
        raise SignatureError("key: expected a public key in PEM, got something else") from error
    if not isinstance(loaded, ec.EllipticCurvePublicKey) or loaded.curve.name != "secp256r1":
        raise SignatureError(f"key: expected an ECDSA key on P-256, got {kind_name(loaded)}")
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return sha256(loaded.public_bytes(serialization.Encoding.DER, form))


def short_fingerprint(key: Key) -> str:
    """The first 16 digits of a key's fingerprint, as messages, logs and `twinseal trust show` print it.

    Raises:
        SignatureError: As `fingerprint`.
    """
    return fingerprint(key)[:16]


def fingerprints(keys: Iterable[Key] | None) -> str:
    """Keys for a message, each by its short fingerprint; "none" when there are none."""
    return ", ".join(f"{short_fingerprint(key)}…" for key in keys or ()) or "none"


def grouped_digits(digest: str) -> str:
    """A digest in groups of four, two lines of eight, so that two people can compare it by telephone.

    >>> grouped_digits("0123456789abcdef" * 4).splitlines()[0]
    '0123 4567 89ab cdef 0123 4567 89ab cdef'
    """
    groups = [digest[at : at + 4] for at in range(0, len(digest), 4)]
    return "\n".join(" ".join(groups[at : at + 8]) for at in range(0, len(groups), 8))


def kind_name(key: object) -> str:
    """What a key is that is none of ours, for a message."""
    curve = getattr(getattr(key, "curve", None), "name", "")
    return f"curve {curve}" if curve else type(key).__name__
