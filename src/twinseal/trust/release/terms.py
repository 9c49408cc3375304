"""Terms: what reviewers sign beside the files, checked against policy and against what was published last.

The signed bytes hold three things that no file of the bundle decides: the version of the release, the version of the
role that lists it, and until when the approval is valid. Whoever can edit `models/release/` could choose them.
`check_terms` refuses every value that policy/roles.yaml and the repository of record do not lead to. What it returns is
shown to the reviewer before the signature; the registrar checks the same again. Numbered as in its body:

1. the bytes are exactly those that `compose_role` makes of what is shown: no other field, and no signature among them
2. the model is one of the anchor's and of the policy's
3. release and role are the next versions, and the release names the one before as its parent
4. the approval is valid now, and for no longer than policy allows
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from twinseal.errors import EvidenceError, RollbackError, SignatureError
from twinseal.trust.release.model_role import check_expiry, check_release, compose_role, model_of, parse_role
from twinseal.trust.release.release import MAX_VERSION
from twinseal.trust.release.request import Request
from twinseal.trust.root.anchor import Anchor
from twinseal.trust.root.roles import Roles

SLACK = timedelta(hours=1)  # by so much the clocks of those who submit, review and register may differ
RESUBMIT = "Submit it again, and have it reviewed again: dvc repro --force --single-item submit"


@dataclass(frozen=True)
class LastPublished:
    """What the repository of record published last of a model.

    Attributes:
        release: Version of the release; 0 before the first.
        role: Version of the model's role; 0 before the first.
    """

    release: int = 0
    role: int = 0


@dataclass(frozen=True)
class Terms:
    """What is signed beside the files.

    Attributes:
        model: Name of the model.
        release: Version of the release.
        replaces: The version that it replaces; None for the first.
        role: Version of the role.
        expires: Until when an approval of it is valid, aware, UTC.
        last: What was published last; None when this machine has no repository of record.
    """

    model: str
    release: int
    replaces: int | None
    role: int
    expires: datetime
    last: LastPublished | None

    def lines(self, now: datetime) -> tuple[str, ...]:
        """The terms in words, a line each."""
        days = (self.expires - now) // timedelta(days=1)
        replaced = "the first release" if self.replaces is None else f"replaces release {self.replaces}"
        if self.last is None:
            known = "last release: not known on this machine; the registrar checks it"
        else:
            known = f"last release: {self.last.release or 'none'}, as it must be"
        return (
            f"valid until {self.expires:%Y-%m-%d %H:%M} UTC ({days} {'day' if days == 1 else 'days'})",
            f"release {self.release}, {replaced}; role version {self.role}; {known}",
        )


def check_terms(request: Request, *, anchor: Anchor, roles: Roles, last: LastPublished | None, now: datetime) -> Terms:
    """The terms of a request, once they are what policy and the repository lead to.

    Args:
        request: What is to be signed.
        anchor: The models that may be released.
        roles: policy/roles.yaml: for how long an approval is valid.
        last: What was published last; None when this machine does not know.
        now: Aware, UTC.

    Raises:
        DigestMismatchError: The role lists other bytes than the release's.
        SignatureError: The role is malformed, or more than what `submit` writes.
        EvidenceError: The model is unknown, the parent is not the version before, or the approval would be valid for
            longer than policy allows.
        RollbackError: A version is not the next.
        ExpiredError: It has expired.
    """
    release, model = request.release, model_of(request.role_bytes)
    role = parse_role(request.role_bytes, model)
    check_release(role, request.release_bytes, model)
    signed = role.signed
    if request.role_bytes != compose_role(release, version=signed.version, expires=signed.expires):  # 1
        raise SignatureError(
            f"role {model}: expected exactly the unsigned role that submit writes, got other bytes", remedy=RESUBMIT
        )
    if model not in anchor.models or model not in roles.models:  # 2
        known = ", ".join(name for name in anchor.models if name in roles.models) or "none"
        raise EvidenceError(f"release: expected a model of the anchor and of policy/roles.yaml ({known}), got {model}")
    terms = Terms(model, release.version, release.parent_version, signed.version, signed.expires, last)
    _check_versions(terms)  # 3
    check_expiry(role, now, f"staged role of {model}")  # 4
    _check_lifetime(terms, roles, now)
    return terms


def _check_versions(terms: Terms) -> None:
    if terms.last is not None:
        for name, got, last in (("release", terms.release, terms.last.release), ("role", terms.role, terms.last.role)):
            if got != last + 1:
                raise RollbackError(
                    f"{name} version: expected {last + 1}, the next, got {got} ({terms.model})", remedy=RESUBMIT
                )
    if terms.role > MAX_VERSION:
        raise EvidenceError(f"role {terms.model}: expected a version up to {MAX_VERSION}, got {terms.role}")
    parent = terms.release - 1 or None
    if terms.replaces != parent:
        raise EvidenceError(
            f"release {terms.release} of {terms.model}: expected that it replaces {parent or 'none'}, the one before, "
            f"got {terms.replaces or 'none'}",
            remedy=RESUBMIT,
        )


def _check_lifetime(terms: Terms, roles: Roles, now: datetime) -> None:
    latest = roles.expiry("reviewer", now)
    if terms.expires > latest + SLACK:
        raise EvidenceError(
            f"approval of {terms.model}: expected it to end by {latest:%Y-%m-%d}, in {roles['reviewer'].expires_days} "
            f"days (policy/roles.yaml), got {terms.expires:%Y-%m-%d}",
            remedy="models/release/role.json was changed, or policy was. " + RESUBMIT,
        )
