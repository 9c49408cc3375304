"""Observing: the access log, the metrics, and whether the server is alive and ready.

The access log is one JSON object a line in `<home>/mlflow/access.log`: time, who, how they signed in (password,
session, token), from which address, method, path, status, bytes, milliseconds. It has no query, body or header: they
may carry secrets. logrotate may move the file away at any time.
"""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from logging.handlers import WatchedFileHandler
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.multiprocess import MultiProcessCollector

from twinseal.errors import TwinsealError
from twinseal.server import outbox
from twinseal.server.offers import kind_of
from twinseal.server.people import Person
from twinseal.trust.ceremonies import overview
from twinseal.trust.release import repository
from twinseal.trust.root.home import Home

SHARED = "PROMETHEUS_MULTIPROC_DIR"  # where the workers of one server count together
FAULTS_LAST_S = 5.0  # anybody may ask, and the answer is all metadata, read and verified


@dataclass(frozen=True)
class Fault:
    """What keeps the server from being ready.

    Attributes:
        kind: In words that anybody may read.
        detail: Which, where: for people with an account.
    """

    kind: str
    detail: str


class Observer:
    """Writes the access log and counts requests.

    Args:
        home: The deployment.
    """

    def __init__(self, home: Home) -> None:
        self._home = home
        self._faults: tuple[float, list[Fault]] | None = None
        self._lock = threading.Lock()
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "twinseal_requests", "Requests answered", ("kind", "method", "status"), registry=self._registry
        )
        self._seconds = Histogram(
            "twinseal_request_seconds", "Time to answer a request", ("kind",), registry=self._registry
        )
        self._log = logging.getLogger("twinseal.access")
        self._log.propagate = False
        self._log.setLevel(logging.INFO)
        place = home.path / "mlflow" / "access.log"
        if not any(getattr(handler, "baseFilename", "") == str(place) for handler in self._log.handlers):
            place.parent.mkdir(parents=True, exist_ok=True)
            handler = WatchedFileHandler(place)
            handler.setFormatter(logging.Formatter("%(message)s"))
            self._log.addHandler(handler)

    def note(self, scope: Any, person: Person | None, status: int, size: int, seconds: float) -> None:
        """Log and count one answered request."""
        kind = "refused" if person is None and 400 <= status < 500 else kind_of(scope["path"])
        method = scope["method"] if scope["method"] in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE") else "other"
        self._requests.labels(kind, method, str(status)).inc()
        self._seconds.labels(kind).observe(seconds)
        line = {
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "who": person.name if person else None,
            "by": person.way if person else None,
            "from": scope["client"][0] if scope.get("client") else None,
            "method": method,
            "path": scope["path"][:500],
            "status": status,
            "bytes": size,
            "ms": round(seconds * 1000, 1),
        }
        self._log.info(json.dumps(line))

    def metrics(self) -> bytes:
        """All counts, in the text format of Prometheus; and what expires when."""
        shown = CollectorRegistry()
        if os.environ.get(SHARED):
            MultiProcessCollector(shown)  # type: ignore[no-untyped-call]
        shown.register(_Expiries(self._home))
        shown.register(_Notices(self._home))
        return generate_latest(shown) + (b"" if os.environ.get(SHARED) else generate_latest(self._registry))

    def faults(self) -> list[Fault]:
        """What kept the server from being ready up to a few seconds ago; nothing when it was."""
        with self._lock:
            if self._faults is None or time.monotonic() - self._faults[0] > FAULTS_LAST_S:
                self._faults = time.monotonic(), _faults(self._home)
            return self._faults[1]


def _faults(home: Home) -> list[Fault]:
    try:
        now = datetime.now(UTC)
        ended = [item.what for item in overview.expiries(home) if now >= item.expires]
        counts = [repository.approvals_of(home, model) for model in home.anchor().models]
    except TwinsealError as error:
        return [Fault("something cannot be read", str(error))]
    found = [Fault("something has expired", f"{what} has expired") for what in ended]
    return found + [
        Fault(
            "a release lacks approvals",
            f"{count.model}: {count.summary}; new twins refuse it until it is approved anew",
        )
        for count in counts
        if count is not None and count.missing
    ]


class _Expiries:
    """When what twins check expires."""

    def __init__(self, home: Home) -> None:
        self._home = home

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """One value for each item, in seconds since 1970."""
        family = GaugeMetricFamily("twinseal_expires_timestamp_seconds", "When it expires", labels=("what",))
        try:
            for item in overview.expiries(self._home):
                family.add_metric([item.what], item.expires.timestamp())
        except TwinsealError:
            pass  # `ready` says so
        yield family


class _Notices:
    """How many were sent, were given up, and wait."""

    def __init__(self, home: Home) -> None:
        self._home = home

    def collect(self) -> Iterator[CounterMetricFamily | GaugeMetricFamily]:
        """Each count; all workers have the same."""
        found = outbox.counts(self._home)
        for name in ("sent", "failed"):
            yield CounterMetricFamily(f"twinseal_notices_{name}", f"Notices {name}", value=found[name])
        yield GaugeMetricFamily("twinseal_notices_waiting", "Notices that wait to be sent", value=found["waiting"])


def shared_folder(home: Home) -> Path:
    """Where the workers count together; emptied at the start of the server."""
    return home.path / "mlflow" / "metrics"
