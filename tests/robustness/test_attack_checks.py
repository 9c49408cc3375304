from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from twinseal.measures.robustness import CheckName
from twinseal.prognostics.evaluation_set import EvaluationSet
from twinseal.prognostics.windows import Windows
from twinseal.robustness import attack_checks
from twinseal.robustness.attack_checks import NOISE, AttackRuns, Run, damage, flags
from twinseal.robustness.threats import Sanity

LIMITS = Sanity(noise_draws=1, least_effect_cycles=0.01, most_zero_gradients_share=0.1)
TRUTH = np.array([20.0, 40.0, 60.0, 80.0], dtype=np.float32)
RISE = {"fgm": 50.0, "pgd": 60.0, "square": 40.0, NOISE: 10.0}  # cycles for each σ


def run(attack: str, aim: str, epsilon: float, rise: float | None = None, change: float | None = None) -> Run:
    estimates = TRUTH + np.float32(RISE[attack] * epsilon if rise is None else rise)
    return Run("t", attack, aim, epsilon, estimates, epsilon if change is None else change)


def attack_runs(*instead: Run, flat: int = 0) -> AttackRuns:
    """Attacks as they should be, those in `instead` replacing their own kind."""
    runs = {(r.attack, r.aim, r.epsilon_sigma): r for r in _healthy()} | {
        (r.attack, r.aim, r.epsilon_sigma): r for r in instead
    }
    rows, count = np.zeros((4, 1), dtype=np.float32), np.arange(4)
    windows = Windows(
        rows=rows,
        regimes=np.zeros(4, dtype=np.int64),
        ends=count + 1,
        rul=TRUTH,
        cycles=count + 1,
        units=count,
        baselines=rows,
        unit_names=("a", "b", "c", "d"),
        window=1,
    )
    evaluation_set = EvaluationSet(windows, 4)
    bounds = {e: (TRUTH - np.float32(100 * e), TRUTH + np.float32(100 * e)) for e in (0.1, 0.2)}
    return AttackRuns(
        evaluation_set, TRUTH.copy(), tuple(runs.values()), bounds, np.arange(4) < flat, TRUTH.copy(), (0.1, 5.0, 5.2)
    )


def _healthy() -> list[Run]:
    return [run(attack, aim, e) for e in (0.1, 0.2) for aim in ("any", "healthy-washing") for attack in RISE]


def test_attacks_that_work_raise_no_flag() -> None:
    assert () == flags(attack_runs(), LIMITS)


def test_damage_is_what_the_aim_wants() -> None:
    down = run("pgd", "any", 0.1, rise=-9.0)
    assert 9.0 == pytest.approx(damage(down, attack_runs()))
    assert -9.0 == pytest.approx(damage(dataclasses.replace(down, aim="healthy-washing"), attack_runs()))


FLAGS = {
    "attack-without-effect": (
        [run("pgd", "healthy-washing", 0.1, rise=0.001), run(NOISE, "healthy-washing", 0.1, 0.0)]
    ),
    "no-growth": [run("pgd", "any", 0.1, rise=9.0), run("pgd", "any", 0.2, rise=8.9), run("fgm", "any", 0.2, 8.8)],
    "weaker-than-noise": [run(NOISE, "healthy-washing", 0.2, rise=15.0)],
    "one-step-beats-many": [run("fgm", "any", 0.2, rise=15.0)],
    "black-box-beats-white": [run("square", "any", 0.2, rise=12.5)],
    "over-budget": [run("pgd", "any", 0.1, change=0.101)],
    "outside-certificate": [run("pgd", "any", 0.2, rise=20.5)],
}


@pytest.mark.parametrize("name", sorted(FLAGS))
def test_each_doubt_is_flagged_by_its_name(name: str) -> None:
    raised = flags(attack_runs(*FLAGS[name]), LIMITS)
    assert name in {flag.name for flag in raised}
    flag = next(flag for flag in raised if flag.name == name)
    assert any(flag.about == f"{r.name}/eps-{r.epsilon_sigma:g}" for r in attack_runs(*FLAGS[name]).runs)


@pytest.mark.parametrize("name", ["one-step-beats-many", "over-budget", "outside-certificate", "black-box-beats-white"])
def test_a_doubt_raises_no_other(name: str) -> None:
    assert {name} == {flag.name for flag in flags(attack_runs(*FLAGS[name]), LIMITS)}


def stuck(count: int, *, room: float = 100.0, share: float = 0.1) -> set[str]:
    """What is flagged when `count` of four flat windows stay where they are at the largest budget."""
    whole = attack_runs(flat=4)
    held = np.arange(4) < count
    runs = tuple(
        dataclasses.replace(r, estimates=np.where(held & (r.epsilon_sigma == 0.2), TRUTH, r.estimates))
        if r.attack != NOISE  # which may move them: the attacks did not
        else r
        for r in whole.runs
    )
    bounds = whole.bounds | {0.2: (TRUTH - np.float32(room), TRUTH + np.float32(room))}
    limits = LIMITS.model_copy(update={"most_zero_gradients_share": share})
    return {flag.name for flag in flags(dataclasses.replace(whole, runs=runs, bounds=bounds), limits)}


def test_flat_windows_that_nothing_moves_are_flagged_above_the_share() -> None:
    assert "zero-gradients" in stuck(1)
    assert "zero-gradients" not in stuck(1, share=0.25)
    assert "zero-gradients" not in stuck(0)


def test_flat_windows_that_the_certificate_holds_in_place_are_no_doubt() -> None:
    assert "zero-gradients" not in stuck(4, room=0.001)


def test_an_estimate_on_its_bound_is_within_it() -> None:
    assert () == flags(attack_runs(run("pgd", "any", 0.2, rise=20.0)), LIMITS)


def test_a_budget_without_bounds_is_refused() -> None:
    whole = attack_runs()
    with pytest.raises(ValueError, match=r"bounds: expected some at ε 0.2, got \[0.1\]"):
        flags(dataclasses.replace(whole, bounds={0.1: whole.bounds[0.1]}), LIMITS)


def test_more_steps_that_still_gain_are_flagged() -> None:
    slow = dataclasses.replace(attack_runs(), longer=(0.1, 5.0, 6.0))
    assert {"not-converged"} == {flag.name for flag in flags(slow, LIMITS)}


def test_an_answer_that_changes_is_flagged() -> None:
    fickle = dataclasses.replace(attack_runs(), again=TRUTH + np.float32(0.5))
    assert {"random-output"} == {flag.name for flag in flags(fickle, LIMITS)}


def test_every_flag_stands_in_the_documents_with_when_why_and_what_to_do() -> None:
    raised = set(re.findall(r'Flag\(\s*"([a-z-]+)"', Path(attack_checks.__file__).read_text()))
    page = (Path(__file__).parents[2] / "docs" / "robustness" / "method.md").read_text()
    told: dict[str, list[str]] = {}
    for head in ("| flag | raised if", "| flag | what it means"):
        for line in page.partition(head)[2].partition("\n\n")[0].splitlines()[2:]:
            name, *cells = line.strip("| ").split(" | ")
            told.setdefault(name, []).extend(cells)
    assert raised == set(told) == set(get_args(CheckName))
    assert set(FLAGS) <= raised
    assert {3} == {len(cells) for cells in told.values()}
    assert all(len(cell) > 4 for cells in told.values() for cell in cells)
