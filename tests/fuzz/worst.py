"""The worst documents, each to every parser, in a process that may not grow: one line of JSON for each.

python -m tests.fuzz.worst
"""

from __future__ import annotations

import io
import json
import logging
import re
import resource
import struct
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import structlog

from tests.fuzz.harness import Parser, outcome
from tests.fuzz.parsers import all_parsers

GROWTH = 300 << 20  # bytes above what the process has when all is imported


def documents() -> dict[str, bytes]:
    """The worst documents by name; none is larger than what a parser is handed at most."""
    header = json.dumps({f"t{n}": {"dtype": "F32", "shape": [], "data_offsets": [0, 0]} for n in range(8_000)})
    wide, ones = io.BytesIO(), pa.array(np.ones(2_600_000))
    pq.write_table(pa.table(dict.fromkeys(("unit", "cycle", *map(str, range(18))), ones)), wide)
    return {
        "512 KB of brackets": b"[" * (512 << 10),
        "500 KB of nested objects": b'{"a":' * 100_000,
        "balanced, 200 deep": b"[" * 200 + b"]" * 200,
        "4 MB of empty objects": b"[" + b"{}," * 1_390_000 + b"{}]",
        "200 KB of empty objects": b"[" + b"{}," * 66_000 + b"{}]",
        "an object of 40,000 members": json.dumps(dict.fromkeys(map(str, range(40_000)))).encode(),
        "a number of 4 million digits": b"9" * 4_000_000,
        "a number of 4,000 digits": b"9" * 4_000,
        "one string of 4 MB": b'"' + b"a" * 4_000_000 + b'"',
        "4 MB of escapes": b'"' + b"\\ud83d\\ude00" * 330_000 + b'"',
        "a header of 8,000 tensors": header.encode(),
        "a file with that header": struct.pack("<Q", len(header)) + header.encode(),
        "a header said to be 59 MB long": struct.pack("<Q", 59 << 20) + b" " * (8 << 20),
        "a header said to be 2**63 long": struct.pack("<Q", 2**63) + b"{}",
        "a row of 400,000 cells": b"unit,cycle\n" + b"a," * 400_000 + b"1\n",
        "a table of 100,000 columns": ",".join(["unit", "cycle", *map(str, range(100_000))]).encode() + b"\na,1\n",
        "a table that unpacks to 416 MB": wide.getvalue(),
        "a line of 8 MB": b" " * (8 << 20),
        "8 MB of zeros": bytes(8 << 20),
        "an answer without an end to its headers": b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 40_000,
        "nothing": b"",
    }


def measured(parser: Parser, name: str, data: bytes) -> dict[str, object]:
    """What became of one document."""
    start = time.perf_counter()
    try:
        result = outcome(parser, data)
    except BaseException as error:  # also a MemoryError: that is what this is about
        result = f"{type(error).__name__}: {str(error)[:200]}"
    seconds = round(time.perf_counter() - start, 3)
    return {"parser": parser.name, "document": name, "outcome": result, "seconds": seconds}


def main() -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    hostile = documents()
    with tempfile.TemporaryDirectory() as folder:
        parsers = all_parsers(Path(folder))
        for parser in parsers.values():  # so that what is imported late is there
            outcome(parser, parser.documents[0])
        held = re.search(r"VmSize:\s+(\d+) kB", Path("/proc/self/status").read_text())
        if held is None:
            raise SystemExit("expected the size of the process in /proc/self/status, got none")
        resource.setrlimit(resource.RLIMIT_AS, ((int(held[1]) << 10) + GROWTH,) * 2)
        for parser in parsers.values():
            for name, data in hostile.items():
                sys.stdout.write(json.dumps(measured(parser, name, data)) + "\n")


if __name__ == "__main__":
    main()
