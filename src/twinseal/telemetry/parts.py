"""A fleet in parts, each a file of some whole blocks, for workers that count them in processes of their own.

A part goes to a worker as the path of its file and its SHA-256: a worker that finds other bytes there refuses. It makes
the rows that SQL counts (`conditions`), as DuckDB's scan does here. This module imports neither engine, nor Great
Expectations: a worker would wait for both.
"""

from __future__ import annotations

import functools
import json
import pickle
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy.typing as npt
import pyarrow as pa

from twinseal.digests import sha256_file
from twinseal.errors import ConfigError, DataError, TwinsealError
from twinseal.other_machines import Machine
from twinseal.telemetry.blocks import Block, blocks
from twinseal.telemetry.conditions import batch, rule_rows, value_rows
from twinseal.telemetry.contract import Contract
from twinseal.telemetry.fleet import Fleet, FleetFile
from twinseal.telemetry.screening import Rule, Usual, results

ROWS = 250_000  # of a part, at least, where a fleet has more
PACKAGES = ("numpy", "pandas", "pyarrow")
_MARK = "twinseal refused: "
_ERRORS = {kind.__name__: kind for kind in (ConfigError, DataError)}


@dataclass(frozen=True)
class Part:
    """Some blocks of a fleet in a file.

    Attributes:
        file: Where they are.
        blocks: Which blocks, with their rows in the file.
    """

    file: FleetFile
    blocks: tuple[Block, ...]


@dataclass(frozen=True)
class BrokenRows:
    """The rows for the rules; in `b0`, … whether a row breaks a rule that compares units (`beside`)."""

    contract: Contract
    beside: tuple[Rule, ...]
    usual: Usual

    def rows(self, fleet: Fleet, block: Block) -> dict[str, npt.NDArray[Any]]:
        """The columns of a block."""
        found = results(block.rows(fleet), self.beside, self.usual)
        flags = {f"b{at}": result.broken for at, (_, result) in enumerate(found)}
        return rule_rows(fleet, block, self.contract) | flags


@dataclass(frozen=True)
class Values:
    """The values of channels in one regime, or in all."""

    contract: Contract
    names: tuple[str, ...]
    regime: int | None

    def rows(self, fleet: Fleet, block: Block) -> dict[str, npt.NDArray[Any]]:
        """The columns of a block."""
        return value_rows(fleet, block, self.contract, self.names, self.regime)


Rows = BrokenRows | Values


def write_parts(fleet: Fleet, contract: Contract, folder: Path, least: int) -> tuple[Part, ...]:
    """Write a fleet to `folder`, in at least so many parts if it has as many blocks.

    Raises:
        OSError: It cannot be written.
    """
    found, every = [], blocks(fleet)
    most = min(ROWS, -(-len(fleet) // least))
    begin = 0
    for end in range(1, len(every) + 1):
        if end < len(every) and every[end].stop - every[begin].start <= most:
            continue
        chosen, offset = every[begin:end], every[begin].start
        path = folder / f"part-{begin:03d}.parquet"
        table = fleet.table.iloc[offset : chosen[-1].stop][list(contract.columns)].reset_index(drop=True)
        Fleet(table).write(path)
        moved = (Block(block.number, block.start - offset, block.stop - offset, block.units) for block in chosen)
        found.append(Part(FleetFile(path.resolve(), sha256_file(path), contract), tuple(moved)))
        begin = end
    return tuple(found)


@functools.cache
def this_machine() -> Machine:
    """That of this process: what a block's rows depend on."""
    return Machine.this(PACKAGES)


def packed(parts: Sequence[Part], rows: Rows) -> tuple[Machine, bytes]:
    """A job for `batches`; as bytes, which no worker unpacks before it has compared itself."""
    return this_machine(), pickle.dumps((tuple(parts), rows))


def batches(job: tuple[Machine, bytes], numbers: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """The rows of parts, block by block, in a worker.

    Args:
        job: From `packed`.
        numbers: Tables with a column `id`: which parts.

    Raises:
        RuntimeError: The worker refuses; `refusal` makes an error of ours of what the engine says about it.
    """
    machine, content = job
    try:
        this_machine().require(machine)
        parts, rows = pickle.loads(content)  # noqa: S301 - from the stage itself; a cluster runs what it is sent
        for part in (parts[number] for table in numbers for number in table["id"].to_pylist()):
            fleet = part.file.read()
            for block in part.blocks:
                yield batch(rows.rows(fleet, block))
    except OSError as error:
        told = f"workers: expected the folder of the checkout on every worker, got none ({error.strerror})"
        raise _refuse(DataError(told, remedy="Give every worker the same folder at the same path.")) from error
    except TwinsealError as error:
        raise _refuse(error) from error


def _refuse(error: TwinsealError) -> RuntimeError:
    kind = type(error).__name__ if type(error).__name__ in _ERRORS else DataError.__name__
    return RuntimeError(_MARK + json.dumps([kind, str(error), error.remedy]))


def refusal(told: str) -> TwinsealError | None:
    """The refusal of a worker, if that is what an engine tells of."""
    _, mark, rest = told.partition(_MARK)
    if not mark:
        return None
    try:
        (kind, message, remedy), _ = json.JSONDecoder().raw_decode(rest)
        return _ERRORS[kind](message, remedy=remedy)
    except (ValueError, TypeError, KeyError):
        return None
