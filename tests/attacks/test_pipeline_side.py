"""Attacks before a release exists: data, caches, evidence, verdict, policy or params are edited between stages.

Two small projects, both of real stages and real keys: ovens from a CSV, whose telemetry DVC tracks; and a candidate
with its evidence, as it is before the verdict.
"""

from __future__ import annotations

import base64
import json
import os
import pickle
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipelines import _stage, assess, prepare, sign
from tests.assurance.test_assess_stage import assessed
from tests.attacks.test_site_cache import Bomb
from tests.checkout import hide_code_from_dvc
from tests.telemetry.conftest import ROOT, oven_contract, oven_table
from twinseal.errors import DigestMismatchError, EvidenceError, GateRefusedError, RootError, SignatureError
from twinseal.evidence import outcome
from twinseal.policy_files import Policy
from twinseal.trust.ceremonies import ceremony
from twinseal.trust.policy_approval import approve_with_all
from twinseal.trust.release.candidate import verify_release
from twinseal.trust.release.release import Release
from twinseal.trust.root.home import Home
from twinseal.trust.root.roles import Roles

__all__ = ["assessed"]

ACCEPTED, VALIDATED = Path("data/accepted/telemetry.parquet"), Path("reports/evidence/validate.dsse.json")
TRACKED = {"stages": {"validate": {"cmd": "true", "outs": [ACCEPTED.as_posix()]}}}


def dvc(*words: str, cwd: Path) -> str:
    """The real program."""
    done = subprocess.run(
        [str(Path(sys.executable).parent / "dvc"), *words],
        cwd=cwd,
        env=os.environ | {"DVC_NO_ANALYTICS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def ovens(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project after ingest and validate, what was accepted tracked by DVC."""
    from pipelines import ingest, validate

    folder = tmp_path_factory.mktemp("ovens")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("TWINSEAL_HOME", str(folder / ".twinseal"))
        home = Home(folder / ".twinseal")
        ceremony.init_demo(home, Roles.load(ROOT / "policy/roles.yaml"), datetime.now(UTC))
        home.make_private()
        shutil.copytree(ROOT / "policy", "policy")
        hide_code_from_dvc(folder)
        (folder / "dvc.yaml").write_text(yaml.safe_dump(TRACKED))
        contract = oven_contract()
        del contract["asset"]
        Path("policy/contract.yaml").write_text(yaml.safe_dump({"assets": {"oven": contract}}, sort_keys=False))
        oven_table({f"oven-{n}": 12 for n in range(8)}).drop(columns="censored").to_csv("ovens.csv", index=False)
        columns = {"settings": {"load": "load"}, "sensors": {"heat": "heat", "glow": "glow"}}
        mapping = {"unit": "unit", "cycle": "cycle", **columns, "rul": "rul"}
        data = {"source": "table", "asset": "oven", "path": "ovens.csv", "table": mapping}
        cut = {"window": 4}
        Path("policy/evaluation.yaml").write_text(yaml.safe_dump({"validation_share": 0.2, "cuts_per_unit": 2}))
        Path("params.yaml").write_text(yaml.safe_dump({"data": data, "prepare": cut}))
        ingest.main()
        validate.main()
        (folder / ".dvc").mkdir()
        (folder / ".dvc/config").write_text("[core]\n    no_scm = true\n    analytics = false\n")
        (folder / "dvc.yaml").write_text(yaml.safe_dump(TRACKED))
        dvc("commit", "--force", cwd=folder)
    assert list((folder / ".dvc/cache/files/md5").rglob("*"))
    return folder


@pytest.fixture
def kitchen(ovens: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it to work in, where the next stage is `prepare`; it works."""
    place = tmp_path / "kitchen"
    shutil.copytree(ovens, place, symlinks=True)
    monkeypatch.chdir(place)
    monkeypatch.setenv("TWINSEAL_HOME", str(place / ".twinseal"))
    prepare.main()
    return place


@pytest.fixture(scope="module")
def judged(assessed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A candidate with its evidence, judged, and signed once."""
    place = tmp_path_factory.mktemp("judged") / "bench"
    shutil.copytree(assessed, place, symlinks=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        patch.setenv("TWINSEAL_HOME", str(place / "home"))
        approve_with_all(Home.find(), Path("policy"), Path("approvals/policy"), datetime.now(UTC))
        assess.main()
        sign.main()
    return place


@pytest.fixture
def bench(judged: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it to work in."""
    shutil.copytree(judged, tmp_path / "bench", symlinks=True)
    monkeypatch.chdir(tmp_path / "bench")
    monkeypatch.setenv("TWINSEAL_HOME", str(tmp_path / "bench/home"))
    return tmp_path / "bench"


def flipped(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.unlink()  # it may be a link into DVC's cache
    path.write_bytes(data)


def edited_payload(path: Path, edit: Any) -> None:
    """The statement inside an envelope changed, its signature left as it was."""
    envelope = json.loads(path.read_text())
    statement = json.loads(base64.b64decode(envelope["payload"]))
    edit(statement)
    envelope["payload"] = base64.b64encode(json.dumps(statement).encode()).decode()
    path.write_text(json.dumps(envelope))


@pytest.mark.attack("P")
def test_telemetry_edited_with_its_size_and_time_restored(kitchen: Path) -> None:
    """Telemetry is edited, its size and modification time are restored: the next stage refuses it."""
    before, windows = ACCEPTED.stat(), sorted(Path("data/windows").iterdir())
    held = [path.read_bytes() for path in windows]
    flipped(ACCEPTED)
    os.utime(ACCEPTED, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert before.st_size == ACCEPTED.stat().st_size
    with pytest.raises(DigestMismatchError, match=rf"{ACCEPTED}: expected sha256 .* as validate signed it, got"):
        prepare.main()
    assert held == [path.read_bytes() for path in windows]


@pytest.mark.attack("P")
def test_an_object_of_dvcs_cache_is_changed(kitchen: Path) -> None:
    """A file in DVC's cache is changed: `dvc checkout` copies it to the workspace, the next stage refuses it."""
    (kept,) = (path for path in Path(".dvc/cache/files/md5").rglob("*") if path.is_file())
    kept.chmod(0o600)
    flipped(kept)
    kept.chmod(0o444)
    ACCEPTED.unlink()
    said = dvc("checkout", cwd=kitchen)
    assert kept.read_bytes() == ACCEPTED.read_bytes(), said
    with pytest.raises(DigestMismatchError, match=rf"{ACCEPTED}: expected sha256 .* as validate signed it, got"):
        prepare.main()


@pytest.mark.attack("P")
@pytest.mark.parametrize("edit", ["payload", "signature", "record of another stage", "gone"])
def test_a_record_is_edited_between_two_stages(kitchen: Path, edit: str) -> None:
    """A signed record is edited, replaced or deleted between two stages."""
    if edit == "payload":
        edited_payload(VALIDATED, lambda statement: statement["predicate"].update(result="PASSED", more=1))
    elif edit == "signature":
        envelope = json.loads(VALIDATED.read_text())
        envelope["signatures"] = json.loads(Path("reports/evidence/ingest.dsse.json").read_text())["signatures"]
        VALIDATED.write_text(json.dumps(envelope))
    elif edit == "gone":
        VALIDATED.unlink()
    else:
        shutil.copy("reports/evidence/ingest.dsse.json", VALIDATED)
    with pytest.raises(SignatureError, match=r"validate.*: expected"):
        prepare.main()


@pytest.mark.attack("P")
def test_params_with_an_unknown_section(kitchen: Path) -> None:
    """An unknown section, `gates`, is added to params.yaml."""
    from twinseal.errors import ConfigError

    params = yaml.safe_load(Path("params.yaml").read_text())
    Path("params.yaml").write_text(yaml.safe_dump(params | {"gates": {"accuracy": 1e9}}))
    with pytest.raises(ConfigError, match=r"params\.yaml: gates: unknown section; expected"):
        prepare.main()


@pytest.mark.attack("P")
@pytest.mark.parametrize("mode", [0o777, 0o770, 0o1777])
def test_a_home_that_others_can_write_to(kitchen: Path, mode: int) -> None:
    """Other users can write to the home, which contains the keys and the anchor."""
    home = kitchen / ".twinseal"
    home.chmod(mode)
    with pytest.raises(RootError, match="expected a folder that only its owner may write to, got mode"):
        Home.find()
    with pytest.raises(RootError, match="expected a folder that only its owner may write to, got mode"):
        prepare.main()
    home.chmod(0o700)
    prepare.main()


@pytest.mark.attack("P")
def test_sign_by_hand_on_a_failed_verdict(bench: Path) -> None:
    """`sign` is run by hand on a FAILED verdict: refused, the earlier bundle stays."""
    before = Path("models/bundle/model.sig.json").read_bytes()
    gates = yaml.safe_load(Path("policy/gates.yaml").read_text())
    first = next(gate for gate in gates["gates"] if gate["name"] == "accuracy")
    first.pop("assets", None)
    first["at_most"] = 0.001
    Path("policy/gates.yaml").write_text(yaml.safe_dump(gates))
    assess.main()
    assert "FAILED" == outcome(_stage.upstream("assess"))
    with pytest.raises(GateRefusedError, match=r"verdict: expected PASSED, got FAILED \(failed gates: accuracy\)"):
        sign.main()
    assert before == Path("models/bundle/model.sig.json").read_bytes()


@pytest.mark.attack("P")
@pytest.mark.parametrize("where", ["the signed verdict", "the one for people"])
def test_the_verdict_is_edited_from_failed_to_passed(bench: Path, where: str) -> None:
    """A FAILED verdict is changed to PASSED, in the signed record or in `reports/verdict.json`."""
    signed = Path("reports/evidence/assess.dsse.json")
    shutil.rmtree("reports/evidence")
    shutil.copytree("models/bundle/evidence", "reports/evidence")
    Path("reports/evidence/evade.dsse.json").unlink()
    assess.main()
    assert "FAILED" == outcome(_stage.upstream("assess"))
    if where == "the signed verdict":
        edited_payload(signed, lambda statement: statement["predicate"].update(verificationResult="PASSED"))
        with pytest.raises(SignatureError, match="assess.*: expected assessor to have signed these bytes"):
            sign.main()
    else:
        text = Path("reports/verdict.json").read_text()
        Path("reports/verdict.json").write_text(text.replace("FAILED", "PASSED"))
        with pytest.raises(GateRefusedError, match="verdict: expected PASSED, got FAILED"):
            sign.main()


@pytest.mark.attack("P")
@pytest.mark.parametrize("file", ["gates.yaml", "threats.yaml", "roles.yaml"])
def test_the_policy_is_edited_after_the_verdict(bench: Path, file: str) -> None:
    """A policy file is edited between the verdict and the release."""

    def release() -> Release:
        return Release.describe(
            Path("models/bundle"),
            model="pump-rul",
            version=1,
            policy_sha256=Policy.read(Path("policy")).digest.sha256,
            mlflow_model_id="m-" + "0" * 32,
            parent_version=None,
        )

    anchor = Home.find().anchor()
    assert "pump-rul" == verify_release(Path("models/bundle"), release(), anchor).model
    with Path("policy", file).open("a") as stream:
        stream.write("# laxer\n")
    with pytest.raises(EvidenceError, match="verdict: expected one on the policy .* of the release, got"):
        verify_release(Path("models/bundle"), release(), anchor)


@pytest.mark.attack("P")
@pytest.mark.parametrize("change", ["one bit", "a file more", "a pickle more", "another kind"])
def test_the_candidate_is_changed_between_verdict_and_signature(bench: Path, change: str) -> None:
    """The candidate is changed between the verdict and the builder's signature."""
    candidate, before = Path("models/candidate"), Path("models/bundle/model.sig.json").read_bytes()
    if change == "one bit":
        flipped(candidate / "model.safetensors")
    elif change == "another kind":
        (candidate / "config.json").unlink()
        (candidate / "config.json").mkdir()
    else:
        name = "notes.txt" if change == "a file more" else "model.pkl"
        (candidate / name).write_bytes(pickle.dumps(Bomb(bench / "exploded")))
    with pytest.raises((EvidenceError, DigestMismatchError), match="expected evidence about this model; train: "):
        sign.main()
    assert before == Path("models/bundle/model.sig.json").read_bytes()
    assert not (bench / "exploded").exists()


@pytest.mark.attack("P")
@pytest.mark.parametrize("stage", ["train", "evade"])
def test_evidence_is_signed_again_after_the_verdict(bench: Path, stage: str) -> None:
    """The builder or the assessor changes a record and signs it again after the verdict."""
    record = _stage.upstream(stage)
    record.predicate["twinseal_better"] = True
    _stage.attest(stage, record)
    with pytest.raises(EvidenceError, match="verdict: expected one from the 6 statements of this bundle, got another"):
        sign.main()
