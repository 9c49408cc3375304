"""Cases: candidates that reviewers were asked about, and where each stands. Values, and the rules that need no disk.

A `Listing` has what was asked and decided: signatures over the release, counted, and the log. Whether the candidate's
files are those of the release is not known from it. A `Case` has that too: its files were hashed and its evidence
verified when it was made. Pages and decisions are about cases; a list of many candidates is made of listings.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

from twinseal.errors import EvidenceError
from twinseal.reading import read_regular
from twinseal.trust.release.candidate import VerifiedBundle
from twinseal.trust.release.release import Release
from twinseal.trust.release.request import Request
from twinseal.trust.release.review_file import Decision
from twinseal.trust.release.reviews import Reviews
from twinseal.trust.root.anchor import Anchor
from twinseal.trust.root.pins import RoleKeys
from twinseal.trust.root.roles import Roles

State = Literal["waits", "approved", "rejected", "registered", "replaced"]
SUBMITTED, OFFERED = "submitted.json", "offered.json"
MAX_SUBMITTED_BYTES = 4096


@dataclass(frozen=True)
class Listing:
    """One candidate that reviewers were asked about.

    Attributes:
        model_id: The candidate.
        request: What they sign.
        anchor: Who may sign, when this was made.
        reviews: What they have decided.
        submitted_by: The account that asked.
        submitted_at: When, RFC 3339.
        state: waits (for signatures), approved (enough, not published yet), rejected, registered (this is the current
            release), replaced (a later one is, or another candidate became this one).
        is_offered: Whether all of its publication is done, also what MLflow shows of it.
    """

    model_id: str
    request: Request
    anchor: Anchor
    reviews: Reviews
    submitted_by: str
    submitted_at: str
    state: State
    is_offered: bool

    @property
    def reviewers(self) -> RoleKeys:
        """Those who review its model."""
        return self.anchor.roles["reviewer"].of_model(self.request.release.model)

    def is_builder(self, holder: str) -> bool:
        """Whether the reviewer `holder` submitted it; the signed evidence says who built it."""
        return bool(self.submitted_by) and self.reviewers.quorum.is_among(holder, (self.submitted_by,))

    @property
    def is_open(self) -> bool:
        """Whether a decision about it can still change something."""
        return self.state not in ("registered", "replaced")

    @property
    def is_due(self) -> bool:
        """Whether the registrar has something to do: enough have signed it, and its publication is not done."""
        return self.state == "approved" or (
            self.state == "registered" and not self.is_offered and not self.reviews.count.missing
        )

    def require_open(self) -> None:
        """Refuse a decision about what is registered or replaced.

        Raises:
            EvidenceError: It is.
        """
        if not self.is_open:
            release = self.request.release
            raise EvidenceError(
                f"release {release.version} of {release.model}: expected one that waits for a decision, got one that "
                f"is {self.state}"
            )

    def require_not_submitter(self, holder: str, decision: Decision) -> None:
        """Refuse an approval by whoever submitted the candidate; the signed evidence says it of whoever built it.

        Raises:
            EvidenceError: It is one, or nobody knows.
        """
        if decision == "approve" and not self.submitted_by:
            raise EvidenceError(
                "approval: expected to know who submitted the candidate, got nothing about it",
                remedy="Its engineer submits it once more: dvc repro --force submit",
            )
        if decision == "approve" and self.is_builder(holder):
            raise EvidenceError(
                f"approval: expected a reviewer who did not submit the candidate, got {holder} "
                f"(submitted by {self.submitted_by})",
                remedy="Another reviewer must approve it.",
            )


@dataclass(frozen=True)
class Checked:
    """What came of the verification of a candidate's files.

    Attributes:
        place: The folder of its files on this machine; None when MLflow has no such candidate.
        bundle: The candidate, verified just now; None when it does not verify.
        passed: The steps of that verification that passed, in words.
        fault: Why it does not verify; "" when it does.
    """

    place: Path | None
    bundle: VerifiedBundle | None
    passed: tuple[str, ...]
    fault: str


@dataclass(frozen=True)
class Case(Listing):
    """One candidate, and whether it verifies.

    Attributes:
        checked: The verification.
    """

    checked: Checked

    @classmethod
    def of(cls, listing: Listing, checked: Checked) -> Case:
        """The case of a listing whose candidate was verified."""
        return cls(**{item.name: getattr(listing, item.name) for item in fields(Listing)}, checked=checked)

    @property
    def bundle(self) -> VerifiedBundle | None:
        """The candidate, verified; None when it does not verify."""
        return self.checked.bundle

    @property
    def passed(self) -> tuple[str, ...]:
        """The steps of the verification that passed, in words."""
        return self.checked.passed

    @property
    def fault(self) -> str:
        """Why it does not verify; "" when it does."""
        return self.checked.fault

    def require_verified(self) -> VerifiedBundle:
        """The candidate.

        Raises:
            EvidenceError: It does not verify.
        """
        if self.bundle is None:
            raise EvidenceError(f"candidate {self.model_id}: expected one that verifies, got: {self.fault}")
        return self.bundle

    @property
    def roles(self) -> Roles:
        """The roles of the policy that owners have signed and the candidate was judged by.

        Raises:
            EvidenceError: The candidate does not verify.
        """
        return Roles.of_policy(self.require_verified().policy.content)


def state_of(release: Release, published: Release | None, reviews: Reviews) -> State:
    """Where a release stands, beside what is published of its model."""
    if published is not None and published.version >= release.version:
        return "registered" if published.sha256 == release.sha256 else "replaced"
    if reviews.rejections:
        return "rejected"
    return "waits" if reviews.count.missing else "approved"


def read_submitted(folder: Path) -> tuple[str, str]:
    """Which account asked for a review, and when; empty where a server was killed before it said so."""
    try:
        value: Any = json.loads(read_regular(folder / SUBMITTED, MAX_SUBMITTED_BYTES))
        return str(value["account"]), str(value["time"])
    except (OSError, ValueError, KeyError, TypeError):
        return "", ""
