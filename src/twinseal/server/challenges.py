"""Challenges for new passkeys: random, of this moment, for one account; nothing need be remembered.

Only this server can make one, so one that comes back with its seal was asked for by this server.
"""

from __future__ import annotations

import hmac
import os
import secrets
import time
from typing import Any

from twinseal.digests import parse_json
from twinseal.errors import ConfigError
from twinseal.trust.keys.assertions import MAX_CLIENT_DATA_BYTES, decode

CHALLENGE_S = 600


def new_challenge(name: str) -> bytes:
    """Random, of this moment, for this account; only this server can make one: nothing need be remembered."""
    head = int(time.time()).to_bytes(8, "big") + secrets.token_bytes(16)
    return head + _seal(head, name)


def challenge_in(credential: dict[str, Any], name: str) -> bytes:
    """The challenge that a new passkey was asked with, if this server made it for this account, a moment ago.

    Raises:
        ConfigError: It did not.
    """
    try:
        given = decode(credential["response"]["clientDataJSON"])
        found = decode(parse_json(given, "clientDataJSON", limit=MAX_CLIENT_DATA_BYTES)["challenge"])
    except Exception as error:  # as in trust.keys.passkeys: whatever is wrong with it
        raise ConfigError("passkey: expected the answer of an authenticator, got something else") from error
    head, age = found[:24], time.time() - int.from_bytes(found[:8], "big")
    if not hmac.compare_digest(found[24:], _seal(head, name)) or not 0 <= age + 5 <= CHALLENGE_S:
        raise ConfigError("passkey: expected one that this page asked for, up to 10 minutes ago, got another")
    return found


def _seal(head: bytes, name: str) -> bytes:
    secret = os.environ["MLFLOW_FLASK_SERVER_SECRET_KEY"].encode()
    return hmac.new(secret, b"passkey\0" + name.encode() + b"\0" + head, "sha256").digest()
