"""Review client: a reviewer's machine asks a server what waits, fetches a candidate, and sends a signed decision.

Nothing that the server says is trusted: the candidate is verified here, from the bytes, by the reviewer's own anchor;
what is signed is composed here. A server can hide a candidate, and can do no more.

Example:
    with ReviewServer("https://review.plant.example") as server:
        fetched = server.fetch(server.waiting()[0].candidate, folder)
"""

from __future__ import annotations

import base64
import json
import os
import re
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import httpcore

from twinseal.digests import canonical_json, parse_json, sha256
from twinseal.errors import DigestMismatchError, EvidenceError, RegistryError, TrustError
from twinseal.files import check_path, write_whole
from twinseal.trust.release.release import Release
from twinseal.trust.release.request import Request
from twinseal.trust.release.review_file import MAX_APPROVAL_BYTES
from twinseal.twin.connection import SOCKET_S, Deadline, DeadlineBackend

CALLS = "/api/twinseal/v1"
MAX_ANSWER_BYTES = 16 << 20
MAX_REPORT_BYTES = 64 << 20
_CANDIDATE = re.compile(r"m-[0-9a-f]{32}\Z")
_REVIEW = re.compile(r"[a-z][a-z0-9_-]{0,39}(\.comment-[0-9]{1,3})?\.json\Z")
_FOREIGN = (httpcore.TimeoutException, httpcore.NetworkError, httpcore.ProtocolError, httpcore.UnsupportedProtocol)


@dataclass(frozen=True)
class Waiting:
    """A candidate, as the server lists it.

    Attributes:
        candidate: Its id.
        model: Name of the model.
        release: Version.
        state: waits, approved, rejected, registered or replaced.
    """

    candidate: str
    model: str
    release: int
    state: str


def _authorization(credentials: tuple[str, str] | None) -> str:
    """The value of the header Authorization.

    Raises:
        RegistryError: There is no account, or the token is none.
    """
    name, password = credentials or (
        os.environ.get("MLFLOW_TRACKING_USERNAME", ""),
        os.environ.get("MLFLOW_TRACKING_PASSWORD", ""),
    )
    token = os.environ.get("MLFLOW_TRACKING_TOKEN", "")
    if name:
        return "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()
    if re.fullmatch(r"[A-Za-z0-9._~+/=-]+", token):
        return f"Bearer {token}"
    raise RegistryError(
        "account: expected its name and password, or a token, got none",
        remedy="export MLFLOW_TRACKING_USERNAME=you MLFLOW_TRACKING_PASSWORD=…, or MLFLOW_TRACKING_TOKEN=…",
    )


@dataclass(frozen=True)
class Fetched:
    """A candidate on this machine, not verified yet.

    Attributes:
        request: What would be signed.
        bundle: The folder of its files.
        approvals: The folder of the reviews that the server has.
    """

    request: Request
    bundle: Path
    approvals: Path


class ReviewServer:
    """A server that `twinseal serve` runs. Holds connections: use it as a context manager.

    Args:
        address: `http(s)://host[:port]`.
        credentials: Name and password of the account; else MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD; else
            the access token of the identity provider in MLFLOW_TRACKING_TOKEN.
        deadline_s: Seconds for everything together.

    Raises:
        RegistryError: The address is none, or there is no account.
    """

    def __init__(self, address: str, *, credentials: tuple[str, str] | None = None, deadline_s: float = 300.0) -> None:
        parts = urlsplit(address)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.path.strip("/"):
            raise RegistryError(f"--from: expected an address like https://host:5000, got {address[:60]!r}")
        self._base = f"{parts.scheme}://{parts.netloc}"
        authorization = _authorization(credentials)
        self._headers: dict[bytes | str, bytes | str] = {
            "Host": parts.netloc,
            "Accept-Encoding": "identity",
            "User-Agent": "twinseal",
            "Authorization": authorization,
        }
        self._pool = httpcore.ConnectionPool(
            ssl_context=ssl.create_default_context(), network_backend=DeadlineBackend(Deadline(deadline_s))
        )

    def __enter__(self) -> ReviewServer:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.close()

    def waiting(self) -> tuple[Waiting, ...]:
        """What the server lists, as it lists it.

        Raises:
            RegistryError: It could not be reached, refused, or answered nonsense.
        """
        found = self._json("GET", "/reviews")
        try:
            return tuple(
                Waiting(_id(item["candidate"]), str(item["model"])[:64], int(item["release"]), str(item["state"])[:20])
                for item in found
            )
        except (KeyError, TypeError, ValueError) as error:
            raise RegistryError("reviews: expected a list of candidates, got something else") from error

    def fetch(self, candidate: str, folder: Path) -> Fetched:
        """Copy a candidate and its reviews into the empty `folder`; each file is what the release says.

        Raises:
            RegistryError: The server could not be reached, refused, or answered nonsense.
            DigestMismatchError: A file is another one.
            EvidenceError, SignatureError: The release is malformed.
            OSError: It cannot be written.
        """
        answer = self._json("GET", f"/reviews/{_id(candidate)}")
        try:
            release = Release.from_bytes(answer["release_json"].encode(), "release.json")
            request = Request(release, answer["role_json"].encode())
            reviews = dict(answer["reviews"])
        except (KeyError, TypeError, AttributeError) as error:
            raise RegistryError(f"{candidate}: expected a release and its role, got something else") from error
        for record in release.files:
            check_path(record.path)
            place = f"{CALLS}/reviews/{candidate}/files/{quote(record.path)}"
            data = self._ask("GET", place, None, record.length, record.path)
            if (len(data), sha256(data)) != (record.length, record.sha256):
                raise DigestMismatchError(
                    f"{record.path}: expected sha256 {record.sha256[:12]}… as the release lists it, got another file",
                    remedy="The server's copy was changed. Do not sign; tell the registrar.",
                )
            write_whole(folder / "bundle" / record.path, data)
        (folder / "approvals").mkdir()
        for name, value in reviews.items():
            if _REVIEW.match(str(name)):
                write_whole(folder / "approvals" / name, canonical_json(value)[:MAX_APPROVAL_BYTES])
        return Fetched(request, folder / "bundle", folder / "approvals")

    def report(self, candidate: str) -> bytes:
        """The report, as the server has it: who reads it compares its digest with the signed verdict's.

        Raises:
            RegistryError: As `fetch`.
        """
        return self._ask("GET", f"/twinseal/review/{_id(candidate)}/report", None, MAX_REPORT_BYTES, "the report")

    def send(self, candidate: str, review: dict[str, Any]) -> tuple[str, str]:
        """Send a signed review; where the release stands now, and what the server has to say of it.

        Raises:
            RegistryError: The server could not be reached.
            TrustError: It refused the review.
        """
        answer = self._json("POST", f"/reviews/{_id(candidate)}/decisions", {"review": review})
        if not isinstance(answer, dict):
            raise RegistryError("decision: expected what became of it, got something else")
        return str(answer.get("state"))[:20], str(answer.get("note", ""))[:500]

    def _json(self, method: str, path: str, body: Any = None) -> Any:
        data = self._ask(method, CALLS + path, body, MAX_ANSWER_BYTES, path)
        try:
            return parse_json(data, path, limit=MAX_ANSWER_BYTES)
        except EvidenceError as error:
            raise RegistryError(f"{path}: expected JSON, got something else") from error

    def _ask(self, method: str, path: str, body: Any, limit: int, what: str) -> bytes:
        content = None if body is None else json.dumps(body).encode()
        headers = dict(self._headers)
        if content is not None:
            headers |= {"Content-Type": "application/json", "Content-Length": str(len(content))}
        with _errors(what):
            request = httpcore.Request(
                method,
                self._base + path,
                headers=headers,
                content=content,
                extensions={"timeout": dict.fromkeys(("connect", "read", "write", "pool"), SOCKET_S)},
            )
            response = self._pool.handle_request(request)
            try:
                data = b""
                for chunk in response.iter_stream():
                    data += chunk
                    if len(data) > limit:
                        raise DigestMismatchError(f"{what}: expected at most {limit} bytes, got more")
            finally:
                response.close()
        if response.status not in (200, 201):
            _refused(response.status, data, what)
        return data


def _refused(status: int, data: bytes, what: str) -> None:
    """Raise what the server said, cut to a line.

    Raises:
        TrustError: It refused.
        RegistryError: It failed, or there is no such thing.
    """
    try:
        value = json.loads(data)
        message, remedy = str(value.get("message", "")), str(value.get("remedy", ""))
    except (ValueError, AttributeError):
        message, remedy = "", ""
    said = " ".join((message or f"HTTP {status}").split())[:400]
    kind = TrustError if status == 403 else RegistryError
    raise kind(f"{what[:80]}: the server refused: {said}", remedy=" ".join(remedy.split())[:300])


def _id(candidate: object) -> str:
    if not isinstance(candidate, str) or not _CANDIDATE.match(candidate):
        raise RegistryError(f"candidate: expected an id like m-0123…, got {str(candidate)[:80]!r}")
    return candidate


@contextmanager
def _errors(what: str) -> Iterator[None]:
    try:
        yield
    except (*_FOREIGN, OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        raise RegistryError(
            f"{what[:80]}: expected an answer of the server, got none ({reason})",
            remedy="Is the server running, and its address right? A server answers: curl URL/twinseal/live",
        ) from error
