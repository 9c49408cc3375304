"""What systemd is told: datagrams, to the socket that it names."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from twinseal.twin.notify import Notifier


@pytest.fixture(params=["a path", "an abstract name"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[socket.socket, str]]:
    """The socket of a service manager, and how the environment names it."""
    name = f"twinseal-test-{os.getpid()}" if request.param == "an abstract name" else str(tmp_path / "notify")
    is_abstract = not name.startswith("/")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as found:
        found.bind("\0" + name if is_abstract else name)
        found.settimeout(5)
        yield found, "@" + name if is_abstract else name


def test_each_word_is_one_datagram(manager: tuple[socket.socket, str]) -> None:
    found, address = manager
    told = Notifier.from_environment({"NOTIFY_SOCKET": address})
    sent = [told.ready(), told.alive(), told.status("release 3\nREADY=1"), told.stopping()]
    assert [True] * 4 == sent
    words = [found.recv(1000).decode() for _ in range(4)]
    assert ["READY=1", "WATCHDOG=1", "STATUS=release 3 READY=1", "STOPPING=1"] == words


def test_the_watchdog_is_that_of_this_process_alone() -> None:
    for environment, expected in (
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "7"}, 30.0),
        ({"WATCHDOG_USEC": "30000000"}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "8"}, 0.0),
        ({"WATCHDOG_USEC": "-1"}, 0.0),
        ({}, 0.0),
    ):
        assert expected == Notifier.from_environment(environment, process=7).watchdog_s


@pytest.mark.parametrize("address", ["", "vsock:2:1234", "relative", "/nowhere/notify", "@nobody-listens-there"])
def test_without_a_manager_nothing_is_sent_and_nothing_fails(address: str) -> None:
    told = Notifier.from_environment({"NOTIFY_SOCKET": address})
    assert not any((told.ready(), told.alive(), told.stopping(), told.status("x")))


def test_a_manager_that_reads_nothing_does_not_stop_the_service(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as found:
        found.bind(str(tmp_path / "notify"))
        told = Notifier(str(tmp_path / "notify"))
        assert not all(told.alive() for _ in range(5000)), "a full socket"
