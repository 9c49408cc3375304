"""Inspection: a proposed root and delegation, compared with policy and with the root before, in words for a custodian.

A proposal is a folder that is carried from machine to machine: whoever had it could have changed it. So a custodian
signs only what this module lets pass, and reads all of it first. Numbered as in the body of `inspect`:

1. the bytes are exactly those that `custody` makes of what is shown: no field beside it would be signed unread
2. the versions of root and delegation are the next
3. the pins are those of policy/roles.yaml with the keys that holders have; or the root before with exactly one key
   replaced or removed, as a rotation or a revocation makes it
4. root, delegation and pins are valid now, and for no longer than policy allows
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from tuf.api.metadata import Root, Targets  # type: ignore[attr-defined]  # tuf re-exports these without saying so

from twinseal.errors import ExpiredError, RootError
from twinseal.trust.ceremonies.custody import TARGETS, Proposal, compose_root, compose_targets
from twinseal.trust.keys.key import fingerprint, kind_of
from twinseal.trust.release.repository import delegation
from twinseal.trust.release.terms import SLACK
from twinseal.trust.root.anchor import ROOT, Anchor
from twinseal.trust.root.home import Home
from twinseal.trust.root.metadata import parse, signed_bytes
from twinseal.trust.root.pins import REQUIRED, Holder, Pins, RoleKeys
from twinseal.trust.root.quorum import Quorum
from twinseal.trust.root.roles import NAMES, PINNED_UNTIL, Roles

REMEDY = (
    "Do not sign it. Ask who made it, and compare it with what counts now: twinseal trust show. If it is only older "
    "than policy/roles.yaml, delete the proposal and make it again: twinseal trust renew"
)


@dataclass(frozen=True)
class Inspected:
    """A proposal that may be signed, with what it changes.

    Attributes:
        proposal: The bytes that were inspected.
        before: The root that it succeeds; None for the first.
        pins: The keys of each role, from now on.
        version: Of the root.
        delegation: Version of the delegation.
        last_delegation: The one that is published; None when this machine has no repository of record.
        expires: Until when the root is valid, aware, UTC.
        delegation_expires: Until when the delegation is valid, aware, UTC.
    """

    proposal: Proposal
    before: Anchor | None
    pins: Pins
    version: int
    delegation: int
    last_delegation: int | None
    expires: datetime
    delegation_expires: datetime

    def lines(self, now: datetime) -> Iterator[str]:
        """All of it in words: what is new is marked, and what was before stands beside it."""
        was = "the first" if self.before is None else f"was {self.before.version}"
        known = "the last one is not known on this machine" if self.last_delegation is None else "the next"
        known = was if self.before is None else known
        yield f"root: version {self.version} ({was}), valid {_until(self.expires, now)}"
        yield f"delegation: version {self.delegation} ({known}), valid {_until(self.delegation_expires, now)}"
        old = None if self.before is None else self.before.pins
        for name in NAMES:
            yield from _role_lines(self.pins.roles[name], None if old is None else old.roles.get(name), now)
        for value in self.pins.revoked:
            yield f"  revoked {'before' if old is not None and value in old.revoked else 'for good'}: key {value}"
        yield f"models: {_listed(self.pins.models, None if old is None else old.models)}"
        yield f"evidence of a release: {_listed(_evidence(self.pins), None if old is None else _evidence(old))}"
        yield "throw-away keys: a demo" if self.pins.demo else "real keys: no demo"


def inspect(home: Home, proposal: Proposal, roles: Roles, now: datetime) -> Inspected:
    """The proposal, once policy and the root before lead to it.

    Args:
        home: Its anchor is the root before; without one this is the first root.
        proposal: What is to be signed.
        roles: policy/roles.yaml.
        now: Aware, UTC.

    Raises:
        RootError: It holds more than what is shown; it is not the next; it is valid for longer than policy allows; or
            it differs from policy without being one rotation or revocation.
        ExpiredError: Something in it is too old.
        SignatureError: It is malformed.
    """
    before = home.anchor() if home.anchor_dir.exists() else None
    root, targets = parse(Root, proposal.root, ROOT), parse(Targets, proposal.targets, TARGETS)
    pins, one, other = proposal.pins, root.signed, targets.signed
    expected = compose_root(pins, one.version, one.expires), compose_targets(pins, other.version, other.expires)  # 1
    for name, kind, got, wanted in ((ROOT, Root, root, expected[0]), (TARGETS, Targets, targets, expected[1])):
        if signed_bytes(got, name) != signed_bytes(parse(kind, wanted, name), name) or got.unrecognized_fields:
            raise RootError(
                f"proposal {name}: expected what its pins lead to and nothing else, got more", remedy=REMEDY
            )
    published = delegation(home) if home.repository.is_dir() and before is not None else None
    last = None if published is None else published.version
    if before is None and one.version > 1:  # 2
        raise RootError(
            f"{home.anchor_dir}: expected the root that version {one.version} succeeds, got none on this machine",
            remedy=f"Carry the anchor here too, to {home.anchor_dir}, and compare its sha256 with that of a twin.",
        )
    _check_version(ROOT, one.version, 0 if before is None else before.version)
    if before is None or (published is not None and other != published):  # the same again: its publication was killed
        _check_version(TARGETS, other.version, last or 0)
    _check_pins(pins, before, roles)  # 3
    _check_expiry(ROOT, one.expires, roles, "root", now)  # 4
    _check_expiry(TARGETS, other.expires, roles, "targets", now)
    for name in PINNED_UNTIL:
        _check_expiry(f"pins of {name}", pins.roles[name].expires, roles, name, now)
    return Inspected(proposal, before, pins, one.version, other.version, last, one.expires, other.expires)


def _check_version(name: str, got: int, last: int) -> None:
    if got != last + 1:
        raise _difference(name, f"version {last + 1}, the next", str(got))


def _check_expiry(what: str, expires: datetime | None, roles: Roles, role: str, now: datetime) -> None:
    latest, got = roles.expiry(role, now), "none" if expires is None else f"{expires:%Y-%m-%d %H:%M}"
    if expires is None or expires > latest + SLACK:
        until = f"{latest:%Y-%m-%d %H:%M} UTC ({roles[role].expires_days} days, policy/roles.yaml)"
        raise _difference(what, f"an end by {until}", got)
    if expires <= now:
        raise ExpiredError(
            f"proposal, {what}: expected an end after {now:%Y-%m-%d %H:%M} UTC, got {got}",
            remedy="It waited too long: delete the proposal, and make it again: twinseal trust renew",
        )


def _check_pins(pins: Pins, before: Anchor | None, roles: Roles) -> None:
    for name, role in pins.roles.items():
        if name not in PINNED_UNTIL and role.expires is not None:
            raise _difference(name, "no end of its own", f"{role.expires:%Y-%m-%d}")
    revoked, demo = ((), False) if before is None else (before.pins.revoked, before.demo)
    if pins.demo != demo:
        raise _difference("demo", str(demo), str(pins.demo))
    lost, newly = sorted(set(revoked) - set(pins.revoked)), sorted(set(pins.revoked) - set(revoked))
    if lost:
        raise _difference("revoked", "all keys that were revoked before", f"all but {lost[0][:16]}…")
    if before is None and newly:
        raise _difference("revoked", "no key in a first root", str(len(newly)))
    if before is not None and newly:
        _check_one_key(pins, before.pins, newly)
    else:
        _check_policy(pins, before, roles)


def _check_policy(pins: Pins, before: Anchor | None, roles: Roles) -> None:
    """A first root, or a renewal: what policy/roles.yaml says, and holders keep their keys."""
    known = {} if before is None else {h.name: h.key for role in before.roles.values() for h in role.holders}
    for name in NAMES:
        role, policy = pins.roles[name], roles[name]
        names = tuple(holder.name for holder in role.holders)
        if (names, role.threshold) != (policy.holders, policy.threshold):
            wanted = f"{policy.threshold} of {', '.join(policy.holders)} (policy/roles.yaml)"
            raise _difference(name, wanted, f"{role.threshold} of {', '.join(names)}")
        if role.quorum != policy.quorum:
            wanted = f"{_in_words(policy.quorum)} (policy/roles.yaml)"
            raise _difference(f"who counts of {name}", wanted, _in_words(role.quorum))
        for holder in role.holders:
            if known.get(holder.name, holder.key) != holder.key:
                raise _difference(name, f"{holder.name} to keep the key", f"another, {fingerprint(holder.key)[:16]}…")
    if pins.models != roles.models:
        raise _difference("models", f"{', '.join(roles.models)} (policy/roles.yaml)", ", ".join(pins.models))
    old = REQUIRED if before is None else before.pins.evidence
    kept = set(old) <= set(pins.evidence) <= {*old, *REQUIRED}
    if not kept:
        raise _difference("evidence", ", ".join(i.name for i in old), ", ".join(i.name for i in pins.evidence))


def _check_one_key(pins: Pins, old: Pins, newly: list[str]) -> None:
    """A rotation or a revocation: the root before, with one key replaced, or one holder removed, and revoked."""
    gone = [h.name for role in old.roles.values() for h in role.holders if fingerprint(h.key) in newly]
    if len(newly) != 1 or len(set(gone)) != 1:
        raise _difference("revoked", "one key of one holder more", f"{len(newly)}, of {', '.join(gone) or 'nobody'}")
    now_held = {h.key.keyid: h.key for role in pins.roles.values() for h in role.holders if h.name == gone[0]}
    key = next(iter(now_held.values()), None)
    for name in NAMES:
        holders = tuple(
            Holder(item.name, key) if item.name == gone[0] and key is not None else item
            for item in old.roles[name].holders
            if item.name != gone[0] or key is not None
        )
        quorum = old.roles[name].quorum if key is not None else old.roles[name].quorum.without(gone[0])
        wanted = replace(old.roles[name], holders=holders, expires=None, quorum=quorum) if holders else None
        if replace(pins.roles[name], expires=None) != wanted:
            raise _difference(name, f"the role as before, but for the key of {gone[0]}", "another change beside it")
    if (pins.models, pins.evidence) != (old.models, old.evidence):
        raise _difference("models and evidence", "those of the root before", "others")


def _difference(what: str, expected: str, got: str) -> RootError:
    return RootError(f"proposal, {what}: expected {expected}, got {got}", remedy=REMEDY)


def _in_words(quorum: Quorum) -> str:
    return "; ".join(quorum.lines()) or "the threshold alone"


def _role_lines(role: RoleKeys, before: RoleKeys | None, now: datetime) -> Iterator[str]:
    old = {} if before is None else {holder.name: fingerprint(holder.key) for holder in before.holders}
    count = f"{role.threshold} of {', '.join(holder.name for holder in role.holders)}"
    if before is not None and before.threshold != role.threshold:
        count = f"{role.threshold} (was {before.threshold}) of {', '.join(holder.name for holder in role.holders)}"
    yield f"{role.role}: {count}" + ("" if role.expires is None else f", valid {_until(role.expires, now)}")
    quorum = before.quorum if before is not None else Quorum()
    if role.quorum != quorum:
        yield f"  who counts of {role.role}: {_in_words(role.quorum)} (was {_in_words(quorum)})"
    for holder in role.holders:
        value, kind = fingerprint(holder.key), kind_of(holder.key)
        shown = f"{value} ({kind})" if kind else value
        if holder.name not in old:
            yield f"  new holder {holder.name}: key {shown}"
        elif old[holder.name] != value:
            yield f"  new key of {holder.name}: {shown}, was {old[holder.name][:16]}…"
    for name in old:
        if name not in {holder.name for holder in role.holders}:
            yield f"  removed {name}"


def _evidence(pins: Pins) -> tuple[str, ...]:
    return tuple(f"{item.name} by {item.role}" for item in pins.evidence)


def _listed(items: tuple[str, ...], before: tuple[str, ...] | None) -> str:
    words = ", ".join(items)
    return words if before is None or before == items else f"{words} (was {', '.join(before)})"


def _until(expires: datetime, now: datetime) -> str:
    days = (expires - now) // timedelta(days=1)
    return f"until {expires:%Y-%m-%d} ({days} {'day' if days == 1 else 'days'})"
