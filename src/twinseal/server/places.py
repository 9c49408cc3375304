"""Places: the folder of this machine in which a server keeps the files that MLflow has a location for."""

from __future__ import annotations

from pathlib import Path

from twinseal.errors import RegistryError
from twinseal.registry.locations import is_plain, local_place
from twinseal.registry.store import artifacts_folder, served_folder
from twinseal.trust.root.home import Home

_SERVED = "mlflow-artifacts:/"


def candidate_folder(home: Home, location: str) -> Path:
    """The folder of a candidate's files: below what is sent to the server, or written beside it on this machine.

    Raises:
        RegistryError: The location is anywhere else.
    """
    path = location.removeprefix(_SERVED).strip("/")
    if location.startswith(_SERVED) and not location.startswith(_SERVED + "/") and is_plain(path):
        return served_folder(home.path) / path
    found = local_place(location, (artifacts_folder(home.path), served_folder(home.path)))
    if found is None:
        raise RegistryError(
            f"candidate: expected files that this server keeps, below {home.path / 'mlflow'}, got the location "
            f"{location[:120]!r}"
        )
    return found
