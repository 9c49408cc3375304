"""A second kind of machine in a deployment that has one: with a real DVC, it runs no stage of the first one again."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.test_story import Run, copy_of_the_repository, make_small, runner
from tests.warm import Warm

pytestmark = [pytest.mark.proof, pytest.mark.timeout(600)]  # DVC starts a process for each stage
UPTO = "prepare"  # what comes after depends on policy in the same way: tests/test_dag.py
FIRST = ["policy", "ingest", "validate", "prepare"]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = copy_of_the_repository(tmp_path_factory.mktemp("second") / "twinseal")
    make_small(place)
    return place


@pytest.fixture(scope="module")
def run(place: Path, warm: Warm) -> Run:
    run = runner(place, warm)
    run("twinseal", "init", "--demo")
    assert FIRST == ran(run)
    assert [] == ran(run)
    return run


def ran(run: Run) -> list[str]:
    """The stages that DVC runs now, up to `prepare`."""
    said = run("dvc", "repro", UPTO, code=None).stdout  # a stage that ran and refused ran too
    return re.findall(r"^Running stage '(\w+)'", said, re.MULTILINE)


@pytest.fixture
def edit(place: Path) -> Any:
    """Changes a file of policy, and puts it back after the test."""
    kept: dict[Path, bytes] = {}

    def edit(name: str, change: Callable[[dict[str, Any]], Any]) -> None:
        path = place / "policy" / name
        kept.setdefault(path, path.read_bytes())
        value = yaml.safe_load(path.read_text())
        change(value)
        path.write_text(yaml.dump(value, Dumper=NoAliases, sort_keys=False, allow_unicode=True))

    yield edit
    for path, data in kept.items():
        path.write_bytes(data)


class NoAliases(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True


def add_fans(policy: dict[str, Any]) -> None:
    policy["assets"]["fan"] = copy.deepcopy(policy["assets"]["pump"]) | {"proposed": "twinseal asset new"}


def test_a_second_asset_and_the_ceremony_for_its_model_run_nothing_again(run: Run, edit: Any, place: Path) -> None:
    def name_the_model(contract: dict[str, Any]) -> None:
        add_fans(contract)
        contract["assets"]["fan"]["model"] = "fan-rul"

    edit("contract.yaml", name_the_model)
    edit("threats.yaml", add_fans)
    edit("roles.yaml", lambda roles: roles["models"].append("fan-rul"))
    keys = (place / "policy/signers.json").read_bytes()
    assert "published" in run("twinseal", "trust", "renew", "--yes").stdout
    assert keys == (place / "policy/signers.json").read_bytes(), "whose keys sign here is as before"
    assert ["policy"] == ran(run)


def test_a_mark_that_is_lifted_runs_nothing_again(run: Run, edit: Any) -> None:
    edit("contract.yaml", lambda policy: policy["assets"]["pump"].update(proposed="twinseal asset new"))
    assert ["policy"] == ran(run)
    run("twinseal", "asset", "accept", "pump", "--as", "gerda", "--yes")
    assert ["policy"] == ran(run)


@pytest.mark.attack("P")
@pytest.mark.parametrize(
    ("name", "expected"),
    [("contract.yaml", ["policy", "ingest"]), ("reference.yaml", ["policy", "validate"]),
     ("evaluation.yaml", ["policy", "prepare"])],
)  # fmt: skip
def test_an_entry_is_changed_after_the_stages_ran(run: Run, edit: Any, name: str, expected: list[str]) -> None:
    """A range, a reference or a share of the asset in hand is changed: every stage that obeyed it runs again."""

    def widen(policy: dict[str, Any]) -> None:
        if name == "evaluation.yaml":
            policy["cuts_per_unit"] += 1
            return
        own = policy["assets"]["pump"]
        channel = own["sensors" if name == "contract.yaml" else "channels"]["low_flow"]
        channel["maximum"] *= 1.01

    ran(run)  # what another test has left
    assert [] == ran(run)
    edit(name, widen)
    again = ran(run)
    assert set(expected) <= set(again)
    assert "ingest" not in again or name == "contract.yaml"


def test_the_order_of_channels_runs_the_stages_again(run: Run, edit: Any) -> None:
    def turn(policy: dict[str, Any]) -> None:
        own = policy["assets"]["pump"]
        own["sensors"] = dict(reversed(own["sensors"].items()))

    ran(run)
    edit("contract.yaml", turn)
    assert "ingest" in ran(run)
