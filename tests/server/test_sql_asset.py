"""A new asset from a real PostgreSQL: what is proposed is what ingest will read, and no file has the address."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import psycopg
import pytest
from typer.testing import CliRunner

from tests.assets.conftest import project, pumps_table
from tests.server.postgres import Postgres
from twinseal.assets.moments import Choices
from twinseal.assets.page import render
from twinseal.assets.proposal import Request, propose_sql
from twinseal.cli.assets import asset
from twinseal.config import load
from twinseal.errors import ConfigError, DataError
from twinseal.sources.data_params import DataParams, open_source
from twinseal.telemetry.contract import Contract

__all__ = ["project", "pumps_table"]

QUERY = 'SELECT pump, at, "oil_temp_C", pressure, mode FROM readings ORDER BY at'
NEW = ("new", "oven", "--connection", "PLANT", "--query", QUERY, "--ends-in-failure")


@pytest.fixture
def plant(postgres_server: Postgres, pumps_table: pd.DataFrame, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a database with readings of pumps, in $PLANT."""
    modes = np.array(["idle", "run"])[np.random.default_rng(1).integers(2, size=len(pumps_table))]
    with postgres_server.fresh("template0") as address:
        with psycopg.connect(address) as connection, connection.cursor() as cursor:
            cursor.execute(
                'CREATE TABLE readings (pump text, at timestamptz, "oil_temp_C" float, pressure numeric, mode text)'
            )
            with cursor.copy("COPY readings FROM STDIN") as copy:
                for row, mode in zip(pumps_table.itertuples(), modes, strict=True):
                    at = pd.Timestamp("2024-01-01", tz="UTC") + pd.Timedelta(row.Mission, "D")
                    copy.write_row((row.Pump, at, round(row.high_oil_temperature, 1), row.high_pressure, mode))
        monkeypatch.setenv("PLANT", address)
        yield address


def request(**more: object) -> Request:
    return Request(asset="oven", paths=(), date="2026-11-26", choices=Choices(ends_in_failure=True), **more)


def test_a_query_is_looked_at_as_a_file_is(plant: str, pumps_table: pd.DataFrame) -> None:
    found = propose_sql(request(), "PLANT", QUERY)
    assert ("sql", "PLANT", QUERY) == (found.source, found.mapping["connection"], found.mapping["query"])
    assert ("pump", "at") == (found.mapping["unit"], found.mapping["time"]["column"])
    oil = found.contract.sensors["oil_temp_c"]
    assert ("°C", 0.1) == (oil.unit, oil.resolution)
    assert {"mode": {"idle": 0, "run": 1}} == found.mapping["categories"]
    assert (len(pumps_table), ()) == (len(found.fleet), found.refused_units)
    assert "from a query to a database, 12 units" in found.contract.proposed


def test_the_command_writes_what_ingest_reads_and_no_file_has_the_address(
    plant: str, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project)
    path = load(DataParams, project / "params.yaml", section="data").path
    result = CliRunner().invoke(asset, NEW)
    assert 0 == result.exit_code, result.output
    params = load(DataParams, project / "params.yaml", section="data")
    assert ("sql", "oven", path) == (params.source, params.asset, params.path)
    fleet = open_source(params, Contract.load(project / "policy/contract.yaml", "oven")).read()
    assert 12 == len(fleet.units)
    password = plant.partition("@")[0].rpartition(":")[2]
    texts = [path.read_text() for path in project.rglob("*") if path.is_file()]
    assert not [text for text in (*texts, result.output) if password in text or "127.0.0.1" in text]
    again = CliRunner().invoke(asset, (*NEW, "--replace"))
    assert 0 == again.exit_code, again.output


def test_the_page_shows_words_units_and_steps_with_what_they_rest_on(plant: str) -> None:
    page = render(propose_sql(request(), "PLANT", QUERY))
    for text in (
        "How cells are read, and why",
        "its name ends in C",
        "idle 0, run 1",
        "steps of",
        "all in steps of 0.1",
    ):
        assert text in page


@pytest.mark.parametrize(
    ("connection", "query", "complaint"),
    [
        ("PLANT", "DELETE FROM readings RETURNING *", "read-only transaction"),
        ("PLANT", "SELECT * FROM readings WHERE false", "expected rows of several machines, got none"),
        ("PLANT", "SELECT pressure FROM readings", "expected cycles 1, 2, 3, … or time stamps"),
        ("PLANT", " ", "--query: expected a SELECT, got nothing"),
        ("NOTHING", "SELECT 1", r"expected the address of a database in \$NOTHING, got nothing"),
        ("postgresql://a:secret-word@b/c", "SELECT 1", "--connection: expected the name of an environment variable"),
    ],
)
def test_what_is_no_export_is_refused(plant: str, connection: str, query: str, complaint: str) -> None:
    with pytest.raises((ConfigError, DataError), match=complaint) as refusal:
        propose_sql(request(), connection, query)
    assert "secret-word" not in f"{refusal.value} {refusal.value.remedy}"


def test_an_address_in_place_of_files_is_refused_and_not_repeated(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project)
    result = CliRunner().invoke(asset, ("new", "oven", "--from", "postgresql://a:secret-word@b/c"))
    assert isinstance(result.exception, ConfigError)
    assert "--connection NAME --query SQL" in result.exception.remedy
    assert "secret-word" not in f"{result.output} {result.exception} {result.exception.remedy}"
