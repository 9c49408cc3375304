"""The PostgreSQL of the suite is a real one: it asks for a password, and nothing is left of it."""

from __future__ import annotations

import tempfile
from pathlib import Path

import psycopg
import pytest

from tests.server import postgres as module
from tests.server.postgres import NoPostgresError, Postgres, postgres


def test_new_database_has_mlflows_tables_and_is_gone_afterwards(postgres_server: Postgres) -> None:
    with postgres_server.fresh() as uri, psycopg.connect(uri) as connection:
        assert (0,) == connection.execute("SELECT count(*) FROM registered_models").fetchone()
    with pytest.raises(psycopg.OperationalError, match="does not exist"):
        psycopg.connect(uri)


def test_password_is_asked_for_and_kept_as_scram(postgres_server: Postgres) -> None:
    with psycopg.connect(postgres_server.uri) as connection:
        kept = connection.execute("SELECT rolpassword FROM pg_authid WHERE rolname = 'twinseal'").fetchone()
    assert kept is not None
    assert kept[0].startswith("SCRAM-SHA-256$")
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(postgres_server.uri.replace(postgres_server.password, "guessed"))
    assert postgres_server.password not in repr(postgres_server)


def test_nothing_is_left_when_it_ends(postgres_server: Postgres, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "make_tables", lambda uri: None)
    with tempfile.TemporaryDirectory(dir="/tmp") as place:
        Path(place).chmod(0o755)  # root's server runs as another user
        monkeypatch.setattr(module, "_roomy", lambda: place)
        with postgres() as server:
            (folder,) = Path(place).iterdir()
            process = int((folder / "data/postmaster.pid").read_text().split()[0])
            assert Path(f"/proc/{process}").exists()
        assert [] == [*Path(place).iterdir()]
    assert not Path(f"/proc/{process}").exists()
    with pytest.raises(psycopg.OperationalError, match="refused"):
        psycopg.connect(server.uri)


def test_missing_programs_name_the_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(module, "DEBIAN", tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NoPostgresError, match="apt-get install postgresql"), postgres():
        pass
