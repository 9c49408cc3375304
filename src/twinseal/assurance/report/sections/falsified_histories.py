"""Falsified histories: whole histories changed, without the guard and with it: what it finds, and where it is blind."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas

from twinseal.assurance.case import Case, Life
from twinseal.assurance.report.blocks import Block, Caveat, Content, Figure, Folded, Table, Text
from twinseal.assurance.report.figures import DANGER, DASHED, GRID, INK, MUTED, SERIES, drawing, figure, legend, plain
from twinseal.assurance.report.section import Section
from twinseal.assurance.report.tables import Column, shown, table
from twinseal.measures.keys import Aim, number_of
from twinseal.measures.robustness import FalsifiedHistories, FalsifiedHistory
from twinseal.measures.words import signature_words, sized
from twinseal.prognostics.metrics import FAILING_CYCLES

MOST_LIVES, COLUMNS_OF_LIVES = 15, 3  # panels: more would not be read
LETTERS_OF_A_TITLE = 36  # in one line above a panel
COLUMNS = (
    Column[FalsifiedHistory](lambda m: m.units),
    Column[FalsifiedHistory](lambda m: m.detected_share),
    Column[FalsifiedHistory](lambda m: m.abstained_share),
    Column[FalsifiedHistory](lambda m: m.rmse_cycles, "RMSE, no guard"),
    Column[FalsifiedHistory](lambda m: m.guarded_rmse_cycles),
    Column[FalsifiedHistory](lambda m: m.failing_units),
    Column[FalsifiedHistory](lambda m: m.missed_failure_share, "missed failures, no guard"),
    Column[FalsifiedHistory](lambda m: m.guarded_missed_failure_share),
)


def build(case: Case) -> Content:
    """The guard in words and numbers, and one machine's life as an example."""
    found = case.measures.evade
    if found is None:
        return Content(below=(Text("There are no falsified histories on record.", muted=True),))
    intro = (
        "The guard checks every row before the network sees it. It flags or refuses "
        f"{shown(found.guard.false_alarm_share, 'share')} of the rows of sound units. If it abstains, the twin says "
        "“inspect now”: that misses no failure, but it is not an estimate. Where “detected” is low, the guard is "
        "blind, and no gate counts it as protection there."
    )
    rest = histories(found.falsified_histories, "any")
    blocks: list[Block | None] = [
        lives(case.lives),
        histories(found.falsified_histories, "healthy-washing"),
        Folded("Falsified histories that aim at any error", (rest,)) if rest else None,
    ]
    return Content(
        blocks=(Text(intro),),
        below=tuple(block for block in blocks if block is not None),
        caveats=(Caveat("None of these attackers knows the guard. For one who does, see the next section."),),
    )


def histories(found: FalsifiedHistories, aim: Aim) -> Table | None:
    """A row for each attack with the aim and each size; the experiment's stand with healthy-washing."""
    experiment = found.experiment.items() if aim == "healthy-washing" else ()
    rows = [(f"injection (Mode et al.): {signature_words(name)}", group) for name, group in experiment]
    rows += [
        (sized(threat, key), by_aim[aim][key])
        for threat, by_aim in found.scenarios.items()
        for key in sorted(by_aim.get(aim, {}), key=number_of)
    ]
    aims = {"healthy-washing": "towards a healthier machine", "any": "wherever the error is larger"}
    caption = f"Falsified histories, {aims[aim]}: without the guard and with it"
    return table(caption, FalsifiedHistory, rows, COLUMNS, first="attack")


@drawing
def lives(found: Sequence[Life]) -> Figure | None:
    """A panel for each attack on the life of one unit; of other units nothing is drawn."""
    shown_lives = [life for life in found if life.unit == found[0].unit][:MOST_LIVES]
    if not shown_lives:
        return None
    rows = math.ceil(len(shown_lives) / COLUMNS_OF_LIVES)
    whole = Canvas(figsize=(9.8, 0.7 + 2.1 * rows), layout="constrained")
    panels = list(whole.subplots(rows, COLUMNS_OF_LIVES, sharex=True, sharey=True, squeeze=False).flat)
    for axes, life in zip(panels, shown_lives, strict=False):
        _life(axes, life)
    for axes in panels[len(shown_lives) :]:
        axes.set_axis_off()
    for axes in panels[max(0, len(shown_lives) - COLUMNS_OF_LIVES) : len(shown_lives)]:  # the lowest of each column
        axes.set_xlabel("age [cycles]")
        axes.tick_params(labelbottom=True)
    whole.supylabel("remaining life [cycles]", fontsize=10)
    legend(whole, whole.axes[0])
    return figure("lives", whole, *_words(shown_lives))


def _words(found: Sequence[Life]) -> tuple[str, str]:
    """Alternative text and caption."""
    unit, silent = plain(found[0].unit), [plain(life.attack, 80) for life in found if None in life.guarded]
    alt = (
        f"Remaining life of unit {unit} over {found[0].cycles[-1]:g} cycles, true and estimated with and without the "
        f"guard, in {len(found)} panels: {'; '.join(plain(life.attack, 80) for life in found)}. "
        f"The guard abstains in {'; '.join(silent) if silent else 'none'}."
    )
    caption = (
        f"The estimate over the life of unit {unit} under each attack. Training never saw this unit, and its error is "
        "the median of the fleet. Marks at the bottom: the guard abstains, and the twin says “inspect now”. One unit "
        "is an example, not a measure."
    )
    return alt, caption


def _life(axes: Axes, life: Life) -> None:
    guarded = [math.nan if value is None else value for value in life.guarded]
    silent = [cycle for cycle, value in zip(life.cycles, life.guarded, strict=True) if value is None]
    axes.plot(life.cycles, life.true_rul, color=MUTED, linewidth=1.2, linestyle=DASHED, label="true (capped)")
    axes.plot(life.cycles, life.network, color=DANGER, linewidth=1.2, label="network alone")
    axes.plot(life.cycles, guarded, color=SERIES[0], linewidth=1.6, linestyle=(0, (5, 1)), label="with the guard")
    axes.plot(silent, [0.0] * len(silent), "|", color=INK, markersize=7, label="the guard abstains")
    axes.axhline(FAILING_CYCLES, color=GRID, linewidth=0.8)
    axes.set_title(textwrap.fill(plain(life.attack, 80), LETTERS_OF_A_TITLE), fontsize=9, loc="left")
    axes.set_ylim(bottom=-4)


SECTION = Section("guard", "Falsified histories and the guard", 60, build)
