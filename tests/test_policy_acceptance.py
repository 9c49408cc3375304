"""A person accepts by name what a program proposed: one line changes, the rest of the file stays as people wrote it."""

from __future__ import annotations

import difflib
import shutil
from datetime import date
from pathlib import Path

import pytest

from twinseal.config import read_yaml
from twinseal.errors import ConfigError, PolicyError
from twinseal.policy import read_gates
from twinseal.policy_acceptance import accept, offered_bounds, offered_entries
from twinseal.policy_entries import marks, part_subjects

SHIPPED = Path(__file__).parents[1] / "policy"
TODAY = date(2026, 11, 26)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The shipped policy, in which pumps have a contract, threats and two bounds that are only proposed."""
    folder = Path(shutil.copytree(SHIPPED, tmp_path / "policy"))
    insert(folder / "contract.yaml", "  pump:\n", '    proposed: twinseal asset new  # from "pumps.csv"\n')
    insert(folder / "threats.yaml", "  pump:\n", "    proposed: twinseal asset new\n")
    bounds = folder / "gates.yaml"
    for plain in ("pump: {at_most: 9}       # seen: 5.5", "pump: {at_most: 15}      # seen: 12.0"):
        marked = plain.replace("}", ', proposed: "1.2 × seen"}')
        bounds.write_text(bounds.read_text().replace(plain, marked, 1))
    assert 4 == len(proposed(folder))
    return folder


def insert(path: Path, after: str, line: str) -> None:
    text = path.read_text()
    assert after in text
    path.write_text(text.replace(after, after + line, 1))


def content(folder: Path) -> dict[str, object]:
    return {path.name: read_yaml(path) for path in folder.glob("*.yaml")}


def proposed(folder: Path) -> list[str]:
    return sorted(mark.gate or mark.file for mark in marks(content(folder)) if mark.proposed)


def changed_lines(before: str, after: str) -> list[str]:
    return [line for line in difflib.ndiff(before.splitlines(), after.splitlines()) if line[0] in "+-"]


def test_accepting_an_asset_changes_the_line_of_the_mark_and_nothing_that_is_measured(folder: Path) -> None:
    before, parts = {p.name: p.read_text() for p in folder.glob("*.yaml")}, part_subjects(content(folder))
    offered = offered_entries(folder, "pump")
    assert ["contract.yaml", "threats.yaml"] == [mark.file for mark in offered.marks]
    accept(offered, "gerda", TODAY)
    assert ["accuracy", "certified-error"] == proposed(folder)
    assert parts == part_subjects(content(folder)), "DVC and the evidence see nothing of it"
    assert [
        '-     proposed: twinseal asset new  # from "pumps.csv"',
        '+     accepted: "gerda, 2026-11-26"  # from "pumps.csv"',
    ] == changed_lines(before["contract.yaml"], (folder / "contract.yaml").read_text())
    lines = changed_lines(before["threats.yaml"], (folder / "threats.yaml").read_text())
    assert ["-     proposed: twinseal asset new", '+     accepted: "gerda, 2026-11-26"'] == lines
    assert before["gates.yaml"] == (folder / "gates.yaml").read_text()


def test_only_the_gates_that_were_named_are_accepted(folder: Path) -> None:
    before = (folder / "gates.yaml").read_text()
    accept(offered_bounds(folder, "pump", ["accuracy"]), "gerda", TODAY)
    assert ["certified-error", "contract.yaml", "threats.yaml"] == proposed(folder)
    lines = changed_lines(before, (folder / "gates.yaml").read_text())
    assert 2 == len(lines)
    assert '{at_most: 9, accepted: "gerda, 2026-11-26"}' in lines[1] and "# seen: 5.5" in lines[1]
    bounds = {gate.name: gate.bound_for("pump") for gate in read_gates(folder).gates}
    assert bounds["certified-error"] is None and bounds["accuracy"] is not None
    accept(offered_bounds(folder, "pump", (), every=True), "gerda", TODAY)
    assert ["contract.yaml", "threats.yaml"] == proposed(folder)


@pytest.mark.parametrize("gates", [["acuracy"], ["accuracy", "two-liars"], [""]])
def test_a_gate_that_has_nothing_proposed_is_refused_and_nothing_is_written(folder: Path, gates: list[str]) -> None:
    with pytest.raises(ConfigError, match=r"gates\.yaml: expected a gate with a proposed bound for 'pump', got"):
        offered_bounds(folder, "pump", gates)
    assert 4 == len(proposed(folder))


def test_where_nothing_is_proposed_it_says_for_whom_something_is(folder: Path) -> None:
    with pytest.raises(ConfigError, match="expected something that is only proposed for 'turbofan'") as caught:
        offered_entries(folder, "turbofan")
    assert "Proposed are entries for: pump" == caught.value.remedy


@pytest.mark.parametrize("name", ["", "  ", "ger\nda", "g" * 81, "gerda\x1b[1m"])
def test_an_acceptance_needs_a_name_on_one_line(folder: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="--as: expected a name"):
        accept(offered_entries(folder, "pump"), name, TODAY)
    assert 4 == len(proposed(folder))


@pytest.mark.attack("P")
def test_a_proposal_is_widened_while_the_person_reads_it(folder: Path) -> None:
    """A bound is shown, and another one lies there when the person says yes: nothing is accepted."""
    offered = offered_bounds(folder, "pump", ["accuracy"])
    path = folder / "gates.yaml"
    path.write_text(path.read_text().replace("pump: {at_most: 9,", "pump: {at_most: 90,", 1))
    with pytest.raises(PolicyError, match="expected the file that was shown, got another one since"):
        accept(offered, "gerda", TODAY)
    assert 4 == len(proposed(folder))
