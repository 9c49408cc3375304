from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from securesystemslib.signer import Signature, SSlibKey
from tuf.api.metadata import Root, Snapshot, Targets, Timestamp

from tests.trust.scenes import Scene
from twinseal.errors import SignatureError
from twinseal.trust.root.metadata import keys_that_signed, parse, parse_signature


def test_one_key_under_two_identifiers_counts_once(scene: Scene) -> None:
    alice, bruno = scene.signer("alice"), scene.signer("bruno")
    key = alice.public_key
    second = SSlibKey("0" * 64, key.keytype, key.scheme, key.keyval)
    made = alice.sign(b"bytes")
    signatures = {key.keyid: made, second.keyid: Signature(second.keyid, made.signature)}
    assert keys_that_signed([key, second], signatures, b"bytes") == (key,)
    signatures[bruno.public_key.keyid] = bruno.sign(b"bytes")
    assert keys_that_signed([key, second, bruno.public_key], signatures, b"bytes") == (key, bruno.public_key)
    assert keys_that_signed([key, second, bruno.public_key], signatures, b"other") == ()


def test_metadata_that_gives_a_key_twice_is_refused(scene: Scene) -> None:
    parse(Root, scene.anchor.root, "root")
    twice = scene.anchor.root.replace(b'"version":1', b'"version":1,"version":2')
    with pytest.raises(SignatureError, match="a key is given twice"):
        parse(Root, twice, "root")


def test_metadata_of_another_kind_is_refused(scene: Scene) -> None:
    with pytest.raises(SignatureError, match="expected TUF metadata of type targets, got root"):
        parse(Targets, scene.anchor.root, "role")


@given(st.binary(max_size=200), st.sampled_from([Root, Targets, Snapshot, Timestamp]))
def test_hostile_bytes_are_no_metadata_and_no_traceback(data: bytes, kind: type[Root]) -> None:
    with pytest.raises(SignatureError):
        parse(kind, data, "metadata")


@given(st.none() | st.integers() | st.text() | st.dictionaries(st.sampled_from(["keyid", "sig", "x"]), st.integers()))
def test_what_is_no_signature_is_refused(value: object) -> None:
    with pytest.raises(SignatureError, match="expected a signature of keyid and sig"):
        parse_signature(value, "approval")


def test_importing_trust_does_not_import_model_signing() -> None:
    """It takes over a second, which every command would pay and few need."""
    program = """
import importlib, pkgutil, sys, twinseal.trust
for module in pkgutil.iter_modules(twinseal.trust.__path__, "twinseal.trust."):
    importlib.import_module(module.name)
print(sorted({"model_signing", "sigstore", "OpenSSL", "numpy", "torch", "mlflow"} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
