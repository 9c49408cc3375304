"""What an asset still lacks, everywhere, each with the command that mends it.

Nothing is trained here: the files are read by their source, policy and trust are looked at as they are. What is needed
before the first run comes first; what only a run can give (bounds of gates, a reference) comes after it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from twinseal.config import load, read_yaml
from twinseal.errors import ConfigError, TwinsealError
from twinseal.policy import read_gates
from twinseal.prognostics.training import TrainParams
from twinseal.robustness.threats import Threats
from twinseal.sources.data_params import DataParams, open_source
from twinseal.telemetry.contract import Contract
from twinseal.trust.policy_approval import policy_state
from twinseal.trust.release.repository import delegation
from twinseal.trust.root.home import Home
from twinseal.trust.root.roles import Roles

SIGNING = ("builder", "assessor")

Before = Literal["run", "release"]


@dataclass(frozen=True)
class Missing:
    """One thing that is missing.

    Attributes:
        before: What it is needed for: the first run, or a release.
        where: The file, or the place.
        what: What is missing there.
        command: What to do about it.
    """

    before: Before
    where: str
    what: str
    command: str


def missing(folder: Path, asset: str, *, home_of: Callable[[], Home] = Home.find) -> tuple[Missing, ...]:
    """Everything that `asset` lacks in the project at `folder`; () if nothing.

    Args:
        folder: The project: policy/, params.yaml, approvals/.
        asset: Its name.
        home_of: Gives the home of keys and anchor.
    """
    policy = folder / "policy"
    contract: Contract | None = None
    found: list[Missing] = []
    try:
        contract = Contract.load(policy / "contract.yaml", asset)
    except ConfigError as error:
        found.append(Missing("run", "policy/contract.yaml", str(error), f"twinseal asset new {asset} --from FILE"))
    for look in (_params, _threats, _roles, _gates, _reference, _trust):
        try:
            found += look(folder, asset, contract, home_of)
        except (TwinsealError, OSError) as error:
            found.append(_of_error(error))
    if contract is not None and contract.proposed:
        found.append(_proposed("policy/contract.yaml", "the contract is", contract.proposed, asset))
    return tuple(sorted(found, key=lambda item: item.before == "release"))


def _of_error(error: TwinsealError | OSError, where: str = "", before: Before = "run") -> Missing:
    remedy = error.remedy if isinstance(error, TwinsealError) else ""
    return Missing(
        before, where or "project", str(error), remedy or f"twinseal asset check   once {where or 'it'} is mended"
    )


def _proposed(where: str, what: str, mark: str, asset: str) -> Missing:
    return Missing("release", where, f"{what} only proposed: {mark}", f"twinseal asset accept {asset} --as NAME")


def _params(folder: Path, asset: str, contract: Contract | None, _home: Any) -> Iterator[Missing]:
    where = "params.yaml"
    params = load(DataParams, folder / where, section="data")
    if params.asset != asset:
        yield Missing(
            "run",
            where,
            f"data.asset: expected {asset}, got {params.asset}",
            f"dvc exp run -S data.asset={asset} -S data.…",
        )
        return
    if contract is None:
        return
    try:
        at = params.model_copy(update={"path": str(folder / params.path)})
        fleet = open_source(at, contract).read()
    except (TwinsealError, OSError) as error:
        yield _of_error(error, where)
        return
    last = fleet.starts + fleet.lengths - 1
    ends = ~fleet.table["censored"].to_numpy()[last]
    if not ends.any():
        yield Missing(
            "run",
            where,
            f"no history of {len(fleet.units)} ends in a failure: nothing can be trained",
            "set data.table.rul or data.table.ends_in_failure in params.yaml",
        )
    if len(fleet.units) < 2:
        yield Missing("run", params.path, f"expected two units or more, got {len(fleet.units)}", "bring more histories")


def _threats(folder: Path, asset: str, _contract: Contract | None, _home: Any) -> Iterator[Missing]:
    where = "policy/threats.yaml"
    entry = Threats.load(folder / where).assets.get(asset)
    if entry is None:
        command = f"twinseal asset new {asset} --from FILE --replace   or write it there, under assets"
        yield Missing("run", where, f"no entry for {asset}: who attacks it", command)
    elif entry.proposed:
        yield _proposed(where, "the threats are", entry.proposed, asset)


def _roles(folder: Path, asset: str, contract: Contract | None, _home: Any) -> Iterator[Missing]:
    where = "policy/roles.yaml"
    roles = Roles.load(folder / where)
    if contract is not None and contract.model not in roles.models:
        yield Missing(
            "release", where, f"no model {contract.model} of {asset}", f"add {contract.model} to models there"
        )


def _gates(folder: Path, asset: str, _contract: Contract | None, _home: Any) -> Iterator[Missing]:
    where = "policy/gates.yaml"
    family = load(TrainParams, folder / "params.yaml", section="train").family
    gates = read_gates(folder / "policy").asked_of(family)  # of other families, no run shows what to propose
    without = [gate.name for gate in gates if gate.bound_for(asset) is None]
    offered = [gate.name for gate in gates if asset in gate.assets and gate.assets[asset].proposed]
    if offered:
        what = f"{len(offered)} bounds of {asset} are only proposed: {', '.join(offered)}"
        yield Missing("release", where, what, f"twinseal gates accept {asset} --all --as NAME")
    without = [name for name in without if name not in offered]
    if without:
        yield Missing(
            "release",
            where,
            f"{len(without)} gates of the family {family} have no bound for {asset}: {', '.join(without)}",
            f"dvc repro; then: twinseal gates propose {asset}",
        )


def _reference(folder: Path, asset: str, _contract: Contract | None, _home: Any) -> Iterator[Missing]:
    where = "policy/reference.yaml"
    value = read_yaml(folder / where)
    if asset not in (value.get("assets") or {} if isinstance(value, dict) else {}):
        yield Missing(
            "release",
            where,
            f"no fleet of {asset} to compare later ones with: drift is not seen",
            f"dvc repro validate; then: twinseal asset reference {asset}",
        )


def _trust(folder: Path, asset: str, contract: Contract | None, home_of: Any) -> Iterator[Missing]:
    where = "keys and anchor"
    try:
        home: Home = home_of()
        anchor = home.anchor()
    except (TwinsealError, OSError) as error:
        yield _of_error(error, where)
        return
    for role in SIGNING:
        if not any(home.has_key(holder.name) for holder in anchor.roles[role].holders):
            names = ", ".join(holder.name for holder in anchor.roles[role].holders)
            yield Missing("run", where, f"no key of the {role} ({names}) on this machine", f"twinseal keys new {names}")
    if contract is not None and contract.model not in anchor.models:
        what = f"the signed root names no model {contract.model} of {asset}"
        yield Missing("release", "the root of trust", what, "custodians: twinseal trust renew")
    elif contract is not None:
        roles = delegation(home).delegations
        if roles is None or contract.model not in (roles.roles or {}):
            what = f"no reviewers are delegated for {contract.model}"
            yield Missing("release", "the root of trust", what, "custodians: twinseal trust renew")
    state = policy_state(folder / "policy", folder / "approvals" / "policy", anchor)
    if not state.is_approved:
        names, first = ", ".join(state.can_sign), next(iter(state.can_sign), "NAME")
        what = f"the policy as it is now is not approved; {state.missing} of {names} must sign"
        command = f"twinseal policy show; then: twinseal policy approve --as {first}"
        yield Missing("release", "policy", what, command)
