"""What everyone with a key does: make one, look at those that are here."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from twinseal.cli.options import new_passphrase, passphrase, warn_of_demo
from twinseal.console import err, out, shown
from twinseal.errors import ConfigError, KeyAccessError, RootError
from twinseal.trust.home import Home

keys = typer.Typer(
    help="Private keys: in files or in tokens, who holds them, and what they may do.", no_args_is_help=True
)

Holder = Annotated[str, typer.Argument(metavar="HOLDER", help="Whose key, as policy/roles.yaml names them.")]
Out = Annotated[
    Path | None, typer.Option("--out", metavar="FILE", help="Where to, instead of keys/HOLDER.pem of the home.")
]
Uri = Annotated[
    str | None, typer.Option("--uri", metavar="pkcs11:…", help="Make it in a token (RFC 7512); it cannot leave it.")
]
Clear = Annotated[bool, typer.Option("--no-passphrase", help="Leave the file in the clear. For demonstrations.")]
Which = Annotated[str | None, typer.Argument(metavar="[HOLDER|URI|FILE.pub]", help="One key, instead of all.")]
Pem = Annotated[bool, typer.Option("--pem", help="Only the public key as PEM, to carry to others.")]


@keys.command("new")
def new(holder: Holder, out_file: Out = None, uri: Uri = None, no_passphrase: Clear = False) -> None:
    """Make a key pair: the private half encrypted in a file of yours alone, or inside a token."""
    from twinseal.trust.keys.key import generate_in_token, generate_key_pair

    if not holder or "/" in holder or holder.startswith("."):
        raise ConfigError(f"holder: expected a name as in policy/roles.yaml, got {holder[:60]!r}")
    if uri and (out_file or no_passphrase):
        raise ConfigError(
            "keys new: expected --uri, or --out and --no-passphrase, got both",
            remedy="A key in a token has no file, and no passphrase but the token's PIN.",
        )
    home = Home.default()
    if out_file is None:
        home.make_private()
    if uri:
        public = home.keys / f"{holder}.pub"
        key = generate_in_token(uri, public, passphrase=passphrase(uri, holder), holder=holder)
        where, sign_by = "in the token, and cannot leave it", uri
    else:
        path = out_file or home.keys / f"{holder}.pem"
        public = path.with_suffix(".pub")
        _refuse_existing(path, public)
        secret = None if no_passphrase else new_passphrase(holder)
        key = generate_key_pair(path, passphrase=secret)
        where = f"{path} ({'encrypted' if secret else 'NOT ENCRYPTED'})"
        sign_by = f"file:{path.absolute()}"
    _say_made(holder, key, public, where, sign_by)


@keys.command("show")
def show(which: Which = None, pem: Pem = False) -> None:
    """The keys that this home has: whose, in which roles, where the private half is, and what is wrong with them."""
    from twinseal.trust.keys.keyring import keyring

    home = Home.default()
    anchor = _anchor(home)
    if which is not None:
        _show_one(home, anchor, which, pem)
        return
    if pem:
        raise ConfigError("--pem: expected one key to write, got all", remedy="twinseal keys show HOLDER --pem")
    entries = keyring(home, anchor)
    if not entries:
        out.print(f"no keys in {shown(home.keys)}; make yours: twinseal keys new HOLDER")
        return
    table = Table(box=None, pad_edge=False)
    for column in ("holder", "roles", "fingerprint", "private half"):
        table.add_column(column)
    for item in entries:
        table.add_row(shown(item.holder), ", ".join(item.roles) or "-", _short(item.key), shown(item.private))
    out.print(table)
    for warning in dict.fromkeys(warning for item in entries for warning in item.warnings):
        whose = ", ".join(item.holder for item in entries if warning in item.warnings)
        err.print(f"[yellow]{shown(whose)}[/]: {shown(warning)}")
    if anchor is None:
        err.print(f"no trust anchor at {shown(home.anchor_dir)}: nobody has a role yet")
    else:
        warn_of_demo(anchor)


def _show_one(home: Home, anchor: Any, which: str, pem: bool) -> None:
    from twinseal.trust.keys.key import public_key_in_token, read_public_key
    from twinseal.trust.keys.keyring import key_entry, roles_of

    warnings: tuple[str, ...] = ()
    private = ""
    if which.lower().startswith("pkcs11:"):
        key, private = public_key_in_token(which), "in a token"
    elif which.endswith(".pub") or which.startswith("file:"):
        key = read_public_key(Path(which.removeprefix("file:")).with_suffix(".pub"))
    else:
        found = key_entry(home, anchor, which)
        key, private, warnings = found.key, found.private, found.warnings
    if key is None:
        raise KeyAccessError(
            f"{which[:60]}: expected a key of that name in {home.keys}, got none",
            remedy="twinseal keys show   (all of them)",
        )
    if pem:
        sys.stdout.write(key.keyval["public"])
        return
    _say_fingerprint(key)
    out.print(
        f"roles: {', '.join(roles_of(anchor, key)) if anchor else '-'}"
        + (f"   private half: {shown(private)}" if private else "")
    )
    if anchor is not None and not roles_of(anchor, key) and not warnings:
        warnings = ("the anchor does not know this key: what it signs counts for nothing",)
    for warning in warnings:
        err.print(f"[yellow]{shown(warning)}[/]")


def _say_made(holder: str, key: Any, public: Path, private: str, uri: str) -> None:
    from twinseal.trust.keys.key import environment_name

    out.print(f"[green]made[/]  the key of {shown(holder)}; private half: {shown(private)}")
    out.print(f"public half: [cyan]{shown(public)}[/]")
    _say_fingerprint(key)
    out.print("next: give the public half to a custodian, and read these lines to them on the telephone")
    if uri.startswith("file:"):
        out.print("keep a copy of the private half elsewhere, offline: a lost key must be replaced by the custodians")
    out.print(
        f"sign with it by: $TWINSEAL_{environment_name(holder)}_KEY='{shown(uri)}' (or --key, of approve and reject)"
    )


def _say_fingerprint(key: Any) -> None:
    from twinseal.trust.keys.key import fingerprint, grouped_digits

    first, second = grouped_digits(fingerprint(key)).splitlines()
    out.print(f"sha256  {first}\n        {second}")


def _short(key: Any) -> str:
    from twinseal.trust.keys.key import fingerprint, grouped_digits

    return f"{grouped_digits(fingerprint(key))[:19]} …" if key is not None else "?"


def _refuse_existing(*paths: Path) -> None:
    """Before a passphrase is asked for."""
    for path in paths:
        if path.exists() or path.is_symlink():
            raise KeyAccessError(
                f"{path}: expected no key there yet, found one",
                remedy="Keys are never overwritten: move the old one away.",
            )


def _anchor(home: Home) -> Any:
    try:
        return home.anchor()
    except RootError:
        if home.anchor_dir.is_dir():
            raise
        return None
