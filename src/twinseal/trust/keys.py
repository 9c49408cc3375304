"""Keys: made, opened by URI, compared by value. ECDSA on P-256 (FIPS 186-5), the curve that OMS, TUF and DSSE all take.

A private key is named by a URI, never read at import, never in Git. One scheme is known so far:

    file:<path>   PKCS #8 in PEM, readable by its owner alone; encrypted or not

The passphrase of an encrypted key comes from the caller, else from $TWINSEAL_<HOLDER>_PASSPHRASE, else from
$TWINSEAL_PASSPHRASE, where the holder is the file's stem. Signatures are deterministic (RFC 6979): the same bytes and
key give the same signature, so a stage that signs is reproducible, and no bad random number can leak the key.

Key identifiers are computed from the key (securesystemslib's default), never taken from outside: one key has one.
"""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
from pathlib import Path
from typing import Any, TypeAlias

import structlog
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from securesystemslib.signer import Signature, Signer, SSlibKey

from twinseal.digests import sha256
from twinseal.errors import KeyAccessError, SignatureError
from twinseal.files import write_whole

log = structlog.get_logger(__name__)

Key: TypeAlias = Any
"""A public key: securesystemslib's SSlibKey, always ECDSA P-256 here. Any, because mypy skips the library."""

SCHEMES = ("file",)
MAX_PEM_BYTES = 64 << 10
_ENCRYPTED = b"-----BEGIN ENCRYPTED PRIVATE KEY-----"


class KeySigner(Signer):  # type: ignore[misc]  # the library is skipped by mypy
    """Signs with a P-256 key held in memory. Its repr says which key, never the key.

    Args:
        private_key: The key; P-256.

    Raises:
        KeyAccessError: It is on another curve, or of another kind.
    """

    def __init__(self, private_key: object) -> None:
        if not isinstance(private_key, ec.EllipticCurvePrivateKey) or private_key.curve.name != "secp256r1":
            raise KeyAccessError(f"private key: expected ECDSA on P-256, got {_kind(private_key)}")
        self._private_key = private_key
        self._public_key = SSlibKey.from_crypto(private_key.public_key())

    def __repr__(self) -> str:
        return f"KeySigner({self._public_key.keyid[:12]}…)"

    @property
    def public_key(self) -> Key:
        """The public half."""
        return self._public_key

    def sign(self, payload: bytes) -> Signature:
        """The signature over `payload`: ECDSA, SHA-256, nonce by RFC 6979."""
        return Signature(self._public_key.keyid, self.sign_raw(payload).hex())

    def sign_raw(self, payload: bytes) -> bytes:
        """The same signature as bare DER, for formats that are not TUF's.

        Raises:
            KeyAccessError: This build of OpenSSL knows no deterministic ECDSA.
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
            raise KeyAccessError(f"{priv_key_uri}: expected key {public_key.keyid[:12]}…, got {signer!r}")
        return signer


def generate(path: Path, *, passphrase: bytes | None) -> Key:
    """Make a key pair: the private key at `path`, the public one beside it with the suffix .pub.

    Side effects: makes the folder (0700) if missing; never overwrites a key, and leaves no half of one.

    Args:
        path: Where the private key goes, mode 0600.
        passphrase: Encrypts it; None leaves it in the clear (demo and tests).

    Returns:
        The public key.

    Raises:
        KeyAccessError: Something is at `path` already, or it cannot be written.
    """
    private_key = ec.generate_private_key(ec.SECP256R1())
    encryption = serialization.BestAvailableEncryption(passphrase) if passphrase else serialization.NoEncryption()
    pem = private_key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _write_new(path, pem)
        signer = KeySigner(private_key)
        write_whole(path.with_suffix(".pub"), signer.public_key.keyval["public"].encode())
    except FileExistsError as error:
        raise KeyAccessError(
            f"{path}: expected no key there yet, found one", remedy="Keys are never overwritten: move the old one away."
        ) from error
    except OSError as error:
        raise KeyAccessError(f"{path}: cannot write a key there ({error.strerror})") from error
    log.info("key.generated", path=str(path), keyid=signer.public_key.keyid[:12], encrypted=passphrase is not None)
    return signer.public_key


def open_signer(uri: str, *, passphrase: bytes | None = None) -> KeySigner:
    """The signer that `uri` names.

    Args:
        uri: `file:<path>`.
        passphrase: For an encrypted key; None looks into the environment (see above).

    Raises:
        KeyAccessError: Unknown scheme; no such file; readable by group or others; no private key in it; not P-256; the
            passphrase is missing or wrong.
    """
    scheme, colon, rest = uri.partition(":")
    if not colon or scheme not in SCHEMES or not rest:
        raise KeyAccessError(
            f"key URI: expected one of {', '.join(s + ':' for s in SCHEMES)}, got {uri[:60]!r}",
            remedy="Name the key as file:<path of its PEM file>.",
        )
    path = Path(rest)
    pem = _read_private(path)
    if _ENCRYPTED in pem:
        passphrase = passphrase if passphrase is not None else _passphrase_from_environment(path)
    else:
        passphrase = None
    try:
        return KeySigner(serialization.load_pem_private_key(pem, passphrase))
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        what = "the right passphrase" if passphrase else "a PKCS #8 private key in PEM"
        raise KeyAccessError(f"{path}: expected {what}, got something else") from error


def needs_passphrase(uri: str) -> bool:
    """Whether to ask a person: the key that `uri` names is encrypted, and the environment has no passphrase for it.

    Raises:
        KeyAccessError: As `open_signer`, as far as it goes without opening the key.
    """
    scheme, _, rest = uri.partition(":")
    if scheme not in SCHEMES:
        return False
    path = Path(rest)
    return _ENCRYPTED in _read_private(path) and not any(name in os.environ for name in _passphrase_names(path))


def public_key(pem: str | bytes, where: str) -> Key:
    """The public key in `pem`, in its one form.

    Raises:
        SignatureError: Not the PEM of a P-256 public key exactly as OpenSSL writes it. A second spelling of one key
            would be a second key to whoever compares text.
    """
    try:
        text = pem.decode("ascii") if isinstance(pem, bytes) else pem
        loaded = serialization.load_pem_public_key(text.encode("ascii"))
    except (ValueError, TypeError, AttributeError, UnsupportedAlgorithm) as error:
        raise SignatureError(f"{where}: expected a public key in PEM, got something else") from error
    if not isinstance(loaded, ec.EllipticCurvePublicKey) or loaded.curve.name != "secp256r1":
        raise SignatureError(f"{where}: expected an ECDSA key on P-256, got {_kind(loaded)}")
    key = SSlibKey.from_crypto(loaded)
    if key.keyval["public"] != text:
        raise SignatureError(f"{where}: expected the key in canonical PEM, got another spelling of {key.keyid[:12]}…")
    return key


def read_public_key(path: Path) -> Key:
    """The public key in the file at `path`.

    Raises:
        KeyAccessError: No such file.
        SignatureError: As `public_key`.
    """
    try:
        with path.open("rb") as stream:
            data = stream.read(MAX_PEM_BYTES + 1)
    except OSError as error:
        raise KeyAccessError(f"{path}: expected a public key, got none ({error.strerror})") from error
    return public_key(data, str(path))


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
        raise SignatureError(f"key: expected an ECDSA key on P-256, got {_kind(loaded)}")
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return sha256(loaded.public_bytes(serialization.Encoding.DER, form))


def _write_new(path: Path, data: bytes) -> None:
    """Write a new file, whole and 0600, or raise FileExistsError: a rename overwrites, a link does not."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # 0600 by mkstemp's contract
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        os.link(name, path)
    finally:
        Path(name).unlink(missing_ok=True)


def _read_private(path: Path) -> bytes:
    try:
        # Checked on the open file, not on its name: what is checked is what is read. NONBLOCK: a fifo must not hang us.
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as stream:
            mode = os.fstat(stream.fileno()).st_mode
            _check_mode(path, mode)
            return stream.read(MAX_PEM_BYTES)
    except OSError as error:
        raise KeyAccessError(
            f"{path}: expected a private key, got none ({error.strerror})",
            remedy=f"Put the key there, or name it in $TWINSEAL_{variable(path.stem)}_KEY.",
        ) from error


def _check_mode(path: Path, mode: int) -> None:
    if not stat.S_ISREG(mode):
        raise KeyAccessError(f"{path}: expected a regular file, got something else")
    if mode & 0o077:
        raise KeyAccessError(
            f"{path}: expected a key that its owner alone can read, got mode {stat.S_IMODE(mode):04o}",
            remedy=f"chmod 600 {path}   (and ask who else has read it)",
        )


def variable(holder: str) -> str:
    """A holder's name as part of an environment variable's."""
    return "".join(letter if letter.isalnum() else "_" for letter in holder).upper()


def _passphrase_names(path: Path) -> tuple[str, str]:
    return f"TWINSEAL_{variable(path.stem)}_PASSPHRASE", "TWINSEAL_PASSPHRASE"


def _passphrase_from_environment(path: Path) -> bytes:
    names = _passphrase_names(path)
    for name in names:
        with contextlib.suppress(KeyError):
            return os.environ[name].encode()
    raise KeyAccessError(f"{path}: expected a passphrase for the encrypted key, got none", remedy=f"Set ${names[0]}.")


def _kind(key: object) -> str:
    curve = getattr(getattr(key, "curve", None), "name", "")
    return f"curve {curve}" if curve else type(key).__name__
