"""Few at a time: review pages and calls verify signatures and files, and would keep every thread of a worker busy.

The others wait for their turn without a thread. So twins, and MLflow's pages, are answered while reviewers wait.

A turn is the work alone. Whoever sends a request slowly, or takes the answer slowly, has none meanwhile: else three who
send nothing would close the pages for everybody.
"""

from __future__ import annotations

import asyncio
import re
from collections import Counter

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from twinseal.server.gate import PERSON, Refusal

AT_A_TIME = 3  # of one worker: Python runs one of them at a time, and some wait for the disk or the database
MAX_BODY_BYTES = 512 << 10  # a signed review has 256 KiB at most
PATIENCE_S = 15.0  # for all of a body
UNDER_WAY = 8  # bodies of one person that come in at the same time
_SLOW = re.compile(r"/twinseal/review(/|\Z)|/api/twinseal/v1/reviews(?!/[^/]*/files/)")


class Few:
    """ASGI middleware.

    Args:
        app: What is behind it.
        patience_s: How long a body may take.
    """

    def __init__(self, app: ASGIApp, patience_s: float = PATIENCE_S) -> None:
        self._app, self._patience_s, self._turns = app, patience_s, asyncio.Semaphore(AT_A_TIME)
        self._under_way = Counter[str]()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, a slow one in its turn."""
        if scope["type"] != "http" or not _SLOW.match(scope["path"]):
            await self._app(scope, receive, send)
            return
        body = await self._body(scope, receive)
        if isinstance(body, bytes):
            await self._answer(scope, [{"type": "http.request", "body": body}], receive, send)
        elif body is not None:
            answer = body.response(scope["path"])
            answer.headers["Connection"] = "close"  # the rest of the body is not read
            await answer(scope, receive, send)

    async def _answer(self, scope: Scope, come: list[Message], receive: Receive, send: Send) -> None:
        """Do the work in its turn, which ends when there is an answer to send."""
        await self._turns.acquire()
        turns = [self._turns]

        async def given() -> Message:
            return come.pop() if come else await receive()

        async def sending(message: Message) -> None:
            if turns:
                turns.pop().release()
            await send(message)

        try:
            await self._app(scope, given, sending)
        finally:
            if turns:
                turns.pop().release()

    async def _body(self, scope: Scope, receive: Receive) -> bytes | Refusal | None:
        """The body; or why there is none that is taken; None when whoever sent it has gone."""
        name = getattr(scope.get(PERSON), "name", "")
        if self._under_way[name] >= UNDER_WAY:
            return Refusal(429, "REQUEST_LIMIT_EXCEEDED", f"expected {UNDER_WAY} requests at a time, got more")
        self._under_way[name] += 1
        try:
            async with asyncio.timeout(self._patience_s):
                return await _whole(receive)
        except TimeoutError:
            message = f"body: expected all of it within {self._patience_s:g} s, got less"
            return Refusal(408, "REQUEST_LIMIT_EXCEEDED", message, "Send it again.")
        finally:
            self._under_way[name] -= 1
            if not self._under_way[name]:
                del self._under_way[name]


async def _whole(receive: Receive) -> bytes | Refusal | None:
    body, more = bytearray(), True
    while more:
        came = await receive()
        if came["type"] == "http.disconnect":
            return None
        body += came.get("body", b"")
        more = came.get("more_body", False)
        if len(body) > MAX_BODY_BYTES:
            return Refusal(
                413, "INVALID_PARAMETER_VALUE", f"body: expected at most {MAX_BODY_BYTES >> 10} KiB, got more"
            )
    return bytes(body)
