"""Quotes the last `make demo` in README.md: what became of each attack.

After `make demo`, run `python -m demo.readme`.
"""

from __future__ import annotations

import re
import sys
import textwrap
from pathlib import Path

from demo.acts import KEPT, NAMED
from demo.stage_hand import TRANSCRIPT

README = Path("README.md")
WIDTH = 120
BLOCK = re.compile(r"(<!-- demo: begin -->\n```text\n).*?(```\n<!-- demo: end -->)", re.DOTALL)


def excerpt(transcript: str) -> str:
    """The attacks as the README shows them: title, command, what was said.

    Raises:
        ValueError: The transcript has not exactly three attacks.
    """
    attacks = re.findall(r"── (ATTACK [123]: .*?) ─+\n(.*?)(?=\n── )", transcript, re.DOTALL)
    if len(attacks) != 3:
        raise ValueError(f"transcript: expected three attacks, got {len(attacks)}")
    *models, (title, lines) = attacks
    quoted = [f"── {title}\n{_refusal(lines)}" for title, lines in models]
    return "\n".join([*quoted, f"── {title}\n{_frames(lines)}"])


def rewritten(readme: str, transcript: str) -> str:
    """README.md with the excerpt of this transcript.

    Raises:
        ValueError: A marker is missing, or the demo did not end well.
    """
    if not (BLOCK.search(readme) and re.search(r"── Done in \d+ s", transcript)):
        raise ValueError("README.md: expected the demo's markers, and a demo that ended well")
    return BLOCK.sub(lambda match: match[1] + excerpt(transcript) + match[2], readme)


def _refusal(lines: str) -> str:
    kept = [line for line in lines.splitlines() if line.startswith(("$ twinseal pull", "  refused", "   ", "  what"))]
    return _quoted(kept, KEPT)


def _frames(lines: str) -> str:
    """Both programs wrote at the same time: first what the attacker did, then what the twin said."""
    found = lines.splitlines()
    kept = [line for line in found if line.startswith(("$ twinseal gateway", "    | "))]
    kept += [line for line in found if line.startswith("  the man in the middle")]
    words = ("  forged", "  lost", "  late", "  played again")
    return _quoted(kept + [line for line in found if line.startswith(words) and " cycles of " not in line], NAMED)


def _quoted(lines: list[str], end: str) -> str:
    return "\n".join([*(folded for line in lines for folded in _fold(line)), end, ""])


def _fold(line: str) -> list[str]:
    """A line in the width of a page: a message goes on below itself, a command as the shell lets it."""
    if len(line) <= WIDTH:
        return [line]
    if line.startswith(("$ ", "    | ")):
        *begun, last = textwrap.wrap(line, WIDTH - 2, subsequent_indent="    ", break_on_hyphens=False)
        return [*(f"{part} \\" for part in begun), last]
    start = re.match(r" *\S.*?  +|", line)
    indent = " " * (start.end() if start else 0)
    return textwrap.wrap(line, WIDTH, subsequent_indent=indent, drop_whitespace=True, break_long_words=False)


if __name__ == "__main__":
    README.write_text(rewritten(README.read_text(), TRANSCRIPT.read_text()))
    sys.exit(0)
