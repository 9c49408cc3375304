"""The simulated fleet: centrifugal pumps of NASA's ProgPy, run until they fail. The only module that imports progpy.

Physics: Daigle and Goebel, "Model-based Prognostics with Concurrent Damage Progression Processes", IEEE Trans. SMC:
Systems 43(3), 2013: impeller wear, friction in the thrust and radial bearings, three heat balances, motor torque by
slip. One cycle is a mission of 120 s: 60 s at low speed, then 60 s at high speed. Seven measurements are taken at the
end of each phase. Every pump has all three kinds of damage; one of them is fast. The wear of each mission, the ambient
temperature and the supply voltage are random, and so are small differences between the pumps.

With `six_regimes` each mission has one of six speeds. Each speed is an operating regime in which every sensor has its
own level (the discharge pressure is that of a tank of fixed height). The wear is the same.

The histories of some pumps are cut before the failure (censored), like those of the test engines of C-MAPSS.

Rules: all randomness comes from the seed; values are rounded before they are hashed; a pump that does not fail, or a
value that is not a number, is an error.

    >>> len(CHANNELS)
    16
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pandas as pd

from twinseal.errors import ConfigError, DataError
from twinseal.evidence import Subject
from twinseal.sources.source import SourceParams
from twinseal.telemetry.contract import Contract
from twinseal.telemetry.fleet import Fleet

Array = npt.NDArray[np.float64]

PHASE_STEPS = 60  # s, at one step a second
BURN_IN_MISSIONS = 60  # 7,200 s without wear: otherwise the warm-up of the oil would reveal the age
MAX_CYCLES = 2_000

# Supply voltage and synchronous speed in proportion (V/f control). 376.8 rad/s, never 376.991…: a slip of 0 gives NaN.
LOW = {"V": 376.99, "pdisch": 600_000.0, "psuc": 239_179.0, "wsync": 301.44}
HIGH = {"V": 471.24, "pdisch": 928_654.0, "psuc": 239_179.0, "wsync": 376.8}

# Wear rate × cycles to failure, when this damage is alone. Measured with this mission at 290 K, once, on ProgPy 1.9.
WEAR_TO_FAILURE = {"wA": 3.0, "wThrust": 7.0e-8, "wRadial": 1.1e-7}

# Standard deviation of a reading, and the decimals that such an instrument shows.
READINGS = {
    "speed": (0.15, 2),  # rad/s
    "flow": (0.0004, 5),  # m³/s
    "thrust_temperature": (0.4, 2),  # K
    "radial_temperature": (0.4, 2),  # K
    "oil_temperature": (0.3, 2),  # K
    "torque": (1.0, 2),  # N·m
    "pressure": (6.0, 1),  # kPa
}
SETTINGS = ("ambient_temperature", "supply_voltage")
SENSORS = tuple(f"{phase}_{reading}" for phase in ("low", "high") for reading in READINGS)
CHANNELS = (*SETTINGS, *SENSORS)

SPEEDS = (0.88, 0.91, 0.94, 0.97, 1.0, 1.03)  # of the nominal one: the six regimes
DEMAND = "speed_demand"
REGIME_CHANNELS = (*SETTINGS, DEMAND, *SENSORS)


class SimulatedParams(SourceParams):
    """What an experimenter may change.

    Attributes:
        units: Pumps in the fleet.
        seed: The same seed gives the same fleet.
        test_share: Share of the pumps whose history is cut before the failure.
        life_cycles: Range of the life in cycles that the fast damage alone would give, on average.
        six_regimes: Whether each mission has one of six speeds, at random; otherwise all have the nominal speed.

    Raises:
        ValueError: A number is out of range.
    """

    reads_files: ClassVar[bool] = False

    units: int = 150
    seed: int = 7
    test_share: float = 0.2
    life_cycles: tuple[int, int] = (145, 255)
    six_regimes: bool = False

    def model_post_init(self, _context: Any, /) -> None:
        """Refuse a fleet that cannot be simulated."""
        if not 2 <= self.units <= 5_000 or self.seed < 0 or not 0 <= self.test_share < 1:
            raise ValueError("expected 2 to 5000 units, a seed >= 0 and a test_share in [0, 1)")
        if not 60 <= self.life_cycles[0] <= self.life_cycles[1] <= 600:
            raise ValueError(f"life_cycles: expected two numbers, rising, in 60 … 600, got {self.life_cycles}")

    def open(self, path: Path, contract: Contract) -> Simulated:  # noqa: ARG002 - it reads no file
        """The simulated fleet; `path` is not used."""
        return Simulated(self, contract)


@dataclass(frozen=True)
class Simulated:
    """The simulated fleet as a source of telemetry."""

    params: SimulatedParams
    contract: Contract

    def read(self) -> Fleet:
        """The fleet: the same params, the same values.

        Raises:
            ConfigError: The contract is for another asset.
            DataError: The physics gave a value that is not a number.
        """
        if tuple(self.contract.all_channels) != (REGIME_CHANNELS if self.params.six_regimes else CHANNELS):
            asset = "pump6" if self.params.six_regimes else "pump"
            raise ConfigError(
                f"data.asset: expected an asset with the channels of the simulated pump, got '{self.contract.asset}'",
                remedy=f"Set data.asset to {asset} (six speeds: data.simulated.six_regimes), "
                "or data.source to where the telemetry of this asset is.",
            )
        return simulate(self.params, min_history=self.contract.min_cycles)

    def remarks(self) -> tuple[str, ...]:
        """None."""
        return ()

    def mapping(self) -> None:
        """None: it reads no file."""

    def origin(self) -> tuple[Subject, ...]:
        """Nothing: a simulated fleet comes from its params and this code."""
        return ()


def simulate(params: SimulatedParams, *, min_history: int = 30) -> Fleet:
    """Run every pump to its failure and cut the histories of the test pumps.

    Args:
        params: How many pumps, from which seed.
        min_history: The fewest cycles that a cut history keeps.

    Raises:
        DataError: The physics gave a value that is not a number, or a pump never fails.
    """
    rng = np.random.default_rng(params.seed)
    table = pd.concat(_simulate_missions(rng, params), ignore_index=True).sort_values(
        ["pump", "cycle"], ignore_index=True
    )
    last = table.groupby("pump")["cycle"].transform("max")
    table["rul"] = last - table["cycle"]
    ends = _cut_points(rng, params, table.groupby("pump")["cycle"].max().to_numpy(), min_history)
    table["censored"] = (ends > 0)[table["pump"]]
    table = table[table["rul"].to_numpy() >= ends[table["pump"]]]
    unit = [f"pump-{number + 1:03d}" for number in table["pump"]]
    return Fleet.of(table.drop(columns="pump").assign(unit=unit))


def _cut_points(
    rng: np.random.Generator, params: SimulatedParams, lives: npt.NDArray[Any], keep: int
) -> npt.NDArray[Any]:
    """Remaining life at which each history is cut, (units,) int; 0 if it runs to the failure.

    Uniform in 5 … 145 cycles before the failure, if the history stays long enough: like the test engines of FD001
    (7 … 145).
    """
    ends = np.zeros(params.units, dtype=np.int64)
    for pump in rng.permutation(params.units)[: round(params.units * params.test_share)]:
        longest = min(145, int(lives[pump]) - keep)
        if longest < 5:
            raise DataError(f"simulated pump {pump + 1}: expected a life of {keep + 5} cycles or more to cut it")
        ends[pump] = rng.integers(5, longest + 1)
    return ends


def _simulate_missions(rng: np.random.Generator, params: SimulatedParams) -> Iterator[pd.DataFrame]:
    """One frame for each cycle, with a row for each running pump, up to and including the cycle in which it fails."""
    # ProgPy turns a batch of one into scalars: a spare pump without wear, the last one, runs to the end.
    pumps = params.units + 1
    model, state = _model_and_state(rng, pumps)
    wear = np.column_stack([_wear_rates(rng, params), np.zeros(3)])
    alive, ambient_offset = np.arange(pumps), np.zeros(pumps)
    for cycle in range(1, MAX_CYCLES + 1):
        ambient_offset = 0.95 * ambient_offset + rng.normal(0.0, 0.6, pumps)  # K, slow: a standard deviation of 2
        voltage = rng.normal(1.0, 0.004, pumps)
        wear_noise = rng.lognormal(-0.045, 0.3, (3, pumps))  # a mean of 1
        noise = rng.standard_normal((len(SENSORS), pumps))
        speed = rng.choice(SPEEDS, pumps) if params.six_regimes else np.ones(pumps)
        for name, rate, spread in zip(WEAR_TO_FAILURE, wear, wear_noise, strict=True):
            model.parameters[name] = (rate * spread)[alive]
        ambient = 290.0 + ambient_offset[alive]
        state, readings = _run_mission(model, state, ambient, voltage[alive], speed[alive])
        settings = {"ambient_temperature": ambient.round(2), "supply_voltage": (HIGH["V"] * voltage[alive]).round(1)}
        settings |= {DEMAND: speed[alive]} if params.six_regimes else {}
        yield pd.DataFrame(
            {"pump": alive, "cycle": cycle, **settings, **_with_sensor_noise(readings, noise[:, alive])}
        )[:-1]
        failed = np.any(list(model.threshold_met(state).values()), axis=0)
        state, alive = model.StateContainer(state.matrix[:, ~failed]), alive[~failed]
        if len(alive) == 1:
            return
    raise DataError(
        f"simulated fleet: expected every pump to fail within {MAX_CYCLES} cycles, got {len(alive) - 1} left"
    )


def _model_and_state(rng: np.random.Generator, units: int) -> tuple[Any, Any]:
    """The model, and the state of all pumps after the burn-in, one column for each pump."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # progpy's own invalid escape sequences, when Python compiles it
        from progpy.models.centrifugal_pump import (  # noqa: PLC0415 - seconds, and only this source needs it
            CentrifugalPumpBase,
        )
    # ProgPy's own noise would come from numpy's global seed.
    model = CentrifugalPumpBase(process_noise=0, measurement_noise=0)
    one = model.initialize({**HIGH, "Tamb": 290.0})
    state = model.StateContainer(np.repeat(one.matrix, units, axis=1))
    for name, spread in (("A", 0.003), ("rThrust", 0.04), ("rRadial", 0.04)):
        state[name] = state[name] * np.exp(rng.normal(0.0, spread, units))
    for name in WEAR_TO_FAILURE:
        model.parameters[name] = np.zeros(units)
    for _ in range(BURN_IN_MISSIONS):
        state, _ = _run_mission(model, state, np.full(units, 290.0), np.ones(units), np.ones(units))
    return model, state


def _wear_rates(rng: np.random.Generator, params: SimulatedParams) -> Array:
    """Mean wear per cycle of each damage, (3, units): one is fast, the other two are three to six times slower."""
    life = rng.uniform(*params.life_cycles, params.units)
    slower = rng.uniform(3.0, 6.0, (3, params.units))
    slower[rng.integers(0, 3, params.units), np.arange(params.units)] = 1.0
    return np.array(list(WEAR_TO_FAILURE.values()))[:, None] / (life * slower)


def _run_mission(model: Any, state: Any, ambient: Array, voltage: Array, speed: Array) -> tuple[Any, dict[str, Array]]:
    """Run one mission; each pump runs at its share of the nominal speed.

    Returns:
        The state after it, and the true readings at the end of each phase, (pumps,) each.
    """
    readings: dict[str, Array] = {}
    for phase, load in (("low", LOW), ("high", HIGH)):
        # psuc and pdisch stay scalars: ProgPy's leak flow does not take arrays.
        inputs = {**load, "Tamb": ambient, "V": load["V"] * voltage * speed, "wsync": load["wsync"] * speed}
        for _ in range(PHASE_STEPS):
            state = model.next_state(state, inputs, 1.0)
        readings |= {f"{phase}_{name}": value for name, value in _true_readings(model, state, inputs).items()}
    if not np.isfinite(state.matrix).all():
        raise DataError("simulated fleet: expected numbers from the physics, got NaN or an infinity")
    return state, readings


def _true_readings(model: Any, state: Any, inputs: Mapping[str, Any]) -> dict[str, Array]:
    """Readings without noise: five states, and torque and pressure from the model's own equations."""
    constant = model.parameters
    slip = np.clip((inputs["wsync"] - state["w"]) / inputs["wsync"], -1.0, 1.0)
    impedance = (constant["R1"] + constant["R2"] / slip) ** 2 + (inputs["wsync"] * constant["L1"]) ** 2
    torque = constant["n"] * constant["p"] * constant["R2"] / (slip * inputs["wsync"]) * inputs["V"] ** 2 / impedance
    pressure = state["A"] * state["w"] ** 2 + constant["b"] * state["w"] * state["Q"]  # Pa
    return {
        "speed": state["w"],
        "flow": np.maximum(0.0, state["Q"] - state["QLeak"]),
        "thrust_temperature": state["Tt"],
        "radial_temperature": state["Tr"],
        "oil_temperature": state["To"],
        "torque": torque,
        "pressure": pressure / 1_000,
    }


def _with_sensor_noise(readings: Mapping[str, Array], noise: Array) -> dict[str, Array]:
    """Readings with noise, rounded: the last bits of a float differ between machines, and the digest must not."""
    observed = {}
    for (name, value), draw in zip(readings.items(), noise, strict=True):
        sigma, decimals = READINGS[name.split("_", 1)[1]]
        observed[name] = (value + sigma * draw).round(decimals)
    return observed
