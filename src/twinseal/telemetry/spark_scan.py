"""Spark: the rows of a fleet are counted on a cluster, and Great Expectations judges by its Spark engine there.

The door to pyspark. The stage writes the fleet in parts to a folder that all workers see; each worker makes the rows of
its parts (`parts`) and Spark SQL counts them by block, with the SQL that DuckDB gets (`conditions`). The counts of the
blocks come back here, a few hundred rows, for `outcome`; those of the fleet stay there, for Great Expectations.

Rules:

- What runs there is trusted as the builder is. Beyond this machine every connection is authenticated and encrypted by
  the secret that master and workers share; without one Spark does not start. It is never on a command line: Spark reads
  it from spark-defaults.conf in SPARK_CONF_DIR.
- Spark gets no jar, no package and no plugin, shows no page, writes no event, and listens on loopback where it can.
- Its files are in a folder of this module's own, which goes when it ends.
- Nothing waits for ever: a master that does not answer, workers that are lost, end the stage with a refusal.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import numpy as np

from twinseal.errors import ConfigError, DataError, TwinsealError
from twinseal.other_machines import is_loopback
from twinseal.reading import read_regular
from twinseal.telemetry.blocks import blocks
from twinseal.telemetry.conditions import (
    Array,
    Counts,
    Distribution,
    Edges,
    batch,
    distributions_of,
    rows_that_break,
    values_in_bins,
)
from twinseal.telemetry.contract import Contract
from twinseal.telemetry.expectations import Count, Judgement, judge
from twinseal.telemetry.fleet import Fleet
from twinseal.telemetry.parts import BrokenRows, Part, Rows, Values, batches, packed, refusal, write_parts
from twinseal.telemetry.screening import BESIDE_OTHERS, Rule, Usual

CONNECT_S = 10  # until a master answers
WORKERS_S = 60  # until it has given a worker
LOST_S = 30  # without a worker, in the middle of the work
FOLDER = ".twinseal-spark"
_LOOK_S = 0.5
_KINDS = {"int32": "INT", "int64": "BIGINT", "float": "FLOAT", "double": "DOUBLE", "bool": "BOOLEAN"}
_LOG = """
rootLogger.level = error
rootLogger.appenderRef.stderr.ref = stderr
appender.stderr.type = Console
appender.stderr.name = stderr
appender.stderr.target = SYSTEM_ERR
appender.stderr.layout.type = PatternLayout
appender.stderr.layout.pattern = %m%n%throwable{1}
"""
T = TypeVar("T")


@contextmanager
def spark(address: str, folder: Path) -> Iterator[Spark]:
    """Spark at `address`, as long as it is needed.

    Args:
        address: local[threads], or spark://host:port.
        folder: Where it gets a folder of its own, which goes afterwards; the workers see it at the same path.

    Raises:
        ConfigError: pyspark or Java is not installed; the master does not answer, or has no worker.
        OSError: The folder cannot be written.
    """
    _require_installed()
    _require_master(address)
    own = folder.absolute() / FOLDER
    shutil.rmtree(own, ignore_errors=True)  # of a stage that was killed
    try:
        for made in (own, own / "scratch", own / "settings", own / "parts"):
            made.mkdir(mode=0o700, parents=True)
        (own / "settings" / "log4j2.properties").write_text(_LOG)
        with _session(address, own) as session:
            yield Spark(session, own / "parts", address)
    finally:
        shutil.rmtree(own, ignore_errors=True)


class Spark:
    """Counts and judges on Spark; see `engines.Engine`."""

    def __init__(self, session: Any, folder: Path, address: str) -> None:
        self._session, self._folder, self._address = session, folder, address
        self._written: tuple[Fleet, tuple[Part, ...]] | None = None
        self._counted, self._columns = session.range(1), dict[str, str]()

    def count(self, fleet: Fleet, contract: Contract, rules: Sequence[Rule], usual: Usual) -> Counts:
        """See `Engine`."""
        beside = [rule for rule in rules if rule.name in BESIDE_OTHERS]
        wanted = [
            f"sum(CAST(b{beside.index(rule)} AS INT))" if rule in beside else rows_that_break(rule, contract)
            for rule in rules
        ]
        if not len(fleet) or not rules:
            self._counted, self._columns = self._session.range(1), {}
            return np.zeros((len(blocks(fleet)), len(rules)), dtype=np.int64)
        self._counted.unpersist()
        self._counted = self._by_block(fleet, BrokenRows(contract, tuple(beside), usual), wanted).persist()
        self._columns = {f"{rule.name} {rule.channel}": f"n{at}" for at, rule in enumerate(rules)}
        found = self._collect(self._counted)
        if len(found) != len(blocks(fleet)):
            raise DataError(f"validation: expected {len(blocks(fleet))} blocks from Spark, got {len(found)}")
        return found.astype(np.int64)

    def distributions(
        self, fleet: Fleet, contract: Contract, edges: Edges, regime: int | None = None
    ) -> dict[str, Distribution]:
        """See `Engine`."""
        selected = values_in_bins(edges)
        if not len(fleet) or not selected:
            return distributions_of(np.zeros((0, len(selected))), edges)
        found = self._by_block(fleet, Values(contract, tuple(edges), regime), selected)
        return distributions_of(self._collect(found), edges)

    def judge(self, asset: str, counts: Sequence[Count]) -> Judgement:
        """See `Engine`. Spark adds the counts of the blocks up, and Great Expectations looks at the sums there."""
        from pyspark.sql import functions as F  # noqa: N812, PLC0415 - its own name for it

        def number(count: Count) -> Any:
            if count.name in self._columns:
                return F.sum(self._columns[count.name])
            return F.lit(None if count.observed is None else float(count.observed))

        frame = self._counted.agg(*(number(count).cast("double").alias(count.name) for count in counts))
        with _without_pandas():
            return self._answer(lambda: judge(asset, counts, frame))

    def _by_block(self, fleet: Fleet, rows: Rows, selected: Sequence[str]) -> Any:
        """A Spark DataFrame: what is selected of each block, in columns n0, n1 and so on."""
        from pyspark.sql import functions as F  # noqa: N812, PLC0415

        parts = self._parts(fleet, rows.contract)
        job = packed(parts, rows)
        example = batch(rows.rows(fleet, blocks(fleet)[0])).schema
        columns = ", ".join(f"{column.name} {_KINDS[str(column.type)]}" for column in example)
        numbers = self._session.range(0, len(parts), 1, len(parts))
        with _without_pandas():
            frame = numbers.mapInArrow(lambda tables: batches(job, tables), columns)
        return frame.groupBy("block").agg(*(F.expr(text).alias(f"n{at}") for at, text in enumerate(selected)))

    def _parts(self, fleet: Fleet, contract: Contract) -> tuple[Part, ...]:
        if self._written is None or self._written[0] is not fleet:
            for path in self._folder.iterdir():
                path.unlink()
            least = 2 * int(self._session.sparkContext.defaultParallelism)
            self._written = fleet, write_parts(fleet, contract, self._folder, least)
        return self._written[1]

    def _collect(self, frame: Any) -> Array:
        """The rows in order of block, without its number."""
        rows = self._answer(lambda: [tuple(row) for row in frame.collect()])
        return np.array(sorted(rows), dtype=np.float64)[:, 1:] if rows else np.zeros((0, len(frame.columns) - 1))

    def _answer(self, ask: Callable[[], T]) -> T:
        """What Spark answers, while it has a worker."""
        with ThreadPoolExecutor(1) as pool:
            coming, lost = pool.submit(ask), 0.0
            while not coming.done() and lost <= LOST_S:
                time.sleep(_LOOK_S / 10 if lost == 0 else _LOOK_S)
                lost = 0.0 if _workers(self._session.sparkContext, self._address) else lost + _LOOK_S
            if not coming.done():
                self._session.sparkContext.cancelAllJobs()
        try:
            return coming.result()
        except TwinsealError as error:
            raise refusal(str(error)) or error from error
        except Exception as error:  # no exception of Spark, of py4j, or of a socket leaves this module
            told = "no worker is left" if lost > LOST_S else _reason(error)
            raise refusal(str(error)) or DataError(
                f"validation: expected Spark to answer, got {told}",
                remedy="Look at the logs of its workers (most often there was too little memory), then run the stage "
                "again; or set validation.engine to duckdb.",
            ) from error


def _reason(error: Exception) -> str:
    """The line that says it: of Python in a worker, or of the task that failed."""
    told = str(error)
    found = re.findall(r"^\s*([\w.]*(?:Error|Exception)\b.*)", told, re.MULTILINE)
    found = found or re.findall(r"most recent failure: .*?: ([\w.]*(?:Error|Exception): .*)", told)
    return (found[-1] if found else f"{type(error).__name__}: {' '.join(told.split())}")[:200]


def _require_installed() -> None:
    if importlib.util.find_spec("pyspark") is None:
        raise ConfigError(
            "validation.engine: expected the package of Spark here, got none",
            remedy="Install it: bash requirements/install.sh --with-spark; or set validation.engine to duckdb.",
        )
    home = os.environ.get("JAVA_HOME")
    if shutil.which("java", path=str(Path(home) / "bin") if home else None) is None:
        raise ConfigError(
            "validation.engine: expected Java 17 or newer for Spark, got none"
            + (f" in JAVA_HOME ({home})" if home else ""),
            remedy="Install it: apt-get install openjdk-17-jre-headless; or set validation.engine to duckdb.",
        )


def _require_master(address: str) -> None:
    """Whether anybody answers there; Spark itself would ask for a minute."""
    parts = urlsplit(address)
    if parts.scheme != "spark":
        return
    try:
        socket.create_connection((parts.hostname or "", parts.port or 0), CONNECT_S).close()
    except OSError as error:
        raise _no_master(address, f"none ({error.strerror or error})") from error


def _no_master(address: str, got: str) -> ConfigError:
    return ConfigError(
        f"validation.address: expected a Spark master with a worker at {address}, got {got}",
        remedy="Start both, with this machine's secret (docs/cluster.md); or set validation.engine to duckdb.",
    )


def _settings(address: str, own: Path) -> dict[str, str]:
    """What Spark is told, whatever spark-defaults.conf says."""
    local, host = address.startswith("local["), urlsplit(address).hostname or ""
    java = {"java.io.tmpdir": own / "scratch", "log4j2.configurationFile": own / "settings" / "log4j2.properties"}
    found = {
        "spark.app.name": "twinseal validate",
        # A worker that dies may be tried again, also here.
        "spark.master": address.replace("]", ",4]") if local else address,
        "spark.driver.extraJavaOptions": " ".join(
            ["-XX:-UsePerfData", *(f'"-D{name}={value}"' for name, value in java.items())]
        ),
        "spark.local.dir": str(own / "scratch"),
        "spark.sql.warehouse.dir": str(own / "scratch"),
        "spark.sql.catalogImplementation": "in-memory",
        "spark.sql.caseSensitive": "true",
        "spark.sql.ansi.enabled": "true",
        "spark.sql.shuffle.partitions": "4",
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        "spark.eventLog.enabled": "false",
        "spark.log.level": "ERROR",
        **dict.fromkeys(_NOTHING, ""),
    }
    if local or is_loopback(host):
        found |= {"spark.driver.host": "127.0.0.1", "spark.driver.bindAddress": "127.0.0.1"}
    if local or not is_loopback(host):
        found |= dict.fromkeys(
            ("spark.authenticate", "spark.network.crypto.enabled", "spark.io.encryption.enabled"), "true"
        )
        found["spark.network.crypto.saslFallback"] = "false"
    return found


_NOTHING = (
    "spark.jars",
    "spark.jars.packages",
    "spark.jars.repositories",
    "spark.files",
    "spark.archives",
    "spark.submit.pyFiles",
    "spark.plugins",
    "spark.extraListeners",
    "spark.sql.extensions",
)
"""Settings by which Spark would fetch or load what is not its own."""


@contextmanager
def _without_pandas() -> Iterator[None]:
    """PySpark warns of pandas 3; rows go to it and from it in Arrow, without pandas."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "PySpark does not yet fully support pandas", FutureWarning)
        yield


@contextmanager
def _session(address: str, own: Path) -> Iterator[Any]:
    with _without_pandas():
        from pyspark import SparkConf, SparkContext  # noqa: PLC0415 - not in every installation
        from pyspark.java_gateway import launch_gateway  # noqa: PLC0415
        from pyspark.sql import SparkSession  # noqa: PLC0415

    conf, gateway = SparkConf(loadDefaults=False), None
    conf.setAll(list(_settings(address, own).items()))
    log = own / "log"
    try:
        with _environment(address, own), _without_pandas():
            try:
                with log.open("wb") as said:
                    gateway = launch_gateway(conf, {"stdout": said, "stderr": said})
                context = SparkContext(conf=conf, gateway=gateway)
            except Exception as error:  # PySpark's own, py4j's, or a socket's
                raise _not_started(address, log, error) from error
        _require_worker(context, address)
        yield SparkSession(context)
    finally:
        _stop(SparkContext, gateway)


def _stop(context: Any, gateway: Any) -> None:
    """Stop Spark, and its JVM with it: PySpark would keep that until this process ends."""
    if context._active_spark_context is not None:
        with suppress(Exception):  # it may be broken
            context._active_spark_context.stop()
    context._gateway = context._jvm = None
    if gateway is not None:
        gateway.shutdown()
        gateway.proc.stdin.close()  # at which the JVM ends
        try:
            gateway.proc.wait(CONNECT_S)
        except subprocess.TimeoutExpired:
            gateway.proc.kill()
            gateway.proc.wait()


@contextmanager
def _environment(address: str, own: Path) -> Iterator[None]:
    """The environment in which the JVM starts: this pyspark's own Spark, and for one on this machine no settings."""
    import pyspark  # noqa: PLC0415

    kept = dict(os.environ)
    for name in ("PYSPARK_SUBMIT_ARGS", "PYSPARK_GATEWAY_PORT", "SPARK_LOCAL_DIRS", "SPARK_REMOTE"):
        os.environ.pop(name, None)
    os.environ |= {"SPARK_HOME": str(Path(pyspark.__file__).parent), "PYSPARK_PYTHON": sys.executable}
    if address.startswith("local["):
        os.environ["SPARK_CONF_DIR"] = str(own / "settings")
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(kept)


def _not_started(address: str, log: Path, error: Exception) -> ConfigError:
    said = read_regular(log, 1 << 20).decode("utf-8", "replace") if log.exists() else ""
    told = f"{error}\n{said}"
    if "spark.authenticate.secret" in told:
        return _no_master(
            address, "no secret for it: spark.authenticate.secret in spark-defaults.conf (SPARK_CONF_DIR)"
        )
    if "UnsupportedClassVersionError" in told:
        return ConfigError(
            "validation.engine: expected Java 17 or newer for Spark, got an older one",
            remedy="Install it: apt-get install openjdk-17-jre-headless; or set validation.engine to duckdb.",
        )
    return _no_master(address, f"none that it can work with ({_reason(error)})")


def _require_worker(context: Any, address: str) -> None:
    deadline = time.monotonic() + WORKERS_S
    while not _workers(context, address):
        if time.monotonic() > deadline:
            raise _no_master(address, f"no worker within {WORKERS_S} s")
        time.sleep(_LOOK_S)


def _workers(context: Any, address: str) -> int:
    """How many there are at this moment; in this process, one."""
    if address.startswith("local["):
        return 1
    try:
        return int(context._jsc.sc().getExecutorMemoryStatus().size()) - 1  # the first is this process
    except Exception:  # of a connection that broke, whatever its kind
        return 0
