"""A database as a source: one query, its columns mapped as those of a table. Read by ADBC, which gives Arrow.

    data:
      source: sql
      asset: transformer
      sql:
        connection: PLANT_DATABASE      # an environment variable with the address; secrets are in no file
        query: >-
          SELECT trafo, measured_at, load, oil FROM readings WHERE measured_at < '2026-01-01'
        unit: trafo
        time: {column: measured_at, zone: Europe/Berlin, cycle: 1d, gather: mean}
        settings: {load: load}
        sensors: {oil: oil_temperature}

The address is `postgresql://user@host/database`; with another scheme, ADBC's driver of that name must be installed.
PostgreSQL is read in one read-only transaction. Query, database and the digest of what came are in the signed record;
the address is not. DVC does not see that a database has changed: `dvc repro --force ingest` reads it again.
"""

from __future__ import annotations

import importlib
import os
import re
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import urlsplit

import pyarrow as pa

from twinseal.config import Field
from twinseal.digests import sha256
from twinseal.errors import ConfigError, DataError
from twinseal.evidence import Subject
from twinseal.sources.plant import PlantParams, build_fleet, require_readable
from twinseal.telemetry.contract import Contract
from twinseal.telemetry.csv_lines import MAX_CELLS, MAX_COLUMNS
from twinseal.telemetry.delimited import Delimited
from twinseal.telemetry.fleet import Fleet
from twinseal.telemetry.mapped_rows import Rows, as_rows, join, require_columns, to_cycles
from twinseal.telemetry.mapping import ColumnMapping, check_channels

SCHEMES = {"postgres": "postgresql"}
WHERE = "query"
TIMEOUT_S = 10  # to reach the database


class SqlParams(PlantParams):
    """The query, and what its columns are.

    Attributes:
        connection: Name of the environment variable that holds the address of the database.
        query: One SELECT.

    Raises:
        ValueError: The query is empty, or the mapping asks for files; or as `PlantParams`.
    """

    reads_files: ClassVar[bool] = False
    connection: str = Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")
    query: str = Field(min_length=1, max_length=10_000)

    def model_post_init(self, context: Any, /) -> None:
        """Refuse a mapping that only files can meet."""
        PlantParams.model_post_init(self, context)
        if self.unit_in_name:
            raise ValueError("unit_in_name: expected unit, a column of the query; a query has no files")

    def open(self, path: Path, contract: Contract) -> Sql:  # noqa: ARG002 - there is no file
        """The database; `path` is not used."""
        return Sql.open(self, contract)


@dataclass(frozen=True)
class Sql:
    """One query as a source of telemetry.

    Attributes:
        params: The query and its mapping.
        contract: What the telemetry must be.
        columns: How the columns become channels, units of measurement included.
        address: Of the database.
    """

    params: SqlParams
    contract: Contract
    columns: ColumnMapping
    address: str

    @classmethod
    def open(cls, params: SqlParams, contract: Contract) -> Sql:
        """The source; nothing is asked of the database yet.

        Raises:
            ConfigError: The variable is not set, or the mapping does not fit the contract.
        """
        check_channels(params, contract, "data.sql")
        return cls(params, contract, params.mapping(contract), address_in(params.connection))

    def origin(self) -> tuple[Subject, ...]:
        """The query, and the rows that came."""
        return self._answer[1]

    def read(self) -> Fleet:
        """The fleet that the query gives.

        Raises:
            ConfigError: There is no driver for the database.
            DataError: The database refuses, or a row cannot be read.
        """
        require_readable(self._rows, self.columns, self.contract)
        return build_fleet(self._rows.table, self.params, self.contract, lost=self._rows.lost)

    def remarks(self) -> tuple[str, ...]:
        """What was set aside, and what a person should know."""
        return (*self._rows.remarks, *require_readable(self._rows, self.columns, self.contract))

    def mapping(self) -> ColumnMapping:
        """How the columns became channels."""
        return self.columns

    @cached_property
    def _rows(self) -> Rows:
        mapping, labels = self.columns, self.params.labels
        frame = self._answer[0].to_pandas()
        wanted = list(dict.fromkeys((mapping.unit, mapping.moment, *mapping.channels, *labels, *mapping.running)))
        require_columns(WHERE, wanted, list(frame.columns))
        rows = join([as_rows(Delimited(frame[wanted]), WHERE, mapping, labels)])
        return to_cycles(rows, (WHERE,), mapping.time, mapping.sums) if mapping.time else rows

    @cached_property
    def _answer(self) -> tuple[pa.Table, tuple[Subject, ...]]:
        table = ask(self.address, self.params.query)
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
        rows = Subject("query result", sha256(sink.getvalue().to_pybytes()))
        return table, (Subject(WHERE, sha256(self.params.query.encode())), rows)


def address_in(connection: str) -> str:
    """The address of a database in an environment variable.

    Raises:
        ConfigError: It is not set, or holds no address.
    """
    address = os.environ.get(connection, "")
    if not urlsplit(address).scheme:
        raise ConfigError(
            f"data.sql.connection: expected the address of a database in ${connection}, got "
            f"{'something else' if address else 'nothing'}",
            remedy=f"export {connection}=postgresql://USER@HOST/DATABASE; then: dvc repro",
        )
    return address


def ask(address: str, query: str) -> pa.Table:
    """What a query gives; PostgreSQL in a transaction that only reads.

    Raises:
        ConfigError: There is no driver for the database.
        DataError: The database refuses, or gives more than can be read. The message has no password.
    """
    scheme = urlsplit(address).scheme
    driver = SCHEMES.get(scheme, scheme)
    try:
        dbapi = importlib.import_module(f"adbc_driver_{driver}.dbapi")
    except ImportError as error:
        raise ConfigError(
            f"data.sql.connection: expected ADBC's driver for {scheme!r}, got none",
            remedy="For PostgreSQL: pip install 'twinseal[sql]'. For others: the package adbc-driver-… of that name.",
        ) from error
    postgres = driver == "postgresql"
    if postgres and "connect_timeout" not in address:
        address += f"{'&' if '?' in address else '?'}connect_timeout={TIMEOUT_S}"
    try:
        with closing(dbapi.connect(address)) as connection, closing(connection.cursor()) as cursor:
            if postgres:
                cursor.execute("SET TRANSACTION READ ONLY")
            cursor.execute(query)
            return _bounded(cursor.fetch_record_batch())
    except (DataError, ConfigError):
        raise
    except Exception as error:
        # A driver makes errors of its own of whatever a database says.
        raise DataError(
            f"{WHERE}: expected an answer of the database, got {_without_secrets(error, address)}",
            remedy="Try the query by hand, as the same user: the message is the database's own.",
        ) from error


def _bounded(reader: Any) -> pa.Table:
    width = len(reader.schema.names)
    if width > MAX_COLUMNS:
        raise DataError(f"{WHERE}: expected at most {MAX_COLUMNS} columns, got {width}")
    batches, rows = [], 0
    for batch in reader:
        rows += batch.num_rows
        if rows * width > MAX_CELLS:
            raise DataError(
                f"{WHERE}: expected at most {MAX_CELLS:,} readings, got more",
                remedy="Ask for less: fewer columns, or a part of the time (WHERE … < …).",
            )
        batches.append(batch)
    return pa.Table.from_batches(batches, reader.schema)


def _without_secrets(error: Exception, address: str) -> str:
    text = " ".join(str(error).split())[:300].replace(address, "(address)")
    password = urlsplit(address).password
    return re.sub(re.escape(password), "…", text) if password else text
