"""Ceremonies: who signs a root, one after the other, and what a new root does to keys and twins."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from tuf.api.metadata import Metadata

from tests.trust.scenes import NOW, POLICY, Disk, Scene, describe, resign
from twinseal.errors import (
    AuditError,
    ExpiredError,
    KeyAccessError,
    RollbackError,
    RootError,
    SignatureError,
    ThresholdError,
    TwinsealError,
)
from twinseal.files import write_whole
from twinseal.trust.audit import log_of
from twinseal.trust.ceremonies import ceremony, custody, overview
from twinseal.trust.ceremonies.ceremony import Outcome
from twinseal.trust.keys.key import fingerprint, generate_key_pair, open_signer, read_public_key
from twinseal.trust.release import repository
from twinseal.trust.release.client import known_anchors, refresh
from twinseal.trust.release.model_role import compose_role, sign_role
from twinseal.trust.release.release import Release
from twinseal.trust.release.request import Request
from twinseal.trust.root.anchor import Anchor, verified_successor
from twinseal.trust.root.home import Home
from twinseal.trust.root.roles import Roles

MODEL = "pump-rul"
LATER = NOW + timedelta(hours=1)


def by_holder(_uri: str, holder: str) -> bytes:
    return holder.encode()


def without(roles: Roles, *gone: str) -> Roles:
    """The policy after somebody took holders out of policy/roles.yaml."""
    table = {
        name: getattr(roles.roles, name).model_copy(
            update={"holders": tuple(h for h in getattr(roles.roles, name).holders if h not in gone)}
        )
        for name in type(roles.roles).model_fields
    }
    return roles.model_copy(update={"roles": roles.roles.model_copy(update=table)})


# The first root


def test_a_ceremony_needs_public_keys_and_two_custodians_who_sign_one_after_the_other(tmp_path: Path) -> None:
    roles, home = Roles.load(POLICY), Home(tmp_path / "home")
    generate_key_pair(home.keys / "custodian-1.pem", passphrase=None)
    with pytest.raises(KeyAccessError, match=r"custodian-2.pub: expected a public key, got none") as caught:
        ceremony.init(home, roles, NOW)
    assert "Ask custodian-2 for the public key" in caught.value.remedy
    elsewhere = Home(tmp_path / "elsewhere")
    for holder in roles.holders[1:]:
        generate_key_pair(elsewhere.keys / f"{holder}.pem", passphrase=None)
        write_whole(home.keys / f"{holder}.pub", (elsewhere.keys / f"{holder}.pub").read_bytes())
    assert Outcome(
        None,
        (
            "the new root: 1 of 2 custodians have signed (custodian-1); can still sign: custodian-2, custodian-3",
            "the delegation: 1 of 2 custodians have signed (custodian-1); can still sign: custodian-2, custodian-3",
            "the timestamp: the registrar must sign (registrar); that key is not on this machine",
        ),
        signed=("custodian-1",),
    ) == ceremony.init(home, roles, NOW)
    assert not home.anchor_dir.exists()
    with pytest.raises(RootError, match="expected nothing proposed yet, found a proposal"):
        ceremony.init(home, roles, NOW)
    shutil.copytree(home.proposal_dir, elsewhere.proposal_dir)  # carried to the others, who hold the registrar's key
    done = ceremony.finish(elsewhere, roles, NOW)
    assert done.anchor == elsewhere.anchor()
    assert not elsewhere.proposal_dir.exists()


def test_a_ceremony_with_encrypted_keys_makes_an_anchor_that_is_no_demo(tmp_path: Path) -> None:
    roles, home = Roles.load(POLICY), Home(tmp_path / "home")
    for holder in roles.holders:
        generate_key_pair(home.keys / f"{holder}.pem", passphrase=holder.encode())
    with pytest.raises(KeyAccessError, match="expected the right passphrase"):
        ceremony.init(home, roles, NOW, passphrase=lambda _uri, _holder: b"wrong")
    done = ceremony.init(home, roles, NOW, passphrase=by_holder)
    assert done.anchor is not None
    assert (False, 1) == (done.anchor.demo, done.anchor.version)
    assert done.anchor == home.anchor()
    with pytest.raises(RootError, match="expected no anchor yet, found one"):
        ceremony.init(home, roles, NOW, passphrase=by_holder)


def test_an_interrupted_demo_uses_the_keys_it_had_made(tmp_path: Path) -> None:
    roles, home = Roles.load(POLICY), Home(tmp_path / "home")
    key = generate_key_pair(home.keys / "alice.pem", passphrase=None)
    assert key == ceremony.init_demo(home, roles, NOW).roles["reviewer"].key_of("alice")


def test_a_demo_does_not_walk_over_a_real_ceremony(tmp_path: Path) -> None:
    roles, home = Roles.load(POLICY), Home(tmp_path / "home")
    key = generate_key_pair(tmp_path / "alice.pem", passphrase=None)
    write_whole(home.keys / "alice.pub", (tmp_path / "alice.pub").read_bytes())
    with pytest.raises(KeyAccessError, match="expected no real keys beside those of a demo, found those of alice"):
        ceremony.init_demo(home, roles, NOW)
    assert key == read_public_key(home.keys / "alice.pub")
    (home.keys / "alice.pub").unlink()
    home.proposal_dir.mkdir()
    with pytest.raises(RootError, match="found a proposal"):
        ceremony.init_demo(home, roles, NOW)


@pytest.mark.attack("P")
def test_a_removed_audit_log_stops_the_next_root(released: Scene) -> None:
    """The audit log is deleted before a key rotation: no new root is published."""
    shutil.rmtree(released.home.path / "log")
    with pytest.raises(AuditError, match="expected the audit log that the first root began, got none"):
        ceremony.rotate(released.home, released.roles, "alice", LATER)
    assert 1 == released.home.anchor().version


def test_a_rotation_builds_on_the_root_that_was_published_while_it_waited(released: Scene) -> None:
    """Somebody is asked for a passphrase; meanwhile another root is published: it is not undone."""

    def meanwhile() -> None:
        ceremony.revoke(released.home, released.roles, "chiara", LATER)

    done = ceremony.rotate(released.home, released.roles, "alice", LATER, new_passphrase=meanwhile)
    assert done.anchor is not None
    assert (3, ["alice", "bruno"]) == (done.anchor.version, [h.name for h in done.anchor.roles["reviewer"].holders])


def test_a_renewal_that_changes_who_may_sign_says_so_in_the_log(released: Scene) -> None:
    ceremony.renew(released.home, without(released.roles, "chiara"), LATER)
    ((_, last),) = log_of(released.home.path).read(-1)
    assert ("renewed", "without chiara") == (last.event, last.details["reviewer"])


# Rotation and revocation: planned, and after a theft


@pytest.fixture
def twin(released: Scene, tmp_path: Path) -> Path:
    """The cache of a twin that has seen release 1 under root 1."""
    look(released, tmp_path / "twin", released.anchor)
    return tmp_path / "twin"


def look(scene: Scene, cache: Path, anchor: Anchor, now: datetime = LATER) -> Release:
    return refresh(anchor, cache, Disk.of(scene.home), MODEL, now)


def approve(scene: Scene, version: int, *holders: str, now: datetime = LATER) -> Release:
    """The same candidate as another release, signed by `holders` with the keys that they have now."""
    current = repository.current_release(scene.home, MODEL)
    assert current is not None
    release = replace(current, version=version, parent_version=current.version)
    role = repository.stage(scene.home, release, expires=scene.roles.expiry("reviewer", now))
    repository.publish(
        scene.home,
        Request(release, role),
        [sign_role(role, scene.signer(holder)) for holder in holders],
        registrar=scene.home.role_signer(scene.home.anchor().roles["registrar"]),
        roles=scene.roles,
        now=now,
    )
    return release


@pytest.mark.parametrize("holder", ["custodian-1", "registrar", "builder", "assessor", "alice", "emil"])
def test_every_roles_key_can_be_rotated_and_the_twin_learns_it_by_itself(
    holder: str, released: Scene, twin: Path
) -> None:
    old = released.signer(holder)
    done = ceremony.rotate(released.home, released.roles, holder, LATER)
    assert done.anchor is not None
    assert done.anchor == released.home.anchor()
    fresh = released.signer(holder)
    assert old.public_key.keyid != fresh.public_key.keyid
    held = {h.name: h.key for role in done.anchor.roles.values() for h in role.holders}
    assert fresh.public_key == held[holder]
    assert (fingerprint(old.public_key),) == done.anchor.pins.revoked
    retired = released.home.keys / "retired" / f"{holder}-before-root-2.pem"
    assert old.public_key == open_signer(f"file:{retired}").public_key
    following = approve(released, 2, "alice", "bruno")
    assert following == look(released, twin, released.anchor)  # from root 1, by root 2
    assert done.anchor == known_anchors(released.anchor, twin)[-1]
    assert following == look(released, twin.with_name("new"), done.anchor)  # a twin installed with root 2


@pytest.mark.attack("1")
def test_a_rotated_reviewers_old_key_counts_no_longer(released: Scene, twin: Path) -> None:
    """Stolen reviewer key, then rotated: its old approvals and its new signatures no longer count."""
    thief = released.signer("alice")
    ceremony.rotate(released.home, released.roles, "alice", LATER)
    with pytest.raises(ThresholdError, match="pump-rul was signed by 1/2 keys"):
        look(released, twin, released.anchor)
    release = replace(repository.current_release(released.home, MODEL), version=2, parent_version=1)  # type: ignore[type-var]
    role = repository.stage(released.home, release, expires=released.roles.expiry("reviewer", LATER))
    signatures = [sign_role(role, thief), sign_role(role, released.signer("bruno"))]
    with pytest.raises(ThresholdError, match=r"expected 2 reviewers, got 1 \(bruno\)"):
        repository.publish(
            released.home,
            Request(release, role),
            signatures,
            registrar=released.signer("registrar"),
            roles=released.roles,
            now=LATER,
        )
    approve(released, 2, "alice", "bruno")
    assert 2 == look(released, twin, released.anchor).version


@pytest.mark.attack("1")
def test_a_revoked_reviewer_counts_no_longer_and_never_again(released: Scene, twin: Path) -> None:
    """Revoked reviewer: the old approval no longer counts, and no later root can pin the key again."""
    (released.home.keys / "alice.pub").chmod(0o600)
    done = ceremony.revoke(released.home, released.roles, "alice", LATER)
    assert done.anchor is not None
    assert ("bruno", "chiara") == tuple(h.name for h in done.anchor.roles["reviewer"].holders)
    with pytest.raises(ThresholdError, match="pump-rul was signed by 1/2 keys"):
        look(released, twin, released.anchor)
    approve(released, 2, "bruno", "chiara")
    assert 2 == look(released, twin, released.anchor).version
    with pytest.raises(RootError, match="alice: expected a key that counts, got one that was revoked") as caught:
        ceremony.renew(released.home, released.roles, LATER)
    assert "Take alice out of policy/roles.yaml" in caught.value.remedy
    renewed = ceremony.renew(released.home, without(released.roles, "alice"), LATER)
    assert renewed.anchor is not None
    assert (3, done.anchor.pins.revoked) == (renewed.anchor.version, renewed.anchor.pins.revoked)
    with pytest.raises(ThresholdError, match="reviewer: expected 2 holders to be left without bruno, got 1") as caught:
        ceremony.revoke(released.home, released.roles, "bruno", LATER)
    assert "twinseal keys rotate bruno" in caught.value.remedy


@pytest.mark.attack("1")
def test_a_stolen_registrar_key_no_longer_counts_after_the_rotation(released: Scene, twin: Path) -> None:
    """Stolen registrar key: fast-forward; after a rotation the twin accepts the real versions again."""
    thief = released.signer("registrar")
    shutil.copytree(released.home.path, twin.with_name("stolen"))
    stolen = replace(released, home=Home(twin.with_name("stolen")))
    for _ in range(5):
        resign(stolen.home)
    assert 1 == look(stolen, twin, released.anchor).version  # the twin has seen versions that the honest one has not
    with pytest.raises(RollbackError):
        look(released, twin, released.anchor)
    ceremony.rotate(released.home, released.roles, "registrar", LATER)
    assert 1 == look(released, twin, released.anchor).version
    resign_by(stolen.home, thief)
    with pytest.raises(SignatureError, match="timestamp was signed by 0/1 keys"):
        look(stolen, twin, released.anchor)


def resign_by(home: Home, thief: object) -> None:
    stamp = Metadata.from_file(str(home.repository / "metadata" / "timestamp.json"))
    stamp.signed.version += 100
    stamp.sign(thief)
    stamp.to_file(str(home.repository / "metadata" / "timestamp.json"))


@pytest.mark.attack("1")
def test_two_stolen_custodian_keys_cannot_undo_their_rotation(released: Scene, twin: Path) -> None:
    """Stolen custodian keys: two of them sign a next root after both were rotated."""
    thieves = [released.signer("custodian-1"), released.signer("custodian-2")]
    for holder in ("custodian-1", "custodian-2"):
        ceremony.rotate(released.home, released.roles, holder, LATER)
    look(released, twin, released.anchor)
    root = Metadata.from_bytes(released.home.anchor().root)
    root.signed.version += 1
    root.signatures.clear()
    for thief in thieves:
        root.sign(thief, append=True)
    write_whole(released.home.repository / "metadata" / "4.root.json", root.to_bytes())
    with pytest.raises((ThresholdError, SignatureError), match="root was signed by 0/2 keys"):
        look(released, twin, released.anchor)


@pytest.mark.attack("1")
def test_a_root_that_was_seen_cannot_be_withheld_later(released: Scene, twin: Path) -> None:
    """The registry hides a new root that the twin has already seen: the twin still uses it."""
    ceremony.revoke(released.home, released.roles, "alice", LATER)
    before = shutil.copytree(released.home.repository, twin.with_name("mirror"))
    with pytest.raises(ThresholdError):
        look(released, twin, released.anchor)
    assert 2 == known_anchors(released.anchor, twin)[-1].version
    (before / "metadata" / "2.root.json").unlink()
    with pytest.raises((ThresholdError, SignatureError)):
        refresh(released.anchor, twin, Disk(before, {}, []), MODEL, LATER)


@pytest.mark.attack("1")
def test_an_old_root_is_served_to_a_twin_with_a_newer_anchor(released: Scene, tmp_path: Path) -> None:
    """Rollback: the registry serves an old root and old metadata to a twin with a newer anchor."""
    old = shutil.copytree(released.home.repository, tmp_path / "old")
    ceremony.revoke(released.home, released.roles, "alice", LATER)
    approve(released, 2, "bruno", "chiara")
    newer = released.home.anchor()
    assert 2 == look(released, tmp_path / "fresh", newer).version
    with pytest.raises(ThresholdError, match="expected 2 reviewers, got 1 .bruno."):
        refresh(newer, tmp_path / "new", Disk(old, {}, []), MODEL, LATER)
    # and renamed, so that it looks like the next one
    shutil.copy(old / "metadata" / "1.root.json", old / "metadata" / "3.root.json")
    with pytest.raises(RollbackError, match="root version"):
        refresh(newer, tmp_path / "newer", Disk(old, {}, []), MODEL, LATER)


@pytest.mark.attack("1")
def test_the_root_of_other_custodians_is_not_followed(released: Scene, twin: Path, tmp_path: Path) -> None:
    """The registry serves a next root that the custodians of another deployment signed."""
    thief = Home(tmp_path / "thief")
    ceremony.init_demo(thief, released.roles, NOW)
    ceremony.rotate(thief, released.roles, "alice", NOW)
    shutil.copy(thief.repository / "metadata" / "2.root.json", released.home.repository / "metadata")
    with pytest.raises((ThresholdError, SignatureError), match="root was signed by 0/2 keys"):
        look(released, twin, released.anchor)
    with pytest.raises(RootError, match="expected version 2 signed by the custodians before it"):
        verified_successor(released.anchor, thief.anchor().root)


@pytest.mark.attack("1")
def test_a_root_that_cancels_a_revocation_is_refused(released: Scene, twin: Path) -> None:
    """Enough custodians sign a next root in which a revoked key is no longer revoked."""
    ceremony.rotate(released.home, released.roles, "alice", LATER)
    approve(released, 2, "alice", "bruno")
    before = released.home.anchor()
    pins = replace(before.pins, revoked=())
    proposal = custody.propose(released.home, pins, released.roles, LATER)
    signed = custody.sign(proposal, [released.signer("custodian-1"), released.signer("custodian-2")], before)
    with pytest.raises(RootError, match="expected version 3 to keep what is revoked"):
        custody.publish(released.home, signed, registrar=released.signer("registrar"), roles=released.roles, now=LATER)
    write_whole(released.home.repository / "metadata" / "3.root.json", signed.root)
    with pytest.raises(RootError, match="expected version 3 to keep what is revoked"):
        look(released, twin, released.anchor)


@pytest.mark.attack("1")
def test_an_expired_pin_of_the_builder_is_refused_until_the_custodians_renew(released: Scene, tmp_path: Path) -> None:
    """The builder's pin has expired, the root has not: refused until the custodians renew the pin."""
    short = released.roles.model_copy(
        update={
            "roles": released.roles.roles.model_copy(
                update={"builder": released.roles["builder"].model_copy(update={"expires_days": 3})}
            )
        }
    )
    assert ceremony.renew(released.home, short, NOW).anchor is not None
    assert 1 == look(released, tmp_path / "a", released.anchor, NOW + timedelta(days=2)).version
    with pytest.raises(ExpiredError, match="builder: expected keys pinned until after 2026-03-05") as caught:
        look(released, tmp_path / "b", released.anchor, NOW + timedelta(days=4))
    assert "twinseal trust renew" in caught.value.remedy
    with pytest.raises(ExpiredError, match="builder"):
        approve(released, 2, "alice", "bruno", now=NOW + timedelta(days=4))
    ceremony.renew(released.home, released.roles, NOW + timedelta(days=4))
    assert 1 == look(released, tmp_path / "b", released.anchor, NOW + timedelta(days=4)).version


def test_pins_of_commissioners_expire_without_stopping_a_model(released: Scene, tmp_path: Path) -> None:
    """What they sign is about machines: a model is admitted without it, and `trust show` says when it ends."""
    table = released.roles.roles
    short = table.model_copy(update={"commissioner": table.commissioner.model_copy(update={"expires_days": 3})})
    done = ceremony.renew(released.home, released.roles.model_copy(update={"roles": short}), NOW)
    assert done.anchor is not None
    done.anchor.check_role("commissioner", NOW + timedelta(days=2))
    later = NOW + timedelta(days=4)
    with pytest.raises(ExpiredError, match="commissioner: expected keys pinned until after 2026-03-05") as caught:
        done.anchor.check_role("commissioner", later)
    assert "twinseal trust renew" in caught.value.remedy
    assert 1 == look(released, tmp_path / "a", released.anchor, later).version
    (said,) = (item for item in overview.expiries(released.home) if item.what == "commissioner")
    assert (True, "expired 2026-03-04") == (said.is_urgent(later), said.time_left(later))


# Proposals under attack, and interrupted


@pytest.mark.attack("P")
def test_a_proposal_signed_by_too_few_or_by_strangers_is_not_published(released: Scene, tmp_path: Path) -> None:
    """A next root is signed by one custodian, a stranger and a reviewer; the threshold is two custodians."""
    before = released.home.anchor()
    proposal = custody.propose(released.home, before.pins, released.roles, LATER)
    stranger = generate_key_pair(tmp_path / "mallory.pem", passphrase=None)
    assert stranger is not None
    signers = [released.signer("custodian-1"), open_signer(f"file:{tmp_path}/mallory.pem"), released.signer("alice")]
    signed = custody.sign(proposal, signers, before)
    assert 3 == len(custody.missing_signatures(signed, before))
    with pytest.raises(ThresholdError, match=r"the old root: expected 2 custodians to sign, got 1 \(custodian-1\)"):
        custody.publish(released.home, signed, registrar=released.signer("registrar"), roles=released.roles, now=LATER)
    assert before == released.home.anchor()


def test_a_proposal_made_before_another_was_published_is_not_the_next(released: Scene) -> None:
    custodians = [released.signer("custodian-1"), released.signer("custodian-2")]
    stale = custody.sign(
        custody.propose(released.home, released.anchor.pins, released.roles, LATER), custodians, released.anchor
    )
    ceremony.revoke(released.home, released.roles, "alice", LATER)
    with pytest.raises(RootError, match="expected version 3, the next, got 2"):
        custody.publish(released.home, stale, registrar=released.signer("registrar"), roles=released.roles, now=LATER)


@pytest.mark.attack("P")
def test_root_and_delegation_of_two_proposals_are_not_published(released: Scene) -> None:
    """Mix-and-match: the root of one proposal and the delegation of another, both signed by the custodians."""
    custodians = [released.signer("custodian-1"), released.signer("custodian-2")]
    before = released.home.anchor()
    fewer = replace(before.roles["reviewer"], threshold=1)
    lax = replace(before.pins, roles={**before.roles, "reviewer": fewer})
    strict, other = (
        custody.sign(custody.propose(released.home, pins, released.roles, LATER), custodians, before)
        for pins in (before.pins, lax)
    )
    mixed = custody.Proposal(strict.root, other.targets)
    with pytest.raises(RootError, match="expected a delegation to the reviewers whom root.json pins"):
        custody.publish(released.home, mixed, registrar=released.signer("registrar"), roles=released.roles, now=LATER)
    assert before == released.home.anchor()


class Killed(BaseException):
    """Between two file operations."""


@pytest.mark.attack("P")
def test_a_rotation_killed_between_any_two_writes_is_finished_by_signing_again(
    released: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A key rotation is killed between two file operations: signing again completes it."""
    steps = kill_at(monkeypatch, 10**6)
    ceremony.rotate(released.copy(tmp_path / "whole").home, released.roles, "registrar", LATER)
    count = len(steps)
    assert count > 10
    for step in range(0, count, 2):
        scene = released.copy(tmp_path / f"home-{step}")
        kill_at(monkeypatch, step)
        with pytest.raises(Killed):
            ceremony.rotate(scene.home, scene.roles, "registrar", LATER)
        monkeypatch.undo()
        with contextlib.suppress(TwinsealError):
            look(scene, tmp_path / f"twin-{step}", released.anchor)
        version = scene.home.anchor().version
        if version == 1 and not (scene.home.proposal_dir / "root.json").exists():
            shutil.rmtree(scene.home.proposal_dir, ignore_errors=True)
            ceremony.rotate(scene.home, scene.roles, "registrar", LATER)
        else:
            with contextlib.suppress(RootError):  # nothing is proposed: the last write had been done
                ceremony.finish(scene.home, scene.roles, LATER)
        assert 2 == scene.home.anchor().version
        registrar = scene.home.role_signer(scene.home.anchor().roles["registrar"])
        assert read_public_key(scene.home.keys / "registrar.pub") == registrar.public_key
        assert 1 == look(scene, tmp_path / f"twin-{step}", released.anchor).version


def kill_at(monkeypatch: pytest.MonkeyPatch, step: int) -> list[str]:
    """Die before the file operation number `step`."""
    done: list[str] = []
    for owner, name in ((Path, "replace"), (Path, "rename"), (Path, "unlink"), (Path, "mkdir"), (shutil, "rmtree")):
        real = getattr(owner, name)

        def counted(*args: object, real: Callable[..., object] = real, name: str = name, **kwargs: object) -> object:
            if len(done) == step:
                raise Killed
            done.append(name)
            return real(*args, **kwargs)

        monkeypatch.setattr(owner, name, counted)
    return done


def test_renewal_brings_in_a_new_reviewer_who_brought_a_public_key(released: Scene, tmp_path: Path) -> None:
    dora = generate_key_pair(tmp_path / "dora.pem", passphrase=None)
    reviewer = released.roles["reviewer"].model_copy(update={"holders": ("alice", "bruno", "chiara", "dora")})
    more = released.roles.model_copy(update={"roles": released.roles.roles.model_copy(update={"reviewer": reviewer})})
    with pytest.raises(KeyAccessError, match=r"dora.pub: expected a public key, got none"):
        ceremony.renew(released.home, more, LATER)
    shutil.copy(tmp_path / "dora.pub", released.home.keys / "dora.pub")
    done = ceremony.renew(released.home, more, LATER)
    assert done.anchor is not None
    assert dora == done.anchor.roles["reviewer"].key_of("dora")
    assert () == done.anchor.pins.revoked


def test_rotation_of_nobody_and_to_the_same_key_is_refused(released: Scene) -> None:
    with pytest.raises(KeyAccessError, match="mallory: expected one of custodian-1, .*, got somebody without a role"):
        ceremony.rotate(released.home, released.roles, "mallory", LATER)
    same = released.signer("alice").public_key
    with pytest.raises(KeyAccessError, match="alice: expected a new key, got the one that the root has already"):
        ceremony.rotate(released.home, released.roles, "alice", LATER, public=same)
    builder = released.signer("builder").public_key
    with pytest.raises(RootError, match="expected a key in one role, got that of alice in builder and reviewer"):
        ceremony.rotate(released.home, released.roles, "alice", LATER, public=builder)
    assert not released.home.proposal_dir.exists()


@pytest.mark.attack("1")
def test_the_targets_key_alone_cannot_add_reviewers(released: Scene, twin: Path, tmp_path: Path) -> None:
    """Stolen targets key: delegation to the attacker's own reviewer, who signs a release."""
    honest = released.home.anchor()
    thief = generate_key_pair(tmp_path / "mallory.pem", passphrase=None)
    targets = Metadata.from_file(str(released.home.repository / "metadata" / "1.targets.json"))
    targets.signed.version = 2
    targets.signed.delegations.keys = {thief.keyid: thief}
    for role in targets.signed.delegations.roles.values():
        role.keyids, role.threshold = [thief.keyid], 1
    from tests.trust.scenes import put

    put(released.home, "targets", targets, released.signer("custodian-1"), released.signer("custodian-2"))
    current = repository.current_release(released.home, MODEL)
    assert current is not None
    release = replace(current, version=2, parent_version=1)
    role = Metadata.from_bytes(compose_role(release, version=2, expires=released.roles.expiry("reviewer", NOW)))
    put(released.home, MODEL, role, open_signer(f"file:{tmp_path}/mallory.pem"))
    write_whole(released.home.repository / "targets" / MODEL / f"{release.sha256}.release.json", release.to_bytes())
    with pytest.raises(SignatureError, match=r"expected signatures of the pinned reviewers \(alice, bruno, chiara\)"):
        look(released, twin, honest)


def test_describe_is_what_the_released_scene_published(released: Scene, honest_bundle: Path) -> None:
    assert describe(honest_bundle) == repository.current_release(released.home, MODEL)
