"""The calls of the review pages, and of `twinseal approve --from`: /api/twinseal/v1, described by its OpenAPI document.

Nothing here signs. A call takes what was signed elsewhere, or says what is to be signed.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import secrets
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from twinseal import __version__
from twinseal.errors import ConfigError, RegistryError, TwinsealError
from twinseal.server.gate import PERSON
from twinseal.server.people import Person
from twinseal.server.reviews import Case, Desk
from twinseal.server.settings import ServerSettings
from twinseal.trust.keys.key import fingerprint, grouped_digits
from twinseal.trust.keys.passkeys import Passkey, challenge, check_touch, passkey_from_registration, public_file
from twinseal.trust.release.review_file import Decision, Draft, Said, assemble_review

log = structlog.get_logger(__name__)

PLACE = "/api/twinseal/v1"
CHALLENGE_S = 600
CANDIDATE = r"^m-[0-9a-f]{32}$"


class RefusedError(Exception):
    """Whoever asks is not who this is for."""


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Problem(_Model):
    """Why a call was refused, and what to do."""

    error_code: str
    message: str
    remedy: str = ""


class About(_Model):
    """What this server is."""

    twinseal: str
    releases: dict[str, int]
    origin: str


class OpenRequest(_Model):
    """Which candidate is to be reviewed."""

    candidate: str = Field(pattern=CANDIDATE)


class Signed(_Model):
    """The exact texts of the release and of the role that reviewers sign."""

    candidate: str
    release_json: str
    role_json: str


class Listed(_Model):
    """One candidate, in short."""

    candidate: str
    model: str
    release: int
    state: str
    submitted_by: str
    submitted_at: str
    approved_by: list[str]
    missing: int


class Full(Listed):
    """One candidate, with all that a reviewer elsewhere needs."""

    release_json: str
    role_json: str
    threshold: int
    can_still_sign: list[str]
    rejected_by: list[str]
    files: list[str]
    reviews: dict[str, Any]
    fault: str


class DraftRequest(_Model):
    """What is to be decided."""

    decision: Decision
    comment: str = Field(default="", max_length=4000)


class DraftAnswer(_Model):
    """What is to be signed: each text as it is, their digests, the challenge over these, and by which passkey."""

    said: dict[str, Any]
    texts: list[str]
    digests: list[str]
    challenge: str
    rp_id: str
    credential_id: str


class DecisionRequest(_Model):
    """A signed decision: a review as a terminal writes it; or what was said, and the answer of an authenticator."""

    review: dict[str, Any] | None = None
    said: dict[str, Any] | None = None
    assertion: dict[str, Any] | None = None


class DecisionAnswer(_Model):
    """What came of a decision."""

    is_new: bool
    state: str
    note: str


class PasskeyOptions(_Model):
    """What a browser is asked with to make a passkey."""

    challenge: str
    rp_id: str
    user_id: str
    name: str


class PasskeyRequest(_Model):
    """A passkey that was just made."""

    credential: dict[str, Any]


class PasskeyAnswer(_Model):
    """The passkey as a file for the custodians, and its fingerprint for a telephone."""

    file: str
    fingerprint: str


_ERRORS: dict[int | str, dict[str, Any]] = {code: {"model": Problem} for code in (400, 401, 403, 404, 409, 413, 422)}
Published = Callable[[str], str]
"""Publishes a candidate if it can be; what there is to say of it, "" when all went well."""


def make_api(desk: Desk, settings: ServerSettings, published: Published) -> FastAPI:
    """The app with the calls.

    Args:
        desk: The reviews.
        settings: Origin.
        published: Called after a decision was taken.
    """
    api = FastAPI(
        title="twinseal",
        version=__version__,
        summary="Reviews of candidates",
        openapi_url="/openapi.json",
        docs_url=None,
        redoc_url=None,
        responses=_ERRORS,
    )
    _answer_errors(api)
    calls = _Calls(desk, settings, published)
    api.get("/server", response_model=About)(calls.about)
    api.get("/reviews", response_model=list[Listed])(calls.listed)
    api.post("/reviews", response_model=Signed, status_code=201)(calls.open)
    api.get("/reviews/{candidate}", response_model=Full)(calls.one)
    api.get("/reviews/{candidate}/files/{path:path}", response_class=FileResponse)(calls.file)
    api.post("/reviews/{candidate}/drafts", response_model=DraftAnswer)(calls.draft)
    api.post("/reviews/{candidate}/decisions", response_model=DecisionAnswer)(calls.decide)
    api.post("/passkeys/options", response_model=PasskeyOptions)(calls.passkey_options)
    api.post("/passkeys", response_model=PasskeyAnswer)(calls.passkey)
    return api


class _Calls:
    def __init__(self, desk: Desk, settings: ServerSettings, published: Published) -> None:
        self._desk, self._settings, self._published = desk, settings, published

    def about(self) -> About:
        """Say what this server is."""
        return About(twinseal=__version__, releases=self._desk.current_releases(), origin=self._settings.origin)

    def listed(self) -> list[Listed]:
        """List the candidates that were submitted for review."""
        return [Listed(**_listed(case)) for case in self._desk.all()]

    def open(self, body: OpenRequest, request: Request) -> Signed:
        """Ask for the review of a candidate. For engineers."""
        person = _person(request, "engineer")
        made = self._desk.open(body.candidate, person, datetime.now(UTC))
        return Signed(
            candidate=body.candidate, release_json=made.release_bytes.decode(), role_json=made.role_bytes.decode()
        )

    def one(self, candidate: str) -> Full:
        """Give one candidate, with what is to be signed and what was signed."""
        case = self._desk.find(candidate)
        count = case.reviews.count
        return Full(
            **_listed(case),
            release_json=case.request.release_bytes.decode(),
            role_json=case.request.role_bytes.decode(),
            threshold=count.threshold,
            can_still_sign=list(count.may_sign),
            rejected_by=[item.holder for item in case.reviews.rejections],
            files=[record.path for record in case.request.release.files],
            reviews=self._desk.review_files(candidate),
            fault=case.fault,
        )

    def file(self, candidate: str, path: str) -> FileResponse:
        """Give one file of the candidate, as it is on the disk: who reads it compares its digest."""
        case = self._desk.find(candidate)
        if path not in {record.path for record in case.request.release.files}:
            raise RegistryError(f"{path[:80]}: expected a file of the release, got another name")
        return FileResponse(self._desk.bundle_folder(candidate) / path, media_type="application/octet-stream")

    def draft(self, candidate: str, body: DraftRequest, request: Request) -> DraftAnswer:
        """Say what is to be signed for a decision, if it would be taken. For reviewers with a passkey."""
        holder, key = self._reviewer(request)
        if not isinstance(key, Passkey) or key.origin != self._settings.origin:
            raise ConfigError(
                f"{holder}: expected a passkey of {self._settings.origin}, got "
                f"{f'one of {key.origin}' if isinstance(key, Passkey) else 'a key in a file or token'}",
                remedy=f"In a terminal: twinseal approve --from {self._settings.origin} --as {holder}",
            )
        draft = self._desk.draft(candidate, holder, body.decision, body.comment, datetime.now(UTC))
        digests, expected = challenge(draft.payloads)
        return DraftAnswer(
            said=draft.said.to_dict(),
            texts=[payload.decode() for payload in draft.payloads],
            digests=digests,
            challenge=_encoded(expected),
            rp_id=key.site["rp_id"],
            credential_id=key.site["credential_id"],
        )

    def decide(self, candidate: str, body: DecisionRequest, request: Request) -> DecisionAnswer:
        """Take a signed decision. For reviewers."""
        person = _person(request, "reviewer")
        if (body.review is None) == (body.said is None or body.assertion is None):
            raise ConfigError("decision: expected either a review, or what was said and an assertion, got neither")
        value = body.review if body.review is not None else self._assembled(candidate, body, request)
        recorded = self._desk.receive(candidate, value, person, datetime.now(UTC))
        note = self._published(candidate)
        return DecisionAnswer(is_new=recorded.is_new, state=self._desk.find(candidate).state, note=note)

    def passkey_options(self, request: Request) -> PasskeyOptions:
        """Say with what a browser is to be asked for a new passkey. For reviewers."""
        person = _person(request, "reviewer")
        user = hashlib.sha256(f"twinseal/{person.name}".encode()).digest()
        return PasskeyOptions(
            challenge=_encoded(_new_challenge(person)),
            rp_id=_rp_id(self._settings),
            user_id=_encoded(user),
            name=person.name,
        )

    def passkey(self, body: PasskeyRequest, request: Request) -> PasskeyAnswer:
        """Check a new passkey, and give it as a file for the custodians: only they can make it count."""
        person = _person(request, "reviewer")
        expected = _challenge_in(body.credential, person)
        origin = self._settings.origin
        key = passkey_from_registration(
            body.credential, challenge=expected, rp_id=_rp_id(self._settings), origin=origin
        )
        return PasskeyAnswer(file=public_file(key).decode(), fingerprint=grouped_digits(fingerprint(key)))

    def _assembled(self, candidate: str, body: DecisionRequest, request: Request) -> dict[str, Any]:
        holder, key = self._reviewer(request)
        try:
            said = Said(**(body.said or {}))
        except TypeError as error:
            raise ConfigError(f"decision: expected what was said, got other fields ({error})") from error
        draft = Draft.of(self._desk.find(candidate).request, said)
        return assemble_review(draft, check_touch(key, body.assertion or {}, draft.payloads, holder))

    def _reviewer(self, request: Request) -> tuple[str, Any]:
        holder = self._desk.holder_of(_person(request, "reviewer"))
        if not holder:
            raise RefusedError("expected an account of one of the reviewers whom the anchor names")
        return holder, self._desk.home.anchor().roles["reviewer"].key_of(holder)


def _person(request: Request, role: str) -> Person:
    person: Person | None = request.scope.get(PERSON)
    if person is None or role not in person.roles:
        has = ", ".join(sorted(person.roles)) if person else "none"
        raise RefusedError(f"{person.name if person else 'nobody'}: expected the role {role}, got {has or 'none'}")
    return person


def _listed(case: Case) -> dict[str, Any]:
    release, count = case.request.release, case.reviews.count
    return {
        "candidate": case.model_id,
        "model": release.model,
        "release": release.version,
        "state": case.state,
        "submitted_by": case.submitted_by,
        "submitted_at": case.submitted_at,
        "approved_by": list(count.signed),
        "missing": count.missing,
    }


def _answer_errors(api: FastAPI) -> None:
    def answer(status: int, code: str, message: str, remedy: str = "") -> JSONResponse:
        return JSONResponse({"error_code": code, "message": message, "remedy": remedy}, status)

    @api.exception_handler(TwinsealError)
    def _refused(_request: Request, error: TwinsealError) -> JSONResponse:
        if isinstance(error, RegistryError):
            return answer(404, "RESOURCE_DOES_NOT_EXIST", str(error), error.remedy)
        if isinstance(error, ConfigError):
            return answer(400, "INVALID_PARAMETER_VALUE", str(error), error.remedy)
        return answer(403, "PERMISSION_DENIED", str(error), error.remedy)

    @api.exception_handler(RefusedError)
    def _not_allowed(_request: Request, error: RefusedError) -> JSONResponse:
        return answer(403, "PERMISSION_DENIED", str(error))

    @api.exception_handler(RequestValidationError)
    def _malformed(_request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0] if error.errors() else {}
        place = ".".join(str(part) for part in first.get("loc", ()))
        return answer(422, "INVALID_PARAMETER_VALUE", f"{place}: {first.get('msg', 'expected other fields')}")


def _rp_id(settings: ServerSettings) -> str:
    """The domain of the passkeys of this server."""
    return urlsplit(settings.origin).hostname or ""


def _encoded(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def _new_challenge(person: Person) -> bytes:
    """Random, of this moment, for this account; only this server can make one: nothing need be remembered."""
    head = int(time.time()).to_bytes(8, "big") + secrets.token_bytes(16)
    return head + _seal(head, person)


def _challenge_in(credential: dict[str, Any], person: Person) -> bytes:
    """The challenge that a new passkey was asked with, if this server made it for this account, a moment ago.

    Raises:
        ConfigError: It did not.
    """
    try:
        data = json.loads(_decoded(credential["response"]["clientDataJSON"]))
        found = _decoded(data["challenge"])
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError("passkey: expected the answer of an authenticator, got something else") from error
    head, age = found[:24], time.time() - int.from_bytes(found[:8], "big")
    if not hmac.compare_digest(found[24:], _seal(head, person)) or not 0 <= age + 5 <= CHALLENGE_S:
        raise ConfigError("passkey: expected one that this page asked for, up to 10 minutes ago, got another")
    return found


def _decoded(text: str) -> bytes:
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))


def _seal(head: bytes, person: Person) -> bytes:
    secret = os.environ["MLFLOW_FLASK_SERVER_SECRET_KEY"].encode()
    return hmac.new(secret, b"passkey\0" + person.name.encode() + b"\0" + head, "sha256").digest()
