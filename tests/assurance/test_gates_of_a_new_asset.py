"""Denied, proposed from signed evidence, denied still, accepted by name, judged: the way of an asset without bounds."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import typer.testing
import yaml

from pipelines import _stage, assess
from tests.assurance.candidate import params
from tests.assurance.test_assess_stage import assessed  # noqa: F401 - a workspace as it is after poison
from twinseal.cli import app
from twinseal.config import read_yaml
from twinseal.errors import ConfigError, EvidenceError, SignatureError
from twinseal.evidence import outcome
from twinseal.prognostics.windows import PrepareParams

Cli = Callable[..., str]


@pytest.fixture
def place(assessed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:  # noqa: F811
    """That workspace, with a policy in which no gate in cycles has a bound for pumps."""
    place = Path(shutil.copytree(assessed, tmp_path / "work", symlinks=True))
    monkeypatch.chdir(place)
    monkeypatch.setenv("TWINSEAL_HOME", str(place / "home"))
    gates = read_yaml(Path("policy/gates.yaml"))
    for gate in gates["gates"]:
        if "assets" in gate:
            del gate["assets"]["pump"]
    Path("policy/gates.yaml").write_text(yaml.safe_dump(gates, sort_keys=False))
    sections = {"prepare": PrepareParams().model_dump(mode="json"), "train": params("robust").model_dump(mode="json")}
    Path("params.yaml").write_text(yaml.safe_dump({"data": {"asset": "pump"}} | sections))
    record = _stage.upstream("prepare")
    record.predicate["buildDefinition"]["externalParameters"]["prepare"] = sections["prepare"]
    _stage.attest("prepare", record)
    yield place


@pytest.fixture
def cli() -> Cli:
    def run(*words: str) -> str:
        done = typer.testing.CliRunner().invoke(app, words, catch_exceptions=False, standalone_mode=False)
        if done.exception:
            raise done.exception
        return done.output

    return run


def verdict() -> tuple[str, str]:
    assess.main()
    return outcome(_stage.upstream("assess")), Path("reports/verdict.json").read_text()


def bounds() -> dict[str, dict[str, object]]:
    gates = read_yaml(Path("policy/gates.yaml"))["gates"]
    return {gate["name"]: gate["assets"]["pump"] for gate in gates if "pump" in gate.get("assets", {})}


def test_bounds_stay_denied_until_they_are_accepted_by_name(place: Path, cli: Cli) -> None:
    assert "FAILED" == verdict()[0]
    said = cli("gates", "propose", "pump")
    proposed = bounds()
    assert "poison-unnoticed-error" in proposed and "twinseal gates accept pump" in said
    assert all(bound["proposed"] for bound in proposed.values())
    result, written = verdict()
    assert "FAILED" == result
    assert "is only proposed" in written
    assert "accept it: twinseal gates accept pump poison-unnoticed-error --as NAME" in written
    said = cli("gates", "accept", "pump", "poison-unnoticed-error", "--as", "gerda", "--yes")
    assert "twinseal policy approve --as NAME" in said
    assert str(bounds()["poison-unnoticed-error"]["accepted"]).startswith("gerda, 20")
    written = verdict()[1]
    assert "poison-unnoticed-error: " not in written, "an accepted bound decides"


def test_an_error_no_better_than_a_constant_is_said_and_not_proposed(place: Path, cli: Cli) -> None:
    said = " ".join(cli("gates", "propose", "pump").split())
    assert "accuracy" in said and "accuracy" not in bounds()
    assert "no model yet" in said


def test_asking_again_leaves_what_was_proposed(place: Path, cli: Cli) -> None:
    cli("gates", "propose", "pump")
    before = Path("policy/gates.yaml").read_bytes()
    cli("gates", "propose", "pump")
    cli("gates", "propose", "pump", "--again")
    assert before == Path("policy/gates.yaml").read_bytes()


@pytest.mark.attack("P")
def test_evidence_for_a_proposal_is_missing_forged_or_of_something_else(place: Path, cli: Cli) -> None:
    """Bounds are asked for from no record, a forged one, or one of another asset, model, policy or params: none."""
    path, before = Path("reports/evidence/evade.dsse.json"), Path("policy/gates.yaml").read_bytes()
    kept = path.read_bytes()
    with pytest.raises(ConfigError, match="expected a model for 'turbofan', got one for 'pump'"):
        cli("gates", "propose", "turbofan")
    for forged in (None, kept.replace(b'"payload":"', b'"payload":"A', 1)):
        path.unlink() if forged is None else path.write_bytes(forged)
        with pytest.raises(SignatureError):
            cli("gates", "propose", "pump")
    path.write_bytes(kept)
    for file, old, new, complaint in (
        ("policy/threats.yaml", "seed: 20", "seed: 21", "evade: about something else: the entries of policy"),
        ("params.yaml", "folds: 5", "folds: 4", "expected the section 'train' of params.yaml, got another one"),
    ):
        text = Path(file).read_text()
        assert old in text
        Path(file).write_text(text.replace(old, new))
        with pytest.raises(EvidenceError, match=complaint):
            cli("gates", "propose", "pump")
        Path(file).write_text(text)
    (Path("models/candidate") / "extra.json").write_text("{}")
    with pytest.raises(Exception, match=r"extra\.json"):
        cli("gates", "propose", "pump")
    assert before == Path("policy/gates.yaml").read_bytes()


def test_a_contract_that_is_only_proposed_is_judged_failed_until_it_is_accepted(place: Path, cli: Cli) -> None:
    for name in ("contract.yaml", "threats.yaml"):
        value = read_yaml(Path("policy", name))
        value["assets"]["pump"]["proposed"] = "twinseal asset new from pumps.csv"
        Path("policy", name).write_text(yaml.safe_dump(value, sort_keys=False))
    result, written = verdict()
    assert "FAILED" == result
    complaint = "contract of 'pump': proposed by twinseal asset new from pumps.csv, not yet accepted"
    assert complaint in written and complaint in Path("reports/model_card.md").read_text().replace("\\", "")
    assert "not yet accepted" in Path("reports/report.html").read_text()
    cli("asset", "accept", "pump", "--as", "gerda", "--yes")
    written = verdict()[1]
    assert "not yet accepted" not in written and "differ" not in written, "the evidence stands: nothing is run again"
