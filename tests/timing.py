"""How long tests take, and in which order they run: a plugin of pytest, loaded by tests/conftest.py.

    python -m pytest --record-durations    writes tests/durations.json: seconds of each test file, and its slow tests
    python -m pytest --stop-at UNIX-TIME   tests that have not begun by then are skipped, and say so

With pytest-xdist a test file (or a group of files that share an expensive fixture) runs on one worker, and the longest
group starts first: two workers then end at almost the same time.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pytest

RECORD = Path(__file__).with_name("durations.json")
SLOW_S = 1.0
# Files that share an expensive session fixture or import run on one worker, which pays once. By how the path begins.
GROUPS: Mapping[str, str] = {
    "tests/robustness/": "trained networks and their attacks",
    "tests/telemetry/": "Great Expectations",
    "tests/registry/": "MLflow",
    "tests/server/test_access_tokens.py": "identity provider",
    "tests/server/test_second_factor.py": "identity provider",
    "tests/server/test_sign_in.py": "identity provider",
    "tests/server/test_sign_in_browser.py": "identity provider",
    "tests/test_ceremonies.py": "MLflow",
    "tests/test_cli_answers.py": "MLflow",
    "tests/test_cli_trust.py": "MLflow",
    "tests/trust/test_audited.py": "MLflow",
    "tests/twin/test_real_server.py": "MLflow",
}


@dataclass
class Duration:
    """What one test file takes.

    Attributes:
        seconds: All of it: its fixtures and its tests.
        slow: Seconds of each test that takes more than `SLOW_S`, without its fixtures, by the name within the file.
    """

    seconds: float = 0.0
    slow: dict[str, float] = field(default_factory=dict)

    @property
    def without_slow(self) -> float:
        """Seconds of the file when its slow tests are left out."""
        return max(0.0, self.seconds - sum(self.slow.values()))


def durations() -> dict[str, Duration]:
    """The recorded durations, by test file below the repository's root; none before the first record."""
    return (
        {name: Duration(**value) for name, value in json.loads(RECORD.read_text()).items()} if RECORD.exists() else {}
    )


def group(file: str) -> str:
    """The name of the group of files that runs on one worker with `file`."""
    return next((name for prefix, name in GROUPS.items() if file.startswith(prefix)), file)


def longest_first(files: list[str], record: Mapping[str, Duration]) -> dict[str, int]:
    """The place of each file in a run: groups by their recorded seconds, the longest first, unknown ones before all."""
    seconds: dict[str, float] = {}
    for file in files:
        known = record[file].seconds if file in record else float("inf")
        seconds[group(file)] = seconds.get(group(file), 0.0) + known
    ordered = sorted(dict.fromkeys(files), key=lambda file: (-seconds[group(file)], group(file)))
    return {file: place for place, file in enumerate(ordered)}


def pytest_addoption(parser: pytest.Parser) -> None:
    options = parser.getgroup("twinseal")
    options.addoption("--record-durations", action="store_true", help=f"write {RECORD.name}")
    options.addoption("--stop-at", type=float, metavar="TIME", help="skip tests that have not begun by this Unix time")


def pytest_configure(config: pytest.Config) -> None:
    if config.option.record_durations and not hasattr(config, "workerinput"):
        config.pluginmanager.register(Recorder(), "twinseal-durations")


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.config.option.stop_at and time.time() > item.config.option.stop_at:
        pytest.skip("out of time")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if hasattr(config, "workerinput") and not config.option.stop_at:  # `make quick` has an order of its own
        places = longest_first([_file(item.nodeid) for item in items], durations())
        items.sort(key=lambda item: places[_file(item.nodeid)])


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """`--dist loadfile`, with groups of files; xdist 3.8's own `loadgroup` groups nothing under pytest 9.2."""
    if config.getoption("dist") != "loadfile":
        return None
    from xdist.scheduler import LoadScopeScheduling

    class ByGroup(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return group(_file(nodeid))

    config.option.loadscopereorder = False
    return ByGroup(config, log)


class Recorder:
    """Adds up what each test file takes, and writes it when the session ends."""

    def __init__(self) -> None:
        self._found: dict[str, Duration] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """One phase of one test."""
        file, _, name = report.nodeid.partition("::")
        found = self._found.setdefault(file, Duration())
        found.seconds += report.duration
        if report.when == "call" and report.duration > SLOW_S:
            found.slow[name] = round(report.duration, 1)

    def pytest_sessionfinish(self) -> None:
        """Write what was found; files that did not run keep what was recorded of them, if they still exist."""
        known = durations()
        root = RECORD.parents[1]
        every = {name: value for name, value in (known | self._found).items() if (root / name).exists()}
        lines = [f"{json.dumps(name)}: {json.dumps(_rounded(value))}" for name, value in sorted(every.items())]
        RECORD.write_text("{\n" + ",\n".join(lines) + "\n}\n")


def _rounded(value: Duration) -> dict[str, Any]:
    return asdict(value) | {"seconds": round(value.seconds, 1)}


def _file(nodeid: str) -> str:
    return nodeid.partition("::")[0]
