"""The command line of reviewers and custodians for withdrawals, comments, rejections that block, and passkeys."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.passkeys import ORIGIN
from tests.test_cli_answers import Cli, _elsewhere, bundle_with, cli, home  # noqa: F401 - fixtures
from tests.trust import scenes
from tests.trust.passkey_scenes import new_person
from twinseal.trust.audit import log_of
from twinseal.trust.keys.key import fingerprint, grouped_digits
from twinseal.trust.keys.passkeys import public_file
from twinseal.trust.root.home import Home


def test_a_rejection_is_shown_as_what_blocks_and_ends_by_a_withdrawal(home: Home, cli: Cli) -> None:  # noqa: F811
    for reviewer in ("alice", "bruno"):
        assert 0 == cli("approve", "--as", reviewer, "--yes")[0]
    code, printed, _ = cli("reject", "--as", "chiara", "--comment", "too few failures", "--yes")
    assert (0, True) == (code, "nothing is published until chiara approves it, or: twinseal withdraw" in printed)
    assert "rejected by chiara: too few failures; until chiara withdraws it or approves" in cli("review", "show")[1]
    assert "rejected" in cli("review", "list")[1]
    shown = json.loads(cli("review", "show", "--json")[1])
    assert ("rejected", ["chiara"]) == (shown["state"], shown["rejected_by"])
    code, printed, _ = cli("withdraw", "--as", "chiara", "--comment", "I read the wrong file", "--yes")
    assert (0, True) == (code, "withdrawn by chiara: approvals/chiara.json" in printed)
    assert "approved" == json.loads(cli("review", "show", "--json")[1])["state"]
    code, _, errors = cli("withdraw", "--as", "bruno", "--comment", "so do I", "--yes")
    assert 0 == code, errors
    assert "waits" == json.loads(cli("review", "show", "--json")[1])["state"]
    code, _, errors = cli("withdraw", "--as", "bruno", "--comment", "again", "--yes")
    assert (1, True) == (code, "withdrawal: expected an earlier decision of bruno" in errors)


def test_comments_are_signed_and_shown(home: Home, cli: Cli) -> None:  # noqa: F811
    for words in ("I read the report", "and the card"):
        code, printed, _ = cli("comment", "--as", "chiara", "--comment", words, "--yes")
        assert (0, True) == (code, "commented by chiara: approvals/chiara.comment-" in printed)
    assert "already commented" in cli("comment", "--as", "chiara", "--comment", "and the card", "--yes")[1]
    shown = json.loads(cli("review", "show", "--json")[1])
    assert ["I read the report", "and the card"] == [item["comment"] for item in shown["comments"]]
    assert ("waits", []) == (shown["state"], shown["approved_by"])
    assert "commented" in cli("audit", "show")[1]


def test_who_built_the_candidate_is_told_that_another_must_approve_it(home: Home, cli: Cli) -> None:  # noqa: F811
    gate = {"name": "rmse", "relation": "at_most", "observed": 1.5, "bound": 2.0, "unit": "cycles", "result": "PASSED"}
    bundle_with([gate], home)
    edit = scenes.with_predicate(twinseal_gates=[gate], twinseal_built_by=["alice@plant.example", "root"])
    _judge_again(home, edit)
    code, _, errors = cli("approve", "--as", "alice", "--yes")
    assert (1, True) == (code, "expected a reviewer who did not build the candidate, got alice" in errors)
    assert "Another reviewer must approve it: bruno, chiara" in errors
    assert 0 == cli("approve", "--as", "bruno", "--yes")[0]
    printed = cli("review", "show")[1]
    assert "alice built the candidate, and can not approve it" in printed
    assert ["alice"] == json.loads(cli("review", "show", "--json")[1])["built_by_reviewers"]


def _judge_again(home: Home, edit: scenes.Edit) -> None:  # noqa: F811
    """The bundle with another verdict, and the request for it."""
    from tests.trust.scenes import describe, judge
    from twinseal.digests import sha256_file
    from twinseal.evidence import Subject
    from twinseal.trust.release import repository
    from twinseal.trust.release.reports import report_files
    from twinseal.trust.release.request import Request
    from twinseal.trust.root.roles import Roles

    pages = tuple(Subject(path.as_posix(), sha256_file(path)) for path in report_files(Path()))
    judge(Path("models/bundle"), home, "pump-rul", edit, pages)
    release, roles = describe(Path("models/bundle")), Roles.load(Path("policy/roles.yaml"))
    role = repository.stage(home, release, expires=roles.expiry("reviewer", datetime.now(UTC)))
    Request(release, role).write(Path("models/release"))


def test_a_custodian_enrolls_a_passkey(home: Home, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    alice = new_person("alice")
    Path("alice.pub").write_bytes(public_file(alice.passkey))
    code, printed, errors = cli("reviewer", "enroll", "alice", "alice.pub", "--yes")
    assert 0 == code, errors
    assert f"passkey of {ORIGIN}, rp id plant.example" in printed
    assert grouped_digits(fingerprint(alice.passkey)).splitlines()[0] in printed
    assert "published  root 2" in printed
    assert alice.passkey == home.anchor().roles["reviewer"].key_of("alice")
    assert f"alice  key {fingerprint(alice.passkey)[:16]}  passkey of {ORIGIN}" in cli("trust", "show")[1]
    shown = cli("keys", "show", "alice")[1]
    assert (True, True) == (f"passkey of {ORIGIN}" in shown, "roles: reviewer" in shown)
    assert public_file(alice.passkey).decode() == cli("keys", "show", "alice", "--pem")[1]
    assert "rotated" == log_of(home.path).read()[-1][1].event
    for holder, reason in (("bruno", "expected a new passkey"), ("builder", "expected one of the reviewers")):
        code, _, errors = cli("reviewer", "enroll", holder, "alice.pub", "--yes")
        assert (1, True) == (code, reason in errors)
    code, _, errors = cli("reviewer", "enroll", "bruno", str(home.keys / "chiara.pub"), "--yes")
    assert (1, True) == (code, "expected a passkey, got a plain public key" in errors)
    code, _, errors = cli("approve", "--as", "alice", "--yes")  # with the key file of before
    assert (1, True) == (code, "alice: expected the key" in errors)
