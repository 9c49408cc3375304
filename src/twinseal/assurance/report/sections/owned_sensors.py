"""Controlled sensors: a few sensors that may report anything, and a false age. Nothing bounds these for a mean."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, to_hex
from matplotlib.patches import Rectangle

from twinseal.assurance.case import Case
from twinseal.assurance.report.blocks import Caveat, Content, Figure, Pair, Table, Text, Tile
from twinseal.assurance.report.figures import DANGER, NARROW, PAPER, canvas, drawing, figure, fits, plain
from twinseal.assurance.report.section import Section
from twinseal.assurance.report.tables import DASH, MEASURED_ON, Column, counted, cycles, natural, shown, table
from twinseal.measures.keys import count_key, number_of
from twinseal.measures.robustness import OneSensor, OwnedSensorCount, OwnedSensors, RobustnessMeasures
from twinseal.measures.words import AIMS
from twinseal.prognostics.metrics import FAILING_CYCLES, HEALTHY_CYCLES

MOST_SENSORS = 24  # of the heat map: more would not be read
BY_COUNT = (
    Column[OwnedSensorCount](lambda m: m.rmse_cycles),
    Column[OwnedSensorCount](lambda m: m.missed_failure_share),
    Column[OwnedSensorCount](lambda m: m.moved_share),
)
ALONE = (Column[OneSensor](lambda m: m.rise_cycles), Column[OneSensor](lambda m: m.chosen_first_share))


def build(case: Case) -> Content:
    """By number and by name; pairs as a heat map; a false age in a sentence."""
    found = case.measures.evade
    if found is None:
        return Content(below=(Text("There are no attacks by controlled sensors on record.", muted=True),))
    owned = found.owned_sensors
    intro = (
        "An attacker controls a few sensors and lets them report anything within the contract's ranges, in every row. "
        "Here the network answers alone: the guard is not asked (see falsified histories). How many cycles count as "
        "“moved far” is in policy/threats.yaml (`far_cycles`)."
    )
    tables = tuple(item for item in (by_count(owned), alone(owned)) if item is not None)
    drawn = pairs(owned)
    return Content(
        blocks=(Text(intro), *tables[:1], Text(false_age(found))),
        below=(Pair(((drawn,) if drawn else ()) + tables[1:]),) if drawn or tables[1:] else (),
        caveats=caveats(case),
        tiles=() if case.config.against == "sensors" else (tile(found),),  # there the median has a bound, and a tile
    )


def by_count(found: OwnedSensors) -> Table | None:
    """By aim and number of sensors."""
    rows = [
        (f"{counted(number_of(key), 'sensor')}, aim: {AIMS[aim]}", group)
        for aim, counts in found.by_count.items()
        for key, group in sorted(counts.items(), key=lambda item: number_of(item[0]))
    ]
    caption = f"Sensors controlled by the attacker, chosen for each window: {MEASURED_ON}"
    return table(caption, OwnedSensorCount, rows, BY_COUNT, first="under control")


def alone(found: OwnedSensors) -> Table | None:
    """Each sensor by itself, the one that raises the estimate most first."""
    rows = sorted(found.alone.items(), key=lambda item: (-item[1].rise_cycles, natural(item[0])))
    return table("One sensor controlled by the attacker", OneSensor, rows, ALONE, first="sensor")


def false_age(found: RobustnessMeasures) -> str:
    """An attacker who reports a false age and controls no sensor, in a sentence."""
    age = found.false_age
    return (
        "An attacker who controls no sensor but reports a false age: RMSE "
        f"{cycles(age.rmse_cycles)}, missed failures {shown(age.missed_failure_share, 'share')}, estimates "
        f"{cycles(age.rise_cycles)} higher on average."
    )


def tile(found: RobustnessMeasures) -> Tile:
    """What a single sensor hides: nothing bounds it."""
    worst = [counts[count_key(1)] for counts in found.owned_sensors.by_count.values() if count_key(1) in counts]
    shares = [group.missed_failure_share for group in worst if group.missed_failure_share is not None]
    label = "Failing windows hidden by one sensor under the attacker's control"
    note = "any value within the contract's range; network without the guard"
    return Tile(label, shown(max(shares), "share") if shares else DASH, note, 40, "open")


def caveats(case: Case) -> tuple[Caveat, ...]:
    """Whether anything bounds these numbers."""
    if case.config.against == "sensors":
        return (
            Caveat("These are trials. What bounds them is the certificate of the median, in a section of its own."),
        )
    return (
        Caveat(
            "These are trials, and no bound stands behind them: another attacker may do more harm. Only the family "
            "`certified` against sensors has a bound if sensors may report anything."
        ),
    )


@drawing
def pairs(found: OwnedSensors) -> Figure | None:
    """A heat map: how high a failing machine's estimate goes while two sensors are controlled."""
    names = sorted(found.pairs, key=natural)[:MOST_SENSORS]
    cells = {(a, b): found.pairs[a][b] for a in names for b in names if b in found.pairs[a] and fits(found.pairs[a][b])}
    if not cells:
        return None
    whole, axes = canvas(NARROW, 5.4)
    shades = LinearSegmentedColormap.from_list("danger", ["#fbf3f2", DANGER])
    top = max(HEALTHY_CYCLES, *cells.values())
    for (a, b), value in cells.items():
        _cell(axes, names.index(b), names.index(a), value, to_hex(shades(max(0.0, value) / top)), max(0.0, value) / top)
    places, labels = [i + 0.5 for i in range(len(names))], [plain(name, 24) for name in names]
    axes.set(xlim=(0, len(names)), ylim=(len(names), 0), xticks=places, yticks=places, aspect="equal")
    axes.set_xticklabels(labels, rotation=90, fontsize=8)
    axes.set_yticklabels(labels, fontsize=8)
    axes.tick_params(length=0)
    alt = (
        f"Heat map of {len(names)} by {len(names)} sensors: the mean estimate of failing machines while the attacker "
        f"controls two of them; at most {max(cells.values()):.0f} cycles."
    )
    caption = (
        "Two sensors controlled by the attacker (on the diagonal: one): the mean estimate, in cycles, for machines "
        f"with at most {FAILING_CYCLES:g} left. Bold where it is above {HEALTHY_CYCLES:g}. The guard is not asked "
        "here."
    )
    return figure("pairs", whole, alt, caption)


def _cell(axes: Axes, column: int, row: int, value: float, shade: str, part: float) -> None:
    """One cell with its number; text on it keeps its colour in every scheme."""
    ink, weight = "#ffffff" if part > 0.65 else "#16202b", "bold" if value > HEALTHY_CYCLES else "normal"
    axes.add_patch(Rectangle((column, row), 1, 1, facecolor=shade, edgecolor=PAPER, linewidth=0.6))
    axes.text(column + 0.5, row + 0.5, f"{value:.0f}", ha="center", va="center", fontsize=7, color=ink, weight=weight)


SECTION = Section("sensors", "Controlled sensors", 50, build)
