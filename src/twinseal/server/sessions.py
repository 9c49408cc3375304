"""Sessions: who a browser is, in a cookie that only this server can make or read.

A cookie is encrypted and authenticated (JWE, A256GCM) under a key made of the server's secret, the cookie's purpose,
the server's address and the whole section `oidc` of its settings: a cookie of another server, for another purpose, or
of before the settings changed is nobody's. Nothing about it is kept on the server, so its workers need share nothing
but the secret; only what has ended is kept, as an empty file by the name of the session, until it would have expired.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from joserfc import jwe
from joserfc.errors import JoseError
from joserfc.jwk import OctKey

from twinseal.digests import canonical_json
from twinseal.server.oidc_settings import OidcSettings
from twinseal.server.people import ROLES, Person

LOGIN_S = 600
SWEEP_S = 60.0
MAX_COOKIE = 4000  # browsers take 4096, with the name
_ALGORITHMS = ("dir", "A256GCM")
Purpose = Literal["session", "login"]


@dataclass(frozen=True)
class Cookie:
    """A cookie of one purpose: makes its value and reads it.

    Attributes:
        key: 32 bytes, of this purpose alone.
    """

    key: bytes

    @classmethod
    def of(cls, secret: str, purpose: Purpose, origin: str, settings: OidcSettings) -> Cookie:
        """The cookie of a purpose, of this server with these settings."""
        about = canonical_json({"origin": origin, "purpose": purpose, "settings": settings.model_dump(mode="json")})
        return cls(hmac.new(secret.encode(), b"twinseal cookie\0" + about, hashlib.sha256).digest())

    def seal(self, value: dict[str, Any], expires: float) -> str:
        """The value of a cookie that says `value` until `expires`, in seconds since 1970."""
        plain = json.dumps(value | {"expires": expires}).encode()
        return jwe.encrypt_compact(
            {"alg": "dir", "enc": "A256GCM"}, plain, OctKey.import_key(self.key), algorithms=_ALGORITHMS
        )

    def open(self, text: str, now: float) -> dict[str, Any] | None:
        """What a cookie says; None when it is not one of ours, was changed, or has expired."""
        if len(text) > MAX_COOKIE:
            return None
        try:
            found = jwe.decrypt_compact(text, OctKey.import_key(self.key), algorithms=_ALGORITHMS)
            if found.protected != {"alg": "dir", "enc": "A256GCM"}:
                return None
            value = json.loads(found.plaintext or b"")
        except (JoseError, ValueError, TypeError):
            return None
        if not isinstance(value, dict) or not isinstance(value.get("expires"), (int, float)):
            return None
        return value if now < value["expires"] else None


class Marks:
    """Names that were used or have ended: one empty file each, which all workers see.

    Args:
        folder: Where the files are.
        last_s: After how many seconds a mark is needed no more.
    """

    def __init__(self, folder: Path, last_s: float) -> None:
        self._folder, self._last_s, self._swept = folder, last_s, -SWEEP_S

    def set(self, name: str) -> bool:
        """Mark a name; whether this was the first time.

        Side effects: a file in the folder; files of marks that are needed no more are removed.
        """
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if time.monotonic() - self._swept > SWEEP_S:  # not each time: a stranger can set as many as they like
            self._swept = time.monotonic()
            self._sweep()
        try:
            (self._folder / _file_name(name)).touch(mode=0o600, exist_ok=False)
        except FileExistsError:
            return False
        return True

    def _sweep(self) -> None:
        for old in self._folder.iterdir():
            with suppress(FileNotFoundError):  # another worker was faster
                if time.time() - old.lstat().st_mtime > self._last_s:
                    old.unlink()

    def has(self, name: str) -> bool:
        """Whether a name was marked."""
        return (self._folder / _file_name(name)).exists()


class Sessions:
    """The sessions of people who have signed in at the provider.

    Args:
        secret: The server's, which its workers share.
        settings: Of sign-in.
        origin: Of the server.
        folder: For the marks of sessions that have ended.
    """

    def __init__(self, secret: str, settings: OidcSettings, origin: str, folder: Path) -> None:
        self._settings, self.is_secure = settings, origin.startswith("https:")
        self._cookie = Cookie.of(secret, "session", origin, settings)
        self._ended = Marks(folder, settings.session_hours * 3600 + 60)
        self.name = f"{'__Host-' if self.is_secure else ''}twinseal-session"

    def begin(self, person: Person, now: float) -> str:
        """The cookie of a new session."""
        value = {
            "id": secrets.token_hex(16),
            "name": person.name,
            "subject": person.subject,
            "roles": sorted(person.roles),
            "has_mfa": person.has_mfa,
        }
        return self._cookie.seal(value, now + self._settings.session_hours * 3600)

    def person(self, text: str, now: float) -> Person | None:
        """Whose session a cookie is; None if it is nobody's, or has ended."""
        value = self._cookie.open(text, now)
        if value is None or self._ended.has(str(value["id"])):
            return None
        roles = frozenset(role for role in value["roles"] if role in ROLES)
        has_mfa = value.get("has_mfa") is True  # a cookie of an older version says nothing of it
        return Person(value["name"], roles, way="session", has_mfa=has_mfa, subject=value["subject"])

    def end(self, text: str, now: float) -> None:
        """End a session everywhere: a copy of its cookie is worth nothing either.

        Side effects: a mark.
        """
        value = self._cookie.open(text, now)
        if value is not None:
            self._ended.set(str(value["id"]))


def cookie_header(name: str, value: str, *, max_age_s: int, is_secure: bool) -> str:
    """The value of Set-Cookie: for this host alone, not for scripts, not with requests that other sites' pages send.

    >>> cookie_header("a", "b", max_age_s=5, is_secure=True)
    'a=b; Path=/; Max-Age=5; HttpOnly; SameSite=Lax; Secure'
    """
    return f"{name}={value}; Path=/; Max-Age={max_age_s}; HttpOnly; SameSite=Lax" + ("; Secure" if is_secure else "")


def _file_name(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()[:40]
