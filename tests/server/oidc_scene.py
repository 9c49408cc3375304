"""A real identity provider (npm's oidc-provider) on loopback, a server that trusts it, and browsers by plain HTTP."""

from __future__ import annotations

import fcntl
import hashlib
import http.client
import json
import os
import re
import shutil
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urljoin, urlsplit

import pytest
import yaml
from joserfc import jwt
from joserfc.jwk import RSAKey

from tests.server.receivers import until
from tests.server.scene import Answer, Server, accounts_of, add_accounts, deployment, serving
from tests.twin.deployment import Deployment

HERE = Path(__file__).with_name("oidc")
AUDIENCE = "urn:twinseal:api"
SESSION = "twinseal-session"
GROUPS = {"reader": ["plant"], "engineer": ["ml"], "reviewer": ["safety"], "registrar": ["platform"]}
PEOPLE: dict[str, dict[str, Any]] = {
    "rita": {"groups": ["plant"]},
    "erik": {"groups": ["plant", "ml"]},
    "alice": {"groups": ["safety"], "amr": ["pwd", "otp"]},
    "bruno": {"groups": ["safety"], "amr": ["pwd"]},
    "acacia": {"groups": ["safety"], "amr": ["pwd"], "acr": "urn:plant:two"},
    "petra": {"groups": ["platform"]},
    "nobody": {"groups": ["canteen"]},
    "engineer": {"groups": ["platform"]},  # the name of an account with a password
}


def node_or_skip() -> Path:
    """The folder with the provider and its packages, installed once for each lock file; else the tests are skipped."""
    for name in ("node", "npm"):
        if shutil.which(name) is None:
            pytest.skip(f"sign-in: expected {name}, got none: Node.js 20 or newer runs the identity provider")
    version = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True).stdout.strip()
    if int(version.lstrip("v").split(".")[0]) < 20:
        pytest.skip(f"sign-in: expected Node.js 20 or newer for the identity provider, got {version}")
    folder = _cache()
    with (folder / "lock").open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        if not (folder / "done").exists():
            _install(folder)
            (folder / "done").touch()
    return folder


def _cache() -> Path:
    """A folder for the packages of this lock file: it may be kept between runs."""
    lock = hashlib.sha256((HERE / "package-lock.json").read_bytes()).hexdigest()[:16]
    folder = Path(tempfile.gettempdir()) / f"twinseal-oidc-{os.getuid()}-{lock}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.lstat().st_uid != os.getuid() or folder.is_symlink():
        pytest.skip(f"sign-in: expected a folder of ours, got another's: {folder}")
    return folder


def _install(folder: Path) -> None:
    for name in ("package.json", "package-lock.json"):
        shutil.copy(HERE / name, folder)
    words = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=240, cwd=folder)
    if done.returncode:
        pytest.skip(f"sign-in: expected npm ci to install oidc-provider, got: {done.stderr[-300:]}")


@dataclass
class Provider:
    """The identity provider.

    Attributes:
        issuer: Its address.
        secret: What it knows the client `twinseal` by.
    """

    issuer: str
    secret: str

    def control(self, **changes: Any) -> Any:
        """Change what it does from now on; what one who has broken in would know."""
        asked = urllib.request.Request(f"{self.issuer}/control", json.dumps(changes).encode(), method="POST")
        with urllib.request.urlopen(asked, timeout=60) as answer:
            return json.load(answer)

    def key(self) -> RSAKey:
        """Its private key."""
        return RSAKey.import_key(self.control()["key"])

    def claims(self, name: str, **changes: Any) -> dict[str, Any]:
        """What it would say of a person in an access token."""
        now = int(time.time())
        made = {"iss": self.issuer, "sub": f"id-{name}", "aud": AUDIENCE, "exp": now + 300, "iat": now}
        made |= {"preferred_username": name, "groups": PEOPLE[name]["groups"], **changes}
        return {claim: value for claim, value in made.items() if value is not None}

    def token(self, name: str, *, key: RSAKey | None = None, kid: str | None = None, **changes: Any) -> str:
        """An access token that it would sign."""
        used = key or self.key()
        header = {"alg": "RS256", "typ": "at+jwt", "kid": kid or self.key().kid}
        return jwt.encode(header, self.claims(name, **changes), used, algorithms=["RS256"])


@contextmanager
def providing() -> Iterator[Provider]:
    """The provider, ended with the block."""
    folder = node_or_skip()
    program = folder / f"provider-{os.getpid()}.mjs"  # beside node_modules, where Node.js looks for packages
    shutil.copy(HERE / "provider.mjs", program)
    process = subprocess.Popen(
        ["node", program.name], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        for line in process.stdout or ():
            if line.startswith("{"):
                break
        else:
            raise RuntimeError("the identity provider did not start")
        said = json.loads(line)
        found = Provider(said["issuer"], said["client_secret"])
        found.control(people=PEOPLE)
        yield found
    finally:
        process.terminate()
        process.wait(timeout=10)
        process.stdout.close()  # type: ignore[union-attr]
        program.unlink(missing_ok=True)


@dataclass
class Browser:
    """A browser: it keeps cookies by host and port, and follows redirects when asked to.

    Attributes:
        cookies: Values by host and port, and name.
        visited: Every address that it was sent to.
    """

    cookies: dict[str, dict[str, str]] = field(default_factory=dict)
    visited: list[str] = field(default_factory=list)

    def ask(
        self, method: str, url: str, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> tuple[Answer, str]:
        """One request as for a page; what came back, and where it leads to ("" for nowhere)."""
        parts = urlsplit(url)
        self.visited.append(url)
        jar = self.cookies.setdefault(parts.netloc, {})
        sent = {"Accept": "text/html,*/*", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"} | (headers or {})
        sent |= {"Cookie": "; ".join(f"{name}={value}" for name, value in jar.items())} if jar else {}
        if body is not None:
            sent.setdefault("Content-Type", "application/x-www-form-urlencoded")
            sent.setdefault("Origin", f"{parts.scheme}://{parts.netloc}")
        path = parts.path + (f"?{parts.query}" if parts.query else "")
        with closing(http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=30)) as connection:
            connection.request(method, path, body, sent)
            answer = connection.getresponse()
            data = answer.read()
            for line in answer.headers.get_all("Set-Cookie") or []:
                (name, _, value), attributes = line.partition(";")[0].partition("="), line.partition(";")[2]
                if not value or "max-age=0" in attributes.lower() or "1970" in attributes:
                    jar.pop(name, None)
                else:
                    jar[name] = value
            found = Answer(answer.status, data, {k.lower(): v for k, v in answer.headers.items()})
        return found, urljoin(url, found.headers["location"]) if "location" in found.headers else ""

    def get(self, url: str, **headers: str) -> Answer:
        """A page, wherever redirects lead to."""
        answer, to = self.ask("GET", url, headers=headers)
        while to:
            answer, to = self.ask("GET", to)
        return answer

    def begin(self, server: Server, name: str, path: str = "/twinseal/review", **more: str) -> str:
        """Sign in at the provider, and stop before the browser goes back: the address that it is sent to."""
        _, to = self.ask("GET", f"{server.url}/twinseal/login?{urlencode({'next': path} | more)}")
        form, to2 = self.ask("GET", to)
        while to2 and "/interaction/" not in to2:
            if "/twinseal/callback" in to2:
                return to2  # the provider knew the browser
            form, to2 = self.ask("GET", to2)
        assert to2, form
        _, to3 = self.ask("POST", to2, urlencode({"name": name}).encode())
        while "/twinseal/callback" not in to3:
            _, to3 = self.ask("GET", to3)
        return to3

    def sign_in(self, server: Server, name: str, path: str = "/twinseal/review", **more: str) -> Answer:
        """The whole of it."""
        answer, to = self.ask("GET", self.begin(server, name, path, **more))
        return answer if not to else self.get(to)

    def session(self, server: Server) -> str:
        """The session's cookie; "" for none."""
        return self.cookies.get(urlsplit(server.url).netloc, {}).get(SESSION, "")


@dataclass
class OidcScene:
    """A deployment, its server, and the provider that it trusts.

    Attributes:
        made: The deployment.
        server: The server.
        provider: The provider.
    """

    made: Deployment
    server: Server
    provider: Provider

    def browser(self, name: str) -> Browser:
        """One that has signed in."""
        found = Browser()
        found.sign_in(self.server, name)
        assert found.session(self.server), name
        return found

    def bearer(
        self, token: str, path: str = "/api/2.0/mlflow/users/current", method: str = "GET", **how: Any
    ) -> Answer:
        headers = how.pop("headers", {}) | {"Authorization": f"Bearer {token}"}
        return self.server.ask(method, path, how.pop("body", None), who=None, headers=headers)

    def cookie(
        self, value: str, path: str = "/api/2.0/mlflow/users/current", method: str = "GET", **how: Any
    ) -> Answer:
        headers = how.pop("headers", {}) | {"Cookie": f"{SESSION}={value}"}
        return self.server.ask(method, path, how.pop("body", None), who=None, headers=headers)

    def has_logged(self, who: str, way: str) -> bool:
        """Whether the last request in the access log was this person's, in a while: it is written after the answer."""

        def is_last() -> bool:
            line = json.loads((self.made.home.path / "mlflow/access.log").read_text().splitlines()[-1])
            return (line["who"], line["by"]) == (who, way)

        return bool(until(is_last, 5.0))


@contextmanager
def oidc_scene(path: Path, provider: Provider, *options: str, **settings: Any) -> Iterator[OidcScene]:
    """The scene; its server is ended with it."""
    made = deployment(path, has_tables=False)  # this server makes its own
    (made.home.path / "mlflow").mkdir()
    secret = path / "client-secret"
    secret.write_text(provider.secret + "\n")
    secret.chmod(0o600)
    section = {
        "issuer": provider.issuer,
        "client_id": "twinseal",
        "client_secret_file": str(secret),
        "audience": AUDIENCE,
        "roles": GROUPS,
    }
    (made.home.path / "server.yaml").write_text(yaml.safe_dump({"oidc": section | settings}))
    add_accounts(accounts_of(made.home.path), {"engineer": "engineer", "reader": "reader", "chiara": "reviewer"})
    with serving(made.home.path, *options, people=False) as server:
        provider.control(redirect=f"{server.url}/twinseal/callback")
        yield OidcScene(made, server, provider)


def state_of(address: str) -> str:
    """The state in an address of the callback."""
    return parse_qs(urlsplit(address).query)["state"][0]


def nonce_of(browser: Browser) -> str:
    """The nonce with which a browser was last sent to the provider."""
    asked = next(url for url in reversed(browser.visited) if re.search(r"/auth\?", url))
    return parse_qs(urlsplit(asked).query)["nonce"][0]
