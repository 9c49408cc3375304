"""Settings of the server: `server.yaml` in the deployment's home, or the file that `--config` names. All have defaults.

Example:
    public_url: https://review.plant.example
    host: 0.0.0.0
    tls_certificate: /etc/twinseal/server.pem
    tls_key: /etc/twinseal/server.key
    database: postgresql://twinseal@db.plant.example/twinseal
    oidc: …   (oidc_settings.py)
"""

from __future__ import annotations

import os
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from twinseal.config import Settings, load, parse
from twinseal.digests import canonical_json, parse_json
from twinseal.errors import ConfigError
from twinseal.server.notice_settings import NoticeSettings
from twinseal.server.oidc_settings import LOOPBACK, OidcSettings
from twinseal.trust.root.home import Home

FILE = "server.yaml"
ENVIRONMENT = "TWINSEAL_SERVER_SETTINGS"  # how `twinseal serve` tells its workers
_USUAL_PORTS = {"http": 80, "https": 443}  # a browser never writes these
SESSION_KEY = "TWINSEAL_SESSION_KEY"  # how it gives them the secret that sessions are made with


class ServerSettings(Settings):
    """How the server runs.

    Attributes:
        host: The address to listen on.
        port: The port to listen on; 0: any that is free.
        public_url: What people type into their browser, as scheme, host and port; "" for the address itself, which is
            localhost where only this machine reaches it. Passkeys belong to this name; a number can have none.
        allowed_hosts: Further names by which requests may name this server.
        workers: Processes that answer.
        database: `sqlite:///…` or `postgresql://…`; "" for SQLite in the home.
        tls_certificate: PEM file with the certificate and those that signed it; "" for no TLS.
        tls_key: PEM file with its private key.
        max_upload_mib: The largest file that may be sent.
        requests_a_minute: What one person may ask.
        failed_logins_a_minute: How many wrong passwords one address may try for one account; each worker counts.
        trusted_proxies: Addresses, or networks, of proxies whose X-Forwarded-For says who sends a request.
        oidc: How people sign in at an identity provider; None: accounts with a password alone.
        notices: Who is told of what.

    Raises:
        ValueError: A value is out of range; one of certificate and key is missing; the public URL is none; people would
            sign in without TLS.
    """

    host: str = "127.0.0.1"
    port: int = 5000
    public_url: str = ""
    allowed_hosts: tuple[str, ...] = ()
    workers: int = 1
    database: str = ""
    tls_certificate: str = ""
    tls_key: str = ""
    max_upload_mib: int = 4096
    requests_a_minute: int = 6000
    failed_logins_a_minute: int = 10
    trusted_proxies: tuple[str, ...] = ()
    oidc: OidcSettings | None = None
    notices: NoticeSettings = NoticeSettings()

    def model_post_init(self, _context: Any, /) -> None:
        """Refuse what cannot be served."""
        if bool(self.tls_certificate) != bool(self.tls_key):
            raise ValueError("tls: expected a certificate and its key, got one of the two")
        for name, low, high in (
            ("port", 0, 65535),
            ("workers", 1, 64),
            ("max_upload_mib", 1, 1 << 20),
            ("requests_a_minute", 1, 1_000_000),
            ("failed_logins_a_minute", 1, 1_000_000),
        ):
            if not low <= getattr(self, name) <= high:
                raise ValueError(f"{name}: expected {low} to {high}, got {getattr(self, name)}")
        if self.database and not self.database.startswith(("sqlite:///", "postgresql://")):
            raise ValueError("database: expected sqlite:///PATH or postgresql://…, got another kind")
        for proxy in self.trusted_proxies:
            _network(proxy)
        if self.public_url and self.public_url != _without_path(self.public_url):
            raise ValueError(f"public_url: expected scheme and host alone, e.g. https://host, got {self.public_url!r}")
        if self.oidc and self.origin.startswith("http:") and urlsplit(self.origin).hostname not in LOOPBACK:
            raise ValueError("oidc: expected TLS, or a public_url that begins with https, got neither")

    @property
    def origin(self) -> str:
        """Scheme, host and port by which browsers know this server."""
        if self.public_url:
            return _without_usual_port(self.public_url)
        host = "localhost" if self.is_local else f"[{self.host}]" if ":" in self.host else self.host
        return _without_usual_port(f"{'https' if self.tls_certificate else 'http'}://{host}:{self.port}")

    @property
    def hosts(self) -> frozenset[str]:
        """The values of a request's Host header that are answered, in lower case."""
        own = urlsplit(self.origin).netloc
        near = [f"{name}:{self.port}" for name in ("127.0.0.1", "localhost", "[::1]")] if self.is_local else []
        return frozenset(name.lower() for name in (own, *near, *self.allowed_hosts))

    @property
    def is_local(self) -> bool:
        """Whether only programs on this machine reach it."""
        return self.host in LOOPBACK

    def trusts(self, address: str) -> bool:
        """Whether what is at this address is a proxy whose word on who sends a request is taken."""
        return bool(address) and any(ip_address(address) in _network(proxy) for proxy in self.trusted_proxies)

    def database_uri(self, home: Home) -> str:
        """The address of MLflow's database."""
        return with_driver(self.database or f"sqlite:///{home.path.absolute()}/mlflow/mlflow.db")  # as `registry.store`

    @classmethod
    def read(cls, home: Home, path: Path | None, **options: Any) -> ServerSettings:
        """The settings of a file, `server.yaml` of the home by default; `options` that are not None come before it.

        Raises:
            ConfigError: It cannot be read, or says what cannot be.
        """
        place = path or home.path / FILE
        base = load(cls, place).model_dump(by_alias=True) if path or place.exists() else {}
        given = {name: value for name, value in options.items() if value is not None}
        return parse(cls, base | given, str(place) if base else "twinseal serve")

    @classmethod
    def from_environment(cls, home: Home) -> ServerSettings:
        """Those that `twinseal serve` gave its workers; those of the home for MLflow's own `mlflow server`.

        Raises:
            ConfigError: They are malformed.
        """
        given = os.environ.get(ENVIRONMENT)
        if given is None:
            return cls.read(home, None)
        value = parse_json(given.encode(), ENVIRONMENT)
        if not isinstance(value, dict):
            raise ConfigError(f"${ENVIRONMENT}: expected settings, got something else")
        return parse(cls, value, ENVIRONMENT)

    def to_environment(self) -> dict[str, str]:
        """What `from_environment` reads."""
        return {ENVIRONMENT: canonical_json(self.model_dump(by_alias=True)).decode()}


def with_driver(uri: str) -> str:
    """The address of a database, with the driver that is installed here: SQLAlchemy's own choice is another.

    >>> with_driver("postgresql://me@host/name"), with_driver("sqlite:///x.db")
    ('postgresql+psycopg://me@host/name', 'sqlite:///x.db')
    """
    return uri.replace("postgresql://", "postgresql+psycopg://", 1) if uri.startswith("postgresql://") else uri


def without_driver(uri: str) -> str:
    """The same address as PostgreSQL's own programs know it.

    >>> without_driver("postgresql+psycopg://me@host/name")
    'postgresql://me@host/name'
    """
    return uri.replace("+psycopg", "", 1) if uri.startswith("postgresql+psycopg://") else uri


def _without_path(url: str) -> str:
    parts = urlsplit(url)
    try:
        is_usable = parts.scheme in _USUAL_PORTS and parts.hostname and parts.username is None and parts.port != 0
    except ValueError:  # no port
        return ""
    return f"{parts.scheme}://{parts.netloc}".lower() if is_usable else ""


def _without_usual_port(origin: str) -> str:
    """An origin as browsers write it.

    >>> _without_usual_port("https://a.test:443"), _without_usual_port("http://a.test:443")
    ('https://a.test', 'http://a.test:443')
    """
    parts = urlsplit(origin)
    usual = _USUAL_PORTS[parts.scheme]
    return origin.removesuffix(f":{usual}") if parts.port == usual else origin


def _network(text: str) -> IPv4Network | IPv6Network:
    try:
        return ip_network(text)
    except ValueError as error:
        raise ValueError(f"trusted_proxies: expected addresses like 192.0.2.1, got {text[:80]!r}") from error
