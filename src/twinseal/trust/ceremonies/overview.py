"""Overview: what expires when, in one list, for people and for the registrar's timer."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from twinseal.trust.release import repository
from twinseal.trust.root.home import Home

RENEW, REGISTER, APPROVE = (
    "custodians: twinseal trust renew",
    "registrar: twinseal register --renew",
    "submit and approve again: dvc repro --force --single-item submit",
)


@dataclass(frozen=True)
class Expiry:
    """Something that was signed, and until when it counts.

    Attributes:
        what: Its name in the repository of record, or the role whose keys are pinned.
        expires: Aware, UTC.
        near: How long before its end it is urgent.
        remedy: What must be done, and by which role.
    """

    what: str
    expires: datetime
    near: timedelta
    remedy: str

    def is_urgent(self, now: datetime) -> bool:
        """Whether it has expired at `now`, or nearly."""
        return now >= self.expires - self.near

    def time_left(self, now: datetime) -> str:
        """In words, for how long it still counts.

        >>> from datetime import UTC
        >>> end = datetime(2026, 3, 9, tzinfo=UTC)
        >>> Expiry("root", end, timedelta(days=30), "").time_left(datetime(2026, 3, 1, tzinfo=UTC))
        'until 2026-03-09, 8 days left'
        """
        days = (self.expires - now) // timedelta(days=1)
        if now >= self.expires:
            return f"expired {self.expires:%Y-%m-%d}"
        return f"until {self.expires:%Y-%m-%d}, {days} {'day' if days == 1 else 'days'} left"


def expiries(home: Home) -> tuple[Expiry, ...]:
    """Everything in the repository of record that expires: root, pinned keys, delegation, approvals, freshness.

    Raises:
        RootError: The anchor or the repository is absent or damaged.
    """
    anchor = home.anchor()
    month, days = timedelta(days=30), timedelta(days=4)
    found = [Expiry("root", anchor.expires, month, RENEW)]
    found += [
        Expiry(name, role.expires, month, RENEW) for name, role in anchor.roles.items() if role.expires is not None
    ]
    found.append(Expiry("targets", repository.delegation(home).expires, month, RENEW))
    for model in anchor.models:
        role = repository.role_of(home, model)
        if role is not None:
            found.append(Expiry(model, role.signed.expires, month, APPROVE))
    freshness = min(repository.timestamp(home).expires, repository.snapshot(home).expires)
    return (*found, Expiry("registrar", freshness, days, REGISTER))
