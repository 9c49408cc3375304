"""Home: the one directory on this machine that holds keys, anchor and repository, and the names inside it.

    anchor/     root.json: the newest root, which is carried to a new twin by hand
    trust/      the TUF repository of record: metadata/, targets/
    proposal/   the next root, while it waits for custodians' signatures
    keys/       private keys of those who sign on this machine, and public keys of the others (.pub)
    keys/next/  keys that the proposal would add; keys/retired/: keys that count no longer
    lock        one ceremony or publication at a time

It is $TWINSEAL_HOME, or the folder of the deployment that the checkout names, among the user's own data
($XDG_DATA_HOME/twinseal/<deployment>). A demo's has the checkout's digest in its name: two clones do not share one. It
never lies in a checkout: a branch could replace it (`twinseal.trust.root.checkout`).
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path

from tuf.api.metadata import Root  # type: ignore[attr-defined]  # tuf re-exports it without saying so

from twinseal.errors import KeyAccessError, RootError, SignatureError
from twinseal.reading import read_regular
from twinseal.trust.keys.key import KeySigner, environment_name, open_signer, short_fingerprint
from twinseal.trust.keys.passphrases import Passphrase, from_environment
from twinseal.trust.root.anchor import ROOT, Anchor
from twinseal.trust.root.checkout import DEMO, Checkout, lies_within
from twinseal.trust.root.home_lock import locked
from twinseal.trust.root.metadata import MAX_METADATA_BYTES, parse
from twinseal.trust.root.pins import RoleKeys
from twinseal.trust.root.private_folders import fault_of, make_private, user_folder


@dataclass(frozen=True)
class Home:
    """The directory of keys, anchor and repository.

    Attributes:
        path: The directory. It need not exist yet.
    """

    path: Path

    @classmethod
    def find(cls) -> Home:
        """The home of this machine, with its anchor: $TWINSEAL_HOME, or that of the deployment of this checkout.

        Raises:
            RootError: There is none, it holds no anchor, or others may write to it; or as `default`.
        """
        home = cls.default()
        if not home.anchor_dir.is_dir() and not home.proposal_dir.exists():
            raise RootError(
                f"{home.path}: expected a trust anchor, got none",
                remedy="To try it out, with throw-away keys: twinseal init --demo. With real keys: docs/operating.md",
            )
        home._refuse_shared()
        if not home.anchor_dir.is_dir():
            raise RootError(
                f"{home.path}: expected a trust anchor, got none",
                remedy="A first root waits for signatures: twinseal trust sign",
            )
        return home

    @classmethod
    def default(cls) -> Home:
        """Where the home of this machine is or would be. DVC runs experiments in copies: theirs is the project's.

        Raises:
            RootError: This user has not confirmed the deployment that the checkout names; keys lie in the checkout, or
                Git tracks what only this machine should have written.
        """
        checkout = Checkout.here()
        checkout.refuse_planted()
        named = os.environ.get("TWINSEAL_HOME")
        home = cls(Path(named)) if named else cls.of(checkout)
        if named:
            home._refuse_in(checkout)
            return home
        checkout.refuse_old_home(home.path)
        untouched = checkout.deployment() == DEMO and checkout.confirmed() is None and not home.path.exists()
        if not untouched:  # else there is nothing to confirm yet: `init --demo` is what comes next
            checkout.require_confirmed()
        return home

    @classmethod
    def of(cls, checkout: Checkout) -> Home:
        """The home of the deployment that `checkout` names, confirmed or not.

        Raises:
            RootError: It names none.
        """
        name = checkout.deployment()
        return cls(user_folder("data") / (f"{DEMO}-{checkout.id}" if name == DEMO else name))

    def _refuse_in(self, checkout: Checkout) -> None:
        if (checkout.top / ".git").exists() and lies_within(self.path, checkout.top):
            raise RootError(
                f"$TWINSEAL_HOME: expected a folder outside of {checkout.top}, got {self.path}",
                remedy="Git can replace what lies in a checkout. Move it, and name its new place: "
                f"mv {self.path} {user_folder('data') / checkout.deployment()}",
            )

    def _refuse_shared(self) -> None:
        fault = fault_of(self.path)
        if fault:
            raise RootError(
                f"{self.path}: expected a folder that only its owner may write to, got {fault}",
                remedy="Others may have changed what is in it. If you are sure that nobody did, close that folder to "
                f"others (chmod 700 {self.path}); else restore the home from its backup.",
            )

    def make_private(self) -> None:
        """Make the folder, for its owner alone.

        Raises:
            RootError: Others may write to a folder above it; or it is there, others may write to it, and it is not
                empty.
        """
        if self.path.exists() and not any(self.path.iterdir()):
            self.path.chmod(0o700)
        self._refuse_shared()
        make_private(self.path)
        self.path.chmod(0o700)

    def locked(self) -> contextlib.AbstractContextManager[None]:
        """A block that no other ceremony or publication of this home runs beside; `home_lock` says what it raises."""
        return locked(self.path)

    @property
    def keys(self) -> Path:
        """The folder of keys."""
        return self.path / "keys"

    @property
    def anchor_dir(self) -> Path:
        """The folder of the anchor: all of it is carried to a twin."""
        return self.path / "anchor"

    @property
    def proposal_dir(self) -> Path:
        """The folder of a root that waits for signatures; absent when none does."""
        return self.path / "proposal"

    @property
    def repository(self) -> Path:
        """The TUF repository of record."""
        return self.path / "trust"

    def anchor(self) -> Anchor:
        """The trust anchor.

        Raises:
            RootError: It is absent or damaged; the remedy names the file to restore it from, if there is one.
        """
        try:
            return Anchor.read(self.anchor_dir)
        except RootError as error:
            copy = self._copy_of_anchor()
            if copy is None:
                raise
            raise RootError(
                str(error),
                remedy=f"Restore it from the repository of this home: cp {copy} {self.anchor_dir / ROOT}   "
                "Then compare the sha256 that `twinseal trust show` prints with that of a twin's anchor.",
            ) from error

    def _copy_of_anchor(self) -> Path | None:
        """The newest root in the repository that is an anchor; the one before a proposal that waits, if one does."""
        metadata = self.repository / "metadata"
        newest = len(list(metadata.glob(f"*.{ROOT}")))
        for version in range(min(newest, (self._proposed_version() or newest + 1) - 1), 0, -1):
            path = metadata / f"{version}.{ROOT}"
            with contextlib.suppress(RootError, OSError):
                if Anchor(read_regular(path, MAX_METADATA_BYTES)).version == version:
                    return path
        return None

    def _proposed_version(self) -> int | None:
        """The version of the root that waits for signatures; None when none does, or it cannot be read."""
        with contextlib.suppress(SignatureError, OSError):
            data = read_regular(self.proposal_dir / ROOT, MAX_METADATA_BYTES)
            return parse(Root, data, ROOT).signed.version
        return None

    def key_uri(self, holder: str) -> str:
        """Where the private key of `holder` is: $TWINSEAL_<HOLDER>_KEY, or `keys/<holder>.pem`."""
        return os.environ.get(f"TWINSEAL_{environment_name(holder)}_KEY") or f"file:{self.keys / holder}.pem"

    def has_key(self, holder: str) -> bool:
        """Whether this machine names a private key for `holder`. It is not opened."""
        uri = self.key_uri(holder)
        scheme, _, place = uri.partition(":")
        return scheme.lower() != "file" or Path(place).exists()

    def signer(self, holder: str, *, passphrase: bytes | None = None) -> KeySigner:
        """The signer of `holder`.

        Raises:
            KeyAccessError: Its key cannot be opened.
        """
        return open_signer(self.key_uri(holder), passphrase=passphrase, holder=holder)

    def role_signer(self, role: RoleKeys, *, passphrase: Passphrase = from_environment) -> KeySigner:
        """The signer of the first holder of `role` whose key is on this machine.

        Args:
            role: Whose.
            passphrase: Asked for the passphrase of its key.

        Raises:
            KeyAccessError: None is; or the key here is not the one that the anchor has pinned.
        """
        for holder in role.holders:
            if self.has_key(holder.name):
                uri = self.key_uri(holder.name)
                signer = open_signer(uri, passphrase=passphrase(uri, holder.name), holder=holder.name)
                if signer.public_key.keyid != holder.key.keyid:
                    raise KeyAccessError(
                        f"{self.key_uri(holder.name)}: expected the key {short_fingerprint(holder.key)}… that the "
                        f"anchor has for {holder.name}, got {short_fingerprint(signer.public_key)}…",
                        remedy=f"Put the key of {holder.name} there, or name it in "
                        f"$TWINSEAL_{environment_name(holder.name)}_KEY. All keys: twinseal trust show",
                    )
                return signer
        names = ", ".join(holder.name for holder in role.holders)
        raise KeyAccessError(
            f"{role.role}: expected the key of {names}, got none on this machine",
            remedy=f"Set $TWINSEAL_{environment_name(role.holders[0].name)}_KEY, or sign where that key is.",
        )
