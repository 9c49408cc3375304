"""Where a passphrase comes from when nobody is asked, in which order, and that it goes nowhere else."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from twinseal.errors import KeyAccessError
from twinseal.trust.keys import passphrases
from twinseal.trust.keys.key import generate_key_pair, needs_passphrase, open_signer


@pytest.fixture(autouse=True)
def nothing_given(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if "PASSPHRASE" in name]:
        monkeypatch.delenv(name)
    monkeypatch.setattr(passphrases, "descriptors", passphrases.Descriptors())


def pipe(data: bytes) -> int:
    reader, writer = os.pipe()
    os.write(writer, data)
    os.close(writer)
    return reader


@pytest.fixture
def keys(tmp_path: Path) -> Iterator[list[str]]:
    for holder in ("alice", "bruno"):
        generate_key_pair(tmp_path / f"{holder}.pem", passphrase=b"right")
    return [f"file:{tmp_path}/{holder}.pem" for holder in ("alice", "bruno")]


def test_a_descriptor_gives_its_first_line_to_every_key_and_is_closed(
    keys: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    number = pipe(b"right\nnot this\n")
    monkeypatch.setenv("TWINSEAL_PASSPHRASE_FD", str(number))
    assert not needs_passphrase(keys[0])
    for uri in keys:
        open_signer(uri)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(number)


def test_the_number_of_a_descriptor_that_is_read_may_mean_another_file_later(
    keys: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = pipe(b"right")
    monkeypatch.setenv("TWINSEAL_PASSPHRASE_FD", str(number))
    open_signer(keys[0])
    (tmp_path / "other").write_text("wrong")
    other = os.open(tmp_path / "other", os.O_RDONLY)
    os.dup2(other, number)
    try:
        open_signer(keys[1])
        os.fstat(number)  # not closed: it is not ours
    finally:
        os.close(number)
        if other != number:
            os.close(other)


def test_the_command_lines_descriptor_comes_before_the_environments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TWINSEAL_PASSPHRASE_FD", "999")
    passphrases.descriptors.choose(pipe(b"chosen\n"))
    assert b"chosen" == passphrases.find_passphrase("alice")
    assert "chosen" not in repr(passphrases.descriptors)


def test_the_order_is_the_holders_own_then_the_descriptors_then_the_common_one(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (None, False) == (passphrases.find_passphrase("alice"), passphrases.is_available("alice"))
    monkeypatch.setenv("TWINSEAL_PASSPHRASE", "common")
    assert b"common" == passphrases.find_passphrase("alice")
    passphrases.descriptors.choose(pipe(b"line"))
    assert b"line" == passphrases.find_passphrase("alice")
    monkeypatch.setenv("TWINSEAL_ALICE_PASSPHRASE", "own")
    assert [b"own", b"line"] == [passphrases.find_passphrase(holder) for holder in ("alice", "bruno")]
    monkeypatch.setenv("TWINSEAL_ALICE_PASSPHRASE", "")
    assert b"line" == passphrases.find_passphrase("alice")


def test_a_passphrase_that_is_no_text_is_taken_as_its_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(os.environb, b"TWINSEAL_PASSPHRASE", b"p\xff\xfe")
    assert b"p\xff\xfe" == passphrases.find_passphrase("alice")


@pytest.mark.parametrize("number", ["999", "1", "2", "-1", "x", "3.0", "hunter2-secret", "9" * 30, "³"])
def test_a_bad_descriptor_is_refused_and_not_shown_if_it_may_be_the_passphrase(
    number: str, keys: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TWINSEAL_PASSPHRASE_FD", number)
    monkeypatch.setenv("TWINSEAL_PASSPHRASE", "right")  # named is named: no falling back to another
    with pytest.raises(KeyAccessError, match="file descriptor") as caught:
        open_signer(keys[0])
    assert "hunter2" not in str(caught.value) + caught.value.remedy


def test_a_descriptor_without_a_line_or_with_an_endless_one_or_of_a_folder_is_refused(tmp_path: Path) -> None:
    for data, said in ((b"", "got none"), (b"\nsecond\n", "got none"), (b"x" * 5000, "got more")):
        descriptors = passphrases.Descriptors()
        descriptors.choose(pipe(data))
        with pytest.raises(KeyAccessError, match=said):
            descriptors.read_line()
    folder, descriptors = os.open(tmp_path, os.O_RDONLY), passphrases.Descriptors()
    descriptors.choose(folder)
    with pytest.raises(KeyAccessError, match="Is a directory"):
        descriptors.read_line()
    os.close(folder)


def test_what_follows_the_line_is_left_for_others() -> None:
    number = pipe(b"right\nyes\n")
    copy = os.dup(number)
    descriptors = passphrases.Descriptors()
    descriptors.choose(number)
    assert b"right" == descriptors.read_line()
    assert b"yes\n" == os.read(copy, 99)
    os.close(copy)
