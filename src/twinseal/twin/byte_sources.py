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

import base64
import errno
import os
import ssl
import stat
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol
from urllib.parse import quote, urlsplit

import httpcore

from twinseal.digests import parse_json
from twinseal.errors import DigestMismatchError, EvidenceError, RegistryError, TwinsealError
from twinseal.files import check_path
from twinseal.twin.connection import CHUNK, LARGE_BYTES, SOCKET_S, Deadline, DeadlineBackend, ReceiveBatching

METADATA_RUN = "twinseal.metadata_run"  # the registered model's tag that names the run which carries the metadata
_ANSWER_LIMIT = 1 << 20
_FOREIGN = (httpcore.TimeoutException, httpcore.NetworkError, httpcore.ProtocolError, httpcore.UnsupportedProtocol)


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
            descriptor = self._open_beneath(path)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR):
                raise FileNotFoundError(f"{path}: no such file in the mirror") from error
            raise RegistryError(f"{path}: expected a readable file in the mirror, got {error.strerror}") from error
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise RegistryError(f"{path}: expected a regular file in the mirror, got something else")
        return limit_bytes(_read(descriptor), path, limit)

    def _open_beneath(self, path: str) -> int:
        """Open one part after the other, so that no part can be a link. Non-blocking: a fifo must not hang us."""
        *folders, name = path.split("/")
        here = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            for folder in folders:
                below = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=here)
                os.close(here)
                here = below
            return os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=here)
        finally:
            os.close(here)


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
        self._headers: dict[bytes | str, bytes | str] = {
            "Host": parts.netloc,
            "Accept-Encoding": "identity",
            "User-Agent": "twinseal",
        }
        credentials = credentials or _environment_credentials()
        if credentials is not None:
            self._headers["Authorization"] = "Basic " + base64.b64encode(":".join(credentials).encode()).decode()
        self._deadline = Deadline(deadline_s, clock)
        self._pool = httpcore.ConnectionPool(
            ssl_context=ssl.create_default_context(),
            max_connections=2,
            network_backend=DeadlineBackend(self._deadline),
        )

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
        self._pool.close()

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
        with _registry_errors(what):
            request = httpcore.Request("GET", url, headers=self._headers, extensions={"timeout": _timeouts()})
            try:
                response = self._pool.handle_request(request)
            except (httpcore.RemoteProtocolError, httpcore.ReadError):
                # A connection that was kept, and that the server has closed meanwhile: once more, on a fresh one.
                response = self._pool.handle_request(request)
        try:
            _check_response(response, what, limit)
        except BaseException:
            response.close()
            raise
        return _body(response, what)


def limit_bytes(chunks: Iterator[bytes], path: str, limit: int) -> Iterator[bytes]:
    """`chunks`, as long as they come to no more than `limit` bytes.

    Raises:
        DigestMismatchError: They come to more; the surplus was not handed on.
    """
    total = 0
    for chunk in chunks:
        total += len(chunk)
        if total > limit:
            raise DigestMismatchError(f"{path}: expected at most {limit} bytes, got more")
        yield chunk


def _environment_credentials() -> tuple[str, str] | None:
    user, password = (os.environ.get(f"MLFLOW_TRACKING_{name}", "") for name in ("USERNAME", "PASSWORD"))
    return (user, password) if user else None


def _read(descriptor: int) -> Iterator[bytes]:
    with os.fdopen(descriptor, "rb") as stream:
        while chunk := stream.read(CHUNK):
            yield chunk


def _check_response(response: httpcore.Response, what: str, limit: int) -> None:
    headers = {key.lower(): value for key, value in response.headers}
    if response.status == 404:
        raise FileNotFoundError(f"{what}: no such file in the registry")
    if response.status != 200:
        raise RegistryError(f"{what}: expected HTTP 200 of the registry, got {response.status}")
    encoding = headers.get(b"content-encoding", b"identity")
    if encoding.lower() != b"identity":
        raise RegistryError(f"{what}: expected plain bytes of the registry, got encoding {encoding[:20]!r}")
    length = headers.get(b"content-length", b"0")
    if not length.isdigit() or int(length[:20]) > limit:
        raise DigestMismatchError(f"{what}: expected at most {limit} bytes, got a length of {length[:20]!r}")


def _body(response: httpcore.Response, what: str) -> Iterator[bytes]:
    try:
        with _registry_errors(what):
            gathering = ReceiveBatching(response)
            for chunk in response.iter_stream():
                gathering.count_bytes(len(chunk))
                yield chunk
    finally:
        response.close()


@contextmanager
def _registry_errors(what: str) -> Iterator[None]:
    """Map what the network raises to RegistryError: `what` was being fetched."""
    try:
        yield
    except (*_FOREIGN, OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        raise RegistryError(
            f"{what}: expected an answer of the registry, got none ({reason})",
            remedy="Is the server running, and its address right? A server answers: curl URL/health",
        ) from error


def _timeouts() -> Mapping[str, float]:
    return dict.fromkeys(("connect", "read", "write", "pool"), SOCKET_S)
