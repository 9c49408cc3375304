"""prepare and train as DVC runs them: files in, files and signed records out; and what they refuse."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import pytest
from jsonschema import Draft202012Validator

from demo.fixed_keys import write_fixed_key
from pipelines import _stage, poison, prepare, train
from tests.checkout import link_code
from twinseal.config import load
from twinseal.errors import DigestMismatchError, EvidenceError, SignatureError
from twinseal.evidence import Subject, materials, measures, test_result
from twinseal.files import inventory
from twinseal.measures.preparation import PreparationMeasures
from twinseal.measures.stages import of, schema
from twinseal.measures.training import TrainingMeasures
from twinseal.prognostics import candidate
from twinseal.prognostics.checkpoint import read_model
from twinseal.prognostics.splitting import Split, SplitPolicy
from twinseal.prognostics.windows import Prepared, PrepareParams
from twinseal.prognostics.windows import prepare as prepare_windows
from twinseal.telemetry.contract import Contract
from twinseal.telemetry.fleet import Fleet
from twinseal.trust.ceremonies.ceremony import init_demo
from twinseal.trust.root.home import Home
from twinseal.trust.root.roles import Roles
from twinseal.trust.signing.split_salt import draw_salt

ROLES = Path(__file__).parents[2] / "policy" / "roles.yaml"
RECIPE = {"epochs": 5, "batch": 64, "hidden": [8], "epsilon_sigma": 0.1}
ASSESSOR = 7
PARAMS = {
    "data": {"source": "simulated", "asset": "toy"},
    "prepare": {"window": 20},
    "train": {"family": "robust", "folds": 2, "robust": {"plain": RECIPE, "commissioned": RECIPE}},
}


@pytest.fixture(scope="session")
def validated(tmp_path_factory: pytest.TempPathFactory, toy_fleet: Fleet, toy_contract: Contract) -> Path:
    """A folder as validate leaves it, with demo keys. Read only: tests work in a copy."""
    folder = tmp_path_factory.mktemp("validated")
    (folder / "policy").mkdir()
    contract = {key: value for key, value in toy_contract.model_dump(mode="json").items() if key != "asset"}
    (folder / "policy" / "contract.yaml").write_text(json.dumps({"assets": {"toy": contract}}))
    (folder / "policy" / "evaluation.yaml").write_text(json.dumps({"validation_share": 0.2}))
    (folder / "params.yaml").write_text(json.dumps(PARAMS))
    # The assessor's key decides the split. With this one each part has as many units as its tests need.
    write_fixed_key(Home(folder / ".twinseal"), "assessor", ASSESSOR)
    init_demo(Home(folder / ".twinseal"), load(Roles, ROLES), datetime(2026, 1, 1, tzinfo=UTC))
    toy_fleet.write(folder / prepare.ACCEPTED)
    return folder


@contextmanager
def working_in(folder: Path) -> Iterator[Path]:
    """The folder is where stages run, in one process, with the home that it brings."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        link_code(folder)
        patch.setenv("TWINSEAL_HOME", str(folder / ".twinseal"))
        patch.setattr("os.cpu_count", lambda: 1)  # other processes take longer to start than to train so little
        yield folder


@pytest.fixture
def workspace(validated: Path, tmp_path: Path) -> Iterator[Path]:
    """As it is after validate."""
    with working_in(shutil.copytree(validated, tmp_path / "work", symlinks=True)) as folder:
        _attest_validate()
        yield folder


def _attest_validate() -> None:
    accepted = _stage.subject(prepare.ACCEPTED)
    draw_salt(_stage.SALT, accepted, Home.find())
    subjects = (accepted, _stage.subject(_stage.SALT))
    _stage.attest(
        "validate", test_result(subjects, result="PASSED", configuration=(), passed=("all",), measures={"rows": 1})
    )


@pytest.fixture(scope="module")
def after_train(validated: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder as prepare and train leave it. Read only."""
    with working_in(
        shutil.copytree(validated, tmp_path_factory.mktemp("after-train") / "work", symlinks=True)
    ) as folder:
        _attest_validate()
        prepare.main()
        train.main()
    return folder


@pytest.fixture
def trained(after_train: Path, tmp_path: Path) -> Iterator[Path]:
    """As it is after train."""
    with working_in(shutil.copytree(after_train, tmp_path / "work", symlinks=True)) as folder:
        yield folder


def test_the_way_from_accepted_telemetry_to_a_signed_candidate(trained: Path) -> None:
    files = inventory(_stage.CANDIDATE)
    assert ["config.json", "contract.json", "guard.json", "model.safetensors"] == [record.path for record in files]
    assert "toy-rul" == read_model(_stage.CANDIDATE).contract.model

    prepared, trained = _stage.upstream("prepare"), _stage.upstream("train")
    assert [(f"model/{record.path}", record.sha256) for record in files] == [
        (subject.name, subject.sha256) for subject in trained.subjects
    ]
    assert set(prepared.subjects) <= set(materials(trained))
    assert _stage.subject(prepare.ACCEPTED) in materials(prepared)
    assert {"code", "params.yaml", "policy/contract.yaml#toy", "requirements"} <= {
        material.name for material in materials(trained)
    }

    written = json.loads((train.REPORT / "measures.json").read_text())
    assert measures(trained) == written
    found = of(TrainingMeasures, trained)
    assert found.to_dict() == written
    Draft202012Validator(schema()).validate({"train": written, "prepare": measures(prepared)})
    keys = candidate.keys("robust")  # as the params of this test ask
    assert keys["plain/certified"] == set(written["plain"]["certified"])
    assert keys["commissioned/certified"] == set(written["commissioned"]["certified"])
    assert (
        keys["intervals"] == keys["cross_validation"] == set(written["intervals"]) == set(written["cross_validation"])
    )
    assert found.plain.test.windows == len(pd.read_csv(train.REPORT / "predictions.csv"))
    assert found.commissioned is not None
    assert {"plain", "commissioned"} == set(found.intervals) == set(found.cross_validation)
    sizes = of(PreparationMeasures, prepared)
    assert (sizes.test.windows, sizes.test.units) == (found.plain.test.windows, found.plain.test.units)
    assert [1, 2, 3, 4, 5] == pd.read_csv(train.REPORT / "history.csv")["epoch"].tolist()


def test_running_again_gives_the_same_candidate_and_leaves_nothing_else(trained: Path) -> None:
    first = inventory(_stage.CANDIDATE)
    (_stage.CANDIDATE / "stray.txt").write_text("left by somebody")
    train.main()
    assert first == inventory(_stage.CANDIDATE)
    assert ["candidate"] == [path.name for path in _stage.CANDIDATE.parent.iterdir()]


def test_telemetry_changed_after_validation_is_refused(workspace: Path) -> None:
    data = bytearray(prepare.ACCEPTED.read_bytes())
    data[len(data) // 2] ^= 1
    prepare.ACCEPTED.write_bytes(data)
    with pytest.raises(DigestMismatchError, match=r"telemetry\.parquet: expected sha256 .* as validate signed it"):
        prepare.main()
    assert not prepare.WINDOWS.exists()


def test_windows_changed_after_prepare_are_refused_and_the_candidate_stands(trained: Path) -> None:
    before = inventory(_stage.CANDIDATE)
    path = _stage.WINDOWS[0]
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(DigestMismatchError, match=r"windows\.safetensors: expected sha256 .* as prepare signed it"):
        train.main()
    assert before == inventory(_stage.CANDIDATE)


def test_a_stage_without_its_record_upstream_is_refused(workspace: Path) -> None:
    with pytest.raises(SignatureError, match="expected the signed record of prepare, got none"):
        train.main()


@pytest.mark.attack("P")
def test_the_salt_is_exchanged_after_it_was_drawn(workspace: Path) -> None:
    """The salt that divides the units is replaced by one that was honestly signed for other telemetry"""
    prepare.main()
    before = _stage.WINDOWS[1].read_bytes()
    draw_salt(_stage.SALT, Subject(prepare.ACCEPTED.as_posix(), "b" * 64), Home.find())
    with pytest.raises(DigestMismatchError, match=r"split_salt\.json: expected sha256 .* as validate signed it"):
        prepare.main()
    assert before == _stage.WINDOWS[1].read_bytes()


@pytest.mark.attack("P")
@pytest.mark.parametrize("choice", ["salt", "policy"])
def test_the_builder_chooses_the_test_set(
    workspace: Path, toy_fleet: Fleet, toy_contract: Contract, choice: str
) -> None:
    """The builder splits by a salt, or cuts by shares, of its own: the assessor divides the units anew"""
    prepare.main()
    due = Split(load(SplitPolicy, _stage.EVALUATION), _stage.salt())
    params = PrepareParams(window=20)
    poison.check_split(Prepared.read(prepare.WINDOWS), prepare_windows(toy_fleet, toy_contract, params, due))

    mine = (
        Split(due.policy, "a salt that I like") if choice == "salt" else Split(SplitPolicy(cuts_per_unit=50), due.salt)
    )
    prepare_windows(toy_fleet, toy_contract, params, mine).write(prepare.WINDOWS)
    with pytest.raises(EvidenceError, match="that the salt and policy/evaluation.yaml give"):
        poison.check_split(Prepared.read(prepare.WINDOWS), prepare_windows(toy_fleet, toy_contract, params, due))


def test_other_telemetry_has_another_salt_and_the_salt_is_in_the_signed_files(workspace: Path) -> None:
    prepare.main()
    salt = json.loads(_stage.WINDOWS[1].read_text())["salt"]
    assert salt == _stage.salt()
    made = _stage.upstream("prepare", *_stage.WINDOWS)
    assert {_stage.subject(_stage.SALT), _stage.part(_stage.EVALUATION, _stage.contract().asset)} <= set(
        materials(made)
    )
    table = pd.read_parquet(prepare.ACCEPTED)
    table.loc[0, "heat"] += 1
    table.to_parquet(prepare.ACCEPTED)
    assert salt != draw_salt(_stage.SALT, _stage.subject(prepare.ACCEPTED), Home.find())
