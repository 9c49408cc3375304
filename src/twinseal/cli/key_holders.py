"""What everyone with a key does: make one, look at those that are here."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from twinseal.cli.options import ask_new_passphrase, ask_passphrase, examples, warn_of_demo
from twinseal.console import err, new_table, out, printable
from twinseal.errors import ConfigError, KeyAccessError, RootError
from twinseal.trust.root.home import Home

if TYPE_CHECKING:
    from twinseal.trust.keys.key import Key
    from twinseal.trust.root.anchor import Anchor

keys = typer.Typer(
    help="Keys, in files or in tokens: make one, show them, replace one, revoke one.",
    epilog=examples("twinseal keys show", "twinseal keys new alice"),
    no_args_is_help=True,
)

Holder = Annotated[str, typer.Argument(metavar="HOLDER", help="Whose key; a name in policy/roles.yaml.")]
Out = Annotated[
    Path | None, typer.Option("--out", metavar="FILE", help="Where to write it. Default: keys/HOLDER.pem in the home.")
]
Uri = Annotated[
    str | None,
    typer.Option("--uri", metavar="pkcs11:…", help="Make it in this token (RFC 7512); it cannot leave the token."),
]
Clear = Annotated[bool, typer.Option("--no-passphrase", help="Leave the file unencrypted. For demonstrations.")]
Which = Annotated[str | None, typer.Argument(metavar="[HOLDER|URI|FILE.pub]", help="One key, instead of all.")]
Pem = Annotated[bool, typer.Option("--pem", help="Print only the public key, as its .pub file has it.")]


@keys.command(
    "new",
    epilog=examples(
        "twinseal keys new alice",
        "twinseal keys new alice --out /media/me/alice.pem",
        "twinseal keys new bruno --uri 'pkcs11:token=bruno;object=twinseal?module-path=/usr/lib/libsofthsm2.so'",
    ),
)
def new(holder: Holder, out_file: Out = None, uri: Uri = None, no_passphrase: Clear = False) -> None:
    """Make a key pair. The private half is encrypted, in a file that only you can read, or inside a token."""
    from twinseal.trust.keys.key import generate_in_token, generate_key_pair

    if not holder or "/" in holder or holder.startswith("."):
        raise ConfigError(
            f"holder: expected a name as in policy/roles.yaml, got {holder[:60]!r}",
            remedy="twinseal keys new NAME   (for another folder: --out FILE.pem)",
        )
    if uri and (out_file or no_passphrase):
        raise ConfigError(
            "keys new: expected --uri, or --out and --no-passphrase, got both",
            remedy="A key in a token has no file, and no passphrase but the token's PIN: "
            f"twinseal keys new {holder} --uri URI",
        )
    home = Home.default()
    if out_file is None:
        home.make_private()
    if uri:
        public = home.keys / f"{holder}.pub"
        key = generate_in_token(uri, public, passphrase=ask_passphrase(uri, holder), holder=holder)
        where, sign_by = "in the token, and cannot leave it", uri
    else:
        path = out_file or home.keys / f"{holder}.pem"
        public = path.with_suffix(".pub")
        _refuse_existing(path, public)
        secret = None if no_passphrase else ask_new_passphrase(holder)
        key = generate_key_pair(path, passphrase=secret)
        where = f"{path} ({'encrypted' if secret else 'NOT ENCRYPTED'})"
        sign_by = f"file:{path.absolute()}"
    _print_new_key(holder, key, public, where, sign_by)


@keys.command(
    "show",
    epilog=examples("twinseal keys show", "twinseal keys show alice", "twinseal keys show alice --pem > alice.pub"),
)
def show(which: Which = None, pem: Pem = False) -> None:
    """Show the keys of this home: holder, roles, where the private half is, and what is wrong with it."""
    from twinseal.trust.keys.keyring import keyring

    home = Home.default()
    anchor = _read_anchor(home)
    if which is not None:
        _show_one(home, anchor, which, pem)
        return
    if pem:
        raise ConfigError("--pem: expected one key to write, got all", remedy="twinseal keys show HOLDER --pem")
    entries = keyring(home, anchor)
    if not entries:
        out.print(f"no keys in {printable(home.keys)}; make yours: twinseal keys new HOLDER")
        return
    table = new_table("holder", "roles", "fingerprint", "private half")
    for item in entries:
        table.add_row(
            printable(item.holder), ", ".join(item.roles) or "-", _short_fingerprint(item.key), printable(item.private)
        )
    out.print(table)
    for warning in dict.fromkeys(warning for item in entries for warning in item.warnings):
        whose = ", ".join(item.holder for item in entries if warning in item.warnings)
        err.print(f"[yellow]{printable(whose)}[/]: {printable(warning)}")
    if anchor is None:
        err.print(f"no trust anchor in {printable(home.anchor_dir)}: nobody has a role yet")
    else:
        warn_of_demo(anchor)


def _show_one(home: Home, anchor: Anchor | None, which: str, pem: bool) -> None:
    from twinseal.trust.keys.key import public_key_in_token, read_public_key
    from twinseal.trust.keys.keyring import key_entry, roles_of
    from twinseal.trust.keys.passkeys import public_file

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
        sys.stdout.write(public_file(key).decode())
        return
    _print_fingerprint(key)
    out.print(
        f"roles: {', '.join(roles_of(anchor, key)) if anchor else '-'}"
        + (f"   private half: {printable(private)}" if private else "")
    )
    if anchor is not None and not roles_of(anchor, key) and not warnings:
        warnings = ("the anchor does not know this key: what it signs counts for nothing",)
    for warning in warnings:
        err.print(f"[yellow]{printable(warning)}[/]")


def _print_new_key(holder: str, key: Key, public: Path, private: str, uri: str) -> None:
    from twinseal.trust.keys.key import environment_name

    out.print(f"[green]made[/]  the key of {printable(holder)}; private half: {printable(private)}")
    out.print(f"public half: [cyan]{printable(public)}[/]")
    _print_fingerprint(key)
    out.print("next: give the public half to a custodian, and read these lines to them on the telephone")
    if uri.startswith("file:"):
        out.print("keep a copy of the private half elsewhere, offline: a lost key must be replaced by the custodians")
    variable = f"$TWINSEAL_{environment_name(holder)}_KEY"
    out.print(f"sign with it by: {variable}='{printable(uri)}' (or --key, of approve and reject)")


def _print_fingerprint(key: Key) -> None:
    from twinseal.trust.keys.key import fingerprint, grouped_digits, kind_of

    first, second = grouped_digits(fingerprint(key)).splitlines()
    out.print(f"sha256  {first}\n        {second}")
    if kind_of(key):
        out.print(printable(kind_of(key)))


def _short_fingerprint(key: Key | None) -> str:
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


def _read_anchor(home: Home) -> Anchor | None:
    """The anchor of the home; None before the first ceremony."""
    try:
        return home.anchor()
    except RootError:
        if home.anchor_dir.is_dir():
            raise
        return None
