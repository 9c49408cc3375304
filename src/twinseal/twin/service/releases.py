"""New releases: a look at the registry, beside the twin that runs; what it finds is verified as every pull is."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from twinseal.errors import RegistryError, TwinsealError
from twinseal.trust.root.anchor import Anchor
from twinseal.twin.admit import VerifiedModel
from twinseal.twin.byte_sources import DirectorySource, RestSource, Source
from twinseal.twin.pull import pull
from twinseal.twin.state import State


@dataclass(frozen=True, eq=False)
class Found:
    """What a look has found.

    Attributes:
        verified: A release that is installed as current, and does not answer yet; None: there is none.
        fault: Why nothing was learned, or what was offered is refused; empty if all went well.
        lost: Whether the registry could not be asked.
    """

    verified: VerifiedModel | None = None
    fault: str = ""
    lost: bool = False


def open_source(source: str, model: str) -> AbstractContextManager[Source]:
    """MLflow's address, or the folder of a mirror; for one look."""
    if source.startswith(("http://", "https://")):
        return closing(RestSource(source, model))
    return nullcontext(DirectorySource(Path(source)))


class Releases:
    """Looks for releases of one model.

    Args:
        source: Opens the registry, for one look.
        anchor: The root that the twin was installed with.
        model: Which model.
        state_dir: The twin's own directory.
        timeout_s: A look that takes longer has failed.
    """

    def __init__(
        self,
        source: Callable[[], AbstractContextManager[Source]],
        anchor: Anchor,
        model: str,
        state_dir: Path,
        timeout_s: float,
    ) -> None:
        self._source, self._anchor, self._model, self._state_dir = source, anchor, model, state_dir
        self._timeout_s = timeout_s

    async def look(self, now: datetime, running: str) -> Found:
        """Ask the registry once; never raises for what it does.

        Args:
            now: Aware, UTC.
            running: Digest of the release that answers.
        """
        try:
            async with asyncio.timeout(self._timeout_s):
                return await asyncio.to_thread(self._look, now, running)
        except TimeoutError:
            return Found(fault=f"registry: expected an answer within {self._timeout_s:.0f} s, got none", lost=True)
        except RegistryError as error:
            return Found(fault=str(error), lost=True)
        except (TwinsealError, OSError) as error:
            return Found(fault=str(error))

    def _look(self, now: datetime, running: str) -> Found:
        with self._source() as source:
            held = State(self._state_dir).held()
            pulled = pull(source, self._anchor, self._model, self._state_dir, now, skip=held)
        return Found(pulled.model if pulled.model.release.sha256 != running else None)
