"""Arrays in a file of safetensors, written and read without a second copy of them in memory.

The same bytes as `safetensors.numpy.save` gives, piece by piece; and mapped, not read, where they are large: pages that
nobody touches take no memory, and processes share those that they touch. The mapping is private: what a process changes
in it, no file and no other process sees. Whoever can write to the file could change what is read later; as they could
change the code. Format: 8 bytes of header length, a header of JSON, then the arrays without gap or overlap.

    >>> import io
    >>> stream = io.BytesIO()
    >>> write_tensors(stream, {"a": np.float32([1.0, 2.0])})
    >>> stream.getvalue()[8:63]
    b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}} '
"""

from __future__ import annotations

import json
import math
import mmap
import os
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from twinseal.digests import parse_json

Array = npt.NDArray[Any]

IN_MEMORY_BYTES = 64 << 20
MAX_HEADER_BYTES = 1 << 20
PIECE_BYTES = 16 << 20
# In the order in which safetensors writes them.
_KINDS: dict[str, np.dtype[Any]] = {"I64": np.dtype("<i8"), "F64": np.dtype("<f8"), "F32": np.dtype("<f4")}
_NAMES = {kind: name for name, kind in _KINDS.items()}


def write_tensors(stream: BinaryIO, arrays: Mapping[str, Array]) -> None:
    """Write arrays of float32, float64 and int64: equal values give equal bytes, those of `safetensors.numpy.save`.

    Raises:
        ValueError: An array is of another type.
        OSError: The stream cannot be written.
    """
    order = list(_KINDS.values())
    names = sorted(arrays, key=lambda name: (order.index(arrays[name].dtype), name))
    header, end = {}, 0
    for name in names:
        start, end = end, end + arrays[name].nbytes
        kind = _NAMES[arrays[name].dtype]
        header[name] = {"dtype": kind, "shape": list(arrays[name].shape), "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    stream.write(len(text).to_bytes(8, "little") + text)
    for name in names:
        for piece in pieces(arrays[name]):
            stream.write(np.ascontiguousarray(piece).data)


def read_tensors(stream: BinaryIO, limit: int) -> dict[str, Array]:
    """The arrays of a file; a large one is mapped, see the module's text.

    Args:
        stream: The file, from its beginning.
        limit: The most bytes that it may have.

    Raises:
        ValueError, EvidenceError: It is none, or has more bytes.
        OSError: It cannot be read.
    """
    size = os.fstat(stream.fileno()).st_size
    if size > limit:
        raise ValueError(f"expected at most {limit} bytes, got {size}")
    if size <= IN_MEMORY_BYTES:
        data: bytearray | mmap.mmap = bytearray(stream.read())
    else:
        data = mmap.mmap(stream.fileno(), size, access=mmap.ACCESS_COPY)
    length = int.from_bytes(data[:8], "little")
    if not 2 <= length <= min(MAX_HEADER_BYTES, len(data) - 8) or length % 8:
        raise ValueError(f"expected a header of 2 to {MAX_HEADER_BYTES} bytes within the file, got {length}")
    header = parse_json(bytes(data[8 : 8 + length]), "header", limit=MAX_HEADER_BYTES)
    if not isinstance(header, dict):
        raise ValueError(f"expected a header with the arrays, got {str(header)[:80]}")
    found, end = {}, 0
    for name, entry in header.items():
        kind, shape, stop = _entry(name, entry, end, len(data) - 8 - length)
        values = np.frombuffer(data, kind, count=math.prod(shape), offset=8 + length + end)
        found[name], end = values.reshape(shape), stop
    if end != len(data) - 8 - length:
        raise ValueError(f"expected {8 + length + end} bytes, got {len(data)}")
    return found


def _entry(name: str, entry: Any, start: int, most: int) -> tuple[np.dtype[Any], tuple[int, ...], int]:
    """Type, shape and end of an array that begins at `start` of `most` bytes."""
    about: dict[str, Any] = entry if isinstance(entry, dict) else {}
    kind, shape = _KINDS.get(str(about.get("dtype"))), about.get("shape")
    shape = shape if isinstance(shape, list) else []
    if kind is None or not 1 <= len(shape) <= 2 or any(type(n) is not int or not 0 <= n <= most for n in shape):
        raise ValueError(f"{name}: expected type, shape and place of an array, got {str(entry)[:80]}")
    end = start + kind.itemsize * math.prod(shape)
    if about.get("data_offsets") != [start, end] or set(about) != {"dtype", "shape", "data_offsets"} or end > most:
        raise ValueError(f"{name}: expected it at {start} to {end}, got {str(entry)[:120]}")
    return kind, tuple(shape), end


def pieces(array: Array) -> Iterator[Array]:
    """Rows of an array, so many at a time that they take little memory; views."""
    rows = max(1, PIECE_BYTES // max(1, array[:1].nbytes))
    for start in range(0, len(array), rows):
        yield array[start : start + rows]


def are_finite(array: Array) -> bool:
    """Whether no value is NaN or infinite."""
    return all(bool(np.isfinite(piece).all()) for piece in pieces(array))
