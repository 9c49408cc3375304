"""MLflow's tracking store, where candidates stay what they are: `twinseal+sqlite://…` and `twinseal+postgresql://…`.

A plugin of MLflow (entry point `mlflow.tracking_store`). It is MLflow's own store, but for this:

- artifacts go where this server keeps them: a location that a client names is refused. It could be a folder of this
  machine with keys in it
- a candidate that is complete stays so: nobody calls it pending again, to add files
- a candidate that is in review, its run, and its experiment are not deleted
"""

from __future__ import annotations

from typing import Any

from mlflow.entities.logged_model_status import LoggedModelStatus
from mlflow.exceptions import MlflowException
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

from twinseal.server.plugins import PREFIX, deny
from twinseal.server.settings import with_driver
from twinseal.trust.root.home import Home


class CandidateStore(SqlAlchemyStore):  # type: ignore[misc]  # mypy skips MLflow
    """MLflow's tracking store in a database.

    Args:
        store_uri: `twinseal+` and the address of the database. MLflow gives it under this name.
        artifact_uri: Where artifacts go, for experiments that name no place.
    """

    def __init__(self, store_uri: str, artifact_uri: str) -> None:
        self._reviews = Home.find().path / "reviews"
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

    def delete_logged_model(self, model_id: str) -> None:
        """As MLflow's; refused for a candidate in review."""
        self._refuse_in_review(model_id)
        super().delete_logged_model(model_id)

    def delete_run(self, run_id: str) -> None:
        """As MLflow's; refused for the run of a candidate in review."""
        experiment = str(self.get_run(run_id).info.experiment_id)
        for model_id in self._in_review(experiment):
            if self.get_logged_model(model_id).source_run_id == run_id:
                self._refuse_in_review(model_id)
        super().delete_run(run_id)

    def delete_experiment(self, experiment_id: str) -> None:
        """As MLflow's; refused for one with a candidate in review."""
        for model_id in self._in_review(str(experiment_id)):
            self._refuse_in_review(model_id)
        super().delete_experiment(experiment_id)

    def _in_review(self, experiment: str) -> list[str]:
        found = []
        for path in self._reviews.glob("m-*"):
            try:
                if str(self.get_logged_model(path.name).experiment_id) == experiment:
                    found.append(path.name)
            except MlflowException:
                continue  # deleted before it was in review
        return found

    def _refuse_in_review(self, model_id: str) -> None:
        if (self._reviews / model_id).exists():
            deny(f"candidate {model_id}: expected one that nobody reviews, got one in review: it is not deleted")
