"""Whether the stages write what the gates name: an ε that is tried, a channel that there is, a family that has it.

That a measure has the right form is checked when `gates` reads the policy. Which keys it can have depends on the rest
of the policy and on the family: whoever calls says so (`twinseal.policy`).
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection, Mapping

from twinseal.assurance.gates import Gate, Gates
from twinseal.errors import ConfigError
from twinseal.measures.quantity import NOT_WRITTEN, Keys
from twinseal.prognostics.families import FAMILIES, Family

Writable = Callable[[Family, frozenset[str]], Mapping[str, Keys]]


def check_keys(gates: Gates, writable: Writable, assets: Collection[str], where: str) -> None:
    """Refuse a gate whose measure is not written for a family that the gate asks it of: an ε that is not tried, say.

    An asset that the policy does not know is refused too: with a spelling mistake its bound would hold for nothing.

    Args:
        gates: The policy.
        writable: By stage, the keys that its measures have, for a family and for kinds of asset.
        assets: The kinds of asset in the policy.
        where: The file of the gates.

    Raises:
        ConfigError: Names the gate, and the nearest key that is written, the families that have it, or the assets.
    """
    everywhere = frozenset(assets)
    for gate in gates.gates:
        for asset in gate.assets.keys() - everywhere:
            raise ConfigError(
                f"{where}: gate {gate.name}: assets: expected one of {', '.join(sorted(assets))}, got '{asset}'"
            )
        bounded = everywhere if gate.has_default else frozenset(gate.assets)
        missing = {family: _not_written(gate, writable(family, bounded)[gate.evidence]) for family in FAMILIES}
        having = [family for family in FAMILIES if not missing[family]]
        for family in gate.families:
            if missing[family] and having:
                got = f"does not write {gate.measure} for a model of the family '{family}'"
                hint = f"; write families: [{', '.join(having)}]"
                raise ConfigError(f"{where}: gate {gate.name}: {gate.evidence} {got}{hint}")
            if missing[family]:
                raise ConfigError(f"{where}: gate {gate.name}: {gate.evidence} {missing[family]}")


def _not_written(gate: Gate, keys: Keys) -> str:
    """Why the stage does not write the gate's measure; "" if it does."""
    parts = gate.measure.split("/")
    for at in range(len(parts) + 1):
        path = "/".join(parts[:at])
        known = keys.get(path)
        if known == NOT_WRITTEN:
            return f"does not write {path}"
        if known is not None and at < len(parts) and parts[at] not in known:
            near = difflib.get_close_matches(parts[at], sorted(known), n=1, cutoff=0.3)
            hint = f"did you mean '{near[0]}'?" if near else f"expected one of {', '.join(sorted(known))}"
            return f"writes no '{parts[at]}' in {gate.measure}; {hint}"
    return ""
