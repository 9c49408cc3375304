"""Device keys: what a sensor's gateway signs its frames with. Ed25519 (RFC 8032, FIPS 186-5), in a file of the gateway.

People and the machines of the pipeline have keys on P-256 (`key`). A device signs many times a second, by itself, and
has no role in the root: commissioners enroll its key. An Ed25519 signature needs no random number, so that a gateway
that has just started cannot sign with a bad one.

A device key is named by its fingerprint: the SHA-256 of its SubjectPublicKeyInfo, as
`openssl pkey -pubin -outform DER | sha256sum` prints it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from twinseal.digests import sha256
from twinseal.errors import KeyAccessError, SignatureError
from twinseal.files import write_whole
from twinseal.reading import read_regular
from twinseal.trust.keys import key_files, passphrases
from twinseal.trust.keys.key_files import MAX_PEM_BYTES
from twinseal.trust.keys.public_keys import kind_name

_MAKE_ONE = "Make one where the gateway is: twinseal device key NAME --out NAME.pem"
_FORM = serialization.PublicFormat.SubjectPublicKeyInfo


@dataclass(frozen=True)
class DeviceKey:
    """The public half of a device's key.

    Law: `DeviceKey.from_pem(key.pem, "") == key`.

    Attributes:
        pem: As OpenSSL writes it: one key has one text.

    Raises:
        SignatureError: It is not the PEM of an Ed25519 public key, in that form.
    """

    pem: str
    _public: Ed25519PublicKey = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        try:
            loaded = serialization.load_pem_public_key(self.pem.encode("ascii"))
        except (ValueError, TypeError, AttributeError, UnsupportedAlgorithm) as error:
            raise SignatureError("device key: expected a public key in PEM, got something else") from error
        if not isinstance(loaded, Ed25519PublicKey):
            raise SignatureError(
                f"device key: expected a public key by Ed25519, got {kind_name(loaded)}", remedy=_MAKE_ONE
            )
        if loaded.public_bytes(serialization.Encoding.PEM, _FORM).decode() != self.pem:
            raise SignatureError("device key: expected canonical PEM, got another form of a key")
        object.__setattr__(self, "_public", loaded)

    @classmethod
    def read(cls, path: Path) -> DeviceKey:
        """The key in the file at `path`.

        Raises:
            KeyAccessError: There is no such file.
            SignatureError: As the class.
        """
        try:
            return cls(read_regular(path, MAX_PEM_BYTES, follow=True).decode("ascii", "replace"))
        except OSError as error:
            raise KeyAccessError(
                f"{path}: expected a device's public key, got none ({error.strerror})", remedy=_MAKE_ONE
            ) from error

    @cached_property
    def fingerprint(self) -> str:
        """Its name: 64 hexadecimal digits."""
        return sha256(self._public.public_bytes(serialization.Encoding.DER, _FORM))

    def verify(self, signature: bytes, data: bytes) -> None:
        """Refuse a signature that is not by this key over `data`.

        Raises:
            SignatureError: It is not.
        """
        try:
            self._public.verify(signature, data)
        except InvalidSignature as error:
            raise SignatureError(
                f"device key {self.fingerprint[:16]}…: expected its signature over these bytes, got another"
            ) from error


class DeviceSigner:
    """Signs with a device's key. Its repr says which key, never the key."""

    def __init__(self, private: Ed25519PrivateKey) -> None:
        self._private = private
        pem = private.public_key().public_bytes(serialization.Encoding.PEM, _FORM)
        self.key = DeviceKey(pem.decode())

    def __repr__(self) -> str:
        return f"DeviceSigner({self.key.fingerprint[:16]}…)"

    def sign(self, data: bytes) -> bytes:
        """The 64 bytes of the signature over `data`."""
        return self._private.sign(data)


def generate(path: Path, *, passphrase: bytes | None) -> DeviceKey:
    """Make a device's key: the private half at `path`, the public half beside it with the suffix .pub.

    Side effects: makes the folder (0700) if missing; never overwrites a key.

    Raises:
        KeyAccessError: Something is at `path` already, others may write beside it, or it cannot be written.
    """
    if path.suffix == ".pub":
        raise KeyAccessError(
            f"{path}: expected another name for a private key, got that of its public half",
            remedy=f"Name it {path.with_suffix('.pem')}: its public half goes to {path}",
        )
    private = Ed25519PrivateKey.generate()
    key_files.write_new(path, private, passphrase)
    key = DeviceSigner(private).key
    write_whole(path.with_suffix(".pub"), key.pem.encode())
    return key


def open_device_key(path: Path) -> DeviceSigner:
    """The signer with the private key in the file at `path`; its passphrase is where `passphrases` looks.

    Raises:
        KeyAccessError: As `key_files.load`; or it is a key of another kind.
    """
    loaded = key_files.load(path, lambda: passphrases.require_passphrase(path.stem, str(path)))
    if not isinstance(loaded, Ed25519PrivateKey):
        raise KeyAccessError(f"{path}: expected a key by Ed25519, got {kind_name(loaded)}", remedy=_MAKE_ONE)
    return DeviceSigner(loaded)
