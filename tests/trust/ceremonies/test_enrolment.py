"""Custodians tie a passkey to a reviewer: who may have one, what is shown, what becomes of the key before."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.trust.passkey_scenes import enroll, new_person
from tests.trust.scenes import NOW, Scene
from twinseal.errors import KeyAccessError, RootError
from twinseal.trust.ceremonies import ceremony, custody
from twinseal.trust.ceremonies.enrolment import check_enrolment
from twinseal.trust.ceremonies.inspection import inspect
from twinseal.trust.keys.key import Key, KeySigner, fingerprint, read_public_key
from twinseal.trust.keys.keyring import key_entry
from twinseal.trust.root.pins import Holder


def test_a_passkey_becomes_the_key_of_a_reviewer_and_the_key_before_never_counts_again(stage: Scene) -> None:
    alice, before = new_person("alice"), stage.anchor.roles["reviewer"].key_of("alice")
    assert alice.passkey is check_enrolment(stage.anchor, "alice", alice.passkey)
    after = enroll(stage, alice).anchor
    assert (alice.passkey, 2) == (after.roles["reviewer"].key_of("alice"), after.version)
    assert (fingerprint(before),) == after.pins.revoked
    assert alice.passkey == read_public_key(stage.home.keys / "alice.pub")
    entry = key_entry(stage.home, after, "alice")
    assert (("reviewer",), "passkey of https://review.plant.example", ()) == (
        entry.roles,
        entry.private,
        entry.warnings,
    )
    with pytest.raises(RootError, match=r"the revoked one of alice|revoked"):
        ceremony.rotate(stage.home, stage.roles, "alice", NOW, public=before)


def test_a_second_passkey_replaces_the_first(stage: Scene) -> None:
    first, second = new_person("alice"), new_person("alice")
    stage = enroll(enroll(stage, first), second)
    assert second.passkey == stage.anchor.roles["reviewer"].key_of("alice")
    assert fingerprint(first.passkey) in stage.anchor.pins.revoked
    with pytest.raises(KeyAccessError, match="expected a passkey that counts, got one that was revoked"):
        check_enrolment(stage.anchor, "alice", first.passkey)


def _plain(scene: Scene) -> Key:
    return KeySigner(new_person("alice").device.private).public_key


def _brunos(scene: Scene) -> Key:
    return new_person("bruno").passkey


@pytest.mark.parametrize(
    ("holder", "key", "reason", "remedy"),
    [
        ("alice", _plain, "alice: expected a passkey, got a plain public key", "twinseal keys rotate alice --public"),
        ("builder", _brunos, "builder: expected one of the reviewers", "Name a reviewer"),
        ("bruna", _brunos, "bruna: expected one of the reviewers", "did you mean bruno?"),
    ],
)
def test_what_cannot_be_enrolled(
    scene: Scene, holder: str, key: Callable[[Scene], Key], reason: str, remedy: str
) -> None:
    with pytest.raises(KeyAccessError, match=reason) as refusal:
        check_enrolment(scene.anchor, holder, key(scene))
    assert remedy in refusal.value.remedy


@pytest.mark.attack(0)
def test_the_passkey_of_another_reviewer_is_enrolled(stage: Scene) -> None:
    """A reviewer's passkey is enrolled for a second reviewer, so that one person counts as two."""
    bruno = new_person("bruno")
    stage = enroll(stage, bruno)
    with pytest.raises(KeyAccessError, match="expected a new passkey, got the one that bruno has as reviewer"):
        check_enrolment(stage.anchor, "alice", bruno.passkey)


def test_a_custodian_reads_what_kind_of_key_it_is(stage: Scene) -> None:
    alice = new_person("alice")
    reviewers, old = stage.anchor.roles["reviewer"], stage.anchor.roles["reviewer"].key_of("alice")
    holders = tuple(Holder(h.name, alice.passkey if h.name == "alice" else h.key) for h in reviewers.holders)
    roles = {**stage.anchor.roles, "reviewer": replace(reviewers, holders=holders)}
    pins = ceremony._pins_after_revoking(stage.anchor, roles, old, stage.roles, NOW)
    proposal = custody.propose(stage.home, pins, stage.roles, NOW)
    lines = "\n".join(inspect(stage.home, proposal, stage.roles, NOW).lines(NOW))
    value, was = fingerprint(alice.passkey), fingerprint(old)[:16]
    assert f"new key of alice: {value} (passkey of https://review.plant.example), was {was}…" in lines


@pytest.mark.attack(0)
def test_a_proposal_changes_who_counts_beside_a_new_key(stage: Scene) -> None:
    """A proposal replaces one key and, beside it, drops or changes the quorum of the reviewers: nobody signs it."""
    alice, reviewers = new_person("alice"), stage.anchor.roles["reviewer"]
    holders = tuple(Holder(h.name, alice.passkey if h.name == "alice" else h.key) for h in reviewers.holders)
    quorum = replace(reviewers.quorum, accounts=(("bruno", ("b@plant.example",)),))
    for role in (replace(reviewers, holders=holders, quorum=quorum), replace(reviewers, quorum=quorum)):
        roles = {**stage.anchor.roles, "reviewer": role}
        if role.holders == reviewers.holders:
            pins = replace(stage.anchor.pins, roles=roles)
        else:
            pins = ceremony._pins_after_revoking(stage.anchor, roles, reviewers.key_of("alice"), stage.roles, NOW)
        proposal = custody.propose(stage.home, pins, stage.roles, NOW)
        with pytest.raises(RootError, match="another change beside it|who counts of reviewer: expected the threshold"):
            inspect(stage.home, proposal, stage.roles, NOW)


def test_a_first_root_may_have_passkeys(tmp_path: Path, stage: Scene) -> None:
    """Their holders bring the .pub file that the review page gave them."""
    from twinseal.trust.keys.passkeys import public_file
    from twinseal.trust.root.home import Home

    alice, home = new_person("alice"), Home(tmp_path / "fresh")
    home.keys.mkdir(mode=0o700, parents=True)
    for path in stage.home.keys.glob("*.p*"):
        if path.stem != "alice":
            (home.keys / path.name).write_bytes(path.read_bytes())
            (home.keys / path.name).chmod(0o600)
    (home.keys / "alice.pub").write_bytes(public_file(alice.passkey))
    made = ceremony.init(home, stage.roles, NOW)
    assert made.anchor is not None
    assert alice.passkey == made.anchor.roles["reviewer"].key_of("alice")
