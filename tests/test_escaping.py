from __future__ import annotations

import csv
import io
import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines import _stage
from twinseal.assurance.case import parse_estimates
from twinseal.escaping import csv_cell, csv_text, html_everywhere, markdown, visible


@pytest.mark.attack("P")
@pytest.mark.parametrize(
    "name",
    [
        *("=cmd|' /C calc'!A0", "+1", "-1+1", "@SUM(1)", "\t=1", "  =1", "'=1", "\uff1d1"),
        *("\x1f=1", "\u00a0=1", "\ufeff=1", "\u200b@SUM(1)", "\x00+1", " \x0b-1"),
    ],
)
def test_names_of_units_are_no_formulas_in_csv(name: str, tmp_path: Path) -> None:
    """A unit is called =cmd|…, so that the spreadsheet of whoever opens a table runs it."""
    rows = [{"unit": name, "true_rul": -1.5, "network": 2.0}, {"unit": "a", "true_rul": 0.0, "network": -0.25}]
    _stage.write_table(tmp_path / "predictions.csv", rows)
    data = (tmp_path / "predictions.csv").read_bytes()
    cells = list(csv.reader(io.StringIO(data.decode(), newline="")))
    assert cells[1][0] == f"'{name}"
    assert cells[1][1:] == ["-1.500", "2.000"], "a number stays a number"
    assert [estimate.unit for estimate in parse_estimates(data, "p")] == [name, "a"]


@given(st.text())
def test_law_a_cell_gives_its_text_back(text: str) -> None:
    assert csv_text(csv_cell(text)) == text
    shown = "".join(letter for letter in csv_cell(text) if unicodedata.category(letter)[0] not in "CZ")
    assert not shown.startswith(("=", "+", "-", "@"))


@given(st.text())
def test_markdown_is_one_line_without_tags(text: str) -> None:
    shown = markdown(f"a{text}b")
    assert "\n" not in shown
    assert not set("<>@") & set(shown)


def test_markdown_makes_no_links() -> None:
    shown = markdown("[c](http://d) www.evil.example me@evil.example ![x](y) <http://z>")
    assert "://" not in shown and "www." not in shown and "@" not in shown and "\\[c\\]" in shown and "\\!" in shown


def test_text_is_escaped_wherever_it_is_in_plain_data() -> None:
    assert html_everywhere({"<": ["<", ("<", 1, None)]}) == {"&lt;": ["&lt;", ["&lt;", 1, None]]}


def test_a_terminal_gets_no_control_characters() -> None:
    assert visible("a\x1b]0;x\x07\u202eb\u200bc\r") == "a�]0;x��b�c�"
    assert visible("a\tb\nc é") == "a\tb\nc é"


@pytest.mark.attack("P")
def test_a_log_line_of_a_stage_cannot_repaint_the_screen() -> None:
    """A file among the approvals has control characters in its name, which a stage logs."""
    program = (
        "import structlog; from twinseal.console import run_stage\n"
        "run_stage(lambda: structlog.get_logger().warning('review.invalid', file='a\\x1b[2Jb'))"
    )
    done = subprocess.run([sys.executable, "-c", program], check=False, capture_output=True, text=True)
    assert "review.invalid" in done.stderr
    assert "\x1b" not in done.stderr
