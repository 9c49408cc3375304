"""Entries of policy by asset: the parts that are about one asset, and who proposed or accepted an entry.

A policy here is plain data: the content of each file of policy/, by its name.

Parts. A stage obeys the part of a file that is about the asset in hand, and its record names this part by its own
digest: a second asset in the same files makes no evidence about the first one stale. A part is the file without the
entries of other assets, and without marks: who accepted an entry changes nothing that is measured.

    >>> whole = {"seed": 20, "assets": {"fan": {"size": 1, "proposed": "by a tool"}, "pump": {"size": 2}}}
    >>> part_for(whole, "fan")
    {'seed': 20, 'assets': {'fan': {'size': 1}}}
    >>> part_subject("threats.yaml", whole, "fan").name
    'policy/threats.yaml#fan'

Marks. A contract, an asset's threats and an asset's bound of a gate may carry one of two marks: `proposed` (who or what
proposed it, and from what) or `accepted` (who accepted it, and when). An entry that is only proposed does not count:
the verdict on its asset is FAILED.

    >>> found = marks({"contract.yaml": {"assets": {"fan": {"proposed": "twinseal asset new"}}}})
    >>> found[0].complaint
    "contract of 'fan': proposed by twinseal asset new, not yet accepted"
    >>> found[0].command
    'twinseal asset accept fan --as NAME'
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from twinseal.config import MARKS
from twinseal.digests import canonical_json, sha256
from twinseal.errors import ConfigError
from twinseal.evidence import Subject

FOLDER = "policy"
CONTRACT, THREATS, GATES = "contract.yaml", "threats.yaml", "gates.yaml"
DIVIDED = (CONTRACT, "evaluation.yaml", "reference.yaml", THREATS)
"""The files with entries by asset that stages obey. The gates are read whole, by assess alone."""
_BY_ASSET = ("assets", "fleets")
RELATIONS = {"at_most": "at most", "at_least": "at least", "equals": "exactly"}
_KINDS = {CONTRACT: "contract", THREATS: "threats"}


def part_for(value: Any, asset: str) -> Any:
    """The part of one file's content that is about `asset`; in the order of the file."""
    if not isinstance(value, Mapping):
        return value
    divided = {key: _own(item, asset) if key in _BY_ASSET else item for key, item in value.items()}
    return {key: item for key, item in divided.items() if item != {} or key not in _BY_ASSET}


def part_subject(file: str, value: Any, asset: str) -> Subject:
    """That part of the file called `file`, by its digest. The order of keys does not count.

    Raises:
        ConfigError: It holds what JSON has no form for.
    """
    try:
        return Subject(f"{FOLDER}/{file}#{asset}", sha256(canonical_json(part_for(value, asset))))
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{FOLDER}/{file}: expected values that JSON has a form for, got {error}") from error


def part_bytes(value: Any, asset: str) -> bytes:
    """That part of a file's content as JSON, for people and DVC; in the order of the file, which channels have too."""
    return (json.dumps(part_for(value, asset), indent=2, ensure_ascii=False) + "\n").encode()


def part_subjects(content: Mapping[str, Any]) -> tuple[Subject, ...]:
    """The parts of a policy that stages obey, for each asset that has a contract.

    Args:
        content: The value of each file, by its name; of a signed approval, or read from policy/.

    Raises:
        ConfigError: A file holds what JSON has no form for.
    """
    known = [asset for asset in _mapping(content.get(CONTRACT), "assets") if isinstance(asset, str)]
    return tuple(part_subject(file, content[file], asset) for asset in known for file in DIVIDED if file in content)


@dataclass(frozen=True)
class Mark:
    """Where an entry of policy comes from.

    Attributes:
        file: The file of policy/.
        asset: Whose entry it is.
        gate: Whose bound it is; "" if it is none.
        bound: The bound in words, e.g. `at most 9`; "" if it is none.
        proposed: What proposed it, and from what; "" if it is accepted.
        accepted: Who accepted it, and when; "" if nobody has.
    """

    file: str
    asset: str
    gate: str = ""
    bound: str = ""
    proposed: str = ""
    accepted: str = ""

    @property
    def entry(self) -> str:
        """What carries the mark, for people."""
        return f"gate {self.gate} of '{self.asset}' ({self.bound})" if self.gate else self._of_asset

    @property
    def entry_of_asset(self) -> tuple[str, str, str]:
        """Which entry it is, whatever its bound or its mark."""
        return self.file, self.asset, self.gate

    @property
    def _of_asset(self) -> str:
        return f"{_KINDS.get(self.file, self.file)} of '{self.asset}'"

    @property
    def command(self) -> str:
        """What a person types to accept it."""
        where = f"gates accept {self.asset} {self.gate}" if self.gate else f"asset accept {self.asset}"
        return f"twinseal {where} --as NAME"

    @property
    def complaint(self) -> str:
        """That it does not count yet."""
        return f"{self.entry}: proposed by {self.proposed}, not yet accepted"

    def __str__(self) -> str:
        return self.complaint if self.proposed else f"{self.entry}: accepted by {self.accepted}"


def marks(content: Mapping[str, Any]) -> tuple[Mark, ...]:
    """Every mark in a policy: contracts, threats, gates."""
    return tuple(_marks(content))


def unaccepted(content: Mapping[str, Any], asset: str) -> tuple[Mark, ...]:
    """The contract and the threats of `asset`, where they are only proposed. Bounds are the gates' business."""
    return tuple(mark for mark in _marks(content) if mark.asset == asset and mark.proposed and not mark.gate)


def newly_accepted(old: Mapping[str, Any], new: Mapping[str, Any]) -> tuple[Mark, ...]:
    """What a person has accepted since `old`."""
    before = set(_marks(old))
    return tuple(mark for mark in _marks(new) if mark.accepted and mark not in before)


def _marks(content: Mapping[str, Any]) -> Iterator[Mark]:
    for file in (CONTRACT, THREATS):
        for asset, entry in _mapping(content.get(file), "assets").items():
            yield from _marks_of(entry, Mark(file, str(asset)))
    gates = content.get(GATES)
    listed = gates.get("gates") if isinstance(gates, Mapping) else None
    for gate in listed if isinstance(listed, list) else ():
        for asset, bound in _mapping(gate, "assets").items():
            yield from _marks_of(bound, Mark(GATES, str(asset), str(gate.get("name")), _in_words(bound)))


def _marks_of(entry: Any, blank: Mark) -> Iterator[Mark]:
    if isinstance(entry, Mapping):
        proposed, accepted = (str(entry.get(key) or "") for key in ("proposed", "accepted"))
        if proposed or accepted:
            yield Mark(blank.file, blank.asset, blank.gate, blank.bound, proposed, "" if proposed else accepted)


def _mapping(value: Any, key: str) -> Mapping[Any, Any]:
    found = value.get(key) if isinstance(value, Mapping) else None
    return found if isinstance(found, Mapping) else {}


def _in_words(bound: Any) -> str:
    given = ((words, bound.get(key)) for key, words in RELATIONS.items()) if isinstance(bound, Mapping) else ()
    return ", ".join(f"{words} {number}" for words, number in given if number is not None)


def _own(entries: Any, asset: str) -> Any:
    if not isinstance(entries, Mapping):
        return entries
    own = entries.get(asset)
    if isinstance(own, Mapping):
        own = {key: item for key, item in own.items() if key not in MARKS}
    return {asset: own} if asset in entries else {}
