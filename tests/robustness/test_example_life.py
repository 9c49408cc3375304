"""One unit's life under every attack of the policy, told to a real guard."""

from __future__ import annotations

import numpy as np
import pytest

from twinseal.measures.words import name_words
from twinseal.prognostics.checkpoint import Model
from twinseal.prognostics.ensemble import networks_of
from twinseal.prognostics.evaluation import estimates
from twinseal.prognostics.windows import Prepared
from twinseal.robustness.attack import Testbed
from twinseal.robustness.example_life import LifeRow, example_lives, median_unit, raise_estimates
from twinseal.robustness.histories import Histories
from twinseal.robustness.threats import Threats


@pytest.fixture(scope="session")
def rows(testbed: Testbed) -> list[LifeRow]:
    return list(example_lives(testbed))


def test_the_channels_of_each_kind_of_attacker_are_those_of_the_fleet(testbed: Testbed) -> None:
    names = {kind: {testbed.model.channels[i] for i in held} for kind, held in testbed.channels.items()}
    assert {"three": {"heat", "hum"}, "informative": {"heat", "hum"}, "first": names["first"]} == names
    assert 1 == len(names["first"]) and names["first"] < {"heat", "hum"}


def test_the_unit_shown_has_the_median_error() -> None:
    units = np.array([3, 3, 5, 5, 9])
    assert median_unit(units, np.array([1.0, 3.0, 50.0, 60.0, 7.0])) == 9


def test_of_two_in_the_middle_the_lower_is_shown() -> None:
    assert median_unit(np.array([0, 1, 2, 3]), np.array([4.0, 1.0, 3.0, 2.0])) == 3


def test_every_threat_to_histories_tells_the_same_life(rows: list[LifeRow], threats: Threats) -> None:
    attacks = list(dict.fromkeys(row.attack for row in rows))
    scenarios = [threat.name for threat in threats.scenarios]
    asked = ["no attack", threats.evasion[0].name, threats.injection.name, *scenarios, threats.adaptive.name]
    assert list(map(name_words, asked)) == [attack.split(",")[0] for attack in attacks]
    cycles = [[row.cycle for row in rows if row.attack == attack] for attack in attacks]
    assert all(cycles[0] == other for other in cycles)
    assert {1} == {len({row.unit for row in rows})}


def test_without_an_attack_it_is_what_the_network_says_of_the_windows(
    rows: list[LifeRow], model: Model, prepared: Prepared
) -> None:
    honest = [row for row in rows if row.attack == "no attack"]
    windows = prepared.validation
    of_unit = windows.take(windows.units == windows.unit_names.index(honest[0].unit))
    expected = np.clip(estimates(networks_of(model.inference).plain, of_unit), 0, model.rul_cap_cycles)
    np.testing.assert_allclose(expected, [row.network for row in honest], atol=1e-3)
    assert of_unit.rul.tolist() == [row.true_rul for row in honest]


def test_replayed_rows_make_the_unguarded_twin_call_a_failing_machine_younger(rows: list[LifeRow]) -> None:
    last = {attack: [row for row in rows if row.attack == attack][-1] for attack in ("no attack", "replay")}
    assert last["replay"].network > last["no attack"].network + 10


def test_a_life_told_healthier_throughout_is_within_its_budget_and_higher(model: Model, prepared: Prepared) -> None:
    history = Histories.of(prepared.validation)
    honest = history.rows[0]
    told = raise_estimates(model, honest, 0.2)
    assert float(np.abs(told - honest).max()) <= 0.2 * (1 + 1e-5)
    said = [np.mean([model.answer(r[:n].astype(np.float32), n) for n in range(20, len(r), 10)]) for r in (honest, told)]
    assert said[1] > said[0] + 0.5
