"""Releases on their way, as an operator carries them: mirror, verify, pull and export, with a deployment of today."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.simulator import Registry
from tests.twin.deployment import MODEL, Deployment
from twinseal import console
from twinseal.twin import export as exporter

Cli = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def today(tmp_path_factory: pytest.TempPathFactory) -> Deployment:
    path, now = tmp_path_factory.mktemp("today"), datetime.now(UTC)
    made = Deployment(path, now=now)
    made.publish(1, now=now)
    return made


@pytest.fixture
def cli(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, today: Deployment
) -> Iterator[Cli]:
    """Runs a command as `twinseal …` does, with the anchor; its exit code, standard output, standard error."""
    from twinseal.cli import main

    def run(*words: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["twinseal", *map(str, words), "--anchor", str(today.home.anchor_dir)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        printed = capsys.readouterr()
        return int(ended.value.code or 0), printed.out, printed.err

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(console.out, "width", 300)
    yield run
    exporter._remove(tmp_path / "served")


def test_a_release_is_carried_on_a_disk_and_installed(cli: Cli, today: Deployment) -> None:
    with Registry(today.mirror) as registry:
        code, out, err = cli("mirror", "--from", registry.url, "--model", MODEL, "--to", "disk")
    assert (0, True) == (code, "written  disk" in out), err
    assert "install it before 20" in out
    assert "demo keys" in err
    code, out, err = cli("verify", "disk")
    assert (0, True) == (code, f"verified  {MODEL}: 13 files" in out), err
    assert [f"  {number}  " for number in range(7)] == [line[:5] for line in out.splitlines()[:7]]
    code, out, _ = cli("pull", "--from", "disk", "--model", MODEL)
    assert (0, True) == (code, f"admitted  {MODEL} release 1" in out)


@pytest.mark.proof
def test_verify_says_as_json_what_was_verified_or_refused(cli: Cli, today: Deployment, tmp_path: Path) -> None:
    disk = Path(shutil.copytree(today.mirror, tmp_path / "disk"))
    code, out, _ = cli("verify", disk, "--json")
    said = json.loads(out)
    assert (0, "verified", MODEL, 1, [7]) == (
        code,
        *(said[key] for key in ("result", "model", "release", "not_checked")),
    )
    next(disk.rglob("model.sig.json")).write_bytes(b"{}")
    code, out, _ = cli("verify", disk, "--model", MODEL, "--json")
    assert (1, "refused", "DigestMismatch") == (code, *(json.loads(out)[key] for key in ("result", "kind")))


def test_a_model_is_laid_out_for_another_server(cli: Cli, today: Deployment) -> None:
    code, out, err = cli("export", today.mirror, "served", "--model", MODEL)
    assert (0, True) == (code, f"exported  {MODEL} release 1: 13 files in served" in out), err
    assert "without --state or --at-least, this cannot tell that an older release is offered" in err
    code, out, err = cli("export", today.mirror, "served", "--model", MODEL, "--state", "twin", "--json")
    assert (0, "current") == (code, json.loads(out)["result"]), err
    code, out, err = cli("export", today.mirror, "served", "--model", MODEL, "--at-least", "2")
    assert (1, True) == (code, "release version: expected >= 2, got 1" in " ".join(err.split())), err
    assert 0 == cli("verify", "served/bundle")[0]


@pytest.mark.proof
def test_what_a_pull_refuses_is_not_laid_out(cli: Cli, today: Deployment, tmp_path: Path) -> None:
    disk = Path(shutil.copytree(today.mirror, tmp_path / "disk"))
    next(disk.rglob("*.safetensors")).write_bytes(b"other")
    code, _, err = cli("export", disk, "served", "--model", MODEL)
    assert (1, True) == (code, "refused (DigestMismatch)" in err)
    assert [".twinseal-export.lock"] == [path.name for path in Path("served").iterdir()]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("twinseal://host/a/b", "served"), "expected twinseal://HOST[:PORT]/MODEL"),
        (("twinseal://host", "served"), "expected twinseal://HOST[:PORT]/MODEL"),
        (("twinseal://host/pump-rul", "served", "--model", "fan-rul"), "and no other --model"),
        (("disk", "served"), "expected --model, got none"),
        (("nowhere", "served", "--model", MODEL), "expected http://…, https://…, or a folder, got neither"),
    ],
)
def test_an_address_that_cannot_be_meant_is_misuse(cli: Cli, words: tuple[str, ...], message: str) -> None:
    code, _, err = cli("export", *words)
    assert (2, True) == (code, message in " ".join(err.split())), err


@pytest.mark.proof
def test_a_serving_platforms_address_is_https_and_nothing_else(cli: Cli, today: Deployment) -> None:
    with Registry(today.mirror) as registry:
        code, _, err = cli("export", f"twinseal://{registry.url.removeprefix('http://')}/{MODEL}", "served")
    assert (1, True, []) == (code, "refused (Registry)" in err, registry.asked), err
