"""A transparency log in plain hashlib: what an attacker, or an auditor with tools of his own, needs.

It imports nothing of ours.

Written from RFC 6962 (section 2.1), RFC 9162 (sections 2.1.3.2 and 2.1.4.2), C2SP tlog-tiles and C2SP signed-note.
"""

from __future__ import annotations

import base64
import hashlib
import shutil
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey


def sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def leaf_hash(entry: bytes) -> bytes:
    return sha256(b"\x00" + entry)


def tree_hash(hashes: list[bytes]) -> bytes:
    """MTH of RFC 6962, over leaves that are hashed already."""
    if not hashes:
        return sha256(b"")
    if len(hashes) == 1:
        return hashes[0]
    k = 1
    while 2 * k < len(hashes):
        k *= 2
    return sha256(b"\x01" + tree_hash(hashes[:k]) + tree_hash(hashes[k:]))


def included(leaf: bytes, index: int, size: int, proof: list[bytes], root: bytes) -> bool:
    """RFC 9162, 2.1.3.2."""
    if index >= size:
        return False
    fn, sn, r = index, size - 1, leaf
    for p in proof:
        if sn == 0:
            return False
        if fn % 2 == 1 or fn == sn:
            r = sha256(b"\x01" + p + r)
            while fn % 2 == 0 and fn != 0:
                fn, sn = fn >> 1, sn >> 1
        else:
            r = sha256(b"\x01" + r + p)
        fn, sn = fn >> 1, sn >> 1
    return sn == 0 and r == root


def consistent(first: int, second: int, proof: list[bytes], first_hash: bytes, second_hash: bytes) -> bool:
    """RFC 9162, 2.1.4.2, for 0 < first < second."""
    if not proof:
        return False
    path = [first_hash, *proof] if first & (first - 1) == 0 else list(proof)
    fn, sn = first - 1, second - 1
    while fn % 2 == 1:
        fn, sn = fn >> 1, sn >> 1
    fr = sr = path[0]
    for c in path[1:]:
        if sn == 0:
            return False
        if fn % 2 == 1 or fn == sn:
            fr, sr = sha256(b"\x01" + c + fr), sha256(b"\x01" + c + sr)
            while fn % 2 == 0 and fn != 0:
                fn, sn = fn >> 1, sn >> 1
        else:
            sr = sha256(b"\x01" + sr + c)
        fn, sn = fn >> 1, sn >> 1
    return fr == first_hash and sr == second_hash and sn == 0


def open_checkpoint(note: str, vkey: str) -> tuple[int, bytes]:
    """Size and root of a signed note, once the signature holds; raises InvalidSignature or AssertionError otherwise."""
    name, key_id, key = vkey.split("+", 2)
    public = base64.b64decode(key, validate=True)
    assert public[:1] == b"\x01"
    assert sha256(name.encode() + b"\n" + public)[:4].hex() == key_id
    text, _, signatures = note.rpartition("\n\n")
    dash, signer, signature = signatures.removesuffix("\n").split(" ")
    raw = base64.b64decode(signature, validate=True)
    assert (dash, signer, raw[:4].hex()) == ("—", name, key_id)
    Ed25519PublicKey.from_public_bytes(public[1:]).verify(raw[4:], (text + "\n").encode())
    origin, size, root = text.split("\n")
    assert origin == name
    return int(size), base64.b64decode(root, validate=True)


def tile(folder: Path, level: str, index: int, width: int) -> Path:
    """Where a tile is; `width` 256 for a full one. For fewer than 1000 tiles."""
    name = f"{index:03d}"
    return folder / "tile" / level / (name if width == 256 else f"{name}.p/{width}")


def read_entries(folder: Path, size: int) -> list[bytes]:
    entries = []
    for index in range(-(-size // 256)):
        bundle = tile(folder, "entries", index, min(size - 256 * index, 256)).read_bytes()
        while bundle:
            length = int.from_bytes(bundle[:2], "big")
            entries.append(bundle[2 : 2 + length])
            bundle = bundle[2 + length :]
    return entries


def write_tree(folder: Path, entries: list[bytes], *, bundles_only: bool = False) -> None:
    """Everything that needs no key: entries and hashes, in place of those there are."""
    shutil.rmtree(folder / "tile" / "entries" if bundles_only else folder / "tile", ignore_errors=True)
    _write(folder, "entries", [len(e).to_bytes(2, "big") + e for e in entries])
    level, hashes = 0, [leaf_hash(e) for e in entries]
    while hashes and not bundles_only:
        _write(folder, str(level), hashes)
        full = len(hashes) // 256
        hashes = [tree_hash(hashes[256 * i : 256 * (i + 1)]) for i in range(full)]
        level += 1


def records(folder: Path) -> list[bytes]:
    """The checkpoints that were ever signed."""
    lines = (folder / "checkpoints").read_bytes().splitlines(keepends=True)
    return [b"".join(lines[i : i + 5]) for i in range(0, len(lines), 6)]


def write_records(folder: Path, notes: list[bytes]) -> None:
    (folder / "checkpoints").write_bytes(b"".join(note + b"\n" for note in notes))
    (folder / "checkpoint").write_bytes(notes[-1])


def _write(folder: Path, level: str, elements: list[bytes]) -> None:
    for index in range(-(-len(elements) // 256)):
        part = elements[256 * index : 256 * (index + 1)]
        path = tile(folder, level, index, len(part))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"".join(part))
