"""Every refusal of the twin: release 1 works; then the attack; then the refusal, and release 1 stands."""

from __future__ import annotations

import base64
import json
import shutil
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from tests.twin.deployment import MODEL, NOW, OTHER, Deployment, roles, statements, verdict_on, write_tiny_model
from twinseal.digests import sha256_file
from twinseal.errors import (
    DigestMismatchError,
    EvidenceError,
    ExpiredError,
    GateRefusedError,
    RegistryError,
    RollbackError,
    RootError,
    SignatureError,
    ThresholdError,
    TrustError,
    TwinsealError,
)
from twinseal.evidence import Subject
from twinseal.files import inventory
from twinseal.trust.release import repository
from twinseal.trust.release.oms import sign_directory
from twinseal.trust.root.anchor import Anchor
from twinseal.trust.root.home import Home
from twinseal.trust.signing.attestation import write_attestation
from twinseal.trust.signing.dsse import sign_envelope
from twinseal.twin.byte_sources import DirectorySource
from twinseal.twin.pull import PullResult, pull
from twinseal.twin.runtime import current_model
from twinseal.twin.state import State

LATER = NOW + timedelta(hours=1)


class Twin:
    """A twin with a directory of its own."""

    def __init__(self, deployment: Deployment, path: Path) -> None:
        self.deployment, self.path = deployment, path

    def pull(self, now: object = LATER, **options: object) -> PullResult:
        source = DirectorySource(self.deployment.mirror)
        return pull(source, self.deployment.anchor, MODEL, self.path, now, **options)  # type: ignore[arg-type]

    @property
    def version(self) -> int:
        """The release that a restart would run."""
        return current_model(self.path, self.deployment.anchor, MODEL).release.version


@pytest.fixture
def twin(deployment: Deployment, tmp_path: Path) -> Twin:
    """A twin that has pulled release 1."""
    twin = Twin(deployment, tmp_path / "twin")
    assert (twin.pull(NOW).changed, twin.version) == (True, 1)
    return twin


def test_next_release_replaces_the_first_and_that_one_is_kept_until_the_one_after(twin: Twin) -> None:
    for version in (2, 3):
        release = twin.deployment.publish(version)
        admitted = twin.pull()
        assert (admitted.changed, admitted.model.release, twin.version) == (True, release, version)
        kept = ["current", "last_seen.json", "lock", "log", "models", "previous", "pull.lock", "tuf"]
        assert kept == sorted(path.name for path in twin.path.iterdir())
        assert len(list((twin.path / "models").iterdir())) == 2


def test_a_twin_falls_back_once_and_does_not_adopt_that_release_again(twin: Twin) -> None:
    state, first = State(twin.path), twin.pull().model.release
    with pytest.raises(TrustError, match="expected an installed model, got none"):
        state.fall_back(first.sha256)
    release = twin.deployment.publish(2)
    twin.pull()
    with pytest.raises(EvidenceError, match="to be current and another before it"):
        state.fall_back(first.sha256)
    state.fall_back(release.sha256)
    assert (twin.version, state.held()) == (1, {release.sha256})
    skipped = twin.pull(skip=state.held())
    assert (skipped.changed, skipped.model.release, twin.version) == (False, first, 1)
    assert twin.pull().model.release == release  # a person may still take it


def test_pulling_again_fetches_nothing(twin: Twin) -> None:
    shutil.rmtree(twin.deployment.mirror / "candidates")
    assert (twin.pull().changed, twin.version) == (False, 1)


def test_pulling_again_on_demand_fetches_all_and_sees_what_became_of_it(twin: Twin) -> None:
    assert (twin.pull(fetch_again=True).changed, twin.version) == (True, 1)
    flip(twin.deployment.mirror, "candidates/**/model.safetensors")
    with pytest.raises(DigestMismatchError, match="model/model.safetensors: expected sha256"):
        twin.pull(fetch_again=True)
    assert twin.version == 1


@pytest.mark.attack(7)
def test_damaged_installation_is_refused_at_the_start_and_replaced_by_the_next_pull(twin: Twin) -> None:
    """One bit of the installed weights is flipped: the twin does not start; the next pull installs them again."""
    flip(twin.path, "models/*/bundle/model/model.safetensors")
    with pytest.raises(DigestMismatchError, match="model/model.safetensors: expected sha256"):
        current_model(twin.path, twin.deployment.anchor, MODEL)
    assert (twin.pull().changed, twin.version) == (True, 1)


def test_expired_installation_still_starts(twin: Twin) -> None:
    with pytest.raises(ExpiredError):
        twin.pull(NOW + timedelta(days=300))
    assert twin.version == 1


def flip(folder: Path, pattern: str) -> None:
    """One bit of the middle byte."""
    (path,) = folder.glob(pattern)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def one_bit_of_the_model(deployment: Deployment) -> None:
    flip(deployment.candidate(deployment.publish(2)), "model/model.safetensors")


def one_bit_of_the_config(deployment: Deployment) -> None:
    flip(deployment.candidate(deployment.publish(2)), "model/config.json")


def one_bit_of_the_signature(deployment: Deployment) -> None:
    flip(deployment.candidate(deployment.publish(2)), "model.sig.json")


def one_bit_of_the_evidence(deployment: Deployment) -> None:
    flip(deployment.candidate(deployment.publish(2)), "evidence/evade.dsse.json")


def a_byte_too_many(deployment: Deployment) -> None:
    with (deployment.candidate(deployment.publish(2)) / "model/model.safetensors").open("ab") as stream:
        stream.write(b"x")


def half_a_file(deployment: Deployment) -> None:
    path = deployment.candidate(deployment.publish(2)) / "model/model.safetensors"
    path.write_bytes(path.read_bytes()[:100])


def a_missing_file(deployment: Deployment) -> None:
    (deployment.candidate(deployment.publish(2)) / "model/config.json").unlink()


def a_link_in_place_of_a_file(deployment: Deployment) -> None:
    path = deployment.candidate(deployment.publish(2)) / "model/config.json"
    path.rename(deployment.mirror / "elsewhere.json")
    path.symlink_to(deployment.mirror / "elsewhere.json")


def a_model_swapped_for_the_first(deployment: Deployment) -> None:
    bundle = deployment.bundle(1)
    shutil.copytree(bundle, deployment.candidate(deployment.publish(2)), dirs_exist_ok=True)


def a_model_that_the_builder_did_not_sign(deployment: Deployment) -> None:
    bundle = deployment.bundle(2)
    write_tiny_model(bundle / "model", 3)
    deployment.release(bundle, 2)


def a_model_signed_by_a_reviewer(deployment: Deployment) -> None:
    bundle = deployment.bundle(2)
    (bundle / "model.sig.json").write_bytes(sign_directory(bundle / "model", deployment.home.signer("alice")))
    deployment.release(bundle, 2)


def a_file_that_is_in_no_signature(deployment: Deployment) -> None:
    bundle = deployment.bundle(2)
    (bundle / "model/MLmodel").write_text("loader_module: evil")
    deployment.release(bundle, 2)


def a_missing_statement(deployment: Deployment) -> None:
    bundle = deployment.bundle(2)
    (bundle / "evidence/poison.dsse.json").unlink()
    deployment.release(bundle, 2)


def a_test_that_failed(deployment: Deployment) -> None:
    deployment.publish(2, evade={"result": "FAILED"})


def a_verdict_that_failed(deployment: Deployment) -> None:
    deployment.publish(2, assess={"verificationResult": "FAILED"})


def a_verdict_without_a_result(deployment: Deployment) -> None:
    deployment.publish(2, assess={"verificationResult": ""})


def evidence_of_another_candidate(deployment: Deployment) -> None:
    bundle = deployment.bundle(2)
    shutil.copy(deployment.bundle(1) / "evidence/evade.dsse.json", bundle / "evidence/evade.dsse.json")
    deployment.release(bundle, 2)


def evidence_signed_by_the_builder(deployment: Deployment) -> None:
    bundle = deployment.bundle(2)
    path = bundle / "evidence/evade.dsse.json"
    payload = base64.b64decode(json.loads(path.read_text())["payload"])
    path.write_bytes(sign_envelope(payload, deployment.home.signer("builder")))
    deployment.release(bundle, 2)


def a_verdict_from_another_policy(deployment: Deployment) -> None:
    deployment.publish(2, assess={"policy": {"uri": "policy", "digest": {"sha256": "0" * 64}}})


def a_verdict_on_another_model(deployment: Deployment) -> None:
    deployment.publish(2, assess={"resourceUri": f"https://twinseal.dev/model/{OTHER}"})


def weights_that_are_no_numbers(deployment: Deployment) -> None:
    signed_anew(deployment, "model.safetensors", lambda data: data[:-4] + b"\x00\x00\xc0\x7f")


def a_pickle_by_the_name_of_the_weights(deployment: Deployment) -> None:
    signed_anew(deployment, "model.safetensors", lambda _: b"\x80\x04cos\nsystem\n(S'true'\ntR.")


def a_key_that_the_config_does_not_know(deployment: Deployment) -> None:
    signed_anew(deployment, "config.json", lambda data: data.replace(b"{", b'{"loader_module": "evil",', 1))


def signed_anew(deployment: Deployment, name: str, change: Callable[[bytes], bytes]) -> None:
    """Builder, assessor and reviewers were all deceived: only the parser is left."""
    bundle = deployment.bundle(2)
    path = bundle / "model" / name
    path.write_bytes(change(path.read_bytes()))
    (bundle / "model.sig.json").write_bytes(sign_directory(bundle / "model", deployment.home.signer("builder")))
    files = tuple(Subject(f"model/{r.path}", r.sha256) for r in inventory(bundle / "model"))
    for stage, statement in statements(files, MODEL).items():
        write_attestation(bundle / f"evidence/{stage}.dsse.json", stage, statement, deployment.home)
    paths = [bundle / f"evidence/{stage}.dsse.json" for stage in statements(files, MODEL)]
    verdict = verdict_on(files, MODEL, tuple(Subject(p.stem, sha256_file(p)) for p in paths))
    write_attestation(bundle / "evidence/assess.dsse.json", "assess", verdict, deployment.home)
    deployment.release(bundle, 2)


def a_release_of_another_model(deployment: Deployment) -> None:
    deployment.publish(1, model=OTHER)
    deployment.publish(2)
    role = json.loads((deployment.mirror / f"metadata/1.{OTHER}.json").read_text())
    (deployment.mirror / f"metadata/2.{MODEL}.json").write_text(json.dumps(role))


def one_bit_of_the_timestamp(deployment: Deployment) -> None:
    deployment.publish(2)
    flip(deployment.mirror, "metadata/timestamp.json")


def one_bit_of_the_role(deployment: Deployment) -> None:
    deployment.publish(2)
    flip(deployment.mirror, f"metadata/2.{MODEL}.json")


def one_bit_of_the_release(deployment: Deployment) -> None:
    release = deployment.publish(2)
    flip(deployment.mirror, f"targets/{MODEL}/{release.sha256}.release.json")


def a_missing_timestamp(deployment: Deployment) -> None:
    deployment.publish(2)
    (deployment.mirror / "metadata/timestamp.json").unlink()


def metadata_that_is_no_metadata(deployment: Deployment) -> None:
    deployment.publish(2)
    (deployment.mirror / "metadata/timestamp.json").write_bytes(b"[" * 16_000)


def another_deployments_metadata(deployment: Deployment) -> None:
    other = Deployment(deployment.mirror.parent / "thief")
    other.publish(1)
    other.publish(2)
    shutil.rmtree(deployment.mirror)
    shutil.copytree(other.mirror, deployment.mirror)


ATTACKS: list[tuple[Callable[[Deployment], None], type[TwinsealError], str]] = [
    (one_bit_of_the_model, DigestMismatchError, "model/model.safetensors: expected sha256 .* as signed, got"),
    (one_bit_of_the_config, DigestMismatchError, "model/config.json: expected sha256 .* as signed, got"),
    (one_bit_of_the_signature, DigestMismatchError, "model.sig.json: expected sha256 .* as signed, got"),
    (one_bit_of_the_evidence, DigestMismatchError, "evidence/evade.dsse.json: expected sha256 .* as signed, got"),
    (a_byte_too_many, DigestMismatchError, "model.safetensors: expected at most .* bytes, got more"),
    (half_a_file, DigestMismatchError, r"model.safetensors: expected sha256 .*\(100 bytes\)"),
    (a_missing_file, RegistryError, "model/config.json: expected this file of release 2, got none"),
    (a_link_in_place_of_a_file, RegistryError, "config.json: expected a readable file in the mirror"),
    (a_model_swapped_for_the_first, DigestMismatchError, "expected sha256 .* as signed, got"),
    (a_model_that_the_builder_did_not_sign, DigestMismatchError, "expected exactly the files that the builder signed"),
    (a_model_signed_by_a_reviewer, SignatureError, "expected the signature of builder, got another"),
    (a_file_that_is_in_no_signature, DigestMismatchError, "the builder signed, got others: MLmodel"),
    (a_missing_statement, SignatureError, "expected the signed record of poison, got none"),
    (a_test_that_failed, GateRefusedError, "evade: expected the result PASSED, got FAILED"),
    (a_verdict_that_failed, GateRefusedError, "verdict: expected PASSED, got FAILED"),
    (a_verdict_without_a_result, GateRefusedError, "verdict: expected PASSED, got none"),
    (evidence_of_another_candidate, EvidenceError, "about this model; evade: about something else: the files of the"),
    (evidence_signed_by_the_builder, SignatureError, "evade"),
    (a_verdict_from_another_policy, EvidenceError, "expected one by the policy .* owners approved, got 000000"),
    (a_verdict_on_another_model, EvidenceError, f"expected one on the model {MODEL} .* got {OTHER}"),
    (weights_that_are_no_numbers, EvidenceError, "expected finite weights, got NaN"),
    (a_pickle_by_the_name_of_the_weights, EvidenceError, "expected a header of"),
    (a_key_that_the_config_does_not_know, EvidenceError, "loader_module: unknown key"),
    (a_release_of_another_model, DigestMismatchError, MODEL),
    (one_bit_of_the_timestamp, SignatureError, MODEL),
    (one_bit_of_the_role, DigestMismatchError, MODEL),
    (one_bit_of_the_release, DigestMismatchError, MODEL),
    (a_missing_timestamp, RegistryError, MODEL),
    (metadata_that_is_no_metadata, SignatureError, MODEL),
    (another_deployments_metadata, SignatureError, MODEL),
]


@pytest.mark.attack(1, 2, 3, 4, 5, 6)
@pytest.mark.parametrize(("attack", "error", "message"), ATTACKS, ids=[item[0].__name__ for item in ATTACKS])
def test_attack_is_refused_and_release_1_stays(
    attack: Callable[[Deployment], None], error: type[TwinsealError], message: str, twin: Twin
) -> None:
    """30 changes of files, signatures, evidence and metadata, one at a time."""
    attack(twin.deployment)
    with pytest.raises(TwinsealError, match=message) as refusal:
        twin.pull()
    assert refusal.type is error
    assert twin.version == 1
    assert not (twin.path / "incoming").exists()


@pytest.mark.attack(1)
def test_older_state_of_the_registry_is_refused(twin: Twin, tmp_path: Path) -> None:
    """Rollback: the registry serves an older state of all its files, still valid."""
    shutil.copytree(twin.deployment.mirror, tmp_path / "before")
    twin.deployment.publish(2)
    twin.pull()
    shutil.rmtree(twin.deployment.mirror)
    shutil.copytree(tmp_path / "before", twin.deployment.mirror)
    with pytest.raises(RollbackError):
        twin.pull()
    assert twin.version == 2


@pytest.mark.attack(2)
def test_older_state_is_refused_also_when_the_cache_was_deleted(twin: Twin, tmp_path: Path) -> None:
    """Rollback after the twin's TUF cache was deleted."""
    shutil.copytree(twin.deployment.mirror, tmp_path / "before")
    twin.deployment.publish(2)
    twin.pull()
    shutil.rmtree(twin.deployment.mirror)
    shutil.copytree(tmp_path / "before", twin.deployment.mirror)
    shutil.rmtree(twin.path / "tuf")
    with pytest.raises(RollbackError, match=f"role {MODEL}: expected version >= 2, as this twin's log has it, got 1"):
        twin.pull()
    assert twin.version == 2


@pytest.mark.attack(2)
def test_refused_release_still_counts_as_seen(twin: Twin, tmp_path: Path) -> None:
    """Rollback after a newer release was refused: the refused version still counts as seen."""
    shutil.copytree(twin.deployment.mirror, tmp_path / "before")
    one_bit_of_the_model(twin.deployment)
    with pytest.raises(DigestMismatchError):
        twin.pull()
    shutil.rmtree(twin.deployment.mirror)
    shutil.copytree(tmp_path / "before", twin.deployment.mirror)
    shutil.rmtree(twin.path / "tuf")
    with pytest.raises(RollbackError, match="expected version >= 2, as this twin's log has it, got 1"):
        twin.pull()
    assert twin.version == 1


@pytest.mark.attack(2)
def test_another_release_under_the_same_version_is_refused(twin: Twin, tmp_path: Path) -> None:
    """The reviewers sign another release under a version that the twin has already seen."""
    forked = Deployment(tmp_path / "deployment/before")
    forked.publish(1, seed=99)
    shutil.rmtree(twin.path / "tuf")
    twin.deployment = forked
    with pytest.raises(RollbackError, match=f"release 1 of {MODEL}: expected .* as seen before, got"):
        twin.pull()


@pytest.mark.attack(0)
def test_clock_set_back_is_refused(twin: Twin) -> None:
    """The twin's clock is set back by one second."""
    twin.pull(LATER)
    twin.deployment.publish(2)
    with pytest.raises(ExpiredError, match="clock: expected 2026-03-01 13:00:00 UTC or later, got 2026-03-01 12:59:59"):
        twin.pull(LATER - timedelta(seconds=1))
    assert twin.version == 1


@pytest.mark.attack(1)
def test_expired_metadata_is_refused(twin: Twin) -> None:
    """Freeze: the registry serves metadata that is 31 days old and has expired."""
    late = NOW + timedelta(days=31)
    with pytest.raises(ExpiredError, match="expired"):
        twin.pull(late)
    assert twin.version == 1


def test_frozen_registry_expires_until_the_registrar_renews(twin: Twin) -> None:
    deployment = twin.deployment
    day = NOW + timedelta(days=15)
    repository.renew(deployment.home, registrar=deployment.home.signer("registrar"), roles=roles(), now=day)
    Deployment(deployment.mirror.parent)  # copies the repository of record to the mirror
    assert twin.pull(day).changed is False


def test_model_that_was_never_registered_is_said_to_be_so(deployment: Deployment, tmp_path: Path) -> None:
    source = DirectorySource(deployment.mirror)
    with pytest.raises(RegistryError, match="nothing has been registered yet"):
        pull(source, deployment.anchor, OTHER, tmp_path / "twin", NOW)
    with pytest.raises(RegistryError, match="model: expected one of pump-rul, fan-rul"):
        pull(source, deployment.anchor, "unknown", tmp_path / "twin", NOW)


@pytest.mark.attack(7)
def test_state_of_one_model_is_not_used_for_another(twin: Twin) -> None:
    """The state folder of one model is used for another model."""
    deployment = twin.deployment
    deployment.publish(1, model=OTHER)
    with pytest.raises(EvidenceError, match=f"expected the state of {OTHER}, got that of {MODEL}"):
        pull(DirectorySource(deployment.mirror), deployment.anchor, OTHER, twin.path, LATER)
    with pytest.raises(EvidenceError, match=f"expected {OTHER}, got {MODEL}"):
        current_model(twin.path, deployment.anchor, OTHER)


def test_empty_mirror_is_refused(deployment: Deployment, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(RegistryError):
        pull(DirectorySource(tmp_path / "empty"), deployment.anchor, MODEL, tmp_path / "twin", NOW)


def test_anchor_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RootError, match="expected a trust anchor"):
        Anchor.read(tmp_path)
    with pytest.raises(RootError, match="expected a trust anchor"):
        Home(tmp_path).anchor()


@pytest.mark.attack(7)
def test_installed_model_needs_its_reviewers_also_offline(twin: Twin) -> None:
    """One of the two reviewer signatures is removed from the installed model role."""
    (role,) = twin.path.glob("models/*/role.json")
    value = json.loads(role.read_text())
    value["signatures"] = value["signatures"][:1]
    role.write_text(json.dumps(value))
    with pytest.raises(TwinsealError, match="expected 2 reviewers, got 1"):
        current_model(twin.path, twin.deployment.anchor, MODEL)


def test_twin_without_a_model_says_how_to_get_one(deployment: Deployment, tmp_path: Path) -> None:
    with pytest.raises(TwinsealError, match="expected an installed model, got none") as refusal:
        current_model(tmp_path / "none", deployment.anchor, MODEL)
    command = f"twinseal pull --from URL --model {MODEL} --anchor DIR --state {tmp_path}/none"
    assert refusal.value.remedy == f"Fetch it: {command}"
    with pytest.raises(TwinsealError, match="expected an installed model, got none") as refusal:
        current_model(tmp_path / "none", deployment.anchor, "unknown")
    assert refusal.value.remedy == f"Name a model of the anchor: --model {MODEL} or --model {OTHER}"


@pytest.mark.attack(7)
@pytest.mark.parametrize("content", [b"", b"{}", b"x" * 64, b"../../../etc", b"\xff" * 40])
def test_edited_state_is_refused(content: bytes, twin: Twin) -> None:
    """The pointer `current` or `last_seen.json` is overwritten with other content."""
    (twin.path / "current").write_bytes(content)
    with pytest.raises(EvidenceError, match="expected an installed release, got"):
        current_model(twin.path, twin.deployment.anchor, MODEL)
    (twin.path / "last_seen.json").write_bytes(content)
    with pytest.raises(EvidenceError, match=r"last_seen\.json: expected"):
        twin.pull()


@pytest.mark.attack(7)
def test_deleted_last_seen_beside_an_installed_model_is_refused(twin: Twin) -> None:
    """`last_seen.json` and the twin's log are deleted beside the installed model."""
    shutil.rmtree(twin.path / "log")
    (twin.path / "last_seen.json").unlink()
    with pytest.raises(EvidenceError, match=r"expected last_seen\.json or an audit log beside the installed model"):
        twin.pull()
    assert twin.version == 1


@pytest.mark.attack(5)
@pytest.mark.parametrize("name", ["alice", "Alice@plant.example"])
def test_who_built_the_release_is_one_of_those_who_approved_it(twin: Twin, name: str) -> None:
    """The reviewers sign a release that one of them built: without that one they are too few."""
    twin.deployment.publish(2, assess={"twinseal_built_by": sorted(["root", name])})
    with pytest.raises(ThresholdError, match="expected 2 reviewers, got 1 .chiara.; .*for having built it: alice"):
        twin.pull()
    assert 1 == twin.version
    twin.deployment.publish(3, assess={"twinseal_built_by": ["bruno", "root"]})
    assert (3, 3) == (twin.pull().model.release.version, twin.version)
