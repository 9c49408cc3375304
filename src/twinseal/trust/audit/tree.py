"""The Merkle tree of RFC 6962, section 2.1 (RFC 9162, section 2.1), in tiles of 256 hashes (C2SP tlog-tiles).

    leaf        SHA-256(0x00 ‖ entry)
    node        SHA-256(0x01 ‖ left ‖ right)
    tile/entries/<N>[.p/<W>]    entries, each after its length in two bytes
    tile/<L>/<N>[.p/<W>]        hashes: of entries at level 0, of full tiles of the level below above that

A tile is written once and never again with other bytes; the rightmost of each level is partial and is followed by a
wider one. Paths, proofs and roots from tiles are tlog-scales'; what grows the tiles and what recomputes roots from the
entries themselves (`Frontier`) is ours: the package's writer is not crash safe, and says so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tlog_scales import tiles
from tlog_scales.reader import TilesReader
from tlog_scales.tlog import ConsistencyProof, ConsistencyProofInvalid, InclusionProof, InclusionProofInvalid
from tlog_scales.utils import sha256

from twinseal.errors import AuditError
from twinseal.trust.audit import disk
from twinseal.trust.audit.entry import MAX_ENTRY_BYTES

WIDTH, HASH = 256, 32
ENTRIES = -1  # the level under which tlog-scales keeps bundles of entries
EMPTY_ROOT = sha256(b"")
TILE = "tile"

Read = Callable[[int, int, int], bytes]
"""The bytes of a tile by level, index and width (0 for a full one); b"" when there is none."""


def tile_reader(folder: Path) -> Read:
    """Tiles below `folder`, none longer than it can be.

    Raises, when read:
        AuditError: A tile is no regular file, or is too long.
    """

    def read(level: int, index: int, width: int) -> bytes:
        longest = WIDTH * (MAX_ENTRY_BYTES + 2 if level == ENTRIES else HASH)
        return disk.read(folder.joinpath(*tiles.tile_path(level, index, width)), longest) or b""

    return read


@dataclass
class Frontier:
    """The roots of the perfect subtrees that a tree of so many leaves consists of, widest first: RFC 9162, 2.1.2.

    Attributes:
        size: Leaves so far.
        nodes: Their hashes, one for each bit of `size` that is set.
    """

    size: int = 0
    nodes: list[bytes] = field(default_factory=list)

    def push(self, leaf: bytes) -> None:
        """Add the hash of one more leaf."""
        rest = self.size
        while rest & 1:
            leaf = node_hash(self.nodes.pop(), leaf)
            rest >>= 1
        self.nodes.append(leaf)
        self.size += 1

    @property
    def root(self) -> bytes:
        """The Merkle tree hash: MTH of RFC 6962."""
        if not self.nodes:
            return EMPTY_ROOT
        root = self.nodes[-1]
        for node in reversed(self.nodes[:-1]):
            root = node_hash(node, root)
        return root


def leaf_hash(entry: bytes) -> bytes:
    """RFC 6962, 2.1: the 0x00 keeps a leaf from being taken for a node."""
    return tiles.leaf_hash(entry)


def node_hash(left: bytes, right: bytes) -> bytes:
    """RFC 6962, 2.1."""
    return sha256(b"\x01" + left + right)


def split(bundle: bytes, where: str) -> Iterator[bytes]:
    """The entries of a bundle, one by one.

    Raises:
        AuditError: It ends inside an entry, or an entry is too long; once those before it are given.
    """
    place = 0
    while place < len(bundle):
        length = int.from_bytes(bundle[place : place + 2], "big")
        entry = bundle[place + 2 : place + 2 + length]
        if len(bundle) < place + 2 + length or length > MAX_ENTRY_BYTES:
            raise AuditError(f"{where}: expected whole entries of at most {MAX_ENTRY_BYTES} bytes, got a torn one")
        yield entry
        place += 2 + length


def path_of(level: int, index: int, width: int) -> str:
    """Where a tile is, for a message or a file."""
    return "/".join(tiles.tile_path(level, index, width))


def grow(read: Read, size: int, leaves: Sequence[bytes]) -> tuple[dict[str, bytes], bytes]:
    """The tiles that a tree of `size` needs anew for more leaves, by path, and the new root. Writes nothing.

    Args:
        read: The tiles that there are.
        size: Leaves so far.
        leaves: The entries to be added.

    Raises:
        AuditError: The rightmost tiles are gone, or the newest bundle does not hash to its tile.
    """
    _check_edge(read, size)
    new_tiles: dict[tuple[int, int, int], bytes] = {}
    _extend_level(new_tiles, read, ENTRIES, size, [len(leaf).to_bytes(2, "big") + leaf for leaf in leaves])
    hashes, level, count = [leaf_hash(leaf) for leaf in leaves], 0, size
    while hashes:
        full = _extend_level(new_tiles, read, level, count, hashes)
        hashes, level, count = [_tile_root(tile) for tile in full], level + 1, count // WIDTH
    found = root(lambda *tile: new_tiles.get(tile) or read(*tile), size + len(leaves))
    return {path_of(*tile): data for tile, data in new_tiles.items()}, found


def root(read: Read, size: int) -> bytes:
    """The root of the first `size` leaves, from the tiles.

    Raises:
        AuditError: A tile is gone, or too short.
    """
    with _translate_errors():
        return _reader(read, size).mth(0, size)


def inclusion(read: Read, index: int, size: int) -> list[bytes]:
    """The proof that the tree of `size` has its leaf `index`: RFC 9162, 2.1.3.

    Raises:
        AuditError: As `root`.
    """
    with _translate_errors():
        return list(_reader(read, size).get_inclusion_proof(index, size).node_hashes)


def consistency(read: Read, old: int, size: int) -> list[bytes]:
    """The proof that the tree of `size` begins with the tree of `old`: RFC 9162, 2.1.4. Empty for 0 and for `size`.

    Raises:
        AuditError: As `root`.
    """
    with _translate_errors():
        return list(_reader(read, size).get_consistency_proof(old, size).node_hashes) if old else []


def check_inclusion(entry: bytes, index: int, size: int, proof: list[bytes], expected: bytes) -> None:
    """Refuse a proof that does not lead from the entry to the root: RFC 9162, 2.1.3.2.

    Raises:
        AuditError: It does not.
    """
    try:
        InclusionProof(index, size, proof).check(leaf_hash(entry), expected)
    except InclusionProofInvalid as error:
        raise AuditError(f"entry {index}: expected one that the checkpoint covers, got another", entry=index) from error


def check_consistency(old: int, old_root: bytes, size: int, proof: list[bytes], expected: bytes) -> None:
    """Refuse a proof that does not lead from one root to the other: RFC 9162, 2.1.4.2.

    Raises:
        AuditError: It does not.
    """
    try:
        ConsistencyProof(old, size, proof).check(old_root, expected)
    except ConsistencyProofInvalid as error:
        raise AuditError(f"log of {size} entries: expected one that begins with the {old} of before") from error


def superseded_folders(size: int) -> Iterator[str]:
    """Folders of partial tiles that a full tile has replaced, as the tree reaches `size`: they may go."""
    level, count = 0, size
    while count and count % WIDTH == 0:
        yield path_of(level, count // WIDTH - 1, 0) + ".p"
        if level == 0:
            yield path_of(ENTRIES, count // WIDTH - 1, 0) + ".p"
        level, count = level + 1, count // WIDTH


def _extend_level(
    new_tiles: dict[tuple[int, int, int], bytes], read: Read, level: int, count: int, elements: list[bytes]
) -> list[bytes]:
    """Put `elements` into `made` after the `count` that the level has; the tiles that are full now."""
    index, filled = divmod(count, WIDTH)
    before, full = read(level, index, filled) if filled else b"", []
    while elements:
        here, elements = elements[: WIDTH - filled], elements[WIDTH - filled :]
        tile = before + b"".join(here)
        width = (filled + len(here)) % WIDTH
        new_tiles[(level, index, width)] = tile
        full += [] if width else [tile]
        before, filled, index = b"", 0, index + 1
    return full


def _check_edge(read: Read, size: int) -> None:
    """Refuse to build upon a newest bundle that was edited: it would be the base of what is signed next."""
    index, width = divmod(size, WIDTH)
    if not width:
        return
    where = path_of(ENTRIES, index, width)
    hashes = b"".join(map(leaf_hash, split(read(ENTRIES, index, width), where)))
    if hashes != read(0, index, width) or len(hashes) != width * HASH:
        raise AuditError(
            f"{where}: expected the {width} entries that its tile has the hashes of, got others",
            remedy="Somebody changed the audit log. Find the first bad entry: twinseal audit verify",
        )


def _tile_root(tile: bytes) -> bytes:
    frontier = Frontier()
    for place in range(0, len(tile), HASH):
        frontier.push(tile[place : place + HASH])
    return frontier.root


class _Backend:
    """`Read` as tlog-scales asks for it: by the parts of a path."""

    def __init__(self, read: Read) -> None:
        self._read = read

    def get(self, *path: str) -> bytes | None:
        parts, width = list(path[2:]), 0
        if parts[-2:-1] and parts[-2].endswith(".p"):
            width = int(parts.pop())
            parts[-1] = parts[-1].removesuffix(".p")
        index = int("".join(part.removeprefix("x") for part in parts))
        level = ENTRIES if path[1] == "entries" else int(path[1])
        return self._read(level, index, width) or None


def _reader(read: Read, size: int) -> TilesReader:
    reader = TilesReader(_Backend(read))
    reader.set_size(size)
    return reader


@contextmanager
def _translate_errors() -> Iterator[None]:
    try:
        yield
    except (RuntimeError, ValueError, IndexError) as error:  # a tile that is gone, torn, or too short
        raise AuditError(
            f"tiles: expected those of the checkpoint, got others ({error})",
            remedy="Somebody changed the audit log. Find the first bad entry: twinseal audit verify",
        ) from error
