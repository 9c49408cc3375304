from __future__ import annotations

import base64
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

from tests.trust.scenes import Scene, statements
from twinseal.digests import canonical_json, parse_json
from twinseal.errors import EvidenceError, SignatureError
from twinseal.evidence import SPLIT_SALT, Statement, Subject
from twinseal.trust.signing.dsse import sign_envelope
from twinseal.trust.signing.split_salt import draw_salt, read_salt

TELEMETRY = Subject("data/accepted/telemetry.parquet", "a" * 64)
P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


def test_the_same_telemetry_has_the_same_salt_and_other_telemetry_another(scene: Scene, tmp_path: Path) -> None:
    salts = [draw_salt(tmp_path / name, TELEMETRY, scene.home) for name in ("one", "two")]
    other = draw_salt(tmp_path / "three", replace(TELEMETRY, sha256="b" * 64), scene.home)
    assert salts[0] == salts[1] == read_salt(tmp_path / "one", TELEMETRY, scene.anchor) != other
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    assert 64 == len(salts[0])


def test_a_salt_that_was_drawn_stays_where_signatures_differ_each_time(scene: Scene, tmp_path: Path) -> None:
    """As a token signs: what lies there for this telemetry is kept, though it is not what would be signed now."""
    path = tmp_path / "salt"
    another = Statement((TELEMETRY,), SPLIT_SALT, {"purpose": "split of units", "nonce": "another"})
    path.write_bytes(sign_envelope(another.to_bytes(), scene.signer("assessor")))
    kept = draw_salt(path, TELEMETRY, scene.home)
    assert kept != draw_salt(tmp_path / "fresh", TELEMETRY, scene.home)
    assert kept == read_salt(path, TELEMETRY, scene.anchor)


@pytest.mark.attack("P")
def test_a_salt_of_other_telemetry(scene: Scene, tmp_path: Path) -> None:
    """The salt that was signed for other telemetry, under which one's units lie as one likes, is served for this"""
    path = tmp_path / "salt"
    draw_salt(path, replace(TELEMETRY, sha256="b" * 64), scene.home)
    with pytest.raises(EvidenceError, match="expected a salt for data/accepted/telemetry.parquet aaaaaaaaaaaa"):
        read_salt(path, TELEMETRY, scene.anchor)
    draw_salt(path, TELEMETRY, scene.home)  # the stage does not keep it
    assert read_salt(path, TELEMETRY, scene.anchor) == draw_salt(tmp_path / "fresh", TELEMETRY, scene.home)


@pytest.mark.attack("P")
@pytest.mark.parametrize("holder", ["builder", "alice", "registrar", "custodian-1"])
def test_a_salt_by_whoever_trains(scene: Scene, tmp_path: Path, holder: str) -> None:
    """The builder, or anyone but the assessor, signs a salt that gives the test set they want"""
    path, statement = tmp_path / "salt", Statement((TELEMETRY,), SPLIT_SALT, {"purpose": "split of units"})
    path.write_bytes(sign_envelope(statement.to_bytes(), scene.signer(holder)))
    with pytest.raises(SignatureError, match="expected a signature by assessor"):
        read_salt(path, TELEMETRY, scene.anchor)
    assert draw_salt(path, TELEMETRY, scene.home) == read_salt(path, TELEMETRY, scene.anchor)


@pytest.mark.attack("P")
def test_the_other_signature_of_the_same_salt(scene: Scene, tmp_path: Path) -> None:
    """ECDSA's other signature, which anyone can make, is put in the salt's place: it gives the same split"""
    path = tmp_path / "salt"
    honest = draw_salt(path, TELEMETRY, scene.home)
    envelope = parse_json(path.read_bytes(), "salt")
    r, s = decode_dss_signature(base64.b64decode(envelope["signatures"][0]["sig"]))
    other = encode_dss_signature(r, P256_ORDER - s)
    envelope["signatures"][0]["sig"] = base64.b64encode(other).decode()
    path.write_bytes(canonical_json(envelope))
    assert honest == draw_salt(path, TELEMETRY, scene.home)


def test_a_record_in_the_place_of_a_salt_is_refused(scene: Scene, tmp_path: Path) -> None:
    path = tmp_path / "salt"
    record = statements("pump-rul", b"weights")["validate"]
    path.write_bytes(sign_envelope(record.to_bytes(), scene.signer("assessor")))
    with pytest.raises(EvidenceError, match="expected a salt for"):
        read_salt(path, TELEMETRY, scene.anchor)
    with pytest.raises(SignatureError, match="expected the signed salt of the split, got none"):
        read_salt(tmp_path / "absent", TELEMETRY, scene.anchor)
