"""People: who a request is from, and in which roles. This module and `provider_accounts` alone know MLflow's accounts.

    reader      reads everything
    engineer    reads, and writes to MLflow as MLflow allows: runs, candidates, models that are not protected
    reviewer    reads, and decides about candidates; only the key of a reviewer counts, whatever the account may do
    registrar   reads, and manages accounts and MLflow's webhooks

Accounts, passwords and roles are MLflow's own (its basic-auth, its role tables). A role here opens a door of the
server; whose signature counts, the trust anchor says.
"""

from __future__ import annotations

import base64
import secrets
import threading
import time
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from twinseal.errors import ConfigError
from twinseal.files import write_whole

ROLES = ("reader", "engineer", "reviewer", "registrar")
ADMIN = "admin"
WORKSPACE = "default"
ROLES_LAST_S = 5.0
_MIN_PASSWORD = 12  # MLflow's own rule
Way = Literal["password", "session", "token"]


@dataclass(frozen=True)
class Person:
    """Who asks.

    Attributes:
        name: The account's name.
        roles: Some of ROLES.
        way: How they signed in: with the password of an account; at the identity provider, in a session of a browser,
            or by an access token.
        has_mfa: Whether the identity provider says that there was a second factor.
        subject: Who that is to the identity provider: its address, and its own name for them, which nobody else ever
            gets; "" for an account with a password.
    """

    name: str
    roles: frozenset[str]
    way: Way = "password"
    has_mfa: bool = False
    subject: str = ""


class Directory(Protocol):
    """Knows people by what their requests carry."""

    def identify(self, authorization: str) -> Person | None:
        """Who sends this Authorization header; None if nobody who is known."""


class Accounts:
    """MLflow's accounts."""

    def __init__(self, database_uri: str) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of MLflow's own imports, and of alembic
            from mlflow.server.auth.sqlalchemy_store import SqlAlchemyStore  # noqa: PLC0415 - imports take seconds

            self._store = SqlAlchemyStore()
            self._store.init_db(database_uri)

    def add(self, name: str, roles: Iterable[str], password: str) -> None:
        """Make an account, or give an account that is there this password and these roles.

        Raises:
            ConfigError: A role is unknown, or MLflow does not take the name or the password.
        """
        wanted = check_roles(roles)
        if len(password) < _MIN_PASSWORD:
            raise ConfigError(f"password of {name}: expected at least {_MIN_PASSWORD} characters, got {len(password)}")
        admin = "registrar" in wanted
        with _account_errors(name):
            if self._store.has_user(name):
                self._store.update_user(name, password=password, is_admin=admin)
            else:
                self._store.create_user(name, password, is_admin=admin)
            user = self._store.get_user(name)
            for role in self._store.list_user_roles(user.id):
                if role.name in ROLES:
                    self._store.unassign_role_from_user(user.id, role.id)
            for role in wanted:
                self._store.assign_role_to_user(user.id, self._role(role))

    def remove(self, name: str) -> None:
        """Delete an account.

        Raises:
            ConfigError: There is none of that name.
        """
        with _account_errors(name):
            self._store.delete_user(name)

    def all(self) -> tuple[Person, ...]:
        """Every account."""
        with _account_errors("accounts"):
            return tuple(
                Person(user.username, _roles(user, roles)) for user, roles in self._store.list_users_with_roles()
            )

    def close(self) -> None:
        """Close the database."""
        self._store.engine.dispose()

    def _role(self, name: str) -> int:
        from mlflow.exceptions import MlflowException  # noqa: PLC0415 - as above

        try:
            return int(self._store.get_role_by_name(WORKSPACE, name).id)
        except MlflowException:
            return int(self._store.create_role(name, WORKSPACE, description=f"twinseal: {name}").id)


class ServerAccounts:
    """MLflow's accounts, as its own app in this process has opened them: a password is checked once a minute."""

    def __init__(self) -> None:
        from mlflow.server import auth  # noqa: PLC0415 - as above

        self._auth = auth
        self._known: dict[int, tuple[float, frozenset[str]]] = {}
        self._lock = threading.Lock()

    def identify(self, authorization: str) -> Person | None:
        """As Directory says: name and password of HTTP's basic authentication (RFC 7617)."""
        given = name_and_password(authorization)
        if given is None:
            return None
        user = self._auth._authenticate_cached(*given)  # MLflow has no public way to its cache
        return None if user is None else Person(user.username, self._roles_of(user))

    def _roles_of(self, user: Any) -> frozenset[str]:
        now = time.monotonic()
        with self._lock:
            found = self._known.get(user.id)
        if found is None or now - found[0] > ROLES_LAST_S:
            found = now, _roles(user, self._auth.store.list_user_roles(user.id))
            with self._lock:
                self._known[user.id] = found
        return found[1]


def name_and_password(authorization: str) -> tuple[str, str] | None:
    """What an Authorization header of HTTP's basic authentication says (RFC 7617); None if it is none.

    >>> name_and_password("Basic YWxpY2U6cHc="), name_and_password("Basic é"), name_and_password("Bearer x")
    (('alice', 'pw'), None, None)
    """
    scheme, _, value = authorization.partition(" ")
    try:
        name, colon, password = base64.b64decode(value, validate=True).decode().partition(":")
    except ValueError:
        return None
    # PostgreSQL takes no NUL; no account's name has a sign that is not shown
    return (name, password) if scheme.lower() == "basic" and colon and name.isprintable() else None


def write_auth_config(path: Path, database_uri: str, authorization_function: str = "") -> None:
    """MLflow's settings of accounts: engineers may write where MLflow has no other rule; passwords are cached.

    Args:
        path: Where to; for its owner alone.
        database_uri: The database with the accounts.
        authorization_function: What tells MLflow who asks; "": MLflow looks at name and password itself.
    """
    lines = ["[mlflow]", "default_permission = EDIT", f"database_uri = {database_uri}", f"admin_username = {ADMIN}"]
    if authorization_function:
        lines.append(f"authorization_function = {authorization_function}")
    lines.append("auth_cache_ttl_seconds = 60")
    text = "\n".join((*lines, "")).replace("%", "%%")  # MLflow reads it with interpolation
    write_whole(path, text.encode(), mode=0o600)  # the address may have a password


def new_password() -> str:
    """A password that nobody guesses: 120 bits."""
    return secrets.token_urlsafe(15)


def _roles(user: Any, roles: Iterable[Any]) -> frozenset[str]:
    named = {role.name for role in roles if role.name in ROLES}
    return frozenset(named | ({"registrar"} if user.is_admin else set()))


def check_roles(roles: Iterable[str]) -> tuple[str, ...]:
    """The roles, each once.

    Raises:
        ConfigError: There is none, or one is unknown.
    """
    wanted = tuple(dict.fromkeys(roles))
    unknown = [role for role in wanted if role not in ROLES]
    if unknown or not wanted:
        raise ConfigError(f"roles: expected some of {', '.join(ROLES)}, got {', '.join(unknown) or 'none'}")
    return wanted


@contextmanager
def _account_errors(name: str) -> Iterator[None]:
    """Map what MLflow raises, inside, to ConfigError."""
    from mlflow.exceptions import MlflowException  # noqa: PLC0415 - as above

    try:
        yield
    except MlflowException as error:
        raise ConfigError(f"account {name}: expected one that MLflow takes, got: {error.message}") from error
