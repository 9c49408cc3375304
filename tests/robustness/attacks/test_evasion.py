from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from twinseal.digests import canonical_json
from twinseal.prognostics.checkpoint import Model
from twinseal.prognostics.ensemble import Ensemble, Networks
from twinseal.prognostics.evaluation_set import EvaluationSet
from twinseal.prognostics.network import RulNetwork
from twinseal.prognostics.windows import Prepared
from twinseal.robustness.attacks.evasion import Evasion, evade
from twinseal.robustness.threats import Threats


def test_every_attack_aim_and_budget_of_the_policy_is_run(evasion: Evasion, threats: Threats) -> None:
    ran = [(r.threat, r.attack, r.aim, r.epsilon_sigma) for r in evasion.battery.runs]
    asked = {
        (t.name, attack, aim, epsilon)
        for t in threats.evasion
        for attack in (*t.attacks, *(["noise"] if t.name == "all-sensors" else []))
        for aim in t.aims
        for epsilon in t.epsilon_sigma
    }
    assert asked == set(ran)
    assert len(asked) == len(ran)


def test_a_network_trained_as_ours_raises_no_doubt(evasion: Evasion) -> None:
    assert () == evasion.flags


def test_the_numbers_are_ordered_as_they_must_be(evasion: Evasion) -> None:
    """Clean <= each attack <= worst <= certified, at every ε, and more with more ε."""
    measures = evasion.measures()
    before = measures["clean"]["rmse_cycles"]
    for epsilon in evasion.budgets:
        worst = measures["worst"][f"eps-{epsilon:g}"]["rmse_cycles"]
        attacks = [a["rmse_cycles"] for a in measures["attacks"] if a["epsilon_sigma"] == epsilon]
        assert before < worst
        assert max(attacks) <= worst + 1e-6
        assert worst <= measures["certified"][f"eps-{epsilon:g}"]["rmse_cycles"]
        before = worst


def test_the_worst_case_is_taken_window_by_window(evasion: Evasion) -> None:
    epsilon, battery = evasion.budgets[-1], evasion.battery
    tried = np.stack([battery.clean, *(r.estimates for r in battery.runs if r.epsilon_sigma == epsilon)])
    errors = (
        np.abs(tried - battery.evaluation_set.truth).max(axis=0)[: battery.evaluation_set.tested].astype(np.float64)
    )
    assert float(np.sqrt(np.mean(errors**2))) == pytest.approx(evasion.worst(epsilon)["rmse_cycles"], rel=1e-6)


def test_a_budget_that_was_not_tried_has_no_worst_case(evasion: Evasion) -> None:
    with pytest.raises(ValueError, match=r"ε 9: expected one of"):
        evasion.worst(9.0)


def test_the_measures_are_json_without_nan(evasion: Evasion) -> None:
    measures = evasion.measures()
    assert canonical_json(measures)
    assert {"raised": 0, "names": [], "details": []} == measures["flags"]
    assert int(evasion.battery.evaluation_set.failing.sum()) == measures["clean"]["failing_windows"]
    assert evasion.battery.evaluation_set.tested == measures["clean"]["windows"]


def test_the_curve_begins_at_the_clean_network_and_has_a_row_for_each_budget(evasion: Evasion) -> None:
    curve = evasion.curve()
    assert [0.0, *evasion.budgets] == [row["epsilon_sigma"] for row in curve]
    assert {evasion.measures()["clean"]["rmse_cycles"]} == {v for k, v in curve[0].items() if k != "epsilon_sigma"}
    assert {"rmse_cycles", "certified_rmse_cycles", "all-sensors/pgd/any"} <= set(curve[0])
    assert len({tuple(row) for row in curve}) == 1


def test_the_same_attack_twice_gives_the_same_numbers_in_one_process_or_two(
    model: Model, prepared: Prepared, make_threats: Callable[..., Threats]
) -> None:
    threats = make_threats(evasion=SHORT)
    one, two = (evade(model, prepared, threats, workers=workers) for workers in (1, 2))
    assert ["plain", "commissioned"] == list(one)
    assert {mode: found.measures() for mode, found in one.items()} == {m: f.measures() for m, f in two.items()}


def test_a_baseline_in_the_attackers_hand_costs_something(model: Model, prepared: Prepared, threats: Threats) -> None:
    short = threats.model_copy(update={"evasion": threats.evasion[1:2]})
    found = evade(model, prepared, short)
    assert "certified_baseline_moved" not in found["plain"].measures()
    measures = found["commissioned"].measures()
    for epsilon, harm in measures["certified_baseline_moved"].items():
        assert measures["certified"][epsilon]["rmse_cycles"] < harm["rmse_cycles"]


def attacked(network: RulNetwork, model: Model, prepared: Prepared, threats: Threats) -> Evasion:
    """The battery against one network, in place of the model's own."""
    alone = replace(model, networks=Networks.of(Ensemble.of([network])), intervals={"plain": model.intervals["plain"]})
    return evade(alone, prepared, threats)["plain"]


class Rounded(RulNetwork):
    """A network whose gradient is gone: its answers come in steps of a cycle."""

    def forward(self, windows: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        exact = super().forward(windows, context)
        return exact.detach().round() + 0.0 * exact


class Boasting(RulNetwork):
    """A network whose certificates promise more than it keeps."""

    def bounds(self, *reach: Any) -> tuple[torch.Tensor, torch.Tensor]:
        low, high = super().bounds(*reach)
        return low + 0.45 * (high - low), high - 0.45 * (high - low)


class Fickle(RulNetwork):
    """A network that never says the same thing twice."""

    def forward(self, windows: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        return super().forward(windows, context) + torch.rand(len(windows))


def flattened(network: Ensemble, prepared: Prepared) -> RulNetwork:
    """The network without a leak, every unit of its last hidden layer just off on every clean window."""
    own = network.networks[0]
    other = RulNetwork(own.config.model_copy(update={"leak": 0.0}))
    other.load_state_dict(own.state_dict())
    other, windows = other.eval().requires_grad_(False), EvaluationSet.of(prepared).windows
    features = other.features(torch.from_numpy(windows.batch()), torch.from_numpy(windows.context()))
    hidden = (features - other.feature_mean) / other.feature_std
    before, last = list(other.layers)[:-2], other.layers[-2]
    for layer in before:
        hidden = torch.relu(layer(hidden))
    last.bias -= last(hidden).max(dim=0).values + 0.01  # type: ignore[operator]
    return other


def disguised(kind: type[RulNetwork], network: Ensemble) -> RulNetwork:
    other = kind(network.networks[0].config)
    other.load_state_dict(network.networks[0].state_dict())
    return other.eval().requires_grad_(False)


SHORT = [
    {
        "name": "all-sensors",
        "attacker": "somebody between the sensors and the twin",
        "attacks": ["fgm", "pgd"],
        "aims": ["any", "healthy-washing"],
        "epsilon_sigma": [0.1, 0.2],
        "bim_steps": 2,
        "pgd_steps": 5,
    }
]


def test_masked_gradients_look_robust_and_are_flagged(
    network: Ensemble, model: Model, prepared: Prepared, make_threats: Callable[..., Threats]
) -> None:
    """The attack on a masked network does nothing, which would pass any gate on its numbers; the doubts say why."""
    masked = attacked(disguised(Rounded, network), model, prepared, make_threats(evasion=SHORT))
    pgd = [a for a in masked.measures()["attacks"] if (a["name"], a["aim"]) == ("pgd", "any")]
    assert all(a["rmse_cycles"] < masked.measures()["clean"]["rmse_cycles"] + 0.5 for a in pgd)
    assert {"attack-without-effect", "weaker-than-noise", "zero-gradients"} <= {flag.name for flag in masked.flags}


def test_a_flat_network_stops_pgd_but_not_its_smoothed_stand_in(
    network: Ensemble, model: Model, prepared: Prepared, make_threats: Callable[..., Threats]
) -> None:
    flat = flattened(network, prepared)
    both = [SHORT[0] | {"attacks": ["fgm", "pgd", "pgd-smoothed"], "epsilon_sigma": [0.2, 0.5]}]
    blind = attacked(flat, model, prepared, make_threats(evasion=[SHORT[0] | {"epsilon_sigma": [0.2, 0.5]}]))
    seeing = attacked(flat, model, prepared, make_threats(evasion=both))
    assert 1.0 == blind.measures()["zero_gradients_share"]
    assert "zero-gradients" in {flag.name for flag in blind.flags}
    moved = {r.attack: float(np.abs(r.estimates - seeing.battery.clean).max()) for r in seeing.battery.runs}
    assert 0.0 == moved["fgm"] == moved["pgd"]
    assert moved["noise"] < moved["pgd-smoothed"]
    assert 3.0 < moved["pgd-smoothed"]


def test_a_certificate_that_an_attack_breaks_is_flagged(
    network: Ensemble, model: Model, prepared: Prepared, make_threats: Callable[..., Threats]
) -> None:
    boasting = attacked(disguised(Boasting, network), model, prepared, make_threats(evasion=SHORT))
    assert {"outside-certificate"} == {flag.name for flag in boasting.flags}


def test_a_network_that_says_two_things_is_flagged(
    network: Ensemble, model: Model, prepared: Prepared, make_threats: Callable[..., Threats]
) -> None:
    fickle = attacked(disguised(Fickle, network), model, prepared, make_threats(evasion=SHORT))
    assert "random-output" in {flag.name for flag in fickle.flags}
