from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.telemetry.conftest import oven_contract, oven_table
from twinseal.console import print_refusal
from twinseal.errors import DataError
from twinseal.evidence import Subject, test_result
from twinseal.evidence import measures as measures_of
from twinseal.measures.quantity import read
from twinseal.measures.validation import ValidationMeasures
from twinseal.telemetry.contract import Contract
from twinseal.telemetry.fleet import Fleet
from twinseal.telemetry.reference import Reference
from twinseal.telemetry.rules import CHECKS
from twinseal.telemetry.screening import screen
from twinseal.telemetry.validation import examine, fill, validate

LIVES = {f"oven-{n}": 6 for n in range(8)}


def ovens(bad: int = 0) -> Fleet:
    """Eight ovens, of which the first `bad` once show a heat that no oven can have."""
    table = oven_table(LIVES)
    table.loc[table["unit"].isin(list(LIVES)[:bad]) & (table["cycle"] == 3), "heat"] = 900.0
    return Fleet.of(table)


def test_a_good_fleet_is_accepted_as_it_came(oven: Contract) -> None:
    validation = validate(ovens(), oven, None, None)
    pd.testing.assert_frame_equal(ovens().table, validation.accepted.table)
    assert ((), (), 0) == (validation.findings, validation.failed, len(validation.quarantined))
    assert ("PASSED", "") == (validation.result, validation.refusal)


def test_bad_units_are_set_aside_with_their_reason_and_the_rest_passes_by_itself(oven: Contract) -> None:
    validation = validate(ovens(bad=2), oven, None, None)
    assert tuple(LIVES)[:2] == validation.quarantined.units
    assert tuple(LIVES)[2:] == validation.accepted.units
    assert () == screen(validation.accepted, oven)
    reasons = {(f.unit, f.rule, f.first_cycle, f.observed, f.bound) for f in validation.findings if f.rule == "range"}
    assert {(unit, "range", 3, 900.0, "200 … 400 K") for unit in tuple(LIVES)[:2]} == reasons
    assert {"range heat", "change heat"} <= set(validation.warned)
    assert not {"range heat", "change heat"} & set(validation.passed)


def test_every_row_is_accepted_or_in_quarantine(oven: Contract) -> None:
    validation = examine(ovens(bad=2), oven)
    both = pd.concat([validation.accepted.table, validation.quarantined.table])
    pd.testing.assert_frame_equal(ovens(bad=2).table, Fleet.of(both).table)


def test_more_bad_units_than_the_contracts_share_are_refused_with_the_findings(oven: Contract) -> None:
    with pytest.raises(DataError, match="expected at most 30% bad units, got 3 of 8") as caught:
        validate(ovens(bad=3), oven, None, None)
    assert "oven-0, cycle 3, heat: range: expected 200 … 400 K, got 900" in caught.value.findings
    assert 6 == len(caught.value.findings)
    assert "reports/validation" in caught.value.remedy


def test_a_refused_fleet_is_examined_without_an_exception_for_those_who_report(oven: Contract) -> None:
    validation = examine(ovens(bad=3), oven)
    assert ("FAILED", 3) == (validation.result, validation.measures.units_quarantined)


def test_a_fleet_of_which_nobody_is_left_is_refused(oven: Contract) -> None:
    with pytest.raises(DataError, match="got none of 8"):
        validate(ovens(bad=8), oven, None, None)


def test_an_empty_fleet_is_refused(oven: Contract) -> None:
    with pytest.raises(DataError, match="got none of 0"):
        validate(Fleet(ovens().table.iloc[:0]), oven, None, None)


def test_a_single_unit_is_no_fleet(oven: Contract) -> None:
    with pytest.raises(DataError, match=r"meets the contract as a whole, got findings: units \(all\)") as caught:
        validate(ovens().select(["oven-0"]), oven, None, None)
    assert ("fleet, all: units: expected two units or more, got 1",) == caught.value.findings


def test_a_fleet_of_nothing_but_nan_is_refused(oven: Contract) -> None:
    """NaN passes every range."""
    table = ovens().table.assign(heat=np.float32(np.nan))
    with pytest.raises(DataError, match="got none of 8") as caught:
        validate(Fleet(table), oven, None, None)
    assert {"missing"} == {finding.split(": ")[1] for finding in caught.value.findings}


def test_a_fleet_that_drifted_is_refused(oven: Contract) -> None:
    reference = Reference.of(ovens(), oven)
    table = ovens().table
    table = table.assign(heat=table["heat"] + np.float32(2.0))
    with pytest.raises(
        DataError, match=r"got findings: drift-mean \(heat\); drift \(heat\)|got findings: drift \(heat\); drift-mean"
    ) as caught:
        validate(Fleet(table), oven, reference, None)
    assert {"drift", "drift-mean"} == {finding.split(": ")[1] for finding in caught.value.findings}


@pytest.mark.parametrize("fleet", ["drifted", "bad units", "one unit"])
def test_a_refusal_prints_no_finding_twice(fleet: str, oven: Contract, capsys: pytest.CaptureFixture[str]) -> None:
    table = ovens().table.assign(heat=ovens().table["heat"] + np.float32(2.0))
    given = {"drifted": Fleet(table), "bad units": ovens(bad=3), "one unit": ovens().select(["oven-0"])}[fleet]
    with pytest.raises(DataError) as caught:
        validate(given, oven, Reference.of(ovens(), oven), None)
    print_refusal(caught.value)
    printed = capsys.readouterr().err
    assert caught.value.findings
    assert [1] * len(caught.value.findings) == [printed.count(finding) for finding in caught.value.findings]


# Drift, and how many units there are


def hot_ovens(units: int, hot: int, shift: float = 0.0) -> Fleet:
    """Ovens of ten batches; `hot` of them become much hotter in the last three."""
    table = oven_table({f"oven-{n:03d}": 10 for n in range(units)})
    late = table["unit"].isin([f"oven-{n:03d}" for n in range(hot)]) & (table["cycle"] > 7)
    heat = 300.0 + 2.0 * table["cycle"] + np.where(late, 5.0 * (table["cycle"] - 7) + 8.0, 0.0) + shift
    return Fleet.of(table.assign(heat=heat, glow=heat + 10.0))


def test_units_of_a_rare_kind_may_be_absent_from_a_small_fleet(oven: Contract) -> None:
    """Of the reference's rows a tenth is hot. 24 units without one were refused: the empty bin counted as 1/10,000."""
    reference = Reference.of(hot_ovens(150, hot=50), oven)
    assert 0.1 == pytest.approx(reference.channels["heat"].shares[-1])
    small = validate(hot_ovens(24, hot=0), oven, reference, None)
    assert 0.1 < small.measures.drift_max_psi < 0.25
    assert set(oven.all_channels) == set(small.measures.drift_psi)
    assert max(small.measures.drift_psi.values()) == small.measures.drift_max_psi
    with pytest.raises(DataError, match=r"got findings: drift \(heat, glow\)") as caught:
        validate(hot_ovens(150, hot=0), oven, reference, None)
    assert any("above 320.9: 10 % of the reference, 0 % of this fleet" in finding for finding in caught.value.findings)


@pytest.mark.parametrize(("units", "hot"), [(150, 50), (60, 20), (24, 8)])
def test_a_real_shift_is_found_in_fleets_of_every_size(units: int, hot: int, oven: Contract) -> None:
    reference = Reference.of(hot_ovens(150, hot=50), oven)
    assert "PASSED" == examine(hot_ovens(units, hot), oven, reference).result
    with pytest.raises(DataError, match="drift") as caught:
        validate(hot_ovens(units, hot, shift=0.3 * reference.channels["heat"].spread), oven, reference, None)
    assert caught.value.remedy.startswith("Read reports/validation")


def test_a_refusal_of_few_units_says_that_they_are_few(oven: Contract) -> None:
    reference = Reference.of(hot_ovens(150, hot=50), oven)
    with pytest.raises(DataError, match="drift") as caught:
        validate(hot_ovens(12, hot=4, shift=6.0), oven, reference, None)
    assert "Bring 24 units or more: 12 units can differ from policy/reference.yaml by chance" in caught.value.remedy


def test_bad_units_do_not_make_the_others_drift(oven: Contract) -> None:
    reference = Reference.of(ovens(), oven)
    validation = validate(ovens(bad=2), oven, reference, None)
    assert (1, 0.0) == (validation.measures.drift_compared, validation.measures.drift_max_psi)


def test_what_could_not_be_tested_is_a_warning_and_no_pass(oven: Contract) -> None:
    validation = examine(ovens(), oven, None)
    assert tuple(f"{name} (not tested)" for name in ("consistency", "stuck", "copy", "drift")) == validation.warned
    assert (0, {}) == (validation.measures.drift_compared, validation.measures.drift_psi)
    assert not [name for name in validation.passed if name.startswith(("drift", "consistency"))]


def test_absent_values_that_may_be_absent_are_filled_with_the_last_before(oven: Contract) -> None:
    table = ovens().table
    table = table.assign(glow=table["glow"].mask(table.index == 3))
    validation = validate(Fleet(table), oven, None, None)
    assert 1 == validation.measures.values_filled
    assert [313.0, 313.0, 315.0] == validation.accepted.table["glow"].tolist()[2:5]


def bearing(oven: Contract, share: float) -> Contract:
    glow = oven.sensors["glow"].model_copy(update={"outlier_share": share})
    return oven.model_copy(update={"sensors": {**oven.sensors, "glow": glow}})


def test_one_value_out_of_range_need_not_cost_a_life(oven: Contract) -> None:
    table = ovens().table
    wild = Fleet(table.assign(glow=table["glow"].mask(table.index == 3, np.float32(9000))))
    assert "oven-0" in examine(wild, oven).quarantined.units
    validation = examine(wild, bearing(oven, 0.2))
    assert ((), 1) == (validation.quarantined.units, validation.measures.values_filled)
    (finding,) = validation.findings
    assert ("oven-0", 4, "glow", "outlier", 9000.0) == (
        finding.unit, finding.first_cycle, finding.channel, finding.rule, finding.observed,
    )  # fmt: skip
    assert "outlier glow (taken as missing)" in validation.warned
    assert [313.0, 313.0, 315.0] == validation.accepted.table["glow"].tolist()[2:5]


@pytest.mark.parametrize("cycles", [(2, 4), (1,)])
def test_more_values_out_of_range_than_policy_bears_or_a_first_one_cost_it(
    oven: Contract, cycles: tuple[int, ...]
) -> None:
    table = ovens().table
    mine = (table["unit"] == "oven-0") & table["cycle"].isin(cycles)
    wild = Fleet(table.assign(glow=table["glow"].mask(mine, np.float32(9000))))
    assert ("oven-0",) == examine(wild, bearing(oven, 0.2)).quarantined.units


def test_filling_never_crosses_from_one_unit_to_the_next(oven: Contract) -> None:
    table = ovens().table
    filled, count = fill(Fleet(table.assign(glow=table["glow"].mask(table["cycle"] == 1))), oven)
    assert 8 == count
    assert 8 == int(filled.table["glow"].isna().sum())


def test_measures_have_every_rule_and_are_a_signable_result(oven: Contract) -> None:
    validation = examine(ovens(bad=2), oven)
    measures = validation.measures
    assert (48, 8) == (measures.rows_total, measures.units_total)
    assert (2, 0.25) == (measures.units_quarantined, measures.quarantined_share)
    assert set(CHECKS) == set(measures.findings_by_rule)
    assert {"range": 2, "change": 2} == {rule: n for rule, n in measures.findings_by_rule.items() if n}
    assert 2 == measures.expectations_failed
    subject = Subject("data/raw/telemetry.parquet", "0" * 64)
    statement = test_result(
        (subject,),
        result=validation.result,
        configuration=(subject,),
        passed=validation.passed,
        warned=validation.warned,
        failed=validation.failed,
        measures=measures.to_dict(),
    )
    again = type(statement).from_bytes(statement.to_bytes())
    assert statement == again
    assert measures == read(ValidationMeasures, measures_of(again), "validate")


def test_the_pages_are_written_also_of_a_refused_fleet(tmp_path: Path, oven: Contract) -> None:
    with pytest.raises(DataError):
        validate(ovens(bad=3), oven, None, tmp_path / "docs")
    assert ["index.html", "suite.html"] == sorted(path.name for path in (tmp_path / "docs").iterdir())


def test_no_share_means_no_bad_unit(oven: Contract) -> None:
    strict = Contract.from_dict(oven_contract() | {"max_quarantined_share": 0.0})
    assert "PASSED" == examine(ovens(), strict).result
    with pytest.raises(DataError, match="at most 0% bad units, got 1 of 8"):
        validate(ovens(bad=1), strict, None, None)
