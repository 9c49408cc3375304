"""What a measured number is, and groups of them: frozen, strict, each number with its unit, label and better direction.

>>> class Example(Group):
...     rmse_cycles: float = quantity("cycles", "RMSE", "smaller")
>>> Example(rmse_cycles=11.5).to_dict()
{'rmse_cycles': 11.5}
>>> read(Example, {"rmse_cycle": 11.5}, "train")
Traceback (most recent call last):
twinseal.errors.EvidenceError: train: measures: rmse_cycle: unknown key; did you mean 'rmse_cycles'?; ...
"""

from __future__ import annotations

import difflib
import itertools
import re
import types
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

from twinseal.config import Field, Settings, parse
from twinseal.errors import ConfigError, EvidenceError

Better = Literal["smaller", "larger", "neither"]
Path = tuple[str, ...]
Keys = Mapping[str, frozenset[str]]
"""The keys that measures can have, by the path of their mapping; `NOT_WRITTEN`: nothing at or below this path."""
NOT_WRITTEN: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Quantity:
    """What a number counts.

    Attributes:
        unit: In which unit: cycles, share, σ, windows, units, flags, ….
        label: What people call it.
        better: Which direction is better for the operator of the machine.
    """

    unit: str
    label: str
    better: Better


def quantity(unit: str, label: str, better: Better = "neither", *, optional: bool = False) -> Any:
    """A field of a `Group` that holds a number, or, as a mapping, numbers of one kind.

    Args:
        unit: As in `Quantity`.
        label: As in `Quantity`.
        better: As in `Quantity`.
        optional: The measure may be absent: what it counts does not exist in this run.
    """
    extra: dict[str, Any] = {"unit": unit, "label": label, "better": better}
    return Field(default=None, json_schema_extra=extra) if optional else Field(json_schema_extra=extra)


class Group(Settings):
    """Measures that belong together. A subclass has fields made by `quantity`, other groups, and mappings of either."""

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON; what is absent is left out. Law: `read(type(group), group.to_dict(), "") == group`."""
        return self.model_dump(mode="json", exclude_none=True)

    def fields(self) -> dict[str, Any]:
        """The values of this group by field: what a group that has more fields is built from."""
        return dict(self)

    def numbers(self) -> dict[str, float]:
        """The numbers that stand in this group itself, by field; no nested groups, nothing absent."""
        found = ((name, getattr(self, name)) for name in type(self).model_fields)
        return {name: value for name, value in found if type(value) in (int, float)}

    @classmethod
    def quantity(cls, field: str) -> Quantity:
        """What the number in `field` is.

        Raises:
            KeyError: The field is none, or holds no number.
        """
        return _quantity_of(cls, field)


G = TypeVar("G", bound=Group)


def read(kind: type[G], value: Any, where: str) -> G:
    """The group of `kind` that plain JSON stands for. Signed JSON is still untrusted input.

    Raises:
        EvidenceError: A key is unknown or missing, or a value is null, NaN, infinite or of another type; it names them.
    """
    place = f"{where}: measures"
    null = next((path for path, found in _walk_json(value, ()) if found is None), None)
    if null is not None:
        raise EvidenceError(f"{place}: {'/'.join(null)}: expected a value, got null")
    try:
        return parse(kind, value, place)
    except ConfigError as error:
        raise EvidenceError(str(error)) from error


@dataclass(frozen=True)
class Leaf:
    """A measure that a type allows.

    Attributes:
        path: Names of fields; `*` stands for any key of a mapping.
        patterns: For each `*` in turn, the regular expression of its keys.
        quantity: What the number is.
    """

    path: Path
    patterns: tuple[str, ...]
    quantity: Quantity

    @property
    def name(self) -> str:
        """As a gate writes it: joined by slashes."""
        return "/".join(self.path)

    def matches(self, path: Path) -> bool:
        """Whether `path`, with keys where this one has `*`, is this measure."""
        return len(path) == len(self.path) and self.is_below(path)

    def is_below(self, path: Path) -> bool:
        """Whether this measure is `path`, or stands in the group or mapping at `path`."""
        patterns = iter(self.patterns)
        pairs = zip(self.path, path, strict=False)
        fits = all(bool(re.fullmatch(next(patterns), b)) if a == "*" else a == b for a, b in pairs)
        return fits and len(path) <= len(self.path)


def leaves(kind: type[Group]) -> tuple[Leaf, ...]:
    """Every measure that a group of `kind` can hold, in the order of its fields."""
    return tuple(_leaves(kind, (), ()))


def resolve(kind: type[Group], name: str, where: str) -> Leaf:
    """The measure that `name` (joined by slashes) stands for.

    Raises:
        ConfigError: It is a group, or no group of `kind` can hold it; names the nearest one that it can.
    """
    path, known = tuple(name.split("/")), leaves(kind)
    found = next((leaf for leaf in known if leaf.matches(path)), None)
    if found is not None:
        return found
    inside = [leaf.path[len(path) :] for leaf in known if leaf.is_below(path)]
    if inside:
        expected = f"expected a measure in it, such as '{_readable((*path, *min(inside, key=len)))}'"
        raise ConfigError(f"{where}: '{name}' is a group of measures; {expected}")
    near = _nearest(path, known)
    raise ConfigError(f"{where}: no stage writes the measure '{name}'" + (f"; did you mean '{near}'?" if near else ""))


def groups_by_key(group: Group, prefix: Path = ()) -> Iterator[tuple[Path, Group]]:
    """The groups that stand under keys of mappings, deepest only, with their paths: one for each single result."""
    for name in type(group).model_fields:
        yield from _keyed(getattr(group, name), (*prefix, name))


def _keyed(value: Any, path: Path) -> Iterator[tuple[Path, Group]]:
    if isinstance(value, Group):
        yield from groups_by_key(value, path)
    elif isinstance(value, Mapping):
        for key, item in value.items():
            below = list(_keyed(item, (*path, str(key))))
            yield from below if below or not isinstance(item, Group) else [((*path, str(key)), item)]


def _walk_json(value: Any, path: Path) -> Iterator[tuple[Path, Any]]:
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _walk_json(item, (*path, str(key)))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _walk_json(item, (*path, str(index)))
    else:
        yield path, value


def _leaves(kind: type[Group], path: Path, patterns: tuple[str, ...]) -> Iterator[Leaf]:
    for name, field in kind.model_fields.items():
        yield from _below(kind, name, field.annotation, (*path, name), patterns)


def _below(kind: type[Group], field: str, annotation: Any, path: Path, patterns: tuple[str, ...]) -> Iterator[Leaf]:
    annotation = _without_none(annotation)
    if isinstance(annotation, type) and issubclass(annotation, Group):
        yield from _leaves(annotation, path, patterns)
    elif get_origin(annotation) is dict:
        key, value = get_args(annotation)
        yield from _below(kind, field, value, (*path, "*"), (*patterns, _pattern(key)))
    elif annotation in (int, float):
        yield Leaf(path, patterns, _quantity_of(kind, field))


def _without_none(annotation: Any) -> Any:
    if get_origin(annotation) in (Union, types.UnionType):
        (annotation,) = (item for item in get_args(annotation) if item is not type(None))
    return annotation


def _pattern(key: Any) -> str:
    """The regular expression of a mapping's keys: a `Literal`, or text with a pattern (see `keys`)."""
    if get_origin(key) is Literal:
        return "|".join(map(re.escape, get_args(key)))
    for extra in getattr(key, "__metadata__", ()):
        for item in getattr(extra, "metadata", [extra]):
            if getattr(item, "pattern", None):
                return str(item.pattern)
    return "[^/]+"


def _quantity_of(kind: type[Group], field: str) -> Quantity:
    extra = kind.model_fields[field].json_schema_extra
    if not isinstance(extra, dict) or "unit" not in extra:
        raise KeyError(f"{kind.__name__}.{field}: no quantity")
    return Quantity(str(extra["unit"]), str(extra["label"]), extra["better"])  # type: ignore[arg-type]


def _nearest(path: Path, known: tuple[Leaf, ...]) -> str:
    """The measure that `path` is closest to, its own keys kept where they fit."""
    shown = [_with_keys_of(path, leaf) for leaf in known]
    near = max(shown, key=lambda name: _similarity(path, name), default=())
    return _readable(near) if near and _similarity(path, near) >= 0.5 else ""


def _readable(path: Path) -> str:
    """For people: any key of a mapping is `<key>`."""
    return "/".join("<key>" if part == "*" else part for part in path)


def _with_keys_of(path: Path, leaf: Leaf) -> Path:
    """The path of a measure, with the keys that `path` has at its places where they have the right form."""
    patterns, filled = iter(leaf.patterns), []
    for part, own in itertools.zip_longest(leaf.path, path[: len(leaf.path)], fillvalue=""):
        filled.append(own if part == "*" and re.fullmatch(next(patterns), own) else part)
    return tuple(filled)


def _similarity(one: Path, other: Path) -> float:
    """0 to 1: of paths of one length part by part, any key being half right; of others the whole text, for less."""
    if len(one) != len(other):
        return 0.75 * _alike("/".join(one), "/".join(other))
    return sum(0.5 if b == "*" else _alike(a, b) for a, b in zip(one, other, strict=True)) / len(one)


def _alike(one: str, other: str) -> float:
    return difflib.SequenceMatcher(None, one, other).ratio()
