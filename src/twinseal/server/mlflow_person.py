"""The person as MLflow sees them: the one whom the gate has established, and nobody else.

MLflow's account app authenticates every request again, by a function that its settings name: `authenticate`. It takes
the name from a header that the gate adds. What a client sends under that name, in any spelling that some layer below
could take for it (WSGI reads `_` and `-`, upper and lower case, alike), the gate removes; and the header's value is
signed with a key that exists in this process only.
"""

from __future__ import annotations

import hmac
import json
import re
import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import TYPE_CHECKING

from starlette.types import Scope

from twinseal.server.people import Person

if TYPE_CHECKING:
    from flask import Response
    from werkzeug.datastructures import Authorization

FUNCTION = f"{__name__}:authenticate"
HEADER = "x-twinseal-person"
_KEY = secrets.token_bytes(32)
_LETTERS = re.compile(rb"[^a-z0-9]")


def without_claims(scope: Scope) -> Scope:
    """A request without what only the gate may say."""
    ours = _plain(HEADER.encode())
    return {**scope, "headers": [item for item in scope["headers"] if _plain(item[0]) != ours]}


def with_person(scope: Scope, person: Person) -> Scope:
    """A request that says who sends it, and no longer how they proved it: MLflow sees no password and no token."""
    kept = [item for item in without_claims(scope)["headers"] if _plain(item[0]) != b"authorization"]
    return {**scope, "headers": [*kept, (HEADER.encode(), sealed(person.name).encode())]}


def authenticate() -> Authorization | Response:
    """Who sends the request that Flask handles now. MLflow calls it, for its Flask and its FastAPI routes."""
    from flask import make_response, request  # noqa: PLC0415 - MLflow's, only behind the gate
    from werkzeug.datastructures import Authorization  # noqa: PLC0415 - as above

    given = request.headers.getlist(HEADER)
    name = opened(given[0]) if len(given) == 1 else None
    if name is None:
        return make_response("expected a request that has passed the gate, got another", 401)
    return Authorization("basic", {"username": name, "password": ""})


def sealed(name: str) -> str:
    """A name, signed in this process.

    >>> opened(sealed("alice")), opened(sealed("alice")[:-1])
    ('alice', None)
    """
    text = urlsafe_b64encode(json.dumps(name).encode()).decode()
    return f"{text}.{_signature(text)}"


def opened(value: str) -> str | None:
    """The name in a value of `sealed`; None for any other."""
    text, _, signature = value.partition(".")
    if not hmac.compare_digest(_signature(text).encode(), signature.encode()):
        return None
    return str(json.loads(urlsafe_b64decode(text)))


def _signature(text: str) -> str:
    return hmac.new(_KEY, text.encode(), "sha256").hexdigest()


def _plain(name: bytes) -> bytes:
    return _LETTERS.sub(b"", name.lower())
