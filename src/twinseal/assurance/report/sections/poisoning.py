"""Poisoning: the candidate's recipe trained on telemetry that an attacker has changed."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from matplotlib.figure import Figure as Canvas

from twinseal.assurance.case import Case
from twinseal.assurance.report.blocks import Caveat, Content, Figure, Table, Text, Tile
from twinseal.assurance.report.figures import drawing, figure, legend, line
from twinseal.assurance.report.section import Section
from twinseal.assurance.report.tables import DASH, Column, cycles, measure_of, shown, table
from twinseal.measures.keys import Name, Share, number_of
from twinseal.measures.poisoning import PoisoningMeasures, PoisoningResult
from twinseal.measures.words import name_words, words

Get = Callable[[PoisoningResult], float | None]
COLUMNS = (
    Column[PoisoningResult](lambda m: m.units_poisoned),
    Column[PoisoningResult](lambda m: m.noticed_share),
    Column[PoisoningResult](lambda m: m.undefended.rmse_increase_cycles, "RMSE increase, no screening"),
    Column[PoisoningResult](lambda m: m.after_screening.rmse_increase_cycles, "RMSE increase, screened"),
    Column[PoisoningResult](lambda m: m.undefended.missed_failure_share, "missed failures, no screening"),
    Column[PoisoningResult](lambda m: m.after_screening.missed_failure_share, "missed failures, screened"),
    Column[PoisoningResult](lambda m: m.undefended.trigger_success_share, "trigger success, no screening"),
    Column[PoisoningResult](lambda m: m.after_screening.trigger_success_share, "trigger success, screened"),
    Column[PoisoningResult](lambda m: m.defences.replay_noticed_share, "guard notices a replay, screened"),
    Column[PoisoningResult](lambda m: m.defences.false_alarm_share, "false alarms, screened"),
    Column[PoisoningResult](lambda m: m.defences.interval_coverage_share, "intervals hold, screened"),
)
PANELS: tuple[Get, ...] = (
    lambda m: m.undefended.rmse_increase_cycles,
    lambda m: m.undefended.trigger_success_share,
    lambda m: m.noticed_share,
)


def build(case: Case) -> Content:
    """A row for each attack and share; the same as curves."""
    intro = Text(
        "An attacker who can write training telemetry says that failing units are healthy, or plants a trigger: a "
        "pattern that makes a failing machine look healthy, or makes healing look normal to the guard. The model is "
        "retrained on the changed telemetry, once with all of it and once with what screening leaves; guard and "
        "intervals are learnt from what screening leaves."
    )
    found = case.measures.poison
    results = attacks(found) if found is not None else None
    if found is None or results is None:
        text = Text("There is no poisoning on record.", muted=True)
        return Content((intro, text), caveats=(no_proof(),), tiles=tiles(None))
    drawn = curves(found)
    return Content((intro, *((drawn,) if drawn else ())), (results,), caveats(case, found), tiles(found))


def attacks(found: PoisoningMeasures) -> Table | None:
    """A row for each attack and share of the units."""
    rows = [(words(f"{threat}/{share}"), result) for threat, share, result in _results(found)]
    caption = "Retrained on poisoned telemetry, without screening and after it"
    return table(caption, PoisoningResult, rows, COLUMNS, first="attack")


def _results(found: PoisoningMeasures) -> Iterator[tuple[Name, Share, PoisoningResult]]:
    for threat, by_share in found.attacks.items():
        for key in sorted(by_share, key=number_of):
            yield threat, key, by_share[key]


def tiles(found: PoisoningMeasures | None) -> tuple[Tile, ...]:
    """The worst that gets past screening: error and trigger."""
    label = "Error added by poisoned telemetry that screening does not notice"
    if found is None:
        return (Tile(label, DASH, "no record of poison", 60, "open"),)
    worst, added = found.worst_unnoticed, found.worst_unnoticed.rmse_increase_cycles
    names = [
        words(f"{threat}/{share}")
        for threat, share, result in _results(found)
        if result.after_screening.rmse_increase_cycles == added
    ]
    trigger = f"a hidden trigger works in {shown(worst.trigger_success_share, 'share')} of failing windows"
    note = f"{names[0] if names else 'worst of all'}; {trigger}"
    return (Tile(label, f"+{cycles(added)}", note, 60, "open"),)


def caveats(case: Case, found: PoisoningMeasures) -> tuple[Caveat, ...]:
    """What screening does not notice, what is chance, and how long the retrainings were."""
    texts = []
    unnoticed = dict.fromkeys(
        name_words(threat) for threat, _, result in _results(found) if result.noticed_share == 0.0
    )
    if unnoticed:
        texts.append(
            f"Screening noticed none of the poisoned units of: {', '.join(unnoticed)}. The only defence left is "
            "control of write access to the telemetry."
        )
    gains = [result.undefended.rmse_increase_cycles for _, _, result in _results(found)]
    lowered = [-gain for gain in gains if gain < 0]
    if lowered:
        texts.append(
            f"{len(lowered)} of {len(gains)} poisonings made the error smaller, by up to {max(lowered):.1f} cycles: "
            "differences of that size between two trainings are chance."
        )
    epochs, whole = found.retraining.epochs, case.config.plain.epochs
    if whole is not None and epochs < whole:
        texts.append(
            f"The poisoned models were trained for {epochs} epochs, the candidate for {whole}: a longer training may "
            "learn more of the poison."
        )
    return (*map(Caveat, texts), no_proof())


def no_proof() -> Caveat:
    """What such a test cannot show."""
    return Caveat(
        "These numbers show what poison would do. They do not show that this model's own telemetry is free of poison."
    )


@drawing
def curves(found: PoisoningMeasures) -> Figure | None:
    """A panel for each measure, a line for each attack, by share."""
    if not found.attacks:
        return None
    whole = Canvas(figsize=(9.8, 3.9), layout="constrained")
    panels = whole.subplots(1, len(PANELS))
    for axes, get in zip(panels, PANELS, strict=True):
        measure = measure_of(get, PoisoningResult)
        for index, threat in enumerate(found.attacks):
            values = [
                (100 * number_of(share), get(result)) for name, share, result in _results(found) if name == threat
            ]
            line(axes, [(share, value) for share, value in values if value is not None], index, name_words(threat))
        axes.set_title(f"{measure.label} [{measure.unit}]", fontsize=10, loc="left")
        axes.set(xlabel="units poisoned [%]", ylim=(-0.03, 1.03) if measure.unit == "share" else None)
    legend(whole, panels[0])
    named = ", ".join(measure_of(get, PoisoningResult).label for get in PANELS)
    alt = f"Panels for {len(found.attacks)} poisoning attacks against the share of units poisoned: {named}."
    caption = (
        "Retrained on poisoned units without screening: the error added, how often the trigger makes a failing machine "
        "look healthy, and how many of the poisoned units screening would notice."
    )
    return figure("poisoning", whole, alt, caption)


SECTION = Section("poisoning", "Poisoning", 100, build, in_card="analyses")
