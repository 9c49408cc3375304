"""Settings of outputs: where answers and alerts go. The section `outputs` of `twin.yaml`, by the names of outputs.

Example:
    outputs:
      journal: {kind: lines, path: "-"}
      alerts: {kind: lines, path: /var/lib/twinseal-twin/alerts.jsonl, messages: alerts, max_mib: 64}
      broker:
        kind: mqtt
        host: broker.plant.example
        ca: /etc/twinseal/plant-ca.pem
        certificate: /etc/twinseal/twin.pem
        key: /run/credentials/twinseal-twin.service/mqtt.key
      oncall:
        kind: webhook
        url: https://oncall.plant.example/hook
        secret_file: /run/credentials/twinseal-twin.service/hook.secret
        severity: critical
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeAlias

from twinseal.config import Field, Settings
from twinseal.errors import ConfigError
from twinseal.other_machines import is_loopback
from twinseal.twin.outputs.alert import Severity
from twinseal.webhooks import check_address

What = Literal["all", "answers", "alerts"]
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,39}\Z")  # a folder and a label of metrics have it


class LinesSettings(Settings):
    """A file of JSON lines, or standard output.

    Attributes:
        kind: `lines`.
        path: The file; "-" for standard output.
        messages: Which lines.
        max_mib: When the file would be longer, it is moved to FILE.1; 0: never.
        keep: How many moved files there are, at most.
        sync: Wait for the disk with every write: answers survive a loss of power too, and cost some milliseconds.

    Raises:
        ValueError: Standard output cannot be moved.
    """

    kind: Literal["lines"]
    path: str = Field(min_length=1)
    messages: What = "all"
    max_mib: int = Field(default=0, ge=0, le=1 << 20)
    keep: int = Field(default=5, ge=1, le=1000)
    sync: bool = False

    def model_post_init(self, _context: Any, /) -> None:
        """Refuse what no standard output can do."""
        if self.path == "-" and (self.max_mib or self.sync):
            raise ValueError("lines: expected a file for max_mib and sync, got standard output")


class MqttSettings(Settings):
    """A broker, MQTT 5 over TLS 1.3; without TLS only on this machine.

    Attributes:
        kind: `mqtt`.
        host: Its name, which its certificate must have.
        port: 0: the usual one, 8883, or 1883 without TLS.
        prefix: What topics begin with: PREFIX/<model>/<unit>/rul, PREFIX/<model>/<unit>/alerts, PREFIX/<model>/alerts,
            and PREFIX/<model>/status.
        client_id: By which the broker knows this twin; "" for one of the model's name.
        ca: PEM file with the certificates of who may sign the broker's; "": those of this machine.
        certificate, key: PEM files of this twin's certificate and its private key; "" for none.
        username, password_file: For a broker that asks for them.
        plain_on_loopback: No TLS, to a broker on this machine.
        messages: Which are published.
        expiry_s: For how long a retained estimate is given to new subscribers, and an alert to late ones.

    Raises:
        ValueError: One of two is missing; a topic would be none; or it would be in the clear.
    """

    kind: Literal["mqtt"]
    host: str = Field(min_length=1, max_length=255)
    port: int = Field(default=0, ge=0, le=65535)
    prefix: str = Field(default="twinseal", min_length=1, max_length=200)
    client_id: str = Field(default="", max_length=64)
    ca: str = ""
    certificate: str = ""
    key: str = ""
    username: str = ""
    password_file: str = ""
    plain_on_loopback: bool = False
    messages: What = "all"
    expiry_s: int = Field(default=3600, ge=1, le=30 * 86400)

    def model_post_init(self, _context: Any, /) -> None:
        """Refuse what would go in the clear, or cannot be."""
        for one, other in (("certificate", "key"), ("username", "password_file")):
            if bool(getattr(self, one)) != bool(getattr(self, other)):
                raise ValueError(f"mqtt: expected both {one} and {other}, got one of the two")
        if any(letter in "+#$" or not letter.isprintable() for letter in self.prefix) or "" in self.prefix.split("/"):
            raise ValueError(f"prefix: expected the beginning of a topic, such as twinseal, got {self.prefix!r}")
        if self.plain_on_loopback and not is_loopback(self.host):
            raise ValueError(f"plain_on_loopback: expected this machine as host, got {self.host}")
        if self.plain_on_loopback and (self.ca or self.certificate):
            raise ValueError("plain_on_loopback: expected no certificates, got some")

    @property
    def usual_port(self) -> int:
        """The port to use."""
        return self.port or (1883 if self.plain_on_loopback else 8883)

    def tls(self) -> ssl.SSLContext | None:
        """TLS 1.3, which checks the broker's certificate and its name, with this twin's own certificate; None: plain.

        Raises:
            ConfigError: A file is not what it must be.
        """
        if self.plain_on_loopback:
            return None
        try:
            found = ssl.create_default_context(cafile=self.ca or None)
            found.minimum_version = ssl.TLSVersion.TLSv1_3
            if self.certificate:
                found.load_cert_chain(self.certificate, self.key, password=_no_passphrase)
        except (OSError, ssl.SSLError, ValueError) as error:
            raise ConfigError(
                f"mqtt {self.host}: expected certificates and a key in PEM, got something else ({error})",
                remedy="Look at ca, certificate and key of this output in twin.yaml. A key has no passphrase here.",
            ) from error
        return found


class WebhookSettings(Settings):
    """A receiver of alerts.

    Attributes:
        kind: `webhook`.
        url: https; http only to this machine.
        secret_file: With the secret that signs; `twinseal.webhooks` says how to make one.
        severity: The least that is sent.
        ca: PEM file with the certificates of who may sign the receiver's; "": those of this machine.
        waiting: How many alerts wait on the disk, at most.
        keep_hours: For how long an alert is tried; then it is given up, and said.

    Raises:
        ValueError: The address is another's, or in the clear.
    """

    kind: Literal["webhook"]
    url: str
    secret_file: str = Field(min_length=1)
    severity: Severity = "note"
    ca: str = ""
    waiting: int = Field(default=10_000, ge=1, le=1_000_000)
    keep_hours: float = Field(default=72.0, gt=0, le=24 * 365)

    def model_post_init(self, _context: Any, /) -> None:
        """Refuse an address that must not be sent to."""
        check_address(self.url)

    def tls(self) -> ssl.SSLContext:
        """Checks certificates and the names in them.

        Raises:
            ConfigError: `ca` is none.
        """
        try:
            return ssl.create_default_context(cafile=self.ca or None)
        except (OSError, ssl.SSLError) as error:
            raise ConfigError(
                f"webhook: ca: expected certificates in PEM, got something else ({error})",
                remedy="Look at ca of this output in twin.yaml.",
            ) from error


OutputSettings: TypeAlias = Annotated[LinesSettings | MqttSettings | WebhookSettings, Field(discriminator="kind")]


def check_outputs(outputs: Mapping[str, OutputSettings]) -> None:
    """Refuse names that are none, and one place twice: each would undo what the other does.

    Raises:
        ValueError: There is such a name or place.
    """
    places: dict[tuple[object, ...], str] = {}
    for name, item in outputs.items():
        if not _NAME.match(name):
            raise ValueError(f"outputs: expected names of small letters, digits and -, got {name[:60]!r}")
        other = places.setdefault(_place(item), name)
        if other != name:
            raise ValueError(f"outputs: expected each place once, got the same for {other} and {name}")


def _place(item: LinesSettings | MqttSettings | WebhookSettings) -> tuple[object, ...]:
    if isinstance(item, LinesSettings):
        return (item.path,)
    if isinstance(item, MqttSettings):
        return item.host, item.usual_port, item.prefix
    return (item.url,)


def _no_passphrase() -> str:
    """OpenSSL would ask at the terminal."""
    raise ValueError("a key with a passphrase")
