"""The figures: SVG from the numbers of an assurance case, drawn the same way every time.

Each figure carries its own alternative text and caption, names the units on its axes, and tells its series apart by
marker and dash as well as by colour. The door to matplotlib; nothing of its global state is touched. Text in figures
(names of units and attacks) comes from outside: it is drawn as plain text, never as mathematics, and matplotlib
escapes it.

Same case, same bytes: ids come from a fixed salt, and no date or version is written.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.colors import LinearSegmentedColormap, to_hex
from matplotlib.figure import Figure as Canvas
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator, ScalarFormatter

from twinseal.assurance.case import MAX_CYCLES, Case, Estimate, Life
from twinseal.assurance.report.measured import Curve, Poisoning, curves, group, number, poisonings

# Each colour occurs once, so that the report can put its own variables in their place and follow the reader's scheme.
INK, MUTED, GRID, PAPER, DANGER = "#1b2430", "#566173", "#d9dee5", "#fdfdfe", "#b3261e"
SERIES = ("#0b62a8", "#b4550b", "#2a7b3f", "#84408f", "#6b6208", "#a3305f", "#3c6e71", "#5b4bb0")
PALETTE = {"ink": INK, "muted": MUTED, "grid": GRID, "paper": PAPER, "danger": DANGER} | {
    f"series-{index}": colour for index, colour in enumerate(SERIES)
}
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
MOST_LIVES, MOST_SENSORS = 15, 24  # panels, and sensors of the heat map: more would not be read
FAILING_CYCLES, MISSED_CYCLES = 30, 60  # a failing machine, and an estimate that would leave it running (DESIGN)

_PANELS = {
    "rmse_increase_cycles": "RMSE lost [cycles]",
    "trigger_success_share": "trigger succeeds [share]",
    "noticed_share": "noticed [share of units]",
}
_STYLE: Any = {
    "svg.hashsalt": "twinseal",
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 10,
    "text.color": INK,
    "text.parse_math": False,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.formatter.useoffset": False,
    "grid.color": GRID,
    "grid.linewidth": 0.7,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "figure.facecolor": PAPER,
    "axes.facecolor": PAPER,
}


@dataclass(frozen=True)
class Figure:
    """One figure.

    Attributes:
        name: Its file name without suffix.
        svg: A whole SVG document.
        alt: What it shows, for whoever does not see it.
        caption: What to read in it.
    """

    name: str
    svg: str
    alt: str
    caption: str


def draw(case: Case) -> tuple[Figure, ...]:
    """Every figure that the case has numbers for, in the order of the report."""
    with mpl.rc_context(_STYLE):
        drawn = [_predictions(case), _history(case), _lives(case), _pairs(case)]
        drawn += [_evasion(case, "rmse_cycles"), _evasion(case, "missed_failure_share"), _poisoning(case)]
    return tuple(figure for figure in drawn if figure is not None)


def plain(text: str, limit: int = 40) -> str:
    """Text from outside, fit for a label: printable, on one line, not long."""
    shown = "".join(letter if letter.isprintable() else "�" for letter in text)
    return shown if len(shown) <= limit else shown[: limit - 1] + "…"


def _predictions(case: Case) -> Figure | None:
    if not case.estimates:
        return None
    canvas, axes = _canvas(9.4, 5.0)
    _scatter(axes, case.estimates)
    _legend(canvas, axes)
    misses = sum(item.true_rul <= FAILING_CYCLES and item.network > MISSED_CYCLES for item in case.estimates)
    failing = sum(item.true_rul <= FAILING_CYCLES for item in case.estimates)
    alt = (
        f"Scatter of {len(case.estimates)} test windows: estimated against true remaining life. Of {failing} windows "
        f"with at most {FAILING_CYCLES} cycles left the network estimates more than {MISSED_CYCLES} for {misses}."
    )
    caption = (
        "Estimate against truth, one mark a test window. Above the dashed line the estimate is too long, which is the "
        f"dangerous side; in the tinted corner a machine with at most {FAILING_CYCLES} cycles left would be "
        "kept running."
    )
    if any(item.band for item in case.estimates):
        caption += " The bar through a mark is how far an attacker could move it, as training certified (0.1 σ)."
    return _figure("predictions", canvas, alt, caption)


def _scatter(axes: Axes, estimates: Sequence[Estimate]) -> None:
    truth = [item.true_rul for item in estimates]
    bands = [(item.true_rul, item.band) for item in estimates if item.band]
    highest = [*truth, *(item.network for item in estimates), *(band[1] for _, band in bands), MISSED_CYCLES + 20.0]
    lowest = min([0.0, *(item.network for item in estimates), *(band[0] for _, band in bands)])
    top, right = max(highest) * 1.05, max(truth) * 1.05 + 1
    axes.fill_between([0, FAILING_CYCLES], MISSED_CYCLES, top, color=DANGER, alpha=0.12, linewidth=0)
    axes.text(FAILING_CYCLES / 2, top * 0.98, "missed failures", color=DANGER, va="top", ha="center", fontsize=9)
    axes.plot([0, top], [0, top], color=MUTED, linewidth=1, linestyle=(0, (4, 3)), label="exact")
    if bands:
        places, ends = [place for place, _ in bands], [band for _, band in bands]
        axes.vlines(
            places, [low for low, _ in ends], [high for _, high in ends], color=SERIES[0], alpha=0.35, linewidth=1.6
        )
    both = [(item.true_rul, item.baseline) for item in estimates if item.baseline is not None]
    if both:
        xs, ys = zip(*both, strict=True)
        axes.plot(xs, ys, "s", color=SERIES[1], markersize=4, fillstyle="none", label="baseline (boosting)")
    axes.plot(truth, [item.network for item in estimates], "o", color=SERIES[0], markersize=4.5, label="network")
    axes.set(
        xlabel="true remaining life [cycles]", ylabel="estimate [cycles]", xlim=(0, right), ylim=(lowest * 1.05, top)
    )


def _lives(case: Case) -> Figure | None:
    """A panel for each attack on the life of one unit; of other units nothing is drawn."""
    shown = [life for life in case.lives if life.unit == case.lives[0].unit][:MOST_LIVES]
    if not shown:
        return None
    rows = math.ceil(len(shown) / 3)
    canvas = Canvas(figsize=(9.8, 0.7 + 2.1 * rows), layout="constrained")
    panels = list(canvas.subplots(rows, 3, sharex=True, sharey=True, squeeze=False).flat)
    for axes, life in zip(panels, shown, strict=False):
        _life(axes, life)
    for axes in panels[len(shown) :]:
        axes.set_axis_off()
    for axes in panels[max(0, len(shown) - 3) : len(shown)]:  # the lowest of each column
        axes.set_xlabel("age [cycles]")
        axes.tick_params(labelbottom=True)
    canvas.supylabel("remaining life [cycles]", fontsize=10)
    _legend(canvas, canvas.axes[0])
    unit, silent = plain(shown[0].unit), [plain(life.attack) for life in shown if None in life.guarded]
    alt = (
        f"Remaining life of unit {unit} over {shown[0].cycles[-1]:g} cycles, true and estimated with and without the "
        f"guard, in {len(shown)} panels: {', '.join(plain(life.attack) for life in shown)}. "
        f"The guard abstains in {', '.join(silent) if silent else 'none'}."
    )
    caption = (
        f"The estimate over the life of unit {unit} under each attack. Training never saw the unit, and its error is "
        "the median of its kind. Marks at the bottom: the guard abstains, and the twin says “inspect now”. One unit "
        "is an example, not a measure."
    )
    return _figure("lives", canvas, alt, caption)


def _life(axes: Axes, life: Life) -> None:
    guarded = [math.nan if value is None else value for value in life.guarded]
    silent = [cycle for cycle, value in zip(life.cycles, life.guarded, strict=True) if value is None]
    axes.plot(life.cycles, life.true_rul, color=MUTED, linewidth=1.2, linestyle=(0, (4, 3)), label="true (capped)")
    axes.plot(life.cycles, life.network, color=DANGER, linewidth=1.2, label="network alone")
    axes.plot(life.cycles, guarded, color=SERIES[0], linewidth=1.6, linestyle=(0, (5, 1)), label="with the guard")
    axes.plot(silent, [0.0] * len(silent), "|", color=INK, markersize=7, label="the guard abstains")
    axes.axhline(FAILING_CYCLES, color=GRID, linewidth=0.8)
    axes.set_title(plain(life.attack), fontsize=9, loc="left")
    axes.set_ylim(bottom=-4)


def _pairs(case: Case) -> Figure | None:
    """A heat map: how high a failing machine's estimate goes while two sensors are owned."""
    found = group(case.statements, "evade", "sensors", "pairs")
    names = [name for name, row in found.items() if isinstance(row, Mapping)][:MOST_SENSORS]
    cells = [[number(found[a].get(b)) for b in names] for a in names]
    known = [value for row in cells for value in row if value is not None and _fits(value)]
    if not known:
        return None
    canvas, axes = _canvas(6.2, 5.4)
    shades = LinearSegmentedColormap.from_list(
        "danger", ["#fbf3f2", DANGER]
    )  # text on it keeps its colour in every scheme
    top = max(MISSED_CYCLES, *known)
    for i, row in enumerate(cells):
        for j, value in enumerate(row):
            if value is None or not _fits(value):
                continue
            part = max(0.0, value) / top
            ink, heavy = "#ffffff" if part > 0.65 else "#16202b", "bold" if value > MISSED_CYCLES else "normal"
            axes.add_patch(Rectangle((j, i), 1, 1, facecolor=to_hex(shades(part)), edgecolor=PAPER, linewidth=0.6))
            axes.text(j + 0.5, i + 0.5, f"{value:.0f}", ha="center", va="center", fontsize=7, color=ink, weight=heavy)
    places, labels = [i + 0.5 for i in range(len(names))], [plain(name, 24) for name in names]
    axes.set(xlim=(0, len(names)), ylim=(len(names), 0), xticks=places, yticks=places, aspect="equal")
    axes.set_xticklabels(labels, rotation=90, fontsize=8)
    axes.set_yticklabels(labels, fontsize=8)
    axes.tick_params(length=0)
    alt = (
        f"Heat map of {len(names)} by {len(names)} sensors: the mean estimate of failing machines while two of them "
        f"are owned; at most {max(known):.0f} cycles."
    )
    caption = (
        f"Sensors owned by twos (one on the diagonal): how many cycles a machine with at most {FAILING_CYCLES} left is "
        f"said to have on average. Bold where that is above {MISSED_CYCLES}. The guard is not asked here."
    )
    return _figure("pairs", canvas, alt, caption)


def _history(case: Case) -> Figure | None:
    keys = [key for key in (case.history[0] if case.history else {}) if key.endswith("rmse_cycles")]
    if not keys:
        return None
    canvas, axes = _canvas(6.2, 4.6)
    for index, key in enumerate(keys[: len(SERIES)]):
        points = [(row["epoch"], row[key]) for row in case.history if "epoch" in row and row.get(key, 0.0) > 0]
        _line(axes, points, index, plain(key.removesuffix("_rmse_cycles").replace("_", " ")))
    axes.set(xlabel="epoch", ylabel="RMSE [cycles], log scale", yscale="log")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.yaxis.set_major_formatter(ScalarFormatter())
    _legend(canvas, axes)
    alt = f"Training history over {len(case.history)} epochs: {', '.join(plain(key) for key in keys)}."
    return _figure("history", canvas, alt, "Training history. Curves that still fall at the end say: not finished.")


def _evasion(case: Case, measure: str) -> Figure | None:
    share = measure.endswith("_share")
    aim = "healthy-washing" if share else "any"  # each measure under the attacks that aim at it; the tables have all
    found = [curve for curve in curves(case.statements, measure) if curve.kind != "attack" or curve.aim == aim]
    if not any(curve.kind == "attack" for curve in found):
        return None
    canvas, axes = _canvas(6.2, 4.6)
    for index, curve in enumerate(found):
        _evasion_curve(axes, curve, index)
    axes.set(xlabel="ε: largest change of any sensor, any row [σ of the sensor]")
    axes.set_ylabel("missed failures [share]" if share else "RMSE [cycles]")
    axes.set_ylim(bottom=-0.02 if share else 0, top=1.02 if share else None)
    _legend(canvas, axes)
    strongest = max((p for c in found if c.kind == "attack" for p in c.points), key=lambda point: point[1])
    what = "share of failing machines that an attacker hides" if share else "RMSE in cycles"
    alt = (
        f"Lines of {what} against attack size ε, one for each of {sum(c.kind == 'attack' for c in found)} attacks, "
        f"with the certified upper bound. The strongest attack reaches {strongest[1]:.3g} at ε {strongest[0]:g} σ."
    )
    caption = (
        f"{'Missed failures under healthy-washing' if share else 'Error'} against the size of the change. "
        "Attacks are lower bounds: a better "
        "attacker may do worse. The certified line is an upper bound that no attacker within ε can cross."
    )
    return _figure(f"evasion-{'missed' if share else 'rmse'}", canvas, alt, caption)


def _evasion_curve(axes: Axes, curve: Curve, index: int) -> None:
    points = [point for point in curve.points if _fits(*point)]
    if not points:
        return
    xs, ys = zip(*points, strict=True)
    if curve.kind == "worst":
        axes.plot(xs, ys, color=DANGER, linewidth=2, label=plain(curve.name))
    elif curve.kind == "certified":
        axes.plot(
            xs,
            ys,
            color=INK,
            linewidth=2,
            linestyle=(0, (6, 2)),
            marker="_",
            markersize=12,
            markeredgewidth=2,
            label=plain(curve.name),
        )
    else:
        _line(axes, points, index, plain(curve.name.removesuffix(f" · {curve.aim}")))


def _poisoning(case: Case) -> Figure | None:
    found = poisonings(case.statements)
    if not found:
        return None
    canvas = Canvas(figsize=(9.8, 3.9), layout="constrained")
    panels = canvas.subplots(1, len(_PANELS))
    names = list(dict.fromkeys(item.name for item in found))
    for axes, (key, title) in zip(panels, _PANELS.items(), strict=True):
        for index, name in enumerate(names):
            _line(axes, _points([item for item in found if item.name == name], key), index, plain(name))
        axes.set_title(title, fontsize=10, loc="left")
        axes.set(xlabel="units poisoned [%]", ylim=(-0.03, 1.03) if key.endswith("_share") else None)
    _legend(canvas, panels[0])
    alt = (
        f"Two panels for {len(names)} poisoning attacks: RMSE lost, and trigger success with share noticed, "
        "against the "
        "share of units poisoned."
    )
    caption = (
        "Poisoning: accuracy lost by retraining on poisoned units, how often the backdoor's trigger makes a failing "
        "machine look healthy, and how many of the poisoned units validation noticed."
    )
    return _figure("poisoning", canvas, alt, caption)


def _points(rows: Iterable[Poisoning], key: str) -> list[tuple[float, float]]:
    pairs = ((row.share * 100, number(row.values.get(key))) for row in rows)
    return sorted((share, value) for share, value in pairs if value is not None and _fits(share, value))


def _fits(*numbers: float) -> bool:
    """Whether an axis can show them. A measure may be signed and still be nonsense; tables show it as it is."""
    return all(abs(number) <= MAX_CYCLES for number in numbers)


def _line(axes: Axes, points: Sequence[tuple[float, float]], index: int, label: str) -> None:
    if not points:
        return
    xs, ys = zip(*points, strict=True)
    style: Mapping[str, Any] = {
        "color": SERIES[index % len(SERIES)],
        "marker": MARKERS[index % len(MARKERS)],
        "markersize": 5,
    }
    axes.plot(xs, ys, linewidth=1.4, label=label, **style)


def _canvas(width: float, height: float) -> tuple[Canvas, Axes]:
    canvas = Canvas(figsize=(width, height), layout="constrained")
    return canvas, canvas.subplots()


def _legend(canvas: Canvas, axes: Axes) -> None:
    """Below the axes, where it covers no data."""
    handles, labels = axes.get_legend_handles_labels()
    if labels:
        canvas.legend(
            handles, labels, loc="outside lower center", ncols=math.ceil(len(labels) / math.ceil(len(labels) / 3))
        )


def _figure(name: str, canvas: Canvas, alt: str, caption: str) -> Figure:
    stream = io.StringIO()
    FigureCanvasSVG(canvas)
    canvas.savefig(stream, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    return Figure(name, stream.getvalue(), alt, caption)
