"""Ceremonies by the command line: who may do what is shown, changed, renewed; every refusal says who is missing."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from twinseal.registry.store import Store
from twinseal.trust.ceremonies import custody
from twinseal.trust.keys.key import fingerprint, generate_key_pair, read_public_key
from twinseal.trust.root.home import Home
from twinseal.trust.root.roles import Roles

ROOT = Path(__file__).parents[1]
Cli = Callable[..., tuple[int, str]]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty project with the policy, and no home yet."""
    shutil.copytree(ROOT / "policy", tmp_path / "policy")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TWINSEAL_HOME", ".twinseal")
    monkeypatch.setenv("COLUMNS", "200")
    return tmp_path


@pytest.fixture
def cli(place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    """Runs a command as `twinseal …` does; its exit code and all that it printed."""
    from twinseal.cli import main

    def run(*words: str) -> tuple[int, str]:
        monkeypatch.setattr("sys.argv", ["twinseal", *words])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        return int(ended.value.code or 0), said.out + said.err

    return run


@pytest.fixture
def demo(place: Path, cli: Cli) -> Home:
    assert cli("init", "--demo")[0] == 0
    return Home(Path(".twinseal"))


def test_trust_show_is_a_tree_of_who_may_do_what_until_when(demo: Home, cli: Cli) -> None:
    code, said = cli("trust", "show")
    assert 0 == code
    for line in (
        f"root 1  sha256 {demo.anchor().fingerprint}",
        "root  2 of 3  until",
        "reviewer  2 of 3",
        "builder  1 of 1  until",
        "registrar  1 of 1  until",
        "pump-rul  nothing registered",
        "demo keys: throw-away",
    ):
        assert line in said, line
    key = demo.anchor().roles["reviewer"].key_of("alice")
    assert f"alice  key {fingerprint(key)[:16]}" in said
    assert "days left" in said
    assert "revoked" not in said


def test_what_is_near_its_end_is_red_and_says_who_must_do_what(
    demo: Home, cli: Cli, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    roles = (place / "policy/roles.yaml").read_text().replace("expires_days: 365", "expires_days: 20")
    (place / "policy/roles.yaml").write_text(roles)
    assert cli("trust", "renew", "--yes")[0] == 0
    monkeypatch.setenv("FORCE_COLOR", "1")
    code, said = cli("trust", "show")
    assert 0 == code
    assert "19 days left" in said
    assert "custodians: twinseal trust renew" in said


def test_a_reviewer_is_rotated_and_revoked_and_the_policy_must_follow(demo: Home, cli: Cli, place: Path) -> None:
    code, said = cli("keys", "rotate", "alice", "--yes")
    assert (0, True) == (code, "published  root 2" in said)
    assert "twinseal register --renew" in said
    code, said = cli("keys", "revoke", "alice", "--yes")
    assert (0, True) == (code, "now take alice out of policy/roles.yaml too" in said)
    code, said = cli("trust", "renew", "--yes")
    assert (1, True) == (code, "alice: expected a key that counts, got one that was revoked" in said)
    policy = place / "policy/roles.yaml"
    policy.write_text(policy.read_text().replace("[alice, bruno, chiara]", "[bruno, chiara]"))
    assert cli("trust", "renew", "--yes")[0] == 0
    code, said = cli("trust", "show")
    assert (0, True, True) == (code, "root 4" in said, "revoked  keys that never count again" in said)
    code, said = cli("keys", "revoke", "bruno", "--yes")
    assert (1, True) == (code, "Replace the key instead: twinseal keys rotate bruno" in said)
    code, said = cli("keys", "rotate", "mallory", "--yes")
    assert (1, True) == (code, "mallory: expected one of custodian-1" in said)


def test_nothing_is_signed_without_a_yes(demo: Home, cli: Cli) -> None:
    before = demo.anchor()
    for words in (("trust", "renew"), ("keys", "rotate", "alice"), ("keys", "revoke", "alice")):
        assert cli(*words)[0] in (1, 2), words
    assert before == demo.anchor()


def test_custodians_on_machines_of_their_own_sign_one_after_the_other(cli: Cli, place: Path) -> None:
    for holder in Roles.load(place / "policy/roles.yaml").holders:
        generate_key_pair(place / "people" / f"{holder}.pem", passphrase=None)
        (place / ".twinseal/keys").mkdir(parents=True, exist_ok=True)
        shutil.copy(place / "people" / f"{holder}.pub", place / ".twinseal/keys")
    (place / ".twinseal").chmod(0o700)
    own = place / ".twinseal/keys/custodian-1.pem"
    shutil.copy(place / "people/custodian-1.pem", own)
    code, said = cli("init")
    assert 0 == code
    assert "signed  by custodian-1; the proposal waits for" in said
    assert "the new root: 1 of 2 custodians have signed (custodian-1); can still sign: custodian-2" in said
    assert "twinseal trust sign" in said
    own.unlink()
    shutil.copy(place / "people/custodian-3.pem", place / ".twinseal/keys")  # the folder is at custodian-3's now
    code, said = cli("trust", "sign", "--yes")
    assert (0, True) == (code, "signed  by custodian-3; the proposal waits for" in said)
    assert "the timestamp: the registrar must sign (registrar); that key is not on this machine" in said
    assert "custodians have signed" not in said
    assert "reviewer: 2 of alice, bruno, chiara" in said
    alice = read_public_key(place / "people/alice.pub")
    assert f"new holder alice: key {fingerprint(alice)}" in said
    (place / ".twinseal/keys/custodian-3.pem").unlink()
    shutil.copy(place / "people/registrar.pem", place / ".twinseal/keys")  # and now at the registrar's
    code, said = cli("trust", "sign", "--yes")
    assert (0, True) == (code, "published  root 1" in said)
    code, said = cli("trust", "sign", "--yes")
    assert (1, True) == (code, "expected a proposal that waits for custodians, got none" in said)
    code, said = cli("keys", "rotate", "alice", "--public", str(place / "people/alice.pub"), "--yes")
    assert (1, True) == (code, "expected a new key, got the one that the root has already" in said)


def test_trust_sign_shows_all_that_is_signed_and_refuses_what_policy_does_not_say(
    demo: Home, cli: Cli, place: Path
) -> None:
    now, roles = datetime.now(UTC), Roles.load(place / "policy/roles.yaml")
    keys = {h.name: h.key for role in demo.anchor().roles.values() for h in role.holders}
    pins = custody.pins_of(roles, keys, now, demo=True)
    custody.propose(demo, pins, roles, now).write(demo.proposal_dir)
    forever = custody.compose_root(pins, 2, datetime(2099, 1, 1, tzinfo=UTC))
    custody.Proposal(forever, custody.Proposal.read(demo.proposal_dir).targets).write(demo.proposal_dir)
    code, said = cli("trust", "sign", "--yes")
    assert (1, True) == (code, "proposal, root.json: expected an end by" in said)
    assert "got 2099-01-01" in said
    policy = place / "policy/roles.yaml"
    policy.write_text(
        policy.read_text().replace("threshold: 2\n    expires_days: 180", "threshold: 1\n    expires_days: 90")
    )
    roles = Roles.load(policy)
    custody.propose(demo, custody.pins_of(roles, keys, now, demo=True), roles, now).write(demo.proposal_dir)
    code, said = cli("trust", "sign", "--yes")
    assert 0 == code
    assert "reviewer: 1 (was 2) of alice, bruno, chiara" in said
    assert f"root: version 2 (was 1), valid until {roles.expiry('root', now):%Y-%m-%d}" in said
    assert "models: pump-rul, turbofan-rul, turbofan-fd002-rul, turbofan-fd003-rul" in said
    assert "published  root 2" in said


def test_a_new_key_made_here_wants_a_passphrase_outside_a_demo(cli: Cli, place: Path) -> None:
    for holder in Roles.load(place / "policy/roles.yaml").holders:
        generate_key_pair(place / f".twinseal/keys/{holder}.pem", passphrase=None)
    (place / ".twinseal").chmod(0o700)
    assert cli("init")[0] == 0
    code, said = cli("keys", "rotate", "registrar", "--yes")
    assert code != 0
    assert "expected a passphrase for the new key, got none" in said
    assert cli("keys", "rotate", "registrar", "--no-passphrase", "--yes")[0] == 0
    code, said = cli("trust", "show")
    assert (0, True) == (code, "root 2" in said)


def test_the_registrars_timer_says_what_ends_soon(
    demo: Home, cli: Cli, place: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store.tracking_uri)
    monkeypatch.setenv("TWINSEAL_ARTIFACT_ROOT", str(store.artifacts))  # other tests have left models there
    roles = (place / "policy/roles.yaml").read_text().replace("expires_days: 365", "expires_days: 20")
    (place / "policy/roles.yaml").write_text(roles)
    assert cli("trust", "renew", "--yes")[0] == 0
    code, said = cli("register", "--renew")
    assert (0, True) == (code, "renewed  what is published is valid until" in said)
    assert "root: until" in said
    assert "custodians: twinseal trust renew" in said


def test_a_renewal_that_leaves_something_expired_fails(
    demo: Home, cli: Cli, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise a timer would see success while every twin refuses."""
    from twinseal.trust.ceremonies import overview

    monkeypatch.setenv("MLFLOW_TRACKING_URI", store.tracking_uri)
    monkeypatch.setenv("TWINSEAL_ARTIFACT_ROOT", str(store.artifacts))  # other tests have left models there
    real = overview.expiries
    past = datetime(2026, 1, 1, tzinfo=UTC)
    monkeypatch.setattr(overview, "expiries", lambda home: (replace(real(home)[0], expires=past),))
    code, said = cli("register", "--renew")
    assert 1 == code
    assert "root: expected all that twins check to be valid, got some that has expired" in said
