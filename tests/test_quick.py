"""Which tests a change touches, and which of them fit into a minute: on a small repository of its own."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests import timing
from tests.quick import ROOT, Imports, Plan, Run, changed_files, plan, summary
from tests.timing import Duration, durations, longest_first

pytestmark = pytest.mark.proof  # make check stays below 12 minutes

FILES = {
    "src/shop/__init__.py": "",
    "src/shop/price.py": '"""Says nothing of shop.label, but here."""\n',
    "src/shop/label.py": "from shop.price import total\n",
    "src/shop/door.py": "def bell():\n    from shop import label\n",
    "pipelines/__init__.py": "",
    "pipelines/sell.py": 'from pathlib import Path\nPRICES = Path("policy") / "prices.yaml"\n',
    "tests/conftest.py": "import pytest\nimport shop.door\n@pytest.fixture\ndef bell(): ...\n",
    "tests/scenes.py": "from shop import price\n",
    "tests/test_price.py": "import shop.price\n",
    "tests/test_label.py": "from shop import label\n",
    "tests/test_scene.py": "from tests.scenes import total\n",
    "tests/test_bell.py": "def test_it(bell): ...\n",
    "tests/test_stage.py": 'COMMAND = ["python", "-m", "pipelines.sell"]\n',
    "tests/test_other.py": "import json\n",
}


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


@pytest.mark.parametrize(
    ("changed", "touched"),
    [
        ("tests/test_other.py", {"other": 0}),
        ("src/shop/price.py", {"price": 1, "label": 2, "scene": 2, "bell": 4}),
        ("src/shop/door.py", {"bell": 2}),
        ("src/shop/__init__.py", {"price": 1, "label": 1, "scene": 2, "bell": 2}),
        ("pipelines/sell.py", {"stage": 1}),
        ("policy/prices.yaml", {"stage": 2}),
        ("policy/new.yaml", {"stage": 2}),
        ("README.md", {}),
        ("src/shop/deleted.py", {}),
    ],
)
def test_a_change_touches_what_imports_it_directly_or_not(
    changed: str, touched: dict[str, int], repository: Path
) -> None:
    found = Imports(repository).distances([changed])
    assert {f"tests/test_{name}.py": distance for name, distance in touched.items()} == found


def test_a_changed_conftest_touches_every_test_below(repository: Path) -> None:
    imports = Imports(repository)
    assert imports.tests == list(imports.distances(["tests/conftest.py"]))


@pytest.fixture(scope="module")
def here() -> Imports:
    """The imports of this repository."""
    return Imports(ROOT)


def test_in_this_repository_a_module_of_the_twin_touches_its_tests_and_not_those_of_training(here: Imports) -> None:
    found = here.distances(["src/twinseal/twin/journal.py"])
    assert 0 == found["tests/twin/test_journal.py"]
    assert "tests/twin/test_pull.py" in found
    assert "tests/prognostics/test_training.py" not in found


def test_every_python_file_below_tests_is_read(here: Imports) -> None:
    listed = subprocess.run(
        ["git", "ls-files", "tests/**/test_*.py", "tests/test_*.py"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert {name for name in listed.stdout.split() if (ROOT / name).exists()} <= set(here.tests)


def git(place: Path, *words: str) -> None:
    named = ("-c", "user.name=t", "-c", "user.email=t@example.invalid")
    subprocess.run(["git", *named, *words], cwd=place, check=True, capture_output=True)


def test_a_change_is_what_differs_from_where_the_branch_left_main(repository: Path) -> None:
    """Committed, staged, edited, or new; not what main has got since."""
    for command in ("init -q -b main", "add -A", "commit -q -m first", "branch topic"):
        git(repository, *command.split())
    (repository / "tests/test_other.py").write_text("import csv\n")
    git(repository, "commit", "-q", "-a", "-m", "on main")
    git(repository, "checkout", "-q", "topic")
    assert set() == changed_files(repository)
    (repository / "src/shop/price.py").write_text("total = 1\n")
    git(repository, "commit", "-q", "-a", "-m", "on the branch")
    (repository / "src/shop/label.py").write_text("label = 1\n")
    git(repository, "add", "-A")
    (repository / "src/shop/door.py").write_text("door = 1\n")
    (repository / "docs of mine.md").write_text("new\n")
    changed = {"src/shop/price.py", "src/shop/label.py", "src/shop/door.py", "docs of mine.md"}
    assert changed == changed_files(repository)


def test_make_help_names_every_target_for_people() -> None:
    done = subprocess.run(["make", "-s", "help"], cwd=ROOT, capture_output=True, text=True, check=True)
    names = {line.split()[0] for line in done.stdout.splitlines()}
    assert {"check", "quick", "static", "durations", "pythons", "bench", "bench-accept"} <= names


RECORD = {
    "near": Duration(3.0),
    "far": Duration(2.0),
    "slow": Duration(30.0, {"test_a": 14.0, "test_b": 15.0}),
    "huge": Duration(90.0),
    "tiny": Duration(0.5),
    "other": Duration(4.0, {"test_c": 3.0}),
}
NEAR = Run("near", 3.0, 1)
FAR = Run("far", 2.0, 2)


def chosen(budget_s: float) -> Plan:
    return plan(RECORD, {"near": 1, "far": 2, "slow": 2, "huge": 3}, RECORD, budget_s)


def test_the_nearest_touched_tests_come_first_and_then_the_fastest_of_the_others() -> None:
    slow, huge = Run("slow", 30.0, 2), Run("huge", 90.0, 3)
    others = (Run("tiny", 0.5, None), Run("other", 1.0, None, ("test_c",)))
    assert Plan((NEAR, FAR, slow, huge, *others), ()) == chosen(1_000.0)


def test_what_does_not_fit_into_the_time_is_left_out_slow_tests_first() -> None:
    slow = Run("slow", 1.0, 2, ("test_a", "test_b"))
    found = chosen(7.0)
    assert (NEAR, FAR, slow, Run("tiny", 0.5, None)) == found.runs
    assert ("huge", "other") == tuple(run.file for run in found.left_out)
    assert sum(run.seconds for run in found.runs) <= 7.0


def test_a_test_file_that_nobody_has_timed_runs_when_it_is_touched() -> None:
    assert "new" in [run.file for run in plan(["new"], {"new": 0}, {}, 60.0).runs]


def test_the_summary_names_what_was_touched_and_left_out() -> None:
    lines = summary(chosen(7.0))
    assert "touched by the change: 3 test files; fast ones besides: 1" == lines[0]
    for expected in ("  huge (90 s)", "  slow::test_a", "not touched and left out: 1 test files"):
        assert any(line.startswith(expected) for line in lines), lines


def test_the_longest_group_starts_first_and_stays_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "GROUPS", {"near": "pair", "tiny": "pair"})
    places = longest_first(["tiny", "near", "far", "huge", "unknown"], RECORD)
    assert ["unknown", "huge", "tiny", "near", "far"] == sorted(places, key=places.__getitem__)


def test_groups_are_of_files_that_exist() -> None:
    for path in timing.GROUPS:
        assert (ROOT / path).exists(), path


def test_the_recorder_adds_up_each_file_and_names_its_slow_tests(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = tmp_path / "tests/durations.json"
    record.parent.mkdir()
    record.write_text('{"tests/a.py": {"seconds": 1.0, "slow": {}}, "tests/gone.py": {"seconds": 1.0, "slow": {}}}')
    for name in ("a", "b"):
        (tmp_path / f"tests/{name}.py").touch()
    monkeypatch.setattr(timing, "RECORD", record)
    recorder = timing.Recorder()
    for when, seconds in (("setup", 7.0), ("call", 2.0), ("teardown", 0.5)):
        report = pytest.TestReport("tests/b.py::test[x::y]", ("", 0, ""), {}, "passed", None, when, duration=seconds)  # type: ignore[arg-type]
        recorder.pytest_runtest_logreport(report)
    recorder.pytest_sessionfinish()
    found = durations()
    assert {"tests/a.py": Duration(1.0), "tests/b.py": Duration(9.5, {"test[x::y]": 2.0})} == found
    assert 7.5 == found["tests/b.py"].without_slow


def test_recorded_durations_are_of_tests_that_exist() -> None:
    for name, duration in durations().items():
        text = (ROOT / name).read_text()
        for slow in duration.slow:
            assert f"def {slow.partition('[')[0].rpartition('::')[2]}(" in text, f"{name}::{slow}: make durations"


@pytest.mark.parametrize(("room_s", "result"), [(60.0, "passed"), (-60.0, "skipped")])
def test_the_deadline_holds_in_the_workers(room_s: float, result: str) -> None:
    words = ["-q", "-n", "2", "--dist", "loadfile", "--stop-at", str(time.time() + room_s), "tests/test_digests.py"]
    command = [sys.executable, "-m", "pytest", *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert re.search(rf"^[0-9]+ {result} in ", done.stdout, re.MULTILINE), done.stdout
