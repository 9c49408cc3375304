"""Six operating regimes and more than one kind of damage, all the way: NASA's form of files to the twin's answer."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from twinseal.errors import DataError
from twinseal.guard.calibration import fit as fit_guard
from twinseal.prognostics.checkpoint import Model, read_model, write_model
from twinseal.prognostics.conformal import Intervals
from twinseal.prognostics.ensemble import Networks
from twinseal.prognostics.evaluation import estimates
from twinseal.prognostics.fitting import Recipe
from twinseal.prognostics.life_bounds import LifeBound
from twinseal.prognostics.metrics import rmse_cycles
from twinseal.prognostics.splitting import Split, SplitPolicy
from twinseal.prognostics.training import TrainParams, train
from twinseal.prognostics.windows import Prepared, PrepareParams, prepare
from twinseal.sources import cmapss
from twinseal.sources.cmapss import Cmapss, CmapssParams
from twinseal.sources.simulated import DEMAND, SENSORS, SETTINGS, Simulated, SimulatedParams
from twinseal.telemetry.contract import Contract
from twinseal.telemetry.fleet import Fleet
from twinseal.telemetry.validation import validate
from twinseal.twin.baseline_rows import take_first_rows
from twinseal.twin.runtime import Prediction, UnverifiedRuntime

pytestmark = pytest.mark.proof  # make check stays below 12 minutes

POLICY = Path(__file__).parents[2] / "policy" / "contract.yaml"
PARAMS = PrepareParams(window=50)
SPLIT = Split(SplitPolicy(validation_share=0.1), "7")
# The family `accurate`, small: how well the regimes are normalised shows without any defence.
TRAINING = TrainParams(family="accurate", accurate=Recipe(members=2, components=6, epochs=8, hidden=(32, 32)))
NAMES = dict(zip((DEMAND, *SENSORS, *SETTINGS), ("setting1", *(f"s{n}" for n in range(1, 17))), strict=True))


def pumps(asset: str) -> tuple[Fleet, Contract]:
    contract = Contract.load(POLICY, asset)
    params = SimulatedParams(units=70, seed=7, test_share=0.3, six_regimes=asset == "pump6")
    return Simulated(params, contract).read(), contract


def as_nasa_has_it(fleet: Fleet, folder: Path) -> None:
    """The three files of FD002, with what the pumps' sensors said in the engines' columns."""
    table = fleet.table.rename(columns=NAMES).astype({"cycle": int})
    fixed = {name: 1.0 for name in cmapss.CHANNELS if name not in NAMES.values()}
    table = table.assign(**fixed)
    for kind, part in (("train", table[~table["censored"]]), ("test", table[table["censored"]])):
        number = part["unit"].astype("category").cat.codes + 1
        columns = [part[name].map("{:.5f}".format) for name in cmapss.CHANNELS]
        lines = zip(number.astype(str), part["cycle"].astype(str), *columns, strict=True)
        (folder / f"{kind}_FD002.txt").write_text("".join(" ".join(line) + "  \n" for line in lines))
    left = table[table["censored"]].groupby("unit")["rul"].last()
    (folder / "RUL_FD002.txt").write_text("".join(f"{int(rul)} \n" for rul in left))


def engine_contract(pump6: Contract) -> Contract:
    """`turbofan_fd002`, with the bounds of what is really measured here."""
    known, engine = pump6.all_channels, Contract.load(POLICY, "turbofan_fd002").model_dump(mode="json")
    still = {"unit": "1", "minimum": 0.9, "maximum": 1.1, "max_change_per_cycle": 0.1, "used": False}
    for kind in ("settings", "sensors"):
        engine[kind] = dict.fromkeys(engine[kind], still)
    for pump, nasa in NAMES.items():
        engine["settings" if nasa == "setting1" else "sensors"][nasa] = known[pump].model_dump(mode="json")
    speeds = [[*point, 1.0, 1.0] for point in pump6.regimes.points] if pump6.regimes else []
    within = [0.005, 0.05, 0.05]
    return Contract.from_dict(
        engine | {"regimes": {"settings": ["setting1", "setting2", "setting3"], "within": within, "points": speeds}}
    )


def fitted(fleet: Fleet, contract: Contract) -> tuple[Networks, Prepared, float]:
    """Networks trained on a fleet, its windows, and their RMSE on the test windows."""
    prepared = prepare(fleet, contract, PARAMS, SPLIT)
    networks, _ = train(prepared, TRAINING)
    return networks, prepared, rmse_cycles(estimates(networks.plain, prepared.test), prepared.test.rul)


@pytest.fixture(scope="module")
def six(tmp_path_factory: pytest.TempPathFactory) -> tuple[Fleet, Contract, Networks, Prepared, float]:
    """Six regimes, read from files as FD002's, validated, prepared, trained."""
    folder = tmp_path_factory.mktemp("FD002")
    fleet, pump6 = pumps("pump6")
    as_nasa_has_it(fleet, folder)
    contract = engine_contract(pump6)
    read = Cmapss.open(folder, CmapssParams(subset="FD002"), contract).read()
    accepted = validate(read, contract, None, None).accepted
    assert len(fleet) == len(accepted)
    return accepted, contract, *fitted(accepted, contract)


@pytest.fixture(scope="module")
def model(six: tuple[Fleet, Contract, Networks, Prepared, float], tmp_path_factory: pytest.TempPathFactory) -> Model:
    _, contract, networks, prepared, _ = six
    guard = fit_guard(prepared.train.histories(), prepared.test.histories(), contract, prepared.normaliser.restore)
    intervals = {"plain": Intervals(coverage=0.9, edges=(), below=(9.0,), above=(9.0,), cap_cycles=125.0)}
    lives = {"plain": LifeBound(edges=(20.0,), margins=(10.0,), lives=20, false_lock_share=0.05, unknown_cycles=10.0)}
    model = Model(networks.to_inference(), contract, prepared.normaliser, "accurate", guard, intervals, lives)
    place = tmp_path_factory.mktemp("six") / "model"
    write_model(place, model)
    return read_model(place)


@pytest.mark.proof
def test_six_regimes_cost_less_than_a_third(six: tuple[Any, ...]) -> None:
    one, contract = pumps("pump")
    alone = fitted(one, contract)[-1]
    assert six[-1] <= 1.3 * alone


def rows_of(fleet: Fleet, contract: Contract, unit: str) -> list[dict[str, Any]]:
    table = fleet.table[fleet.table["unit"] == unit]
    return [dict(row) for row in table[["unit", "cycle", *contract.all_channels]].to_dict("records")]


def told(model: Model, rows: list[dict[str, Any]]) -> list[Prediction]:
    runtime = UnverifiedRuntime(model)
    return [runtime.predict(row | {"unit": "engine"}) for row in rows]


def test_the_twin_reads_raw_rows_as_training_did(six: tuple[Any, ...], model: Model) -> None:
    fleet, contract, networks, prepared, _ = six
    name = prepared.test.unit_names[0]
    rows = rows_of(fleet, contract, name)
    raw = np.array([[row[channel] for channel in contract.inputs] for row in rows])
    expected = np.clip(estimates(networks.plain, prepared.test.take([0])), 0, 125.0)
    assert model.predict(raw, len(rows)) == pytest.approx(float(expected[0]), abs=1e-3)
    assert told(model, rows)[-1].rul_cycles == pytest.approx(float(expected[0]), abs=10)


def test_the_twins_guard_is_quiet_about_changes_of_regime(six: tuple[Any, ...], model: Model) -> None:
    fleet, contract, _, prepared, _ = six
    answers = [a for name in prepared.test.unit_names for a in told(model, rows_of(fleet, contract, name))]
    alarms = np.mean([bool(answer.flagged) or answer.readings == "refused" for answer in answers])
    assert model.guard.measured_false_alarm_share == pytest.approx(alarms, abs=0.02)
    assert alarms < 0.05


def test_the_twins_guard_knows_a_leap_within_a_regime(six: tuple[Any, ...], model: Model) -> None:
    fleet, contract, _, prepared, _ = six
    rows = rows_of(fleet, contract, prepared.test.unit_names[0])
    nasa = NAMES["high_speed"]
    rows[-1][nasa] += 4.0  # less than between two regimes
    last = told(model, rows)[-1]
    assert nasa in last.flagged
    rows[-1][nasa] += 9.0  # and what no machine does in so few cycles, although the range allows it
    assert f"{nasa} (change)" in told(model, rows)[-1].advice


@pytest.mark.parametrize("setting", [0.9, float("nan"), None])
def test_a_row_at_no_operating_point_is_refused_and_the_next_one_is_not(
    six: tuple[Any, ...], model: Model, setting: Any
) -> None:
    fleet, contract, _, prepared, _ = six
    rows = rows_of(fleet, contract, prepared.test.unit_names[0])
    rows[40]["setting1"] = setting
    answers = told(model, rows[:42])
    assert ("refused", 0.0) == (answers[40].readings, answers[40].rul_cycles)
    assert "inspect now: rows: expected settings at an operating point" in answers[40].advice
    assert answers[41].readings != "refused"


def test_the_first_cycles_of_a_unit_are_judged_within_their_regimes(six: tuple[Any, ...]) -> None:
    fleet, contract, _, prepared, _ = six
    name = prepared.test.unit_names[0]
    rows = rows_of(fleet, contract, name)[:20]
    assert (20, len(contract.inputs)) == take_first_rows(rows, contract)[name].shape
    speeds = [row["setting1"] for row in rows]
    again = max(at for at in range(20) if speeds[at] in speeds[:at])
    rows[again][NAMES["high_speed"]] += 15.0
    with pytest.raises(DataError, match=rf"cycle {again + 1}: {NAMES['high_speed']}: .* within a regime, got"):
        take_first_rows(rows, contract)
    rows[3]["setting1"] = 0.9
    with pytest.raises(DataError, match="cycle 4: expected settings at an operating point"):
        take_first_rows(rows, contract)


def test_a_model_of_other_points_cannot_be_built(model: Model) -> None:
    contract = model.contract.to_dict()
    points = contract["regimes"]["points"]
    moved = Contract.from_dict(
        contract | {"regimes": contract["regimes"] | {"points": [[0.86, 1.0, 1.0], *points[1:]]}}
    )
    with pytest.raises(ValueError, match="expected a normaliser of the contract's regimes"):
        replace(model, contract=moved)
