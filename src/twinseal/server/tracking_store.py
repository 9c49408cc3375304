"""MLflow's tracking store, where candidates stay what they are: `twinseal+sqlite://…` and `twinseal+postgresql://…`.

A plugin of MLflow (entry point `mlflow.tracking_store`). It is MLflow's own store, but for this:

- artifacts go where this server keeps them: a location that a client names is refused. It could be a folder of this
  machine with keys in it
- a candidate that is complete stays so: nobody calls it pending again, to add files
- once a review of a candidate was asked for, nobody changes or deletes it or its run: people read there what it is, and
  where it stands. The same holds for the runs with the registrar's metadata (`closed.py` has both)
- an experiment that has one of these is not deleted or renamed, and says what it said
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator
from typing import Any

from mlflow.entities.logged_model_status import LoggedModelStatus
from mlflow.store.tracking.dbmodels.models import SqlLoggedModel, SqlRun
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

from twinseal.registry.store import LAYOUT
from twinseal.server.closed import Closed
from twinseal.server.plugins import PREFIX, deny
from twinseal.server.settings import with_driver
from twinseal.trust.root.home import Home

GUARDED = (
    "create_logged_model", "delete_experiment", "delete_experiment_tag", "delete_logged_model",
    "delete_logged_model_tag", "delete_run", "delete_tag", "finalize_logged_model", "link_traces_to_run", "log_batch",
    "log_inputs", "log_logged_model_params", "log_metric", "log_outputs", "log_param", "record_logged_model",
    "rename_experiment", "restore_experiment", "restore_run", "set_experiment_tag", "set_logged_model_tags", "set_tag",
    "unlink_traces_from_run", "update_run_info",
)  # fmt: skip
"""What changes a candidate, a run or an experiment that is there: refused where that is closed."""


class CandidateStore(SqlAlchemyStore):  # type: ignore[misc]  # mypy skips MLflow
    """MLflow's tracking store in a database.

    Args:
        store_uri: `twinseal+` and the address of the database. MLflow gives it under this name.
        artifact_uri: Where artifacts go, for experiments that name no place.
    """

    def __init__(self, store_uri: str, artifact_uri: str) -> None:
        self._closed = Closed(Home.find().path)
        super().__init__(with_driver(store_uri.removeprefix(PREFIX)), artifact_uri)

    def create_experiment(self, name: str, artifact_location: str | None = None, tags: Any = None) -> Any:
        """As MLflow's, where this server keeps its artifacts."""
        if artifact_location:
            deny(f"experiment {name[:60]}: expected no artifact location, got one: this server keeps artifacts itself")
        return super().create_experiment(name, None, tags)

    def finalize_logged_model(self, model_id: str, status: LoggedModelStatus) -> Any:
        """As MLflow's, once."""
        now = str(self.get_logged_model(model_id).status)
        if now != str(LoggedModelStatus.PENDING):
            deny(f"candidate {model_id}: expected one that is not complete, got one that is ({now}): it stays so")
        return super().finalize_logged_model(model_id, status)

    def set_model_versions_tags(self, name: str, version: str, model_id: str) -> None:
        """As MLflow's, which says on a candidate's page under which names it is registered; not of a closed one.

        MLflow calls it when the version is made already, under a name that is free: a refusal would come too late.
        """
        if not self._closed.has_candidate(model_id):
            super().set_model_versions_tags(name, version, model_id)

    def require_open(self, call: str, given: dict[str, Any]) -> None:
        """Refuse a call that changes what is closed.

        Args:
            call: Name of the method.
            given: Its arguments, by name.

        Raises:
            MlflowException: It does; HTTP 403.
        """
        for run_id in (given.get("run_id"), given.get("source_run_id")):
            if self._closed.has_run(run_id):
                deny(
                    f"{call}: expected a run that nobody relies on, got {run_id}, of a candidate in review or "
                    "released, or with the registrar's metadata: only this server changes it"
                )
        for model_id in _candidates_in(call, given):
            if self._closed.has_candidate(model_id):
                deny(
                    f"{call}: expected a candidate that nobody reviews, got {model_id}, in review or released: only "
                    "this server changes it"
                )
        tag = given.get("tag")
        if call == "set_experiment_tag" and tag is not None and (tag.key, tag.value) in LAYOUT.items():
            return  # every client of ours sets it, and it says nothing
        if call.endswith(("_experiment", "_experiment_tag")) and self._has_closed(str(given.get("experiment_id"))):
            deny(
                f"{call}: expected an experiment without candidates in review or released, got "
                f"{str(given['experiment_id'])[:40]}, which has some: it stays as it is"
            )

    def _has_closed(self, experiment: str) -> bool:
        if not (experiment.isascii() and experiment.isdecimal()):
            return False  # MLflow has none such
        with self.ManagedSessionMaker() as session:
            models = session.query(SqlLoggedModel.model_id).filter(SqlLoggedModel.experiment_id == int(experiment))
            runs = session.query(SqlRun.run_uuid).filter(SqlRun.experiment_id == int(experiment))
            return any(self._closed.has_candidate(row[0]) for row in models) or any(
                self._closed.has_run(row[0]) for row in runs
            )


def _candidates_in(call: str, given: dict[str, Any]) -> Iterator[object]:
    """The candidates that a call would change: measures and outputs of any run are shown with a candidate.

    Whoever uses a candidate as an input of another run changes nothing of it.
    """
    yield given.get("model_id")
    many = [*(given.get("metrics") or ()), given.get("metric")]
    many += (given.get("models") or ()) if call == "log_outputs" else ()
    yield from (getattr(item, "model_id", None) for item in many)


def _guarded(method: Callable[..., Any]) -> Callable[..., Any]:
    signature = inspect.signature(method)

    @functools.wraps(method)
    def guarded(self: CandidateStore, *args: Any, **named: Any) -> Any:
        self.require_open(method.__name__, signature.bind(self, *args, **named).arguments)
        return method(self, *args, **named)

    return guarded


for _name in GUARDED:
    setattr(CandidateStore, _name, _guarded(getattr(CandidateStore, _name)))
