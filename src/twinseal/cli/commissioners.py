"""What the commands of commissioners share: signing a record of a kind, and names of machines."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from twinseal.cli.options import ask_passphrase, confirm, read_anchor, warn_of_demo
from twinseal.console import err, out, printable
from twinseal.errors import ConfigError
from twinseal.trust.root.home import Home

if TYPE_CHECKING:
    from twinseal.twin.signed_records import RecordKind, SignedRecord

R = TypeVar("R", bound="SignedRecord")
MAX_NAMED = 10


@dataclass(frozen=True)
class Desk:
    """Where and as whom a commissioner signs.

    Attributes:
        holder: The commissioner's name.
        model: Which model the twin runs.
        anchor: The folder of the anchor; None: that of the home.
        state: The twin's own folder.
        key_uri: The commissioner's key; None: that of the home.
        yes: Sign without a question.
    """

    holder: str
    model: str
    anchor: Path | None
    state: Path
    key_uri: str | None
    yes: bool


def sign_record(
    kind: RecordKind[R],
    change: Callable[[R], R],
    question: str,
    desk: Desk,
    counts: str,
    *,
    anew: bool = False,
    renewing: bool = False,
) -> None:
    """Ask, sign the record as `change` makes it, and say what is missing until it counts.

    Args:
        kind: Which kind of record.
        change: As `record_enroller.enroll`.
        question: What it means to sign.
        desk: Where, and as whom.
        counts: What to say once it counts.
        anew: As `record_enroller.enroll`.
        renewing: Likewise.
    """
    from twinseal.trust.keys.key import NamedSigner, open_signer
    from twinseal.twin.commissioners import ROLE, newest_root
    from twinseal.twin.record_enroller import enroll
    from twinseal.twin.state import State as TwinState

    holder, pinned = desk.holder, read_anchor(desk.anchor)
    role = newest_root(TwinState(desk.state), pinned).roles[ROLE]
    role.key_of(holder)  # names the commissioners before a key is looked for
    confirm(desk.yes, question)
    place = desk.key_uri or Home.default().key_uri(holder)
    signer = NamedSigner(holder, open_signer(place, passphrase=ask_passphrase(place, holder), holder=holder))
    now = datetime.now(UTC)
    done = enroll(kind, desk.state, pinned, desk.model, change, signer, now=now, anew=anew, renewing=renewing)
    out.print(f"[green]signed[/]  {kind.name} of {printable(desk.model)}, version {done.record.version}")
    if done.missing:
        names = ", ".join(item.name for item in role.holders)
        err.print(f"[yellow]{done.missing} more of {names} must sign it[/]: the same command, as them")
    else:
        out.print(counts)
    warn_of_demo(pinned)


def unit_names(units: Iterable[str]) -> tuple[str, ...]:
    """Names of machines as telemetry's names are read, sorted, each once.

    Raises:
        ConfigError: One is none.
    """
    from twinseal.telemetry.unit_names import unit_name

    names = set()
    for unit in units:
        if not unit_name(unit):
            raise ConfigError(f"--unit: expected the name of a machine, got {unit!a:.80}")
        names.add(unit_name(unit))
    return tuple(sorted(names))


def some_of(names: tuple[str, ...]) -> str:
    """The first names, for people, and how many more there are."""
    more = f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
    return ", ".join(printable(name) for name in names[:MAX_NAMED]) + more
