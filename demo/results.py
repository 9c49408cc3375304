"""What a scenario ends with: what each attack would have made an operator believe, and what stopped it.

>>> held = Finding("held sensors", believed="125 cycles left", fooled=True, stopped=True, by="the guard")
>>> exit_code([held]), exit_code([])
(0, 1)
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from rich.table import Column, Table

from demo.plant import Machine, is_healthy
from demo.stage_hand import console

WIDTH = 110
MAX_NOTES = 6  # lines of what the twin says of frames; the others are like them


@dataclass(frozen=True)
class Said:
    """What `twinseal run --json` printed.

    Attributes:
        rul_cycles: By machine, its last answer; None: no estimate, inspect now.
        advice: By machine, likewise.
        notes: All other lines: of frames, of machines, of the record of acts.
    """

    rul_cycles: Mapping[str, float | None]
    advice: Mapping[str, str]
    notes: tuple[str, ...]

    @classmethod
    def of(cls, text: str) -> Said:
        """The lines of JSON in `text`, and the others."""
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        answers = [json.loads(line) for line in lines if line.startswith("{")]
        return cls(
            {str(item["unit"]): item["rul_cycles"] for item in answers},
            {str(item["unit"]): str(item["advice"]) for item in answers},
            tuple(line for line in lines if not line.startswith("{")),
        )

    def calls_healthy(self) -> list[str]:
        """The machines that an operator who reads this leaves alone."""
        return [name for name, cycles in self.rul_cycles.items() if cycles is not None and is_healthy(cycles)]

    def show(self) -> None:
        """For people."""
        for line in self.notes[:MAX_NOTES]:
            console.print(f"  {line}", markup=False)
        if len(self.notes) > MAX_NOTES:
            console.print(f"  … and {len(self.notes) - MAX_NOTES} lines more")
        for name, advice in self.advice.items():
            console.print(f"  {name}: {advice}", markup=False)


@dataclass(frozen=True)
class Finding:
    """One attack.

    Attributes:
        attack: What the attacker did.
        believed: What the operator would have believed without twinseal.
        fooled: Whether that hides a failure; an attack that does not is no proof of anything.
        stopped: Whether twinseal said no to it, in the words that it should.
        by: What stopped it.
    """

    attack: str
    believed: str
    fooled: bool
    stopped: bool
    by: str


def judged(
    attack: str, machines: Sequence[Machine], believed: Sequence[float], said: Said, by: str, *because: str
) -> Finding:
    """The finding about machines that fail soon: none may be called healthy, and the twin must say why.

    Args:
        attack: What the attacker did.
        machines: Those that the attack hides.
        believed: Of each, what a twin without checks says, cycles.
        said: What ours says.
        by: What stops it.
        because: Words of which each must be in what it says.
    """
    told = " ".join((*said.notes, *said.advice.values()))
    said_left = ", ".join(f"{cycles:.0f}" for cycles in believed)
    left = ", ".join(str(machine.left) for machine in machines)
    fooled = all(is_healthy(cycles) for cycles in believed)
    stopped = not said.calls_healthy() and all(words in told for words in because)
    return Finding(attack, cycles_left(said_left, left), fooled, stopped, by)


def cycles_left(believed: str, truly: str) -> str:
    """What is believed, beside the truth.

    >>> cycles_left("87", "5")
    '87 cycles left; truly 5'
    """
    return f"{believed} cycles left; truly {truly}"


def exit_code(findings: Sequence[Finding]) -> int:
    """0 if there was an attack, each would have fooled an operator, and each was stopped."""
    return 0 if findings and all(item.fooled and item.stopped for item in findings) else 1


def show(findings: Iterable[Finding]) -> None:
    """The table at the end."""
    table = Table(Column("attack", no_wrap=True), "without twinseal, the operator believes", "with it", "stopped by")
    for item in findings:
        stopped = "[green]stopped[/]" if item.stopped else "[bold red]NOT stopped[/]"
        believed = item.believed if item.fooled else f"fools nobody: {item.believed}"
        table.add_row(item.attack, believed, stopped, item.by)
    console.width = max(console.width, WIDTH)
    console.print(table)
