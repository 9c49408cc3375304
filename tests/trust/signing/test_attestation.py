from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.trust.scenes import STAGES, Scene, statements
from twinseal.errors import EvidenceError, KeyAccessError, SignatureError, TwinsealError
from twinseal.trust.signing.attestation import parse_attestation, read_attestation, write_attestation
from twinseal.trust.signing.dsse import sign_envelope

MADE = statements("pump-rul", b"weights")


@pytest.mark.parametrize("stage", STAGES)
def test_what_a_stage_wrote_reads_back(scene: Scene, tmp_path: Path, stage: str) -> None:
    path = tmp_path / f"{stage}.dsse.json"
    write_attestation(path, stage, MADE[stage], scene.home)
    assert MADE[stage] == read_attestation(path, stage, scene.anchor)
    assert [path] == list(tmp_path.iterdir())


def test_an_absent_record_is_refused(scene: Scene, tmp_path: Path) -> None:
    with pytest.raises(SignatureError, match="expected the signed record of train, got none") as caught:
        read_attestation(tmp_path / "train.dsse.json", "train", scene.anchor)
    assert "dvc repro train" in caught.value.remedy


@pytest.mark.parametrize("holder", ["assessor", "alice", "registrar", "custodian-1"])
def test_a_record_signed_by_another_role_is_refused(scene: Scene, holder: str) -> None:
    envelope = sign_envelope(MADE["train"].to_bytes(), scene.signer(holder))
    with pytest.raises(SignatureError, match=r"train: expected a signature by builder \(builder\), got"):
        parse_attestation(envelope, "train", scene.anchor)


def test_the_builder_cannot_pass_its_own_model(scene: Scene) -> None:
    envelope = sign_envelope(MADE["evade"].to_bytes(), scene.signer("builder"))
    with pytest.raises(SignatureError, match="evade: expected a signature by assessor"):
        parse_attestation(envelope, "evade", scene.anchor)


def test_a_record_of_another_type_in_the_place_of_a_verdict_is_refused(scene: Scene) -> None:
    envelope = sign_envelope(MADE["evade"].to_bytes(), scene.signer("assessor"))
    with pytest.raises(EvidenceError, match="assess: expected https://slsa.dev/verification_summary/v1"):
        parse_attestation(envelope, "assess", scene.anchor)


def test_a_statement_of_the_wrong_type_is_not_signed(scene: Scene, tmp_path: Path) -> None:
    with pytest.raises(EvidenceError, match="train: expected https://slsa.dev/provenance/v1"):
        write_attestation(tmp_path / "x", "train", MADE["evade"], scene.home)
    with pytest.raises(EvidenceError, match="evidence: expected one of"):
        write_attestation(tmp_path / "x", "rumour", MADE["evade"], scene.home)
    assert list(tmp_path.iterdir()) == []


def test_a_statement_that_holds_nan_is_not_signed(scene: Scene, tmp_path: Path) -> None:
    broken = replace(MADE["evade"], predicate=MADE["evade"].predicate | {"twinseal_measures": {"rmse": float("nan")}})
    with pytest.raises(EvidenceError, match="evade: expected a statement that JSON has a form for"):
        write_attestation(tmp_path / "x", "evade", broken, scene.home)


def test_without_the_roles_key_nothing_is_signed(stage: Scene, tmp_path: Path) -> None:
    (stage.home.keys / "assessor.pem").unlink()
    with pytest.raises(KeyAccessError, match="assessor: expected the key of assessor, got none"):
        write_attestation(tmp_path / "out" / "x", "evade", MADE["evade"], stage.home)
    assert not (tmp_path / "out").exists()


@given(st.binary(max_size=200))
def test_signed_nonsense_is_refused_without_a_traceback(scene: Scene, payload: bytes) -> None:
    with pytest.raises(TwinsealError):
        parse_attestation(sign_envelope(payload, scene.signer("builder")), "train", scene.anchor)
