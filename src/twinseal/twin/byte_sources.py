"""Sources: where the twin's bytes come from. None of them is trusted.

A source opens paths of one small tree:

    metadata/timestamp.json, metadata/3.snapshot.json, …     TUF metadata
    targets/<model>/<hash>.release.json                       the release
    candidates/<mlflow model id>/<path>                       the files that the release lists

`RestSource` reads it from a stock MLflow server over plain REST; `DirectorySource` from a disk, for air gaps. What a
source adds is bounds: a length for each file, one deadline for everything, no redirects, no compression, one host.

    >>> list(DirectorySource(Path("/nowhere")).open("metadata/timestamp.json", 100))
    Traceback (most recent call last):
    FileNotFoundError: metadata/timestamp.json: no such file in the mirror
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol
from urllib.parse import quote, urlsplit

from twinseal.digests import parse_json
from twinseal.errors import EvidenceError, RegistryError, TwinsealError
from twinseal.files import check_path
from twinseal.reading import open_beneath
from twinseal.twin.connection import CHUNK, LARGE_BYTES, SIGN_IN, Client, Deadline, basic, limit_bytes

METADATA_RUN = "twinseal.metadata_run"  # the registered model's tag that names the run which carries the metadata
_ANSWER_LIMIT = 1 << 20


class Source(Protocol):
    """Something that opens untrusted files by path."""

    def open(self, path: str, limit: int) -> Iterator[bytes]:
        """The bytes of the file at `path`, in chunks; at most `limit` in all.

        The file is opened before this returns; the rest is read as it is asked for.

        Raises:
            FileNotFoundError: There is no such file.
            RegistryError: The source could not be reached, took too long, or answered nonsense.
            DigestMismatchError: There are more than `limit` bytes; while reading.
            EvidenceError: `path` is not a plain relative path.
        """


class DirectorySource:
    """A mirror on a disk.

    Args:
        directory: The folder that holds `metadata`, `targets` and `candidates`.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def open(self, path: str, limit: int) -> Iterator[bytes]:
        """As Source says. Links are not followed, and only regular files are read."""
        check_path(path)
        try:
            with open_beneath(self._directory, path) as stream:
                descriptor = os.dup(stream.fileno())
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR):
                raise FileNotFoundError(f"{path}: no such file in the mirror") from error
            raise RegistryError(f"{path}: expected a readable file in the mirror, got {error.strerror}") from error
        return limit_bytes(_read(descriptor), path, limit)


class RestSource:
    """A stock MLflow server, over plain REST. No redirects, no compressed bodies, no proxies, one host.

    Holds connections: use it as a context manager, or close it.

    Args:
        base_url: Address of the server, `http(s)://host[:port][/prefix]`.
        model: Name of the registered model.
        deadline_s: Seconds for everything that is ever opened through this source. A socket's own timeout is not
            enough: a byte every nine seconds never trips it. The clock starts at the first opening.
        credentials: User and password for MLflow's basic-auth, if it asks; else MLFLOW_TRACKING_USERNAME and _PASSWORD.
        clock: Seconds that never run backwards.

    Raises:
        RegistryError: The address is none.
    """

    def __init__(
        self,
        base_url: str,
        model: str,
        *,
        deadline_s: float = 300.0,
        credentials: tuple[str, str] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        parts = urlsplit(base_url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.query:
            raise RegistryError(
                f"registry: expected an address like https://host:5000, got {parts.hostname or base_url[:40]!r}",
                remedy="User and password go into MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD instead.",
            )
        self._base = base_url.rstrip("/")
        self._model = model
        self._run = ""
        credentials = credentials or _environment_credentials()
        authorization = basic(*credentials) if credentials is not None else ""
        self._client = Client(base_url, Deadline(deadline_s, clock), authorization=authorization)

    def open(self, path: str, limit: int) -> Iterator[bytes]:
        """As Source says."""
        check_path(path)
        kind, _, rest = path.partition("/")
        if kind == "candidates":
            return limit_bytes(self._candidate(rest, path, limit), path, limit)
        url = f"{self._base}/get-artifact?run_uuid={self._metadata_run()}&path={quote(path, safe='')}"
        return limit_bytes(self._get(url, path, limit), path, limit)

    def __enter__(self) -> RestSource:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _candidate(self, rest: str, path: str, limit: int) -> Iterator[bytes]:
        """A candidate's file. A large one by the server's streaming way, if it is kept there: several times faster."""
        model_id, _, file = rest.partition("/")
        place = self._served(model_id) if limit >= LARGE_BYTES else ""
        if place:
            try:
                return self._get(f"{self._base}/api/2.0/mlflow-artifacts/artifacts/{place}/{file}", path, limit)
            except (FileNotFoundError, RegistryError):
                pass  # the server offered it and failed; use the other route
        query = f"artifact_file_path={quote(file, safe='')}"
        url = f"{self._base}/ajax-api/2.0/mlflow/logged-models/{quote(model_id, safe='')}/artifacts/files?{query}"
        return self._get(url, path, limit)

    def _served(self, model_id: str) -> str:
        """Where below the server's own artifacts a candidate lies, or nothing: a hint, like all that MLflow says."""
        where = f"logged model {model_id}"
        try:
            url = f"{self._base}/api/2.0/mlflow/logged-models/{quote(model_id, safe='')}"
            data = b"".join(limit_bytes(self._get(url, where, _ANSWER_LIMIT), where, _ANSWER_LIMIT))
            scheme, _, place = str(parse_json(data, where)["model"]["info"]["artifact_uri"]).partition(":/")
            check_path(place)
        except (TwinsealError, FileNotFoundError, KeyError, TypeError):
            return ""
        return place if scheme == "mlflow-artifacts" else ""

    def _metadata_run(self) -> str:
        """The run that carries the metadata: a hint, like all that MLflow says; a wrong one leads nowhere."""
        if not self._run:
            url = f"{self._base}/api/2.0/mlflow/registered-models/get?name={quote(self._model, safe='')}"
            where = f"registered model {self._model}"
            try:
                data = b"".join(limit_bytes(self._get(url, where, _ANSWER_LIMIT), where, _ANSWER_LIMIT))
                tags = parse_json(data, where)["registered_model"].get("tags", [])
                self._run = {tag["key"]: tag.get("value", "") for tag in tags}[METADATA_RUN]
            except FileNotFoundError as error:
                raise RegistryError(
                    f"{where}: expected one, got none",
                    remedy="Have it registered, where its registrar works: twinseal register. Or is --model misspelt, "
                    "or --from another server's?",
                ) from error
            except (EvidenceError, KeyError, TypeError, AttributeError) as error:
                raise RegistryError(f"{where}: expected MLflow's answer with {METADATA_RUN}, got another") from error
            if not (
                isinstance(self._run, str) and len(self._run) == 32 and self._run.isalnum() and self._run.isascii()
            ):
                raise RegistryError(f"{where}: expected a run id in {METADATA_RUN}, got {str(self._run)[:40]!r}")
        return self._run

    def _get(self, url: str, what: str, limit: int) -> Iterator[bytes]:
        answer = self._client.ask(url, what)
        if answer.status == 200:
            return answer.chunks(limit)
        answer.close()
        if answer.status == 404:
            raise FileNotFoundError(f"{what}: no such file in the registry")
        raise RegistryError(
            f"{what}: expected HTTP 200 of the registry, got {answer.status}",
            remedy=SIGN_IN if answer.status in (401, 403) else "",
        )


def _environment_credentials() -> tuple[str, str] | None:
    user, password = (os.environ.get(f"MLFLOW_TRACKING_{name}", "") for name in ("USERNAME", "PASSWORD"))
    return (user, password) if user else None


def _read(descriptor: int) -> Iterator[bytes]:
    with os.fdopen(descriptor, "rb") as stream:
        while chunk := stream.read(CHUNK):
            yield chunk
