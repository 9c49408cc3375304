"""A first look at what a query gives: as at the files of an export.

The address of the database stays in its environment variable: it is in no file, no page and no message.
"""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

from twinseal.assets.exports import Export, cells_of
from twinseal.errors import ConfigError, DataError
from twinseal.sources.sql import address_in, ask

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")


def look_at_query(connection: str, query: str) -> Export:
    """The answer to a query, looked at.

    Args:
        connection: The environment variable that has the address.
        query: One SELECT.

    Raises:
        ConfigError: It is no name of a variable, or holds no address; or there is no driver.
        DataError: The database refuses, or gives no rows.
    """
    if not _VARIABLE.match(connection):
        raise ConfigError(
            "--connection: expected the name of an environment variable, got something else",
            remedy="export PLANT=postgresql://USER@HOST/DATABASE; then: --connection PLANT. An address that is typed "
            "here would be in the history of the shell, and in the list of processes.",
        )
    if not query.strip():
        raise ConfigError("--query: expected a SELECT, got nothing")
    table = ask(address_in(connection), query)
    where = Path(f"query to ${connection}")
    if len(table) < 2:
        raise DataError(f"{where}: expected rows of several machines, got {len(table) or 'none'}")
    header = tuple(table.schema.names)
    counts = Counter(header)
    texts, numbers = cells_of(table.select([at for at, name in enumerate(header) if counts[name] == 1]).to_pandas())
    said = (f"the answer to a query: {len(table):,} rows",)
    return Export(where, (), "", None, header, texts, numbers, True, said, Path())
