"""The tools that sections draw their figures with: one style, lines, legends, and SVG that is the same every time.

Each figure carries its own alternative text and caption, names the units on its axes, and tells its series apart by
marker and dash as well as by colour. This is the door to matplotlib; nothing of its global state is touched. Text in
figures (names of units and attacks) comes from outside: it is drawn as plain text, never as mathematics, and matplotlib
escapes it.

Same case, same bytes: ids come from a fixed salt, and no date or version is written.
"""

from __future__ import annotations

import functools
import io
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ParamSpec, TypeVar

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure as Canvas

from twinseal.assurance.case import MAX_CYCLES
from twinseal.assurance.report.blocks import Figure

# Each colour occurs once, so that the report can put its own variables in their place and follow the reader's scheme.
INK, MUTED, GRID, PAPER, DANGER = "#1b2430", "#566173", "#d9dee5", "#fdfdfe", "#b3261e"
SERIES = ("#0b62a8", "#b4550b", "#2a7b3f", "#84408f", "#6b6208", "#a3305f", "#3c6e71", "#5b4bb0")
PALETTE = {"ink": INK, "muted": MUTED, "grid": GRID, "paper": PAPER, "danger": DANGER} | {
    f"series-{index}": colour for index, colour in enumerate(SERIES)
}
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
WIDE, NARROW = 9.4, 6.2  # inches: across the page, and one of two side by side
DASHED, LONG_DASHED = (0, (4, 3)), (0, (6, 2))

_LETTER, _HANDLE = 0.078, 0.6  # inches of a legend: one letter in the widest font that a reader may have, one handle
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
    "axes.facecolor": "none",  # on the figure's own ground
}

P = ParamSpec("P")
R = TypeVar("R")


def drawing(function: Callable[P, R]) -> Callable[P, R]:
    """A function that draws, in the style of the report."""

    @functools.wraps(function)
    def styled(*args: P.args, **kwargs: P.kwargs) -> R:
        with mpl.rc_context(_STYLE):
            return function(*args, **kwargs)

    return styled


def canvas(width: float, height: float) -> tuple[Canvas, Axes]:
    """A canvas with one pair of axes, in inches."""
    whole = Canvas(figsize=(width, height), layout="constrained")
    return whole, whole.subplots()


def line(axes: Axes, points: Sequence[tuple[float, float]], index: int, label: str) -> None:
    """One series of (x, y), told apart by its index; of points that no axis can show, nothing is drawn."""
    shown = [point for point in points if fits(*point)]
    if not shown:
        return
    xs, ys = zip(*shown, strict=True)
    style: Mapping[str, Any] = {
        "color": SERIES[index % len(SERIES)],
        "marker": MARKERS[index % len(MARKERS)],
        "markersize": 5,
    }
    axes.plot(xs, ys, linewidth=1.4, label=plain(label), **style)


def legend(whole: Canvas, axes: Axes) -> None:
    """Below the axes, where it covers no data, in as many columns as its longest label leaves room for."""
    handles, labels = axes.get_legend_handles_labels()
    if not labels:
        return
    most = int((whole.get_figwidth() - 0.3) / (_HANDLE + _LETTER * max(map(len, labels))))
    rows = math.ceil(len(labels) / max(1, min(most, len(labels))))
    columns = math.ceil(len(labels) / rows)
    whole.legend(handles, labels, loc="outside lower center", ncols=columns, columnspacing=1.2, handletextpad=0.5)


def figure(name: str, whole: Canvas, alt: str, caption: str) -> Figure:
    """The canvas as a figure of the report."""
    return Figure(name, functools.partial(_svg, whole), alt, caption)


@drawing
def _svg(whole: Canvas) -> str:
    stream = io.StringIO()
    FigureCanvasSVG(whole)
    whole.savefig(stream, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    return stream.getvalue()


def fits(*numbers: float) -> bool:
    """Whether an axis can show them. A measure may be signed and still be nonsense; tables show it as it is."""
    return all(abs(number) <= MAX_CYCLES for number in numbers)


def plain(text: str, limit: int = 40) -> str:
    """Text from outside, fit for a label: printable, on one line, not long."""
    shown = "".join(letter if letter.isprintable() else "�" for letter in text)
    return shown if len(shown) <= limit else shown[: limit - 1] + "…"
