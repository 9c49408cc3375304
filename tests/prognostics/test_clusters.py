"""Retrainings and attacks on a real cluster of two worker processes on this machine; and what a broken one does."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pytest
from distributed import LocalCluster

from twinseal.config import parse
from twinseal.digests import canonical_json
from twinseal.errors import ConfigError, DataError, EvidenceError
from twinseal.prognostics import clusters
from twinseal.prognostics.candidate import build_candidate
from twinseal.prognostics.ensemble import networks_of
from twinseal.prognostics.fitting import Recipe
from twinseal.prognostics.processes import ONE, Workers, WorkersParams, processes
from twinseal.prognostics.training import RobustRecipes, TrainParams
from twinseal.prognostics.windows import Prepared
from twinseal.telemetry.contract import Contract
from twinseal.telemetry.fleet import Fleet

pytestmark = pytest.mark.proof  # make check stays below 12 minutes

SHORT = Recipe(epochs=2, batch=64, hidden=(8,), epsilon_sigma=0.1)
TRAINING = TrainParams(family="robust", folds=2, robust=RobustRecipes(plain=SHORT, commissioned=SHORT))


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    """Two workers, each in a process of its own; a task whose worker died twice is given up."""
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 1, "distributed.admin.log-length": 0}),
        LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, host="127.0.0.1", dashboard_address=":0", silence_logs=50
        ) as found,
    ):
        yield found


@pytest.fixture
def workers(cluster: LocalCluster) -> Workers:
    return Workers(params=on(cluster.scheduler_address))


def on(address: str, engine: str = "dask") -> WorkersParams:
    return parse(WorkersParams, {"engine": engine, "address": address}, "params.yaml: workers")


def about(task: int) -> tuple[int, int]:
    return task, os.getpid()


def die_once(task: tuple[Path, int]) -> int:
    """Takes its worker with it, the first time."""
    mark, number = task
    if number == 1 and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return number * number


def die(_task: int) -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return 0


def refuse(task: int) -> int:
    raise DataError(f"task {task}: expected a fleet, got none", remedy="Bring one.")


def sleep(seconds: float) -> None:
    time.sleep(seconds)


def test_results_come_in_order_from_processes_that_are_not_this_one(workers: Workers) -> None:
    with processes(workers, 2) as mapped:
        found = list(mapped(about, range(8)))
    assert list(range(8)) == [number for number, _ in found]
    assert os.getpid() not in {pid for _, pid in found}


def test_a_candidate_is_the_same_whatever_trains_it(
    workers: Workers, toy_prepared: Prepared, toy_contract: Contract, tmp_path: Path
) -> None:
    toy_prepared.write(tmp_path)
    prepared = Prepared.read(tmp_path)  # goes to the workers as a path
    here, there = (build_candidate(prepared, TRAINING, toy_contract, workers=some) for some in (ONE, workers))
    assert canonical_json(here.measures.to_dict()) == canonical_json(there.measures.to_dict())
    assert here.predictions == there.predictions
    for mode, ensemble in networks_of(here.model.inference).modes().items():
        other = networks_of(there.model.inference).modes()[mode].state_dict()
        for name, values in ensemble.state_dict().items():
            np.testing.assert_array_equal(values.numpy(), other[name].numpy())


@pytest.mark.proof
def test_a_worker_that_is_killed_in_the_middle_changes_no_number(workers: Workers, tmp_path: Path) -> None:
    with processes(workers, 2) as mapped:
        assert [0, 1, 4, 9] == list(mapped(die_once, [(tmp_path / "mark", number) for number in range(4)]))
    assert (tmp_path / "mark").exists()


@pytest.mark.proof
def test_a_task_that_kills_every_worker_ends_the_run(workers: Workers) -> None:
    """joblib is never told of it, and would wait."""
    with (
        pytest.raises(DataError, match="expected a result of every task from the cluster, got none: a task was given"),
        processes(workers, 2) as mapped,
    ):
        list(mapped(die, [1]))


@pytest.mark.proof
def test_a_cluster_that_loses_its_workers_ends_the_run(cluster: LocalCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clusters, "LOST_S", 0.5)
    with (
        LocalCluster(
            n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address=":0", silence_logs=50
        ) as own,
        pytest.raises(DataError, match="got none: the cluster has no worker"),
        processes(Workers(params=on(own.scheduler_address)), 1) as mapped,
    ):
        coming = mapped(sleep, [60.0])
        own.scale(0)
        list(coming)


@pytest.mark.proof
def test_a_cluster_of_one_core_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """joblib would run its tasks in this process, in a thread."""
    monkeypatch.setattr(clusters, "CONNECT_S", 1)
    with (
        LocalCluster(
            n_workers=1, threads_per_worker=1, host="127.0.0.1", dashboard_address=":0", silence_logs=50
        ) as own,
        pytest.raises(ConfigError, match="expected a cluster with two cores at .* within 1 s, got 1"),
        processes(Workers(params=on(own.scheduler_address)), 1),
    ):
        pass


@pytest.mark.proof
def test_a_refusal_in_a_worker_is_that_refusal(workers: Workers) -> None:
    with (
        pytest.raises(DataError, match="task 3: expected a fleet, got none") as caught,
        processes(workers, 2) as mapped,
    ):
        list(mapped(refuse, [3]))
    assert "Bring one." == caught.value.remedy


def test_a_scheduler_that_is_not_there_is_refused_in_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clusters, "CONNECT_S", 1)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{free.getsockname()[1]}"
    begun = time.monotonic()
    with (
        pytest.raises(ConfigError, match=f"expected a cluster at {address} within 1 s") as caught,
        processes(Workers(params=on(address)), 2),
    ):
        pass
    assert time.monotonic() - begun < 10
    assert "dask scheduler" in caught.value.remedy


@pytest.mark.proof
def test_a_worker_with_other_code_is_refused(workers: Workers, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its numbers would be others."""
    mine = clusters.this_machine()
    other = clusters.Machine(mine.python, mine.packages, mine.processor, "0" * 64)
    monkeypatch.setattr(clusters, "this_machine", lambda: other)
    with (
        pytest.raises(ConfigError, match="expected workers with code 0000") as caught,
        processes(workers, 2) as mapped,
    ):
        list(mapped(about, [1]))
    assert "same lock files and the same commit" in caught.value.remedy


@pytest.mark.attack("P")
@pytest.mark.proof
def test_windows_that_change_before_a_worker_reads_them(
    workers: Workers, toy_prepared: Prepared, make_fleet: Any, toy_contract: Contract, tmp_path: Path
) -> None:
    """Somebody exchanges the files while the stage runs: a worker reads others than the stage checked."""
    toy_prepared.write(tmp_path)
    prepared = Prepared.read(tmp_path)
    with processes(workers, 2) as mapped:
        assert [len(toy_prepared.train)] == list(mapped(count, [prepared]))
        (tmp_path / "preparation.json").write_bytes((tmp_path / "preparation.json").read_bytes() + b"\n")
        with pytest.raises((EvidenceError, DataError), match="expected the prepared windows that the stage began with"):
            list(mapped(count, [prepared]))
    fleets = tmp_path / "fleet.parquet"
    make_fleet(3).write(fleets)
    fleet = Fleet.read(fleets, toy_contract)
    make_fleet(4).write(fleets)
    with (
        pytest.raises(DataError, match="expected the fleet that the stage began with, got another"),
        processes(workers, 2) as mapped,
    ):
        list(mapped(len, [fleet]))


def count(prepared: Prepared) -> int:
    return len(prepared.train)


@pytest.mark.parametrize(
    ("engine", "address", "complaint"),
    [
        ("spark", "", "engine"),
        ("processes", "tcp://127.0.0.1:8786", "expected none for processes on this machine"),
        ("dask", "", "expected tcp://host:port or tls://host:port"),
        ("dask", "tcp://127.0.0.1", "expected tcp://host:port"),
        ("dask", "tcp://127.0.0.1:99999", "expected tcp://host:port"),
        ("dask", "ray://127.0.0.1:1", "expected tcp://host:port"),
        ("dask", "tcp://10.0.0.5:8786", "expected tls://… for a cluster on other machines"),
        ("dask", "tcp://localhost.example.com:8786", "expected tls://…"),
        ("ray", "auto", "expected ray://host:port"),
        ("ray", "ray://cluster:10001", "expected RAY_USE_TLS=1 in the environment"),
    ],
)
def test_an_address_that_anybody_could_answer_for_is_refused(
    engine: str, address: str, complaint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_USE_TLS", raising=False)
    with pytest.raises(ConfigError, match=complaint):
        on(address, engine)


def test_tls_is_enough_for_other_machines(monkeypatch: pytest.MonkeyPatch) -> None:
    assert on("tls://scheduler.example.com:8786").encrypted
    assert not on("tcp://[::1]:8786").encrypted
    monkeypatch.setenv("RAY_USE_TLS", "1")
    assert on("ray://head.example.com:10001", "ray").encrypted


def test_tls_without_certificates_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clusters, "CONNECT_S", 1)
    with (
        pytest.raises(ConfigError, match="expected a cluster at tls://127.0.0.1:9"),
        processes(Workers(params=on("tls://127.0.0.1:9")), 2),
    ):
        pass


@pytest.mark.parametrize(("engine", "package"), [("dask", "distributed"), ("ray", "ray")])
def test_an_engine_that_is_not_installed_is_refused(engine: str, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, package, None)
    schemes = {"dask": "tcp", "ray": "ray"}
    with (
        pytest.raises(ConfigError, match=f"expected the package of the engine '{engine}' here, got none") as caught,
        processes(Workers(params=on(f"{schemes[engine]}://127.0.0.1:9", engine)), 2),
    ):
        pass
    assert "pip install" in caught.value.remedy
