"""`twinseal twin run` as its own process: kill -9, SIGTERM, a second start, a new release, a revoked one."""

from __future__ import annotations

import json
import os
import queue
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.twin.deployment import CHANNELS, Deployment
from tests.twin_cli import pulled_today
from twinseal.trust.ceremonies import ceremony

PATIENCE_S = 60
SETTINGS = """\
model: pump-rul
anchor: anchor
state: twin
registry: {source: deployment/mirror, every_s: 1}
sources:
  pipe: {kind: lines, carries: rows}
outputs:
  journal: {kind: lines, path: "-"}
"""


def line(unit: str, cycle: int) -> str:
    values = {name: 5.0 + 0.2 * ((cycle * 7 + place * 3 + len(unit)) % 5 - 2) for place, name in enumerate(CHANNELS)}
    return json.dumps({"unit": unit, "cycle": cycle} | values) + "\n"


class Running:
    """A twin that runs, with a pipe to it."""

    def __init__(self, folder: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", "from twinseal.cli import main; main()", "twin", "run"],
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=os.environ | {"PYTHONUNBUFFERED": "1"},
            text=True,
        )
        self._lines: queue.Queue[str] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for text in self.process.stdout:
            self._lines.put(text)

    def send(self, *lines: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("".join(lines))
        self.process.stdin.flush()

    def messages(self, enough: Callable[[list[dict[str, Any]]], bool]) -> list[dict[str, Any]]:
        """What it says, until there is enough."""
        found: list[dict[str, Any]] = []
        end = time.monotonic() + PATIENCE_S
        while not enough(found):
            try:
                found.append(json.loads(self._lines.get(timeout=max(0.1, end - time.monotonic()))))
            except queue.Empty:
                assert self.process.stderr is not None
                self.process.kill()
                raise AssertionError(f"got {found[-3:]}, and on stderr {self.process.stderr.read()[-2000:]}") from None
        return found

    def answers(self, count: int) -> list[dict[str, Any]]:
        """Its next answers."""
        found = self.messages(lambda items: sum("cycle" in item for item in items) == count)
        return [item for item in found if "cycle" in item]

    def alert(self, about: str) -> dict[str, Any]:
        """Its next alert of this kind."""
        return self.messages(lambda items: bool(items) and items[-1].get("about") == about)[-1]

    def end(self, number: int = signal.SIGTERM) -> int:
        """Its exit code."""
        self.process.send_signal(number)
        code = self.process.wait(PATIENCE_S)
        self._reader.join()
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            assert stream is not None
            with suppress(BrokenPipeError):
                stream.close()
        return code


Start = Callable[[Path], Running]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    shutil.copytree(pulled_today(), tmp_path / "site")
    (tmp_path / "site/twin.yaml").write_text(SETTINGS)
    return tmp_path / "site"


@pytest.fixture
def start() -> Iterator[Start]:
    started: list[Running] = []

    def run(folder: Path) -> Running:
        started.append(Running(folder))
        return started[-1]

    yield run
    for one in started:
        one.end(signal.SIGKILL)


def plain(answers: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    return [(item["unit"], item["cycle"], item["rul_cycles"], item["low_cycles"], item["advice"]) for item in answers]


def test_it_goes_on_after_kill_9_and_drains_at_sigterm(start: Start, folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "other")
    first, other = start(folder), start(tmp_path / "other")
    lines = [line(unit, cycle) for cycle in range(1, 16) for unit in ("a", "b")]
    other.send(*lines)
    expected = other.answers(30)
    assert 0 == other.end()
    first.send(*lines[:14])
    assert plain(expected[:14]) == plain(first.answers(14))
    assert -signal.SIGKILL == first.end(signal.SIGKILL)
    second = start(folder)
    assert plain(expected[12:14]) == plain(second.answers(2))  # at the start, what is known of each machine
    second.send(*lines[14:])
    assert plain(expected[14:]) == plain(second.answers(16))
    third = subprocess.run(
        [sys.executable, "-c", "from twinseal.cli import main; main()", "twin", "run"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert third.returncode == 1
    assert "expected no other twinseal twin run at the same time" in " ".join(third.stderr.split())
    assert 0 == second.end()
    assert len(list((folder / "twin/units").iterdir())) == 3


@pytest.mark.proof
def test_a_new_release_answers_and_a_revoked_key_ends_it(start: Start, folder: Path) -> None:
    twin = start(folder)
    twin.send(*(line(unit, cycle) for cycle in range(1, 16) for unit in ("a", "b")))
    assert {1} == {item["release"] for item in twin.answers(30)}
    deployment = Deployment(folder / "deployment")
    deployment.publish(2, seed=1, now=datetime.now(UTC).replace(microsecond=0))
    assert "release 2 answers from now on" == twin.alert("swapped")["message"]
    twin.send(line("a", 16))
    assert 2 == twin.answers(3)[-1]["release"]  # after two that say what the new release says of each machine
    ceremony.revoke(deployment.home, deployment.roles, "alice", datetime.now(UTC).replace(microsecond=0))
    deployment.update_mirror()
    assert "approved no longer" in twin.alert("revoked")["message"]
    twin.send(line("a", 17))
    last = twin.answers(3)[-1]
    assert ("refused", None) == (last["readings"], last["rul_cycles"])
    assert "inspect now: the model is approved no longer" in last["advice"]
    assert 0 == twin.end(signal.SIGINT)
