"""Overview: what expires when, in one list, for people and for the registrar's timer."""

from __future__ import annotations

from twinseal.trust.expiry import APPROVE, DAYS, MONTH, REGISTER, RENEW, Expiry
from twinseal.trust.release import repository
from twinseal.trust.root.home import Home


def expiries(home: Home) -> tuple[Expiry, ...]:
    """Everything in the repository of record that expires: root, pinned keys, delegation, approvals, freshness.

    Raises:
        RootError: The anchor or the repository is absent or damaged.
    """
    anchor = home.anchor()
    found = [Expiry("root", anchor.expires, MONTH, RENEW)]
    found += [
        Expiry(name, role.expires, MONTH, RENEW) for name, role in anchor.roles.items() if role.expires is not None
    ]
    found.append(Expiry("targets", repository.delegation(home).expires, MONTH, RENEW))
    for model in anchor.models:
        role = repository.role_of(home, model)
        if role is not None:
            found.append(Expiry(model, role.signed.expires, MONTH, APPROVE))
    freshness = min(repository.timestamp(home).expires, repository.snapshot(home).expires)
    return (*found, Expiry("registrar", freshness, DAYS, REGISTER))
