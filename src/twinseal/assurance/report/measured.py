"""What the stages measured, read out of their statements into the shapes that tables and figures need.

Only for showing: what decides is `gates`, which reads single numbers and trusts no shape. Here a measure that is
absent or no number is left out, and whoever shows it says so.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from twinseal.evidence import Statement, measures

_ABBREVIATIONS = ("fgm", "bim", "pgd")
_EPSILON = re.compile(r"eps-(\d+(?:\.\d+)?)\Z")


@dataclass(frozen=True)
class Curve:
    """One line of a figure: what an attack, or the certificate, does to a measure as ε grows.

    Attributes:
        name: As shown in the legend.
        kind: "attack", "worst" (the worst of all attacks, window by window) or "certified".
        points: (ε in σ, value), ascending in ε; ε = 0 is the clean model.
        aim: What the attack aims at: "any" wrong estimate, or "healthy-washing".
    """

    name: str
    kind: str
    points: tuple[tuple[float, float], ...]
    aim: str = "any"


@dataclass(frozen=True)
class Poisoning:
    """One poisoning attack at one share.

    Attributes:
        name: The attack.
        share: Of units poisoned, 0 to 1.
        values: Everything that was measured of it.
    """

    name: str
    share: float
    values: Mapping[str, Any]


def number(value: Any) -> float | None:
    """The finite number that a measure is; None for anything else, truth values included."""
    if type(value) not in (int, float):
        return None
    try:
        found = float(value)
    except OverflowError:
        return None
    return found if math.isfinite(found) else None


def of(statements: Mapping[str, Statement], stage: str, *path: str) -> Any:
    """What lies at `path` in the measures of `stage`; None when nothing does."""
    statement = statements.get(stage)
    found: Any = measures(statement) if statement else {}
    for key in path:
        found = found.get(key) if isinstance(found, Mapping) else None
    return found


def group(statements: Mapping[str, Statement], stage: str, *path: str) -> dict[str, Any]:
    """The group of measures at `path`; empty when there is none."""
    found = of(statements, stage, *path)
    return found if isinstance(found, dict) else {}


def records(statements: Mapping[str, Statement], stage: str, *path: str) -> list[dict[str, Any]]:
    """The list of records at `path`, without whatever in it is no record."""
    found = of(statements, stage, *path)
    return [item for item in found if isinstance(item, dict)] if isinstance(found, list) else []


def by_epsilon(values: Mapping[str, Any], measure: str) -> tuple[tuple[float, float], ...]:
    """(ε, value) of one measure from a group keyed `eps-0.1`, ascending."""
    points = []
    for key, item in values.items():
        match = _EPSILON.match(str(key))
        value = number(item.get(measure)) if isinstance(item, Mapping) else None
        if match and value is not None:
            points.append((float(match[1]), value))
    return tuple(sorted(points))


def curves(statements: Mapping[str, Statement], measure: str) -> tuple[Curve, ...]:
    """Every evasion attack's curve, then the worst of all, then the certified one; each begins at the clean model."""
    clean = number(of(statements, "evade", "clean", measure))
    start = ((0.0, clean),) if clean is not None else ()
    listed = records(statements, "evade", "attacks")
    several = len({str(item.get("threat")) for item in listed}) > 1
    attacks: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for item in listed:
        epsilon, value = number(item.get("epsilon_sigma")), number(item.get(measure))
        if epsilon is not None and value is not None:
            key = (attack_name(item, with_threat=several), str(item.get("aim", "any")))
            attacks.setdefault(key, []).append((epsilon, value))
    found = [Curve(name, "attack", (*start, *sorted(points)), aim) for (name, aim), points in attacks.items()]
    for name, kind in (("worst attack on each window", "worst"), ("certified upper bound", "certified")):
        points = certified(statements, measure) if kind == "certified" else _worst(statements, measure)
        if points:
            found.append(Curve(name, kind, (*start, *points)))
    return tuple(found)


def certified(statements: Mapping[str, Statement], measure: str) -> tuple[tuple[float, float], ...]:
    """(ε, certified value): as the assessor measured it, and where only the builder did, as the builder did."""
    own = dict(by_epsilon(group(statements, "train", "certified"), measure))
    return tuple(sorted({**own, **dict(by_epsilon(group(statements, "evade", "certified"), measure))}.items()))


def attack_name(item: Mapping[str, Any], *, with_threat: bool = False) -> str:
    """An attack as people say it: its name, what it aims at, and whose it is where there are several."""
    name, aim, threat = (item.get(key) for key in ("name", "aim", "threat"))
    shown = "random noise" if name == "noise" else str(name).upper() if name in _ABBREVIATIONS else str(name)
    parts = [shown, aim if isinstance(aim, str) and aim != "any" else "", str(threat) if with_threat and threat else ""]
    return " · ".join(part for part in parts if part)


def _worst(statements: Mapping[str, Statement], measure: str) -> tuple[tuple[float, float], ...]:
    return by_epsilon(group(statements, "evade", "worst"), measure)


def poisonings(statements: Mapping[str, Statement]) -> tuple[Poisoning, ...]:
    """Every poisoning attack at every share, as measured."""
    found = []
    for item in records(statements, "poison", "attacks"):
        share = number(item.get("share"))
        if share is not None:
            found.append(Poisoning(str(item.get("name", "?")), share, item))
    return tuple(found)


def columns(rows: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """The keys under which any of `rows` has text or a number, in order of appearance."""
    keys = dict.fromkeys(key for row in rows for key in row)
    return tuple(
        key for key in keys if any(isinstance(row.get(key), str) or number(row.get(key)) is not None for row in rows)
    )
