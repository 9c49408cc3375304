"""The report: one HTML file that a reviewer reads before staking a name on a model.

The verdict comes first, then what decided it, then the numbers with their caveats beside them, then where everything
came from. The file needs nothing but itself: style and figures are inside it, there is no script, and its own
Content-Security-Policy forbids both scripts and requests. It prints, follows the reader's light or dark scheme, and
says in words what it says in colour.

Names of units, attacks and files are untrusted text: jinja2 escapes everything that is not a figure of ours.
"""

from __future__ import annotations

import re
from importlib import resources

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from twinseal.assurance.case import Case
from twinseal.assurance.gates import GateResult
from twinseal.assurance.report import beyond, caveats, measured, tables
from twinseal.assurance.report.figures import PALETTE, Figure
from twinseal.assurance.report.measured import group, number, of
from twinseal.evidence_chain import REQUIRED

BAR = 160.0  # width of a gate's bar, in its own units


def render(case: Case, figures: tuple[Figure, ...]) -> str:
    """The report as one HTML document. Same case and figures, same text.

    Args:
        case: What was judged.
        figures: As `figures.draw` made them from the same case.
    """
    environment = Environment(
        loader=FunctionLoader(_resource),
        autoescape=True,
        finalize=_visible,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals |= {
        "bar": bar,
        "bound": tables.bound,
        "quantity": tables.quantity,
        "tables": tables,
        "beyond": beyond,
    }
    found = caveats.find(case)
    return environment.get_template("report.html.j2").render(
        case=case,
        verdict=case.verdict,
        chain=[(item, case.statements.get(item.stage)) for item in case.verdict.evidence],
        required=tuple(REQUIRED),
        figures={figure.name: figure for figure in figures},
        drawn={figure.name: inline(figure) for figure in figures},
        caveats=found,
        grave=[caveat for caveat in found if caveat.grave],
        glance=glance(case),
        weights=next((item.sha256[:12] for item in case.model if item.name.endswith(".safetensors")), tables.DASH),
        style=Markup(_resource("report.css")),  # noqa: S704 - our own file, nothing of the case in it
    )


def glance(case: Case) -> tuple[tuple[str, str, str], ...]:
    """The few numbers that a reviewer asks for first: label, value, and what to compare it with."""
    epsilon, found = _first_epsilon(case), case.statements
    network, baseline = (
        of(found, "evade", "clean", "rmse_cycles"),
        of(found, "train", "test", "baseline", "rmse_cycles"),
    )
    attacked = group(found, "evade", "worst", epsilon)
    error, missed = (_certified(case, key, epsilon) for key in ("rmse_cycles", "missed_failure_share"))
    hidden, at_most = (tables.shown("_share", value) for value in (attacked.get("missed_failure_share"), missed))
    fires = of(found, "poison", "worst", "unnoticed", "trigger_success_share")
    quarantined, total = (tables.shown("", of(found, "validate", f"units_{key}")) for key in ("quarantined", "total"))
    within = f"within ε {epsilon.removeprefix('eps-')} σ"
    return (
        ("Error on unseen units", _cycles(network), f"RMSE; baseline {_cycles(baseline)}"),
        (
            "Error under attack",
            _cycles(attacked.get("rmse_cycles")),
            f"{within}; certified at most {_cycles(error)}",
        ),
        ("Failures an attacker hides", hidden, f"{within}; certified at most {at_most}"),
        ("Backdoor fires, unnoticed", tables.shown("_share", fires), "worst poison that validation let through"),
        ("Units quarantined", quarantined, f"of {total} read in"),
    )


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
    variables (so that it follows the scheme), and its prologue, metadata and page-wide style rule go.
    """
    svg = figure.svg[figure.svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<style [^>]*>.*?</style>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\bid="', f'id="{figure.name}-', svg)
    svg = re.sub(r'(url\(#|href="#)', rf"\g<1>{figure.name}-", svg)
    svg = re.sub(r"font: ([\d.]+)px [^;\"]*", r"font-size: \1px", svg)
    for name, colour in PALETTE.items():
        svg = svg.replace(colour, f"var(--{name})")
    opening, rest = svg.split(">", 1)
    box = re.search(r'viewBox="([-\d. ]+)"', opening)
    # The opening tag is written anew: no fixed size, and the alternative text, which is untrusted, escaped by format.
    first = Markup('<svg role="img" aria-label="{}" viewBox="{}">').format(figure.alt, box[1] if box else "0 0 1 1")
    return first + Markup(rest)  # noqa: S704 - drawn by matplotlib, which escapes the text in it


def _visible(value: object) -> object:
    """Text without what cannot be seen: a control or a change of direction could make a digest read as another."""
    if not isinstance(value, str) or isinstance(value, Markup):
        return value
    return "".join(letter if letter.isprintable() else "�" for letter in value)


def _place(value: float, low: float, span: float) -> float:
    return BAR * (value - low) / span


def _cycles(value: object) -> str:
    found = number(value)
    return tables.DASH if found is None else f"{found:.1f} cycles"


def _certified(case: Case, measure: str, key: str) -> float | None:
    points = {f"eps-{epsilon:g}": value for epsilon, value in measured.certified(case.statements, measure)}
    return points.get(key)


def _first_epsilon(case: Case) -> str:
    """The smallest ε that was both attacked and certified: the one that training was made for; else what there is."""
    attacked = group(case.statements, "evade", "worst")
    bound = {f"eps-{epsilon:g}" for epsilon, _ in measured.certified(case.statements, "rmse_cycles")}
    keys = [key for key in attacked if key in bound]
    return min(keys, default="eps-0.1", key=lambda key: (len(key), key))


def _resource(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")
