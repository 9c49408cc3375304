"""Signed telemetry: processor seconds for a million rows at the gateway and at the twin, 17 channels, one core.

    python -m bench frames

The gateway is given rows as dictionaries, numbers each frame on the disk, and signs. The gate parses, verifies and
remembers; frames come to it sixteen at a time. `as dictionaries` is what it then costs to hand the rows to a runtime
that takes one after the other.
"""

from __future__ import annotations

import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from bench.table import Row
from twinseal.trust.device_record import Device, DeviceRecord
from twinseal.trust.keys.device_keys import DeviceSigner
from twinseal.twin.frame_gate import FrameGate, Taken
from twinseal.twin.gateway import Gateway

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
MODEL, CHANNELS = "pump-rul", tuple(f"sensor_{number:02d}" for number in range(17))
FRAMES, TOGETHER = 400, 16
SIZES = ((100, 1), (100, 100), (1000, 100))  # rows in a frame, units
REACH_S = 10.0  # 100,000 rows a second: what the twin's guard is to take from one core


def measure(scratch: Path, repeats: int) -> list[Row]:
    """The rows of the table."""
    return [row for rows, units in SIZES for row in _measured(scratch, repeats, rows, units)]


def _measured(scratch: Path, repeats: int, rows: int, units: int) -> list[Row]:
    found = []
    for _ in range(repeats):
        with tempfile.TemporaryDirectory(dir=scratch) as folder:
            found.append(_once(Path(folder), rows, units))
    what = f"{rows} rows a frame, {units} {'unit' if units == 1 else 'units'}: "
    parts = ("signed", "verified", "as dictionaries")
    return [
        Row("frames", f"{what}{part}, a million rows", tuple(samples), "s", REACH_S if part == "verified" else None)
        for part, samples in zip(parts, zip(*found, strict=True), strict=True)
    ]


def _once(folder: Path, rows: int, units: int) -> tuple[float, float, float]:
    """Processor seconds for a million rows: signed, verified, as dictionaries."""
    signer, names = DeviceSigner(Ed25519PrivateKey.generate()), [f"unit-{number:04d}" for number in range(units)]
    gateway = Gateway("gate-1", MODEL, signer, folder / "gateway.json", rows=rows)
    device = Device("gate-1", signer.key, tuple(names), CHANNELS, frames_per_second=10_000)
    gate = FrameGate(folder, DeviceRecord(MODEL, 1, 60, (device,), (), NOW))
    million = 1e6 / (FRAMES * rows)

    begun = time.process_time()
    frames = [
        frame
        for cycle in range(1, FRAMES * rows // units + 1)
        for name in names
        for frame in gateway.add({"unit": name, "cycle": cycle, **dict.fromkeys(CHANNELS, 0.1 * cycle)}, NOW)
    ]
    signed = time.process_time() - begun

    begun = time.process_time()
    done = [item for at in range(0, FRAMES, TOGETHER) for item in gate.take(frames[at : at + TOGETHER], NOW)]
    verified = time.process_time() - begun
    taken = [item for item in done if isinstance(item, Taken)]

    begun = time.process_time()
    count = sum(1 for item in taken for _ in item.frame.rows())
    given = time.process_time() - begun
    if count != FRAMES * rows:
        raise SystemExit(f"frames: expected {FRAMES * rows} rows to be taken, got {count}")
    return signed * million, verified * million, given * million
