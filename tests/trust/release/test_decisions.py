"""Rejections that block, withdrawals, comments, and reviews that were signed elsewhere."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.trust.passkey_scenes import Person, enroll, new_person, with_policy
from tests.trust.scenes import NOW, Scene, describe, judge, make_bundle, with_predicate
from twinseal.digests import sha256
from twinseal.errors import EvidenceError, SignatureError, ThresholdError, TwinsealError
from twinseal.registry import registration
from twinseal.trust.audit import Log, log_of
from twinseal.trust.keys.key import NamedSigner
from twinseal.trust.release import approval, repository
from twinseal.trust.release.approval import (
    Decision,
    Draft,
    RecordedDecision,
    Reviews,
    assemble_review,
    draft_decision,
    newest_decision,
    read_all,
    receive_review,
)
from twinseal.trust.release.request import Request
from twinseal.trust.release.review_file import Said, parse_review

WHY = "the test set is too small"


class Desk:
    """A home with a release that waits, and reviewers with keys here or passkeys elsewhere."""

    def __init__(self, scene: Scene, bundle: Path, path: Path) -> None:
        self.scene, self.bundle, self.approvals, self.release_dir = scene, bundle, path / "approvals", path / "release"
        release = describe(bundle)
        role = repository.stage(scene.home, release, expires=scene.roles.expiry("reviewer", NOW))
        self.request = Request(release, role)
        self.request.write(self.release_dir)
        self.log: Log = log_of(scene.home.path)

    def act(self, decision: Decision, holder: str, words: str = WHY) -> RecordedDecision:
        reviewer = NamedSigner(holder, self.scene.signer(holder))
        options: dict[str, Any] = {"anchor": self.scene.anchor, "audit": self.log, "now": NOW, "comment": words}
        if decision == "approve":
            more: dict[str, Any] = {"roles": self.scene.roles, "last": None}
            return approval.approve(self.approvals, self.request, self.bundle, reviewer, **options, **more)
        verb: Callable[..., RecordedDecision] = getattr(approval, decision)
        return verb(self.approvals, self.request, reviewer, **options)

    def draft(self, decision: Decision, holder: str, words: str = WHY) -> Draft:
        comment = decision == "comment"
        release, anchor = self.request.release, self.scene.anchor
        known = newest_decision(self.approvals, holder, release, anchor, self.log, comment=comment)
        return draft_decision(self.request, holder, decision, words, anchor=anchor, known=known, now=NOW)

    def sign(self, decision: Decision, person: Person, words: str = WHY) -> dict[str, Any]:
        draft = self.draft(decision, person.name, words)
        return assemble_review(draft, person.signer.sign_all(draft.payloads))

    def receive(self, value: Any) -> RecordedDecision:
        more: dict[str, Any] = {"anchor": self.scene.anchor, "roles": self.scene.roles, "last": None}
        return receive_review(self.approvals, value, self.request, self.bundle, **more, audit=self.log, now=NOW)

    def read(self, **more: Any) -> Reviews:
        return read_all(self.approvals, self.request, self.scene.anchor, self.log, **more)

    def register(self) -> str:
        """Without a store: what is refused, or pending, is so before MLflow is asked anything."""
        places = (self.scene.home, self.bundle, self.release_dir, self.approvals)
        return registration.register(None, *places, roles=self.scene.roles, now=NOW).status  # type: ignore[arg-type]

    @property
    def standings(self) -> dict[str, str]:
        return {item.holder: item.standing for item in self.read().items}

    @property
    def events(self) -> list[str]:
        return [entry.event for _, entry in self.log.read()]


@pytest.fixture
def desk(stage: Scene, bundle: Path, tmp_path: Path) -> Desk:
    return Desk(stage, bundle, tmp_path)


@pytest.fixture
def alice() -> Person:
    return new_person("alice")


@pytest.fixture
def elsewhere(stage: Scene, alice: Person, bundle: Path, tmp_path: Path) -> Desk:
    """A desk where alice has a passkey."""
    return Desk(enroll(stage, alice), bundle, tmp_path)


def refuse_to_register(desk: Desk, reason: str) -> None:
    with pytest.raises(ThresholdError, match=reason):
        desk.register()
    assert repository.current_release(desk.scene.home, "pump-rul") is None
    assert ("refused", False) == (desk.events[-1], "registered" in desk.events)


def remove(path: Path, _: bytes) -> None:
    path.unlink()


def put_back_an_approval(path: Path, approved: bytes) -> None:
    path.write_bytes(approved)


def junk(path: Path, _: bytes) -> None:
    path.write_bytes(b"junk")


def leave(path: Path, _: bytes) -> None:
    pass


@pytest.mark.attack("P")
@pytest.mark.parametrize("attack", [leave, remove, junk, put_back_an_approval])
def test_a_rejection_blocks_the_publication(desk: Desk, attack: Callable[[Path, bytes], None]) -> None:
    """A reviewer rejects, others approve; the file of the rejection is removed or replaced: nothing is published."""
    desk.act("approve", "chiara", "seen")
    approved = (desk.approvals / "chiara.json").read_bytes()
    desk.act("reject", "chiara")
    desk.act("approve", "alice", "seen")
    desk.act("approve", "bruno", "seen")
    attack(desk.approvals / "chiara.json", approved)
    assert (0, ["chiara"]) == (desk.read().count.missing, [item.holder for item in desk.read().rejections])
    refuse_to_register(desk, f"expected no rejection, got one by chiara: {WHY}")
    with pytest.raises(ThresholdError, match="expected no rejection"):
        desk.read().require_publishable()


@pytest.mark.parametrize("decision", ["withdraw", "approve"])
def test_a_rejection_ends_when_its_reviewer_withdraws_it_or_approves(desk: Desk, decision: Decision) -> None:
    desk.act("reject", "chiara")
    desk.act("approve", "alice", "seen")
    desk.act("approve", "bruno", "seen")
    assert desk.read().rejections
    desk.act(decision, "chiara")
    assert () == desk.read().rejections
    desk.read().require_publishable()


def test_a_rejection_of_another_candidate_does_not_block_this_one(desk: Desk) -> None:
    desk.act("reject", "chiara")
    other = replace(desk.request.release, mlflow_model_id="m-" + "1" * 32)
    until = desk.scene.roles.expiry("reviewer", NOW)
    desk.request = Request(other, repository.stage(desk.scene.home, other, expires=until))
    assert ({"chiara": "stale"}, ()) == (desk.standings, desk.read().rejections)


@pytest.mark.attack("P")
def test_a_rejected_release_is_staged_anew(desk: Desk) -> None:
    """A rejected release is submitted again as it is, with another expiry: the rejection stands."""
    desk.act("reject", "chiara")
    until = desk.scene.roles.expiry("reviewer", NOW).replace(hour=11)
    again = repository.stage(desk.scene.home, desk.request.release, expires=until)
    desk.request = Request(desk.request.release, again)
    assert ["chiara"] == [item.holder for item in desk.read().rejections]


@pytest.mark.attack("P")
def test_a_withdrawn_approval_is_put_back(desk: Desk) -> None:
    """A reviewer withdraws an approval; its file is put back: it does not count again."""
    desk.act("approve", "alice", "seen")
    approved = (desk.approvals / "alice.json").read_bytes()
    desk.act("withdraw", "alice")
    assert ({"alice": "withdrawn"}, ()) == (desk.standings, desk.read().signatures)
    (desk.approvals / "alice.json").write_bytes(approved)
    desk.act("approve", "bruno", "seen")
    assert {"alice": "superseded", "bruno": "approved"} == desk.standings
    assert ("pending", "withdrawn") == (desk.register(), desk.events[-2])


@pytest.mark.parametrize("before", [[], ["approve", "withdraw"]])
def test_only_a_decision_can_be_withdrawn(desk: Desk, before: list[Decision]) -> None:
    for decision in before:
        desk.act(decision, "alice", "before")
    with pytest.raises(EvidenceError, match="withdrawal: expected an earlier decision of alice"):
        desk.act("withdraw", "alice")
    assert "refused" == desk.events[-1]


@pytest.mark.parametrize("decision", ["reject", "withdraw", "comment"])
def test_a_decision_without_words_is_refused(desk: Desk, decision: Decision) -> None:
    with pytest.raises(EvidenceError, match="expected (a reason|words), got none"):
        desk.act(decision, "alice", " ")


def test_comments_are_kept_shown_and_never_counted(desk: Desk) -> None:
    desk.act("approve", "alice", "seen")
    first, again, second = (desk.act("comment", "alice", words) for words in ("one", "one", "two"))
    assert (True, False, True) == (first.is_new, again.is_new, second.is_new)
    assert ["alice.comment-1.json", "alice.comment-2.json"] == [first.path.name, second.path.name]
    desk.act("comment", "bruno", "three")
    reviews = desk.read()
    assert ({"alice": "approved"}, 1) == (desk.standings, len(reviews.signatures))
    assert [("alice", "one"), ("alice", "two"), ("bruno", "three")] == [
        (item.holder, item.comment) for item in reviews.comments
    ]
    assert {"commented"} == {item.standing for item in reviews.comments}
    value = json.loads(second.path.read_bytes())
    assert (2, sha256_of(desk, first.path)) == (value["sequence"], value["previous"])
    assert ["approved", "commented", "commented", "commented"] == desk.events[-4:]


def sha256_of(desk: Desk, path: Path) -> str:
    return parse_review(json.loads(path.read_bytes()), desk.scene.anchor).digest


@pytest.mark.attack("P")
def test_a_comment_is_put_in_the_place_of_a_decision(desk: Desk) -> None:
    """A comment lies under the name of a decision, a decision under that of a comment: both are invalid."""
    desk.act("reject", "alice")
    rejected = (desk.approvals / "alice.json").read_bytes()
    comment = desk.act("comment", "alice", "fine").path.read_bytes()
    (desk.approvals / "alice.json").write_bytes(comment)
    (desk.approvals / "alice.comment-1.json").write_bytes(rejected)
    (desk.approvals / "alice.comment-7.json").write_bytes(comment)
    reviews = desk.read()
    assert {"invalid"} == {item.standing for item in (*reviews.items, *reviews.comments)}
    assert ["alice"] == [item.holder for item in reviews.rejections]


def test_there_are_at_most_100_comments(desk: Desk) -> None:
    release, anchor = desk.request.release, desk.scene.anchor
    known = replace(newest_decision(desk.approvals, "alice", release, anchor, desk.log), sequence=100)
    with pytest.raises(EvidenceError, match="expected at most 100 of alice"):
        draft_decision(desk.request, "alice", "comment", "more", anchor=anchor, known=known, now=NOW)


def test_a_review_that_was_signed_elsewhere_counts_as_one_that_was_signed_here(elsewhere: Desk, alice: Person) -> None:
    value = elsewhere.sign("approve", alice, "read at home")
    assert 1 == alice.device.counter  # one touch for the words and the role
    received = elsewhere.receive(value)
    assert (True, "alice.json", "approved") == (received.is_new, received.path.name, elsewhere.events[-1])
    assert json.loads(received.path.read_bytes()) == value
    assert not elsewhere.receive(value).is_new
    received.path.unlink()
    assert not elsewhere.receive(value).is_new  # the log has it: only its file is written again
    assert {"alice": "approved"} == elsewhere.standings
    elsewhere.act("approve", "bruno", "seen")
    reviews = elsewhere.read()
    reviews.require_publishable()
    published = repository.publish(
        elsewhere.scene.home,
        elsewhere.request,
        reviews.signatures,
        registrar=elsewhere.scene.signer("registrar"),
        roles=elsewhere.scene.roles,
        now=NOW,
    )
    assert published.changed


def test_every_decision_can_be_made_elsewhere(elsewhere: Desk, alice: Person) -> None:
    for decision, standing in (("reject", "rejected"), ("withdraw", "withdrawn"), ("approve", "approved")):
        assert elsewhere.receive(elsewhere.sign(decision, alice)).is_new  # type: ignore[arg-type]
        assert {"alice": standing} == elsewhere.standings
    assert "alice.comment-1.json" == elsewhere.receive(elsewhere.sign("comment", alice)).path.name
    again = elsewhere.sign("approve", alice)
    assert ("approve", 4) == (again["decision"], again["sequence"])
    assert not elsewhere.receive(again).is_new  # the same words about the same release


def test_a_draft_has_the_exact_bytes_in_order(desk: Desk) -> None:
    draft = desk.draft("approve", "alice")
    statement, role = draft.payloads
    assert statement.startswith(b"DSSEv1 28 application/vnd.in-toto+json ")
    assert b'"_type":"targets"' in role
    assert 1 == len(desk.draft("reject", "alice").payloads)
    signatures = desk.scene.signer("alice").sign_all(draft.payloads)
    other = desk.scene.signer("bruno").sign_all(draft.payloads)
    for wrong in ([], signatures[:1], [*signatures, signatures[0]], [signatures[0], other[1]]):
        with pytest.raises(SignatureError, match="expected 2 signatures by one key"):
            assemble_review(draft, wrong)


def _older(desk: Desk, alice: Person) -> Any:
    value = desk.sign("reject", alice)
    desk.receive(value)
    desk.receive(desk.sign("withdraw", alice, "no, it is not"))
    return value


def _of_another_release(desk: Desk, alice: Person) -> Any:
    other, request = replace(desk.request.release, mlflow_model_id="m-" + "1" * 32), desk.request
    desk.request = Request(other, repository.stage(desk.scene.home, other, expires=NOW + timedelta(days=9)))
    value = desk.sign("approve", alice)
    desk.request = request
    return value


def _by_another_device(desk: Desk, alice: Person) -> Any:
    return desk.sign("approve", replace(new_person("alice"), passkey=alice.passkey))


def _in_anothers_name(desk: Desk, alice: Person) -> Any:
    return desk.sign("approve", replace(alice, name="bruno"))


def _role_of_another(desk: Desk, alice: Person) -> Any:
    value = desk.sign("approve", alice)
    return value | {"signature": desk.sign("approve", alice, "other")["signature"] | {"sig": "00"}}


def _from_the_future(desk: Desk, alice: Person) -> Any:
    release, anchor = desk.request.release, desk.scene.anchor
    known = newest_decision(desk.approvals, "alice", release, anchor, desk.log)
    late = NOW + timedelta(hours=2)
    draft = draft_decision(desk.request, "alice", "approve", WHY, anchor=anchor, known=known, now=late)
    return assemble_review(draft, alice.signer.sign_all(draft.payloads))


def _edited(**changes: Any) -> Callable[[Desk, Person], Any]:
    return lambda desk, alice: desk.sign("approve", alice) | changes


@pytest.mark.attack("P")
@pytest.mark.parametrize(
    "forge",
    [
        _older,
        _of_another_release,
        _by_another_device,
        _in_anothers_name,
        _role_of_another,
        _from_the_future,
        _edited(comment="fine"),
        _edited(decision="reject"),
        _edited(holder="mallory"),
        _edited(holder=["alice"]),
        _edited(signature=None),
        _edited(more=1),
        _edited(sequence=float("nan")),
        lambda desk, alice: None,
        lambda desk, alice: {"holder": "\ud800", "decision": {}},
        lambda desk, alice: desk.sign("approve", alice) | {"comment": "x" * 300_000},
    ],
)
def test_a_forged_review_from_elsewhere(elsewhere: Desk, alice: Person, forge: Callable[[Desk, Person], Any]) -> None:
    """A review arrives that is older, about another release, by another device, or edited: it is refused and logged."""
    value = forge(elsewhere, alice)
    before = elsewhere.standings
    with pytest.raises(TwinsealError, match="expected"):
        elsewhere.receive(value)
    assert (before, "refused") == (elsewhere.standings, elsewhere.events[-1])


def test_a_review_from_elsewhere_is_checked_as_one_from_here(elsewhere: Desk, alice: Person) -> None:
    (elsewhere.bundle / "model" / "model.safetensors").write_bytes(b"weightr")
    with pytest.raises(TwinsealError, match="model.safetensors: expected sha256"):
        elsewhere.receive(elsewhere.sign("approve", alice))
    assert elsewhere.receive(elsewhere.sign("reject", alice)).is_new  # whose reason that may be


def built(desk: Desk, *names: str) -> Desk:
    """The same desk, whose candidate these have built."""
    judge(desk.bundle, desk.scene.home, "pump-rul", with_predicate(twinseal_built_by=sorted(names)))
    return Desk(desk.scene, desk.bundle, desk.release_dir.parent)


@pytest.mark.attack("P")
@pytest.mark.parametrize("name", ["alice", "Alice", "alice@plant.example", "ASMITH", "a.smith@example.org"])
def test_who_built_the_candidate_approves_it(stage: Scene, bundle: Path, tmp_path: Path, name: str) -> None:
    """A reviewer built the candidate, by login or by an account, and approves it: refused, and never counted."""
    scene = with_policy(stage, accounts={"alice": ["asmith", "a.smith@example.org"]})
    desk = Desk(scene, bundle, tmp_path)
    desk.act("approve", "alice", "before it was known")
    desk.act("approve", "bruno", "seen")
    desk.read().require_publishable()
    mine = built(desk, "root", name)
    with pytest.raises(
        EvidenceError, match="expected a reviewer who did not build the candidate, got alice"
    ) as refusal:
        mine.act("approve", "alice")
    assert "Another reviewer must approve it: bruno, chiara" in refusal.value.remedy
    mine.act("approve", "bruno", "seen")
    _sign_without_our_checks(mine, "alice")
    known = mine.read(built_by=("root", name))
    assert {"alice": "builder", "bruno": "approved"} == {item.holder: item.standing for item in known.items}
    assert (("bruno",), ("chiara",), ("alice",)) == (known.count.signed, known.count.may_sign, known.count.builders)
    assert "pending" == mine.register()


@pytest.mark.attack("P")
def test_reviewer_of_another_model_decides_nothing_about_this_one(stage: Scene, bundle: Path, tmp_path: Path) -> None:
    """A reviewer of other models approves, rejects or comments: refused; and what they signed elsewhere."""
    before = Desk(stage, bundle, tmp_path)
    before.act("reject", "chiara")
    desk = Desk(with_policy(stage, models={"chiara": ["turbofan-rul"]}), bundle, tmp_path)
    decisions: tuple[Decision, ...] = ("approve", "reject", "withdraw", "comment")
    for decision in decisions:
        with pytest.raises(SignatureError, match="reviewer of pump-rul: expected one of alice, bruno, got 'chiara'"):
            desk.act(decision, "chiara")
    _sign_without_our_checks(before, "chiara")
    desk.act("approve", "alice", "seen")
    known = desk.read()
    assert (("alice",), ("bruno",), ()) == (known.count.signed, known.count.may_sign, known.rejections)
    assert "chiara" not in {item.holder for item in known.items if item.standing == "approved"}
    desk.act("approve", "bruno", "seen")
    desk.read().require_publishable()


def _sign_without_our_checks(desk: Desk, holder: str) -> None:
    """What a program that was changed writes."""
    draft = desk.draft("approve", holder)
    value = assemble_review(draft, desk.scene.signer(holder).sign_all(draft.payloads))
    (desk.approvals / f"{holder}.json").write_text(json.dumps(value))


@pytest.mark.parametrize("listed", ["alice", [1], ["b", "a"], ["a", "a"], ["x" * 255], [""], ["a"] * 17, {"a": 1}])
def test_a_verdict_whose_builders_nobody_could_compare_is_refused(scene: Scene, tmp_path: Path, listed: Any) -> None:
    edits = {"assess": with_predicate(twinseal_built_by=listed)}
    bundle = make_bundle(tmp_path / "bundle", scene.home, edits=edits)
    from twinseal.trust.release.candidate import verify_bundle

    with pytest.raises(EvidenceError, match="verdict: expected .*who built it"):
        verify_bundle(bundle, scene.anchor)


SAIDS = st.builds(
    lambda decision, comment, sequence: Said(
        "alice",
        decision,
        comment,
        "2026-03-01T12:00:00Z",
        "pump-rul",
        1,
        sha256(b"role"),
        sequence,
        "" if sequence == 1 else sha256(b"before"),
    ),
    st.sampled_from(["approve", "reject", "withdraw", "comment"]),
    st.text(st.characters(codec="utf-8"), max_size=50),
    st.integers(1, 100),
)


@given(SAIDS)
def test_what_was_said_reads_back_as_itself(said: Said) -> None:
    assert said == Said(**json.loads(json.dumps(said.to_dict())))
