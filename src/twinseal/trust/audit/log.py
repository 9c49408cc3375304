"""The log on disk: one writer appends at a time, anybody reads, and its verifier key is enough to check a proof.

    key, vkey        the log's own Ed25519 key (0600), made at first use; and what verifiers need of it
    checkpoint       the newest signed size and root
    checkpoints      every checkpoint that was ever signed, one after the other, an empty line after each
    tile/            the entries and their tree (`twinseal.trust.audit.tree`)
    lock             one writer at a time; readers share it

An append writes in this order, each step to the disk before the next: the tiles; `checkpoints`; `checkpoint`. A process
that is killed in between leaves the old log, or (once `checkpoints` has it) the new one, which the next append then
completes. A log must never sign two trees of one size (C2SP tlog-checkpoint), so a signed checkpoint is kept.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import structlog

from twinseal.errors import AuditError, TwinsealError
from twinseal.trust.audit import disk, note, tree
from twinseal.trust.audit.entry import Entry

logger = structlog.get_logger(__name__)

CHECKPOINT, HISTORY, LOCK, FOLDER = "checkpoint", "checkpoints", "lock", "log"
PROOF = "https://twinseal.dev/audit-proof/v1"
_TAMPERED = "Somebody changed the audit log. Find the first bad entry: twinseal audit verify"
_LIST = "Name one of its entries. All of them: twinseal audit show --last 0"
_NOT_LOGGED = "Nothing was done, because it could not be logged. Mend the log's disk or folder, then run it again."


@dataclass(frozen=True)
class Head:
    """The size and root of the log.

    Attributes:
        size: How many entries.
        root: The root of their tree, 32 bytes.
        checkpoint: The signed text that says so.
        vkey: The verifier key that it was checked with.
    """

    size: int
    root: bytes
    checkpoint: str
    vkey: str


@dataclass(frozen=True)
class Log:
    """One audit log.

    Attributes:
        path: Its folder. Made, private, by the first entry.
    """

    path: Path

    def append(self, *entries: Entry) -> int:
        """Add entries under one new checkpoint; the index of the first. On the disk when this returns.

        Side effects: makes the log and its key at first use.

        Raises:
            AuditError: They cannot be written (disk, rights, a lost key), or the log is not the one that its key
                signed. Then the decision must not take effect.
        """
        leaves = [entry.to_bytes() for entry in entries]
        with self._write_lock():
            signer = self._signer()
            size = self._recover(signer).size
            if not leaves:
                return size
            new_tiles, root = tree.grow(tree.tile_reader(self.path), size, leaves)
            for name, data in new_tiles.items():
                disk.replace_file(self.path / name, data)
            self._commit(note.sign(signer, size + len(leaves), root))
            for folder in tree.superseded_folders(size + len(leaves)):
                shutil.rmtree(self.path / folder, ignore_errors=True)
        logger.info("audit.appended", index=size, entries=len(leaves))
        return size

    def head(self) -> Head:
        """Size and root by the newest checkpoint, signed by the verifier key beside it.

        Raises:
            AuditError: There is no log, or the checkpoint is not signed by its key.
        """
        with self._read_lock():
            return self._head()

    def has_begun(self) -> bool:
        """Whether there is an entry, or was one: a first append that was interrupted left none."""
        return any((self.path / name).exists() for name in (CHECKPOINT, tree.TILE))

    def read(
        self, start: int = 0, stop: int | None = None, *, wanted: Callable[[bytes], bool] = lambda _: True
    ) -> list[tuple[int, Entry]]:
        """Entries with their index, each proven to be in the log that the checkpoint signs.

        Args:
            start: The first; from the end when negative.
            stop: Before which; None for the end.
            wanted: Which to give, by their bytes; the others are proven too, and not parsed, which is most of the work.

        Raises:
            AuditError: As `head`; or an entry is not what was signed.
        """
        with self._read_lock():
            head = self._head()
            first, end, _ = slice(start, stop).indices(head.size)
            tiles = tree.tile_reader(self.path)
            _check_root(tiles, head)
            return [
                (index, Entry.from_bytes(leaf, f"entry {index}"))
                for index, leaf in _leaves(tiles, head, first, end)
                if wanted(leaf)
            ]

    def complete(self) -> None:
        """Complete an append that was interrupted once it was signed: readers do not see it before. No log: nothing.

        Call it before a decision that depends on what was logged; else the same could be logged twice.

        Raises:
            AuditError: As `append`.
        """
        if self.has_begun():
            self.append()

    def once(self) -> Log:
        """This log, read from the disk once at most: for one question that concerns many entries."""
        return _Once(self.path)

    def prove(self, index: int) -> dict[str, Any]:
        """The proof that the log has entry `index` (RFC 9162, 2.1.3), as a JSON object.

        Raises:
            AuditError: As `head`; there is no such entry; or it is not what was signed.
        """
        with self._read_lock():
            head, tiles = self._head(), tree.tile_reader(self.path)
            if not 0 <= index < head.size:
                raise AuditError(f"entry: expected one from 0 to {head.size - 1}, got {index}", remedy=_LIST)
            ((_, leaf),) = _leaves(tiles, head, index, index + 1)
            hashes = tree.inclusion(tiles, index, head.size)
            tree.check_inclusion(leaf, index, head.size, hashes, head.root)
        claim = {"entry": leaf.decode("utf-8"), "leaf_index": index, "tree_size": head.size}
        return _proof("inclusion", head, claim, hashes)

    def prove_consistency(self, old_size: int) -> dict[str, Any]:
        """The proof that the log still begins with the `old_size` entries it had (RFC 9162, 2.1.4), as a JSON object.

        Raises:
            AuditError: As `head`; the log never was of that size; or the tiles are not what was signed.
        """
        with self._read_lock():
            head, tiles = self._head(), tree.tile_reader(self.path)
            if not 0 <= old_size <= head.size:
                raise AuditError(f"size: expected one from 0 to {head.size}, got {old_size}", remedy=_LIST)
            old_root = tree.root(tiles, old_size)
            hashes = tree.consistency(tiles, old_size, head.size)
            tree.check_consistency(old_size, old_root, head.size, hashes, head.root)
        claim = {"old_size": old_size, "old_root": old_root.hex(), "tree_size": head.size}
        return _proof("consistency", head, claim, hashes)

    @contextmanager
    def log_refusal(self, attempt: Entry) -> Iterator[None]:
        """Log the refusal of `attempt` when the block raises one; the error is raised in any case."""
        try:
            yield
        except (TwinsealError, OSError) as error:
            self.append_refusal(attempt, error)
            raise

    def append_refusal(self, attempt: Entry, error: Exception) -> None:
        """Log that `attempt` was refused with `error`. Never raises; if it cannot be logged, the error says so."""
        try:
            self.append(attempt.as_refusal(error))
        except AuditError as failure:
            logger.error("audit.refusal_not_logged", reason=str(failure))
            notice = f"This refusal is not in the audit log: {failure}."
            if isinstance(error, TwinsealError):
                error.remedy = f"{error.remedy} {notice}".strip()
            else:
                error.add_note(notice)

    def _signer(self) -> note.Signer:
        if any((self.path / name).exists() for name in (note.KEY, note.VKEY, CHECKPOINT, HISTORY, tree.TILE)):
            return note.open_key(self.path)
        return note.make_key(self.path)

    def _recover(self, signer: note.Signer) -> Head:
        """Size and root, after an interrupted append was completed or removed."""
        if disk.read(self.path / CHECKPOINT, note.MAX_NOTE_BYTES) is None:
            return self._commit_empty_tree(signer)
        head, newer, torn = self.committed_state(signer.vkey)
        tiles = tree.tile_reader(self.path)
        _check_root(tiles, head)
        if torn:
            disk.truncate(self.path / HISTORY, (self.path / HISTORY).stat().st_size - len(torn))
        if newer is None:
            return head
        _check_root(tiles, newer)
        disk.replace_file(self.path / CHECKPOINT, newer.checkpoint.encode())
        logger.warning("audit.completed", size=newer.size)
        return newer

    def committed_state(self, vkey: note.Vkey) -> tuple[Head, Head | None, bytes]:
        """The head that `checkpoint` signs, and what an interrupted append left after it in `checkpoints`.

        Returns:
            The head; the newer one that was signed but not yet put in its place, if any; and the part of a record that
            was not written to its end, if any: it was never shown to anyone.

        Raises:
            AuditError: There is no checkpoint; it is not signed by `vkey`; or `checkpoints` does not end with it.
        """
        head = _read_head(disk.read(self.path / CHECKPOINT, note.MAX_NOTE_BYTES) or b"", vkey)
        record = head.checkpoint.encode() + b"\n"
        end = disk.tail(self.path / HISTORY, 2 * note.MAX_NOTE_BYTES)
        place = end.rfind(record)
        rest = end[place + len(record) :]
        if place < 0 or len(rest) > len(record) + 20:  # one record more; its size has at most 19 digits
            raise AuditError(f"{HISTORY}: expected the newest checkpoint last, got another", remedy=_TAMPERED)
        if not rest.endswith(b"\n\n"):
            return head, None, rest
        try:
            newer = _read_head(rest[:-1], vkey)
        except AuditError:
            return head, None, rest
        if newer.size <= head.size:
            raise AuditError(f"{HISTORY}: expected more than {head.size} entries, got {newer.size}", remedy=_TAMPERED)
        return head, newer, b""

    def _commit_empty_tree(self, signer: note.Signer) -> Head:
        """The checkpoint of the empty tree. Ed25519 is deterministic: begun again, it is the same."""
        text = note.sign(signer, 0, tree.EMPTY_ROOT)
        begun = disk.tail(self.path / HISTORY, note.MAX_NOTE_BYTES)
        if (self.path / tree.TILE).exists() or not (text + "\n").encode().startswith(begun):
            raise AuditError(f"{self.path / CHECKPOINT}: expected the newest checkpoint, got none", remedy=_TAMPERED)
        if begun:
            disk.truncate(self.path / HISTORY, 0)
        self._commit(text)
        return Head(0, tree.EMPTY_ROOT, text, note.vkey_text(signer.vkey))

    def _commit(self, text: str) -> None:
        disk.append_bytes(self.path / HISTORY, text.encode() + b"\n")
        disk.replace_file(self.path / CHECKPOINT, text.encode())

    def _head(self) -> Head:
        data = disk.read(self.path / CHECKPOINT, note.MAX_NOTE_BYTES)
        vkey = note.read_vkey(self.path)
        if data is None or vkey is None:
            raise no_log_error(self.path)
        return _read_head(data, vkey)

    @contextmanager
    def _write_lock(self) -> Iterator[None]:
        try:
            disk.make_folder(self.path)
            if self.path.stat().st_mode & 0o022:
                raise AuditError(
                    f"{self.path}: expected a folder that only its owner may write to, got one that others may",
                    remedy=f"If you are sure that nobody has changed what is in it: chmod 700 {self.path}",
                )
            with disk.lock(self.path / LOCK, alone=True):
                yield
        except OSError as error:
            raise AuditError(
                f"{self.path}: expected to write to the audit log, got {error.strerror or error}", remedy=_NOT_LOGGED
            ) from error

    @contextmanager
    def _read_lock(self) -> Iterator[None]:
        try:
            with disk.lock(self.path / LOCK, alone=False):
                yield
        except OSError as error:
            raise AuditError(f"{self.path}: expected to read the audit log, got {error.strerror or error}") from error


@dataclass(frozen=True)
class _Once(Log):
    """A log that remembers what its first reading proved."""

    _known: list[bytes] = field(default_factory=list, compare=False, repr=False)

    def read(
        self, start: int = 0, stop: int | None = None, *, wanted: Callable[[bytes], bool] = lambda _: True
    ) -> list[tuple[int, Entry]]:
        """As `Log.read`."""
        if not self._known:
            with self._read_lock():
                head, tiles = self._head(), tree.tile_reader(self.path)
                _check_root(tiles, head)
                self._known.extend(leaf for _, leaf in _leaves(tiles, head, 0, head.size))
        first, end, _ = slice(start, stop).indices(len(self._known))
        return [
            (index, Entry.from_bytes(self._known[index], f"entry {index}"))
            for index in range(first, end)
            if wanted(self._known[index])
        ]


def log_of(folder: Path) -> Log:
    """The audit log of a home, or of a twin's state: the folder `log` in it."""
    return Log(folder / FOLDER)


def no_log_error(path: Path) -> AuditError:
    """The error where there is no log."""
    return AuditError(
        f"{path}: expected an audit log, got none",
        remedy="It begins with the first decision made here. That of a twin: twinseal audit show --state DIR",
    )


def _read_head(data: bytes, vkey: note.Vkey) -> Head:
    checkpoint = note.parse(data, CHECKPOINT)
    note.check_signature(checkpoint, vkey, CHECKPOINT)
    return Head(checkpoint.size, checkpoint.root_hash, data.decode("utf-8"), note.vkey_text(vkey))


def _check_root(tiles: tree.Read, head: Head) -> None:
    if tree.root(tiles, head.size) != head.root:
        raise AuditError(f"tiles: expected the {head.size} entries that were signed, got others", remedy=_TAMPERED)


def _leaves(tiles: tree.Read, head: Head, first: int, end: int) -> Iterator[tuple[int, bytes]]:
    """Entries from `first` to before `end`, each bundle proven against the root before any of it is given."""
    for index in range(first // tree.WIDTH, -(-end // tree.WIDTH) if end > first else 0):
        start, count = index * tree.WIDTH, min(head.size - index * tree.WIDTH, tree.WIDTH)
        where = tree.path_of(tree.ENTRIES, index, count % tree.WIDTH)
        leaves = list(tree.split(tiles(tree.ENTRIES, index, count % tree.WIDTH), where))
        if len(leaves) != count:
            raise AuditError(f"{where}: expected {count} entries, got {len(leaves)}", remedy=_TAMPERED)
        _check_bundle(tiles, head, index, leaves)
        yield from ((number, leaf) for number, leaf in enumerate(leaves, start) if first <= number < end)


def _check_bundle(tiles: tree.Read, head: Head, index: int, leaves: list[bytes]) -> None:
    """One proof for all: the first entry's path has the hashes of the others in it, here from the bundle itself."""
    hashes = b"".join(map(tree.leaf_hash, leaves))

    def read(level: int, number: int, width: int) -> bytes:
        return hashes if (level, number) == (0, index) else tiles(level, number, width)

    first = index * tree.WIDTH
    try:
        tree.check_inclusion(leaves[0], first, head.size, tree.inclusion(read, first, head.size), head.root)
    except AuditError as error:
        message = f"entries {first} to {first + len(leaves) - 1}: expected those that were signed, got others"
        raise AuditError(message, remedy=_TAMPERED) from error


def _proof(kind: str, head: Head, claim: dict[str, Any], hashes: list[bytes]) -> dict[str, Any]:
    common = {"hashes": [item.hex() for item in hashes], "checkpoint": head.checkpoint, "vkey": head.vkey}
    return {"schema": PROOF, "proof": kind, **claim, **common}
