"""What people see at the terminal: refusals, progress, tables. The door to rich; everything else logs events.

Exit codes: 0 done; 1 refused, with expected, got, where and what to do; 2 misuse; 130 interrupted.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import structlog
from rich.console import Console
from rich.markup import escape

from twinseal.errors import ConfigError, DataError, TwinsealError

DONE, REFUSED, MISUSE, INTERRUPTED = 0, 1, 2, 130

out = Console(highlight=False, soft_wrap=True, emoji=False)
err = Console(stderr=True, highlight=False, soft_wrap=True, emoji=False)


def shown(text: object) -> str:
    """Text from outside, safe for a terminal: no markup, and no control character that could repaint the screen."""
    return escape("".join(c if c.isprintable() or c in "\n\t" else "\N{REPLACEMENT CHARACTER}" for c in str(text)))


def exit_code(action: Callable[[], object]) -> int:
    """Run `action` and turn whatever ends it into one clear message and an exit code; no traceback for bad input.

    An error that is a bug of ours (ValueError, KeyError, …) is left to fly: its traceback is what we need.
    """
    try:
        action()
    except TwinsealError as error:
        refuse(error)
        return MISUSE if isinstance(error, ConfigError) else REFUSED
    except KeyboardInterrupt:
        err.print("[yellow]interrupted[/]: nothing was half-written; run the same command again")
        return INTERRUPTED
    except OSError as error:
        err.print(f"[bold red]refused[/]  {shown(str(error.strerror or error))}: {shown(str(error.filename or ''))}")
        return REFUSED
    return DONE


def run_stage(action: Callable[[], None]) -> None:
    """Run a pipeline stage as a program: its messages to people, its log to stderr, its exit code to DVC."""
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(30),  # warnings: what a stage did, it prints
        logger_factory=structlog.PrintLoggerFactory(file=sys.stderr),
    )
    sys.exit(exit_code(action))


def refuse(error: TwinsealError) -> None:
    """Print a refusal: its kind, what was expected, what came, where, the findings if any, and what to do."""
    kind = type(error).__name__.removesuffix("Error")
    err.print(f"[bold red]refused[/] [red]({kind})[/]  {shown(str(error))}")
    if isinstance(error, DataError):
        for finding in error.findings[:20]:
            err.print(f"  • {shown(finding)}")
        if len(error.findings) > 20:
            err.print(f"  … and {len(error.findings) - 20} more")
    if error.remedy:
        err.print(f"[bold]what to do[/]  {shown(error.remedy)}")
