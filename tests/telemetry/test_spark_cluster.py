"""What validation.engine and validation.address may be; a real Spark cluster, with and without secrets."""

from __future__ import annotations

import os
import secrets
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipelines import ingest, validate
from tests.telemetry.conftest import oven_table
from tests.telemetry.spark_rows import Rows
from tests.telemetry.test_scan import OVEN
from tests.telemetry.test_telemetry_stages import Write, workshop  # noqa: F401 - a fixture
from twinseal.config import parse
from twinseal.digests import sha256_file
from twinseal.errors import ConfigError, DataError
from twinseal.telemetry import spark_scan
from twinseal.telemetry.engines import DUCKDB, ValidationParams, engine_of
from twinseal.telemetry.fleet import Fleet
from twinseal.telemetry.outcome import apply
from twinseal.telemetry.spark_scan import spark

OVENS = Fleet.of(oven_table({f"u{n}": 3 for n in range(6)}))


@pytest.mark.parametrize(
    ("engine", "address", "complaint"),
    [
        ("pandas", "", "engine"),
        ("duckdb", "local[2]", "expected none for DuckDB in this process"),
        ("spark", "", r"expected local\[threads\] or spark://host:port"),
        ("spark", "local", r"expected local\[threads\]"),
        ("spark", "local[*]", r"expected local\[threads\]"),
        ("spark", "local[2,4]", r"expected local\[threads\]"),
        ("spark", "local[2]\n", r"expected local\[threads\]"),
        ("spark", "yarn", r"expected local\[threads\]"),
        ("spark", "k8s://https://master:443", r"expected local\[threads\]"),
        ("spark", "spark://master", r"expected local\[threads\]"),
        ("spark", "spark://master:99999", r"expected local\[threads\]"),
        ("spark", "spark://one:7077,two:7077", r"expected local\[threads\]"),
        ("spark", "spark://master:7077/x", r"expected local\[threads\]"),
    ],
)
def test_an_address_that_is_none_is_refused(engine: str, address: str, complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        parse(ValidationParams, {"engine": engine, "address": address}, "params.yaml: validation")


def test_without_a_section_duckdb_counts(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text("data: {asset: oven}\n")
    with engine_of(tmp_path / "params.yaml", tmp_path) as engine:
        assert DUCKDB is engine
    for address in ("local[2]", "spark://master.example.com:7077", "spark://127.0.0.1:7077"):
        parse(ValidationParams, {"engine": "spark", "address": address}, "params.yaml: validation")


@pytest.mark.attack("P")
def test_beyond_this_machine_only_with_authentication_and_encryption(tmp_path: Path) -> None:
    """Somebody on the way to a Spark master reads the fleet, or answers in its place."""
    keys = ("spark.authenticate", "spark.network.crypto.enabled", "spark.network.crypto.saslFallback")
    told = spark_scan._settings("spark://master.example.com:7077", tmp_path)
    assert ["true", "true", "false"] == [told[key] for key in keys]
    assert "spark.authenticate" not in spark_scan._settings("spark://127.0.0.1:7077", tmp_path)
    for address in ("local[2]", "spark://master.example.com:7077"):
        told = spark_scan._settings(address, tmp_path)
        assert ("false", "", "", "") == tuple(
            told[f"spark.{name}"] for name in ("ui.enabled", "jars", "jars.packages", "plugins")
        )
        assert not any("secret" in key for key in told)  # it would be on a command line


def test_spark_that_is_not_installed_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyspark", None)
    with pytest.raises(ConfigError, match="expected the package of Spark here, got none") as caught, start(tmp_path):
        pass
    assert "bash requirements/install.sh --with-spark" in caught.value.remedy


def test_spark_without_java_is_refused(spark_is_here: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    with (
        pytest.raises(ConfigError, match="expected Java 17 or newer for Spark, got none in JAVA_HOME"),
        start(tmp_path),
    ):
        pass
    monkeypatch.delenv("JAVA_HOME")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match="expected Java 17 or newer for Spark, got none") as caught, start(tmp_path):
        pass
    assert "apt-get install openjdk-17-jre-headless" in caught.value.remedy


def test_a_master_that_is_not_there_is_refused_in_seconds(spark_is_here: None, tmp_path: Path) -> None:
    address = f"spark://127.0.0.1:{free_port('127.0.0.1')}"
    begun = time.monotonic()
    with (
        pytest.raises(ConfigError, match=f"expected a Spark master with a worker at {address}, got none"),
        spark(address, tmp_path),
    ):
        pass
    assert time.monotonic() - begun < 5


def start(folder: Path) -> Any:
    return spark("local[2]", folder)


def free_port(host: str) -> int:
    with socket.socket() as free:
        free.bind((host, 0))
        return int(free.getsockname()[1])


@pytest.mark.proof
def test_the_stage_leaves_the_same_bytes_and_nothing_else(
    workshop: Write,  # noqa: F811
    spark_is_here: None,
) -> None:
    workshop(bad=2)
    ingest.main()
    Path("data", spark_scan.FOLDER, "parts").mkdir(parents=True)  # of a stage that was killed
    digests = []
    for section in ({}, {"validation": {"engine": "spark", "address": "local[2]"}}):
        params = yaml.safe_load(Path("params.yaml").read_text()) | section
        Path("params.yaml").write_text(yaml.safe_dump(params))
        validate.main()
        written = [path for top in ("data", "reports") for path in Path(top).rglob("*") if path.is_file()]
        digests.append({str(path): sha256_file(path) for path in written})
    assert digests[0] == digests[1]
    assert any("validate.dsse" in name for name in digests[0])
    assert not Path("data", spark_scan.FOLDER).exists()


# A cluster


def this_host() -> str:
    """The address of this machine that is not loopback."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # nothing is sent
        except OSError:
            pytest.skip("this machine has no address but loopback")
        return str(probe.getsockname()[0])


def settings(folder: Path, secret: str) -> Path:
    """A folder for SPARK_CONF_DIR."""
    folder.mkdir(parents=True)
    lines = {"spark.executor.memory": "512m", "spark.driver.host": this_host()}
    if secret:
        lines |= {"spark.authenticate": "true", "spark.authenticate.secret": secret}
        lines |= {"spark.network.crypto.enabled": "true"}
    (folder / "spark-defaults.conf").write_text("".join(f"{key} {value}\n" for key, value in lines.items()))
    (folder / "spark-defaults.conf").chmod(0o600)
    return folder


@contextmanager
def cluster(folder: Path, secret: str, host: str) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """A master and a worker of one core; gives the address and the worker."""
    import pyspark

    home = Path(pyspark.__file__).parent
    environment = os.environ | {"SPARK_HOME": str(home), "SPARK_CONF_DIR": str(settings(folder / "conf", secret))}
    environment |= {"SPARK_LOCAL_IP": host, "SPARK_WORKER_DIR": str(folder / "work")}
    port = free_port(host)
    programs = {
        "master.Master": ["--host", host, "--port", str(port), "--webui-port", "0"],
        "worker.Worker": [
            "--host",
            host,
            "--cores",
            "1",
            "--memory",
            "1g",
            "--webui-port",
            "0",
            f"spark://{host}:{port}",
        ],
    }
    running: list[subprocess.Popen[bytes]] = []
    try:
        for name, words in programs.items():
            with (folder / f"{name}.log").open("wb") as log:
                command = [str(home / "bin/spark-class"), f"org.apache.spark.deploy.{name}", *words]
                running.append(subprocess.Popen(command, env=environment, stdout=log, stderr=log))
            wait_for(folder / f"{name}.log", "started" if "master" in name else "Successfully registered with master")
        yield f"spark://{host}:{port}", running[1]
    finally:
        for program in reversed(running):
            program.kill()
            program.wait()


def wait_for(log: Path, words: str) -> None:
    deadline = time.monotonic() + 120
    while words not in log.read_text():
        if time.monotonic() > deadline:
            raise AssertionError(f"{log}: expected '{words}', got {log.read_text()[-800:]}")
        time.sleep(0.2)


@pytest.mark.attack("P")
@pytest.mark.proof
@pytest.mark.timeout(600)
def test_a_cluster_with_a_secret_counts_alike_and_without_it_is_refused(
    spark_is_here: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody without the cluster's secret connects to it, or answers in place of its master."""
    secret = secrets.token_hex(16)
    with cluster(tmp_path, secret, this_host()) as (address, _):
        monkeypatch.setenv("SPARK_CONF_DIR", str(tmp_path / "conf"))
        with spark(address, tmp_path) as engine:
            assert apply(OVENS, OVEN, None) == apply(OVENS, OVEN, None, engine)
            rows: Any = Rows(OVEN, "kill the executor once", tmp_path / "mark", os.getpid())
            assert [[1.0]] * 6 == engine._collect(engine._by_block(OVENS, rows, ["count(*)"])).tolist()
            assert (tmp_path / "mark").exists()
            shown = Path(f"/proc/{engine._session.sparkContext._gateway.proc.pid}/cmdline").read_bytes()
            assert secret.encode() not in shown
        assert not (tmp_path / spark_scan.FOLDER).exists()
        monkeypatch.setenv("SPARK_CONF_DIR", str(settings(tmp_path / "none", "")))
        with pytest.raises(ConfigError, match="got no secret for it") as caught, spark(address, tmp_path):
            pass
        assert "with this machine's secret" in caught.value.remedy
        monkeypatch.setenv("SPARK_CONF_DIR", str(settings(tmp_path / "other", secrets.token_hex(16))))
        with pytest.raises(ConfigError, match="expected a Spark master with a worker"), spark(address, tmp_path):
            pass


@pytest.mark.attack("P")
@pytest.mark.proof
@pytest.mark.timeout(600)
def test_a_master_that_asks_for_no_secret_is_refused_beyond_this_machine(
    spark_is_here: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Anybody on the network can run code on the workers, and read the fleet on its way."""
    with cluster(tmp_path, "", this_host()) as (address, _):
        monkeypatch.setenv("SPARK_CONF_DIR", str(settings(tmp_path / "mine", secrets.token_hex(16))))
        with pytest.raises(ConfigError, match="expected a Spark master with a worker"), spark(address, tmp_path):
            pass


@pytest.mark.proof
@pytest.mark.timeout(600)
def test_a_cluster_that_loses_its_workers_ends_the_stage(
    spark_is_here: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spark_scan, "LOST_S", 2)
    with cluster(tmp_path, "", "127.0.0.1") as (address, worker), spark(address, tmp_path) as engine:
        rows: Any = Rows(OVEN, "wait", tmp_path / "mark", os.getpid())

        def lose() -> None:
            while not (tmp_path / "mark").exists():
                time.sleep(0.1)
            worker.terminate()  # with its executors

        threading.Thread(target=lose, daemon=True).start()
        with pytest.raises(DataError, match="expected Spark to answer, got no worker is left"):
            engine._collect(engine._by_block(OVENS, rows, ["count(*)"]))
