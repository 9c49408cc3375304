"""A grid's fleet of transformers, simulated, and written as a plant would export it.

    python docs/examples/transformer/simulate.py OUT --units 300 --seed 7

OUT/export/T001.csv, T002.csv, …: one row a day, of the 24 hours before its time stamp: mean load and air, highest
temperature of the oil, and at the time stamp gases and water in oil, and the laboratory's last 2-FAL. Semicolons,
decimal commas, Windows-1252, local time of Berlin, and the word Bad for no value. OUT/failures.csv: which transformer
was taken out, and when; the others were running when the export was made. With --plain, OUT/transformers.csv instead:
UTF-8, commas, decimal points, one row a week, and the true remaining weeks, which only a simulation knows.

Each day: load and air → oil and hot-spot temperature → ageing of the paper → what a monitor and a laboratory see. A
transformer is at its end when its paper's degree of polymerisation (DP) is 200: a short circuit in the grid would then
tear it. Nobody can measure DP without taking the transformer apart, so it is in no file.

The fleet ages fast: loaded near and above its rating, with moist paper, it has records of 2 to 10 years before its end.
No factor makes time run faster: by the same equations dry paper that is always at 98 °C lasts 18 years; at 60 % load it
outlasts everything else in the transformer.

Simplified, and chosen by us: weather, load, spread of the units, how much gas and water each broken chain gives, and
how fast gases leave the oil. The gases end in the ranges that IEC 60599 calls typical of transformers in service. Every
day has 24 hours, the paper is as moist everywhere, and nobody processes the oil.

The equations and their sources are in physics.py. Water that enters with the air: CIGRE brochure 349, Moisture
equilibrium and moisture migration within transformer insulation systems (2008).
"""

from __future__ import annotations

import argparse
import math
import shutil
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

# The file beside this one.
from physics import (
    DP_AT_END,
    RATED_GRADIENT,
    RATED_OIL_RISE,
    WHOLE_LIFE,
    Array,
    arrhenius,
    chains_broken,
    furfural,
    lagged,
    relative_ageing,
    temperatures,
    water_in_oil,
)

FIRST_DAY = pd.Timestamp("2014-01-06 06:00")
LAST_DAY = pd.Timestamp("2024-12-31 06:00")
STARTS_WITHIN_DAYS = 6 * 365  # the monitors were not installed all at once
HORIZON_DAYS = 12 * 365
DAYS_A_CYCLE = 7  # of --plain
SAMPLE_DAYS = 91  # between two oil samples for the laboratory


class Column(NamedTuple):
    """A column of the export: its channel with --plain, its digits, and the σ of its noise."""

    channel: str
    decimals: int
    relative: float  # σ by the value
    absolute: float  # σ in the unit of the column


COLUMNS = {
    "Last [%]": Column("load", 1, 0.0, 0.5),
    "Umgebung [°C]": Column("ambient_temperature", 1, 0.0, 0.3),
    "Öltemperatur [°C]": Column("oil_temperature", 1, 0.0, 0.5),
    "H2 [ppm]": Column("hydrogen", 1, 0.03, 1.0),
    "CO [ppm]": Column("carbon_monoxide", 0, 0.03, 5.0),
    "CO2 [ppm]": Column("carbon_dioxide", 0, 0.03, 30.0),
    "Wasser [ppm]": Column("water", 1, 0.03, 0.5),
    "2-FAL [ppm]": Column("furfural", 3, 0.06, 0.003),
}
MONITORED = ("H2 [ppm]", "CO [ppm]", "CO2 [ppm]", "Wasser [ppm]")  # in the oil, by one monitor
STAMP = "%d.%m.%Y %H:%M"


@dataclass(frozen=True)
class Unit:
    """One transformer: where it stands, how it was built, how it is loaded, and how old its paper is."""

    name: str
    start_day: int  # after FIRST_DAY: its first record
    oil_rise: float  # K
    gradient: float  # K
    warmer: float  # K; than the air of the region: a cellar or a walled yard
    load: float  # mean K in the first year
    growth: float  # of the load, a year
    industry: bool  # loaded by day and from Monday to Friday; else by households
    dp: float  # at the first record
    water: float  # % of the paper's weight, at the first record
    sealed: bool  # a membrane keeps air off the oil; else it breathes
    furfural: float  # its 2-FAL by the mean of other units: ratio of paper to oil, kind of oil
    gauges: Array  # what its monitor shows of MONITORED, by the truth

    @classmethod
    def draw(cls, name: str, rng: np.random.Generator) -> Unit:
        """Another transformer."""
        return cls(
            name=name,
            start_day=int(rng.integers(STARTS_WITHIN_DAYS)),
            oil_rise=rng.normal(RATED_OIL_RISE, 1.2),
            gradient=rng.normal(RATED_GRADIENT, 1.0),
            warmer=rng.choice([0.0, 1.5, 3.0]),
            load=rng.uniform(0.81, 0.86),
            growth=rng.uniform(0.004, 0.014),
            industry=bool(rng.random() < 0.4),
            dp=rng.uniform(750, 950),
            water=rng.uniform(1.4, 1.9),
            sealed=bool(rng.random() < 0.5),
            furfural=np.exp(rng.normal(0, 0.12)),
            gauges=np.exp(rng.normal(0, 0.04, 4)),
        )


def weather(rng: np.random.Generator, days: int) -> Array:
    """The air of the region in each hour, °C: season, hour, and a deviation that lasts for some days."""
    hours = np.arange(days * 24)
    season = 10.0 - 9.5 * np.cos(2 * np.pi * (hours / 24 - 15) / 365.25)
    hour = -4.0 * np.cos(2 * np.pi * (hours + 6 - 3) / 24)
    return season + hour + np.repeat(persistent(rng, days, 3.5, 0.75), 24)


def persistent(rng: np.random.Generator, length: int, sigma: float, memory: float) -> Array:
    """Noise that keeps the share `memory` of its value from one step to the next."""
    steps = rng.normal(0, sigma * np.sqrt((1 + memory) / (1 - memory)), length)
    steps[0] *= np.sqrt((1 - memory) / (1 + memory))
    return pd.Series(steps).ewm(alpha=1 - memory, adjust=False).mean().to_numpy()


def loading(unit: Unit, rng: np.random.Generator, days: int) -> Array:
    """K in each hour: growth, season, day of the week, hour, noise, and times when a neighbour's load comes over."""
    day = np.arange(days)
    season = 1 + 0.06 * np.cos(2 * np.pi * (day - 20) / 365.25)
    of_week = (unit.start_day + day) % 7
    weekend = np.where(of_week >= 5, 0.72 if unit.industry else 0.96, 1.08 if unit.industry else 1.016)
    takeover = np.zeros(days)
    for first in np.flatnonzero(rng.random(days) < 2 / 365):
        takeover[first : first + rng.integers(2, 12)] = rng.uniform(0.05, 0.15)
    daily = (1 + unit.growth * day / 365.25) * season * weekend * (1 + persistent(rng, days, 0.03, 0.8)) + takeover
    hour = (np.arange(24) + 6) % 24
    if unit.industry:
        shape = 1 + 0.18 * np.cos(2 * np.pi * (hour - 13) / 24)
    else:
        shape = 1 + 0.15 * np.cos(2 * np.pi * (hour - 17) / 24) + 0.07 * np.cos(2 * np.pi * (hour - 8) / 12)
    return np.clip(unit.load * (daily[:, None] * shape).ravel(), 0.1, 1.5)


@dataclass(frozen=True)
class Life:
    """What one transformer did until its end or the horizon, each day; arrays are (days,) and float64.

    Attributes:
        unit: The transformer.
        measured: Column of the export → values.
        dp: Degree of polymerisation at the end of the day; it is in no file.
        ageing: Mean relative ageing rate of the day; it is in no file.
        ends: The paper reached its end in the last day.
    """

    unit: Unit
    measured: dict[str, Array]
    dp: Array
    ageing: Array
    ends: bool

    @property
    def first(self) -> pd.Timestamp:
        """The time of the first record."""
        return FIRST_DAY + pd.Timedelta(days=self.unit.start_day)

    @property
    def recorded(self) -> int:
        """Days in the export; the others come after it was made."""
        return min(len(self.dp), (LAST_DAY - FIRST_DAY).days + 1 - self.unit.start_day)

    @property
    def failed(self) -> bool:
        """The transformer reached its end before the export was made."""
        return self.ends and self.recorded == len(self.dp)


def simulate_unit(unit: Unit, air: Array, rng: np.random.Generator) -> Life:
    """The life of one transformer in this air (°C, each hour from its first record)."""
    days = len(air) // 24
    load, ambient = loading(unit, rng, days), air + unit.warmer
    oil, hot_spot = temperatures(load, ambient, unit.oil_rise, unit.gradient)
    by_day = {"load": load, "ambient": ambient, "oil": oil, "boltzmann": arrhenius(hot_spot)}
    mean = {name: values.reshape(days, 24).mean(axis=1) for name, values in by_day.items()}
    dp, water, gases = age(unit, 24 * mean["boltzmann"], mean["oil"])
    end = int(np.searchsorted(-dp, -DP_AT_END)) + 1  # dp only falls
    true = {
        "Last [%]": 100 * mean["load"],
        "Umgebung [°C]": mean["ambient"],
        "Öltemperatur [°C]": oil.reshape(days, 24).max(axis=1),
        **gases,
        "Wasser [ppm]": water_in_oil(water, lagged(mean["oil"], 5.0, 1.0)),  # the balance lags five days behind
        "2-FAL [ppm]": unit.furfural * furfural(dp),
    }
    ageing = relative_ageing(hot_spot).reshape(days, 24).mean(axis=1)
    measured = measure(unit, {name: values[:end] for name, values in true.items()}, rng)
    return Life(unit, measured, dp[:end], ageing[:end], end <= days)


def age(unit: Unit, boltzmann_hours: Array, oil: Array) -> tuple[Array, Array, dict[str, Array]]:
    """DP, moisture of the paper (%), and gases in oil (ppm) at the end of each day.

    Broken chains give water, and water breaks chains. Each gas comes from broken chains and from warm oil, and leaves
    the oil of a transformer that breathes.
    """
    days = len(oil)
    broken, water = np.empty(days), np.empty(days)
    inverse, moisture = 1 / unit.dp, unit.water
    oxygen = 1.0 if unit.sealed else 1.3  # air makes paper age faster [IEC]; how much, chosen by us
    ingress = (0.04 if unit.sealed else 0.2) / 365  # % a day [CIGRE]
    for day in range(days):
        broken[day] = oxygen * chains_broken(moisture, boltzmann_hours[day])
        inverse += broken[day]
        moisture = min(moisture + ingress + 0.6 * broken[day] / WHOLE_LIFE, 4.0)
        water[day] = moisture
    warm = 2.0 ** ((oil - 60) / 10)
    gases = {
        # ppm of a whole life, ppm a day from oil at 60 °C, days until a share 1 − 1/e has left (sealed, breathing)
        "H2 [ppm]": (40.0, 0.25, (300.0, 90.0)),
        "CO [ppm]": (700.0, 0.10, (2500.0, 700.0)),
        "CO2 [ppm]": (8000.0, 0.60, (4000.0, 1000.0)),
    }
    # 1/DP came to its value over years; the gases of those years are in the oil at the first record.
    before = (1 / unit.dp - 1 / 1000) / WHOLE_LIFE
    found = {}
    for name, (of_life, of_day, leaves) in gases.items():
        stays = leaves[0] if unit.sealed else leaves[1]
        rate = of_life * broken / WHOLE_LIFE + of_day * warm
        start = of_life * before + stays * of_day * 0.5
        fades = np.exp(-np.arange(1, days + 1) / stays)
        found[name] = start * fades + lagged(np.concatenate([[0.0], stays * rate]), stays, 1.0)[1:]
    return 1 / (1 / unit.dp + np.cumsum(broken)), water, found


def measure(unit: Unit, true: dict[str, Array], rng: np.random.Generator) -> dict[str, Array]:
    """What monitor and laboratory show; NaN where they showed nothing."""
    days = len(true["Last [%]"])
    gauges = dict(zip(MONITORED, unit.gauges, strict=True))
    shown = {}
    for name, column in COLUMNS.items():
        value = true[name] * gauges.get(name, 1.0)
        value = value + rng.normal(0, 1, days) * np.hypot(column.relative * value, column.absolute)
        if name == "2-FAL [ppm]":
            value = value[np.arange(days) // SAMPLE_DAYS * SAMPLE_DAYS]  # the last sample counts until the next
        if not name.endswith("[°C]"):
            value = np.maximum(value, 0.0)
        shown[name] = np.where(rng.random(days) < 0.001, np.nan, value)
    for first in np.flatnonzero(rng.random(days) < 1 / 500):  # the monitor is silent for some days
        for name in MONITORED:
            shown[name][first : first + 3] = np.nan
    return shown


def simulate(units: int, seed: int) -> list[Life]:
    """The lives of a fleet. A unit is the same in a larger fleet of the same seed."""
    air = weather(np.random.default_rng([seed, 0]), STARTS_WITHIN_DAYS + HORIZON_DAYS)
    lives = []
    for number in range(1, units + 1):
        rng = np.random.default_rng([seed, number])
        unit = Unit.draw(f"T{number:03}", rng)
        lives.append(simulate_unit(unit, air[24 * unit.start_day :][: 24 * HORIZON_DAYS], rng))
    return lives


def exported(life: Life) -> str:
    """The file of one transformer, as the plant exports it."""
    cells = [pd.date_range(life.first, periods=life.recorded).strftime(STAMP).tolist()]
    for name, column in COLUMNS.items():
        cells.append(written(life.measured[name][: life.recorded], column.decimals, missing="Bad", decimal=","))
    return table(["Zeit", *COLUMNS], cells, separator=";", end="\r\n")


def failures(lives: list[Life]) -> str:
    """The file of those that reached their end: some hours after their last record."""
    failed = [life for life in lives if life.failed]
    ends = [life.first + pd.Timedelta(days=life.recorded - 1, hours=1 + life.recorded % 12) for life in failed]
    cells = [[life.unit.name for life in failed], [end.strftime(STAMP) for end in ends]]
    return table(["Transformator", "Ausfall"], cells, separator=";", end="\r\n")


def plain(lives: list[Life]) -> str:
    """One table of all: weekly means, cycles from 1, and the true remaining weeks; empty if beyond the horizon."""
    rows: list[tuple[str, ...]] = []
    for life in lives:
        weeks, in_all = life.recorded // DAYS_A_CYCLE, len(life.dp) // DAYS_A_CYCLE
        cycles = np.arange(1, weeks + 1)
        cells = [[life.unit.name] * weeks, written(cycles, 0)]
        for name, column in COLUMNS.items():
            by_week = pd.DataFrame(life.measured[name][: weeks * DAYS_A_CYCLE].reshape(weeks, DAYS_A_CYCLE))
            cells.append(written(by_week.mean(axis=1).to_numpy(), column.decimals + 1))
        cells.append(written(in_all - cycles if life.ends else np.full(weeks, np.nan), 0))
        rows += zip(*cells, strict=True)
    header = ["unit", "cycle", *(column.channel for column in COLUMNS.values()), "rul"]
    return table(header, list(zip(*rows, strict=True)), separator=",", end="\n")


def written(values: Array, decimals: int, missing: str = "", decimal: str = ".") -> list[str]:
    """Each value with so many decimals."""
    return [
        missing if math.isnan(value) else f"{value:.{decimals}f}".replace(".", decimal) for value in values.tolist()
    ]


def table(header: list[str], columns: Sequence[Iterable[str]], separator: str, end: str) -> str:
    """The text of a file of these columns."""
    rows = [header, *zip(*columns, strict=True)]
    return "".join(separator.join(row) + end for row in rows)


def write(out: Path, lives: list[Life], as_plain: bool) -> None:
    """Write the files of the fleet to `out`, all or none: into a folder beside it that is then renamed."""
    files = (
        {Path("transformers.csv"): plain(lives).encode()}
        if as_plain
        else {
            Path("failures.csv"): failures(lives).encode("cp1252"),
            **{Path("export", f"{life.unit.name}.csv"): exported(life).encode("cp1252") for life in lives},
        }
    )
    unfinished = out.with_name(f".{out.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    for name, data in files.items():
        (unfinished / name).parent.mkdir(parents=True, exist_ok=True)
        (unfinished / name).write_bytes(data)
    if out.exists():
        out.rmdir()  # it is empty
    unfinished.rename(out)


def whole(least: int, most: int) -> Callable[[str], int]:
    """A whole number of the command line within these bounds."""

    def read(text: str) -> int:
        if not (text.isascii() and text.isdigit() and least <= int(text) <= most):
            raise argparse.ArgumentTypeError(f"expected a whole number from {least} to {most}, got {text!r}")
        return int(text)

    return read


def fresh(text: str) -> Path:
    """A folder that is empty or not there yet."""
    out = Path(text).resolve()
    if not out.parent.is_dir():
        raise argparse.ArgumentTypeError(f"expected a folder that exists at {out.parent}, got none: mkdir -p it first")
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise argparse.ArgumentTypeError(f"expected a new or an empty folder, got {out}, which holds something")
    return out


def main(arguments: list[str]) -> None:
    """Simulate and write; say what was written."""
    parser = argparse.ArgumentParser(prog="simulate.py", description=__doc__.splitlines()[0])
    parser.add_argument("out", type=fresh, metavar="OUT", help="folder to write; new or empty")
    parser.add_argument("--units", type=whole(1, 999), default=300, help="transformers, 1 to 999 (default: 300)")
    parser.add_argument("--seed", type=whole(0, 2**32 - 1), default=7, help="another seed, another fleet (default: 7)")
    parser.add_argument("--plain", action="store_true", help="one simple table with cycles and remaining life")
    chosen = parser.parse_args(arguments)
    lives = simulate(chosen.units, chosen.seed)
    write(chosen.out, lives, chosen.plain)
    failed = [len(life.dp) / 365.25 for life in lives if life.failed]
    years = f", after {min(failed):.1f} to {max(failed):.1f} years of records" if failed else ""
    print(f"{len(lives)} transformers in {chosen.out}: {len(failed)} failed{years}")  # noqa: T201 - for who runs it


if __name__ == "__main__":
    main(sys.argv[1:])
