"""What custodians do: the first ceremony, a renewal, a rotation, a revocation. See docs/operating.md."""

from __future__ import annotations

import os
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.tree import Tree

from twinseal.cli.options import (
    APPROVALS,
    ROLES,
    ask_new_passphrase,
    confirm,
    examples,
    passphrase_prompt,
    warn_of_demo,
)
from twinseal.console import err, out, printable
from twinseal.errors import ConfigError, KeyAccessError
from twinseal.trust.root.home import Home

if TYPE_CHECKING:
    from twinseal.trust.ceremonies.ceremony import Outcome
    from twinseal.trust.expiry import Expiry
    from twinseal.trust.root.anchor import Anchor

trust = typer.Typer(
    help="Which key has which role, until when; and how that changes.",
    epilog=examples("twinseal trust show", "twinseal trust sign"),
    no_args_is_help=True,
)

INIT_EXAMPLES = examples("twinseal init --demo", "TWINSEAL_HOME=/srv/twinseal/home twinseal init")
ROTATE_EXAMPLES = examples("twinseal keys rotate alice", "twinseal keys rotate alice --public alice.pub")
REVOKE_EXAMPLES = examples("twinseal keys revoke chiara")

Holder = Annotated[str, typer.Argument(metavar="HOLDER", help="Whose key; a name in policy/roles.yaml.")]
Sure = Annotated[bool, typer.Option("--yes", help="Do not ask.")]
NewLog = Annotated[
    bool, typer.Option("--new-log", help="Set aside an audit log that was changed or lost, and begin another.")
]
USE_EXAMPLES = examples("twinseal use pumps")


def init(
    demo: Annotated[
        bool, typer.Option("--demo", help="Throw-away keys for everyone, all on this machine: to try it out.")
    ] = False,
) -> None:
    """Make the first root of trust: the anchor that every twin is installed with."""
    from twinseal.trust.ceremonies import ceremony
    from twinseal.trust.policy_approval import approve_with_all
    from twinseal.trust.root.roles import Roles

    _require_private_site_cache()
    home, roles, now = _home_to_make(demo), Roles.load(ROLES), datetime.now(UTC)
    home.make_private()
    if demo:
        anchor = ceremony.init_demo(home, roles, now)
        approve_with_all(home, ROLES.parent, APPROVALS / "policy", now)
        out.print("[bold yellow]DEMO KEYS[/]: unencrypted, all on one machine. They protect nothing; never use them.")
    else:
        outcome = ceremony.init(home, roles, now, passphrase=passphrase_prompt())
        if outcome.anchor is None:
            _print_waiting(home, outcome)
            return
        anchor = outcome.anchor
    out.print(f"roles: {', '.join(f'{name} {len(r.holders)}' for name, r in roles.roles)}")
    _record_anchor(home, anchor)
    out.print("carry it to each twin by hand, and compare the digest there: nothing else is trusted beforehand")


def use(name: Annotated[str, typer.Argument(metavar="NAME", help="As policy/deployment has it.")]) -> None:
    """Confirm, once, that this checkout works with the keys of the deployment NAME. Asked for again if it changes."""
    from twinseal.trust.root.checkout import Checkout

    checkout = Checkout.here()
    checkout.refuse_planted()
    checkout.confirm(name)
    out.print(f"[green]confirmed[/]  {printable(checkout.path)} works with the deployment {name}")
    out.print(f"its keys and anchor: {printable(Home.of(checkout).path)}")


@trust.command("show", epilog=examples("twinseal trust show"))
def trust_show() -> None:
    """Show each role: its holders, their keys, how many must sign, until when. What ends soon is red."""
    from twinseal.trust.ceremonies import overview
    from twinseal.trust.keys.key import fingerprint, kind_of

    home, now = Home.find(), datetime.now(UTC)
    anchor = home.anchor()
    expiries = {item.what: item for item in overview.expiries(home)}
    tree = Tree(f"[bold]root {anchor.version}[/]  sha256 {anchor.fingerprint}")
    for name, role in anchor.roles.items():
        time_left = _time_left(expiries.get(name), now)
        branch = tree.add(f"[bold]{name}[/]  {role.threshold} of {len(role.holders)}  {time_left}")
        for holder in role.holders:
            kind = f"  {printable(kind_of(holder.key))}" if kind_of(holder.key) else ""
            branch.add(f"{printable(holder.name)}  key {fingerprint(holder.key)[:16]}{kind}")
        for line in role.quorum.lines():
            branch.add(printable(line))
    models = tree.add("[bold]models[/]")
    for model in anchor.models:
        models.add(f"{model}  {_model_state(home, model)}{_time_left(expiries.get(model), now)}")
    if anchor.pins.revoked:
        revoked = tree.add("[bold]revoked[/]  keys that never count again")
        for value in anchor.pins.revoked:
            revoked.add(f"key {value[:16]}")
    out.print(tree)
    for item in expiries.values():
        if item.is_urgent(now):
            err.print(f"[red]{printable(item.what)}: {item.time_left(now)}[/]; {item.remedy}")
    if home.proposal_dir.exists():
        err.print("[yellow]a new root is proposed and waits for signatures: twinseal trust sign[/]")
    warn_of_demo(anchor)


@trust.command("renew", epilog=examples("twinseal trust renew", "twinseal trust renew --new-log"))
def trust_renew(yes: Sure = False, new_log: NewLog = False) -> None:
    """Make the next root, with the roles as policy/roles.yaml has them now. Keys stay."""
    from twinseal.trust.ceremonies import ceremony
    from twinseal.trust.root.roles import Roles

    home, roles = Home.find(), Roles.load(ROLES)
    confirm(yes, "Sign a new root of trust, with the roles of policy/roles.yaml?")
    outcome = ceremony.renew(home, roles, datetime.now(UTC), passphrase=passphrase_prompt(), new_log=new_log)
    print_outcome(home, outcome, new_log=new_log)


@trust.command(
    "sign",
    epilog=examples(
        "twinseal trust sign", "TWINSEAL_CUSTODIAN_2_KEY=file:/media/me/custodian-2.pem twinseal trust sign"
    ),
)
def trust_sign(yes: Sure = False, new_log: NewLog = False) -> None:
    """Sign the proposed root with the custodians' keys on this machine; publish it once enough have signed."""
    from twinseal.trust.ceremonies import ceremony
    from twinseal.trust.ceremonies.custody import Proposal
    from twinseal.trust.ceremonies.inspection import inspect
    from twinseal.trust.root.roles import Roles

    home, roles, now = Home.default(), Roles.load(ROLES), datetime.now(UTC)
    if not home.proposal_dir.exists():
        Home.find()  # says how a home begins, where there is none
    inspected = inspect(home, Proposal.read(home.proposal_dir), roles, now)
    _print_proposal(inspected.lines(now))
    confirm(yes, "Sign this root, with these roles and keys?")
    outcome = ceremony.finish(
        home,
        roles,
        datetime.now(UTC),
        passphrase=passphrase_prompt(),
        new_log=new_log,
        shown=inspected.proposal,
    )
    if outcome.anchor is None and not outcome.signed:
        raise KeyAccessError(
            f"{home.proposal_dir}: expected the key of a custodian on this machine, got none: nothing was signed",
            remedy="; ".join(outcome.missing),
        )
    print_outcome(home, outcome, new_log=new_log)


def rotate(
    holder: Holder,
    public: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The new public key of a holder elsewhere. Default: a pair is made here."),
    ] = None,
    no_passphrase: Annotated[bool, typer.Option("--no-passphrase", help="Leave a new key unencrypted.")] = False,
    yes: Sure = False,
    new_log: NewLog = False,
) -> None:
    """Replace the key of HOLDER, by a new root; the old key never counts again. After a theft: at once."""
    from twinseal.trust.ceremonies import ceremony
    from twinseal.trust.keys.key import read_public_key
    from twinseal.trust.root.roles import Roles

    home, roles = Home.find(), Roles.load(ROLES)
    ceremony.key_of_holder(home.anchor(), holder)
    warn_of_lost_approvals(home, holder)
    confirm(yes, f"Replace the key of {holder}, for good?")
    demo = home.anchor().demo
    outcome = ceremony.rotate(
        home,
        roles,
        holder,
        datetime.now(UTC),
        public=read_public_key(public) if public else None,
        passphrase=passphrase_prompt(),
        new_passphrase=lambda: None if no_passphrase or demo else ask_new_passphrase(holder),
        new_log=new_log,
    )
    if print_outcome(home, outcome, new_log=new_log):
        out.print(f"what only the old key of {holder} had signed no longer counts: docs/operating.md says what to redo")


def revoke(holder: Holder, yes: Sure = False, new_log: NewLog = False) -> None:
    """Take every role from HOLDER, by a new root; the key never counts again."""
    from twinseal.trust.ceremonies import ceremony
    from twinseal.trust.root.roles import Roles

    home, roles = Home.find(), Roles.load(ROLES)
    ceremony.key_of_holder(home.anchor(), holder)
    warn_of_lost_approvals(home, holder)
    confirm(yes, f"Take every role from {holder}, for good?")
    outcome = ceremony.revoke(home, roles, holder, datetime.now(UTC), passphrase=passphrase_prompt(), new_log=new_log)
    if print_outcome(home, outcome, new_log=new_log):
        out.print(f"now take {holder} out of policy/roles.yaml too: the next renewal reads it")


def warn_of_lost_approvals(home: Home, holder: str) -> None:
    """Say which current releases have too few approvals once the key of `holder` no longer counts."""
    from twinseal.trust.release import repository

    for model in home.anchor().models if home.repository.is_dir() else ():
        count = repository.approvals_of(home, model)
        if count is not None and holder in count.signed and len(count.signed) <= count.threshold:
            err.print(
                f"[yellow]the current release of {printable(model)} then lacks an approval[/]: new twins refuse it, "
                "until it is submitted and approved anew"
            )


def _home_to_make(demo: bool) -> Home:
    """The home that a first ceremony makes; whoever runs it confirms the deployment by that.

    Raises:
        ConfigError: Throw-away keys under the name of a real deployment, or real ones under the demo's.
        RootError: As `Home.default`.
    """
    from twinseal.trust.root.checkout import DEMO, POINTER, Checkout

    checkout = Checkout.here()
    name = checkout.deployment()
    if os.environ.get("TWINSEAL_HOME"):
        return Home.default()
    if demo != (name == DEMO):
        raise ConfigError(
            f"{POINTER}: expected {f'the name {DEMO}' if demo else 'the name of your deployment'}, got {name}",
            remedy=f"echo {DEMO if demo else 'pumps'} > {POINTER}   Then run it again.",
        )
    if checkout.confirmed() is None:
        checkout.confirm(name)
    return Home.default()


def _require_private_site_cache() -> None:
    """Make DVC's site cache, for its owner alone, before DVC does; say what was thrown away.

    Raises:
        ConfigError: It cannot be made so.
    """
    from twinseal.trust.root.private_folders import private_site_cache

    place, said = private_site_cache()
    if said and not place.is_dir():
        raise ConfigError(said, remedy="Name a folder of yours, or none yet, in $DVC_SITE_CACHE_DIR; or mend that one.")
    if said:
        err.print(f"[yellow]{printable(said)}[/]")


def _print_proposal(lines: Iterable[str]) -> None:
    """Each field of the proposal in words: that is what a custodian signs."""
    for line in lines:
        text = line[: len(line) - len(line.lstrip())] + printable(line)
        mark = line.startswith("  ") or "(was " in line
        out.print(f"  [yellow]{text}[/]" if mark else f"  {text}")
    out.print("compare each new key with its holder, by voice")


def print_outcome(home: Home, outcome: Outcome, *, new_log: bool) -> bool:
    """Print what a ceremony led to; whether the new root is published."""
    if outcome.anchor is None:
        _print_waiting(home, outcome)
        return False
    if new_log:
        _print_new_log(home)
    out.print(f"[green]published[/]  root {outcome.anchor.version}, until {outcome.anchor.expires:%Y-%m-%d}")
    _record_anchor(home, outcome.anchor)
    out.print("send it to the running twins: [cyan]twinseal register --renew[/]; install new twins from the anchor")
    return True


def _print_new_log(home: Home) -> None:
    """Print what was set aside, up to where it was sound, and the key of the log that follows it."""
    from twinseal.trust.audit import log_of

    log = log_of(home.path)
    replaced = next(entry for _, entry in reversed(log.read()) if entry.event == "replaced").details
    err.print(f"[bold red]the audit log was replaced[/]: {printable(replaced['reason'])}")
    err.print(f"kept as evidence: {printable(replaced['kept'])}, sound up to {replaced['sound_entries']} entries")
    err.print(f"its key: {printable(replaced.get('key', 'not to be read'))}")
    err.print(f"the new log's key, to keep on another machine: {printable(log.head().vkey)}")


def _print_waiting(home: Home, outcome: Outcome) -> None:
    """Print whose signatures the proposal has, and whose it waits for."""
    if outcome.signed:
        out.print(f"[green]signed[/]  by {', '.join(outcome.signed)}; the proposal waits for")
    else:
        out.print("[yellow]proposed[/]  no custodian's key is on this machine; the proposal waits for")
    for line in outcome.missing:
        out.print(f"  {printable(line)}")
    out.print(f"next: carry {printable(home.proposal_dir)} to them, there [cyan]twinseal trust sign[/], and back")


def _record_anchor(home: Home, anchor: Anchor) -> None:
    """Write policy/signers.json, on which DVC's stages depend; print where the anchor is, and its digest."""
    from twinseal.trust.root.signers import SIGNERS, write_signers

    write_signers(SIGNERS, anchor)
    out.print(f"the anchor: {home.anchor_dir}  sha256 {anchor.fingerprint}")


def _model_state(home: Home, model: str) -> str:
    """Its current release, and whether its approvals still count."""
    from twinseal.trust.release import repository

    tally, release = repository.approvals_of(home, model), repository.current_release(home, model)
    if tally is None or release is None:
        return "nothing registered"
    lacks = "" if not tally.missing else f"[red], {tally.missing} more needed: approve it again[/]"
    lacks += "".join(f"[red], {printable(item)}[/]" for item in tally.wanting)
    return f"release {release.version}, approved by {', '.join(tally.signed) or 'nobody'}{lacks}  "


def _time_left(item: Expiry | None, now: datetime) -> str:
    if item is None:
        return ""
    colour = "red" if item.is_urgent(now) else "yellow" if item.expires - now < 3 * item.near else "green"
    return f"[{colour}]{item.time_left(now)}[/]"
