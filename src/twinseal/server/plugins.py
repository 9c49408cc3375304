"""What MLflow finds by its entry points. MLflow loads them whenever it is imported, so nothing is imported here."""

from __future__ import annotations

from typing import Any, NoReturn

PREFIX = "twinseal+"  # of the addresses by which MLflow finds them


def registry_store(store_uri: str) -> Any:
    """MLflow's registry store with protected names; `registry_store.ProtectedStore`."""
    from twinseal.server.registry_store import ProtectedStore  # noqa: PLC0415 - see above

    return ProtectedStore(store_uri)


def tracking_store(store_uri: str, artifact_uri: str) -> Any:
    """MLflow's tracking store, where candidates stay what they are; `tracking_store.CandidateStore`."""
    from twinseal.server.tracking_store import CandidateStore  # noqa: PLC0415 - see above

    return CandidateStore(store_uri, artifact_uri)


def artifact_repository(artifact_uri: str, tracking_uri: str | None = None, registry_uri: str | None = None) -> Any:
    """MLflow's artifacts, written once; `artifact_store.WriteOnceArtifacts`."""
    from twinseal.server.artifact_store import WriteOnceArtifacts  # noqa: PLC0415 - see above

    return WriteOnceArtifacts(artifact_uri, tracking_uri, registry_uri)


def deny(message: str, cause: Exception | None = None) -> NoReturn:
    """Refuse as MLflow does: HTTP 403, with a sentence that its pages and clients show.

    Raises:
        MlflowException: Always.
    """
    from mlflow.exceptions import MlflowException  # noqa: PLC0415 - see above
    from mlflow.protos.databricks_pb2 import PERMISSION_DENIED  # noqa: PLC0415 - see above

    raise MlflowException(message, error_code=PERMISSION_DENIED) from cause
