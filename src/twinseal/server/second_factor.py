"""The second factor: a reviewer whose sign-in had none decides nothing, where the settings demand one."""

from __future__ import annotations

from twinseal.server.people import Person
from twinseal.server.settings import ServerSettings


def missing_factor(person: Person, settings: ServerSettings) -> tuple[str, str]:
    """Why this sign-in does not suffice to decide, and what to do; two empty texts when it suffices."""
    oidc = settings.oidc
    if oidc is None or not oidc.require_mfa or person.has_mfa:
        return "", ""
    wanted = " or ".join(
        text
        for text in (
            f"amr with one of {', '.join(oidc.mfa_amr)}" if oidc.mfa_amr else "",
            f"acr as one of {', '.join(oidc.mfa_acr)}" if oidc.mfa_acr else "",
        )
        if text
    )
    got = "a password alone" if person.way == "password" else "neither"
    return (
        f"{person.name}: expected a sign-in with a second factor ({wanted}), got {got}",
        f"Sign in again at the identity provider, with your second factor: {settings.origin}/twinseal/login?again=1",
    )
