"""Databases with MLflow's tables, and the stores over them that MLflow itself would open."""

from __future__ import annotations

import functools
import os
import shutil
import uuid
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any


def make_tables(uri: str) -> None:
    """Let MLflow make its tables in an empty database."""
    set_up_mappers()
    from mlflow.store.db.utils import _initialize_tables, create_sqlalchemy_engine

    engine = create_sqlalchemy_engine(uri)
    try:
        _initialize_tables(engine)
    finally:
        engine.dispose()


@functools.cache
def ready_tables() -> Path:
    """A SQLite file with MLflow's tables, to be copied: its migrations take seconds. It goes with the tests' user."""
    path = Path(os.environ["XDG_CACHE_HOME"]) / "ready" / "mlflow.db"
    path.parent.mkdir(parents=True, exist_ok=True)
    make_tables(f"sqlite:///{path}")
    return path


def set_up_mappers() -> None:
    """Import MLflow's stores: SQLAlchemy warns, once, of a deprecated strategy that their mappers use."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The ``noload`` loader strategy is deprecated")
        for store in ("tracking", "model_registry"):
            import_module(f"mlflow.store.{store}.sqlalchemy_store")
        import_module("sqlalchemy.orm").configure_mappers()


@contextmanager
def sqlite_copy(tables: Path, folder: Path) -> Iterator[str]:
    """The address of a copy of such a file, below `folder`."""
    path = folder / f"{uuid.uuid4().hex}.db"
    shutil.copy(tables, path)
    yield f"sqlite:///{path}"
    path.unlink()


@contextmanager
def mlflows_store(uri: str) -> Iterator[Any]:
    """MLflow's own registry store over a database, found as MLflow finds it."""
    with _found(uri, uri) as store:
        yield store


@contextmanager
def our_store(uri: str) -> Iterator[Any]:
    """Ours over a database, found as MLflow finds it: by its scheme, through the entry point of the plugin."""
    with _found(f"twinseal+{uri}", uri) as store:
        yield store


@contextmanager
def _found(store_uri: str, uri: str) -> Iterator[Any]:
    set_up_mappers()
    from mlflow.store.model_registry.sqlalchemy_store import SqlAlchemyStore
    from mlflow.tracking._model_registry.utils import _get_store

    try:
        yield _get_store(store_uri=store_uri)
    finally:
        # MLflow keeps each engine for good, with its connections: a session of tests would run out of them.
        engine = SqlAlchemyStore._engine_map.pop(uri, None)
        if engine is not None:
            engine.dispose()
