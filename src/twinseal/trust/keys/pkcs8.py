"""Encrypted PKCS #8 (RFC 5958, RFC 8018): a private key under a passphrase, and what a guess at it costs.

We write PBES2 with scrypt (RFC 7914), N=2^14, r=8, p=5 and AES-256-CBC: one of the settings that OWASP's Password
Storage Cheat Sheet gives, and the largest memory (16 MiB) that OpenSSL's command line reads without being told. Not
the library's own `BestAvailableEncryption`: as measured on cryptography 50 that is PBKDF2 with 2,048 rounds, half a
millisecond a guess.

The costs in a key file are read and limited before a key is derived. Otherwise the file could cost any time or memory:
PBKDF2 with 10^9 rounds took minutes, scrypt with N=2^20 a gigabyte, and a count of 2^63 ended in a panic that `except
Exception` does not catch.

    >>> from cryptography.hazmat.primitives.asymmetric import ec
    >>> pem = encrypt_key(ec.generate_private_key(ec.SECP256R1()), b"correct horse")
    >>> read_derivation(pem)
    KeyDerivation(name='scrypt', costs=(16384, 8, 5))
"""

from __future__ import annotations

import base64
import os
import re
from dataclasses import dataclass

from cryptography.hazmat.primitives import padding, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

SCRYPT_COSTS = (1 << 14, 8, 5)  # N, r, p; OWASP Password Storage Cheat Sheet
MIN_PBKDF2_ROUNDS = 600_000  # ibid., HMAC-SHA-256: below it a key opens, and is shown as weak
MAX_PBKDF2_ROUNDS = 10_000_000  # 1.3 s when measured
MAX_SCRYPT_BYTES = 256 << 20  # 128 N r (RFC 7914 section 2)
MAX_SCRYPT_WORK = 1 << 22  # N r p, six times ours

_PBES2 = bytes.fromhex("2a864886f70d01050d")  # RFC 8018 appendix C
_PBKDF2 = bytes.fromhex("2a864886f70d01050c")
_SCRYPT = bytes.fromhex("2b06010401da47040b")  # RFC 7914 section 7
_AES_256_CBC = bytes.fromhex("60864801650304012a")
_INTEGER, _OCTETS, _OID, _SEQUENCE = 0x02, 0x04, 0x06, 0x30

# One key and nothing else: what stands beside a key is seen by no check.
_PEM = re.compile(
    rb"\s*-----BEGIN (ENCRYPTED )?PRIVATE KEY-----\r?\n([A-Za-z0-9+/=\r\n]+)-----END \1?PRIVATE KEY-----\s*"
)


@dataclass(frozen=True)
class KeyDerivation:
    """How a passphrase becomes the key that encrypts a private key.

    Attributes:
        name: scrypt or PBKDF2.
        costs: (N, r, p), or (rounds,).
    """

    name: str
    costs: tuple[int, ...]

    @property
    def is_strong(self) -> bool:
        """Whether a guess costs at least what OWASP asks for."""
        if self.name == "scrypt":
            n, r, p = self.costs
            return n * r * p >= SCRYPT_COSTS[0] * SCRYPT_COSTS[1] * SCRYPT_COSTS[2]
        return self.costs[0] >= MIN_PBKDF2_ROUNDS

    def __str__(self) -> str:
        if self.name == "scrypt":
            return "scrypt N={} r={} p={}".format(*self.costs)
        return f"PBKDF2 {self.costs[0]} rounds"


def encrypt_key(key: ec.EllipticCurvePrivateKey | Ed25519PrivateKey, passphrase: bytes) -> bytes:
    """The PEM of `key` under `passphrase`.

    Law: `load_pem_private_key(encrypted(key, passphrase), passphrase)` is `key`.
    """
    form = serialization.PrivateFormat.PKCS8
    plain = key.private_bytes(serialization.Encoding.DER, form, serialization.NoEncryption())
    salt, vector, (n, r, p) = os.urandom(16), os.urandom(16), SCRYPT_COSTS
    derived = Scrypt(salt=salt, length=32, n=n, r=r, p=p).derive(passphrase)
    padder = padding.PKCS7(128).padder()
    cipher = Cipher(algorithms.AES256(derived), modes.CBC(vector)).encryptor()
    sealed = cipher.update(padder.update(plain) + padder.finalize()) + cipher.finalize()
    costs = _der(_SEQUENCE, _der(_OCTETS, salt), *(_der(_INTEGER, _unsigned_bytes(cost)) for cost in (n, r, p)))
    scrypt = _der(_SEQUENCE, _der(_OID, _SCRYPT), costs)
    aes = _der(_SEQUENCE, _der(_OID, _AES_256_CBC), _der(_OCTETS, vector))
    scheme = _der(_SEQUENCE, _der(_OID, _PBES2), _der(_SEQUENCE, scrypt, aes))
    text = base64.b64encode(_der(_SEQUENCE, scheme, _der(_OCTETS, sealed)))
    lines = b"\n".join(text[at : at + 64] for at in range(0, len(text), 64))
    return b"-----BEGIN ENCRYPTED PRIVATE KEY-----\n" + lines + b"\n-----END ENCRYPTED PRIVATE KEY-----\n"


def read_derivation(pem: bytes) -> KeyDerivation | None:
    """How the one key in `pem` is encrypted; None: it is not.

    Raises:
        ValueError: Not exactly one PKCS #8 private key in PEM; encrypted by anything but PBES2 with PBKDF2 or scrypt
            (older schemes rest on MD5, RC2 or DES); or at a cost that is out of reason.
    """
    found = _PEM.fullmatch(pem)
    if found is None:
        raise ValueError("a PKCS #8 private key in PEM, and nothing beside it")
    if not found[1]:
        return None
    scheme, _ = _read(_read(base64.b64decode(found[2]), _SEQUENCE)[0], _SEQUENCE)
    oid, rest = _read(scheme, _OID)
    if oid != _PBES2:
        raise ValueError("a private key encrypted by PBES2 (RFC 8018)")
    oid, rest = _read(_read(_read(rest, _SEQUENCE)[0], _SEQUENCE)[0], _OID)
    fields, _ = _read(rest, _SEQUENCE)
    _, fields = _read(fields, _OCTETS)  # the salt
    if oid == _PBKDF2:
        return _check_costs(KeyDerivation("PBKDF2", _integers(fields, 1)))
    if oid == _SCRYPT:
        return _check_costs(KeyDerivation("scrypt", _integers(fields, 3)))
    raise ValueError("a passphrase derived by PBKDF2 or scrypt")


def _check_costs(found: KeyDerivation) -> KeyDerivation:
    costs = found.costs
    if min(costs) < 1:
        raise ValueError(f"costs of one or more, not {found}")
    if found.name == "PBKDF2" and costs[0] > MAX_PBKDF2_ROUNDS:
        raise ValueError(f"at most {MAX_PBKDF2_ROUNDS} rounds of PBKDF2")
    if found.name == "scrypt" and (
        128 * costs[0] * costs[1] > MAX_SCRYPT_BYTES or costs[0] * costs[1] * costs[2] > MAX_SCRYPT_WORK
    ):
        raise ValueError(f"scrypt within {MAX_SCRYPT_BYTES >> 20} MiB and N·r·p of {MAX_SCRYPT_WORK}")
    return found


def _integers(data: bytes, count: int) -> tuple[int, ...]:
    values = []
    for _ in range(count):
        content, data = _read(data, _INTEGER)
        values.append(int.from_bytes(content, "big", signed=True))
    return tuple(values)


def _read(data: bytes, tag: int) -> tuple[bytes, bytes]:
    """The content of the first element of `data`, which must have this tag, and what follows it (X.690 section 8.1)."""
    if len(data) < 2 or data[0] != tag:
        raise ValueError("a PKCS #8 private key in DER")
    start, length = 2, data[1]
    if length & 0x80:
        start += length & 0x7F
        length = int.from_bytes(data[2:start], "big")
    if length > len(data) - start:
        raise ValueError("a PKCS #8 private key that is whole")
    return data[start : start + length], data[start + length :]


def _der(tag: int, *parts: bytes) -> bytes:
    content = b"".join(parts)
    if len(content) < 0x80:
        return bytes([tag, len(content)]) + content
    length = len(content).to_bytes((len(content).bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(length)]) + length + content


def _unsigned_bytes(value: int) -> bytes:
    return value.to_bytes(value.bit_length() // 8 + 1, "big")  # a leading zero bit: DER's integers are signed
