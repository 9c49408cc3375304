"""The section `data` of params.yaml: which source the telemetry comes from, and the params of every source.

The name of a field is the name of the source: to add a source, add a field.

    >>> DataParams(source="simulated", asset="pump").chosen.units
    150
"""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any

from twinseal.config import Settings
from twinseal.sources.cmapss import CmapssParams
from twinseal.sources.simulated import SimulatedParams
from twinseal.sources.source import Source, SourceParams
from twinseal.sources.sql import SqlParams
from twinseal.sources.table import TableParams
from twinseal.telemetry.contract import Contract


class DataParams(Settings):
    """The section `data` of params.yaml.

    Attributes:
        source: Name of the source, one of the fields below.
        asset: The contract in policy/contract.yaml that the telemetry must meet.
        path: The file or folder that the source reads; a simulated fleet needs none.
        simulated: How to simulate.
        cmapss: Which part of C-MAPSS.
        table: How the columns of your own tables are mapped.
        sql: A query to a database, and how its columns are mapped.

    Raises:
        ValueError: There is no such source, its section is missing, or it reads files and `path` is empty.
    """

    source: str
    asset: str
    path: str = ""
    simulated: SimulatedParams = SimulatedParams()
    cmapss: CmapssParams = CmapssParams()
    table: TableParams | None = None
    sql: SqlParams | None = None

    def model_post_init(self, _context: Any, /) -> None:
        """Refuse a source that cannot be opened."""
        names = [name for name in type(self).model_fields if name not in ("source", "asset", "path")]
        if self.source not in names:
            near = difflib.get_close_matches(self.source, names, n=1)
            guess = f"; did you mean '{near[0]}'?" if near else ""
            raise ValueError(f"source: expected one of {', '.join(names)}, got '{self.source}'{guess}")
        if self.chosen.reads_files and not self.path:
            raise ValueError(f"path: expected a file or folder for the source '{self.source}', got none")

    @property
    def chosen(self) -> SourceParams:
        """The params of the chosen source.

        Raises:
            ValueError: Its section is missing, and it has no defaults.
        """
        params: SourceParams | None = getattr(self, self.source)
        if params is None:
            raise ValueError(f"{self.source}: expected a section of this name for the source, got none")
        return params


def open_source(params: DataParams, contract: Contract) -> Source:
    """The source that `params` chooses, its bytes read.

    Raises:
        ConfigError: Its files are missing, or its params do not fit the contract.
        DataError: Its files are broken.
        OSError: Its files cannot be read.
    """
    return params.chosen.open(Path(params.path), contract)
