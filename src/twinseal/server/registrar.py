"""The registrar's part of the server: what enough reviewers have signed is published, without anyone who waits for it.

It runs when a decision came in, when a server starts, and every half minute in one of its workers: so a release whose
publication was interrupted is published by the next. The same round renews what says that the newest release is still
current, once half of its time is over.

The registrar is a role of this machine: without its key here nothing is published, and the page says so.
"""

from __future__ import annotations

from datetime import UTC, datetime

import structlog

from twinseal.errors import KeyAccessError, TwinsealError
from twinseal.registry import registration
from twinseal.registry.store import connect
from twinseal.server.cases import Case, State
from twinseal.server.reviews import Desk
from twinseal.server.rounds import Round
from twinseal.trust.policy_approval import Approval
from twinseal.trust.release import repository
from twinseal.trust.release.changes import last_statements
from twinseal.trust.root.home import Home
from twinseal.trust.root.roles import Roles

log = structlog.get_logger(__name__)

ROUND_S = 30.0
LOCK = "registrar.lock"


class Registrar:
    """Publishes and renews.

    Args:
        desk: The reviews.
        database: The address of MLflow's database.
    """

    def __init__(self, desk: Desk, database: str) -> None:
        self._desk, self._database = desk, database
        self._round = Round("registrar", desk.home.path / "mlflow" / LOCK, ROUND_S, self.one_round)

    def publish(self, case: Case) -> tuple[State, str]:
        """Publish a candidate if enough have signed it: its state then; and what went wrong, or "" when nothing did."""
        if not case.is_due:
            self._desk.show(case)
            return case.state, ""
        try:
            done = self._desk.publish(case, datetime.now(UTC))
        except KeyAccessError as error:
            return case.state, f"approved; not published: this server has no registrar's key ({error})"
        except TwinsealError as error:
            log.warning("registrar.failed", model_id=case.model_id, error=str(error))
            return self._desk.again(case).state, f"not published yet: {error} {error.remedy}".strip()
        return (case.state if done.status == "pending" else "registered"), ""

    def start(self) -> None:
        """Go round in the background until `stop`."""
        self._round.start()

    def stop(self) -> None:
        """Go round no more."""
        self._round.stop()

    def one_round(self, now: datetime) -> None:
        """Publish all that is approved, and renew what has lived half of its time."""
        for item in self._desk.all():
            if not item.is_due:
                continue
            try:
                self.publish(self._desk.find(item.model_id))
            except (TwinsealError, OSError) as error:  # its own trouble: the others go on
                log.warning("registrar.failed", model_id=item.model_id, error=str(error))
        try:
            self._renew(now)
        except TwinsealError as error:
            log.warning("registrar.not_renewed", error=str(error))

    def _renew(self, now: datetime) -> None:
        home = self._desk.home
        roles = _last_roles(home)
        if roles is None:
            return
        expires = repository.timestamp(home).expires
        if expires - now < (roles.expiry("registrar", now) - now) / 2:
            registration.renew(connect(home, self._database), home, roles=roles, now=now)
            log.info("registrar.renewed")


def _last_roles(home: Home) -> Roles | None:
    """The roles of the policy of the last release of any model; None before the first."""
    newest: Approval | None = None
    for model in home.anchor().models:
        statements = last_statements(home, model)
        found = Approval.of(statements["policy"]) if statements else None
        if found and (newest is None or found.number > newest.number):
            newest = found
    return None if newest is None else Roles.of_policy(newest.content)
