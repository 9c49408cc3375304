"""The scenarios' results, fast; whole, from nothing to the table, in `make proof`."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from demo.plant import Machine, interleaved, younger
from demo.results import MAX_NOTES, Finding, Said, exit_code, judged, show
from demo.scenario_2 import with_overhauls
from demo.stage_hand import console
from demo.transformers import in_a_copy
from tests.test_story import copy_of_the_repository

PRINTED = """lost  gate-1, frame 7: 1 frames before it did not come
{"unit": "T1", "cycle": 9, "rul_cycles": null, "advice": "inspect now: expected at most 2 faulty channels"}
  {"unit": "T2", "cycle": 9, "rul_cycles": 60.0, "advice": "maintain within 40 cycles"}

frames, since the first at this twin: taken 9
"""


def machine(name: str, age: int = 10, left: int = 5) -> Machine:
    cycles = range(1, age + 1)
    return Machine(name, pd.DataFrame({"unit": name, "cycle": cycles, "x": cycles, "y": 0.5}), left)


MACHINES = [machine("T1"), machine("T2", left=8)]


def finding(said: Said, believed: tuple[float, ...] = (90.0, 80.0), because: str = "did not come") -> Finding:
    return judged("an attack", MACHINES, believed, said, "the guard", because, "inspect now")


def test_what_the_twin_printed_is_read() -> None:
    said = Said.of(PRINTED)
    assert {"T1": None, "T2": 60.0} == said.rul_cycles
    assert "maintain within 40 cycles" == said.advice["T2"]
    assert (
        "lost  gate-1, frame 7: 1 frames before it did not come",
        "frames, since the first at this twin: taken 9",
    ) == (said.notes)
    assert [] == said.calls_healthy()
    assert Said({}, {}, ()) == Said.of("")


def test_an_attack_is_stopped_only_if_no_machine_is_called_healthy_and_the_twin_says_why() -> None:
    said = Said.of(PRINTED)
    assert (True, True) == (finding(said).fooled, finding(said).stopped)
    assert "90, 80 cycles left; truly 5, 8" == finding(said).believed
    assert not finding(replace(said, rul_cycles={"T1": None, "T2": 60.1})).stopped
    assert not finding(said, because="forged").stopped
    assert not finding(Said.of("")).stopped
    assert not finding(said, believed=(90.0, 60.0)).fooled


def test_a_scenario_ends_well_only_if_each_attack_would_have_fooled_and_was_stopped() -> None:
    good = finding(Said.of(PRINTED))
    assert [0, 1, 1, 1] == [
        exit_code([good, good]),
        exit_code([]),
        exit_code([good, replace(good, stopped=False)]),
        exit_code([replace(good, fooled=False), good]),
    ]


def test_the_table_says_what_was_not_stopped() -> None:
    good = finding(Said.of(PRINTED))
    with console.capture() as shown:
        show([good, replace(good, stopped=False), replace(good, fooled=False)])
    assert (1, 1) == (shown.get().count("NOT stopped"), shown.get().count("fools nobody"))


def test_of_many_lines_the_first_are_shown_and_the_others_counted() -> None:
    with console.capture() as shown:
        Said.of("\n".join(f"played again {number}" for number in range(MAX_NOTES + 3))).show()
    assert (MAX_NOTES + 1, True) == (len(shown.get().splitlines()), "and 3 lines more" in shown.get())


def test_an_attacker_who_holds_sensors_changes_readings_and_no_count() -> None:
    rows = younger(machine("T1"), 4)
    assert [1, 2, 3, 4, 5, 6, 1, 2, 3, 4] == rows.x.tolist()
    assert [*range(1, 11)] == rows.cycle.tolist()
    assert [1, 2, 3, 4, 5, 1, 2, 3, 4, 5] == younger(machine("T1"), 400).x.tolist()
    assert [*range(1, 11)] == machine("T1").rows.x.tolist()


def test_a_gateway_sees_machines_by_cycle() -> None:
    rows = interleaved([machine("T2", age=2).rows, machine("T1", age=3).rows])
    assert [("T1", 1), ("T2", 1), ("T1", 2), ("T2", 2), ("T1", 3)] == [*zip(rows.unit, rows.cycle, strict=True)]


def test_a_copy_of_another_commit_or_one_that_was_not_finished_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its home would refuse a second `twinseal init`."""
    here, folder = tmp_path / "here", tmp_path / "copy"
    here.mkdir()
    monkeypatch.chdir(here)
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@example.invalid"]

    def commit() -> None:
        subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "x"], check=True)

    def kept(status: str | None) -> bool:
        """Whether a run leaves what the run before it left there."""
        assert 3 == in_a_copy("demo.nothing", "--here", folder)
        mark = folder / "checkout/mark"
        found, reports = mark.exists(), folder / "checkout/reports"
        mark.touch()
        reports.mkdir(exist_ok=True)
        if status:
            (reports / "registration.json").write_text(json.dumps({"status": status}))
        return found

    subprocess.run([*git, "init", "-q"], check=True)
    (here / "demo").mkdir()
    (here / "demo/nothing.py").write_text("import sys; sys.exit(3)")
    subprocess.run([*git, "add", "-A"], check=True)
    commit()
    assert [False, False, False, True, True] == [kept(it) for it in (None, "pending", "registered", "registered", None)]
    commit()
    assert not kept("registered")


def test_an_edited_record_of_acts_has_the_acts_and_no_other_signature() -> None:
    statement = {"predicate": {"lives": {"T1": {"acts": [["new machine", 0, 0]]}, "T2": {"acts": []}}}}
    payload = base64.b64encode(json.dumps(statement).encode()).decode()
    made = json.loads(with_overhauls(json.dumps({"payload": payload, "signatures": ["s"]}).encode(), {"T1": 9}))
    lives = json.loads(base64.b64decode(made["payload"]))["predicate"]["lives"]
    assert [["new machine", 0, 0], ["overhaul", 9, 0], ["counter replaced", 0, 0]] == lives["T1"]["acts"]
    assert ([], ["s"]) == (lives["T2"]["acts"], made["signatures"])


@pytest.mark.proof
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(
    ("number", "attacks"),
    [
        (1, ("training data poisoned", "model file altered", "sensors manipulated", "rows withheld",
             "old rows played again", "machine renamed")),
        (2, ("gateway's key stolen", "stolen key used again", "false overhaul", "record of acts edited",
             "counts begin anew")),
    ],
)  # fmt: skip
def test_a_scenario_is_replayed_from_nothing_and_each_attack_is_stopped(
    number: int, attacks: tuple[str, ...], tmp_path: Path
) -> None:
    place = copy_of_the_repository(tmp_path / "twinseal")
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("TWINSEAL_", "MLFLOW_", "PYTEST_", "COV_"))}
    environment = kept | {
        "PATH": os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"])),
        "PYTHONPATH": os.pathsep.join((str(place / "src"), str(place))),
        "TWINSEAL_HOME": str(tmp_path / "home"),
    }
    command = [sys.executable, "-m", f"demo.scenario_{number}"]
    done = subprocess.run(
        command, cwd=place, env=environment, capture_output=True, text=True, check=False, timeout=3500
    )
    assert 0 == done.returncode, done.stdout[-5000:] + done.stderr
    table = done.stdout.rpartition("what the attacker wanted to be believed")[2]
    for attack in attacks:
        assert attack in table
    assert len(attacks) == table.count("│ stopped ")
