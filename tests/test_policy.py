"""The shipped policy as a whole: every gate names a measure that a stage writes under the shipped threats."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from twinseal.assurance.gate_keys import check_keys
from twinseal.assurance.gates import Gates
from twinseal.config import load, parse, read_yaml
from twinseal.errors import ConfigError
from twinseal.measures.quantity import resolve
from twinseal.measures.stages import STAGES
from twinseal.policy import read_gates, writable_keys
from twinseal.robustness.threats import Threats
from twinseal.telemetry.contract import Contract

POLICY = Path(__file__).parents[1] / "policy"
GATES, THREATS, CONTRACT = (POLICY / name for name in ("gates.yaml", "threats.yaml", "contract.yaml"))


def refuse_unwritten(gates: Gates, threats: Threats) -> None:
    """As the stage that judges does before it looks at a number."""
    contracts = Contract.load_all(CONTRACT)
    check_keys(gates, lambda *asked: writable_keys(threats, contracts, *asked), threats.assets, "policy/gates.yaml")


def changed(gate: str, **changes: Any) -> dict[str, Any]:
    """policy/gates.yaml as plain data, one gate of it changed."""
    value = copy.deepcopy(read_yaml(GATES))
    next(item for item in value["gates"] if item["name"] == gate).update(changes)
    return value


def test_every_gate_of_the_shipped_policy_names_a_measure_that_is_written() -> None:
    for gate in read_gates(POLICY).gates:
        leaf = resolve(STAGES[gate.evidence], gate.measure, gate.name)
        assert gate.unit == leaf.quantity.unit


REFUSED = {
    "a misspelt measure": (
        {"measure": "evasion/certified/eps-0.1/rmse_cycle"},
        "gate certified-error: no stage writes the measure 'evasion/certified/eps-0.1/rmse_cycle'; "
        "did you mean 'evasion/certified/eps-0.1/rmse_cycles'?",
    ),
    "a measure of another stage": (
        {"evidence": "train"},
        "gate certified-error: no stage writes the measure 'evasion/certified/eps-0.1/rmse_cycles'; "
        "did you mean 'plain/certified/",
    ),
    "a group": (
        {"measure": "evasion/certified/eps-0.1"},
        "gate certified-error: 'evasion/certified/eps-0.1' is a group of measures; expected a measure in it, such as "
        "'evasion/certified/eps-0.1/rmse_cycles'",
    ),
    "a mapping": (
        {"measure": "evasion/certified"},
        "'evasion/certified' is a group of measures; expected a measure in it, such as "
        "'evasion/certified/<key>/rmse_cycles'",
    ),
    "a unit that is not the measure's": (
        {"unit": "share"},
        "gate certified-error: unit: expected 'cycles', that of evasion/certified/eps-0.1/rmse_cycles, got 'share'",
    ),
    "a bound on the better side": (
        {"assets": {"pump": {"at_least": 9}}},
        "gate certified-error: expected at_most, got at_least: smaller is better for evasion/certified/eps-0.1/",
    ),
}


@pytest.mark.parametrize("defect", sorted(REFUSED))
def test_a_gate_on_what_no_stage_measures_is_refused_when_it_is_read(defect: str) -> None:
    changes, message = REFUSED[defect]
    with pytest.raises(ConfigError) as error:
        parse(Gates, changed("certified-error", **changes), "policy/gates.yaml")
    assert message in str(error.value)


@pytest.mark.parametrize("share", [5.0, -0.1])
def test_a_bound_that_no_share_can_reach_is_refused(share: float) -> None:
    with pytest.raises(ConfigError, match=f"gate missed-failures: expected a share between 0 and 1, got {share:g}"):
        parse(Gates, changed("missed-failures", assets={"pump": {"at_most": share}}), "policy/gates.yaml")


def test_a_bound_for_an_unknown_asset_is_refused() -> None:
    gates = parse(Gates, changed("missed-failures", assets={"turbofn": {"at_most": 0.02}}), "policy/gates.yaml")
    with pytest.raises(ConfigError, match="gate missed-failures: assets: expected one of pump, .*, got 'turbofn'"):
        refuse_unwritten(gates, Threats.load(THREATS))


UNWRITTEN = {
    "an ε that no threat tries": (
        "certified-error",
        "evasion/certified/eps-0.15/rmse_cycles",
        r"gate certified-error: evade writes no 'eps-0\.15' in evasion/certified/eps-0\.15/rmse_cycles; "
        r"did you mean 'eps-0\.[015]+'\?",
    ),
    "a threat that there is not": (
        "certified-error",
        "evasion/attacks/all-sensor/pgd/any/eps-0.1/rmse_cycles",
        "evade writes no 'all-sensor' in .*; did you mean 'all-sensors'",
    ),
    "an attack that this threat does not run": (
        "certified-error",
        "evasion/attacks/questions/pgd/any/eps-0.1/rmse_cycles",
        "evade writes no 'pgd' in .*; (did you mean|expected one of) .*square",
    ),
    "a signature that is none": (
        "injected-missed-failures-up",
        "injection/signatures/random-interim-upp/unnoticed_missed_failure_share",
        "evade writes no 'random-interim-upp' in .*; did you mean 'random-interim-up'",
    ),
    "a way that this scenario does not go": (
        "injected-missed-failures-up",
        "falsified_histories/scenarios/replay/any/size-0/missed_failure_share",
        "evade writes no 'any' in .*; (did you mean|expected one of) .*healthy-washing",
    ),
    "a drift with a size in σ": (
        "injected-missed-failures-up",
        "falsified_histories/scenarios/slow-drift/any/size-0.02/missed_failure_share",
        r"evade writes no 'size-0\.02' in .*; (did you mean|expected one of) .*rate-0\.0",
    ),
    "more members than any median can lose": (
        "two-liars",
        "median_certificate/liars-99/rmse_cycles",
        "evade writes no 'liars-99' in .*; did you mean 'liars-",
    ),
    "a count of sensors that is not tried": (
        "certified-error",
        "owned_sensors/by_count/any/k-9/rmse_cycles",
        "evade writes no 'k-9' in .*; did you mean 'k-",
    ),
    "a channel that no contract has": (
        "certified-error",
        "owned_sensors/alone/s99/rise_cycles",
        "evade writes no 's99' in .*; did you mean 's9'",
    ),
    "an attack on a copy by fewer than the most questions": (
        "certified-error",
        "extraction/by_queries/queries-100/transfer_rise_cycles",
        "evade does not write extraction/by_queries/queries-100/transfer_rise_cycles",
    ),
    "a trigger of poison without one": (
        "poison-unnoticed-trigger",
        "attacks/prolonged-history/share-0.1/undefended/trigger_success_share",
        "poison does not write attacks/prolonged-history/share-0.1/undefended/trigger_success_share",
    ),
    "an ε that train does not certify": (
        "accuracy-as-built",
        "plain/certified/eps-0.37/rmse_cycles",
        "train writes no 'eps-0.37' in .*; did you mean 'eps-0.",
    ),
    "a share that is not poisoned": (
        "poison-unnoticed-trigger",
        "attacks/backdoor/share-0.99/after_screening/trigger_success_share",
        r"poison writes no 'share-0\.99' in .*; did you mean 'share-",
    ),
}


@pytest.mark.parametrize("defect", sorted(UNWRITTEN))
def test_a_gate_on_a_key_that_the_shipped_threats_do_not_try_is_refused(defect: str) -> None:
    name, measure, message = UNWRITTEN[defect]
    gates = parse(Gates, changed(name, measure=measure), "policy/gates.yaml")  # the form is right
    with pytest.raises(
        ConfigError, match=f"^policy/gates.yaml: gate {name}: .*{message.partition(': ')[2] or message}"
    ):
        refuse_unwritten(gates, Threats.load(THREATS))


FAMILY_LACKS = {
    "a median's certificate of a mean": ("evade", "median_certificate/liars-1/rmse_cycles", "robust", "certified"),
    "a baseline record": ("evade", "commissioned/clean/rmse_cycles", "accurate", "robust"),
    "the same below a key": ("evade", "guard_aware/eps-0.1/commissioned/rise_cycles", "certified", "robust"),
    "the same as the builder measures it": ("train", "commissioned/test/rmse_cycles", "accurate", "robust"),
    "its intervals": ("train", "intervals/commissioned/width_cycles", "certified", "robust"),
}


@pytest.mark.parametrize("case", sorted(FAMILY_LACKS))
def test_a_gate_asked_of_a_family_that_does_not_write_its_measure_is_refused(case: str) -> None:
    stage, measure, asked, having = FAMILY_LACKS[case]
    own = {"evidence": stage, "measure": measure, "families": [having]}
    refuse_unwritten(parse(Gates, changed("one-liar", **own), "policy/gates.yaml"), Threats.load(THREATS))
    gates = parse(Gates, changed("one-liar", **own | {"families": [having, asked]}), "policy/gates.yaml")
    message = f"{stage} does not write {measure} for a model of the family '{asked}'; write families: .{having}.$"
    with pytest.raises(ConfigError, match=message):
        refuse_unwritten(gates, Threats.load(THREATS))


VALIDATE = {
    "a channel of another asset": ("drift_psi/s2", "PSI", "pump", "validate writes no 's2' in drift_psi/s2"),
    "a rule that there is not": ("findings_by_rule/ranges", "findings", "pump", "writes no 'ranges' .* mean 'range'"),
}


@pytest.mark.parametrize("case", sorted(VALIDATE))
def test_a_gate_on_what_validation_does_not_count_is_refused(case: str) -> None:
    measure, unit, asset, message = VALIDATE[case]
    value = changed("quarantined-units", measure=measure, unit=unit, at_most=None, assets={asset: {"at_most": 0.2}})
    gates = parse(Gates, value, "policy/gates.yaml")
    with pytest.raises(ConfigError, match=message):
        refuse_unwritten(gates, Threats.load(THREATS))


def test_a_gate_on_a_channel_is_read_where_an_asset_of_the_gate_has_it() -> None:
    own = {"measure": "drift_psi/s2", "unit": "PSI", "at_most": None, "assets": {"turbofan": {"at_most": 0.2}}}
    refuse_unwritten(parse(Gates, changed("quarantined-units", **own), "policy/gates.yaml"), Threats.load(THREATS))


def test_a_gate_that_was_sound_is_refused_when_its_threat_is_taken_out_of_the_policy() -> None:
    threats = Threats.load(THREATS)
    fewer = tuple(t.model_copy(update={"epsilon_sigma": (0.05, 0.5)}) for t in threats.evasion)
    with pytest.raises(ConfigError, match=r"gate certified-error: evade writes no 'eps-0\.1'"):
        refuse_unwritten(load(Gates, GATES), threats.model_copy(update={"evasion": fewer}))
