"""What an asset lacks is said before anything is trained, each thing with the command that mends it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd
import pytest

from tests.assets.conftest import request_for
from twinseal.assets.entries import edits, write
from twinseal.assets.missing import Missing, missing
from twinseal.assets.moments import Choices
from twinseal.assets.proposal import propose_table
from twinseal.errors import RootError
from twinseal.trust.root.home import Home

pytestmark = pytest.mark.proof  # make check stays below 12 minutes


def no_home() -> Home:
    raise RootError("home: expected a trust anchor, got none", remedy="twinseal init --demo")


def found(project: Path, asset: str) -> dict[str, Missing]:
    items = missing(project, asset, home_of=no_home)
    assert all(item.command and item.what for item in items)
    return {item.where: item for item in items}


@pytest.fixture
def written(project: Path, pumps_table: pd.DataFrame) -> Path:
    """A project with the proposed entries of the asset `oven`, and its export."""
    pumps_table.to_csv(project / "oven.csv", index=False)
    proposal = propose_table(request_for(project / "oven.csv", choices=Choices(ends_in_failure=True)))
    write(project, edits(project, proposal, replace=False))
    return project


def test_of_an_asset_that_nobody_has_written_all_is_missing(project: Path) -> None:
    items = found(project, "oven")
    assert "twinseal asset new oven --from FILE" == items["policy/contract.yaml"].command
    assert {"params.yaml", "policy/threats.yaml", "policy/gates.yaml", "policy/reference.yaml"} <= set(items)
    assert "twinseal init --demo" == items["keys and anchor"].command


def test_of_a_proposed_asset_the_marks_the_gates_and_the_reference_are_missing(written: Path) -> None:
    items = found(written, "oven")
    assert {
        "policy/contract.yaml", "policy/threats.yaml", "policy/gates.yaml", "policy/reference.yaml", "keys and anchor",
    } == set(items)  # fmt: skip
    assert "is only proposed: twinseal asset new" in items["policy/contract.yaml"].what
    assert "twinseal asset accept oven --as NAME" == items["policy/threats.yaml"].command
    assert "6 gates of the family robust have no bound for oven: accuracy, " in items["policy/gates.yaml"].what
    assert "twinseal gates propose oven" in items["policy/gates.yaml"].command


def test_gates_of_other_families_are_not_missing(written: Path) -> None:
    text = (written / "params.yaml").read_text()
    assert "family: robust" in text
    (written / "params.yaml").write_text(text.replace("family: robust", "family: accurate"))
    what = found(written, "oven")["policy/gates.yaml"].what
    assert "of the family accurate have no bound for oven: accuracy-of-the-accurate, " in what
    assert "one-liar" not in what and "certified-error" not in what


def test_a_file_that_is_gone_or_does_not_fit_is_missing_before_the_first_run(written: Path) -> None:
    (written / "oven.csv").write_text("Pump,Mission\nA,1\n")
    item = found(written, "oven")["params.yaml"]
    assert "run" == item.before and "expected the columns" in item.what
    (written / "oven.csv").unlink()
    assert "got no such file" in found(written, "oven")["params.yaml"].what


def test_a_mapping_of_another_asset_is_said(written: Path) -> None:
    shutil.copy(Path(__file__).parents[2] / "params.yaml", written / "params.yaml")
    assert "data.asset: expected oven, got pump" in found(written, "oven")["params.yaml"].what


def test_histories_without_an_end_train_nothing(written: Path) -> None:
    text = (written / "params.yaml").read_text().replace("    ends_in_failure: true\n", "")
    (written / "params.yaml").write_text(text)
    assert "nothing can be trained" in found(written, "oven")["params.yaml"].what


def test_a_model_that_no_role_names_is_said(written: Path) -> None:
    path = written / "policy/roles.yaml"
    path.write_text(path.read_text().replace(", oven-rul", ""))
    assert "no model oven-rul of oven" in found(written, "oven")["policy/roles.yaml"].what


@pytest.mark.parametrize("name", ["contract", "threats", "gates", "roles", "reference"])
def test_a_broken_file_is_said_and_the_others_are_looked_at_all_the_same(name: str, written: Path) -> None:
    (written / f"policy/{name}.yaml").write_text("[1\n")
    assert any("expected YAML" in item.what for item in missing(written, "oven", home_of=no_home))
    assert len(missing(written, "oven", home_of=no_home)) > 2
