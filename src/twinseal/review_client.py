"""Review client: a reviewer's machine asks a server what waits, fetches a candidate, and sends a signed decision.

Nothing that the server says is trusted: the candidate is verified here, from the bytes, by the reviewer's own anchor;
what is signed is composed here. A server can hide a candidate, and can do no more.

Example:
    with ReviewServer("https://review.plant.example") as server:
        fetched = server.fetch(server.waiting()[0].candidate, folder)
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from twinseal.digests import canonical_json, parse_json
from twinseal.errors import DigestMismatchError, EvidenceError, RegistryError, TrustError
from twinseal.files import write_whole
from twinseal.trust.release.release import Release
from twinseal.trust.release.request import Request
from twinseal.trust.release.review_file import MAX_APPROVAL_BYTES
from twinseal.twin.connection import SIGN_IN, Answer, Client, Deadline, basic, limit_bytes
from twinseal.twin.fetch import fetch

CALLS = "/api/twinseal/v1"
LIMIT_S = 300.0  # of one request; between two of them the reviewer reads
MAX_ANSWER_BYTES = 16 << 20  # a candidate with all its reviews
MAX_REFUSAL_BYTES = 64 << 10
MAX_REPORT_BYTES = 64 << 20
_CANDIDATE = re.compile(r"m-[0-9a-f]{32}\Z")
_REVIEW = re.compile(r"[a-z][a-z0-9_-]{0,39}(\.comment-[0-9]{1,3})?\.json\Z")


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


def _authorization() -> str:
    """The value of the header Authorization.

    Raises:
        RegistryError: There is no account, or the token is none.
    """
    name, password, token = (os.environ.get(f"MLFLOW_TRACKING_{it}", "") for it in ("USERNAME", "PASSWORD", "TOKEN"))
    if name:
        return basic(name, password)
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

    Who asks: MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or the identity provider's access token in
    MLFLOW_TRACKING_TOKEN.

    Args:
        address: `http(s)://host[:port]`.

    Raises:
        RegistryError: The address is none, or there is no account.
    """

    def __init__(self, address: str) -> None:
        parts = urlsplit(address)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.path.strip("/"):
            raise RegistryError(f"--from: expected an address like https://host:5000, got {address[:60]!r}")
        self._base = f"{parts.scheme}://{parts.netloc}"
        self._client = Client(
            self._base, Deadline(LIMIT_S), authorization=_authorization(), name="server", alive="/twinseal/live"
        )

    def __enter__(self) -> ReviewServer:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def waiting(self) -> tuple[Waiting, ...]:
        """What the server lists, as it lists it.

        Raises:
            RegistryError: It could not be reached, refused, or answered nonsense.
        """
        found = self._json("/reviews")
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
            DigestMismatchError: A file is another one, or longer.
            EvidenceError, SignatureError: The release is malformed.
            OSError: It cannot be written.
        """
        answer = self._json(f"/reviews/{_id(candidate)}")
        try:
            release = Release.from_bytes(answer["release_json"].encode(), "release.json")
            request = Request(release, answer["role_json"].encode())
            if release.mlflow_model_id != candidate:
                raise RegistryError(f"{candidate}: expected its release, got that of {release.mlflow_model_id}")
            reviews = dict(answer["reviews"])
        except (KeyError, TypeError, AttributeError) as error:
            raise RegistryError(f"{candidate}: expected a release and its role, got something else") from error
        needed, free = sum(record.length for record in release.files), shutil.disk_usage(folder).free
        if needed > free:
            raise RegistryError(
                f"{candidate}: expected files of at most {free} bytes, for which there is room, got more"
            )
        try:
            for record in release.files:
                fetch(self, release, record, folder / "bundle")
        except DigestMismatchError as error:
            error.remedy = "The server's copy was changed. Do not sign; tell the registrar."
            raise
        (folder / "approvals").mkdir()
        for name, value in reviews.items():
            if _REVIEW.match(str(name)):
                write_whole(folder / "approvals" / name, canonical_json(value)[:MAX_APPROVAL_BYTES])
        return Fetched(request, folder / "bundle", folder / "approvals")

    def open(self, path: str, limit: int) -> Iterator[bytes]:
        """One file of a candidate, `candidates/<id>/<path>`, as `byte_sources.Source` says."""
        _, candidate, file = path.split("/", 2)
        place = f"{CALLS}/reviews/{_id(candidate)}/files/{quote(file)}"
        return limit_bytes(self._ask(place, file).chunks(limit), file, limit)

    def report(self, candidate: str) -> bytes:
        """The report, as the server has it: who reads it compares its digest with the signed verdict's.

        Raises:
            RegistryError: As `fetch`.
        """
        return _whole(self._ask(f"/twinseal/review/{_id(candidate)}/report", "the report"), "report", MAX_REPORT_BYTES)

    def send(self, candidate: str, review: dict[str, Any]) -> tuple[str, str]:
        """Send a signed review; where the release stands now, and what the server has to say of it.

        Raises:
            RegistryError: The server could not be reached.
            TrustError: It refused the review.
        """
        answer = self._json(f"/reviews/{_id(candidate)}/decisions", {"review": review})
        if not isinstance(answer, dict):
            raise RegistryError("decision: expected what became of it, got something else")
        return str(answer.get("state"))[:20], str(answer.get("note", ""))[:500]

    def _json(self, path: str, body: Any = None) -> Any:
        data = _whole(self._ask(CALLS + path, path, body), path, MAX_ANSWER_BYTES)
        try:
            return parse_json(data, path, limit=MAX_ANSWER_BYTES)
        except EvidenceError as error:
            raise RegistryError(f"{path}: expected JSON, got something else") from error

    def _ask(self, path: str, what: str, body: Any = None) -> Answer:
        self._client.deadline.restart()
        answer = self._client.ask(self._base + path, what, None if body is None else json.dumps(body).encode())
        if answer.status not in (200, 201):
            _refused(answer.status, _whole(answer, what, MAX_REFUSAL_BYTES), what)
        return answer


def _whole(answer: Answer, what: str, limit: int) -> bytes:
    data = bytearray()  # a server may send it byte by byte
    for chunk in limit_bytes(answer.chunks(limit), what, limit):
        data += chunk
    return bytes(data)


def _refused(status: int, data: bytes, what: str) -> None:
    """Raise what the server said, cut to a line.

    Raises:
        TrustError: It refused.
        RegistryError: It failed, or there is no such thing.
    """
    try:
        value = parse_json(data, what)
        message, remedy = str(value.get("message", "")), str(value.get("remedy", ""))
    except (EvidenceError, AttributeError):
        message, remedy = "", ""
    said = " ".join((message or f"HTTP {status}").split())[:400]
    kind = TrustError if status == 403 else RegistryError
    remedy = " ".join(remedy.split())[:300] or (SIGN_IN if status == 401 else "")
    raise kind(f"{what[:80]}: the server refused: {said}", remedy=remedy)


def _id(candidate: object) -> str:
    if not isinstance(candidate, str) or not _CANDIDATE.match(candidate):
        raise RegistryError(f"candidate: expected an id like m-0123…, got {str(candidate)[:80]!r}")
    return candidate
