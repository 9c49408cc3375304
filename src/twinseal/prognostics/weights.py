"""Weights: the tensors of a safetensors file, read as if an enemy had written it, in bounded memory.

The file is `8 bytes of header length | header, JSON | the tensors' bytes`. The architecture says beforehand which
tensors there are and of what shape, so the whole layout follows from it: the header is compared, not interpreted, and
nothing is allocated that the architecture does not call for.

Up to `IN_MEMORY_BYTES` the weights are copied into memory. Beyond, they are mapped: the network then reads the file's
pages as it computes, and the system may drop them again. The values are checked by reading the file in pieces, not
through the mapping, so that checking brings nothing into the process. What a mapping takes for granted:

- The file is not shortened while the network lives: touching what is gone ends the process with SIGBUS. The twin's
  state is private to it (0700), an installed folder is never written to again, and only a bundle that was hashed and
  admitted is read here. Whoever can shorten the file is the twin's own user, and could as well end the process.
- Nor is it changed: what was verified is what runs for as long as nobody writes to the file. The mapping is private, so
  the process itself cannot write to it; the same user could, as it could write to the process's memory.
- Removing the file is no harm: its bytes stay until the mapping ends.

Example:
    weights = read_weights(Path("model/model.safetensors"), config.architecture)
"""

from __future__ import annotations

import math
import mmap
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from twinseal.digests import parse_json
from twinseal.errors import EvidenceError
from twinseal.prognostics.architecture import Architecture, NetworkConfig
from twinseal.reading import open_regular

F32 = npt.NDArray[np.float32]

WEIGHTS = "model.safetensors"
MAX_WEIGHTS_BYTES = 5 << 30  # somewhat more than the largest architecture takes
MAX_HEADER_BYTES = 1 << 20
IN_MEMORY_BYTES = 64 << 20
_PIECE_BYTES = 1 << 18  # stays in a core's own cache: checking costs one pass over memory, not two
REMEDY = "The model is not what twinseal writes: ask whoever signed it, or train again."


def parse_weights(data: bytes, config: Architecture) -> dict[str, F32]:
    """The tensors of a safetensors file that has exactly those of the architecture, finite, scales above 0.

    Args:
        data: The file.
        config: The architecture.

    Returns:
        Float32 arrays by name, in memory of their own.

    Raises:
        EvidenceError: Another header, a tensor more or less, a gap, an overlap, a tail; a value that is not finite.
    """
    start, offsets = _layout(data, len(data), shapes(config))
    body = bytearray(memoryview(data)[start:])  # from 0, so that every tensor is aligned
    tensors = _tensors(body, 0, offsets, config)
    for name, array in tensors.items():
        _check_values(name, [array])
    return tensors


def read_weights(path: Path, config: Architecture) -> dict[str, F32]:
    """As `parse_weights`, from a file; a large one is mapped, see the module's text.

    Raises:
        EvidenceError: As `parse_weights`; or a large file whose tensors do not start at a multiple of 4 bytes.
        OSError: The file cannot be read.
    """
    with open_regular(path) as stream:
        size = os.fstat(stream.fileno()).st_size
        if size <= IN_MEMORY_BYTES:
            return parse_weights(stream.read(), config)
        head = stream.read(8)
        head += stream.read(min(int.from_bytes(head, "little"), MAX_HEADER_BYTES))
        start, offsets = _layout(head, size, shapes(config))
        if start % 4:
            raise EvidenceError(f"{WEIGHTS}: expected tensors at a multiple of 4 bytes, got {start}", remedy=REMEDY)
        for name, offset in offsets.items():
            _check_values(name, _pieces(stream.fileno(), start + offset, 4 * math.prod(shapes(config)[name])))
        mapped = mmap.mmap(stream.fileno(), size, access=mmap.ACCESS_COPY)
    return _tensors(mapped, start, offsets, config)


def shapes(config: Architecture) -> dict[str, tuple[int, ...]]:
    """Every tensor of the checkpoint of a model, with its shape; worked out before anything is allocated."""
    ensembles = {"plain": config.plain, "commissioned": config.commissioned}
    return {
        f"{mode}.members.{index}.{name}": shape
        for mode, ensemble in ensembles.items()
        for index, member in enumerate(ensemble.members if ensemble else ())
        for name, shape in _network_shapes(member).items()
    }


def _network_shapes(config: NetworkConfig) -> dict[str, tuple[int, ...]]:
    width = config.width
    found: dict[str, tuple[int, ...]] = {"feature_mean": (width,), "feature_std": (width,)}
    if config.components:
        found["projection"] = (config.components, len(config.inputs))
    for index, units in enumerate((*config.hidden, 1)):
        found |= {f"layers.{index}.weight": (units, width), f"layers.{index}.bias": (units,)}
        width = units
    return found


def _layout(head: bytes, size: int, expected: dict[str, tuple[int, ...]]) -> tuple[int, dict[str, int]]:
    """Where the tensors start in a file of `size` bytes that begins with `head`, and where each one is from there.

    Refuses all but: 8 bytes of header length, the header, then exactly the tensors' bytes without gap or overlap.
    """
    length = int.from_bytes(head[:8], "little")
    if size > MAX_WEIGHTS_BYTES or size < 8 or not 2 <= length <= min(MAX_HEADER_BYTES, size - 8):
        raise EvidenceError(
            f"{WEIGHTS}: expected a header of 2 to {MAX_HEADER_BYTES} bytes within the file, got {length}",
            remedy=REMEDY,
        )
    header = parse_json(head[8 : 8 + length], f"{WEIGHTS} header", limit=MAX_HEADER_BYTES)
    if not isinstance(header, dict) or set(header) != set(expected):
        raise EvidenceError(f"{WEIGHTS}: expected tensors {sorted(expected)}, got {str(header)[:80]}", remedy=REMEDY)
    end, offsets = 0, {}
    for name, entry in sorted(header.items(), key=lambda item: _start(item[1])):
        offsets[name] = end
        end += 4 * math.prod(expected[name])
        wanted = {"dtype": "F32", "shape": list(expected[name]), "data_offsets": [offsets[name], end]}
        if entry != wanted:
            raise EvidenceError(f"{WEIGHTS}: {name}: expected {wanted}, got {str(entry)[:120]}", remedy=REMEDY)
    if size != 8 + length + end:
        raise EvidenceError(f"{WEIGHTS}: expected {8 + length + end} bytes, got {size}", remedy=REMEDY)
    return 8 + length, offsets


def _start(entry: Any) -> tuple[int, int]:
    offsets = entry.get("data_offsets") if isinstance(entry, dict) else None
    honest = isinstance(offsets, list) and len(offsets) == 2 and all(type(offset) is int for offset in offsets)
    return (offsets[0], offsets[1]) if honest and offsets else (-1, -1)


def _tensors(
    buffer: bytearray | mmap.mmap, start: int, offsets: dict[str, int], config: Architecture
) -> dict[str, F32]:
    """Views into `buffer`, which lives as long as they do."""
    return {
        name: np.frombuffer(buffer, dtype="<f4", count=math.prod(shape), offset=start + offsets[name]).reshape(shape)
        for name, shape in shapes(config).items()
    }


def _pieces(descriptor: int, start: int, length: int) -> Iterator[F32]:
    """The values in `length` bytes of a file from `start`, in small pieces, each in place of the last one."""
    buffer = memoryview(bytearray(_PIECE_BYTES))
    while length:
        want = buffer[: min(length, _PIECE_BYTES)]
        if os.preadv(descriptor, [want], start) != len(want):
            raise EvidenceError(f"{WEIGHTS}: expected {length} bytes more, got a file that shrinks", remedy=REMEDY)
        yield np.frombuffer(want, dtype="<f4")
        start, length = start + len(want), length - len(want)


def _check_values(name: str, pieces: Iterable[F32]) -> None:
    """Refuse NaN, infinities, and a scale that is not above 0. Least and greatest value tell: NaN spreads to both."""
    for piece in pieces:
        with np.errstate(invalid="ignore"):  # a signalling NaN is refused like any other, without a warning
            least, greatest = piece.min(), piece.max()
        if not (np.isfinite(least) and np.isfinite(greatest)):
            raise EvidenceError(f"{WEIGHTS}: {name}: expected finite weights, got NaN or an infinity", remedy=REMEDY)
        if name.endswith("feature_std") and not least > 0:
            raise EvidenceError(f"{WEIGHTS}: {name}: expected values above 0, got others", remedy=REMEDY)
