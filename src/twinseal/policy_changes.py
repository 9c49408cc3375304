"""What changed from one policy to another, in words, and whether a change may let a worse model through.

A policy here is plain data: the content of each file of policy/, by its name. What is not known to make the policy
stricter counts as looser: a removed gate or threat, a higher upper bound, a wider range, and every change that this
module does not understand.

    >>> old = {"gates.yaml": {"gates": [{"name": "accuracy", "at_most": 9, "unit": "cycles"}]}}
    >>> new = {"gates.yaml": {"gates": [{"name": "accuracy", "at_most": 12, "unit": "cycles"}]}}
    >>> [str(change) for change in policy_changes(old, new)]
    ['looser: gates.yaml: accuracy: at_most: 9 → 12']
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from twinseal.config import MARKS
from twinseal.policy_entries import CONTRACT, GATES, THREATS, marks

Path = tuple[str, ...]
_WORDS = ("why", "attacker")  # text for people: it decides nothing
# Where a larger number lets less through, and where a smaller one does; elsewhere a new number may do either.
_STRICTER_WHEN_LARGER = ("at_least", "minimum")
_STRICTER_WHEN_SMALLER = ("at_most", "maximum")
_MORE_IS_STRICTER = ("families", "epsilon_sigma", "attacks", "aims", "sizes", "shares", "queries", "directions")
_SHOWN = 60


@dataclass(frozen=True)
class Change:
    """One difference between two policies.

    Attributes:
        loosens: Whether it may let a worse model, or worse data, through.
        where: The file, then keys; an item of a list by its name.
        what: What was there, and what is there now.
    """

    loosens: bool
    where: Path
    what: str

    def __str__(self) -> str:
        return f"{'looser' if self.loosens else 'stricter'}: {': '.join((*self.where, self.what))}"


def policy_changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> tuple[Change, ...]:
    """Every change from `old` to `new`, those that may loosen first; () when both decide the same."""
    found = (*_mark_changes(old, new), *_mapping_changes(old, new, ()))
    return tuple(sorted(found, key=lambda change: not change.loosens))


def _mark_changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[Change]:
    """What was proposed or accepted since, and marks that nobody lifted by name."""
    before, after = marks(old), marks(new)
    marked = {mark.entry_of_asset for mark in after}
    for mark in after:
        if mark not in before:
            yield Change(bool(mark.accepted), (mark.file,), str(mark))
    for mark in before:
        if mark.entry_of_asset not in marked:
            was = (
                "no longer only proposed, and accepted by nobody" if mark.proposed else "no longer says who accepted it"
            )
            yield Change(True, (mark.file,), f"{mark.entry}: {was}")


def _changes(old: Any, new: Any, where: Path) -> Iterator[Change]:
    if where[-1] in _WORDS or (old == new and type(old) is type(new)):
        return
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        yield from _mapping_changes(old, new, where)
    elif _is_named(old) and _is_named(new):
        before, after = ({str(item["name"]): item for item in side} for side in (old, new))
        yield from _item_changes(before, after, where)
    elif isinstance(old, list) and isinstance(new, list) and where[-1] in _MORE_IS_STRICTER:
        fewer = any(item not in new for item in old)
        yield Change(fewer, where, f"{_short_text(old)} → {_short_text(new)}")
    else:
        yield Change(not _is_stricter(old, new, where[-1]), where, f"{_short_text(old)} → {_short_text(new)}")


def _mapping_changes(old: Mapping[str, Any], new: Mapping[str, Any], where: Path) -> Iterator[Change]:
    for key in (*old, *(key for key in new if key not in old)):
        if _is_mark(key, old, new, where):
            continue
        here = (*where, str(key))
        if key not in new:
            yield Change(True, here, f"removed (was {_short_text(old[key])})")
        elif key not in old:
            yield Change(True, here, f"added: {_short_text(new[key])}")
        else:
            yield from _changes(old[key], new[key], here)


def _is_mark(key: str, old: Mapping[str, Any], new: Mapping[str, Any], where: Path) -> bool:
    """Whether a key is a mark of an asset's entry, of which `_mark_changes` speaks."""
    place = where[2:] if where[:1] == (GATES,) else where[1:] if where[:1] in ((CONTRACT,), (THREATS,)) else ()
    texts = [side[key] for side in (old, new) if key in side]
    return key in MARKS and len(place) == 2 and place[0] == "assets" and all(isinstance(t, str) and t for t in texts)


def _item_changes(old: Mapping[str, Any], new: Mapping[str, Any], where: Path) -> Iterator[Change]:
    """Of lists whose items have names: one item fewer loosens, one more does not."""
    for name in (*old, *(name for name in new if name not in old)):
        here = (*where[:1], name) if where[1:] == ("gates",) else (*where, name)
        if name not in new:
            yield Change(True, here, "removed")
        elif name not in old:
            yield Change(False, here, "added")
        else:
            yield from _mapping_changes(old[name], new[name], here)


def _is_stricter(old: Any, new: Any, key: str) -> bool:
    numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in (old, new))
    if not numbers:
        return False
    return (key in _STRICTER_WHEN_LARGER and new > old) or (key in _STRICTER_WHEN_SMALLER and new < old)


def _is_named(value: Any) -> bool:
    items = value if isinstance(value, list) else []
    return bool(items) and all(isinstance(item, Mapping) and "name" in item for item in items)


def _short_text(value: Any) -> str:
    """For people: one short line."""
    if isinstance(value, Mapping):
        text = ", ".join(f"{key} {_short_text(item)}" for key, item in value.items())
    elif isinstance(value, list):
        text = "[" + ", ".join(map(_short_text, value)) + "]"
    else:
        text = " ".join(str(value).split())
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"
