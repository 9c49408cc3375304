"""Proposed bounds, written into the bytes of gates.yaml: one line each, with the mark and what was seen."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from twinseal.assurance.proposed_bounds import ProposedBound
from twinseal.edited_yaml import bytes_of, new_mapping, on_one_line, quoted, tree_of


def with_proposals(data: bytes, asset: str, proposals: Iterable[ProposedBound]) -> bytes:
    """The file with a line under `assets` of each gate for which a bound is proposed; all else stays as it was.

    Args:
        data: gates.yaml.
        asset: Whose bounds.
        proposals: Those without a bound are left out.
    """
    tree = tree_of(data, "gates.yaml")
    gates: dict[str, Any] = {gate["name"]: gate for gate in tree["gates"]}
    for item in proposals:
        if item.bound is None or item.seen is None:
            continue
        gate = gates[item.gate]
        if "assets" not in gate:
            gate.insert(list(gate).index("unit"), "assets", new_mapping())
        entry = {item.bound.relation: item.bound.number, "proposed": quoted(item.bound.proposed)}
        gate["assets"][asset] = on_one_line(entry)
        gate["assets"].yaml_add_eol_comment(f"seen: {item.seen:.4g}", asset)
    return bytes_of(tree)
