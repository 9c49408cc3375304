"""Passkeys: registrations and assertions by an authenticator in software, honest ones and every wrong one."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from securesystemslib.exceptions import UnverifiedSignatureError
from securesystemslib.formats import encode_canonical
from securesystemslib.signer import Key, Signature

from tests.passkeys import ED, ORIGIN, RP_ID, UP, UV, Authenticator, b64
from twinseal.digests import canonical_json, sha256
from twinseal.errors import SignatureError
from twinseal.trust.keys import passkeys
from twinseal.trust.keys.key import KeySigner, Passkey, fingerprint, kind_of, read_public_key
from twinseal.trust.keys.passkeys import (
    PasskeySigner,
    challenge,
    passkey_from_registration,
    public_file,
    sign_count,
    signature_value,
)

ASKED = b"a challenge of the server"
DEVICE = Authenticator()
PASSKEY = passkey_from_registration(DEVICE.register(ASKED), challenge=ASKED, rp_id=RP_ID, origin=ORIGIN)
WORDS, ROLE = b"the words", b"the role"


def sign(*payloads: bytes, device: Authenticator = DEVICE, **wrong: Any) -> Signature:
    digests, expected = challenge(payloads)
    return Signature(PASSKEY.keyid, signature_value(device.touch(expected, **wrong), digests))


def test_one_touch_signs_the_words_and_the_role() -> None:
    for signature in PasskeySigner(PASSKEY, DEVICE.touch).sign_all([WORDS, ROLE]):
        PASSKEY.verify_signature(signature, WORDS)
        PASSKEY.verify_signature(signature, ROLE)
        with pytest.raises(UnverifiedSignatureError, match="expected a touch for these bytes, got one for others"):
            PASSKEY.verify_signature(signature, b"other")


def test_a_passkey_is_a_key_to_tuf_and_one_key_in_two_forms_is_one_key() -> None:
    again = Key.from_dict(PASSKEY.keyid, json.loads(json.dumps(PASSKEY.to_dict())))
    assert again == PASSKEY
    plain = KeySigner(DEVICE.private).public_key
    assert (fingerprint(plain), True) == (fingerprint(PASSKEY), plain.keyid != PASSKEY.keyid)
    assert ("passkey of https://review.plant.example", "") == (kind_of(PASSKEY), kind_of(plain))


def test_the_identifier_is_computed_as_the_library_does_for_other_keys() -> None:
    plain = KeySigner(DEVICE.private).public_key
    for key in (plain, PASSKEY):
        assert key.keyid == sha256(encode_canonical(key.to_dict()).encode())


def test_a_file_holds_either_kind_of_key(tmp_path: Path) -> None:
    for key in (PASSKEY, KeySigner(DEVICE.private).public_key):
        (tmp_path / "alice.pub").write_bytes(public_file(key))
        assert read_public_key(tmp_path / "alice.pub") == key


@pytest.mark.parametrize(
    "change",
    [
        {"schema": "https://twinseal.dev/passkey/v2"},
        {"more": 1},
        {"origin": "https://evil.example"},
        {"rp_id": "Plant.example"},
        {"public": "-----BEGIN PUBLIC KEY-----"},
        {"credential_id": "a="},
        {"credential_id": ""},
        {"credential_id": b64(bytes(1024))},
        {"rp_id": None},
    ],
)
def test_a_file_of_another_form_is_no_passkey(tmp_path: Path, change: dict[str, Any]) -> None:
    value = json.loads(public_file(PASSKEY)) | change
    (tmp_path / "alice.pub").write_bytes(canonical_json(value))
    with pytest.raises(SignatureError, match="expected"):
        read_public_key(tmp_path / "alice.pub")


@pytest.mark.parametrize(
    ("rp_id", "origin"),
    [
        ("plant.example", "https://plant.example"),
        ("plant.example", "https://a.b.plant.example:8443"),
        ("localhost", "http://localhost:5000"),
        ("localhost", "https://localhost"),
        ("twinseal", "https://twinseal"),
    ],
)
def test_sites_that_a_passkey_may_be_for(rp_id: str, origin: str) -> None:
    assert origin == Passkey(**PASSKEY.keyval | {"rp_id": rp_id, "origin": origin}).origin


@pytest.mark.parametrize(
    ("rp_id", "origin"),
    [
        ("plant.example", "http://plant.example"),
        ("plant.example", "https://evilplant.example"),
        ("plant.example", "https://plant.example.evil.example"),
        ("plant.example", "https://plant.example/"),
        ("plant.example", "https://plant.example:443"),
        ("plant.example", "https://plant.example:0"),
        ("plant.example", "https://plant.example:99999"),
        ("plant.example", "https://user@plant.example"),
        ("plant.example", "https://PLANT.example"),
        ("plant.example", "https://plant.example\n"),
        ("plant.example", "https://a..plant.example"),
        ("plant.example\n", "https://plant.example"),
        ("example", "https://plant.example"),
        ("", "https://"),
        ("localhost", "http://plant.localhost"),
        ("plant.example", "http://localhost"),
        ("a." * 127 + "example", "https://" + "a." * 127 + "example"),
    ],
)
def test_sites_that_no_passkey_may_be_for(rp_id: str, origin: str) -> None:
    with pytest.raises(SignatureError, match="passkey: expected"):
        Passkey(**PASSKEY.keyval | {"rp_id": rp_id, "origin": origin})


@pytest.mark.parametrize(
    "edit",
    [
        lambda value: value.update(more=1),
        lambda value: value["keyval"].update(more=1),
        lambda value: value["keyval"].pop("origin"),
        lambda value: value.update(keyval=[]),
        lambda value: value["keyval"].update(origin="https://other.plant.example"),
        lambda value: value["keyval"].update(public=1),
    ],
)
def test_metadata_with_another_value_or_more_is_no_passkey(edit: Any) -> None:
    value = json.loads(json.dumps(PASSKEY.to_dict()))
    edit(value)
    with pytest.raises(ValueError, match="passkey"):
        Key.from_dict(PASSKEY.keyid, value)


HOSTS = st.from_regex(r"[a-z]{1,8}\.[a-z]{2,5}", fullmatch=True)


@given(HOSTS, st.from_regex(r"([a-z0-9]{1,5}\.){0,2}", fullmatch=True), st.binary(min_size=1, max_size=1023))
def test_a_passkey_reads_back_as_itself(host: str, below: str, name: bytes) -> None:
    key = Passkey(PASSKEY.keyval["public"], host, f"https://{below}{host}", b64(name))
    assert key == Passkey.from_dict(key.keyid, key.to_dict())
    assert key == passkeys.from_file(public_file(key), "file")


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"origin": "https://evil.example"}, "origin: expected https://review.plant.example"),
    ({"origin": ORIGIN + "."}, "origin: expected"),
    ({"rp_id": "evil.example"}, "RP ID"),
    ({"flags": UP}, "not verified"),
    ({"flags": UV}, "not present"),
    ({"flags": UP | UV | ED, "data": b"\xa0"}, "expected 37 bytes of authenticator data"),
    ({"flags": UP | UV | ED}, "expected 37 bytes of authenticator data"),
    ({"flags": UP | UV | 0x40}, "expected 37 bytes of authenticator data"),
    ({"data": b"\0"}, "expected 37 bytes of authenticator data"),
    ({"kind": "webauthn.create"}, "type: expected webauthn.get"),
    ({"client": {"crossOrigin": True}}, "got one that another site embeds"),
    ({"client": {"crossOrigin": None}}, "got one that another site embeds"),
    ({"client": {"topOrigin": ORIGIN}}, "got one that another site embeds"),
    ({"client": {"challenge": b64(b"other")}}, "challenge: expected"),
    ({"client": {"x": "x" * 2048}}, "expected at most 2048 bytes"),
    ({"client_bytes": b"[]"}, "expected client data"),
    ({"client_bytes": b"{"}, "expected JSON"),
]


@pytest.mark.attack(1, "P")
@pytest.mark.parametrize(("wrong", "reason"), WRONG)
def test_an_assertion_of_another_kind_is_no_signature(wrong: dict[str, Any], reason: str) -> None:
    """A passkey is touched on another site, for another purpose, without its user verified, or inside another page."""
    PASSKEY.verify_signature(sign(WORDS), WORDS)
    with pytest.raises(UnverifiedSignatureError, match=reason):
        PASSKEY.verify_signature(sign(WORDS, **wrong), WORDS)


@pytest.mark.attack(1, "P")
def test_client_data_with_a_key_twice_is_refused() -> None:
    """The client data has the origin twice, so that two parsers read two origins."""
    _, expected = challenge([WORDS])
    client = (
        f'{{"type":"webauthn.get","challenge":"{b64(expected)}","origin":"https://evil.example","origin":"{ORIGIN}"}}'
    )
    with pytest.raises(UnverifiedSignatureError, match="a key is given twice"):
        PASSKEY.verify_signature(sign(WORDS, client_bytes=client.encode()), WORDS)


@pytest.mark.attack(1, "P")
def test_a_signed_assertion_is_put_under_other_digests() -> None:
    """An assertion is replayed: other digests are put beside it, or the text's digest is added to the list."""
    value = json.loads(bytes.fromhex(sign(WORDS).signature))
    for digests in ([sha256(ROLE)], [sha256(WORDS), sha256(ROLE)], [sha256(ROLE), sha256(WORDS)]):
        forged = canonical_json(value | {"digests": digests}).hex()
        with pytest.raises(UnverifiedSignatureError, match="challenge: expected"):
            PASSKEY.verify_signature(Signature(PASSKEY.keyid, forged), ROLE if digests[0] != sha256(WORDS) else WORDS)


@pytest.mark.attack(1, "P")
@pytest.mark.parametrize("name", ["authenticator_data", "client_data", "signature"])
def test_one_bit_of_an_assertion(name: str) -> None:
    """One bit of the authenticator data, the client data or the signature is changed."""
    value = json.loads(bytes.fromhex(sign(WORDS).signature))
    data = bytearray(passkeys.decode(value[name]))
    for at in range(len(data)):
        changed = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
        forged = canonical_json(value | {name: b64(changed)}).hex()
        with pytest.raises(UnverifiedSignatureError):
            PASSKEY.verify_signature(Signature(PASSKEY.keyid, forged), WORDS)


@pytest.mark.parametrize(
    "change",
    [
        lambda value: {**value, "digests": []},
        lambda value: {**value, "digests": value["digests"] * 2},
        lambda value: {**value, "digests": value["digests"] + [f"{n:064x}" for n in range(8)]},
        lambda value: {**value, "digests": [["x"]]},
        lambda value: {**value, "digests": "x"},
        lambda value: {**value, "more": 1},
        lambda value: {**value, "signature": value["signature"] + "="},
        lambda value: {**value, "signature": value["signature"] + "\n"},
        lambda value: {**value, "signature": 1},
        lambda value: {name: item for name, item in value.items() if name != "digests"},
        lambda value: [value],
    ],
)
def test_a_value_of_another_form_is_no_signature(change: Any) -> None:
    value = json.loads(bytes.fromhex(sign(WORDS).signature))
    with pytest.raises(UnverifiedSignatureError):
        PASSKEY.verify_signature(Signature(PASSKEY.keyid, canonical_json(change(value)).hex()), WORDS)


def test_the_value_has_one_form() -> None:
    sig = sign(WORDS).signature
    loose = json.dumps(json.loads(bytes.fromhex(sig))).encode().hex()
    for other in (sig.upper(), sig + " ", " " + sig, loose, "", "0" * (2 << 14), sig[:-2]):
        with pytest.raises(UnverifiedSignatureError):
            PASSKEY.verify_signature(Signature(PASSKEY.keyid, other), WORDS)


@given(st.binary(max_size=300), st.binary(max_size=60), st.integers(0, 3))
def test_random_values_raise_nothing_but_that_they_are_none(junk: bytes, more: bytes, place: int) -> None:
    value: dict[str, Any] = json.loads(bytes.fromhex(SIGNED.signature))
    name = ("authenticator_data", "client_data", "signature", "digests")[place]
    value[name] = [sha256(WORDS), more.hex()] if name == "digests" else b64(junk)
    for sig in (junk.hex(), junk.decode("latin-1"), canonical_json(value).hex(), junk, None):
        with pytest.raises(UnverifiedSignatureError):
            PASSKEY.verify_signature(Signature(PASSKEY.keyid, sig) if isinstance(sig, str) else _Raw(sig), WORDS)


class _Raw:
    """Not even a Signature."""

    def __init__(self, signature: object) -> None:
        self.keyid, self.signature = PASSKEY.keyid, signature


SIGNED = sign(WORDS)


def test_the_counter_is_read_from_the_signature() -> None:
    assert 7 == sign_count(sign(WORDS, counter=7).signature)
    assert 0 == sign_count(sign(WORDS, device=Authenticator(counter=None)).signature)
    with pytest.raises(UnverifiedSignatureError):
        sign_count("00")


@pytest.mark.parametrize("payloads", [[], [WORDS, WORDS], [bytes([n]) for n in range(9)]])
def test_a_touch_signs_some_texts_each_once(payloads: list[bytes]) -> None:
    with pytest.raises(ValueError, match="expected 1 to 8 texts"):
        challenge(payloads)


@pytest.mark.parametrize("answer", [None, [], {}, {"response": 1}, {"response": {"signature": "x"}}])
def test_what_is_no_assertion_has_no_value(answer: Any) -> None:
    with pytest.raises(SignatureError, match="expected the answer of an authenticator"):
        signature_value(answer, [sha256(WORDS)])


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"origin": "https://evil.example"}, "origin: expected"),
        ({"rp_id": "evil.example"}, "RP ID"),
        ({"flags": UP | 0x40}, "not verified"),
        ({"flags": UV | 0x40}, "not present"),
        ({"kind": "webauthn.get"}, "type: expected webauthn.create"),
        ({"alg": -257}, "expected an ES256 passkey"),
        ({"client": {"challenge": b64(b"other")}}, "challenge: expected"),
        ({"client": {"topOrigin": ORIGIN}}, "another site embeds"),
    ],
)
def test_a_registration_of_another_kind_is_refused(wrong: dict[str, Any], reason: str) -> None:
    with pytest.raises(SignatureError, match=reason) as refusal:
        passkey_from_registration(DEVICE.register(ASKED, **wrong), challenge=ASKED, rp_id=RP_ID, origin=ORIGIN)
    assert "Make the passkey again" in refusal.value.remedy


def test_an_attestation_is_not_looked_at() -> None:
    made = DEVICE.register(ASKED, fmt="packed", statement={"alg": -7, "sig": b"nobody checks this"})
    assert PASSKEY == passkey_from_registration(made, challenge=ASKED, rp_id=RP_ID, origin=ORIGIN)


@pytest.mark.parametrize("junk", [{}, None, {"response": {}}, {"response": {"clientDataJSON": "e30"}}])
def test_what_is_no_registration_is_refused(junk: Any) -> None:
    with pytest.raises(SignatureError, match="passkey"):
        passkey_from_registration(junk, challenge=ASKED, rp_id=RP_ID, origin=ORIGIN)


def test_the_registration_of_one_credential_under_the_name_of_another_is_refused() -> None:
    made = DEVICE.register(ASKED) | {"id": b64(b"other"), "rawId": b64(b"other")}
    with pytest.raises(SignatureError, match="expected the key of the credential that was made"):
        passkey_from_registration(made, challenge=ASKED, rp_id=RP_ID, origin=ORIGIN)


def test_whoever_sees_no_passkey_does_not_wait_for_the_library() -> None:
    code = "import sys, twinseal.trust.keys.key; sys.exit('webauthn' in sys.modules)"
    assert 0 == subprocess.run([sys.executable, "-c", code], check=False).returncode
