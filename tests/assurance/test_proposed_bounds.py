"""Bounds proposed from a first run: about those that people chose, and none that hides a danger."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.assurance.candidate import build
from tests.assurance.test_gates import gate, gates, put
from twinseal.assurance.gates import Bound, Gate, Gates
from twinseal.assurance.proposed_bounds import ProposedBound, Seen, amount_bound, propose, share_bound
from twinseal.assurance.written_bounds import with_proposals
from twinseal.config import load
from twinseal.evidence import measures

SHIPPED = Path(__file__).parents[2] / "policy/gates.yaml"
CHOSEN = {  # what policy/gates.yaml says was seen, and the bound that people chose: pumps (54 units), engines (100)
    54: [(10.0, 12), (11.5, 14), (12.0, 15), (11.9, 15), (13.9, 17), (21.0, 25), (8.3, 10)],
    100: [
        (11.9, 13),
        (9.6, 10.5),
        (13.4, 13.5),
        (19.8, 21),
        (11.7, 12.5),
        (16.6, 18),
        (15.5, 17),
        (19.8, 21),
        (3.6, 5),
    ],
}


def seen(cap: float = 125.0, **changes: Any) -> Seen:
    statements = build()
    for path, value in changes.items():
        put(statements, "evade", path.replace("__", "/"), value)
    return Seen({stage: measures(item) for stage, item in statements.items()}, cap, "the run of 2026-11-26")


def only(*listed: Gate, asset: str = "fan", again: bool = False, **changes: Any) -> ProposedBound:
    (found,) = propose(listed, asset, seen(**changes), again=again)
    return found


def unbounded(**changes: Any) -> Gate:
    return gates(gate(**({"at_most": None, "assets": {"pump": {"at_most": 9.0}}} | changes))).gates[0]


@pytest.mark.parametrize(("units", "number", "chosen"), [(n, *pair) for n, pairs in CHOSEN.items() for pair in pairs])
def test_a_bound_in_cycles_is_about_the_one_that_people_chose(units: int, number: float, chosen: float) -> None:
    proposed, _ = amount_bound(number, units, smaller=True)
    assert number < proposed
    assert 0.8 * chosen <= proposed <= 1.17 * chosen


@pytest.mark.parametrize(("number", "units", "room"), [(10.0, 54, 1.19), (10.0, 8, 1.5), (10.0, 10_000, 1.15)])
def test_the_room_is_two_standard_errors_and_15_percent_at_least(number: float, units: int, room: float) -> None:
    proposed, words = amount_bound(number, units, smaller=True)
    assert room * number <= proposed <= room * number + 0.5
    assert f"{100 * room - 100:.0f} %" == words


def test_shares_follow_the_rule_of_three_or_wilson() -> None:
    assert (0.094, "3/32") == share_bound(0.0, 32, smaller=True)
    assert (0.906, "3/32") == share_bound(1.0, 32, smaller=False)
    most, words = share_bound(0.1, 100, smaller=True)
    assert 0.15 < most < 0.17 and "95 % of 100 units" == words
    assert 1.0 == share_bound(1.0, 3, smaller=True)[0]


def test_nothing_seen_is_no_bound_of_nothing() -> None:
    assert amount_bound(0.0, 54, smaller=True)[0] > 0


def test_a_gate_without_a_bound_gets_one_that_says_what_it_rests_on() -> None:
    found = only(unbounded())
    assert (8.3, "cycles") == (found.seen, found.unit)
    assert found.bound and 8.3 * 1.15 < found.bound.number < 11
    assert found.bound.proposed == found.why
    assert "8.3 seen in the run of 2026-11-26, and room of" in found.why


@pytest.mark.parametrize(
    "own", [{"at_most": 9.0}, {"at_most": 9.0, "accepted": "gerda, 2026-11-26"}], ids=["written", "accepted"]
)
def test_what_a_person_wrote_or_accepted_is_never_touched(own: dict[str, Any]) -> None:
    for again in (False, True):
        assert () == propose([unbounded(assets={"fan": own})], "fan", seen(), again=again)
    assert () == propose([gates(gate()).gates[0]], "fan", seen())


def test_a_second_run_widens_what_was_proposed_only_when_asked_and_never_narrows_it() -> None:
    marked = {"at_most": 9.0, "proposed": "1.1 × 8.2"}
    narrow, wide = (unbounded(assets={"fan": marked | {"at_most": number}}) for number in (9.0, 90.0))
    assert only(narrow).bound is None and "--again widens it" in only(narrow).why
    widened = only(narrow, again=True).bound
    assert widened and widened.number > 9
    for again in (False, True):
        assert only(wide, again=again).bound is None
        assert "room enough" in only(wide, again=again).why


@pytest.mark.attack("P")
def test_a_first_run_of_a_model_that_knows_nothing(statements: dict[str, Any]) -> None:
    """The first model is as bad as a constant, or hides failing machines: no bound is proposed."""
    useless = only(unbounded(), evasion__clean__rmse_cycles=35.0)
    assert (useless.bound, useless.seen) == (None, 35.0)
    assert "always answering the same number of cycles would be no worse (36.1)" in useless.why
    missed = {"measure": "evasion/certified/eps-0.1/missed_failure_share", "unit": "share"}
    hiding = only(
        unbounded(assets={"pump": {"at_most": 0.02}}, **missed),
        **{"evasion__certified__eps-0.1__missed_failure_share": 0.4},
    )
    assert hiding.bound is None
    assert "would be wider than policy has for any asset (0.02): an owner must write it" in hiding.why
    flags = {"measure": "evasion/flags/raised", "unit": "flags", "assets": {"pump": {"equals": 0}}}
    assert only(unbounded(**flags), evasion__flags__raised=1).bound is None


def test_what_was_not_measured_is_said() -> None:
    found = only(unbounded(measure="commissioned/certified/eps-0.7/rmse_cycles"))
    assert (None, None) == (found.seen, found.bound)
    assert "no measure" in found.why


def test_proposals_are_one_line_each_in_the_file_that_people_wrote(tmp_path: Path) -> None:
    before = SHIPPED.read_text()
    asked = [item for item in load(Gates, SHIPPED).gates if "robust" in item.families]
    found = propose(asked, "pump6", seen())
    written = with_proposals(SHIPPED.read_bytes(), "pump6", found).decode()
    new = [line for line in written.splitlines() if line not in before.splitlines()]
    assert len(new) == sum(1 for item in found if item.bound) >= 5
    assert all(line.startswith("      pump6: {at_most: ") and "# seen: " in line for line in new)
    path = tmp_path / "gates.yaml"
    path.write_text(written)
    bounds = {item.name: item for item in load(Gates, path).gates}
    assert all(bounds[item.gate].bound_for("pump6") is None for item in found), "denied until somebody accepts them"
    assert {item.gate: item.bound for item in found if item.bound} == {
        name: item.assets["pump6"] for name, item in bounds.items() if "pump6" in item.assets
    }


def test_a_gate_that_has_no_assets_yet_gets_a_place_for_them(tmp_path: Path) -> None:
    data = yaml.safe_dump({"gates": [gate()]}, sort_keys=False).encode()
    bound = Bound(at_most=9.6, proposed="1.15 × 8.3")
    path = tmp_path / "gates.yaml"
    path.write_bytes(with_proposals(data, "fan", [ProposedBound("accuracy", "cycles", 8.3, bound, "15 %", "")]))
    assert {"fan": bound} == load(Gates, path).gates[0].assets
