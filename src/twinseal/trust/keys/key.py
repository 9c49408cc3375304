"""Keys: generated, opened by URI, compared by value. ECDSA on P-256 (FIPS 186-5), which OMS, TUF and DSSE all accept.

A private key is named by a URI, never read at import, never in Git:

    file:<path>   PKCS #8 in PEM, readable by its owner alone; encrypted or not     (key_files)
    pkcs11:…      in a token, by RFC 7512; it never leaves it                       (tokens, token_uris)

`passphrases` says where a passphrase or PIN comes from when no person is asked. It is looked up by the holder's name,
which the caller gives; else by the file's stem, or the label of the key in its token.

Signatures by a key in a file are deterministic (RFC 6979): the same bytes and key give the same signature, so a stage
that signs is reproducible, and no bad random number can leak the key. Signatures by a token are not: it chooses its own
nonce, so a stage that signs with a token writes other bytes each time it runs.

Key identifiers are computed from the key (securesystemslib's default), never taken from outside: one key has one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import structlog
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from securesystemslib.signer import Signature, Signer, SSlibKey

from twinseal.errors import KeyAccessError, suggest
from twinseal.files import write_whole
from twinseal.reading import read_regular
from twinseal.trust.keys import key_files, passkeys, passphrases, tokens
from twinseal.trust.keys.key_files import MAX_PEM_BYTES
from twinseal.trust.keys.passkeys import Passkey, public_file
from twinseal.trust.keys.passphrases import environment_name
from twinseal.trust.keys.public_keys import (
    Key,
    fingerprint,
    fingerprints,
    grouped_digits,
    kind_name,
    public_key,
    short_fingerprint,
)
from twinseal.trust.keys.token_uris import TokenUri

log = structlog.get_logger(__name__)

SCHEMES = ("file", "pkcs11")
_HOLDERS = "Its holder makes it, and gives you the .pub file: twinseal keys new HOLDER"

__all__ = [
    "SCHEMES",
    "Key",
    "KeySigner",
    "ListSigner",
    "NamedSigner",
    "Passkey",
    "PrivateKey",
    "environment_name",
    "fingerprint",
    "fingerprints",
    "generate_in_token",
    "generate_key_pair",
    "grouped_digits",
    "kind_of",
    "needs_passphrase",
    "open_signer",
    "public_file",
    "public_key",
    "public_key_in_token",
    "read_public_key",
    "short_fingerprint",
]


class PrivateKey(Protocol):
    """What a signer needs of a private key. cryptography's own keys have it, and `tokens.TokenKey`."""

    def public_key(self) -> ec.EllipticCurvePublicKey:
        """The public half."""
        ...

    def sign(self, data: bytes, signature_algorithm: ec.ECDSA) -> bytes:
        """The signature over `data`, in DER."""
        ...


class ListSigner(Protocol):
    """What can sign a list of texts: a key signs each, a passkey all by one touch."""

    @property
    def public_key(self) -> Key:
        """The public half."""
        ...

    def sign_all(self, payloads: Sequence[bytes], /) -> list[Any]:
        """A securesystemslib Signature over each of `payloads`, in their order."""
        ...


class KeySigner(Signer):  # type: ignore[misc]  # the library is skipped by mypy
    """Signs with a P-256 key, held in memory or in a token. Its repr says which key, never the key.

    Args:
        private_key: The key; P-256.

    Raises:
        KeyAccessError: It is on another curve, or of another kind.
    """

    def __init__(self, private_key: PrivateKey) -> None:
        public = private_key.public_key()
        if not isinstance(public, ec.EllipticCurvePublicKey) or public.curve.name != "secp256r1":
            raise KeyAccessError(f"private key: expected ECDSA on P-256, got {kind_name(private_key)}")
        self._private_key = private_key
        self._public_key = SSlibKey.from_crypto(public)

    def __repr__(self) -> str:
        return f"KeySigner({short_fingerprint(self._public_key)}…)"

    @property
    def public_key(self) -> Key:
        """The public half."""
        return self._public_key

    def sign(self, payload: bytes) -> Signature:
        """The signature over `payload`: ECDSA, SHA-256; nonce by RFC 6979, unless the key is in a token.

        Raises:
            KeyAccessError: As `sign_raw`.
        """
        return Signature(self._public_key.keyid, self.sign_raw(payload).hex())

    def sign_all(self, payloads: Sequence[bytes]) -> list[Signature]:
        """A signature over each of `payloads`.

        Raises:
            KeyAccessError: As `sign_raw`.
        """
        return [self.sign(payload) for payload in payloads]

    def sign_raw(self, payload: bytes) -> bytes:
        """The same signature as bare DER, for formats that are not TUF's.

        Raises:
            KeyAccessError: This build of OpenSSL knows no deterministic ECDSA; or the token refuses.
        """
        try:
            return self._private_key.sign(payload, ec.ECDSA(hashes.SHA256(), deterministic_signing=True))
        except UnsupportedAlgorithm as error:
            raise KeyAccessError(f"signing: expected OpenSSL with deterministic ECDSA, got none ({error})") from error

    @classmethod
    def from_priv_key_uri(cls, priv_key_uri: str, public_key: Key, secrets_handler: Any = None) -> KeySigner:
        """Give securesystemslib its own way to open a key; `open_signer` is ours.

        Raises:
            KeyAccessError: As `open_signer`, or the key is not the private half of `public_key`.
        """
        passphrase = secrets_handler("passphrase").encode() if secrets_handler else None
        signer = open_signer(priv_key_uri, passphrase=passphrase)
        if signer.public_key.keyid != public_key.keyid:
            where = priv_key_uri.partition("?")[0]
            expected, got = short_fingerprint(public_key), short_fingerprint(signer.public_key)
            raise KeyAccessError(f"{where}: expected the key {expected}…, got {got}…")
        return signer


@dataclass(frozen=True)
class NamedSigner:
    """Who signs: a holder of a role, and the signer with that holder's key.

    Attributes:
        holder: The name, as in policy/roles.yaml.
        signer: Signs with the key. Whether it is the holder's, each verb compares with the root.
    """

    holder: str
    signer: ListSigner


def generate_key_pair(path: Path, *, passphrase: bytes | None) -> Key:
    """Make a key pair: the private key at `path`, the public one beside it with the suffix .pub.

    Side effects: makes the folder (0700) if missing; never overwrites a key, and leaves no half of one.

    Args:
        path: Where the private key goes, mode 0600.
        passphrase: Encrypts it; None leaves it in the clear (demo and tests).

    Returns:
        The public key.

    Raises:
        KeyAccessError: Something is at `path` already, others may write beside it, it cannot be written, or it is
            called .pub, where the public key goes.
    """
    if path.suffix == ".pub":
        raise KeyAccessError(
            f"{path}: expected another name for a private key, got that of its public half",
            remedy=f"Name it {path.with_suffix('.pem')}: its public half goes to {path}",
        )
    private_key = ec.generate_private_key(ec.SECP256R1())
    key = KeySigner(private_key).public_key
    key_files.write_new(path, private_key, passphrase)
    _write_public(path.with_suffix(".pub"), key)
    log.info("key.generated", path=str(path), key=short_fingerprint(key), encrypted=passphrase is not None)
    return key


def generate_in_token(uri: str, public: Path, *, passphrase: bytes | None = None, holder: str | None = None) -> Key:
    """Make a key pair in a token, and write its public half to a file for the others.

    Args:
        uri: `pkcs11:…` with `object=LABEL`; without it the label is `holder`.
        public: Where the public key goes, as PEM.
        passphrase: The token's PIN; None looks where `passphrases` says.
        holder: The holder of the new key.

    Raises:
        KeyAccessError: As `tokens.generate_key`; or there is a public key at `public` already.
    """
    place = TokenUri.parse(uri)
    place = place.with_label(holder) if holder and place.object is None else place
    if public.exists():
        raise KeyAccessError(
            f"{public}: expected no public key there yet, found one",
            remedy="Keys are never overwritten: move the old one away.",
        )
    public_half = tokens.generate_key(place, _read_pin(place, passphrase, holder))
    key = SSlibKey.from_crypto(public_half)
    _write_public(public, key)
    log.info("key.generated", uri=str(place), key=short_fingerprint(key))
    return key


def open_signer(uri: str, *, passphrase: bytes | None = None, holder: str | None = None) -> KeySigner:
    """The signer that `uri` names.

    Args:
        uri: `file:<path>` or `pkcs11:…`.
        passphrase: For an encrypted key, or a token's PIN; None looks where `passphrases` says.
        holder: The holder of the key; the passphrase is looked up by this name.

    Raises:
        KeyAccessError: Unknown scheme; no such file or token; open to group or others; no private key in it, or more
            than one; not P-256; the passphrase is missing or wrong.
    """
    scheme, rest = _split_uri(uri)
    if scheme == "pkcs11":
        place = TokenUri.parse(uri)
        return KeySigner(tokens.open_key(place, _read_pin(place, passphrase, holder)))
    path, name = Path(rest), holder or Path(rest).stem
    loaded: Any = key_files.load(path, lambda: passphrase or passphrases.require_passphrase(name, str(path)))
    if not hasattr(loaded, "public_key"):  # Diffie-Hellman parameters and their like
        raise KeyAccessError(
            f"{path}: expected ECDSA on P-256, got {kind_name(loaded)}",
            remedy="Make a key of that kind: twinseal keys new HOLDER",
        )
    return KeySigner(loaded)


def needs_passphrase(uri: str, *, holder: str | None = None) -> bool:
    """Whether to ask a person: the key that `uri` names needs a passphrase or PIN, and no other source has it.

    Raises:
        KeyAccessError: As `open_signer`, as far as it goes without opening the key.
    """
    scheme, rest = _split_uri(uri)
    if scheme == "pkcs11":
        place = TokenUri.parse(uri)
        return place.pin_source is None and not passphrases.is_available(holder or place.holder)
    path = Path(rest)
    locked = key_files.protection(path, key_files.read(path)) is not None
    return locked and not passphrases.is_available(holder or path.stem)


def public_key_in_token(uri: str) -> Key:
    """The public half of a key in a token, read without its PIN: for those who carry it to others.

    Raises:
        KeyAccessError: As `tokens.read_public`.
    """
    return SSlibKey.from_crypto(tokens.read_public(TokenUri.parse(uri)))


def read_public_key(path: Path) -> Key:
    """The public key in the file at `path`: PEM, or the JSON of a passkey.

    Raises:
        KeyAccessError: No such file.
        SignatureError: As `public_key`, or as `passkeys.from_file`.
    """
    try:
        data = read_regular(path, MAX_PEM_BYTES)
    except OSError as error:
        raise KeyAccessError(f"{path}: expected a public key, got none ({error.strerror})", remedy=_HOLDERS) from error
    with suggest(_HOLDERS):
        is_passkey = data.lstrip()[:1] == b"{"
        return passkeys.from_file(data, str(path)) if is_passkey else public_key(data, str(path))


def kind_of(key: Key) -> str:
    """What `key` is, for people, where it is no plain key: "passkey of https://…"; else "".

    >>> kind_of(KeySigner(ec.generate_private_key(ec.SECP256R1())).public_key)
    ''
    """
    return f"passkey of {key.origin}" if isinstance(key, Passkey) else ""


def _split_uri(uri: str) -> tuple[str, str]:
    scheme, colon, rest = uri.partition(":")
    scheme = scheme.lower()  # RFC 3986 section 3.1
    if not colon or scheme not in SCHEMES or not rest:
        raise KeyAccessError(
            # Never all of it: what follows a question mark may be a PIN.
            f"key URI: expected one of {', '.join(s + ':' for s in SCHEMES)}, got {uri.partition('?')[0][:60]!r}",
            remedy="Name the key as file:<path of its PEM file>, or pkcs11:token=LABEL;object=LABEL",
        )
    return scheme, rest


def _read_pin(place: TokenUri, pin: bytes | None, holder: str | None) -> bytes:
    if pin:
        return pin
    if place.pin_source is not None:
        line, _, _ = key_files.read(place.pin_source, "file with a PIN").partition(b"\n")
        if not line:  # an empty one would cost a try
            raise KeyAccessError(f"{place.pin_source}: expected a PIN in its first line, got none")
        return line
    return passphrases.require_passphrase(holder or place.holder, str(place), "PIN for the token")


def _write_public(path: Path, key: Key) -> None:
    try:
        write_whole(path, public_file(key))
    except OSError as error:
        raise KeyAccessError(f"{path}: cannot write the public key there ({error.strerror})") from error
