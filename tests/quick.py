"""`make quick`: the tests that a change touches, then the rest of the fast ones, in 60 seconds.

A change is every file that differs from the merge base with the main branch, committed or not. A test file is touched
when it, or a file that it imports, directly or not, has changed. Read as imports, too:

- a conftest.py above a test file that asks for one of its fixtures (when it has changed itself: any test file below);
- a module that is named in a string: tests start stages with `python -m pipelines.train`;
- a file, or else its folder, that is named in a string: `policy/gates.yaml` touches what reads it.

The nearest touched files run first, then the fastest of the others, for as long as the recorded durations
(tests/durations.json) allow. Where a whole file takes too long, its slow tests are left out. What was left out is
printed: `make check` runs it all.
"""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.timing import Duration, durations

ROOT = Path(__file__).parents[1]
CODE = ("src", "pipelines", "demo", "bench", "tests")
MAIN = ("main", "origin/main")
LIMIT_S = 60.0
START_S = 12.0  # until the first test runs: two workers start and collect
WORKERS = 2
UNKNOWN = Duration(seconds=5.0)  # a test file that nobody has timed yet
_MODULE = re.compile(r"[a-z_]\w*(?:\.\w+)+")


@dataclass(frozen=True)
class Run:
    """A test file that runs.

    Attributes:
        file: Below the repository's root.
        seconds: As recorded.
        distance: From the change: 0 it has changed itself, or is the test of a module that has; 1 it imports what has
            changed, …; None: it is not touched.
        without: Its slow tests, if they are left out.
    """

    file: str
    seconds: float
    distance: int | None
    without: tuple[str, ...] = ()


@dataclass(frozen=True)
class Plan:
    """What runs, in order, and which touched files and slow tests do not."""

    runs: tuple[Run, ...]
    left_out: tuple[Run, ...]


def changed_files(root: Path = ROOT) -> set[str]:
    """Every file that differs from the merge base with the main branch, and files that Git does not know yet."""
    base = next((found for name in MAIN if (found := _git(root, "merge-base", "HEAD", name))), ["HEAD"])[0]
    return {
        *_git(root, "diff", "--name-only", "-z", base),
        *_git(root, "ls-files", "--others", "--exclude-standard", "-z"),
    }


def _git(root: Path, *words: str) -> list[str]:
    """What Git answers, split; nothing when it refuses."""
    done = subprocess.run(["git", "-C", str(root), *words], capture_output=True, text=True, check=False)
    return [part for part in re.split(r"[\0\n]", done.stdout) if part] if done.returncode == 0 else []


class Imports:
    """Who imports whom, of every Python file in the repository.

    Attributes:
        tests: The test files.
    """

    def __init__(self, root: Path) -> None:
        files = sorted(path.relative_to(root).as_posix() for top in CODE for path in (root / top).rglob("*.py"))
        self.tests = [file for file in files if file.rpartition("/")[2].startswith("test_")]
        self._modules = {name: file for file in files for name in _names(file)}
        self._importers: dict[str, set[str]] = defaultdict(set)
        self._readers: dict[str, set[str]] = defaultdict(set)  # by a word of a path
        trees = {file: ast.parse((root / file).read_text(encoding="utf-8")) for file in files}
        fixtures = {file: _fixtures(tree) for file, tree in trees.items() if file.endswith("conftest.py")}
        for file, tree in trees.items():
            self._read(file, tree)
            asked = {argument.arg for argument in ast.walk(tree) if isinstance(argument, ast.arg)}
            for conftest in _conftests(file) & fixtures.keys():
                if asked & fixtures[conftest]:
                    self._importers[conftest].add(file)

    def _read(self, file: str, tree: ast.Module) -> None:
        texts = {node for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}
        for node in ast.walk(tree):
            for name in _imported(node):
                self._add(file, name)
            if isinstance(node, ast.Expr):
                texts.discard(node.value)  # type: ignore[arg-type]  # a docstring
        for text in (str(node.value) for node in texts):
            for name in (*_MODULE.findall(text), *self._started(text)):
                self._add(file, name)
            for word in re.split(r"[\s/]+", text):
                self._readers[word].add(file)

    def _add(self, file: str, name: str) -> None:
        """`file` imports `name`: the module, and the packages above it."""
        parts = name.split(".")
        for length in range(1, len(parts) + 1):
            found = self._modules.get(".".join(parts[:length]))
            if found and found != file:
                self._importers[found].add(file)

    def _started(self, text: str) -> Iterator[str]:
        """The modules that `python -m demo` starts, or f"pipelines.{stage}": all that the name can stand for."""
        if f"{text}.__main__" in self._modules:
            yield f"{text}.__main__"
        if text.endswith(".") and text[:-1] in self._modules:
            yield from (name for name in self._modules if name.startswith(text))

    def importers(self, file: str) -> set[str]:
        """The Python files that import or read `file`."""
        if file.endswith(".py"):
            return self._importers[file]
        *folders, name = file.split("/")
        folder = next((self._readers[word] for word in reversed(folders) if word in self._readers), set())
        return self._readers.get(name, set()) | folder

    def distances(self, changed: Iterable[str]) -> dict[str, int]:
        """How far each touched test file is from the change."""
        distances, front = dict.fromkeys(changed, 0), list(changed)
        mirrored = {test for file in front for test in [_mirrored(file)] if test in self.tests}
        distances |= dict.fromkeys(mirrored, 0)
        for conftest in [file for file in front if file.endswith("conftest.py")]:
            below = [file for file in self.tests if conftest in _conftests(file) and file not in distances]
            distances |= dict.fromkeys(below, 1)
        while front:
            file = front.pop(0)
            for importer in self.importers(file) - distances.keys():
                distances[importer] = distances[file] + 1
                front.append(importer)
        return {file: distances[file] for file in self.tests if file in distances}


def _names(file: str) -> Iterator[str]:
    """The names under which a file is imported; the folders src/ and tests/ are on the path."""
    name = file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    yield name.removeprefix("src.")
    yield name.removeprefix("tests.")


def _imported(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom) and node.module:
        yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _fixtures(tree: ast.Module) -> set[str]:
    """The names of the fixtures that a conftest.py makes."""
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    return {node.name for node in functions if any("fixture" in ast.unparse(mark) for mark in node.decorator_list)}


def _mirrored(file: str) -> str:
    """The test file of a module: the tree of the tests mirrors that of the sources."""
    folder, _, name = file.removeprefix("src/twinseal/").rpartition("/")
    return "/".join(filter(None, ("tests", folder, f"test_{name}")))


def _conftests(file: str) -> set[str]:
    """Where the conftest.py files above a test file are, if there are any."""
    folders = file.split("/")[:-1]
    paths = {"/".join((*folders[:length], "conftest.py")) for length in range(1, len(folders) + 1)}
    return paths - {file} if folders[0] == "tests" else set()


def plan(tests: Iterable[str], distances: Mapping[str, int], record: Mapping[str, Duration], budget_s: float) -> Plan:
    """Touched files by distance, the fastest first; then the others without their slow tests, the fastest first."""
    runs: list[Run] = []
    left_out: list[Run] = []

    def order(file: str) -> tuple[float, float]:
        return distances.get(file, float("inf")), record.get(file, UNKNOWN).seconds

    for file in sorted(tests, key=order):
        distance, duration = distances.get(file), record.get(file, UNKNOWN)
        whole = Run(file, duration.seconds, distance)
        fast = Run(file, duration.without_slow, distance, tuple(sorted(duration.slow)))
        room = budget_s - sum(run.seconds for run in runs)
        chosen = next(
            (run for run in ((whole, fast) if distance is not None else (fast,)) if run.seconds <= room), None
        )
        runs += [chosen] if chosen else []
        left_out += [whole] if chosen is None else []
    return Plan(tuple(runs), tuple(left_out))


def summary(plan: Plan) -> list[str]:
    """What runs and what is left out, in lines for people."""
    touched = [run for run in plan.runs if run.distance is not None]
    missing = [run for run in plan.left_out if run.distance is not None]
    slow = [f"{run.file}::{name}" for run in touched for name in run.without]
    lines = [f"touched by the change: {len(touched)} test files; fast ones besides: {len(plan.runs) - len(touched)}"]
    lines += [f"  {run.file}" for run in touched[:10]] + [f"  … and {len(touched) - 10} more"] * (len(touched) > 10)
    if missing or slow:
        lines.append("touched, but left out for want of time; `make check` runs them:")
        lines += [f"  {run.file} ({run.seconds:.0f} s)" for run in missing] + [f"  {name}" for name in slow]
    others = len(plan.left_out) - len(missing)
    return [*lines, f"not touched and left out: {others} test files, and slow tests of the fast ones"]


def main() -> int:
    """Plan, say so, run. Returns pytest's exit status."""
    started = time.time()
    changed = changed_files()
    imports = Imports(ROOT)
    chosen = plan(imports.tests, imports.distances(changed), durations(), (LIMIT_S - START_S) * WORKERS)
    sys.stdout.write("\n".join([f"make quick: {len(changed)} changed files", *summary(chosen), ""]))
    sys.stdout.flush()
    options = ["-n", str(WORKERS), "--dist", "loadfile", "-q", "--stop-at", str(started + LIMIT_S - 5.0)]
    without = [word for run in chosen.runs for name in run.without for word in ("--deselect", f"{run.file}::{name}")]
    command = [sys.executable, "-m", "pytest", *options, *without, *(run.file for run in chosen.runs)]
    return subprocess.run(command, cwd=ROOT, env=os.environ, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
