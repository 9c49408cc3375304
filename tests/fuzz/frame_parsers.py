"""The parsers of signed telemetry: frames, streams of them, what the twin remembers of them, and who may deliver."""

from __future__ import annotations

import io
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tests.fuzz.harness import Parser, holds
from tests.twin.deployment import MODEL, NOW
from twinseal.errors import EvidenceError
from twinseal.trust.device_record import Device, DeviceRecord
from twinseal.trust.keys.device_keys import DeviceSigner
from twinseal.trust.life_acts import Act
from twinseal.trust.life_record import Life, LifeRecord
from twinseal.trust.signing import cose
from twinseal.twin import frames
from twinseal.twin.frame_gate import FrameGate, Refused
from twinseal.twin.frame_memory import FrameMemory, Sequence
from twinseal.twin.frame_stream import batches, with_length
from twinseal.twin.frames import Frame


def frame_parsers(folder: Path) -> list[Parser]:
    """Frames as they come, from behind the device's signature, and in a stream; what is remembered; what is signed."""
    signer = DeviceSigner(Ed25519PrivateKey.from_private_bytes(bytes(32)))
    devices = DeviceRecord(MODEL, 1, 60, (Device("gate-1", signer.key, ("a", "b"), ("heat", "speed")),), (), NOW)
    numbers, readings = np.array([0, 1, 0]), np.array([[5.0, 6.0], [np.nan, 6.5], [5.5, 6.0]])
    time, units = int(NOW.timestamp() * 1000), {"a": 2, "b": 1}
    frame = Frame(
        "gate-1", MODEL, 1, time, units, ("heat", "speed"), numbers.astype("<u2"), np.array([1, 1, 2], "<u4"), readings
    )
    single = replace(frame, readings=readings.astype(np.float32))
    place = folder / "gate"
    place.mkdir()

    def taken(data: bytes) -> None:
        (place / "frames.json").unlink(missing_ok=True)
        (found,) = FrameGate(place, devices).take([data], NOW)
        if isinstance(found, Refused):
            raise EvidenceError(found.message)
        holds(cose.parse(data).verify(signer.key) == found.frame.to_bytes(), "frame: another spelling of it was taken")
        holds(set(found.frame.units) <= {"a", "b"}, "frame: another's unit was taken")

    def said(data: bytes) -> None:
        holds(Frame.from_bytes(data).to_bytes() == data, "frame: another spelling of it was taken")
        taken(cose.sign(data, signer))

    def stream(data: bytes) -> None:
        found = [item for batch in batches(io.BytesIO(data)) for item in batch]
        whole = b"".join(with_length(item) for item in found if isinstance(item, bytes))
        holds(len(whole) <= len(data), "stream: more came out than went in")
        holds(whole == data or any(isinstance(item, Refused) for item in found), "stream: bytes were lost silently")

    def memory(data: bytes) -> None:
        value = FrameMemory.from_bytes(data)
        holds(FrameMemory.from_bytes(value.to_bytes()) == value, "memory of frames: it does not go back in")

    def record(data: bytes) -> None:
        holds(DeviceRecord.from_bytes(data).to_bytes() == data, "devices: another spelling of it was taken")

    def lives(data: bytes) -> None:
        holds(LifeRecord.from_bytes(data).to_bytes() == data, "lives: another spelling of it was taken")

    acts = (Act("new machine", 0, 0), Act("overhaul", 90, 10), Act("counter replaced", 0, 20))
    enrolled = LifeRecord(MODEL, 2, 1, {"a": Life(acts, baseline=1), "b": Life(acts[:1], retired=True)}, NOW)
    remembered = FrameMemory({signer.key.fingerprint: Sequence(9, (3, 5))}, {"a": 4}, Counter({"late": 1}), 1, {"a": 3})
    messages = tuple(frames.sign(item, signer) for item in (frame, single))
    return [
        Parser("frame", messages, taken),
        Parser("frame_said", (frame.to_bytes(), single.to_bytes()), said),
        Parser("frame_stream", (b"".join(map(with_length, messages)),), stream),
        Parser("frame_memory", (remembered.to_bytes(),), memory),
        Parser("devices_said", (devices.to_bytes(),), record),
        Parser("lives_said", (enrolled.to_bytes(),), lives),
    ]
