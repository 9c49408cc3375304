"""Metrics: what is counted, with labels that no sender can choose, on loopback alone."""

from __future__ import annotations

import math
import re
import subprocess
import sys
import urllib.request
from datetime import UTC, datetime, timedelta
from urllib.error import HTTPError

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.twin.outputs.messages import alert
from twinseal.errors import ConfigError
from twinseal.trust.expiry import Expiry
from twinseal.twin.metrics import REASONS, Metrics
from twinseal.twin.probe import fault_of, main
from twinseal.twin.trust_ends import TrustEnds

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


def value(text: bytes, name: str, **labels: str) -> float:
    for family in text_string_to_metric_families(text.decode()):
        for sample in family.samples:
            if sample.name == f"twinseal_twin_{name}" and sample.labels == labels:
                return sample.value
    raise AssertionError(f"no {name} {labels}")


def ends(*days: float) -> TrustEnds:
    return TrustEnds(tuple(Expiry("x", NOW + timedelta(days=n), timedelta(days=1), "") for n in days), "")


def test_everything_is_counted() -> None:
    seconds = [NOW.timestamp()]
    metrics = Metrics(lambda: seconds[0])
    assert math.isnan(value(metrics.text(), "trust_seconds_left"))
    assert math.isnan(value(metrics.text(), "last_row_age_seconds"))
    metrics.rows(10)
    metrics.answered({"ok": 7, "refused": 3}, 0.003)
    metrics.refused("forged", 4)
    metrics.lost(frames=2, rows=9)
    metrics.late()
    metrics.dropped("broker", 5)
    metrics.waiting({"broker": 6, "input": 1})
    metrics.answers_by(3, ends(10, 2))
    metrics.alerts((alert(), alert(detail="b"), alert(severity="note")))
    metrics.memory_saved(NOW - timedelta(seconds=30))
    seconds[0] += 5
    text = metrics.text()
    expected = {
        "rows_total": 10, "lost_frames_total": 2, "lost_rows_total": 9, "late_total": 1, "release": 3,
        "trust_seconds_left": 2 * 86400 - 5, "memory_age_seconds": 35, "last_row_age_seconds": 5,
        "answer_seconds_count": 1,
    }  # fmt: skip
    assert expected == {name: value(text, name) for name in expected}
    assert (7, 3) == tuple(value(text, "answers_total", readings=name) for name in ("ok", "refused"))
    assert (4, 0) == tuple(value(text, "refused_total", reason=name) for name in ("forged", "late"))
    assert (5, 6) == (value(text, "dropped_total", output="broker"), value(text, "queue", output="broker"))
    assert (2, 1) == tuple(value(text, "alerts", severity=name) for name in ("critical", "note"))
    assert (0, 1) == tuple(value(text, "answer_seconds_bucket", le=edge) for edge in ("0.002", "0.005"))


@pytest.mark.parametrize("unknown", [TrustEnds((), "", "it cannot be read"), TrustEnds((), "")])
def test_trust_that_is_not_known_is_no_number(unknown: TrustEnds) -> None:
    metrics = Metrics(lambda: 0.0)
    metrics.answers_by(3, unknown)
    assert math.isnan(value(metrics.text(), "trust_seconds_left"))


@pytest.mark.attack("T")
def test_what_others_choose_is_no_label() -> None:
    """Telemetry is sent with thousands of made-up names and reasons, to make the metrics grow."""
    metrics = Metrics(lambda: 0.0)
    before = len(metrics.text())
    for number in range(2000):
        metrics.refused(f'x{number}"}} 1\n')
        metrics.answered({f"y{number}": 1}, 0.1)
    text = metrics.text()
    assert 2000 == value(text, "refused_total", reason="other") == value(text, "answers_total", readings="other")
    assert len(text) < before + 500
    names = set(re.findall(r'reason="([^"]*)"', text.decode()))
    assert set(REASONS) == names


def test_they_are_served_on_loopback_and_no_longer_than_wanted() -> None:
    metrics = Metrics(lambda: 0.0)
    with metrics.served("127.0.0.1", 0) as port:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
            assert b"twinseal_twin_rows_total 0.0" in answer.read()
        taken = pytest.raises(ConfigError, match=f"expected to listen on 127.0.0.1:{port}, got Address already in use")
        with taken, Metrics(lambda: 0.0).served("127.0.0.1", port):
            pass
    with pytest.raises((OSError, HTTPError)):
        urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "plant.example", ""])
def test_no_other_machine_reaches_them(host: str) -> None:
    with pytest.raises(ConfigError, match="expected a loopback address"), Metrics(lambda: 0.0).served(host, 0):
        pass


def probe(port: int) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-m", "twinseal.twin.probe", str(port)], capture_output=True, text=True, check=False
    )
    return done.returncode, done.stderr


def test_the_probe_of_a_container_says_whether_the_twin_works() -> None:
    seconds = [1000.0]
    metrics = Metrics(lambda: seconds[0])
    with metrics.served("127.0.0.1", 0) as port:
        assert (1, "expected a twin that worked in the last 60 s, got nan s\n") == probe(port)
        metrics.alive()
        assert "" == fault_of(port)
        seconds[0] += 60
        assert (0, "") == probe(port)
        seconds[0] += 1
        assert "expected a twin that worked in the last 60 s, got 61 s" == fault_of(port)
    assert f"expected the twin's metrics at 127.0.0.1:{port}, got ConnectionRefusedError" in fault_of(port)
    assert [2, 2, 2] == [main(words) for words in ([], ["x"], ["0"])]


def test_the_probe_starts_without_the_twins_packages() -> None:
    others = "('numpy', 'cryptography', 'structlog', 'prometheus_client')"
    program = f"import sys, twinseal.twin.probe; print([name for name in {others} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert "[]\n" == done.stdout
