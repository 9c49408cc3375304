"""Candidates: what MLflow knows of them, and where their files are on this machine."""

from __future__ import annotations

import threading
from pathlib import Path

from twinseal.errors import RegistryError
from twinseal.registry.describe import candidate_page
from twinseal.registry.register import METADATA_RUN
from twinseal.registry.store import Store, check_model_id, connect, is_absent, registry_errors
from twinseal.server.places import candidate_folder
from twinseal.trust.root.home import Home


class Candidates:
    """The candidates of one deployment. MLflow is asked once for each: it never moves one.

    Args:
        home: The deployment.
        database: The address of MLflow's database.
    """

    def __init__(self, home: Home, database: str) -> None:
        self._home, self._database = home, database
        self._connected: Store | None = None
        self._connecting = threading.Lock()
        self._folders: dict[str, Path] = {}
        self._report_folders: dict[str, Path] = {}

    def store(self) -> Store:
        """MLflow's, opened once: that takes longer than what is asked of it.

        Raises:
            RegistryError: Its database does not answer.
        """
        with self._connecting:
            if self._connected is None:
                self._connected = connect(self._home, self._database)
            return self._connected

    def folder(self, model_id: str, *, complete: bool = False) -> Path:
        """The folder of a candidate's files.

        Raises:
            RegistryError: MLflow has no such candidate; or it is not `complete`, where it must be.
        """
        check_model_id(model_id)
        if model_id in self._folders and not complete:
            return self._folders[model_id]
        with registry_errors(f"candidate {model_id}"):
            try:
                found = self.store().client.get_logged_model(model_id)
            except Exception as error:
                if is_absent(error):
                    raise RegistryError(f"candidate: expected one that MLflow has, got {model_id}") from error
                raise
        if complete and str(found.status) != "READY":
            raise RegistryError(
                f"candidate {model_id}: expected one that is complete (READY), got {str(found.status)[:40]}"
            )
        return self._folders.setdefault(model_id, candidate_folder(self._home, str(found.artifact_location)))

    def run(self, model_id: str) -> str:
        """The run that a candidate says it is of; "" if it says none.

        Raises:
            RegistryError: MLflow has no such candidate.
        """
        check_model_id(model_id)
        with registry_errors(f"candidate {model_id}"):
            return str(self.store().client.get_logged_model(model_id).source_run_id or "")

    def metadata_runs(self) -> frozenset[str]:
        """The runs from which twins fetch the metadata of this deployment's models.

        Raises:
            RegistryError: MLflow's database does not answer.
        """
        found = set[str]()
        for name in self._home.anchor().models:
            with registry_errors(f"registered model {name}"):
                try:
                    found.add(str(self.store().client.get_registered_model(name).tags.get(METADATA_RUN, "")))
                except Exception as error:
                    if not is_absent(error):
                        raise
        return frozenset(found)

    def report_folder(self, model_id: str) -> Path:
        """The folder in which the candidate's run has `reports/`; it need not exist.

        Raises:
            RegistryError: MLflow has no such candidate, or no run for it.
        """
        if model_id in self._report_folders:
            return self._report_folders[model_id]
        run = self.run(model_id)
        if not run:
            raise RegistryError(f"candidate {model_id}: expected a run with its reports, got none")
        with registry_errors(f"candidate {model_id}"):
            found = candidate_folder(self._home, str(self.store().client.get_run(run).info.artifact_uri))
        return self._report_folders.setdefault(model_id, found)

    def page(self, model_id: str) -> str:
        """The address of a candidate within MLflow's own pages, on this server.

        Raises:
            RegistryError: MLflow has no such candidate, or does not answer.
        """
        with registry_errors(f"candidate {model_id}"):
            return "/" + candidate_page(str(self.store().client.get_logged_model(model_id).experiment_id), model_id)
