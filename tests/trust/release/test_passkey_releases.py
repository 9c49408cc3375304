"""Releases that reviewers approve by passkeys: refused where they are published, and again by the twin's client."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from tuf.ngclient import Updater, UpdaterConfig

from tests.passkeys import UP, UV
from tests.trust.passkey_scenes import (
    Person,
    enroll,
    new_person,
    publish,
    publish_anyway,
    roles_with,
    staged,
    with_policy,
)
from tests.trust.plain_fetcher import DiskFetcher
from tests.trust.scenes import NOW, Disk, Scene, describe
from twinseal.errors import ConfigError, RootError, SignatureError, ThresholdError, TwinsealError
from twinseal.trust.ceremonies import ceremony
from twinseal.trust.release import repository
from twinseal.trust.release.client import refresh
from twinseal.trust.release.model_role import count_approvals
from twinseal.trust.release.release import Release, target_path
from twinseal.trust.release.request import Request
from twinseal.trust.root.pins import Holder, Pins

MODEL = "pump-rul"


@pytest.fixture
def release(honest_bundle: Path) -> Release:
    return describe(honest_bundle)


@pytest.fixture
def alice() -> Person:
    return new_person("alice")


@pytest.fixture
def desk(stage: Scene, alice: Person) -> Scene:
    """A home whose reviewer alice has a passkey; bruno and chiara have files."""
    return enroll(stage, alice)


def pull(scene: Scene, cache: Path) -> Release:
    """What a twin's client makes of the repository: it starts from the first root."""
    from twinseal.trust.root.anchor import Anchor

    first = Anchor((scene.home.repository / "metadata/1.root.json").read_bytes())
    return refresh(first, cache, Disk.of(scene.home), MODEL, NOW)


def refused(
    scene: Scene, request: Request, signatures: list[dict[str, str]], cache: Path, reason: str = MODEL, **more: Any
) -> None:
    """The registrar refuses, and changes nothing; a thief of the registrar's key publishes it; the twin refuses."""
    before = repository.current_release(scene.home, MODEL)
    with pytest.raises((SignatureError, ThresholdError), match=reason):
        publish(scene, request, signatures, **more)
    assert before == repository.current_release(scene.home, MODEL)
    publish_anyway(scene, request, signatures)
    with pytest.raises((SignatureError, ThresholdError), match=reason):
        pull(scene, cache)


def test_a_release_approved_by_a_passkey_and_a_file_is_accepted_by_any_tuf_client(
    desk: Scene, alice: Person, release: Release, tmp_path: Path
) -> None:
    request = staged(desk, release)
    signatures = [alice.sign_role(request.role_bytes), *desk.signatures(request.role_bytes, "bruno")]
    assert publish(desk, request, signatures).changed
    assert release == pull(desk, tmp_path / "cache")
    (tmp_path / "tuf").mkdir()
    (tmp_path / "targets").mkdir()
    updater = Updater(
        str(tmp_path / "tuf"),
        "metadata/",
        str(tmp_path / "targets"),
        "targets/",
        DiskFetcher(desk.home.repository),
        UpdaterConfig(),
        bootstrap=(desk.home.repository / "metadata/1.root.json").read_bytes(),
    )
    updater._trusted_set.reference_time = NOW
    updater.refresh()
    found = updater.get_targetinfo(target_path(MODEL))
    assert found is not None
    assert release.to_bytes() == Path(updater.download_target(found)).read_bytes()
    assert not publish(desk, request, signatures).changed


@pytest.mark.attack(1, "P")
@pytest.mark.parametrize(
    "wrong",
    [
        {"origin": "https://evil.example"},
        {"origin": "https://plant.example"},
        {"rp_id": "evil.example"},
        {"flags": UP},
        {"flags": UV},
        {"kind": "webauthn.create"},
        {"client": {"crossOrigin": True}},
        {"data": b"\0"},
    ],
)
def test_an_approval_by_a_wrong_assertion(
    desk: Scene, alice: Person, release: Release, tmp_path: Path, wrong: dict[str, Any]
) -> None:
    """A reviewer's passkey is touched on another site, for another purpose, or without the reviewer verified."""
    request = staged(desk, release)
    signatures = [alice.sign_role(request.role_bytes, **wrong), *desk.signatures(request.role_bytes, "bruno")]
    refused(desk, request, signatures, tmp_path / "cache")


def _other_role(desk: Scene, alice: Person, request: Request) -> dict[str, str]:
    other = repository.stage(desk.home, request.release, expires=NOW + timedelta(days=1))
    return alice.sign_role(other)


def _digest_not_in_list(desk: Scene, alice: Person, request: Request) -> dict[str, str]:
    (signature,) = alice.signer.sign_all([b"the words alone"])
    return {"keyid": signature.keyid, "sig": signature.signature}


def _changed(desk: Scene, alice: Person, request: Request) -> dict[str, str]:
    sig = bytearray.fromhex(alice.sign_role(request.role_bytes)["sig"])
    at = sig.index(b'"authenticator_data":"') + 30
    sig[at] = ord("B") if sig[at] == ord("A") else ord("A")
    return {"keyid": alice.passkey.keyid, "sig": sig.hex()}


def _raw_ecdsa(desk: Scene, alice: Person, request: Request) -> dict[str, str]:
    """The device's private key without WebAuthn: no site, no person."""
    from twinseal.trust.keys.key import KeySigner
    from twinseal.trust.release.model_role import sign_role

    return sign_role(request.role_bytes, KeySigner(alice.device.private)) | {"keyid": alice.passkey.keyid}


@pytest.mark.attack(1, "P")
@pytest.mark.parametrize("forge", [_other_role, _digest_not_in_list, _changed, _raw_ecdsa])
def test_an_assertion_over_other_bytes(
    desk: Scene,
    alice: Person,
    release: Release,
    tmp_path: Path,
    forge: Callable[[Scene, Person, Request], dict[str, str]],
) -> None:
    """An assertion over another role or the words alone is used for this role, or one is changed."""
    request = staged(desk, release)
    signatures = [forge(desk, alice, request), *desk.signatures(request.role_bytes, "bruno")]
    refused(desk, request, signatures, tmp_path / "cache")


@pytest.mark.attack(1, "P")
@pytest.mark.parametrize("counter", [0, 1, 5])
def test_a_counter_that_has_not_grown(
    desk: Scene, alice: Person, release: Release, tmp_path: Path, counter: int
) -> None:
    """A copy of an authenticator signs the next release: its counter is not above that of the last one."""
    request = staged(desk, release)
    others = desk.signatures(request.role_bytes, "bruno")
    publish(desk, request, [alice.sign_role(request.role_bytes, counter=5), *others])
    assert release == pull(desk, tmp_path / "cache")
    following = staged(desk, replace(release, version=2, parent_version=1))
    others = desk.signatures(following.role_bytes, "bruno")
    copied = [alice.sign_role(following.role_bytes, counter=counter), *others]
    refused(desk, following, copied, tmp_path / "cache", "a copy of the authenticator may be in use")


def test_a_counter_that_grows_or_that_nobody_keeps_is_accepted(stage: Scene, release: Release, tmp_path: Path) -> None:
    clouds, desk = new_person("alice", counter=None), stage
    desk = enroll(desk, clouds)
    bruno = new_person("bruno")
    desk = enroll(desk, bruno)
    for version in (1, 2):
        request = staged(desk, replace(release, version=version, parent_version=version - 1 or None))
        publish(desk, request, [clouds.sign_role(request.role_bytes), bruno.sign_role(request.role_bytes)])
        assert version == pull(desk, tmp_path / "cache").version


@pytest.mark.attack(1, "P")
def test_one_person_signs_with_two_passkeys(desk: Scene, alice: Person, release: Release, tmp_path: Path) -> None:
    """A reviewer signs with an enrolled passkey and with one that nobody enrolled, to count twice."""
    request, second = staged(desk, release), new_person("alice")
    signatures = [alice.sign_role(request.role_bytes), second.sign_role(request.role_bytes)]
    refused(desk, request, signatures, tmp_path / "cache")


@pytest.mark.attack(0)
def test_one_passkey_under_two_names(desk: Scene, alice: Person) -> None:
    """One passkey is pinned for two reviewers, also as a plain key or under another site."""
    from twinseal.trust.keys.key import KeySigner, Passkey

    reviewers = desk.anchor.roles["reviewer"]
    other_site = Passkey(**alice.passkey.keyval | {"origin": "https://plant.example"})
    for key in (alice.passkey, KeySigner(alice.device.private).public_key, other_site):
        holders = tuple(Holder(h.name, key if h.name == "bruno" else h.key) for h in reviewers.holders)
        with pytest.raises(RootError, match="expected a key each, got one key for alice and bruno"):
            replace(reviewers, holders=holders)
    with pytest.raises(RootError, match="got one key for alice and bruno"):
        ceremony.rotate(desk.home, desk.roles, "bruno", NOW, public=alice.passkey)


@pytest.mark.attack(0)
@pytest.mark.parametrize("role", ["builder", "assessor", "commissioner", "owner", "root", "targets", "registrar"])
def test_a_passkey_in_another_role(scene: Scene, alice: Person, role: str) -> None:
    """A passkey is pinned for a machine, a custodian or a policy owner, whose signatures are checked otherwise."""
    pins = scene.anchor.pins
    first = pins.roles[role].holders[0]
    holders = (Holder(first.name, alice.passkey), *pins.roles[role].holders[1:])
    with pytest.raises(RootError, match=f"for {first.name} in {role}, got a passkey: only reviewers"):
        replace(pins, roles={**pins.roles, role: replace(pins.roles[role], holders=holders)})


def test_pins_with_passkeys_read_back_as_themselves_and_others_are_written_as_before(scene: Scene, desk: Scene) -> None:
    assert desk.anchor.pins == Pins.from_dict(desk.anchor.pins.to_dict())
    written = desk.anchor.pins.to_dict()["roles"]["reviewer"]
    assert {"threshold", "holders", "expires"} == set(written)
    assert ["name", "public", "passkey"] == list(written["holders"][0])
    assert [{"name", "public"}] * 2 == [set(item) for item in written["holders"][1:]]
    plain = scene.anchor.pins.to_dict()["roles"].values()
    assert {frozenset(("name", "public"))} == {frozenset(item) for role in plain for item in role["holders"]}


@pytest.mark.attack(1, "P")
def test_too_few_without_a_passkey(desk: Scene, alice: Person, release: Release, tmp_path: Path) -> None:
    """Two passkeys approve where the policy asks for a reviewer with another key."""
    bruno = new_person("bruno")
    desk = with_policy(enroll(desk, bruno), min_without_passkey=1)
    request = staged(desk, release)
    signatures = [alice.sign_role(request.role_bytes), bruno.sign_role(request.role_bytes)]
    refused(desk, request, signatures, tmp_path / "cache", "1 without a passkey \\(0 have signed\\)")
    signatures += desk.signatures(request.role_bytes, "chiara")
    count = count_approvals(request.role_bytes, signatures, desk.anchor, MODEL)
    assert (0, (), ("chiara",)) == (count.missing, count.wanting, count.without_passkey)


@pytest.mark.attack(1, "P")
def test_too_few_groups(stage: Scene, release: Release, tmp_path: Path) -> None:
    """Two reviewers of one group, or one without a group, approve where the policy asks for two groups."""
    groups = {"alice": "operations", "bruno": "operations"}
    desk = with_policy(stage, groups={**groups, "chiara": "research"}, min_groups=2)
    request = staged(desk, release)
    same = desk.signatures(request.role_bytes, "alice", "bruno")
    refused(desk, request, same, tmp_path / "cache", "reviewers of 2 groups \\(got operations\\)")
    both = desk.signatures(request.role_bytes, "alice", "chiara")
    count = count_approvals(request.role_bytes, both, desk.anchor, MODEL)
    assert (0, ("operations", "research")) == (count.missing, count.groups)
    nobody = replace(desk.anchor.roles["reviewer"].quorum, groups=(("alice", "operations"), ("chiara", "research")))
    assert ("operations",) == nobody.groups_of(("alice", "bruno"))


@pytest.mark.attack(1, "P")
def test_reviewer_of_another_model_is_not_counted(stage: Scene, release: Release, tmp_path: Path) -> None:
    """A reviewer of other models approves: neither the registrar, nor TUF's own count, nor the twin counts it."""
    desk = with_policy(stage, models={"chiara": ["turbofan-rul"]})
    request = staged(desk, release)
    signatures = desk.signatures(request.role_bytes, "alice", "chiara")
    count = count_approvals(request.role_bytes, signatures, desk.anchor, MODEL)
    assert (1, ("alice",), ("bruno",)) == (count.missing, count.signed, count.may_sign)
    delegated = repository.delegation(desk.home).delegations
    assert delegated is not None
    assert delegated.roles is not None
    keys = {model: set(delegated.roles[model].keyids) for model in desk.anchor.models}
    reviewers = desk.anchor.roles["reviewer"]
    assert keys["turbofan-rul"] - keys[MODEL] == {reviewers.key_of("chiara").keyid}
    refused(desk, request, signatures, tmp_path / "cache")


def test_reviewers_of_a_model_publish_it(stage: Scene, release: Release, tmp_path: Path) -> None:
    desk = with_policy(stage, models={"chiara": ["turbofan-rul"]})
    request = staged(desk, release)
    signatures = desk.signatures(request.role_bytes, "chiara", "alice", "bruno")  # chiara's is left out
    assert publish(desk, request, signatures).changed
    assert release == pull(desk, tmp_path / "cache")


def test_last_reviewer_of_a_model_does_not_leave_unnoticed(stage: Scene) -> None:
    desk = with_policy(stage, models={"chiara": ["turbofan-rul"]})
    with pytest.raises(TwinsealError, match="expected 2 reviewers or more of pump-rul, got 1|holders to be left"):
        ceremony.revoke(desk.home, desk.roles, "bruno", NOW)


@pytest.mark.attack("P")
def test_who_built_it_is_not_counted_when_it_is_published(stage: Scene, release: Release) -> None:
    """A reviewer built the candidate and approves it: the registrar does not count the signature."""
    request = staged(stage, release)
    signatures = stage.signatures(request.role_bytes, "alice", "bruno")
    with pytest.raises(ThresholdError, match="can still sign: chiara; not counted, for having built it: alice"):
        publish(stage, request, signatures, built_by=("alice@plant.example", "root"))
    assert repository.current_release(stage.home, MODEL) is None
    assert publish(stage, request, signatures, built_by=("root", "t@example.invalid")).changed


@pytest.mark.parametrize(
    ("reviewer", "reason"),
    [
        ({"min_without_passkey": 4}, "min_without_passkey: expected at most 3"),
        ({"min_without_passkey": -1}, "min_without_passkey: expected 0 or more"),
        ({"min_groups": 0}, "min_groups: expected 1 or more"),
        ({"min_groups": 2}, "min_groups: expected at most 1 \\(the groups\\)"),
        ({"min_groups": 2, "groups": {"alice": "a", "bruno": "a"}}, "min_groups: expected at most 1"),
        ({"groups": {"mallory": "a"}}, "groups: expected holders of the role, got 'mallory'"),
        ({"models": {"mallory": ["pump-rul"]}}, "models: expected holders of the role, got 'mallory'"),
        ({"models": {"alice": []}}, "models: expected the models of alice"),
        (
            {"models": {"alice": ["fan-rul"]}},
            "models of alice: expected some of pump-rul, turbofan-rul, .*got 'fan-rul'",
        ),
        ({"models": {"alice": ["pump-rul"], "bruno": ["pump-rul"]}}, "expected 2 reviewers or more of turbofan-rul"),
        (
            {"models": {"chiara": ["pump-rul"]}, "min_groups": 2, "groups": {"bruno": "a", "chiara": "b"}},
            "min_groups: expected at most 1",
        ),
        ({"groups": {"alice": "A group"}}, "groups: expected a name of a-z"),
        ({"accounts": {"mallory": ["m"]}}, "accounts: expected holders of the role"),
        ({"accounts": {"alice": []}}, "accounts: expected 1 to 20 names"),
        ({"accounts": {"alice": ["x y"]}}, "accounts: expected logins"),
        ({"accounts": {"alice": ["smith"], "bruno": ["Smith"]}}, "accounts: expected each account once"),
    ],
)
def test_a_policy_that_nobody_can_meet_is_refused(reviewer: dict[str, Any], reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        roles_with(**reviewer)


def test_a_quorum_that_passkeys_make_impossible_is_refused(desk: Scene) -> None:
    desk = with_policy(desk, min_without_passkey=2)
    with pytest.raises(RootError, match="min_without_passkey: expected at most 1"):
        ceremony.rotate(desk.home, desk.roles, "bruno", NOW, public=new_person("bruno").passkey)


def test_the_quorum_is_pinned_shown_and_logged(stage: Scene) -> None:
    from twinseal.trust.audit import log_of

    groups = {"alice": "operations", "bruno": "research"}
    desk = with_policy(stage, min_groups=2, groups=groups, accounts={"alice": ["asmith", "alice@plant.example"]})
    pinned = desk.anchor.roles["reviewer"].quorum
    assert pinned == desk.roles["reviewer"].quorum
    assert desk.anchor.pins == Pins.from_dict(desk.anchor.pins.to_dict())
    assert pinned.is_among("alice", ["ASmith"])
    assert not pinned.is_among("alice", ["asmith@plant.example", "alicen", "@", "bruno@plant.example"])
    (entry,) = [entry for _, entry in log_of(desk.home.path).read() if entry.event == "renewed"]
    assert "from at least 2 groups" in entry.details["reviewer"]
    revoked = ceremony.revoke(desk.home, desk.roles, "chiara", NOW).anchor
    assert revoked is not None
    assert pinned == revoked.roles["reviewer"].quorum
    with pytest.raises(TwinsealError, match="min_groups: expected at most 1|holders to be left"):
        ceremony.revoke(desk.home, desk.roles, "bruno", NOW)
