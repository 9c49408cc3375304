"""Fetching: one signed file streamed from a source into the twin's private folder, hashed once, on the way.

Another thread hashes and writes a block while this one waits for the network: hashing, writing and receiving all
release the interpreter's lock. At most one block is being filled and one being written, so the memory is bounded for
files of any size, and an interruption takes effect within a block. The written bytes count only after the comparison
with the signed record. The file is on the disk when `fetch` returns; to keep that wait short, writing to the disk
starts while the network still delivers.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO

from twinseal.errors import DigestMismatchError, RegistryError
from twinseal.files import FileRecord
from twinseal.trust.release.release import Release
from twinseal.twin.byte_sources import Source

BLOCK_BYTES = 1 << 20
_SYNC_BYTES = 64 << 20


def fetch(source: Source, release: Release, record: FileRecord, bundle: Path) -> FileRecord:
    """Stream one file into the private bundle; its record as it came.

    The path is the signed record's, which cannot name another place (`files.check_path`).

    Side effects: writes the file, flushed to the disk; on a refusal, a part of it.

    Args:
        source: Where from; not trusted.
        release: What the file belongs to.
        record: The file, as signed.
        bundle: The folder to write below; private.

    Raises:
        DigestMismatchError: The bytes are not those of the record.
        RegistryError: There is no such file in the registry, or it could not be fetched.
        OSError: It cannot be written.
    """
    target = bundle / record.path
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        chunks = source.open(f"candidates/{release.mlflow_model_id}/{record.path}", record.length)
    except FileNotFoundError as error:
        raise RegistryError(f"{record.path}: expected this file of release {release.version}, got none") from error
    with target.open("xb") as stream:
        got = _hash_and_write(chunks, record, stream)
    if got != record:
        raise DigestMismatchError(
            f"{record.path}: expected sha256 {record.sha256[:12]}… ({record.length} bytes) as signed, "
            f"got {got.sha256[:12]}… ({got.length} bytes), release {release.version} of {release.model}",
            remedy="The registry's copy was changed, or the way to it is not sound. Nothing was installed.",
        )
    return got


def _hash_and_write(chunks: Iterable[bytes], record: FileRecord, stream: BinaryIO) -> FileRecord:
    """Hash and write what comes, as long as it is within the signed length; flushed to the disk."""
    digest, length = hashlib.sha256(), 0
    before: Future[None] | None = None
    with ThreadPoolExecutor(1, thread_name_prefix="fetch") as other:
        for block in _blocks(chunks):
            length += sum(map(len, block))
            if before is not None:
                before.result()  # raises what went wrong there: a full disk, say
            if length > record.length:
                break  # a source that does not keep to its limit; the comparison refuses it
            before = other.submit(_write_block, block, digest, stream)
        if before is not None:
            before.result()
    stream.flush()
    os.fsync(stream.fileno())
    return FileRecord(record.path, length, digest.hexdigest())


def _write_block(block: list[bytes], digest: hashlib._Hash, stream: BinaryIO) -> None:
    """Hash and write a block; wait for the disk now and then, while the network delivers."""
    start = stream.tell()
    for chunk in block:
        digest.update(chunk)
        stream.write(chunk)
    if stream.tell() // _SYNC_BYTES > start // _SYNC_BYTES:
        stream.flush()
        os.fdatasync(stream.fileno())


def _blocks(chunks: Iterable[bytes]) -> Iterator[list[bytes]]:
    """`chunks` in lists of `BLOCK_BYTES` or somewhat more, the last of what is left."""
    block: list[bytes] = []
    size = 0
    for chunk in chunks:
        block.append(chunk)
        size += len(chunk)
        if size >= BLOCK_BYTES:
            yield block
            block, size = [], 0
    if block:
        yield block
