"""Settings of notices: who is told of what, and how. The section `notices` of `server.yaml`; empty: nobody is told.

Example:
    notices:
      webhooks:
        - {url: https://chat.plant.example/hook, secret_file: /etc/twinseal/hook.secret, events: [waits, published]}
      smtp:
        host: mail.plant.example
        security: starttls
        username: twinseal
        password_file: /etc/twinseal/mail.password
        from: twinseal@plant.example
        to: [reviewers@plant.example]

What a secret file holds, and how to make one: `twinseal.webhooks`.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

from twinseal.config import Field, Settings
from twinseal.digests import sha256
from twinseal.errors import ConfigError
from twinseal.other_machines import is_loopback
from twinseal.webhooks import check_address, read_secret, read_secret_line

Event = Literal["waits", "approved", "rejected", "withdrawn", "commented", "published", "expires_soon"]
EVENTS: tuple[Event, ...] = ("waits", "approved", "rejected", "withdrawn", "commented", "published", "expires_soon")
MAIL = "mail"
_ADDRESS = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[A-Za-z0-9.-]{1,255}\Z")


class Webhook(Settings):
    """One receiver of JSON.

    Attributes:
        url: https; http only to this machine.
        secret_file: With the secret that signs.
        events: Which it is told.

    Raises:
        ValueError: The address is another's, or in the clear.
    """

    url: str
    secret_file: str
    events: tuple[Event, ...] = EVENTS

    def model_post_init(self, _context: Any, /) -> None:
        """Refuse an address that must not be sent to."""
        check_address(self.url)

    @property
    def channel(self) -> str:
        """Its name in the outbox."""
        return f"hook-{sha256(self.url.encode())[:16]}"

    def secret(self) -> bytes:
        """The key of its signatures, read anew: it may be replaced while the server runs.

        Raises:
            ConfigError: The file is absent, or has none.
        """
        with _readable(self.secret_file, "secret_file"):
            return read_secret(self.secret_file)


class Smtp(Settings):
    """A mail server, and who gets mail.

    Attributes:
        host: Its name, which its certificate must have.
        port: 0: the usual one for `security`.
        security: starttls, tls from the first byte, or none: then no password is sent, but to this machine.
        username: "" for a server that asks for none.
        password_file: With the password.
        sender: The address that mail comes from; `from` in the file.
        to: Who gets it.
        events: Of which.

    Raises:
        ValueError: An address is none; a password would be sent in the clear.
    """

    host: str
    port: int = Field(default=0, ge=0, le=65535)
    security: Literal["none", "starttls", "tls"] = "starttls"
    username: str = ""
    password_file: str = ""
    sender: str = Field(alias="from")
    to: tuple[str, ...] = Field(min_length=1, max_length=100)
    events: tuple[Event, ...] = EVENTS

    def model_post_init(self, _context: Any, /) -> None:
        """Refuse what cannot be sent, or not safely."""
        wrong = [address for address in (self.sender, *self.to) if not _ADDRESS.match(address)]
        if wrong:
            raise ValueError(f"from, to: expected addresses such as name@host, got {wrong[0][:80]!r}")
        if bool(self.username) != bool(self.password_file):
            raise ValueError("smtp: expected a user name and a password_file, got one of the two")
        if self.username and self.security == "none" and not is_loopback(self.host):
            raise ValueError("smtp: expected security starttls or tls where a password is sent, got none")

    @property
    def channel(self) -> str:
        """Its name in the outbox."""
        return MAIL

    @property
    def usual_port(self) -> int:
        """The port to use."""
        return self.port or {"none": 25, "starttls": 587, "tls": 465}[self.security]

    def password(self) -> str:
        """Read anew.

        Raises:
            ConfigError: The file is absent.
        """
        with _readable(self.password_file, "password_file"):
            return read_secret_line(self.password_file)


class NoticeSettings(Settings):
    """Who is told.

    Attributes:
        webhooks: Receivers of JSON.
        smtp: Mail; None: none is sent.
        ca_file: PEM file with the authorities that sign the certificates of these hosts; "": those of this machine.

    Raises:
        ValueError: One address is named twice.
    """

    webhooks: tuple[Webhook, ...] = Field(default=(), max_length=20)
    smtp: Smtp | None = None
    ca_file: str = ""

    def model_post_init(self, _context: Any, /) -> None:
        """Refuse one receiver twice: which secret would sign?"""
        urls = [hook.url for hook in self.webhooks]
        if len(set(urls)) != len(urls):
            raise ValueError("webhooks: expected each url once, got one twice")

    @property
    def channels(self) -> dict[str, Webhook | Smtp]:
        """Every receiver, by its name in the outbox."""
        found: list[Webhook | Smtp] = [*self.webhooks, *([self.smtp] if self.smtp else [])]
        return {item.channel: item for item in found}

    def check_files(self) -> None:
        """Refuse to start with a secret that cannot be read.

        Raises:
            ConfigError: One cannot.
        """
        for hook in self.webhooks:
            hook.secret()
        if self.smtp is not None and self.smtp.password_file:
            self.smtp.password()
        self.tls()

    def tls(self) -> ssl.SSLContext:
        """Checks certificates and the names in them.

        Raises:
            ConfigError: `ca_file` is none.
        """
        try:
            return ssl.create_default_context(cafile=self.ca_file or None)
        except (OSError, ssl.SSLError) as error:
            raise ConfigError(
                f"notices: ca_file: expected certificates in PEM, got something else ({error})",
                remedy="Look at notices.ca_file in server.yaml.",
            ) from error


@contextmanager
def _readable(path: str, what: str) -> Iterator[None]:
    try:
        yield
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"notices: {what}: expected a file with one line, got {path} ({type(error).__name__})",
            remedy=f"Make the file, or correct notices: {what} in server.yaml.",
        ) from error
