from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from securesystemslib.dsse import Envelope

from tests.trust.scenes import Scene
from twinseal.errors import SignatureError, ThresholdError, TwinsealError
from twinseal.trust.signing.dsse import sign_envelope, verify_envelope

PAYLOAD = b'{"a":1}'


def test_what_a_role_signed_reads_back(scene: Scene) -> None:
    envelope = sign_envelope(PAYLOAD, scene.signer("builder"))
    assert verify_envelope(envelope, scene.anchor.roles["builder"]) == PAYLOAD
    assert envelope == sign_envelope(PAYLOAD, scene.signer("builder"))


def test_securesystemslib_alone_verifies_what_we_sign(scene: Scene) -> None:
    signer = scene.signer("builder")
    envelope = Envelope.from_dict(json.loads(sign_envelope(PAYLOAD, signer)))
    assert [signer.public_key.keyid] == list(envelope.verify([signer.public_key], 1))


def test_two_of_three_is_two_of_three(scene: Scene) -> None:
    envelope = Envelope(PAYLOAD, "application/vnd.in-toto+json", {})
    envelope.sign(scene.signer("alice"))
    with pytest.raises(ThresholdError, match="expected 2 of alice, bruno, chiara to sign, got alice"):
        verify_envelope(json.dumps(envelope.to_dict()).encode(), scene.anchor.roles["reviewer"])
    envelope.sign(scene.signer("chiara"))
    assert verify_envelope(json.dumps(envelope.to_dict()).encode(), scene.anchor.roles["reviewer"]) == PAYLOAD


def _twice(value: dict[str, Any]) -> None:
    value["signatures"] *= 2


def _stripped(value: dict[str, Any]) -> None:
    value["signatures"] = []


def _junk_beside(value: dict[str, Any]) -> None:
    value["signatures"].append({"keyid": "f" * 64, "sig": "AAAA"})


def _renamed_key(value: dict[str, Any]) -> None:
    value["signatures"][0]["keyid"] = "f" * 64


def _other_payload(value: dict[str, Any]) -> None:
    value["payload"] = "eyJhIjoyfQ=="


def _other_type(value: dict[str, Any]) -> None:
    value["payloadType"] = "application/json"


def _respelled_payload(value: dict[str, Any]) -> None:
    value["payload"] = value["payload"].replace("=", "") + "\n"


def _respelled_tail(value: dict[str, Any]) -> None:
    # eyJhIjoxfQ== and eyJhIjoxfR== decode to the same bytes: trailing bits that base64 ignores.
    value["payload"] = value["payload"].replace("fQ==", "fR==")


def _extra_field(value: dict[str, Any]) -> None:
    value["note"] = "trust me"


def _extra_in_signature(value: dict[str, Any]) -> None:
    value["signatures"][0]["cert"] = "x"


def _truncated(value: dict[str, Any]) -> None:
    value["signatures"][0]["sig"] = value["signatures"][0]["sig"][:40]


def _no_list(value: dict[str, Any]) -> None:
    value["signatures"] = {"sig": "AAAA"}


def _no_text(value: dict[str, Any]) -> None:
    value["signatures"][0]["sig"] = 7


@pytest.mark.attack(5)
@pytest.mark.parametrize(
    ("attack", "message"),
    [
        (_twice, "expected one signature by each key, got two"),
        (_stripped, "expected a signature, got none"),
        (_junk_beside, r"expected a signature by builder \(builder\), got one by another key"),
        (_renamed_key, r"expected a signature by builder \(builder\), got one by another key"),
        (_other_payload, "expected builder to have signed these bytes, got another"),
        (_other_type, "expected a payload of application/vnd.in-toto"),
        (_respelled_payload, "expected base64"),
        (_respelled_tail, "expected canonical base64"),
        (_extra_field, "expected a DSSE envelope"),
        (_extra_in_signature, "expected a signature of keyid and sig"),
        (_truncated, "expected builder to have signed these bytes, got another"),
        (_no_list, "expected a signature, got none"),
        (_no_text, "expected canonical base64"),
    ],
)
def test_a_tampered_envelope_is_refused(scene: Scene, attack: Callable[[Any], None], message: str) -> None:
    """13 edits of a DSSE envelope: signatures, key ID, payload, type, base64, extra fields."""
    value = json.loads(sign_envelope(PAYLOAD, scene.signer("builder")))
    attack(value)
    with pytest.raises(SignatureError, match=message):
        verify_envelope(json.dumps(value).encode(), scene.anchor.roles["builder"])


@pytest.mark.attack(5)
def test_another_key_under_the_builders_key_id_is_refused(scene: Scene) -> None:
    """The assessor's key signs a DSSE envelope under the builder's key ID."""
    value = json.loads(sign_envelope(PAYLOAD, scene.signer("assessor")))
    value["signatures"][0]["keyid"] = scene.signer("builder").public_key.keyid
    with pytest.raises(SignatureError, match="expected builder to have signed these bytes, got another"):
        verify_envelope(json.dumps(value).encode(), scene.anchor.roles["builder"])


@pytest.mark.attack(5)
def test_an_envelope_with_a_duplicate_json_key_is_refused(scene: Scene) -> None:
    """A DSSE envelope has a duplicate JSON key."""
    data = sign_envelope(PAYLOAD, scene.signer("builder")).replace(b'{"payload":', b'{"payload":"AAAA","payload":')
    with pytest.raises(SignatureError, match="a key is given twice"):
        verify_envelope(data, scene.anchor.roles["builder"])


@pytest.mark.attack(5)
def test_an_excessive_envelope_is_refused(scene: Scene) -> None:
    """A DSSE envelope is longer than 8 MiB."""
    with pytest.raises(SignatureError, match="expected at most 8388608 bytes"):
        verify_envelope(b"[" * ((8 << 20) + 1), scene.anchor.roles["builder"])


HOSTILE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=6,
)


@given(st.binary(max_size=200) | HOSTILE.map(lambda value: json.dumps(value).encode()))
def test_hostile_bytes_are_no_envelope_and_no_traceback(scene: Scene, data: bytes) -> None:
    with pytest.raises(TwinsealError):
        verify_envelope(data, scene.anchor.roles["builder"])


@given(
    payload=HOSTILE,
    kind=HOSTILE,
    signatures=HOSTILE | st.lists(st.fixed_dictionaries({"keyid": HOSTILE, "sig": HOSTILE})),
)
def test_a_hostile_envelope_is_refused_without_a_traceback(
    scene: Scene, payload: Any, kind: Any, signatures: Any
) -> None:
    for name in (kind, "application/vnd.in-toto+json"):
        value = {"payload": payload, "payloadType": name, "signatures": signatures}
        with pytest.raises(TwinsealError):
            verify_envelope(json.dumps(value).encode(), scene.anchor.roles["builder"])


def test_a_role_whose_holder_left_no_longer_signs(scene: Scene) -> None:
    envelope = sign_envelope(PAYLOAD, scene.signer("alice"))
    reviewers = scene.anchor.roles["reviewer"]
    with pytest.raises(SignatureError, match="expected a signature by bruno, chiara"):
        verify_envelope(envelope, replace(reviewers, holders=reviewers.holders[1:]))
