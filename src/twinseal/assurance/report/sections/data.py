"""Data: what validation found in the telemetry, and how far the fleet has drifted from the reference."""

from __future__ import annotations

from typing import Any

from twinseal.assurance.case import Case
from twinseal.assurance.report.blocks import Block, Bullets, Caveat, Content, Figure, Heading, Pair, Table, Text, Tile
from twinseal.assurance.report.figures import DANGER, LONG_DASHED, SERIES, WIDE, canvas, drawing, figure, fits, plain
from twinseal.assurance.report.section import Section
from twinseal.assurance.report.tables import DASH, Column, listing, measure_of, natural, shown
from twinseal.measures.keys import regime_key
from twinseal.measures.validation import ValidationMeasures

MOST_FINDINGS, MOST_WARNINGS, MOST_CHANNELS = 20, 6, 40
SAME_PSI = 1e-6  # the reference is rounded to nine digits: only its own fleet is below this
COLUMNS = (
    Column[ValidationMeasures](lambda m: m.rows_total),
    Column[ValidationMeasures](lambda m: m.units_total),
    Column[ValidationMeasures](lambda m: m.units_quarantined),
    Column[ValidationMeasures](lambda m: m.quarantined_share, "share of units quarantined"),
    Column[ValidationMeasures](lambda m: m.expectations_total),
    Column[ValidationMeasures](lambda m: m.expectations_failed),
    Column[ValidationMeasures](lambda m: m.values_filled),
    Column[ValidationMeasures](lambda m: m.drift_max_psi),
)


def build(case: Case) -> Content:
    """Tables of what was looked at and found, the drift by channel, and the first findings in words."""
    found = case.measures.validate
    blocks: list[Block] = [
        Text(
            "Telemetry is checked against policy/contract.yaml before anything learns from it. Units that break the "
            "contract are set aside with the reason; they are never dropped in silence."
        )
    ]
    if found is None:
        blocks.append(Text("There are no measures of validation on record.", muted=True))
        return Content(tuple(blocks), caveats=caveats(case), tiles=(tile(None),))
    blocks.append(Pair(tuple(filter(None, (listing("What validation examined", found, COLUMNS), by_rule(found))))))
    blocks += operating_points(found, case.config.operating_points)
    drawn = compared(found, case.config.drift_limit_psi)
    return Content(
        tuple(blocks) + findings(case),
        (drawn,) if drawn else (),
        caveats(case),
        (tile(found),),
    )


def tile(found: ValidationMeasures | None) -> Tile:
    """How many units were set aside."""
    if found is None:
        return Tile("Units set aside by validation", DASH, "no record of validation", 80)
    return Tile("Units set aside by validation", str(found.units_quarantined), f"of {found.units_total} units read", 80)


def by_rule(found: ValidationMeasures) -> Table | None:
    """How many findings each rule of the contract gave, most first; None where none gave any."""
    listed = sorted(
        ((rule, count) for rule, count in found.findings_by_rule.items() if count), key=lambda item: (-item[1], item[0])
    )
    rows = tuple((rule, shown(count, "findings")) for rule, count in listed)
    return Table("Findings by rule of the contract", ("rule", "findings"), rows) if rows else None


def operating_points(found: ValidationMeasures, points: tuple[str, ...]) -> tuple[Block, ...]:
    """The operating points of the contract, with the rows at each, and what is compared within them."""
    if not points:
        return ()
    within = found.drift_regimes or 0
    drift = (
        f"Drift was measured within {within} of them, each beside the reference at that point; of each channel the "
        "largest is given."
        if within
        else "Drift was not measured within them."
    )
    counts = found.regime_rows or {}
    rows = tuple((point, shown(counts.get(regime_key(k)), "rows")) for k, point in enumerate(points))
    return (
        Heading("Operating points"),
        Text(
            f"The contract names {len(points)} operating points. A row at none of them is refused. How fast a reading "
            f"may change, and how far sensors may disagree, is bounded within each point. {drift}"
        ),
        Table("Accepted rows at each operating point", ("operating point", "rows"), rows),
    )


def findings(case: Case) -> tuple[Block, ...]:
    """The first findings, one line each."""
    if not case.findings:
        return ()
    first, rest = case.findings[:MOST_FINDINGS], len(case.findings) - MOST_FINDINGS
    more = (Text(f"{rest} more are in data/quarantine/findings.json.", muted=True),) if rest > 0 else ()
    return (Heading("Findings"), Bullets(first), *more)


def caveats(case: Case) -> tuple[Caveat, ...]:
    """Simulated telemetry, units left out, rules that were broken or could not be tested."""
    found, texts = case.measures.validate, []
    if case.asset.startswith("pump"):
        texts.append("The telemetry is simulated (NASA ProgPy). It shows how the pipeline behaves, not a real machine.")
    if found is not None and found.units_quarantined:
        texts.append(
            f"{found.units_quarantined} units were left out because they break the contract. The model was never "
            "measured on units like them."
        )
    if found is not None and not found.drift_compared:
        texts.append("There is no reference fleet of this asset in policy/reference.yaml: drift was not tested.")
    warned: Any = case.statements["validate"].predicate.get("warnedTests") if "validate" in case.statements else None
    if isinstance(warned, list) and warned:
        texts.append(f"Passed with a warning: {', '.join(map(str, warned[:MOST_WARNINGS]))}.")
    return tuple(map(Caveat, texts))


def compared(found: ValidationMeasures, limit: float) -> Block | None:
    """The drift by channel; a sentence where there is nothing to compare."""
    if not found.drift_psi:
        return Text("This fleet was compared with no other: there is no reference fleet of this asset.", muted=True)
    if all(abs(value) < SAME_PSI for value in found.drift_psi.values()):
        return Text(
            "This fleet is the reference: there is nothing to compare it with. Every channel has the distribution that "
            "policy/reference.yaml describes (PSI 0).",
            muted=True,
        )
    return drift(found, limit)


@drawing
def drift(found: ValidationMeasures, limit: float) -> Figure | None:
    """A bar for each channel, how far the fleet lies from the reference; of many channels those that drifted most."""
    known = [(name, value) for name, value in found.drift_psi.items() if fits(value)]
    most = sorted(known, key=lambda item: item[1])[-MOST_CHANNELS:]
    if not most:
        return None
    listed = sorted(most, key=lambda item: natural(item[0]), reverse=True)  # the first bar is the lowest
    whole, axes = canvas(WIDE, 1.2 + 0.21 * len(listed))
    places = range(len(listed))
    axes.barh(places, [value for _, value in listed], color=SERIES[0], height=0.62)
    reach = max(limit, most[-1][1]) * 1.12
    for place, (_, value) in zip(places, listed, strict=True):
        axes.text(value + 0.006 * reach, place, f"{value:.3f}", va="center", fontsize=8)
    axes.axvline(limit, color=DANGER, linewidth=1.6, linestyle=LONG_DASHED)
    axes.text(limit, len(listed) - 0.3, f"refused above {limit:g} ", color=DANGER, ha="right", va="bottom", fontsize=9)
    axes.set_yticks(places, [plain(name, 28) for name, _ in listed], fontsize=8.5)
    axes.set(xlabel="population stability index (PSI)", ylim=(-0.7, len(listed) + 0.6))
    axes.set_xlim(0, reach)
    axes.grid(visible=False, axis="y")
    label = measure_of(lambda m: m.drift_max_psi, ValidationMeasures).label
    alt = f"Bars of the drift of {len(listed)} channels; {label} {most[-1][1]:.3f}, in {plain(most[-1][0])}."
    caption = (
        "Drift of each channel from the reference fleet. A PSI below 0.1 counts as stable, one above 0.25 as a shift "
        "(Siddiqi 2006); the dashed line is the limit of policy/contract.yaml."
    )
    return figure("drift", whole, alt, caption)


SECTION = Section("data", "Data", 10, build, in_card="evaluation data")
