"""A fork of the warm process is what a process of its own would be."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.warm import Warm
from twinseal import __version__

PROGRAM = """
import os, sys
print(sys.argv[1:], os.getcwd(), os.environ.get("A"), "PATH" in os.environ, sys.stdin.read(), flush=True)
print("and this", file=sys.stderr)
import beside
{end}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "beside.py").write_text("")
    return tmp_path.resolve()


@pytest.mark.parametrize(
    "end", ["", "sys.exit(3)", "sys.exit('a reason')", "raise ValueError('wrong')", "raise KeyError from None"]
)
def test_arguments_environment_folder_streams_and_status_are_those_of_a_new_interpreter(
    end: str, warm: Warm, folder: Path
) -> None:
    (folder / "program.py").write_text(PROGRAM.format(end=end))
    given = {"A": "b"}
    done = warm.run("program", "x", "y z", cwd=folder, env=given, stdin="given")
    new = subprocess.run(
        [sys.executable, "-m", "program", "x", "y z"],
        cwd=folder,
        env=given,
        input="given",
        capture_output=True,
        text=True,
        check=False,
    )
    assert (new.returncode, new.stdout) == (done.returncode, done.stdout)
    assert new.stderr.splitlines()[0] == done.stderr.splitlines()[0]
    assert new.stderr.splitlines()[-1] == done.stderr.splitlines()[-1]


def test_one_program_leaves_nothing_behind_for_the_next(warm: Warm, folder: Path) -> None:
    (folder / "first.py").write_text(
        "import os, sys\nos.environ['LEFT'] = '1'\nsys.modules['left'] = sys\nos.chdir('/')"
    )
    (folder / "second.py").write_text("import os, sys\nprint('LEFT' in os.environ, 'left' in sys.modules, os.getcwd())")
    warm.run("first", cwd=folder, env=os.environ)
    assert f"False False {folder}\n" == warm.run("second", cwd=folder, env=os.environ).stdout


def test_nothing_of_ours_is_imported_before_the_program_asks(warm: Warm, folder: Path) -> None:
    (folder / "ours.py").write_text(
        "import sys\nprint([n for n in sys.modules if n.split('.')[0] in ('twinseal', 'pipelines')])"
    )
    assert "[]\n" == warm.run("ours", cwd=folder).stdout


def test_the_command_line_runs(warm: Warm) -> None:
    assert f"twinseal {__version__}\n" == warm.run("twinseal", "--version").stdout


def test_a_program_that_does_not_end_is_ended(warm: Warm, folder: Path) -> None:
    (folder / "endless.py").write_text("while True: pass")
    assert 0 > warm.run("endless", cwd=folder, timeout_s=1).returncode
    assert 0 == warm.run("twinseal", "--version").returncode


def test_a_program_is_started_read_from_and_ended_by_a_signal(warm: Warm, folder: Path) -> None:
    (folder / "server.py").write_text(
        "import os, sys, time\nprint(os.getpid(), os.getsid(0), os.environ['A'], flush=True)\n"
        "print('said', file=sys.stderr)\ntime.sleep(60)"
    )
    ends = ((signal.SIGKILL, -signal.SIGKILL), (signal.SIGTERM, -signal.SIGTERM), (signal.SIGINT, 1))
    with (folder / "log").open("w") as log:
        programs = [warm.start("server", cwd=folder, env={"A": "b"}, stderr=log) for _ in ends]
    for program, (sent, expected) in zip(programs, ends, strict=True):
        assert program.stdout is not None
        assert f"{program.pid} {program.pid} b\n" == program.stdout.readline()
        assert program.poll() is None
        with pytest.raises(subprocess.TimeoutExpired):
            program.wait(timeout=0.01)
        os.killpg(program.pid, sent)
        assert expected == program.wait(timeout=20) == program.poll() == program.returncode
        assert "" == program.stdout.read()
        program.stdout.close()
    said = (folder / "log").read_text()
    assert (3, True) == (said.count("said\n"), "KeyboardInterrupt" in said)


def test_modules_are_found_on_the_path_that_the_environment_names_and_as_they_are_now(warm: Warm, folder: Path) -> None:
    (folder / "other").mkdir()
    (folder / "asks.py").write_text("import found\nprint(found.TEXT)")
    for text in ("one", "another"):
        (folder / "other/found.py").write_text(f"TEXT = {text!r}")
        assert f"{text}\n" == warm.run("asks", cwd=folder, env={"PYTHONPATH": str(folder / "other")}).stdout
    assert [] == list(folder.rglob("__pycache__"))
