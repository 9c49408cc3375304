"""What policy owners do: look at what changed in policy/, and sign it."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.markup import escape

from twinseal.cli.options import APPROVALS, As, AsJson, KeyUri, Yes, confirm, examples, open_holder_key, warn_of_demo
from twinseal.console import out, print_json, printable, refusals_as_json
from twinseal.trust.root.home import Home

if TYPE_CHECKING:
    from twinseal.policy_changes import Change
    from twinseal.trust.policy_approval import PolicyState

POLICY, PLACE = Path("policy"), APPROVALS / "policy"

policy = typer.Typer(
    help="The policy by which candidates are judged: what changed, and its owners' approval.",
    epilog=examples("twinseal policy show", "twinseal policy approve --as gerda"),
    no_args_is_help=True,
)


@policy.command("show", epilog=examples("twinseal policy show", "twinseal policy show --json"))
def policy_show(as_json: AsJson = False) -> None:
    """Show what changed in policy/ since its owners approved it, and who must sign."""
    from twinseal.policy_entries import marks
    from twinseal.trust.policy_approval import policy_state

    with refusals_as_json(as_json):
        anchor = Home.find().anchor()
        state = policy_state(POLICY, PLACE, anchor)
        changes = _changes(state)
    if as_json:
        print_json(
            {
                "approved": state.is_approved,
                "approval": state.approved.number if state.approved else None,
                "policy_sha256": state.policy.digest.sha256,
                "changes": [str(change) for change in changes],
                "only_proposed": [str(mark) for mark in marks(state.policy.content) if mark.proposed],
                "approved_by": list(state.signed),
                "missing": state.missing,
                "can_still_sign": list(state.can_sign),
            }
        )
        return
    _print_state(state, changes)
    warn_of_demo(anchor)


@policy.command(
    "approve",
    epilog=examples(
        "twinseal policy approve --as gerda", "twinseal policy approve --as gerda --key file:/media/me/g.pem"
    ),
)
def policy_approve(holder: As, key: KeyUri = None, yes: Yes = False) -> None:
    """Sign the policy as it is now. No model is signed by a policy that its owners have not approved."""
    from twinseal.trust.audit import log_of
    from twinseal.trust.keys.key import NamedSigner
    from twinseal.trust.policy_approval import approve_policy, policy_state
    from twinseal.trust.release.changes import last_approval_number

    home = Home.find()
    anchor = home.anchor()
    anchor.roles["owner"].key_of(holder)  # names the owners before a key is looked for
    before = policy_state(POLICY, PLACE, anchor)
    _print_state(before, _changes(before))
    if holder in before.signed:
        out.print(f"[yellow]already approved[/] by {printable(holder)}; nothing changed")
        return
    confirm(yes, f"Sign this policy ({before.policy.digest.sha256[:12]}…) as {holder}?")
    owner = NamedSigner(holder, open_holder_key(key, holder))
    number = last_approval_number(home, anchor)
    now, audit = datetime.now(UTC), log_of(home.path)
    after = approve_policy(
        POLICY, PLACE, owner, anchor=anchor, audit=audit, now=now, at_least=number, shown=before.policy
    )
    out.print(f"[green]approved[/] by {printable(holder)}")
    _print_missing(after)


def _changes(state: PolicyState) -> tuple[Change, ...]:
    from twinseal.policy_changes import policy_changes

    return policy_changes(state.approved.content, state.policy.content) if state.approved else ()


def _print_state(state: PolicyState, changes: tuple[Change, ...]) -> None:
    from twinseal.policy_entries import marks

    out.print(f"policy sha256 {state.policy.digest.sha256}: {', '.join(state.policy.content)}")
    if state.approved is None:
        out.print("its owners have approved no policy yet")
    elif not state.is_approved:
        out.print(f"changed since approval {state.approved.number} of {state.approved.time}:")
        for change in changes:
            colour = "red" if change.loosens else "green"
            out.print(f"  [{colour}]{printable(change)}[/]")
        if not changes:
            out.print("  comments and layout only")
    for mark in marks(state.policy.content):
        if mark.proposed:
            out.print(f"[yellow]does not count[/]: {printable(mark)}; to accept it: [cyan]{escape(mark.command)}[/]")
    _print_missing(state)


def _print_missing(state: PolicyState) -> None:
    signed = ", ".join(state.signed) or "nobody"
    if state.is_approved and state.approved is not None:
        out.print(f"[green]approved[/]: number {state.approved.number}, by {printable(signed)}")
        return
    out.print(
        f"approved by {printable(signed)}; {state.missing} more of {printable(', '.join(state.can_sign))} must sign"
    )
    out.print("to sign: [cyan]twinseal policy approve --as NAME[/]")
