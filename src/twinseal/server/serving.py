"""Serving: one command starts MLflow with our three plugins, and shuts it down clean.

    <home>/mlflow/mlflow.db      MLflow's database, unless another is named
    <home>/mlflow/accounts.db    accounts; in the same database when that is PostgreSQL
    <home>/mlflow/served         artifacts that are sent to the server
    <home>/mlflow/access.log     who asked for what
    <home>/mlflow/secrets.json   what sessions are made, and webhook secrets encrypted, with
    <home>/mlflow/ended          sessions that have ended before their time

A new server has one account, `admin`, with a password that is printed once.
"""

from __future__ import annotations

import json
import logging
import os
import secrets
import shutil
import signal
import socket
import ssl
import warnings
from base64 import urlsafe_b64encode
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvicorn

from twinseal.errors import ConfigError
from twinseal.files import write_whole
from twinseal.reading import read_regular
from twinseal.registry.store import served_folder
from twinseal.server import mlflow_person
from twinseal.server.artifact_store import STAGING
from twinseal.server.databases import connect_postgresql
from twinseal.server.observing import SHARED, shared_folder
from twinseal.server.people import ADMIN, Accounts, new_password, write_auth_config
from twinseal.server.plugins import PREFIX
from twinseal.server.settings import SESSION_KEY, ServerSettings, without_driver
from twinseal.trust.root.home import Home

APP = "twinseal.server.app:create_app"
_SECRETS = ("flask", "webhooks", "sessions")
_ADDED = {"sessions"}  # a file of before has none


@dataclass(frozen=True)
class Prepared:
    """A server that can be started.

    Attributes:
        settings: With the port that it will listen on.
        first_password: Of the account `admin`, if it was made just now; "" otherwise.
    """

    settings: ServerSettings
    first_password: str


def accounts_uri(home: Home, settings: ServerSettings) -> str:
    """The address of the database with the accounts."""
    if settings.database_uri(home).startswith("postgresql"):
        return settings.database_uri(home)
    return f"sqlite:///{home.path.absolute()}/mlflow/accounts.db"


def prepare(home: Home, settings: ServerSettings) -> Prepared:
    """Make the databases and the first account, and set the environment that MLflow reads when it is imported.

    Side effects: files below `<home>/mlflow`; this process's environment.

    Raises:
        ConfigError: The port is taken, the database does not answer, certificate and key do not belong together, or the
            secret for the identity provider cannot be read.
    """
    folder = home.path / "mlflow"
    folder.mkdir(parents=True, exist_ok=True)
    served_folder(home.path).mkdir(exist_ok=True)
    settings.notices.check_files()
    settings = _with_port(settings)
    _keep_libraries_quiet()
    if settings.tls_certificate:
        _tls(settings)
    if settings.oidc:
        settings.oidc.secret()  # now, not at the first sign-in
    function = mlflow_person.FUNCTION if settings.oidc else ""
    write_auth_config(folder / "auth.ini", accounts_uri(home, settings), function)
    os.environ |= _environment(home, settings) | settings.to_environment() | _shared_counts(home, settings)
    shutil.rmtree(served_folder(home.path) / STAGING, ignore_errors=True)  # of a server that was killed
    if settings.database_uri(home).startswith("postgresql"):
        connect_postgresql(settings.database_uri(home)).close()  # MLflow would try for minutes
    try:
        first = _first_account(accounts_uri(home, settings))
        _make_tables(settings.database_uri(home))
    except Exception as error:  # of SQLAlchemy, alembic, the database's driver
        raise _no_database(error) from error
    return Prepared(settings, first)


def run(settings: ServerSettings) -> None:
    """Answer requests until SIGINT or SIGTERM; then finish those that have begun."""
    config = uvicorn.Config(
        APP,
        factory=True,
        host=settings.host,
        port=settings.port,
        workers=settings.workers,
        ssl_context_factory=_TlsFactory(settings) if settings.tls_certificate else None,
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=20,
        timeout_keep_alive=30,
        h11_max_incomplete_event_size=64 << 10,
    )
    # uvicorn raises the signal that ended it once more when all is done: then it is no longer news.
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        if settings.workers > 1:
            from uvicorn.supervisors import Multiprocess  # noqa: PLC0415 - rarely needed

            Multiprocess(config, sockets=[config.bind_socket()]).run()
        else:
            uvicorn.Server(config).run()
    except KeyboardInterrupt:
        pass
    finally:
        signal.signal(signal.SIGTERM, before)


def _no_database(error: Exception) -> ConfigError:
    return ConfigError(
        f"database: expected one that MLflow can use, got {type(error).__name__} "
        f"({' '.join(str(error).split())[:200]})",
        remedy="Is it running, and `database` in server.yaml right?",
    )


def _keep_libraries_quiet() -> None:
    """What MLflow's libraries say while they start is not for whoever starts a server; its workers inherit it."""
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "ERROR")
    os.environ.setdefault("PYTHONWARNINGS", "ignore")
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.simplefilter("ignore")


class _TlsFactory:
    """TLS 1.3 and nothing older. A class, so that worker processes can be given it."""

    def __init__(self, settings: ServerSettings) -> None:
        self._settings = settings

    def __call__(self, _config: Any, _default: Any) -> ssl.SSLContext:
        return _tls(self._settings)


def _tls(settings: ServerSettings) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    try:
        context.load_cert_chain(settings.tls_certificate, settings.tls_key)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(
            f"tls: expected a certificate and its key in PEM, got something else ({error})",
            remedy="Look at tls_certificate and tls_key in server.yaml.",
        ) from error
    return context


def _with_port(settings: ServerSettings) -> ServerSettings:
    """The settings with a port that is free.

    Raises:
        ConfigError: It is taken.
    """
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.host, settings.port))
        except OSError as error:
            raise ConfigError(
                f"{settings.host}:{settings.port}: expected an address to listen on, got none ({error.strerror})",
                remedy="Another program listens there already: twinseal serve --port N. N = 0 takes one that is free.",
            ) from error
        return settings.model_copy(update={"port": int(probe.getsockname()[1])})


def _environment(home: Home, settings: ServerSettings) -> dict[str, str]:
    """What MLflow reads: its names are those of `mlflow.server` and `mlflow.environment_variables`."""
    database, keys = settings.database_uri(home), _secrets(home.path / "mlflow" / "secrets.json")
    return {
        "TWINSEAL_HOME": str(home.path.absolute()),
        "_MLFLOW_SERVER_FILE_STORE": f"{PREFIX}{without_driver(database)}",
        "_MLFLOW_SERVER_REGISTRY_STORE": f"{PREFIX}{without_driver(database)}",
        "_MLFLOW_SERVER_ARTIFACT_ROOT": "mlflow-artifacts:/",
        "_MLFLOW_SERVER_ARTIFACT_DESTINATION": f"{PREFIX}{served_folder(home.path).as_uri()}",
        "_MLFLOW_SERVER_SERVE_ARTIFACTS": "true",
        "_MLFLOW_SGI_NAME": "uvicorn",
        "_MLFLOW_AUTH_ADMIN_BOOTSTRAPPED": "true",
        "MLFLOW_AUTH_CONFIG_PATH": str(home.path.absolute() / "mlflow" / "auth.ini"),
        "MLFLOW_BASIC_AUTH_FAIL_CLOSED": "true",
        "MLFLOW_FLASK_SERVER_SECRET_KEY": keys["flask"],
        "MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY": keys["webhooks"],
        SESSION_KEY: keys["sessions"],
        "MLFLOW_SERVER_ALLOWED_HOSTS": ",".join(sorted(settings.hosts)),
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_SERVER_X_FRAME_OPTIONS": "SAMEORIGIN",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }


def _secrets(path: Path) -> dict[str, str]:
    """What this server keeps secret, made once; for its owner alone."""
    try:
        found = json.loads(read_regular(path, 1 << 14))
    except FileNotFoundError:
        found = {}
        missing = set(_SECRETS)
    except ValueError as error:
        raise ConfigError(f"{path}: expected JSON, got something else", remedy="Restore it from the backup.") from error
    else:
        missing = set(_SECRETS) - set(found) if isinstance(found, dict) else set()
        if not isinstance(found, dict) or set(found) - set(_SECRETS) or missing - _ADDED:
            raise ConfigError(
                f"{path}: expected {', '.join(_SECRETS)}, got others", remedy="Restore it from the backup."
            )
    if missing:
        found |= {name: urlsafe_b64encode(secrets.token_bytes(32)).decode() for name in missing}
        write_whole(path, json.dumps(found).encode(), mode=0o600)
    return {name: str(found[name]) for name in _SECRETS}


def _shared_counts(home: Home, settings: ServerSettings) -> dict[str, str]:
    folder = shared_folder(home)
    shutil.rmtree(folder, ignore_errors=True)
    if settings.workers == 1:
        return {}
    folder.mkdir()
    return {SHARED: str(folder)}


def _first_account(uri: str) -> str:
    accounts = Accounts(uri)
    if accounts.all():
        return ""
    password = new_password()
    accounts.add(ADMIN, ("registrar",), password)
    return password


def _make_tables(uri: str) -> None:
    """Make MLflow's tables, before several workers would at once."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore  # noqa: PLC0415 - imports take seconds

    SqlAlchemyStore(uri, "mlflow-artifacts:/")
