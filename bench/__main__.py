"""Run benchmarks and print one table; each leaves its samples in reports/bench/<name>.json.

    python -m bench                 all of them
    python -m bench pull --repeats 7

Exit status: 0 when everything that has a reach is within it, 1 when something is not. Run it on a quiet machine: what
else runs there is part of what it measures.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from bench.table import Row, machine, show
from twinseal.files import write_json

ROOT = Path(__file__).parents[1]
NAMES = ("accuracy", "attack", "pull", "start")


def bench(name: str) -> Callable[[Path, int], list[Row]]:
    """What measures `name`: the module of that name, imported when it is asked for, since it brings all it measures."""
    measure: Callable[[Path, int], list[Row]] = importlib.import_module(f"bench.{name}").measure
    return measure


def main() -> int:
    """Measure, keep, show."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(NAMES)}; all without one")
    parser.add_argument("--repeats", type=int, default=5, help="how often each thing is measured (default 5)")
    parser.add_argument("--scratch", type=Path, default=ROOT / ".twinseal/bench", help="folder on the disk to measure")
    options = parser.parse_args()
    names = options.names or list(NAMES)
    unknown = sorted(set(names) - set(NAMES))
    if unknown or options.repeats < 1:
        parser.error(f"expected of {', '.join(NAMES)}, and one repeat at least; got {unknown or options.repeats}")
    options.scratch.mkdir(mode=0o700, parents=True, exist_ok=True)
    rows: list[Row] = []
    about = machine(options.scratch)
    for name in names:
        with tempfile.TemporaryDirectory(dir=options.scratch) as folder:
            found = bench(name)(Path(folder), options.repeats)
        result = {"time": datetime.now(UTC).isoformat(), "machine": about, "rows": [row.to_dict() for row in found]}
        write_json(ROOT / f"reports/bench/{name}.json", result)
        rows += found
    show(rows, about)
    return 0 if all(row.reached is not False for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
