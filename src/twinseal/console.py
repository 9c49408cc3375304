"""What people see at the terminal: refusals, progress, tables. The door to rich; everything else logs events.

Exit codes: 0 done; 1 refused, with expected, got, where and what to do; 2 misuse; 130 interrupted. Of `twinseal run`: 3
some telemetry got no estimate; 4 none of it got one; 5 there was no telemetry.

With `--json`, standard output carries JSON and nothing else, also when the command is refused.
"""

from __future__ import annotations

import errno
import json
import re
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from pathlib import Path

import structlog
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from twinseal.errors import ConfigError, DataError, TwinsealError
from twinseal.escaping import visible

DONE, REFUSED, MISUSE, UNANSWERED, NONE_ANSWERED, NO_TELEMETRY, INTERRUPTED = 0, 1, 2, 3, 4, 5, 130
MAX_FINDINGS = 20
MAX_SHOWN = 4000  # characters of one text from outside; no comment of a reviewer is longer

out = Console(highlight=False, soft_wrap=True, emoji=False)
err = Console(stderr=True, highlight=False, soft_wrap=True, emoji=False)

# The form of every message (errors.py): "<where>: expected <what>, got <what>".
_MESSAGE = re.compile(r"(?:(?P<where>.*?): )?expected (?P<expected>.*), got (?P<got>.*)", re.DOTALL)


def one_line(text: object) -> str:
    """Text from outside as one line of what can be seen: a line of its own could pass for one of ours.

    Line ends and runs of spaces become one space; every other character that is not printable (controls, escapes of a
    terminal, changes of direction) becomes a replacement character; what is longer than MAX_SHOWN is cut, and ends in …
    """
    words = " ".join(str(text)[: 4 * MAX_SHOWN].split())
    line = visible(words)
    return line if len(line) <= MAX_SHOWN else line[: MAX_SHOWN - 1] + "…"


def printable(text: object) -> str:
    """`one_line`, with rich's markup escaped: every text from outside is printed through this function."""
    return escape(one_line(text))


def print_entry(label: str, text: object) -> None:
    """Print a label (ours, with markup) and a text from outside, which continues in its own column if it is long."""
    table = Table.grid(padding=(0, 1), pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    table.add_row(label, printable(text))
    out.print(table)


def new_table(*columns: str, numbers: tuple[str, ...] = (), title: str | None = None) -> Table:
    """An empty table. A cell that is too wide continues on the next line: nothing is cut.

    Args:
        columns: The headings, in order.
        numbers: Those of them with numbers, aligned to the right.
        title: Above the table; none by default.
    """
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for column in columns:
        table.add_column(column, justify="right" if column in numbers else "left", overflow="fold")
    return table


def print_json(value: Mapping[str, object]) -> None:
    """One JSON object on standard output, on one line."""
    sys.stdout.write(json.dumps(value) + "\n")


def exit_code(action: Callable[[], object]) -> int:
    """Run `action` and turn whatever ends it into one clear message and an exit code; no traceback for bad input.

    An error that is a bug of ours (ValueError, KeyError, …) is left to fly: its traceback is what we need.
    """
    try:
        action()
    except TwinsealError as error:
        print_refusal(error)
        return code_of(error)
    except KeyboardInterrupt:
        return _print_interrupted()
    except SystemExit as end:
        if end.code != INTERRUPTED:
            raise
        return _print_interrupted()  # typer has caught Ctrl-C
    except OSError as error:
        err.print(f"[bold red]refused[/]  {printable(_os_message(error))}")
        _print_remedy(_os_remedy(error))
        return REFUSED
    return DONE


def code_of(error: TwinsealError | OSError) -> int:
    """The exit code of a refusal."""
    return MISUSE if isinstance(error, ConfigError) else REFUSED


@contextmanager
def refusals_as_json(wanted: bool) -> Iterator[None]:
    """Print a refusal as a JSON object on standard output, if that is `wanted`; the exit code stays the same.

    Raises:
        SystemExit: Something was refused, and has been printed.
    """
    try:
        yield
    except (TwinsealError, OSError) as error:
        if not wanted:
            raise
        print_json(refusal_of(error))
        sys.exit(code_of(error))


def refusal_of(error: TwinsealError | OSError) -> dict[str, object]:
    """A refusal as a JSON object: `where`, `expected` and `got` are null where the message does not name them."""
    message = str(error) if isinstance(error, TwinsealError) else _os_message(error)
    parts = _MESSAGE.fullmatch(message)
    return {
        "result": "refused",
        "kind": _kind_of(error) if isinstance(error, TwinsealError) else "OS",
        "message": message,
        **{name: parts[name] if parts else None for name in ("where", "expected", "got")},
        "remedy": (error.remedy if isinstance(error, TwinsealError) else _os_remedy(error)) or None,
        "findings": list(getattr(error, "findings", ())),
    }


def run_stage(action: Callable[[], None]) -> None:
    """Run a pipeline stage as a program: its messages to people, its log to stderr, its exit code to DVC."""
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(30),  # warnings: what a stage did, it prints
        logger_factory=structlog.PrintLoggerFactory(file=sys.stderr),
        processors=[_make_visible, structlog.processors.add_log_level, structlog.dev.ConsoleRenderer(colors=False)],
    )
    sys.exit(exit_code(action))


def _make_visible(_logger: object, _method: str, event: MutableMapping[str, object]) -> MutableMapping[str, object]:
    """Log values are names of files and units too: to the terminal they go without control characters."""
    return {key: visible(value) if isinstance(value, str) else value for key, value in event.items()}


def print_refusal(error: TwinsealError) -> None:
    """Print a refusal: its kind, what was expected, what came, where, the findings if any, and what to do."""
    err.print(f"[bold red]refused[/] [red]({_kind_of(error)})[/]  {printable(str(error))}")
    if isinstance(error, DataError):
        others = [finding for finding in error.findings if finding not in str(error)]
        for finding in others[:MAX_FINDINGS]:
            err.print(f"  • {printable(finding)}")
        if len(others) > MAX_FINDINGS:
            err.print(f"  … and {len(others) - MAX_FINDINGS} more")
    _print_remedy(error.remedy)


def _print_remedy(remedy: str) -> None:
    if remedy:
        err.print(f"[bold]what to do[/]  {printable(remedy)}")


def _print_interrupted() -> int:
    err.print("[yellow]interrupted[/]: nothing was half-written; run the same command again")
    return INTERRUPTED


def _kind_of(error: TwinsealError) -> str:
    return type(error).__name__.removesuffix("Error")


def _os_message(error: OSError) -> str:
    return f"{error.strerror or error}: {error.filename or ''}".removesuffix(": ")


def _os_remedy(error: OSError) -> str:
    """The command that shows what is in the way: the disk that is full, or the file and who may read and write it."""
    if not isinstance(error.filename, str):
        return ""
    place = shlex.quote(str(Path(error.filename).parent))
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"Free some space: df -h {place}"
    return f"See what is there, and who may read and write it: ls -la {place}"
