from __future__ import annotations

import os
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from hypothesis import given
from hypothesis import strategies as st

from twinseal.errors import KeyAccessError, SignatureError, TwinsealError
from twinseal.trust.keys.key import (
    fingerprint,
    generate_key_pair,
    needs_passphrase,
    open_signer,
    public_key,
    read_public_key,
    short_fingerprint,
)


@pytest.fixture
def pem(tmp_path: Path) -> Path:
    generate_key_pair(tmp_path / "keys" / "alice.pem", passphrase=None)
    return tmp_path / "keys" / "alice.pem"


@pytest.fixture
def locked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("TWINSEAL_PASSPHRASE", "TWINSEAL_ALICE_PASSPHRASE"):
        monkeypatch.delenv(name, raising=False)
    generate_key_pair(tmp_path / "alice.pem", passphrase=b"right")
    return tmp_path / "alice.pem"


def write(path: Path, key: object) -> str:
    formats = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    path.write_bytes(key.private_bytes(*formats))  # type: ignore[attr-defined]
    path.chmod(0o600)
    return f"file:{path}"


def test_a_new_key_signs_and_its_public_half_lies_beside_it(pem: Path) -> None:
    signer = open_signer(f"file:{pem}")
    signer.public_key.verify_signature(signer.sign(b"bytes"), b"bytes")
    assert read_public_key(pem.with_suffix(".pub")) == signer.public_key
    assert (pem.stat().st_mode & 0o777, pem.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    assert sorted(p.name for p in pem.parent.iterdir()) == ["alice.pem", "alice.pub"]


def test_the_same_bytes_and_key_give_the_same_signature(pem: Path) -> None:
    first, second = open_signer(f"file:{pem}"), open_signer(f"file:{pem}")
    assert first.sign(b"bytes").signature == second.sign(b"bytes").signature
    assert first.sign(b"bytes").signature != first.sign(b"other").signature


def test_a_signer_shows_which_key_and_never_the_key(pem: Path) -> None:
    signer = open_signer(f"file:{pem}")
    assert f"KeySigner({short_fingerprint(signer.public_key)}…)" == repr(signer)


def test_a_key_is_never_overwritten(pem: Path) -> None:
    before = pem.read_bytes()
    with pytest.raises(KeyAccessError, match="expected no key there yet, found one"):
        generate_key_pair(pem, passphrase=None)
    assert before == pem.read_bytes()


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644, 0o601])
def test_a_key_that_others_may_read_is_refused(pem: Path, mode: int) -> None:
    pem.chmod(mode)
    with pytest.raises(KeyAccessError, match=f"its owner alone can read, got mode {mode:04o}"):
        open_signer(f"file:{pem}")


@pytest.mark.parametrize("uri", ["alice.pem", "pkcs12:token=x", "https://x/y", "", "file", "file:", ":x", "pkcs11:"])
def test_an_unknown_scheme_is_refused_and_the_known_ones_named(uri: str) -> None:
    for use in (open_signer, needs_passphrase):
        with pytest.raises(KeyAccessError, match="expected one of file:, pkcs11:, got"):
            use(uri)


def test_an_absent_key_is_refused(tmp_path: Path) -> None:
    with pytest.raises(KeyAccessError, match=r"expected a private key, got none \(No such file") as caught:
        open_signer(f"file:{tmp_path}/alice.pem")
    assert "TWINSEAL_ALICE_KEY" in caught.value.remedy


def test_a_folder_or_a_fifo_in_place_of_a_key_is_refused_and_does_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo.pem", 0o600)
    with pytest.raises(KeyAccessError, match="expected a regular file"):
        open_signer(f"file:{tmp_path}/fifo.pem")
    with pytest.raises(KeyAccessError, match="expected a"):
        open_signer(f"file:{tmp_path}")


@pytest.mark.parametrize("content", [b"", b"junk", b"-----BEGIN ENCRYPTED PRIVATE KEY-----\nAA\n", b"\xff" * 99])
def test_a_file_that_holds_no_key_is_refused(tmp_path: Path, content: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TWINSEAL_PASSPHRASE", "any")
    (tmp_path / "alice.pem").write_bytes(content)
    (tmp_path / "alice.pem").chmod(0o600)
    with pytest.raises(KeyAccessError, match="got something else"):
        open_signer(f"file:{tmp_path}/alice.pem")


def test_a_key_on_another_curve_or_of_another_kind_is_refused(tmp_path: Path) -> None:
    others = {
        "curve secp384r1": ec.generate_private_key(ec.SECP384R1()),
        "curve secp256k1": ec.generate_private_key(ec.SECP256K1()),
        "Ed25519PrivateKey": ed25519.Ed25519PrivateKey.generate(),
        "RSAPrivateKey": rsa.generate_private_key(65537, 2048),
    }
    for kind, key in others.items():
        with pytest.raises(KeyAccessError, match=f"expected ECDSA on P-256, got {kind}"):
            open_signer(write(tmp_path / "alice.pem", key))


def test_an_encrypted_key_opens_with_its_passphrase_alone(locked: Path) -> None:
    assert b"ENCRYPTED" in locked.read_bytes()
    assert open_signer(f"file:{locked}", passphrase=b"right").public_key == read_public_key(locked.with_suffix(".pub"))
    with pytest.raises(KeyAccessError, match="expected the right passphrase"):
        open_signer(f"file:{locked}", passphrase=b"wrong")
    with pytest.raises(KeyAccessError, match="expected a passphrase for the encrypted key, got none"):
        open_signer(f"file:{locked}")


def test_the_passphrase_of_a_holder_is_looked_for_by_their_name(locked: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TWINSEAL_CUSTODIAN_1_PASSPHRASE", "right")
    assert needs_passphrase(f"file:{locked}")
    assert not needs_passphrase(f"file:{locked}", holder="custodian-1")
    open_signer(f"file:{locked}", holder="custodian-1")


def test_the_holders_own_passphrase_comes_before_the_common_one(locked: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert needs_passphrase(f"file:{locked}")
    monkeypatch.setenv("TWINSEAL_PASSPHRASE", "wrong")
    monkeypatch.setenv("TWINSEAL_ALICE_PASSPHRASE", "right")
    open_signer(f"file:{locked}")
    assert not needs_passphrase(f"file:{locked}")
    monkeypatch.delenv("TWINSEAL_ALICE_PASSPHRASE")
    with pytest.raises(KeyAccessError, match="expected the right passphrase"):
        open_signer(f"file:{locked}")


def test_a_plain_key_needs_no_passphrase_and_minds_none(pem: Path) -> None:
    assert not needs_passphrase(f"file:{pem}")
    open_signer(f"file:{pem}", passphrase=b"unasked")


def test_a_second_spelling_of_a_key_is_refused(pem: Path) -> None:
    text = pem.with_suffix(".pub").read_text()
    key = public_key(text, "key")
    for spelling in (text + "\n", " " + text, text.replace("\n", "\r\n"), "comment\n" + text):
        with pytest.raises(SignatureError, match="expected the key in canonical PEM|expected a public key in PEM"):
            public_key(spelling, "key")
    assert fingerprint(key) == fingerprint(public_key(text.encode(), "key"))


def test_a_public_key_on_another_curve_is_refused() -> None:
    other = ec.generate_private_key(ec.SECP384R1()).public_key()
    pem = other.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    with pytest.raises(SignatureError, match="expected an ECDSA key on P-256, got curve secp384r1"):
        public_key(pem, "key")


@given(st.one_of(st.binary(max_size=300), st.text(max_size=300), st.none(), st.integers()))
def test_hostile_bytes_are_never_a_key_and_never_a_traceback(data: object) -> None:
    with pytest.raises(TwinsealError):
        public_key(data, "key")  # type: ignore[arg-type]
