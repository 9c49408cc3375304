"""Places: the folder of this machine in which a server keeps the files that MLflow has a location for."""

from __future__ import annotations

from pathlib import Path

from twinseal.errors import RegistryError
from twinseal.registry.locations import allowed_place
from twinseal.registry.store import artifacts_folder, served_folder
from twinseal.trust.root.home import Home


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
