"""Gateways at the command line: a key, enrolled and revoked by a commissioner."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.twin import deployment as deployments
from tests.twin.deployment import CHANNELS, MODEL, Deployment
from twinseal import console
from twinseal.trust.keys.device_keys import DeviceKey
from twinseal.twin.byte_sources import DirectorySource
from twinseal.twin.pull import pull

Cli = Callable[..., tuple[int, str, str]]
AT = ("--model", MODEL, "--anchor", "anchor")


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    """Runs a command where a twin has pulled release 1 today: its exit code, standard output, standard error."""
    from twinseal.cli import main

    for name in [name for name in os.environ if name.startswith("TWINSEAL_")]:
        monkeypatch.delenv(name)
    now = datetime.now(UTC).replace(microsecond=0)
    monkeypatch.setattr(deployments, "NOW", now)
    monkeypatch.setattr(console.out, "width", 200)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TWINSEAL_HOME", str(tmp_path / "deployment/home"))
    made = Deployment(tmp_path / "deployment")
    made.publish(1, now=now)
    made.anchor.write(tmp_path / "anchor")
    pull(DirectorySource(made.mirror), made.anchor, MODEL, Path("twin"), now)

    def run(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["twinseal", *words])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        printed = capsys.readouterr()
        return int(ended.value.code or 0), printed.out, printed.err

    return run


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
