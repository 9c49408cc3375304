"""Great Expectations' pages, made safe to open offline: no scripts, no requests.

The original Data Docs load styles and scripts from nine content networks, and a logo with the time of the visit. A page
on which a reviewer judges telemetry must work without a network, send nothing, and run no code: the names of units on
it come from outside. So these parts are removed, the page's content security policy forbids the rest, and a small style
sheet replaces Bootstrap's.

    >>> make_offline('<head><script src="https://a.b/c.js"></script></head><body>ok</body>').count("https")
    0
"""

from __future__ import annotations

import re

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"

_CUT = (
    re.compile(r"<script\b.*?</script\s*>", re.DOTALL | re.IGNORECASE),
    re.compile(r"<style\b.*?</style\s*>", re.DOTALL | re.IGNORECASE),
    re.compile(r"<footer\b.*?</footer\s*>", re.DOTALL | re.IGNORECASE),
    re.compile(r"<link\b[^>]*>", re.IGNORECASE),
    re.compile(r"<img\b[^>]*\bsrc=[\"']https?:[^>]*>", re.IGNORECASE),
    re.compile(r"<a\b[^>]*\bhref=[\"']https?:[^>]*>.*?</a\s*>", re.DOTALL | re.IGNORECASE),
)
_SUITE = re.compile(r"href=\"(?:\.\./)+expectations/[^\"]*\"")

_STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #8881; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 76rem; margin: 0 auto; padding: 1.5rem; }
h1, h2, h3, h4, h5 { line-height: 1.2; margin: 1.6rem 0 .5rem; }
table { border-collapse: collapse; width: 100%; margin: .6rem 0 1.4rem; font-variant-numeric: tabular-nums; }
th, td { border-bottom: 1px solid var(--line); padding: .35rem .6rem; text-align: left; vertical-align: top; }
thead th, .th { background: var(--soft); }
ul, ol { padding-left: 1.4rem; }
code, pre { font: 13px/1.45 ui-monospace, monospace; background: var(--soft); padding: 0 .2rem; border-radius: 3px; }
pre { padding: .6rem; overflow: auto; }
.text-danger, .fa-times { color: #c22; } .text-success, .fa-check-circle { color: #187a36; }
.fa-check-circle::before { content: "✓"; } .fa-times::before { content: "✗"; }
.fa-exclamation-triangle::before { content: "!"; }
.badge { background: var(--soft); border-radius: 3px; padding: .05rem .35rem; }
.ge-navigation-sidebar-content { columns: 8rem; list-style: none; padding: 0; }
.collapse { display: block !important; } .hide { display: none; }
body > .navbar, .card:has(input), .fixed-bottom { display: none; }
@media print { body { max-width: none; padding: 0; } tr { break-inside: avoid; } }
"""


def make_offline(page: str) -> str:
    """`page` without scripts, style sheets, pictures and links from elsewhere; with a policy and a style of its own."""
    for pattern in _CUT:
        page = pattern.sub("", page)
    page = _SUITE.sub('href="suite.html"', page)
    head = f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n<style>{_STYLE}</style>\n'
    return re.sub(r"<head\b[^>]*>", lambda match: match.group(0) + "\n" + head, page, count=1)
