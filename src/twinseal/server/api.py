"""The calls of the review pages, and of `twinseal approve --from`: /api/twinseal/v1, described by its OpenAPI document.

Nothing here signs. A call takes what was signed elsewhere, or says what is to be signed.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any, BinaryIO
from urllib.parse import urlsplit

import structlog
from fastapi import Depends, FastAPI, Request
from fastapi.responses import Response, StreamingResponse
from fastapi.security import HTTPBasic
from pydantic import BaseModel, ConfigDict, Field

from twinseal import __version__
from twinseal.errors import ConfigError, RefusedError
from twinseal.registry.describe import terminal_command
from twinseal.server.cases import Case, Listing, State
from twinseal.server.challenges import challenge_in, new_challenge
from twinseal.server.gate import PERSON
from twinseal.server.people import Person
from twinseal.server.problems import RESPONSES, answer_errors
from twinseal.server.reviews import Desk
from twinseal.server.second_factor import missing_factor
from twinseal.server.settings import ServerSettings
from twinseal.trust.keys.assertions import encode
from twinseal.trust.keys.key import fingerprint, grouped_digits
from twinseal.trust.keys.passkeys import Passkey, challenge, check_touch, passkey_from_registration, public_file
from twinseal.trust.release.review_file import Decision, Draft, Said, assemble_review

log = structlog.get_logger(__name__)

PLACE = "/api/twinseal/v1"
CANDIDATE = r"^m-[0-9a-f]{32}$"


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid")


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


_A_FILE: dict[int | str, dict[str, Any]] = {
    200: {"content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}}
}


Published = Callable[[Case], tuple[State, str]]
"""Publishes a candidate if it can be: its state then, and what there is to say of it, "" when all went well."""


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
        responses=RESPONSES,
        dependencies=[Depends(HTTPBasic(auto_error=False, description="An account"))],  # described; the gate judges
    )
    answer_errors(api)
    calls = _Calls(desk, settings, published)
    api.get("/server", response_model=About)(calls.about)
    api.get("/reviews", response_model=list[Listed])(calls.listed)
    api.post("/reviews", response_model=Signed, status_code=201)(calls.open)
    api.get("/reviews/{candidate}", response_model=Full)(calls.one)
    api.get("/reviews/{candidate}/files/{path:path}", response_class=Response, responses=_A_FILE)(calls.file)
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

    def file(self, candidate: str, path: str) -> Response:
        """Give one file of the candidate, as it is on the disk: who reads it compares its digest."""
        stream = self._desk.open_file(candidate, path)
        size = os.fstat(stream.fileno()).st_size
        length = {"Content-Length": str(size)}
        return StreamingResponse(_chunks(stream), headers=length, media_type="application/octet-stream")

    def draft(self, candidate: str, body: DraftRequest, request: Request) -> DraftAnswer:
        """Say what is to be signed for a decision, if it would be taken. For reviewers with a passkey."""
        holder, key = self._reviewer(request)
        if not isinstance(key, Passkey) or key.origin != self._settings.origin:
            raise ConfigError(
                f"{holder}: expected a passkey of {self._settings.origin}, got "
                f"{f'one of {key.origin}' if isinstance(key, Passkey) else 'a key in a file or token'}",
                remedy=f"In a terminal: {terminal_command(body.decision, self._settings.origin, candidate, holder)}",
            )
        draft = self._desk.draft(candidate, holder, body.decision, body.comment, datetime.now(UTC))
        digests, expected = challenge(draft.payloads)
        return DraftAnswer(
            said=draft.said.to_dict(),
            texts=[payload.decode() for payload in draft.payloads],
            digests=digests,
            challenge=encode(expected),
            rp_id=key.site["rp_id"],
            credential_id=key.site["credential_id"],
        )

    def decide(self, candidate: str, body: DecisionRequest, request: Request) -> DecisionAnswer:
        """Take a signed decision. For reviewers."""
        person = self._deciding(request)
        if (body.review is None) == (body.said is None or body.assertion is None):
            raise ConfigError("decision: expected a review, or what was said and an assertion, got neither or both")
        value = body.review if body.review is not None else self._assembled(candidate, body, request)
        recorded, case = self._desk.receive(candidate, value, person, datetime.now(UTC))
        state, note = self._published(case)
        return DecisionAnswer(is_new=recorded.is_new, state=state, note=note)

    def passkey_options(self, request: Request) -> PasskeyOptions:
        """Say with what a browser is to be asked for a new passkey. For reviewers."""
        person = self._deciding(request)
        user = hashlib.sha256(f"twinseal/{person.name}".encode()).digest()
        return PasskeyOptions(
            challenge=encode(new_challenge(person.name)),
            rp_id=_rp_id(self._settings),
            user_id=encode(user),
            name=person.name,
        )

    def passkey(self, body: PasskeyRequest, request: Request) -> PasskeyAnswer:
        """Check a new passkey, and give it as a file for the custodians: only they can make it count."""
        person = self._deciding(request)
        expected = challenge_in(body.credential, person.name)
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
        draft = Draft.of(self._desk.request(candidate), said)
        return assemble_review(draft, check_touch(key, body.assertion or {}, draft.payloads, holder))

    def _deciding(self, request: Request) -> Person:
        """The reviewer who asks, if they have signed in as those who decide must."""
        person = _person(request, "reviewer")
        missing, remedy = missing_factor(person, self._settings)
        if missing:
            raise RefusedError(missing, remedy=remedy)
        return person

    def _reviewer(self, request: Request) -> tuple[str, Any]:
        holder = self._desk.holder_of(self._deciding(request))
        if not holder:
            raise RefusedError("expected an account of one of the reviewers whom the anchor names")
        return holder, self._desk.home.anchor().roles["reviewer"].key_of(holder)


def _person(request: Request, role: str) -> Person:
    person: Person | None = request.scope.get(PERSON)
    if person is None or role not in person.roles:
        has = ", ".join(sorted(person.roles)) if person else "none"
        raise RefusedError(f"{person.name if person else 'nobody'}: expected the role {role}, got {has or 'none'}")
    return person


def _listed(case: Listing) -> dict[str, Any]:
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


def _chunks(stream: BinaryIO) -> Iterator[bytes]:
    with stream:
        while chunk := stream.read(1 << 20):
            yield chunk


def _rp_id(settings: ServerSettings) -> str:
    """The domain of the passkeys of this server."""
    return urlsplit(settings.origin).hostname or ""
