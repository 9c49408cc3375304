"""Run benchmarks and compare them with the accepted figures; each leaves its samples in reports/bench/<name>.json.

    python -m bench                 all of them
    python -m bench pull --repeats 7
    python -m bench --accept pull   take the last results of `pull` as the accepted ones (bench/accepted.json)

Exit status: 0 when everything that has a reach is within it and nothing is worse than accepted; 1 otherwise. Run it on
a quiet machine: the calibration takes a slow machine out of the times, but not what else runs there.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from bench import accepted
from bench.calibration import calibrate
from bench.table import Row, machine, show
from twinseal.files import write_json
from twinseal.trust.root.private_folders import user_folder

ROOT = Path(__file__).parents[1]
NAMES = (
    *(
        "accuracy",
        "attack",
        "cold_start",
        "fleet",
        "frames",
        "pull",
        "serve",
        "soak",
        "start",
        "twin_rates",
        "validation",
    ),
)


def bench(name: str) -> Callable[[Path, int], list[Row]]:
    """What measures `name`: the module of that name, imported when it is asked for, since it brings all it measures."""
    measure: Callable[[Path, int], list[Row]] = importlib.import_module(f"bench.{name}").measure
    return measure


def main() -> int:
    """Measure, keep, show, compare; or accept what was measured last."""
    options = _options()
    names = options.names or list(NAMES)
    reports = ROOT / "reports/bench"
    if options.accept:
        found = accepted.accept(names, reports)
        print(f"{accepted.ACCEPTED.name}: {', '.join(found) or 'nothing'} accepted, from {reports}")
        return 0 if found else 1
    options.scratch.mkdir(mode=0o700, parents=True, exist_ok=True)
    about = machine(options.scratch)
    comparisons: list[accepted.Comparison] = []
    known = accepted.accepted_figures(accepted.read())
    for name in names:
        rows, calibration_s = _measured(name, options.scratch, options.repeats)
        result = {"time": datetime.now(UTC).isoformat(timespec="seconds"), "machine": about}
        figures = {"calibration_s": calibration_s, "rows": [row.to_dict() for row in rows]}
        write_json(reports / f"{name}.json", result | figures)
        comparisons += accepted.compare(rows, calibration_s, known)
    show([found.row for found in comparisons], about)
    accepted.show(comparisons)
    return 1 if any(found.worse or found.row.reached is False for found in comparisons) else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(NAMES)}; all without one")
    parser.add_argument("--repeats", type=int, default=5, help="how often each thing is measured (default 5)")
    scratch = user_folder("cache") / "bench"
    parser.add_argument("--scratch", type=Path, default=scratch, help="folder on the disk to measure")
    parser.add_argument("--accept", action="store_true", help="accept the last results; measure nothing")
    options = parser.parse_args()
    unknown = sorted(set(options.names) - set(NAMES))
    if unknown or options.repeats < 1:
        parser.error(f"expected of {', '.join(NAMES)}, and one repeat at least; got {unknown or options.repeats}")
    return options


def _measured(name: str, scratch: Path, repeats: int) -> tuple[list[Row], float]:
    """The rows of one benchmark, and the seconds of the calibration: the mean of one before and one after it."""
    before = calibrate()
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        rows = bench(name)(Path(folder), repeats)
    return rows, (before + calibrate()) / 2


if __name__ == "__main__":
    sys.exit(main())
