"""Acceptance: a person lifts the mark of what a program proposed, and policy says who it was, and when.

Nothing is signed here. Policy's owners sign policy as it then is (`trust.policy_approval`), and see who accepted what.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from twinseal.config import parse_yaml
from twinseal.errors import ConfigError, PolicyError
from twinseal.files import write_whole
from twinseal.policy_entries import CONTRACT, GATES, THREATS, Mark, marks
from twinseal.policy_text import require_value, with_key
from twinseal.reading import read_regular

MAX_BYTES, MAX_NAME = 1 << 20, 80


@dataclass(frozen=True)
class Offered:
    """What a person may accept, as it was read.

    Attributes:
        folder: policy/.
        marks: Of the entries that are only proposed.
        files: The bytes of their files, by name: nothing is written over others.
    """

    folder: Path
    marks: tuple[Mark, ...]
    files: dict[str, bytes]


def offered_entries(folder: Path, asset: str) -> Offered:
    """The contract and the threats of `asset`, where they are only proposed.

    Raises:
        ConfigError: Neither is; or a file is no policy.
    """
    return _offered(folder, asset, (CONTRACT, THREATS))


def offered_bounds(folder: Path, asset: str, gates: Collection[str], *, every: bool = False) -> Offered:
    """The bounds of `asset` that are only proposed: of the gates named, or of every gate.

    Raises:
        ConfigError: One of them is not; names the nearest one that is.
    """
    offered = _offered(folder, asset, (GATES,))
    names = [mark.gate for mark in offered.marks]
    for gate in () if every else gates:
        if gate not in names:
            near = difflib.get_close_matches(gate, names, n=1)
            hint = f"; did you mean '{near[0]}'?" if near else ""
            raise ConfigError(f"{GATES}: expected a gate with a proposed bound for '{asset}', got '{gate}'{hint}")
    chosen = tuple(mark for mark in offered.marks if every or mark.gate in gates)
    return Offered(folder, chosen, offered.files)


def accept(offered: Offered, person: str, today: date) -> None:
    """Lift the marks, and say in their place who accepted the entries.

    Side effects: writes each file whole, or not at all.

    Raises:
        ConfigError: The person has no name of one plain line.
        PolicyError: A file was changed since it was read: nothing is written.
    """
    if not person.strip() or not person.isprintable() or len(person) > MAX_NAME:
        raise ConfigError(f"--as: expected a name of at most {MAX_NAME} letters on one line, got {person[:80]!r}")
    for name, data in offered.files.items():
        if read_regular(offered.folder / name, MAX_BYTES) != data:
            raise PolicyError(
                f"{offered.folder / name}: expected the file that was shown, got another one since",
                remedy="Nothing was written. Run the same command again, and read what it shows.",
            )
    for name in sorted({mark.file for mark in offered.marks}):
        own = [mark for mark in offered.marks if mark.file == name]
        changed = _lifted(offered.files[name], name, own, f"{person.strip()}, {today.isoformat()}")
        write_whole(offered.folder / name, changed)


def _offered(folder: Path, asset: str, names: tuple[str, ...]) -> Offered:
    files = {name: read_regular(folder / name, MAX_BYTES) for name in names}
    content = {name: parse_yaml(data, str(folder / name)) for name, data in files.items()}
    found = tuple(mark for mark in marks(content) if mark.asset == asset and mark.proposed)
    if not found:
        others = sorted({mark.asset for mark in marks(content) if mark.proposed})
        raise ConfigError(
            f"{folder}: expected something that is only proposed for '{asset}' in {', '.join(names)}, got nothing",
            remedy=f"Proposed are entries for: {', '.join(others)}" if others else "Nothing waits to be accepted here.",
        )
    return Offered(folder, found, files)


def _lifted(data: bytes, name: str, own: Collection[Mark], accepted: str) -> bytes:
    """The file with the marks lifted: every other byte stays."""
    text, value = data.decode(), parse_yaml(data, name)
    for mark in own:
        place: tuple[str | int, ...] = ("assets", mark.asset)
        holder = value
        if mark.gate:
            at = next(i for i, gate in enumerate(value["gates"]) if gate["name"] == mark.gate)
            place, holder = ("gates", at, *place), value["gates"][at]
        text = with_key(text, place, "proposed", "accepted", accepted)
        entry = dict(holder["assets"][mark.asset])
        if "accepted" in entry:  # as an empty key, beside which the mark is emptied too
            entry["proposed"] = ""
        else:
            del entry["proposed"]
        holder["assets"][mark.asset] = entry | {"accepted": accepted}
    require_value(text, value, name)
    return text.encode()
