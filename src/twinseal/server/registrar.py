"""The registrar's part of the server: what enough reviewers have signed is published, without anyone who waits for it.

It runs when a decision came in, when a server starts, and every half minute: so a release whose publication was
interrupted is published by the next. The same round renews what says that the newest release is still current, once
half of its time is over.

The registrar is a role of this machine: without its key here nothing is published, and the page says so. A publication
that fails is tried again after twice the time, so that the audit log does not fill with one and the same refusal.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime

import structlog

from twinseal.errors import KeyAccessError, TwinsealError
from twinseal.registry import registration
from twinseal.server.cases import Case, State
from twinseal.server.reviews import Desk
from twinseal.trust.keys.passphrases import from_environment
from twinseal.trust.policy_approval import Approval
from twinseal.trust.release import repository
from twinseal.trust.release.changes import last_statements
from twinseal.trust.root.home import Home
from twinseal.trust.root.roles import Roles

log = structlog.get_logger(__name__)

ROUND_S = 30.0
LONGEST_WAIT_S = 6 * 3600.0


class Registrar:
    """Publishes and renews.

    Args:
        desk: The reviews.
    """

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._failed: dict[str, tuple[float, float]] = {}  # by candidate: when to try again, and the wait until then

    def publish(self, case: Case) -> tuple[State, str]:
        """Publish a candidate if enough have signed it: its state then; and what went wrong, or "" when nothing did."""
        if not case.is_due:
            self._desk.show(case)
            return case.state, ""
        try:
            _require_key(self._desk.home)  # before it is tried, and logged
            done = self._desk.publish(case, datetime.now(UTC))
        except KeyAccessError as error:
            self._wait_longer(case.model_id)
            return case.state, f"approved; not published: this server has no registrar's key ({error})"
        except (TwinsealError, OSError) as error:
            self._wait_longer(case.model_id)
            log.warning("registrar.failed", model_id=case.model_id, error=str(error))
            return self._desk.again(case).state, f"not published yet: {error} {getattr(error, 'remedy', '')}".strip()
        self._failed.pop(case.model_id, None)
        return (case.state if done.status == "pending" else "registered"), ""

    def one_round(self, now: datetime) -> None:
        """Publish all that is approved, and renew what has lived half of its time."""
        for item in self._desk.due():
            if time.monotonic() < self._failed.get(item.model_id, (0.0, 0.0))[0]:
                continue
            try:
                self.publish(self._desk.find(item.model_id))
            except TwinsealError as error:  # its own trouble: the others go on
                self._wait_longer(item.model_id)
                log.warning("registrar.failed", model_id=item.model_id, error=str(error))
        try:
            self._renew(now)
        except TwinsealError as error:
            log.warning("registrar.not_renewed", error=str(error))

    def _wait_longer(self, model_id: str) -> None:
        wait = min(2 * self._failed.get(model_id, (0.0, ROUND_S))[1], LONGEST_WAIT_S)
        self._failed[model_id] = (time.monotonic() + wait, wait)

    def _renew(self, now: datetime) -> None:
        home = self._desk.home
        newest = max(_policies(home), key=lambda item: item.number, default=None)
        if newest is None:
            return
        roles, expires = Roles.of_policy(newest.content), repository.timestamp(home).expires
        if expires - now < (roles.expiry("registrar", now) - now) / 2:
            registration.renew(self._desk.candidates.store(), home, roles=roles, now=now)
            log.info("registrar.renewed")


def _require_key(home: Home) -> None:
    home.role_signer(home.anchor().roles["registrar"], passphrase=from_environment)


def _policies(home: Home) -> Iterator[Approval]:
    """The policy of the last release of each model; of a model whose evidence no longer verifies, none."""
    for model in home.anchor().models:
        try:
            statements = last_statements(home, model)
        except TwinsealError as error:
            log.warning("registrar.no_policy", model=model, error=str(error))
            continue
        if statements:
            yield Approval.of(statements["policy"])
