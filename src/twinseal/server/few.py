"""Few at a time: review pages and calls verify signatures and files, and would keep every thread of a worker busy.

The others wait for their turn without a thread. So twins, and MLflow's pages, are answered while reviewers wait.
"""

from __future__ import annotations

import asyncio
import re

from starlette.types import ASGIApp, Receive, Scope, Send

AT_A_TIME = 3  # of one worker: Python runs one of them at a time, and some wait for the disk or the database
_SLOW = re.compile(r"/twinseal/review(/|\Z)|/api/twinseal/v1/reviews(?!/[^/]*/files/)")


class Few:
    """ASGI middleware.

    Args:
        app: What is behind it.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app, self._turns = app, asyncio.Semaphore(AT_A_TIME)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, a slow one in its turn."""
        if scope["type"] != "http" or not _SLOW.match(scope["path"]):
            await self._app(scope, receive, send)
            return
        async with self._turns:
            await self._app(scope, receive, send)
