"""What a person or a header says of a new asset before anything is measured: its channels, and what no data say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from twinseal.telemetry.contract import Channel, Contract

UNBOUNDED = 1e30  # as good as no bound, and a float32 still

Kind = Literal["setting", "sensor"]


@dataclass(frozen=True)
class ChannelPlan:
    """One channel before it has bounds.

    Attributes:
        name: In the contract.
        kind: Setting or sensor.
        unit: Of measure.
        description: What it measures.
        used: Whether a model reads it; None: the data decide.
        words: What the words of a column of words are, in the order of their numbers 0, 1, 2, …; () for numbers.
    """

    name: str
    kind: Kind
    unit: str = "1"
    description: str = ""
    used: bool | None = None
    words: tuple[str, ...] = ()


@dataclass(frozen=True)
class About:
    """What no data say of an asset.

    Attributes:
        asset: Its name.
        model: Of the model.
        description: What it is.
        cycle: What one cycle is.
        rul_cap_cycles: None: from the lives.
        kept: Units that count as healthy, however far they are from the others.
        proposed: Who proposes, and from what.
        averaged: Whether readings are means of several rows: then the digits of a row say nothing.
    """

    asset: str
    model: str
    description: str
    cycle: str
    rul_cap_cycles: float | None = None
    kept: frozenset[str] = frozenset()
    proposed: str = ""
    averaged: bool = False


def wide_contract(about: About, plans: Sequence[ChannelPlan]) -> Contract:
    """A contract that admits every reading: with it a source reads a fleet that has no bounds yet."""
    channels = {
        kind: {
            plan.name: Channel(
                unit=plan.unit,
                minimum=-UNBOUNDED,
                maximum=UNBOUNDED,
                max_change_per_cycle=UNBOUNDED,
                missing_share=0.99,
                description=plan.description,
            )
            for plan in plans
            if plan.kind == kind
        }
        for kind in ("setting", "sensor")
    }
    return Contract(
        asset=about.asset,
        model=about.model,
        description=about.description,
        cycle=about.cycle,
        rul_cap_cycles=1.0,
        min_cycles=2,
        max_quarantined_share=0.05,
        settings=channels["setting"],
        sensors=channels["sensor"],
    )
