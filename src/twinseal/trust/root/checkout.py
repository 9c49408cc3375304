"""The checkout: which deployment it names, whether this user agreed, and what Git must not have put there.

    policy/deployment                            the name, in Git: a name and never a path; `demo` as it is shipped
    $XDG_CONFIG_HOME/twinseal/checkouts/<…>      what this user confirmed for this checkout: its path and that name

Whoever can push a branch can change all that lies in a checkout, ignored files too: Git replaces those without a word.
So keys and anchor lie elsewhere (`twinseal.trust.root.home`), and the name counts only while it is the confirmed one.
"""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from twinseal.digests import parse_json, sha256
from twinseal.errors import EvidenceError, RootError
from twinseal.files import write_json
from twinseal.reading import read_regular
from twinseal.trust.root.private_folders import fault_of, make_private, user_folder

POINTER = Path("policy/deployment")
DEMO = "demo"
NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,39}\Z")
EXPERIMENTS = (".dvc", "tmp", "exps")  # where DVC copies the project to
# What a branch must not bring: homes of old, programs, and the places from which DVC takes settings and pickles.
UNTRACKED = (".twinseal*", ".venv", ".dvc-site", ".dvc/config.local", ".dvc/tmp", ".dvc/cache")
OLD_HOME = (".twinseal", ("anchor", "keys", "proposal"))


@dataclass(frozen=True)
class Checkout:
    """A copy of the project that somebody works in.

    Attributes:
        path: Its folder, absolute, without links.
    """

    path: Path

    @classmethod
    def here(cls) -> Checkout:
        """The working directory; of an experiment that DVC runs in a copy, the project that it is a copy of."""
        parts = Path.cwd().resolve().parts
        for start in range(len(parts) - len(EXPERIMENTS)):
            if parts[start : start + len(EXPERIMENTS)] == EXPERIMENTS:
                return cls(Path(*parts[:start]))
        return cls(Path(*parts))

    @property
    def top(self) -> Path:
        """The folder that Git checks out, of which this is a part; this one where there is no Git."""
        return next((place for place in (self.path, *self.path.parents) if (place / ".git").exists()), self.path)

    @property
    def id(self) -> str:
        """16 digits that are this path's alone."""
        return sha256(str(self.path).encode())[:16]

    def deployment(self) -> str:
        """The name in `policy/deployment`; `demo` when there is no such file.

        Raises:
            RootError: It is no name.
        """
        try:
            text = read_regular(self.path / POINTER, 100).decode("utf-8", "replace").strip()
        except FileNotFoundError:
            return DEMO
        except OSError as error:
            raise RootError(f"{POINTER}: expected the name of a deployment, got no file ({error.strerror})") from error
        if not NAME.match(text):
            raise RootError(
                f"{POINTER}: expected the name of a deployment (a-z, 0-9, -), got {text[:60]!r}",
                remedy=f"echo {DEMO} > {POINTER}   or the name of yours",
            )
        return text

    def confirmed(self) -> str | None:
        """The name that this user confirmed for this checkout; None when nothing was.

        Raises:
            RootError: What was kept is damaged, or others can write to it.
        """
        fault = fault_of(self._record.parent)
        if fault:
            raise RootError(f"{self._record.parent}: expected a folder that only its owner may write to, got {fault}")
        try:
            value = parse_json(read_regular(self._record, 1 << 16), str(self._record))
        except FileNotFoundError:
            return None
        except (OSError, EvidenceError) as error:
            raise RootError(f"{self._record}: expected a confirmation, got none ({error})") from error
        if not isinstance(value, dict) or value.get("checkout") != str(self.path):
            raise RootError(f"{self._record}: expected a confirmation for {self.path}, got another")
        return str(value.get("deployment"))

    def confirm(self, name: str) -> None:
        """Keep that this user means the deployment `name` in this checkout. It replaces an earlier confirmation.

        Raises:
            RootError: The checkout names another.
            OSError: It cannot be written.
        """
        named = self.deployment()
        if name != named:
            raise RootError(
                f"{POINTER}: expected {name[:60]}, got {named}",
                remedy=f"If this checkout is for {named}: twinseal use {named}",
            )
        make_private(self._record.parent)
        write_json(self._record, {"checkout": str(self.path), "deployment": name})

    def require_confirmed(self) -> str:
        """The name of the deployment, once this user has confirmed it.

        Raises:
            RootError: They have not, or have confirmed another.
        """
        named, confirmed = self.deployment(), self.confirmed()
        if confirmed == named:
            return named
        before = "nobody has confirmed it yet" if confirmed is None else f"what you confirmed here is {confirmed}"
        raise RootError(
            f"{self.path}: expected a deployment that you have confirmed, got {named}: {before}",
            remedy=f"If you mean the keys of {named} to be used here: twinseal use {named}"
            + ("" if confirmed is None else f"   If not, find out who changed {POINTER}"),
        )

    def refuse_planted(self) -> None:
        """Refuse a checkout in which Git has put what only this machine should have written.

        Raises:
            RootError: Git tracks such a file, or cannot say.
        """
        present = [pattern for pattern in UNTRACKED if any(self.path.glob(pattern))]
        if not present or not (self.top / ".git").exists():
            return
        tracked = self._tracked(present)
        if tracked:
            raise RootError(
                f"{self.path / tracked[0]}: expected nothing of this name in Git, got {len(tracked)} tracked files",
                remedy="A branch brought them, and may have replaced yours. Find out who: "
                f"git log --format='%h %an %s' -- '{present[0]}'   Do not run DVC here before they are gone.",
            )

    def refuse_old_home(self, place: Path) -> None:
        """Refuse keys or an anchor in the checkout itself, where they were before they had a place of their own.

        Raises:
            RootError: They are there.
        """
        name, kinds = OLD_HOME
        old = self.path / name
        if old.resolve() != place.resolve() and any((old / kind).exists() for kind in kinds):
            raise RootError(
                f"{old}: expected keys and anchor outside of the checkout, got them in it",
                remedy=f"Move them: mkdir -p -m 700 {place.parent} && mv {old} {place}   then: twinseal use "
                f"{self.deployment()}   Demo keys need not move: rm -r {old}",
            )

    def _tracked(self, patterns: list[str]) -> list[str]:
        command = ["git", "-c", "core.fsmonitor=false", "ls-files", "-z", "--", *patterns]
        try:
            done = subprocess.run(command, cwd=self.path, capture_output=True, check=True)  # noqa: S603 - our own words
        except (OSError, subprocess.CalledProcessError) as error:
            said = getattr(error, "stderr", b"") or str(error).encode()
            raise RootError(
                f"{self.path}: expected Git to say what it tracks, got {said.decode('utf-8', 'replace').strip()[:200]}",
                remedy="Run it as the owner of the checkout, with git on the PATH.",
            ) from error
        return [name for name in done.stdout.decode("utf-8", "replace").split("\0") if name]

    @property
    def _record(self) -> Path:
        return user_folder("config") / "checkouts" / f"{self.id}.json"


def lies_within(path: Path, folder: Path) -> bool:
    """Whether `path`, after its links are followed, is `folder` or lies below it."""
    return Path(os.path.realpath(path)).is_relative_to(Path(os.path.realpath(folder)))
