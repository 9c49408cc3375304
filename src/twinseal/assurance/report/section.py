"""A section: one file in `sections/` that ends with `SECTION`. The page and the card find it there; nothing lists it.

>>> def build(case: Case) -> Content: ...
>>> SECTION = Section("false-age", "A false age", 55, build)
"""

from __future__ import annotations

import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Literal

from twinseal.assurance.case import Case
from twinseal.assurance.report import sections as package
from twinseal.assurance.report.blocks import Block, Caveat, Content, Figure, Table, Tile, flat

CardPart = Literal["evaluation data", "metrics", "analyses"]


@dataclass(frozen=True)
class Section:
    """One section of the report.

    Attributes:
        id: Its anchor in the page.
        title: Its heading.
        order: Sections stand in this order.
        build: What it says of a case; nothing at all where it has no blocks.
        in_card: The part of the model card in which its tables stand too; None for none.
    """

    id: str
    title: str
    order: int
    build: Callable[[Case], Content]
    in_card: CardPart | None = None


@dataclass(frozen=True)
class Built:
    """A section and what it says of a case."""

    section: Section
    content: Content

    @property
    def tables(self) -> tuple[Table, ...]:
        """All its tables, in reading order."""
        return tuple(block for block in self._all if isinstance(block, Table))

    @property
    def figures(self) -> tuple[Figure, ...]:
        """All its figures, in reading order."""
        return tuple(block for block in self._all if isinstance(block, Figure))

    @property
    def _all(self) -> tuple[Block, ...]:
        return flat((*self.content.blocks, *self.content.below))


def all_sections() -> tuple[Section, ...]:
    """Every section of the package `sections`, in order."""
    modules = (import_module(f"{package.__name__}.{item.name}") for item in pkgutil.iter_modules(package.__path__))
    found = [module.SECTION for module in modules if isinstance(getattr(module, "SECTION", None), Section)]
    return tuple(sorted(found, key=lambda section: (section.order, section.id)))


def build_all(case: Case) -> tuple[Built, ...]:
    """What every section says of `case`; a section that says nothing is left out."""
    built = (Built(section, section.build(case)) for section in all_sections())
    return tuple(item for item in built if item.content.blocks or item.content.below)


def all_tiles(built: tuple[Built, ...]) -> tuple[Tile, ...]:
    """The tiles of all sections, by rank."""
    return tuple(sorted((tile for item in built for tile in item.content.tiles), key=lambda tile: tile.rank))


def all_caveats(built: tuple[Built, ...]) -> tuple[Caveat, ...]:
    """The caveats of all sections, grave ones first."""
    found = [caveat for item in built for caveat in item.content.caveats]
    return tuple(sorted(found, key=lambda caveat: not caveat.grave))
