"""The entries of a new asset, written into policy/ and params.yaml: all of them, or none.

1. The text of every file with its entry is made in memory; a file keeps every other byte (`policy_text`).
2. All of it is read back by the classes that the stages use, from a folder of its own.
3. Only then each file is replaced as a whole. If one cannot be, or somebody interrupts, those before it are put back.
"""

from __future__ import annotations

import difflib
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from twinseal.assets.bounds import as_entry, regimes_basis
from twinseal.assets.channel_bounds import MARGIN_CHANGE, MARGIN_RANGE
from twinseal.assets.proposal import Proposal
from twinseal.config import load, parse, read_yaml
from twinseal.digests import parse_json
from twinseal.edited_yaml import text_of
from twinseal.errors import ConfigError, EvidenceError
from twinseal.escaping import visible
from twinseal.files import write_whole
from twinseal.policy_text import with_entry, with_item, with_values
from twinseal.reading import read_regular
from twinseal.robustness.threats import Threats
from twinseal.sources.data_params import DataParams
from twinseal.telemetry.contract import Contract
from twinseal.telemetry.reference import Reference
from twinseal.trust.root.roles import Roles

CONTRACT, THREATS, ROLES = "policy/contract.yaml", "policy/threats.yaml", "policy/roles.yaml"
EVALUATION, REFERENCE, PARAMS = "policy/evaluation.yaml", "policy/reference.yaml", "params.yaml"
MAX_BYTES = 1 << 20
WIDTH = 116  # of a line of comments


@dataclass(frozen=True)
class Edit:
    """One file, before and after.

    Attributes:
        name: Its path in the project.
        old, new: Its text.
    """

    name: str
    old: str
    new: str

    @property
    def diff(self) -> tuple[str, ...]:
        """What changes, as lines of a unified diff."""
        old, new = self.old.splitlines(), self.new.splitlines()
        return tuple(difflib.unified_diff(old, new, self.name, self.name, lineterm="", n=2))


def edits(folder: Path, proposal: Proposal, *, replace: bool) -> tuple[Edit, ...]:
    """The files with the entries of a proposal; nothing is written.

    Args:
        folder: Of the project.
        proposal: What is proposed.
        replace: Whether entries of an asset of that name may be replaced.

    Raises:
        ConfigError: The asset is there already; or a file does not have the form that it needs.
    """
    asset = proposal.contract.asset
    _refuse_known(folder, asset, replace=replace)
    made: dict[str, Callable[[str], str]] = {
        CONTRACT: lambda text: with_entry(text, "assets", asset, contract_text(proposal)),
        THREATS: lambda text: with_entry(text, "assets", asset, threats_text(proposal)),
        ROLES: lambda text: with_item(text, "models", proposal.contract.model),
        PARAMS: lambda text: _with_data(text, proposal),
    }
    if proposal.source == "cmapss":
        fleet = {"source": "cmapss", "cmapss": dict(proposal.mapping)}
        made[EVALUATION] = partial(_with_fleet, asset=asset, fleet=fleet)
    found = []
    for name, change in made.items():
        old = _read(folder / name)
        try:
            new = change(old)
        except ConfigError as error:
            raise ConfigError(f"{folder / name}: {error}", remedy=f"Write it as in: git show HEAD:{name}") from error
        if new != old:
            found.append(Edit(name, old, new))
    _check(folder, tuple(found), proposal)
    return tuple(found)


def write(folder: Path, changes: Sequence[Edit]) -> None:
    """Replace the files; if one cannot be replaced, those before it are as they were.

    Raises:
        ConfigError: A file is not as it was when the edits were made; nothing was written.
        OSError: A file cannot be written.
    """
    for edit in changes:
        if _read(folder / edit.name) != edit.old:
            raise ConfigError(
                f"{folder / edit.name}: expected it as it was a moment ago, got another; nothing was written"
            )
    done: list[Edit] = []
    try:
        for edit in changes:
            done.append(edit)
            write_whole(folder / edit.name, edit.new.encode())
    except BaseException:
        for edit in done:
            write_whole(folder / edit.name, edit.old.encode())
        raise


def contract_text(proposal: Proposal) -> str:
    """The entry of policy/contract.yaml, with what each number rests on beside it."""
    contract, basis = proposal.contract, proposal.proposed.basis
    comments: dict[tuple[str, ...], str] = {}
    for key in ("rul_cap_cycles", "min_cycles", "max_quarantined_share", "drift", "consistency"):
        comments[key,] = basis[key]
    if contract.regimes:
        comments["regimes", "settings"] = regimes_basis(proposal.fleet, contract.regimes)
    for kind in ("settings", "sensors"):
        for name in getattr(contract, kind):
            reason = proposal.proposed.reasons.get(name)
            comments[kind, name] = basis[name] + (f"; not used: {reason}" if reason else "")
    value = _shortened(as_entry(contract))
    return "".join(f"# {line}\n" for line in _head(proposal)) + _on_one_line(value, comments)


def threats_text(proposal: Proposal) -> str:
    """The entry of policy/threats.yaml."""
    value = dict(proposal.threats)
    trigger = {"trigger": value.pop("trigger")}
    basis: dict[tuple[str, ...], str] = {("injection", "sensors"): visible(proposal.threats_basis)}
    return text_of(value, basis) + text_of(trigger, {}, on_one_line_from=1)


def _with_data(text: str, proposal: Proposal) -> str:
    """params.yaml with the section `data` of a proposal."""
    asset = proposal.contract.asset
    places = {} if proposal.source == "sql" else {"path": str(proposal.path)}
    text = with_values(text, ("data",), {"source": proposal.source, "asset": asset, **places})
    if proposal.source in ("table", "sql"):  # anew: columns of another mapping are none of this one
        return with_values(text, ("data",), {proposal.source: dict(proposal.mapping)})
    return with_values(text, ("data", proposal.source), dict(proposal.mapping))


def _head(proposal: Proposal) -> list[str]:
    """What a reader of the entry must know, as lines of comments."""
    left_out = [odd for odd in proposal.proposed.odd if odd.is_left_out]
    sentences = [
        f"Ranges are what the units showed over whole lives, widened on both sides by {MARGIN_RANGE:.0%} of "
        f"{'the largest range at one operating point' if proposal.contract.regimes else 'themselves'}; changes are "
        f"the largest one, within a regime, × {MARGIN_CHANGE}; both rounded outward, and never finer than the recorded "
        "digits. A resolution is the step of which every reading is a multiple; it has no margin.",
    ]
    if left_out:
        names = "; ".join(visible(str(odd)) for odd in left_out)
        sentences.append(f"Far from the others, so that they set no bound: {names}.")
    return [line for sentence in sentences for line in _wrapped(sentence)]


def _wrapped(sentence: str) -> list[str]:
    lines, line = [], ""
    for word in sentence.split():
        if line and len(line) + 1 + len(word) > WIDTH:
            lines.append(line)
            line = word
        else:
            line = f"{line} {word}" if line else word
    return [*lines, line]


def _shortened(value: dict[str, Any]) -> dict[str, Any]:
    """The entry without what is the default of a channel, or of a contract."""
    for kind in ("settings", "sensors"):
        value[kind] = {
            name: {
                key: item
                for key, item in channel.items()
                if not (
                    (key in ("missing_share", "outlier_share", "resolution") and not item)
                    or (key == "used" and item)
                    or item == ""
                )
            }
            for name, channel in value[kind].items()
        }
    if value["regimes"] is None:
        del value["regimes"]
    if not value["max_unreadable_share"]:
        del value["max_unreadable_share"]
    order = ("model", "description", "cycle", "proposed")
    first = {key: value[key] for key in order if key in value}
    last = {key: value[key] for key in ("regimes", "settings", "sensors") if key in value}
    return first | {key: item for key, item in value.items() if key not in first and key not in last} | last


def _on_one_line(value: Mapping[str, Any], comments: Mapping[tuple[str, ...], str]) -> str:
    """The entry, where drift, consistency and each channel stand on one line."""
    shown = {key: value[key] for key in value if key not in ("regimes", "settings", "sensors")}
    text = text_of(shown, {k: v for k, v in comments.items() if k[0] in shown}, on_one_line_from=1)
    for key in ("regimes", "settings", "sensors"):
        if key in value:
            text += text_of({key: value[key]}, {k: v for k, v in comments.items() if k[0] == key}, on_one_line_from=2)
    return text


def _with_fleet(text: str, *, asset: str, fleet: Mapping[str, Any]) -> str:
    return with_entry(text, "fleets", asset, text_of(fleet, {}, on_one_line_from=1))


def _refuse_known(folder: Path, asset: str, *, replace: bool) -> None:
    known = {name: read_yaml(folder / name).get("assets") or {} for name in (CONTRACT, THREATS)}
    places = [name for name, entries in known.items() if asset in entries]
    if places and not replace:
        raise ConfigError(
            f"asset {asset}: expected a new name, got one that is in {' and '.join(places)}",
            remedy="Choose another name; or, to propose its entries anew, give --replace",
        )


def _read(path: Path) -> str:
    try:
        return read_regular(path, MAX_BYTES).decode()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"{path}: expected a file of the project, got none ({error})",
            remedy="Run it in the project's folder, which has policy/ and params.yaml.",
        ) from error


def _check(folder: Path, changes: tuple[Edit, ...], proposal: Proposal) -> None:
    """Read all files back, as the stages do, and compare: what was there, and the entries, and nothing else."""
    with tempfile.TemporaryDirectory() as name:
        copy = Path(name)
        for path in (*sorted((folder / "policy").glob("*.yaml")), folder / PARAMS):
            write_whole(copy / path.relative_to(folder), _read(path).encode())
        for edit in changes:
            write_whole(copy / edit.name, edit.new.encode())
            _require_only(edit, proposal, read_yaml(folder / edit.name), read_yaml(copy / edit.name))
        contracts = Contract.load_all(copy / CONTRACT)
        Threats.load(copy / THREATS).asset(proposal.contract.asset)
        Roles.load(copy / ROLES)
        load(DataParams, copy / PARAMS, section="data")
        if contracts[proposal.contract.asset] != proposal.contract:
            raise ConfigError(f"{CONTRACT}: expected the contract that was proposed, got another when it was read back")


def _require_only(edit: Edit, proposal: Proposal, old: Any, new: Any) -> None:
    """Refuse an edit that changes more than the entry of the asset."""
    asset = proposal.contract.asset
    section = {CONTRACT: "assets", THREATS: "assets", ROLES: "models", EVALUATION: "fleets", PARAMS: "data"}[edit.name]
    rest = [{key: item for key, item in side.items() if key != section} for side in (old, new)]
    before, after = old[section], new[section]
    if isinstance(before, dict):
        mine = {"source", "asset", "path", proposal.source} if edit.name == PARAMS else {asset}
        before, after = ({k: v for k, v in side.items() if k not in mine} for side in (before, after))
    else:
        after = [item for item in after if item in before]
    if rest[0] != rest[1] or before != after:
        raise ConfigError(
            f"{edit.name}: expected nothing but the entry of {asset} to change, got other changes; nothing was written",
            remedy=f"The file is laid out in an unknown way. Write it as in: git show HEAD:{edit.name}",
        )


def reference_edit(folder: Path, asset: str) -> Edit:
    """policy/reference.yaml with the fleet of `asset` that validation accepted last.

    Raises:
        ConfigError: No fleet was accepted, or one of another asset.
    """
    place = folder / "data/accepted/reference.json"
    try:
        value = parse_json(read_regular(place, MAX_BYTES), str(place))
    except (OSError, EvidenceError) as error:
        raise ConfigError(
            f"{place}: expected an accepted fleet, got none ({error})", remedy="dvc repro validate"
        ) from error
    found = parse(Reference, value, str(place))
    if found.asset != asset:
        raise ConfigError(
            f"{place}: expected the fleet of {asset}, got that of {found.asset}",
            remedy=f"Set data.asset to {asset} in params.yaml; then: dvc repro validate",
        )
    old = _read(folder / REFERENCE)
    new = with_entry(old, "assets", asset, text_of(found.to_dict(), {}, on_one_line_from=2))
    return Edit(REFERENCE, old, new)
