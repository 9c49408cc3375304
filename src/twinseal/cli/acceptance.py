"""What accepts by name what a program proposed for an asset: its contract and its threats. Bounds: `gates`."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from twinseal.cli.options import Yes, confirm, examples
from twinseal.console import out, printable

if TYPE_CHECKING:
    from twinseal.policy_acceptance import Offered

POLICY = Path("policy")
ACCEPT_EXAMPLES = examples("twinseal asset accept transformer --as gerda")

Asset = Annotated[str, typer.Argument(metavar="NAME", help="The asset, as policy/contract.yaml names it.")]
Person = Annotated[str, typer.Option("--as", metavar="PERSON", help="Who accepts it: your name, for policy's owners.")]


def asset_accept(name: Asset, person: Person, yes: Yes = False) -> None:
    """Accept the contract and the threats that were proposed for an asset. Its gates: twinseal gates accept."""
    from twinseal.policy_acceptance import offered_entries

    accept_offered(offered_entries(POLICY, name), person, yes)


def accept_offered(offered: Offered, person: str, yes: bool) -> None:
    """Show what is proposed, ask, lift the marks, and say who signs next."""
    from twinseal.policy_acceptance import accept

    for mark in offered.marks:
        out.print(f"  {printable(mark)}")
    confirm(yes, f"Accept this as {person}?", not_done="nothing was accepted", remedy="Answer y, or give --yes.")
    accept(offered, person, date.today())
    out.print(f"[green]accepted[/] by {printable(person)}: {', '.join(sorted({mark.file for mark in offered.marks}))}")
    out.print("policy's owners sign it next: [cyan]twinseal policy show[/], [cyan]twinseal policy approve --as NAME[/]")
    out.print("then: [cyan]dvc repro[/], which judges again and trains nothing again")
