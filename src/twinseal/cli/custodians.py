"""What custodians do: the first ceremony, a renewal, a rotation, a revocation. See docs/operating.md."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.tree import Tree

from twinseal.cli.options import ROLES, agree, asking, new_passphrase, warn_of_demo
from twinseal.console import err, out, shown
from twinseal.errors import ThresholdError
from twinseal.trust.home import Home

trust = typer.Typer(help="Who may do what, until when; and how that changes.", no_args_is_help=True)

Holder = Annotated[str, typer.Argument(metavar="HOLDER", help="Whose key, as policy/roles.yaml names them.")]
Sure = Annotated[bool, typer.Option("--yes", help="Do not ask.")]


def init(
    demo: Annotated[
        bool, typer.Option("--demo", help="Throw-away keys for everyone, all here: to try it out.")
    ] = False,
) -> None:
    """Make the first root of trust: the anchor that every twin is installed with."""
    from twinseal.trust.root import ceremony
    from twinseal.trust.root.roles import Roles

    home, roles, now = Home.default(), Roles.load(ROLES), datetime.now(UTC)
    home.make_private()
    if demo:
        anchor = ceremony.init_demo(home, roles, now)
        out.print("[bold yellow]DEMO KEYS[/]: unencrypted, all on one machine. They protect nothing; never use them.")
    else:
        anchor = _ended(home, ceremony.init(home, roles, now, passphrase=asking()))
    out.print(f"who may do what: {', '.join(f'{name} {len(r.holders)}' for name, r in roles.roles)}")
    _say_anchor(home, anchor)
    out.print("carry it to each twin by hand, and compare the digest there: nothing else is trusted beforehand")


@trust.command("show")
def trust_show() -> None:
    """Who may do what, with which key, how many it takes, and until when; what is near its end is red."""
    from twinseal.trust import overview
    from twinseal.trust.keys.key import fingerprint

    home, now = Home.find(), datetime.now(UTC)
    anchor = home.anchor()
    left = {item.what: item for item in overview.expiries(home)}
    tree = Tree(f"[bold]root {anchor.version}[/]  sha256 {anchor.fingerprint}")
    for name, role in anchor.roles.items():
        branch = tree.add(f"[bold]{name}[/]  {role.threshold} of {len(role.holders)}  {_left(left.get(name), now)}")
        for holder in role.holders:
            branch.add(f"{shown(holder.name)}  key {fingerprint(holder.key)[:16]}")
    models = tree.add("[bold]models[/]")
    for model in anchor.models:
        models.add(f"{model}  {_model(home, model)}{_left(left.get(model), now)}")
    if anchor.pins.revoked:
        gone = tree.add("[bold]revoked[/]  keys that never count again")
        for value in anchor.pins.revoked:
            gone.add(f"key {value[:16]}")
    out.print(tree)
    for item in left.values():
        if item.is_urgent(now):
            err.print(f"[red]{shown(item.what)}: {item.time_left(now)}[/]; {item.remedy}")
    if home.proposal_dir.exists():
        err.print("[yellow]a new root is proposed and waits for signatures: twinseal trust sign[/]")
    warn_of_demo(anchor)


@trust.command("renew")
def trust_renew(yes: Sure = False) -> None:
    """The next root, with who may do what as policy/roles.yaml has it now; keys stay."""
    from twinseal.trust.root import ceremony
    from twinseal.trust.root.roles import Roles

    home, roles = Home.find(), Roles.load(ROLES)
    agree(yes, "Sign a new root of trust by policy/roles.yaml?")
    _say_root(home, _ended(home, ceremony.renew(home, roles, datetime.now(UTC), passphrase=asking())))


@trust.command("sign")
def trust_sign(yes: Sure = False) -> None:
    """Sign the root that is proposed with the custodians' keys that are here; once enough have, publish it."""
    from twinseal.trust.root import ceremony
    from twinseal.trust.root.custody import Proposal
    from twinseal.trust.root.roles import Roles

    home, roles = Home.default(), Roles.load(ROLES)
    _show_proposed(Proposal.read(home.proposal_dir).pins, home.anchor().pins if home.anchor_dir.exists() else None)
    agree(yes, "Sign that this is who may do what?")
    _say_root(home, _ended(home, ceremony.finish(home, roles, datetime.now(UTC), passphrase=asking())))


def rotate(
    holder: Holder,
    public: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The new public key, of a holder elsewhere; else a pair is made here."),
    ] = None,
    no_passphrase: Annotated[bool, typer.Option("--no-passphrase", help="Leave a new key unencrypted.")] = False,
    yes: Sure = False,
) -> None:
    """Another key for HOLDER, by a new root; the old one never counts again. The same after a theft, at once."""
    from twinseal.trust.keys.key import read_public_key
    from twinseal.trust.root import ceremony
    from twinseal.trust.root.roles import Roles

    home, roles = Home.find(), Roles.load(ROLES)
    agree(yes, f"Replace the key of {holder}, for good?")
    demo = home.anchor().demo
    outcome = ceremony.rotate(
        home,
        roles,
        holder,
        datetime.now(UTC),
        public=read_public_key(public) if public else None,
        passphrase=asking(),
        new_passphrase=lambda: None if no_passphrase or demo else new_passphrase(holder),
    )
    _say_root(home, _ended(home, outcome))
    out.print(f"what only the old key of {holder} had signed counts no longer: docs/operating.md says what to redo")


def revoke(holder: Holder, yes: Sure = False) -> None:
    """One holder less, by a new root; the key never counts again."""
    from twinseal.trust.root import ceremony
    from twinseal.trust.root.roles import Roles

    home, roles = Home.find(), Roles.load(ROLES)
    agree(yes, f"Take every role from {holder}, for good?")
    outcome = ceremony.revoke(home, roles, holder, datetime.now(UTC), passphrase=asking())
    _say_root(home, _ended(home, outcome))
    out.print(f"now take {holder} out of policy/roles.yaml too: the next renewal reads it")


def _show_proposed(pins: Any, before: Any) -> None:
    """Who would do what, and every key that the root before did not have: that is what a custodian signs."""
    from twinseal.trust.keys.key import fingerprint

    known = {fingerprint(h.key) for role in before.roles.values() for h in role.holders} if before else set()
    for name, role in pins.roles.items():
        out.print(f"  {name}: {role.threshold} of {', '.join(shown(holder.name) for holder in role.holders)}")
        for holder in role.holders:
            if fingerprint(holder.key) not in known:
                out.print(f"    [yellow]new[/]  {shown(holder.name)}  key {fingerprint(holder.key)}")
    for value in sorted(set(pins.revoked) - set(before.revoked if before else ())):
        out.print(f"    [yellow]revoked for good[/]  key {value}")
    out.print(f"  models: {', '.join(pins.models)}")
    out.print("compare each new key with its holder, by voice")


def _ended(home: Home, outcome: Any) -> Any:
    """The new anchor; or a refusal that says what the proposal waits for."""
    if outcome.anchor is None:
        raise ThresholdError(
            "; ".join(outcome.missing),
            remedy=f"It is kept: carry {home.proposal_dir} to who is missing, there: twinseal trust sign; and back.",
        )
    return outcome.anchor


def _say_root(home: Home, anchor: Any) -> None:
    out.print(f"[green]published[/]  root {anchor.version}, until {anchor.expires:%Y-%m-%d}")
    _say_anchor(home, anchor)
    out.print("hand it to the twins that run: [cyan]twinseal register --renew[/]; install new ones from the anchor")


def _say_anchor(home: Home, anchor: Any) -> None:
    out.print(f"the anchor: {home.anchor_dir}  sha256 {anchor.fingerprint}")


def _model(home: Home, model: str) -> str:
    from twinseal.trust.release import repository
    from twinseal.trust.release.model_role import count_approvals

    role, release = repository.role_of(home, model), repository.current_release(home, model)
    if role is None or release is None:
        return "nothing registered"
    tally = count_approvals(role.to_bytes(), (), home.anchor(), model)
    lacks = "" if not tally.missing else f"[red], {tally.missing} more needed: approve it again[/]"
    return f"release {release.version}, approved by {', '.join(tally.signed) or 'nobody'}{lacks}  "


def _left(item: Any, now: datetime) -> str:
    if item is None:
        return ""
    colour = "red" if item.is_urgent(now) else "yellow" if item.expires - now < 3 * item.near else "green"
    return f"[{colour}]{item.time_left(now)}[/]"
