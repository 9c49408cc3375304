"""MLflow's artifacts on this machine's disk, written once: `twinseal+file://…`.

A plugin of MLflow (entry point `mlflow.artifact_repository`). What is there stays as it is:

- a file is never written over, and never deleted
- nothing is added to a candidate that is final: one that MLflow calls anything but pending, or that is in review
- nothing is added to the run of a candidate in review, nor to the one that carries the TUF metadata of a protected
  model: the registrar writes there, beside us
- a path is judged as it is used, after everything was decoded: no part of it is empty, `.` or `..`, none hides a
  separator or a percent sign, no folder or file on the way is a link

A file appears whole or not at all, and of two that are sent under one name the first one stays. On its way it lies in
`.uploading`, which no path leads to. MLflow has it beside the candidate's files: then an upload that is kept open, or a
server that is killed, would leave a candidate with a file that nobody signed.
"""

from __future__ import annotations

import errno
import os
import re
import stat
import tempfile
from collections.abc import AsyncIterable, Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, NoReturn
from urllib.parse import unquote

import structlog
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE, TEMPORARILY_UNAVAILABLE
from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository

from twinseal.reading import require_folder
from twinseal.server.closed import Closed
from twinseal.server.plugins import PREFIX, deny
from twinseal.trust.root.home import Home

STAGING = ".uploading"  # of artifacts: a link, which publishes a file, stays on one file system
METADATA_RUN = "twinseal.metadata_run"  # as registry.register has it, which imports all of MLflow
_CANDIDATE = re.compile(r"(?:^|/)models/(m-[0-9a-f]{32})/artifacts(?:/|\Z)")
_RUN = re.compile(r"[^/]+/([0-9a-f]{32})(?:/|\Z)")  # below an experiment
_PENDING = "PENDING"
_NAMES = (errno.ENOTDIR, errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ)
_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO, errno.EACCES, errno.EPERM, errno.ENOTDIR,
         errno.EMFILE, errno.ENFILE)  # fmt: skip

log = structlog.get_logger(__name__)

StatusOf = Callable[[str], str]
"""MLflow's status of a candidate, by its id; an error if there is no such candidate."""


def _server_status(model_id: str) -> str:
    """As the tracking store of this server has it; and final once a review was asked for, whatever MLflow calls it."""
    from mlflow.server.handlers import _get_tracking_store  # noqa: PLC0415 - outside a server there is none

    if Closed(Home.find().path).has_candidate(model_id):
        return "IN REVIEW"
    return str(_get_tracking_store().get_logged_model(model_id).status)


def _server_has_closed(run_id: str) -> bool:
    """Whether it is the run of a candidate in review, or one from which twins fetch this server's metadata."""
    from mlflow.server.handlers import _get_model_registry_store  # noqa: PLC0415 - as above

    home = Home.find()
    if Closed(home.path).has_run(run_id):
        return True
    for name in home.anchor().models:  # one that was made a moment ago
        with suppress(MlflowException):  # not registered yet
            if _get_model_registry_store().get_registered_model(name).tags.get(METADATA_RUN) == run_id:
                return True
    return False


class WriteOnceArtifacts(LocalArtifactRepository):  # type: ignore[misc]  # mypy skips MLflow
    """Artifacts in a folder, written once.

    Args:
        artifact_uri: `twinseal+file:///folder`.
        tracking_uri: MLflow's; passed on.
        registry_uri: MLflow's; passed on.
        status_of: Where to ask whether a candidate is final.
        is_closed: Where to ask whether nothing is added to a run.
    """

    def __init__(
        self,
        artifact_uri: str,
        tracking_uri: str | None = None,
        registry_uri: str | None = None,
        status_of: StatusOf = _server_status,
        is_closed: Callable[[str], bool] = _server_has_closed,
    ) -> None:
        super().__init__(artifact_uri.removeprefix(PREFIX), tracking_uri, registry_uri)
        self._status_of, self._is_closed = status_of, is_closed

    def get_local_path(self, artifact_path: str) -> str:
        """As MLflow's, for a plain path without links."""
        self._check_way(artifact_path)
        return str(super().get_local_path(artifact_path))

    def list_artifacts(self, path: str | None = None) -> list[object]:
        """As MLflow's, for a plain path without links."""
        if path:
            self._check_way(path)
        return [item for item in super().list_artifacts(path) if item.path != STAGING]

    def log_artifacts(self, local_dir: str, artifact_path: str | None = None) -> None:
        """Each file of a folder, as `log_artifact`; links in it are not followed."""
        top = Path(local_dir)
        for path in sorted(top.rglob("*")):
            if path.is_file() and not path.is_symlink():
                below = path.parent.relative_to(top).as_posix()
                parts = [part for part in (artifact_path, "" if below == "." else below) if part]
                self.log_artifact(str(path), "/".join(parts) or None)

    def log_artifact_from_stream(
        self, stream: BinaryIO, artifact_file_name: str, artifact_path: str | None = None
    ) -> None:
        """As MLflow's; a disk that takes nothing is said to be so."""
        with _disk_full(artifact_file_name):
            super().log_artifact_from_stream(stream, artifact_file_name, artifact_path)

    async def log_artifact_from_async_stream(
        self, chunks: AsyncIterable[bytes], artifact_file_name: str, artifact_path: str | None = None
    ) -> None:
        """As `log_artifact_from_stream`."""
        with _disk_full(artifact_file_name):
            await super().log_artifact_from_async_stream(chunks, artifact_file_name, artifact_path)

    def delete_artifacts(self, artifact_path: str | None = None) -> NoReturn:
        """Refused."""
        deny(f"{artifact_path or 'all artifacts'}: expected files to stay, got a request to delete them")

    def _get_destination_artifact_path(
        self, artifact_file_name: str, artifact_path: str | None = None
    ) -> tuple[str, str]:
        path = "/".join(part for part in (artifact_path, os.path.basename(artifact_file_name)) if part)  # noqa: PTH119
        self._check_way(path)
        self._require_open(path)
        place = Path(self.artifact_dir) / path
        if os.path.lexists(place):
            deny(f"{path}: expected a new name, got one that is taken: files are written once")
        with _names_refused(path):
            return super()._get_destination_artifact_path(artifact_file_name, artifact_path)  # type: ignore[no-any-return]

    def _create_staging_artifact(
        self, artifact_file_name: str, artifact_path: str | None = None
    ) -> tuple[int, str, str]:
        _, destination = self._get_destination_artifact_path(artifact_file_name, artifact_path)
        staging = Path(self.artifact_dir) / STAGING
        staging.mkdir(mode=0o700, exist_ok=True)
        descriptor, place = tempfile.mkstemp(dir=require_folder(staging))
        return descriptor, place, destination

    def _publish_staged_artifact(
        self,
        temp_file_path: str,
        destination_file_path: str,
        finalize_temp_path: Callable[[str], None] | None = None,
    ) -> None:
        if finalize_temp_path is not None:
            finalize_temp_path(temp_file_path)
        path = Path(destination_file_path).relative_to(self.artifact_dir).as_posix()
        self._check_way(path)
        self._require_open(path)  # it may have become final while the file was on its way
        try:
            with _names_refused(path):
                os.link(temp_file_path, destination_file_path, follow_symlinks=False)  # unlike a rename, never over one
        except FileExistsError:
            deny(f"{path}: expected a new name, got one that is taken: files are written once")
        finally:
            self._cleanup_staged_artifact(temp_file_path)

    def _require_open(self, path: str) -> None:
        found = _CANDIDATE.search(path)
        if found and self._status_of(found.group(1)) != _PENDING:
            deny(f"{path}: expected a candidate that is not final, got one that is: nothing is added to it")
        run = _RUN.match(path)
        if run and self._is_closed(run.group(1)):
            deny(
                f"{path}: expected a run to which something may be added, got that of a candidate in review or "
                "released, or with the registrar's metadata"
            )

    def _check_way(self, path: str) -> None:
        """Refuse a path that is not plain, or a link on its way."""
        if not is_plain(path):
            raise MlflowException(
                f"path: expected names that are plain letters, digits and signs, got {path[:120]!r}",
                error_code=INVALID_PARAMETER_VALUE,
            )
        if path.split("/", maxsplit=1)[0] == STAGING:
            deny(f"{path[:120]}: expected another name, got that of uploads that are not complete")
        place = Path(self.artifact_dir)
        for part in path.split("/"):
            place = place / part
            try:
                mode = place.lstat().st_mode
            except OSError:
                return
            if not (stat.S_ISDIR(mode) or stat.S_ISREG(mode)):
                deny(f"{path[:120]}: expected folders and files on the way, got a link or something else")


@contextmanager
def _names_refused(path: str) -> Iterator[None]:
    """Say that a path is below a file, or that the disk takes no such name: HTTP 400."""
    try:
        yield
    except FileExistsError:
        raise
    except OSError as error:
        if error.errno not in _NAMES:
            raise
        shown = path if len(path) <= 120 else f"{path[:120]}…"
        raise MlflowException(
            f"{shown}: expected a path below folders, with names that this server's disk takes, got another "
            f"({error.strerror})",
            error_code=INVALID_PARAMETER_VALUE,
        ) from error


@contextmanager
def _disk_full(name: str) -> Iterator[None]:
    """Say that the disk is full, or fails: HTTP 503."""
    try:
        yield
    except OSError as error:
        if error.errno not in _DISK:
            raise
        log.warning("artifacts.not_written", error=errno.errorcode[error.errno])
        raise MlflowException(
            f"{name[:120]}: expected room on this server's disk, got an error ({error.strerror}): nothing was kept. "
            "Its administrator can look: df -h",
            error_code=TEMPORARILY_UNAVAILABLE,
        ) from error


def is_plain(path: str) -> bool:
    """Whether every part of a decoded path is a name that means nothing else, also if it were decoded again.

    >>> is_plain("1/models/m-1/artifacts/model.safetensors"), is_plain("a/../b"), is_plain("a/%2e%2e/b")
    (True, False, False)
    """
    decoded = unquote(path)
    parts = path.split("/")
    return (
        decoded == path
        and not {"", ".", ".."} & set(parts)
        and "\\" not in path
        and path.isprintable()
        and all(len(part.encode()) <= 255 for part in parts)
    )
