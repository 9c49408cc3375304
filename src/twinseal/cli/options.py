"""What commands share: the options, the places that they read, and what is asked of a person."""

from __future__ import annotations

import functools
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from twinseal.console import err
from twinseal.errors import ConfigError, KeyAccessError, RootError
from twinseal.trust.home import Home

RELEASE = Path("models/release")
BUNDLE = Path("models/bundle")
APPROVALS = Path("approvals")
ROLES = Path("policy/roles.yaml")

As = Annotated[str, typer.Option("--as", metavar="HOLDER", help="Who you are, as policy/roles.yaml names you.")]
Key = Annotated[
    str | None,
    typer.Option(metavar="URI", help="Your private key, e.g. file:/media/me/key.pem. Else that of the home."),
]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask: I have read the report.")]
AnchorDir = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="The trust anchor: the folder of root.json. Else that of the home."),
]
State = Annotated[Path, typer.Option(metavar="DIR", help="Where the twin keeps its model, and what it saw last.")]


def agree(yes: bool, question: str) -> None:
    """Ask before something is signed.

    Raises:
        ConfigError: The answer was no.
    """
    if not yes and not typer.confirm(question, err=True):
        raise ConfigError("nothing was signed", remedy="Answer y, or give --yes once you have read the report.")


def signer(uri: str | None, holder: str) -> Any:
    """The signer of a reviewer, by the key that `uri` names, else by the home's.

    Raises:
        SignatureError: The anchor knows no such reviewer.
        KeyAccessError: The key cannot be opened.
    """
    from twinseal.trust.keys.key import open_signer

    Home.find().anchor().roles["reviewer"].key_of(holder)  # says who the reviewers are, before a key is looked for
    place = uri or Home.find().key_uri(holder)
    return open_signer(place, passphrase=passphrase(place, holder), holder=holder)


def passphrase(uri: str, holder: str) -> bytes | None:
    """The passphrase of a key, asked for at the terminal if nothing else has it; None: the environment may have it."""
    from twinseal.trust.keys.key import needs_passphrase

    if not needs_passphrase(uri, holder=holder) or not sys.stdin.isatty():
        return None
    return str(typer.prompt(f"passphrase or PIN of {holder}", hide_input=True, err=True)).encode()


def asking() -> Any:
    """A `ceremony.Passphrase` that asks a person once for each key."""
    return functools.cache(passphrase)


def new_passphrase(holder: str) -> bytes:
    """The passphrase of a new key: from descriptor or environment, else asked for twice.

    Raises:
        KeyAccessError: There is none, and nobody to ask.
    """
    from twinseal.trust.keys import passphrases

    found = passphrases.find_passphrase(holder)
    if found is not None:
        return found
    if not sys.stdin.isatty():
        raise KeyAccessError(
            f"{holder}: expected a passphrase for the new key, got none",
            remedy=f"Run it at a terminal, give --passphrase-fd N, set ${passphrases.passphrase_variable(holder)}, "
            "or say --no-passphrase if the key protects nothing.",
        )
    text = f"new passphrase for {holder}"
    return str(typer.prompt(text, hide_input=True, confirmation_prompt=True, err=True)).encode()


def trusted(directory: Path | None) -> Any:
    """The trust anchor in `directory`, else that of the home.

    Raises:
        RootError: There is none.
    """
    from twinseal.trust.root.anchor import Anchor as TrustAnchor

    if directory is None and not Home.default().anchor_dir.is_dir():
        raise RootError(
            "trust anchor: expected one, got none",
            remedy="Give --anchor the folder that was carried here by hand: it holds root.json.",
        )
    return TrustAnchor.read(directory) if directory else Home.find().anchor()


def warn_of_demo(anchor: Any) -> None:
    """Say so when throw-away keys are all that stands behind a result."""
    if anchor.demo:
        err.print("[yellow]demo keys: throw-away, all on one machine; what they sign proves nothing[/]")
