"""The proposal as one HTML page that opens without a network: what was found, and each channel over the lives.

It is made as the report is (`assurance.report`): the same blocks, style and figures. Names of columns and units come
from outside: they are escaped, and shown as plain text.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
from typing import Any

import numpy as np

from twinseal.assets.channel_bounds import MARGIN_CHANGE, MARGIN_RANGE
from twinseal.assets.measured import regime_of
from twinseal.assets.proposal import Proposal
from twinseal.assurance.report.blocks import Block, Bullets, Figure, Pair, Table, Text, Tile
from twinseal.assurance.report.figures import DANGER, DASHED, NARROW, SERIES, canvas, drawing, figure, legend, plain
from twinseal.assurance.report.page import environment, style
from twinseal.telemetry.contract import Channel

BINS = 40  # of the lives, in a figure
MOST_FIGURES = 60
MOST_REGIMES = len(SERIES)
HEADINGS = (
    *(
        "channel",
        "column",
        "kind",
        "unit",
        "a model",
        "seen",
        "bounds",
        "steps of",
        "change: seen, bound",
        "missing",
        "trend",
    ),
)
MOST_ROWS = 20

Row = tuple[str, ...]


@dataclass(frozen=True)
class Part:
    """One section of the page."""

    id: str
    title: str
    blocks: tuple[Block, ...]


def render(proposal: Proposal) -> str:
    """The page. The same proposal, the same text."""
    contract, fleet = proposal.contract, proposal.fleet
    regimes = contract.regimes
    points = str(len(regimes.points)) if regimes else "1"
    tiles = (
        Tile("units", f"{len(fleet.units):,}", f"{len(fleet):,} rows", 0),
        Tile("channels", str(len(contract.all_channels)), f"{len(contract.channels)} of them for a model", 1),
        Tile("operating points", points, f"by {', '.join(regimes.settings)}" if regimes else "none were found", 2),
        Tile("units far from the others", str(len(proposal.proposed.odd)), _left_out_in_words(proposal), 3),
    )
    page = environment().from_string(resources.files(__package__).joinpath("proposal.html.j2").read_text("utf-8"))
    return page.render(
        asset=contract.asset, proposed=contract.proposed, tiles=tiles, sections=_parts(proposal), style=style()
    )


def channel_rows(proposal: Proposal) -> tuple[Row, tuple[Row, ...]]:
    """The channels as a table: headings, and a row of text for each."""
    contract = proposal.contract
    rows = []
    for name, channel in contract.all_channels.items():
        seen = proposal.proposed.seen[name]
        missing = float(seen.missing.max())
        row = {
            "channel": name,
            "column": proposal.columns[name],
            "kind": "setting" if name in contract.settings else "sensor",
            "unit": channel.unit,
            "a model": proposal.proposed.reasons.get(name, "reads it"),
            "seen": f"{float(np.nanmin(seen.low)):.5g} … {float(np.nanmax(seen.high)):.5g}",
            "bounds": f"{channel.minimum:g} … {channel.maximum:g}",
            "steps of": f"{channel.resolution:g}" if channel.resolution else "–",
            "change: seen, bound": f"{seen.change.max():.3g}, {channel.max_change_per_cycle:g}",
            "missing": f"up to {missing:.1%}" if missing else "never",
            "trend": f"{seen.trend:.2f}",
        }
        rows.append(tuple(row[heading] for heading in HEADINGS))
    return HEADINGS, tuple(rows)


def _parts(proposal: Proposal) -> tuple[Part, ...]:
    headings, rows = channel_rows(proposal)
    found: list[Block] = [Bullets(proposal.said)]
    if proposal.readings:
        read = tuple((item.column, item.becomes, item.because) for item in proposal.readings)
        found.append(Table("How cells are read, and why", ("column", "its readings", "because"), read, prose=True))
    if proposal.left_out:
        left = tuple((item.column, item.why) for item in proposal.left_out)
        found.append(Table("Columns that are left out, and why", ("column", "why"), left, prose=True))
    at_point = "the largest range at one operating point" if proposal.contract.regimes else "the range"
    explained = Text(
        f"Bounds are what was seen over whole lives, widened by {MARGIN_RANGE:.0%} of {at_point} on both sides; a "
        f"change per cycle is the largest that was seen within a regime, × {MARGIN_CHANGE}. Steps of: every reading is "
        "a multiple of it, and readings to come must be; without a margin: that instrument shows no finer one. "
        "The trend is how well a channel follows the life: 1 is a straight line in every unit, 0 is chance.",
        muted=True,
    )
    contract: tuple[Block, ...] = (Table("Every channel, as seen and as proposed", headings, rows), explained)
    plots = _figures(proposal)
    more = len(proposal.contract.all_channels) - len(plots)
    pairs: tuple[Block, ...] = tuple(Pair(plots[at : at + 2]) for at in range(0, len(plots), 2))
    if more > 0:
        pairs = (Text(f"The first {len(plots)} channels; {more} more are in the table."), *pairs)
    return (
        Part("export", "What the export holds", tuple(found)),
        Part("units", "Units that are far from the others", _odd(proposal)),
        Part("channels", "Channels and their bounds", contract),
        Part("lives", "Each channel over the lives", pairs),
        Part("basis", "What the other numbers rest on", (_basis(proposal),)),
    )


def _odd(proposal: Proposal) -> tuple[Block, ...]:
    blocks: list[Block] = []
    rows = tuple(
        (odd.unit, odd.channel or "length", odd.what, f"{odd.times:.1f}", "no" if odd.is_left_out else "yes")
        for odd in proposal.proposed.odd[:MOST_ROWS]
    )
    if rows:
        headings = ("unit", "channel", "what it shows", "times the limit", "sets bounds")
        blocks.append(Table("Each at the place where it is farthest from the others", headings, rows, prose=True))
        blocks.append(
            Text("A healthy unit that stands here is kept by `--keep UNIT`; a faulty one belongs to no export.")
        )
    else:
        blocks.append(Text("None: with any unit left out, the bounds would be about the same."))
    if proposal.refused_units:
        count = len(proposal.refused_units)
        blocks.append(Text(f"Validation by this contract would set {count} of these units aside:"))
        blocks.append(Bullets(tuple(map(str, proposal.findings[:MOST_ROWS]))))
    return tuple(blocks)


def _basis(proposal: Proposal) -> Table:
    contract, basis = proposal.contract, proposal.proposed.basis
    keys = ("rul_cap_cycles", "min_cycles", "max_quarantined_share", "drift", "consistency")
    rows = [(key, _value_in_words(getattr(contract, key)), basis[key]) for key in keys]
    threats = proposal.threats["injection"]
    rows.append(
        (
            "attacked sensors",
            f"{', '.join(threats['sensors'])}: {threats['biased_percent']:g} %",
            proposal.threats_basis,
        )
    )
    return Table("Numbers of the contract and of the threats", ("what", "proposed", "because"), tuple(rows), prose=True)


def _value_in_words(value: Any) -> str:
    if isinstance(value, int | float):
        return f"{value:g}"
    return ", ".join(f"{key} {item:g}" for key, item in value.model_dump().items())


def _left_out_in_words(proposal: Proposal) -> str:
    count = sum(odd.is_left_out for odd in proposal.proposed.odd)
    return f"{count} of them set no bound"


def _figures(proposal: Proposal) -> tuple[Figure, ...]:
    contract, table = proposal.contract, proposal.fleet.table
    known = contract.regimes.model_dump() if contract.regimes else None
    regime = regime_of(table, known) if known else np.zeros(len(table), dtype=np.int64)
    before = _before_the_end(proposal)
    names = list(contract.all_channels)[:MOST_FIGURES]
    return tuple(_figure(proposal, name, contract.all_channels[name], before, regime) for name in names)


def _before_the_end(proposal: Proposal) -> Any:
    """How many cycles before its last one each row is, as 0, -1, -2, …, (R,) float64."""
    cycle, fleet = proposal.fleet.table["cycle"].to_numpy(np.float64), proposal.fleet
    last = np.repeat(cycle[fleet.starts + fleet.lengths - 1], fleet.lengths)
    return cycle - last


@drawing
def _figure(proposal: Proposal, name: str, channel: Channel, before: Any, regime: Any) -> Figure:
    """One channel over the lives: the middle and the range of the units by regime, odd units, and the bounds."""
    whole, axes = canvas(NARROW, 3.2)
    values = proposal.fleet.table[name].to_numpy(np.float64)
    first = float(np.quantile(before, 0.02))
    edges = np.linspace(min(first, -1.0), 0.0, BINS + 1)
    place = np.clip(np.digitize(before, edges) - 1, 0, BINS - 1)
    middles = (edges[:-1] + edges[1:]) / 2
    for k in np.unique(regime)[:MOST_REGIMES]:
        low, mid, high = _bands(values, place, (regime == k) & (before >= edges[0]))
        colour = SERIES[int(k) % len(SERIES)]
        axes.fill_between(middles, low, high, color=colour, alpha=0.18, linewidth=0)
        label = f"point {int(k) + 1}" if proposal.contract.regimes else "middle and range of all units"
        axes.plot(middles, mid, color=colour, linewidth=1.4, label=label)
    for odd in [odd for odd in proposal.proposed.odd if odd.channel == name][:3]:
        mine = proposal.fleet.table["unit"].to_numpy(dtype=object) == odd.unit
        axes.plot(before[mine], values[mine], color=DANGER, linewidth=0.7, label=plain(f"unit {odd.unit}", 24))
    for at, bound in enumerate((channel.minimum, channel.maximum)):
        label = "proposed bounds" if at == 0 else "_"  # matplotlib lists no label that begins so
        axes.axhline(bound, color=DANGER, linestyle=DASHED, linewidth=1.2, label=label)
    known = values[np.isfinite(values)]
    low, high = min(channel.minimum, float(known.min())), max(channel.maximum, float(known.max()))
    axes.set_ylim(low - 0.05 * (high - low), high + 0.05 * (high - low))
    axes.set_xlabel("cycles before the last one")
    axes.set_ylabel(plain(name if channel.unit == "1" else f"{name} [{channel.unit}]"))
    legend(whole, axes)
    seen = proposal.proposed.seen[name]
    bounds = f"{channel.minimum:g} to {channel.maximum:g}"
    caption = (
        f"{name}: {proposal.proposed.basis[name]}; proposed {bounds}, change at most {channel.max_change_per_cycle:g}"
    )
    low, high = np.nanmin(seen.low), np.nanmax(seen.high)
    alt = f"{name} over the lives of the units, between {low:g} and {high:g}; bounds {bounds}"
    return figure(f"channel-{name}", whole, alt, caption)


def _bands(values: Any, place: Any, mine: Any) -> tuple[Any, Any, Any]:
    """The smallest, middle and largest value in each bin, (BINS,) each; NaN where there is none."""
    found = np.full((3, BINS), np.nan)
    for at in range(BINS):
        part = values[mine & (place == at)]
        part = part[np.isfinite(part)]
        if len(part):
            found[:, at] = part.min(), np.median(part), part.max()
    return found[0], found[1], found[2]
