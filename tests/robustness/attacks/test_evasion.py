from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, get_args

import numpy as np
import pytest
import torch

from twinseal.digests import canonical_json
from twinseal.measures.quantity import read
from twinseal.measures.robustness import AttackMeasures, CheckName, EvasionMeasures, RobustnessMeasures
from twinseal.prognostics.checkpoint import Model
from twinseal.prognostics.ensemble import Ensemble, Networks, networks_of
from twinseal.prognostics.evaluation_set import EvaluationSet
from twinseal.prognostics.network import RulNetwork
from twinseal.prognostics.windows import Prepared
from twinseal.robustness.attack import Testbed
from twinseal.robustness.attack_checks import AttackRuns, Flag, flags
from twinseal.robustness.attacks import boosted_trees
from twinseal.robustness.attacks.evasion import (
    attack_all,
    budgets,
    curve,
    evade,
    measure_runs,
    run_commissioned,
    run_plain,
    worst_at,
)
from twinseal.robustness.threats import Threats


def test_every_attack_aim_and_budget_of_the_policy_is_run(runs: AttackRuns, threats: Threats) -> None:
    ran = [(r.threat, r.attack, r.aim, r.epsilon_sigma) for r in runs.runs]
    asked = {
        (t.name, attack, aim, epsilon)
        for t in threats.evasion
        for attack in (*t.attacks, *(["noise"] if t.name == "all-sensors" else []))
        for aim in t.aims
        for epsilon in t.epsilon_sigma
    }
    assert asked == set(ran)
    assert len(asked) == len(ran)


def test_every_run_is_measured_under_its_own_keys(evasion: EvasionMeasures, runs: AttackRuns) -> None:
    measured = {name: found.rmse_cycles for name, found in attacks(evasion).items()}
    expected = {(r.threat, r.attack, r.aim, r.epsilon_sigma): r.estimates for r in runs.runs}
    assert {
        (*name, f"eps-{epsilon:g}"): runs.evaluation_set.rmse_cycles(estimates)
        for (*name, epsilon), estimates in expected.items()
    } == measured


def attacks(measures: EvasionMeasures) -> dict[tuple[str, ...], AttackMeasures]:
    """By threat, attack, aim and key of the ε."""
    return {
        (threat, attack, aim, key): found
        for threat, by_attack in measures.attacks.items()
        for attack, by_aim in by_attack.items()
        for aim, by_epsilon in by_aim.items()
        for key, found in by_epsilon.items()
    }


def test_a_network_trained_as_ours_raises_no_doubt(runs: AttackRuns, threats: Threats) -> None:
    assert () == flags(runs, threats.sanity)


def test_the_numbers_are_ordered_as_they_must_be(evasion: EvasionMeasures, runs: AttackRuns) -> None:
    """Clean <= each attack <= worst <= certified, at every ε, and more with more ε."""
    before = evasion.clean.rmse_cycles
    assert [f"eps-{epsilon:g}" for epsilon in budgets(runs)] == list(evasion.worst) == list(evasion.certified)
    for key, worst in evasion.worst.items():
        tried = [found.rmse_cycles for name, found in attacks(evasion).items() if name[-1] == key]
        assert before < worst.rmse_cycles
        assert max(tried) <= worst.rmse_cycles + 1e-6
        assert worst.rmse_cycles <= evasion.certified[key].rmse_cycles
        before = worst.rmse_cycles


def test_the_worst_case_is_taken_window_by_window(evasion: EvasionMeasures, runs: AttackRuns) -> None:
    epsilon = budgets(runs)[-1]
    tried = np.stack([runs.clean, *(r.estimates for r in runs.runs if r.epsilon_sigma == epsilon)])
    errors = np.abs(tried - runs.evaluation_set.truth).max(axis=0)[: runs.evaluation_set.tested].astype(np.float64)
    assert float(np.sqrt(np.mean(errors**2))) == pytest.approx(worst_at(runs, epsilon).rmse_cycles, rel=1e-6)
    assert worst_at(runs, epsilon) == evasion.worst[f"eps-{epsilon:g}"]


def test_a_budget_that_was_not_tried_has_no_worst_case(runs: AttackRuns) -> None:
    with pytest.raises(ValueError, match=r"ε 9: expected one of"):
        worst_at(runs, 9.0)


def test_the_measures_are_json_without_nan(evasion: EvasionMeasures, runs: AttackRuns) -> None:
    assert canonical_json(evasion.to_dict())
    assert evasion == read(EvasionMeasures, evasion.to_dict(), "evade")
    assert (0, ()) == (evasion.flags.raised, evasion.flags.details)
    assert dict.fromkeys(get_args(CheckName), 0) == evasion.flags.by_check
    assert int(runs.evaluation_set.failing.sum()) == evasion.clean.failing_windows
    assert runs.evaluation_set.tested == evasion.clean.windows


def test_flags_are_counted_by_check_and_told_one_by_one(runs: AttackRuns) -> None:
    found = tuple(Flag("no-growth", f"all-sensors/pgd/any/eps-{e}", "9 cycles after 10") for e in (0.1, 0.25))
    measured = measure_runs(runs, (*found, Flag("zero-gradients", "network", "12.0% of the windows"))).flags
    assert (3, 2, 1) == (measured.raised, measured.by_check["no-growth"], measured.by_check["zero-gradients"])
    assert measured.raised == sum(measured.by_check.values())
    assert "no-growth: all-sensors/pgd/any/eps-0.25: 9 cycles after 10" == measured.details[1]


def test_the_curve_begins_at_the_clean_network_and_has_a_row_for_each_budget(
    evasion: EvasionMeasures, runs: AttackRuns, testbed: Testbed, make_threats: Callable[..., Threats]
) -> None:
    own = testbed.threats.attacks
    short = {"boosted_trees": own["boosted_trees"] | {"rounds": 10, "queries": 10, "steps": 1}}
    quick = replace(testbed, threats=testbed.threats.model_copy(update={"attacks": own | short}))
    trees = boosted_trees.run(quick)
    rows = curve(RobustnessMeasures.model_construct(evasion=evasion, boosted_trees=trees))
    assert [0.0, *budgets(runs)] == [row["epsilon_sigma"] for row in rows]
    boosted = "gradient boosting, attacked"
    assert {evasion.clean.rmse_cycles} == {v for k, v in rows[0].items() if k not in ("epsilon_sigma", boosted)}
    assert trees.clean.rmse_cycles == rows[0][boosted]
    assert {"worst attack", "certified bound", "all-sensors pgd any"} <= set(rows[0])
    assert {tuple(sorted({*rows[0]} - {boosted}))} == {tuple(sorted({*row} - {boosted})) for row in rows}
    by_key = {f"eps-{row['epsilon_sigma']:g}": row for row in rows[1:]}
    for key, row in by_key.items():
        assert row["worst attack"] == evasion.worst[key].rmse_cycles
        assert row["certified bound"] == evasion.certified[key].rmse_cycles
        assert row["all-sensors pgd any"] == evasion.attacks["all-sensors"]["pgd"]["any"][key].rmse_cycles
    assert {key: found.rmse_cycles for key, found in trees.worst.items()} == {
        key: row[boosted] for key, row in by_key.items() if boosted in row
    }


def test_the_same_attack_twice_gives_the_same_numbers_for_both_networks(
    model: Model, prepared: Prepared, make_threats: Callable[..., Threats]
) -> None:
    """In one process or two: see test_battery."""
    first, again = (Testbed(model, prepared, make_threats(evasion=SHORT)) for _ in range(2))
    assert run_plain(first) == run_plain(again)
    assert run_commissioned(first) == run_commissioned(again)
    assert run_plain(first) != run_commissioned(first)


def test_a_model_without_a_network_that_reads_baselines_has_nothing_commissioned(testbed: Testbed) -> None:
    plain = Networks.of(networks_of(testbed.model.inference).plain)
    model = replace(
        testbed.model,
        inference=plain.to_inference(),
        intervals={"plain": testbed.model.intervals["plain"]},
        life_bounds={"plain": testbed.model.life_bounds["plain"]},
    )
    assert run_commissioned(replace(testbed, model=model)) is None


def test_a_baseline_in_the_attackers_hand_costs_something(testbed: Testbed) -> None:
    short = testbed.threats.model_copy(update={"evasion": testbed.threats.evasion[1:2]})
    attacked = replace(testbed, threats=short)
    plain, commissioned = run_plain(attacked), run_commissioned(attacked)
    assert plain.certified_baseline_moved is None
    assert "certified_baseline_moved" not in plain.to_dict()
    assert commissioned is not None and commissioned.certified_baseline_moved
    assert set(commissioned.certified) == set(commissioned.certified_baseline_moved)
    for epsilon, harm in commissioned.certified_baseline_moved.items():
        assert commissioned.certified[epsilon].rmse_cycles < harm.rmse_cycles


@dataclass(frozen=True)
class Attacked:
    """One network under the battery: every run, the doubts, the measures."""

    runs: AttackRuns
    flags: tuple[Flag, ...]
    measures: EvasionMeasures


def attacked(network: RulNetwork, model: Model, prepared: Prepared, threats: Threats) -> Attacked:
    """The battery against one network, in place of the model's own."""
    ensemble = Ensemble.of([network])
    alone = replace(
        model,
        inference=Networks.of(ensemble).to_inference(),
        intervals={"plain": model.intervals["plain"]},
        life_bounds={"plain": model.life_bounds["plain"]},
    )
    runs = attack_all(ensemble, Testbed(alone, prepared, threats))
    found = flags(runs, threats.sanity)
    return Attacked(runs, found, measure_runs(runs, found))


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
    pgd = masked.measures.attacks["all-sensors"]["pgd"]["any"]
    assert ["eps-0.1", "eps-0.2"] == list(pgd)
    assert all(a.rmse_cycles < masked.measures.clean.rmse_cycles + 0.5 for a in pgd.values())
    assert {"attack-without-effect", "weaker-than-noise", "zero-gradients"} <= {flag.name for flag in masked.flags}


def test_a_flat_network_stops_pgd_but_not_its_smoothed_stand_in(
    network: Ensemble, model: Model, prepared: Prepared, make_threats: Callable[..., Threats]
) -> None:
    flat = flattened(network, prepared)
    both = [SHORT[0] | {"attacks": ["fgm", "pgd", "pgd-smoothed"], "epsilon_sigma": [0.2, 0.5]}]
    blind = attacked(flat, model, prepared, make_threats(evasion=[SHORT[0] | {"epsilon_sigma": [0.2, 0.5]}]))
    seeing = attacked(flat, model, prepared, make_threats(evasion=both))
    assert 1.0 == blind.measures.zero_gradients_share
    assert "zero-gradients" in {flag.name for flag in blind.flags}
    moved = {r.attack: float(np.abs(r.estimates - seeing.runs.clean).max()) for r in seeing.runs.runs}
    assert 0.0 == moved["fgm"] == moved["pgd"]
    assert moved["noise"] < moved["pgd-smoothed"]
    assert 3.0 < moved["pgd-smoothed"]


def test_a_certificate_that_an_attack_breaks_is_flagged(
    network: Ensemble, model: Model, prepared: Prepared, make_threats: Callable[..., Threats]
) -> None:
    boasting = attacked(disguised(Boasting, network), model, prepared, make_threats(evasion=SHORT))
    assert {"outside-certificate"} == {flag.name for flag in boasting.flags}


def test_evade_measures_what_every_run_gave_and_what_was_doubted(
    network: Ensemble, model: Model, prepared: Prepared, make_threats: Callable[..., Threats]
) -> None:
    testbed = Testbed(model, prepared, make_threats(evasion=SHORT))
    boasting = Ensemble.of([disguised(Boasting, network)])
    runs = attack_all(boasting, testbed)
    expected = measure_runs(runs, flags(runs, testbed.threats.sanity))
    assert expected == evade(boasting, testbed)
    assert expected.flags.raised == expected.flags.by_check["outside-certificate"] > 0


def test_a_network_that_says_two_things_is_flagged(
    network: Ensemble, model: Model, prepared: Prepared, make_threats: Callable[..., Threats]
) -> None:
    fickle = attacked(disguised(Fickle, network), model, prepared, make_threats(evasion=SHORT))
    assert "random-output" in {flag.name for flag in fickle.flags}
