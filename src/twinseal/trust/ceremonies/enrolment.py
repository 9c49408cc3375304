"""Enrolment: what a passkey must be before custodians tie it to a reviewer. What follows is a rotation (`ceremony`)."""

from __future__ import annotations

from twinseal.errors import KeyAccessError
from twinseal.trust.keys.key import Key, Passkey, fingerprint
from twinseal.trust.root.anchor import Anchor
from twinseal.trust.root.pins import meant


def check_enrolment(anchor: Anchor, holder: str, key: Key) -> Passkey:
    """The passkey in `key`, once it may become the key of the reviewer called `holder`.

    Args:
        anchor: Who has which role and key now.
        holder: Whose it is.
        key: What their file holds.

    Raises:
        KeyAccessError: The holder is no reviewer; it is no passkey; somebody has it already; or it was revoked.
    """
    names = [item.name for item in anchor.roles["reviewer"].holders]
    if holder not in names:
        raise KeyAccessError(
            f"{holder[:60]}: expected one of the reviewers ({', '.join(names)}), got somebody else",
            remedy=f"Name a reviewer{meant(holder, names)}. A new one comes by policy/roles.yaml: twinseal trust renew",
        )
    if not isinstance(key, Passkey):
        raise KeyAccessError(
            f"{holder}: expected a passkey, got a plain public key",
            remedy=f"Replace a key in a file or a token by another: twinseal keys rotate {holder} --public FILE",
        )
    value = fingerprint(key)
    for role in anchor.roles.values():
        for item in role.holders:
            if fingerprint(item.key) == value:
                raise KeyAccessError(
                    f"{holder}: expected a new passkey, got the one that {item.name} has as {role.role}",
                    remedy="Each reviewer needs a passkey of their own: make another on the review page.",
                )
    if value in anchor.pins.revoked:
        raise KeyAccessError(
            f"{holder}: expected a passkey that counts, got one that was revoked",
            remedy="A revoked key never counts again: make another passkey on the review page.",
        )
    return key
