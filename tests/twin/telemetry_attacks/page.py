"""The list of attacks in docs/robustness/telemetry.md: from the battery's entries, so that it cannot go stale."""

from __future__ import annotations

from pathlib import Path

from tests.twin.telemetry_attacks import bodies, messages, order, own, topics  # noqa: F401  # their attacks
from tests.twin.telemetry_attacks.attack import ATTACKS, BODIES, MESSAGES, ORDER, OWN, ROWS, Attack

PAGE = Path(__file__).parents[3] / "docs/robustness/telemetry.md"
BEGIN = "<!-- attacks: made by `python -m tests.twin.telemetry_attacks` -->"
END = "<!-- end of attacks -->"


def row_of(attack: Attack) -> str:
    then = attack.expected if attack.expected in ("taken", "answered") else f"refused: {attack.expected}"
    if attack.way_out is not None:
        then += f". {(attack.way_out.__doc__ or '').strip()}"
    cells = (attack.name.replace("_", " "), attack.sentence, then)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def table() -> str:
    parts = []
    for part in (MESSAGES, BODIES, OWN, ORDER, ROWS):
        rows = "\n".join(row_of(attack) for attack in ATTACKS if attack.part == part)
        parts.append(f"### {part}\n\n| attack | what he does | what becomes of it |\n|---|---|---|\n{rows}")
    return "\n\n".join(parts)


def page(text: str) -> str:
    """The page with its list made anew.

    Raises:
        ValueError: The two comments are not there, once each.
    """
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"{PAGE}: expected {BEGIN} and {END}, got neither or one")
    return f"{before}{BEGIN}\n\n{table()}\n\n{END}{after}"
