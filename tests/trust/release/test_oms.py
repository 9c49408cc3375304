from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from model_signing import hashing, signing, verifying

from tests.trust.scenes import Scene
from twinseal.digests import sha256
from twinseal.errors import DigestMismatchError, SignatureError, TwinsealError
from twinseal.trust.release.oms import sign_directory, verify_directory
from twinseal.trust.root.pins import RoleKeys

FILES = {"config.json": b"{}", "deep/er/x.bin": b"\0" * 9, "model.safetensors": b"weights"}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    for name, data in FILES.items():
        (tmp_path / "model" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "model" / name).write_bytes(data)
    return tmp_path / "model"


@pytest.fixture
def builder(scene: Scene) -> RoleKeys:
    return scene.anchor.roles["builder"]


@pytest.fixture
def signed(scene: Scene, model: Path) -> bytes:
    return sign_directory(model, scene.signer("builder"))


def test_the_builders_signature_covers_exactly_the_files(scene: Scene, model: Path, signed: bytes) -> None:
    records = verify_directory(model, signed, scene.anchor.roles["builder"])
    assert sorted((name, len(data), sha256(data)) for name, data in FILES.items()) == [
        (record.path, record.length, record.sha256) for record in records
    ]
    assert signed == sign_directory(model, scene.signer("builder"))
    assert records == verify_directory(model, signed, scene.anchor.roles["builder"], records)


def test_model_signing_itself_verifies_what_we_sign(scene: Scene, model: Path, signed: bytes, tmp_path: Path) -> None:
    (tmp_path / "sig").write_bytes(signed)
    strict = hashing.Config().set_ignored_paths(paths=[], ignore_git_paths=False)
    verifier = verifying.Config().use_elliptic_key_verifier(public_key=scene.home.keys / "builder.pub")
    assert verifier.set_hashing_config(strict).verify(model, tmp_path / "sig") is None


def test_what_model_signing_itself_signs_verifies_here(
    scene: Scene, model: Path, builder: RoleKeys, tmp_path: Path
) -> None:
    strict = hashing.Config().set_ignored_paths(paths=[], ignore_git_paths=False)
    signer = signing.Config().use_elliptic_key_signer(private_key=scene.home.keys / "builder.pem")
    signer.set_hashing_config(strict).sign(model, tmp_path / "sig")
    assert len(FILES) == len(verify_directory(model, (tmp_path / "sig").read_bytes(), builder))


def _one_bit(model: Path) -> None:
    (model / "model.safetensors").write_bytes(b"weightr")


def _added(model: Path) -> None:
    (model / "extra.bin").write_bytes(b"x")


def _added_for_git(model: Path) -> None:
    (model / ".git").mkdir()
    (model / ".git" / "hook").write_bytes(b"x")


def _attributes(model: Path) -> None:
    (model / ".gitattributes").write_bytes(b"x")


def _github(model: Path) -> None:
    (model / ".github" / "workflows").mkdir(parents=True)
    (model / ".github" / "workflows" / "x.yml").write_bytes(b"x")


def _removed(model: Path) -> None:
    (model / "config.json").unlink()


def _renamed(model: Path) -> None:
    (model / "config.json").rename(model / "config2.json")


def _swapped(model: Path) -> None:
    first, second = (model / "config.json"), (model / "model.safetensors")
    a, b = first.read_bytes(), second.read_bytes()
    first.write_bytes(b)
    second.write_bytes(a)


def _linked(model: Path) -> None:
    (model / "config.json").rename(model.parent / "elsewhere")
    (model / "config.json").symlink_to(model.parent / "elsewhere")


def _fifo(model: Path) -> None:
    (model / "config.json").unlink()
    os.mkfifo(model / "config.json")


def _emptied(model: Path) -> None:
    for name in FILES:
        (model / name).unlink()


@pytest.mark.attack(4)
@pytest.mark.parametrize(
    "attack",
    [_one_bit, _added, _added_for_git, _attributes, _github, _removed, _renamed, _swapped, _linked, _fifo, _emptied],
)
def test_a_tampered_model_is_refused(
    model: Path, signed: bytes, builder: RoleKeys, attack: Callable[[Path], None]
) -> None:
    """Files of a signed model are changed, added (also in `.git/`), removed, renamed, swapped or symlinked."""
    attack(model)
    with pytest.raises(DigestMismatchError, match="expected"):
        verify_directory(model, signed, builder)


def test_an_empty_or_a_linked_model_is_not_signed(scene: Scene, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DigestMismatchError, match="expected a model to sign, got no files"):
        sign_directory(tmp_path / "empty", scene.signer("builder"))
    (tmp_path / "empty" / "x").symlink_to("/dev/null")
    with pytest.raises(DigestMismatchError, match="expected a regular file, got a link"):
        sign_directory(tmp_path / "empty", scene.signer("builder"))


@pytest.mark.parametrize("thief", ["assessor", "alice"])
def test_another_key_is_refused(scene: Scene, model: Path, builder: RoleKeys, thief: str) -> None:
    with pytest.raises(SignatureError, match="expected the signature of builder, got another"):
        verify_directory(model, sign_directory(model, scene.signer(thief)), builder)


def test_another_key_under_the_builders_hint_is_refused(
    scene: Scene, model: Path, signed: bytes, builder: RoleKeys
) -> None:
    stolen = json.loads(sign_directory(model, scene.signer("assessor")))
    stolen["verificationMaterial"] = json.loads(signed)["verificationMaterial"]
    with pytest.raises(SignatureError, match="expected the signature of builder, got another .*InvalidSignature"):
        verify_directory(model, json.dumps(stolen).encode(), builder)


def _edit_statement(bundle: dict[str, Any], edit: Callable[[dict[str, Any]], None]) -> None:
    statement = json.loads(base64.b64decode(bundle["dsseEnvelope"]["payload"]))
    edit(statement)
    bundle["dsseEnvelope"]["payload"] = base64.b64encode(json.dumps(statement).encode()).decode()


def _junk_signature(bundle: dict[str, Any]) -> None:
    bundle["dsseEnvelope"]["signatures"].append({"sig": "AAAA", "keyid": ""})


def _stripped(bundle: dict[str, Any]) -> None:
    bundle["dsseEnvelope"]["signatures"] = []


def _other_type(bundle: dict[str, Any]) -> None:
    bundle["dsseEnvelope"]["payloadType"] = "application/json"


def _other_media(bundle: dict[str, Any]) -> None:
    bundle["mediaType"] = "application/vnd.dev.sigstore.bundle+json;version=0.1"


def _certificate(bundle: dict[str, Any]) -> None:
    bundle["verificationMaterial"] = {"certificate": {"rawBytes": "AAAA"}}


def _no_hint(bundle: dict[str, Any]) -> None:
    del bundle["verificationMaterial"]["publicKey"]["hint"]


def _legacy(bundle: dict[str, Any]) -> None:
    _edit_statement(bundle, lambda s: s.update(predicateType="https://model_signing/Digests/v0.1"))


def _own_ignores(bundle: dict[str, Any]) -> None:
    _edit_statement(bundle, lambda s: s["predicate"]["serialization"].update(ignore_paths=["model.safetensors"]))


def _links_allowed(bundle: dict[str, Any]) -> None:
    _edit_statement(bundle, lambda s: s["predicate"]["serialization"].update(allow_symlinks=True))


def _nothing_listed(bundle: dict[str, Any]) -> None:
    _edit_statement(bundle, lambda s: s["predicate"].update(resources=[]))


def _other_algorithm(bundle: dict[str, Any]) -> None:
    _edit_statement(bundle, lambda s: s["predicate"]["resources"][0].update(algorithm="blake2"))


def _other_digest(bundle: dict[str, Any]) -> None:
    _edit_statement(bundle, lambda s: s["predicate"]["resources"][0].update(digest="a" * 64))


def _extra_in_predicate(bundle: dict[str, Any]) -> None:
    _edit_statement(bundle, lambda s: s["predicate"].update(note="x"))


@pytest.mark.attack(4)
@pytest.mark.parametrize(
    ("attack", "message"),
    [
        (_junk_signature, "expected one signature, got 2"),
        (_stripped, "expected one signature, got 0"),
        (_other_type, "expected a payload of application/vnd.in-toto"),
        (_other_media, "expected application/vnd.dev.sigstore.bundle.v0.3"),
        (_certificate, "OMS material: expected exactly publicKey"),
        (_no_hint, "OMS publicKey: expected exactly hint"),
        (_legacy, "expected https://model_signing/signature/v1.0, got https://model_signing/Digests"),
        (_own_ignores, "expected no ignored paths, got a bundle that names its own"),
        (_links_allowed, "OMS predicate: expected {'method': 'files'"),
        (_nothing_listed, "OMS predicate: expected files, got none"),
        (_other_algorithm, "OMS resource: expected a SHA-256"),
        (_other_digest, "expected the signature of builder, got another"),
        (_extra_in_predicate, "OMS predicate: expected exactly resources, serialization"),
    ],
)
def test_a_tampered_bundle_is_refused(
    model: Path, signed: bytes, builder: RoleKeys, attack: Callable[[Any], None], message: str
) -> None:
    """13 edits of an OMS bundle: signatures, types, certificate, ignored paths, digests."""
    bundle = json.loads(signed)
    attack(bundle)
    with pytest.raises(SignatureError, match=message):
        verify_directory(model, json.dumps(bundle).encode(), builder)


def test_an_honest_signature_that_ignores_paths_is_refused(
    scene: Scene, model: Path, builder: RoleKeys, tmp_path: Path
) -> None:
    """The library's own default: signed by the right key, but files under .git/ would be outside the signature."""
    signing.Config().use_elliptic_key_signer(private_key=scene.home.keys / "builder.pem").sign(model, tmp_path / "sig")
    with pytest.raises(SignatureError, match="expected no ignored paths, got a bundle that names its own"):
        verify_directory(model, (tmp_path / "sig").read_bytes(), builder)


@pytest.mark.attack(4)
def test_an_excessive_bundle_is_refused(model: Path, builder: RoleKeys) -> None:
    """An OMS bundle is longer than 4 MiB or has deep nesting."""
    with pytest.raises(SignatureError, match="expected at most 4194304 bytes"):
        verify_directory(model, b"[" * ((4 << 20) + 1), builder)
    with pytest.raises(SignatureError, match="OMS bundle: expected (JSON|at most)"):
        verify_directory(model, b"[" * 200_000, builder)


@given(st.binary(max_size=200))
def test_hostile_bytes_are_no_bundle_and_no_traceback(scene: Scene, honest_bundle: Path, data: bytes) -> None:
    with pytest.raises(TwinsealError):
        verify_directory(honest_bundle / "model", data, scene.anchor.roles["builder"])


@pytest.mark.attack(4)
@given(st.data())
def test_one_changed_byte_of_a_bundle_is_refused(scene: Scene, honest_bundle: Path, data: st.DataObject) -> None:
    """One byte of an OMS bundle is changed, at a random place."""
    bundle = bytearray((honest_bundle / "model.sig.json").read_bytes())
    bundle[data.draw(st.integers(0, len(bundle) - 1))] ^= data.draw(st.integers(1, 255))
    with pytest.raises(TwinsealError):
        verify_directory(honest_bundle / "model", bytes(bundle), scene.anchor.roles["builder"])


def test_the_same_model_signed_by_another_process_is_the_same_bundle(scene: Scene, model: Path, signed: bytes) -> None:
    """Hash seeds differ between processes; a bundle that follows them would make one model two releases."""
    program = f"""
import sys
from pathlib import Path
from twinseal.trust.keys.key import open_signer
from twinseal.trust.release.oms import sign_directory
sys.stdout.buffer.write(sign_directory(Path({str(model)!r}), open_signer({scene.home.key_uri("builder")!r})))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert done.stdout == signed
