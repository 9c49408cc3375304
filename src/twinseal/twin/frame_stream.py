"""Frames in a stream: each after its length, 4 bytes, the greatest first; through a pipe, or in a file.

A length is not signed. One that is too great is refused, and so many bytes are passed over; what then follows is read
as a frame again, and fails if it is none. A stream that ends inside a frame is said to.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any, Protocol

from twinseal.trust.device_record import DeviceRecord
from twinseal.trust.life_record import LifeRecord
from twinseal.trust.signing.cose import MAX_MESSAGE_BYTES
from twinseal.twin.frame_gate import FrameGate, Refused, Taken

_LENGTH = 4
_CHUNK = 256 << 10


class Readable(Protocol):
    """What gives the bytes that are there: the standard input, an open file."""

    def read1(self, size: int, /) -> bytes:
        """At most `size` bytes, as soon as there are any; none at the end."""
        ...


def with_length(frame: bytes) -> bytes:
    """A frame as it stands in a stream."""
    return len(frame).to_bytes(_LENGTH) + frame


class FrameBuffer:
    """Finds the frames in bytes as they come."""

    def __init__(self) -> None:
        self._buffer, self._passed_over = bytearray(), 0

    def feed(self, data: bytes) -> list[bytes | Refused]:
        """The frames that are whole by these bytes."""
        buffer, found = self._buffer, list[bytes | Refused]()
        buffer += data
        while True:
            drop = min(self._passed_over, len(buffer))
            del buffer[:drop]
            self._passed_over -= drop
            length = int.from_bytes(buffer[:_LENGTH])
            if self._passed_over or len(buffer) < _LENGTH:
                return found
            if length > MAX_MESSAGE_BYTES:
                message = f"stream: expected frames of at most {MAX_MESSAGE_BYTES} bytes, got one of {length}"
                found.append(Refused("too long", message))
                self._passed_over = _LENGTH + length
            elif len(buffer) < _LENGTH + length:
                return found
            else:
                found.append(bytes(buffer[_LENGTH : _LENGTH + length]))
                del buffer[: _LENGTH + length]

    def end(self) -> list[bytes | Refused]:
        """What is to be said at the end of the bytes."""
        if self._buffer or self._passed_over:
            return [Refused("cut off", "stream: expected the rest of a frame, got its end")]
        return []


def batches(stream: Readable) -> Iterator[list[bytes | Refused]]:
    """The frames in `stream`, those together that came together; never an empty list."""
    buffer = FrameBuffer()
    while data := stream.read1(_CHUNK):
        if found := buffer.feed(data):
            yield found
    if found := buffer.end():
        yield found


def signed_rows(
    gate: FrameGate,
    stream: Readable,
    now: Callable[[], datetime],
    tell: Callable[[Taken | Refused], None],
    records: Callable[[datetime], tuple[DeviceRecord, LifeRecord | None]] | None = None,
) -> Iterator[dict[str, Any]]:
    """The rows of the frames that `gate` takes from `stream`, as they come.

    Args:
        gate: Verifies them; closed at the end.
        stream: As `batches`.
        now: The clock.
        tell: Told of each frame, before its rows.
        records: Gives the devices and the machines that count at a time, as `FrameGate.use` takes them, so that who is
            revoked delivers nothing from then on; without it, those of the gate stay.

    Raises:
        What `records` raises: no frame is taken after that.
        OSError: The gate cannot remember; or the stream fails.
    """
    try:
        for batch in batches(stream):
            time = now()
            if records is not None:
                gate.use(*records(time))
            for item in gate.take(batch, time):
                tell(item)
                if isinstance(item, Taken):
                    yield from item.frame.rows()
    finally:
        gate.close()
