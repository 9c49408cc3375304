"""MLflow's databases for a backup: a copy while a server writes, and the way back, with the new home's locations.

SQLite is copied by its online backup: as it is at one moment. PostgreSQL by its own pg_dump and pg_restore; they have
the password in their environment, where no list of processes shows it.

MLflow keeps the place of every run and candidate. What is sent to a server has none of this machine's folders in it
(`mlflow-artifacts:/…`); what was written beside it has (`file:///home/mlflow/artifacts/…`), and is changed.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from twinseal.errors import ConfigError
from twinseal.server.settings import without_driver

LOCATIONS = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
    ("trace_tags", "value"),
)
PATIENCE_S = 3600
Execute = Callable[[str, tuple[str, ...]], int]
"""Runs a statement with its values; how many rows it changed."""


def sqlite_path(uri: str) -> Path:
    """The file of a SQLite address."""
    return Path(unquote(uri.removeprefix("sqlite:///")))


def copy_sqlite(source: Path, target: Path) -> None:
    """Copy a database that others may be writing to.

    Raises:
        ConfigError: It is none.
    """
    target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    try:
        with (
            closing(sqlite3.connect(f"{source.absolute().as_uri()}?mode=ro", uri=True, timeout=30)) as one,
            closing(sqlite3.connect(target)) as other,
        ):
            one.backup(other)
    except sqlite3.Error as error:
        raise ConfigError(f"{source}: expected MLflow's database, got something else ({error})") from error
    target.chmod(0o600)


def move_sqlite(path: Path, old: str, new: str) -> None:
    """Give every location below the folder `old` its place below `new`.

    Raises:
        ConfigError: It is no database, or a damaged one.
    """
    try:
        with closing(sqlite3.connect(path)) as base, base:
            base.execute("PRAGMA trusted_schema = OFF")
            if base.execute("PRAGMA quick_check(1)").fetchone() != ("ok",):
                raise sqlite3.DatabaseError("damaged")
            tables = {row[0] for row in base.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            _move(lambda words, values: base.execute(words.replace("%s", "?"), values).rowcount, tables, old, new)
    except sqlite3.Error as error:
        raise ConfigError(f"{path.name}: expected MLflow's database, got something else ({error})") from error


def _move(execute: Execute, tables: set[str], old: str, new: str) -> None:
    if old == new:
        return
    for before, after in ((Path(old).as_uri(), Path(new).as_uri()), (old, new)):
        for table, column in LOCATIONS:
            if table in tables:
                execute(
                    f"UPDATE {table} SET {column} = %s || substr({column}, {len(before) + 1}) "  # noqa: S608 - our names
                    f"WHERE substr({column}, 1, {len(before) + 8}) = %s",
                    (after, f"{before}/mlflow/"),
                )


def dump_postgresql(uri: str, target: Path) -> None:
    """Write a database of PostgreSQL to a file.

    Raises:
        ConfigError: pg_dump is not here, or refuses.
    """
    target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    words = ["--format=custom", "--no-owner", "--no-privileges", "--no-password", f"--file={target}"]
    _run("pg_dump", words, uri)
    target.chmod(0o600)


def require_empty_postgresql(uri: str) -> None:
    """Refuse a database that has tables.

    Raises:
        ConfigError: It has, or does not answer.
    """
    find_program("pg_restore")
    with connect_postgresql(uri) as base:
        count = base.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").fetchone()
    if count is None or count[0]:
        raise ConfigError(
            f"database: expected an empty one, got one with {count[0] if count else 0} tables",
            remedy="Make one (createdb NAME), and give its address: twinseal restore FILE --home DIR --database URI",
        )


def restore_postgresql(uri: str, dump: Path, old: str, new: str) -> None:
    """Fill an empty database from a file, whole or not at all; and give locations their new place.

    Raises:
        ConfigError: pg_restore is not here, or refuses.
    """
    words = ["--no-owner", "--no-privileges", "--no-password", "--exit-on-error", "--single-transaction"]
    _run("pg_restore", [*words, f"--dbname={_parts(uri).get('dbname', '')}", str(dump)], uri)
    with connect_postgresql(uri) as base:
        found = base.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
        _move(lambda words, values: base.execute(words, values).rowcount, {str(row[0]) for row in found}, old, new)


def find_program(name: str) -> str:
    """The path of one of PostgreSQL's programs.

    Raises:
        ConfigError: It is not here.
    """
    found = shutil.which(name)
    if found is None:
        raise ConfigError(
            f"database: expected PostgreSQL's program {name}, got none on this machine",
            remedy="apt-get install postgresql-client   (of the server's version, or newer)",
        )
    return found


def _run(name: str, words: list[str], uri: str) -> None:
    done = subprocess.run(  # noqa: S603 - the program of that name, no shell
        [find_program(name), *words],
        env=os.environ | _environment(uri),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=PATIENCE_S,
        check=False,
    )
    if done.returncode:
        lines = " ".join(done.stderr.split())[:300]
        raise ConfigError(f"database: expected {name} to end well, got {done.returncode} ({lines})")


def _parts(uri: str) -> dict[str, str]:
    from psycopg.conninfo import conninfo_to_dict  # noqa: PLC0415 - not needed with SQLite

    found = conninfo_to_dict(without_driver(uri))
    return {name: str(value) for name, value in found.items() if value is not None}


def _environment(uri: str) -> dict[str, str]:
    names = {"host": "PGHOST", "port": "PGPORT", "user": "PGUSER", "password": "PGPASSWORD", "dbname": "PGDATABASE"}
    names |= {"sslmode": "PGSSLMODE", "sslrootcert": "PGSSLROOTCERT", "connect_timeout": "PGCONNECT_TIMEOUT"}
    return {names[name]: value for name, value in _parts(uri).items() if name in names}


def connect_postgresql(uri: str) -> Any:
    """A connection to a database of PostgreSQL.

    Raises:
        ConfigError: It does not answer.
    """
    import psycopg  # noqa: PLC0415 - not needed with SQLite

    try:
        return psycopg.connect(without_driver(uri), connect_timeout=5)
    except psycopg.Error as error:
        parts = urlsplit(uri)
        raise ConfigError(
            f"database: expected one that answers at {parts.hostname}, got {type(error).__name__} "
            f"({' '.join(str(error).split())[:200]})",
            remedy="Is it running, and its address right? `database` in server.yaml, or --database",
        ) from error
