"""Blocks: the frozen values that a page is made of. A section makes them, the template and the card show them.

Text in them may come from outside (names of units, channels, attacks): whoever shows it escapes it. Text between
backquotes is shown as code.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from twinseal.assurance.gates import GateResult

Row = tuple[str, ...]


@dataclass(frozen=True)
class Heading:
    """A heading within a section."""

    text: str
    kind: Literal["heading"] = "heading"


@dataclass(frozen=True)
class Text:
    """A paragraph; `muted` for what is said in passing."""

    text: str
    muted: bool = False
    kind: Literal["text"] = "text"


@dataclass(frozen=True)
class Bullets:
    """A list of short lines."""

    items: tuple[str, ...]
    kind: Literal["bullets"] = "bullets"


@dataclass(frozen=True)
class Table:
    """One table: text only.

    Attributes:
        caption: What it shows.
        headers: Of the columns.
        rows: Cells by row, as long as the headers; the first of each names the row.
        marked: Indices of the rows to set apart (a bound, a total).
        prose: Whether its cells are words and digests rather than numbers.
    """

    caption: str
    headers: Row
    rows: tuple[Row, ...]
    marked: tuple[int, ...] = ()
    prose: bool = False
    kind: Literal["table"] = "table"


@dataclass(frozen=True)
class Figure:
    """One figure.

    Attributes:
        name: Its file name without suffix.
        draw: Gives a whole SVG document; asked once, by whoever shows the figure: the card does not.
        alt: What it shows, for whoever does not see it.
        caption: What to read in it.
    """

    name: str
    draw: Callable[[], str]
    alt: str
    caption: str
    kind: Literal["figure"] = "figure"

    @cached_property
    def svg(self) -> str:
        """The SVG document."""
        return self.draw()


@dataclass(frozen=True)
class Gates:
    """The gates of the policy, each with its result, its numbers and a small drawing."""

    caption: str
    results: tuple[GateResult, ...]
    kind: Literal["gates"] = "gates"


@dataclass(frozen=True)
class Pair:
    """Blocks side by side, where the page is wide enough."""

    blocks: tuple[Block, ...]
    kind: Literal["pair"] = "pair"


@dataclass(frozen=True)
class Folded:
    """Blocks that a reader opens: the long rest of what stands above."""

    summary: str
    blocks: tuple[Block, ...]
    kind: Literal["folded"] = "folded"


Block = Heading | Text | Bullets | Table | Figure | Gates | Pair | Folded


@dataclass(frozen=True)
class Tile:
    """One of the few numbers that a reviewer asks for first.

    Attributes:
        label: What it is, with the attacker's budget in words.
        value: The number.
        note: What to compare it with.
        rank: Tiles stand in the order of their ranks.
        holds: `measured`; `proved`, no attack within the budget does worse; or `open`, nothing bounds it.
    """

    label: str
    value: str
    note: str
    rank: int
    holds: Literal["measured", "proved", "open"] = "measured"


@dataclass(frozen=True)
class Caveat:
    """One thing to hold against the numbers of a section.

    Attributes:
        text: What, in one or two sentences.
        grave: Whether the numbers cannot be taken as they stand: shown with the verdict too.
    """

    text: str
    grave: bool = False


@dataclass(frozen=True)
class Content:
    """What a section says of one case.

    Attributes:
        blocks: Beside the caveats.
        below: Across the whole width.
        caveats: What to hold against the numbers.
        tiles: For the top of the page.
    """

    blocks: tuple[Block, ...] = ()
    below: tuple[Block, ...] = ()
    caveats: tuple[Caveat, ...] = ()
    tiles: tuple[Tile, ...] = ()


def flat(blocks: tuple[Block, ...]) -> tuple[Block, ...]:
    """All blocks in reading order, those within others too."""
    found: list[Block] = []
    for block in blocks:
        found += flat(block.blocks) if isinstance(block, Pair | Folded) else (block,)
    return tuple(found)
