from __future__ import annotations

import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.trust.scenes import NOW, Scene
from twinseal.errors import BusyError, KeyAccessError, RootError
from twinseal.trust.ceremonies import ceremony
from twinseal.trust.keys.key import fingerprint, generate_key_pair
from twinseal.trust.root import home_lock
from twinseal.trust.root.anchor import Anchor
from twinseal.trust.root.checkout import POINTER, Checkout
from twinseal.trust.root.home import Home


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Checkout:
    """A project of this user's, in Git, for the deployment `pumps`; the user has an empty folder of their own."""
    for kind in ("DATA", "CONFIG"):
        monkeypatch.setenv(f"XDG_{kind}_HOME", str(tmp_path / kind.lower()))
    monkeypatch.delenv("TWINSEAL_HOME", raising=False)
    project = tmp_path / "project"
    (project / "policy").mkdir(parents=True)
    (project / POINTER).write_text("pumps\n")
    monkeypatch.chdir(project)
    git("init", "-q", "-b", "main")
    commit("project")
    return Checkout.here()


def git(*words: str) -> None:
    subprocess.run(["git", "-c", "user.name=t", "-c", "user.email=t@example.invalid", *words], check=True)


def commit(message: str, *forced: str) -> None:
    git("add", "--force", "--all", *forced)
    git("commit", "--quiet", "--message", message)


def test_home_is_where_the_environment_says_or_among_the_users_own_data(
    scene: Scene, checkout: Checkout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TWINSEAL_HOME", str(scene.home.path))
    assert scene.home == Home.find()
    assert scene.anchor == Home.find().anchor()
    monkeypatch.delenv("TWINSEAL_HOME")
    checkout.confirm("pumps")
    with pytest.raises(RootError, match=r"twinseal/pumps: expected a trust anchor, got none") as caught:
        Home.find()
    assert "twinseal init --demo" in caught.value.remedy
    scene.copy(tmp_path / "data/twinseal/pumps")
    assert Home(tmp_path / "data/twinseal/pumps") == Home.find()


def test_two_clones_have_two_demos_and_an_experiment_has_its_projects(
    checkout: Checkout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (checkout.path / POINTER).write_text("demo\n")
    first = Home.default()
    experiment = checkout.path / ".dvc/tmp/exps/tmp123"
    experiment.mkdir(parents=True)
    monkeypatch.chdir(experiment)
    assert first == Home.default()
    shutil.copytree(checkout.path, tmp_path / "clone")
    monkeypatch.chdir(tmp_path / "clone")
    assert first != Home.default()
    assert first.path.parent == Home.default().path.parent == tmp_path / "data/twinseal"


@pytest.mark.attack("P")
def test_a_branch_names_another_deployment(scene: Scene, checkout: Checkout, tmp_path: Path) -> None:
    """A branch changes or removes the name of the deployment, so that other keys and another anchor are used."""
    scene.copy(tmp_path / "data/twinseal/pumps")
    scene.copy(tmp_path / "data/twinseal/engines")
    scene.copy(tmp_path / f"data/twinseal/demo-{checkout.id}")
    with pytest.raises(RootError, match="nobody has confirmed it yet") as caught:
        Home.find()
    assert "twinseal use pumps" in caught.value.remedy
    checkout.confirm("pumps")
    assert Home(tmp_path / "data/twinseal/pumps") == Home.find()
    for text in ("engines\n", "demo\n", "", "../../elsewhere", "pumps/../engines", "x" * 41):
        (checkout.path / POINTER).write_text(text)
        with pytest.raises(RootError, match="what you confirmed here is pumps|expected the name of a deployment"):
            Home.find()
    (checkout.path / POINTER).unlink()
    with pytest.raises(RootError, match="got demo: what you confirmed here is pumps"):
        Home.find()
    (checkout.path / POINTER).symlink_to(tmp_path / "engines")
    with pytest.raises(RootError, match="got no file"):
        Home.find()
    git("checkout", "--quiet", "--", ".")
    assert Home(tmp_path / "data/twinseal/pumps") == Home.find()


@pytest.mark.attack("P")
@pytest.mark.parametrize(
    "planted",
    [
        ".twinseal/anchor/root.json",
        ".twinseal-2/keys/alice.pem",
        ".dvc/config.local",
        ".dvc/tmp/x.dat",
        ".venv/bin/dvc",
    ],
)
@pytest.mark.parametrize("named", [False, True])
def test_a_branch_brings_what_git_ignores(
    scene: Scene, checkout: Checkout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, planted: str, named: bool
) -> None:
    """A branch has keys, an anchor, or DVC's own settings added by force: Git replaces ignored files without a word."""
    scene.copy(tmp_path / "data/twinseal/pumps")
    checkout.confirm("pumps")
    if named:
        monkeypatch.setenv("TWINSEAL_HOME", str(tmp_path / "data/twinseal/pumps"))
    (checkout.path / ".gitignore").write_text("/.twinseal*/\n/.dvc/config.local\n/.dvc/tmp/\n/.venv/\n")
    commit("ignored")
    anchor = Home.find().anchor()
    git("checkout", "--quiet", "-b", "branch")
    (checkout.path / planted).parent.mkdir(parents=True)
    (checkout.path / planted).write_text("the attacker's")
    commit("planted")
    git("checkout", "--quiet", "main")
    (checkout.path / planted).parent.mkdir(parents=True, exist_ok=True)
    (checkout.path / planted).write_text("ours")
    git("checkout", "--quiet", "branch")
    assert "the attacker's" == (checkout.path / planted).read_text(), "Git replaced it"
    with pytest.raises(RootError, match="expected nothing of this name in Git, got 1 tracked files"):
        Home.default()
    git("checkout", "--quiet", "main")
    assert anchor == Home.find().anchor()


@pytest.mark.attack("P")
def test_keys_that_lie_in_the_checkout(
    scene: Scene, checkout: Checkout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The home lies where a branch could replace it: in the checkout, by name or by a link that leads there."""
    inside = checkout.path / "data/home"
    scene.copy(inside)
    (tmp_path / "link").symlink_to(inside)
    for place in (inside, Path("data/home"), tmp_path / "link"):
        monkeypatch.setenv("TWINSEAL_HOME", str(place))
        with pytest.raises(RootError, match="expected a folder outside of"):
            Home.find()
    monkeypatch.delenv("TWINSEAL_HOME")
    scene.copy(checkout.path / ".twinseal")
    checkout.confirm("pumps")
    with pytest.raises(RootError, match="expected keys and anchor outside of the checkout, got them in it") as caught:
        Home.find()
    command = caught.value.remedy.partition("Move them: ")[2].partition("   then")[0]
    subprocess.run(["sh", "-c", command], check=True)
    assert scene.anchor == Home.find().anchor()


@pytest.mark.attack("P")
@pytest.mark.parametrize("kind", ["data", "config"])
def test_a_folder_above_the_home_or_the_confirmations_is_writable_for_others(
    scene: Scene, checkout: Checkout, tmp_path: Path, kind: str
) -> None:
    """A folder above the home is writable for others, who put a home or a confirmation of theirs in its place."""
    scene.copy(tmp_path / "data/twinseal/pumps")
    checkout.confirm("pumps")
    assert scene.anchor == Home.find().anchor()
    for mode in (0o777, 0o757):
        (tmp_path / kind).chmod(mode)
        with pytest.raises(RootError, match=f"may write to, got mode 0{mode:o}"):
            Home.find()
    (tmp_path / kind).chmod(0o1777)  # sticky, as /tmp is
    assert scene.anchor == Home.find().anchor()


HOLD = """
import sys, time
from pathlib import Path
from twinseal.trust.root.home import Home
with Home(Path(sys.argv[1])).locked():
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.mark.attack("P")
def test_two_ceremonies_at_once(stage: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two processes change one home at once: the second waits, then is refused with the name of the first."""
    monkeypatch.setattr(home_lock, "LOCK_SECONDS", 0.3)
    words = [sys.executable, "-c", HOLD, str(stage.home.path)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None and other.stdin is not None
        assert "held\n" == other.stdout.readline()
        for change in (
            lambda: ceremony.renew(stage.home, stage.roles, NOW),
            lambda: ceremony.rotate(stage.home, stage.roles, "alice", NOW),
            lambda: ceremony.revoke(stage.home, stage.roles, "chiara", NOW),
            lambda: ceremony.finish(stage.home, stage.roles, NOW),
            lambda: ceremony.init(stage.home, stage.roles, NOW),
        ):
            with pytest.raises(BusyError, match=f"got process {other.pid}: -c"):
                change()
        assert 1 == stage.home.anchor().version
        assert not stage.home.proposal_dir.exists()
        monkeypatch.setattr(home_lock, "LOCK_SECONDS", 30)
        threading.Timer(0.3, other.kill).start()  # the kernel frees the lock
        assert ceremony.renew(stage.home, stage.roles, NOW).anchor == stage.home.anchor()
    assert 2 == stage.home.anchor().version


@pytest.mark.attack("P")
def test_options_of_a_command_are_not_told_to_others(stage: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who is told to wait is not told the password in the other command's address of a database."""
    monkeypatch.setattr(home_lock, "LOCK_SECONDS", 0.1)
    secret = "postgresql://twinseal:hunter2@db/twinseal"
    words = [sys.executable, "-c", HOLD.replace("sys.argv[1]", "sys.argv[-1]")]
    words += ["backup", "to", f"--database={secret}", "--database", secret, secret, str(stage.home.path)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert "held\n" == other.stdout.readline()
        with pytest.raises(BusyError) as refusal:
            ceremony.renew(stage.home, stage.roles, NOW)
        other.kill()
    assert f"got process {other.pid}: -c backup to" in str(refusal.value)
    assert "hunter2" not in f"{refusal.value}{(stage.home.path / 'lock').read_text()}"


def test_a_key_is_where_the_environment_says_or_in_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = Home(tmp_path)
    assert f"file:{tmp_path}/keys/custodian-1.pem" == home.key_uri("custodian-1")
    monkeypatch.setenv("TWINSEAL_CUSTODIAN_1_KEY", "pkcs11:token=hsm")
    assert home.key_uri("custodian-1") == "pkcs11:token=hsm"
    assert home.has_key("custodian-1")
    assert not home.has_key("custodian-2")


def test_a_role_signs_with_the_key_that_the_anchor_has_pinned(scene: Scene, stage: Scene) -> None:
    builder = scene.anchor.roles["builder"]
    assert builder.holders[0].key == stage.home.role_signer(builder).public_key
    (stage.home.keys / "builder.pem").unlink()
    with pytest.raises(KeyAccessError, match="builder: expected the key of builder, got none on this machine"):
        stage.home.role_signer(builder)
    generate_key_pair(stage.home.keys / "builder.pem", passphrase=None)
    pinned, here = fingerprint(builder.holders[0].key)[:16], fingerprint(stage.signer("builder").public_key)[:16]
    with pytest.raises(KeyAccessError, match=f"expected the key {pinned}… that the anchor has for builder, got {here}"):
        stage.home.role_signer(builder)


def _cut_short(root: Path) -> None:
    root.write_bytes(root.read_bytes()[:1000])


def _a_name_changed(root: Path) -> None:
    assert b"custodian-1" in root.read_bytes()
    root.write_bytes(root.read_bytes().replace(b"custodian-1", b"custodian-9"))


def _gone(root: Path) -> None:
    root.unlink()


def _restore(home: Home) -> str:
    """Do what the remedy says, as it says it; the message."""
    with pytest.raises(RootError) as refusal:
        home.anchor()
    command = refusal.value.remedy.partition("cp ")[2].partition("   ")[0]
    subprocess.run(["cp", *command.split()], check=True)
    return str(refusal.value)


@pytest.mark.parametrize("damage", [_cut_short, _a_name_changed, _gone])
def test_a_damaged_anchor_is_restored_as_the_remedy_says(released: Scene, damage: Callable[[Path], None]) -> None:
    home = released.home
    assert ceremony.rotate(home, released.roles, "alice", NOW).anchor == home.anchor()
    before, root = home.anchor(), home.anchor_dir / "root.json"
    damage(root)
    message = _restore(home)
    assert str(home.anchor_dir) in message
    assert before == home.anchor()
    assert f"cp {home.repository}/metadata/2.root.json {root}" in _remedy_after(home, damage)
    _restore(home)
    following = ceremony.renew(home, released.roles, NOW).anchor  # the home works as before
    assert following is not None
    assert 3 == following.version


def _remedy_after(home: Home, damage: Callable[[Path], None]) -> str:
    damage(home.anchor_dir / "root.json")
    with pytest.raises(RootError) as refusal:
        home.anchor()
    return refusal.value.remedy


def test_a_damaged_copy_is_passed_over_and_without_any_the_custodians_are_named(stage: Scene) -> None:
    home = stage.home
    assert ceremony.renew(home, stage.roles, NOW).anchor is not None
    _cut_short(home.repository / "metadata/2.root.json")
    assert "/metadata/1.root.json " in _remedy_after(home, _cut_short)
    _cut_short(home.repository / "metadata/1.root.json")
    assert "Carry the anchor here again by hand, from a custodian" in _remedy_after(home, _cut_short)


def test_an_anchor_damaged_while_a_publication_was_interrupted_goes_back_to_the_root_before(
    stage: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The new root is in the repository already; with it as the anchor the proposal could never be finished."""

    def killed(_anchor: Anchor, _directory: Path) -> None:
        raise KeyboardInterrupt

    home = stage.home
    with monkeypatch.context() as patch:
        patch.setattr(Anchor, "write", killed)
        with pytest.raises(KeyboardInterrupt):
            ceremony.renew(home, stage.roles, NOW)
    assert (home.repository / "metadata/2.root.json").exists()
    _cut_short(home.anchor_dir / "root.json")
    _restore(home)
    assert 1 == home.anchor().version
    assert ceremony.finish(home, stage.roles, NOW).anchor == home.anchor()
    assert 2 == home.anchor().version
