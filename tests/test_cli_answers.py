"""What commands answer: JSON for programs, steps, exit codes; the same decision twice; a terminal that is asked."""

from __future__ import annotations

import io
import json
import os
import pty
import select
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tests.trust import scenes
from tests.twin import deployment as deployments
from tests.twin.deployment import CHANNELS, MODEL, OTHER, Deployment
from twinseal import console
from twinseal.cli import answers
from twinseal.console import NO_TELEMETRY, NONE_ANSWERED, UNANSWERED, refusal_of
from twinseal.digests import sha256_file
from twinseal.errors import DataError, DigestMismatchError, TwinsealError
from twinseal.evidence import Subject
from twinseal.registry.store import Store
from twinseal.trust.audit import log_of
from twinseal.trust.ceremonies import ceremony
from twinseal.trust.keys.key import generate_key_pair, read_public_key
from twinseal.trust.release import approval, repository
from twinseal.trust.release.changes import keep_evidence
from twinseal.trust.release.model_role import compose_role
from twinseal.trust.release.reports import report_files
from twinseal.trust.release.request import Request
from twinseal.trust.root.home import Home
from twinseal.trust.root.roles import Roles
from twinseal.twin.byte_sources import DirectorySource
from twinseal.twin.pull import pull
from twinseal.twin.state import State

ROOT = Path(__file__).parents[1]
PROGRAM = str(Path(sys.executable).parent / "twinseal")
Cli = Callable[..., tuple[int, str, str]]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("TWINSEAL_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(console.out, "width", 200)  # the console may have been made by an earlier test
    shutil.copytree(ROOT / "policy", tmp_path / "policy")


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    """Runs a command as `twinseal …` does; its exit code, its standard output, its standard error."""
    from twinseal.cli import main

    def run(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["twinseal", *words])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        printed = capsys.readouterr()
        return int(ended.value.code or 0), printed.out, printed.err

    return run


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    """A demo home of today, and a release that waits, as `submit` leaves it."""
    now, roles = datetime.now(UTC), Roles.load(Path("policy/roles.yaml"))
    home = Home(tmp_path / "home")
    monkeypatch.setenv("TWINSEAL_HOME", str(home.path))
    ceremony.init_demo(home, roles, now)
    home.path.chmod(0o700)
    gate = {"name": "rmse", "relation": "at_most", "observed": 1.5, "bound": 2.0, "unit": "cycles", "result": "PASSED"}
    bundle_with([gate], home)
    release = scenes.describe(Path("models/bundle"))
    role = repository.stage(home, release, expires=roles.expiry("reviewer", now))
    Request(release, role).write(Path("models/release"))
    return home


def bundle_with(gates: list[dict[str, Any]], home: Home) -> None:
    """A signed bundle whose verdict has these gates, and the report that it names."""
    Path("reports").mkdir(exist_ok=True)
    Path("reports/report.html").write_text("<p>All gates hold.</p>")
    pages = tuple(Subject(path.as_posix(), sha256_file(path)) for path in report_files(Path()))
    edits = {"assess": scenes.with_predicate(twinseal_gates=gates)}
    scenes.make_bundle(Path("models/bundle"), home, edits=edits, reports=pages)


# The policy, and what reviewers read


def test_owners_see_what_changed_in_the_policy_and_sign_it(home: Home, cli: Cli) -> None:
    code, printed, _ = cli("policy", "show")
    assert (0, True) == (code, "its owners have approved no policy yet" in printed)
    code, printed, errors = cli("policy", "approve", "--as", "gerad", "--yes")
    assert (1, True) == (code, "owner: expected one of gerda, henrik, got 'gerad'" in errors)
    for owner, still in (("gerda", "1 more of henrik must sign"), ("henrik", "approved: number 1, by gerda, henrik")):
        code, printed, _ = cli("policy", "approve", "--as", owner, "--yes")
        assert (0, True) == (code, still in printed)
    assert "already approved" in cli("policy", "approve", "--as", "gerda", "--yes")[1]
    path = Path("policy/gates.yaml")
    path.write_text(path.read_text().replace("at_least: 20 ", "at_least: 2 "))
    printed = cli("policy", "show")[1]
    assert "looser: gates.yaml: enough-failures: at_least: 20 → 2" in printed
    assert "approved by nobody; 2 more of gerda, henrik must sign" in printed
    shown = json.loads(cli("policy", "show", "--json")[1])
    assert (False, 1, 2, ["gerda", "henrik"]) == tuple(
        shown[name] for name in ("approved", "approval", "missing", "can_still_sign")
    )


def test_owners_see_what_is_only_proposed_and_what_somebody_accepted(home: Home, cli: Cli) -> None:
    for owner in ("gerda", "henrik"):
        cli("policy", "approve", "--as", owner, "--yes")
    path = Path("policy/gates.yaml")
    kept = path.read_text()
    path.write_text(kept.replace("pump: {at_most: 12} ", 'pump: {at_most: 12, proposed: "1.2 × 10.0"} '))
    said = "gate accuracy-of-the-accurate of 'pump' (at most 12): proposed by 1.2 × 10.0, not yet accepted"
    assert f"does not count: {said}; to accept it: twinseal gates accept pump" in cli("policy", "show")[1]
    assert [said] == json.loads(cli("policy", "show", "--json")[1])["only_proposed"]
    code, printed, _ = cli("gates", "accept", "pump", "--all", "--as", "ida", "--yes")
    assert (0, True) == (code, "accepted by ida: gates.yaml" in printed)
    printed = cli("policy", "show")[1]
    assert "looser: gates.yaml: gate accuracy-of-the-accurate of 'pump' (at most 12): accepted by ida, 20" in printed
    assert "does not count" not in printed
    code, _, errors = cli("gates", "accept", "pump", "--all", "--as", "ida", "--yes")
    assert (2, True) == (code, "expected something that is only proposed for 'pump'" in errors)
    code, _, errors = cli("gates", "accept", "pump", "--as", "ida")
    assert (2, True) == (code, "expected the names of gates, or --all, got neither" in errors)


@pytest.mark.attack("P")
@pytest.mark.parametrize("attack", ["changed", "removed", "one more figure", "a link"])
def test_the_report_is_changed_after_the_verdict(home: Home, cli: Cli, attack: str) -> None:
    """The report is changed, removed, swapped for a link, or gets a figure after the verdict: no reviewer can sign."""
    assert 0 == cli("review", "show")[0]
    page = Path("reports/report.html")
    if attack == "one more figure":
        Path("reports/figures").mkdir()
        Path("reports/figures/evasion.svg").write_text("<svg/>")
    elif attack == "changed":
        page.write_text(page.read_text() + "<p>RMSE 1.0</p>")
    else:
        page.rename("elsewhere.html")
    if attack == "a link":
        page.symlink_to(Path("elsewhere.html").absolute())
    for words in (("review", "show"), ("approve", "--as", "alice", "--yes")):
        code, _, errors = cli(*words)
        assert (1, True) == (code, "reports/" in errors), errors
        assert attack == "a link" or "dvc repro --force assess" in errors
    assert not Path("approvals").exists()


def test_a_reviewer_sees_what_changed_since_the_last_release(home: Home, cli: Cli) -> None:
    assert "what changed since the last release is not known: this home has registered none" in cli("review", "show")[1]
    keep_evidence(home, "pump-rul", Path("models/bundle"))
    assert "nothing changed in policy, code and contract" in cli("review", "show")[1]
    shown = json.loads(cli("review", "show", "--json")[1])
    assert ([], {}) == (shown["changes"], shown["source"])


# Reviews


def test_the_release_that_waits_as_json(home: Home, cli: Cli) -> None:
    assert 0 == cli("approve", "--as", "alice", "--comment", "seen", "--yes")[0]
    code, printed, _ = cli("review", "show", "--json")
    shown = json.loads(printed)
    assert (0, "pump-rul", 1, "waits") == (code, shown["model"], shown["release"], shown["state"])
    assert (["alice"], ["bruno", "chiara"], 2) == (shown["approved_by"], shown["can_still_sign"], shown["threshold"])
    assert [("rmse", 1.5, "PASSED")] == [(g["name"], g["observed"], g["result"]) for g in shown["gates"]]
    assert 8 == len(shown["evidence"])
    assert all(Path(item["path"]).is_file() for item in shown["evidence"])
    assert [("alice", "approved", "seen")] == [(r["holder"], r["standing"], r["comment"]) for r in shown["reviews"]]
    listed = json.loads(cli("review", "list", "--json")[1])
    assert [("pump-rul", 1, "waits", ["alice"])] == [
        (r["model"], r["release"], r["state"], r["approved_by"]) for r in listed["releases"]
    ]


@pytest.mark.attack("P")
@pytest.mark.parametrize("command", [("review", "show"), ("audit", "show")])
def test_a_comment_cannot_pass_for_a_line_of_ours(
    home: Home, cli: Cli, monkeypatch: pytest.MonkeyPatch, command: tuple[str, str]
) -> None:
    """A comment has line ends, terminal escapes, markup, a change of direction or padding: it stays a comment."""
    line = "approved by alice, bruno: 2 signed, 2 are needed"
    assert 0 == cli("approve", "--as", "bruno", "--comment", "seen", "--yes")[0]
    assert ("approved by bruno: 1 signed, 2 are needed" in cli(*command)[1]) == (command[0] == "review")
    for number, text in enumerate(
        (f"\n{line}\n", f"\r{line}", f"\x1b[2K\x1b[1G{line}", f"[bold]{line}[/]", f"\u202e{line}")
    ):
        assert 0 == cli("reject", "--as", "chiara", "--comment", f"{number}{text}", "--yes")[0]
        printed = cli(*command)[1]
        assert line in " ".join(printed.split())
        assert not any(row.strip().startswith(line) for row in printed.splitlines())
        assert not any(letter in printed for letter in "\x1b\r\u202e")
    monkeypatch.setattr(console.out, "width", 60)
    padding = "x\u2800" * 200
    assert 0 == cli("reject", "--as", "chiara", "--comment", padding + line, "--yes")[0]
    for row in cli(*command)[1].splitlines():
        assert not row.startswith(("approved by a", "pproved", "x", "\u2800")), row


@pytest.mark.parametrize(
    "words", [("approve", "--as", "alice", "--yes", "--comment"), ("reject", "--as", "alice", "--comment")]
)
def test_words_that_are_no_text_are_refused_and_nothing_is_written(
    home: Home, cli: Cli, words: tuple[str, ...]
) -> None:
    size = log_of(home.path).head().size
    code, printed, errors = cli(*words, os.fsdecode(b"\xff\xfe"))
    assert (2, "") == (code, printed)
    assert "command line: expected text in UTF-8, got other bytes" in errors
    assert (size, False) == (log_of(home.path).head().size, Path("approvals").exists())


def test_a_question_shows_no_control_characters(monkeypatch: pytest.MonkeyPatch) -> None:
    from twinseal.cli.options import confirm

    asked: list[str] = []
    monkeypatch.setattr("typer.confirm", lambda question, **_: asked.append(question) or True)
    confirm(False, "Sign the readings of a\x1b[2J\nunit\u202e?")
    assert ["Sign the readings of a\ufffd[2J unit\ufffd?"] == asked


def test_review_show_says_until_when_and_which_versions(home: Home, cli: Cli) -> None:
    until = Roles.load(Path("policy/roles.yaml")).expiry("reviewer", datetime.now(UTC))
    for words in (("review", "show"), ("approve", "--as", "alice", "--yes")):
        code, printed, _ = cli(*words)
        assert (0, True) == (code, f"valid until {until:%Y-%m-%d}" in printed)
        assert "release 1, the first release; role version 1; last release: none, as it must be" in printed
    shown = json.loads(cli("review", "show", "--json")[1])
    assert (1, None, 0) == (shown["role_version"], shown["replaces"], shown["last_release"])
    assert shown["valid_until"].startswith(f"{until:%Y-%m-%d}")


@pytest.mark.attack("P")
def test_an_expiry_that_was_edited_is_not_even_asked_about(home: Home, cli: Cli) -> None:
    """The expiry in role.json is set to 2099: `review show` and `approve` refuse, and name the policy's end."""
    release = Request.read(Path("models/release")).release
    honest = Path("models/release/role.json").read_bytes()
    role = compose_role(release, version=1, expires=datetime(2099, 1, 1, tzinfo=UTC))
    Path("models/release/role.json").write_bytes(role)
    for words in (("review", "show"), ("approve", "--as", "alice", "--yes")):
        code, _, said = cli(*words)
        assert (1, True) == (code, "in 180 days (policy/roles.yaml), got 2099-01-01" in said)
    assert not Path("approvals").exists()
    Path("models/release/role.json").write_bytes(honest)
    assert 0 == cli("approve", "--as", "alice", "--yes")[0]


def test_a_gate_that_judged_nothing_is_shown_without_a_number(home: Home, cli: Cli) -> None:
    gates = [{"name": "extraction", "result": "PASSED", "observed": None}]
    bundle_with(gates, home)
    release = scenes.describe(Path("models/bundle"))
    role = repository.stage(
        home, release, expires=Roles.load(Path("policy/roles.yaml")).expiry("reviewer", datetime.now(UTC))
    )
    Request(release, role).write(Path("models/release"))
    code, printed, _ = cli("review", "show")
    assert (0, True) == (code, ["extraction", "—", "—", "PASSED"] in [line.split() for line in printed.splitlines()])


def test_gates_are_shown_with_their_units_as_in_the_report(home: Home, cli: Cli) -> None:
    share = {"name": "extraction", "relation": "at_most", "observed": 0.0215, "bound": 0.05, "unit": "share"}
    gates = [share | {"result": "PASSED"}, share | {"name": "rmse", "observed": 1.5, "unit": "cycles"}]
    bundle_with(gates, home)
    release = scenes.describe(Path("models/bundle"))
    until = Roles.load(Path("policy/roles.yaml")).expiry("reviewer", datetime.now(UTC))
    role = repository.stage(home, release, expires=until)
    Request(release, role).write(Path("models/release"))
    lines = [line.split() for line in cli("review", "show")[1].splitlines()]
    assert ["extraction", "2.15", "%", "≤", "5", "%", "PASSED"] in lines
    assert ["rmse", "1.5", "cycles", "≤", "0.05", "cycles"] in [line[:6] for line in lines]
    assert 0.0215 == json.loads(cli("review", "show", "--json")[1])["gates"][0]["observed"]


def test_a_registered_release_is_listed_with_those_who_approved_it(home: Home, cli: Cli) -> None:
    for reviewer in ("alice", "chiara"):
        assert 0 == cli("approve", "--as", reviewer, "--yes")[0]
    request, roles = Request.read(Path("models/release")), Roles.load(Path("policy/roles.yaml"))
    signatures = approval.read_all(Path("approvals"), request, home.anchor(), log_of(home.path)).signatures
    repository.publish(
        home, request, signatures, registrar=home.signer("registrar"), roles=roles, now=datetime.now(UTC)
    )
    listed = json.loads(cli("review", "list", "--json")[1])["releases"]
    assert [("registered", ["alice", "chiara"], [])] == [
        (item["state"], item["approved_by"], item["can_still_sign"]) for item in listed
    ]
    lines = [line.split() for line in cli("review", "list")[1].splitlines()]
    assert ["pump-rul", "1", "registered", "alice,", "chiara"] in lines
    assert "approved by alice, chiara" in cli("trust", "show")[1]


def test_an_unknown_reviewer_is_named_before_anything_is_asked(home: Home, cli: Cli) -> None:
    size = log_of(home.path).head().size
    for words in (("approve", "--as", "alcie"), ("reject", "--as", "alcie", "--comment", "no")):
        code, printed, errors = cli(*words)
        assert (1, "") == (code, printed)
        assert "reviewer: expected one of alice, bruno, chiara, got 'alcie'" in errors
        assert "did you mean --as alice?" in errors
        assert "twinseal trust show" in errors
        assert "as alcie?" not in errors
    assert (size, False) == (log_of(home.path).head().size, Path("approvals").exists())
    assert 0 == cli("approve", "--as", "alice", "--yes")[0]


def test_more_signatures_than_needed_are_counted_in_words(home: Home, cli: Cli) -> None:
    for reviewer in ("alice", "bruno", "chiara"):
        assert 0 == cli("approve", "--as", reviewer, "--yes")[0]
    assert "approved by alice, bruno, chiara: 3 signed, 2 are needed" in cli("review", "show")[1]
    assert "approved: twinseal register" in cli("review", "list")[1]


def test_the_same_decision_twice_is_neither_signed_nor_logged_again(home: Home, cli: Cli) -> None:
    path = Path("approvals/alice.json")
    assert 0 == cli("approve", "--as", "alice", "--comment", "seen", "--yes")[0]
    first, size = path.read_bytes(), log_of(home.path).head().size
    code, printed, _ = cli("approve", "--as", "alice", "--comment", "seen", "--yes")
    assert (0, True) == (code, "already approved by alice, with the same comment; nothing changed" in printed)
    assert (first, size) == (path.read_bytes(), log_of(home.path).head().size)
    assert 0 == cli("approve", "--as", "alice", "--comment", "other words", "--yes")[0]
    assert size + 1 == log_of(home.path).head().size
    for _ in range(2):
        code, printed, _ = cli("reject", "--as", "alice", "--comment", "no", "--yes")
        assert 0 == code
    assert "already rejected by alice" in printed
    assert size + 2 == log_of(home.path).head().size
    assert 0 == cli("approve", "--as", "alice", "--comment", "seen", "--yes")[0]  # a rejection came between
    assert size + 3 == log_of(home.path).head().size


@pytest.mark.parametrize("change", ["forged", "of another release"])
def test_a_decision_that_does_not_count_is_made_again(home: Home, cli: Cli, change: str) -> None:
    assert 0 == cli("approve", "--as", "alice", "--yes")[0]
    path = Path("approvals/alice.json")
    value = json.loads(path.read_text())
    if change == "forged":
        value["signature"]["sig"] = value["signature"]["sig"][:-2] + "00"
        path.write_text(json.dumps(value))
    else:
        waiting = Request.read(Path("models/release"))
        role = repository.stage(
            home, waiting.release, expires=datetime.now(UTC).replace(microsecond=0) + timedelta(days=9)
        )
        Request(waiting.release, role).write(Path("models/release"))
    code, printed, _ = cli("approve", "--as", "alice", "--yes")
    assert (0, True) == (code, "approved by alice: approvals/alice.json" in printed)
    assert ["alice"] == json.loads(cli("review", "show", "--json")[1])["approved_by"]


def test_a_candidate_that_failed_says_which_gate(home: Home, cli: Cli) -> None:
    shutil.copytree("models/bundle/evidence", "reports/evidence")
    shutil.rmtree("models/bundle")
    failed = [{"name": "accuracy", "result": "FAILED"}, {"name": "rmse", "result": "PASSED"}]
    edit = scenes.with_predicate(twinseal_gates=failed, verificationResult="FAILED")
    place = Path("judged")
    scenes.make_bundle(place, home, edits={"assess": edit})
    shutil.copy(place / "evidence/assess.dsse.json", "reports/evidence")
    for words in (("review", "show"), ("approve", "--as", "alice", "--yes"), ("register",)):
        code, _, printed = cli(*words)
        assert 1 == code
        assert "refused (GateRefused)" in printed
        assert "failed gates: accuracy)" in printed
        assert "dvc repro" in printed


def test_a_refusal_is_json_too(home: Home, cli: Cli) -> None:
    shutil.rmtree("models/release")
    code, printed, errors = cli("review", "show", "--json")
    refusal = json.loads(printed)
    assert (1, "") == (code, errors)
    assert ("refused", "Signature", "models/release") == (refusal["result"], refusal["kind"], refusal["where"])
    assert "a release that waits for approval" == refusal["expected"]
    assert refusal["got"].startswith("none")
    assert "dvc repro" in refusal["remedy"]


@pytest.mark.parametrize(
    ("error", "where", "expected", "got"),
    [
        (DigestMismatchError("a.txt: expected sha256 ab, got cd"), "a.txt", "sha256 ab", "cd"),
        (TwinsealError("expected one, got two"), None, "one", "two"),
        (TwinsealError("nothing was signed"), None, None, None),
        (DataError("t: expected rows,\nof a unit, got none", findings=("a",)), "t", "rows,\nof a unit", "none"),
        (OSError(2, "No such file or directory", "x"), None, None, None),
    ],
)
def test_a_refusal_names_its_parts(
    error: TwinsealError | OSError, where: str | None, expected: str | None, got: str | None
) -> None:
    refusal = refusal_of(error)
    assert (where, expected, got) == (refusal["where"], refusal["expected"], refusal["got"])
    assert refusal["message"]
    assert list(getattr(error, "findings", ())) == refusal["findings"]


@pytest.mark.parametrize(
    ("error", "command"),
    [(PermissionError(13, "Permission denied", "my keys/a"), "ls -la 'my keys'"), (OSError(28, "x", "a"), "df -h .")],
)
def test_what_the_system_refuses_names_the_command_that_shows_why(
    error: OSError, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail() -> None:
        raise error

    assert console.REFUSED == console.exit_code(fail)
    assert command in capsys.readouterr().err
    assert str(refusal_of(error)["remedy"]).endswith(command)


# Verify


def test_verify_lists_the_steps_of_the_docs_as_they_pass(home: Home, cli: Cli) -> None:
    code, printed, _ = cli("verify", "models/bundle")
    lines = [line.split(maxsplit=1) for line in printed.splitlines()]
    assert 0 == code
    assert ["0", "4", "5", "5", "5", "5", "verified"] == [line[0] for line in lines[:7]]
    assert "trust anchor: root 1, sha256 " in lines[0][1]
    assert "the builder signed exactly these 3 model files" in lines[1][1]
    assert "8 records (ingest, validate, prepare, train, evade, poison, assess, policy)" in lines[2][1]
    assert "steps 1, 2, 3, 6, 7" in lines[7][0] + lines[7][1]
    steps = {line.split(" | ")[0].strip("| ") for line in (ROOT / "docs/trust.md").read_text().splitlines()}
    assert set("01234567") <= steps, "the numbers are those of docs/trust.md"


def test_verify_stops_at_the_step_that_does_not_hold(home: Home, cli: Cli) -> None:
    Path("models/bundle/model/config.json").write_bytes(b"{ }")
    code, printed, errors = cli("verify", "models/bundle")
    assert (1, True) == (code, "refused (DigestMismatch)" in errors)
    assert ["0"] == [line.split()[0] for line in printed.splitlines()]
    Path("models/bundle/model/config.json").write_bytes(b"{}")
    shutil.copy("models/bundle/evidence/evade.dsse.json", "models/bundle/evidence/poison.dsse.json")
    code, printed, errors = cli("verify", "models/bundle")
    assert (1, ["0", "4", "5", "5"]) == (code, [line.split()[0] for line in printed.splitlines()])
    assert "poison" in errors


def test_verify_as_json(home: Home, cli: Cli) -> None:
    code, printed, _ = cli("verify", "models/bundle", "--json")
    verified = json.loads(printed)
    assert (0, "verified", "pump-rul") == (code, verified["result"], verified["model"])
    assert [0, 4, 5, 5, 5, 5] == [item["step"] for item in verified["steps"]]
    assert [1, 2, 3, 6, 7] == verified["not_checked"]
    Path("models/bundle/model/config.json").write_bytes(b"{ }")
    code, printed, _ = cli("verify", "models/bundle", "--json")
    assert (1, "DigestMismatch") == (code, json.loads(printed)["kind"])
    code, printed, _ = cli("verify", "nowhere", "--json")
    assert (2, "nowhere") == (code, json.loads(printed)["where"])


# The twin


@pytest.fixture
def deployment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Deployment:
    """A deployment of today that has published release 1."""
    now = datetime.now(UTC).replace(microsecond=0)
    monkeypatch.setattr(deployments, "NOW", now)
    made = Deployment(tmp_path / "deployment")
    made.publish(1, now=now)
    made.anchor.write(tmp_path / "anchor")
    return made


PULL = ("pull", "--model", MODEL, "--anchor", "anchor", "--from")


def test_pull_as_json(deployment: Deployment, cli: Cli) -> None:
    mirror = str(deployment.mirror)
    code, printed, _ = cli(*PULL, mirror, "--json")
    pulled = json.loads(printed)
    assert (0, "admitted", MODEL, 1) == (code, pulled["result"], pulled["model"], pulled["release"])
    assert "current" == json.loads(cli(*PULL, mirror, "--json")[1])["result"]
    assert "already up to date  pump-rul release 1: all 13 files verified" in cli(*PULL, mirror)[1]
    code, printed, _ = cli(*PULL, "nowhere", "--json")
    assert (2, "Config") == (code, json.loads(printed)["kind"])
    timestamp = deployment.mirror / "metadata/timestamp.json"
    timestamp.write_bytes(b"{}")
    code, printed, errors = cli(*PULL, mirror, "--json")
    assert (1, "refused", "") == (code, json.loads(printed)["result"], errors)


def test_without_a_model_the_refusal_has_the_command_that_fetches_one(deployment: Deployment, cli: Cli) -> None:
    """The command is run as it is printed, once what is in capitals is filled in."""
    pd.DataFrame(rows("pump-1", 1, 2, 3)).to_csv("t.csv", index=False)
    for words in (("run", "t.csv"), ("commission", "t.csv", "--as", "emil", "--yes")):
        code, _, errors = cli(*words, "--model", MODEL, "--anchor", "anchor", "--state", "my twin")
        assert (1, True) == (code, "my twin: expected an installed model, got none" in errors)
        command = errors[errors.index("twinseal pull") :].splitlines()[0]
        assert f"twinseal pull --from URL --model {MODEL} --anchor DIR --state 'my twin'" == command
    filled = command.replace("URL", str(deployment.mirror)).replace("DIR", "anchor")
    assert 0 == cli(*shlex.split(filled)[1:])[0]
    assert 0 == cli("run", "t.csv", "--model", MODEL, "--anchor", "anchor", "--state", "my twin")[0]
    code, _, errors = cli("run", "t.csv", "--model", OTHER, "--anchor", "anchor", "--state", "my twin")
    assert (1, True) == (code, f"expected {OTHER}, got {MODEL}" in errors)
    assert f"--model {MODEL}" in errors


def test_a_clock_that_was_ahead_is_corrected_by_a_person(
    deployment: Deployment, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    mirror, day = str(deployment.mirror), timedelta(days=1)
    assert 0 == cli(*PULL, mirror)[0]
    pull(DirectorySource(deployment.mirror), deployment.anchor, MODEL, Path("twin"), datetime.now(UTC) + 10 * day)
    code, printed, errors = cli(*PULL, mirror)
    assert (1, True) == (code, "run the same command with --clock-is-right" in " ".join(errors.split()))
    for answer in ("", "n\n"):
        monkeypatch.setattr("sys.stdin", io.StringIO(answer))
        code, _, errors = cli(*PULL, mirror, "--clock-is-right")
        assert (2, True) == (code, "nothing was changed" in " ".join(errors.split()))
        assert "set this machine's, then run the same command" in " ".join(errors.split())
    assert 1 == cli(*PULL, mirror)[0]
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    code, printed, errors = cli(*PULL, mirror, "--clock-is-right", "--json")
    assert (0, "current", True) == (code, json.loads(printed)["result"], "is no longer remembered" in errors)
    assert 0 == cli(*PULL, mirror, "--clock-is-right")[0], "there is nothing to confirm"
    assert 0 == cli(*PULL, mirror)[0]


def test_a_long_time_without_a_pull_is_said_since_the_clock_may_be_ahead(deployment: Deployment, cli: Cli) -> None:
    past = deployments.NOW
    pull(DirectorySource(deployment.mirror), deployment.anchor, MODEL, Path("twin"), past)
    state = State(Path("twin"))
    seen = state.last_seen(MODEL)
    assert seen is not None
    state.remember(replace(seen, time=past - timedelta(days=10)))
    shutil.rmtree("twin/log")
    code, printed, errors = cli(*PULL, str(deployment.mirror), "--json")
    assert (0, "current") == (code, json.loads(printed)["result"])
    assert "by this machine's clock, the last pull was 10 days ago" in " ".join(errors.split())
    assert "" == cli(*PULL, str(deployment.mirror), "--json")[2]


def rows(unit: str, *cycles: int, **more: float) -> list[dict[str, Any]]:
    return [{"unit": unit, "cycle": cycle} | dict.fromkeys(CHANNELS, 5.0) | more for cycle in cycles]


@pytest.fixture
def twin(deployment: Deployment, cli: Cli) -> Cli:
    """Runs `twinseal run` on rows, with the model installed."""
    assert 0 == cli(*PULL, str(deployment.mirror))[0]

    def run(telemetry: list[dict[str, Any]], *words: str) -> tuple[int, str, str]:
        pd.DataFrame(telemetry).to_csv("t.csv", index=False)
        return cli("run", "t.csv", "--model", MODEL, "--anchor", "anchor", *words)

    return run


def test_a_run_that_answers_all_ends_with_0_and_says_that_ok_is_the_telemetry(twin: Cli) -> None:
    code, printed, errors = twin(rows("pump-1", 1, 2, 3))
    assert 0 == code
    heading = next(line for line in printed.splitlines() if line.startswith("unit"))
    assert "telemetry" in heading
    assert "90 % interval" in heading
    assert "it does not say that the machine is healthy" in printed
    assert "no estimate" not in errors


@pytest.mark.parametrize("words", [(), ("--json",), ("--last",), ("--limit", "1")])
def test_a_run_with_refused_units_ends_with_3_and_names_them(twin: Cli, words: tuple[str, ...]) -> None:
    telemetry = rows("pump-1", 1, 2, 3) + rows("pump-2", 1, 2) + rows("pump-2", 0) + rows("pump-[3]", 0)
    code, printed, errors = twin(telemetry, *words)
    assert UNANSWERED == code
    assert "no estimate for 2 rows of pump-2, pump-[3]: the telemetry was refused" in errors
    assert "pump-1" not in errors
    if words == ("--json",):
        found = [json.loads(line) for line in printed.splitlines()]
        assert [True, False] == [found[at]["rul_cycles"] is not None for at in (2, 6)]
        assert [("pump-[3]", None, None, "refused")] == [
            (item["unit"], item["cycle"], item["low_cycles"], item["readings"]) for item in found[6:]
        ]
        assert {(MODEL, 1, "ends soon")} == {(item["model"], item["release"], item["trust"]) for item in found}
        assert all(datetime.fromisoformat(item["time"]) <= datetime.now(UTC) for item in found)


def test_a_run_of_which_nothing_is_answered_ends_with_4_and_one_without_telemetry_with_5(twin: Cli, cli: Cli) -> None:
    code, printed, errors = twin(rows("pump-1", 0), "--json")
    assert (NONE_ANSWERED, None) == (code, json.loads(printed)["rul_cycles"])
    Path("none.jsonl").write_text("")
    code, printed, errors = cli("run", "none.jsonl", "--model", MODEL, "--anchor", "anchor", "--json")
    assert (NO_TELEMETRY, "") == (code, printed)
    assert "no telemetry none.jsonl: expected rows, got none" in " ".join(errors.split())


def test_answers_as_csv_have_the_fields_of_the_json(twin: Cli) -> None:
    telemetry = rows("pump-1", 1, 2) + rows("7", 0)
    _, lines, _ = twin(telemetry, "--json")
    code, printed, _ = twin(telemetry, "--csv")
    table = pd.read_csv(io.StringIO(printed), dtype=str, keep_default_na=False)
    found = [json.loads(line) for line in lines.splitlines()]
    assert (UNANSWERED, list(found[0])) == (code, list(table.columns))
    assert ["pump-1", "pump-1", "7"] == table["unit"].tolist()
    assert ["", "", ""] == table.loc[2, ["cycle", "rul_cycles", "more"]].tolist()
    assert [str(item["rul_cycles"]) for item in found[:2]] == table["rul_cycles"].tolist()[:2]
    assert "expected one of them, got both" in twin(telemetry, "--csv", "--json")[2]


@pytest.mark.parametrize(
    ("days", "trust", "said"),
    [
        (-60, "valid", ""),
        (0, "ends soon", "trust: pump-rul: until"),
        (25, "ended", "dvc repro --force --single-item submit; then here: twinseal pull --from"),
        (400, "ended", "custodians: twinseal trust renew; then here: twinseal pull --from"),
    ],
)
def test_a_run_says_that_trust_ends_and_who_must_act(
    twin: Cli, monkeypatch: pytest.MonkeyPatch, days: int, trust: str, said: str
) -> None:
    class Later(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return datetime.now(tz) + timedelta(days=days)

    monkeypatch.setattr(answers, "datetime", Later)
    code, printed, errors = twin(rows("pump-1", 1, 2), "--json")
    assert (0, {trust}) == (code, {json.loads(line)["trust"] for line in printed.splitlines()})
    text = " ".join(errors.split())
    assert said in text
    assert said or not text
    assert ("expired" in text) == (trust == "ended")


def test_a_run_whose_metadata_is_gone_says_that_its_end_is_not_known(twin: Cli) -> None:
    shutil.rmtree("twin/tuf")
    code, printed, errors = twin(rows("pump-1", 1), "--json")
    assert (0, "unknown") == (code, json.loads(printed)["trust"])
    assert "until when the trust in this model lasts is not known" in " ".join(errors.split())


@pytest.mark.parametrize("words", [(), ("--json",), ("--last",)])
def test_a_line_that_is_no_row_costs_no_unit_its_answer(twin: Cli, cli: Cli, words: tuple[str, ...]) -> None:
    good = [json.dumps(row) for row in [*rows("pump-1", 1, 2, 3), *rows("pump-2", 1, 2, 2, 1)]]
    feed = [*good[:2], good[0].replace(": 1,", ": NaN,", 1), *good[2:], "12:00 connection lost", good[0][:30]]
    Path("feed.jsonl").write_text("\n".join(feed))
    code, printed, errors = cli("run", "feed.jsonl", "--model", MODEL, "--anchor", "anchor", *words)
    said = " ".join(errors.split())
    assert UNANSWERED == code
    assert "set aside feed.jsonl, line 3: expected JSON" in said
    assert "3 lines were no row of telemetry, and set aside" in said
    assert "no estimate" not in said
    assert "pump-2" in printed
    assert "refused" not in printed
    if words == ("--json",):
        assert 7 == len(printed.splitlines())


def test_a_table_with_other_columns_is_refused_with_those_that_the_model_reads(twin: Cli, cli: Cli) -> None:
    pd.DataFrame(rows("pump-1", 1, 2, 3)).rename(columns={"unit": "Unit"}).to_csv("bad.csv", index=False)
    code, _, errors = cli("run", "bad.csv", "--model", MODEL, "--anchor", "anchor")
    assert 1 == code
    assert f"expected the columns unit and cycle beside the channels ({', '.join(CHANNELS)}), got Unit, cycle" in errors
    assert "Rename in its header 'Unit' to 'unit'." in errors


def test_a_unit_that_is_not_in_the_table_is_not_commissioned(twin: Cli, cli: Cli) -> None:
    pd.DataFrame(rows("pump-1", *range(1, 21))).to_csv("new.csv", index=False)
    words = ("commission", "new.csv", "--model", MODEL, "--anchor", "anchor", "--yes")
    code, _, errors = cli(*words, "--as", "emil", "--unit", "pump-2")
    assert (1, True) == (code, "expected units that it has (pump-1), got pump-2" in errors)
    assert "Did you mean --unit pump-1?" in errors
    code, _, errors = cli(*words, "--as", "alice")
    assert (1, True) == (code, "commissioner: expected one of emil, flora, got 'alice'" in errors)
    assert "Sign as one of them" in errors


def test_tables_do_not_cut_long_names(twin: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    name = "pump-with-a-very-long-name-" + "0123456789" * 3
    code, printed, _ = twin(rows(name, 1, 2, 3), "--last")
    first_column = "".join(line.split(" ")[0] for line in printed.splitlines()[2:])
    assert (0, True) == (code, name in first_column.replace(" ", "")), printed
    assert "…" not in printed


# A person at a terminal, or nobody


@pytest.mark.parametrize("command", ["approve --as alice", "keys revoke alice", "trust renew"])
def test_a_question_that_nobody_answers_is_a_refusal_that_says_yes(
    home: Home, cli: Cli, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO())
    code, _, errors = cli(*command.split())
    assert 2 == code
    assert "expected an answer, got the end of the input: nothing was signed" in errors
    assert "--yes" in errors
    assert "Aborted" not in errors


@pytest.mark.parametrize("command", ["approve --as alice", "keys new me"])
def test_ctrl_c_at_a_question_is_an_interruption(home: Home, command: str) -> None:
    code, seen = at_a_terminal(*command.split(), answers=[signal.SIGINT])
    assert (130, True) == (code, "interrupted: nothing was half-written" in seen), seen
    assert "Aborted" not in seen
    assert not Path("approvals").exists()
    assert not (home.keys / "me.pem").exists()


def test_ctrl_c_while_a_command_works_is_an_interruption(home: Home) -> None:
    """It waits for a registry that takes the connection and does not answer."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        words = ["pull", "--from", address, "--model", "pump-rul", "--anchor", str(home.anchor_dir), "--state", "twin"]
        process = subprocess.Popen([PROGRAM, *words], stderr=subprocess.PIPE, text=True)
        silent.settimeout(60)
        with silent.accept()[0]:
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=20)
    assert (130, True) == (process.returncode, "interrupted: nothing was half-written" in errors), errors


def at_a_terminal(*words: str, answers: list[bytes | signal.Signals]) -> tuple[int, str]:
    """The exit code and what a person sees who gives these answers, each when there is a question."""
    ours, theirs = pty.openpty()
    plain = os.environ | {"NO_COLOR": "1", "TERM": "dumb"}
    process = subprocess.Popen([PROGRAM, *words], stdin=theirs, stdout=theirs, stderr=theirs, env=plain)
    os.close(theirs)
    seen, waiting, deadline = b"", list(answers), time.monotonic() + 60
    try:
        while time.monotonic() < deadline:
            if select.select([ours], [], [], 0.1)[0]:
                try:
                    seen += os.read(ours, 4096)
                except OSError:  # the other end is closed: it has ended
                    break
            elif waiting and seen.rstrip(b" ").endswith(b":"):
                answer = waiting.pop(0)
                process.send_signal(answer) if isinstance(answer, signal.Signals) else os.write(ours, answer)
        return process.wait(10), seen.decode()
    finally:
        process.kill()
        os.close(ours)


@pytest.fixture
def locked(home: Home, monkeypatch: pytest.MonkeyPatch) -> Home:
    """A home whose registrar has an encrypted key."""
    monkeypatch.setenv("TWINSEAL_PASSPHRASE", "open sesame")
    fresh = home.keys / "fresh.pem"
    generate_key_pair(fresh, passphrase=b"open sesame")
    roles = Roles.load(Path("policy/roles.yaml"))
    public = read_public_key(fresh.with_suffix(".pub"))
    done = ceremony.rotate(home, roles, "registrar", datetime.now(UTC), public=public)
    assert done.anchor is None, "the new key of the registrar must sign the timestamp"
    fresh.replace(home.keys / "next/registrar.pem")
    assert ceremony.finish(home, roles, datetime.now(UTC)).anchor is not None
    monkeypatch.delenv("TWINSEAL_PASSPHRASE")
    return home


def test_a_renewal_asks_for_the_registrars_passphrase(
    locked: Home, store: Store, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store.tracking_uri)
    monkeypatch.setenv("TWINSEAL_ARTIFACT_ROOT", str(store.artifacts))  # other tests have left models there
    code, seen = at_a_terminal("register", "--renew", answers=[b"open sesame\n"])
    assert (0, True) == (code, "renewed" in seen), seen
    assert "passphrase or PIN of registrar" in seen
    assert "sesame" not in seen
    size = log_of(locked.path).head().size
    code, seen = at_a_terminal("register", "--renew", answers=[b"wrong\n"])
    assert (1, True) == (code, "expected the right passphrase" in seen), seen
    assert size == log_of(locked.path).head().size
    monkeypatch.setattr("sys.stdin", io.StringIO())  # a timer has no terminal
    code, _, errors = cli("register", "--renew")
    assert 1 == code
    for way in ("at a terminal", "--passphrase-fd N", "$TWINSEAL_PASSPHRASE_FD=N", "$TWINSEAL_REGISTRAR_PASSPHRASE"):
        assert way in errors


def test_a_registration_asks_too_and_logs_nothing_when_the_passphrase_is_wrong(
    locked: Home, store: Store, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store.tracking_uri)
    monkeypatch.setenv("TWINSEAL_ARTIFACT_ROOT", str(store.artifacts))  # other tests have left models there
    for reviewer in ("alice", "bruno"):
        assert 0 == cli("approve", "--as", reviewer, "--yes")[0]
    code, seen = at_a_terminal("register", answers=[b"wrong\n"])
    assert 1 == code
    assert "passphrase or PIN of registrar" in seen
    events = [entry.event for _, entry in log_of(locked.path).read()]
    assert "registered" not in events
    assert "refused" == events[-1]
