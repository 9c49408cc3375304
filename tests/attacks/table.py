"""The table of attacks in docs/trust.md: from the markers and docstrings of the tests, without running any.

    @pytest.mark.attack(3)
    def test_a_file_is_renamed(…):
        \"\"\"The registry renames a file of the model.\"\"\"

gives the row `3 | The registry renames a file of the model | the test's name`. Written by `python -m tests.attacks`,
compared by tests/attacks/test_table.py.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

TESTS = Path(__file__).parents[1]
PAGE = TESTS.parent / "docs" / "trust.md"
BEGIN, END = "<!-- attacks: made by `python -m tests.attacks` -->", "<!-- end of attacks -->"
STEPS = tuple("012345678TPS")
MAX_DESCRIPTION = 110  # characters, so that an attack is understood at first sight


@dataclass(frozen=True)
class Attack:
    """One test of an attack.

    Attributes:
        steps: The steps of docs/trust.md that stop it; T is telemetry in signed frames, P the pipeline's side, S
            the review server.
        description: What the attacker does: the first line of the test's docstring.
        test: File below tests/, and the test's name.
    """

    steps: tuple[str, ...]
    description: str
    test: str

    @property
    def row(self) -> str:
        file, name = self.test.split("::")
        description = self.description.replace("|", "\\|")
        return f"| {', '.join(self.steps)} | {description} | `{name}` ([{file}](../tests/{file})) |"


def attacks() -> list[Attack]:
    """Every marked test, by its first step, then as they stand in their files.

    Raises:
        ValueError: One has no docstring, or a step that is none.
    """
    found = [attack for path in sorted(TESTS.rglob("test_*.py")) for attack in _of(path)]
    return sorted(found, key=lambda attack: STEPS.index(attack.steps[0]))


def _of(path: Path) -> Iterator[Attack]:
    text = path.read_text()
    if "mark.attack(" not in text:
        return
    for node in ast.parse(text).body:
        steps = tuple(step for mark in getattr(node, "decorator_list", ()) for step in _steps(mark))
        if steps and isinstance(node, ast.FunctionDef):
            test = f"{path.relative_to(TESTS).as_posix()}::{node.name}"
            description = (ast.get_docstring(node) or "").partition("\n")[0].rstrip(".")
            if not description or not set(steps) <= set(STEPS):
                raise ValueError(
                    f"{test}: expected a docstring and steps of {', '.join(STEPS)}, got {steps}, {description!r}"
                )
            yield Attack(steps, description, test)


def _steps(mark: ast.expr) -> list[str]:
    if isinstance(mark, ast.Call) and ast.unparse(mark.func) == "pytest.mark.attack":
        return [str(ast.literal_eval(argument)) for argument in mark.args]
    return []


def page(text: str) -> str:
    """The page with its table made anew.

    Raises:
        ValueError: The two comments are not there, once each.
    """
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"{PAGE}: expected {BEGIN} and {END}, got neither or one")
    rows = "\n".join(attack.row for attack in attacks())
    return f"{before}{BEGIN}\n\n| step | attack | test |\n|---|---|---|\n{rows}\n\n{END}{after}"
