"""A site: a twin that runs release 1, and the commissioners with their keys."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from tests.twin.deployment import MODEL, NOW, Deployment
from twinseal.trust.audit import log_of
from twinseal.trust.ceremonies import ceremony
from twinseal.trust.keys.key import KeySigner, NamedSigner
from twinseal.twin import record_enroller
from twinseal.twin.byte_sources import DirectorySource
from twinseal.twin.pull import pull
from twinseal.twin.record_enroller import Enrolment
from twinseal.twin.signed_records import R, RecordKind

LATER = NOW + timedelta(hours=1)


class Site:
    """A twin that runs release 1, and the commissioners' keys."""

    def __init__(self, path: Path) -> None:
        self.deployment = Deployment(path / "deployment")
        self.anchor, self.twin = self.deployment.anchor, path / "twin"
        self.pull(NOW)

    def pull(self, now: datetime = LATER) -> None:
        pull(DirectorySource(self.deployment.mirror), self.anchor, MODEL, self.twin, now)

    def key(self, holder: str) -> KeySigner:
        return self.deployment.home.signer(holder)

    def sign(self, kind: RecordKind[R], change: Callable[[R], R], holder: str = "emil", **options: Any) -> Enrolment[R]:
        """A record of a kind, changed and signed by a commissioner."""
        who = NamedSigner(holder, options.pop("signer", None) or self.key(holder))
        chosen = {"now": LATER, **options}
        return record_enroller.enroll(kind, self.twin, self.anchor, chosen.pop("model", MODEL), change, who, **chosen)

    def log(self) -> list[tuple[str, dict[str, str]]]:
        return [(item.event, dict(item.details)) for _, item in log_of(self.twin).read()]

    def two_must_sign(self) -> None:
        """From now on, two commissioners must sign."""
        roles = self.deployment.roles
        table = roles.roles.model_copy(
            update={"commissioner": roles.roles.commissioner.model_copy(update={"threshold": 2})}
        )
        self.deployment.roles = roles.model_copy(update={"roles": table})
        self._renew()

    def new_key(self, holder: str) -> None:
        """The holder's key is replaced; the old one never counts again."""
        ceremony.rotate(self.deployment.home, self.deployment.roles, holder, LATER)
        self.deployment.update_mirror()
        self.pull()

    def _renew(self) -> None:
        ceremony.renew(self.deployment.home, self.deployment.roles, LATER)
        self.deployment.update_mirror()
        self.pull()


_replace = Path.replace


def killed_before_it_writes(kind: Any, state: Any, data: bytes, remember: Any) -> None:
    """In place of the enroller's `_store`: the log knows of the record, and nothing else does."""
    remember()
    raise KeyboardInterrupt


def killed_before_it_moves(self: Path, target: Path) -> Path:
    """In place of `Path.replace`: the record stays where proposals are."""
    if self.name.endswith(".proposed.dsse.json"):
        raise KeyboardInterrupt
    return _replace(self, target)
