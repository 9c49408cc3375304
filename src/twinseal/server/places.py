"""Places: the folder of this machine in which a server keeps the files that MLflow has a location for.

And the lock over what MLflow's registry says of protected names.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from twinseal.errors import RegistryError
from twinseal.registry.locations import allowed_place
from twinseal.registry.store import artifacts_folder, served_folder
from twinseal.server.rounds import locked
from twinseal.trust.root.home import Home

LOCK = "registry.lock"


@contextmanager
def registry_lock(home: Home) -> Iterator[None]:
    """Only one thread of one worker at a time verifies a claim about a release and lets MLflow write it; or publishes.

    Otherwise a claim that was true when it was verified could be written after the next release's.
    """
    with locked(home.path / "mlflow" / LOCK, wait=True):
        yield


def candidate_folder(home: Home, location: str) -> Path:
    """The folder of a candidate's files: below what is sent to the server, or written beside it on this machine.

    Raises:
        RegistryError: The location is anywhere else.
    """
    served = served_folder(home.path)
    roots = (artifacts_folder(home.path), served)
    place = allowed_place(location, "candidate", tracking_uri="", roots=roots, served=served)
    if not isinstance(place, Path):
        raise RegistryError(f"candidate: expected files that this server keeps, got the location {location[:120]!r}")
    return place
