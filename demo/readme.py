"""Quotes the last `make demo` in README.md: the two refusals, and how long it took.

After `make demo`, run `python -m demo.readme`.

>>> minutes(130.0)
'about 2 minutes'
"""

from __future__ import annotations

import re
import sys
import textwrap
from pathlib import Path

from demo.stage_hand import TRANSCRIPT

README = Path("README.md")
WIDTH = 120
BLOCK = re.compile(r"(<!-- demo: begin -->\n```text\n).*?(```\n<!-- demo: end -->)", re.DOTALL)
DURATION = re.compile(r"(make demo .*: )about [0-9]+ minutes?")


def excerpt(transcript: str) -> str:
    """The two attacks as the README shows them: title, command, refusal.

    Raises:
        ValueError: The transcript has not exactly two attacks.
    """
    attacks = re.findall(r"── (ATTACK [12]: .*?) ─+\n(.*?)(?=\n── )", transcript, re.DOTALL)
    if len(attacks) != 2:
        raise ValueError(f"transcript: expected two attacks, got {len(attacks)}")
    return "\n".join(f"── {title}\n{_refusal(lines)}" for title, lines in attacks)


def minutes(seconds: float) -> str:
    """A duration in words, rounded to whole minutes."""
    whole = max(1, round(seconds / 60))
    return f"about {whole} minute{'s' if whole > 1 else ''}"


def rewritten(readme: str, transcript: str) -> str:
    """README.md with the excerpt and the duration of this transcript.

    Raises:
        ValueError: A marker is missing, or the demo did not end well.
    """
    done = re.search(r"── Done in (\d+) s", transcript)
    if not (done and BLOCK.search(readme) and DURATION.search(readme)):
        raise ValueError("README.md: expected the demo's markers and duration, and a demo that ended well")
    quoted = BLOCK.sub(lambda match: match[1] + excerpt(transcript) + match[2], readme)
    return DURATION.sub(lambda match: match[1] + minutes(float(done[1])), quoted)


def _refusal(lines: str) -> str:
    kept = [line for line in lines.splitlines() if line.startswith(("$ twinseal pull", "  refused", "   ", "  what"))]
    kept = [folded for line in kept for folded in _fold(line)]
    return "\n".join([*kept, "refused, and the twin still runs the model that it had", ""])


def _fold(line: str) -> list[str]:
    """A line in the width of a page: a message goes on below itself, a command as the shell lets it."""
    if len(line) <= WIDTH:
        return [line]
    if line.startswith("$ "):
        *begun, last = textwrap.wrap(line, WIDTH - 2, subsequent_indent="    ", break_on_hyphens=False)
        return [*(f"{part} \\" for part in begun), last]
    start = re.match(r" *\S.*?  +|", line)
    indent = " " * (start.end() if start else 0)
    return textwrap.wrap(line, WIDTH, subsequent_indent=indent, drop_whitespace=True, break_long_words=False)


if __name__ == "__main__":
    README.write_text(rewritten(README.read_text(), TRANSCRIPT.read_text()))
    sys.exit(0)
