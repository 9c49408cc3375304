"""Machines at the command line: a commissioner enrolls them, and says what was done to each."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

from tests.twin.deployment import MODEL
from tests.twin_cli import AT, Cli, cli_of_a_twin, rows


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    return cli_of_a_twin(tmp_path, monkeypatch, capsys)


SIGN = (*AT, "--as", "emil", "--yes")


def unit(cli: Cli, command: str, *words: str) -> str:
    """What a command prints that signs."""
    code, printed, errors = cli("unit", command, *words, *SIGN)
    assert 0 == code, errors
    return printed


def shown(cli: Cli) -> dict[str, Any]:
    code, printed, _ = cli("unit", "show", *AT, "--json")
    assert 0 == code
    value: dict[str, Any] = json.loads(printed)
    return value


def acts(cli: Cli, name: str) -> list[tuple[str, int, int]]:
    (found,) = [item for item in shown(cli)["units"] if item["unit"] == name]
    return [tuple(act.values()) for act in found["acts"]]


def test_a_machines_life_from_enrolment_to_retirement(cli: Cli) -> None:
    assert "no machine is enrolled here" in cli("unit", "show", *AT)[1]
    assert (0, []) == (shown(cli)["version"], shown(cli)["units"])
    printed = unit(cli, "enroll", "--unit", " pump-1 ", "--age", "10", "--cycle", "5")
    assert "signed  lives of pump-rul, version 1" in printed
    unit(cli, "sensor-replaced", "pump-1", "--cycle", "25")
    unit(cli, "counter-replaced", "pump-1", "--old-cycle", "45", "--new-cycle", "3")
    unit(cli, "overhaul", "pump-1", "--cycle", "13", "--age", "20")
    assert [
        ("new machine", 5, 10),
        ("sensor replaced", 25, 30),
        ("counter replaced", 3, 50),
        ("overhaul", 13, 20),
    ] == acts(cli, "pump-1")
    code, printed, _ = cli("unit", "show", *AT)
    assert (0, True, True) == (code, "overhaul" in printed, "version 4" in printed)
    unit(cli, "renew")
    unit(cli, "retire", "--unit", "pump-1")
    assert "retired" in cli("unit", "show", *AT)[1]
    code, _, errors = cli("unit", "overhaul", "pump-1", "--cycle", "99", *SIGN)
    assert (1, True) == (code, "expected a machine that is enrolled, got a retired one" in errors)
    unit(cli, "enroll", "--unit", "pump-1")
    assert ("new machine", 0, 0) == acts(cli, "pump-1")[-1]
    code, printed, _ = cli("audit", "show", "--state", "twin")
    assert (0, 7) == (code, printed.count(" lives "))


def test_a_fleet_is_enrolled_by_one_command(cli: Cli) -> None:
    Path("fleet.txt").write_text("\n".join(f"pump-{n}" for n in range(1000)) + "\n\n")
    printed = unit(cli, "enroll", "--units", "fleet.txt", "--unit", "fan-1")
    assert "1001 machines: fan-1, pump-0, pump-1, pump-10" in printed
    assert "and 991 more" in printed
    assert 1001 == len(shown(cli)["units"])
    unit(cli, "retire", "--units", "fleet.txt")
    assert ["fan-1"] == [item["unit"] for item in shown(cli)["units"] if not item["retired"]]


REFUSED = [
    (("enroll",), 2, "--unit: expected the names of machines, got none"),
    (("enroll", "--unit", "\x07"), 2, "--unit: expected the name of a machine"),
    (("enroll", "--units", "nowhere.txt"), 1, "nowhere.txt"),
    (("enroll", "--units", "latin.txt"), 2, "expected a text in UTF-8"),
    (("enroll", "--unit", "pump-1"), 1, "expected a machine that is not enrolled, got one that is"),
    (("enroll", "--unit", "pump-2", "--age", "-1"), 1, "as age a whole number from 0"),
    (("overhaul", "pump-1", "--cycle", "4"), 1, "an operating count of at least 5, as at the last act, got 4"),
    (("overhaul", "pump-1", "--cycle", "9", "--age", "15"), 1, "expected at most the age before it, 14, got 15"),
    (("sensor-replaced", "pump-1", "--cycle", "4"), 1, "an operating count of at least 5"),
    (
        ("counter-replaced", "pump-1", "--old-cycle", "4", "--new-cycle", "0"),
        1,
        "an operating count of at least 5",
    ),
    (("retire", "--unit", "pump-9"), 1, "expected a machine that is enrolled, got none of this name"),
]


def test_what_cannot_be_is_refused(cli: Cli) -> None:
    Path("latin.txt").write_bytes("pümp".encode("latin-1"))
    unit(cli, "enroll", "--unit", "pump-1", "--age", "10", "--cycle", "5")
    for words, exit_code, message in REFUSED:
        code, _, errors = cli("unit", *words, *SIGN)
        assert (exit_code, True) == (code, message in errors), (words, errors)
    assert 1 == shown(cli)["version"]


def test_a_commissioner_is_asked_first_and_nobody_else(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    code, _, errors = cli("unit", "enroll", "--unit", "pump-1", *AT, "--as", "alice", "--yes")
    assert (1, True) == (code, "commissioner: expected one of emil, flora, got 'alice'" in errors)
    monkeypatch.setattr("sys.stdin", io.StringIO("n\n"))
    code, _, errors = cli("unit", "enroll", "--unit", "pump-1", *AT, "--as", "emil")
    assert (2, True) == (code, "Sign as emil that pump-1 is new, its counter at 0?" in errors), errors
    assert 0 == shown(cli)["version"]
    code, printed, _ = cli("unit", "show", "--model", "fan-rul", "--anchor", "anchor", "--json")
    assert (1, "refused") == (code, json.loads(printed)["result"])


def gateway(cli: Cli, text: str) -> tuple[int, str]:
    """Sign rows, and run the twin on the frames: its exit code, and what it says."""
    Path("rows.jsonl").write_text(text)
    Path("rows.frames").unlink(missing_ok=True)
    words = ("--device", "gate-1", "--model", MODEL, "--key", "gate-1.pem", "--out", "rows.frames", "--rows", "1")
    assert 0 == cli("gateway", "rows.jsonl", *words)[0]
    code, _, errors = cli("run", "rows.frames", "--frames", *AT, "--json")
    return code, errors


def test_a_run_answers_for_an_unknown_machine_and_says_when_the_record_does_not_count(cli: Cli) -> None:
    unit(cli, "enroll", "--unit", "pump-1")
    Path("rows.jsonl").write_text(rows("pump-1", *range(1, 9)) + rows("pump-2", *range(1, 9)))
    code, printed, errors = cli("run", "rows.jsonl", *AT, "--json", "--last")
    advice = {item["unit"]: item["advice"] for item in map(json.loads, printed.splitlines())}
    assert (0, False, True) == (code, *("an unknown machine" in advice[name] for name in ("pump-1", "pump-2")))
    assert "does not count" not in errors
    Path("twin/lives.dsse.json").unlink()
    code, printed, errors = cli("run", "rows.jsonl", *AT, "--json", "--last")
    assert 2 == printed.count("an unknown machine")
    assert "the life record does not count, each machine is unknown: lives.dsse.json: expected version 1" in errors


@pytest.mark.attack("T")
def test_a_count_falls_only_where_gateway_and_commissioner_say_so(cli: Cli) -> None:
    """Somebody with the gateway's machine sets its count back, to tell the twin of a younger machine."""
    cli("device", "key", "gate-1", "--out", "gate-1.pem", "--no-passphrase")
    enrolled = cli("device", "enroll", "gate-1", "gate-1.pub", "--unit", "pump-1", "--unit", "pump-2", *SIGN)
    assert 0 == enrolled[0]
    unit(cli, "enroll", "--unit", "pump-1")
    code, errors = gateway(cli, rows("pump-1", 1, 2, 3) + rows("pump-2", 1))
    assert (0, True) == (code, "taken 4, rows 4, rows of unknown machines 1" in errors)
    assert "unknown machine  gate-1, frame 4: nobody has enrolled pump-2" in errors
    code, printed, _ = cli("device", "counter", "gate-1.pem", "--unit", "pump-1", "--cycle", "0", "--yes")
    assert (0, True) == (code, "the count of pump-1 goes on from 0; it was 3" in printed)
    code, errors = gateway(cli, rows("pump-1", 1))
    assert (4, True) == (code, "a count that fell  frame 5 of gate-1: expected pump-1 to go on after cycle 3" in errors)
    unit(cli, "counter-replaced", "pump-1", "--old-cycle", "3", "--new-cycle", "0")
    code, errors = gateway(cli, rows("pump-1", 2))
    assert (0, True) == (code, "taken 5, rows 5, lost frames 1, lost rows 1" in errors), errors
    code, _, errors = cli("device", "counter", "gate-1.pem", "--unit", "pump-9", "--cycle", "0", "--yes")
    assert (1, True) == (code, "expected pump-1, pump-2, got 'pump-9'" in errors)
