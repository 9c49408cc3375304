"""The stages evade and poison, in a workspace of their own, over real signed records."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from pipelines import _stage, evade, poison
from tests.checkout import link_code
from tests.robustness.conftest import SPLIT
from twinseal.errors import DigestMismatchError, EvidenceError, SignatureError
from twinseal.evidence import Subject, measures, outcome, provenance, test_result
from twinseal.files import inventory
from twinseal.measures.poisoning import PoisoningMeasures
from twinseal.measures.robustness import RobustnessMeasures
from twinseal.measures.stages import of, schema
from twinseal.prognostics.checkpoint import Model, write_model
from twinseal.prognostics.splitting import Split
from twinseal.prognostics.training import TrainParams
from twinseal.prognostics.windows import Prepared, PrepareParams, prepare
from twinseal.robustness.threats import Threats
from twinseal.telemetry.contract import Contract
from twinseal.telemetry.fleet import Fleet
from twinseal.trust.ceremonies.ceremony import init_demo
from twinseal.trust.root.home import Home
from twinseal.trust.root.roles import Roles

ROLES = Path(__file__).parents[2] / "policy" / "roles.yaml"
WINDOW_FILES, CANDIDATE, ACCEPTED = _stage.WINDOWS, _stage.CANDIDATE, _stage.ACCEPTED


@contextmanager
def working_in(folder: Path) -> Iterator[Path]:
    """The folder is where stages run, in one process, with a home of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        link_code(folder)
        patch.setenv("TWINSEAL_HOME", str(folder / "home"))
        # The keys are new each time, and so would be the split; test_prognostics_stages.py has the real salt.
        patch.setattr(_stage, "salt", lambda: _stage.upstream("validate", ACCEPTED) and SPLIT.salt)
        patch.setattr("os.cpu_count", lambda: 1)  # other processes take longer to start than to attack so little
        yield folder


@pytest.fixture(scope="module")
def after_train(
    tmp_path_factory: pytest.TempPathFactory,
    fleet: Fleet,
    contract: Contract,
    prepared: Prepared,
    model: Model,
    preparation: PrepareParams,
    training: TrainParams,
    make_threats: Callable[..., Threats],
    short: dict[str, Any],
) -> Path:
    """Accepted telemetry, windows, a candidate, the records of prepare, validate and train. Read only."""
    threat = {"name": "backdoor", "attacker": "somebody who edits records", "kind": "backdoor", "shares": [0.5]}
    few = [{"name": "all-sensors", "attacker": "somebody between the sensors and the twin", "attacks": ["fgm", "pgd"]}]
    few[0] |= {"aims": ["any"], "epsilon_sigma": [0.1, 0.2], "bim_steps": 2, "pgd_steps": 5}  # type: ignore[dict-item]
    threats = make_threats(**short | {"poisoning": [threat], "retrain_epochs": 2, "evasion": few})
    with working_in(tmp_path_factory.mktemp("after-train")) as folder:
        _write_workspace(fleet, contract, prepared, model, preparation, training, threats)
    return folder


def _write_workspace(
    fleet: Fleet,
    contract: Contract,
    prepared: Prepared,
    model: Model,
    preparation: PrepareParams,
    training: TrainParams,
    threats: Threats,
) -> None:
    Path("policy").mkdir()
    Path("policy/roles.yaml").write_bytes(ROLES.read_bytes())
    plain = contract.model_dump(mode="json", exclude={"asset"})
    Path("policy/contract.yaml").write_text(json.dumps({"assets": {"toy": plain}}))
    Path("policy/threats.yaml").write_text(json.dumps(threats.model_dump(mode="json")))
    sections = {"prepare": preparation.model_dump(mode="json"), "train": training.model_dump(mode="json")}
    Path("params.yaml").write_text(json.dumps({"data": {"source": "simulated", "asset": "toy"}, **sections}))
    init_demo(Home.default(), Roles.load(ROLES), datetime.now(UTC))
    fleet.write(ACCEPTED)
    prepared.write(WINDOW_FILES[0].parent)
    write_model(CANDIDATE, model)
    Path("policy/evaluation.yaml").write_text(json.dumps(SPLIT.policy.model_dump(mode="json")))
    made("prepare", tuple(map(_stage.subject, WINDOW_FILES)), sections)
    made("train", model_files(), sections)
    accepted = (_stage.subject(ACCEPTED),)
    _stage.attest(
        "validate", test_result(accepted, result="PASSED", configuration=(), passed=("all",), measures={"rows": 1})
    )


@pytest.fixture
def workspace(after_train: Path, tmp_path: Path) -> Iterator[Path]:
    """As it is after train."""
    with working_in(shutil.copytree(after_train, tmp_path / "work", symlinks=True)) as folder:
        yield folder


@pytest.fixture(scope="module")
def after_evade(after_train: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same after evade; what the stage printed is in printed.txt. Read only."""
    with working_in(
        shutil.copytree(after_train, tmp_path_factory.mktemp("after-evade") / "work", symlinks=True)
    ) as folder:
        with redirect_stdout(io.StringIO()) as printed:
            evade.main()
        Path("printed.txt").write_text(printed.getvalue())
    return folder


@pytest.fixture
def attacked(after_evade: Path, tmp_path: Path) -> Iterator[Path]:
    """As it is after evade."""
    with working_in(shutil.copytree(after_evade, tmp_path / "work", symlinks=True)) as folder:
        yield folder


def made(stage: str, subjects: tuple[Subject, ...], parameters: dict[str, Any] | None = None) -> None:
    materials, parameters = (Subject("code", "0" * 64),), parameters or {"stage": stage}
    statement = provenance(
        subjects, stage=stage, builder="https://b", materials=materials, parameters=parameters, environment={"x": 1}
    )
    _stage.attest(stage, statement)


def model_files() -> tuple[Subject, ...]:
    return tuple(Subject(f"model/{record.path}", record.sha256) for record in inventory(CANDIDATE))


def test_evade_signs_what_it_measured_about_the_candidate_and_its_windows(attacked: Path) -> None:
    signed = _stage.upstream("evade", *WINDOW_FILES)
    assert outcome(signed) == "PASSED"
    assert {*model_files(), *map(_stage.subject, (*WINDOW_FILES, evade.LIVES))} == set(signed.subjects)
    assert json.loads((evade.REPORT / "measures.json").read_bytes()) == measures(signed)
    read = of(RobustnessMeasures, signed)
    assert read.to_dict() == measures(signed)
    Draft202012Validator(schema()).validate({"evade": measures(signed)})
    assert not Draft202012Validator(schema()).is_valid({"evade": measures(signed) | {"evasions": {}}})
    assert set(RobustnessMeasures.model_fields) == set(measures(signed))
    assert "injection/signatures/biased-interim-down" in signed.predicate["passedTests"]
    assert "evasion/attacks/all-sensors/pgd/any/eps-0.1" in signed.predicate["passedTests"]
    assert "commissioned/attacks/all-sensors/pgd/any/eps-0.1" in signed.predicate["passedTests"]
    assert {"repair_abuse", "false_age", "membership"} <= set(signed.predicate["passedTests"])
    assert (evade.REPORT / "attacks.csv").read_text().startswith("epsilon_sigma,")
    assert "0 reasons to doubt" in Path("printed.txt").read_text()


def test_evade_twice_gives_the_same_signed_bytes(attacked: Path) -> None:
    record = _stage.EVIDENCE / "evade.dsse.json"
    first, told = record.read_bytes(), measures(_stage.upstream("evade", *WINDOW_FILES))
    evade.main()
    assert told == measures(_stage.upstream("evade", *WINDOW_FILES))  # says where they differ, which bytes do not
    assert first == record.read_bytes()


def test_poison_signs_what_it_measured(workspace: Path) -> None:
    poison.main()
    signed = _stage.upstream("poison", ACCEPTED)
    assert outcome(signed) == "PASSED"
    assert {*model_files(), _stage.subject(ACCEPTED)} == set(signed.subjects)
    assert json.loads((poison.REPORT / "measures.json").read_bytes()) == measures(signed)
    assert of(PoisoningMeasures, signed).to_dict() == measures(signed)
    Draft202012Validator(schema()).validate({"poison": measures(signed)})
    assert ["backdoor/share-0.5"] == signed.predicate["passedTests"]
    assert (poison.REPORT / "attacks.csv").read_text().startswith("name,threat,share,")


@pytest.mark.parametrize("stage", [evade, poison])
def test_a_file_added_to_the_candidate_after_train_is_refused_and_nothing_is_signed(
    workspace: Path, stage: Any
) -> None:
    (CANDIDATE / "extra.py").write_text("x")
    with pytest.raises(EvidenceError, match="expected the files that train signed"):
        stage.main()
    assert not (_stage.EVIDENCE / f"{stage.__name__.rpartition('.')[2]}.dsse.json").exists()


@pytest.mark.parametrize("stage", [evade, poison])
def test_a_candidate_of_other_bytes_is_refused(workspace: Path, stage: Any) -> None:
    path = CANDIDATE / "contract.json"
    path.write_bytes(path.read_bytes().replace(b"wears", b"bears"))
    with pytest.raises(EvidenceError, match="or other bytes"):
        stage.main()


def test_windows_edited_after_prepare_are_refused(workspace: Path) -> None:
    data = bytearray(WINDOW_FILES[0].read_bytes())
    data[-1] ^= 1
    WINDOW_FILES[0].write_bytes(bytes(data))
    with pytest.raises(DigestMismatchError, match="as prepare signed it"):
        evade.main()


def test_telemetry_edited_after_validate_is_refused(workspace: Path, fleet: Fleet) -> None:
    fleet.select(fleet.units[1:]).write(ACCEPTED)
    with pytest.raises(DigestMismatchError, match="as validate signed it"):
        poison.main()


def test_without_the_record_of_train_nothing_is_attacked(workspace: Path) -> None:
    (_stage.EVIDENCE / "train.dsse.json").unlink()
    with pytest.raises(SignatureError):
        evade.main()


def test_windows_of_another_normaliser_are_refused(
    workspace: Path, fleet: Fleet, contract: Contract, preparation: PrepareParams
) -> None:
    prepare(fleet, contract, preparation, Split(SPLIT.policy, "8")).write(WINDOW_FILES[0].parent)
    made("prepare", tuple(map(_stage.subject, WINDOW_FILES)))
    with pytest.raises(EvidenceError, match="expected the normaliser of the model, got another one"):
        evade.main()
    prepare(fleet, contract, preparation.model_copy(update={"window": 10}), SPLIT).write(WINDOW_FILES[0].parent)
    made("prepare", tuple(map(_stage.subject, WINDOW_FILES)))
    with pytest.raises(EvidenceError, match="expected the model's channels and window"):
        evade.main()
    assert not (_stage.EVIDENCE / "evade.dsse.json").exists()
