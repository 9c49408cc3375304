"""A journal: records appended to a file, each on the disk when `append` returns; read back after a kill.

    file     begins with the 32 bytes that it belongs to; then records
    record   length of the payload, 4 bytes, the greatest first; the first 4 bytes of the length's SHA-256, and the
             first 8 of the payload's; the payload

A process that is killed leaves whole records, and at most one at the end that the disk has in part: it was confirmed to
nobody, and is dropped. A record that is wrong with others after it was changed, or the disk failed: nothing of the
journal is used.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

from twinseal.digests import sha256
from twinseal.errors import EvidenceError
from twinseal.files import sync_folder
from twinseal.reading import open_regular

_LENGTH, _LENGTH_CHECK, _CHECK, _OWNER = 4, 4, 8, 32
_HEAD = _LENGTH + _LENGTH_CHECK + _CHECK
MAX_PAYLOAD_BYTES = 64 << 20


class RowJournal:
    """A journal that is open for appending, by one process.

    Attributes:
        size: Of the file, bytes.
    """

    def __init__(self, descriptor: int, size: int) -> None:
        self._descriptor, self.size = descriptor, size

    @classmethod
    def begin(cls, path: Path, owner: bytes) -> RowJournal:
        """A new, empty journal; on the disk when this returns.

        Args:
            path: Its file; replaced if it is there.
            owner: 32 bytes, what it belongs to.

        Raises:
            OSError: It cannot be written.
        """
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
        journal = cls(descriptor, 0)
        try:
            journal._write(owner)
            sync_folder(path.parent)
        except OSError:
            os.close(descriptor)
            raise
        return journal

    @classmethod
    def go_on(cls, path: Path, size: int) -> RowJournal:
        """Append to a journal after its first `size` bytes, which were read; what was cut off is removed.

        Raises:
            OSError: It cannot be written.
        """
        descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW)
        os.ftruncate(descriptor, size)
        return cls(descriptor, size)

    def append(self, *payloads: bytes) -> None:
        """Append a record of each; they are on the disk when this returns.

        Raises:
            ValueError: One is too long.
            OSError: They are not on the disk, and nothing of them is left where the disk allows that.
        """
        longest = max(map(len, payloads), default=0)
        if longest > MAX_PAYLOAD_BYTES:
            raise ValueError(f"journal: expected at most {MAX_PAYLOAD_BYTES} bytes, got {longest}")
        self._write(b"".join(_head(item) + item for item in payloads))

    def _write(self, data: bytes) -> None:
        try:
            done = 0
            while done < len(data):
                done += os.pwrite(self._descriptor, data[done:], self.size + done)
            os.fdatasync(self._descriptor)
        except OSError:
            os.ftruncate(self._descriptor, self.size)
            raise
        self.size += len(data)

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)

    def __enter__(self) -> RowJournal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def read_journal(path: Path, owner: bytes) -> Iterator[tuple[bytes, int]]:
    """Each record's payload, and where it ends; first, empty, where the records begin.

    Raises:
        EvidenceError: It belongs to something else, or a record before the end is wrong.
        OSError: There is no such file.
    """
    with open_regular(path) as stream:
        if stream.read(_OWNER) != owner:
            raise EvidenceError(f"{path}: expected the journal of this memory, got another")
        at = _OWNER
        yield b"", at
        while len(head := stream.read(_HEAD)) == _HEAD:
            length = int.from_bytes(head[:_LENGTH])
            is_ours = head[_LENGTH:-_CHECK] == _check(head[:_LENGTH], _LENGTH_CHECK) and length <= MAX_PAYLOAD_BYTES
            payload = stream.read(length) if is_ours else b""
            if is_ours and len(payload) < length:
                return  # cut off
            if head != _head(payload):
                more = stream.read(1)
                if not more or not any(map(any, (head, payload, more, *iter(lambda: stream.read(1 << 20), b"")))):
                    return  # the last one, which the disk has in part
                raise EvidenceError(f"{path}: expected the record at byte {at} as it was written, got another")
            at += len(head) + length
            yield payload, at


def _head(payload: bytes) -> bytes:
    length = len(payload).to_bytes(_LENGTH)
    return length + _check(length, _LENGTH_CHECK) + _check(payload, _CHECK)


def _check(data: bytes, size: int) -> bytes:
    return bytes.fromhex(sha256(data))[:size]
