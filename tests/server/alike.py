"""MLflow's own registry store and ours, side by side: each call goes to both, and must be answered alike.

    with alike(uri, other_uri) as both:
        both.create_registered_model("bearing-rul")     # what ours answered or raised, after the comparison
        both.check_tables()                             # and the rows of both databases are the same

MLflow's store is the oracle: whatever it does under a name that no anchor lists, an answer, an error with its sentence,
or a row in a table, ours does too. Both see one clock and one source of ids, which move on with each call.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from enum import Enum
from types import SimpleNamespace
from typing import Any
from unittest import mock

from tests.server.databases import mlflows_store, our_store, set_up_mappers

TABLES = (
    "registered_models",
    "registered_model_tags",
    "registered_model_aliases",
    "model_versions",
    "model_version_tags",
    "webhooks",
    "webhook_events",
)
SECRET = "secret"  # the name of a column: encrypted with a nonce, no two rows are the same


class Both:
    """The two stores: `both.METHOD(…)` calls the method of each.

    Attributes:
        mlflows: MLflow's.
        ours: Ours.
    """

    def __init__(self, mlflows: Any, ours: Any) -> None:
        self.mlflows = mlflows
        self.ours = ours
        self._calls = 0

    def __getattr__(self, method: str) -> Callable[..., Any]:
        if method.startswith("_"):
            raise AttributeError(method)
        return lambda *args, **kwargs: self._call(method, args, kwargs)

    def check_tables(self) -> None:
        """The registry's rows are the same."""
        for table in TABLES:
            assert rows(self.mlflows, table) == rows(self.ours, table), table

    def empty_tables(self) -> None:
        """Remove the registry's rows: quicker than another database."""
        from sqlalchemy import text

        for store in (self.mlflows, self.ours):
            with store.engine.begin() as connection:
                for table in reversed(TABLES):
                    connection.execute(text(f"DELETE FROM {table}"))

    def now(self) -> int:
        """The time that both stores see: milliseconds."""
        return 1_700_000_000_000 + self._calls

    def identifier(self) -> uuid.UUID:
        """The random id that both stores draw in a call."""
        return uuid.UUID(int=self._calls)

    def _call(self, method: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        self._calls += 1
        expected, actual = (_outcome(store, method, args, kwargs) for store in (self.mlflows, self.ours))
        assert _plain(expected) == _plain(actual), f"{method}{args}{kwargs}"
        if isinstance(actual, Exception):
            raise actual
        return actual


@contextmanager
def alike(uri: str, other_uri: str) -> Iterator[Both]:
    """MLflow's store over one database and ours over the other."""
    set_up_mappers()
    from mlflow.store.model_registry import sqlalchemy_store

    with ExitStack() as stack:
        both = Both(*(stack.enter_context(opened) for opened in (mlflows_store(uri), our_store(other_uri))))
        stack.enter_context(mock.patch.object(sqlalchemy_store, "get_current_time_millis", both.now))
        stack.enter_context(mock.patch.object(sqlalchemy_store, "uuid", SimpleNamespace(uuid4=both.identifier)))
        yield both


def rows(store: Any, table: str) -> list[str]:
    """All rows of a table, in an order that does not depend on the database."""
    from sqlalchemy import text

    with store.engine.connect() as connection:
        found = connection.execute(text(f"SELECT * FROM {table}")).mappings()
        return sorted(repr({key: value for key, value in sorted(row.items()) if key != SECRET}) for row in found)


def _outcome(store: Any, method: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    try:
        return getattr(store, method)(*args, **kwargs)
    except Exception as error:  # what MLflow raises is part of how it answers
        return error


def _plain(value: Any) -> Any:
    """What can be seen of an answer, as values that can be compared."""
    if isinstance(value, Exception):
        return type(value), getattr(value, "error_code", None), str(value)
    if isinstance(value, list):  # MLflow's PagedList is one, with the token of the next page
        return [_plain(item) for item in value], getattr(value, "token", None)
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if hasattr(value, "__dict__") and not isinstance(value, Enum):
        return type(value), _plain(vars(value))
    return value
