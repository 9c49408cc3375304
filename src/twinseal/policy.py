"""The policy folder, checked as a whole: gates.yaml against what the stages write under threats.yaml and contract.yaml.

Each file is checked by its own type when it is read. Here stands what needs several files: whether a measure that a
gate names is written at all for the families and assets of that gate.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from twinseal.assurance.gate_keys import check_keys
from twinseal.assurance.gates import Gates
from twinseal.config import load
from twinseal.errors import ConfigError
from twinseal.measures.quantity import Keys
from twinseal.prognostics import candidate
from twinseal.prognostics.families import Family
from twinseal.robustness import battery
from twinseal.robustness.attack import Plan
from twinseal.robustness.attacks import poisoning
from twinseal.robustness.threats import Threats
from twinseal.telemetry.contract import Contract
from twinseal.telemetry.rules import CHECKS


def read_gates(folder: Path) -> Gates:
    """The gates of the policy in `folder`, each on a measure that a stage writes.

    Raises:
        ConfigError: A file of the policy is wrong, or a gate names what is not written.
    """
    path, threats = folder / "gates.yaml", Threats.load(folder / "threats.yaml")
    gates, contracts = load(Gates, path), Contract.load_all(folder / "contract.yaml")
    check_keys(gates, lambda *asked: writable_keys(threats, contracts, *asked), threats.assets, str(path))
    return gates


def contract_fault(own: Contract, path: Path) -> str:
    """How the contract inside a model differs from that of the policy file at `path`; "" if it does not."""
    try:
        expected = Contract.load(path, own.asset)
    except ConfigError as error:
        return str(error)
    here, there = own.to_dict(), expected.to_dict()
    names = sorted(name for name in here.keys() | there.keys() if here.get(name) != there.get(name))
    return f"the contract inside the model is not that of {path}: {', '.join(names)} differ" if names else ""


def writable_keys(
    threats: Threats, contracts: Mapping[str, Contract], family: Family, assets: frozenset[str]
) -> Mapping[str, Keys]:
    """By stage, the keys that its measures have for a model of `family` for one of `assets`."""
    known = [contract for asset, contract in contracts.items() if asset in assets]
    channels = frozenset(name for contract in known for name in contract.all_channels)
    return {
        "validate": {"findings_by_rule": frozenset(CHECKS), "drift_psi": channels},
        "train": candidate.keys(family),
        "evade": battery.writable_keys(Plan(threats, family, channels)),
        "poison": poisoning.keys(threats),
    }
