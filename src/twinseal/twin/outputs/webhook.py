"""A webhook: alerts by HTTPS POST, signed by the Standard Webhooks specification (`twinseal.webhooks`).

Whoever publishes waits for the disk alone: `outbox` has the alert before `publish` returns. A task sends what waits, in
order. A receiver that does not take an alert is asked again after 5 s, half a minute, and so on up to an hour, until
the alert is too old; a receiver may have one twice, with the same `webhook-id`, and must not take it twice.

No redirect is followed, no proxy used, no answer's body read; after five seconds an attempt has failed. The secret is
read anew for each alert, so that it can be replaced.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from twinseal.errors import ConfigError, TwinsealError
from twinseal.twin.connection import Client, Deadline
from twinseal.twin.outputs.alert import SEVERITIES, Alert
from twinseal.twin.outputs.outbox import Letter, Outbox
from twinseal.twin.outputs.output import Message, OutputError, OutputEvent, Tell
from twinseal.twin.outputs.settings import WebhookSettings
from twinseal.webhooks import place_of, read_secret, signature

DELAYS_S = (5.0, 30.0, 120.0, 600.0, 1800.0, 3600.0)
LIMIT_S = 5.0
_REFUSALS = {400, 409, 413, 415, 422}  # of this one message; the next one may be taken


class WebhookOutput:
    """One receiver.

    Args:
        name: Its name in the twin's settings.
        settings: Which, and of what.
        folder: For its outbox; no other output's.
        delays_s: How long to wait after each failure; the last one again and again.
        now: Gives the time.
    """

    def __init__(
        self,
        name: str,
        settings: WebhookSettings,
        folder: Path,
        *,
        delays_s: Sequence[float] = DELAYS_S,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._name, self._settings, self._folder = name, settings, folder
        self._place, self._delays_s, self._now = place_of(settings.url), delays_s, now
        self._outbox: Outbox | None = None
        self._more, self._closing, self._until = asyncio.Event(), asyncio.Event(), float("inf")
        self._task: asyncio.Task[None] | None = None

    @property
    def name(self) -> str:
        """As Output says."""
        return self._name

    def takes(self, message: Message) -> bool:
        """As Output says: alerts alone; the end of each, whatever its severity, because its beginning may have been."""
        if not isinstance(message, Alert):
            return False
        wanted = SEVERITIES.index(message.severity) >= SEVERITIES.index(self._settings.severity)
        return wanted or message.state == "over"

    async def open(self, tell: Tell) -> None:
        """As Output says."""
        self._tell = tell
        self._read_secret()
        self._tls = self._settings.tls()
        try:
            self._outbox = Outbox(self._folder, self._settings.waiting, self._unreadable)
        except OSError as error:
            raise ConfigError(
                f"{self._folder}: expected a folder for alerts that wait, got {error.strerror}",
                remedy="Make the folder for the user of the twin, or name another one.",
            ) from error
        if len(self._outbox):
            self._more.set()
        self._task = asyncio.create_task(self._run(self._outbox), name=self.name)

    async def publish(self, messages: Sequence[Message]) -> None:
        """As Output says: on the disk when it returns."""
        if self._outbox is None:
            raise OutputError(f"{self.name}: expected an open output, got one that is not")
        alerts = [message for message in messages if isinstance(message, Alert)]
        now, given_up = self._now(), 0
        try:
            for alert in alerts:
                given_up += await asyncio.to_thread(self._outbox.put, alert, now)
        except OSError as error:
            raise OutputError(f"{self._folder}: expected room for an alert, got {error.strerror}") from error
        finally:
            if given_up:
                self._dropped(given_up, f"more than {self._settings.waiting} wait")
            self._more.set()

    def reopen(self) -> None:
        """As Output says: nothing."""

    async def close(self) -> None:
        """As Output says: one more attempt at what waits; what is left is sent after the next start."""
        self._until = time.monotonic() + LIMIT_S
        self._closing.set()
        self._more.set()
        if self._task is not None:
            _, late = await asyncio.wait([self._task], timeout=3 * LIMIT_S)  # a name server may answer late, or never
            for task in late:
                task.cancel()

    async def _run(self, outbox: Outbox) -> None:
        fails = 0
        while not self._closing.is_set():
            await self._more.wait()
            self._more.clear()
            error = await self._send_all(outbox)
            if error is None:
                if fails:
                    self._tell(OutputEvent("working", self.name))
                fails = 0
                continue
            if not fails:
                self._tell(OutputEvent("failing", self.name, error))
            wait_s = self._delays_s[min(fails, len(self._delays_s) - 1)]
            fails += 1
            self._more.set()
            with contextlib.suppress(TimeoutError):
                # With chance, so that many twins do not come back together.
                async with asyncio.timeout(wait_s * (0.75 + random.random() / 2)):  # noqa: S311
                    await self._closing.wait()
        await self._send_all(outbox)

    async def _send_all(self, outbox: Outbox) -> str | None:
        """Send what waits, the oldest first; why some was not taken, None if all was.

        A receiver that is away, or has a fault, is asked no more now. An alert that it refuses holds no other up.
        """
        refused: dict[str, str] = {}
        while time.monotonic() < self._until and (letter := outbox.first(refused)) is not None:
            try:
                status = await asyncio.to_thread(self._post, letter)
                if 200 <= status < 300:
                    await asyncio.to_thread(outbox.remove, letter)
                    continue
                note = "; redirects are not followed" if 300 <= status < 400 else ""
                reason = f"{self._place}: expected 2xx, got {status}{note}"
                await self._give_up_old(outbox, letter, reason)
            except TwinsealError as error:
                await self._give_up_old(outbox, letter, str(error))
                return str(error)
            except OSError as error:
                return f"{self._folder}: expected to remove an alert that was sent, got {error.strerror}"
            if status not in _REFUSALS:
                return reason
            refused[letter.alert.id] = reason
        return next(iter(refused.values()), None)

    async def _give_up_old(self, outbox: Outbox, letter: Letter, reason: str) -> None:
        if self._now() - letter.since >= timedelta(hours=self._settings.keep_hours):
            with contextlib.suppress(OSError):  # it is given up the next time
                await asyncio.to_thread(outbox.remove, letter)
                self._dropped(1, f"not taken in {self._settings.keep_hours:g} hours ({reason})")

    def _post(self, letter: Letter) -> int:
        """Send it, once; the status of the answer.

        Raises:
            RegistryError: There is none.
            ConfigError: The secret cannot be read.
        """
        alert, moment = letter.alert, str(int(time.time()))
        body = alert.to_json().encode("utf-8", "replace")
        headers = {
            "webhook-id": alert.id,
            "webhook-timestamp": moment,
            "webhook-signature": signature(self._read_secret(), alert.id, moment, body),
        }
        client = Client(self._settings.url, Deadline(LIMIT_S), name="receiver", alive="", tls=self._tls)
        try:
            answer = client.ask(self._settings.url, self._place, body, headers)
            answer.close()
        finally:
            client.close()
        return answer.status

    def _read_secret(self) -> bytes:
        try:
            return read_secret(self._settings.secret_file)
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(
                f"{self.name}: secret_file: expected a file with one line, got {self._settings.secret_file} "
                f"({type(error).__name__})",
                remedy=f"Make the file, or correct secret_file of {self.name} in twin.yaml.",
            ) from error

    def _unreadable(self, file: str) -> None:
        self._dropped(1, f"{self._folder / file} is no alert")

    def _dropped(self, number: int, why: str) -> None:
        message = f"{self.name}: expected all alerts to be delivered, got {number} given up: {why}"
        self._tell(OutputEvent("dropped", self.name, message, number))
