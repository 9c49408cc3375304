"""Proposed bounds, written into the bytes of gates.yaml: one line each, with the mark and what was seen."""

from __future__ import annotations

from collections.abc import Iterable

from twinseal.assurance.proposed_bounds import ProposedBound
from twinseal.config import parse_yaml
from twinseal.policy_text import require_value, with_line

_GATES = "gates.yaml"


def with_proposals(data: bytes, asset: str, proposals: Iterable[ProposedBound]) -> bytes:
    """The file with a line under `assets` of each gate for which a bound is proposed; every other byte as it was.

    Args:
        data: gates.yaml.
        asset: Whose bounds.
        proposals: Those without a bound are left out.

    Raises:
        ConfigError: The file is laid out so that the line cannot be put in.
    """
    text, value = data.decode(), parse_yaml(data, _GATES)
    names = [gate["name"] for gate in value["gates"]]
    for item in proposals:
        if item.bound is None or item.seen is None:
            continue
        at = names.index(item.gate)
        entry = {item.bound.relation: item.bound.number, "proposed": item.bound.proposed}
        text = with_line(text, ("gates", at, "assets"), asset, entry, f"seen: {item.seen:.4g}", before="unit")
        gate = value["gates"][at]
        gate["assets"] = {**(gate.get("assets") or {}), asset: entry}
    require_value(text, value, _GATES)
    return text.encode()
