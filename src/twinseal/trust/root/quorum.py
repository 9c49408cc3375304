"""Quorum: who counts towards a role's threshold, beside how many. Only reviewers may have one that says more than that.

    min_without_passkey: 1              # so many of the counted signatures are by a key in a file or a token
    min_groups: 2                       # the counted reviewers come from so many groups
    groups: {alice: operations, bruno: research}
    accounts: {alice: [alice@plant.example, asmith]}
    models: {chiara: [pump-rul]}        # chiara reviews pump-rul alone; who is not named reviews every model

Whoever built a candidate does not approve it: `built_by` finds a holder among the names in the signed verdict.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

MAX_ACCOUNTS, MAX_NAME = 20, 254
FIELDS = ("min_without_passkey", "groups", "min_groups", "accounts", "models")
NAMING = ("groups", "accounts", "models")  # the fields that name holders
_GROUP = re.compile(r"[a-z][a-z0-9_-]{0,39}\Z")


@dataclass(frozen=True)
class Quorum:
    """Who counts, beside the threshold.

    Law: `Quorum.from_dict(quorum.to_dict()) == quorum`.

    Attributes:
        min_without_passkey: So many of the counted signatures are not by a passkey.
        min_groups: From so many groups the counted holders come.
        groups: Holders and their groups, sorted by holder. A holder without one counts for none.
        accounts: Other names of holders: logins, e-mail addresses; sorted by holder.
        models: Holders who review these models alone, sorted by holder. The others review every model.

    Raises:
        ValueError: A number is out of range, a name is none, an account is two holders', or a holder reviews no model.
    """

    min_without_passkey: int = 0
    min_groups: int = 1
    groups: tuple[tuple[str, str], ...] = ()
    accounts: tuple[tuple[str, tuple[str, ...]], ...] = ()
    models: tuple[tuple[str, tuple[str, ...]], ...] = ()

    def __post_init__(self) -> None:
        for name, least in (("min_without_passkey", 0), ("min_groups", 1)):
            got = getattr(self, name)
            if type(got) is not int or got < least:
                raise ValueError(f"{name}: expected {least} or more, got {str(got)[:40]}")
        for holder, group in self.groups:
            if not isinstance(group, str) or not _GROUP.match(group):
                raise ValueError(f"groups: expected a name of a-z, 0-9, _ and - for {holder}, got {str(group)[:60]!r}")
        _check_accounts(self.accounts)
        for holder, models in self.models:
            if not models or list(models) != sorted(set(models)):
                raise ValueError(f"models: expected the models of {holder}, each once, got {str(models)[:80]}")
        for name in NAMING:
            holders = [item[0] for item in getattr(self, name)]
            if holders != sorted(set(holders)):
                raise ValueError(f"{name}: expected holders in order, each once, got {str(holders)[:80]}")

    @classmethod
    def of(
        cls,
        min_without_passkey: int = 0,
        groups: Mapping[str, str] = {},  # read only
        min_groups: int = 1,
        accounts: Mapping[str, Iterable[str]] = {},  # read only
        models: Mapping[str, Iterable[str]] = {},  # read only
    ) -> Quorum:
        """The quorum that a policy describes by mappings.

        Raises:
            ValueError: As the class.
        """
        known, limited = (
            tuple(sorted((holder, tuple(sorted(names))) for holder, names in value.items()))
            for value in (accounts, models)
        )
        return cls(min_without_passkey, min_groups, tuple(sorted(groups.items())), known, limited)

    def to_dict(self) -> dict[str, Any]:
        """What differs from the default, as JSON values: nothing for a role that only counts."""
        default = Quorum()
        value: dict[str, Any] = {
            "min_without_passkey": self.min_without_passkey,
            "min_groups": self.min_groups,
            "groups": dict(self.groups),
            "accounts": {holder: list(names) for holder, names in self.accounts},
            "models": {holder: list(names) for holder, names in self.models},
        }
        return {name: item for name, item in value.items() if getattr(self, name) != getattr(default, name)}

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Quorum:
        """The quorum that JSON values stand for.

        Raises:
            ValueError: They stand for none, or are not as `to_dict` writes them.
        """
        if not set(value) <= set(FIELDS) or not all(isinstance(value.get(name, {}), dict) for name in NAMING):
            raise ValueError(f"quorum: expected some of {', '.join(FIELDS)}, got {str(value)[:80]}")
        for name in ("accounts", "models"):
            lists = value.get(name, {}).values()
            if not all(isinstance(item, list) and all(isinstance(n, str) for n in item) for item in lists):
                raise ValueError(f"{name}: expected a list of names for each holder, got {str(value[name])[:80]}")
        found = cls.of(**value)
        if found.to_dict() != dict(value):
            raise ValueError(f"quorum: expected only what differs from the default, sorted, got {str(value)[:80]}")
        return found

    def check(self, holders: Iterable[str], with_passkey: Iterable[str] = ()) -> None:
        """Refuse a quorum that even all of `holders` together could not meet, or that names others.

        Raises:
            ValueError: It is one.
        """
        known, passkeys = set(holders), set(with_passkey)
        for name in NAMING:
            others = [item[0] for item in getattr(self, name) if item[0] not in known]
            if others:
                raise ValueError(f"{name}: expected holders of the role, got {str(others[0])[:60]!r}")
        without, groups = len(known - passkeys), len(set(dict(self.groups).values()))
        if self.min_without_passkey > without:
            raise ValueError(
                f"min_without_passkey: expected at most {without} (the holders without a passkey), "
                f"got {self.min_without_passkey}"
            )
        if self.min_groups > max(1, groups):
            raise ValueError(f"min_groups: expected at most {max(1, groups)} (the groups), got {self.min_groups}")

    def without(self, holder: str) -> Quorum:
        """The same, where `holder` has left."""
        return self._among(lambda name: name != holder)

    def of_model(self, model: str) -> Quorum:
        """Who counts for one model: the same, where who does not review it is not named."""
        return replace(self._among(lambda name: self.reviews(name, model)), models=())

    def reviews(self, holder: str, model: str) -> bool:
        """Whether `holder` reviews `model`."""
        return model in dict(self.models).get(holder, (model,))

    def check_models(self, holders: Iterable[str], threshold: int, models: Iterable[str]) -> None:
        """Refuse a quorum that some model's reviewers could not meet, or that names other models.

        Raises:
            ValueError: It is one.
        """
        holders, models = tuple(holders), tuple(models)
        for holder, named in self.models:
            others = [model for model in named if model not in models]
            if others:
                raise ValueError(f"models of {holder}: expected some of {', '.join(models)}, got {others[0][:60]!r}")
        for model in models if self.models else ():
            left = [holder for holder in holders if self.reviews(holder, model)]
            if len(left) < threshold:
                raise ValueError(f"models: expected {threshold} reviewers or more of {model}, got {len(left)}")
            self.of_model(model).check(left)

    def _among(self, keep: Callable[[str], bool]) -> Quorum:
        return replace(
            self,
            groups=tuple(item for item in self.groups if keep(item[0])),
            accounts=tuple(item for item in self.accounts if keep(item[0])),
            models=tuple(item for item in self.models if keep(item[0])),
        )

    def groups_of(self, holders: Iterable[str]) -> tuple[str, ...]:
        """The groups that `holders` come from, each once, in their order."""
        group = dict(self.groups)
        return tuple(dict.fromkeys(group[holder] for holder in holders if holder in group))

    def is_among(self, holder: str, built_by: Iterable[str]) -> bool:
        """Whether `holder` is one of those who built a candidate, by name, by an account, or by an e-mail's local part.

        >>> Quorum().is_among("alice", ["root", "Alice@plant.example"])
        True
        """
        known = {holder.casefold(), *(name.casefold() for name in dict(self.accounts).get(holder, ()))}
        for name in map(str.casefold, built_by):
            local, at, _ = name.rpartition("@")
            if name in known or (at and local == holder.casefold()):
                return True
        return False

    def lines(self) -> tuple[str, ...]:
        """What it asks for, in words; () when only the threshold does."""
        found = []
        if self.min_without_passkey:
            found.append(f"at least {self.min_without_passkey} without a passkey")
        if self.min_groups > 1:
            found.append(f"from at least {self.min_groups} groups")
        if self.groups:
            found.append("groups " + ", ".join(f"{holder}: {group}" for holder, group in self.groups))
        if self.accounts:
            found.append("also known as " + ", ".join(f"{who}: {' '.join(names)}" for who, names in self.accounts))
        found += [f"{holder} reviews {', '.join(names)} alone" for holder, names in self.models]
        return tuple(found)


def _check_accounts(accounts: tuple[tuple[str, tuple[str, ...]], ...]) -> None:
    owner: dict[str, str] = {}
    for holder, names in accounts:
        if not names or len(names) > MAX_ACCOUNTS or list(names) != sorted(set(names)):
            raise ValueError(f"accounts: expected 1 to {MAX_ACCOUNTS} names of {holder}, each once, got {len(names)}")
        for name in names:
            if not isinstance(name, str) or not 1 <= len(name) <= MAX_NAME or not name.isprintable() or " " in name:
                raise ValueError(f"accounts: expected logins and e-mail addresses of {holder}, got {str(name)[:60]!r}")
            other = owner.setdefault(name.casefold(), holder)
            if other != holder:
                raise ValueError(f"accounts: expected each account once, got {name[:60]!r} for {other} and {holder}")
