from __future__ import annotations

import numpy as np
import pytest

from twinseal.errors import ConfigError
from twinseal.measures.robustness import SpentLives
from twinseal.prognostics.checkpoint import Model
from twinseal.prognostics.metrics import FAILING_CYCLES
from twinseal.prognostics.windows import Prepared
from twinseal.robustness.attack import Testbed
from twinseal.robustness.attacks.spent_life import FAILING, FIELD, WORN, SpentLifeThreat, _units, run
from twinseal.robustness.hearing import Hearing
from twinseal.robustness.histories import Histories, guard_outcome, guarded_answers
from twinseal.robustness.threats import Threats


@pytest.fixture(scope="module")
def bed(model: Model, prepared: Prepared, threats: Threats) -> Testbed:
    return Testbed(model, prepared, threats)


@pytest.fixture(scope="module")
def found(bed: Testbed) -> SpentLives:
    return run(bed)


@pytest.mark.attack("P")
@pytest.mark.parametrize("attack", FAILING)
def test_rows_that_are_lost_repeated_or_renamed_hide_no_failing_machine(found: SpentLives, attack: str) -> None:
    """Rows of a failing machine are lost, withheld, repeated, renumbered or renamed; no reading is falsified."""
    assert found.attacks[attack].failing_units == found.attacks[attack].units > 0
    assert found.attacks[attack].missed_failure_share == 0.0


def test_without_a_ledger_first_rows_told_again_make_a_machine_young(found: SpentLives) -> None:
    """So what is tested above is no attack on nothing."""
    for attack in ("reset", "reset-renumbered", "renamed"):
        assert (found.attacks[attack].bare_missed_failure_share or 0.0) > 0.5


def test_honest_telemetry_is_answered(found: SpentLives) -> None:
    assert found.clean.refused_share < 0.2
    assert found.clean.missed_failure_share == 0.0
    assert found.worst_missed_failure_share == 0.0


def test_the_keys_of_the_measures_are_those_that_a_gate_may_name(found: SpentLives) -> None:
    assert set(found.attacks) <= {*FAILING, *WORN}


def test_what_is_heard_row_by_row_is_what_the_guard_makes_of_whole_histories(bed: Testbed) -> None:
    histories = Histories.of(bed.prepared.test)
    seen = guard_outcome(bed.model, histories, histories.rows)
    told = guarded_answers(bed.model, histories, seen)
    for unit, (rows, regimes) in enumerate(zip(histories.rows, histories.regimes, strict=True)):
        hearing = Hearing(bed.model)
        for age, (row, regime) in enumerate(zip(rows, regimes, strict=True), start=1):
            heard = hearing.hear(row, int(regime), age)
        refused = bool(seen.refused[unit][-1])
        assert (heard.bare is None) == refused
        assert refused or heard.bare == pytest.approx(told[unit], abs=1e-6)


def test_a_copy_goes_on_from_the_same_past(bed: Testbed) -> None:
    (unit, *_) = _units(bed)
    half = len(unit.rows) // 2
    hearing = Hearing(bed.model)
    unit.tell(hearing, range(half))
    other = hearing.copy()
    rest = unit.tell(other, range(half, len(unit.rows)))
    assert rest == unit.tell(hearing, range(half, len(unit.rows)))
    assert rest == unit.tell(Hearing(bed.model), range(len(unit.rows)))


def test_the_newest_row_always_arrives_and_no_more_are_lost_than_said(bed: Testbed) -> None:
    unit = next(unit for unit in _units(bed) if unit.left <= FAILING_CYCLES)
    arrived = unit.without(0, 7)
    lost = set(range(len(unit.rows))) - set(arrived)
    assert len(lost) == 7 and len(unit.rows) - 1 in arrived
    assert max(unit.health[list(lost)]) <= min(unit.health[at] for at in arrived[:-1])
    worn = set(range(len(unit.rows))) - set(unit.without(0, 7, worn=True))
    assert np.mean(unit.health[list(worn)]) > np.mean(unit.health[list(lost)])


def test_an_attacker_who_does_nothing_is_refused(threats: Threats) -> None:
    entry = threats.attacks[FIELD]
    for change in ({"rows": 1}, {"arriving_share": 1.0}, {"withheld": 0}, {"repeated": 1}):
        other = threats.model_copy(update={"attacks": threats.attacks | {FIELD: entry | change}})
        with pytest.raises(ConfigError):
            other.own(FIELD, SpentLifeThreat)
