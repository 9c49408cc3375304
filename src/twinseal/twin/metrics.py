"""The twin's metrics: counters in Prometheus' text format, on loopback alone.

Labels are of short lists that are written here and in the frame gate: names of units, devices and files never become
labels, because whoever sends telemetry could then make the metrics grow without end. What is of no list is `other`.
Outputs are an exception: their names are of the twin's settings.

    twinseal_twin_rows_total                    rows that came, signed or not, taken or not
    twinseal_twin_answers_total{readings}       answers: ok, degraded, refused
    twinseal_twin_refused_total{reason}         frames, lines and rows that were not taken
    twinseal_twin_lost_frames_total, …_lost_rows_total   passed over, by signed numbers and operating counts
    twinseal_twin_late_total                    rows and frames that came too late
    twinseal_twin_dropped_total{output}         messages that an output did not take
    twinseal_twin_queue{output}                 messages that wait for an output; `input`: items that wait for an answer
    twinseal_twin_answer_seconds                from a row's arrival to its answer
    twinseal_twin_trust_seconds_left            until the first of what was signed ends; below 0: ended; NaN: unknown
    twinseal_twin_release                       the number of the release that answers; 0: none
    twinseal_twin_alerts{severity}              alerts that hold
    twinseal_twin_memory_age_seconds            since the memory of units was last saved whole; NaN: never
    twinseal_twin_last_row_age_seconds          since a row came; NaN: none yet
    twinseal_twin_alive_age_seconds             since the twin's loop last turned; NaN: not yet. `probe` reads it

Example:
    metrics = Metrics(clock=time.time)
    with metrics.served("127.0.0.1", 9464):
        metrics.refused("forged")
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import get_args

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest, start_http_server

from twinseal.errors import ConfigError
from twinseal.other_machines import is_loopback
from twinseal.twin.frame_gate import Reason
from twinseal.twin.outputs.alert import SEVERITIES, Alert
from twinseal.twin.trust_ends import TrustEnds

OTHER = "other"
READINGS = ("ok", "degraded", "refused")
REASONS: tuple[str, ...] = (
    *get_args(Reason), "unsigned", "unknown unit", "dropped", "retained", "another topic", OTHER,
)  # fmt: skip
LATENCY_S = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1.0, 5.0)
_P = "twinseal_twin_"


class Metrics:
    """Counts what a twin does.

    Args:
        clock: Seconds since 1970.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock, self._registry = clock, CollectorRegistry()
        own = self._registry
        self._rows = Counter(f"{_P}rows", "Rows that came", registry=own)
        self._answers = Counter(f"{_P}answers", "Answers", ("readings",), registry=own)
        self._refused = Counter(f"{_P}refused", "Frames, lines and rows that were not taken", ("reason",), registry=own)
        self._lost_frames = Counter(f"{_P}lost_frames", "Frames that were passed over", registry=own)
        self._lost_rows = Counter(f"{_P}lost_rows", "Rows that were passed over", registry=own)
        self._late = Counter(f"{_P}late", "Rows and frames that came too late", registry=own)
        self._dropped = Counter(f"{_P}dropped", "Messages that an output did not take", ("output",), registry=own)
        self._queue = Gauge(f"{_P}queue", "What waits", ("output",), registry=own)
        self._seconds = Histogram(f"{_P}answer_seconds", "From arrival to answer", buckets=LATENCY_S, registry=own)
        self._trust = Gauge(f"{_P}trust_seconds_left", "Until the first of what was signed ends", registry=own)
        self._release = Gauge(f"{_P}release", "The release that answers", registry=own)
        self._alerts = Gauge(f"{_P}alerts", "Alerts that hold", ("severity",), registry=own)
        self._trust_ends: TrustEnds | None = None
        self._saved = self._last_row = self._alive = math.nan
        self._trust.set_function(self._trust_left)
        for name, text, seconds in (
            ("memory_age_seconds", "Since the memory of units was saved", lambda: self._clock() - self._saved),
            ("last_row_age_seconds", "Since a row came", lambda: self._clock() - self._last_row),
            ("alive_age_seconds", "Since the twin's loop last turned", lambda: self._clock() - self._alive),
        ):
            Gauge(f"{_P}{name}", text, registry=own).set_function(seconds)
        for reason in REASONS:
            self._refused.labels(reason)  # shown as 0: an alert on a rise sees the first one
        for readings in READINGS:
            self._answers.labels(readings)

    def alive(self) -> None:
        """The twin's loop turned: call it where systemd's watchdog is told, with rows or without."""
        self._alive = self._clock()

    def rows(self, number: int) -> None:
        """Some rows came."""
        self._rows.inc(number)
        self._last_row = self._clock()

    def answered(self, readings: Mapping[str, int], seconds: float) -> None:
        """Some rows were answered together, so long after they came; `readings` counts them by theirs."""
        for name, number in readings.items():
            self._answers.labels(name if name in READINGS else OTHER).inc(number)
        self._seconds.observe(seconds)

    def refused(self, reason: str, number: int = 1) -> None:
        """Some were not taken."""
        self._refused.labels(reason if reason in REASONS else OTHER).inc(number)

    def lost(self, *, frames: int = 0, rows: int = 0) -> None:
        """Some were passed over."""
        self._lost_frames.inc(frames)
        self._lost_rows.inc(rows)

    def late(self, number: int = 1) -> None:
        """Some came too late."""
        self._late.inc(number)

    def dropped(self, output: str, number: int) -> None:
        """An output did not take some."""
        self._dropped.labels(output).inc(number)

    def waiting(self, queues: Mapping[str, int]) -> None:
        """So many wait now, by output; and for an answer: `input`."""
        for name, number in queues.items():
            self._queue.labels(name).set(number)

    def answers_by(self, release: int, ends: TrustEnds) -> None:
        """This release answers from now on; 0: none does."""
        self._release.set(release)
        self._trust_ends = ends

    def alerts(self, held: tuple[Alert, ...]) -> None:
        """These alerts hold now."""
        for severity in SEVERITIES:
            self._alerts.labels(severity).set(sum(alert.severity == severity for alert in held))

    def memory_saved(self, at: datetime) -> None:
        """The memory of units is on the disk, whole."""
        self._saved = at.timestamp()

    def text(self) -> bytes:
        """All of it, as Prometheus reads it."""
        return generate_latest(self._registry)

    @contextmanager
    def served(self, host: str, port: int) -> Iterator[int]:
        """Serve them by HTTP until the end of the block; the port, which is any free one for 0.

        Raises:
            ConfigError: The host is not this machine's loopback, or the port is taken.
        """
        if not is_loopback(host):
            raise ConfigError(
                f"metrics: expected a loopback address such as 127.0.0.1, got {host[:80]!r}",
                remedy="Anybody who reaches them may read them. Let a collector on this machine forward them.",
            )
        try:
            server, thread = start_http_server(port, addr=host, registry=self._registry)
        except OSError as error:
            raise ConfigError(
                f"metrics: expected to listen on {host}:{port}, got {error.strerror}",
                remedy="Name another port in twin.yaml, or end what listens there: ss -ltnp",
            ) from error
        try:
            yield int(server.server_port)
        finally:
            server.shutdown()
            thread.join()
            server.server_close()

    def _trust_left(self) -> float:
        ends = self._trust_ends
        if ends is None or ends.unknown or not ends.expiries:
            return math.nan
        return min(item.expires.timestamp() for item in ends.expiries) - self._clock()
