from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.trust.scenes import (
    POLICY_SHA,
    Edit,
    Scene,
    attest,
    describe,
    judge,
    make_bundle,
    statements,
    unchanged,
    with_digests,
    with_predicate,
)
from twinseal.digests import sha256
from twinseal.errors import DigestMismatchError, EvidenceError, GateRefusedError, SignatureError, TrustError
from twinseal.evidence import Statement, Subject
from twinseal.files import inventory
from twinseal.trust.release.candidate import require_bundle, verify_bundle, verify_release
from twinseal.trust.release.oms import sign_directory

OTHER = sha256(b"other")


def test_an_honest_bundle_passes_every_step(scene: Scene, honest_bundle: Path) -> None:
    checked = verify_release(honest_bundle, describe(honest_bundle), scene.anchor)
    assert checked == verify_bundle(honest_bundle, scene.anchor)
    assert checked == verify_bundle(honest_bundle, scene.anchor, reversed(inventory(honest_bundle)))
    assert ("pump-rul", POLICY_SHA) == (checked.model, checked.policy_sha256)
    assert [item.name for item in scene.anchor.evidence] == list(checked.statements)


# Step 1 and 2: the files.


def _flip(path: str) -> Callable[[Path], None]:
    def attack(bundle: Path) -> None:
        data = bytearray((bundle / path).read_bytes())
        data[0] ^= 1
        (bundle / path).write_bytes(data)

    return attack


def _add(path: str) -> Callable[[Path], None]:
    def attack(bundle: Path) -> None:
        (bundle / path).parent.mkdir(parents=True, exist_ok=True)
        (bundle / path).write_bytes(b"x")

    return attack


def _remove(path: str) -> Callable[[Path], None]:
    return lambda bundle: (bundle / path).unlink()


def _link(bundle: Path) -> None:
    shutil.move(bundle / "model/config.json", bundle.parent / "elsewhere")
    (bundle / "model/config.json").symlink_to(bundle.parent / "elsewhere")


def _link_folder(bundle: Path) -> None:
    shutil.move(bundle / "model", bundle.parent / "elsewhere")
    (bundle / "model").symlink_to(bundle.parent / "elsewhere")


def _fifo(bundle: Path) -> None:
    (bundle / "model.sig.json").unlink()
    os.mkfifo(bundle / "model.sig.json")


def _folder(bundle: Path) -> None:
    (bundle / "model/config.json").unlink()
    (bundle / "model/config.json").mkdir()


def _rename(bundle: Path) -> None:
    (bundle / "model/config.json").rename(bundle / "model/config2.json")


@pytest.mark.attack(3)
@pytest.mark.parametrize(
    "attack",
    [
        *map(_flip, ("model/model.safetensors", "model/config.json", "model.sig.json", "evidence/assess.dsse.json")),
        *map(
            _add, ("model/pickle.bin", "model/.git/config", ".gitattributes", ".github/x", "MLmodel", "code/loader.py")
        ),
        *map(_add, ("model/CONFIG.json", "evidence/extra.dsse.json", "model/deep/deep/deep/x", "model/cоnfig.json")),
        *map(_remove, ("model/config.json", "model.sig.json", "evidence/train.dsse.json")),
        _link,
        _link_folder,
        _fifo,
        _folder,
        _rename,
    ],
)
def test_files_other_than_those_of_the_release_are_refused(
    scene: Scene, bundle: Path, attack: Callable[[Path], None]
) -> None:
    """Files of the bundle are changed, added, removed, renamed or symlinked after release.json was made."""
    release = describe(bundle)
    attack(bundle)
    with pytest.raises(DigestMismatchError, match="expected"):
        verify_release(bundle, release, scene.anchor)
    with pytest.raises(TrustError, match="expected"):
        verify_bundle(bundle, scene.anchor)


@pytest.mark.attack(4)
def test_a_model_signed_by_another_role_is_refused(scene: Scene, bundle: Path) -> None:
    """The assessor signs the model, not the builder."""
    (bundle / "model.sig.json").write_bytes(sign_directory(bundle / "model", scene.signer("assessor")))
    with pytest.raises(SignatureError, match="expected the signature of builder, got another"):
        verify_release(bundle, describe(bundle), scene.anchor)


def test_an_older_models_signature_in_place_of_this_ones_is_refused(scene: Scene, bundle: Path, tmp_path: Path) -> None:
    older = make_bundle(tmp_path / "older", scene.home, weights=b"older")
    shutil.copy(older / "model.sig.json", bundle / "model.sig.json")
    with pytest.raises(DigestMismatchError, match="exactly the files that the builder signed.*model.safetensors"):
        verify_release(bundle, describe(bundle), scene.anchor)


# Step 3: signers and types.


@pytest.mark.attack(5)
def test_evidence_signed_by_the_builder_for_the_assessor_is_refused(scene: Scene, bundle: Path, tmp_path: Path) -> None:
    """The record of evade is signed by the builder, not by the assessor."""
    thief = scene.copy(tmp_path / "thief")
    shutil.copy(thief.home.keys / "builder.pem", thief.home.keys / "assessor.pem")
    (tmp_path / "evade").mkdir()
    made = statements("pump-rul", b"weights")["evade"]
    forged = _signed_by(scene, "builder", made)
    (bundle / "evidence/evade.dsse.json").write_bytes(forged)
    with pytest.raises(SignatureError, match="expected a signature by assessor"):
        verify_bundle(bundle, scene.anchor)


def _signed_by(scene: Scene, holder: str, statement: Statement) -> bytes:
    from twinseal.trust.signing.dsse import sign_envelope

    return sign_envelope(statement.to_bytes(), scene.signer(holder))


@pytest.mark.parametrize("stage", ["ingest", "validate", "prepare", "train", "evade", "poison", "assess"])
def test_missing_evidence_is_refused(scene: Scene, bundle: Path, stage: str) -> None:
    (bundle / f"evidence/{stage}.dsse.json").unlink()
    with pytest.raises(SignatureError, match=f"expected the signed record of {stage}, got none"):
        verify_bundle(bundle, scene.anchor)


def test_evidence_of_one_stage_in_the_place_of_another_is_refused(scene: Scene, bundle: Path) -> None:
    shutil.copy(bundle / "evidence/poison.dsse.json", bundle / "evidence/evade.dsse.json")
    judge(bundle, scene.home, "pump-rul", unchanged)
    with pytest.raises(EvidenceError, match="evade: about something else: no windows it ran on on record"):
        verify_bundle(bundle, scene.anchor)


# Steps 4 to 7: what the statements say. Each is signed by the right role: an honest key, a statement that does not fit.


def _without_subjects(*prefixes: str) -> Edit:
    def edit(statement: Statement) -> Statement:
        kept = tuple(s for s in statement.subjects if not s.name.startswith(prefixes))
        return replace(statement, subjects=kept)

    return edit


def _with_subject(name: str) -> Edit:
    return lambda statement: replace(statement, subjects=(*statement.subjects, Subject(name, OTHER)))


def _materials(edit: Callable[[list[dict[str, object]]], list[dict[str, object]]]) -> Edit:
    def changed(statement: Statement) -> Statement:
        build = dict(statement.predicate["buildDefinition"])
        build["resolvedDependencies"] = edit(build["resolvedDependencies"])
        return replace(statement, predicate=statement.predicate | {"buildDefinition": build})

    return changed


def _other_materials(prefix: str) -> Edit:
    return _materials(
        lambda listed: [
            {**item, "digest": {"sha256": OTHER}} if str(item["name"]).startswith(prefix) else item for item in listed
        ]
    )


def _less_materials(prefix: str) -> Edit:
    return _materials(lambda listed: [item for item in listed if not str(item["name"]).startswith(prefix)])


RAW, ACCEPTED = "data/raw/telemetry.parquet", "data/accepted/telemetry.parquet"
ELSE = "about something else"
WEIGHTS, WINDOWS = "model/model.safetensors", "data/windows/windows.safetensors"


@pytest.mark.attack(5)
@pytest.mark.parametrize(
    ("stage", "edit", "error", "message"),
    [
        # 4
        (
            "validate",
            with_predicate(result="WARNED"),
            GateRefusedError,
            "validate: expected the result PASSED, got WARNED",
        ),
        ("evade", with_predicate(result="FAILED"), GateRefusedError, "evade: expected the result PASSED, got FAILED"),
        ("poison", with_predicate(result="passed"), GateRefusedError, "poison: expected the result PASSED, got passed"),
        ("poison", with_predicate(result=None), GateRefusedError, "poison: expected the result PASSED, got none"),
        ("poison", with_predicate(result=["PASSED"]), GateRefusedError, "poison: expected the result PASSED, got none"),
        (
            "assess",
            with_predicate(verificationResult="FAILED"),
            GateRefusedError,
            "verdict: expected PASSED, got FAILED",
        ),
        ("assess", with_predicate(verificationResult=""), GateRefusedError, "verdict: expected PASSED, got none"),
        ("assess", with_predicate(verificationResult=True), GateRefusedError, "verdict: expected PASSED, got none"),
        # 5
        ("train", with_digests((WEIGHTS, OTHER)), EvidenceError, f"train: {ELSE}: the files of the model differ"),
        ("train", _with_subject("model/more.bin"), EvidenceError, f"train: {ELSE}: the files of the model differ"),
        ("train", _with_subject("other/more.bin"), EvidenceError, f"train: {ELSE}: the files of the model differ"),
        ("train", _without_subjects("model/config"), EvidenceError, f"train: {ELSE}: the files of the model differ"),
        ("train", _other_materials("data/windows"), EvidenceError, f"prepare: {ELSE}: the windows that train read"),
        ("train", _less_materials("data/windows"), EvidenceError, f"prepare: {ELSE}: no windows that train read"),
        ("train", _less_materials(WINDOWS), EvidenceError, f"prepare: {ELSE}: the windows that train read"),
        ("train", _materials(lambda listed: listed + listed), EvidenceError, "differ .one is there twice"),
        ("train", _materials(lambda _: []), EvidenceError, f"train: {ELSE}: no entries of policy on record"),
        ("train", with_predicate(buildDefinition={}), EvidenceError, f"train: {ELSE}: no entries of policy on record"),
        ("train", with_predicate(buildDefinition=7), EvidenceError, f"train: {ELSE}: no entries of policy on record"),
        ("prepare", with_digests((WINDOWS, OTHER)), EvidenceError, f"prepare: {ELSE}: the windows that train read"),
        ("prepare", _without_subjects("data/windows/prep"), EvidenceError, f"prepare: {ELSE}: no windows that train"),
        ("prepare", _other_materials("data/accepted"), EvidenceError, f"validate: {ELSE}: the telemetry that prepare"),
        ("prepare", _less_materials("data/accepted"), EvidenceError, f"validate: {ELSE}: no telemetry that prepare"),
        (
            "validate",
            with_digests((ACCEPTED, OTHER)),
            EvidenceError,
            f"validate: {ELSE}: the telemetry that prepare read",
        ),
        ("validate", with_digests((RAW, OTHER)), EvidenceError, f"ingest: {ELSE}: the telemetry that validate read"),
        ("validate", _without_subjects("data/raw"), EvidenceError, f"ingest: {ELSE}: no telemetry that validate read"),
        ("ingest", with_digests((RAW, OTHER)), EvidenceError, f"ingest: {ELSE}: the telemetry that validate read"),
        ("evade", with_digests((WEIGHTS, OTHER)), EvidenceError, f"evade: {ELSE}: the files of the model differ"),
        ("evade", with_digests((WINDOWS, OTHER)), EvidenceError, f"evade: {ELSE}: the windows it ran on differ"),
        ("evade", _without_subjects("data/"), EvidenceError, f"evade: {ELSE}: no windows it ran on"),
        ("evade", _without_subjects("model/"), EvidenceError, f"evade: {ELSE}: no files of the model"),
        ("poison", with_digests((WEIGHTS, OTHER)), EvidenceError, f"poison: {ELSE}: the files of the model differ"),
        ("poison", with_digests((ACCEPTED, OTHER)), EvidenceError, f"poison: {ELSE}: the telemetry it ran on differ"),
        # 6
        (
            "assess",
            with_digests((WEIGHTS, OTHER)),
            EvidenceError,
            "verdict: expected one about exactly these model files",
        ),
        ("assess", _with_subject("model/more"), EvidenceError, "verdict: expected one about exactly these model files"),
        (
            "assess",
            _without_subjects("model/config"),
            EvidenceError,
            "verdict: expected one about exactly these model files",
        ),
        # 7
        ("assess", with_predicate(inputAttestations=[]), EvidenceError, "verdict: expected one from the 6 statements"),
        (
            "assess",
            with_predicate(inputAttestations=None),
            EvidenceError,
            "verdict: expected one from the 6 statements",
        ),
        ("assess", with_predicate(inputAttestations=["x"]), EvidenceError, "subject: expected a name and a digest"),
        (
            "assess",
            with_predicate(resourceUri=None),
            EvidenceError,
            "verdict: expected one on https://twinseal.dev/model/",
        ),
        ("assess", with_predicate(policy="gates.yaml"), EvidenceError, "verdict: expected the digest of a policy"),
    ],
)
def test_signed_evidence_with_a_wrong_result_or_digest_is_refused(
    scene: Scene, bundle: Path, stage: str, edit: Edit, error: type[Exception], message: str
) -> None:
    """41 variants of signed evidence: a result that is not PASSED, or digests of something else."""
    verify_bundle(bundle, scene.anchor)
    made = statements("pump-rul", b"weights")
    if stage == "assess":
        judge(bundle, scene.home, "pump-rul", edit)
    else:
        attest(bundle, scene.home, stage, edit(made[stage]))
        judge(bundle, scene.home, "pump-rul", unchanged)
    with pytest.raises(error, match=message):
        verify_bundle(bundle, scene.anchor)
    with pytest.raises(error, match=message):
        verify_release(bundle, describe(bundle), scene.anchor)


@pytest.mark.attack(5)
def test_evidence_replaced_after_the_verdict_is_refused(scene: Scene, bundle: Path) -> None:
    """The assessor changes a record and signs it again after the verdict."""
    made = statements("pump-rul", b"weights")["evade"]
    attest(bundle, scene.home, "evade", with_predicate(twinseal_measures={"n": 2})(made))
    with pytest.raises(EvidenceError, match="verdict: expected one from the 6 statements of this bundle, got another"):
        verify_bundle(bundle, scene.anchor)


@pytest.mark.attack(5)
def test_evidence_of_another_candidate_is_refused(scene: Scene, bundle: Path, tmp_path: Path) -> None:
    """The bundle contains the complete evidence of another candidate."""
    other = make_bundle(tmp_path / "other", scene.home, weights=b"better")
    shutil.copytree(other / "evidence", bundle / "evidence", dirs_exist_ok=True)
    with pytest.raises(
        EvidenceError, match="expected evidence about this model; train: about something else: the files of the model"
    ):
        verify_bundle(bundle, scene.anchor)


# Step 8: the verdict and the release.


def test_the_verdict_on_another_model_is_refused(scene: Scene, honest_bundle: Path) -> None:
    release = describe(honest_bundle, model="turbofan-rul")
    with pytest.raises(EvidenceError, match="expected one on the model turbofan-rul of the release, got pump-rul"):
        verify_release(honest_bundle, release, scene.anchor)


@pytest.mark.attack(5)
def test_the_verdict_by_another_policy_is_refused(scene: Scene, honest_bundle: Path) -> None:
    """The release names another policy than the verdict."""
    release = replace(describe(honest_bundle), policy_sha256=OTHER)
    with pytest.raises(EvidenceError, match=f"expected one on the policy {OTHER} of the release, got {POLICY_SHA}"):
        verify_release(honest_bundle, release, scene.anchor)


# Where a gate failed there is no bundle at all: whoever asks for it learns why.


def _judged(folder: Path, scene: Scene, edit: Edit) -> Path:
    """The signed verdict as `assess` leaves it, beside no bundle."""
    made = make_bundle(folder / "made", scene.home, edits={"assess": edit})
    return made / "evidence/assess.dsse.json"


def test_a_failed_gate_is_named_where_the_bundle_would_be(scene: Scene, tmp_path: Path) -> None:
    gates = [{"name": "rmse", "result": "PASSED"}, {"name": "accuracy", "result": "FAILED"}, {"name": "hidden"}]
    verdict = _judged(tmp_path, scene, with_predicate(verificationResult="FAILED", twinseal_gates=gates))
    with pytest.raises(
        GateRefusedError, match=r"bundle: expected a signed candidate, got none: its verdict is FAILED "
    ):
        require_bundle(tmp_path / "bundle", verdict, scene.anchor)
    with pytest.raises(GateRefusedError, match=r"\(failed gates: accuracy, hidden\)") as refusal:
        require_bundle(tmp_path / "bundle", verdict, scene.anchor)
    assert "reports/report.html" in refusal.value.remedy


def test_a_candidate_that_passed_and_was_not_signed_is_told_apart(scene: Scene, tmp_path: Path) -> None:
    verdict = _judged(tmp_path, scene, unchanged)
    with pytest.raises(GateRefusedError, match="it PASSED, and was not signed"):
        require_bundle(tmp_path / "bundle", verdict, scene.anchor)


def test_a_verdict_that_somebody_edited_is_not_quoted(scene: Scene, tmp_path: Path) -> None:
    verdict = _judged(tmp_path, scene, with_predicate(verificationResult="FAILED"))
    verdict.write_bytes(_signed_by(scene, "builder", statements("pump-rul", b"weights")["train"]))
    with pytest.raises(SignatureError, match="expected a signature by assessor"):
        require_bundle(tmp_path / "bundle", verdict, scene.anchor)


def test_a_bundle_that_is_there_and_a_verdict_that_is_not_are_left_to_others(
    scene: Scene, honest_bundle: Path, tmp_path: Path
) -> None:
    require_bundle(honest_bundle, tmp_path / "none", scene.anchor)
    require_bundle(tmp_path / "bundle", tmp_path / "none", scene.anchor)


def test_no_bundle_is_a_refusal_with_a_remedy_and_no_file_not_found(
    scene: Scene, honest_bundle: Path, tmp_path: Path
) -> None:
    with pytest.raises(EvidenceError, match=r"bundle: expected a signed bundle .* got no such folder") as refusal:
        verify_release(tmp_path / "bundle", describe(honest_bundle), scene.anchor)
    assert "dvc repro" in refusal.value.remedy
    with pytest.raises(EvidenceError, match="got no such folder"):
        verify_bundle(tmp_path / "bundle", scene.anchor)
    (tmp_path / "bundle/other").mkdir(parents=True)
    with pytest.raises(EvidenceError, match="got a folder with none of these") as refusal:
        verify_bundle(tmp_path / "bundle", scene.anchor)
    assert "dvc repro" in refusal.value.remedy


@pytest.mark.parametrize("gates", [None, 7, ["x"], [{"result": "PASSED"}]])
def test_a_verdict_that_names_no_failed_gate_names_none(scene: Scene, tmp_path: Path, gates: object) -> None:
    verdict = _judged(tmp_path, scene, with_predicate(verificationResult="FAILED", twinseal_gates=gates))
    with pytest.raises(GateRefusedError, match="failed gates: none named"):
        require_bundle(tmp_path / "bundle", verdict, scene.anchor)
