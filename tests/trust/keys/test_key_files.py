"""Key files under attack: by those who may write beside them, and by what is in them."""

from __future__ import annotations

import base64
import os
import shutil
import subprocess
import time
import traceback
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from twinseal.errors import KeyAccessError
from twinseal.trust.keys import key_files, pkcs8
from twinseal.trust.keys.key import generate_key_pair, open_signer

AES = bytes.fromhex("060960864801650304012a")
PBES2, PBKDF2, SCRYPT = (bytes.fromhex(x) for x in ("06092a864886f70d01050d", "06092a864886f70d01050c", "06092b06010401da47040b"))  # fmt: skip  # noqa: E501


@pytest.fixture
def pem(tmp_path: Path) -> Path:
    generate_key_pair(tmp_path / "keys" / "alice.pem", passphrase=None)
    return tmp_path / "keys" / "alice.pem"


def refused(path: Path, said: str, *, passphrase: bytes | None = b"any") -> KeyAccessError:
    with pytest.raises(KeyAccessError, match=said) as caught:
        open_signer(f"file:{path}", passphrase=passphrase)
    return caught.value


def put(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    path.chmod(0o600)
    return path


@pytest.mark.parametrize("mode", [0o770, 0o702, 0o777])
def test_a_key_in_a_folder_that_others_may_write_to_is_refused(pem: Path, mode: int) -> None:
    open_signer(f"file:{pem}")
    pem.parent.chmod(mode)
    assert "chmod go-w" in refused(pem, f"only its owner can exchange a key, got mode {mode:04o}").remedy
    with pytest.raises(KeyAccessError, match="only its owner can exchange a key"):
        generate_key_pair(pem.with_name("bruno.pem"), passphrase=None)
    assert ["alice.pem", "alice.pub"] == sorted(path.name for path in pem.parent.iterdir())


@pytest.mark.parametrize("mode", [0o1777, 0o755, 0o750, 0o311])
def test_a_folder_where_others_cannot_exchange_a_key_will_do(pem: Path, mode: int) -> None:
    pem.parent.chmod(mode)
    open_signer(f"file:{pem}")


def test_a_link_is_as_safe_as_each_folder_on_its_way(pem: Path, tmp_path: Path) -> None:
    desk, shared = tmp_path / "desk", tmp_path / "shared"
    desk.mkdir(0o700)
    shared.mkdir(0o700)
    (shared / "hop.pem").symlink_to(pem)
    (desk / "alice.pem").symlink_to("../shared/hop.pem")
    assert open_signer(f"file:{desk}/alice.pem").public_key == open_signer(f"file:{pem}").public_key
    for folder in (desk, shared, pem.parent):
        folder.chmod(0o777)
        refused(desk / "alice.pem", f"{folder.name}: expected a folder in which only its owner")
        folder.chmod(0o700)
    (desk / "loop.pem").symlink_to("loop.pem")
    refused(desk / "loop.pem", "Too many levels of symbolic links")


def test_a_file_or_folder_of_another_user_is_refused(pem: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if os.geteuid() == 0:  # root gives it away; anyone else pretends to be another
        os.chown(pem, 4321, -1)
        refused(pem, "alice.pem: expected it to belong to this user or to root, got user 4321")
        os.chown(pem, 0, -1)
        os.chown(pem.parent, 4321, -1)
        refused(pem, "keys: expected it to belong to this user or to root, got user 4321")
    else:
        monkeypatch.setattr(os, "geteuid", lambda: 4321)
        refused(pem, f"expected it to belong to this user or to root, got user {os.getuid()}")


def test_a_key_swapped_between_check_and_use_is_not_the_one_that_signs(
    pem: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = open_signer(f"file:{pem}").public_key
    generate_key_pair(tmp_path / "mallory.pem", passphrase=None)
    check, swaps = key_files._check_file, []

    def check_then_swap(path: Path, found: os.stat_result) -> None:
        check(path, found)
        (tmp_path / "mallory.pem").replace(pem)
        swaps.append(path)

    monkeypatch.setattr(key_files, "_check_file", check_then_swap)
    assert honest == open_signer(f"file:{pem}").public_key
    assert [pem] == swaps


def test_a_folder_swapped_between_check_and_use_is_not_the_one_that_is_read(
    pem: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = open_signer(f"file:{pem}").public_key
    evil = pem.parent.with_name("evil")
    generate_key_pair(evil / "alice.pem", passphrase=None)
    check = key_files._check_folder

    def check_then_swap(path: Path, found: os.stat_result) -> None:
        check(path, found)
        if evil.exists():
            path.rename(path.with_name("old"))
            evil.rename(path)

    monkeypatch.setattr(key_files, "_check_folder", check_then_swap)
    assert honest == open_signer(f"file:{pem}").public_key


def test_a_huge_file_is_refused_and_not_read_to_its_end(tmp_path: Path) -> None:
    path = put(tmp_path / "alice.pem", b"")
    os.truncate(path, 1 << 40)  # sparse: a terabyte of nothing
    refused(path, "expected a private key of at most 65536 bytes, got more")


def test_two_keys_or_anything_beside_a_key_are_refused(pem: Path, tmp_path: Path) -> None:
    one = pem.read_bytes()
    generate_key_pair(tmp_path / "other.pem", passphrase=None)
    for content in (one + (tmp_path / "other.pem").read_bytes(), b"comment\n" + one, one + b"x", one + one):
        refused(put(tmp_path / "alice.pem", content), "expected a PKCS #8 private key in PEM, and nothing beside it")


def test_a_key_in_an_older_format_is_refused_with_the_way_to_convert_it(tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    old = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )
    assert "openssl pkcs8 -topk8" in refused(put(tmp_path / "alice.pem", old), "expected a PKCS #8 private key").remedy


def der(tag: int, *parts: bytes) -> bytes:
    content = b"".join(parts)
    length = len(content).to_bytes(2, "big")
    return bytes([tag, 0x82]) + length + content


def integer(value: int) -> bytes:
    return der(2, value.to_bytes(value.bit_length() // 8 + 1, "big", signed=True))


def sealed(oid: bytes, *costs: int) -> bytes:
    """An encrypted key that asks for these costs; what it holds is noise."""
    kdf = der(0x30, oid, der(0x30, der(4, b"salt" * 4), *map(integer, costs)))
    scheme = der(0x30, PBES2, der(0x30, kdf, der(0x30, AES, der(4, bytes(16)))))
    text = base64.b64encode(der(0x30, scheme, der(4, bytes(144))))
    return b"-----BEGIN ENCRYPTED PRIVATE KEY-----\n" + text + b"\n-----END ENCRYPTED PRIVATE KEY-----\n"


@pytest.mark.parametrize(
    ("oid", "costs", "said"),
    [
        (PBKDF2, (10**9,), "at most 10000000 rounds of PBKDF2"),
        (
            PBKDF2,
            (2**63,),
            "at most 10000000 rounds of PBKDF2",
        ),  # the library panics: no Exception, but a BaseException
        (PBKDF2, (0,), "costs of one or more"),
        (PBKDF2, (-1,), "costs of one or more"),
        (SCRYPT, (2**40, 8, 1), "scrypt within 256 MiB"),
        (SCRYPT, (2**20, 8, 1), "scrypt within 256 MiB"),  # a gigabyte
        (SCRYPT, (2**19, 8, 1), "scrypt within 256 MiB"),
        (SCRYPT, (2**14, 8, 10**5), "scrypt within 256 MiB and N·r·p of"),  # minutes
        (SCRYPT, (2**14, 8), "a PKCS #8 private key in DER"),
        (AES, (1,), "a passphrase derived by PBKDF2 or scrypt"),
    ],
)
def test_a_passphrase_that_costs_out_of_reason_is_refused_at_once(
    tmp_path: Path, oid: bytes, costs: tuple[int, ...], said: str
) -> None:
    begun = time.monotonic()
    refused(put(tmp_path / "alice.pem", sealed(oid, *costs)), f"expected {said}")
    assert time.monotonic() - begun < 1


@pytest.mark.parametrize(("oid", "costs"), [(PBKDF2, (pkcs8.MAX_PBKDF2_ROUNDS,)), (SCRYPT, (1 << 17, 8, 1)), (SCRYPT, (3, 8, 1))])  # fmt: skip  # noqa: E501
def test_the_dearest_passphrase_that_is_taken_ends_in_seconds(
    tmp_path: Path, oid: bytes, costs: tuple[int, ...]
) -> None:
    begun = time.monotonic()
    refused(put(tmp_path / "alice.pem", sealed(oid, *costs)), "expected the right passphrase")
    assert time.monotonic() - begun < 20


def test_keys_are_encrypted_so_that_a_guess_is_dear(tmp_path: Path) -> None:
    generate_key_pair(tmp_path / "alice.pem", passphrase=b"right")
    ours = pkcs8.read_derivation((tmp_path / "alice.pem").read_bytes())
    assert pkcs8.KeyDerivation("scrypt", (16384, 8, 5)) == ours
    assert ours.is_strong
    key, form = ec.generate_private_key(ec.SECP256R1()), serialization.PrivateFormat.PKCS8
    librarys = pkcs8.read_derivation(
        key.private_bytes(serialization.Encoding.PEM, form, serialization.BestAvailableEncryption(b"x"))
    )
    assert ("PBKDF2", False) == (librarys.name, librarys.is_strong)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs OpenSSL's command line")
@pytest.mark.parametrize("how", [["-scrypt"], ["-v2", "aes-256-cbc", "-iter", "600000"], ["-v1", "PBE-SHA1-3DES"]])
def test_openssl_reads_our_keys_and_we_read_its(tmp_path: Path, how: list[str]) -> None:
    generate_key_pair(tmp_path / "ours.pem", passphrase=b"right")
    theirs, keep = tmp_path / "theirs.pem", ["-passin", "pass:right", "-passout", "pass:right"]
    subprocess.run(
        ["openssl", "pkcs8", "-topk8", *how, "-in", tmp_path / "ours.pem", "-out", theirs, *keep], check=True
    )
    theirs.chmod(0o600)
    if "-v1" in how:
        refused(theirs, r"encrypted by PBES2 \(RFC 8018\)", passphrase=b"right")
    else:
        signer = open_signer(f"file:{theirs}", passphrase=b"right")
        assert signer.public_key == open_signer(f"file:{tmp_path}/ours.pem", passphrase=b"right").public_key
        refused(theirs, "expected the right passphrase", passphrase=b"wrong")


@given(st.binary(min_size=1, max_size=40))
def test_a_key_opens_with_the_passphrase_that_it_was_encrypted_with(passphrase: bytes) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    pkcs8_costs, pkcs8.SCRYPT_COSTS = pkcs8.SCRYPT_COSTS, (2, 1, 1)  # what is tested is the form, not its price
    try:
        pem = pkcs8.encrypt_key(key, passphrase)
    finally:
        pkcs8.SCRYPT_COSTS = pkcs8_costs
    opened = serialization.load_pem_private_key(pem, passphrase)
    assert key.private_numbers() == opened.private_numbers()  # type: ignore[union-attr]


@given(st.one_of(st.binary(max_size=200), st.binary(max_size=120).map(lambda data: b"\x30\x78" + data)))
def test_any_bytes_are_a_derivation_or_a_value_error(data: bytes) -> None:
    text = base64.b64encode(data) or b"A"
    pem = b"-----BEGIN ENCRYPTED PRIVATE KEY-----\n" + text + b"\n-----END ENCRYPTED PRIVATE KEY-----\n"
    with pytest.raises(ValueError, match="a |an |costs|at most|Incorrect|Invalid|number of data"):
        pkcs8.read_derivation(pem)


def test_no_passphrase_in_a_refusal(tmp_path: Path) -> None:
    generate_key_pair(tmp_path / "alice.pem", passphrase=b"right")
    error = refused(tmp_path / "alice.pem", "right passphrase", passphrase=b"hunter2-secret")
    assert "hunter2" not in "".join(traceback.format_exception(error)) + error.remedy


def test_a_private_key_cannot_be_called_as_its_public_half(tmp_path: Path) -> None:
    with pytest.raises(KeyAccessError, match="expected another name for a private key"):
        generate_key_pair(tmp_path / "alice.pub", passphrase=None)
    assert [] == list(tmp_path.iterdir())
