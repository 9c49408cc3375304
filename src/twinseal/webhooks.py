"""What every sender of webhooks here shares: which addresses are allowed, the secret, and the signature.

By the Standard Webhooks specification (https://www.standardwebhooks.com):

    webhook-id: msg_…                   the same when it is sent again
    webhook-timestamp: 1764147600       of this attempt, in seconds since 1970
    webhook-signature: v1,<base64>      HMAC-SHA256 of "<id>.<timestamp>.<body>"

A secret file has one line: `whsec_` and 24 to 64 bytes in base64. To make one:
echo "whsec_$(openssl rand -base64 32)" > FILE; chmod 600 FILE
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from pathlib import Path
from urllib.parse import urlsplit

from twinseal.errors import ConfigError
from twinseal.other_machines import is_loopback
from twinseal.reading import read_regular

SECRET_PREFIX = "whsec_"  # noqa: S105 - of a format, no secret
MAX_SECRET_BYTES = 4096


def check_address(url: str) -> None:
    """Refuse an address that must not be sent to: in the clear to another machine, or with a user or a fragment.

    Raises:
        ValueError: It is one.
    """
    parts = urlsplit(url)
    if not url.isascii() or not url.isprintable() or " " in url or not parts.hostname:
        raise ValueError("url: expected an address such as https://host/path, got another text")
    if parts.username is not None or parts.fragment:
        raise ValueError("url: expected neither user nor fragment in the address, got one")
    if parts.scheme != "https" and not (parts.scheme == "http" and is_loopback(parts.hostname)):
        raise ValueError(f"url: expected https, or http to this machine alone, got {parts.scheme}://{parts.hostname}")


def place_of(url: str) -> str:
    """An address without its path, for messages: the path may be a secret of the receiver's.

    >>> place_of("https://chat.example/hook/secret")
    'https://chat.example'
    """
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def read_secret(path: str) -> bytes:
    """The key in a secret file, read anew: it may be replaced while the program runs.

    Raises:
        ConfigError: The file holds none.
        OSError, UnicodeDecodeError: It cannot be read, or is no text.
    """
    text = read_secret_line(path)
    try:
        found = base64.b64decode(text.removeprefix(SECRET_PREFIX), validate=True)
    except binascii.Error:
        found = b""
    if not text.startswith(SECRET_PREFIX) or not 24 <= len(found) <= 64:
        raise ConfigError(
            f"{path}: expected {SECRET_PREFIX} and 24 to 64 bytes in base64, got something else",
            remedy=f'echo "{SECRET_PREFIX}$(openssl rand -base64 32)" > {path}',
        )
    return found


def read_secret_line(path: str) -> str:
    """The one line of a file with a secret or a password.

    Raises:
        OSError, UnicodeDecodeError: It cannot be read, or is no text.
    """
    return read_regular(Path(path), MAX_SECRET_BYTES, follow=True).decode().strip()


def signature(secret: bytes, name: str, moment: str, body: bytes) -> str:
    """The header `webhook-signature`.

    >>> signature(b"x" * 32, "msg_1", "1764147600", b"{}")[:12]
    'v1,fMwxCAGmN'
    """
    found = hmac.new(secret, f"{name}.{moment}.".encode() + body, hashlib.sha256).digest()
    return "v1," + base64.b64encode(found).decode()
