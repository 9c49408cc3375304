"""MLflow's registry store with protected names: `twinseal+sqlite://…` and `twinseal+postgresql://…`.

A plugin of MLflow (entry point `mlflow.model_registry_store`). Under the names of `protected.py` it takes a change only
if that is a true claim about the published release; under all other names it is MLflow's own store.

    create a registered model    if the model has a published release: nothing is left behind by a refused one
    create a version             if its source is the candidate of that release; once
    the alias champion           to the version of that candidate
    the tag of a version         twinseal.release_version, with the release's number
    everything else              refused: descriptions, other tags and aliases, renames, stages, deletions, copies

A refusal is HTTP 403 with a sentence that says what is missing; MLflow's pages show it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import structlog
from mlflow.entities.model_registry import ModelVersion, RegisteredModel
from mlflow.store.model_registry.sqlalchemy_store import SqlAlchemyStore
from mlflow.store.tracking.dbmodels.models import SqlLoggedModel

from twinseal.errors import RegistryError, TwinsealError
from twinseal.registry.register import CHAMPION, RELEASE_VERSION
from twinseal.server.places import candidate_folder, registry_lock
from twinseal.server.plugins import PREFIX, deny
from twinseal.server.protected import REVIEW, ProtectedNames
from twinseal.server.settings import with_driver
from twinseal.trust.root.home import Home

log = structlog.get_logger(__name__)

_SOURCE = re.compile(r"models:/(m-[0-9a-f]{32})\Z")


class ProtectedStore(SqlAlchemyStore):  # type: ignore[misc]  # mypy skips MLflow
    """MLflow's registry in a database, with protected names.

    Args:
        store_uri: `twinseal+` and the address of the database. MLflow gives it under this name.

    Raises:
        RootError: This machine has no deployment whose anchor says what is protected.
    """

    def __init__(self, store_uri: str) -> None:
        self._home = Home.find()
        self._names = ProtectedNames(self._home, self._folder_of)
        super().__init__(with_driver(store_uri.removeprefix(PREFIX)))

    def create_registered_model(
        self, name: str, tags: Any = None, description: str | None = None, deployment_job_id: str | None = None
    ) -> RegisteredModel:
        """As MLflow's; a protected one when it has a published release, without tags."""
        if self._covers(name):
            with self._claim(name, "create the registered model"):
                self._names.require_release(name)
                _require_none(name, "tags", [tag.key for tag in tags or []])
        return super().create_registered_model(name, tags, description, deployment_job_id)

    def create_model_version(
        self,
        name: str,
        source: str,
        run_id: str | None = None,
        tags: Any = None,
        run_link: str | None = None,
        description: str | None = None,
        local_model_path: str | None = None,
        model_id: str | None = None,
    ) -> ModelVersion:
        """As MLflow's; under a protected name of the candidate of the published release, once."""

        def create() -> ModelVersion:
            return super(ProtectedStore, self).create_model_version(
                name, source, run_id, tags, run_link, description, local_model_path, model_id
            )

        if not self._covers(name):
            return create()
        with self._claim(name, "create a version"), registry_lock(self._home):
            found = _SOURCE.match(source)
            candidate = found.group(1) if found else ""
            if model_id not in (None, "", candidate):
                raise RegistryError(f"{name}: expected one candidate, got {candidate or source[:80]!r} and {model_id}")
            release = self._names.require_claim(name, candidate)
            for tag in tags or []:
                _check_tag(name, tag, release.version)
            for version in self._versions_of(name):
                if version.source == source:
                    raise RegistryError(
                        f"{name}: expected one version for release {release.version}, got a second: it is version "
                        f"{version.version}",
                    )
            return create()

    def copy_model_version(self, src_mv: ModelVersion, dst_name: str) -> ModelVersion:
        """As MLflow's; refused to a protected name, before MLflow makes a registered model for the copy."""
        self._refuse(dst_name, "copy a version to this name")
        return super().copy_model_version(src_mv, dst_name)

    def set_registered_model_alias(self, name: str, alias: str, version: str) -> None:
        """As MLflow's; under a protected name `champion` alone, to the published release."""
        if not self._covers(name):
            super().set_registered_model_alias(name, alias, version)
            return
        with self._claim(name, f"move the alias {alias}"), registry_lock(self._home):
            if alias != CHAMPION:
                raise RegistryError(f"{name}: expected the alias {CHAMPION}, got {alias[:60]!r}", remedy=REVIEW)
            self._names.require_claim(name, self._candidate_of(name, version))
            super().set_registered_model_alias(name, alias, version)

    def set_model_version_tag(self, name: str, version: str, tag: Any) -> None:
        """As MLflow's; under a protected name the release's number alone."""
        if not self._covers(name):
            super().set_model_version_tag(name, version, tag)
            return
        with self._claim(name, f"set the tag {tag.key}"), registry_lock(self._home):
            release = self._names.require_claim(name, self._candidate_of(name, version))
            _check_tag(name, tag, release.version)
            super().set_model_version_tag(name, version, tag)

    def update_registered_model(self, name: str, description: str, deployment_job_id: str | None = None) -> Any:
        """As MLflow's; refused under a protected name."""
        self._refuse(name, "change the description")
        return super().update_registered_model(name, description, deployment_job_id)

    def rename_registered_model(self, name: str, new_name: str) -> RegisteredModel:
        """As MLflow's; refused from and to a protected name."""
        self._refuse(name, "rename the model")
        self._refuse(new_name, "give a model this name")
        return super().rename_registered_model(name, new_name)

    def delete_registered_model(self, name: str) -> None:
        """As MLflow's; refused under a protected name."""
        self._refuse(name, "delete the model")
        super().delete_registered_model(name)

    def set_registered_model_tag(self, name: str, tag: Any) -> None:
        """As MLflow's; refused under a protected name."""
        self._refuse(name, f"set the tag {tag.key}")
        super().set_registered_model_tag(name, tag)

    def delete_registered_model_tag(self, name: str, key: str) -> None:
        """As MLflow's; refused under a protected name."""
        self._refuse(name, f"delete the tag {key}")
        super().delete_registered_model_tag(name, key)

    def update_model_version(self, name: str, version: str, description: str | None = None) -> ModelVersion:
        """As MLflow's; refused under a protected name."""
        self._refuse(name, "change the description of a version")
        return super().update_model_version(name, version, description)

    def transition_model_version_stage(
        self, name: str, version: str, stage: str, archive_existing_versions: bool
    ) -> ModelVersion:
        """As MLflow's; refused under a protected name."""
        self._refuse(name, f"move a version to the stage {stage}")
        return super().transition_model_version_stage(name, version, stage, archive_existing_versions)

    def delete_model_version(self, name: str, version: str) -> None:
        """As MLflow's; refused under a protected name."""
        self._refuse(name, "delete a version")
        super().delete_model_version(name, version)

    def delete_model_version_tag(self, name: str, version: str, key: str) -> None:
        """As MLflow's; refused under a protected name."""
        self._refuse(name, f"delete the tag {key}")
        super().delete_model_version_tag(name, version, key)

    def delete_registered_model_alias(self, name: str, alias: str) -> None:
        """As MLflow's; refused under a protected name."""
        self._refuse(name, f"delete the alias {alias}")
        super().delete_registered_model_alias(name, alias)

    def _covers(self, name: object) -> bool:
        with self._claim(str(name), "ask for its protection"):
            return self._names.covers(name)

    def _refuse(self, name: str, what: str) -> None:
        if self._covers(name):
            with self._claim(name, what):
                raise RegistryError(
                    f"{name[:60]}: expected a change that an approved release makes, got a request to {what}: "
                    "this name is protected",
                    remedy=REVIEW,
                )

    @contextmanager
    def _claim(self, name: str, what: str) -> Iterator[None]:
        """Turn our refusals, inside, into MLflow's: HTTP 403, with the sentence."""
        try:
            yield
        except TwinsealError as error:
            log.warning("registry.claim_refused", model=name[:60], what=what[:80], error=type(error).__name__)
            deny(f"{what}: {error}. {error.remedy}".strip(), error)
        except OSError as error:
            deny(f"{what}: expected the files of the release, got none that can be read ({error.strerror})", error)

    def _versions_of(self, name: str) -> list[ModelVersion]:
        return list(self.search_model_versions(f"name = '{name}'", max_results=1000))

    def _candidate_of(self, name: str, version: str) -> str:
        found = _SOURCE.match(str(self.get_model_version(name, version).source))
        return found.group(1) if found else ""

    def _folder_of(self, model_id: str) -> Path:
        with self.ManagedSessionMaker() as session:
            found = session.query(SqlLoggedModel).filter(SqlLoggedModel.model_id == model_id).one_or_none()
            location = None if found is None else str(found.artifact_location)
        if location is None:
            raise RegistryError(f"candidate: expected one that MLflow has, got {model_id[:60]}")
        return candidate_folder(self._home, location)


def _check_tag(name: str, tag: Any, version: int) -> None:
    if (tag.key, str(tag.value)) != (RELEASE_VERSION, str(version)):
        raise RegistryError(
            f"{name}: expected the tag {RELEASE_VERSION}={version} or none, got {str(tag.key)[:60]}="
            f"{str(tag.value)[:60]}"
        )


def _require_none(name: str, what: str, got: list[str]) -> None:
    if got:
        raise RegistryError(f"{name}: expected no {what}, got {', '.join(got)[:80]}")
