from __future__ import annotations

import re

from twinseal.telemetry.data_docs import make_offline

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
