from __future__ import annotations

import base64
import json
import os
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.trust.scenes import NOW, Scene, describe
from twinseal.digests import canonical_json
from twinseal.errors import (
    DigestMismatchError,
    EvidenceError,
    ExpiredError,
    KeyAccessError,
    SignatureError,
    ThresholdError,
    TrustError,
)
from twinseal.trust.audit import Log
from twinseal.trust.keys.key import NamedSigner, fingerprint
from twinseal.trust.release import repository
from twinseal.trust.release.approval import Reviews, approve, read_all, reject
from twinseal.trust.release.release import Release
from twinseal.trust.release.request import Request
from twinseal.trust.release.terms import LastPublished
from twinseal.trust.signing.dsse import sign_envelope


@pytest.fixture(scope="module")
def release(honest_bundle: Path) -> Release:
    return describe(honest_bundle)


@pytest.fixture(scope="module")
def role(scene: Scene, release: Release) -> bytes:
    return repository.stage(scene.home, release, expires=scene.roles.expiry("reviewer", NOW))


@pytest.fixture(scope="module")
def waiting(release: Release, role: bytes) -> Request:
    return Request(release, role)


@pytest.fixture
def approvals(tmp_path: Path) -> Path:
    return tmp_path / "approvals"


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return Log(tmp_path / "log")


Act = Callable[..., Path]  # of the file that it wrote


@pytest.fixture
def yes(scene: Scene, release: Release, role: bytes, approvals: Path, honest_bundle: Path, log: Log) -> Act:
    def act(key: str, /, **more: Any) -> Path:
        reviewer = NamedSigner(more.pop("holder", key), scene.signer(key))
        request = Request(more.pop("release", release), role)
        options = {"anchor": scene.anchor, "roles": scene.roles, "audit": log, "now": NOW, "comment": "seen"}
        options["last"] = LastPublished()
        return approve(approvals, request, more.pop("bundle", honest_bundle), reviewer, **options | more).path

    return act


@pytest.fixture
def no(scene: Scene, release: Release, role: bytes, approvals: Path, log: Log) -> Act:
    def act(holder: str, /, **more: Any) -> Path:
        reviewer = NamedSigner(holder, scene.signer(holder))
        options = {"anchor": scene.anchor, "audit": log, "now": NOW, "comment": "no"}
        return reject(approvals, Request(release, role), reviewer, **options | more).path

    return act


def standings(reviews: Reviews) -> dict[str, str]:
    return {item.holder: item.standing for item in reviews.items}


def test_approvals_add_up_to_a_publication(
    stage: Scene, waiting: Request, release: Release, approvals: Path, yes: Act, no: Act, log: Log
) -> None:
    none = read_all(approvals, waiting, stage.anchor, log)
    assert (len(none.items), none.count.missing) == (0, 2)
    yes("alice")
    assert 1 == read_all(approvals, waiting, stage.anchor, log).count.missing
    no("chiara", comment="the pump was never in the fleet")
    yes("bruno")
    reviews = read_all(approvals, waiting, stage.anchor, log)
    assert {"alice": "approved", "bruno": "approved", "chiara": "rejected"} == standings(reviews)
    assert ["seen", "seen", "the pump was never in the fleet"] == [item.comment for item in reviews.items]
    assert {"2026-03-01T12:00:00Z"} == {item.time for item in reviews.items}
    published = repository.publish(
        stage.home,
        waiting,
        reviews.signatures,
        registrar=stage.signer("registrar"),
        roles=stage.roles,
        now=NOW,
    )
    assert release == published.release


def test_a_rejection_is_never_counted_and_takes_an_approval_back(
    scene: Scene, waiting: Request, approvals: Path, yes: Act, no: Act, log: Log
) -> None:
    yes("alice")
    no("alice")
    reviews = read_all(approvals, waiting, scene.anchor, log)
    assert ({"alice": "rejected"}, (), ()) == (standings(reviews), reviews.signatures, reviews.count.signed)
    with pytest.raises(ThresholdError, match="expected 2 reviewers, got 0"):
        reviews.count.require_complete()


def test_an_approval_runs_every_check_of_the_twin_first(bundle: Path, approvals: Path, yes: Act) -> None:
    (bundle / "model" / "model.safetensors").write_bytes(b"weightr")
    with pytest.raises(DigestMismatchError, match="model/model.safetensors: expected sha256"):
        yes("alice", bundle=bundle)
    assert not approvals.exists()


def test_whoever_is_no_reviewer_cannot_approve(scene: Scene, approvals: Path, yes: Act) -> None:
    for holder in ("builder", "assessor", "registrar"):
        with pytest.raises(SignatureError, match=f"reviewer: expected one of alice, bruno, chiara, got '{holder}'"):
            yes(holder)
    with pytest.raises(SignatureError, match="got '../alice'"):
        yes("alice", holder="../alice")
    assert not approvals.exists()


@pytest.mark.attack("P")
def test_a_reviewer_cannot_sign_as_another(scene: Scene, approvals: Path, yes: Act) -> None:
    """A reviewer approves in the name of another reviewer."""
    shown = {item.name: fingerprint(item.key)[:16] for item in scene.anchor.roles["reviewer"].holders}
    with pytest.raises(
        KeyAccessError, match=f"bruno: expected the key {shown['bruno']}… that the anchor has, got {shown['alice']}…"
    ):
        yes("alice", holder="bruno")
    assert not approvals.exists()


def test_another_release_than_the_staged_one_is_not_approved(release: Release, approvals: Path, yes: Act) -> None:
    with pytest.raises(DigestMismatchError, match="pump-rul/release.json: expected sha256"):
        yes("alice", release=replace(release, version=2))
    assert not approvals.exists()


def test_what_was_staged_too_long_ago_is_not_approved(approvals: Path, yes: Act) -> None:
    with pytest.raises(ExpiredError, match="staged role of pump-rul"):
        yes("alice", now=NOW + timedelta(days=181))
    assert not approvals.exists()


def test_a_rejection_needs_a_reason(approvals: Path, no: Act) -> None:
    with pytest.raises(EvidenceError, match="rejection: expected a reason, got none"):
        no("alice", comment=" ")
    assert not approvals.exists()


def test_an_approval_of_an_earlier_release_is_stale_and_no_error(
    scene: Scene, release: Release, approvals: Path, yes: Act, log: Log
) -> None:
    yes("alice")
    following = replace(release, version=2, parent_version=1)
    role = repository.stage(scene.home, following, expires=NOW + timedelta(days=9))
    reviews = read_all(approvals, Request(following, role), scene.anchor, log)
    assert ({"alice": "stale"}, 2) == (standings(reviews), reviews.count.missing)
    assert "about another release (version 1 of pump-rul)" in reviews.items[0].reason


def _copied(approvals: Path) -> None:
    (approvals / "alice.json").rename(approvals / "bruno.json")


def _edit(**changes: Any) -> Callable[[Path], None]:
    def attack(approvals: Path) -> None:
        value = json.loads((approvals / "alice.json").read_bytes())
        for name, change in changes.items():
            value[name] = change(value[name]) if callable(change) else change
        (approvals / "alice.json").write_text(json.dumps(value))

    return attack


def _other_signature(value: dict[str, str]) -> dict[str, str]:
    return {**value, "sig": value["sig"][:-2] + "00"}


def _junk(approvals: Path) -> None:
    (approvals / "alice.json").write_bytes(b"\x80junk")


def _endless(approvals: Path) -> None:
    (approvals / "alice.json").write_bytes(b"[" * (1 << 20))


def _folder(approvals: Path) -> None:
    (approvals / "alice.json").unlink()
    (approvals / "alice.json").mkdir()


def _fifo(approvals: Path) -> None:
    (approvals / "alice.json").unlink()
    os.mkfifo(approvals / "alice.json")


@pytest.mark.attack("P")
@pytest.mark.parametrize(
    ("attack", "reason"),
    [
        (_copied, "expected a signature by bruno"),
        (_edit(comment="looks fine to me, sign it too"), "expected the file to say what was signed"),
        (_edit(holder="bruno"), "expected the file to say what was signed"),
        (_edit(version=7), "expected the file to say what was signed"),
        (_edit(release_sha256="a" * 64), "expected the file to say what was signed"),
        (_edit(release_sha256=7), "expected a SHA-256"),
        (_edit(role_sha256="a" * 64), "expected the file to say what was signed"),
        (_edit(decision="reject"), "expected the file to say what was signed"),
        (_edit(signature=None), "expected approve with a signature"),
        (_edit(signature=_other_signature), "expected the signature of alice over the role, got another"),
        (_edit(signature="x"), "expected a signature of keyid and sig"),
        (_edit(signature={"keyid": "alice", "sig": "00"}), "expected the signature of alice over the role"),
        (_edit(review=None), "expected a DSSE envelope"),
        (_edit(extra=1), "expected exactly comment, decision"),
        (_junk, "expected JSON"),
        (_endless, "expected at most 262144 bytes"),
        (_folder, "expected a review, got none"),
        (_fifo, "expected a review, got none"),
    ],
)
def test_a_forged_approval_is_shown_as_invalid_and_not_counted(
    scene: Scene, waiting: Request, approvals: Path, yes: Act, attack: Callable[[Path], None], reason: str, log: Log
) -> None:
    """The folder of approvals contains a forged approval: shown as invalid and not counted."""
    yes("alice")
    assert ("alice",) == read_all(approvals, waiting, scene.anchor, log).count.signed
    attack(approvals)
    yes("chiara")
    reviews = read_all(approvals, waiting, scene.anchor, log)
    forged = reviews.items[0]
    assert ("invalid", "", "") == (forged.standing, forged.comment, forged.time)
    assert reason in forged.reason
    assert (("chiara",), 1) == (reviews.count.signed, len(reviews.signatures))


def test_a_reviewer_who_signs_anothers_name_is_invalid(
    scene: Scene, waiting: Request, approvals: Path, yes: Act, log: Log
) -> None:
    """Alice's own key, Alice's own file, and all of it signed: but it says that Bruno decided."""
    value = json.loads(yes("alice").read_bytes())
    said = json.loads(base64.b64decode(value["review"]["payload"]))
    said["predicate"]["holder"] = value["holder"] = "bruno"
    value["review"] = json.loads(sign_envelope(canonical_json(said), scene.signer("alice")))
    (approvals / "alice.json").write_text(json.dumps(value))
    reviews = read_all(approvals, waiting, scene.anchor, log)
    assert (standings(reviews), reviews.count.signed) == ({"alice": "invalid"}, ())


@pytest.mark.attack("P")
def test_one_reviewers_signature_in_two_files_counts_once(
    scene: Scene, waiting: Request, approvals: Path, yes: Act, log: Log
) -> None:
    """One reviewer's approval is copied into a second file: it counts once."""
    data = yes("alice").read_bytes()
    (approvals / "alice2.json").write_bytes(data)
    reviews = read_all(approvals, waiting, scene.anchor, log)
    assert ({"alice": "approved", "alice2": "invalid"}, 1) == (standings(reviews), reviews.count.missing)


def test_no_folder_is_no_approval(scene: Scene, waiting: Request, tmp_path: Path, log: Log) -> None:
    assert () == read_all(tmp_path / "none", waiting, scene.anchor, log).items


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=200))
def test_hostile_bytes_in_approvals_are_reported_and_nothing_else(
    scene: Scene, waiting: Request, tmp_path: Path, data: bytes, log: Log
) -> None:
    (tmp_path / "alice.json").write_bytes(data)
    assert {"alice": "invalid"} == standings(read_all(tmp_path, waiting, scene.anchor, log))


@given(data=st.binary(max_size=200))
def test_hostile_bytes_in_place_of_a_role_are_refused(
    scene: Scene, release: Release, tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    with pytest.raises(TrustError):
        read_all(tmp_path_factory.getbasetemp(), Request(release, data), scene.anchor, Log(Path("no-log")))
