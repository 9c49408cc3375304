"""Help that can be acted upon: every command has examples that the program accepts, and the shell completes them."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main

from twinseal.cli import app

PROGRAM = str(Path(sys.executable).parent / "twinseal")
ROOT: Any = typer.main.get_command(app)


def tree(command: Any = ROOT, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    yield path, command
    for name, child in getattr(command, "commands", {}).items():
        yield from tree(child, (*path, name))


COMMANDS = dict(tree())
IDS = [" ".join(path) or "twinseal" for path in COMMANDS]


def examples_of(command: Any) -> list[str]:
    heading, *lines = (command.epilog or "").split("\n")
    assert "Examples" in heading
    return [line.strip().replace("\\[", "[") for line in lines if "twinseal" in line]


def arguments_of(example: str) -> list[str]:
    """The words after `twinseal`, of the part of a shell's line that runs it."""
    words = shlex.split(re.search(r"(?:^|[=| ])twinseal (.*)", example)[1])  # type: ignore[index]
    ends = [at for at, word in enumerate(words) if word in ("|", ">", "3<")]
    return words[: ends[0]] if ends else words


@pytest.mark.parametrize("path", COMMANDS, ids=IDS)
def test_every_command_has_an_example_that_calls_it(path: tuple[str, ...]) -> None:
    examples = examples_of(COMMANDS[path])
    assert examples
    assert all(set(path) <= set(arguments_of(example)) for example in examples), examples
    assert COMMANDS[path].help or path == ()


EXAMPLES = [example for command in COMMANDS.values() for example in examples_of(command)]


@pytest.mark.parametrize("example", EXAMPLES)
def test_every_example_is_a_command_line_that_the_program_accepts(example: str) -> None:
    command, words = ROOT, arguments_of(example)
    if words == ["--install-completion"]:
        return
    while hasattr(command, "commands"):
        context = command.make_context("twinseal", words, resilient_parsing=True)
        words = [*context._protected_args, *context.args] if hasattr(context, "_protected_args") else context.args
        _, command, words = command.resolve_command(context, words)
    command.make_context(command.name, words)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_a_script(shell: str) -> None:
    done = subprocess.run(
        [PROGRAM],
        env=os.environ | {"_TWINSEAL_COMPLETE": f"source_{shell}"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "_TWINSEAL_COMPLETE=complete_" in done.stdout
    assert "twinseal" in done.stdout


def test_show_completion_knows_the_shell_that_runs_it() -> None:
    done = subprocess.run(
        ["bash", "-c", f"{PROGRAM} --show-completion; true"], capture_output=True, text=True, check=True
    )
    assert "complete -o default -F _twinseal_completion twinseal" in done.stdout


def test_the_shell_completes_commands_and_options() -> None:
    def complete(line: str) -> list[str]:
        words = {"COMP_WORDS": line, "COMP_CWORD": str(len(line.split()) - 1), "_TWINSEAL_COMPLETE": "complete_bash"}
        done = subprocess.run([PROGRAM], env=os.environ | words, capture_output=True, text=True, check=False)
        return done.stdout.split()

    assert {"review", "reviewer", "reject", "register", "restore"} == set(complete("twinseal re"))
    assert "--comment" in complete("twinseal approve --com")
