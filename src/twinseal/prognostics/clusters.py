"""Clusters: retrainings and attacks on Dask or Ray, through joblib. The door to joblib, Dask and Ray.

A task is a function and small arguments: prepared windows and fleets go as the path of their file and its digest
(`windows`, `fleet`), so a worker reads the same folder, and refuses another content. Each worker computes as a process
on this machine would: one task at a time, on one thread, from the same random state, with the same code and packages;
one that has others is refused, as its numbers would be others. None of that is proof against a worker that lies: what
a worker says is trusted as the builder is (docs/cluster.md).

Nothing waits for ever: a scheduler that does not answer, a cluster without workers, a task that died with its worker
again and again, end the run with a refusal. joblib alone would wait: it is told of results only. And where a cluster
has one core, joblib runs the tasks here, in a thread of this process: so two are asked for.
"""

from __future__ import annotations

import functools
import os
import pickle
import platform
import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import joblib  # comes with scikit-learn
import torch

from twinseal.errors import ConfigError, DataError, TwinsealError
from twinseal.other_machines import Machine
from twinseal.prognostics.processes import Mapped, WorkersParams, alone, quiet

CONNECT_S = 10  # until a scheduler answers, and has two cores
LOST_S = 30  # without a worker, in the middle of the work
_LOOK_S = 0.5
_PACKAGES = ("numpy", "torch", "scikit-learn")
_ONE_AT_A_TIME = threading.Lock()  # of a worker with several threads: torch has one random state


class Backend(Protocol):
    """A connection to a cluster: joblib's name for it, its options, and whether it still works."""

    @property
    def name(self) -> str:
        """For joblib."""

    @property
    def options(self) -> dict[str, Any]:
        """For joblib."""

    @property
    def gives(self) -> str:
        """For joblib: `generator` where results come one by one, `list` where all come at the end."""

    def cores(self) -> int:
        """How many tasks it can run at the same time at this moment."""

    def fault(self) -> str:
        """What is wrong with it at this moment; "" while it works."""


@functools.cache
def this_machine() -> Machine:
    """That of this process, with the instructions that torch computes with."""
    return Machine.this(_PACKAGES, torch.backends.cpu.get_cpu_capability())


@contextmanager
def cluster(params: WorkersParams) -> Iterator[Mapped]:
    """`map` on a cluster, in order.

    Raises:
        ConfigError: It cannot be reached, has no worker, or its package is not installed.
        DataError: Its workers died, or one of them is not as this machine.
    """
    with {"dask": _dask, "ray": _ray}[params.engine](params.address) as backend:
        _require_cores(backend, params.address)
        yield functools.partial(_map, backend)


def _require_cores(backend: Backend, address: str) -> None:
    deadline = time.monotonic() + CONNECT_S
    while backend.cores() < 2:
        if time.monotonic() > deadline:
            raise ConfigError(
                f"workers.address: expected a cluster with two cores at {address} within {CONNECT_S} s, "
                f"got {backend.cores()}",
                remedy="Start two workers or more there; or set workers.engine to processes.",
            )
        time.sleep(_LOOK_S)


def _map(backend: Backend, function: Callable[[Any], Any], tasks: Iterable[Any]) -> Iterator[Any]:
    """Begins at once; the results are taken from a thread, so that somebody can look whether any are still coming."""
    # As bytes: Dask's scheduler would unpack the arguments too, and read what is to be read in a worker.
    calls = [joblib.delayed(_call)(this_machine(), _here(), pickle.dumps((function, task))) for task in tasks]
    found: queue.SimpleQueue[tuple[Any, BaseException | None]] = queue.SimpleQueue()

    def gather() -> None:
        try:
            with joblib.parallel_config(backend.name, **backend.options):
                parallel = joblib.Parallel(n_jobs=-1, batch_size=1, pre_dispatch="all", return_as=backend.gives)
                for result in parallel(calls):
                    found.put((result, None))
        except BaseException as error:  # told to whoever waits for the result
            found.put((None, error))

    threading.Thread(target=gather, daemon=True, name="cluster").start()
    return (_next(found, backend) for _ in calls)


def _next(found: queue.SimpleQueue[tuple[Any, BaseException | None]], backend: Backend) -> Any:
    waited = 0.0
    while True:
        try:
            result, error = found.get(timeout=_LOOK_S)
            break
        except queue.Empty:
            fault = backend.fault()
            waited = waited + _LOOK_S if fault else 0.0
            if waited > LOST_S or fault.startswith("a task"):
                raise _died(fault) from None
    refusal = getattr(error, "cause", error)  # Ray wraps it
    if isinstance(refusal, TwinsealError):
        raise refusal
    if error is not None:
        raise _died(f"{type(error).__name__}: {' '.join(str(error).split())[:200]}") from error
    return result


def _died(fault: str) -> DataError:
    return DataError(
        f"workers: expected a result of every task from the cluster, got none: {fault}",
        remedy="Look at the logs of its workers (most often there was too little memory), then run the stage again; or "
        "set workers.engine to processes.",
    )


def _here() -> tuple[str, int]:
    return platform.node(), os.getpid()


def _call(expected: Machine, caller: tuple[str, int], packed: bytes) -> Any:
    """One task, in a worker."""
    if caller == _here():
        raise _died("its last cores were lost before the work began")
    this_machine().require(expected)
    quiet()
    with _ONE_AT_A_TIME:
        return alone(*pickle.loads(packed))  # noqa: S301 - from the stage itself; a cluster runs what it is sent


@dataclass(frozen=True)
class _Dask:
    client: Any
    options: dict[str, Any]
    name: str = "dask"
    gives: str = "generator"

    def fault(self) -> str:
        # joblib hears of a future that ended without a result, as when its worker died again and again, never.
        if any(state.status in ("error", "cancelled", "lost") for state in list(self.client.futures.values())):
            return "a task was given up: its workers died"
        return "" if self.client.status == "running" and self.cores() else "the cluster has no worker"

    def cores(self) -> int:
        return sum(self.client.ncores().values())


@contextmanager
def _dask(address: str) -> Iterator[Backend]:
    try:
        from distributed import Client  # noqa: PLC0415 - not in every installation
        from distributed.security import Security  # noqa: PLC0415
    except ImportError as error:
        raise _absent("dask", 'python -m pip install "twinseal[dask]"') from error
    try:
        # Certificates are Dask's own settings: DASK_DISTRIBUTED__COMM__TLS__…, see docs/cluster.md.
        security = Security(require_encryption=True) if address.startswith("tls://") else None
        client = Client(address, timeout=CONNECT_S, security=security, set_as_default=False)
    except (OSError, TimeoutError, TypeError, ValueError, RuntimeError) as error:
        raise _unreachable(address, error, "dask scheduler") from error
    try:
        yield _Dask(client, {"client": client})
    finally:
        client.close(timeout=CONNECT_S)


@dataclass(frozen=True)
class _Ray:
    ray: Any
    options: dict[str, Any]
    name: str = "ray"
    gives: str = "list"

    def fault(self) -> str:
        try:
            return "" if self.cores() else "the cluster has no worker"
        except Exception as error:  # of a connection that broke, whatever its kind
            return f"the cluster does not answer ({type(error).__name__})"

    def cores(self) -> int:
        return int(self.ray.cluster_resources().get("CPU", 0))


@contextmanager
def _ray(address: str) -> Iterator[Backend]:
    try:
        import ray  # noqa: PLC0415 - the user installs it
        from ray.util.joblib import register_ray  # noqa: PLC0415
    except ImportError as error:
        raise _absent("ray", "python -m pip install ray") from error
    try:
        ray.init(address=address, log_to_driver=False, configure_logging=False)
    except (OSError, TimeoutError, ValueError, RuntimeError) as error:
        raise _unreachable(address, error, "ray start --head --ray-client-server-port 10001") from error
    try:
        register_ray()
        yield _Ray(ray, {})
    finally:
        ray.shutdown()


def _absent(engine: str, command: str) -> ConfigError:
    return ConfigError(
        f"workers.engine: expected the package of the engine '{engine}' here, got none",
        remedy=f"Install it: {command}; or set workers.engine to processes.",
    )


def _unreachable(address: str, error: BaseException, command: str) -> ConfigError:
    return ConfigError(
        f"workers.address: expected a cluster at {address} within {CONNECT_S} s, got none "
        f"({type(error).__name__}: {' '.join(str(error).split())[:160]})",
        remedy=f"Start it: {command}; or set workers.engine to processes.",
    )
