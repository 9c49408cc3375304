from __future__ import annotations

import html.parser
import re

import pandas as pd
import pytest

from tests.telemetry.conftest import oven_table
from twinseal.telemetry.contract import Contract
from twinseal.telemetry.data_docs import make_offline
from twinseal.telemetry.fleet import Fleet
from twinseal.telemetry.outcome import apply

PAGE = """<!DOCTYPE html><html><head><title>t</title>
<link rel="stylesheet" href="https://cdn.example/x.css">
<script src="https://cdn.example/x.js"></script><style>a { background: url('https://cdn.example/p.png') }</style>
</head><body><img src="https://cdn.example/logo.png?d=20260101T000000.1Z">
<SCRIPT>alert(1)</SCRIPT ><a href="https://cdn.example/news">news</a><a href="#section-1">one</a>
<a href="../../expectations/oven telemetry.html">suite</a><p>kept</p></body></html>"""


def test_nothing_is_fetched_and_no_script_runs() -> None:
    page = make_offline(PAGE)
    assert [] == re.findall(r"https?:|<script|<link|<img", page, re.IGNORECASE)
    assert "default-src 'none'" in page.split("</head>")[0]


def test_what_is_said_is_kept_and_its_links_work() -> None:
    page = make_offline(PAGE)
    assert ["#section-1", "suite.html"] == re.findall(r'href="([^"]*)"', page)
    assert "<p>kept</p>" in page
    assert "<title>t</title>" in page


HOSTILE = [
    "<footer>", "<!--", "<script>alert(1)</script>", "</table>", '"><b x="', "<style>*{display:none}", "&lt;b&gt;",
    "$unit", "{{ 7*7 }}", "{% raw %}", "<textarea>", "<a href='https://evil'>", "<link rel=x>", "%s %(a)s {0}",
]  # fmt: skip


class Tags(html.parser.HTMLParser):
    """Every tag, comment and text of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, _attributes: object) -> None:
        self.tags.append(tag)

    def handle_comment(self, data: str) -> None:
        self.tags.append(f"!{data[:5]}")

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.mark.attack("P")
def test_names_of_units_are_text_in_the_data_docs(oven: Contract) -> None:
    """Units are called <footer>, <!-- or </table>, so that bad units do not show in the Data Docs."""

    def page(names: list[str]) -> Tags:
        bad = pd.concat([oven_table({name: 3}).assign(cycle=[2, 3, 5]) for name in names])
        return Tags(apply(Fleet.of(pd.concat([oven_table({"ok": 3}), bad])), oven, None).pages["index.html"])

    plain = [f"unit-{number:02d}" for number in range(len(HOSTILE))]
    for batch in (HOSTILE[:3], HOSTILE[3:6], HOSTILE[6:9], HOSTILE[9:12], HOSTILE[12:]):
        honest, hostile = page(plain[: len(batch)]), page(batch)
        assert honest.tags == hostile.tags
        for name, unit in zip(batch, plain, strict=False):
            assert unit in honest.text
            assert name in hostile.text, "a reviewer sees the name, whole"
