"""Private keys that never leave their token: smart cards and hardware security modules, by PKCS #11.

The only module that imports `pkcs11` (python-pkcs11), and only when a `pkcs11:` URI is used: a twin does not need it.

Rules:

- A URI must choose exactly one token, and in it exactly one private key, ECDSA on P-256. Otherwise the error lists the
  labels that are there, and nothing is signed.
- A wrong PIN is tried once. Tokens lock themselves after about three: a PIN that a token has refused is not sent to it
  again by this process, and a token with one try left is not tried.
- Each use is one session: module started, logged in, logged out, closed, module ended. So a token that was removed or
  changed is noticed, and no login lasts longer than its signature.
- Each signature is verified before it is returned: private and public key are two objects in a token, and need not be
  a pair.
- Signatures are not reproducible: a token chooses its nonce at random, so the same bytes signed twice differ. Stages
  that sign with a token write other bytes each time they run.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import os
import secrets
import stat
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import structlog
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from twinseal.errors import KeyAccessError
from twinseal.trust.keys.token_uris import TokenUri

log = structlog.get_logger(__name__)

P256_PARAMS = bytes.fromhex("06082a8648ce3d030107")  # CKA_EC_PARAMS: the curve's object identifier (RFC 5480)
_POINT_BYTES = 65  # 04 x y (SEC 1 section 2.3.3); CKA_EC_POINT wraps it in an OCTET STRING, but some tokens forget to

_one_at_a_time = threading.Lock()  # a login is the process's, not the session's (PKCS #11 v2.40 section 2.6.4)
_refused_pins: set[bytes] = set()
_mask = secrets.token_bytes(32)

# What a library's error means to the person at the terminal: expected, got, what to do. By name: most commands run
# where the library is not installed.
_MEANINGS = {
    "PinIncorrect": ("the right PIN", "another", "It was tried once. Mind how many tries the token gives."),
    "PinInvalid": ("the right PIN", "one that the token cannot take", "Mind how many tries the token gives."),
    "PinLenRange": ("a PIN of a length that the token takes", "another", ""),
    "PinExpired": ("a PIN that is current", "an expired one", "Change it with the token's own tool."),
    "PinLocked": ("a token that takes its PIN", "a locked one", "Unlock it with the token's own tool and its PUK."),
    "UserPinNotInitialized": ("a token with a PIN", "one whose PIN was never set", "Set it with the token's own tool."),
    "UserAlreadyLoggedIn": ("a token that nobody is logged in to", "one in use by this process", ""),
    "TokenNotPresent": ("the token", "an empty slot", "Put the token in, and run it again."),
    "TokenNotRecognised": ("the token", "one that the module does not know", ""),
    "DeviceRemoved": ("the token", "its removal in the middle of things", "Put the token in, and run it again."),
    "ObjectHandleInvalid": ("the key", "its removal in the middle of things", "Put the token in, and run it again."),
    "KeyHandleInvalid": ("the key", "its removal in the middle of things", "Put the token in, and run it again."),
    "SessionHandleInvalid": ("the token", "its removal in the middle of things", "Put the token in, and run it again."),
    "TokenWriteProtected": ("a token that can be written to", "one that cannot", ""),
}


class TokenKey:
    """A private key in a token: signs there, through a session of its own each time.

    It has the two methods of cryptography's `EllipticCurvePrivateKey` that a signer needs. It keeps the PIN, in memory
    only: neither its repr nor a pickle has it.
    """

    def __init__(self, uri: TokenUri, public: ec.EllipticCurvePublicKey, pin: bytes) -> None:
        self._uri, self._public, self._pin = uri, public, pin

    def __repr__(self) -> str:
        return f"TokenKey({self._uri})"

    def __getstate__(self) -> object:
        raise TypeError("a key in a token cannot be written down")

    def public_key(self) -> ec.EllipticCurvePublicKey:
        """The public half."""
        return self._public

    def sign(self, data: bytes, signature_algorithm: ec.ECDSA) -> bytes:
        """The signature over `data`: ECDSA with SHA-256 in DER. The nonce is the token's, whatever was asked for.

        Raises:
            KeyAccessError: The token is absent, refuses, or signs with another key than its public one.
            ValueError: Another hash is asked for.
        """
        if not isinstance(signature_algorithm.algorithm, hashes.SHA256):
            raise ValueError("a token signs over SHA-256 here")
        from pkcs11 import Attribute, Mechanism  # noqa: PLC0415

        with _session(self._uri, self._pin) as session:
            key = _private_key(session, self._uri)
            # A PIV signature key asks for the PIN again before each signature (CKA_ALWAYS_AUTHENTICATE).
            again = {"pin": self._pin.decode()} if _attribute(key, Attribute.ALWAYS_AUTHENTICATE) else {}
            # Hashed here: every token signs a digest, few hash megabytes.
            raw = key.sign(hashlib.sha256(data).digest(), mechanism=Mechanism.ECDSA, **again)
        half = len(raw) // 2
        signature = encode_dss_signature(int.from_bytes(raw[:half], "big"), int.from_bytes(raw[half:], "big"))
        try:
            self._public.verify(signature, data, ec.ECDSA(hashes.SHA256()))
        except InvalidSignature as error:
            raise KeyAccessError(
                f"{self._uri}: expected a signature by the token's public key, got one by another",
                remedy="Its private and public object are no pair, or the token is broken. Make a new key.",
            ) from error
        return signature


def open_key(uri: TokenUri, pin: bytes) -> TokenKey:
    """The key that `uri` names, found and its PIN proven right.

    Raises:
        KeyAccessError: Module, token or key is absent, or more than one fits; the PIN is wrong; it is not on P-256.
    """
    attribute = _library(uri).Attribute
    with _session(uri, pin) as session:
        key = _private_key(session, uri)
        if _attribute(key, attribute.EXTRACTABLE):
            log.warning("key.extractable", uri=str(uri), why="who has the PIN can copy it out of the token")
        return TokenKey(uri, _read_public_key(session, uri, key[attribute.ID], _attribute(key, attribute.LABEL)), pin)


def read_public(uri: TokenUri) -> ec.EllipticCurvePublicKey:
    """The public half of the key that `uri` names, without logging in.

    Raises:
        KeyAccessError: As `open_key`, or the token shows public keys only after a login.
    """
    with _session(uri, None) as session:
        return _read_public_key(session, uri, uri.id, uri.object)


def generate_key(uri: TokenUri, pin: bytes) -> ec.EllipticCurvePublicKey:
    """Make a key pair in the token; the private half can never leave it.

    Args:
        uri: Where; `object` is its label and must be given. `id` is drawn at random if it is not.
        pin: The token's.

    Returns:
        The public half.

    Raises:
        KeyAccessError: A key of that label or identifier is there already; the token cannot make such a key.
    """
    if uri.object is None:
        raise KeyAccessError(f"{uri}: expected object=LABEL to name the new key by, got none")
    library = _library(uri)
    Attribute, KeyType = library.Attribute, library.KeyType  # noqa: N806
    identifier = uri.id if uri.id is not None else secrets.token_bytes(8)
    private = {
        Attribute.PRIVATE: True,
        Attribute.SENSITIVE: True,
        Attribute.EXTRACTABLE: False,
        Attribute.DERIVE: False,
    }
    with _session(uri, pin, writable=True) as session:
        _refuse_existing(session, uri, identifier)
        parameters = session.create_domain_parameters(KeyType.EC, {Attribute.EC_PARAMS: P256_PARAMS}, local=True)
        public_half, key = parameters.generate_keypair(
            store=True,
            label=uri.object,
            id=identifier,
            private_template=private,
            public_template={Attribute.PRIVATE: False, Attribute.DERIVE: False},
        )
        wrong = [
            name for name, expected_value in _KEY_ATTRIBUTES if _attribute(key, Attribute[name]) is not expected_value
        ]
        if wrong:  # asked for is not done: some tokens take what they do not keep
            public_half.destroy()
            key.destroy()
            raise KeyAccessError(f"{uri}: expected a token that keeps its keys, got one with other {', '.join(wrong)}")
        return _read_public_key(session, uri, identifier, uri.object)


_KEY_ATTRIBUTES = (("SENSITIVE", True), ("EXTRACTABLE", False), ("ALWAYS_SENSITIVE", True), ("NEVER_EXTRACTABLE", True))


@contextlib.contextmanager
def _session(uri: TokenUri, pin: bytes | None, *, writable: bool = False) -> Iterator[Any]:
    """A session with the one token of `uri`, logged in if there is a PIN. Everything is closed and ended after it."""
    pkcs11 = _library(uri)
    path = _check_module(uri.module_path())
    with _one_at_a_time, contextlib.ExitStack() as closing:
        try:
            module = pkcs11.lib(str(path))
            closing.callback(_ignore_runtime_errors, module.finalize)  # also ends what a failed login has left open
            token = _token(module, uri)
            session = token.open(rw=writable) if pin is None else _log_in(token, uri, path, pin, writable)
            closing.callback(_ignore_runtime_errors, session.close)
            yield session
        except pkcs11.PKCS11Error as error:
            raise _translate_error(uri, error) from error


def _library(uri: TokenUri) -> Any:
    try:
        import pkcs11  # noqa: PLC0415 - see above
    except ImportError as error:
        raise KeyAccessError(
            f"{uri}: expected the library that reaches tokens, got none", remedy="pip install 'twinseal[hsm]'"
        ) from error
    return pkcs11


def _log_in(token: Any, uri: TokenUri, module: Path, pin: bytes, writable: bool) -> Any:
    from pkcs11 import PinIncorrect, PinInvalid, TokenFlag  # noqa: PLC0415

    if token.flags & TokenFlag.USER_PIN_LOCKED:
        raise _access_error(uri, "PinLocked")
    if token.flags & TokenFlag.USER_PIN_FINAL_TRY:
        raise KeyAccessError(
            f"{uri}: expected a token with tries to spare, got one that a wrong PIN would lock",
            remedy="Log in once with the token's own tool: the right PIN gives all tries back.",
        )
    name = b"\0".join((os.fsencode(module), token.serial, token.label.encode(), pin))
    attempt = hmac.digest(_mask, name, "sha256")  # not the PIN: this set lives as long as the process
    if attempt in _refused_pins:
        raise KeyAccessError(
            f"{uri}: expected the right PIN, got the one that this token has just refused; it was not tried again",
            remedy="Mind how many tries the token gives.",
        )
    try:
        text = pin.decode("utf-8")
        return token.open(rw=writable, user_pin=text)
    except UnicodeDecodeError as error:
        raise KeyAccessError(f"{uri}: expected a PIN in UTF-8, got other bytes") from error
    except (PinIncorrect, PinInvalid):
        _refused_pins.add(attempt)
        raise


def _token(module: Any, uri: TokenUri) -> Any:
    from pkcs11 import TokenFlag  # noqa: PLC0415

    tokens = [token for token in module.get_tokens() if token.flags & TokenFlag.TOKEN_INITIALIZED]
    fitting = [token for token in tokens if all(_describe(module, token)[name] == value for name, value in uri.token)]
    if len(fitting) == 1:
        return fitting[0]
    names = ", ".join(f"{token.label} (serial {_describe(module, token)['serial']})" for token in tokens) or "none"
    raise KeyAccessError(
        f"{uri}: expected exactly one token that fits, got {len(fitting)}; present: {names}",
        remedy="Put the token in, or say which: token=LABEL, or serial=NUMBER.",
    )


def _describe(module: Any, token: Any) -> dict[str, str]:
    """What RFC 7512's attributes of a token are compared with."""
    return {
        "token": token.label,
        "manufacturer": token.manufacturer_id,
        "model": token.model,
        "serial": token.serial.decode("utf-8", "replace"),
        "slot-id": str(token.slot.slot_id),
        "slot-description": token.slot.slot_description,
        "slot-manufacturer": token.slot.manufacturer_id,
        "library-description": module.library_description,
        "library-manufacturer": module.manufacturer_id,
    }


def _private_key(session: Any, uri: TokenUri) -> Any:
    from pkcs11 import Attribute, KeyType, ObjectClass  # noqa: PLC0415

    fitting = _objects(session, ObjectClass.PRIVATE_KEY, uri.id, uri.object)
    if len(fitting) != 1:
        there = _objects(session, ObjectClass.PRIVATE_KEY, None, None)
        names = ", ".join(sorted(_name(key) for key in there)) or "none"
        raise KeyAccessError(
            f"{uri}: expected exactly one private key that fits, got {len(fitting)}; in the token: {names}",
            remedy="Say which: object=LABEL, or id=%01. To make one: twinseal keys new HOLDER --uri pkcs11:…",
        )
    key = fitting[0]
    if key[Attribute.KEY_TYPE] != KeyType.EC or key[Attribute.EC_PARAMS] != P256_PARAMS:
        kind = getattr(key[Attribute.KEY_TYPE], "name", "another kind")
        curve = " on another curve" if kind == "EC" else ""
        raise KeyAccessError(f"{uri}: expected ECDSA on P-256, got {kind}{curve}")
    return key


def _read_public_key(
    session: Any, uri: TokenUri, identifier: bytes | None, label: str | None
) -> ec.EllipticCurvePublicKey:
    from pkcs11 import Attribute, ObjectClass  # noqa: PLC0415

    found = _objects(session, ObjectClass.PUBLIC_KEY, identifier or None, label if not identifier else None)
    points = {_attribute(key, Attribute.EC_POINT) for key in found}
    if len(points) != 1:
        names = ", ".join(sorted(_name(key) for key in found)) or "none"
        raise KeyAccessError(
            f"{uri}: expected exactly one public key beside the private one, got {len(points)}: {names}",
            remedy="Import the public half into the token, with the same id as the private one.",
        )
    point = points.pop() or b""
    point = point[2:] if len(point) == _POINT_BYTES + 2 and point[:2] == bytes([4, _POINT_BYTES]) else point
    try:
        return ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point)
    except ValueError as error:
        raise KeyAccessError(f"{uri}: expected a public key on P-256, got another point") from error


def _objects(session: Any, kind: Any, identifier: bytes | None, label: str | None) -> list[Any]:
    from pkcs11 import Attribute  # noqa: PLC0415

    template = {Attribute.CLASS: kind}
    if identifier is not None:
        template[Attribute.ID] = identifier
    if label is not None:
        template[Attribute.LABEL] = label
    return list(session.get_objects(template))  # to the end: an open search forbids everything else


def _refuse_existing(session: Any, uri: TokenUri, identifier: bytes) -> None:
    from pkcs11 import ObjectClass  # noqa: PLC0415

    for kind in (ObjectClass.PRIVATE_KEY, ObjectClass.PUBLIC_KEY):
        if _objects(session, kind, None, uri.object) or _objects(session, kind, identifier, None):
            raise KeyAccessError(
                f"{uri}: expected no key of that name yet, found one",
                remedy="Keys are never overwritten: choose another object=LABEL, and another id.",
            )


def _attribute(item: Any, attribute: Any) -> Any:
    """The value of an attribute; None if the token has none or keeps it."""
    from pkcs11 import AttributeSensitive, AttributeTypeInvalid, FunctionFailed  # noqa: PLC0415

    try:
        return item[attribute]
    except (AttributeTypeInvalid, AttributeSensitive, FunctionFailed):
        return None


def _name(key: Any) -> str:
    from pkcs11 import Attribute  # noqa: PLC0415

    return f"{_attribute(key, Attribute.LABEL) or '(no label)'} (id {(_attribute(key, Attribute.ID) or b'').hex()})"


def _check_module(path: Path) -> Path:
    """Refuse a module that others can write to: it is code that runs with access to the PIN."""
    try:
        mode = path.stat().st_mode
    except OSError as error:
        raise KeyAccessError(
            f"{path}: expected a PKCS #11 module, got none ({error.strerror})",
            remedy="Install the module of the token's maker, and name it by its absolute path.",
        ) from error
    if not stat.S_ISREG(mode) or mode & 0o022:
        raise KeyAccessError(
            f"{path}: expected a module that its owner alone can write to, got mode {stat.S_IMODE(mode):04o}",
            remedy="It runs as part of this program. Install it anew from a source that you trust.",
        )
    return path


def _translate_error(uri: TokenUri, error: Exception) -> KeyAccessError:
    return _access_error(uri, type(error).__name__, str(error))


def _access_error(uri: TokenUri, name: str, detail: str = "") -> KeyAccessError:
    expected, got, remedy = _MEANINGS.get(name, ("the token to do its work", f"{name} {detail}".strip()[:200], ""))
    return KeyAccessError(f"{uri}: expected {expected}, got {got}", remedy=remedy)


def _ignore_runtime_errors(close: Any) -> None:
    with contextlib.suppress(RuntimeError):  # the token may be gone; the module's end closes what is left
        close()
