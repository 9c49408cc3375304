"""The section `oidc` of server.yaml: people sign in at the organisation's identity provider, by OpenID Connect.

Example:
    oidc:
      issuer: https://login.plant.example/realms/plant
      client_id: twinseal
      client_secret_file: /etc/twinseal/client-secret
      audience: https://review.plant.example/api
      roles: {reader: [plant], engineer: [ml], reviewer: [safety], registrar: [platform]}
      require_mfa: true
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from twinseal.config import Field, Settings
from twinseal.errors import ConfigError
from twinseal.reading import open_regular

LOOPBACK = ("127.0.0.1", "localhost", "::1")
MAX_SECRET_BYTES = 1024


class RoleGroups(Settings):
    """Which groups of the provider give which role; a group may give several.

    Attributes:
        reader: Groups whose members read.
        engineer: Groups whose members write.
        reviewer: Groups whose members decide.
        registrar: Groups whose members manage accounts.
    """

    reader: tuple[str, ...] = ()
    engineer: tuple[str, ...] = ()
    reviewer: tuple[str, ...] = ()
    registrar: tuple[str, ...] = ()

    def of(self, groups: frozenset[str]) -> frozenset[str]:
        """The roles that membership in `groups` gives.

        >>> sorted(RoleGroups(reader=("a", "b"), engineer=("b",)).of(frozenset({"b", "c"})))
        ['engineer', 'reader']
        """
        return frozenset(role for role, names in self if groups & set(names))


class OidcSettings(Settings):
    """How people sign in at an identity provider.

    Attributes:
        issuer: The provider, as its own metadata names it.
        client_id: This server's name there.
        client_secret_file: A file with the secret that the provider knows this server by; others cannot read it.
        scopes: What is asked for; with `openid`.
        groups_claim: The claim with a person's groups, in ID tokens and in access tokens.
        roles: Which groups give which role.
        username_claim: The claim with a person's name. Only the provider's administrators should be able to change it.
        require_mfa: Whether a reviewer needs a second factor.
        mfa_amr: Values of `amr` (RFC 8176) of which each says that there was one.
        mfa_acr: Values of `acr` that say so; they are asked for.
        session_hours: How long a sign-in lasts.
        audience: What an access token must be meant for; "": none is taken.

    Raises:
        ValueError: A value cannot be used.
    """

    issuer: str
    client_id: str = Field(min_length=1, max_length=200)
    client_secret_file: str = Field(min_length=1)
    scopes: tuple[str, ...] = ("openid", "profile", "email")
    groups_claim: str = Field(default="groups", min_length=1)
    roles: RoleGroups
    username_claim: Literal["preferred_username", "email"] = "preferred_username"
    require_mfa: bool = False
    mfa_amr: tuple[str, ...] = ("mfa", "otp", "hwk", "fido", "pop")
    mfa_acr: tuple[str, ...] = ()
    session_hours: float = Field(default=8.0, gt=0, le=168)
    audience: str = ""

    def model_post_init(self, _context: Any, /) -> None:
        """Refuse what would not be safe."""
        if not is_safe_url(self.issuer) or urlsplit(self.issuer).query or "#" in self.issuer:
            raise ValueError(f"issuer: expected https://… (http:// on this machine alone), got {self.issuer[:80]!r}")
        if "openid" not in self.scopes:
            raise ValueError("scopes: expected openid among them, got none")
        if not any(names for _, names in self.roles):
            raise ValueError("roles: expected a group for a role, got none: nobody could sign in")
        if any(not name for _, names in self.roles for name in names):
            raise ValueError("roles: expected names of groups, got an empty one")
        if self.audience == self.client_id:  # then an ID token, which every page may see, would be an access token
            raise ValueError("audience: expected another word than client_id, got the same")
        if self.require_mfa and not (self.mfa_amr or self.mfa_acr):
            raise ValueError("require_mfa: expected values in mfa_amr or mfa_acr, got none: nobody could review")

    def has_mfa(self, amr: tuple[str, ...], acr: str) -> bool:
        """Whether what the provider says of a sign-in means a second factor."""
        return bool(set(amr) & set(self.mfa_amr)) or acr in self.mfa_acr

    def secret(self) -> str:
        """The client's secret.

        Raises:
            ConfigError: The file cannot be read, is empty, or everyone on this machine can read it.
        """
        path = Path(self.client_secret_file)
        try:
            with open_regular(path, follow=True) as stream:
                mode, data = path.stat().st_mode, stream.read(MAX_SECRET_BYTES + 1)
            found = data.decode().strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(
                f"client_secret_file: expected a file with the client's secret, got none ({error})",
                remedy="Write the secret that the provider shows for this client into it: one line, mode 0600.",
            ) from error
        if mode & 0o007:
            raise ConfigError(
                f"{path}: expected a file that others cannot read, got mode {mode & 0o777:o}",
                remedy=f"chmod 600 {path}",
            )
        if not found or len(data) > MAX_SECRET_BYTES:
            raise ConfigError(f"{path}: expected one line of at most {MAX_SECRET_BYTES} bytes, got another length")
        return found


def is_safe_url(url: str) -> bool:
    """Whether what is sent there cannot be read on the way: https, or this machine.

    >>> [is_safe_url(url) for url in ("https://a.test", "http://localhost:3", "http://a.test", "https://u@a.test")]
    [True, True, False, False]
    """
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
    except ValueError:
        return False
    if not host or "@" in parts.netloc or not url.isascii() or not url.isprintable() or " " in url:
        return False
    return parts.scheme == "https" or (parts.scheme == "http" and host in LOOPBACK)
