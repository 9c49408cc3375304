from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.trust.scenes import MODEL_ID, describe
from twinseal.digests import canonical_json, parse_json
from twinseal.errors import EvidenceError, TwinsealError
from twinseal.files import FileRecord
from twinseal.trust.release.release import VERDICT, Release

SHA = st.from_regex(r"[0-9a-f]{64}", fullmatch=True)
LENGTH = st.integers(0, 2**33)
NAMES = st.lists(st.from_regex(r"[a-z]{1,6}(/[a-z]{1,6})?\.bin", fullmatch=True), min_size=1, max_size=4, unique=True)


@st.composite
def releases(draw: st.DrawFn) -> Release:
    paths = sorted({f"model/{name}" for name in draw(NAMES)} | {"model.sig.json", VERDICT, "evidence/train.dsse.json"})
    files = tuple(FileRecord(path, draw(LENGTH), draw(SHA)) for path in paths)
    version = draw(st.integers(1, 2**31))
    parent = draw(st.none() | st.integers(1, version - 1)) if version > 1 else None
    verdict = next(record.sha256 for record in files if record.path == VERDICT)
    model = draw(st.from_regex(r"[a-z][a-z0-9-]{0,20}", fullmatch=True).filter(lambda n: n not in ("root", "targets")))
    return Release(model, version, files, verdict, draw(SHA), "m-" + draw(SHA)[:32], parent)


@given(releases())
def test_a_release_reads_back_as_itself(release: Release) -> None:
    assert release == Release.from_bytes(release.to_bytes())
    assert release.sha256 == Release.from_bytes(release.to_bytes()).sha256


def test_a_release_describes_every_file_of_a_bundle(honest_bundle: Path) -> None:
    release = describe(honest_bundle, version=3)
    here = sorted(p.relative_to(honest_bundle).as_posix() for p in honest_bundle.rglob("*") if p.is_file())
    assert here == [record.path for record in release.files]
    assert (release.version, release.parent_version, release.target) == (3, 2, "pump-rul/release.json")
    assert [record.path for record in release.model_files] == [
        "model/config.json",
        "model/contract.json",
        "model/model.safetensors",
    ]


FILE = {"path": "model/x.bin", "length": 1, "sha256": "a" * 64}


def _files(*more: dict[str, Any]) -> Any:
    return lambda files: sorted([*files, *more], key=lambda item: str(item["path"]))


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("version", 0, "release version: expected 1 to"),
        ("version", True, "release version: expected 1 to"),
        ("version", 1.0, "release version: expected 1 to"),
        ("version", 10**30, "release version: expected 1 to"),
        ("parent_version", 1, "release parent: expected a version before 1"),
        ("parent_version", 7, "release parent: expected a version before 1"),
        ("model", "../pump", "models: expected names"),
        ("model", "targets", "models: expected names"),
        ("model", ["pump"], "models: expected names"),
        ("policy_sha256", "A" * 64, "policy_sha256: expected a SHA-256"),
        ("verdict_sha256", "b" * 64, "release verdict: expected bbbbbbbbbbbb"),
        ("mlflow_model_id", "../../etc", "expected a model id m-"),
        ("mlflow_model_id", MODEL_ID + "\n", "expected a model id m-"),
        ("schema", "v2", "expected a release of"),
        ("files", [], "expected files in order of path, got none"),
        ("files", {"a": 1}, "expected a list of files"),
        ("files", _files({**FILE, "path": "model/../../x"}), "expected a plain relative path"),
        ("files", _files({**FILE, "path": "/etc/passwd"}), "expected a plain relative path"),
        ("files", _files({**FILE, "path": "model/.git/x"}), "expected a plain relative path"),
        ("files", _files({**FILE, "path": "model/cоnfig.json"}), "expected a plain relative path"),  # a Cyrillic о
        ("files", _files({**FILE, "path": "MODEL/x"}), "expected files under model/ and evidence/ alone"),
        ("files", _files({**FILE, "path": "MLmodel"}), "expected files under model/ and evidence/ alone"),
        ("files", _files({**FILE, "path": "evidence/code/x.py"}), "expected files under model/ and evidence/ alone"),
        ("files", _files({**FILE, "path": "model/CONFIG.json"}), "expected one file of this name"),
        ("files", _files(FILE, FILE), "one"),
        ("files", _files({**FILE, "length": -1}), "expected a length"),
        ("files", _files({**FILE, "length": 1 << 60}), "expected a length"),
        ("files", _files({**FILE, "mode": 1}), "expected path, length and sha256"),
        ("files", lambda files: files[::-1], "expected files in order of path"),
        ("files", lambda files: [f for f in files if not f["path"].startswith("model/")], "expected a model and its"),
        ("files", lambda files: [f for f in files if f["path"] != "model.sig.json"], "expected a model and its"),
        ("files", lambda files: [f for f in files if f["path"] != VERDICT], "release verdict: expected"),
    ],
)
def test_a_release_that_cannot_be_is_refused(honest_bundle: Path, field: str, value: Any, message: str) -> None:
    plain = parse_json(describe(honest_bundle).to_bytes(), "release")
    plain[field] = value(plain[field]) if callable(value) else value
    with pytest.raises(EvidenceError, match=message):
        Release.from_bytes(canonical_json(plain))


@pytest.mark.parametrize("change", [b" ", b"\n"])
def test_a_second_spelling_of_a_release_is_refused(honest_bundle: Path, change: bytes) -> None:
    with pytest.raises(EvidenceError, match="expected the canonical bytes of a release, got another form"):
        Release.from_bytes(describe(honest_bundle).to_bytes() + change)


def test_a_missing_or_an_added_field_is_refused(honest_bundle: Path) -> None:
    plain = parse_json(describe(honest_bundle).to_bytes(), "release")
    for broken in ({**plain, "note": "x"}, {k: v for k, v in plain.items() if k != "parent_version"}):
        with pytest.raises(EvidenceError, match="expected a release of"):
            Release.from_bytes(canonical_json(broken))


@given(st.binary(max_size=200))
def test_hostile_bytes_are_no_release_and_no_traceback(data: bytes) -> None:
    with pytest.raises(TwinsealError):
        Release.from_bytes(data)


@given(st.data())
def test_one_changed_byte_is_another_release_or_none(honest_bundle: Path, data: st.DataObject) -> None:
    honest = describe(honest_bundle)
    raw = bytearray(honest.to_bytes())
    place = data.draw(st.integers(0, len(raw) - 1))
    raw[place] ^= data.draw(st.integers(1, 255))
    with contextlib.suppress(TwinsealError):
        assert honest != Release.from_bytes(bytes(raw))
