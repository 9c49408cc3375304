"""Telemetry from a real PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from tests.server.postgres import Postgres
from tests.telemetry.conftest import oven
from twinseal.config import parse
from twinseal.errors import ConfigError, DataError
from twinseal.sources.data_params import DataParams, open_source
from twinseal.sources.source import Source
from twinseal.telemetry.contract import Contract

__all__ = ["oven"]

MAPPING: dict[str, Any] = {
    "connection": "PLANT",
    "query": "SELECT ofen, zeit, last, temp, glut FROM readings ORDER BY zeit",
    "unit": "ofen",
    "time": {"column": "zeit", "cycle": "1h"},
    "settings": {"last": "load"},
    "sensors": {"temp": "heat", "glut": "glow"},
    "measured_in": {"temp": "degC"},
    "ends_in_failure": True,
}


@pytest.fixture
def plant(postgres_server: Postgres, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a database with readings, in $PLANT."""
    with postgres_server.fresh("template0") as address:
        with psycopg.connect(address) as connection:
            connection.execute(
                "CREATE TABLE readings (ofen int, zeit timestamptz, last numeric(4, 2), temp real, glut float)"
            )
            connection.execute(
                "INSERT INTO readings SELECT unit, '2024-03-31 00:00+00'::timestamptz + n * interval '1 hour', 0.25,"
                " 20 + n, CASE WHEN n = 2 THEN NULL ELSE 300 END FROM generate_series(7, 8) unit,"
                " generate_series(0, 3) n"
            )
        monkeypatch.setenv("PLANT", address)
        yield address


def source(oven: Contract, **mapping: Any) -> Source:
    params = {"source": "sql", "asset": "oven", "sql": MAPPING | mapping}
    return open_source(parse(DataParams, params, "data"), oven)


def test_a_query_is_a_fleet(plant: str, oven: Contract) -> None:
    found = source(oven)
    table = found.read().table
    assert ("7", "8") == found.read().units
    assert [1, 2, 3, 4] * 2 == table["cycle"].tolist()
    assert [293.15, 294.15, 295.15, 296.15] == pytest.approx(table["heat"].tolist()[:4], abs=1e-3)
    assert ([0.25] * 8, 2) == (table["load"].tolist(), int(table["glow"].isna().sum()))
    names = {subject.name: subject.sha256 for subject in found.origin()}
    assert {"query", "query result"} == set(names)
    assert names == {subject.name: subject.sha256 for subject in source(oven).origin()}
    with psycopg.connect(plant) as connection:
        connection.execute("UPDATE readings SET temp = 21 WHERE ofen = 7")
    assert names["query result"] != {s.name: s.sha256 for s in source(oven).origin()}["query result"]


def test_a_cycle_can_be_a_run_by_a_column_of_its_own(plant: str, oven: Contract) -> None:
    query = "SELECT ofen, zeit, last, temp, glut, temp <> 21 AS runs FROM readings"
    found = source(oven, query=query, time={"column": "zeit", "cycle": "start", "running": "runs", "gather": "mean"})
    table = found.read().table
    assert [1, 2] * 2 == table["cycle"].tolist()


@pytest.mark.parametrize(
    "query",
    [
        "DELETE FROM readings",
        "WITH gone AS (DELETE FROM readings RETURNING *) SELECT * FROM gone",
        "INSERT INTO readings SELECT * FROM readings RETURNING *",
    ],
)
def test_a_query_that_writes_is_refused_and_changes_nothing(plant: str, oven: Contract, query: str) -> None:
    with pytest.raises(DataError, match="read-only transaction"):
        source(oven, query=query).read()
    with psycopg.connect(plant) as connection:
        assert (8,) == connection.execute("SELECT count(*) FROM readings").fetchone()


@pytest.mark.parametrize(
    ("mapping", "complaint"),
    [
        ({"query": "SELECT nonsense FROM readings"}, 'column "nonsense" does not exist'),
        ({"query": "SELECT"}, "expected the columns|expected an answer"),
        ({"query": "SELECT ofen, zeit, last, temp FROM readings"}, r"missing \['glut'\], twice \[\], got ofen, zeit"),
        ({"query": "SELECT ofen, zeit, last, temp, glut, glut FROM readings"}, r"twice \['glut'\]"),
        ({"query": "SELECT ofen, zeit, last, temp, zeit AS glut FROM readings"}, "row 1, unit 7, glut: expected a num"),
        ({"query": "SELECT 'x' || ofen AS ofen, NULL AS zeit, last, temp, glut FROM readings"}, "expected a time"),
        ({"query": "SELECT ofen, zeit, last, temp, glut FROM readings, generate_series(1, 2)"}, "one row in a cycle"),
    ],
)  # fmt: skip
def test_what_the_query_gives_is_read_strictly(
    plant: str, oven: Contract, mapping: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(DataError, match=complaint):
        source(oven, **mapping).read()


def test_a_refusal_keeps_the_password(plant: str, oven: Contract, monkeypatch: pytest.MonkeyPatch) -> None:
    password = plant.partition("@")[0].rpartition(":")[2]
    monkeypatch.setenv("PLANT", plant.replace(password, "wrong-pass-word"))
    with pytest.raises(DataError, match="password authentication failed") as refusal:
        source(oven).read()
    assert "wrong-pass-word" not in str(refusal.value)


@pytest.mark.parametrize(
    ("address", "complaint"),
    [
        ("", r"expected the address of a database in \$PLANT, got nothing"),
        ("plant.example", "got something else"),
        ("oracle://plant.example/x", "expected ADBC's driver for 'oracle', got none"),
    ],
)
def test_an_address_that_leads_nowhere_is_refused(
    oven: Contract, monkeypatch: pytest.MonkeyPatch, address: str, complaint: str
) -> None:
    monkeypatch.setenv("PLANT", address)
    with pytest.raises(ConfigError, match=complaint):
        source(oven).read()


def test_a_database_that_is_not_there_is_refused(oven: Contract, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLANT", "postgresql://nobody@127.0.0.1:1/none")
    with pytest.raises(DataError, match="expected an answer of the database"):
        source(oven).read()
