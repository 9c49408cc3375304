"""`twinseal asset`, as an engineer types it: from an export to entries, a page, and a list of what is missing."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pandas as pd
import pytest

from tests.test_story import Run, copy_of_the_repository, runner
from tests.warm import Warm
from twinseal.sources.simulated import SimulatedParams, simulate

pytestmark = pytest.mark.proof  # make check stays below 12 minutes


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone with an export of ten ovens in a folder with a space and an umlaut."""
    place = copy_of_the_repository(tmp_path_factory.mktemp("assets") / "clone")
    table = simulate(SimulatedParams(units=10, seed=5, test_share=0.0)).table
    (place / "Ofen Süd").mkdir()
    columns = {"unit": "Ofen", "cycle": "Tag", "high_pressure": "Druck (kPa)", "high_flow": "=Fluß [m³/h]"}
    export: pd.DataFrame = table[list(columns)].round(5).rename(columns=columns)
    export.to_csv(place / "Ofen Süd/Export.csv", index=False, sep=";", decimal=",", encoding="cp1252")
    return place


@pytest.fixture(scope="module")
def run(place: Path, warm: Warm) -> Run:
    return runner(place, warm)


@pytest.fixture(scope="module")
def output(run: Run) -> str:
    """What `asset new` prints."""
    new = ("twinseal", "asset", "new", "oven", "--from", "Ofen Süd/Export.csv")
    refused = run(*new, code=2)
    assert "expected to know how the histories end" in refused.stderr
    assert "--ends-in-failure" in refused.stderr
    shown = run(*new, "--ends-in-failure", "--dry-run").stdout
    assert "would be written" in shown
    assert "" == run("git", "status", "--short", "--untracked-files=no").stdout
    return run(*new, "--ends-in-failure").stdout


def test_it_shows_what_is_proposed_what_it_wrote_and_what_comes_next(output: str, place: Path) -> None:
    assert "CSV in cp1252, separated by semicolons, decimal sign ','" in output
    assert re.search(r"^\+models: \[.*, oven-rul\]$", output, re.MULTILINE)
    assert "+    Druck (kPa): druck" in output.replace("+      ", "+    ")
    assert "twinseal asset check oven" in output
    page = (place / "reports/assets/oven.html").read_text()
    assert "Proposed for oven" in page
    assert "=Fluß [m³/h]" in page


def test_a_second_time_it_is_refused_without_replace(output: str, run: Run) -> None:
    new = ("twinseal", "asset", "new", "oven", "--from", "Ofen Süd/Export.csv", "--ends-in-failure")
    assert "--replace" in run(*new, code=2).stderr
    run(*new, "--replace")


def test_check_says_all_that_is_missing_and_fails_until_nothing_is(output: str, run: Run) -> None:
    run("twinseal", "init", "--demo")
    text = run("twinseal", "asset", "check", code=1).stdout
    assert "before a release" in text and "twinseal asset accept oven --as NAME" in text
    found = json.loads(run("twinseal", "asset", "check", "oven", "--json", code=1).stdout)
    assert ("oven", False) == (found["asset"], found["complete"])
    assert {"policy/contract.yaml", "policy/threats.yaml", "policy/gates.yaml", "policy/reference.yaml"} == {
        item["where"] for item in found["missing"]
    }  # the demo's owners have signed the policy with the new entries, and its root names the model


def test_of_the_default_asset_nothing_is_missing(output: str, run: Run, place: Path) -> None:
    params = place / "params.yaml"
    mine = params.read_text()
    run("git", "checkout", "-q", "params.yaml")
    found = json.loads(run("twinseal", "asset", "check", "--json").stdout)
    params.write_text(mine)
    assert {"asset": "pump", "complete": True, "missing": []} == found


def test_ingest_and_validate_read_what_was_proposed(output: str, run: Run) -> None:
    run("python", "-m", "pipelines.ingest")
    assert "0 broken; 0 of 10 units in quarantine" in run("python", "-m", "pipelines.validate").stdout
    run("twinseal", "asset", "reference", "oven")
    assert "policy/reference.yaml" not in run("twinseal", "asset", "check", code=1).stdout


def test_what_is_no_export_is_refused_in_one_message(run: Run, place: Path) -> None:
    for name, message in (("none.csv", "got no such file"), ("params.yaml", "got another suffix")):
        refused = run("twinseal", "asset", "new", "fan", "--from", name, code=2)
        assert message in refused.stderr and "Traceback" not in refused.stderr


def test_the_commands_of_the_documents_work(run: Run, place: Path) -> None:
    section = (place / "docs/data.md").read_text().partition("\n## A new asset\n")[2].partition("\n### ")[0]
    commands = [line.split() for line in section.splitlines() if line.startswith("twinseal asset ")]
    assert ["new", "check", "reference"] == [command[2] for command in commands]
    (place / "data/inbox").mkdir(exist_ok=True)
    (place / "data/inbox/transformers.csv").write_bytes((place / "Ofen Süd/Export.csv").read_bytes())
    run(*commands[0])
    assert "transformer" in run(*commands[1], code=1).stdout
    run("dvc", "repro", "validate")
    assert "+  transformer:" in run(*commands[2]).stdout
