"""The server where candidates are reviewed (`twinseal serve`), as an engineer's machine meets it.

When MLFLOW_TRACKING_URI is such a server, it stages the release of a candidate that was submitted to it, keeps the
reviews, and publishes: it has the repository of record and the registrar's key, and this machine needs neither. With
any other store this machine does that itself (`registration.py`).

What the server stages is compared with what was submitted, byte for byte, before it is called a request.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mlflow.utils.credentials import get_default_host_creds
from mlflow.utils.rest_utils import http_request

from twinseal.digests import parse_json
from twinseal.errors import EvidenceError, RegistryError
from twinseal.registry.store import Store, registry_errors
from twinseal.trust.release.model_role import ApprovalCount
from twinseal.trust.release.release import MAX_VERSION, Release
from twinseal.trust.release.request import Request

CALLS = "/api/twinseal/v1"
MAX_ANSWER_BYTES = 16 << 20


@dataclass(frozen=True)
class ReviewServer:
    """A server that reviews.

    Attributes:
        address: `http(s)://host[:port]`.
        releases: The version of the current release of each model; 0 before the first.
    """

    address: str
    releases: dict[str, int]

    def stage(self, model_id: str) -> Request:
        """Ask for the review of a candidate; what reviewers are asked to sign.

        Raises:
            RegistryError: The server could not be reached, or refused; says why.
            EvidenceError: What it staged is malformed.
        """
        answer = _ask(self.address, "POST", "/reviews", {"candidate": model_id})
        try:
            release, role = answer["release_json"].encode(), answer["role_json"].encode()
        except (KeyError, TypeError, AttributeError) as error:
            raise RegistryError(f"review of {model_id}: expected a release and its role, got something else") from error
        return Request(Release.from_bytes(release, "release.json"), role)

    def standing(self, model_id: str) -> tuple[str, ApprovalCount]:
        """Where the review of a candidate stands: its state, and who has signed, as the server says.

        Raises:
            RegistryError: As `stage`.
        """
        answer = _ask(self.address, "GET", f"/reviews/{model_id}")
        try:
            signed, others = (tuple(map(str, answer[name])) for name in ("approved_by", "can_still_sign"))
            count = ApprovalCount(str(answer["model"]), int(answer["threshold"]), signed, others)
            return str(answer["state"]), count
        except (KeyError, TypeError, ValueError) as error:
            raise RegistryError(f"review of {model_id}: expected where it stands, got something else") from error


def review_page(store: Store, model_id: str) -> str:
    """The address of the page where a candidate is reviewed; "" where there is none.

    Raises:
        RegistryError: As `review_server`.
    """
    server = review_server(store)
    return f"{server.address}/twinseal/review/{model_id}" if server else ""


def review_server(store: Store | None) -> ReviewServer | None:
    """The server behind a store, if it is one that reviews; None for MLflow's own, and without a server.

    Raises:
        RegistryError: It could not be reached, or answered nonsense.
    """
    if store is None or not store.tracking_uri.startswith(("http://", "https://")):
        return None
    answer = _ask(store.tracking_uri, "GET", "/server", absent=None)
    if answer is None:
        return None
    releases = answer.get("releases") if isinstance(answer, dict) else None
    if not isinstance(releases, dict) or not all(
        type(version) is int and 0 <= version <= MAX_VERSION for version in releases.values()
    ):
        raise RegistryError(f"{CALLS}/server: expected what is released there, got something else")
    return ReviewServer(store.tracking_uri.rstrip("/"), releases)


def _ask(address: str, method: str, path: str, body: Any = None, **absent: Any) -> Any:
    """The answer to one call; `absent` where the server knows no such call."""
    with registry_errors(f"{CALLS}{path}"):
        credentials = get_default_host_creds(address.rstrip("/"))
        how: dict[str, Any] = {"max_retries": 1} | ({} if body is None else {"json": body})
        with http_request(credentials, CALLS + path, method, allow_redirects=False, stream=True, **how) as answer:
            data = answer.raw.read(MAX_ANSWER_BYTES + 1, decode_content=True)
            if answer.status_code == 404 and "absent" in absent:
                return absent["absent"]
            value = _parsed(data, path)
            if answer.status_code not in (200, 201):
                said = " ".join(str(value.get("message", "") if isinstance(value, dict) else "").split())[:400]
                remedy = str(value.get("remedy", "") if isinstance(value, dict) else "")[:300]
                raise RegistryError(f"the server refused: {said or answer.status_code}", remedy=remedy)
            return value


def _parsed(data: bytes, path: str) -> Any:
    try:
        return parse_json(data, path, limit=MAX_ANSWER_BYTES)
    except EvidenceError as error:
        raise RegistryError(f"{CALLS}{path}: expected JSON, got something else") from error
