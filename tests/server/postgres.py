"""A real PostgreSQL of the test session: Debian's programs, a folder and a port of its own, ended by its id.

    with postgres() as server:
        server.uri                    postgresql://twinseal:…@127.0.0.1:PORT/tables
        with server.fresh() as uri:   a database with MLflow's tables, empty, in milliseconds

It asks for a password (scram-sha-256) as a server of a plant does, listens on loopback alone, and writes nothing to the
disk before it must: its data live as long as the session.
"""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import psycopg

from tests.server.databases import make_tables

PATIENCE_S = 60.0
ROOM_BYTES = 1 << 30
DEBIAN = Path("/usr/lib/postgresql")
TABLES = "tables"
USER = "twinseal"
MISSING = "PostgreSQL is not installed: apt-get install postgresql"
_QUICK = ("fsync=off", "synchronous_commit=off", "full_page_writes=off", "shared_buffers=32MB", "max_wal_size=512MB")


class NoPostgresError(Exception):
    """This machine lacks the programs, or the user that may run them."""


@dataclass(frozen=True)
class Postgres:
    """A server that runs.

    Attributes:
        port: On 127.0.0.1.
        password: Of the user `twinseal`, who may make databases.
    """

    port: int
    password: str = field(repr=False)
    _numbers: Iterator[int] = field(default_factory=lambda: count(1), repr=False)

    @property
    def uri(self) -> str:
        """The address of the database that others are copies of: it has MLflow's tables."""
        return self.address(TABLES)

    def address(self, name: str) -> str:
        """The address of a database, whether there is one of this name or not."""
        return f"postgresql://{USER}:{self.password}@127.0.0.1:{self.port}/{name}"

    @contextmanager
    def fresh(self, template: str = TABLES) -> Iterator[str]:
        """The address of a new database with MLflow's tables; `template0`: with none."""
        name = f"fresh_{next(self._numbers)}"
        self.run(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY FILE_COPY")
        try:
            yield self.address(name)
        finally:
            self.run(f"DROP DATABASE {name} WITH (FORCE)")

    def run(self, statement: str) -> None:
        """Run a statement of the server's owner."""
        with psycopg.connect(self.address("postgres"), autocommit=True) as connection:
            connection.execute(statement)  # type: ignore[arg-type]


@contextmanager
def postgres() -> Iterator[Postgres]:
    """A server with a database that has MLflow's tables; its folder is removed in the end.

    Raises:
        NoPostgresError: The programs are missing, or their user is, whom root needs.
        RuntimeError: The server did not start.
    """
    programs, user = find_programs(), _user()
    folder = Path(tempfile.mkdtemp(prefix="pg-", dir=_roomy()))
    try:
        password = secrets.token_hex(16)
        _initialise(programs, folder, user, password)
        with _started(programs, folder, user, password) as server:
            server.run(f"CREATE DATABASE {TABLES}")
            make_tables(server.uri)  # and nobody is connected then: PostgreSQL copies no database in use
            yield server
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def find_programs() -> Path:
    """The folder of `initdb` and `postgres`: of the newest version that Debian installed, or on the PATH.

    Raises:
        NoPostgresError: There is none.
    """
    debian = sorted(DEBIAN.glob("*/bin"), key=lambda found: float(found.parent.name), reverse=True)
    on_path = shutil.which("initdb")
    for folder in [*debian, *([Path(on_path).resolve().parent] if on_path else [])]:
        if (folder / "initdb").exists() and (folder / "postgres").exists():
            return folder
    raise NoPostgresError(MISSING)


def _roomy() -> str:
    """Where its folder goes: memory where there is room, since a new database is a thousand files.

    Not below pytest's folder or $TMPDIR: these may be too long for a socket, or closed to the user who runs it.
    """
    memory = Path("/dev/shm")
    return str(memory) if memory.is_dir() and shutil.disk_usage(memory).free > ROOM_BYTES else "/tmp"


def _user() -> pwd.struct_passwd:
    """Who runs it: this user; PostgreSQL refuses root, who lets the system's user `postgres` do it."""
    try:
        return pwd.getpwuid(os.getuid()) if os.getuid() else pwd.getpwnam("postgres")
    except KeyError:
        raise NoPostgresError(MISSING) from None


def _as(user: pwd.struct_passwd, words: list[str]) -> list[str]:
    """A command that runs as `user`, and ends (SIGINT: at once, its children too) when this process dies."""
    change = ["--reuid", str(user.pw_uid), "--regid", str(user.pw_gid), "--clear-groups"] if os.getuid() == 0 else []
    return ["setpriv", *change, "--pdeathsig", "INT", *words]


def _initialise(programs: Path, folder: Path, user: pwd.struct_passwd, password: str) -> None:
    secret = folder / "password"
    secret.write_text(password)
    if os.getuid() == 0:
        os.chown(folder, user.pw_uid, user.pw_gid)
        os.chown(secret, user.pw_uid, user.pw_gid)
    words = [str(programs / "initdb"), f"--pgdata={folder / 'data'}", f"--username={USER}", f"--pwfile={secret}"]
    words += ["--auth=scram-sha-256", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync"]
    done = subprocess.run(_as(user, words), cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"initdb ended with {done.returncode}: {done.stderr[-2000:]}")


@contextmanager
def _started(programs: Path, folder: Path, user: pwd.struct_passwd, password: str) -> Iterator[Postgres]:
    server = Postgres(_free_port(), password)
    settings = ["listen_addresses=127.0.0.1", f"port={server.port}", f"unix_socket_directories={folder}", *_QUICK]
    words = [str(programs / "postgres"), "-D", str(folder / "data")]
    words += [word for setting in settings for word in ("-c", setting)]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(_as(user, words), cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        _wait(server, process, folder / "log")
        yield server
    finally:
        _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGINT)  # "fast": its clients are thrown out
    try:
        process.wait(timeout=20)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGQUIT)  # "immediate"; SIGKILL would leave its children
        process.wait(timeout=20)


def _wait(server: Postgres, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        if process.poll() is not None:
            raise RuntimeError(f"postgres ended with {process.returncode}: {log.read_text()[-2000:]}")
        try:
            return server.run("SELECT 1")
        except psycopg.OperationalError:
            time.sleep(0.05)
    raise RuntimeError(f"postgres did not answer within {PATIENCE_S} s: {log.read_text()[-2000:]}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
