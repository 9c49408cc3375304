"""The trust anchor: what a twin, and every stage, knows before it hears anything. Carried by hand, never fetched.

Two files: `root.json`, the TUF root that python-tuf starts from, and `admission.json`, which pins what TUF cannot:
the keys of builder, assessor and reviewers (a thief of the targets key could delegate to reviewers of his own), and
which signed evidence a release must carry. `admission.json` names `root.json` by digest: the two are one anchor.

Key identifiers are not written down: they are computed from the keys, so one key has one identifier.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from twinseal.digests import canonical_json, parse_json, sha256
from twinseal.errors import EvidenceError, RootError, SignatureError
from twinseal.evidence import PREDICATE_TYPES, PROVENANCE, TEST_RESULT, VERIFICATION_SUMMARY
from twinseal.files import write_whole
from twinseal.trust.keys import Key, fingerprint, public_key
from twinseal.trust.metadata import MAX_METADATA_BYTES, check_root
from twinseal.trust.roles import SEPARATE, check_models

SCHEMA = "https://twinseal.dev/admission/v1"
DEMO_FIELD = "x-twinseal-demo"
ROOT, ADMISSION = "root.json", "admission.json"


@dataclass(frozen=True)
class Holder:
    """Someone, or some machine, with a key.

    Attributes:
        name: As in policy/roles.yaml.
        key: Public key, ECDSA P-256.
    """

    name: str
    key: Key


@dataclass(frozen=True)
class RoleKeys:
    """Who may sign in one role, and how many of them it takes.

    Attributes:
        role: The role's name, for messages.
        threshold: Distinct keys needed.
        holders: Each with a key of its own.

    Raises:
        RootError: No holders, a name twice, a key twice (also under another name), or a threshold out of reach.
    """

    role: str
    threshold: int
    holders: tuple[Holder, ...]

    def __post_init__(self) -> None:
        names = [holder.name for holder in self.holders]
        if not names or len(set(names)) != len(names) or not all(isinstance(name, str) and name for name in names):
            raise RootError(f"{self.role}: expected holders with one name each, got {names}")
        values: dict[str, str] = {}
        for holder in self.holders:
            other = values.setdefault(fingerprint(holder.key), holder.name)
            if other != holder.name:
                raise RootError(f"{self.role}: expected a key each, got one key for {other} and {holder.name}")
        if type(self.threshold) is not int or not 1 <= self.threshold <= len(names):
            raise RootError(f"{self.role}: expected a threshold of 1 to {len(names)}, got {self.threshold!r}")

    @property
    def keys(self) -> dict[str, Key]:
        """The keys by their identifiers."""
        return {holder.key.keyid: holder.key for holder in self.holders}

    def holder_of(self, keyid: str) -> str:
        """The name of the holder of the key `keyid`; "" if it is nobody's in this role."""
        return next((holder.name for holder in self.holders if holder.key.keyid == keyid), "")

    def key_of(self, name: str) -> Key:
        """The key of the holder called `name`.

        Raises:
            SignatureError: Nobody of that name has this role.
        """
        for holder in self.holders:
            if holder.name == name:
                return holder.key
        names = ", ".join(holder.name for holder in self.holders)
        raise SignatureError(f"{self.role}: expected one of {names}, got {name[:60]!r}")


@dataclass(frozen=True)
class Requirement:
    """One signed statement that every release must carry.

    Attributes:
        name: The stage that wrote it.
        predicate_type: What kind of statement it is.
        role: Whose signature it carries.
    """

    name: str
    predicate_type: str
    role: str


REQUIRED = (
    Requirement("ingest", PROVENANCE, "builder"),
    Requirement("validate", TEST_RESULT, "assessor"),
    Requirement("prepare", PROVENANCE, "builder"),
    Requirement("train", PROVENANCE, "builder"),
    Requirement("evade", TEST_RESULT, "assessor"),
    Requirement("poison", TEST_RESULT, "assessor"),
    Requirement("assess", VERIFICATION_SUMMARY, "assessor"),
)


@dataclass(frozen=True)
class Anchor:
    """What is trusted before anything is fetched.

    Law: `Anchor.from_bytes(anchor.to_bytes(), anchor.root) == anchor`.

    Attributes:
        root: TUF root metadata, exact bytes.
        models: Names of the models that may be released.
        roles: builder, assessor and reviewer.
        evidence: The statements that a release must carry; at least those of REQUIRED.
        demo: Made with throw-away keys: good for a story, never for a machine.

    Raises:
        RootError: The root does not sign itself; a role is missing or shares a key with another; a required statement
            is missing; `demo` is not what the root says about itself.
    """

    root: bytes
    models: tuple[str, ...]
    roles: Mapping[str, RoleKeys]
    evidence: tuple[Requirement, ...] = REQUIRED
    demo: bool = False

    def __post_init__(self) -> None:
        root = check_root(self.root)
        try:
            check_models(self.models)
        except ValueError as error:
            raise RootError(f"anchor: {error}") from error
        _check_roles(self.roles)
        _check_evidence(self.evidence)
        # Said in the signed root as well, so that editing admission.json cannot make demo keys look real.
        if type(self.demo) is not bool or self.demo != root.unrecognized_fields.get(DEMO_FIELD, False):
            raise RootError(f"anchor: expected demo to be what the root says of itself, got {self.demo!r}")

    @property
    def fingerprint(self) -> str:
        """One digest for all of the anchor: what two people read to each other on the telephone."""
        return sha256(self.to_bytes())

    def requirement(self, stage: str) -> Requirement:
        """What the statement of `stage` must be, and who signs it.

        Raises:
            EvidenceError: No statement of that name is known to the anchor.
        """
        for item in self.evidence:
            if item.name == stage:
                return item
        raise EvidenceError(f"evidence: expected one of {[item.name for item in self.evidence]}, got {stage[:60]!r}")

    def to_bytes(self) -> bytes:
        """`admission.json`: everything but the root, which it names by digest."""
        return canonical_json(
            {
                "schema": SCHEMA,
                "demo": self.demo,
                "root_sha256": sha256(self.root),
                "models": list(self.models),
                "roles": {name: _role_to_dict(role) for name, role in self.roles.items()},
                "evidence": [[item.name, item.predicate_type, item.role] for item in self.evidence],
            }
        )

    @classmethod
    def from_bytes(cls, admission: bytes, root: bytes) -> Anchor:
        """The anchor that the two files make.

        Raises:
            RootError: They are malformed, or not one anchor.
        """
        try:
            value = parse_json(admission, ADMISSION, limit=MAX_METADATA_BYTES)
            return _from_dict(value, root)
        except (EvidenceError, SignatureError) as error:
            raise RootError(str(error)) from error

    @classmethod
    def read(cls, directory: Path) -> Anchor:
        """The anchor in a directory.

        Raises:
            RootError: A file is absent, or they are no anchor.
        """
        try:
            admission, root = (_read(directory / name) for name in (ADMISSION, ROOT))
        except OSError as error:
            raise RootError(
                f"{directory}: expected a trust anchor ({ROOT}, {ADMISSION}), got none ({error.strerror})",
                remedy="Carry the anchor here by hand, or make one: twinseal init --demo",
            ) from error
        return cls.from_bytes(admission, root)

    def write(self, directory: Path) -> None:
        """Write the two files. `admission.json` last: without it there is no anchor.

        Raises:
            OSError: They cannot be written.
        """
        write_whole(directory / ROOT, self.root)
        write_whole(directory / ADMISSION, self.to_bytes())


def _read(path: Path) -> bytes:
    with path.open("rb") as stream:
        return stream.read(MAX_METADATA_BYTES + 1)  # one more, so that too long is seen as such


def _check_roles(roles: Mapping[str, RoleKeys]) -> None:
    if set(roles) != set(SEPARATE):
        raise RootError(f"anchor: expected the roles {', '.join(SEPARATE)}, got {', '.join(map(str, roles)) or 'none'}")
    held: dict[str, str] = {}
    for name in SEPARATE:
        if not isinstance(roles[name], RoleKeys):
            raise RootError(f"anchor: expected keys for {name}, got {type(roles[name]).__name__}")
        for holder in roles[name].holders:
            other = held.setdefault(fingerprint(holder.key), name)
            if other != name:
                raise RootError(f"anchor: expected a key in one role, got that of {holder.name} in {other} and {name}")


def _check_evidence(evidence: tuple[Requirement, ...]) -> None:
    missing = [item.name for item in REQUIRED if item not in evidence]
    if missing:
        raise RootError(f"anchor: expected the evidence of every stage, got none for {', '.join(missing)}")
    names = [item.name for item in evidence]
    if len(set(names)) != len(names):
        raise RootError(f"anchor: expected each evidence once, got {', '.join(names)}")
    for item in evidence:
        if item.predicate_type not in PREDICATE_TYPES or item.role not in SEPARATE:
            raise RootError(f"anchor: expected a known predicate and role for {item.name}, got {item}")


def _role_to_dict(role: RoleKeys) -> dict[str, Any]:
    holders = [{"name": holder.name, "public": holder.key.keyval["public"]} for holder in role.holders]
    return {"threshold": role.threshold, "holders": holders}


def _from_dict(value: Any, root: bytes) -> Anchor:
    fields = _object(value, ("schema", "demo", "root_sha256", "models", "roles", "evidence"), "admission")
    if fields["schema"] != SCHEMA:
        raise RootError(f"{ADMISSION}: expected {SCHEMA}, got {str(fields['schema'])[:80]}")
    if fields["root_sha256"] != sha256(root):
        raise RootError(f"{ADMISSION}: expected the root {str(fields['root_sha256'])[:12]}…, got {sha256(root)[:12]}…")
    roles = {name: _role_from_dict(name, item) for name, item in _object(fields["roles"], SEPARATE, "roles").items()}
    models = tuple(_list(fields["models"], "models"))
    evidence = tuple(_requirement(item) for item in _list(fields["evidence"], "evidence"))
    return Anchor(root, models, roles, evidence, fields["demo"])


def _role_from_dict(name: str, value: Any) -> RoleKeys:
    fields = _object(value, ("threshold", "holders"), name)
    holders = []
    for item in _list(fields["holders"], name):
        holder = _object(item, ("name", "public"), f"{name} holder")
        holders.append(Holder(holder["name"], public_key(holder["public"], f"{name} {str(holder['name'])[:40]}")))
    return RoleKeys(name, fields["threshold"], tuple(holders))


def _requirement(value: Any) -> Requirement:
    items = _list(value, "evidence")
    if len(items) != 3 or not all(isinstance(item, str) for item in items):
        raise RootError(f"{ADMISSION}: expected evidence as [name, type, role], got {str(value)[:80]}")
    return Requirement(*items)


def _object(value: Any, keys: tuple[str, ...], what: str) -> dict[str, Any]:
    if not isinstance(value, dict) or set(value) != set(keys):
        raise RootError(f"{ADMISSION}: {what}: expected exactly {', '.join(keys)}, got {str(value)[:80]}")
    return value


def _list(value: Any, what: str) -> list[Any]:
    if not isinstance(value, list):
        raise RootError(f"{ADMISSION}: {what}: expected a list, got {str(value)[:80]}")
    return value
