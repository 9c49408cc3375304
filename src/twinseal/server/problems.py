"""Problems: the one shape of every refusal by our calls, and what turns an error into it.

    {"error_code": "INVALID_PARAMETER_VALUE", "message": "body.candidate: …", "remedy": "…"}

`error_code` is MLflow's word, `message` says what was expected and what came, `remedy` what to do; it may be empty.
"""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict
from starlette.exceptions import HTTPException

from twinseal.errors import (
    AuditError,
    BusyError,
    ConfigError,
    KeyAccessError,
    RegistryError,
    RootError,
    TwinsealError,
)


class Problem(BaseModel):
    """Why a call was refused, and what to do."""

    model_config = ConfigDict(extra="forbid")

    error_code: str
    message: str
    remedy: str


# Any call may end with any of these: most come from the gate, or from what a call asks of the deployment.
RESPONSES: dict[int | str, dict[str, Any]] = {
    code: {"model": Problem, "description": why}
    for code, why in {
        400: "The request has another reading, or asks for what cannot be",
        401: "No account, or a wrong password",
        403: "Not allowed to this account; or the candidate, a signature or the deployment does not verify",
        404: "No such candidate, file or call",
        413: "The body is too large",
        422: "The body or a parameter is malformed",
        429: "Too many requests, or wrong passwords",
        503: "The server cannot decide now: MLflow, the audit log, the anchor or a key of its own fails",
    }.items()
}
_CANNOT_DECIDE = (AuditError, RootError, KeyAccessError, BusyError)
_ANSWERS = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")  # of MLflow
_REFUSED = {
    400: "INVALID_PARAMETER_VALUE",
    403: "PERMISSION_DENIED",
    404: "RESOURCE_DOES_NOT_EXIST",
    503: "TEMPORARILY_UNAVAILABLE",
}
_CODES = {
    400: "INVALID_PARAMETER_VALUE",
    401: "UNAUTHENTICATED",
    404: "ENDPOINT_NOT_FOUND",
    405: "ENDPOINT_NOT_FOUND",
    413: "INVALID_PARAMETER_VALUE",
}


def answer_errors(api: FastAPI) -> None:
    """Let every error of the app `api` be answered in this shape."""
    handlers: dict[type[Exception], Any] = {
        TwinsealError: _refused,
        RequestValidationError: _malformed,
        HTTPException: _of_http,
    }
    for kind, handler in handlers.items():
        api.add_exception_handler(kind, handler)


def _refused(_request: Request, error: TwinsealError) -> JSONResponse:
    status = status_of(error)
    return _answer(status, _REFUSED[status], str(error), error.remedy)


def status_of(error: TwinsealError) -> int:
    """The HTTP status of a refusal: 503 when it is the server that cannot decide now, whoever asks for what."""
    if isinstance(error, _CANNOT_DECIDE) or (isinstance(error, RegistryError) and _is_failure(error.__cause__)):
        return 503
    if isinstance(error, RegistryError):
        return 404
    return 400 if isinstance(error, ConfigError) else 403


def _is_failure(cause: BaseException | None) -> bool:
    """Whether MLflow, or its database, has failed: not a file that is not there, and no answer to a wrong question."""
    code = getattr(cause, "error_code", "")
    return cause is not None and not isinstance(cause, OSError) and code not in _ANSWERS


def _malformed(_request: Request, error: RequestValidationError) -> JSONResponse:
    first = error.errors()[0] if error.errors() else {}
    place = ".".join(str(part) for part in first.get("loc", ()))[:200]
    got = str(first.get("msg", "expected other fields"))
    return _answer(422, "INVALID_PARAMETER_VALUE", f"{place}: {got}", "What each call takes: openapi.json")


def _of_http(request: Request, error: HTTPException) -> JSONResponse:
    """Of the framework: a call that there is not, a method that it has not, a body that is no JSON."""
    message = {
        404: f"{request.url.path[:120]}: expected a call of this server, got another",
        405: f"{request.url.path[:120]}: expected another method, got {request.method[:10]}",
    }.get(error.status_code, f"body: expected JSON in UTF-8, got something else ({error.detail})")
    code = _CODES.get(error.status_code, "INVALID_PARAMETER_VALUE")
    return _answer(error.status_code, code, message, "What each call takes: openapi.json", dict(error.headers or {}))


def _answer(
    status: int, code: str, message: str, remedy: str = "", headers: dict[str, str] | None = None
) -> JSONResponse:
    return JSONResponse({"error_code": code, "message": _plain(message), "remedy": _plain(remedy)}, status, headers)


def _plain(text: str) -> str:
    """Text that UTF-8 can express: what was sent may quote half of a character."""
    return text.encode("utf-8", "replace").decode()
