"""Keys in a real token: what it signs counts wherever a key file's signature does, and nothing else comes out of it."""

from __future__ import annotations

import pickle
import sys
import traceback
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import structlog
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st
from securesystemslib.dsse import Envelope

from tests.trust.keys.softhsm import MODULE, PIN, SO_PIN, Hsm, make_hsm, needs_softhsm
from tests.trust.scenes import NOW, Disk, Scene, describe, make_bundle, make_scene
from twinseal.errors import KeyAccessError
from twinseal.trust.keys import tokens
from twinseal.trust.keys.key import (
    KeySigner,
    generate_in_token,
    needs_passphrase,
    open_signer,
    public_key_in_token,
    read_public_key,
)
from twinseal.trust.keys.token_uris import TokenUri
from twinseal.trust.release import repository

pytestmark = needs_softhsm
PASSPHRASE = PIN.encode()


@pytest.fixture
def hsm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hsm:
    return make_hsm(tmp_path / "hsm", monkeypatch)


@pytest.fixture
def alice(hsm: Hsm, tmp_path: Path) -> KeySigner:
    generate_in_token(hsm.uri("alice"), tmp_path / "alice.pub", passphrase=PASSPHRASE)
    return open_signer(hsm.uri("alice"), passphrase=PASSPHRASE)


def verify(signer: KeySigner, signature: bytes, data: bytes) -> None:
    public = signer._private_key.public_key()
    public.verify(signature, data, ec.ECDSA(hashes.SHA256()))


def put_key(session: Any, label: str, curve: str = "secp256r1", identifier: bytes = b"\x01", **private: object) -> None:
    """A key pair in the token, made as somebody else's tool may have made it."""
    from pkcs11 import Attribute, KeyType
    from pkcs11.util.ec import encode_named_curve_parameters

    parameters = session.create_domain_parameters(
        KeyType.EC, {Attribute.EC_PARAMS: encode_named_curve_parameters(curve)}, local=True
    )
    template = {Attribute[name]: value for name, value in private.items()}
    parameters.generate_keypair(store=True, label=label, id=identifier, private_template=template)


def test_a_key_made_in_a_token_signs_and_its_public_half_is_for_all(hsm: Hsm, alice: KeySigner, tmp_path: Path) -> None:
    alice.public_key.verify_signature(alice.sign(b"bytes"), b"bytes")
    verify(alice, alice.sign_raw(b"bytes"), b"bytes")
    assert read_public_key(tmp_path / "alice.pub") == alice.public_key
    assert public_key_in_token(hsm.uri("alice")) == alice.public_key  # and without the PIN


def test_a_key_made_in_a_token_cannot_leave_it(hsm: Hsm, alice: KeySigner) -> None:
    from pkcs11 import Attribute, AttributeSensitive, ObjectClass

    with hsm.session() as session:
        (key,) = session.get_objects({Attribute.CLASS: ObjectClass.PRIVATE_KEY})
        flags = [key[Attribute[name]] for name in ("SENSITIVE", "EXTRACTABLE", "ALWAYS_SENSITIVE", "NEVER_EXTRACTABLE")]
        assert [True, False, True, True] == flags
        with pytest.raises(AttributeSensitive):
            key[Attribute.VALUE]


def test_a_key_that_can_leave_its_token_is_warned_of(hsm: Hsm) -> None:
    with hsm.session() as session:
        put_key(session, "copied", EXTRACTABLE=True)
    with structlog.testing.capture_logs() as said:
        open_signer(hsm.uri("copied"), passphrase=PASSPHRASE)
    assert ["key.extractable"] == [line["event"] for line in said]


def test_signatures_of_a_token_differ_and_all_count(alice: KeySigner) -> None:
    first, second = alice.sign(b"bytes"), alice.sign(b"bytes")
    assert first.signature != second.signature
    for signature in (first, second):
        alice.public_key.verify_signature(signature, b"bytes")


@pytest.fixture
def scene(hsm: Hsm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Scene:
    """A home whose builder and one reviewer have their keys on the token; all others have files."""
    monkeypatch.setenv("TWINSEAL_PASSPHRASE", PIN)
    for holder in ("builder", "alice"):
        generate_in_token(hsm.uri(holder), tmp_path / f"{holder}.pub", holder=holder)
        monkeypatch.setenv(f"TWINSEAL_{holder.upper()}_KEY", hsm.uri(holder))
    return make_scene(tmp_path / "home")


def test_a_whole_ceremony_with_keys_in_a_token(scene: Scene, tmp_path: Path) -> None:
    from twinseal.trust.release.candidate import verify_release
    from twinseal.trust.release.client import refresh

    assert not (scene.home.keys / "alice.pem").exists()
    bundle = make_bundle(tmp_path / "bundle", scene.home)
    release = describe(bundle)
    verify_release(bundle, release, scene.anchor)  # OMS, and DSSE by us
    published = scene.publish(release)
    assert published.changed
    assert release == refresh(scene.anchor, tmp_path / "cache", Disk.of(scene.home), "pump-rul", NOW)


def test_others_tools_accept_what_a_token_signed(scene: Scene, tmp_path: Path) -> None:
    import json

    from model_signing import hashing, verifying

    bundle = make_bundle(tmp_path / "bundle", scene.home)
    (tmp_path / "builder.pem").write_text(scene.anchor.roles["builder"].key_of("builder").keyval["public"])
    verifying.Config().use_elliptic_key_verifier(public_key=tmp_path / "builder.pem").set_hashing_config(
        hashing.Config().set_ignored_paths(paths=[], ignore_git_paths=False)
    ).verify(bundle / "model", bundle / "model.sig.json")
    envelope = Envelope.from_dict(json.loads((bundle / "evidence/train.dsse.json").read_bytes()))
    assert 1 == len(envelope.verify([scene.anchor.roles["builder"].key_of("builder")], 1))


def test_a_reviewers_signature_by_token_counts_for_the_role(scene: Scene, tmp_path: Path) -> None:
    from twinseal.trust.release.model_role import count_approvals

    release = describe(make_bundle(tmp_path / "bundle", scene.home))
    role = repository.stage(scene.home, release, expires=scene.roles.expiry("reviewer", NOW))
    tally = count_approvals(role, scene.signatures(role, "alice"), scene.anchor, "pump-rul")
    assert (("alice",), 1) == (tally.signed, tally.missing)


def test_a_wrong_pin_is_tried_once_and_never_again(hsm: Hsm, alice: KeySigner) -> None:
    """The refused PIN is made the right one behind our back: had it been sent again, the key would have opened."""
    wrong = "0000-wrong"
    with pytest.raises(KeyAccessError, match="expected the right PIN, got another") as caught:
        open_signer(hsm.uri("alice"), passphrase=wrong.encode())
    assert "tried once" in caught.value.remedy
    with hsm.session(so_pin=SO_PIN) as session:
        session.init_pin(wrong)
    for _ in range(2):
        with pytest.raises(KeyAccessError, match="just refused; it was not tried again"):
            open_signer(hsm.uri("alice"), passphrase=wrong.encode())
    with hsm.session(so_pin=SO_PIN) as session:
        session.init_pin(PIN)
    open_signer(hsm.uri("alice"), passphrase=PASSPHRASE)


def test_a_pin_that_changed_meanwhile_is_tried_once_when_signing(hsm: Hsm, alice: KeySigner) -> None:
    with hsm.session(so_pin=SO_PIN) as session:
        session.init_pin("another")
    with pytest.raises(KeyAccessError, match="expected the right PIN, got another"):
        alice.sign(b"bytes")
    with pytest.raises(KeyAccessError, match="not tried again"):
        alice.sign(b"bytes")


@pytest.mark.parametrize("name", sorted(tokens._MEANINGS))
def test_every_error_that_has_a_meaning_is_one_of_the_librarys(name: str) -> None:
    import pkcs11

    error = getattr(pkcs11, name)
    assert issubclass(error, pkcs11.PKCS11Error)
    expected, got, remedy = tokens._MEANINGS[name]
    explained = tokens._translate_error(TokenUri.parse("pkcs11:token=x"), error("details"))
    assert (f"pkcs11:token=x: expected {expected}, got {got}", remedy) == (str(explained), explained.remedy)


@pytest.mark.parametrize(("flag", "said"), [("USER_PIN_LOCKED", "a locked one"), ("USER_PIN_FINAL_TRY", "would lock")])
def test_a_token_that_is_locked_or_about_to_be_is_not_logged_in_to(flag: str, said: str) -> None:
    """SoftHSM never locks: a token that says it has, and cannot be logged in to at all."""
    from pkcs11 import TokenFlag

    class Locked:
        flags = TokenFlag.TOKEN_INITIALIZED | TokenFlag[flag]

    with pytest.raises(KeyAccessError, match=said):
        tokens._log_in(Locked(), TokenUri.parse("pkcs11:token=x"), Path("/m.so"), PASSPHRASE, False)


@pytest.mark.parametrize("pin", [b"", b"1" * 300, b"\xff\xfe", b"47\x0011"])
def test_an_odd_pin_is_refused(hsm: Hsm, alice: KeySigner, pin: bytes) -> None:
    with pytest.raises(KeyAccessError, match="PIN"):
        open_signer(hsm.uri("alice"), passphrase=pin)


def test_every_session_is_closed_also_after_a_refusal(hsm: Hsm, alice: KeySigner) -> None:
    import pkcs11

    alice.sign(b"bytes")
    assert not pkcs11._loaded[MODULE].initialized
    with pytest.raises(KeyAccessError):
        open_signer(hsm.uri("alice"), passphrase=b"wrong")
    assert not pkcs11._loaded[MODULE].initialized


def test_threads_that_sign_with_one_token_wait_for_each_other(alice: KeySigner) -> None:
    with ThreadPoolExecutor(4) as pool:
        for signature in pool.map(lambda at: alice.sign_raw(b"%d" % (at % 2)), range(12)):
            assert signature


def test_an_absent_token_or_key_is_refused_and_those_that_are_there_named(hsm: Hsm, alice: KeySigner) -> None:
    with pytest.raises(KeyAccessError, match=r"exactly one token that fits, got 0; present: desk \(serial [0-9a-f]+\)"):
        open_signer(hsm.uri("alice", token="elsewhere"), passphrase=PASSPHRASE)
    with pytest.raises(KeyAccessError, match=r"exactly one private key that fits, got 0; in the token: alice \(id "):
        open_signer(hsm.uri("bruno"), passphrase=PASSPHRASE)
    with pytest.raises(KeyAccessError, match="expected exactly one public key"):
        public_key_in_token(hsm.uri("bruno"))


def test_two_tokens_or_two_keys_that_fit_are_refused(hsm: Hsm, alice: KeySigner) -> None:
    with hsm.session() as session:
        put_key(session, "bruno")
        put_key(session, "alice", identifier=b"\x02")
    with pytest.raises(
        KeyAccessError, match=r"got 3; in the token: alice \(id \w+\), alice \(id \w+\), bruno \(id 01\)"
    ):
        open_signer(hsm.uri(), passphrase=PASSPHRASE)
    with pytest.raises(KeyAccessError, match="exactly one private key that fits, got 2"):
        open_signer(hsm.uri("alice"), passphrase=PASSPHRASE)
    one = open_signer(hsm.uri("alice").replace("?", ";id=%02?"), passphrase=PASSPHRASE)
    assert one.public_key != alice.public_key
    hsm.add("drawer")
    with pytest.raises(KeyAccessError, match=r"exactly one token that fits, got 2; present: .*d(esk|rawer)"):
        open_signer(f"pkcs11:object=alice?module-path={MODULE}", passphrase=PASSPHRASE)
    assert (
        one.public_key == open_signer(f"{hsm.uri('alice')}".replace("?", ";id=%02?"), passphrase=PASSPHRASE).public_key
    )


def test_a_token_that_is_pulled_out_is_refused(hsm: Hsm, alice: KeySigner) -> None:
    hsm.pull_out()
    with pytest.raises(KeyAccessError, match="expected exactly one token that fits, got 0; present: none"):
        alice.sign(b"bytes")


def test_a_token_that_is_pulled_out_in_the_middle_is_refused(
    hsm: Hsm, alice: KeySigner, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = tokens._private_key

    def find_then_pull(session: Any, uri: TokenUri) -> Any:
        key = find(session, uri)
        hsm.pull_out()
        return key

    monkeypatch.setattr(tokens, "_private_key", find_then_pull)
    with pytest.raises(KeyAccessError, match="removal in the middle|token to do its work"):
        alice.sign(b"bytes")


def test_keys_of_other_kinds_in_a_token_are_refused(hsm: Hsm) -> None:
    from pkcs11 import KeyType

    with hsm.session() as session:
        put_key(session, "p384", "secp384r1")
        session.generate_keypair(KeyType.RSA, 2048, store=True, label="rsa", id=b"\x09")
    for label, kind in (("p384", "EC on another curve"), ("rsa", "RSA")):
        with pytest.raises(KeyAccessError, match=f"expected ECDSA on P-256, got {kind}"):
            open_signer(hsm.uri(label), passphrase=PASSPHRASE)


def test_a_public_object_that_is_not_the_keys_own_signs_nothing(hsm: Hsm, alice: KeySigner) -> None:
    """Whoever may write to the token puts another public key in the place of hers."""
    from pkcs11 import Attribute, ObjectClass

    with hsm.session() as session:
        put_key(session, "mallory", identifier=b"\x66")
        public = {Attribute.CLASS: ObjectClass.PUBLIC_KEY}
        (mine,) = session.get_objects(public | {Attribute.LABEL: "alice"})
        (theirs,) = session.get_objects(public | {Attribute.LABEL: "mallory"})
        point, identifier = theirs[Attribute.EC_POINT], mine[Attribute.ID]
        mine.destroy()
        theirs.destroy()
        session.create_object(
            {
                Attribute.CLASS: ObjectClass.PUBLIC_KEY,
                Attribute.KEY_TYPE: 3,
                Attribute.EC_PARAMS: tokens.P256_PARAMS,
                Attribute.EC_POINT: point,
                Attribute.ID: identifier,
                Attribute.LABEL: "alice",
                Attribute.TOKEN: True,
            }
        )
    swapped = open_signer(hsm.uri("alice"), passphrase=PASSPHRASE)
    assert swapped.public_key != alice.public_key
    with pytest.raises(KeyAccessError, match="expected a signature by the token's public key, got one by another"):
        swapped.sign(b"bytes")


def test_a_private_key_without_its_public_half_is_refused(hsm: Hsm, alice: KeySigner) -> None:
    from pkcs11 import Attribute, ObjectClass

    with hsm.session() as session:
        next(iter(session.get_objects({Attribute.CLASS: ObjectClass.PUBLIC_KEY}))).destroy()
    with pytest.raises(KeyAccessError, match="exactly one public key beside the private one, got 0"):
        open_signer(hsm.uri("alice"), passphrase=PASSPHRASE)


def test_a_key_that_asks_for_its_pin_each_time_signs(hsm: Hsm) -> None:
    """As the signature key of a PIV card does."""
    with hsm.session() as session:
        put_key(session, "piv", ALWAYS_AUTHENTICATE=True)
    signer = open_signer(hsm.uri("piv"), passphrase=PASSPHRASE)
    verify(signer, signer.sign_raw(b"bytes"), b"bytes")


def test_a_key_in_a_token_is_never_overwritten(hsm: Hsm, alice: KeySigner, tmp_path: Path) -> None:
    with pytest.raises(KeyAccessError, match="expected no key of that name yet, found one"):
        generate_in_token(hsm.uri("alice"), tmp_path / "other.pub", passphrase=PASSPHRASE)
    with pytest.raises(KeyAccessError, match="expected no public key there yet, found one"):
        generate_in_token(hsm.uri("new"), tmp_path / "alice.pub", passphrase=PASSPHRASE)
    assert open_signer(hsm.uri("alice"), passphrase=PASSPHRASE).public_key == alice.public_key


def test_a_module_that_is_absent_or_no_module_or_open_to_others_is_refused(
    hsm: Hsm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(module: str, said: str) -> None:
        with pytest.raises(KeyAccessError, match=said):
            open_signer(f"pkcs11:token=desk?module-path={module}", passphrase=PASSPHRASE)

    refused(f"{tmp_path}/none.so", "expected a PKCS #11 module, got none")
    refused("relative.so", "module-path: expected an absolute path")
    text = tmp_path / "text.so"
    text.write_text("no module")
    refused(str(text), "expected the token to do its work, got PKCS11Error OS exception")
    text.chmod(0o666)
    refused(str(text), "expected a module that its owner alone can write to, got mode 0666")
    with pytest.raises(KeyAccessError, match="expected a PKCS #11 module to reach the token by, got none"):
        open_signer("pkcs11:token=desk;object=alice", passphrase=PASSPHRASE)
    monkeypatch.setenv("TWINSEAL_PKCS11_MODULE", MODULE)
    with pytest.raises(KeyAccessError, match="exactly one private key that fits, got 0; in the token: none"):
        open_signer("pkcs11:token=desk;object=alice", passphrase=PASSPHRASE)
    monkeypatch.setenv("SOFTHSM2_CONF", str(tmp_path / "none.conf"))
    with pytest.raises(KeyAccessError, match="expected the token to do its work, got GeneralError|present: none"):
        open_signer("pkcs11:token=desk;object=alice", passphrase=PASSPHRASE)


def test_where_the_library_is_not_installed_a_token_is_refused(hsm: Hsm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pkcs11", None)
    with pytest.raises(KeyAccessError, match="expected the library that reaches tokens, got none") as caught:
        open_signer(hsm.uri("alice"), passphrase=PASSPHRASE)
    assert "twinseal[hsm]" in caught.value.remedy


def test_the_pin_comes_from_a_file_or_as_a_passphrase_does(
    hsm: Hsm, alice: KeySigner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert needs_passphrase(hsm.uri("alice"))
    with pytest.raises(KeyAccessError, match="expected a PIN for the token, got none") as caught:
        open_signer(hsm.uri("alice"))
    assert "$TWINSEAL_ALICE_PASSPHRASE" in caught.value.remedy
    pin = tmp_path / "pin"
    pin.write_text(f"{PIN}\nnot read\n")
    by_file = hsm.uri("alice", more=f"&pin-source=file:{pin}")
    pin.chmod(0o644)
    with pytest.raises(KeyAccessError, match="owner alone can read, got mode 0644"):
        open_signer(by_file)
    pin.chmod(0o600)
    pin.write_text("\nsecond line\n")
    with pytest.raises(KeyAccessError, match="expected a PIN in its first line, got none"):
        open_signer(by_file)
    pin.write_text(f"{PIN}\nnot read\n")
    assert not needs_passphrase(by_file)
    assert open_signer(by_file).public_key == alice.public_key
    monkeypatch.setenv("TWINSEAL_ALICE_PASSPHRASE", PIN)
    assert not needs_passphrase(hsm.uri("alice"))
    assert open_signer(hsm.uri("alice")).public_key == alice.public_key
    assert needs_passphrase(hsm.uri("alice"), holder="bruno")


def test_no_pin_in_a_repr_a_pickle_a_log_or_a_refusal(hsm: Hsm, alice: KeySigner) -> None:
    key = alice._private_key
    assert repr(key) == f"TokenKey({hsm.uri('alice')})"
    with pytest.raises(TypeError, match="cannot be written down"):
        pickle.dumps(key)
    with structlog.testing.capture_logs() as said, pytest.raises(KeyAccessError) as caught:
        open_signer(hsm.uri("alice", token="none"), passphrase=PASSPHRASE)
    shown = "".join(traceback.format_exception(caught.value)) + caught.value.remedy + repr(said) + repr(alice)
    assert PIN not in shown


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("pkcs11:token=desk?pin-value=4711", "expected no PIN in it, got pin-value"),
        ("PKCS11:token=desk?pin-value=4711", "expected no PIN in it, got pin-value"),
        ("pkcs11:token=desk;pin-value=4711", "expected no PIN in it, got pin-value"),
        ("pkcs11:token=desk?module-path=/x&pin-value=4711", "expected no PIN in it, got pin-value"),
        ("pkcs11:token=desk?pin_value=4711", "got 'pin_value'"),
        ("pkcs12:token=desk?pin-value=4711", "expected one of file:, pkcs11:, got 'pkcs12:token=desk'"),
    ],
)
def test_a_pin_in_a_uri_is_refused_and_not_shown_again(uri: str, said: str) -> None:
    with pytest.raises(KeyAccessError, match=said) as caught:
        open_signer(uri)
    assert "4711" not in str(caught.value) + caught.value.remedy


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("pkcs11:token=a;token=b", "each attribute once, got token twice"),
        ("pkcs11:label=a", "expected attributes of token, .* got 'label'"),
        ("pkcs11:token", "expected attributes of"),
        ("pkcs11:token=a;", "expected attributes of"),
        ("pkcs11:token=a b", "percent-encoded"),
        ("pkcs11:token=%zz", "percent-encoded"),
        ("pkcs11:token=%ff", "expected token in UTF-8"),
        ("pkcs11:token=a;type=public", "expected type=private"),
        ("pkcs11:token=a?module-name=softhsm2", "got 'module-name'"),
        ("pkcs11:token=a?module-path=/a&module-path=/b", "got module-path twice"),
        ("pkcs11:token=a?pin-source=|/bin/cat", "pin-source: expected an absolute path"),
        ("pkcs11:token=a?module-path=/a%00b", "expected an absolute path"),
    ],
)
def test_a_malformed_uri_is_refused(uri: str, said: str) -> None:
    with pytest.raises(KeyAccessError, match=said):
        open_signer(uri)


def test_attributes_of_a_uri_choose_the_token(hsm: Hsm, alice: KeySigner) -> None:
    with hsm.session() as session:
        serial, slot = session.token.serial.decode(), session.token.slot.slot_id
    for choice in (f"serial={serial}", f"slot-id={slot}", "model=SoftHSM%20v2;manufacturer=SoftHSM%20project"):
        uri = f"pkcs11:{choice};object=alice;type=private?module-path={MODULE}"
        assert open_signer(uri, passphrase=PASSPHRASE).public_key == alice.public_key
    with pytest.raises(KeyAccessError, match="exactly one token that fits, got 0"):
        open_signer(f"pkcs11:token=desk;serial={serial}0?module-path={MODULE}", passphrase=PASSPHRASE)


TEXT = st.text(min_size=1, max_size=20)
TOKEN = st.dictionaries(st.sampled_from(("token", "serial", "model")), TEXT).map(
    lambda found: tuple((name, found[name]) for name in ("token", "model", "serial") if name in found)
)
PATH = st.one_of(st.none(), st.sampled_from((Path("/a/b.so"), Path("/a b/ü&?;.so"))))


@given(st.builds(TokenUri, TOKEN, st.one_of(st.none(), TEXT), st.one_of(st.none(), st.binary(max_size=9)), PATH, PATH))
def test_a_uri_is_read_as_it_was_written(uri: TokenUri) -> None:
    assert uri == TokenUri.parse(str(uri))


@given(st.one_of(st.text(max_size=80), st.text(alphabet="pkcs1:token=;?&%a0-value", max_size=60)))
def test_any_text_is_a_uri_or_is_refused(text: str) -> None:
    try:
        uri = TokenUri.parse(f"pkcs11:{text}")
    except KeyAccessError:
        return
    assert uri == TokenUri.parse(str(uri))
