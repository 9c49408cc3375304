"""`twinseal keys` as a person meets it."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from tests.trust.keys.softhsm import PIN, make_hsm, needs_softhsm
from tests.trust.scenes import Scene, make_scene
from twinseal.cli.key_holders import keys
from twinseal.console import exit_code
from twinseal.digests import sha256
from twinseal.errors import ConfigError, KeyAccessError
from twinseal.trust.keys import passphrases
from twinseal.trust.keys.key import fingerprint, generate_key_pair, grouped_digits, open_signer, read_public_key

PROGRAM = (
    "import sys; from twinseal.cli.key_holders import keys; from twinseal.console import exit_code; "
    "sys.exit(exit_code(keys))"
)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    return make_scene(tmp_path_factory.mktemp("cli-keys") / "home")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in [name for name in os.environ if name.startswith("TWINSEAL_")]:
        monkeypatch.delenv(name)
    monkeypatch.setattr(passphrases, "descriptors", passphrases.Descriptors())
    monkeypatch.setenv("TWINSEAL_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(keys, [str(argument) for argument in arguments])


def done(*arguments: str | Path) -> str:
    result = run(*arguments)
    assert (0, None) == (result.exit_code, result.exception), result.output
    return result.output


def refused(kind: type[Exception], said: str, *arguments: str | Path) -> str:
    result = run(*arguments)
    assert isinstance(result.exception, kind), result.output
    assert said in str(result.exception)
    return str(getattr(result.exception, "remedy", ""))


def test_a_new_key_is_encrypted_and_its_fingerprint_is_to_be_read_aloud(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TWINSEAL_PASSPHRASE", "from the environment")
    said = done("new", "alice")
    pem, public = home / "keys/alice.pem", home / "keys/alice.pub"
    assert (0o600, 0o700) == (pem.stat().st_mode & 0o777, pem.parent.stat().st_mode & 0o777)
    assert b"ENCRYPTED" in pem.read_bytes()
    key = read_public_key(public)
    assert open_signer(f"file:{pem}", passphrase=b"from the environment").public_key == key
    first, second = grouped_digits(fingerprint(key)).splitlines()
    assert first in said
    assert second in said
    assert str(public) in said
    assert "on the telephone" in said
    assert f"_KEY='file:{pem}'" in said
    assert "from the environment" not in said


def test_the_fingerprint_is_the_one_that_openssl_gives(home: Path) -> None:
    generate_key_pair(home / "keys/alice.pem", passphrase=None)
    der = subprocess.run(
        ["openssl", "pkey", "-pubin", "-in", home / "keys/alice.pub", "-outform", "DER"],
        capture_output=True,
        check=True,
    ).stdout
    first, second = grouped_digits(sha256(der)).splitlines()
    assert f"{first}\n        {second}" in done("show", "alice")


def test_without_a_passphrase_a_new_key_is_refused_unless_asked_for(home: Path) -> None:
    remedy = refused(KeyAccessError, "alice: expected a passphrase for the new key, got none", "new", "alice")
    assert "--no-passphrase" in remedy
    assert not (home / "keys").exists()
    assert "NOT ENCRYPTED" in done("new", "alice", "--no-passphrase")


def test_a_new_key_never_replaces_one(home: Path, tmp_path: Path) -> None:
    done("new", "alice", "--no-passphrase")
    before = sorted((path.name, path.read_bytes()) for path in (home / "keys").iterdir())
    refused(KeyAccessError, "expected no key there yet, found one", "new", "alice", "--no-passphrase")
    (home / "keys/alice.pem").rename(tmp_path / "moved.pem")
    refused(KeyAccessError, "alice.pub: expected no key there yet, found one", "new", "alice", "--no-passphrase")
    (tmp_path / "moved.pem").rename(home / "keys/alice.pem")
    assert before == sorted((path.name, path.read_bytes()) for path in (home / "keys").iterdir())


def test_a_new_key_goes_where_it_is_told(home: Path, tmp_path: Path) -> None:
    said = done("new", "alice", "--out", tmp_path / "stick" / "a.key", "--no-passphrase")
    assert ["a.key", "a.pub"] == sorted(path.name for path in (tmp_path / "stick").iterdir())
    assert f"_KEY='file:{tmp_path}/stick/a.key'" in said
    assert not home.exists()
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared").chmod(0o777)
    refused(
        KeyAccessError,
        "only its owner can exchange a key",
        "new",
        "b",
        "--out",
        tmp_path / "shared/b",
        "--no-passphrase",
    )


@pytest.mark.parametrize(
    "arguments",
    [("new", "../alice"), ("new", ".alice"), ("new", ""), ("new", "alice", "--uri", "pkcs11:x", "--no-passphrase")],
)
def test_a_misuse_is_said(arguments: tuple[str, ...]) -> None:
    refused(ConfigError, "expected", *arguments)


def test_a_new_passphrase_is_asked_for_twice_at_a_terminal_and_not_shown(home: Path) -> None:
    said = at_a_terminal(["new", "alice"], [b"one\n", b"two\n", b"hunter2\n", b"hunter2\n"])
    assert "do not match" in said
    assert "hunter2" not in said
    open_signer(f"file:{home}/keys/alice.pem", passphrase=b"hunter2")


def at_a_terminal(arguments: list[str], answers: list[bytes]) -> str:
    """What a person sees who gives these answers, each when there is a question."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen([sys.executable, "-c", PROGRAM, *arguments], stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    said, waiting, deadline = b"", list(answers), time.monotonic() + 60
    try:
        while time.monotonic() < deadline:
            if select.select([ours], [], [], 0.1)[0]:
                try:
                    said += os.read(ours, 4096)
                except OSError:  # the other end is closed: it has ended
                    break
            elif waiting and said.rstrip(b" ").endswith(b":"):
                os.write(ours, waiting.pop(0))
        assert 0 == process.wait(10), said
    finally:
        process.kill()
        os.close(ours)
    return said.decode()


def test_a_descriptor_gives_the_passphrase_of_a_new_key(home: Path) -> None:
    reader, writer = os.pipe()
    os.write(writer, b"by descriptor\n")
    os.close(writer)
    passphrases.descriptors.choose(reader)
    done("new", "alice")
    open_signer(f"file:{home}/keys/alice.pem", passphrase=b"by descriptor")


def test_a_home_without_keys_says_how_to_make_one() -> None:
    assert "twinseal keys new HOLDER" in done("show")


def test_the_keys_of_a_home_and_what_they_may_do(made: Scene, home: Path) -> None:
    made.copy(home)
    said = done("show")
    rows = {line.split()[0]: " ".join(line.split()) for line in said.splitlines() if line}
    key = made.anchor.roles["reviewer"].key_of("alice")
    assert f"alice reviewer {grouped_digits(fingerprint(key))[:19]} … in the clear, mode 0600" == rows["alice"]
    assert "builder builder" in rows["builder"]
    assert "root, targets" in rows["custodian-1"]
    assert "registrar registrar" in rows["registrar"]


def test_what_is_wrong_with_keys_is_said(made: Scene, home: Path, tmp_path: Path) -> None:
    made.copy(home)
    folder = home / "keys"
    generate_key_pair(folder / "mallory.pem", passphrase=b"x")
    (folder / "alice.pem").unlink()
    generate_key_pair(tmp_path / "alice.pem", passphrase=None)
    (tmp_path / "alice.pub").replace(folder / "alice.pub")
    (folder / "bruno.pem").chmod(0o644)
    (folder / "chiara.pub").write_text("junk")
    said = " ".join(done("show").split())
    for warning in (
        "mallory: the anchor does not know this key: what it signs counts for nothing",
        "alice: the anchor has another key for alice:",
        "bruno.pem: expected a key that its owner alone can read, got mode 0644",
        "chiara.pub: expected a public key in PEM, got something else",
        "registrar: its file is not encrypted: anyone who copies it can sign",
    ):
        assert warning in said
    assert "encrypted, mode 0600" in said
    assert "refused, mode 0644" in said
    assert "not here" in said


def test_one_key_is_shown_by_its_name_or_its_file(made: Scene, home: Path, tmp_path: Path) -> None:
    made.copy(home)
    key = made.anchor.roles["reviewer"].key_of("alice")
    for which in ("alice", str(home / "keys/alice.pub"), f"file:{home}/keys/alice.pem"):
        assert "roles: reviewer" in done("show", which)
        assert key.keyval["public"] == done("show", which, "--pem")
    generate_key_pair(tmp_path / "mallory.pem", passphrase=None)
    assert "the anchor does not know this key" in done("show", tmp_path / "mallory.pub")
    refused(KeyAccessError, "expected a key of that name", "show", "nobody")
    refused(ConfigError, "--pem: expected one key", "show", "--pem")


@needs_softhsm
def test_a_new_key_in_a_token(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hsm = make_hsm(tmp_path / "hsm", monkeypatch)
    refused(KeyAccessError, "expected a PIN for the token, got none", "new", "alice", "--uri", hsm.uri())
    monkeypatch.setenv("TWINSEAL_ALICE_PASSPHRASE", PIN)
    said = done("new", "alice", "--uri", hsm.uri())
    assert "in the token, and cannot leave it" in said
    assert PIN not in said
    key = read_public_key(home / "keys/alice.pub")
    assert ["alice.pub"] == [path.name for path in (home / "keys").iterdir()]
    assert open_signer(hsm.uri("alice")).public_key == key
    assert key.keyval["public"] == done("show", hsm.uri("alice"), "--pem")
    monkeypatch.setenv("TWINSEAL_ALICE_KEY", hsm.uri("alice"))
    assert "in a token" in done("show", "alice")


def test_a_refusal_ends_with_code_one_and_no_traceback(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["keys", "show", "pkcs11:token=x?pin-value=4711"])
    assert 1 == exit_code(keys)
    said = capsys.readouterr()
    assert "refused (KeyAccess)" in said.err
    assert "4711" not in said.err + said.out
