"""The owners' approval of the policy: k of n, over exactly the files in hand; and a release without it."""

from __future__ import annotations

import copy
import shutil
from pathlib import Path

import pytest

from tests import signed_policy
from tests.trust.scenes import NOW, Scene, describe, judge, make_bundle, unchanged
from twinseal.config import read_yaml
from twinseal.errors import (
    ConfigError,
    EvidenceError,
    KeyAccessError,
    PolicyError,
    RollbackError,
    SignatureError,
    ThresholdError,
)
from twinseal.evidence import POLICY_APPROVAL, Statement
from twinseal.evidence_chain import OBEYED
from twinseal.files import write_whole
from twinseal.policy_entries import DIVIDED
from twinseal.policy_files import Policy
from twinseal.trust.audit import log_of
from twinseal.trust.keys.key import NamedSigner
from twinseal.trust.policy_approval import (
    APPROVED,
    PROPOSED,
    Approval,
    PolicyState,
    approve_policy,
    approve_with_all,
    policy_state,
    require_approved,
)
from twinseal.trust.release.candidate import verify_bundle, verify_release
from twinseal.trust.release.changes import (
    changes_since_release,
    keep_evidence,
    last_approval_number,
    require_no_older_policy,
)
from twinseal.trust.signing.dsse import add_signature, sign_envelope

SHIPPED = Path(__file__).parents[2] / "policy"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(SHIPPED, tmp_path / "policy"))


@pytest.fixture
def own(scene: Scene, tmp_path: Path) -> Scene:
    return scene.copy(tmp_path / "home")


def place(folder: Path) -> Path:
    return folder.parent / "approvals" / "policy"


def approve(folder: Path, scene: Scene, *names: str, key_of: str = "") -> PolicyState:
    for name in names:
        owner = NamedSigner(name, scene.signer(key_of or name))
        state = approve_policy(
            folder, place(folder), owner, anchor=scene.anchor, audit=log_of(scene.home.path), now=NOW
        )
    return state


def loosen(folder: Path) -> None:
    """Take a gate out, and widen a bound."""
    path = folder / "gates.yaml"
    text = path.read_text().replace("at_most: 0.05              # seen: 0 and 0; above", "at_most: 0.5 #")
    start = text.index("  - name: missed-failures\n")
    path.write_text(text[:start] + text[text.index("  - name: certified-error\n") :])


def test_a_policy_counts_once_enough_owners_have_signed_it(own: Scene, folder: Path) -> None:
    first = approve(folder, own, "gerda")
    assert (False, ("gerda",), 1, ("henrik",)) == (first.is_approved, first.signed, first.missing, first.can_sign)
    with pytest.raises(PolicyError, match="expected the policy that 2 of its owners approved, got another .they have"):
        require_approved(folder, place(folder), own.anchor)
    second = approve(folder, own, "henrik")
    assert (True, 0, ()) == (second.is_approved, second.missing, second.can_sign)
    approval, data = require_approved(folder, place(folder), own.anchor)
    assert (1, "", data) == (approval.number, approval.replaces, (place(folder) / APPROVED).read_bytes())
    assert not (place(folder) / PROPOSED).exists()
    assert read_yaml(folder / "gates.yaml") == approval.content["gates.yaml"]
    entries = [entry for _, entry in log_of(own.home.path).read()]
    assert [("policy", "gerda"), ("policy", "henrik")] == [(entry.event, entry.actor) for entry in entries[-2:]]


def test_the_same_owner_twice_is_one_signature(own: Scene, folder: Path) -> None:
    approve(folder, own, "gerda")
    before, size = (place(folder) / PROPOSED).read_bytes(), log_of(own.home.path).head().size
    again = approve(folder, own, "gerda")
    assert (1, before, size) == (
        again.missing,
        (place(folder) / PROPOSED).read_bytes(),
        log_of(own.home.path).head().size,
    )


@pytest.mark.attack("P")
def test_gates_removed_after_the_owners_approved_the_policy(own: Scene, folder: Path) -> None:
    """A gate is removed and a bound is widened after the policy owners signed: `sign` refuses, with both changes."""
    approve_with_all(own.home, folder, place(folder), NOW)
    approved, data = require_approved(folder, place(folder), own.anchor)
    loosen(folder)
    with pytest.raises(PolicyError) as refused:
        require_approved(folder, place(folder), own.anchor)
    assert "looser: gates.yaml: quarantined-units: at_most: 0.05 → 0.5" in str(refused.value)
    assert "looser: gates.yaml: missed-failures: removed" in str(refused.value)
    assert "twinseal policy approve --as NAME" in refused.value.remedy
    state = policy_state(folder, place(folder), own.anchor)
    assert (approved, ()) == (state.approved, state.signed)
    assert data == (place(folder) / APPROVED).read_bytes(), "the old approval stays"
    approve(folder, own, "gerda", "henrik")
    newer, _ = require_approved(folder, place(folder), own.anchor)
    assert (2, approved.sha256) == (newer.number, newer.replaces)


@pytest.mark.attack("P")
@pytest.mark.parametrize("name", ["builder", "assessor", "alice", "custodian-1", "nobody"])
def test_somebody_else_approves_the_policy(own: Scene, folder: Path, name: str) -> None:
    """The builder, the assessor, a reviewer or a custodian signs the policy: refused, and logged."""
    approve(folder, own, "gerda")
    before = (place(folder) / PROPOSED).read_bytes()
    with pytest.raises(SignatureError, match=f"owner: expected one of gerda, henrik, got '{name}'"):
        approve(folder, own, name, key_of="alice")
    with pytest.raises(KeyAccessError, match="henrik: expected the key"):
        approve(folder, own, "henrik", key_of="builder")
    assert before == (place(folder) / PROPOSED).read_bytes()
    assert ["refused", "refused"] == [entry.event for _, entry in log_of(own.home.path).read()][-2:]


@pytest.mark.attack("P")
def test_one_owners_signature_on_one_policy_is_used_for_another(own: Scene, folder: Path) -> None:
    """One owner signs; the policy is then changed and the other owner signs: the two signatures do not add up."""
    approve(folder, own, "gerda")
    loosen(folder)
    state = approve(folder, own, "henrik")
    assert (False, ("henrik",), 1) == (state.is_approved, state.signed, state.missing)
    with pytest.raises(PolicyError):
        require_approved(folder, place(folder), own.anchor)
    assert approve(folder, own, "gerda").is_approved


@pytest.mark.attack("P")
def test_the_policy_is_changed_while_its_owner_reads_it(own: Scene, folder: Path) -> None:
    """The policy is changed between what its owner was shown and the signature: nothing is signed."""
    shown, owner = policy_state(folder, place(folder), own.anchor).policy, NamedSigner("gerda", own.signer("gerda"))
    loosen(folder)
    about = {"anchor": own.anchor, "audit": log_of(own.home.path), "now": NOW}
    with pytest.raises(PolicyError, match="expected the policy that was shown, got another one since"):
        approve_policy(folder, place(folder), owner, shown=shown, **about)
    assert not place(folder).exists()
    shown = policy_state(folder, place(folder), own.anchor).policy
    assert ("gerda",) == approve_policy(folder, place(folder), owner, shown=shown, **about).signed


@pytest.mark.attack("P")
def test_an_approval_that_describes_another_policy_than_it_signs(own: Scene, folder: Path) -> None:
    """The owners' statement has the digests of the loosened files and the content of the strict ones: refused."""
    strict = Policy.read(folder)
    loosen(folder)
    loose = Policy.read(folder)
    predicate = {"number": 1, "replaces": "", "time": "2026-03-01T12:00:00Z", "content": dict(strict.content)}
    made = Statement(tuple(sorted(loose.subjects)), POLICY_APPROVAL, predicate)
    data = sign_envelope(made.to_bytes(), own.signer("gerda"))
    write_whole(place(folder) / APPROVED, add_signature(data, own.signer("henrik")))
    with pytest.raises(PolicyError):
        require_approved(folder, place(folder), own.anchor)


@pytest.mark.attack("P")
def test_an_owner_is_given_other_content_to_sign_beside_the_right_digests(own: Scene, folder: Path) -> None:
    """One owner proposes the files in hand with milder threats as their content: the other's signature is not added."""
    policy = Policy.read(folder)
    milder = dict(policy.content) | {"threats.yaml": dict(policy.content["threats.yaml"]) | {"evasion": []}}
    predicate = {"number": 1, "replaces": "", "time": "2026-03-01T12:00:00Z", "content": milder}
    made = Statement(tuple(sorted(policy.subjects)), POLICY_APPROVAL, predicate)
    write_whole(place(folder) / PROPOSED, sign_envelope(made.to_bytes(), own.signer("gerda")))
    assert ((), 2) == (policy_state(folder, place(folder), own.anchor).signed, 2)
    assert ("henrik",) == approve(folder, own, "henrik").signed
    assert not (place(folder) / APPROVED).exists()


@pytest.mark.parametrize("junk", [b"", b"{}", b"junk", b"[" * 100_000])
def test_a_file_that_is_no_approval_is_as_good_as_none(own: Scene, folder: Path, junk: bytes) -> None:
    for name in (APPROVED, PROPOSED):
        write_whole(place(folder) / name, junk)
    state = policy_state(folder, place(folder), own.anchor)
    assert (None, 2) == (state.approved, state.missing)
    approve(folder, own, "gerda", "henrik")
    assert require_approved(folder, place(folder), own.anchor)[0].number == 1


def test_a_value_that_json_has_no_form_for_is_not_signed(own: Scene, folder: Path) -> None:
    (folder / "more.yaml").write_text("most: .inf\n")
    with pytest.raises(ConfigError, match="JSON"):
        approve(folder, own, "gerda")


# What a release without the owners' approval is worth


@pytest.fixture
def bundle(own: Scene, tmp_path: Path) -> Path:
    return make_bundle(tmp_path / "bundle", own.home)


def test_a_bundle_carries_the_policy_that_its_owners_approved(own: Scene, bundle: Path) -> None:
    verified = verify_bundle(bundle, own.anchor)
    assert (1, signed_policy.CONTENT) == (verified.policy.number, verified.policy.content)
    verify_release(bundle, describe(bundle), own.anchor)


@pytest.mark.attack(5)
def test_a_release_whose_policy_no_owner_signed(own: Scene, bundle: Path) -> None:
    """The approval of the policy is missing, has one owner of two, or is signed by the assessor: refused."""
    verify_bundle(bundle, own.anchor)
    path = bundle / "evidence" / "policy.dsse.json"
    kept = path.read_bytes()
    path.unlink()
    with pytest.raises(SignatureError, match="expected the signed record of policy, got none"):
        verify_bundle(bundle, own.anchor)
    for role, error in (("gerda", ThresholdError), ("assessor", SignatureError)):
        path.write_bytes(signed_policy.sign_envelope(signed_policy.statement().to_bytes(), own.signer(role)))
        with pytest.raises(error):
            verify_bundle(bundle, own.anchor)
    path.write_bytes(kept)
    verify_bundle(bundle, own.anchor)


@pytest.mark.attack(5)
@pytest.mark.parametrize("name", sorted({name for names in OBEYED.values() for name in names}))
def test_a_stage_obeyed_another_entry_of_policy_than_the_owners_signed(own: Scene, bundle: Path, name: str) -> None:
    """A stage ran under milder threats or a wider contract than the policy owners signed: refused."""
    content, file = copy.deepcopy(signed_policy.CONTENT), Path(name).name
    signed_policy.write_approval(bundle, own.home, signed_policy.statement(content=content))
    verify_bundle(bundle, own.anchor)
    content[file]["assets"] = {"pump": content[file].get("assets", {}).get("pump", {}) | {"milder": 1}}
    signed_policy.write_approval(bundle, own.home, signed_policy.statement(content=content))
    with pytest.raises(EvidenceError, match=f"the entries of policy for 'pump' differ .{name}#pump"):
        verify_bundle(bundle, own.anchor)


def test_an_entry_of_another_asset_changes_nothing_for_this_one(own: Scene, bundle: Path) -> None:
    content = copy.deepcopy(signed_policy.CONTENT)
    for file in DIVIDED:
        content[file].setdefault("fleets" if file == "evaluation.yaml" else "assets", {})["fan"] = {"size": 1}
    signed_policy.write_approval(bundle, own.home, signed_policy.statement(content=content))
    verify_bundle(bundle, own.anchor)


@pytest.mark.attack(5)
def test_a_verdict_by_another_policy_than_the_owners_signed(own: Scene, bundle: Path) -> None:
    """The verdict was reached with other gates than the policy owners signed: refused."""
    made = signed_policy.statement()
    subjects = tuple(item if item.name != "policy" else type(item)("policy", "a" * 64) for item in made.subjects)
    signed_policy.write_approval(bundle, own.home, type(made)(subjects, made.predicate_type, made.predicate))
    with pytest.raises(EvidenceError, match="verdict: expected one by the policy aaaaaaaaaaaa… that its owners"):
        verify_bundle(bundle, own.anchor)


# What changed since the last release


def test_a_reviewer_is_told_what_changed_since_the_last_release(own: Scene, bundle: Path) -> None:
    statements = dict(verify_bundle(bundle, own.anchor).statements)
    assert "this home has registered none" in changes_since_release(own.home, "pump-rul", statements).lines[0]
    keep_evidence(own.home, "pump-rul", bundle)
    assert () == changes_since_release(own.home, "pump-rul", statements).lines
    looser = {**signed_policy.CONTENT, "gates.yaml": {"gates": [{"name": "other", "at_most": 1, "unit": "cycles"}]}}
    signed_policy.write_approval(bundle, own.home, signed_policy.statement(2, looser))
    judge(bundle, own.home, "pump-rul", unchanged)
    signed_policy.write_approval(bundle, own.home, signed_policy.statement(2, looser))
    changes = changes_since_release(own.home, "pump-rul", verify_bundle(bundle, own.anchor).statements)
    looser_line, stricter_line = changes.lines
    assert "policy: looser: gates.yaml: accuracy: removed" == looser_line
    assert "policy: stricter: gates.yaml: other: added" == stricter_line
    require_no_older_policy(changes)


@pytest.mark.attack("P")
def test_an_older_policy_that_its_owners_had_approved_is_put_back(own: Scene, bundle: Path) -> None:
    """An older, milder policy with its valid approval is put back after a release by a newer one: refused."""
    signed_policy.write_approval(bundle, own.home, signed_policy.statement(5))
    keep_evidence(own.home, "pump-rul", bundle)
    assert 5 == last_approval_number(own.home, own.anchor)
    signed_policy.write_approval(bundle, own.home, signed_policy.statement(4))
    changes = changes_since_release(own.home, "pump-rul", verify_bundle(bundle, own.anchor).statements)
    with pytest.raises(RollbackError, match="expected approval 5 of its owners, as in the last release, .* got 4"):
        require_no_older_policy(changes)


def test_evidence_that_does_not_verify_any_more_is_said_to_be_unknown(own: Scene, bundle: Path) -> None:
    statements = verify_bundle(bundle, own.anchor).statements
    keep_evidence(own.home, "pump-rul", bundle)
    (own.home.path / "released/pump-rul/evade.dsse.json").write_bytes(b"{}")
    assert "its evidence does not verify any more" in changes_since_release(own.home, "pump-rul", statements).lines[0]


@pytest.mark.parametrize(
    "change",
    [{"number": 0}, {"number": True}, {"number": 2**40}, {"content": []}, {"replaces": 1}, {"extra": 1}],
    ids=str,
)
def test_a_malformed_approval_is_refused(change: dict[str, object]) -> None:
    made = signed_policy.statement()
    with pytest.raises(EvidenceError):
        Approval.of(type(made)(made.subjects, made.predicate_type, made.predicate | change))
