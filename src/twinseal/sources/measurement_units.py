"""Units of measurement: what a reading of a plant's file becomes in the unit of the contract.

pint knows the units. A conversion must be a factor and an offset, of one physical quantity; what it found is in the
signed record of ingest, and the twin uses the same two numbers, without pint.

    >>> conversion("degF", "°C")
    (0.555555555556, -17.7777777778)
    >>> conversion("bar", "kPa")
    (100.0, 0.0)
"""

from __future__ import annotations

import math
import re
from functools import cache
from typing import Any

import pint

PLAIN = {
    **{"°C": "degC", "°F": "degF", "°R": "degR", "°": "degree", "Ω": "ohm"},
    **{"psia": "psi", "lbm": "lb", "%": "percent", "1": "dimensionless", "Nm": "newton*meter"},
}
_RAISED = str.maketrans({"²": "2", "³": "3"})
_WORD = re.compile(r"[°%]?[A-Za-zµμΩ]+|[°%]|\A1\Z")
_POWER = re.compile(r"(?<=[A-Za-z])([23])(?![0-9])")  # m3
_WRITTEN = re.compile(r"[A-Za-zµμΩ°%·*/^() .0-9-]{1,40}\Z")
_HUGE = re.compile(r"[0-9)][ ]*(\*\*|\^)|[0-9]{7}")  # 9**9**9 would not end
_PROBES = (0.0, 1.0, -40.0, 1e3)


def conversion(measured_in: str, wanted: str) -> tuple[float, float]:
    """Factor and offset from one unit of measurement to another: wanted = factor × measured + offset.

    Raises:
        ValueError: pint does not know one of them, they are of two quantities, or no factor and offset will do (dB).
    """
    try:
        measured, target = map(_parse, (measured_in, wanted))
        found = [float(_registry().Quantity(value, measured).to(target).magnitude) for value in _PROBES]
    except Exception as error:
        # Of what is no unit pint makes its own errors, tokenize's, AttributeError and more, by what is wrong.
        reason = " ".join(str(error).split())[:120]
        raise ValueError(
            f"expected a unit of measurement that becomes {wanted}, got {measured_in!r} ({reason})"
        ) from error
    offset, factor = found[0], found[1] - found[0]
    fitted = [factor * value + offset for value in _PROBES]
    if not all(math.isclose(*pair, rel_tol=1e-9, abs_tol=1e-9) for pair in zip(fitted, found, strict=True)):
        raise ValueError(f"expected a unit that becomes {wanted} by a factor and an offset, got {measured_in!r}")
    return _rounded(factor), _rounded(offset)


def _parse(name: str) -> Any:
    name = name.translate(_RAISED)
    if not _WRITTEN.match(name) or _HUGE.search(name):
        raise ValueError("no unit of measurement")
    words = _WORD.sub(lambda word: PLAIN.get(word[0], word[0]), name.strip())
    return _registry().Unit(_POWER.sub(r"**\1", words.replace("·", "*")))


@cache
def _registry() -> Any:
    return pint.UnitRegistry(autoconvert_offset_to_baseunit=True)


def _rounded(value: float) -> float:
    """To 12 digits: the last ones of a sum are chance."""
    return float(f"{value:.12g}") if abs(value) > 1e-12 else 0.0
