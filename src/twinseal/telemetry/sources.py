"""Where telemetry comes from: three sources behind one Protocol.

A source is opened (bytes are read, and hashed as they were read) and then read (bytes become a fleet). It does not
judge: a source gives what was sent, in the long form.

    >>> DataParams(source="simulated", asset="pump").path
    ''
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Protocol

from twinseal.config import Settings
from twinseal.evidence import Subject
from twinseal.telemetry.cmapss import Cmapss, CmapssParams
from twinseal.telemetry.contract import Contract
from twinseal.telemetry.fleet import Fleet
from twinseal.telemetry.simulated import Simulated, SimulatedParams
from twinseal.telemetry.table import Table, TableParams


class Source(Protocol):
    """Something that telemetry comes from."""

    def read(self) -> Fleet:
        """The telemetry, in the long form; not judged.

        Raises:
            ConfigError: The contract is not one for this source.
            DataError: The bytes do not say what they should.
        """

    def origin(self) -> tuple[Subject, ...]:
        """The files that it was read from, by digest; empty when it was read from none."""


class DataParams(Settings):
    """The section `data` of params.yaml.

    Attributes:
        source: Which kind of source.
        asset: Which contract of policy/contract.yaml the telemetry must meet.
        path: The file or folder that the source reads; a simulated fleet reads none.
        simulated: How to simulate.
        cmapss: Which part of C-MAPSS.
        table: How the columns of a table are mapped.

    Raises:
        ValueError: The source reads a file, and no path says which; or a table, and nothing says how.
    """

    source: Literal["simulated", "cmapss", "table"]
    asset: str
    path: str = ""
    simulated: SimulatedParams = SimulatedParams()
    cmapss: CmapssParams = CmapssParams()
    table: TableParams | None = None

    def model_post_init(self, _context: Any, /) -> None:
        """Refuse a source that reads nothing."""
        if self.source != "simulated" and not self.path:
            raise ValueError(f"path: expected a file or folder for the source '{self.source}', got none")
        if self.source == "table" and self.table is None:
            raise ValueError("table: expected a mapping of columns, got none")


def open_source(params: DataParams, contract: Contract) -> Source:
    """The source that `params` asks for, its bytes read.

    Raises:
        ConfigError: Its files are absent, or its params do not fit the contract.
        DataError: Its files are broken.
        OSError: Its files cannot be read.
    """
    if params.source == "simulated":
        return Simulated(params.simulated, contract)
    if params.source == "cmapss":
        return Cmapss.open(Path(params.path), params.cmapss, contract)
    if params.table is None:  # DataParams cannot be built so
        raise ValueError("table: expected a mapping of columns, got none")
    return Table.open(Path(params.path), params.table, contract)
