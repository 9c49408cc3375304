"""Until when the trust of a twin lasts: what it verified was signed to count until a certain day, and no longer.

A twin that cannot reach its registry keeps its model, and answers; but it says that its trust has ended. Whoever must
act for the trust to go on is named: custodians for the root and the pinned keys, reviewers for the approval, the
registrar for the freshness. Then the twin has to pull.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from twinseal.errors import TwinsealError
from twinseal.trust.expiry import Expiry
from twinseal.trust.release.cached_expiries import cached_expiries
from twinseal.trust.root.anchor import Anchor
from twinseal.twin.state import State, pull_command

Trust = Literal["valid", "ends soon", "ended", "unknown"]


@dataclass(frozen=True)
class TrustEnds:
    """What ends when.

    Attributes:
        expiries: Everything that was signed to count until a certain time; none if it is not known.
        pull: The command that fetches what is renewed.
        unknown: Why it is not known; "" if it is.
    """

    expiries: tuple[Expiry, ...]
    pull: str
    unknown: str = ""

    def state(self, now: datetime) -> Trust:
        """In one word, at `now`."""
        if self.unknown or not self.expiries:
            return "unknown"
        if any(now >= item.expires for item in self.expiries):
            return "ended"
        return "ends soon" if any(item.is_urgent(now) for item in self.expiries) else "valid"

    def warnings(self, now: datetime) -> tuple[str, ...]:
        """What a person should know at `now`: what has ended or ends soon, and who must act; none if all is well."""
        if self.unknown:
            return (f"until when the trust in this model lasts is not known: {self.unknown}. Then: {self.pull}",)
        return tuple(
            f"trust: {item.what}: {item.time_left(now)}. {item.remedy}; then here: {self.pull}"
            for item in sorted(self.expiries, key=lambda item: item.expires)
            if item.is_urgent(now)
        )

    def summary(self, now: datetime) -> tuple[str, str]:
        """What has ended or ends soon at `now`, shortly, the first to end first; and what the first asks of whom."""
        urgent = sorted((item for item in self.expiries if item.is_urgent(now)), key=lambda item: item.expires)
        if self.unknown or not urgent:
            return f"until when the trust in this model lasts is not known: {self.unknown}", self.pull
        said = "; ".join(f"{item.what}: {item.time_left(now)}" for item in urgent)
        return said, f"{urgent[0].remedy}; then here: {self.pull}"


def trust_ends(state: State, anchor: Anchor, model: str) -> TrustEnds:
    """Of the twin at `state`, from the metadata that its last pull verified."""
    pull = pull_command(model, state.path)
    try:
        return TrustEnds(cached_expiries(anchor, state.metadata, model), pull)
    except (TwinsealError, OSError) as error:
        return TrustEnds((), pull, str(error) or type(error).__name__)
