"""The headline: about ten numbers, taken from the verdict and the typed measures."""

from __future__ import annotations

from tests.assurance.candidate import ABOUT, build
from twinseal.assurance.gates import Gates, judge
from twinseal.assurance.headline import headline
from twinseal.evidence import Statement
from twinseal.measures.stages import StageMeasures


def test_the_headline_is_about_ten_numbers_of_the_assessor(policy: Gates, statements: dict[str, Statement]) -> None:
    judged = judge(policy, statements, asset="pump", **ABOUT)
    found = headline(judged, StageMeasures.read(statements))
    assert found == {
        "result": "PASSED",
        "gates_failed": 0,
        "units_quarantined": 2,
        "rmse_cycles": 8.3,
        "commissioned_rmse_cycles": 8.0,
        "boosting_rmse_cycles": 7.2,
        "certified_rmse_cycles": 14.9,
        "certified_missed_failure_share": 0.0,
        "worst_attack_rmse_cycles": 14.57,
        "unnoticed_poison_rmse_increase_cycles": 0.4,
    }


def test_what_was_not_measured_is_absent_and_never_zero(policy: Gates) -> None:
    statements = build("accurate")
    del statements["poison"]
    judged = judge(policy, statements, asset="pump", **ABOUT | {"family": "accurate"})
    found = headline(judged, StageMeasures.read(statements))
    assert found["result"] == "FAILED"
    assert {"commissioned_rmse_cycles", "unnoticed_poison_rmse_increase_cycles"} & set(found) == set()
    assert set(headline(judged, StageMeasures())) == {"result", "gates_failed"}
