"""The store: the connection to MLflow, and the one place where its errors become ours.

By default a SQLite file and a folder under the deployment's home, with no server at all; a server when the tracking URI
names one
(`MLFLOW_TRACKING_URI`). `mlflow server` over the same SQLite file shows it to people and serves it to the twin;
`server_command` says how.

Example:
    store = connect(Home.find())
    model_id = submit(store, Path("models/bundle"), …)
"""

from __future__ import annotations

import logging
import os
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import structlog

from twinseal.errors import RegistryError, TwinsealError, suggest

with warnings.catch_warnings():
    # MLflow's own imports warn of each other's deprecations; the user cannot change that.
    warnings.simplefilter("ignore")
    import mlflow
    from mlflow.exceptions import MlflowException

from twinseal.registry.locations import Artifacts, allowed_place, local_roots, open_artifacts
from twinseal.trust.root.home import Home

log = structlog.get_logger()

_UNREACHABLE = (
    "Is the server running, and MLFLOW_TRACKING_URI right? A server answers: curl $MLFLOW_TRACKING_URI/health"
)
_WRONG_STORE = (
    "MLFLOW_TRACKING_URI must be a server such as http://HOST:5000. For the store in the home: unset "
    "MLFLOW_TRACKING_URI. If that is damaged, restore its mlflow/ from the backup."
)
_SIGN_IN = (
    "Set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN, to those of your account."
)
SERVED = " (server)"  # ends the name of an experiment whose model has one that was made beside the server
LAYOUT = {"mlflow.experimentKind": "custom_model_development"}  # without, MLflow shows the layout for language models
_MODEL_ID = re.compile(r"m-[0-9a-f]{32}\Z")


@dataclass(frozen=True)
class Store:
    """A connection to MLflow.

    Attributes:
        tracking_uri: `sqlite:///…` or the address of a server.
        artifacts: Folder of the artifacts; None when a server keeps them.
        client: MLflow's own client. Artifacts do not go through it: it believes every location that a server names.
        roots: Folders of this machine that the user named for artifacts.
        served: Where the server of this deployment keeps what is sent to it; None when the store is a server.
    """

    tracking_uri: str
    artifacts: Path | None
    client: Any = field(repr=False, compare=False)
    roots: tuple[Path, ...] = ()
    served: Path | None = None

    def artifacts_at(self, location: object, what: str) -> Artifacts:
        """The artifacts at the location that MLflow names for `what`, if the user has configured that place.

        Raises:
            RegistryError: It is another folder or host than the user named; nothing was written or sent.
        """
        roots = (*self.roots, *([self.served] if self.served else ()))
        place = allowed_place(location, what, tracking_uri=self.tracking_uri, roots=roots, served=self.served)
        return open_artifacts(place, roots)

    def experiment(self, name: str) -> str:
        """The id of the experiment called `name`, made when there is none.

        Raises:
            RegistryError: MLflow could not be reached, refused, or the experiment was deleted by hand; or its artifacts
                go where the user did not name.
        """
        with registry_errors(f"experiment {name}"):
            found = self.client.get_experiment_by_name(name)
            if found is None:
                place = None if self.artifacts is None else (self.artifacts / name).as_uri()
                return str(self.client.create_experiment(name, artifact_location=place, tags=LAYOUT))
            if found.lifecycle_stage != "active":
                raise RegistryError(
                    f"experiment {name}: expected an active one, got {found.lifecycle_stage}",
                    remedy=f"mlflow experiments restore --experiment-id {found.experiment_id}",
                )
            self.artifacts_at(found.artifact_location, f"experiment {name}")  # before anything is made in it
            for key, value in LAYOUT.items():
                if found.tags.get(key) != value:
                    self.client.set_experiment_tag(found.experiment_id, key, value)
            return str(found.experiment_id)

    def served_experiment(self, name: str) -> str:
        """The name of an experiment whose artifacts the server keeps: `name`, unless its were kept beside the server.

        Raises:
            RegistryError: MLflow could not be reached, or refused.
        """
        with registry_errors(f"experiment {name}"):
            found = self.client.get_experiment_by_name(name)
            beside = found is not None and str(found.artifact_location).startswith("file:")
            return name + SERVED if beside else name


def connect(home: Home, tracking_uri: str | None = None) -> Store:
    """Open the store: `tracking_uri` if given, else `$MLFLOW_TRACKING_URI`, else SQLite under `home`.

    Side effects: MLflow's global tracking and registry URI become this store's: its SQLite registry looks the source of
    a version up by them. A new SQLite store takes three seconds to be made.

    Raises:
        RegistryError: No such store, or it does not answer.
    """
    logging.getLogger("mlflow").setLevel(logging.WARNING)
    # MLflow prints links that open the layout for language models; ours are in the description of each candidate.
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    logging.getLogger("alembic").setLevel(logging.WARNING)
    uri = tracking_uri or os.environ.get("MLFLOW_TRACKING_URI") or sqlite_uri(home.path)
    artifacts = artifacts_folder(home.path) if uri.startswith("sqlite:") else None
    if artifacts is not None:
        artifacts.mkdir(parents=True, exist_ok=True)
    where = f"MLflow at {without_password(uri)}"
    with suggest(_WRONG_STORE), registry_errors(where), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # SQLAlchemy warns of MLflow's mappers when they are first set up
        with _restore_environment():
            mlflow.set_tracking_uri(uri)
            mlflow.set_registry_uri(uri)
        client = mlflow.MlflowClient(tracking_uri=uri, registry_uri=uri)
        client.search_experiments(max_results=1)
    served = None if uri.startswith(("http:", "https:")) else served_folder(home.path)
    return Store(uri, artifacts, client, local_roots(uri, artifacts), served)


def sqlite_uri(home: Path) -> str:
    """The default tracking URI of the deployment at `home`."""
    return f"sqlite:///{home.absolute()}/mlflow/mlflow.db"


def artifacts_folder(home: Path) -> Path:
    """Where the default store of the deployment at `home` keeps its artifacts."""
    return home.absolute() / "mlflow" / "artifacts"


def served_folder(home: Path) -> Path:
    """Where a server of the deployment at `home` keeps what is sent to it."""
    return home.absolute() / "mlflow" / "served"


def server_command(home: Path, *, host: str = "127.0.0.1", port: int = 5000) -> list[str]:
    """The command that shows the default store of the deployment at `home` in a browser, and serves it to the twin.

    Run it with MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false: with jobs it starts seven more processes, and takes thrice as
    long. What is sent to the server rather than written beside it goes to `<home>/mlflow/served`.
    """
    options = {"--backend-store-uri": sqlite_uri(home), "--artifacts-destination": served_folder(home).as_uri()}
    options |= {"--host": host, "--port": str(port), "--workers": "1"}
    return ["mlflow", "server", *(word for option in options.items() for word in option)]


def check_model_id(model_id: str) -> None:
    """Refuse what MLflow would not have named a LoggedModel.

    Raises:
        RegistryError: `model_id` is not `m-` and 32 hexadecimal digits.
    """
    if not _MODEL_ID.match(model_id):
        raise RegistryError(f"candidate: expected an MLflow model id like m-0123…, got {model_id[:80]!r}")


def without_password(uri: str) -> str:
    """`uri` without what may be a password in it."""
    parts = urlsplit(uri)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl() if "@" in parts.netloc else uri


@contextmanager
def registry_errors(what: str) -> Iterator[None]:
    """Map whatever MLflow raises, inside, to RegistryError: `what` was being asked of it.

    Everything is mapped on purpose: behind MLflow stand SQLAlchemy, alembic, requests, urllib3 and the file system, and
    what leaks is not documented.
    """
    try:
        yield
    except TwinsealError:
        raise
    except Exception as error:
        code = getattr(error, "error_code", type(error).__name__)
        log.warning("registry.failed", what=what, error=code)
        reason = " ".join(str(error).split())[:300]
        remedy = _UNREACHABLE if _unreachable(error) else _SIGN_IN if code == "UNAUTHENTICATED" else ""
        raise RegistryError(f"{what}: expected an answer of MLflow, got {code} ({reason})", remedy=remedy) from error


@contextmanager
def _restore_environment() -> Iterator[None]:
    """Undo what MLflow writes into the environment: the next `connect`, for another home, would obey it."""
    before = {name: os.environ.get(name) for name in ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI")}
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def is_absent(error: Exception) -> bool:
    """Whether MLflow answered that there is no such thing."""
    return isinstance(error, MlflowException) and error.error_code == "RESOURCE_DOES_NOT_EXIST"


def _unreachable(error: Exception) -> bool:
    return "Max retries exceeded" in str(error) or "API request to" in str(error)
