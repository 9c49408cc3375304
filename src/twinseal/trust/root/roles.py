"""Roles: the holders of each role, how many of them must sign, and for how long that counts. `policy/roles.yaml`.

    root, targets   custodians, offline       the keys of all other roles
    builder         the training environment  the model directory, provenance
    assessor        the test environment      test results, the verdict
    owner           people, k of n            the policy by which candidates are judged
    reviewer        people, k of n            the release of one version of one model
    commissioner    people, at the machine    a unit's first cycles, when it was commissioned
    registrar       online                    freshness, nothing else

No holder can have two of the roles builder, assessor, reviewer and commissioner: who makes a model must not judge it,
and must not define what a healthy machine looks like. Policy owners are neither builder nor assessor: who builds or
tests must not move the bar. That is checked here by name, and again in the trust anchor by the value of the keys.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from twinseal.config import Field, Settings, load, parse
from twinseal.trust.root.quorum import Quorum

FILE = "roles.yaml"
MACHINES = ("builder", "assessor", "registrar")
SEPARATE = ("builder", "assessor", "reviewer", "commissioner")
NAMES = ("root", "targets", *SEPARATE, "owner", "registrar")
NO_OWNERS = ("builder", "assessor")  # who has one of these roles must not own the policy
TUF_ROLES = {"root": "root", "targets": "targets", "snapshot": "registrar", "timestamp": "registrar"}
# The others' signatures carry an expiry of their own.
PINNED_UNTIL = ("builder", "assessor", "commissioner", "owner")
MAX_EXPIRES_DAYS = 3650  # nothing that is signed is valid for longer; a twin knows no policy, and checks this
_HOLDER = re.compile(r"[a-z][a-z0-9_-]{0,39}\Z")
_MODEL = re.compile(r"[a-z][a-z0-9-]{0,63}\Z")
# Names that TUF uses itself: a model of that name would shadow a top-level role in the repository.
RESERVED = ("root", "targets", "snapshot", "timestamp")


class Role(Settings):
    """One role.

    Attributes:
        holders: Who may act in it; each has one key, under this name.
        threshold: How many of them must sign.
        expires_days: For how long what they sign holds; of builder, assessor, commissioner and owner, for how long
            their keys are pinned.
        min_without_passkey: Of reviewers: so many of those who count sign without a passkey.
        groups: Of reviewers: the group of each.
        min_groups: Of reviewers: from so many groups those who count come.
        accounts: Of reviewers: other names of each, logins and e-mail addresses. Who built a candidate does not count.
        models: Of reviewers: who reviews these models alone. Who is not named reviews every model.

    Raises:
        ValueError: A holder twice, a name of other letters, a threshold of 0 or above the holders, no lifetime; or a
            quorum that all holders together could not meet.
    """

    holders: tuple[str, ...]
    threshold: int
    expires_days: int
    min_without_passkey: int = 0
    groups: dict[str, str] = Field(default_factory=dict)
    min_groups: int = 1
    accounts: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    models: dict[str, tuple[str, ...]] = Field(default_factory=dict)

    def model_post_init(self, _context: Any, /) -> None:
        """Refuse a role that cannot be met, or that counts one person twice."""
        for holder in self.holders:
            if not _HOLDER.match(holder):
                raise ValueError(f"holders: expected names of a-z, 0-9, _ and -, got {holder!r}")
        if len(set(self.holders)) != len(self.holders):
            raise ValueError(f"holders: expected each once, got {', '.join(self.holders)}")
        if not 1 <= self.threshold <= len(self.holders):
            raise ValueError(f"threshold: expected 1 to {len(self.holders)} (the holders), got {self.threshold}")
        if not 1 <= self.expires_days <= MAX_EXPIRES_DAYS:
            raise ValueError(f"expires_days: expected 1 to {MAX_EXPIRES_DAYS}, got {self.expires_days}")
        self.quorum.check(self.holders)

    @property
    def quorum(self) -> Quorum:
        """Who counts, beside the threshold."""
        return Quorum.of(self.min_without_passkey, self.groups, self.min_groups, self.accounts, self.models)


class RoleTable(Settings):
    """The eight roles; all of them, and no other."""

    root: Role
    targets: Role
    builder: Role
    assessor: Role
    reviewer: Role
    commissioner: Role
    owner: Role
    registrar: Role


class Roles(Settings):
    """policy/roles.yaml.

    Attributes:
        models: Names of the models that may be released, each its own TUF role.
        roles: Who holds what.

    Raises:
        ValueError: A model's name is none, twice or reserved; a holder has two of builder, assessor, reviewer,
            commissioner; a policy owner is builder or assessor; a machine's role needs more than one signature; a role
            other than reviewer asks for more than a threshold; too few reviewers are left for one of the models.
    """

    models: tuple[str, ...]
    roles: RoleTable

    def model_post_init(self, _context: Any, /) -> None:
        """Refuse a policy that lets one holder make a model and judge it, or make it and sign its baseline records."""
        check_models(self.models)
        role_of_holder: dict[str, str] = {}
        for name in SEPARATE:
            for holder in self[name].holders:
                other = role_of_holder.setdefault(holder, name)
                if other != name:
                    raise ValueError(f"{name}: expected holders who are no {other}, got {holder!r} in both")
        for name in NO_OWNERS:
            both = sorted(set(self[name].holders) & set(self["owner"].holders))
            if both:
                raise ValueError(f"owner: expected holders who are no {name}, got {both[0]!r} in both")
        for name in NAMES:
            if name != "reviewer" and self[name].quorum != Quorum():
                raise ValueError(f"{name}: expected holders and a threshold alone, got {self[name].quorum.lines()[0]}")
        reviewer = self["reviewer"]
        try:
            reviewer.quorum.check_models(reviewer.holders, reviewer.threshold, self.models)
        except ValueError as error:
            raise ValueError(f"reviewer.{error}") from error
        for name in MACHINES:
            # A stage signs alone, in one process: there is no second signer.
            if self[name].threshold != 1:
                raise ValueError(f"{name}.threshold: expected 1 (a machine signs alone), got {self[name].threshold}")

    @classmethod
    def load(cls, path: Path) -> Roles:
        """The policy in the file at `path`.

        Raises:
            ConfigError: It cannot be read, or says what cannot be.
        """
        return load(cls, path)

    @classmethod
    def of_policy(cls, content: Mapping[str, Any]) -> Roles:
        """The roles in a policy that its owners have signed.

        Args:
            content: The value of each file of policy/, by its name.

        Raises:
            ConfigError: It has none, or they say what cannot be.
        """
        return parse(cls, content.get(FILE), f"signed policy: {FILE}")

    def __getitem__(self, name: str) -> Role:
        """The role called `name`."""
        role: Role = getattr(self.roles, name)
        return role

    def expiry(self, name: str, now: datetime) -> datetime:
        """When something that the role called `name` signs at `now` expires."""
        return now.replace(microsecond=0) + timedelta(days=self[name].expires_days)

    @property
    def holders(self) -> tuple[str, ...]:
        """Everyone who holds any role, each once, in order of the table."""
        return tuple(dict.fromkeys(holder for name in NAMES for holder in self[name].holders))


def check_models(models: tuple[str, ...]) -> None:
    """Refuse names that cannot be a TUF role and a folder.

    Raises:
        ValueError: No name, one twice, one of other characters, or one that TUF uses itself.
    """
    for model in models:  # first: what is no name cannot be compared with one
        if not isinstance(model, str) or not _MODEL.match(model) or model in RESERVED:
            raise ValueError(f"models: expected names of a-z, 0-9 and -, none of TUF's own, got {str(model)[:80]!r}")
    if not models or len(set(models)) != len(models):
        raise ValueError(f"models: expected at least one, each once, got {', '.join(models) or 'none'}")
