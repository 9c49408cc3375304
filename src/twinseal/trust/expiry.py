"""Something that was signed, and until when it counts; in words for people."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

RENEW, REGISTER, APPROVE = (
    "custodians: twinseal trust renew",
    "registrar: twinseal register --renew",
    "submit and approve again: dvc repro --force --single-item submit",
)
MONTH, DAYS = timedelta(days=30), timedelta(days=4)


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
