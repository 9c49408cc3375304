"""Tokens: what an identity provider's signed words say about a person, once each check has passed.

`verified_id_token` and `verified_access_token` check, in this order:

1. an asymmetric signature by a key of the issuer; `none` and shared secrets (HS256, …) are no signature
2. issuer; audience: exactly this client, or the audience of this server's API; the client that it was issued to
3. expiry, start and time of issue
4. the nonce of this sign-in (ID token)

`person_of` makes a person of the claims: a name, a subject, roles by groups, and whether there was a second factor.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet
from joserfc.jws import JWSRegistry

from twinseal.server.oidc_settings import OidcSettings
from twinseal.server.people import Person, Way

ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "Ed25519", "EdDSA")
LEEWAY_S = 60
MAX_TOKEN, MAX_HEADER = 16 << 10, 8 << 10  # some providers put certificates into the header: they are not looked at
_NAME = re.compile(
    r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,127}\Z"
)  # no letters that look like others, nothing that is not shown
_ACCESS_TYPES = (None, "jwt", "at+jwt", "application/at+jwt")
Keys = Callable[[str | None], KeySet]
"""The issuer's public keys; those of now, when it has none with this key id yet."""


class SignInError(Exception):
    """Somebody is not signed in.

    Args:
        message: Expected and got.
        remedy: What they can do.
        status: Of HTTP.
    """

    def __init__(self, message: str, *, remedy: str = "", status: int = 403) -> None:
        super().__init__(message)
        self.remedy, self.status = remedy, status


def verified_id_token(token: str, keys: Keys, settings: OidcSettings, nonce: str, now: datetime) -> dict[str, Any]:
    """The claims of an ID token that was issued to this client, for the sign-in with this nonce.

    Raises:
        SignInError: A check fails.
    """
    claims = _verified(token, keys, settings, now, (None, "jwt"))  # 1, 3
    if claims["aud"] not in (settings.client_id, [settings.client_id]):  # 2
        raise SignInError(f"ID token: expected the audience {settings.client_id}, got {_short(claims['aud'])}")
    if claims.get("azp", settings.client_id) != settings.client_id:
        raise SignInError(f"ID token: expected one issued to {settings.client_id}, got one to {_short(claims['azp'])}")
    if not hmac.compare_digest(str(claims.get("nonce", "")).encode(), nonce.encode()) or not nonce:  # 4
        raise SignInError("ID token: expected the nonce of this sign-in, got another", remedy="Sign in again.")
    return claims


def verified_access_token(token: str, keys: Keys, settings: OidcSettings, now: datetime) -> dict[str, Any]:
    """The claims of an access token that is meant for this server.

    Raises:
        SignInError: A check fails, or this server takes none.
    """
    if not settings.audience:
        raise SignInError("token: expected a session or a password, got a token: oidc.audience is not set", status=401)
    claims = _verified(token, keys, settings, now, _ACCESS_TYPES)  # 1, 3
    given = claims["aud"] if isinstance(claims["aud"], list) else [claims["aud"]]
    if settings.audience not in given:  # 2
        raise SignInError(f"token: expected the audience {settings.audience}, got {_short(claims['aud'])}")
    return claims


def person_of(claims: Mapping[str, Any], settings: OidcSettings, way: Way) -> Person:
    """The person of verified claims; in no role, when none of their groups gives one.

    Raises:
        SignInError: There is no name, or none that an account can have.
    """
    name = claims.get(settings.username_claim)
    if not isinstance(name, str) or not _NAME.match(name):
        raise SignInError(
            f"{settings.username_claim}: expected 1 to 128 of A-Z a-z 0-9 . _ @ + -, got {_short(name)}",
            remedy="The provider must put that claim into the token: see scopes and username_claim in server.yaml.",
        )
    if settings.username_claim == "email" and claims.get("email_verified") is not True:
        raise SignInError(
            "email: expected one that the provider has verified (email_verified), got one that it has not"
        )
    groups = _words(claims.get(settings.groups_claim))
    amr, acr = _words(claims.get("amr")), claims.get("acr")
    return Person(
        name,
        settings.roles.of(frozenset(groups)),
        way=way,
        has_mfa=settings.has_mfa(amr, acr if isinstance(acr, str) else ""),
        subject=f"{settings.issuer} {claims['sub']}",
    )


def _verified(
    token: str, keys: Keys, settings: OidcSettings, now: datetime, types: tuple[str | None, ...]
) -> dict[str, Any]:
    if len(token) > MAX_TOKEN:
        raise SignInError(f"token: expected at most {MAX_TOKEN} characters, got {len(token)}")
    try:
        registry = JWSRegistry(algorithms=ALGORITHMS, strict_check_header=False)
        registry.max_header_length = MAX_HEADER
        found = jwt.decode(token, lambda obj: keys(obj.headers().get("kid")), ALGORITHMS, registry)
        given = found.header.get("typ")
        if (given.lower() if isinstance(given, str) else given) not in types:
            raise SignInError(f"token: expected the type JWT, got {_short(given)}")
        needed: dict[str, Any] = {name: {"essential": True} for name in ("iss", "sub", "aud", "exp", "iat")}
        needed["iss"]["value"] = settings.issuer
        jwt.JWTClaimsRegistry(now=int(now.timestamp()), leeway=LEEWAY_S, **needed).validate(found.claims)
    except (JoseError, ValueError, TypeError, RecursionError) as error:
        raise SignInError(f"token: expected one that {settings.issuer} signed for now, got: {error}") from error
    return found.claims


def _words(value: Any) -> tuple[str, ...]:
    """A claim with a list of words; some providers write a single one without its list."""
    given = value if isinstance(value, list) else [value]
    return tuple(item for item in given if isinstance(item, str) and item)


def _short(value: Any) -> str:
    return "none" if value is None else repr(value)[:80]
