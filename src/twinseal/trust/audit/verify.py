"""The whole log, read once, against every checkpoint that was ever signed.

1. The key: `vkey` is the one that was kept elsewhere, if one was; the private key, if it is here, belongs to it.
2. `checkpoint` is signed by it, and so is each of `checkpoints`, larger than the one before, the newest last. One more
   may follow: an interrupted append signed it; it counts, and all of its entries must be there.
3. Entries: each parses strictly. The tree over them, recomputed, has the signed root at every signed size: the first
   size with another root shows where the first bad entry is.
4. A checkpoint kept elsewhere: the log has not become shorter, and had that root at that size.
5. Tiles: each hash is the one that the entries give.

Time grows with the log; memory with 1/256 of it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from twinseal.errors import AuditError
from twinseal.trust.audit import disk, note, tree
from twinseal.trust.audit.entry import Entry
from twinseal.trust.audit.log import HISTORY, LOCK, Log, no_log_error

_REMEDY = (
    "Keep a copy of the log as it is: it is evidence. Ask who could write to this folder. From that entry on, the log "
    "proves nothing."
)
_LINES = 6  # of a record in `checkpoints`: origin, size, root, empty, signature, empty


@dataclass(frozen=True)
class VerifiedLog:
    """The result of a successful verification.

    Attributes:
        size: Entries, all as signed.
        checkpoints: How many signed checkpoints they were compared with.
        checkpoint: The newest, as signed: keep it elsewhere.
        vkey: The verifier key.
        pinned: Whether that key was given, and not taken from beside the log.
        kept_size: The size of the checkpoint that was kept elsewhere; None if none was given.
    """

    size: int
    checkpoints: int
    checkpoint: str
    vkey: str
    pinned: bool
    kept_size: int | None


def verify(path: Path, *, vkey: str | None = None, against: bytes | None = None) -> VerifiedLog:
    """Verify the log in the folder `path`.

    Args:
        path: The log's folder.
        vkey: The verifier key as kept elsewhere; None trusts the one beside the log.
        against: A checkpoint as kept elsewhere.

    Raises:
        AuditError: Something does not hold; `entry` is the index of the first bad entry, where one can be named.
    """
    try:
        with disk.lock(path / LOCK, alone=False):
            return _verify(path, vkey, against)
    except OSError as error:
        raise AuditError(f"{path}: expected to read the audit log, got {error.strerror or error}") from error


def last_sound_checkpoint(path: Path) -> note.Checkpoint | None:
    """The newest checkpoint that the log's key has signed and its entries still have; None when there is none.

    What follows it is not looked at: for a log that does not verify.

    Raises:
        AuditError: The verifier key is malformed.
        OSError: The log cannot be read.
    """
    vkey = note.read_vkey(path)
    signed: list[note.Checkpoint] = []
    with contextlib.suppress(AuditError):
        signed.extend(() if vkey is None else _history(path, vkey))
    for end in reversed(signed[-2:]):  # tiles are kept for the newest size, and for one that was interrupted
        walk = _Walk(tree.tile_reader(path), iter(signed), None)
        with contextlib.suppress(AuditError):
            for index in range(-(-end.size // tree.WIDTH)):
                walk.bundle(index, end.size)
        if walk.newest is not None:
            return walk.newest
    return None


def _verify(path: Path, pinned: str | None, against: bytes | None) -> VerifiedLog:
    vkey = _key(path, pinned)  # 1
    head, newer, _ = Log(path).committed_state(vkey)  # 2
    newest = newer or head
    kept = None if against is None else _check_kept_checkpoint(against, vkey, newest.size)
    walk = _Walk(tree.tile_reader(path), _history(path, vkey), kept)
    for index in range(-(-newest.size // tree.WIDTH)):
        walk.bundle(index, newest.size)  # 3, 4, 5
    walk.end(newest.size)
    kept_size = None if kept is None else kept.size
    return VerifiedLog(newest.size, walk.compared, newest.checkpoint, newest.vkey, pinned is not None, kept_size)


def _key(path: Path, pinned: str | None) -> note.Vkey:
    stored = note.read_vkey(path)
    if stored is None:
        raise no_log_error(path)
    if pinned is not None and note.vkey_text(note.parse_vkey(pinned)) != note.vkey_text(stored):
        raise _tampering_error(f"{path / note.VKEY}: expected the key {pinned}, got {note.vkey_text(stored)}")
    if (path / note.KEY).exists():  # a copy of the log need not bring it
        note.open_key(path)
    return stored


def _check_kept_checkpoint(data: bytes, vkey: note.Vkey, size: int) -> note.Checkpoint:
    kept = note.parse(data, "kept checkpoint")
    note.check_signature(kept, vkey, "kept checkpoint")
    if kept.size > size:
        message = f"expected at least {kept.size} entries, as when the checkpoint was kept, got {size}"
        raise _tampering_error(f"log: {message}: the end was cut off", entry=size)
    return kept


def _history(path: Path, vkey: note.Vkey) -> Iterator[note.Checkpoint]:
    """Every checkpoint that was ever signed, in order; what was not written to its end is none."""
    size = -1
    for record in _records(path / HISTORY):
        checkpoint = note.parse(record, HISTORY)
        note.check_signature(checkpoint, vkey, HISTORY)
        if checkpoint.size <= size:
            raise _tampering_error(f"{HISTORY}: expected a size over {size}, got {checkpoint.size}", entry=max(size, 0))
        size = checkpoint.size
        yield checkpoint


def _records(path: Path) -> Iterator[bytes]:
    stream = disk.open_regular(path)
    if stream is None:
        return
    with stream:
        while True:
            lines = [stream.readline(note.MAX_NOTE_BYTES) for _ in range(_LINES)]
            if lines[-1] != b"\n":
                return
            yield b"".join(lines[:-1])


@dataclass
class _Walk:
    """Along the entries, from checkpoint to checkpoint."""

    tiles: tree.Read
    history: Iterator[note.Checkpoint]
    kept: note.Checkpoint | None
    frontier: tree.Frontier = field(default_factory=tree.Frontier)
    good: int = 0  # entries that a signed root covers
    odd: int | None = None  # the first entry since then whose tile has another hash
    compared: int = 0
    newest: note.Checkpoint | None = None  # the last of those that were compared
    due: note.Checkpoint | None = None
    above: list[bytes] = field(default_factory=list)  # the roots of the full tiles of level 0

    def bundle(self, index: int, size: int) -> None:
        """Take in the entries of one bundle."""
        if index == 0:
            self._compare()  # the empty tree
        count = min(size - index * tree.WIDTH, tree.WIDTH)
        width = count % tree.WIDTH
        where = tree.path_of(tree.ENTRIES, index, width)
        hashes, within = self.tiles(0, index, width), tree.Frontier()
        try:
            for leaf in tree.split(self.tiles(tree.ENTRIES, index, width), where):
                place = self.frontier.size - index * tree.WIDTH
                if place == count:
                    raise AuditError(f"{where}: expected {count} entries, got more")
                self._leaf(leaf, hashes[place * tree.HASH : (place + 1) * tree.HASH])
                within.push(tree.leaf_hash(leaf))
        except AuditError as error:
            raise error if error.remedy else _tampering_error(str(error), entry=self.frontier.size) from error
        if within.size != count:
            raise _tampering_error(f"{where}: expected {count} entries, got {within.size}", entry=self.frontier.size)
        if len(hashes) != count * tree.HASH:
            raise _tampering_error(f"{tree.path_of(0, index, width)}: expected the hashes of its entries, got others")
        if not width:
            self.above.append(within.root)

    def end(self, size: int) -> None:
        """Compare what only the whole log shows."""
        if size == 0:
            self._compare()
        if self.good != size or self.due is not None:
            raise _tampering_error(
                f"log: expected {size} entries under a signed checkpoint, got {self.good}", entry=self.good
            )
        self._check_above()

    def _leaf(self, leaf: bytes, hashed: bytes) -> None:
        index = self.frontier.size
        digest = tree.leaf_hash(leaf)
        if digest != hashed and self.odd is None:
            self.odd = index
        try:
            Entry.from_bytes(leaf, f"entry {index}")
        except AuditError as error:
            raise _tampering_error(str(error), entry=index if self.odd is None else self.odd) from error
        self.frontier.push(digest)
        self._compare()

    def _compare(self) -> None:
        """Compare the root with those that were signed at this size, if any."""
        size = self.frontier.size
        if self.due is None:
            self.due = next(self.history, None)
        while self.due is not None and self.due.size == size:
            if self.due.root_hash != self.frontier.root:
                bad = self.good if self.odd is None else self.odd
                raise _tampering_error(f"entry {bad}: expected the one that was signed, got another", entry=bad)
            if self.odd is not None:
                tile = tree.path_of(0, self.odd // tree.WIDTH, 0)
                raise _tampering_error(
                    f"{tile}: expected the hash of entry {self.odd} as signed, got another", entry=self.odd
                )
            self.good, self.compared, self.newest = size, self.compared + 1, self.due
            self.due = next(self.history, None)
        if self.kept is not None and self.kept.size == size and self.kept.root_hash != self.frontier.root:
            raise _tampering_error(
                f"log: expected to begin with the {size} entries of the kept checkpoint, got others: it is a fork",
            )

    def _check_above(self) -> None:
        """Compare the tiles of level 1 and up with the roots of the tiles below them."""
        level, hashes = 1, self.above
        while hashes:
            above = []
            for index in range(-(-len(hashes) // tree.WIDTH)):
                part = hashes[index * tree.WIDTH : (index + 1) * tree.WIDTH]
                if self.tiles(level, index, len(part) % tree.WIDTH) != b"".join(part):
                    where = tree.path_of(level, index, len(part) % tree.WIDTH)
                    raise _tampering_error(f"{where}: expected the roots of the tiles below it, got others")
                if len(part) == tree.WIDTH:
                    full = tree.Frontier()
                    for item in part:
                        full.push(item)
                    above.append(full.root)
            level, hashes = level + 1, above


def _tampering_error(message: str, *, entry: int | None = None) -> AuditError:
    first = "" if entry is None or message.startswith("entry ") else f"entry {entry} is the first bad one: "
    return AuditError(first + message, entry=entry, remedy=_REMEDY)
