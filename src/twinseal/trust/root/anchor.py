"""The trust anchor: what a twin, and every stage, trusts beforehand. Carried by hand, never fetched.

One file, `root.json`: a TUF root, signed by k of n custodians. Beside TUF's own roles, the signed field `x-twinseal`
holds what TUF has no place for: the pinned keys of builder, assessor, commissioners and reviewers (who steals the
targets key could delegate to other reviewers), the signed evidence that a release needs, and the keys that never count
again.

Because the pins are part of the root, they change as a root does (TUF specification 1.0, section 6.1): the next
version, signed by enough custodians of the old root and of the new one, reaches every twin by itself
(`verified_successor`).

Key identifiers are not written down: they are computed from the keys, so one key has one identifier.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Root  # type: ignore[attr-defined]  # tuf re-exports these without saying so

from twinseal.digests import sha256
from twinseal.errors import EvidenceError, ExpiredError, RootError, SignatureError
from twinseal.files import write_whole
from twinseal.reading import read_regular
from twinseal.trust.root.metadata import MAX_METADATA_BYTES, check_root, parse, signed_bytes
from twinseal.trust.root.pins import FIELD, OPTIONAL, Pins, Requirement, RoleKeys
from twinseal.trust.root.roles import TUF_ROLES

ROOT = "root.json"


@dataclass(frozen=True)
class Anchor:
    """What is trusted before anything is fetched.

    Attributes:
        root: TUF root metadata, exact bytes.
        pins: What it says in the field `x-twinseal`.
        version: Its version.
        expires: When it expires, aware, UTC.

    Raises:
        RootError: The root does not sign itself; it has no pins, malformed ones, or some that are not its own roles.
    """

    root: bytes
    pins: Pins = field(init=False, compare=False, repr=False)
    version: int = field(init=False, compare=False)
    expires: datetime = field(init=False, compare=False)

    def __post_init__(self) -> None:
        root = check_root(self.root)
        try:
            pins = Pins.from_dict(root.unrecognized_fields.get(FIELD))
        except (EvidenceError, SignatureError) as error:
            raise RootError(str(error)) from error
        _check_own_roles(root, pins)
        for name, value in (("pins", pins), ("version", root.version), ("expires", root.expires)):
            object.__setattr__(self, name, value)

    @property
    def models(self) -> tuple[str, ...]:
        """Names of the models that may be released."""
        return self.pins.models

    @property
    def roles(self) -> Mapping[str, RoleKeys]:
        """The eight roles, by name."""
        return self.pins.roles

    @property
    def evidence(self) -> tuple[Requirement, ...]:
        """The statements that a release must carry."""
        return self.pins.evidence

    @property
    def demo(self) -> bool:
        """Whether it was made with throw-away keys."""
        return self.pins.demo

    @property
    def fingerprint(self) -> str:
        """One digest for all of the anchor; people compare it by telephone."""
        return sha256(self.root)

    def requirement(self, stage: str) -> Requirement:
        """What the statement of `stage` must be, and who signs it.

        Raises:
            EvidenceError: No statement of that name is known to the anchor.
        """
        for item in (*self.evidence, *OPTIONAL):
            if item.name == stage:
                return item
        raise EvidenceError(f"evidence: expected one of {[item.name for item in self.evidence]}, got {stage[:60]!r}")

    def check_current(self, now: datetime) -> None:
        """Refuse pinned keys whose time is over: a builder's or an assessor's key counts for as long as policy says.

        The commissioners are left out: no model is admitted on their signature. Baseline records use `check_role`.

        Raises:
            ExpiredError: One has expired at `now`.
        """
        for name in self.roles:
            if name != "commissioner":
                self.check_role(name, now)

    def check_role(self, name: str, now: datetime) -> None:
        """Refuse the pinned keys of one role once the time that policy gives them is over.

        Raises:
            ExpiredError: They have expired at `now`.
        """
        role = self.roles[name]
        if role.expires is not None and now >= role.expires:
            raise ExpiredError(
                f"{role.role}: expected keys pinned until after {now:%Y-%m-%d %H:%M} UTC, got some pinned until "
                f"{role.expires:%Y-%m-%d %H:%M}",
                remedy="The custodians must renew the root: twinseal trust renew",
            )

    @classmethod
    def read(cls, directory: Path) -> Anchor:
        """The anchor in a directory.

        Raises:
            RootError: It is absent, or none.
        """
        try:
            root = read_regular(directory / ROOT, MAX_METADATA_BYTES)
        except OSError as error:
            where = f"Name the folder that has it: --anchor {directory.parent}. " if directory.name == ROOT else ""
            raise RootError(
                f"{directory}: expected a trust anchor ({ROOT}), got none ({error.strerror})",
                remedy=f"{where}Carry the anchor here by hand, or make one: twinseal init --demo",
            ) from error
        try:
            return cls(root)
        except RootError as error:
            raise RootError(
                f"{directory / ROOT}: {str(error).removeprefix(f'{ROOT}: ')}",
                remedy="The file is damaged or was changed. Carry the anchor here again by hand, from a custodian, and "
                "compare its sha256 with theirs.",
            ) from error

    def write(self, directory: Path) -> None:
        """Write it, over the one that it succeeds.

        Raises:
            OSError: It cannot be written.
        """
        write_whole(directory / ROOT, self.root)


def verified_successor(old: Anchor, root: bytes) -> Anchor:
    """The anchor that follows `old`: the next version, signed by enough custodians of both (TUF 1.0, 5.3.4 and 5.3.5).

    Raises:
        RootError: It is no anchor, not the next version, not signed by the old custodians, or takes a revocation back.
    """
    new = Anchor(root)
    metadata = parse(Root, root, ROOT)
    try:
        before = parse(Root, old.root, ROOT).signed
        before.verify_delegate(Root.type, signed_bytes(metadata, ROOT), metadata.signatures)
    except (RepositoryError, ValueError) as error:
        raise RootError(
            f"{ROOT}: expected version {new.version} signed by the custodians before it ({error})"
        ) from error
    if new.version != old.version + 1:
        raise RootError(f"{ROOT}: expected version {old.version + 1}, the next, got {new.version}")
    if not set(old.pins.revoked) <= set(new.pins.revoked) or old.demo != new.demo:
        raise RootError(
            f"{ROOT}: expected version {new.version} to keep what is revoked, and to be demo or not, as before"
        )
    return new


def anchor_chain(anchor: Anchor, directory: Path) -> tuple[Anchor, ...]:
    """`anchor`, and those that follow it among the files `<version>.root.json` of `directory`; verified, oldest first.

    Raises:
        RootError: A file that would follow does not.
    """
    found = [anchor]
    while True:
        path = directory / f"{found[-1].version + 1}.root.json"
        try:
            found.append(verified_successor(found[-1], read_regular(path, MAX_METADATA_BYTES)))
        except FileNotFoundError:
            return tuple(found)
        except RootError as error:
            raise RootError(
                f"{path}: {str(error).removeprefix(f'{ROOT}: ')}",
                remedy=f"It does not follow from root {found[-1].version}. Ask the custodians which root is theirs.",
            ) from error
        except OSError as error:
            raise RootError(f"{path}: expected a root, got none ({error.strerror})") from error


def _check_own_roles(root: Root, pins: Pins) -> None:
    """The names in the pins are those of the keys that TUF counts: what a person reads is what is enforced."""
    for tuf_role, ours in TUF_ROLES.items():
        role, named = root.roles[tuf_role], pins.roles[ours]
        if set(role.keyids) != set(named.keys) or role.threshold != named.threshold:
            raise RootError(f"{ROOT}: expected {tuf_role} to be held by those whom {FIELD} names, got others")
