"""Accuracy: errors on machines that training never saw, without an attack."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator, ScalarFormatter

from twinseal.assurance.candidate_config import CandidateConfig
from twinseal.assurance.case import Case, Estimate
from twinseal.assurance.report.blocks import Block, Caveat, Content, Figure, Folded, Pair, Table, Text, Tile
from twinseal.assurance.report.figures import (
    DANGER,
    DASHED,
    MUTED,
    NARROW,
    SERIES,
    canvas,
    drawing,
    figure,
    legend,
    line,
)
from twinseal.assurance.report.section import Section
from twinseal.assurance.report.tables import DASH, Column, cycles, named, shown, table
from twinseal.measures.common import Accuracy
from twinseal.measures.keys import Mode
from twinseal.measures.training import IntervalMeasures, LifeMeasures, TrainingMeasures
from twinseal.prognostics.evaluation import BAND_SIGMA
from twinseal.prognostics.fitting import Epoch
from twinseal.prognostics.metrics import FAILING_CYCLES, HEALTHY_CYCLES

RESAMPLES, SEED = 1000, 1979
MOST_UNITS = 10  # of the table of errors by unit; the rest is folded
MODES: dict[Mode, str] = {"plain": "for any unit", "commissioned": "that reads the signed baseline"}
ERROR = Column[Accuracy](lambda m: m.rmse_cycles)
COLUMNS = (
    ERROR,
    Column[Accuracy](lambda m: m.nasa_score),
    Column[Accuracy](lambda m: m.late_share),
    Column[Accuracy](lambda m: m.windows),
    Column[Accuracy](lambda m: m.units),
)
FAILURES = (
    Column[Accuracy](lambda m: m.missed_failure_share),
    Column[Accuracy](lambda m: m.failing_windows),
    Column[Accuracy](lambda m: m.failing_units),
)
INTERVALS = (
    Column[IntervalMeasures](lambda m: m.coverage_share),
    Column[IntervalMeasures](lambda m: m.standard_error),
    Column[IntervalMeasures](lambda m: m.width_cycles),
    Column[IntervalMeasures](lambda m: m.test_coverage_share),
    Column[IntervalMeasures](lambda m: m.test_windows),
)
LIVES = (
    Column[LifeMeasures](lambda m: m.lives),
    Column[LifeMeasures](lambda m: m.false_lock_most_share),
    Column[LifeMeasures](lambda m: m.out_of_fold_false_lock_share),
    Column[LifeMeasures](lambda m: m.unseen_lives),
    Column[LifeMeasures](lambda m: m.false_lock_share),
    Column[LifeMeasures](lambda m: m.failing_margin_cycles),
    Column[LifeMeasures](lambda m: m.bare_rmse_cycles),
    Column[LifeMeasures](lambda m: m.rmse_cycles),
)


def build(case: Case) -> Content:
    """The network beside gradient boosting, the estimates one by one, and what cross-validation adds."""
    assessed, built, drawn = accuracy(case), case.measures.train, predictions(case.estimates)
    theirs = tuple(filter(None, (errors_as_built(built), failures_as_built(built)))) if built else ()
    errors, others = errors_by_unit(case.estimates)
    below: list[Block | None] = [
        assessed or Text("There are no measures of accuracy on record.", muted=True),
        failures(case),
        intervals(built) if built else None,
        lives(built) if built else None,
        Folded("As the builder measured it", theirs) if theirs else None,
        Pair(tuple(filter(None, (errors, history(case.history))))),
        others,
    ]
    intro = Text("Errors without an attack, on units that training never saw: telemetry is split by unit.")
    return Content((intro, *((drawn,) if drawn else ())), tuple(filter(None, below)), caveats(case), tiles(case))


def accuracy(case: Case) -> Table | None:
    """The errors on the test windows, as the assessor measured them."""
    caption = "Errors on the test windows, as the assessor measured them"
    return table(caption, Accuracy, assessed_by(case), COLUMNS, first="estimates of")


def failures(case: Case) -> Table | None:
    """Missed failures, as the assessor measured them: of other windows than the errors, so in a table of their own."""
    caption = "Missed failures, on the failing windows of test and validation, as the assessor measured them"
    return table(caption, Accuracy, assessed_by(case), FAILURES, first="estimates of")


def assessed_by(case: Case) -> list[tuple[str, Accuracy]]:
    """Each model without an attack, all on the evaluation set of the assessor."""
    found = case.measures.evade
    if found is None:
        return []
    rows = [("network", found.evasion.clean)]
    if found.commissioned is not None:
        rows.append(("network that reads the signed baseline", found.commissioned.clean))
    return [*rows, ("gradient boosting, for comparison", found.boosted_trees.clean)]


def errors_as_built(found: TrainingMeasures) -> Table | None:
    """The errors on each split, as the builder measured them."""
    return table("Errors on each split", Accuracy, built_by(found), COLUMNS, first="estimates of")


def failures_as_built(found: TrainingMeasures) -> Table | None:
    """Missed failures on each split, as the builder measured them."""
    caption = "Missed failures, on the failing windows of each split"
    return table(caption, Accuracy, built_by(found), FAILURES, first="estimates of")


def built_by(found: TrainingMeasures) -> list[tuple[str, Accuracy]]:
    """Each model on each split, without an attack."""
    rows = [("network, test windows", found.plain.test), ("network, validation windows", found.plain.validation)]
    if found.commissioned is not None:
        rows.append(("network that reads the signed baseline, test windows", found.commissioned.test))
    rows.append(("gradient boosting, test windows", found.boosting))
    validated = found.cross_validation
    return rows + [
        (f"cross-validation: network {name}", validated[mode]) for mode, name in MODES.items() if mode in validated
    ]


def intervals(found: TrainingMeasures) -> Table | None:
    """Whether the 90 % intervals hold."""
    held = found.intervals
    rows = [(f"network {name}", held[mode]) for mode, name in MODES.items() if mode in held]
    caption = "The 90 % intervals, on training units that a network did not see, and on the test windows"
    return table(caption, IntervalMeasures, rows, INTERVALS, first="intervals of the")


def lives(found: TrainingMeasures) -> Table | None:
    """What the ledger does to honest lives."""
    rows = [(f"network {name}", found.lives[mode]) for mode, name in MODES.items() if mode in found.lives]
    caption = "The ledger on honest lives: a false lock calls a life over more than 20 cycles before it is"
    return table(caption, LifeMeasures, rows, LIVES, first="statements of the")


@dataclass(frozen=True)
class UnitErrors:
    """The errors over the test windows of one unit, cycles; `latest` is the largest estimate above the truth."""

    unit: str
    windows: int
    rmse: float
    latest: float


def unit_errors(estimates: Sequence[Estimate]) -> list[UnitErrors]:
    """By unit, the largest RMSE first."""
    errors: dict[str, list[float]] = {}
    for item in estimates:
        errors.setdefault(item.unit, []).append(item.network - item.true_rul)
    found = [
        UnitErrors(unit, len(values), math.sqrt(sum(v * v for v in values) / len(values)), max(0.0, *values))
        for unit, values in errors.items()
    ]
    return sorted(found, key=lambda item: (-item.rmse, item.unit))


def errors_by_unit(estimates: Sequence[Estimate]) -> tuple[Table | None, Folded | None]:
    """The units with the largest errors, and the others folded."""
    found = unit_errors(estimates)
    headers = ("unit", "windows", named("RMSE", "cycles"), named("largest overestimate", "cycles"))
    rows = [(item.unit, str(item.windows), shown(item.rmse, "cycles"), shown(item.latest, "cycles")) for item in found]
    worst, rest = tuple(rows[:MOST_UNITS]), tuple(rows[MOST_UNITS:])
    first = Table(f"Errors by unit: the {len(worst)} units with the largest errors", headers, worst) if worst else None
    if not rest:
        return first, None
    return first, Folded(f"The other {len(rest)} units", (Table("Errors by unit: all other units", headers, rest),))


def tiles(case: Case) -> tuple[Tile, ...]:
    """The error without an attack, and whether the intervals hold."""
    found, built = case.measures.evade, case.measures.train
    error = Tile("Error on machines that training never saw", DASH, "no record of evade", 10)
    if found is not None:
        clean, boosting = found.evasion.clean, found.boosted_trees.clean
        note = f"RMSE, {clean.units} units, no attack; gradient boosting {cycles(boosting.rmse_cycles)}"
        error = Tile(error.label, cycles(clean.rmse_cycles), note, error.rank)
    if built is None or "plain" not in built.intervals:
        return (error,)
    held = built.intervals["plain"]
    note = f"of units that set no interval; mean width {cycles(held.width_cycles)}"
    return (error, Tile("90 % intervals that hold the truth", shown(held.coverage_share, "share"), note, 70))


def caveats(case: Case) -> tuple[Caveat, ...]:
    """What chance may have done, and whether the records agree with each other."""
    found, built, listed = case.measures.evade, case.measures.train, list[Caveat]()
    if found is not None:
        ahead = found.evasion.clean.rmse_cycles - found.boosted_trees.clean.rmse_cycles
        if ahead > 0:
            listed.append(Caveat(behind_boosting(ahead, case.config)))
        listed += rule_of_three(found.evasion.clean)
        listed += disagreement(built, found.evasion.clean)
    if not case.estimates:
        missing = "No estimates of single windows were kept: the figure and the interval of the error are missing."
        return (*listed, Caveat(missing))
    return (*listed, sample(case.estimates), *agreement(case))


def behind_boosting(ahead: float, config: CandidateConfig) -> str:
    """That gradient boosting is more accurate, and what the network has for it."""
    price = {"robust": "the price of the defence", "certified": "the price of the median's certificate"}
    reason = f" That is {price[config.family]}." if config.family in price else ""
    return (
        f"Gradient boosting has an error {ahead:.1f} cycles smaller than the network's.{reason} See under evasion what "
        "the same trees lose under attack. They have no certificate."
    )


def rule_of_three(clean: Accuracy) -> tuple[Caveat, ...]:
    """No event in n independent trials: the 95 % upper bound is 3/n (Hanley & Lippman-Hand 1983)."""
    if clean.missed_failure_share != 0 or clean.failing_units < 1:
        return ()
    bound = min(1.0, 3 / clean.failing_units)
    text = (
        f"No missed failure in {clean.failing_units} failing units still allows a true share of up to "
        f"{100 * bound:.0f} % (rule of three). The {clean.failing_windows} failing windows are of these units and are "
        "not independent."
    )
    return (Caveat(text),)


def disagreement(built: TrainingMeasures | None, clean: Accuracy) -> tuple[Caveat, ...]:
    """The builder and the assessor measured the same model on the same test windows."""
    if built is None or abs(built.plain.test.rmse_cycles - clean.rmse_cycles) <= 0.01 + 0.001 * clean.rmse_cycles:
        return ()
    text = (
        f"The builder reports an RMSE of {built.plain.test.rmse_cycles:.2f} cycles, the assessor measured "
        f"{clean.rmse_cycles:.2f} on the same model and windows. One of them is wrong."
    )
    return (Caveat(text, grave=True),)


def sample(estimates: Sequence[Estimate]) -> Caveat:
    """What another sample of units could have given."""
    low, high = rmse_interval(estimates)
    units = len({item.unit for item in estimates})
    return Caveat(
        f"The test has {len(estimates)} windows of {units} units. Another sample of {units} units would give an RMSE "
        f"between {low:.1f} and {high:.1f} cycles (95 %, bootstrap over units)."
    )


def agreement(case: Case) -> tuple[Caveat, ...]:
    """Whether the windows drawn are the windows that the signed number was computed from."""
    squares = [(item.network - item.true_rul) ** 2 for item in case.estimates]
    drawn = math.sqrt(sum(squares) / len(squares))
    signed = case.measures.train.plain.test.rmse_cycles if case.measures.train else None
    if signed is None or abs(drawn - signed) > max(0.01, 0.005 * signed):
        against = "none" if signed is None else f"{signed:.2f}"
        text = (
            f"The windows in the figure give an RMSE of {drawn:.2f} cycles, the signed record says {against}. One of "
            "them is wrong."
        )
        return (Caveat(text, grave=True),)
    if "reports/train/predictions.csv" in case.unsigned:
        return (Caveat("No signed record names the file behind the figure; its RMSE agrees with the signed one."),)
    return ()


def rmse_interval(estimates: Sequence[Estimate]) -> tuple[float, float]:
    """A 95 % interval of the network's RMSE in cycles: bootstrap over units (Efron 1979), 1,000 resamples, fixed seed.

    Units, not windows, are drawn: windows of one unit are not independent.

    Raises:
        ValueError: No estimates.
    """
    if not estimates:
        raise ValueError("rmse_interval: expected at least one estimate, got none")
    units = {unit: index for index, unit in enumerate(dict.fromkeys(item.unit for item in estimates))}
    squares, counts = np.zeros(len(units)), np.zeros(len(units))
    for item in estimates:
        squares[units[item.unit]] += (item.network - item.true_rul) ** 2
        counts[units[item.unit]] += 1
    drawn = np.random.default_rng(SEED).integers(0, len(units), size=(RESAMPLES, len(units)))
    rmse = np.sqrt(squares[drawn].sum(axis=1) / counts[drawn].sum(axis=1))
    low, high = np.quantile(rmse, [0.025, 0.975])
    return float(low), float(high)


@drawing
def predictions(estimates: Sequence[Estimate]) -> Figure | None:
    """Estimate against truth, one mark a test window."""
    if not estimates:
        return None
    whole, axes = canvas(NARROW, 4.6)
    _scatter(axes, estimates)
    legend(whole, axes)
    failing = [item for item in estimates if item.true_rul <= FAILING_CYCLES]
    misses = sum(item.network > HEALTHY_CYCLES for item in failing)
    alt = (
        f"Scatter of {len(estimates)} test windows: estimated against true remaining life. Of {len(failing)} windows "
        f"with at most {FAILING_CYCLES:g} cycles left the network estimates more than {HEALTHY_CYCLES:g} for {misses}."
    )
    caption = (
        "Estimate against truth, one mark a test window. Above the dashed line the estimate is too long, which is the "
        f"dangerous side. In the tinted corner a machine with at most {FAILING_CYCLES:g} cycles left would be kept "
        "running."
    )
    if any(item.band for item in estimates):
        caption += (
            f" The bar through a mark is the certified range if every reading changes by at most {BAND_SIGMA:g} σ."
        )
    return figure("predictions", whole, alt, caption)


def _scatter(axes: Axes, estimates: Sequence[Estimate]) -> None:
    truth = [item.true_rul for item in estimates]
    bands = [(item.true_rul, item.band) for item in estimates if item.band]
    highest = [*truth, *(item.network for item in estimates), *(band[1] for _, band in bands), HEALTHY_CYCLES + 20.0]
    lowest = min([0.0, *(item.network for item in estimates), *(band[0] for _, band in bands)])
    top, right = max(highest) * 1.05, max(truth) * 1.05 + 1
    axes.fill_between([0, FAILING_CYCLES], HEALTHY_CYCLES, top, color=DANGER, alpha=0.12, linewidth=0)
    axes.text(FAILING_CYCLES / 2, top * 0.98, "missed failures", color=DANGER, va="top", ha="center", fontsize=8)
    axes.plot([0, top], [0, top], color=MUTED, linewidth=1, linestyle=DASHED, label="exact")
    if bands:
        lows, highs = zip(*(band for _, band in bands), strict=True)
        axes.vlines([place for place, _ in bands], lows, highs, color=SERIES[0], alpha=0.35, linewidth=1.6)
    both = [(item.true_rul, item.boosting) for item in estimates if item.boosting is not None]
    if both:
        xs, ys = zip(*both, strict=True)
        axes.plot(xs, ys, "s", color=SERIES[1], markersize=4, fillstyle="none", label="gradient boosting")
    axes.plot(truth, [item.network for item in estimates], "o", color=SERIES[0], markersize=4.5, label="network")
    axes.set(
        xlabel="true remaining life [cycles]", ylabel="estimate [cycles]", xlim=(0, right), ylim=(lowest * 1.05, top)
    )


HISTORY: tuple[tuple[Callable[[Epoch], float], str], ...] = (
    (lambda epoch: epoch.train_rmse_cycles, "training windows"),
    (lambda epoch: epoch.validation_rmse_cycles, "validation windows"),
    (lambda epoch: epoch.validation_worst_rmse_cycles, "validation, worst end of bounds"),
)


@drawing
def history(epochs: Sequence[Epoch]) -> Figure | None:
    """The error after each epoch of the first network's training."""
    if not epochs:
        return None
    whole, axes = canvas(NARROW, 4.6)
    for index, (get, name) in enumerate(HISTORY):
        line(axes, [(epoch.epoch, get(epoch)) for epoch in epochs if get(epoch) > 0], index, name)
    axes.set(xlabel="epoch", ylabel="RMSE [cycles], log scale", yscale="log")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.yaxis.set_major_formatter(ScalarFormatter())
    axes.yaxis.set_minor_locator(NullLocator())
    legend(whole, axes)
    listed = ", ".join(name for _, name in HISTORY)
    alt = f"Training history of the first network over {len(epochs)} epochs: RMSE on {listed}."
    caption = "Training history of the first network. If a curve still falls at the end, training was too short."
    return figure("history", whole, alt, caption)


SECTION = Section("accuracy", "Accuracy", 20, build, in_card="metrics")
