"""The field: a registry whose newest release is 2, and a twin that runs release 1.

Every attack goes the same way: the honest thing is accepted, by a copy of the twin; then the attack; then the refusal,
of the right kind, saying what was expected and what came; and the model that ran before still runs and still answers.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.attacks.forge import Keyring, Repository, canonical, files, release_of, sha256
from tests.simulator import Registry
from tests.twin.deployment import CHANNELS, MODEL, NOW, OTHER, Deployment
from twinseal.errors import TwinsealError
from twinseal.trust.release.release import Release
from twinseal.twin.byte_sources import DirectorySource, RestSource, Source
from twinseal.twin.pull import PullResult, pull
from twinseal.twin.runtime import current_model, run

LATER = NOW + timedelta(hours=1)
UNTIL = NOW + timedelta(days=20)
ROWS = [{"unit": "u", "cycle": n + 1} | dict.fromkeys(CHANNELS, 5.0 + n / 10) for n in range(6)]


class Field:
    """One battle's ground; every test has its own.

    Attributes:
        path: The folder that all of it lies in.
        deployment: The honest side, with release 2 published.
        release: Release 2.
        twin: The state of a twin that runs release 1.
        bundle: The files of release 2, as their signers have them.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.twin = path, path / "twin"
        self.deployment = Deployment(path / "deployment")
        self.mirror = self.deployment.mirror
        self.keys = Keyring(self.deployment.home.keys)
        self.bundle = path / f"deployment/bundle-2-{MODEL}"
        (self.listed,) = (p for p in (self.mirror / "targets" / MODEL).iterdir() if b'"version":2}' in p.read_bytes())
        self.release = Release.from_bytes(self.listed.read_bytes(), str(self.listed))
        self.candidate = self.deployment.candidate(self.release)
        self.registry = Repository(self.mirror, self.keys)

    def pull(self, *, twin: Path | None = None, source: Source | None = None, now: Any = LATER) -> PullResult:
        chosen = DirectorySource(self.mirror) if source is None else source
        return pull(chosen, self.deployment.anchor, MODEL, self.twin if twin is None else twin, now)

    def installed(self) -> tuple[int, list[float]]:
        """The release that a restart would run, and its predictions for fixed telemetry."""
        verified = current_model(self.twin, self.deployment.anchor, MODEL)
        return verified.release.version, [prediction.rul_cycles for prediction in run(verified, ROWS)]

    def answers(self) -> list[float]:
        """What the installed model says."""
        return self.installed()[1]

    @property
    def version(self) -> int:
        """The release that a restart would run."""
        return current_model(self.twin, self.deployment.anchor, MODEL).release.version

    def accepts(self, *, now: Any = LATER) -> int:
        """The legitimate case: the version that a copy of the twin takes. The twin itself is as it was."""
        seen = (tree(self.mirror), tree(self.twin), now)
        if seen not in _ACCEPTED:  # the same bytes, twin and hour were accepted before: once in a session is enough
            copy = self.path / "honest"
            shutil.copytree(self.twin, copy, symlinks=True)
            _ACCEPTED[seen] = self.pull(twin=copy, now=now).model.release.version
            shutil.rmtree(copy)
        return _ACCEPTED[seen]

    def refuses(self, error: type[TwinsealError], message: str, **options: Any) -> TwinsealError:
        """The attack is refused; what ran before runs on, and nothing is left of what was fetched."""
        return self.refuses_any((error,), message, **options)

    def refuses_any(
        self,
        errors: tuple[type[TwinsealError], ...],
        message: str,
        *,
        now: Any = LATER,
        source: Source | None = None,
    ) -> TwinsealError:
        """As `refuses`, where one cause leads to one of several kinds."""
        pointer, before = (self.twin / "current").read_bytes(), tree(self.twin)
        if before not in _INSTALLED:  # as above; after the attack it is asked anew, always
            _INSTALLED[before] = self.installed()
        with pytest.raises(TwinsealError, match=message) as refusal:
            self.pull(now=now, source=source)
        assert refusal.type in errors, f"{refusal.type.__name__}: {refusal.value}"
        assert refusal.value.remedy, f"a refusal without a remedy: {refusal.value}"
        assert len(str(refusal.value)) < 1000, "a message is for people"
        assert pointer == (self.twin / "current").read_bytes()
        assert _INSTALLED[before] == self.installed()
        assert not (self.twin / "incoming").exists()
        return refusal.value

    def release_3(
        self, bundle: Path | None = None, *, holders: tuple[str, ...] = ("alice", "chiara"), **changes: Any
    ) -> None:
        """What is in `bundle` becomes release 3: the reviewers were deceived, or their keys stolen."""
        chosen = self.bundle if bundle is None else bundle
        model_id = "m-" + "3" * 32
        value = release_of(chosen, self.listed.read_bytes(), version=3, mlflow_model_id=model_id)
        shutil.copytree(chosen, self.mirror / "candidates" / model_id, dirs_exist_ok=True, symlinks=True)
        self.registry.release(canonical(value | changes), MODEL, holders, UNTIL)

    @contextmanager
    def over_http(self, *, deadline_s: float = 30.0) -> Iterator[tuple[Registry, Callable[[], RestSource]]]:
        """The same registry over HTTP, where it can misbehave; and how a twin asks it, anew each time."""
        with Registry(self.mirror) as registry:
            sources: list[RestSource] = []

            def source() -> RestSource:
                sources.append(RestSource(registry.url, MODEL, deadline_s=deadline_s))
                return sources[-1]

            yield registry, source
            for opened in sources:
                opened.close()


def tree(folder: Path) -> str:
    """A digest of everything below a folder: names and bytes."""
    return sha256(b"".join(str(p.relative_to(folder)).encode() + p.read_bytes() for p in files(folder)))


_ACCEPTED: dict[tuple[str, str, Any], int] = {}
_INSTALLED: dict[str, tuple[int, list[float]]] = {}


def prepare(path: Path) -> None:
    """Publish release 1, let a twin take it, publish release 2, and one release of another model."""
    deployment = Deployment(path / "deployment")
    deployment.publish(1)
    shutil.copytree(deployment.mirror, path / "mirror-1")
    pull(DirectorySource(deployment.mirror), deployment.anchor, MODEL, path / "twin", NOW)
    deployment.publish(2)
    deployment.publish(1, model=OTHER)
