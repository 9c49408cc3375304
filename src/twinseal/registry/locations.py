"""Locations: where artifacts may be written to and read from. MLflow names the place; the user has said which are his.

A tracking server answers with the place of a run's or a candidate's artifacts, and MLflow's client believes it: it
would write to any folder of this machine, and send the user's credentials to any host. A location is therefore used
only if it is one of these:

    mlflow-artifacts:/…    kept by the tracking server itself; no other host is named in it
    http(s)://…            the same, spelled out: below the artifacts of exactly the configured server
    file:/…, /…            below a folder that the user named: the home's own, or $TWINSEAL_ARTIFACT_ROOT

Everything else is refused before a byte is written or sent. Requests follow no redirects, and no address that a server
hands out for parts of a large file is used. Below a local folder no link is followed, neither to write nor to read.

Example:
    place = allowed_place("mlflow-artifacts:/1/abc/artifacts", "run abc", tracking_uri="https://mlflow:5000", roots=())
    open_artifacts(place).write(Path("report.html"), "reports/report.html")
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, Protocol
from urllib.parse import quote, unquote, urlsplit

from mlflow.utils.credentials import get_default_host_creds
from mlflow.utils.rest_utils import http_request

from twinseal.errors import RegistryError
from twinseal.files import check_path
from twinseal.reading import open_beneath, open_regular

ROOT = "TWINSEAL_ARTIFACT_ROOT"
SERVED = "/api/2.0/mlflow-artifacts/artifacts/"  # where a tracking server serves the artifacts that it keeps
MAX_LOCATION = 2048
_CHUNK = 1 << 20


class Artifacts(Protocol):
    """The artifacts of one run or candidate."""

    def write(self, source: Path, path: str) -> None:
        """Put the file at `source` there as `path`."""

    def sha256(self, path: str, length: int) -> str:
        """The SHA-256 of the file at `path`; "" if there is none, or not of exactly `length` bytes."""


def allowed_place(
    location: object, what: str, *, tracking_uri: str, roots: tuple[Path, ...], served: Path | None = None
) -> str | Path:
    """Where `location` is: the address below the configured server, or the folder below one of `roots`.

    Args:
        location: What MLflow answered.
        what: Whose location, for the message.
        tracking_uri: What the user configured.
        roots: The folders that the user named for artifacts.
        served: Where the server of this deployment keeps what is sent to it, for who works beside it on its machine.

    Raises:
        RegistryError: It is anywhere else.
    """
    if isinstance(location, str) and len(location) <= MAX_LOCATION and location.isprintable() and "\\" not in location:
        try:
            place = _served_place(location, tracking_uri, served) or local_place(location, roots)
        except ValueError:  # urlsplit's, of an address that is none
            place = None
        if place is not None:
            return place
    allowed = [f"folder {root}" for root in roots]
    allowed += [f"server {_origin(tracking_uri)}"] if tracking_uri.startswith(("http://", "https://")) else []
    raise RegistryError(
        f"{what}: expected artifacts below the {' or the '.join(allowed) or 'configured server'}, "
        f"got the location {str(location)[:120]!r} from MLflow",
        remedy="Nothing was written or sent there. Find out who set this location in MLflow. If it is a folder of "
        f"yours: export {ROOT}=/the/folder",
    )


def open_artifacts(place: str | Path, roots: tuple[Path, ...] = ()) -> Artifacts:
    """What is at a place that `allowed_place` gave.

    Args:
        place: The address or the folder.
        roots: As for `allowed_place`: links above and at a root are the user's own, those below it are refused.
    """
    if isinstance(place, str):
        return ServedArtifacts(place)
    root = next(root for root in map(_resolved, roots) if place.is_relative_to(root))
    return LocalArtifacts(root, place.relative_to(root).as_posix())


def local_roots(tracking_uri: str, own: Path | None) -> tuple[Path, ...]:
    """The folders for artifacts that the user named: the store's `own`, one that is the store, and those in $ROOT."""
    parts = urlsplit(tracking_uri)
    is_folder = parts.scheme in ("", "file") and not parts.netloc and bool(parts.path)
    named = [Path(name) for name in os.environ.get(ROOT, "").split(os.pathsep) if name]
    return (*([own] if own else []), *([Path(unquote(parts.path))] if is_folder else []), *named)


class LocalArtifacts:
    """Artifacts in a folder of this machine.

    Args:
        root: The folder that the user named.
        folder: Path below it, POSIX; "." for the root itself.
    """

    def __init__(self, root: Path, folder: str) -> None:
        self._root, self._folder = root, "" if folder == "." else f"{folder}/"

    def write(self, source: Path, path: str) -> None:
        """As Artifacts says; the file is whole or not there. A link on the way is refused, one in its place replaced.

        Raises:
            RegistryError: A part of the way is no folder.
            OSError: It cannot be written.
        """
        check_path(path)
        *folders, name = f"{self._folder}{path}".split("/")
        self._root.mkdir(parents=True, exist_ok=True)
        here = os.open(self._root, os.O_RDONLY | os.O_DIRECTORY)
        try:
            for depth, part in enumerate(folders):
                below = _make_folder(part, here, self._root.joinpath(*folders[: depth + 1]))
                os.close(here)
                here = below
            with open_regular(source) as stream:
                _write_whole(stream, name, here)
        finally:
            os.close(here)

    def sha256(self, path: str, length: int) -> str:
        """As Artifacts says; a link, a fifo or a device is no file."""
        check_path(path)
        try:
            stream = open_beneath(self._root, f"{self._folder}{path}")
        except OSError:
            return ""
        with stream:
            return _digest(lambda: stream.read(_CHUNK), length)


class ServedArtifacts:
    """Artifacts that the configured tracking server keeps, over HTTP, with the user's credentials for it.

    Args:
        url: Address of the folder.
    """

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")

    def write(self, source: Path, path: str) -> None:
        """As Artifacts says.

        Raises:
            RegistryError: The server did not take it, or wanted it to be sent elsewhere.
        """
        check_path(path)
        with open_regular(source) as stream:
            answer = self._ask("PUT", path, data=stream, extra_headers={"Content-Type": "application/octet-stream"})
        with answer:
            if answer.status_code != 200:
                got = f"{answer.status_code}{_elsewhere(answer)}"
                raise RegistryError(f"{path}: expected HTTP 200 of MLflow, got {got}")

    def sha256(self, path: str, length: int) -> str:
        """As Artifacts says; no more than `length` bytes are taken from the server."""
        check_path(path)
        # Uncompressed: of a few compressed bytes a server could make gigabytes here.
        with self._ask("GET", path, stream=True, extra_headers={"Accept-Encoding": "identity"}) as answer:
            if answer.status_code != 200:
                return ""
            return _digest(lambda: answer.raw.read(_CHUNK, decode_content=False), length)

    def _ask(self, method: str, path: str, **how: Any) -> Any:
        return http_request(get_default_host_creds(self._url), "/" + quote(path), method, allow_redirects=False, **how)


def _served_place(location: str, tracking_uri: str, folder: Path | None) -> str | Path | None:
    """The address, or beside it the folder, of a location that the server itself keeps; None for any other."""
    scheme, _, rest = location.partition(":")
    if not tracking_uri.startswith(("http://", "https://")):
        kept = folder is not None and scheme == "mlflow-artifacts" and not rest.startswith("//")
        return folder.resolve() / rest.strip("/") if folder and kept and is_plain(rest.strip("/")) else None
    served = f"{tracking_uri.rstrip('/')}{SERVED}"
    if scheme == "mlflow-artifacts" and not rest.startswith("//"):
        path = rest.strip("/")
    elif location.startswith(_without_user(served)):
        path = location[len(_without_user(served)) :].strip("/")
    else:
        return None
    return f"{served}{path}" if is_plain(path) else None


def local_place(location: str, roots: tuple[Path, ...]) -> Path | None:
    """The folder of a location below one of `roots`, its links resolved; None for any other."""
    parts = urlsplit(location)
    path = unquote(parts.path) if parts.scheme == "file" else location
    if parts.scheme not in ("", "file") or parts.netloc or parts.query or parts.fragment or not path.startswith("/"):
        return None
    if not is_plain(path.strip("/")):
        return None
    for root in roots:
        for start in (Path(os.path.abspath(root)), _resolved(root)):  # noqa: PTH100 - resolve() would follow links
            if Path(path).is_relative_to(start):
                return _resolved(root) / Path(path).relative_to(start)
    return None


def is_plain(path: str) -> bool:
    """Whether no part of a path leads up, and nothing in it ends the path of an address; however it is spelled."""
    parts = [part for spelled in (path, unquote(path)) for part in spelled.split("/")]
    return not {"", ".", ".."} & set(parts) and not set("?#\\") & set(unquote(path)) and unquote(path).isprintable()


def _resolved(root: Path) -> Path:
    return root.resolve()


def _without_user(address: str) -> str:
    parts = urlsplit(address)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def _origin(address: str) -> str:
    parts = urlsplit(address)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


def _elsewhere(answer: Any) -> str:
    there = answer.headers.get("Location", "")
    return f" (sent on to {there[:80]!r}; redirects are not followed)" if there else ""


def _make_folder(name: str, above: int, path: Path) -> int:
    """A descriptor of the folder `name` in the open folder `above`, made if it is absent; never by a link."""
    with contextlib.suppress(FileExistsError):
        os.mkdir(name, dir_fd=above)
    try:
        return os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=above)
    except OSError as error:
        raise RegistryError(
            f"{path}: expected a folder of MLflow's artifacts, got a link or something else ({error.strerror})",
            remedy=f"Somebody put it there to have files written elsewhere. Look at it, and remove it: ls -l {path}",
        ) from error


def _write_whole(stream: BinaryIO, name: str, folder: int) -> None:
    """Copy `stream` to a new file, and let it take the place of `name` in the open folder."""
    temporary = f".{secrets.token_hex(8)}.part"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644, dir_fd=folder)
    try:
        with os.fdopen(descriptor, "wb") as copy:
            shutil.copyfileobj(stream, copy, _CHUNK)
        os.replace(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
    except BaseException:
        os.unlink(temporary, dir_fd=folder)
        raise


def _digest(read: Callable[[], bytes], length: int) -> str:
    """SHA-256 of all that `read` gives; "" if that is not `length` bytes."""
    found, total = hashlib.sha256(), 0
    while chunk := read():
        total += len(chunk)
        if total > length:
            return ""
        found.update(chunk)
    return found.hexdigest() if total == length else ""
