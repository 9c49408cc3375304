from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from twinseal.config import parse
from twinseal.errors import ConfigError
from twinseal.robustness.battery import check_own_threats
from twinseal.robustness.threats import Threats
from twinseal.telemetry.contract import Contract

POLICY = Path(__file__).parents[2] / "policy"


def test_the_shipped_threats_load_and_name_every_attacker_in_words() -> None:
    threats = Threats.load(POLICY / "threats.yaml")
    words = [t.attacker for t in (*threats.evasion, *threats.scenarios, *threats.poisoning)]
    others = (threats.sensors, threats.adaptive, threats.extraction, threats.injection)
    words += [t.attacker for t in others] + [entry["attacker"] for entry in threats.attacks.values()]
    assert [] == [text for text in words if len(text.split()) < 5]
    assert {"fgm", "bim", "pgd"} <= set(threats.evasion[0].attacks)
    assert {"any", "healthy-washing"} == set(threats.evasion[0].aims)


@pytest.mark.parametrize("asset", ["pump", "pump6", "turbofan", "turbofan_fd002", "turbofan_fd003"])
def test_the_shipped_attackers_hold_channels_that_the_network_reads(asset: str) -> None:
    contract, own = Contract.load(POLICY / "contract.yaml", asset), Threats.load(POLICY / "threats.yaml").asset(asset)
    held = {*own.injection.sensors, own.trigger.channel}
    assert set() == held - set(contract.channels)


def test_an_asset_without_an_entry_is_refused_not_skipped(threats: Threats) -> None:
    known = r"\['pump', 'pump6', 'toy', 'turbofan', 'turbofan_fd002', 'turbofan_fd003'\]"
    with pytest.raises(ConfigError, match=f"expected an entry for asset 'balloon', got {known}"):
        threats.asset("balloon")


DEFECTS: dict[str, tuple[tuple[Any, ...], Any, str]] = {
    "no attack": (("evasion", 0, "attacks"), [], "attacks: expected at least one"),
    "an attack twice": (("evasion", 0, "attacks"), ["fgm", "fgm"], "attacks: expected at least one, each once"),
    "an unknown attack": (
        ("evasion", 0, "attacks"),
        ["deepfool"],
        "input should be 'fgm', 'bim', 'pgd', 'pgd-smoothed'",
    ),
    "no aim": (("evasion", 0, "aims"), [], "aims: expected at least one"),
    "one budget": (("evasion", 0, "epsilon_sigma"), [0.1], "expected at least two budgets above 0, rising"),
    "a budget of zero": (("evasion", 0, "epsilon_sigma"), [0.0, 0.1], "budgets above 0, rising"),
    "budgets that fall": (("evasion", 0, "epsilon_sigma"), [0.2, 0.1], "budgets above 0, rising"),
    "no step": (("evasion", 0, "pgd_steps"), 0, "steps, restarts: expected at least 1"),
    "nobody attacks": (("evasion", 0, "attacker"), "", "expected a name and an attacker in words"),
    "no evasion": (("evasion",), [], "evasion: expected threats"),
    "a name that is no key": (("evasion", 0, "name"), "all: sensors", "string should match pattern"),
    "a scenario's name twice": (("scenarios", 1, "name"), "one-sensor", "scenarios: expected threats, each name once"),
    "no poisoning": (("poisoning",), [], "poisoning: expected threats"),
    "everyone poisoned": (("poisoning", 0, "shares"), [0.5, 1.0], "shares: expected at least one, rising, between 0"),
    "nobody poisoned": (("poisoning", 0, "shares"), [], "shares: expected at least one"),
    "no question": (("evasion", 1, "queries"), 1, "queries: expected at least 10"),
    "no start": (("evasion", 0, "restarts"), 0, "steps, restarts: expected at least 1"),
    "nobody owns a sensor": (("sensors", "most"), 0, "expected 1 to 16 sensors"),
    "a scenario of no rows": (("scenarios", 0, "rows"), 0, "expected at least one row"),
    "a shift of nothing": (("scenarios", 0, "sizes"), [0.0], "sizes: expected some above 0"),
    "no sensor": (("assets", "pump", "injection", "sensors"), [], "sensors: expected at least one"),
    "nothing injected": (("assets", "pump", "injection", "biased_percent"), 0.0, "expected biased > 0"),
    "least above most": (("assets", "pump", "injection", "random_percent"), [2.0, 1.0], "0 < least <= most"),
    "no cycles": (("assets", "pump", "injection", "interim_cycles"), 0, "cycles: expected at least 1"),
    "no direction": (("injection", "directions"), [], "directions: expected at least one"),
    "a trigger of nothing": (("assets", "pump", "trigger", "shift_sigma"), 0.0, "expected a shift other than 0"),
    "no epochs": (("retrain_epochs",), 0, "retrain_epochs >= 1"),
    "no noise": (("sanity", "noise_draws"), 0, "expected noise_draws >= 1"),
    "any gradient will do": (("sanity", "most_zero_gradients_share"), 1.0, "expected a share below 1"),
    "a typing error": (("sanity", "noise_draw"), 3, "unknown key; did you mean 'noise_draws'"),
    "not a number": (("evasion", 0, "epsilon_sigma"), [0.1, float("nan")], "epsilon_sigma"),
}


@pytest.mark.parametrize("defect", sorted(DEFECTS))
def test_a_policy_that_would_attack_nothing_is_refused(defect: str, shipped: dict[str, Any]) -> None:
    path, value, message = DEFECTS[defect]
    broken: Any = copy.deepcopy(shipped)
    parse(Threats, broken, "threats.yaml")
    place = broken
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    with pytest.raises(ConfigError, match=message):
        parse(Threats, broken, "threats.yaml")


TREES = "boosted_trees"


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({TREES: {"queries": 5}}, f"attacks: {TREES}: .*queries: expected at least 10"),
        ({TREES: {"query": 20}}, f"attacks: {TREES}: query: unknown key; did you mean 'queries'"),
        ({TREES: {"epsilon_sigma": [float("nan")]}}, f"attacks: {TREES}: epsilon_sigma"),
        ({TREES: None}, f"attacks: expected an entry for {TREES}, got"),
        ({"other": {}}, "attacks: expected one of .*, got other"),
    ],
)
def test_a_policy_without_an_allowed_entry_for_an_attack_is_refused(
    entries: dict[str, Any], message: str, shipped: dict[str, Any], threats: Threats
) -> None:
    own = {key: entry for key, entry in shipped["attacks"].items() if entries.get(key, {}) is not None}
    own |= {key: own.get(key, {}) | entry for key, entry in entries.items() if entry is not None}
    check_own_threats(threats)
    with pytest.raises(ConfigError, match=message):
        check_own_threats(threats.model_copy(update={"attacks": own}))
