"""The log's key and its checkpoints: a tree's size and root, signed with Ed25519 (C2SP signed-note, tlog-checkpoint).

The log's origin is made from its key, so two logs never share one: `twinseal.dev/log/<16 digits of the key's SHA-256>`.
The package that reads these is lenient (`int(" 1_0")`, any base64): a text counts only if writing it gives it back.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TypeAlias

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tlog_scales.signing import PlainEd25519Signer, Vkey
from tlog_scales.tlog import Checkpoint

from twinseal.digests import sha256
from twinseal.errors import AuditError
from twinseal.trust.audit import disk

Signer: TypeAlias = PlainEd25519Signer
"""The log's private key, under the log's name."""

KEY, VKEY = "key", "vkey"
MAX_NOTE_BYTES = 4096
_ED25519 = 1  # C2SP signed-note, "Signature types"
_ORIGIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,99}\Z")
_SWAPPED = "Somebody changed the log's key. Compare with the verifier key that you keep elsewhere; find out who."

__all__ = [
    "Checkpoint",
    "Signer",
    "Vkey",
    "check_signature",
    "make_key",
    "open_key",
    "parse",
    "parse_vkey",
    "read_vkey",
    "sign",
    "vkey_text",
]


def make_key(folder: Path) -> Signer:
    """Make the log's key: `key` (0600, private) and `vkey` (what verifiers need), never over an older one.

    Raises:
        OSError: It cannot be written, or there is one.
    """
    private = Ed25519PrivateKey.generate()
    form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    disk.create_file(folder / KEY, private.private_bytes(*form))
    return open_key(folder)


def open_key(folder: Path) -> Signer:
    """The log's key. Its verifier key is written beside it if that is missing.

    Raises:
        AuditError: There is none, it is no Ed25519 key, others can read it, or `vkey` is of another key.
        OSError: `vkey` cannot be written.
    """
    pem = disk.read(folder / KEY, MAX_NOTE_BYTES, private=True)
    if pem is None:
        raise AuditError(
            f"{folder / KEY}: expected the audit log's key, got none",
            remedy="Restore it from the backup. Without it nothing can be decided here: nothing could be logged.",
        )
    try:
        private = serialization.load_pem_private_key(pem, None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise AuditError(f"{folder / KEY}: expected an Ed25519 key in PEM, got something else") from error
    if not isinstance(private, Ed25519PrivateKey):
        raise AuditError(f"{folder / KEY}: expected an Ed25519 key, got {type(private).__name__}")
    signer = Signer(f"twinseal.dev/log/{sha256(private.public_key().public_bytes_raw())[:16]}", private)
    stored = read_vkey(folder)
    if stored is None:
        disk.replace_file(folder / VKEY, (vkey_text(signer.vkey) + "\n").encode())
    elif vkey_text(stored) != vkey_text(signer.vkey):
        text = f"expected the key of {vkey_text(stored)}, got that of {vkey_text(signer.vkey)}"
        raise AuditError(f"{folder / KEY}: {text}", remedy=_SWAPPED)
    return signer


def read_vkey(folder: Path) -> Vkey | None:
    """The verifier key beside the log; None when there is none.

    Raises:
        AuditError: It is malformed.
    """
    data = disk.read(folder / VKEY, MAX_NOTE_BYTES)
    return None if data is None else parse_vkey(data.decode("utf-8", "replace").removesuffix("\n"), str(folder / VKEY))


def parse_vkey(text: str, where: str = "verifier key") -> Vkey:
    """The verifier key that is written `<name>+<key id>+<base64>`.

    Raises:
        AuditError: It is not in that form, is not Ed25519, or its id is not that of its key.
    """
    try:
        vkey = Vkey.from_string(text)
        whole = vkey.sig_type == _ED25519 and len(vkey.pubkey) == 32 and _ORIGIN.match(vkey.name) is not None
        if whole and vkey_text(Vkey(vkey.name, None, vkey.sig_type, vkey.pubkey)) == text:  # the id recomputed
            return vkey
    except (ValueError, IndexError):
        pass
    raise AuditError(f"{where}: expected an Ed25519 verifier key, name+id+base64, got {text[:80]!r}")


def vkey_text(vkey: Vkey) -> str:
    """A verifier key as it is written."""
    return str(vkey.serialize())  # type: ignore[no-untyped-call]  # the package forgot to say that it is text


def sign(signer: Signer, size: int, root: bytes) -> str:
    """A signed checkpoint. The same key, size and root give the same text (Ed25519 is deterministic)."""
    return Checkpoint.make_signed(signer.vkey.name, size, root, [signer]).serialize()


def parse(data: bytes, where: str) -> Checkpoint:
    """The checkpoint that `data` is, unverified.

    Raises:
        AuditError: It is no checkpoint, or not canonical. Extension lines are refused: they cannot be audited.
    """
    try:
        text = data.decode("utf-8")
        checkpoint = Checkpoint.from_text(text)
        whole = _ORIGIN.match(checkpoint.origin) and 0 <= checkpoint.size < 2**63 and len(checkpoint.root_hash) == 32
        if whole and checkpoint.serialize() == text:
            return checkpoint
    except (ValueError, IndexError, OverflowError):  # a UnicodeDecodeError and binascii's are ValueErrors
        pass
    raise AuditError(f"{where}: expected a checkpoint (origin, size, root, signature), got {data[:60]!r}")


def check_signature(checkpoint: Checkpoint, vkey: Vkey, where: str) -> None:
    """Refuse a checkpoint that the log's key has not signed.

    Raises:
        AuditError: It is another log's, is not signed by `vkey`, or the signature is bad.
    """
    if checkpoint.origin != vkey.name:
        raise AuditError(
            f"{where}: expected a checkpoint of {vkey.name}, got one of {checkpoint.origin}", remedy=_SWAPPED
        )
    try:
        checkpoint.verify(vkey)
    except (InvalidSignature, RuntimeError, ValueError) as error:  # RuntimeError: no line is by this key
        raise AuditError(
            f"{where}: expected the signature of {vkey_text(vkey)}, got another", remedy=_SWAPPED
        ) from error
