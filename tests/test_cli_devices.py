"""Gateways at the command line: a key, enrolled and revoked by a commissioner."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.twin.deployment import CHANNELS, MODEL
from tests.twin_cli import AT, Cli, cli_of_a_twin, rows
from twinseal.trust.keys.device_keys import DeviceKey


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    return cli_of_a_twin(tmp_path, monkeypatch, capsys)


def enroll(cli: Cli, *words: str, name: str = "gate-1", units: tuple[str, ...] = ("pump-1",)) -> tuple[int, str, str]:
    if not Path(f"{name}.pem").exists():
        assert 0 == cli("device", "key", name, "--out", f"{name}.pem", "--no-passphrase")[0]
    chosen = [word for unit in units for word in ("--unit", unit)]
    return cli("device", "enroll", name, f"{name}.pub", *AT, "--as", "emil", "--yes", *chosen, *words)


def shown(cli: Cli) -> dict[str, Any]:
    code, printed, _ = cli("device", "show", *AT, "--json")
    assert 0 == code
    value: dict[str, Any] = json.loads(printed)
    return value


def test_a_device_is_enrolled_shown_and_revoked(cli: Cli) -> None:
    assert "no device is enrolled here" in cli("device", "show", *AT)[1]
    assert (0, []) == (shown(cli)["version"], shown(cli)["devices"])
    code, printed, _ = enroll(cli, "--max-age", "5", units=("pump-2", " pump-1 "))
    assert (0, True) == (code, "signed  devices of pump-rul, version 1" in printed)
    assert "may deliver pump-1, pump-2: current, flow" in printed
    fingerprint = DeviceKey.read(Path("gate-1.pub")).fingerprint
    assert fingerprint[:4] + " " + fingerprint[4:8] in printed
    assert [
        {
            "name": "gate-1",
            "key": fingerprint,
            "units": ["pump-1", "pump-2"],
            "channels": sorted(CHANNELS),
            "frames_per_second": 100,
        }
    ] == shown(cli)["devices"]
    code, printed, _ = cli("device", "show", *AT)
    assert (0, True, True) == (code, "pump-1, pump-2" in printed, "5 s from this clock" in printed)
    code, printed, _ = cli("device", "revoke", "gate-1", *AT, "--as", "emil", "--yes")
    assert (0, True) == (code, "version 2" in printed)
    assert f"revoked keys: {fingerprint[:16]}" in cli("device", "show", *AT)[1]


@pytest.mark.parametrize(
    ("words", "exit_code", "message"),
    [
        (("--channel", "flaw"), 1, "--channel: expected channels of pump-rul"),
        (("--unit", "\x07"), 2, "--unit: expected the name of a machine"),
        (("--as", "alice"), 1, "commissioner: expected one of emil, flora, got 'alice'"),
        (("--rate", "0"), 1, "expected 1 to 10000 frames a second, got 0"),
        (("--max-age", "1000000"), 1, "expected an age of 1 to 86400 s"),
    ],
)
def test_a_bad_enrolment_says_what_is_wrong(cli: Cli, words: tuple[str, ...], exit_code: int, message: str) -> None:
    code, _, errors = enroll(cli, *words)
    assert (exit_code, True) == (code, message in errors), errors
    assert [] == shown(cli)["devices"]


def test_a_file_that_is_no_devices_key_is_refused(cli: Cli) -> None:
    Path("gate-1.pem").touch()
    code, _, errors = enroll(cli)
    assert (1, True) == (code, "gate-1.pub: expected a device's public key, got none" in errors)
    Path("gate-1.pub").write_text("x")
    code, _, errors = enroll(cli)
    assert (1, True) == (code, "expected a public key in PEM" in errors)


def sign(cli: Cli, text: str, out: str = "rows.frames", *words: str) -> tuple[int, str, str]:
    Path("rows.jsonl").write_text(text)
    Path(out).unlink(missing_ok=True)
    return cli("gateway", "rows.jsonl", *GATEWAY, "--out", out, *words)


def answers(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


GATEWAY = ("--device", "gate-1", "--model", MODEL, "--key", "gate-1.pem")
FRAMES = ("run", "rows.frames", "--frames", *AT, "--json")


def test_signed_rows_are_answered_as_unsigned_ones_are_and_say_so(cli: Cli) -> None:
    text = rows("pump-1", *range(1, 8), flow=1 / 3)
    Path("rows.jsonl").write_text(text)
    _, printed, errors = cli("run", "rows.jsonl", *AT, "--json")
    plain = answers(printed)
    assert {None} == {item.pop("signed") for item in plain}
    assert "not signed" not in errors
    enroll(cli)
    _, printed, errors = cli("run", "rows.jsonl", *AT, "--json")
    assert {False} == {item["signed"] for item in answers(printed)}
    assert "devices are enrolled here, and this telemetry is not signed" in errors
    assert (0, "", "") == sign(cli, text, "rows.frames", "--rows", "3")
    code, printed, errors = cli(*FRAMES)
    found = answers(printed)
    assert (0, {True}) == (code, {item.pop("signed") for item in found})
    for item in (*plain, *found):
        item.pop("time")
    assert plain == found
    assert "frames, since the first at this twin: taken 3, rows 7" in errors
    code, printed, errors = cli(*FRAMES)  # the same file again
    assert (4, "") == (code, printed)
    assert "3 frames were refused: look at what sends them" in errors
    assert "played again  frame 1 of gate-1: expected a number after 3, got one again" in errors
    cli("device", "revoke", "gate-1", *AT, "--as", "emil", "--yes")
    sign(cli, rows("pump-1", 8))
    code, _, errors = cli(*FRAMES)
    assert (4, True) == (code, "revoked device  frame: expected a key that counts" in errors)
    assert "taken 3, rows 7, played again 3, revoked device 1" in errors


def test_a_run_says_what_was_lost_and_answers_the_rest(cli: Cli) -> None:
    enroll(cli, units=("pump-1", "pump-2"))
    sign(cli, rows("pump-1", 1, 2), "first.frames", "--rows", "1")
    sign(cli, rows("pump-1", 3, 4, 9) + rows("pump-2", 1), "second.frames", "--rows", "1")
    first, second = Path("first.frames").read_bytes(), Path("second.frames").read_bytes()
    length = len(first) // 2
    Path("rows.frames").write_bytes(first[:length] + second[:-20])
    code, printed, errors = cli(*FRAMES)
    assert 3 == code
    assert [1, 3, 4, 9] == [item["cycle"] for item in answers(printed)]
    assert "lost  gate-1, frame 3: 1 frames before it did not come" in errors
    assert "lost  gate-1, frame 5: 4 cycles of pump-1 did not come" in errors
    assert "cut off  stream: expected the rest of a frame, got its end" in errors


def test_without_a_device_or_a_stream_the_refusal_leads_on(cli: Cli) -> None:
    cli("device", "key", "gate-1", "--out", "gate-1.pem", "--no-passphrase")
    sign(cli, rows("pump-1", 1))
    code, _, errors = cli(*FRAMES)
    assert (2, True) == (code, "--frames: expected an enrolled device in twin, got none" in errors)
    assert "twinseal device enroll NAME FILE.pub" in errors
    enroll(cli)
    code, _, errors = cli("run", "rows.jsonl", "--frames", *AT)
    assert (4, True) == (code, "cut off" in errors or "too long" in errors)
    code, _, errors = cli("run", "nowhere.frames", "--frames", *AT)
    assert (1, True) == (code, "nowhere.frames" in errors)
    code, _, errors = cli("gateway", "rows.jsonl", *GATEWAY, "--out", "rows.frames")
    assert (1, True) == (code, "rows.frames" in errors)  # never overwritten
    code, _, errors = sign(cli, rows("pump-1", 1), "x.frames", "--rate", "0")
    assert (2, True) == (code, "--wait --rate: expected" in errors)
    code, _, errors = sign(cli, "{}\nno json\n" + rows("pump-1", 2), "x.frames")
    assert (3, True) == (code, "rows that were not signed: 2" in errors)


@pytest.mark.attack("T")
def test_a_running_twin_answers_through_a_pipe_until_the_key_is_revoked(cli: Cli) -> None:
    """A thief of a device's key goes on signing to a twin that runs, when the key is revoked.

    Before: `twinseal gateway - … | twinseal run - --frames …`, fed line by line, as a sensor does.
    """
    enroll(cli)
    program = str(Path(sys.executable).parent / "twinseal")
    with (
        subprocess.Popen(
            [program, "gateway", "-", *GATEWAY, "--wait", "0.05"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as signing,
        subprocess.Popen(
            [program, "run", "-", "--frames", *AT, "--json"],
            stdin=signing.stdout,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as running,
    ):
        assert signing.stdin is not None
        assert signing.stdout is not None
        assert running.stdout is not None
        assert running.stderr is not None
        signing.stdout.close()
        for cycle in (1, 2, 3):
            signing.stdin.write(rows("pump-1", cycle).encode())
            signing.stdin.flush()
            said = json.loads(running.stdout.readline())  # before the next line is there
            assert (cycle, True) == (said["cycle"], said["signed"])
        for second, what in ((("gateway", "rows.jsonl", *GATEWAY), "gateway"), (FRAMES, "run --frames")):
            Path("rows.jsonl").write_text(rows("pump-1", 9))
            Path("rows.frames").touch()
            code, _, errors = cli(*second)
            assert (1, True) == (code, f"expected no other twinseal {what}" in errors), errors
        cli("device", "revoke", "gate-1", *AT, "--as", "emil", "--yes")
        signing.stdin.write(rows("pump-1", 4).encode())
        signing.stdin.close()
        assert "" == running.stdout.read().decode()  # a key that is revoked counts no longer, without a restart
        assert b"taken 3, rows 3, revoked device 1" in running.stderr.read()
    assert (0, 3) == (signing.returncode, running.returncode)
