"""Accounts of people who sign in at the identity provider: MLflow needs one for each name. None has a password.

A name belongs to whoever came with it first. In the place of a password's hash stands a digest of who that is to the
provider (issuer and subject, which is never given to anyone else), so:

- an account with a password is never taken over by somebody whom the provider lets choose that name
- two people of the provider never are one account, even if one is renamed to what the other was called
- names that differ in upper and lower case only are one name
"""

from __future__ import annotations

import fcntl
import hashlib
import threading
import time
from pathlib import Path

from twinseal.server.people import ROLES_LAST_S, Person
from twinseal.server.tokens import SignInError

LOCK = "people.lock"
_MARK = "no password: openid "  # has no "$", so that no password can ever match it


class ProviderAccounts:
    """MLflow's accounts of people of the provider, as its own app in this process has opened them.

    Args:
        folder: For the lock, which workers share.
    """

    def __init__(self, folder: Path) -> None:
        from mlflow.server import auth  # noqa: PLC0415 - it reads the environment when it is imported
        from mlflow.server.auth.db.models import SqlUser  # noqa: PLC0415 - as above

        self._store, self._row, self._lock = auth.store, SqlUser, folder / LOCK
        self._known: dict[Person, float] = {}
        self._guard = threading.Lock()

    def admit(self, person: Person) -> None:
        """Make sure that MLflow's account of this name is this person's: it is made at first sight.

        Side effects: MLflow's accounts. Administrator of MLflow is who is a registrar now.

        Raises:
            SignInError: The name is somebody else's.
        """
        now = time.monotonic()
        with self._guard:
            if now - self._known.get(person, -ROLES_LAST_S) < ROLES_LAST_S:
                return
        self._lock.parent.mkdir(parents=True, exist_ok=True)
        with self._lock.open("w") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)
            self._admit(person)
        with self._guard:
            self._known = {who: seen for who, seen in self._known.items() if now - seen < ROLES_LAST_S} | {person: now}

    def _admit(self, person: Person) -> None:
        mark, admin = _mark(person.subject), "registrar" in person.roles
        with self._store.ManagedSessionMaker(read_only=False) as session:
            same = [row for row in session.query(self._row).all() if row.username.casefold() == person.name.casefold()]
            owners = [(row.username, row.password_hash) for row in same]
            if not same:
                session.add(self._row(username=person.name, password_hash=mark, is_admin=admin))
            elif owners == [(person.name, mark)] and same[0].is_admin != admin:
                same[0].is_admin = admin
        if owners not in ([], [(person.name, mark)]):  # here: MLflow would make an error of its own of it inside
            has_password = not all(str(hashed).startswith(_MARK) for _, hashed in owners)
            raise SignInError(
                f"{person.name}: expected a name that is nobody else's here, got that of "
                f"{'an account with a password' if has_password else 'another person of the provider'}",
                remedy="If that account is theirs too, or needed no more: twinseal account remove NAME",
            )


def _mark(subject: str) -> str:
    return _MARK + hashlib.sha256(subject.encode()).hexdigest()
