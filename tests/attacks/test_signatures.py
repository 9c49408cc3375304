"""Signatures are forged, removed, duplicated or re-encoded, and the reviewers sign the release that has them."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.attacks.field import UNTIL, Field
from tests.attacks.forge import (
    canonical,
    edited,
    flip,
    judge,
    malleated,
    payload_of,
    release_of,
    sha256,
    sign_model,
    sign_statement,
)
from tests.twin.deployment import MODEL
from twinseal.errors import (
    DigestMismatchError,
    EvidenceError,
    SignatureError,
    ThresholdError,
    TwinsealError,
)

OMS, EVADE = "model.sig.json", "evidence/evade.dsse.json"
OTHER_KEY = "OMS bundle: expected the signature of builder, got another"


@pytest.mark.attack(4)
@pytest.mark.parametrize("thief", ["assessor", "alice", "registrar"])
def test_the_model_signed_by_another_key(field: Field, thief: str) -> None:
    """The model is signed with the key of the assessor, a reviewer or the registrar, not the builder's."""
    assert 2 == field.accepts()
    sign_model(field.bundle / "model", field.keys.folder / f"{thief}.pem", field.bundle / OMS)
    field.release_3()
    field.refuses(SignatureError, OTHER_KEY)


@pytest.mark.attack(4)
def test_the_model_signed_by_another_key_under_the_builders_hint(field: Field) -> None:
    """The model is signed with the assessor's key under the builder's key hint."""
    assert 2 == field.accepts()
    honest = json.loads((field.bundle / OMS).read_bytes())
    sign_model(field.bundle / "model", field.keys.folder / "assessor.pem", field.bundle / OMS)
    stolen = json.loads((field.bundle / OMS).read_bytes())
    (field.bundle / OMS).write_bytes(canonical(stolen | {"verificationMaterial": honest["verificationMaterial"]}))
    field.release_3()
    field.refuses(SignatureError, OTHER_KEY)


@pytest.mark.attack(4)
@pytest.mark.parametrize("curve", [ec.SECP384R1(), ec.SECP521R1()], ids=["P-384", "P-521"])
def test_the_model_signed_on_another_curve(field: Field, curve: ec.EllipticCurve) -> None:
    """The model is signed with an attacker's key on curve P-384 or P-521."""
    assert 2 == field.accepts()
    pem = ec.generate_private_key(curve).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (field.path / "other.pem").write_bytes(pem)
    sign_model(field.bundle / "model", field.path / "other.pem", field.bundle / OMS)
    field.release_3()
    field.refuses(SignatureError, OTHER_KEY)


@pytest.mark.attack(4)
def test_the_builders_signature_with_model_signings_defaults(field: Field) -> None:
    """The builder signs with the defaults of `model_signing`, which ignore files in `.git/`."""
    assert 2 == field.accepts()
    sign_model(field.bundle / "model", field.keys.folder / "builder.pem", field.bundle / OMS, ignore=True)
    field.release_3()
    field.refuses(SignatureError, "expected no ignored paths, got a bundle that names its own")


def test_a_strict_signature_by_model_signing_is_taken(field: Field) -> None:
    """What model_signing itself signs with the builder's key, nothing ignored, is accepted."""
    sign_model(field.bundle / "model", field.keys.folder / "builder.pem", field.bundle / OMS)
    field.release_3()
    assert 3 == field.pull().model.release.version


UNSIGNED_EDITS: dict[str, tuple[Callable[[Any], Any], str]] = {
    "stripped": (lambda b: b["dsseEnvelope"].update(signatures=[]), "expected one signature, got 0"),
    "signatures none": (lambda b: b["dsseEnvelope"].update(signatures=None), "expected one signature, got none"),
    "junk second": (
        lambda b: b["dsseEnvelope"]["signatures"].append({"sig": "AAAA", "keyid": ""}),
        "expected one signature, got 2",
    ),
    "the same twice": (
        lambda b: b["dsseEnvelope"]["signatures"].append(dict(b["dsseEnvelope"]["signatures"][0], keyid="second")),
        "expected one signature, got 2",
    ),
    "payload type changed": (
        lambda b: b["dsseEnvelope"].update(payloadType="application/json"),
        "expected a payload of application/vnd.in-toto",
    ),
    "a certificate": (
        lambda b: b.update(verificationMaterial={"certificate": {"rawBytes": "AAAA"}}),
        "OMS material: expected exactly publicKey",
    ),
    "a log entry": (
        lambda b: b["verificationMaterial"].update(tlogEntries=[{}]),
        "expected no log entries beside a pinned key, got some",
    ),
    "another media type": (
        lambda b: b.update(mediaType="application/vnd.dev.sigstore.bundle+json;version=0.1"),
        "expected application/vnd.dev.sigstore.bundle.v0.3",
    ),
    "a field more": (lambda b: b.update(more=1), "OMS bundle: expected exactly"),
}


@pytest.mark.attack(4)
@pytest.mark.parametrize("kind", UNSIGNED_EDITS)
def test_the_oms_bundle_is_edited(field: Field, kind: str) -> None:
    """The OMS bundle has no signature, an extra one, another type, a certificate or a log entry."""
    assert 2 == field.accepts()
    edit, message = UNSIGNED_EDITS[kind]
    (field.bundle / OMS).write_bytes(edited((field.bundle / OMS).read_bytes(), edit))
    field.release_3()
    field.refuses(SignatureError, message)


SIGNED_EDITS: dict[str, tuple[Callable[[Any], Any], str]] = {
    "legacy predicate": (
        lambda s: s.update(predicateType="https://model_signing/Digests/v0.1"),
        "expected https://model_signing/signature/v1.0, got https://model_signing/Digests/v0.1",
    ),
    "ignored paths": (
        lambda s: s["predicate"]["serialization"].update(ignore_paths=["model.safetensors"]),
        "expected no ignored paths, got a bundle that names its own",
    ),
    "ignored paths, none": (
        lambda s: s["predicate"]["serialization"].update(ignore_paths=[]),
        "expected no ignored paths, got a bundle that names its own",
    ),
    "links allowed": (
        lambda s: s["predicate"]["serialization"].update(allow_symlinks=True),
        "OMS predicate: expected {'method': 'files'",
    ),
    "links allowed, a nought": (
        lambda s: s["predicate"]["serialization"].update(allow_symlinks=0),
        "OMS predicate: expected {'method': 'files'",
    ),
    "by shards": (
        lambda s: s["predicate"]["serialization"].update(method="shards", shard_size=10**9),
        "OMS predicate: expected {'method': 'files'",
    ),
    "no files": (lambda s: s["predicate"].update(resources=[]), "OMS predicate: expected files, got none"),
    "another hash": (
        lambda s: s["predicate"]["resources"][0].update(algorithm="blake2b"),
        "OMS resource: expected a SHA-256",
    ),
    "no statement": (lambda s: s.update(_type="https://in-toto.io/Statement/v0.1"), "expected https://in-toto.io/Sta"),
    "a predicate's field more": (
        lambda s: s["predicate"].update(note="x"),
        "OMS predicate: expected exactly resources, serialization",
    ),
}


@pytest.mark.attack(4)
@pytest.mark.parametrize("kind", SIGNED_EDITS)
def test_the_builder_signs_a_wrong_oms_statement(field: Field, kind: str) -> None:
    """The builder signs an OMS statement with a legacy type, ignored paths, symlinks allowed or no files."""
    assert 2 == field.accepts()
    edit, message = SIGNED_EDITS[kind]
    (field.bundle / OMS).write_bytes(sign_statement((field.bundle / OMS).read_bytes(), field.keys, "builder", edit))
    field.release_3()
    field.refuses(SignatureError, message)


@pytest.mark.attack(4)
@pytest.mark.parametrize("edit", ["a file less", "a file more", "one file twice"])
def test_the_builder_signs_other_files(field: Field, edit: str) -> None:
    """The builder signs a file list with a file missing, a file added or a file listed twice."""
    assert 2 == field.accepts()

    def change(statement: Any) -> None:
        listed = statement["predicate"]["resources"]
        if edit == "a file less":
            listed.pop()
        else:
            listed.append(dict(listed[0], name="more.bin" if edit == "a file more" else listed[0]["name"]))
        root = b"".join(bytes.fromhex(item["digest"]) for item in listed)
        statement["subject"][0]["digest"]["sha256"] = sha256(root)  # the library checks it: an honest sum of the list

    (field.bundle / OMS).write_bytes(sign_statement((field.bundle / OMS).read_bytes(), field.keys, "builder", change))
    field.release_3()
    field.refuses(DigestMismatchError, "expected exactly the files that the builder signed, got others: ")


@pytest.mark.attack(4)
def test_the_builder_signs_another_payload_type(field: Field) -> None:
    """The builder signs the OMS statement under another payload type than that of in-toto."""
    assert 2 == field.accepts()
    bundle = json.loads((field.bundle / OMS).read_bytes())
    payload = base64.b64decode(bundle["dsseEnvelope"]["payload"])
    bundle["dsseEnvelope"] = field.keys.envelope(payload, "builder", "application/vnd.other+json")
    bundle["dsseEnvelope"]["signatures"][0]["keyid"] = ""
    (field.bundle / OMS).write_bytes(canonical(bundle))
    field.release_3()
    field.refuses(SignatureError, "expected a payload of application/vnd.in-toto.json, got application/vnd.other")


@pytest.mark.attack(2)
def test_an_empty_model(field: Field) -> None:
    """The builder and the reviewers sign an empty model."""
    assert 2 == field.accepts()
    for path in (field.bundle / "model").iterdir():
        path.unlink()
    sign_model(field.bundle / "model", field.keys.folder / "builder.pem", field.bundle / OMS)
    field.release_3()
    field.refuses(EvidenceError, "release: expected a model and its model.sig.json, got")


@pytest.mark.attack(2)
@pytest.mark.parametrize("path", [OMS, "evidence/assess.dsse.json"])
def test_the_signature_or_the_verdict_is_missing(field: Field, path: str) -> None:
    """The reviewers sign a release without the OMS signature or without the verdict."""
    assert 2 == field.accepts()
    (field.bundle / path).unlink()
    field.release_3()
    field.refuses(EvidenceError, "release: expected a model and its|release verdict: expected")


@pytest.mark.attack(4, 5)
@pytest.mark.parametrize("path", [OMS, EVADE, "evidence/assess.dsse.json"])
@pytest.mark.parametrize("at", [0, 1, -1, -100])
def test_a_signature_is_truncated(field: Field, path: str, at: int) -> None:
    """The reviewers sign a release with a truncated OMS signature, record of evidence or verdict."""
    assert 2 == field.accepts()
    (field.bundle / path).write_bytes((field.bundle / path).read_bytes()[:at])
    field.release_3()
    field.refuses(SignatureError, "expected JSON, got something else")


@pytest.mark.attack(5)
@pytest.mark.parametrize("thief", ["builder", "alice", "registrar"])
def test_evidence_signed_by_another_role(field: Field, thief: str) -> None:
    """The record of evade is signed by the builder, a reviewer or the registrar, not by the assessor."""
    assert 2 == field.accepts()
    verdict = payload_of((field.bundle / "evidence/assess.dsse.json").read_bytes())
    statement = payload_of((field.bundle / EVADE).read_bytes())
    (field.bundle / EVADE).write_bytes(canonical(field.keys.envelope(canonical(statement), thief)))
    judge(field.bundle, field.keys, verdict)
    field.release_3()
    field.refuses(SignatureError, r"evade.*: expected a signature by assessor \(assessor\), got")


def _spelt(change: Callable[[str], str], *way: str | int) -> Callable[[Any], None]:
    def edit(value: Any) -> None:
        *parents, last = way
        for parent in parents:
            value = value[parent]
        value[last] = change(value[last])

    return edit


def _second(value: Any) -> None:
    value["signatures"].append({"keyid": "0" * 64, "sig": value["signatures"][0]["sig"]})


def _loose_bits(text: str) -> str:
    """Another base64 that lax decoders read as the same bytes: padding bits that are not nought."""
    stem = text.rstrip("=")
    assert stem != text
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    return stem[:-1] + alphabet[alphabet.index(stem[-1]) + 1] + text[len(stem) :]


SIG, KEYID = ("signatures", 0, "sig"), ("signatures", 0, "keyid")
ENVELOPE_EDITS: dict[str, tuple[Callable[[Any], Any], str]] = {
    "stripped": (lambda e: e.update(signatures=[]), "expected a signature, got none"),
    "the same key under two identifiers": (_second, "expected a signature by assessor .* got one by another key"),
    "the same signature twice": (
        lambda e: e["signatures"].append(e["signatures"][0]),
        "expected one signature by each",
    ),
    "junk second": (
        lambda e: e["signatures"].append({"keyid": "junk", "sig": "AAAA"}),
        r"expected a signature by assessor \(assessor\), got one by another key",
    ),
    "another payload type": (
        lambda e: e.update(payloadType="application/json"),
        "expected a payload of application/vnd.in-toto",
    ),
    "identifier in capitals": (_spelt(str.upper, *KEYID), "expected a signature by assessor"),
    "identifier with a blank": (_spelt(lambda t: t + " ", *KEYID), "expected a signature by assessor"),
    "base64 with a newline": (_spelt(lambda t: t[:40] + "\n" + t[40:], "payload"), "expected base64"),
    "base64 for URLs": (_spelt(lambda t: t.replace("+", "-").replace("/", "_") + "-", *SIG), "expected base64"),
    # the length of a DER signature varies, so its base64 has padding of its own or none
    "base64 with more padding": (_spelt(lambda t: t + "=", *SIG), "expected (canonical )?base64"),
    "base64 with loose bits": (
        lambda e: e.update(payload=_loose_bits(_padded(e["payload"]))),
        "expected canonical base64, got another form",
    ),
    "a field more": (lambda e: e.update(more=1), "expected a DSSE envelope"),
    "a signature's field more": (
        lambda e: e["signatures"][0].update(cert="x"),
        "expected a signature of keyid and sig",
    ),
}


def _padded(text: str) -> str:
    data = base64.b64decode(text)
    while len(data) % 3 == 0:
        data += b" "
    return base64.b64encode(data).decode()


@pytest.mark.attack(5)
@pytest.mark.parametrize("kind", ENVELOPE_EDITS)
def test_the_envelope_of_a_record_is_edited(field: Field, kind: str) -> None:
    """The DSSE envelope of a record has no signature, one key under two key IDs, or non-canonical base64."""
    assert 2 == field.accepts()
    edit, message = ENVELOPE_EDITS[kind]
    verdict = payload_of((field.bundle / "evidence/assess.dsse.json").read_bytes())
    (field.bundle / EVADE).write_bytes(edited((field.bundle / EVADE).read_bytes(), edit))
    judge(field.bundle, field.keys, verdict)
    field.release_3()
    field.refuses(SignatureError, message)


@pytest.mark.attack(5)
def test_signature_malleability_of_evidence(field: Field) -> None:
    """Signature malleability (s → n − s) of a record: its digest is no longer the one in the verdict."""
    assert 2 == field.accepts()
    envelope = json.loads((field.bundle / EVADE).read_bytes())
    other = malleated(base64.b64decode(envelope["signatures"][0]["sig"]))
    envelope["signatures"][0]["sig"] = base64.b64encode(other).decode()
    (field.bundle / EVADE).write_bytes(canonical(envelope))
    field.release_3()
    field.refuses(EvidenceError, "verdict: expected one from the 6 statements of this bundle, got another")


@pytest.mark.attack(1)
@pytest.mark.parametrize("role", ["timestamp", MODEL])
def test_signature_malleability_of_metadata(field: Field, role: str) -> None:
    """Signature malleability (s → n − s) of TUF metadata: no effect on the timestamp, model role refused."""
    assert 2 == field.accepts()
    path = field.registry.metadata / ("timestamp.json" if role == "timestamp" else f"2.{role}.json")
    value = json.loads(path.read_bytes())
    for item in value["signatures"]:
        item["sig"] = malleated(bytes.fromhex(item["sig"])).hex()
    path.write_bytes(json.dumps(value).encode())
    if role == "timestamp":
        assert 2 == field.pull().model.release.version
    else:
        field.refuses(DigestMismatchError, MODEL)


@pytest.mark.attack(1)
@pytest.mark.parametrize("kind", ["stripped", "one key under two identifiers", "identifier in capitals", "junk"])
def test_the_reviewers_signatures_are_edited(field: Field, kind: str) -> None:
    """Stolen registrar key: signatures of the model role are removed, duplicated, renamed or made invalid."""
    assert 2 == field.accepts()
    role = field.registry.read(f"2.{MODEL}.json").to_dict()
    first = role["signatures"][0]
    role["signatures"] = {
        "stripped": [],
        "one key under two identifiers": [first, dict(first, keyid="0" * 64)],
        "identifier in capitals": [first, dict(role["signatures"][1], keyid=role["signatures"][1]["keyid"].upper())],
        "junk": [first, dict(role["signatures"][1], sig="00" * 70)],
    }[kind]
    field.registry.place(MODEL, canonical(role), 2)
    field.refuses(
        SignatureError if kind == "stripped" else ThresholdError,
        rf"{MODEL} was signed by {kind != 'stripped':d}/2 keys",
    )


@pytest.mark.attack(1)
@pytest.mark.parametrize("what", ["signed", "signatures", "targets"])
def test_a_model_role_with_a_duplicate_json_key(field: Field, what: str) -> None:
    """The model role has a duplicate JSON key: `signed`, `signatures` or `targets`."""
    assert 2 == field.accepts()
    text = field.registry.read(f"2.{MODEL}.json").to_bytes().decode()
    assert text.count(f'"{what}":') == 1
    twice = text.replace(f'"{what}":', f'"{what}":{{}},"{what}":')
    field.registry.place(MODEL, twice.encode(), 2)
    field.refuses(SignatureError, f"role {MODEL}: expected JSON, got something else .a key is given twice")


@pytest.mark.attack(2)
@pytest.mark.parametrize("kind", ["a key twice", "a key twice, deeper", "spaces", "a mark before it", "other order"])
def test_a_release_json_that_is_not_canonical(field: Field, kind: str) -> None:
    """The reviewers sign a release.json with duplicate keys, spaces, a byte order mark or another key order."""
    assert 2 == field.accepts()
    data = canonical(release_of(field.bundle, field.listed.read_bytes(), version=3))
    path = data.index(b'"path"')
    spelt = {
        "a key twice": data.replace(b'"version":3', b'"version":2,"version":3'),
        "a key twice, deeper": data[:path] + b'"path":"evil",' + data[path:],
        "spaces": json.dumps(json.loads(data), sort_keys=True).encode(),
        "a mark before it": b"\xef\xbb\xbf" + data,
        "other order": json.dumps(dict(reversed(json.loads(data).items())), separators=(",", ":")).encode(),
    }[kind]
    field.registry.release(spelt, MODEL, ("alice", "chiara"), UNTIL)
    field.refuses(EvidenceError, "expected JSON, got something else|expected the canonical bytes of a release, got")


@pytest.mark.attack(7)
@pytest.mark.parametrize(
    "name", ["bundle/model/config.json", "bundle/evidence/train.dsse.json", "role.json", "release.json"]
)
def test_one_bit_of_an_installed_file(field: Field, name: str) -> None:
    """One bit of an installed file is flipped: the twin does not start; the next pull installs it again."""
    assert 2 == field.pull().model.release.version
    flip(field.twin / "models" / (field.twin / "current").read_text() / name)
    with pytest.raises(TwinsealError, match="expected"):
        _ = field.version
    assert (True, 2) == (field.pull().changed, field.version)


def test_the_forgers_tools_make_what_is_accepted(field: Field) -> None:
    """The forgeries above fail for what was forged in them, not for how: untouched, the same tools' work passes."""
    verdict = payload_of((field.bundle / "evidence/assess.dsse.json").read_bytes())
    (field.bundle / OMS).write_bytes(
        sign_statement((field.bundle / OMS).read_bytes(), field.keys, "builder", lambda _: None)
    )
    statement = payload_of((field.bundle / EVADE).read_bytes())
    (field.bundle / EVADE).write_bytes(canonical(field.keys.envelope(canonical(statement), "assessor")))
    judge(field.bundle, field.keys, verdict)
    field.release_3()
    assert 3 == field.pull().model.release.version
