"""How the cells of a column become readings: the unit of measure, a conversion, a factor, words; and what it rests on.

What a name tells is a guess, and is said. A conversion is proposed only where the contract is to have a unit of its own
(`--like`, or `--measured COLUMN=UNIT:WANTED`). A factor is never guessed: whether `Temp x10` is to be multiplied or
divided, or was already, no name says. A person gives it: `--scale COLUMN=FACTOR`.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from twinseal.assets.moments import Choices
from twinseal.assets.units_of_measure import NONE, Measure, hints_at_factor, measure_of, target
from twinseal.errors import ConfigError
from twinseal.escaping import visible
from twinseal.sources.measurement_units import conversion

ASKED = "a person said so"


@dataclass(frozen=True)
class Reading:
    """How the cells of one column become readings.

    Attributes:
        column: Its name in the header.
        unit: Of the contract.
        measured_in: The unit that it is converted from; "" for that of the contract.
        scale: Factor and offset; None for none.
        words: That become 0, 1, 2, …; () for numbers.
        becomes: All of it in words; "" where a cell is the reading, and has no unit.
        because: What that rests on.
    """

    column: str
    unit: str = NONE
    measured_in: str = ""
    scale: tuple[float, float] | None = None
    words: tuple[str, ...] = ()
    becomes: str = ""
    because: str = ""

    def __str__(self) -> str:
        """One line for people."""
        return f"{self.column}: {self.becomes}, because {self.because}"


def reading_of(
    column: str, choices: Choices, *, known_unit: str, words: tuple[str, ...], beside: Collection[str]
) -> Reading:
    """How a column is read.

    Args:
        column: Its name in the header.
        choices: What a person says.
        known_unit: Of the channel in the contract of `--like`; NONE if there is none.
        words: Its words, if it is a column of words.
        beside: The names of all columns.

    Raises:
        ConfigError: A unit does not become the one that the contract shall have.
    """
    if words:
        shown = ", ".join(f"{visible(word)} {at}" for at, word in enumerate(words[:8]))
        because = f"it has {len(words)} words, which change within units; numbered as in the alphabet"
        return Reading(column, words=words, becomes=shown + (", …" if len(words) > 8 else ""), because=because)
    asked = {name: (unit, wanted) for name, unit, wanted in choices.measured}.get(column)
    measure = Measure(asked[0], ASKED) if asked else measure_of(column, beside)
    scale = {name: numbers for name, *numbers in choices.scaled}.get(column)
    unit, measured_in = target(column, measure, (asked[1] if asked else "") or known_unit)
    if scale:
        return _scaled(column, unit, measured_in, (scale[0], scale[1]))
    if measured_in:
        factor, offset = conversion(measured_in, unit)
        becomes = f"{measured_in} → {unit}, × {factor:g}" + (f" {offset:+g}" if offset else "")
        why = ASKED if asked and asked[1] else f"{measure.rests_on}; the contract that it is like has {unit}"
        return Reading(column, unit, measured_in, None, (), becomes, why)
    if measure.unit != NONE:
        return Reading(column, unit, becomes=f"in {unit}", because=measure.rests_on)
    if hints_at_factor(column):
        why = "its name speaks of a factor, and no name says how it is meant: --scale COLUMN=FACTOR"
        return Reading(column, unit, becomes="as it stands there", because=why)
    return Reading(column, unit)


def fields_of(readings: Collection[Reading]) -> dict[str, Any]:
    """The fields of the mapping that say all of it."""
    found: dict[str, dict[str, Any]] = {
        "measured_in": {item.column: item.measured_in for item in readings if item.measured_in},
        "scale": {item.column: list(item.scale) for item in readings if item.scale},
        "categories": {
            item.column: {word: at for at, word in enumerate(item.words)} for item in readings if item.words
        },
    }
    found["categories"] = {column: words for column, words in found["categories"].items() if words}
    return {name: value for name, value in found.items() if value}


def _scaled(column: str, unit: str, measured_in: str, scale: tuple[float, float]) -> Reading:
    if measured_in:
        raise ConfigError(
            f"--scale: expected a column that has the unit of the contract, got {visible(column)!r} in {measured_in}",
            remedy=f'Give the factor to {unit}, and say: --measured "{visible(column)}={unit}"',
        )
    factor, offset = scale
    becomes = f"× {factor:g}" + (f" {offset:+g}" if offset else "") + (f", in {unit}" if unit != NONE else "")
    return Reading(column, unit, scale=scale, becomes=becomes, because=ASKED)
