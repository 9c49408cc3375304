"""Ceremonies: what custodians do together. Each leads to a new root, through `twinseal.trust.ceremonies.custody`.

    init_demo, init   the first root
    renew             a new root with today's policy/roles.yaml, before the old one expires
    rotate            another key for one holder; the old key never counts again
    revoke            one holder fewer; the key never counts again
    finish            sign the proposal with the keys on this machine; publish it once enough have signed

On a demo machine all keys are made here, unencrypted, and every message says so. On a real one each holder makes a key
and gives the public half to a custodian (`keys/<holder>.pub`). Custodians sign one after the other, each on the machine
that has the key.

Each holds the lock of the home. `new_log` lets one go on where the audit log was changed or lost (see `custody`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime

import structlog

from twinseal.errors import KeyAccessError, RootError, ThresholdError
from twinseal.files import write_whole
from twinseal.trust.ceremonies import custody
from twinseal.trust.ceremonies.inspection import inspect
from twinseal.trust.keys.key import Key, KeySigner, fingerprint, generate_key_pair, open_signer, read_public_key
from twinseal.trust.keys.passkeys import public_file
from twinseal.trust.keys.passphrases import Passphrase, from_environment
from twinseal.trust.root.anchor import Anchor
from twinseal.trust.root.home import Home
from twinseal.trust.root.pins import Holder, Pins, RoleKeys, meant
from twinseal.trust.root.roles import NAMES, PINNED_UNTIL, Roles

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Outcome:
    """The state of a ceremony.

    Attributes:
        anchor: The new anchor; None while the proposal waits.
        missing: What it waits for, a line each.
        signed: Custodians whose keys are on this machine; they have signed.
    """

    anchor: Anchor | None
    missing: tuple[str, ...] = ()
    signed: tuple[str, ...] = ()


def init_demo(home: Home, roles: Roles, now: datetime) -> Anchor:
    """A first root and throw-away keys for every role: to try things out on one machine, never for a real one.

    Keys that an interrupted run left are used again.

    Raises:
        RootError: There is an anchor already.
        KeyAccessError: A key cannot be written or read.
    """
    with home.locked():
        return _init_demo(home, roles, now)


def _init_demo(home: Home, roles: Roles, now: datetime) -> Anchor:
    _require_no_anchor(home)
    _require_no_proposal(home)
    gathered = [
        holder for holder in roles.holders if not home.has_key(holder) and (home.keys / f"{holder}.pub").exists()
    ]
    if gathered:
        raise KeyAccessError(
            f"{home.keys}: expected no real keys beside those of a demo, found those of {', '.join(gathered)}",
            remedy="For real keys: twinseal init. For a demo: another folder, in $TWINSEAL_HOME.",
        )
    for holder in roles.holders:
        if not home.has_key(holder):
            generate_key_pair(home.keys / f"{holder}.pem", passphrase=None)
    signers = {holder: home.signer(holder) for holder in roles.holders}
    keys = {holder: signer.public_key for holder, signer in signers.items()}
    log.warning("anchor.demo", home=str(home.path), why="keys are unencrypted and all on one machine")
    pins = custody.pins_of(roles, keys, now, demo=True)
    proposal = custody.sign(custody.propose(home, pins, roles, now), signers.values(), None)
    registrar = signers[roles["registrar"].holders[0]]
    return custody.publish(home, proposal, registrar=registrar, roles=roles, now=now)


def init(home: Home, roles: Roles, now: datetime, *, passphrase: Passphrase = from_environment) -> Outcome:
    """A first root from keys that are there already.

    Args:
        home: Holds `keys/<holder>.pub` of every holder, or names a private key that this machine can open.
        roles: Who holds what.
        now: Aware, UTC.
        passphrase: Asked for each key of a custodian or of the registrar that is here.

    Raises:
        KeyAccessError: A public key is missing, or a private one cannot be opened.
        RootError: There is an anchor, or a proposal, already.
    """
    with home.locked():
        _require_no_anchor(home)
        _require_no_proposal(home)
        here = dict(_open_local_signers(home, _custodians(roles), passphrase))
        keys = {holder: _public_key_of(home, holder, here.get(holder)) for holder in roles.holders}
        return _propose(home, custody.pins_of(roles, keys, now), roles, now, passphrase)


def renew(
    home: Home, roles: Roles, now: datetime, *, passphrase: Passphrase = from_environment, new_log: bool = False
) -> Outcome:
    """The next root, with today's policy: keys stay, new holders bring `keys/<holder>.pub`.

    Raises:
        KeyAccessError: A new holder's public key is missing, or a private key cannot be opened.
        RootError: A key that was revoked would come back; a proposal waits already.
        AuditError: As `custody.publish`.
    """
    with home.locked():
        _require_no_proposal(home)
        before = home.anchor()
        pins = _renewed_pins(home, before, roles, now)
        return _propose(home, pins, roles, now, passphrase, new_log)


def _renewed_pins(home: Home, before: Anchor, roles: Roles, now: datetime) -> Pins:
    known = {holder.name: holder.key for role in before.roles.values() for holder in role.holders}
    keys = {holder: known.get(holder) or _public_key_of(home, holder, None) for holder in roles.holders}
    for holder, key in keys.items():
        if fingerprint(key) in before.pins.revoked:
            raise RootError(
                f"{holder}: expected a key that counts, got one that was revoked",
                remedy=f"Take {holder} out of policy/roles.yaml, or replace {home.keys / holder}.pub by a new key's.",
            )
    return custody.pins_of(roles, keys, now, evidence=before.evidence, revoked=before.pins.revoked, demo=before.demo)


def rotate(
    home: Home,
    roles: Roles,
    holder: str,
    now: datetime,
    *,
    public: Key | None = None,
    passphrase: Passphrase = from_environment,
    new_passphrase: Callable[[], bytes | None] = lambda: None,
    new_log: bool = False,
) -> Outcome:
    """A root with another key for `holder`, in every role that they have; the old key never counts again.

    Args:
        home: Where.
        roles: For how long the new root holds.
        holder: The holder whose key is replaced.
        now: Aware, UTC.
        public: The new public key, of a holder elsewhere; None: a pair is made here, in `keys/next/`.
        passphrase: Asked for each key of a custodian or of the registrar that is here.
        new_passphrase: Asked for the passphrase of the pair that is made; None leaves it in the clear. The home is not
            locked meanwhile.
        new_log: Set aside an audit log that was changed or lost, and begin another.

    Raises:
        KeyAccessError: Nobody of that name has a role; the new key is the old one, or cannot be written.
        RootError: The new key was revoked, or is somebody else's; a proposal waits already.
    """
    _require_no_proposal(home)
    key_of_holder(home.anchor(), holder)
    place = home.keys / "next" / f"{holder}.pem"
    if public is not None and place.exists():
        raise KeyAccessError(
            f"{place}: expected no key of a rotation that was not finished, found one",
            remedy="If it is not needed any more, delete it; then run this again.",
        )
    if public is None:
        again = place.exists()  # made by a rotation that was interrupted
        secret = new_passphrase()
        public = (
            open_signer(f"file:{place}", passphrase=secret, holder=holder).public_key
            if again
            else generate_key_pair(place, passphrase=secret)
        )
    with home.locked():
        _require_no_proposal(home)
        before = home.anchor()  # only now: somebody may have been asked for a passphrase, and another root published
        old = key_of_holder(before, holder)
        if fingerprint(public) == fingerprint(old):
            raise KeyAccessError(
                f"{holder}: expected a new key, got the one that the root has already",
                remedy=f"Have {holder} make one: twinseal keys new {holder} --out NEW.pem. Then: "
                f"twinseal keys rotate {holder} --public NEW.pub",
            )
        changed = {
            name: replace(
                role, holders=tuple(Holder(h.name, public if h.name == holder else h.key) for h in role.holders)
            )
            for name, role in before.roles.items()
        }
        pins = _pins_after_revoking(before, changed, old, roles, now)
        write_whole(place.with_suffix(".pub"), public_file(public))
        return _propose(home, pins, roles, now, passphrase, new_log)


def revoke(
    home: Home,
    roles: Roles,
    holder: str,
    now: datetime,
    *,
    passphrase: Passphrase = from_environment,
    new_log: bool = False,
) -> Outcome:
    """A root without this holder, in every role that they had; their key never counts again.

    Raises:
        KeyAccessError: Nobody of that name has a role.
        ThresholdError, RootError: A role could not be met any more.
        RootError: A proposal waits already.
        AuditError: As `custody.publish`.
    """
    with home.locked():
        _require_no_proposal(home)
        before = home.anchor()
        old = key_of_holder(before, holder)
        pins = _pins_after_revoking(before, _roles_without(before, holder), old, roles, now)
        return _propose(home, pins, roles, now, passphrase, new_log)


def _roles_without(before: Anchor, holder: str) -> dict[str, RoleKeys]:
    changed: dict[str, RoleKeys] = {}
    for name, role in before.roles.items():
        left = tuple(item for item in role.holders if item.name != holder)
        if len(left) < role.threshold:
            raise ThresholdError(
                f"{name}: expected {role.threshold} holders to be left without {holder}, got {len(left)}",
                remedy=f"Replace the key instead: twinseal keys rotate {holder}",
            )
        changed[name] = role.without(holder)
    return changed


def finish(
    home: Home,
    roles: Roles,
    now: datetime,
    *,
    passphrase: Passphrase = from_environment,
    shown: custody.Proposal | None = None,
    new_log: bool = False,
) -> Outcome:
    """Sign the proposal with the custodians' keys on this machine; publish it once enough have signed.

    Side effects: the signed proposal, or the new root; keys that it brought in take their places.

    Args:
        home: Where.
        roles: What the proposal must be (`inspection.inspect`).
        now: Aware, UTC.
        passphrase: Asked for each key of a custodian or of the registrar that is here.
        shown: What the custodian has read; nothing else is signed.
        new_log: Set an audit log aside that was changed or lost, and begin another.

    Raises:
        RootError: Nothing is proposed; it is not what was shown; or policy does not lead to it.
        KeyAccessError: A key that is here cannot be opened.
        RollbackError, ExpiredError, SignatureError, AuditError: As `custody.publish`.
    """
    with home.locked():
        return _finish(home, roles, now, passphrase, shown, new_log)


def _finish(
    home: Home, roles: Roles, now: datetime, passphrase: Passphrase, shown: custody.Proposal | None, new_log: bool
) -> Outcome:
    before = home.anchor() if home.anchor_dir.exists() else None
    if before is not None:
        _put_new_keys_in_place(home, before)  # of a publication that was killed just before its end
    proposal = custody.Proposal.read(home.proposal_dir)
    if shown is not None and proposal != shown:
        raise RootError(
            f"{home.proposal_dir}: expected the proposal that was shown, got another one since",
            remedy="Nothing was signed. Read it again: twinseal trust sign",
        )
    pins = inspect(home, proposal, roles, now).pins
    named = {h.name for p in (pins, before) if p for r in ("root", "targets", "registrar") for h in p.roles[r].holders}
    keys_here = list(_open_local_signers(home, sorted(named), passphrase))
    here = [signer for _, signer in keys_here]
    proposal = custody.sign(proposal, here, before)
    proposal.write(home.proposal_dir)
    waits = tuple(map(str, custody.missing_signatures(proposal, before)))
    keyids = pins.roles["registrar"].keys
    registrar = next((signer for signer in here if signer.public_key.keyid in keyids), None)
    if registrar is None:
        names = ", ".join(item.name for item in pins.roles["registrar"].holders)
        waits = (*waits, f"the timestamp: the registrar must sign ({names}); that key is not on this machine")
    custodians = {keyid for p in (pins, before) if p for name in ("root", "targets") for keyid in p.roles[name].keys}
    signed = dict.fromkeys(name for name, signer in keys_here if signer.public_key.keyid in custodians)
    if waits:
        return Outcome(None, waits, tuple(signed))
    anchor = custody.publish(home, proposal, registrar=registrar, roles=roles, now=now, new_log=new_log)
    _put_new_keys_in_place(home, anchor)
    return Outcome(anchor, signed=tuple(signed))


def _propose(
    home: Home, pins: Pins, roles: Roles, now: datetime, passphrase: Passphrase, new_log: bool = False
) -> Outcome:
    custody.propose(home, pins, roles, now).write(home.proposal_dir)
    return _finish(home, roles, now, passphrase, None, new_log)


def _pins_after_revoking(before: Anchor, changed: dict[str, RoleKeys], old: Key, roles: Roles, now: datetime) -> Pins:
    pinned = {
        name: replace(role, expires=roles.expiry(name, now)) if name in PINNED_UNTIL else role
        for name, role in changed.items()
    }
    revoked = tuple(sorted({*before.pins.revoked, fingerprint(old)}))
    return replace(before.pins, roles=pinned, revoked=revoked)


def _put_new_keys_in_place(home: Home, anchor: Anchor) -> None:
    """Move keys that the new root names into their places; the old ones go to `keys/retired/`, and count no longer.

    The public half first: after an interruption, the next call sees from it whose the private half is.
    """
    counted = {key.keyid for role in anchor.roles.values() for key in role.keys.values()}
    for suffix in (".pub", ".pem"):
        for fresh in sorted((home.keys / "next").glob(f"*{suffix}")):
            place, public = home.keys / fresh.name, fresh.with_suffix(".pub")
            if not public.exists():
                public = place.with_suffix(".pub")
            if not public.exists() or read_public_key(public).keyid not in counted:
                continue
            if place.exists():
                retired = home.keys / "retired" / f"{fresh.stem}-before-root-{anchor.version}{suffix}"
                retired.parent.mkdir(mode=0o700, exist_ok=True)
                place.replace(retired)
            fresh.replace(place)


def _open_local_signers(home: Home, holders: list[str], passphrase: Passphrase) -> Iterator[tuple[str, KeySigner]]:
    """The signers of `holders` whose keys are on this machine: those in use, and those that a proposal brings in."""
    for holder in holders:
        if home.has_key(holder):
            uri = home.key_uri(holder)
            yield holder, open_signer(uri, passphrase=passphrase(uri, holder), holder=holder)
        place = home.keys / "next" / f"{holder}.pem"
        if place.exists():
            yield holder, open_signer(f"file:{place}", passphrase=passphrase(f"file:{place}", holder), holder=holder)


def _custodians(roles: Roles) -> list[str]:
    return list(dict.fromkeys(holder for name in ("root", "targets", "registrar") for holder in roles[name].holders))


def key_of_holder(anchor: Anchor, holder: str) -> Key:
    """The key of the holder of any role.

    Raises:
        KeyAccessError: Nobody of that name has a role.
    """
    names = {item.name: item.key for name in NAMES for item in anchor.roles[name].holders}
    if holder not in names:
        raise KeyAccessError(
            f"{holder[:60]}: expected one of {', '.join(names)}, got somebody without a role",
            remedy=f"Name one of them{meant(holder, names)}. Who has which role: twinseal trust show",
        )
    return names[holder]


def _public_key_of(home: Home, holder: str, signer: KeySigner | None) -> Key:
    if signer is not None:
        return signer.public_key
    path = home.keys / f"{holder}.pub"
    try:
        return read_public_key(path)
    except KeyAccessError as error:
        remedy = (
            f"Ask {holder} for the public key, compare its fingerprint with them by telephone, and put it at {path}."
        )
        raise KeyAccessError(str(error), remedy=remedy) from error


def _require_no_anchor(home: Home) -> None:
    if home.anchor_dir.exists():
        raise RootError(
            f"{home.anchor_dir}: expected no anchor yet, found one",
            remedy="It is never overwritten. To see it: twinseal trust show. For a new one, move the old home away: "
            f"mv {home.path} {home.path}-old",
        )


def _require_no_proposal(home: Home) -> None:
    if home.proposal_dir.exists():
        raise RootError(
            f"{home.proposal_dir}: expected nothing proposed yet, found a proposal",
            remedy="Finish it: twinseal trust sign. Or, if it is not needed any more, delete it: "
            f"rm -r {home.proposal_dir}",
        )
