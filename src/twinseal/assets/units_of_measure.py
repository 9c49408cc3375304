"""The unit of measure of a column, from its name alone: in brackets, after "in", or as an ending that is clearly one.

    brackets   `[anything]`; `(°C)`, `(kPa)`, `(m3/h)`: round ones often hold a remark
    ending     `speed_rpm`, `flow_m3_h`; one letter only beside a word for what it measures, `oil_temp_C`, `I_A`,
               and not where columns beside it differ in that letter alone: `I_A`, `I_B`, `I_C` are three phases

The list is short on purpose: `phase_C` is no temperature, and `T_max` no maxwell. What is told stays a guess until a
person accepts it; what it rests on is said. A conversion is never told from numbers: only where a contract that is to
be met has another unit, by `sources.measurement_units`.

    >>> measure_of("Oil [°F]"), measure_of("oil_temp_C").unit, measure_of("phase_C").unit
    (Measure(unit='°F', rests_on='[°F] in its name'), '°C', '1')
    >>> measure_of("I_A", beside=["I_A", "I_B"]).unit
    '1'
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass

from twinseal.errors import ConfigError
from twinseal.escaping import visible
from twinseal.sources.measurement_units import conversion

NONE = "1"
MAX_UNIT = 20  # letters
ENDINGS = {
    **{"degC": "°C", "degc": "°C", "celsius": "°C", "degF": "°F", "degf": "°F", "fahrenheit": "°F", "kelvin": "K"},
    **{"rpm": "rpm", "RPM": "rpm", "Hz": "Hz", "hz": "Hz", "kHz": "kHz", "khz": "kHz", "MHz": "MHz"},
    **{"Pa": "Pa", "hPa": "hPa", "kPa": "kPa", "kpa": "kPa", "MPa": "MPa", "bar": "bar", "mbar": "mbar", "psi": "psi"},
    **{"kV": "kV", "kv": "kV", "mV": "mV", "mA": "mA", "kA": "kA", "kW": "kW", "kw": "kW", "MW": "MW", "kWh": "kWh"},
    **{"kwh": "kWh", "kVA": "kVA", "Nm": "N·m", "kN": "kN", "kg": "kg", "mm": "mm", "µm": "µm", "um": "µm"},
    **{"ppm": "ppm", "percent": "%", "prozent": "%", "pct": "%"},
}
"""A last word that is a unit by itself, and how it is written. Two spellings that could be two units are not here."""
PAIRS = {
    **{("mm", "s"): "mm/s", ("m3", "h"): "m3/h", ("m3", "s"): "m3/s", ("l", "min"): "l/min", ("l", "h"): "l/h"},
    **{("kg", "s"): "kg/s", ("kg", "h"): "kg/h", ("rad", "s"): "rad/s", ("m", "s"): "m/s", ("km", "h"): "km/h"},
}
"""Two last words that are one unit."""
_TEMPERATURE = r"(?:temp\w*|\w+temp|t\d*|oil|oel|öl|ambient|umgebung)"
LETTERS = {
    **{"C": ("°C", _TEMPERATURE), "c": ("°C", _TEMPERATURE), "F": ("°F", _TEMPERATURE), "K": ("K", _TEMPERATURE)},
    "A": ("A", r"(?:i\d*|current|strom|amps?)"),
    "V": ("V", r"(?:u\d*|v|voltage|volt|spannung)"),
    "W": ("W", r"(?:p\d*|power|leistung)"),
}
"""One letter, the unit, and the words of which one must stand beside it."""
_BRACKETS = re.compile(r"\s*(?:\[(?P<a>[^\[\]]{1,20})\]|\((?P<b>[^()]{1,20})\)|\bin\s+(?P<c>\S{1,12}))\s*$")
_SYMBOL = re.compile(r"[°%‰µμΩ²³]")
_QUOTIENT = re.compile(r"[A-Za-z]{1,5}[23]?(?:[/·*][A-Za-z]{1,5}[23]?)+$")
_FACTOR = re.compile(r"(?<=[\s_\[(])(?:[x×*]\s?10+|1\s?/\s?10+|[x×*]\s?0[.,]0*1)(?![0-9])")


@dataclass(frozen=True)
class Measure:
    """A unit of measure that a name tells.

    Attributes:
        unit: How it is written; NONE if there is none.
        rests_on: What tells it; "" if nothing does.
    """

    unit: str = NONE
    rests_on: str = ""


def measure_of(header: str, beside: Collection[str] = ()) -> Measure:
    """The unit of measure that a header tells.

    Args:
        header: The name of a column.
        beside: The names of all columns.
    """
    text, unit = in_brackets(header)
    if unit != NONE:
        return Measure(unit, f"{visible(text)} in its name")
    unit, ending = _by_ending(header, beside)
    return Measure(unit, f"its name ends in {visible(ending)}") if ending else Measure()


def in_brackets(header: str) -> tuple[str, str]:
    """What stands at the end of a header for its unit, as it stands there, and the unit; ("", NONE) if nothing does."""
    match = _BRACKETS.search(header)
    if not match:
        return "", NONE
    unit = next(part for part in match.groups() if part is not None).strip()
    letter = _beside_its_word(unit, header[: match.start()])
    if match["a"] is None and not (_SYMBOL.search(unit) or _QUOTIENT.match(unit) or unit in ENDINGS or letter):
        return "", NONE
    return (match[0].strip(), visible(unit)) if unit not in ("", "-", "–") else ("", NONE)


def hints_at_factor(header: str) -> bool:
    """Whether a name speaks of a factor, as `Temp x10` does: no name says whether it is in the numbers already."""
    return bool(_FACTOR.search(header))


def target(column: str, measure: Measure, wanted: str) -> tuple[str, str]:
    """The unit of the contract, and the one that a column is converted from; "" where nothing is to be converted.

    Args:
        column: Its name, for messages.
        measure: What it is written in.
        wanted: The unit that the contract shall have; NONE or "": that of the column.

    Raises:
        ConfigError: One does not become the other.
    """
    if wanted in ("", NONE) or measure.unit in (NONE, wanted):
        return (wanted or measure.unit) if measure.unit == NONE else measure.unit, ""
    try:
        found = conversion(measure.unit, wanted)
    except ValueError as error:
        raise ConfigError(
            f"{visible(column)}: {error}; it is read as {measure.unit}: {measure.rests_on}",
            remedy=f'Say what it is written in: --measured "{visible(column)}=UNIT", as pint names it (degF, kPa)',
        ) from error
    return wanted, "" if found == (1.0, 0.0) else measure.unit


def _by_ending(header: str, beside: Collection[str]) -> tuple[str, str]:
    """The unit that the last word is, or the last two; and these words."""
    words = [word for word in re.split(r"[_\s.\-]+", header.strip()) if word]
    if len(words) > 2 and tuple(words[-2:]) in PAIRS:
        return PAIRS[words[-2], words[-1]], "_".join(words[-2:])
    if len(words) > 1 and words[-1] in ENDINGS:
        return ENDINGS[words[-1]], words[-1]
    unit = _beside_its_word(words[-1], " ".join(words[:-1])) if len(words) > 1 else ""
    return (unit, words[-1]) if unit and not _is_one_of_many(header.strip(), beside) else (NONE, "")


def _beside_its_word(letter: str, words: str) -> str:
    """The unit that one letter is beside these words; "" if none of them says what is measured."""
    unit, named = LETTERS.get(letter, ("", ""))
    parts = re.split(r"[_\s.\-]+", words.lower())
    return unit if named and any(re.fullmatch(named, part) for part in parts) else ""


def _is_one_of_many(header: str, beside: Collection[str]) -> bool:
    """Whether other columns have the same name but for the last letter: then it numbers them."""
    stem = header[:-1]
    return any(other.strip()[:-1] == stem and other.strip() != header for other in beside)
