"""Processes: several retrainings or attacks at the same time, on this machine or on a cluster.

The numbers depend neither on how many there are nor on what runs them. Threads would not do, as they do for training
(`training`): the guard and the attacks spend their time in Python, and torch has one random state for all threads.

The section `workers` of params.yaml says what runs them. No stage depends on it in dvc.yaml and no record signs it: it
changes no result. A cluster is joblib's: `clusters`.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import structlog

from twinseal.config import Settings, load, read_yaml
from twinseal.errors import DataError
from twinseal.other_machines import is_loopback, port_of
from twinseal.prognostics.fitting import reproducible

# Packages that a fork server imports once for all processes, if this one has them; alone they take seconds to import.
_HEAVY = ("torch", "pandas")
_SCHEMES = {"dask": ("tcp", "tls"), "ray": ("ray",)}

Mapped = Callable[..., Iterator[Any]]


class WorkersParams(Settings):
    """The section `workers` of params.yaml: what runs retrainings and attacks. It changes no result.

    Attributes:
        engine: Processes on this machine, or an existing cluster: Dask's, or Ray's.
        address: Of the cluster's scheduler: tls://… or tcp://… for Dask, ray://… for Ray. What runs there has the
            builder's data and gives the builder's results: beyond this machine only by TLS.
    """

    engine: Literal["processes", "dask", "ray"] = "processes"
    address: str = ""

    def model_post_init(self, _context: Any, /) -> None:
        """Refuse an address that is none, or that anybody on the way could answer for."""
        if self.engine == "processes":
            if self.address:
                raise ValueError(f"address: expected none for processes on this machine, got {self.address!r}")
            return
        parts, schemes = urlsplit(self.address), _SCHEMES[self.engine]
        if parts.scheme not in schemes or not parts.hostname or not port_of(self.address):
            expected = " or ".join(f"{scheme}://host:port" for scheme in schemes)
            raise ValueError(f"address: expected {expected}, got {self.address!r}")
        if not (self.encrypted or is_loopback(parts.hostname)):
            how = "tls://…" if self.engine == "dask" else "RAY_USE_TLS=1 in the environment"
            raise ValueError(f"address: expected {how} for a cluster on other machines, got {self.address!r}")

    @property
    def encrypted(self) -> bool:
        """Whether both ends show a certificate. Of Ray, its environment decides."""
        return self.address.startswith("tls://") or (self.engine == "ray" and os.environ.get("RAY_USE_TLS") == "1")


HERE = WorkersParams()


@dataclass(frozen=True)
class Workers:
    """What runs tasks at the same time.

    Attributes:
        count: Processes on this machine.
        params: What runs them instead, if it is a cluster.
    """

    count: int = 1
    params: WorkersParams = HERE

    @classmethod
    def of(cls, path: Path, most: int) -> Workers:
        """What the section `workers` of params.yaml at `path` says; without one, a process a core, at most so many.

        Raises:
            ConfigError: It says what cannot be.
        """
        given = read_yaml(path)
        named = isinstance(given, dict) and "workers" in given
        return cls(min(most, os.cpu_count() or 1), load(WorkersParams, path, section="workers") if named else HERE)

    def at_once(self, tasks: int) -> int:
        """How many of so many tasks may run at the same time: on a cluster all, it has a queue of its own."""
        return min(self.count, tasks) if self.params.engine == "processes" else tasks


ONE = Workers()
"""This process itself."""


@contextmanager
def processes(workers: Workers, most: int) -> Iterator[Mapped]:
    """`map`: in this process, over others (at most so many), or on a cluster; always in order.

    Raises:
        DataError: A worker died.
        ConfigError: The cluster cannot be used as it is.
    """
    if workers.params.engine != "processes":
        from twinseal.prognostics.clusters import cluster  # noqa: PLC0415 - a second, and few ask for one

        with cluster(workers.params) as mapped:
            yield mapped
        return
    count = min(workers.count, most, _cores())
    if count <= 1:
        yield map
        return
    context = get_context("forkserver")
    context.set_forkserver_preload([name for name in _HEAVY if name in sys.modules])
    try:
        with ProcessPoolExecutor(count, mp_context=context, initializer=quiet) as pool:
            yield lambda function, some: pool.map(partial(alone, function), some)
    except BrokenProcessPool as error:
        raise DataError(
            "training: expected every worker to end, got one that died",
            remedy="Most often there was too little memory: end something else, then run the stage again.",
        ) from error


def alone(function: Callable[[Any], Any], task: Any) -> Any:
    """What `function` gives for a task in a worker: on one thread, from the same random state, wherever it runs."""
    with reproducible(0):
        return function(task)


def quiet() -> None:
    """Log warnings only: the progress of many at once is no progress."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))


def _cores() -> int:
    """The cores that this process may use, which may be fewer than there are."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
