from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.trust.scenes import NOW, Scene
from twinseal.errors import KeyAccessError, RootError
from twinseal.trust.ceremonies import ceremony
from twinseal.trust.keys.key import fingerprint, generate_key_pair
from twinseal.trust.root.anchor import Anchor
from twinseal.trust.root.home import Home


def test_home_is_where_the_environment_says_or_here(
    scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TWINSEAL_HOME", str(scene.home.path))
    assert scene.home == Home.find()
    assert scene.anchor == Home.find().anchor()
    monkeypatch.delenv("TWINSEAL_HOME")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RootError, match=r"\.twinseal: expected a trust anchor, got none") as caught:
        Home.find()
    assert "twinseal init --demo" in caught.value.remedy
    scene.copy(tmp_path / ".twinseal")
    assert Home(Path(".twinseal")) == Home.find()


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
