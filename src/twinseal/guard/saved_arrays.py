"""Arrays with an entry for each unit, taken from objects and given back to them: how a twin keeps what it knows.

An object names its arrays. What is given back must have the names, types and shapes that the object expects, but for
the number of units: else nothing is changed.

    >>> import numpy as np
    >>> class Counter:
    ...     def __init__(self, units):
    ...         self.rows = np.zeros((units, 2), dtype=np.int64)
    >>> counter, other = Counter(units=4), Counter(units=8)
    >>> counter.rows[1] = 7
    >>> give_back(other, ("rows",), taken(counter, ("rows",), units=2), units=2)
    >>> other.rows.sum(axis=1).tolist()
    [0, 14, 0, 0, 0, 0, 0, 0]
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from numpy.typing import NDArray

from twinseal.errors import EvidenceError

Arrays = dict[str, NDArray[Any]]


def taken(owner: object, names: Sequence[str], *, units: int) -> Arrays:
    """The entries of the first `units` units of the arrays `names` of `owner`, by their names: views."""
    return {name: getattr(owner, name)[:units] for name in names}


def check(owner: object, names: Sequence[str], arrays: Mapping[str, NDArray[Any]], *, units: int) -> None:
    """Refuse arrays that `owner` cannot have.

    Raises:
        EvidenceError: One is absent, or of another type or shape; or the owner has fewer units.
    """
    for name in names:
        own, found = getattr(owner, name), arrays.get(name)
        expected = (units, *own.shape[1:])
        if found is None or found.dtype != own.dtype or found.shape != expected or units > len(own):
            got = "none" if found is None else f"{found.dtype} {found.shape}"
            raise EvidenceError(f"{name}: expected {own.dtype} {expected}, got {got}")


def give_back(owner: object, names: Sequence[str], arrays: Mapping[str, NDArray[Any]], *, units: int) -> None:
    """Set the entries of the first `units` units of the arrays `names` of `owner`.

    Raises:
        EvidenceError: As `check`.
    """
    check(owner, names, arrays, units=units)
    for name in names:
        getattr(owner, name)[:units] = arrays[name]


def parts(prefix: str, arrays: Mapping[str, NDArray[Any]]) -> Arrays:
    """Those of `arrays` whose name begins with `prefix`, without it."""
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}


def named(prefix: str, arrays: Mapping[str, NDArray[Any]]) -> Arrays:
    """The same arrays, their names with `prefix` before them.

    >>> import numpy as np
    >>> sorted(named("guard.", {"rows": np.zeros(1)}))
    ['guard.rows']
    """
    return {f"{prefix}{name}": array for name, array in arrays.items()}
