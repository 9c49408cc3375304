"""Pins: the keys of each role, and the evidence that a release needs. A signed field of the root.

`root.roles` is what policy wants; this is what custodians have signed, and the only thing that is enforced.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from twinseal.digests import is_sha256
from twinseal.errors import RootError, SignatureError
from twinseal.evidence import POLICY_APPROVAL, PREDICATE_TYPES, PROVENANCE, TEST_RESULT, VERIFICATION_SUMMARY
from twinseal.trust.keys.key import Key, Passkey, fingerprint, public_key
from twinseal.trust.keys.passkeys import PARTS
from twinseal.trust.root.quorum import FIELDS as QUORUM_FIELDS
from twinseal.trust.root.quorum import Quorum
from twinseal.trust.root.roles import NAMES, NO_OWNERS, SEPARATE, check_models

SCHEMA = "https://twinseal.dev/anchor/v3"  # v1 knew no commissioners, v2 no policy owners
FIELD = "x-twinseal"


@dataclass(frozen=True)
class Holder:
    """Someone, or some machine, with a key.

    Attributes:
        name: As in policy/roles.yaml.
        key: Public key, ECDSA P-256; a reviewer's may be a passkey.
    """

    name: str
    key: Key

    @property
    def has_passkey(self) -> bool:
        """Whether the key is a passkey."""
        return isinstance(self.key, Passkey)

    def to_dict(self) -> dict[str, Any]:
        """As the root has it; without a passkey, just a name and a PEM."""
        value: dict[str, Any] = {"name": self.name, "public": self.key.keyval["public"]}
        return value | {"passkey": self.key.site} if isinstance(self.key, Passkey) else value


@dataclass(frozen=True)
class RoleKeys:
    """The keys that may sign for one role, and how many signatures it needs.

    Attributes:
        role: The role's name, for messages.
        threshold: Distinct keys needed.
        holders: Each with a key of its own.
        expires: Until when their signatures are taken, aware, UTC; None: as long as the root holds.
        quorum: Who counts, beside the threshold.

    Raises:
        RootError: No holders, a name twice, a key twice (also under another name), a threshold out of reach, or a
            quorum that all of them together could not meet.
    """

    role: str
    threshold: int
    holders: tuple[Holder, ...]
    expires: datetime | None = None
    quorum: Quorum = field(default_factory=Quorum)

    def __post_init__(self) -> None:
        names = [holder.name for holder in self.holders]
        if not names or not all(isinstance(name, str) and name for name in names) or len(set(names)) != len(names):
            raise RootError(f"{self.role}: expected holders with one name each, got {names}")
        values: dict[str, str] = {}
        for holder in self.holders:
            other = values.setdefault(fingerprint(holder.key), holder.name)
            if other != holder.name:
                raise RootError(f"{self.role}: expected a key each, got one key for {other} and {holder.name}")
        if type(self.threshold) is not int or not 1 <= self.threshold <= len(names):
            raise RootError(f"{self.role}: expected a threshold of 1 to {len(names)}, got {self.threshold!r}")
        try:
            self.quorum.check(names, (holder.name for holder in self.holders if holder.has_passkey))
        except ValueError as error:
            raise RootError(f"{self.role}: {error}") from error

    def without(self, name: str) -> RoleKeys:
        """The role once the holder called `name` has left.

        Raises:
            RootError: It could not be met any more.
        """
        left = tuple(item for item in self.holders if item.name != name)
        return replace(self, holders=left, quorum=self.quorum.without(name))

    def of_model(self, model: str) -> RoleKeys:
        """Those who review one model: all of them, unless the quorum says otherwise.

        Raises:
            RootError: Nobody does.
        """
        if not self.quorum.models:
            return self
        left = tuple(item for item in self.holders if self.quorum.reviews(item.name, model))
        return replace(self, role=f"{self.role} of {model[:60]}", holders=left, quorum=self.quorum.of_model(model))

    @property
    def keys(self) -> dict[str, Key]:
        """The keys by their identifiers."""
        return {holder.key.keyid: holder.key for holder in self.holders}

    def holder_of(self, keyid: str) -> str:
        """The name of the holder of the key `keyid`; "" if no holder of this role has it."""
        return next((holder.name for holder in self.holders if holder.key.keyid == keyid), "")

    def key_of(self, name: str) -> Key:
        """The key of the holder called `name`.

        Raises:
            SignatureError: Nobody of that name has this role.
        """
        for holder in self.holders:
            if holder.name == name:
                return holder.key
        names = [holder.name for holder in self.holders]
        raise SignatureError(
            f"{self.role}: expected one of {', '.join(names)}, got {name[:60]!r}",
            remedy=f"Sign as one of them{meant(name, names, '--as ')}. Who has which role: twinseal trust show",
        )


@dataclass(frozen=True)
class Requirement:
    """One signed statement that every release must carry.

    Attributes:
        name: The stage that wrote it.
        predicate_type: What kind of statement it is.
        role: The role that signs it.
    """

    name: str
    predicate_type: str
    role: str


SIGN_EVIDENCE = (
    "builder",
    "assessor",
    "reviewer",
    "owner",
)  # commissioners sign about machines
REQUIRED = (
    Requirement("ingest", PROVENANCE, "builder"),
    Requirement("validate", TEST_RESULT, "assessor"),
    Requirement("prepare", PROVENANCE, "builder"),
    Requirement("train", PROVENANCE, "builder"),
    Requirement("evade", TEST_RESULT, "assessor"),
    Requirement("poison", TEST_RESULT, "assessor"),
    Requirement("assess", VERIFICATION_SUMMARY, "assessor"),
    Requirement("policy", POLICY_APPROVAL, "owner"),
)

# Records that may be made beside those, signed and shown, but that no release needs or carries.
OPTIONAL = (Requirement("compare", PROVENANCE, "builder"),)


@dataclass(frozen=True)
class Pins:
    """What the root says in the field `x-twinseal`.

    Law: `Pins.from_dict(pins.to_dict()) == pins`.

    Attributes:
        models: Names of the models that may be released.
        roles: All eight roles of policy/roles.yaml.
        evidence: The statements that a release must carry; at least those of REQUIRED.
        revoked: Fingerprints of keys that never count again, sorted.
        demo: Made with throw-away keys: for trying things out, never for a real machine.

    Raises:
        RootError: A role is missing; two of builder, assessor, reviewer and commissioner share a key, or a policy
            owner and a builder or assessor; another than a reviewer has a passkey; a key is revoked; a required
            statement is missing; too few reviewers are left for one of the models.
    """

    models: tuple[str, ...]
    roles: Mapping[str, RoleKeys]
    evidence: tuple[Requirement, ...] = REQUIRED
    revoked: tuple[str, ...] = ()
    demo: bool = False

    def __post_init__(self) -> None:
        try:
            check_models(self.models)
        except ValueError as error:
            raise RootError(f"anchor: {error}") from error
        if type(self.demo) is not bool:
            raise RootError(f"anchor: expected demo to be true or false, got {self.demo!r}")
        if not all(map(is_sha256, self.revoked)) or list(self.revoked) != sorted(set(self.revoked)):
            raise RootError(f"anchor: expected revoked keys as sorted SHA-256, each once, got {str(self.revoked)[:80]}")
        _check_roles(self.roles, self.revoked)
        _check_reviewers_alone(self.roles)
        _check_reviewers_of_models(self.roles["reviewer"], self.models)
        _check_evidence(self.evidence)

    def to_dict(self) -> dict[str, Any]:
        """The JSON object of the field."""
        return {
            "schema": SCHEMA,
            "demo": self.demo,
            "models": list(self.models),
            "roles": {name: _role_to_dict(self.roles[name]) for name in NAMES},
            "evidence": [[item.name, item.predicate_type, item.role] for item in self.evidence],
            "revoked": list(self.revoked),
        }

    @classmethod
    def from_dict(cls, value: Any) -> Pins:
        """The pins that a JSON object stands for.

        Raises:
            RootError: It is not such an object.
        """
        fields = _object(value, ("schema", "demo", "models", "roles", "evidence", "revoked"), FIELD)
        if fields["schema"] != SCHEMA:
            raise RootError(f"{FIELD}: expected {SCHEMA}, got {str(fields['schema'])[:80]}")
        table = _object(fields["roles"], NAMES, "roles")
        roles = {name: _role_from_dict(name, table[name]) for name in NAMES}
        models, revoked = (tuple(_list(fields[name], name)) for name in ("models", "revoked"))
        return cls(
            models, roles, tuple(map(_requirement, _list(fields["evidence"], "evidence"))), revoked, fields["demo"]
        )


def meant(name: str, names: Iterable[str], option: str = "") -> str:
    """For a remedy: the name that was probably meant, in brackets; empty when none is close."""
    near = difflib.get_close_matches(name.casefold(), list(names), n=1)
    return f" (did you mean {option}{near[0]}?)" if near else ""


def _check_roles(roles: Mapping[str, RoleKeys], revoked: tuple[str, ...]) -> None:
    if set(roles) != set(NAMES):
        raise RootError(f"anchor: expected the roles {', '.join(NAMES)}, got {', '.join(map(str, roles)) or 'none'}")
    role_of_key: dict[str, str] = {}
    for name in NAMES:
        if not isinstance(roles[name], RoleKeys):
            raise RootError(f"anchor: expected keys for {name}, got {type(roles[name]).__name__}")
        for holder in roles[name].holders:
            value = fingerprint(holder.key)
            if value in revoked:
                raise RootError(f"anchor: expected keys that count, got the revoked one of {holder.name} in {name}")
            other = role_of_key.setdefault(value, name) if name in SEPARATE else name
            if other != name:
                raise RootError(f"anchor: expected a key in one role, got that of {holder.name} in {other} and {name}")
    for holder in roles["owner"].holders:
        other = role_of_key.get(fingerprint(holder.key), "")
        if other in NO_OWNERS:
            raise RootError(f"anchor: expected a key in one role, got that of {holder.name} in owner and {other}")


def _check_evidence(evidence: tuple[Requirement, ...]) -> None:
    missing = [item.name for item in REQUIRED if item not in evidence]
    if missing:
        raise RootError(f"anchor: expected the evidence of every stage, got none for {', '.join(missing)}")
    names = [item.name for item in evidence]
    if len(set(names)) != len(names):
        raise RootError(f"anchor: expected each evidence once, got {', '.join(names)}")
    for item in evidence:
        if item.predicate_type not in PREDICATE_TYPES or item.role not in SIGN_EVIDENCE:
            raise RootError(f"anchor: expected a known predicate and role for {item.name}, got {item}")


def _check_reviewers_alone(roles: Mapping[str, RoleKeys]) -> None:
    """Refuse passkeys, and quorums that say more than a threshold, in every role but the reviewers'."""
    for name in NAMES:
        if name == "reviewer":
            continue
        for holder in roles[name].holders:
            if holder.has_passkey:
                raise RootError(
                    f"anchor: expected a key in a file or a token for {holder.name} in {name}, got a passkey: only "
                    "reviewers sign in a browser"
                )
        if roles[name].quorum != Quorum():
            raise RootError(f"anchor: expected {name} to have a threshold alone, got {roles[name].quorum.lines()}")


def _check_reviewers_of_models(reviewers: RoleKeys, models: tuple[str, ...]) -> None:
    try:
        reviewers.quorum.check_models((item.name for item in reviewers.holders), reviewers.threshold, models)
    except ValueError as error:
        raise RootError(f"anchor: reviewer: {error}") from error
    for model in models:  # the same, with their passkeys
        reviewers.of_model(model)


def _role_to_dict(role: RoleKeys) -> dict[str, Any]:
    holders = [holder.to_dict() for holder in role.holders]
    expires = None if role.expires is None else role.expires.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {"threshold": role.threshold, "holders": holders, "expires": expires, **role.quorum.to_dict()}


def _role_from_dict(name: str, value: Any) -> RoleKeys:
    fields = _object(value, ("threshold", "holders", "expires"), name, QUORUM_FIELDS)
    holders = tuple(_holder_from_dict(name, item) for item in _list(fields["holders"], name))
    try:
        text = fields["expires"]
        expires = None if text is None else datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    except (TypeError, ValueError) as error:
        raise RootError(f"{FIELD}: {name}: expected a time in UTC, got {str(fields['expires'])[:40]!r}") from error
    try:
        quorum = Quorum.from_dict({item: fields[item] for item in QUORUM_FIELDS if item in fields})
    except (TypeError, ValueError) as error:
        raise RootError(f"{FIELD}: {name}: {error}") from error
    return RoleKeys(name, fields["threshold"], holders, expires, quorum)


def _holder_from_dict(role: str, value: Any) -> Holder:
    fields = _object(value, ("name", "public"), f"{role} holder", ("passkey",))
    if "passkey" not in fields:
        return Holder(fields["name"], public_key(fields["public"], f"{role} {str(fields['name'])[:40]}"))
    site = _object(fields["passkey"], PARTS[1:], f"{role} passkey")
    return Holder(fields["name"], Passkey(fields["public"], **site))


def _requirement(value: Any) -> Requirement:
    items = _list(value, "evidence")
    if len(items) != 3 or not all(isinstance(item, str) for item in items):
        raise RootError(f"{FIELD}: expected evidence as [name, type, role], got {str(value)[:80]}")
    return Requirement(*items)


def _object(value: Any, keys: tuple[str, ...], what: str, optional: tuple[str, ...] = ()) -> dict[str, Any]:
    if not isinstance(value, dict) or not set(keys) <= set(value) <= {*keys, *optional}:
        raise RootError(f"{FIELD}: {what}: expected exactly {', '.join(keys)}, got {str(value)[:80]}")
    return value


def _list(value: Any, what: str) -> list[Any]:
    if not isinstance(value, list):
        raise RootError(f"{FIELD}: {what}: expected a list, got {str(value)[:80]}")
    return value
