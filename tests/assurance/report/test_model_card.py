from __future__ import annotations

from collections.abc import Callable

import pytest
import yaml

from tests.assurance.conftest import card
from twinseal.assurance.case import Case
from twinseal.assurance.report.blocks import Table
from twinseal.assurance.report.model_card import escape, markdown
from twinseal.evidence import Statement

CaseOf = Callable[..., Case]


def test_the_card_has_the_headings_of_the_paper_in_order(case_of: CaseOf) -> None:
    headings = [line[3:] for line in card(case_of()).splitlines() if line.startswith("## ")]
    assert headings == [
        "Model details",
        "Intended use",
        "Factors",
        "Metrics",
        "Evaluation data",
        "Training data",
        "Quantitative analyses",
        "Ethical considerations",
        "Caveats and recommendations",
    ]


def test_the_front_matter_is_yaml_that_a_name_cannot_leave(case_of: CaseOf) -> None:
    name = 'x"\n---\nlicense: mit\n# <script>'
    text = card(case_of(model_name=name))
    front = yaml.safe_load(text.split("\n---\n")[0].removeprefix("---\n"))
    assert front["model_name"] == name
    assert "license" not in front
    assert "<script>" not in text.split("\n---\n", 1)[1]


def test_a_failed_verdict_says_what_stands_against_it(case_of: CaseOf, statements: dict[str, Statement]) -> None:
    del statements["poison"]
    text = card(case_of(statements))
    assert "**Verdict: FAILED**" in text
    assert "- record of poison: no record of poison" in text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a|b", "a\\|b"),
        ("<img src=x onerror=y>", "&lt;img src=x onerror=y&gt;"),
        ("[click](javascript:1)", "\\[click\\](javascript:1)"),
        ("a\n# b", "a \\# b"),
        ("`x`", "\\`x\\`"),
        ("https://evil.example", "https:&#47;&#47;evil.example"),
        ("&lt;", "&amp;lt;"),
    ],
)
def test_text_from_outside_cannot_be_markup(text: str, expected: str) -> None:
    assert escape(text) == expected


def test_a_table_keeps_its_columns_whatever_is_in_its_cells() -> None:
    table = Table("caption", ("a", "b"), (("x|y", "1\n2"),))
    assert markdown(table) == "*caption*\n\n| a | b |\n| --- | ---: |\n| x\\|y | 1 2 |"
