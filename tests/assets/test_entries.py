"""All entries of a new asset, or none: what is written is read back by the classes that the stages use."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from tests.assets.conftest import request_for
from twinseal.assets import entries
from twinseal.assets.entries import Edit, edits, write
from twinseal.assets.moments import Choices
from twinseal.assets.proposal import Proposal, propose_table
from twinseal.config import load
from twinseal.errors import ConfigError
from twinseal.robustness.threats import Threats
from twinseal.sources.data_params import DataParams, open_source
from twinseal.telemetry.contract import Contract
from twinseal.trust.root.roles import Roles


@pytest.fixture
def proposal(pumps_table: pd.DataFrame, tmp_path: Path) -> Proposal:
    pumps_table.rename(columns={"high_flow": "=Flow, no. 1: [m³/h]"}).to_csv(tmp_path / "a b.csv", index=False)
    return propose_table(request_for(tmp_path / "a b.csv", choices=Choices(ends_in_failure=True)))


def files(project: Path) -> dict[str, bytes]:
    return {path.relative_to(project).as_posix(): path.read_bytes() for path in sorted(project.rglob("*.yaml"))}


def test_what_is_written_is_what_the_stages_read(proposal: Proposal, project: Path) -> None:
    write(project, edits(project, proposal, replace=False))
    contract = Contract.load(project / "policy/contract.yaml", "oven")
    assert proposal.contract == contract
    assert "twinseal asset new on 2026-11-26 from a b.csv, 12 units, " in contract.proposed
    threats = Threats.load(project / "policy/threats.yaml").asset("oven")
    assert contract.proposed == threats.proposed
    assert set(threats.injection.sensors) <= set(contract.channels)
    assert "oven-rul" in Roles.load(project / "policy/roles.yaml").models
    params = load(DataParams, project / "params.yaml", section="data")
    assert ("table", "oven") == (params.source, params.asset)
    pd.testing.assert_frame_equal(proposal.fleet.table, open_source(params, contract).read().table)


def test_each_number_has_a_comment_that_says_what_it_rests_on(proposal: Proposal, project: Path) -> None:
    write(project, edits(project, proposal, replace=False))
    text = (project / "policy/contract.yaml").read_text().partition("\n  oven:\n")[2]
    for key in ("rul_cap_cycles", "min_cycles", "consistency", "high_pressure", "flow_no_1"):
        (line,) = [line for line in text.splitlines() if line.strip().startswith(f"{key}:")]
        assert " # " in line
    assert "flow_no_1: {unit: m³/h, " in text


def test_no_line_of_the_example_stands_below_the_mapping(proposal: Proposal, project: Path) -> None:
    write(project, edits(project, proposal, replace=False))
    below = (project / "params.yaml").read_text().partition("\n  table:\n")[2]
    assert "#" not in below.partition("\n\n")[0]


def test_nothing_else_changes_and_the_diff_has_only_new_lines_in_policy(proposal: Proposal, project: Path) -> None:
    found = edits(project, proposal, replace=False)
    names = ["policy/contract.yaml", "policy/threats.yaml", "policy/roles.yaml", "params.yaml"]
    assert names == [edit.name for edit in found]
    for edit in found[:2]:
        assert not [line for line in edit.diff[2:] if line.startswith("-")]


def test_an_asset_that_is_there_is_replaced_only_where_it_is_asked(proposal: Proposal, project: Path) -> None:
    write(project, edits(project, proposal, replace=False))
    with pytest.raises(ConfigError, match=r"asset oven: expected a new name, got one that is in policy/contract\.yaml"):
        edits(project, proposal, replace=False)
    assert () == edits(project, proposal, replace=True)  # the same again


@pytest.mark.parametrize("fault", [KeyboardInterrupt, OSError])
def test_an_interruption_leaves_all_files_as_they_were(
    fault: type[BaseException], proposal: Proposal, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, real, calls = files(project), entries.write_whole, []

    def interrupted(path: Path, data: bytes) -> None:
        calls.append(path)
        if len(calls) == 3:
            raise fault
        real(path, data)

    changes = edits(project, proposal, replace=False)
    monkeypatch.setattr(entries, "write_whole", interrupted)
    with pytest.raises(fault):
        write(project, changes)
    assert before == files(project)


def test_a_file_that_changed_meanwhile_is_not_overwritten(proposal: Proposal, project: Path) -> None:
    changes = edits(project, proposal, replace=False)
    (project / "policy/roles.yaml").write_text("models: [other]\n")
    before = files(project)
    with pytest.raises(ConfigError, match="expected it as it was a moment ago"):
        write(project, changes)
    assert before == files(project)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("policy/threats.yaml", lambda text: text.replace("assets:\n", "others:\n"), "threats.yaml"),
        ("policy/roles.yaml", lambda text: text.replace("models:", "model:"), "expected a key 'models'"),
        ("params.yaml", lambda text: "data: [1]\n", "expected keys and values"),
    ],
)
def test_a_file_of_another_form_stops_all(
    name: str, change: Callable[[str], str], message: str, proposal: Proposal, project: Path
) -> None:
    path = project / name
    path.write_text(change(path.read_text()))
    with pytest.raises((ConfigError, KeyError), match=message):
        edits(project, proposal, replace=False)


def test_a_diff_is_of_the_file_that_is_named() -> None:
    assert ("--- a", "+++ a", "@@ -1 +1 @@", "-x", "+y") == Edit("a", "x\n", "y\n").diff
