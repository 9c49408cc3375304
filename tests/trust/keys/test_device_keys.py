"""A device's key: made once, opened by its owner, in one form, and of one kind."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from twinseal.errors import KeyAccessError, SignatureError
from twinseal.trust.keys import device_keys, key
from twinseal.trust.keys.device_keys import DeviceKey, open_device_key


def test_a_key_opens_and_signs(tmp_path: Path) -> None:
    public = device_keys.generate(tmp_path / "gate-1.pem", passphrase=None)
    signer = open_device_key(tmp_path / "gate-1.pem")
    assert public == signer.key == DeviceKey.read(tmp_path / "gate-1.pub") == DeviceKey(public.pem)
    assert f"DeviceSigner({public.fingerprint[:16]}…)" == repr(signer)
    public.verify(signer.sign(b"rows"), b"rows")
    with pytest.raises(SignatureError, match="expected its signature over these bytes"):
        public.verify(signer.sign(b"rows"), b"other rows")


def test_its_name_is_what_openssl_prints(tmp_path: Path) -> None:
    public = device_keys.generate(tmp_path / "gate-1.pem", passphrase=None)
    done = subprocess.run(
        ["openssl", "pkey", "-pubin", "-in", tmp_path / "gate-1.pub", "-outform", "DER"],
        capture_output=True,
        check=True,
    )
    assert public.fingerprint == device_keys.sha256(done.stdout)


def test_a_passphrase_locks_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    device_keys.generate(tmp_path / "gate.pem", passphrase=b"correct horse")
    monkeypatch.setenv("TWINSEAL_GATE_PASSPHRASE", "wrong")
    with pytest.raises(KeyAccessError, match="expected the right passphrase"):
        open_device_key(tmp_path / "gate.pem")
    monkeypatch.setenv("TWINSEAL_GATE_PASSPHRASE", "correct horse")
    assert DeviceKey.read(tmp_path / "gate.pub") == open_device_key(tmp_path / "gate.pem").key


def test_no_key_is_overwritten_and_others_may_not_read_it(tmp_path: Path) -> None:
    path = tmp_path / "gate.pem"
    device_keys.generate(path, passphrase=None)
    before = path.read_bytes()
    with pytest.raises(KeyAccessError, match="expected no key there yet"):
        device_keys.generate(path, passphrase=None)
    with pytest.raises(KeyAccessError, match="expected another name"):
        device_keys.generate(tmp_path / "a.pub", passphrase=None)
    assert before == path.read_bytes()
    path.chmod(0o644)
    with pytest.raises(KeyAccessError, match="its owner alone can read"):
        open_device_key(path)


def test_a_persons_key_is_no_devices_and_the_other_way_round(tmp_path: Path) -> None:
    key.generate_key_pair(tmp_path / "emil.pem", passphrase=None)
    device_keys.generate(tmp_path / "gate.pem", passphrase=None)
    with pytest.raises(KeyAccessError, match="expected a key by Ed25519, got curve secp256r1"):
        open_device_key(tmp_path / "emil.pem")
    with pytest.raises(SignatureError, match="expected a public key by Ed25519, got curve secp256r1"):
        DeviceKey.read(tmp_path / "emil.pub")
    with pytest.raises(SignatureError, match="expected an ECDSA key on P-256"):
        key.read_public_key(tmp_path / "gate.pub")
    with pytest.raises(KeyAccessError, match="ECDSA on P-256"):
        key.open_signer(f"file:{tmp_path / 'gate.pem'}")
    with pytest.raises(KeyAccessError, match="expected a device's public key, got none"):
        DeviceKey.read(tmp_path / "none.pub")


@pytest.mark.parametrize("change", [lambda pem: pem + "\n", lambda pem: pem.replace("\n", "\r\n"), lambda pem: "x"])
def test_a_key_has_one_text(change: object, tmp_path: Path) -> None:
    public = device_keys.generate(tmp_path / "gate.pem", passphrase=None)
    with pytest.raises(SignatureError, match="expected"):
        DeviceKey(change(public.pem))  # type: ignore[operator]
