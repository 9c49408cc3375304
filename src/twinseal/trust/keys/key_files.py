"""Private keys in files: the `file:` scheme. PKCS #8 in PEM, readable by its owner only, encrypted or not.

A file is refused, before a passphrase is asked for, when

- group or others may read or write it, or it belongs to neither this user nor root
- group or others may put another file in its place: its folder, and the folder of each link on the way to it, is
  writable for them without the sticky bit. Folders above those are not checked: the home folder of many users belongs
  to a group of one member
- it is no regular file, is too long, has anything beside one key, or its key derivation costs too much

Folder and file are opened once and checked through their descriptors, so what is checked is what is read.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path

from cryptography.exceptions import InternalError, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from twinseal import files
from twinseal.errors import KeyAccessError
from twinseal.trust.keys import pkcs8
from twinseal.trust.keys.passphrases import environment_name

MAX_PEM_BYTES = 64 << 10
MAX_LINKS = 8
_FOLDER_FLAGS = os.O_DIRECTORY | os.O_CLOEXEC | getattr(os, "O_PATH", os.O_RDONLY)  # a folder may be closed to readers
# NONBLOCK: a fifo must not hang us. NOFOLLOW: a link's folder is checked before it is followed.
_FILE_FLAGS = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC


def load(path: Path, passphrase: Callable[[], bytes]) -> object:
    """The private key in the file at `path`, of whatever kind.

    Args:
        path: The PEM file.
        passphrase: Called only if the key is encrypted.

    Raises:
        KeyAccessError: The file is refused (see above), holds no key, or the passphrase is wrong.
    """
    pem = read(path)
    secret = passphrase() if protection(path, pem) is not None else None
    try:
        return serialization.load_pem_private_key(pem, secret)
    except (ValueError, TypeError, UnsupportedAlgorithm, InternalError) as error:
        what = "the right passphrase" if secret is not None else "a PKCS #8 private key in PEM"
        raise KeyAccessError(
            f"{path}: expected {what}, got something else",
            remedy=f"Run it again with the passphrase of {path.stem}. A passphrase that is lost cannot be recovered: "
            f"custodians then replace the key: twinseal keys rotate {path.stem}"
            if secret is not None
            else "Make a key: twinseal keys new HOLDER",
        ) from error


def protection(path: Path, pem: bytes) -> pkcs8.KeyDerivation | None:
    """How the key in `pem`, read from `path`, is encrypted; None: it is not.

    Raises:
        KeyAccessError: It is not one PKCS #8 key, or encrypted in a way or at a cost that we do not take.
    """
    try:
        return pkcs8.read_derivation(pem)
    except ValueError as error:
        raise KeyAccessError(
            f"{path}: expected {error}, got something else",
            remedy=f"Write it anew: openssl pkcs8 -topk8 -scrypt -in {path} -out NEW.pem   (one key, on P-256)",
        ) from error


def read(path: Path, what: str = "private key") -> bytes:
    """The bytes of the file at `path`, if it may be trusted with a secret.

    Raises:
        KeyAccessError: See above.
    """
    try:
        with os.fdopen(_open(path), "rb") as stream:
            _check_file(path, os.fstat(stream.fileno()))
            data = stream.read(MAX_PEM_BYTES + 1)
    except OSError as error:
        raise KeyAccessError(
            f"{path}: expected a {what}, got none ({error.strerror})",
            remedy=f"Put the {what} there; a private key may be named in $TWINSEAL_{environment_name(path.stem)}_KEY.",
        ) from error
    if len(data) > MAX_PEM_BYTES:
        raise KeyAccessError(f"{path}: expected a {what} of at most {MAX_PEM_BYTES} bytes, got more")
    return data


def write_new(path: Path, key: ec.EllipticCurvePrivateKey | Ed25519PrivateKey, passphrase: bytes | None) -> None:
    """Write a new key file, whole and 0600.

    Side effects: makes the folder (0700) if missing.

    Raises:
        KeyAccessError: Something is at `path` already; others may write to its folder; or it cannot be written.
    """
    if passphrase is None:
        clear = serialization.NoEncryption()
        pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, clear)
    else:
        pem = pkcs8.encrypt_key(key, passphrase)
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _check_folder(path.parent, path.parent.stat())
        files.write_new(path, pem)
    except FileExistsError as error:
        raise KeyAccessError(
            f"{path}: expected no key there yet, found one", remedy="Keys are never overwritten: move the old one away."
        ) from error
    except OSError as error:
        raise KeyAccessError(f"{path}: cannot write a key there ({error.strerror})") from error


def _open(path: Path) -> int:
    for _ in range(MAX_LINKS):
        folder = os.open(path.parent, _FOLDER_FLAGS)
        try:
            _check_folder(path.parent, os.fstat(folder))
            return os.open(path.name, _FILE_FLAGS, dir_fd=folder)
        except OSError as error:
            if error.errno != errno.ELOOP:  # what NOFOLLOW says of a link
                raise
            path = path.parent / os.readlink(path.name, dir_fd=folder)
        finally:
            os.close(folder)
    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))


def _check_folder(path: Path, found: os.stat_result) -> None:
    mode = found.st_mode
    if mode & 0o022 and not mode & stat.S_ISVTX:
        raise KeyAccessError(
            f"{path}: expected a folder in which only its owner can exchange a key, got mode {stat.S_IMODE(mode):04o}",
            remedy=f"chmod go-w {path}   (and compare the fingerprints of the keys in it)",
        )
    _check_owner(path, found)


def _check_file(path: Path, found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise KeyAccessError(f"{path}: expected a regular file, got something else")
    if found.st_mode & 0o077:
        raise KeyAccessError(
            f"{path}: expected a key that its owner alone can read, got mode {stat.S_IMODE(found.st_mode):04o}",
            remedy=f"chmod 600 {path}   (and ask who else has read it)",
        )
    _check_owner(path, found)


def _check_owner(path: Path, found: os.stat_result) -> None:
    if found.st_uid not in (0, os.geteuid()):
        raise KeyAccessError(
            f"{path}: expected it to belong to this user or to root, got user {found.st_uid}",
            remedy=f"chown {os.geteuid()} {path}   (and ask that user whether the key was copied)",
        )
