"""The first ceremony: from a policy to keys, a repository and an anchor.

On a demo machine all keys are made here, in the clear, and everything says so. On a real one each holder makes a key
of their own and brings its public half (`keys/<holder>.pub`); only the custodians and the registrar need to be able to
sign.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

import structlog

from twinseal.errors import KeyAccessError
from twinseal.trust.anchor import Anchor
from twinseal.trust.home import Home
from twinseal.trust.keys import Key, KeySigner, generate, read_public_key
from twinseal.trust.repository import create
from twinseal.trust.roles import Roles

log = structlog.get_logger(__name__)


def init_demo(home: Home, roles: Roles, now: datetime) -> Anchor:
    """Everything with throw-away keys: for a story on one machine, never for a machine that matters.

    Keys that an interrupted run left are used again.

    Raises:
        RootError: There is an anchor already.
        KeyAccessError: A key cannot be written or read.
    """
    for holder in roles.holders:
        if not home.holds(holder):
            generate(home.keys / f"{holder}.pem", passphrase=None)
    signers = {holder: home.signer(holder) for holder in roles.holders}
    keys = {holder: signer.public_key for holder, signer in signers.items()}
    log.warning("anchor.demo", home=str(home.path), why="keys are unencrypted and all on one machine")
    return create(home, roles, keys, signers, now, demo=True)


def init(home: Home, roles: Roles, now: datetime, *, passphrase: Callable[[str], bytes | None]) -> Anchor:
    """A repository and an anchor from keys that are there already.

    Args:
        home: Holds `keys/<holder>.pub` of every holder, or names a private key that this machine can open.
        roles: Who holds what.
        now: Aware, UTC.
        passphrase: Asked for each holder whose private key is opened: custodians and registrar. None: look into the
            environment.

    Raises:
        KeyAccessError: A key is missing or cannot be opened.
        ThresholdError: Fewer custodians are here than it takes.
        RootError: There is an anchor already.
    """
    signing = dict.fromkeys(holder for name in ("root", "targets", "registrar") for holder in roles[name].holders)
    here = [holder for holder in signing if home.holds(holder)]
    signers = {holder: home.signer(holder, passphrase=passphrase(holder)) for holder in here}
    keys = {holder: _public(home, holder, signers) for holder in roles.holders}
    return create(home, roles, keys, signers, now, demo=False)


def _public(home: Home, holder: str, signers: dict[str, KeySigner]) -> Key:
    if holder in signers:
        return signers[holder].public_key
    path = home.keys / f"{holder}.pub"
    try:
        return read_public_key(path)
    except KeyAccessError as error:
        remedy = f"Ask {holder} for the public key, compare its digest by voice, and put it at {path}."
        raise KeyAccessError(str(error), remedy=remedy) from error
