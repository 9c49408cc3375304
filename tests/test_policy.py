"""The shipped policy as a whole: every gate names a measure that a stage writes under the shipped threats."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from twinseal.assurance.gates import Gates, check_keys
from twinseal.config import load, parse, read_yaml
from twinseal.errors import ConfigError
from twinseal.measures.quantity import resolve
from twinseal.measures.stages import STAGES
from twinseal.robustness.attacks import poisoning
from twinseal.robustness.battery import writable_keys
from twinseal.robustness.threats import Threats

GATES, THREATS = (Path(__file__).parents[1] / "policy" / name for name in ("gates.yaml", "threats.yaml"))


def refuse_unwritten(gates: Gates, threats: Threats) -> None:
    """As the stage that judges does before it looks at a number."""
    check_keys(
        gates, {"evade": writable_keys(threats), "poison": poisoning.keys(threats)}, threats.assets, "policy/gates.yaml"
    )


def changed(gate: str, **changes: Any) -> dict[str, Any]:
    """policy/gates.yaml as plain data, one gate of it changed."""
    value = copy.deepcopy(read_yaml(GATES))
    next(item for item in value["gates"] if item["name"] == gate).update(changes)
    return value


def test_every_gate_of_the_shipped_policy_names_a_measure_that_is_written() -> None:
    gates, threats = load(Gates, GATES), Threats.load(THREATS)
    refuse_unwritten(gates, threats)
    for gate in gates.gates:
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
    "a group": ({"measure": "evasion/certified/eps-0.1"}, "no stage writes the measure 'evasion/certified/eps-0.1'"),
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


def test_a_gate_that_was_sound_is_refused_when_its_threat_is_taken_out_of_the_policy() -> None:
    threats = Threats.load(THREATS)
    fewer = tuple(t.model_copy(update={"epsilon_sigma": (0.05, 0.5)}) for t in threats.evasion)
    with pytest.raises(ConfigError, match=r"gate certified-error: evade writes no 'eps-0\.1'"):
        refuse_unwritten(load(Gates, GATES), threats.model_copy(update={"evasion": fewer}))
