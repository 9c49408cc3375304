"""Tables from typed measures: labels and units come from the types, so no key is spelled here or in a section.

A column is a function that reads one measure of a group. mypy checks that the measure exists; its label and its unit
are found by letting the function read a recorder in the group's place.

    >>> from twinseal.measures.common import WorstCase
    >>> column = Column(lambda m: m.rmse_cycles)
    >>> header(column, WorstCase)
    'RMSE [cycles]'

A measure that is absent is shown as a dash, never as a zero.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, cast

from twinseal.assurance.gates import GateResult
from twinseal.assurance.report.blocks import Row, Table
from twinseal.measures.common import WorstCase
from twinseal.measures.keys import Epsilon, number_of
from twinseal.measures.quantity import Group, Quantity, resolve

DASH = "—"
MEASURED_ON = "errors on the test windows, missed failures on the failing windows of test and validation"
RELATIONS = {"at_most": "≤", "at_least": "≥", "equals": "="}
DECIMALS = {"cycles": 2, "σ": 2, "AUC": 3, "PSI": 3}  # units that a header names; other numbers say theirs themselves

G = TypeVar("G", bound=Group)


@dataclass(frozen=True)
class Column(Generic[G]):
    """One measure of a group, as a column.

    Attributes:
        get: Reads it; None where it is absent.
        label: Stands instead of the type's own label where one table has two columns of that label.
    """

    get: Callable[[G], float | None]
    label: str = ""


class _Recorder:
    """Stands in a group's place and records which measure is read."""

    def __init__(self, path: tuple[str, ...] = ()) -> None:
        self._path = path

    def __getattr__(self, name: str) -> _Recorder:
        return _Recorder((*self._path, name))

    @property
    def name(self) -> str:
        return "/".join(self._path)


def measure_of(get: Callable[[G], float | None], kind: type[G]) -> Quantity:
    """What the measure is that `get` reads of groups of `kind`.

    Raises:
        ConfigError: It reads none.
    """
    found: Any = get(cast("G", _Recorder()))
    name = found._path if isinstance(found, _Recorder) else ()
    return resolve(kind, "/".join(name), kind.__name__).quantity


def header(column: Column[G], kind: type[G]) -> str:
    """The label of a column with its unit."""
    measure = measure_of(column.get, kind)
    return named(column.label or measure.label, measure.unit)


def named(label: str, unit: str) -> str:
    """A label with its unit."""
    return f"{label} [{unit}]" if unit in DECIMALS else label


def table(
    caption: str,
    kind: type[G],
    rows: Sequence[tuple[str, G | None]],
    columns: Sequence[Column[G]],
    *,
    first: str = "",
    marked: tuple[int, ...] = (),
) -> Table | None:
    """Groups as rows, measures as columns; a column in which nothing is known is left out. None without rows.

    Args:
        caption: What it shows.
        kind: Of the groups.
        rows: Each group with its name; None is a row of dashes.
        columns: The measures.
        first: Header of the names.
        marked: Rows to set apart.
    """
    known = [c for c in columns if any(g is not None and c.get(g) is not None for _, g in rows)]
    if not rows or not known:
        return None
    units = [measure_of(column.get, kind).unit for column in known]
    body = tuple(
        (name, *(shown(None if g is None else c.get(g), unit) for c, unit in zip(known, units, strict=True)))
        for name, g in rows
    )
    return Table(caption, (first, *(header(column, kind) for column in known)), body, marked)


def listing(caption: str, group: G, columns: Sequence[Column[G]], *, more: Sequence[Row] = ()) -> Table:
    """One group, a measure a row; then `more` rows."""
    kind = type(group)
    rows = [(header(column, kind), shown(column.get(group), measure_of(column.get, kind).unit)) for column in columns]
    return Table(caption, ("measure", "value"), (*rows, *((label, value) for label, value in more)))


@dataclass(frozen=True)
class Curve:
    """How a measure changes with ε.

    Attributes:
        name: Whose.
        clean: Without an attack.
        by_epsilon: At each ε.
        proved: Whether no attack can do worse.
    """

    name: str
    clean: WorstCase | None
    by_epsilon: Mapping[Epsilon, WorstCase]
    proved: bool = False

    def points(self, get: Callable[[WorstCase], float | None]) -> list[tuple[float, float]]:
        """(ε in σ, value), ascending; ε = 0 is without an attack."""
        groups = {number_of(key): group for key, group in self.by_epsilon.items()}
        if self.clean is not None:
            groups[0.0] = self.clean
        values = ((epsilon, get(group)) for epsilon, group in sorted(groups.items()))
        return [(epsilon, value) for epsilon, value in values if value is not None]


def by_epsilon(caption: str, curves: Sequence[Curve], get: Callable[[WorstCase], float | None]) -> Table | None:
    """Curves as rows, ε as columns; what is proved is set apart. None without curves."""
    measure, points = measure_of(get, WorstCase), [dict(curve.points(get)) for curve in curves]
    epsilons = sorted({epsilon for known in points for epsilon in known})
    if not epsilons:
        return None
    headers = ("no attack" if epsilon == 0 else f"{epsilon:g} σ" for epsilon in epsilons)
    rows = tuple(
        (curve.name, *(shown(known.get(epsilon), measure.unit) for epsilon in epsilons))
        for curve, known in zip(curves, points, strict=True)
    )
    marked = tuple(index for index, curve in enumerate(curves) if curve.proved)
    return Table(caption, (named(measure.label, measure.unit), *headers), rows, marked)


def shown(value: float | None, unit: str) -> str:
    """A measure as people read it; shares as per cent, counts whole; a dash for what is no finite number."""
    number = _finite(value)
    if number is None:
        return DASH
    if abs(number) >= 1e9:
        return f"{number:.4g}"
    if unit == "share":
        return f"{100 * number:.1f} %"
    if abs(number) < 1000 and (unit in DECIMALS or number != int(number)):
        return f"{number:.{DECIMALS.get(unit, 2)}f}"
    return f"{number:,.0f}".replace(",", " ")


def quantity(value: float | None, unit: str) -> str:
    """A number with its unit, as a gate has it; shares as per cent."""
    if value is None:
        return DASH
    if unit == "share":
        return f"{100 * value:.3g} %"
    return f"{value:.4g} {unit.removesuffix('s') if value == 1 else unit}"


def bound(gate: GateResult) -> str:
    """What a gate had to keep, as people write it."""
    return f"{RELATIONS[gate.bound.relation]} {quantity(gate.bound.number, gate.unit)}" if gate.bound else "no bound"


def counted(number: float, noun: str) -> str:
    """A number of things in words: 1 cycle, 5 000 answers."""
    amount = f"{number:,.0f}".replace(",", " ") if number == int(number) else f"{number:g}"
    return f"{amount} {noun}{'' if number == 1 else 's'}"


def natural(name: str) -> list[tuple[int, str]]:
    """A key to sort names by, with numbers by their size: s2 comes before s10."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name) if part]


def cycles(value: float | None) -> str:
    """A number of cycles, as a tile has it."""
    number = _finite(value)
    return DASH if number is None else f"{number:.1f} cycles"


def _finite(value: float | None) -> float | None:
    if type(value) not in (int, float):
        return None
    try:
        number = float(cast("float", value))
    except OverflowError:
        return None
    return number if math.isfinite(number) else None
