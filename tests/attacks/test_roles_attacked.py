"""Stolen or misused keys: what each role can sign, and how many signatures are needed."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from securesystemslib.signer import SSlibKey
from tuf.api.metadata import DelegatedRole, Delegations, Key, Metadata, MetaFile, TargetFile, Targets

from tests.attacks.field import UNTIL, Field
from tests.attacks.forge import Keyring, canonical, release_of, sha256
from tests.twin.deployment import MODEL
from twinseal.errors import (
    DigestMismatchError,
    EvidenceError,
    RollbackError,
    RootError,
    SignatureError,
    ThresholdError,
    TwinsealError,
)

TARGET = f"{MODEL}/release.json"


def evil_release(field: Field) -> bytes:
    """A well-formed release of honest files: only who signs it is wrong."""
    return canonical(release_of(field.bundle, field.listed.read_bytes(), version=3))


@pytest.mark.attack(1)
@pytest.mark.parametrize(
    ("holders", "error", "tally"),
    [
        (("alice",), ThresholdError, "1/2"),
        (("alice", "builder"), ThresholdError, "1/2"),
        (("alice", "assessor"), ThresholdError, "1/2"),
        (("alice", "registrar", "ruth"), ThresholdError, "1/2"),
        (("builder", "assessor"), SignatureError, "0/2"),
        (("registrar", "ruth"), SignatureError, "0/2"),
        ((), SignatureError, "0/2"),
    ],
)
def test_too_few_reviewers(field: Field, holders: tuple[str, ...], error: type[TwinsealError], tally: str) -> None:
    """Fewer reviewers than the threshold sign; builder, assessor, registrar or custodian sign too."""
    assert 2 == field.accepts()
    field.registry.release(evil_release(field), MODEL, holders, UNTIL)
    field.refuses(error, f"{MODEL} was signed by {tally} keys")


@pytest.mark.attack(0)
def test_a_holder_who_is_reviewer_and_builder() -> None:
    """The policy names one holder as reviewer and as builder."""
    from tests.twin.deployment import roles
    from twinseal.errors import ConfigError

    policy = roles().model_dump()
    policy["roles"]["reviewer"]["holders"] = ("alice", "builder")
    with pytest.raises((ConfigError, ValueError), match="builder"):
        type(roles())(**policy)


@pytest.mark.attack(0)
def test_the_builders_key_is_pinned_for_a_reviewer(field: Field) -> None:
    """The root pins the builder's key as a reviewer's key too."""
    from dataclasses import replace

    anchor = field.deployment.anchor
    reviewer, builder = anchor.roles["reviewer"], anchor.roles["builder"]
    holders = (replace(reviewer.holders[0], key=builder.holders[0].key), *reviewer.holders[1:])
    changed = dict(anchor.roles) | {"reviewer": replace(reviewer, holders=holders)}
    with pytest.raises(RootError, match="expected a key in one role, got that of alice in builder and reviewer"):
        replace(anchor.pins, roles=changed)


def _delegation(field: Field) -> Metadata[Targets]:
    """The delegations, next version, for whoever holds the targets key to change."""
    targets: Metadata[Targets] = field.registry.newest("targets")
    targets.signed.version += 1
    return targets


def _delegations(targets: Metadata[Targets]) -> tuple[Delegations, dict[str, DelegatedRole]]:
    delegations = targets.signed.delegations
    assert delegations is not None
    assert delegations.roles is not None
    return delegations, delegations.roles


def _key(field: Field, holder: str) -> Key:
    return field.keys.signer(holder).public_key


@pytest.mark.attack(1)
def test_targets_delegates_to_other_reviewers(field: Field) -> None:
    """Stolen targets key: delegation to the attacker's own reviewer, who signs a release."""
    assert 2 == field.accepts()
    targets = _delegation(field)
    delegations, delegated = _delegations(targets)
    thief = _key(field, "registrar")
    delegations.keys = {thief.keyid: thief}
    delegations.roles = {n: DelegatedRole(n, [thief.keyid], 1, True, paths=[f"{n}/release.json"]) for n in delegated}
    field.registry.put("targets", targets, ["ruth"])
    field.registry.release(evil_release(field), MODEL, ["registrar"], UNTIL)
    field.refuses(SignatureError, r"expected signatures of the pinned reviewers \(alice, bruno, chiara\), got others'")


@pytest.mark.attack(1)
def test_targets_lowers_the_threshold(field: Field) -> None:
    """Stolen targets key: the delegation lowers the threshold to one reviewer, who signs."""
    assert 2 == field.accepts()
    targets = _delegation(field)
    _delegations(targets)[1][MODEL].threshold = 1
    field.registry.put("targets", targets, ["ruth"])
    field.registry.release(evil_release(field), MODEL, ["alice"], UNTIL)
    field.refuses(ThresholdError, f"approval of {MODEL}: expected 2 reviewers, got 1 .alice")


@pytest.mark.attack(1)
def test_targets_lists_one_key_under_two_key_ids(field: Field) -> None:
    """Stolen targets and reviewer keys: one reviewer key is listed under two key IDs and signs twice."""
    assert 2 == field.accepts()
    targets = _delegation(field)
    delegations, delegated = _delegations(targets)
    alice = _key(field, "alice")
    twin = SSlibKey("0" * 64, alice.keytype, alice.scheme, alice.keyval)
    delegations.keys[twin.keyid] = twin
    delegated[MODEL].keyids = [alice.keyid, twin.keyid]
    field.registry.put("targets", targets, ["ruth"])
    field.registry.release(evil_release(field), MODEL, ["alice"], UNTIL)
    role = field.registry.read(f"3.{MODEL}.json")
    second = copy.copy(role.signatures[alice.keyid])
    second.keyid = twin.keyid
    role.signatures[twin.keyid] = second
    field.registry.place(MODEL, role.to_bytes(), 3)
    field.refuses(ThresholdError, f"approval of {MODEL}: expected 2 reviewers, got 1 .alice")


@pytest.mark.attack(1)
def test_targets_lists_a_release_itself(field: Field) -> None:
    """Stolen targets key: targets.json lists a release itself, without the reviewers."""
    assert (2, 2) == (field.accepts(), field.pull().model.release.version)
    data, targets = evil_release(field), _delegation(field)
    targets.signed.targets[TARGET] = TargetFile(len(data), {"sha256": sha256(data)}, TARGET)
    (field.mirror / f"targets/{MODEL}/{sha256(data)}.release.json").write_bytes(data)
    field.registry.put("targets", targets, ["ruth"])
    field.refuses(SignatureError, f"expected the target that the reviewers of {MODEL} signed, got one from elsewhere")


@pytest.mark.attack(1)
@pytest.mark.parametrize(
    ("name", "refusal"),
    [
        ("evil", (SignatureError, "expected the target that the reviewers of .* signed, got one from elsewhere")),
        ("a/../evil", (EvidenceError, r"expected a plain relative path, got 'metadata/1\.a%2F\.\.%2Fevil\.json'")),
    ],
)
def test_targets_delegates_to_another_role_first(
    field: Field, name: str, refusal: tuple[type[TwinsealError], str]
) -> None:
    """Stolen targets key: an attacker's role, also one with `../` in its name, comes before the model role."""
    assert (2, 2) == (field.accepts(), field.pull().model.release.version)
    data, targets = evil_release(field), _delegation(field)
    delegations, delegated = _delegations(targets)
    thief = _key(field, "registrar")
    delegations.keys[thief.keyid] = thief
    delegations.roles = {name: DelegatedRole(name, [thief.keyid], 1, True, paths=[TARGET])} | delegated
    field.registry.put("targets", targets, ["ruth"])
    target = TargetFile(len(data), {"sha256": sha256(data)}, TARGET)
    (field.mirror / f"targets/{MODEL}/{sha256(data)}.release.json").write_bytes(data)
    role = Metadata(Targets(1, None, UNTIL, {TARGET: target}))
    (field.registry.metadata / "1.a").mkdir()  # so that `1.a/../evil.json` is a place
    field.registry.put(name, role, ["registrar"])
    field.refuses(*refusal)


@pytest.mark.attack(1)
def test_targets_lists_another_key_under_a_reviewers_key_id(field: Field) -> None:
    """Stolen targets key: an attacker's key is listed under the key IDs of two reviewers."""
    assert 2 == field.accepts()
    targets = _delegation(field)
    delegations, _ = _delegations(targets)
    thief = _key(field, "registrar")
    names = [field.keys.keyid("alice"), field.keys.keyid("bruno")]
    for keyid in names:
        delegations.keys[keyid] = SSlibKey(keyid, thief.keytype, thief.scheme, thief.keyval)
    field.registry.put("targets", targets, ["ruth"])
    field.registry.release(evil_release(field), MODEL, ["registrar"], UNTIL)
    role = field.registry.read(f"3.{MODEL}.json")
    (made,) = role.signatures.values()
    role.signatures = {}
    for keyid in names:
        role.signatures[keyid] = copy.copy(made)
        role.signatures[keyid].keyid = keyid
    field.registry.place(MODEL, role.to_bytes(), 3)
    field.refuses(SignatureError, "expected signatures of the pinned reviewers .*, got others'")


@pytest.mark.attack(1)
@pytest.mark.parametrize("extra", ["a field", "a second target", "a delegation", "a custom field", "a second hash"])
def test_a_model_role_with_extra_content(field: Field, extra: str) -> None:
    """The reviewers sign a model role with an extra field, target, delegation or hash."""
    assert 2 == field.accepts()
    field.registry.release(evil_release(field), MODEL, (), UNTIL, listed=False)
    role = field.registry.read(f"3.{MODEL}.json")
    target = role.signed.targets[TARGET]
    if extra == "a field":
        role.signed.unrecognized_fields["x-more"] = 1
    elif extra == "a second target":
        role.signed.targets["more"] = TargetFile(1, {"sha256": "0" * 64}, "more")
    elif extra == "a delegation":
        role.signed.delegations = Delegations({}, {})
    elif extra == "a custom field":
        target.unrecognized_fields["custom"] = {"evil": 1}
    else:
        target.hashes["md5"] = "0" * 32
    field.registry.put(MODEL, role, ("alice", "chiara"))
    field.refuses(
        SignatureError, f"role {MODEL}: expected (a role of one target|the one target|a target by its SHA-256)"
    )


@pytest.mark.attack(1)
@pytest.mark.parametrize("name", ["root", "targets", "snapshot", "timestamp"])
def test_other_metadata_in_place_of_the_model_role(field: Field, name: str) -> None:
    """The reviewers sign root, targets, snapshot or timestamp metadata in place of the model role."""
    assert 2 == field.accepts()
    other = field.registry.newest(name)
    other.signed.version = 3
    field.registry.put(MODEL, other, ("alice", "chiara"))
    field.refuses(SignatureError, f"Expected 'targets', got '{name}'|role {MODEL}: expected the one target")


@pytest.mark.attack(1)
@pytest.mark.parametrize(
    ("holders", "version", "error", "message"),
    [
        (("alice", "bruno"), 2, SignatureError, "root was signed by 0/1 keys"),
        (("registrar",), 2, SignatureError, "root was signed by 0/1 keys"),
        ((), 2, SignatureError, "root was signed by 0/1 keys"),
        (("ruth",), 1, RollbackError, "Expected root version 2 instead got version 1"),
        (("ruth",), 3, RollbackError, "Expected root version 2 instead got version 3"),
    ],
)
def test_a_root_with_wrong_signatures_or_version(
    field: Field, holders: tuple[str, ...], version: int, error: type[TwinsealError], message: str
) -> None:
    """The registry serves a next root without a custodian's signature, or with a wrong version number."""
    assert 2 == field.accepts()
    root = field.registry.newest("root")
    root.signed.version = version
    root.signatures.clear()
    for holder in holders:
        root.sign(field.keys.signer(holder), append=True)
    root.to_file(str(field.registry.metadata / "2.root.json"))
    field.refuses(error, message)


@pytest.mark.attack(1)
@pytest.mark.parametrize("kind", ["unsigned", "by a reviewer", "by itself"])
def test_a_timestamp_with_a_wrong_signature(field: Field, kind: str) -> None:
    """The timestamp has no signature, a reviewer's, or an attacker's under the registrar's key ID."""
    assert 2 == field.accepts()
    stamp = field.registry.newest("timestamp")
    stamp.signed.version += 1
    stamp.signatures.clear()
    if kind == "by a reviewer":
        stamp.sign(field.keys.signer("alice"))
    elif kind == "by itself":
        from securesystemslib.signer import CryptoSigner

        own = CryptoSigner.generate_ecdsa()
        made = own.sign(stamp.signed_bytes)
        made.keyid = field.keys.keyid("registrar")
        stamp.signatures = {made.keyid: made}
    stamp.to_file(str(field.registry.metadata / "timestamp.json"))
    field.refuses(SignatureError, "timestamp was signed by 0/1 keys")


@pytest.mark.attack(1)
def test_fast_forward_of_the_model_role(field: Field) -> None:
    """Stolen registrar key: fast-forward to version 10⁹ of the model role; version 2 still counts later."""
    assert 2 == field.accepts()
    honest = {path: path.read_bytes() for path in field.registry.metadata.iterdir()}
    field.registry.relist(lambda meta: meta.update({f"{MODEL}.json": MetaFile(10**9)}))
    with pytest.raises(TwinsealError):
        field.pull()
    for path, data in honest.items():
        path.write_bytes(data)
    assert 2 == field.pull().model.release.version


@pytest.mark.attack(1)
def test_another_deployments_registry(field: Field) -> None:
    """The registry is replaced by an attacker's own registry, signed with the attacker's keys."""
    from tests.twin.deployment import Deployment

    assert 2 == field.accepts()
    other = Deployment(field.path / "other")
    other.publish(1)
    other.publish(2)
    field.registry.folder.rename(field.path / "aside")
    other.mirror.rename(field.mirror)
    field.refuses(SignatureError, "timestamp was signed by 0/1 keys")


@pytest.mark.attack(1)
def test_a_planted_cache_is_no_root_of_trust(field: Field) -> None:
    """The registry and the twin's TUF cache are replaced by an attacker's, signed with the attacker's keys."""
    import shutil

    from tests.twin.deployment import Deployment
    from twinseal.trust.release.client import refresh
    from twinseal.twin.byte_sources import DirectorySource

    assert 2 == field.accepts()
    other = Deployment(field.path / "other")
    other.publish(1)
    other.publish(2)
    shutil.rmtree(field.twin / "tuf")
    from tests.attacks.field import LATER

    refresh(other.anchor, field.twin / "tuf", DirectorySource(other.mirror).open, MODEL, LATER)
    field.registry.folder.rename(field.path / "aside")
    other.mirror.rename(field.mirror)
    field.refuses(SignatureError, "was signed by 0/1 keys")
    assert Keyring(other.home.keys).keyid("alice") != field.keys.keyid("alice")


@pytest.mark.attack(1)
def test_release_json_is_changed_at_the_same_length(field: Field) -> None:
    """The registry changes release.json without changing its length."""
    assert 2 == field.accepts()
    data = field.listed.read_bytes()
    value: dict[str, Any] = json.loads(data)
    value["mlflow_model_id"] = "m-" + "e" * 32
    forged = canonical(value)
    assert len(data) == len(forged)
    field.listed.write_bytes(forged)
    field.refuses(DigestMismatchError, MODEL)
