"""Every command that the README shows is run: here, by the story, or it is one of the two that do everything."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest

from tests.warm import Warm

ROOT = Path(__file__).parents[1]
BLOCKS = re.findall(r"```sh\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
COMMANDS = [line.split("#")[0].strip() for block in BLOCKS for line in block.splitlines() if line.strip()]

# What runs each, with the options that differ from machine to machine left aside.
RUN_BY = {
    ". .venv/bin/activate": "tests/test_readme.py",
    "make demo": "tests/test_story.py",  # `python -m demo`, in a copy
    "make check": ".ci/run",
    "twinseal init --demo": "demo/acts.py",
    "dvc repro": "demo/acts.py",
    "dvc metrics show": "tests/test_story.py",
    "twinseal review show": "demo/acts.py",
    "twinseal approve": "demo/acts.py",
    "twinseal reject": "tests/test_story.py",
    "twinseal pull": "demo/acts.py",
    "twinseal run": "demo/acts.py",
    "twinseal trust show": "docs/operating.md",  # whose blocks tests/test_ceremonies.py runs
    "twinseal keys rotate": "docs/operating.md",
    "twinseal audit verify": "docs/operating.md",
}


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_of_the_readme_is_run_somewhere(command: str) -> None:
    prefix = next((known for known in sorted(RUN_BY, key=len, reverse=True) if command.startswith(known)), None)
    assert prefix, f"'{command}' is in the README, and nothing runs it"
    words = prefix.removeprefix("make demo") or "demo"
    text = (ROOT / RUN_BY[prefix]).read_text().replace('", "', " ")
    assert words in text


@pytest.mark.parametrize("command", [command for command in COMMANDS if command.startswith("twinseal")])
def test_each_command_line_of_the_readme_is_one_that_the_program_accepts(
    command: str, tmp_path: Path, warm: Warm
) -> None:
    """Run where nothing is: the program refuses, for want of a home; it does not complain of the command line."""
    environment = os.environ | {"TWINSEAL_HOME": str(tmp_path / "none")}
    done = warm.run(*shlex.split(command), cwd=tmp_path, env=environment)
    assert "Usage:" not in done.stderr
    assert "Traceback" not in done.stderr


def test_the_environment_that_the_readme_activates_has_the_program() -> None:
    done = subprocess.run(
        ["bash", "-c", ". .venv/bin/activate && command -v twinseal dvc"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert [f"{ROOT}/.venv/bin/twinseal", f"{ROOT}/.venv/bin/dvc"] == done.stdout.split()


def test_each_file_that_the_readme_and_the_docs_name_exists() -> None:
    for page in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\(([^)#]+)", page.read_text()):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page.relative_to(ROOT)} names {target}"
