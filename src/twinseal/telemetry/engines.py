"""What counts the rows of a fleet, and where Great Expectations judges the counts: DuckDB in this process, or Spark.

The section `validation` of params.yaml says which. No stage depends on it in dvc.yaml and no record signs it: findings,
measures and pages are the same. Spark's part is `spark_scan`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, Protocol
from urllib.parse import urlsplit

import numpy as np

from twinseal.config import Settings, load, read_yaml
from twinseal.other_machines import port_of
from twinseal.telemetry import scan
from twinseal.telemetry.blocks import Block, blocks
from twinseal.telemetry.conditions import Counts, Distribution, Edges
from twinseal.telemetry.contract import Contract
from twinseal.telemetry.expectations import Count, Judgement, judge
from twinseal.telemetry.fleet import Fleet
from twinseal.telemetry.screening import BESIDE_OTHERS, Rule, Usual, results

_LOCAL = re.compile(r"local\[[1-9][0-9]{0,2}\]\Z")


class ValidationParams(Settings):
    """The section `validation` of params.yaml: what counts the rows. It changes no result.

    Attributes:
        engine: DuckDB in this process, or Spark.
        address: Of Spark: local[2] for two threads on this machine, spark://host:port for the master of a cluster. What
            runs there has the builder's data and says what the builder signs: beyond this machine only authenticated
            and encrypted (`spark_session`).
    """

    engine: Literal["duckdb", "spark"] = "duckdb"
    address: str = ""

    def model_post_init(self, _context: Any, /) -> None:
        """Refuse an address that is none."""
        if self.engine == "duckdb":
            if self.address:
                raise ValueError(f"address: expected none for DuckDB in this process, got {self.address!r}")
            return
        parts = urlsplit("" if _LOCAL.match(self.address) else self.address)
        if not _LOCAL.match(self.address) and (self.address != f"spark://{parts.hostname}:{port_of(self.address)}"):
            raise ValueError(f"address: expected local[threads] or spark://host:port, got {self.address!r}")


class Engine(Protocol):
    """What counts, and where Great Expectations judges."""

    def count(self, fleet: Fleet, contract: Contract, rules: Sequence[Rule], usual: Usual) -> Counts:
        """How many rows of each block break each rule, (blocks, rules) int64."""

    def distributions(
        self, fleet: Fleet, contract: Contract, edges: Edges, regime: int | None = None
    ) -> dict[str, Distribution]:
        """The distribution of each channel over bins; see `scan.distributions`."""

    def judge(self, asset: str, counts: Sequence[Count]) -> Judgement:
        """What Great Expectations says of the counts, those of the rules being of the fleet that was counted last."""


class DuckDb:
    """DuckDB counts in this process; numpy counts the rules that compare units."""

    def count(self, fleet: Fleet, contract: Contract, rules: Sequence[Rule], usual: Usual) -> Counts:
        """See `Engine`."""
        beside = [at for at, rule in enumerate(rules) if rule.name in BESIDE_OTHERS]
        alone = [at for at in range(len(rules)) if at not in beside]
        broken = np.zeros((len(blocks(fleet)), len(rules)), dtype=np.int64)
        broken[:, alone] = scan.count_broken(fleet, contract, [rules[at] for at in alone])
        if beside:

            def count(part: Block) -> list[int]:
                found = results(part.rows(fleet), [rules[at] for at in beside], usual)
                return [int(result.broken.sum()) for _, result in found]

            with ThreadPoolExecutor(min(4, len(os.sched_getaffinity(0)))) as pool:
                broken[:, beside] = np.array(list(pool.map(count, blocks(fleet)))).reshape(-1, len(beside))
        return broken

    def distributions(
        self, fleet: Fleet, contract: Contract, edges: Edges, regime: int | None = None
    ) -> dict[str, Distribution]:
        """See `Engine`."""
        return scan.distributions(fleet, contract, edges, regime)

    def judge(self, asset: str, counts: Sequence[Count]) -> Judgement:
        """See `Engine`."""
        return judge(asset, counts)


DUCKDB = DuckDb()


@contextmanager
def engine_of(path: Path, folder: Path) -> Iterator[Engine]:
    """What the section `validation` of params.yaml at `path` names; DuckDB without one.

    Args:
        path: Of params.yaml.
        folder: Where Spark may put files that all its workers see, in a folder of its own.

    Raises:
        ConfigError: The section says what cannot be, or Spark cannot be used as it is.
    """
    given = read_yaml(path)
    named = isinstance(given, dict) and "validation" in given
    params = load(ValidationParams, path, section="validation") if named else ValidationParams()
    if params.engine == "duckdb":
        yield DUCKDB
        return
    from twinseal.telemetry.spark_scan import spark  # noqa: PLC0415 - few have it

    with spark(params.address, folder) as engine:
        yield engine
