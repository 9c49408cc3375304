"""Evasion: every reading of the window changed by at most ε, attacked and certified."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from matplotlib.axes import Axes

from twinseal.assurance.case import Case
from twinseal.assurance.report.blocks import Block, Caveat, Content, Figure, Folded, Pair, Table, Text, Tile
from twinseal.assurance.report.figures import (
    DANGER,
    INK,
    LONG_DASHED,
    NARROW,
    canvas,
    drawing,
    figure,
    fits,
    legend,
    line,
)
from twinseal.assurance.report.section import Section
from twinseal.assurance.report.tables import DASH, Curve, by_epsilon, counted, cycles, measure_of, named, shown
from twinseal.measures.common import Accuracy, WorstCase
from twinseal.measures.keys import Aim, Epsilon, epsilon_key, number_of
from twinseal.measures.robustness import EvasionMeasures, RobustnessMeasures
from twinseal.measures.training import TrainingMeasures
from twinseal.measures.words import AIMS, ATTACKS, name_words, words

HEADLINE = epsilon_key(0.1)  # the budget that the tiles speak of: the recipes defend against it
Get = Callable[[WorstCase], float | None]


def error(found: WorstCase) -> float | None:
    """What a curve shows: the RMSE."""
    return found.rmse_cycles


def missed(found: WorstCase) -> float | None:
    """What a curve shows: the share of missed failures."""
    return found.missed_failure_share


SHOWN: tuple[tuple[Get, Aim, str], ...] = (  # each measure under the attacks that aim at it
    (error, "any", "evasion-rmse"),
    (missed, "healthy-washing", "evasion-missed"),
)


def build(case: Case) -> Content:
    """Attacks and bounds by ε: figures, then tables; gradient boosting under the same attackers."""
    found = case.measures.evade
    intro = Text(
        "An attacker who can change every sensor reading a little wants the estimate to be wrong, or a failing "
        "machine to look healthy (“healthy-washing”: the estimate is pushed up)."
    )
    if found is None:
        text = Text("There are no evasion attacks on record.", muted=True)
        return Content((intro, text), caveats=(assumptions(),), tiles=tiles(None))
    figures = [curves_figure(found.evasion, get, aim, name) for get, aim, name in SHOWN]
    blocks: list[Block] = [intro, *_filled(summary(found, get) for get, _, _ in SHOWN)]
    below: list[Block] = [Pair(tuple(_filled(figures))), Folded("Every attack by itself", tuple(every_attack(found)))]
    return Content(tuple(blocks), tuple(below), caveats(case, found), tiles(found))


def summary(found: RobustnessMeasures, get: Get) -> Table | None:
    """By ε: the worst attack and the bound of each network, and the worst attack on gradient boosting."""
    evasion, commissioned, trees = found.evasion, found.commissioned, found.boosted_trees
    curves = [*_both("network", evasion)]
    if commissioned is not None:
        curves += _both("with signed baseline", commissioned)
    if commissioned is not None and commissioned.certified_baseline_moved is not None:
        name = "signed baseline moved too, certified"
        curves.append(Curve(name, commissioned.clean, commissioned.certified_baseline_moved, proved=True))
    curves.append(Curve("gradient boosting, attacked", trees.clean, trees.worst))
    return by_epsilon(f"{_measured(evasion.clean, get)}: worst attack found, and certified upper bound", curves, get)


def _measured(clean: Accuracy, get: Get) -> str:
    """What a table is about, and on how many windows it was measured: failures on others than errors."""
    if get is missed:
        windows = f"{counted(clean.failing_windows, 'failing window')} of {counted(clean.failing_units, 'unit')}"
        return f"Missed failures if every reading changes by at most ε ({windows}, test and validation)"
    windows = f"{counted(clean.windows, 'test window')} of {counted(clean.units, 'unit')}"
    return f"Error if every reading changes by at most ε ({windows})"


def _both(name: str, found: EvasionMeasures) -> tuple[Curve, Curve]:
    return (
        Curve(f"{name}, attacked", found.clean, found.worst),
        Curve(f"{name}, certified", found.clean, found.certified, proved=True),
    )


def attack_curves(found: EvasionMeasures, aims: tuple[Aim, ...]) -> Iterator[Curve]:
    """Every attack with one of the aims."""
    for threat, by_attack in found.attacks.items():
        for attack in (attack for attack in ATTACKS if attack in by_attack):
            several = sum(attack in others for others in found.attacks.values()) > 1
            for aim in (aim for aim in aims if aim in by_attack[attack]):
                parts = (ATTACKS[attack], AIMS[aim] if len(aims) > 1 else "", name_words(threat) if several else "")
                yield Curve(", ".join(filter(None, parts)), found.clean, dict(by_attack[attack][aim]))


def every_attack(found: RobustnessMeasures) -> Iterator[Table]:
    """Each attack on each network by ε."""
    networks = {"network": found.evasion, "network that reads the signed baseline": found.commissioned}
    for name, evasion in networks.items():
        for get, _, _ in SHOWN if evasion is not None else ():
            assert evasion is not None  # noqa: S101 - the line above
            measure = measure_of(get, WorstCase)
            caption = f"Attacks on the {name}, by ε: {named(measure.label, measure.unit)}"
            drawn = by_epsilon(caption, list(attack_curves(evasion, ("any", "healthy-washing"))), get)
            if drawn is not None:
                yield drawn


def tiles(found: RobustnessMeasures | None) -> tuple[Tile, ...]:
    """What is proved within the headline's ε on every reading: the error, and the failures hidden."""
    budget = f"{number_of(HEADLINE):g} σ"
    labels = (
        f"Error if every reading changes by at most {budget}",
        f"Failing windows hidden if every reading changes by at most {budget}",
    )
    if found is None or HEADLINE not in found.evasion.certified:
        return tuple(Tile(label, DASH, "not certified", 20 + index) for index, label in enumerate(labels))
    proved, worst = found.evasion.certified[HEADLINE], found.evasion.worst.get(HEADLINE)
    tried = [cycles(worst.rmse_cycles), shown(worst.missed_failure_share, "share")] if worst else [DASH, DASH]
    units = f"; {found.evasion.clean.failing_units} failing units"
    values = (cycles(proved.rmse_cycles), shown(proved.missed_failure_share, "share"))
    return tuple(
        Tile(label, f"≤ {value}", f"proved, not tested; worst attack found {at}{more}", 20 + index, "proved")
        for index, (label, value, at, more) in enumerate(zip(labels, values, tried, ("", units), strict=True))
    )


def caveats(case: Case, found: RobustnessMeasures) -> tuple[Caveat, ...]:
    """Attacks that did not work, records that contradict each other, and what the attacker is assumed to do."""
    listed = [
        Caveat(f"A check of the attacks found a fault: {line}. Their numbers do not count.", grave=True)
        for evasion in (found.evasion, found.commissioned)
        for line in (faults(evasion) if evasion is not None else ())
    ]
    if not found.evasion.certified:
        listed.append(Caveat("There is no certificate: a better attacker than those tried may do any amount of harm."))
    for evasion in (found.evasion, found.commissioned):
        listed += beaten(evasion) if evasion is not None else ()
    listed += disagreement(case.measures.train, found)
    return (*listed, unclipped(case.config.rul_cap_cycles), assumptions())


def faults(found: EvasionMeasures) -> tuple[str, ...]:
    """What the checks of the attacks found, in words; by the names of the checks where there are no words."""
    return tuple(map(_in_words, found.flags.details)) or tuple(
        name for name, count in found.flags.by_check.items() if count
    )


def _in_words(line: str) -> str:
    """A fault as `attack_checks` writes it, `check: test: what was seen`, with the test in words."""
    parts = line.split(": ", 2)
    return ": ".join((parts[0], words(parts[1]), parts[2])) if len(parts) == 3 else line


def beaten(found: EvasionMeasures) -> list[Caveat]:
    """Attacks beyond the certificate: both cannot be true."""
    curves = [*attack_curves(found, ("any", "healthy-washing")), Curve("worst attack", found.clean, found.worst)]
    listed: list[Caveat] = []
    for get, _, _ in SHOWN:
        measure, bounds = measure_of(get, WorstCase), dict(Curve("", None, found.certified).points(get))
        listed += [
            Caveat(
                f"An attack beats the certificate: {curve.name} at ε {epsilon:g} σ reaches {value:.4g}, certified at "
                f"most {bounds[epsilon]:.4g} ({named(measure.label, measure.unit)}). One of them is wrong.",
                grave=True,
            )
            for curve in curves
            for epsilon, value in curve.points(get)
            if epsilon > 0 and epsilon in bounds and value > bounds[epsilon] * 1.001 + 1e-6
        ][:3]
    return listed


def disagreement(built: TrainingMeasures | None, found: RobustnessMeasures) -> list[Caveat]:
    """The builder and the assessor certified the same model on the same windows."""
    key: Epsilon = HEADLINE
    if built is None or key not in built.plain.certified or key not in found.evasion.certified:
        return []
    theirs, ours = built.plain.certified[key].rmse_cycles, found.evasion.certified[key].rmse_cycles
    if abs(theirs - ours) <= 0.01 + 0.001 * abs(ours):
        return []
    text = (
        f"The builder reports a certified RMSE of {theirs:.2f} cycles at {number_of(key):g} σ, the assessor measured "
        f"{ours:.2f} on the same model and windows. One of them is wrong."
    )
    return [Caveat(text, grave=True)]


def unclipped(cap: float) -> Caveat:
    """Why a bound can be larger than any estimate that a twin gives."""
    return Caveat(
        f"Estimates and bounds stand here as the networks give them. A twin states 0 to {cap:g} cycles and nothing "
        "beyond, so its own error can be smaller."
    )


def assumptions() -> Caveat:
    """Whom the certificate is about, and whom it is not."""
    return Caveat(
        "The attacker is assumed to know the model and to change every sensor in every row by at most ε. Larger or "
        "slower changes (a fouled probe, a swapped cable, a sensor under the attacker's control) are other threats: "
        "see the sections on controlled sensors, falsified histories and injection."
    )


@drawing
def curves_figure(found: EvasionMeasures, get: Get, aim: Aim, name: str) -> Figure | None:
    """Each attack with `aim`, the worst of all, and the bound, against ε."""
    attacks = [curve for curve in attack_curves(found, (aim,)) if curve.points(get)]
    if not attacks:
        return None
    measure, share = measure_of(get, WorstCase), get is missed
    whole, axes = canvas(NARROW, 5.0)
    for index, curve in enumerate(attacks):
        line(axes, curve.points(get), index, curve.name)
    _worst(axes, Curve("worst attack on each window", found.clean, found.worst).points(get))
    _bound(axes, Curve("certified upper bound", found.clean, found.certified).points(get))
    axes.set(xlabel="ε: largest change of any reading [σ of its sensor]", ylabel=f"{measure.label} [{measure.unit}]")
    axes.set_ylim(bottom=-0.02 if share else 0, top=1.02 if share else None)
    legend(whole, axes)
    strongest = max((point for curve in attacks for point in curve.points(get)), key=lambda point: point[1])
    alt = (
        f"Lines of {measure.label} [{measure.unit}] against the size of the change ε, one for each of {len(attacks)} "
        f"attacks, with the certified upper bound. The strongest attack reaches {strongest[1]:.3g} at ε "
        f"{strongest[0]:g} σ."
    )
    caption = (
        f"{'Missed failures under healthy-washing' if share else 'Error'} against the size of the change. An attack "
        "is a lower bound: a better attacker may do more harm. The certified line is an upper bound: no attacker "
        "within ε can cross it."
    )
    return figure(name, whole, alt, caption)


def _worst(axes: Axes, points: list[tuple[float, float]]) -> None:
    shown_points = [point for point in points if fits(*point)]
    if shown_points:
        axes.plot(*zip(*shown_points, strict=True), color=DANGER, linewidth=2, label="worst attack on each window")


def _bound(axes: Axes, points: list[tuple[float, float]]) -> None:
    shown_points = [point for point in points if fits(*point)]
    if shown_points:
        style: Any = {"linewidth": 2, "linestyle": LONG_DASHED, "marker": "_", "markersize": 12, "markeredgewidth": 2}
        axes.plot(*zip(*shown_points, strict=True), color=INK, label="certified upper bound", **style)


def _filled(blocks: Iterator[Block | None] | list[Figure | None]) -> Iterator[Block]:
    return (block for block in blocks if block is not None)


SECTION = Section("evasion", "Evasion", 40, build, in_card="analyses")
