"""Mix-and-match: valid releases, evidence, verdicts and approvals, but of another model or version."""

from __future__ import annotations

import json
import shutil

import pytest

from tests.attacks.field import UNTIL, Field
from tests.attacks.forge import canonical, judge, payload_of, release_of
from tests.twin.deployment import MODEL, OTHER
from twinseal.errors import (
    DigestMismatchError,
    EvidenceError,
    GateRefusedError,
    RegistryError,
    RollbackError,
    SignatureError,
    TwinsealError,
)

ASSESS = "evidence/assess.dsse.json"


@pytest.mark.attack(1)
def test_another_models_role_in_place_of_the_model_role(field: Field) -> None:
    """Mix-and-match: the registry serves the role of another model in place of the model role."""
    assert 2 == field.accepts()
    shutil.copy(field.registry.metadata / f"1.{OTHER}.json", field.registry.metadata / f"2.{MODEL}.json")
    field.refuses(DigestMismatchError, MODEL)


@pytest.mark.attack(1)
def test_another_models_role_listed_as_the_model_role(field: Field) -> None:
    """The reviewers sign the role of another model, and the snapshot lists it as the model role."""
    assert 2 == field.accepts()
    role = field.registry.read(f"1.{OTHER}.json")
    role.signed.version = 3
    field.registry.put(MODEL, role, ["alice", "chiara"])
    field.refuses(
        SignatureError, f"role {MODEL}: expected the one target {MODEL}/release.json, got {OTHER}/release.json"
    )


@pytest.mark.attack(1)
def test_another_models_release_json(field: Field) -> None:
    """Mix-and-match: the registry serves release.json of another model."""
    assert 2 == field.accepts()
    (other,) = (field.mirror / "targets" / OTHER).iterdir()
    shutil.copy(other, field.listed)
    field.refuses(DigestMismatchError, MODEL)


@pytest.mark.attack(2)
def test_another_models_release_json_in_the_model_role(field: Field) -> None:
    """The reviewers sign release.json of another model in the model role."""
    assert 2 == field.accepts()
    (other,) = (field.mirror / "targets" / OTHER).iterdir()
    field.registry.release(other.read_bytes(), MODEL, ("alice", "chiara"), UNTIL)
    field.refuses(EvidenceError, f"expected a release of {MODEL}, got one of {OTHER}")


@pytest.mark.attack(5)
def test_another_models_bundle(field: Field) -> None:
    """The reviewers sign the bundle of another model, with its own evidence, as a release of this model."""
    assert 2 == field.accepts()
    field.release_3(field.path / f"deployment/bundle-1-{OTHER}")
    field.refuses(EvidenceError, f"verdict: expected one on the model {MODEL} of the release, got {OTHER}")


@pytest.mark.attack(6)
def test_another_models_files_with_evidence_for_this_one(field: Field) -> None:
    """Builder, assessor and reviewers sign the files of another model as this model."""
    from tests.attacks.forge import deceive

    assert 2 == field.accepts()
    shutil.copytree(field.path / f"deployment/bundle-1-{OTHER}/model", field.bundle / "model", dirs_exist_ok=True)
    deceive(field.bundle, field.keys)
    field.release_3()
    field.refuses(EvidenceError, rf"contract\.json: expected one for {MODEL}, got one for {OTHER}")


STAGES = ("ingest", "validate", "prepare", "train", "evade", "poison", "assess")


@pytest.mark.attack(5)
@pytest.mark.parametrize("stage", ["train", "evade", "poison", "assess"])
def test_one_record_of_another_candidate(field: Field, stage: str) -> None:
    """One record of evidence belongs to another candidate; the assessor and the reviewers sign it."""
    assert 2 == field.accepts()
    verdict = payload_of((field.bundle / ASSESS).read_bytes())
    other = field.path / f"deployment/bundle-1-{MODEL}/evidence/{stage}.dsse.json"
    shutil.copy(other, field.bundle / f"evidence/{stage}.dsse.json")
    if stage != "assess":
        judge(field.bundle, field.keys, verdict)
    field.release_3()
    expected = f"expected evidence about this model; {stage}: about something else: the files of the model differ"
    if stage == "assess":
        expected = "verdict: expected one about exactly these model files, got one about others"
    field.refuses(EvidenceError, expected)


@pytest.mark.attack(5)
def test_all_evidence_of_another_candidate(field: Field) -> None:
    """The reviewers sign a release with the complete evidence of another candidate."""
    assert 2 == field.accepts()
    other = field.path / f"deployment/bundle-1-{MODEL}/evidence"
    shutil.copytree(other, field.bundle / "evidence", dirs_exist_ok=True)
    field.release_3()
    field.refuses(
        EvidenceError, "expected evidence about this model; train: about something else: the files of the model"
    )


@pytest.mark.attack(5)
@pytest.mark.parametrize(("stage", "place"), [("poison", "evade"), ("train", "prepare"), ("assess", "evade")])
def test_a_record_in_place_of_another_stages_record(field: Field, stage: str, place: str) -> None:
    """Skipped stage: the record of another stage takes its place; the assessor and the reviewers sign."""
    assert 2 == field.accepts()
    verdict = payload_of((field.bundle / ASSESS).read_bytes())
    shutil.copy(field.bundle / f"evidence/{stage}.dsse.json", field.bundle / f"evidence/{place}.dsse.json")
    judge(field.bundle, field.keys, verdict)
    field.release_3()
    field.refuses(EvidenceError, "windows that|expected a statement of|expected")


@pytest.mark.attack(5)
@pytest.mark.parametrize("stage", STAGES[:-1])
def test_a_record_is_missing(field: Field, stage: str) -> None:
    """Skipped stage: its record is missing from verdict and release; the assessor and the reviewers sign."""
    assert 2 == field.accepts()
    verdict = payload_of((field.bundle / ASSESS).read_bytes())
    (field.bundle / f"evidence/{stage}.dsse.json").unlink()
    judge(field.bundle, field.keys, verdict)
    field.release_3()
    field.refuses(SignatureError, f"expected the signed record of {stage}, got none")


@pytest.mark.attack(5)
def test_a_verdict_by_another_policy(field: Field) -> None:
    """The reviewers sign a release that names another policy than the verdict."""
    assert 2 == field.accepts()
    field.release_3(policy_sha256="0" * 64)
    field.refuses(EvidenceError, "verdict: expected one on the policy 000000.* of the release, got")


@pytest.mark.attack(2)
def test_a_verdict_that_is_not_the_one_in_the_bundle(field: Field) -> None:
    """The reviewers sign a release with the digest of another verdict than the one in the bundle."""
    assert 2 == field.accepts()
    field.release_3(verdict_sha256="0" * 64)
    field.refuses(EvidenceError, "release verdict: expected 000000000000…, got")


@pytest.mark.attack(5)
@pytest.mark.parametrize("result", ["FAILED", "passed", "PASSED ", "", None, True, ["PASSED"]])
@pytest.mark.parametrize("stage", ["evade", "assess"])
def test_a_test_that_did_not_pass(field: Field, stage: str, result: object) -> None:
    """The result of evade or assess is FAILED, empty, misspelled or not a string; assessor and reviewers sign it."""
    assert 2 == field.accepts()
    verdict = payload_of((field.bundle / ASSESS).read_bytes())
    path = field.bundle / f"evidence/{stage}.dsse.json"
    if stage == "assess":
        verdict["predicate"]["verificationResult"] = result
    else:
        said = payload_of(path.read_bytes())
        said["predicate"]["result"] = result
        path.write_bytes(canonical(field.keys.envelope(canonical(said), "assessor")))
    judge(field.bundle, field.keys, verdict)
    field.release_3()
    field.refuses(GateRefusedError, "(evade: expected the result|verdict: expected) PASSED, got")


@pytest.mark.attack(1)
def test_approvals_of_one_version_are_replayed_for_the_next(field: Field) -> None:
    """Replay: the reviewers' signatures of model role version 2 are attached to version 3."""
    assert 2 == field.accepts()
    approved = field.registry.read(f"2.{MODEL}.json")
    old = json.loads(field.listed.read_bytes())
    data = canonical(release_of(field.bundle, canonical(old), version=3))
    field.registry.release(data, MODEL, (), UNTIL)
    role = field.registry.read(f"3.{MODEL}.json")
    role.signatures = approved.signatures
    field.registry.place(MODEL, role.to_bytes(), 3)
    field.refuses(SignatureError, f"{MODEL} was signed by 0/2 keys")


@pytest.mark.attack(1)
def test_one_new_and_one_replayed_approval(field: Field) -> None:
    """Replay: one reviewer signs model role version 3, the other signature is copied from version 2."""
    from twinseal.errors import ThresholdError

    assert 2 == field.accepts()
    approved = field.registry.read(f"2.{MODEL}.json")
    field.registry.release(field.listed.read_bytes(), MODEL, ("alice",), UNTIL)
    role = field.registry.read(f"3.{MODEL}.json")
    chiara = field.keys.keyid("chiara")
    role.signatures[chiara] = approved.signatures[chiara]
    field.registry.place(MODEL, role.to_bytes(), 3)
    field.refuses(ThresholdError, f"{MODEL} was signed by 1/2 keys")


@pytest.mark.attack(3)
@pytest.mark.parametrize("there", ["the release before", "another model", "nothing"])
def test_the_model_id_has_other_files(field: Field, there: str) -> None:
    """The registry stores the previous release, another model or nothing under the release's model ID."""
    assert 2 == field.accepts()
    shutil.rmtree(field.candidate)
    if there != "nothing":
        name = MODEL if there == "the release before" else OTHER
        shutil.copytree(field.path / f"deployment/bundle-1-{name}", field.candidate)
    error: type[TwinsealError] = RegistryError if there == "nothing" else DigestMismatchError
    field.refuses(error, r"evidence/.*: expected (sha256 .* as signed, got|this file of release 2, got none)")


@pytest.mark.attack(3)
def test_the_reviewers_sign_another_candidates_model_id(field: Field) -> None:
    """The reviewers sign a release with the model ID of the previous release."""
    assert 2 == field.accepts()
    (old,) = (path for path in field.listed.parent.iterdir() if path != field.listed)
    before = json.loads(old.read_bytes())
    field.release_3(mlflow_model_id=before["mlflow_model_id"])
    field.refuses(DigestMismatchError, "expected sha256 .* as signed, got")


@pytest.mark.attack(2)
def test_a_second_release_under_the_same_version(field: Field) -> None:
    """The reviewers sign another release under a version that the twin has already seen."""
    assert (2, 2) == (field.accepts(), field.pull().model.release.version)
    field.release_3(version=2)
    field.refuses(RollbackError, f"release 2 of {MODEL}: expected .* as seen before, got")


@pytest.mark.attack(7)
def test_the_state_of_one_model_for_another(field: Field) -> None:
    """The state folder of one model is used for another model."""
    from tests.attacks.field import LATER
    from twinseal.twin.byte_sources import DirectorySource
    from twinseal.twin.pull import pull

    before = field.answers()
    assert (
        1
        == pull(
            DirectorySource(field.mirror), field.deployment.anchor, OTHER, field.path / "other", LATER
        ).model.release.version
    )
    with pytest.raises(EvidenceError, match=f"expected the state of {OTHER}, got that of {MODEL}"):
        pull(DirectorySource(field.mirror), field.deployment.anchor, OTHER, field.twin, LATER)
    assert (1, before) == (field.version, field.answers())
