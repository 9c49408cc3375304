"""Processes: several attacks at the same time. The numbers do not depend on how many.

Threads would not do, as they do for training (`training`): the guard and the attacks spend their time in Python.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context
from typing import Any

import structlog

from twinseal.errors import DataError

# Packages that a fork server imports once for all processes, if this one has them; alone they take seconds to import.
_HEAVY = ("torch", "pandas")


@contextmanager
def processes(count: int) -> Iterator[Callable[..., Iterator[Any]]]:
    """`map`, in this process or over `count` others; either way in order.

    Raises:
        DataError: One of them died.
    """
    count = min(count, _cores())
    if count <= 1:
        yield map
        return
    context = get_context("forkserver")
    context.set_forkserver_preload([name for name in _HEAVY if name in sys.modules])
    try:
        with ProcessPoolExecutor(count, mp_context=context, initializer=_quiet) as pool:
            yield pool.map
    except BrokenProcessPool as error:
        raise DataError(
            "training: expected every worker to end, got one that died",
            remedy="Most often there was too little memory: end something else, then run the stage again.",
        ) from error


def _cores() -> int:
    """The cores that this process may use, which may be fewer than there are."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _quiet() -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
