"""The report: one HTML file that a reviewer reads before staking a name on a model.

The verdict comes first, then the few numbers that matter most, then the sections (`sections/`), each with its caveats
beside its numbers. The file needs nothing but itself: style and figures are inside it, there is no script, and its own
Content-Security-Policy forbids both scripts and requests. It prints, follows the reader's light or dark scheme, and
says in words what it says in colour.

Names of units, attacks and files are untrusted text: jinja2 escapes everything that is not a figure of ours.
"""

from __future__ import annotations

import re
from importlib import resources

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup, escape

from twinseal.assurance.case import Case
from twinseal.assurance.gates import GateResult
from twinseal.assurance.report import tables
from twinseal.assurance.report.blocks import Figure
from twinseal.assurance.report.figures import PALETTE, PAPER
from twinseal.assurance.report.section import Built, all_caveats, all_tiles

BAR = 160.0  # width of a gate's bar, in its own units
LEAST, MOST = 0.72, 1.4  # pixels a point: a figure is shown no smaller and no larger, so its text can be read


def render(case: Case, built: tuple[Built, ...]) -> str:
    """The report as one HTML document. Same case and sections, same text.

    Args:
        case: What was judged.
        built: As `section.build_all` made them from the same case.
    """
    return (
        environment()
        .get_template("report.html.j2")
        .render(
            case=case,
            verdict=case.verdict,
            built=built,
            grave=[caveat for caveat in all_caveats(built) if caveat.grave],
            tiles=all_tiles(built),
            weights=next((item.sha256[:12] for item in case.model if item.name.endswith(".safetensors")), tables.DASH),
            style=style(),
        )
    )


def environment() -> Environment:
    """Where pages of this style are rendered: `blocks.html.j2` shows blocks; all text is escaped and made visible."""
    made = Environment(
        loader=FunctionLoader(_resource),
        autoescape=True,
        finalize=_visible,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.globals |= {"bar": bar, "bound": tables.bound, "quantity": tables.quantity, "inline": inline}
    made.filters["code"] = code
    return made


def style() -> Markup:
    """The style sheet of such pages."""
    return Markup(_resource("report.css"))  # noqa: S704 - our own file, nothing of a case in it


def bar(gate: GateResult) -> Markup:
    """A gate as a small bar: the observed value, the bound as a tick, and the side that is allowed, tinted.

    Its numbers stand beside it in the table, so that the drawing itself is hidden from screen readers.
    """
    if gate.bound is None or gate.observed is None:
        return Markup(
            '<svg class="bar" viewBox="-5 0 170 16" aria-hidden="true"><path class="none" d="M0 8h160"/></svg>'
        )
    low = min(0.0, gate.observed, gate.bound.number)
    span = (max(gate.observed, gate.bound.number) - low) * 1.15 or 1.0
    limit, reach = (_place(value, low, span) for value in (gate.bound.number, gate.observed))
    start, end = {"at_most": (0.0, limit), "at_least": (limit, BAR)}.get(gate.bound.relation, (limit - 2, limit + 2))
    return Markup(
        '<svg class="bar {kind}" viewBox="-5 0 170 16" aria-hidden="true">'
        '<rect class="allowed" x="{start:.1f}" y="1" width="{width:.1f}" height="14"/>'
        '<path class="axis" d="M0 8h160"/><rect class="observed" x="0" y="5" width="{reach:.1f}" height="6"/>'
        '<circle class="observed" cx="{reach:.1f}" cy="8" r="5"/><path class="limit" d="M{limit:.1f} 0v16"/></svg>'
    ).format(kind=gate.result.lower(), start=start, width=end - start, reach=reach, limit=limit)


def inline(figure: Figure) -> Markup:
    """A figure's SVG, made fit to stand inside the page.

    Its ids are prefixed with its name (they would collide with the next figure's), its colours become the page's
    variables (so that it follows the scheme), and its prologue, metadata and page-wide style rule go. So does its
    ground, the first thing that is filled: it would cover the shadows at the edges of what scrolls.
    """
    svg = figure.svg[figure.svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<style [^>]*>.*?</style>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\bid="', f'id="{figure.name}-', svg)
    svg = re.sub(r'(url\(#|href="#)', rf"\g<1>{figure.name}-", svg)
    svg = re.sub(r"font: ([\d.]+)px [^;\"]*", r"font-size: \1px", svg)
    svg = svg.replace(f"fill: {PAPER}", "fill: none", 1)
    for name, colour in PALETTE.items():
        svg = svg.replace(colour, f"var(--{name})")
    opening, rest = svg.split(">", 1)
    found = re.search(r'viewBox="([-\d. ]+)"', opening)
    box = found[1] if found else "0 0 1 1"
    width = float(box.split()[2])
    # The opening tag is written anew: no fixed size, and the alternative text, which is untrusted, escaped by format.
    first = Markup('<svg role="img" aria-label="{}" viewBox="{}" style="--least: {:.0f}px; max-width: {:.0f}px">')
    return first.format(figure.alt, box, LEAST * width, MOST * width) + Markup(rest)  # noqa: S704 - by matplotlib, which escapes the text in it


def code(text: str) -> Markup:
    """Text, escaped, with what stands between backquotes as code."""
    parts = str(_visible(text)).split("`")
    whole = parts if len(parts) % 2 else ["`".join(parts)]  # an odd backquote is only a backquote
    shown = (Markup("<code>{}</code>").format(part) if at % 2 else escape(part) for at, part in enumerate(whole))
    return Markup("").join(shown)


def _visible(value: object) -> object:
    """Text without what cannot be seen: a control or a change of direction could make a digest read as another."""
    if not isinstance(value, str) or isinstance(value, Markup):
        return value
    return "".join(letter if letter.isprintable() else "�" for letter in value)


def _place(value: float, low: float, span: float) -> float:
    return BAR * (value - low) / span


def _resource(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")
