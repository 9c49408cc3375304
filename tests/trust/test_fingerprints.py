"""Whoever reads a message about a key finds the same digits in `twinseal trust show`."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.trust.scenes import Scene, attest, statements
from twinseal.errors import KeyAccessError, SignatureError
from twinseal.trust.keys.key import KeySigner, fingerprint, short_fingerprint
from twinseal.trust.signing.attestation import read_attestation
from twinseal.trust.signing.dsse import add_signature, sign_envelope

SOURCE = Path(__file__).parents[2] / "src" / "twinseal"


def test_the_short_fingerprint_is_the_beginning_of_the_fingerprint_and_of_no_identifier(scene: Scene) -> None:
    key = scene.signer("alice").public_key
    assert fingerprint(key).startswith(short_fingerprint(key))
    assert not key.keyid.startswith(short_fingerprint(key)[:12])
    assert f"KeySigner({short_fingerprint(key)}…)" == repr(scene.signer("alice"))


def test_a_key_that_is_not_the_one_asked_for_is_named_by_fingerprints(scene: Scene) -> None:
    alice, bruno = (scene.signer(name).public_key for name in ("alice", "bruno"))
    uri = scene.home.key_uri("alice")
    shown = f"expected the key {short_fingerprint(bruno)}…, got {short_fingerprint(alice)}…"
    with pytest.raises(KeyAccessError, match=shown):
        KeySigner.from_priv_key_uri(uri, bruno)


def test_a_second_signature_by_one_key_names_it_by_its_fingerprint(scene: Scene) -> None:
    signer = scene.signer("alice")
    with pytest.raises(SignatureError, match=f"got a second by {short_fingerprint(signer.public_key)}…"):
        add_signature(sign_envelope(b"{}", signer), signer)


def test_an_identifier_from_outside_is_not_shown_as_if_it_were_a_fingerprint(scene: Scene, tmp_path: Path) -> None:
    statement = statements("pump-rul", b"weights")["train"]
    attest(tmp_path, scene.home, "train", statement)
    path = tmp_path / "evidence/train.dsse.json"
    read_attestation(path, "train", scene.anchor)
    thief = scene.signer("alice")
    path.write_bytes(sign_envelope(statement.to_bytes(), thief))
    with pytest.raises(
        SignatureError, match=r"expected a signature by builder \(builder\), got one by another key"
    ) as refusal:
        read_attestation(path, "train", scene.anchor)
    assert thief.public_key.keyid[:12] not in str(refusal.value)
    assert "twinseal trust show" in refusal.value.remedy


def test_no_module_cuts_an_identifier_for_people() -> None:
    cut = [path.name for path in SOURCE.rglob("*.py") if re.search(r"keyid\[|\{[^}]*signer!r", path.read_text())]
    assert [] == cut
