from __future__ import annotations

from pathlib import Path

import pytest

from tests.trust.scenes import Scene
from twinseal.errors import KeyAccessError, RootError
from twinseal.trust.home import Home
from twinseal.trust.keys.key import generate_key_pair


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
    with pytest.raises(KeyAccessError, match="expected the key .* that the anchor has for builder, got"):
        stage.home.role_signer(builder)
