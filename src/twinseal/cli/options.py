"""What commands share: the options, the places that they read, the examples in their help, questions to a person."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer
from rich.markup import escape

from twinseal.console import err, one_line, printable
from twinseal.errors import ConfigError, KeyAccessError, RootError, TrustError
from twinseal.trust.root.home import Home

if TYPE_CHECKING:
    from twinseal.trust.keys.key import KeySigner
    from twinseal.trust.keys.passphrases import Passphrase
    from twinseal.trust.root.anchor import Anchor

T = TypeVar("T")

RELEASE = Path("models/release")
BUNDLE = Path("models/bundle")
APPROVALS = Path("approvals")
ROLES = Path("policy/roles.yaml")

As = Annotated[str, typer.Option("--as", metavar="HOLDER", help="Your name in policy/roles.yaml.")]
KeyUri = Annotated[
    str | None,
    typer.Option(
        "--key", metavar="URI", help="Your private key, e.g. file:/media/me/key.pem. Default: the key in the home."
    ),
]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask: I have read the report.")]
AnchorDir = Annotated[
    Path | None,
    typer.Option("--anchor", metavar="DIR", help="The folder with root.json. Default: the anchor of the home."),
]
StateDir = Annotated[
    Path, typer.Option("--state", metavar="DIR", help="Where the twin keeps its model and what it saw last.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object, also for a refusal.")]


def examples(*lines: str) -> str:
    """The end of a help text: one example a line, each a command that can be typed."""
    return "\n".join(("[bold]Examples[/]", *map(escape, lines)))


def confirm(yes: bool, question: str, *, not_done: str = "nothing was signed", remedy: str = "") -> None:
    """Ask before something is signed, or before another decision that a person must make.

    Raises:
        ConfigError: The answer was no; or there was none.
    """
    if not yes and not _answer_to(lambda: typer.confirm(one_line(question), err=True), not_done, remedy):
        raise ConfigError(not_done, remedy=remedy or "Answer y, or give --yes once you have read the report.")


def open_holder_key(uri: str | None, holder: str) -> KeySigner:
    """The signer of a person, by the key that `uri` names; by the key of the home if it is None.

    Raises:
        KeyAccessError: The key cannot be opened.
    """
    from twinseal.trust.keys.key import open_signer

    place = uri or Home.find().key_uri(holder)
    return open_signer(place, passphrase=ask_passphrase(place, holder), holder=holder)


def ask_passphrase(uri: str, holder: str) -> bytes | None:
    """The passphrase of a key, asked for at the terminal if nothing else has it; None: the environment may have it."""
    from twinseal.trust.keys.key import needs_passphrase

    if not needs_passphrase(uri, holder=holder) or not sys.stdin.isatty():
        return None
    text = f"passphrase or PIN of {holder}"
    return _answer_to(lambda: str(typer.prompt(text, hide_input=True, err=True))).encode()


def passphrase_prompt() -> Passphrase:
    """A `Passphrase` that asks a person once for each key."""
    return functools.cache(ask_passphrase)


def ask_new_passphrase(holder: str) -> bytes:
    """The passphrase of a new key: from descriptor or environment; else asked for twice.

    Raises:
        KeyAccessError: There is none, and nobody to ask.
    """
    missing = f"{holder}: expected a passphrase for the new key, got none"
    return _ask_new(holder, f"passphrase for {holder}", missing, "or say --no-passphrase if the key protects nothing")


def ask_new_password(account: str) -> str:
    """The password of an account, as `ask_new_passphrase`.

    Raises:
        KeyAccessError: There is none, and nobody to ask.
    """
    missing = f"account {account}: expected a password, got none"
    return _ask_new(f"account-{account}", f"password for the account {account}", missing).decode()


def _ask_new(holder: str, what: str, missing: str, otherwise: str = "") -> bytes:
    from twinseal.trust.keys import passphrases

    found = passphrases.find_passphrase(holder)
    if found is not None:
        return found
    if not sys.stdin.isatty():
        ways = ["Run it at a terminal", "give --passphrase-fd N", f"set ${passphrases.passphrase_variable(holder)}"]
        raise KeyAccessError(missing, remedy=", ".join([*ways, *([otherwise] if otherwise else [])]) + ".")
    text = f"new {what}"
    return _answer_to(lambda: str(typer.prompt(text, hide_input=True, confirmation_prompt=True, err=True))).encode()


def _answer_to(ask: Callable[[], T], not_done: str = "nothing was signed", remedy: str = "") -> T:
    """What a person answers.

    Raises:
        KeyboardInterrupt: Ctrl-C.
        ConfigError: The input ended before an answer.
    """
    try:
        return ask()
    except typer.Abort as error:  # of both
        if isinstance(error.__context__, KeyboardInterrupt):
            raise KeyboardInterrupt from error
        raise ConfigError(
            f"question: expected an answer, got the end of the input: {not_done}",
            remedy=remedy or "Answer at a terminal; or give --yes once you have read what is to be signed.",
        ) from error


def read_anchor(directory: Path | None) -> Anchor:
    """The trust anchor in `directory`; of the home if it is None.

    Raises:
        RootError: There is none.
    """
    from twinseal.trust.root.anchor import Anchor

    if directory is None and not Home.default().anchor_dir.is_dir():
        raise RootError(
            "trust anchor: expected one, got none",
            remedy="Give --anchor DIR, the folder with root.json that was carried here by hand. To try it out, where "
            "models are made: twinseal init --demo",
        )
    return Anchor.read(directory) if directory else Home.find().anchor()


def check_anchor_place(directory: Path) -> None:
    """Refuse to judge what is in a checkout by an anchor that is in it too: one branch can bring both.

    Raises:
        RootError: The folder lies in the checkout.
    """
    from twinseal.trust.root.checkout import Checkout, lies_within

    top = Checkout.here().top
    if (top / ".git").exists() and lies_within(directory, top):
        raise RootError(
            f"--anchor: expected a folder outside of {top}, got {directory}",
            remedy="Git can replace what lies in a checkout. Name the anchor that was carried here by hand; without "
            "--anchor, it is that of the home.",
        )


def check_program(anchor: Anchor) -> None:
    """Refuse to review with the code that is under review: with a program that the checkout can replace.

    A program that was replaced would not say so. What this finds is the honest mistake: an editable install, a virtual
    environment inside the checkout, or a PYTHONPATH into it. With demo keys it is a notice.

    Raises:
        TrustError: Python would run code of the checkout, and the keys are real.
    """
    import twinseal
    from twinseal.trust.root.checkout import Checkout, lies_within

    top = Checkout.here().top
    if not (top / ".git").exists():
        return
    places = [Path(twinseal.__file__), *map(Path, sys.path)]  # "" is the working directory
    inside = [place for place in places if lies_within(place, top)]
    if not inside:
        return
    message = f"twinseal: expected an installed program, outside of {top}, got one that uses {inside[0].absolute()}"
    if not anchor.demo:
        raise TrustError(
            message,
            remedy="You would review with the code under review. Install the version that you trust elsewhere: "
            f"python3 -m venv ~/twinseal && ~/twinseal/bin/pip install 'twinseal[twin]=={twinseal.__version__}' && "
            "~/twinseal/bin/twinseal review show",
        )
    err.print(
        f"[yellow]this program is part of the checkout[/]: {printable(inside[0])}. A reviewer uses an installed one"
    )


def warn_of_demo(anchor: Anchor) -> None:
    """Print a warning when only throw-away keys stand behind a result."""
    if anchor.demo:
        err.print("[yellow]demo keys: throw-away, all on one machine; what they sign proves nothing[/]")
