"""TUF metadata as bytes from outside: parsed strictly, signatures counted by the value of keys, every error ours.

python-tuf decides what its metadata means. This module decides which bytes python-tuf is given, and counts signatures
against pinned keys, not delegated ones.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeVar

from securesystemslib.exceptions import UnverifiedSignatureError
from securesystemslib.signer import Signature
from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import (  # type: ignore[attr-defined]  # tuf re-exports these without saying so
    Metadata,
    Root,
    Snapshot,
    Targets,
    Timestamp,
)
from tuf.api.serialization import DeserializationError, SerializationError

from twinseal.digests import parse_json
from twinseal.errors import EvidenceError, RootError, SignatureError
from twinseal.trust.keys.key import Key, fingerprint

MAX_METADATA_BYTES = 512_000  # python-tuf's own limit for a root

T = TypeVar("T", Root, Targets, Snapshot, Timestamp)


def parse(kind: type[T], data: bytes, where: str) -> Metadata[T]:
    """The metadata of one kind that `data` stands for, signatures unchecked.

    Raises:
        SignatureError: Not TUF metadata of that kind.
    """
    try:
        parse_json(data, where, limit=MAX_METADATA_BYTES)  # tuf would take a key given twice, and NaN
        metadata: Metadata[T] = Metadata.from_bytes(data)
    except EvidenceError as error:
        raise SignatureError(str(error)) from error
    except DeserializationError as error:
        raise SignatureError(f"{where}: expected TUF metadata, got something else ({error.__cause__})") from error
    if metadata.signed.type != kind.type:
        raise SignatureError(f"{where}: expected TUF metadata of type {kind.type}, got {metadata.signed.type}")
    return metadata


def signed_bytes(metadata: Metadata[Any], where: str) -> bytes:
    """The bytes that signatures are over: the canonical form of the signed part.

    Raises:
        SignatureError: It has no canonical form.
    """
    try:
        return metadata.signed_bytes
    except SerializationError as error:
        raise SignatureError(f"{where}: expected TUF metadata with a canonical form, got a value without") from error


def is_signed_by(key: Key, signature: Any, payload: bytes) -> bool:
    """Whether `signature` is by `key` over `payload`. Malformed is False."""
    try:
        key.verify_signature(signature, payload)
    except UnverifiedSignatureError:  # covers VerificationError, into which the library folds all else
        return False
    return True


def keys_that_signed(keys: Iterable[Key], signatures: dict[str, Any], payload: bytes) -> tuple[Key, ...]:
    """Those of `keys` that made one of `signatures` over `payload`, each value once, in the order of `keys`."""
    found: dict[str, Key] = {}
    for key in keys:
        signature = signatures.get(key.keyid)
        if signature is not None and is_signed_by(key, signature, payload):
            found.setdefault(fingerprint(key), key)
    return tuple(found.values())


def parse_signature(value: Any, where: str) -> Any:
    """The signature that a JSON object of exactly keyid and sig stands for.

    Raises:
        SignatureError: It is not such an object.
    """
    fields = value if isinstance(value, dict) else {}
    if set(fields) != {"keyid", "sig"} or not all(isinstance(item, str) for item in fields.values()):
        raise SignatureError(f"{where}: expected a signature of keyid and sig, got {str(value)[:80]}")
    return Signature(fields["keyid"], fields["sig"])


def check_root(data: bytes, where: str = "root.json") -> Root:
    """The root that signs itself by its own threshold, with no key counted twice.

    Expiry is not checked here: an anchor installed long ago may lead to a newer root.

    Raises:
        RootError: It is not such a root.
    """
    try:
        metadata = parse(Root, data, where)
        root = metadata.signed
        root.verify_delegate(Root.type, signed_bytes(metadata, where), metadata.signatures)
        _refuse_shared_keys(root, where)
    except (SignatureError, RepositoryError, ValueError) as error:
        raise RootError(f"{where}: expected a root of trust that signs itself, got something else ({error})") from error
    if not root.consistent_snapshot:
        raise RootError(f"{where}: expected consistent snapshots, got a root without")
    return root


def _refuse_shared_keys(root: Root, where: str) -> None:
    """One key under two identifiers would meet a threshold of two alone; TUF compares identifiers only."""
    for name, role in root.roles.items():
        values = [fingerprint(root.get_key(keyid)) for keyid in role.keyids]
        if len(set(values)) != len(values):
            raise SignatureError(f"{where}: expected distinct keys for {name}, got one key under two identifiers")
