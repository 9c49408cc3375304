"""`twinseal audit`: what a person sees of the log, and proofs that code which is not ours accepts."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.trust import plain_log
from twinseal.cli.audit import audit
from twinseal.console import MISUSE, REFUSED, exit_code
from twinseal.errors import SignatureError
from twinseal.trust.audit import Entry, Log, log_of

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def nine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a twin that decided nine times, the last time on something hostile."""
    folder = tmp_path_factory.mktemp("cli-audit") / "twin"
    for number in range(8):
        log_of(folder).append(Entry(NOW, "admitted", "twin", "pump-rul", number + 1, f"{number}" * 64))
    hostile = SignatureError("role \x1b[2J[bold red]\nadmitted everything \u202e")
    log_of(folder).append(Entry(NOW, "admitted", "twin", "pump-rul", 9).as_refusal(hostile))
    return folder


@pytest.fixture
def twin(nine: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(nine, tmp_path / "twin"))


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def run(*words: object) -> tuple[int, str, str]:
        capsys.readouterr()
        code = exit_code(lambda: audit([str(word) for word in words], standalone_mode=False))
        said = capsys.readouterr()
        return code, said.out, " ".join(said.err.split())

    return run


def test_show_is_a_table_newest_last_that_nothing_in_it_can_repaint(run: Run, twin: Path) -> None:
    code, out, _ = run("show", "--state", twin, "--last", "3")
    lines = [line.split() for line in out.splitlines()]
    assert (0, ["6", "7", "8"]) == (code, [line[0] for line in lines[:3]])
    assert ["6", "2026-03-01", "12:00:00", "admitted", "twin", "pump-rul", "7", "666666666666"] == lines[0]
    assert ["8", "2026-03-01", "12:00:00", "refused", "twin", "pump-rul", "9"] == lines[2]
    assert "9 entries, 3 shown" in out
    assert f"this key: {log_of(twin).head().vkey}" in out
    assert not {"\x1b", "\u202e"} & set(out)
    assert "\ufffd[2J[bold red] admitted everything \ufffd" in out


def test_show_as_json_is_the_entries_themselves(run: Run, twin: Path) -> None:
    _, out, _ = run("show", "--state", twin, "--json", "--last", "0")
    said = [json.loads(line) for line in out.splitlines()]
    assert list(range(9)) == [item.pop("index") for item in said]
    assert [json.loads(leaf) for leaf in plain_log.read_entries(twin / "log", 9)] == said


def test_verify_says_what_holds_and_what_it_could_not_know(run: Run, twin: Path, tmp_path: Path) -> None:
    code, out, _ = run("verify", "--state", twin)
    assert (0, True) == (code, "9 entries, 10 signed checkpoints, one history" in out)
    assert "the key was taken from beside the log" in out
    assert "a log that was cut short is not detected" in out
    shutil.copy(twin / "log/checkpoint", tmp_path / "kept")
    shutil.copy(twin / "log/vkey", tmp_path / "vkey")
    for key in (tmp_path / "vkey", (tmp_path / "vkey").read_text().strip()):
        code, out, _ = run("verify", "--state", twin, "--against", tmp_path / "kept", "--vkey", key)
        assert (0, True) == (code, "it begins with the 9 entries of the kept checkpoint" in out)
        assert "taken from beside the log" not in out


def test_verify_names_the_first_bad_entry(run: Run, twin: Path) -> None:
    entries = plain_log.read_entries(twin / "log", 9)
    entries[4] = entries[4].replace(b"pump-rul", b"pomp-rul")
    plain_log.write_tree(twin / "log", entries)
    code, _, err = run("verify", "--state", twin)
    assert (REFUSED, True) == (code, "refused (Audit) entry 4: expected the one that was signed, got another" in err)
    assert "what to do Keep a copy of the log as it is" in err
    assert (REFUSED, "") == run("show", "--state", twin)[:2]


def test_verify_against_a_kept_checkpoint_sees_a_log_cut_back(run: Run, twin: Path, tmp_path: Path) -> None:
    shutil.copy(twin / "log/checkpoint", tmp_path / "kept")
    plain_log.write_tree(twin / "log", plain_log.read_entries(twin / "log", 9)[:5])
    plain_log.write_records(twin / "log", plain_log.records(twin / "log")[:6])
    assert 0 == run("verify", "--state", twin)[0]
    code, _, err = run("verify", "--state", twin, "--against", tmp_path / "kept")
    assert (REFUSED, True) == (code, "expected at least 9 entries" in err)


@pytest.mark.parametrize("index", range(9))
def test_an_inclusion_proof_is_accepted_by_code_that_is_not_ours(index: int, run: Run, twin: Path) -> None:
    code, out, _ = run("prove", index, "--state", twin)
    proof = json.loads(out)
    size, root = plain_log.open_checkpoint(proof["checkpoint"], (twin / "log/vkey").read_text().strip())
    hashes = [bytes.fromhex(item) for item in proof["hashes"]]
    leaf = plain_log.leaf_hash(proof["entry"].encode())
    assert (0, index, size) == (code, proof["leaf_index"], proof["tree_size"])
    assert plain_log.included(leaf, index, size, hashes, root)
    other = plain_log.leaf_hash(proof["entry"].replace("twin", "mallory").encode())
    assert not plain_log.included(other, index, size, hashes, root)


@pytest.mark.parametrize("old", range(1, 9))
def test_a_consistency_proof_is_accepted_by_code_that_is_not_ours(old: int, run: Run, twin: Path) -> None:
    """The auditor has kept a checkpoint of that size, and believes only that one."""
    vkey = (twin / "log/vkey").read_text().strip()
    _, kept = plain_log.open_checkpoint(plain_log.records(twin / "log")[old].decode(), vkey)
    code, out, _ = run("prove", "--from", old, "--state", twin)
    proof = json.loads(out)
    size, root = plain_log.open_checkpoint(proof["checkpoint"], vkey)
    hashes = [bytes.fromhex(item) for item in proof["hashes"]]
    assert (0, old, kept.hex()) == (code, proof["old_size"], proof["old_root"])
    assert plain_log.consistent(old, size, hashes, kept, root)
    assert not plain_log.consistent(old, size, hashes, bytes(32), root)


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (("prove",), MISUSE, "expected an entry or --from, got both or none"),
        (("prove", 1, "--from", 1), MISUSE, "expected an entry or --from, got both or none"),
        (("prove", 9), REFUSED, "entry: expected one from 0 to 8, got 9"),
        (("prove", "--from", 10), REFUSED, "size: expected one from 0 to 9, got 10"),
        (("verify", "--against", "nowhere"), MISUSE, "--against nowhere: expected a file, got none"),
        (("verify", "--vkey", "nowhere"), REFUSED, "expected an Ed25519 verifier key, name+id+base64, got 'nowhere'"),
    ],
)
def test_bad_input_is_one_clear_message(words: tuple[object, ...], code: int, says: str, run: Run, twin: Path) -> None:
    got, out, err = run(*words, "--state", twin)
    assert (code, "", True) == (got, out, says in err)


def test_a_twin_without_a_log_says_how_one_begins(run: Run, tmp_path: Path) -> None:
    for command in ("show", "verify"):
        code, _, err = run(command, "--state", tmp_path / "none")
        assert (REFUSED, True) == (code, "expected an audit log, got none" in err)
        assert "It begins with the first decision made here." in err
    assert not (tmp_path / "none").exists()


def test_a_copy_of_a_log_without_its_key_and_lock_is_verified(run: Run, twin: Path) -> None:
    for name in ("key", "lock"):
        (twin / "log" / name).unlink()
    assert 0 == run("verify", "--state", twin)[0]
    assert 0 == run("prove", 3, "--state", twin)[0]
    assert not (twin / "log/lock").exists()
    assert 9 == len(Log(twin / "log").read())
