"""A deployment with a real `twinseal serve` over it, and what people with accounts ask of it over plain HTTP."""

from __future__ import annotations

import base64
import functools
import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from tests.server.databases import ready_tables
from tests.twin.deployment import MODEL, POLICY, Deployment
from tests.warm import Program, shared
from twinseal.registry.run import RunRecord
from twinseal.registry.store import connect
from twinseal.registry.submit import submit
from twinseal.server.people import Accounts
from twinseal.server.serving import accounts_uri
from twinseal.server.settings import ServerSettings
from twinseal.trust.release import repository
from twinseal.trust.release.model_role import sign_role
from twinseal.trust.release.release import Release
from twinseal.trust.release.request import Request
from twinseal.trust.root.home import Home

PATIENCE_S = 90.0
PROGRAM = (sys.executable, "-c", "from twinseal.cli import main; main()")
PASSWORD = "a password for tests"
API = "/api/2.0/mlflow/"


def now() -> datetime:
    """The real time: a server has no other."""
    return datetime.now(UTC).replace(microsecond=0)


def deployment(path: Path, *, has_tables: bool = True) -> Deployment:
    """A deployment whose signatures are of today, in a private folder; with MLflow's tables, or as it is at first."""
    made = Deployment(path, now=now())
    made.home.path.chmod(0o700)
    if has_tables:
        (made.home.path / "mlflow").mkdir()
        shutil.copy(ready_tables(), made.home.path / "mlflow/mlflow.db")
    return made


def submitted(made: Deployment, seed: int = 1, model: str = MODEL, uri: str | None = None) -> tuple[str, Path]:
    """A signed bundle, in MLflow as a candidate: its id, and where the bundle is."""
    bundle = made.bundle(seed, model)
    store = connect(made.home, uri)
    run = RunRecord({}, {})
    return submit(store, bundle, model=model, version=1, description_markdown="d", run=run), bundle


def approved(made: Deployment, bundle: Path, model_id: str, version: int = 1, model: str = MODEL) -> Release:
    """Approved by two reviewers and published in the repository of record; MLflow is not told."""
    release = Release.describe(
        bundle,
        model=model,
        version=version,
        policy_sha256=POLICY.sha256,
        mlflow_model_id=model_id,
        parent_version=version - 1 or None,
    )
    role = repository.stage(made.home, release, expires=now() + timedelta(days=20))
    signatures = [sign_role(role, made.home.signer(name)) for name in ("alice", "bruno")]
    request, registrar = Request(release, role), made.home.signer("registrar")
    repository.publish(made.home, request, signatures, registrar=registrar, roles=made.roles, now=now())
    return release


@dataclass
class Answer:
    """What came back.

    Attributes:
        status: Of HTTP.
        body: All of it.
        headers: By lower-case name.
    """

    status: int
    body: bytes
    headers: dict[str, str]

    @property
    def message(self) -> str:
        """MLflow's message of an error."""
        return str(json.loads(self.body)["message"])

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Server:
    """A server that runs.

    Attributes:
        url: Its address.
        output: What it printed when it began.
        process: The process.
        ca: Certificate to trust, for TLS.
        database: What `--database` named; "" for the home's own.
    """

    url: str
    output: str
    process: subprocess.Popen[str] | Program = field(repr=False)
    ca: Path | None = None
    database: str = ""

    def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        who: str | None = "engineer",
        password: str = PASSWORD,
        headers: dict[str, str] | None = None,
    ) -> Answer:
        """One request, as a person or nobody; JSON, or bytes as they are."""
        import ssl

        sent = dict(headers or {})
        if who is not None:
            sent["Authorization"] = "Basic " + base64.b64encode(f"{who}:{password}".encode()).decode()
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        if body is not None and not isinstance(body, bytes):
            sent.setdefault("Content-Type", "application/json")
        asked = urllib.request.Request(self.url + path, data, sent, method=method)
        context = ssl.create_default_context(cafile=str(self.ca)) if self.ca else None
        try:
            with urllib.request.urlopen(asked, timeout=60, context=context) as answer:
                return Answer(answer.status, answer.read(), {k.lower(): v for k, v in answer.headers.items()})
        except urllib.error.HTTPError as error:
            return Answer(error.code, error.read(), {k.lower(): v for k, v in error.headers.items()})

    def post(self, name: str, body: Any, **how: Any) -> Answer:
        """A call of MLflow's REST API."""
        return self.ask("POST", API + name, body, **how)


@contextmanager
def serving(
    home: Path, *options: str, people: bool = True, env: dict[str, str] | None = None, is_fork: bool = True
) -> Iterator[Server]:
    """`twinseal serve` over the home at `home`, with an account for each role; ended as Ctrl-C would.

    A fork of a warm process, unless several workers or `is_fork` want a new interpreter.
    """
    environment = os.environ | {"TWINSEAL_HOME": str(home)} | (env or {})
    if people:
        make_accounts(home, options)
    words = ["serve", "--port", "0", *options]
    log = home.parent / "server.err"
    process: subprocess.Popen[str] | Program
    with log.open("w") as errors:
        if is_fork and "--workers" not in options:
            process = shared().start("twinseal", *words, cwd=home.parent, env=environment, stderr=errors)
        else:
            process = subprocess.Popen([*PROGRAM, *words], cwd=home.parent, env=environment, stdout=subprocess.PIPE,
                                       stderr=errors, text=True, start_new_session=True)  # fmt: skip
    try:
        started = _started(process, log)
        started.database = dict(itertools.pairwise(options)).get("--database", "")
        yield started
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGINT)
        process.wait(timeout=40)
        process.stdout.close()  # type: ignore[union-attr]


PEOPLE = {
    **{role: role for role in ("reader", "engineer", "reviewer", "registrar")},
    **dict.fromkeys(("alice", "bruno", "chiara"), "reviewer"),
}


def make_accounts(home: Path, options: tuple[str, ...]) -> None:
    """An account of each role, under its name; and the reviewers'."""
    database = dict(zip(options[::2], options[1::2], strict=False)).get("--database", "")
    uri = accounts_uri(Home(home), ServerSettings(database=database))
    if uri.startswith("sqlite") and not (home / "mlflow/accounts.db").exists():
        (home / "mlflow").mkdir(exist_ok=True)
        shutil.copy(_ready_accounts(), home / "mlflow/accounts.db")
    else:
        add_accounts(uri, PEOPLE)


@functools.cache
def _ready_accounts() -> Path:
    """A database with these accounts, to be copied: migrations and slow hashes take seconds."""
    path = ready_tables().with_name("accounts.db")
    add_accounts(f"sqlite:///{path}", PEOPLE)
    return path


def add_accounts(uri: str, roles: Mapping[str, str | tuple[str, ...]]) -> None:
    """Accounts with these roles in a database; a server that runs looks roles up every 5 seconds."""
    made = Accounts(uri)
    for name, role in roles.items():
        made.add(name, (role,) if isinstance(role, str) else role, PASSWORD)
    made.close()


def accounts_of(home: Path) -> str:
    """The home's own database with accounts."""
    return accounts_uri(Home(home), ServerSettings())


def _started(process: subprocess.Popen[str] | Program, log: Path) -> Server:
    end, lines = time.monotonic() + PATIENCE_S, []
    for line in process.stdout or ():
        lines.append(line)
        if line.startswith("Ctrl-C"):
            break
    output = "".join(lines)
    found = re.search(r"^MLflow +(\S+)$", output, re.MULTILINE)
    if found is None:
        raise RuntimeError(f"twinseal serve did not start: {output}{log.read_text()[-2000:]}")
    url = found.group(1)
    while time.monotonic() < end:
        if process.poll() is not None:
            raise RuntimeError(f"twinseal serve ended with {process.returncode}: {log.read_text()[-2000:]}")
        try:
            import ssl

            with urllib.request.urlopen(f"{url}/twinseal/live", timeout=5, context=ssl._create_unverified_context()):
                return Server(url, output, process)
        except OSError:
            time.sleep(0.1)
    raise RuntimeError(f"twinseal serve did not answer within {PATIENCE_S} s: {log.read_text()[-2000:]}")
