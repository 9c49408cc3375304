from __future__ import annotations

import html
import json
import shutil
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

from pipelines import _stage, assess
from tests.assurance.candidate import build, compared
from tests.checkout import link_code
from tests.twin.deployment import guard_without_calibration
from twinseal.assurance import case
from twinseal.config import read_yaml
from twinseal.digests import sha256_file
from twinseal.errors import DigestMismatchError, SignatureError
from twinseal.evidence import Statement, Subject, materials, outcome, reports
from twinseal.evidence_chain import REQUIRED
from twinseal.files import inventory, write_whole
from twinseal.policy_files import Policy
from twinseal.prognostics.architecture import Architecture, EnsembleConfig, NetworkConfig
from twinseal.prognostics.checkpoint import Model, write_model
from twinseal.prognostics.conformal import Intervals
from twinseal.prognostics.ensemble import Networks
from twinseal.prognostics.evaluation import predictions
from twinseal.prognostics.fitting import Epoch
from twinseal.prognostics.life_bounds import LifeBound
from twinseal.prognostics.splitting import Split, SplitPolicy
from twinseal.prognostics.windows import PrepareParams, prepare
from twinseal.robustness.example_life import LifeRow
from twinseal.telemetry.contract import Contract
from twinseal.telemetry.fleet import Fleet
from twinseal.trust.ceremonies.ceremony import init_demo
from twinseal.trust.release.reports import report_files, require_reports
from twinseal.trust.root.home import Home
from twinseal.trust.root.roles import Roles

ROOT = Path(__file__).parents[2]
WINDOWS = Path("data/windows")
LIVES = (LifeRow("unit-1", "no attack", 1, 30.0, 28.0, 28.0), LifeRow("unit-1", "replay", 1, 30.0, 29.0, None))
EVIDENCE = Path("reports/evidence")
INTERVALS = Intervals(coverage=0.9, edges=(), below=(5.0,), above=(5.0,), cap_cycles=30.0)
LIFE_BOUND = LifeBound(edges=(20.0,), margins=(10.0,), lives=20, false_lock_share=0.05, unknown_cycles=10.0)


def fleet() -> Fleet:
    rng, frames = np.random.default_rng(3), []
    for index in range(8):
        life = 40 + index
        columns = {
            "unit": f"unit-{index}",
            "cycle": np.arange(1, life + 1),
            "censored": False,
            "rul": np.arange(life)[::-1],
        }
        frames.append(
            pd.DataFrame(columns | {"load": rng.normal(5, 1, life), "heat": np.arange(life) + rng.normal(0, 1, life)})
        )
    return Fleet.of(pd.concat(frames))


def contract() -> Contract:
    channel = {"unit": "K", "minimum": -1000.0, "maximum": 1000.0, "max_change_per_cycle": 100.0}
    about = {"asset": "pump", "model": "pump-rul", "description": "A toy", "cycle": "One turn", "rul_cap_cycles": 30.0}
    shape = {
        "min_cycles": 10,
        "max_quarantined_share": 0.1,
        "settings": {"load": channel},
        "sensors": {"heat": channel},
    }
    return Contract.from_dict(about | shape)


def write_policy() -> None:
    """The shipped policy, with the contract of the toy for pumps."""
    shutil.copytree(ROOT / "policy", "policy")
    path = Path("policy/contract.yaml")
    value = read_yaml(path)
    own = contract().model_dump(mode="json", exclude_none=True)
    value["assets"]["pump"] = {name: item for name, item in own.items() if name != "asset"}
    path.write_text(yaml.safe_dump(value, sort_keys=False))


def about(statements: dict[str, Statement]) -> dict[str, Statement]:
    """The sample's statements, about the files that lie here."""
    real = {f"model/{record.path}": record.sha256 for record in inventory(_stage.CANDIDATE)}
    real |= {path.as_posix(): sha256_file(path) for path in (*WINDOWS.iterdir(), case.LIVES)}
    real |= {item.name: item.sha256 for item in Policy.read(Path("policy")).part_subjects}

    for stage, statement in statements.items():
        ran = {"code": _stage.code(stage).sha256} if stage in REQUIRED else {}

        def moved(item: Subject, now: dict[str, str] = real | ran) -> Subject:
            return Subject(item.name, now.get(item.name, item.sha256))

        statements[stage] = replace(statement, subjects=tuple(map(moved, statement.subjects)))
        if "configuration" in statement.predicate:
            said = map(Subject.from_dict, statement.predicate["configuration"])
            statement.predicate["configuration"] = [moved(item).to_dict() for item in said]
        else:
            definition = statement.predicate["buildDefinition"]
            definition["resolvedDependencies"] = [moved(item).to_dict() for item in materials(statement)]
    return statements


@pytest.fixture(scope="module")
def assessed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace as it is after poison: a candidate, its windows, signed records, a home with throw-away keys."""
    folder = tmp_path_factory.mktemp("assess")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("TWINSEAL_HOME", str(folder / "home"))
        torch.set_num_threads(1)
        link_code(folder)
        write_policy()
        init_demo(Home.default(), Roles.load(Path("policy/roles.yaml")), datetime.now(UTC))
        split = Split(SplitPolicy(validation_share=0.2, cuts_per_unit=3), "7")
        prepared = prepare(fleet(), contract(), PrepareParams(window=10), split)
        prepared.write(WINDOWS)
        torch.manual_seed(0)
        member = NetworkConfig.for_window(2, 10, hidden=(4,), rul_cap_cycles=30.0)
        networks = Networks(Architecture(plain=EnsembleConfig(members=(member,)))).eval()
        write_model(
            _stage.CANDIDATE,
            Model(
                networks.to_inference(),
                contract(),
                prepared.normaliser,
                "robust",
                guard_without_calibration(2),
                {"plain": INTERVALS},
                {"plain": LIFE_BOUND},
            ),
        )
        _stage.write_table(case.LIVES, [asdict(row) for row in LIVES])
        for stage, statement in about(build()).items():
            _stage.attest(stage, statement)
        rows = predictions(networks.plain, prepared.test, prepared.test.rul)
        _stage.write_table(case.PREDICTIONS, rows)
        _stage.write_table(case.HISTORY, [asdict(Epoch(epoch, 9.0, 3.0, 4.0, 5.0)) for epoch in (1, 2)])
        write_whole(case.FINDINGS, b'["unit-7: range"]')
    return folder


@pytest.fixture
def workspace(assessed: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(assessed)
    monkeypatch.setenv("TWINSEAL_HOME", str(assessed / "home"))
    return assessed


def verdict() -> Statement:
    return _stage.upstream("assess")


def test_a_candidate_in_order_passes_and_the_verdict_is_signed_about_its_files(
    workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assess.main()
    signed = verdict()
    assert outcome(signed) == "PASSED"
    assert {s.name: s.sha256 for s in signed.subjects} == {
        f"model/{record.path}": record.sha256 for record in inventory(_stage.CANDIDATE)
    }
    assert signed.predicate["resourceUri"] == "https://twinseal.dev/model/pump-rul"
    assert signed.predicate["policy"]["digest"]["sha256"] == Policy.read(Path("policy")).digest.sha256
    inputs = {item["uri"]: item["digest"]["sha256"] for item in signed.predicate["inputAttestations"]}
    assert inputs == {path.as_posix(): sha256_file(path) for path in EVIDENCE.iterdir() if "assess" not in path.name}
    assert json.loads(Path("reports/verdict.json").read_bytes())["result"] == "PASSED"
    metrics = json.loads(Path("reports/metrics.json").read_bytes())
    assert (metrics["result"], metrics["rmse_cycles"], metrics["gates_failed"]) == ("PASSED", 8.3, 0)
    assert len(metrics) <= 12
    assert "PASSED" in capsys.readouterr().out


def test_the_pages_and_figures_lie_where_dvc_looks(workspace: Path) -> None:
    assess.main()
    names = {path.name for path in Path("reports/figures").iterdir()}
    assert {"predictions.svg", "lives.svg", "history.svg", "evasion-rmse.svg", "poisoning.svg"} <= names
    assert "unit-7: range" in Path("reports/report.html").read_text()
    assert "# Model card: pump-rul" in Path("reports/model_card.md").read_text()


def test_the_pages_describe_the_model_that_lies_here_and_not_its_family_at_large(workspace: Path) -> None:
    """The toy candidate has one plain network and none that reads the baseline, whatever its family usually has."""
    assess.main()
    text = Path("reports/model_card.md").read_text()
    assert "The estimate is that of one network." in text
    assert "over means and slopes of the last 10 cycles of up to 2 channels. It states at most 30 cycles." in text
    assert "No network reads the signed baseline" in text


def test_a_comparison_is_shown_when_it_is_of_this_very_model(workspace: Path) -> None:
    record = EVIDENCE / "compare.dsse.json"
    try:
        _stage.attest("compare", compared())
        assess.main()
        assert "The comparison on record is of another model." in Path("reports/report.html").read_text()
        _stage.attest("compare", compared(_stage.model_files()))
        assess.main()
    finally:
        record.unlink()
    assert outcome(verdict()) == "PASSED"
    assert "certified against sensors" in Path("reports/report.html").read_text()
    assert "compare" not in json.dumps(verdict().predicate["inputAttestations"])  # shown, never judged by


@pytest.mark.attack("P")
def test_a_comparison_that_was_edited_is_refused(workspace: Path) -> None:
    """The signed record of the comparison is edited before the verdict."""
    record = EVIDENCE / "compare.dsse.json"
    _stage.attest("compare", compared(_stage.model_files()))
    envelope = json.loads(record.read_bytes())
    envelope["payload"] = envelope["payload"][:-8] + "AAAAAAA="
    record.write_bytes(json.dumps(envelope).encode())
    try:
        with pytest.raises(SignatureError):
            assess.main()
    finally:
        record.unlink()


def test_a_record_that_is_absent_is_a_failed_verdict_and_no_error(
    workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record = EVIDENCE / "poison.dsse.json"
    kept = record.read_bytes()
    record.unlink()
    try:
        assess.main()
    finally:
        record.write_bytes(kept)
    assert outcome(verdict()) == "FAILED"
    assert "record of poison: no record of poison" in capsys.readouterr().out


@pytest.mark.attack("P")
def test_a_candidate_that_was_changed_after_training_is_a_failed_verdict(workspace: Path) -> None:
    """The candidate is changed after training: the verdict is FAILED."""
    config = _stage.CANDIDATE / "config.json"
    kept = config.read_bytes()
    config.write_bytes(kept + b"\n")
    try:
        assess.main()
    finally:
        config.write_bytes(kept)
    assert outcome(verdict()) == "FAILED"
    assert "the files of the model differ (model/config.json)" in Path("reports/report.html").read_text()


@pytest.mark.attack("P")
def test_a_record_that_was_edited_is_refused_and_the_old_verdict_stays(workspace: Path) -> None:
    """A signed record is edited before the verdict."""
    assess.main()
    before = (EVIDENCE / "assess.dsse.json").read_bytes()
    record = EVIDENCE / "evade.dsse.json"
    kept = record.read_bytes()
    envelope = json.loads(kept)
    envelope["payload"] = envelope["payload"][:-8] + "AAAAAAA="
    record.write_bytes(json.dumps(envelope).encode())
    try:
        with pytest.raises(SignatureError):
            assess.main()
    finally:
        record.write_bytes(kept)
    assert (EVIDENCE / "assess.dsse.json").read_bytes() == before


@pytest.mark.attack("P")
def test_an_edited_table_of_lives_is_refused(workspace: Path) -> None:
    """`reports/evade/lives.csv`, which the report draws, is edited before the verdict."""
    kept = case.LIVES.read_bytes()
    case.LIVES.write_bytes(kept.replace(b"30.000,29.000", b"30.000,30.000"))
    try:
        with pytest.raises(DigestMismatchError, match=r"reports/evade/lives\.csv: expected sha256"):
            assess.main()
    finally:
        case.LIVES.write_bytes(kept)


@pytest.mark.attack("P")
def test_a_battery_run_with_other_code(workspace: Path) -> None:
    """The attack tests are run with weakened code: the record names other code than the checkout has; FAILED."""
    assess.main()
    assert outcome(verdict()) == "PASSED"
    record = EVIDENCE / "evade.dsse.json"
    kept, signed = record.read_bytes(), _stage.upstream("evade")
    said = [
        item | ({"digest": {"sha256": "0" * 64}} if item["name"] == "code" else {})
        for item in signed.predicate["configuration"]
    ]
    _stage.attest("evade", replace(signed, predicate=signed.predicate | {"configuration": said}))
    try:
        assess.main()
    finally:
        record.write_bytes(kept)
    assert outcome(verdict()) == "FAILED"
    assert "record of evade: about something else: the files of its code differ (code)" in report()


@pytest.mark.attack("P")
@pytest.mark.parametrize("stage", sorted(REQUIRED))
def test_code_that_changed_after_a_stage_ran(workspace: Path, monkeypatch: pytest.MonkeyPatch, stage: str) -> None:
    """The code of one stage is changed after that stage ran: its record is no evidence any more; FAILED."""
    code = _stage.code
    monkeypatch.setattr(_stage, "code", lambda name: Subject("code", "1" * 64) if name == stage else code(name))
    assess.main()
    assert outcome(verdict()) == "FAILED"
    assert f"record of {stage}: about something else: the files of its code differ" in report()


@pytest.mark.attack("P")
def test_a_candidate_with_a_wider_contract(workspace: Path) -> None:
    """The candidate carries a contract with ranges 50 times wider than the policy's, signed by the builder: FAILED."""
    path, record = _stage.CANDIDATE / "contract.json", EVIDENCE / "train.dsse.json"
    kept, signed = (path.read_bytes(), record.read_bytes()), _stage.upstream("train")
    value = json.loads(kept[0])
    value["sensors"]["heat"]["maximum"] *= 50
    path.write_bytes(json.dumps(value).encode())
    others = tuple(item for item in signed.subjects if item.name != "model/contract.json")
    subjects = (*others, Subject("model/contract.json", sha256_file(path)))
    _stage.attest("train", replace(signed, subjects=subjects))
    try:
        assess.main()
    finally:
        path.write_bytes(kept[0])
        record.write_bytes(kept[1])
    assert outcome(verdict()) == "FAILED"
    assert "the contract inside the model is not that of policy/contract.yaml: sensors differ" in report()


def test_the_verdict_names_every_page_and_figure(workspace: Path) -> None:
    assess.main()
    named = {item.name: item.sha256 for item in reports(verdict())}
    assert named == {path.as_posix(): sha256_file(path) for path in report_files(Path())}
    assert {"reports/report.html", "reports/model_card.md", "reports/verdict.json"} < set(named)
    assert any(name.startswith("reports/figures/") for name in named)
    assert require_reports(verdict(), Path()) == report_files(Path())


def report() -> str:
    return html.unescape(Path("reports/report.html").read_text())
