"""The keys of measures, each with its form, and the one place where a number becomes such a key.

>>> epsilon_key(0.1), liars_key(2), number_of("eps-0.25")
('eps-0.1', 'liars-2', 0.25)
"""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Literal

from twinseal.config import Field

_NUMBER = r"(?:0|[1-9][0-9]*)(?:\.[0-9]*[1-9])?"  # no last 0 after the point: a number has one key
_COUNT = r"(?:0|[1-9][0-9]*)"

Epsilon = Annotated[str, Field(pattern=rf"^eps-{_NUMBER}$")]  # ε in σ
Liars = Annotated[str, Field(pattern=rf"^liars-{_COUNT}$")]  # members of a median that an attacker controls
Count = Annotated[str, Field(pattern=rf"^k-{_COUNT}$")]  # sensors that an attacker controls
Rows = Annotated[str, Field(pattern=rf"^rows-{_COUNT}$")]  # of the last, that an attacker writes
Queries = Annotated[str, Field(pattern=rf"^queries-{_COUNT}$")]
Rounding = Annotated[str, Field(pattern=rf"^rounding-{_NUMBER}$")]  # in cycles
Size = Annotated[str, Field(pattern=rf"^(?:size|rate)-{_NUMBER}$")]  # σ; rate: share of the allowed change
Share = Annotated[str, Field(pattern=rf"^share-{_NUMBER}$")]  # of the training units
BadUnits = Annotated[str, Field(pattern=rf"^bad-{_COUNT}$")]  # training units that are bad
Regime = Annotated[str, Field(pattern=r"^point-[1-9][0-9]*$")]  # of the contract's operating points, from 1
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_. -]*$", max_length=80)]  # of a threat, a channel, …
Aim = Literal["any", "healthy-washing"]
Mode = Literal["plain", "commissioned"]


def epsilon_key(epsilon_sigma: float) -> str:
    """The key of an ε, σ."""
    return f"eps-{_plain(epsilon_sigma)}"


def liars_key(liars: int) -> str:
    """The key of a number of members that an attacker controls."""
    return f"liars-{liars}"


def count_key(sensors: int) -> str:
    """The key of a number of sensors that an attacker controls."""
    return f"k-{sensors}"


def rows_key(rows: int) -> str:
    """The key of a number of rows that an attacker writes."""
    return f"rows-{rows}"


def queries_key(queries: int) -> str:
    """The key of a number of questions."""
    return f"queries-{queries}"


def rounding_key(cycles: float) -> str:
    """The key of a rounding, cycles."""
    return f"rounding-{_plain(cycles)}"


def size_key(size: float) -> str:
    """The key of the size of a falsified history, σ."""
    return f"size-{_plain(size)}"


def rate_key(share: float) -> str:
    """The key of the size of a drift: the share of the change per cycle that the contract allows."""
    return f"rate-{_plain(share)}"


def share_key(share: float) -> str:
    """The key of a share of units."""
    return f"share-{_plain(share)}"


def bad_units_key(units: int) -> str:
    """The key of a number of bad training units."""
    return f"bad-{units}"


def regime_key(place: int) -> str:
    """The key of an operating point, by its place in the contract, from 0."""
    return f"point-{place + 1}"


def number_of(key: str) -> float:
    """The number in a key that one of the functions above made. Law: `number_of(epsilon_key(e)) == e`.

    Raises:
        ValueError: There is none in it.
    """
    return float(key.rpartition("-")[2])


def _plain(number: float) -> str:
    """Exactly this number without an exponent: 1e-05 would be another form of key.

    Raises:
        ValueError: Neither 0 nor within 1e-9 and 1e15.
    """
    if number != 0 and not 1e-9 <= number < 1e15:
        raise ValueError(f"key: expected 0, or a number from 1e-9 to 1e15, got {number}")
    whole, _, decimals = f"{Decimal(repr(float(number) + 0.0)):f}".partition(".")  # + 0.0: -0.0 is 0
    decimals = decimals.rstrip("0")
    return f"{whole}.{decimals}" if decimals else whole
