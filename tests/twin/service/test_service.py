"""`twinseal twin run` as its own process: kill -9, SIGTERM, a second start, a new release, a revoked one."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.twin.deployment import CHANNELS, Deployment
from tests.twin.service.running import PROGRAM, Running
from tests.twin_cli import pulled_today
from twinseal.trust.ceremonies import ceremony

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
        [*PROGRAM, "twin", "run"],
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


def test_rows_of_no_machine_are_one_alert_and_an_output_is_no_file_of_the_state(start: Start, folder: Path) -> None:
    """Ever new names, and rows without one, must not fill the book of alerts."""
    (folder / "deployment/mirror").rename(folder / "away")  # no registry: an alert on stderr, too
    twin = start(folder)
    twin.send(*(line(f"new-{number}", 2**30) for number in range(50)), *("{}\n" for _ in range(50)))
    said = twin.messages(lambda items: sum("cycle" in item for item in items) == 100)
    assert 0 == twin.end()
    kept = json.loads((folder / "twin/alerts.json").read_text())["alerts"]
    assert {"no machine"} <= {item["alert"]["detail"] for item in kept if item["alert"]["about"] == "rows refused"}
    assert len(said) < 100 + 60
    (folder / "twin.yaml").write_text(SETTINGS.replace('path: "-"', "path: twin/current"))
    refused = subprocess.run(
        [*PROGRAM, "twin", "run"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "outside of the twin's own state" in " ".join(refused.stderr.split())
    assert (folder / "twin/current").stat().st_size == 76
