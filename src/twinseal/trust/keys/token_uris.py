r"""The `pkcs11:` scheme of RFC 7512: which token, which key in it, by which module. Nothing is opened here.

    pkcs11:token=Alice;object=alice?module-path=/usr/lib/softhsm/libsofthsm2.so

Path attributes choose the token (token, manufacturer, model, serial, slot-id, slot-description, slot-manufacturer,
library-description, library-manufacturer) and the key (object, id, type). Query attributes: module-path, else
$TWINSEAL_PKCS11_MODULE; pin-source, an absolute path or a file: URI. An attribute that is unknown or given twice is
refused: it could have chosen another key.

`pin-value` is refused too: URIs appear in command lines, environments and logs, where a PIN must not.

    >>> uri = TokenUri.parse("pkcs11:token=My%20card;object=alice;id=%01%02")
    >>> (uri.token, uri.object, uri.id)
    ((('token', 'My card'),), 'alice', b'\x01\x02')
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import quote, unquote_to_bytes

from twinseal.errors import KeyAccessError

SCHEME = "pkcs11"
MODULE_VARIABLE = "TWINSEAL_PKCS11_MODULE"
TOKEN_ATTRIBUTES = (
    "token",
    "manufacturer",
    "model",
    "serial",
    "slot-id",
    "slot-description",
    "slot-manufacturer",
    "library-description",
    "library-manufacturer",
)
_QUERY = ("module-path", "pin-source")
# pk11-pchar and pk11-qchar (RFC 7512 section 2.3), without & in a path and with ; in a query: no separator is a value.
_VALUE = re.compile(r"(?:[A-Za-z0-9._~:\[\]@!$'()*+,/?|=-]|%[0-9A-Fa-f]{2})*\Z")
_EXAMPLE = "For example pkcs11:token=LABEL;object=LABEL?module-path=/path/to/module.so"


@dataclass(frozen=True)
class TokenUri:
    """A key in a token, as RFC 7512 names it.

    Law: `TokenUri.parse(str(uri)) == uri`.

    Attributes:
        token: Attributes that choose the token, each with its value; every one must match.
        object: The key's label (CKA_LABEL); None: any.
        id: The key's identifier (CKA_ID); None: any.
        module: The PKCS #11 module; None: $TWINSEAL_PKCS11_MODULE.
        pin_source: A file whose first line is the PIN; None: it comes as a passphrase does.
    """

    token: tuple[tuple[str, str], ...] = ()
    object: str | None = None
    id: bytes | None = None
    module: Path | None = None
    pin_source: Path | None = None

    @classmethod
    def parse(cls, text: str) -> TokenUri:
        """The key that `text` names.

        Raises:
            KeyAccessError: It is no such URI; an attribute is unknown, given twice or malformed; it holds a PIN.
        """
        scheme, _, rest = text.partition(":")
        if scheme.lower() != SCHEME:
            raise KeyAccessError(f"key URI: expected {SCHEME}:, got {scheme[:20]!r}", remedy=_EXAMPLE)
        path, _, query = rest.partition("?")
        found = _attributes(path, ";", (*TOKEN_ATTRIBUTES, "object", "id", "type"))
        asked = _attributes(query, "&", _QUERY)
        if found.get("type", b"private") != b"private":
            raise KeyAccessError(f"{SCHEME}: URI: expected type=private, got another type of object")
        return cls(
            tuple((name, _text(name, found[name])) for name in TOKEN_ATTRIBUTES if name in found),
            _text("object", found["object"]) if "object" in found else None,
            found.get("id"),
            _absolute_path("module-path", asked["module-path"]) if "module-path" in asked else None,
            _absolute_path("pin-source", asked["pin-source"]) if "pin-source" in asked else None,
        )

    def __str__(self) -> str:
        path = [f"{name}={quote(value, safe='')}" for name, value in self.token]
        path += [f"object={quote(self.object, safe='')}"] if self.object is not None else []
        path += ["id=" + "".join(f"%{byte:02X}" for byte in self.id)] if self.id is not None else []
        query = [f"module-path={quote(str(self.module))}"] if self.module is not None else []
        query += [f"pin-source={quote(str(self.pin_source))}"] if self.pin_source is not None else []
        return f"{SCHEME}:{';'.join(path)}" + (f"?{'&'.join(query)}" if query else "")

    def with_label(self, label: str) -> TokenUri:
        """The same place, and the key in it called `label`."""
        return replace(self, object=label)

    @property
    def holder(self) -> str:
        """The name to look a passphrase up by when the holder is not given: the key's label, else the token's."""
        return self.object or dict(self.token).get("token") or SCHEME

    def module_path(self) -> Path:
        """The module to load.

        Raises:
            KeyAccessError: None is named, or not by an absolute path.
        """
        if self.module is not None:
            return self.module
        named = os.environ.get(MODULE_VARIABLE)
        if not named:
            raise KeyAccessError(
                f"{self}: expected a PKCS #11 module to reach the token by, got none",
                remedy=f"Set ${MODULE_VARIABLE} to the shared library of the token's maker, or add ?module-path=…",
            )
        return _absolute_path(f"${MODULE_VARIABLE}", os.fsencode(named))


def _attributes(text: str, separator: str, known: tuple[str, ...]) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for part in text.split(separator) if text else ():
        name, equals, value = part.partition("=")
        if name.startswith("pin-value"):
            raise KeyAccessError(
                f"{SCHEME}: URI: expected no PIN in it, got pin-value: command lines and logs show it to others",
                remedy="Change the PIN, for it has been seen. Then leave it out: it is asked for, or read from "
                "pin-source=FILE, --passphrase-fd N or $TWINSEAL_<HOLDER>_PASSPHRASE.",
            )
        if name not in known or not equals:
            raise KeyAccessError(
                f"{SCHEME}: URI: expected attributes of {', '.join(known)}, got {name[:30]!r}", remedy=_EXAMPLE
            )
        if name in found:
            raise KeyAccessError(f"{SCHEME}: URI: expected each attribute once, got {name} twice")
        if not _VALUE.match(value):
            raise KeyAccessError(
                f"{SCHEME}: URI: expected {name} with reserved characters percent-encoded, got others",
                remedy=_EXAMPLE.replace("LABEL;", "My%20card;"),
            )
        found[name] = unquote_to_bytes(value)
    return found


def _text(name: str, value: bytes) -> str:
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError as error:
        raise KeyAccessError(f"{SCHEME}: URI: expected {name} in UTF-8, got other bytes") from error


def _absolute_path(name: str, value: bytes) -> Path:
    path = Path(os.fsdecode(value.removeprefix(b"file://").removeprefix(b"file:")))
    if not path.is_absolute() or b"\0" in value:
        raise KeyAccessError(f"{name}: expected an absolute path of a file, got something else")
    return path
