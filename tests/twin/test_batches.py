"""Laws: many rows at once are answered as one by one, and as a runtime with one guard and one window a unit did."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.guard.conftest import NAMES, as_given, contract_of, histories, life
from tests.twin.one_by_one import OneByOne, alike
from twinseal.errors import EvidenceError
from twinseal.guard import calibration
from twinseal.guard.parameters import GuardParams
from twinseal.prognostics.architecture import Architecture, EnsembleConfig, NetworkConfig
from twinseal.prognostics.checkpoint import Model
from twinseal.prognostics.conformal import Intervals
from twinseal.prognostics.ensemble import Networks
from twinseal.prognostics.life_bounds import LifeBound
from twinseal.prognostics.normaliser import Normaliser
from twinseal.telemetry.contract import Contract
from twinseal.twin import runtime
from twinseal.twin.rows import number_of, readings_of
from twinseal.twin.runtime import UnverifiedRuntime
from twinseal.twin.units_image import UnitsImage

Row = Any
MEANS, SPREADS, LOADS = np.array([0.0, 5.0]), np.array([1.0, 2.0]), (1.0, 9.0)
OLDEST, WINDOW, COMMISSIONED = 190, 30, ("a", "7")
UNITS = (
    "a",
    "b",
    " b ",
    7,
    "7",
    8.0,
    "ü",
    "u\u0308",
    "",
    None,
    1.5,
    True,
    ["x"],
    10**400,
    10**5000,
    *(f"unit {n}" for n in range(12)),
)
CYCLES = (None, "5", 0, -1, 1.5, math.nan, True, 2**31, 10**400, 10**6)
READINGS = (math.nan, math.inf, None, "1", True, 10**400, 99.0, 1e300, 3)


@pytest.fixture(scope="module")
def params() -> GuardParams:
    return calibration.fit(histories(range(30)), histories(range(30, 50)), contract_of(), as_given)


def build_model(params: GuardParams, aggregation: str, *, regimes: bool, commissioned: bool = True) -> Model:
    """Networks that nobody trained behind a guard that has learned; two operating points."""
    torch.manual_seed(3)
    told = contract_of().model_dump(mode="json") | {"min_cycles": 5, "rul_cap_cycles": 100.0}
    load = {"unit": "1", "minimum": 0.0, "maximum": 10.0, "max_change_per_cycle": 10.0, "used": False}
    told["settings"] = {"load": load}
    if regimes:
        told["regimes"] = {"settings": ["load"], "within": [0.5], "points": [[load] for load in LOADS]}
    count = 2 if regimes else 1
    points = np.array(LOADS)[:, None] if regimes else np.zeros((1, 0))
    spread = (np.repeat(side[:count, None], len(NAMES), axis=1) for side in (MEANS, SPREADS))
    sizes: dict[str, Any] = {"channels": len(NAMES), "window": WINDOW, "hidden": (8, 8), "rul_cap_cycles": 100.0}
    member = NetworkConfig.for_window(**sizes, oldest_cycles=OLDEST)
    reader = NetworkConfig.for_window(**sizes, oldest_cycles=OLDEST, baseline=True)
    ensembles = [EnsembleConfig(members=(one,) * 3, aggregation=aggregation) for one in (member, reader)]
    networks = Networks(Architecture(plain=ensembles[0], commissioned=ensembles[1] if commissioned else None))
    intervals = Intervals(coverage=0.9, edges=(50.0,), below=(5.0, 10.0), above=(5.0, 10.0), cap_cycles=100.0)
    modes = {"plain": intervals} | ({"commissioned": intervals} if commissioned else {})
    normaliser = Normaliser(*spread, points, np.full(int(regimes), 0.5))
    bound = LifeBound(edges=(20.0, 60.0), margins=(5.0, 20.0), lives=99, false_lock_share=0.01, unknown_cycles=15.0)
    bounds = dict.fromkeys(modes, bound)
    return Model(networks.to_inference(), Contract.from_dict(told), normaliser, "robust", params, modes, bounds)


@pytest.fixture(scope="module", params=["mean", "median", "one regime", "plain"])
def model(request: pytest.FixtureRequest, params: GuardParams) -> Model:
    regimes, commissioned = request.param != "one regime", request.param != "plain"
    aggregation = "median" if request.param == "median" else "mean"
    return build_model(params, aggregation, regimes=regimes, commissioned=commissioned)


def readings(rng: np.random.Generator, unit: int, cycle: int, *, biased: bool, points: int) -> dict[str, Any]:
    """A row of a machine, at an operating point; sometimes a wrong one, a wrong reading, or a manipulated sensor."""
    at = int(rng.integers(0, points))
    machine = life(unit)
    values = machine[min(cycle, len(machine) - 1)] * SPREADS[at] + MEANS[at]
    if biased and 20 < cycle % 60 < 45:
        values[unit % 5 : unit % 5 + 1 + unit % 3] += 3.0 * SPREADS[at]
    row = dict(zip(NAMES, values.tolist(), strict=True)) | {"load": LOADS[at]}
    if rng.random() < 0.03:
        row[str(rng.choice([*NAMES, "load"]))] = READINGS[rng.integers(len(READINGS))]
    if rng.random() < 0.01:
        row.pop(str(rng.choice([*NAMES, "load"])))
    return row


def stream(seed: int, count: int, points: int) -> list[Row]:
    """Rows of many units, in any order: with gaps, repeats, late and wild ones."""
    rng, cycles, rows = np.random.default_rng(seed), dict[int, int](), list[Row]()
    while len(rows) < count:
        place = int(rng.integers(0, len(UNITS)))
        cycle = cycles.get(place, 0) + int(rng.choice([1, 2, 5, 70], p=[0.96, 0.02, 0.015, 0.005]))
        row = {"unit": UNITS[place], "cycle": cycle} | readings(rng, place, cycle, biased=place % 2 == 0, points=points)
        chance = rng.random()
        if chance < 0.02:
            row["cycle"] = CYCLES[rng.integers(len(CYCLES))]
        elif chance < 0.03:
            row = [1, 2] if chance < 0.025 else {}
        else:
            cycles[place] = cycle
        rows.append(row)
        if chance > 0.96 and rows:  # as a broker sends it: again, or late, once or many times
            again = rows[-1 - int(rng.integers(0, min(len(rows), 20)))]
            rows.extend([again] * int(rng.choice([1, 13], p=[0.9, 0.1])))
    return rows[:count]


def parts(seed: int, rows: list[Row]) -> list[list[Row]]:
    rng, rest, found = np.random.default_rng(seed), list(rows), []
    while rest:
        size = int(rng.choice([1, 2, 7, 40, 300]))
        found.append(rest[:size])
        rest = rest[size:]
    return found


def first_rows() -> np.ndarray:
    return np.concatenate([np.full((20, 1), LOADS[0]), life(77)[:20]], axis=1)


def baselines_of(model: Model) -> dict[str, np.ndarray]:
    rows = first_rows() if model.normaliser.settings else first_rows()[:, 1:]
    return dict.fromkeys(COMMISSIONED, rows)


@settings(max_examples=3, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_many_rows_at_once_are_answered_as_by_one_guard_a_unit(model: Model, seed: int) -> None:
    rows, most = stream(seed, 900, len(model.normaliser.mean)), runtime.MAX_UNITS
    before, now = OneByOne(model, baselines_of(model), most), UnverifiedRuntime(model, baselines_of(model))
    expected = [before.predict(row) for row in rows]
    alike(expected, [answer for part in parts(seed, rows) for answer in now.predict_rows(part)])
    alike(before.predictions(), list(now.predictions()))


def test_the_rows_of_the_law_are_of_every_kind(model: Model) -> None:
    """Otherwise the law would say little."""
    answers = UnverifiedRuntime(model, baselines_of(model)).predict_rows(stream(4, 4_000, len(model.normaliser.mean)))
    advice = "\n".join(answer.advice for answer in answers)
    words = ["came again", "came after that of cycle", "expected a cycle after", "expected the name of a unit"]
    words += ["expected an age of at most", "fewer than 5", "check the sensor", "expected all channels to agree again"]
    words += ["expected at most 2 faulty", "maintain within"]
    words += ["at an operating point of the contract"] if model.normaliser.settings else []
    assert [] == [word for word in words if word not in advice]
    assert {"ok", "degraded", "refused"} == {answer.readings for answer in answers}
    modes = {True, False} if model.inference.commissioned is not None else {False}
    assert modes == {answer.commissioned for answer in answers if answer.readings != "refused"}


def test_one_row_is_answered_to_the_last_bit_as_before(model: Model) -> None:
    rows = stream(11, 600, len(model.normaliser.mean))
    before, now = OneByOne(model, baselines_of(model), 100), UnverifiedRuntime(model, baselines_of(model))
    assert [before.predict(row) for row in rows] == [now.predict(row) for row in rows]


@settings(max_examples=2, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_a_twin_goes_on_from_the_image_of_another_to_the_last_bit(model: Model, seed: int) -> None:
    rows = stream(seed, 900, len(model.normaliser.mean))
    before, after = (UnverifiedRuntime(model, baselines_of(model), keep_rows=True) for _ in range(2))
    before.predict_rows(rows[:500])
    after.restore(UnitsImage.from_bytes(before.image().to_bytes()))
    assert list(before.predictions()) == list(after.predictions())
    for part in parts(seed, rows[500:]):
        assert before.predict_rows(part) == after.predict_rows(part)
    assert before.image().to_bytes() == after.image().to_bytes()


def test_a_baseline_that_an_act_ended_is_used_no_longer(model: Model) -> None:
    rows, known = stream(11, 900, len(model.normaliser.mean)), baselines_of(model)
    runtime, reads_baselines = UnverifiedRuntime(model), model.inference.commissioned is not None
    for start, baselines in ((0, known), (300, {}), (600, known)):
        runtime.use(None, baselines)
        answers = [item for item in runtime.predict_rows(rows[start : start + 300]) if item.readings != "refused"]
        assert (bool(baselines) and reads_baselines) == any(item.commissioned for item in answers)


def test_another_model_goes_on_from_the_newest_rows_and_what_was_said(model: Model) -> None:
    """The same networks in its place: sound units are answered as before; whoever was said to be spent stays so."""
    rows = [
        {"unit": f"unit {place}", "cycle": cycle}
        | dict(zip(NAMES, (life(place)[cycle] * SPREADS[0] + MEANS[0]).tolist(), strict=True))
        | {"load": LOADS[0]}
        for cycle in range(1, 80)
        for place in range(6)
    ]
    before, after = UnverifiedRuntime(model, keep_rows=True), UnverifiedRuntime(model)
    before.predict_rows(rows[:-60])
    after.take_over(before)
    assert [item.cycle for item in before.predictions()] == [item.cycle for item in after.predictions()]
    for part in parts(3, rows[-60:]):
        old, new = before.predict_rows(part), after.predict_rows(part)
        assert [(item.unit, item.cycle, item.readings) for item in old] == [(i.unit, i.cycle, i.readings) for i in new]
        for one, other in zip(old, new, strict=True):
            assert other.rul_cycles <= one.rul_cycles + 1e-4


def test_an_image_of_another_model_or_a_damaged_one_is_refused(model: Model, params: GuardParams) -> None:
    before = UnverifiedRuntime(model)
    before.predict_rows(stream(5, 100, len(model.normaliser.mean)))
    image = before.image()
    for name in image.arrays:
        for change in (lambda array: array[:-1], lambda array: array.astype(np.float32), lambda array: None):
            arrays = {key: change(array) if key == name else array for key, array in image.arrays.items()}
            with pytest.raises(EvidenceError, match="expected"):
                UnverifiedRuntime(model).restore(
                    replace(image, arrays={k: v for k, v in arrays.items() if v is not None})
                )
    data = image.to_bytes()
    for damaged in (b"", data[:-1], data[:100], b"\x00" * 64):
        with pytest.raises(EvidenceError):
            UnverifiedRuntime(model).restore(UnitsImage.from_bytes(damaged))
    names = (image.texts.names[0], *image.texts.names[:-1])
    with pytest.raises(EvidenceError, match="each name once"):
        UnverifiedRuntime(model).restore(replace(image, texts=replace(image.texts, names=names)))


def test_rows_without_answers_leave_the_same_behind(model: Model) -> None:
    rows = stream(12, 600, len(model.normaliser.mean))
    told, stored = UnverifiedRuntime(model), UnverifiedRuntime(model)
    told.predict_rows(rows)
    for part in parts(12, rows):
        stored.add_rows(part)
    alike(list(told.predictions()), list(stored.predictions()))


def test_more_units_than_a_fleet_has_share_no_window(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "MAX_UNITS", 6)
    rows = stream(13, 500, len(model.normaliser.mean))
    before, now = OneByOne(model, {}, 6), UnverifiedRuntime(model)
    alike([before.predict(row) for row in rows], now.predict_rows(rows))
    alike(before.predictions(), list(now.predictions()))
    assert len(before.predictions()) <= 7


def test_readings_too_large_for_a_network_are_refused_one_by_one(params: GuardParams) -> None:
    """A contract that allows them: the other units of the batch are answered as before."""
    model = build_model(params, "mean", regimes=False)
    wide = {"unit": "K", "minimum": -1e300, "maximum": 1e300, "max_change_per_cycle": 1e300}
    blind = params.model_copy(update={"thresholds": tuple((1e305,) * len(NAMES) for _ in params.spans)})
    blind = blind.model_copy(update={"falls": (1e305,) * len(params.spans)})
    told = model.contract.model_dump(mode="json") | {"sensors": dict.fromkeys(NAMES, wide)}
    model = replace(model, contract=Contract.from_dict(told), guard=blind)
    rows = []
    for cycle, unit in itertools.product(range(1, 12), ("a", "b", "c")):
        values = life(3)[cycle] * (1e60 if unit == "b" and cycle == 9 else 1e37 if unit == "c" and cycle == 9 else 1.0)
        rows.append({"unit": unit, "cycle": cycle} | dict(zip(NAMES, values.tolist(), strict=True)))
    before = OneByOne(model, {}, 10)
    expected = [before.predict(row) for row in rows]
    alike(expected, UnverifiedRuntime(model).predict_rows(rows))
    advice = {answer.advice for answer in expected if answer.readings == "refused"}
    assert any("float32 can hold" in text for text in advice), advice


@given(cells=st.lists(st.sampled_from([*READINGS, 1.0, 2, -3.5, "x", np.float64(2.0), np.int64(4)]), max_size=8))
def test_readings_of_rows_are_the_numbers_of_their_cells(cells: list[Any]) -> None:
    rows = [{"c": cell} for cell in cells]
    expected = np.array([[number_of(cell), math.nan] for cell in cells]).reshape(len(cells), 2)
    np.testing.assert_array_equal(expected, readings_of(rows, ("c", "absent")))
