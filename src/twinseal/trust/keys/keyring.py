"""The keyring: the keys of a home, their holders and roles, and what is wrong with them. No key is opened.

A holder is listed when the anchor names them, or when `keys/` has a file of that stem. Roles are looked up by the key,
not by the name: a file alice.pub with another key than the anchor has for alice has no role, and gets a warning.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from twinseal.errors import KeyAccessError, TwinsealError
from twinseal.trust.keys import key_files
from twinseal.trust.keys.key import Key, fingerprint, kind_of, read_public_key
from twinseal.trust.root.anchor import Anchor
from twinseal.trust.root.home import Home

NOT_HERE = "not here"


@dataclass(frozen=True)
class KeyEntry:
    """One holder's key as this home knows it.

    Attributes:
        holder: The name of its holder.
        key: The public half that lies in `keys/`, else the anchor's; None: this home has neither.
        roles: The roles that the anchor gives this key.
        private: Where the private half is: `not here`, `in a token`, `passkey of …`, or how its file is protected.
        warnings: What is wrong with it, a sentence each.
    """

    holder: str
    key: Key | None
    roles: tuple[str, ...]
    private: str
    warnings: tuple[str, ...]


def keyring(home: Home, anchor: Anchor | None) -> tuple[KeyEntry, ...]:
    """Every key of `home`, holders of the anchor first.

    Args:
        home: Its `keys/` is listed; key files are read up to their header, and not opened.
        anchor: The keys of each role; None: there is no anchor yet, so no key has a role.
    """
    named = (
        list(dict.fromkeys(holder.name for role in anchor.roles.values() for holder in role.holders)) if anchor else []
    )
    found = (
        sorted({path.stem for path in home.keys.glob("*") if path.suffix in (".pem", ".pub")})
        if home.keys.is_dir()
        else []
    )
    return tuple(key_entry(home, anchor, holder) for holder in dict.fromkeys([*named, *found]))


def key_entry(home: Home, anchor: Anchor | None, holder: str) -> KeyEntry:
    """What `home` knows of the key of `holder`."""
    warnings: list[str] = []
    public = home.keys / f"{holder}.pub"
    pinned = _key_in_anchor(anchor, holder)
    key = pinned
    if public.exists():
        try:
            key = read_public_key(public)
        except TwinsealError as error:
            warnings.append(str(error))
    private = kind_of(key) if key is not None else ""
    private = private or _describe_private_key(home, holder, warnings)
    if key is None:
        warnings.append(f"its public half is not here: {public}")
    elif anchor is not None:
        if pinned is not None and fingerprint(pinned) != fingerprint(key):
            warnings.append(f"the anchor has another key for {holder}: {fingerprint(pinned)[:16]}…")
        elif not roles_of(anchor, key):
            warnings.append("the anchor does not know this key: what it signs counts for nothing")
    return KeyEntry(holder, key, roles_of(anchor, key) if anchor and key else (), private, tuple(warnings))


def roles_of(anchor: Anchor, key: Key) -> tuple[str, ...]:
    """The roles that the anchor gives to `key`, by its value."""
    digest = fingerprint(key)
    return tuple(name for name, role in anchor.roles.items() if digest in map(fingerprint, role.keys.values()))


def _key_in_anchor(anchor: Anchor | None, holder: str) -> Key | None:
    for role in anchor.roles.values() if anchor else ():
        for item in role.holders:
            if item.name == holder:
                return item.key
    return None


def _describe_private_key(home: Home, holder: str, warnings: list[str]) -> str:
    """Where the private half is, and how it is protected; what is wrong with it goes to `warnings`."""
    uri = home.key_uri(holder)
    scheme, _, rest = uri.partition(":")
    if scheme.lower() != "file":
        return "in a token"
    path = Path(rest)
    if not path.exists():
        return NOT_HERE
    try:
        found = key_files.protection(path, key_files.read(path))
    except KeyAccessError as error:
        warnings.append(str(error))
        return f"refused, mode {path.stat().st_mode & 0o7777:04o}"
    if found is None:
        warnings.append("its file is not encrypted: anyone who copies it can sign")
    elif not found.is_strong:
        warnings.append(f"its passphrase is cheap to guess ({found}): twinseal keys new writes scrypt")
    return f"{'encrypted' if found else 'in the clear'}, mode {path.stat().st_mode & 0o7777:04o}"
