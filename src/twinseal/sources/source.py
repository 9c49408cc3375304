"""What every source of telemetry has: params that open it, and a fleet and digests that it gives.

A source is opened (bytes are read, and hashed as they were read) and then read (bytes become a fleet). It does not
judge: it gives what was sent, in the long form of `twinseal.telemetry.fleet`.
"""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path
from typing import ClassVar, Protocol

from twinseal.config import Settings
from twinseal.evidence import Subject
from twinseal.telemetry.contract import Contract
from twinseal.telemetry.fleet import Fleet
from twinseal.telemetry.mapping import ColumnMapping


class Source(Protocol):
    """A source whose bytes have been read."""

    def read(self) -> Fleet:
        """The telemetry, in the long form; not judged.

        Raises:
            ConfigError: The contract does not fit this source.
            DataError: The bytes are not what this source expects.
        """

    def remarks(self) -> tuple[str, ...]:
        """What a person should know of how it was read, one sentence each: what was set aside, or looks odd."""
        return ()

    def mapping(self) -> ColumnMapping | None:
        """How the columns of a plant's files became channels, for the twin; None for a source in a form of its own."""
        return None

    def origin(self) -> tuple[Subject, ...]:
        """The files that were read, with their digests; empty for a source without files."""


class SourceParams(Settings):
    """The params of one source: its own section under `data` in params.yaml.

    Attributes:
        reads_files: Whether `data.path` must name a file or folder.
    """

    reads_files: ClassVar[bool] = True

    @abstractmethod
    def open(self, path: Path, contract: Contract) -> Source:
        """The source with these params, its bytes read.

        Args:
            path: The file or folder that `data.path` names.
            contract: What the telemetry must be.

        Raises:
            ConfigError: The files are missing, or the params do not fit the contract.
            DataError: The files are broken.
            OSError: The files cannot be read.
        """
