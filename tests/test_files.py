from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinseal.errors import DigestMismatchError, EvidenceError
from twinseal.files import FileRecord, check_path, inventory, tree_digest, write_json, write_whole

SHA = "a" * 64
RECORDS = st.builds(
    FileRecord,
    st.from_regex(r"[a-z0-9_]{1,8}(/[a-z0-9_]{1,8}){0,2}", fullmatch=True),
    st.integers(0, 2**33),
    st.from_regex(r"[0-9a-f]{64}", fullmatch=True),
)


@given(RECORDS)
def test_a_record_reads_back_as_itself(record: FileRecord) -> None:
    assert record == FileRecord.from_dict(record.to_dict())


@given(st.lists(RECORDS, max_size=5), st.randoms())
def test_the_order_of_records_does_not_change_the_tree_digest(records: list[FileRecord], random: object) -> None:
    shuffled = sorted(records, key=lambda _: random.random())  # type: ignore[attr-defined]
    assert tree_digest(tuple(records)) == tree_digest(tuple(shuffled))


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/etc/passwd",
        "..",
        "a/../b",
        "a//b",
        "a/",
        ".git/config",
        "a/.hidden",
        "a\\b",
        "a\0b",
        "naïve",
        "аdmin",
        "a b",
        "x" * 129,
        3,
    ],
)
def test_a_name_that_could_be_another_place_is_refused(path: object) -> None:
    with pytest.raises(EvidenceError, match="expected a plain relative path"):
        check_path(path)


@pytest.mark.parametrize(("length", "sha"), [(-1, SHA), (True, SHA), (1.0, SHA), (2**40, SHA), (1, "A" * 64), (1, "")])
def test_a_record_with_an_impossible_length_or_digest_cannot_be_built(length: object, sha: str) -> None:
    with pytest.raises(EvidenceError, match="expected a"):
        FileRecord("f", length, sha)  # type: ignore[arg-type]


def test_an_inventory_lists_every_file_with_length_and_digest(tmp_path: Path) -> None:
    write_whole(tmp_path / "b" / "c.txt", b"abc")
    write_whole(tmp_path / "a.txt", b"")
    listed = inventory(tmp_path)
    assert [("a.txt", 0), ("b/c.txt", 3)] == [(r.path, r.length) for r in listed]
    assert listed[1].sha256.startswith("ba7816bf")  # FIPS 180-2, appendix B.1


@pytest.mark.parametrize("make", ["symlink", "dangling", "linked folder", "fifo"])
def test_what_is_no_regular_file_is_refused_not_skipped(tmp_path: Path, make: str) -> None:
    write_whole(tmp_path / "a.txt", b"abc")
    assert 1 == len(inventory(tmp_path))
    if make == "fifo":
        os.mkfifo(tmp_path / "x")
    else:
        (tmp_path / "x").symlink_to({"symlink": "a.txt", "dangling": "gone", "linked folder": "/"}[make])
    with pytest.raises(DigestMismatchError, match="x: expected a regular file, got a"):
        inventory(tmp_path)


@pytest.mark.parametrize("name", [".gitattributes", ".git/config", "näme", "a b"])
def test_a_file_with_a_hidden_or_odd_name_is_refused_not_skipped(tmp_path: Path, name: str) -> None:
    write_whole(tmp_path / name, b"x")
    with pytest.raises(DigestMismatchError, match="expected a plain relative path"):
        inventory(tmp_path)


def test_two_names_that_differ_in_case_only_are_refused(tmp_path: Path) -> None:
    write_whole(tmp_path / "Model.bin", b"x")
    write_whole(tmp_path / "model.bin", b"y")
    with pytest.raises(DigestMismatchError, match="expected one file of this name"):
        inventory(tmp_path)


def test_a_write_that_fails_leaves_the_old_bytes_and_nothing_beside_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_whole(tmp_path / "f", b"old")
    monkeypatch.setattr(os, "fsync", _full_disk)
    with pytest.raises(OSError, match="No space left"):
        write_whole(tmp_path / "f", b"new")
    assert ["f"] == [p.name for p in tmp_path.iterdir()]
    assert b"old" == (tmp_path / "f").read_bytes()


def test_json_for_people_refuses_nan_and_writes_nothing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "f.json", {"x": float("nan")})
    assert [] == list(tmp_path.iterdir())


def _full_disk(descriptor: int) -> None:
    raise OSError(28, "No space left on device")
