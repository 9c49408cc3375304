"""Other machines: whether an address is of this one, and whether a worker elsewhere is as this machine.

What a worker computes depends on its code, its packages, its Python and its processor. One that has others is refused,
because its numbers would be others. That finds a wrong version, no liar.
"""

from __future__ import annotations

import hashlib
import ipaddress
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from urllib.parse import urlsplit

from twinseal.digests import sha256_file
from twinseal.errors import ConfigError


@dataclass(frozen=True)
class Machine:
    """What the numbers of a worker depend on.

    Attributes:
        python, packages, processor, code: Versions; the instructions that it computes with, as far as they matter;
            the digest of twinseal's code.
    """

    python: str
    packages: tuple[str, ...]
    processor: str
    code: str

    @classmethod
    def this(cls, packages: Sequence[str], processor: str = "") -> Machine:
        """That of this process."""
        root, found = Path(__file__).parent, hashlib.sha256()
        for path in sorted(root.rglob("*.py")):
            found.update(f"{path.relative_to(root).as_posix()}\n{sha256_file(path)}\n".encode())
        versions = tuple(f"{name} {version(name)}" for name in packages)
        return cls(platform.python_version(), versions, f"{platform.machine()} {processor}".strip(), found.hexdigest())

    def require(self, expected: Machine) -> None:
        """Refuse to work here, in a worker, for a machine that is another.

        Raises:
            ConfigError: This one differs; the message says in what.
        """
        if self == expected:
            return
        names = [name for name in self.__dataclass_fields__ if getattr(self, name) != getattr(expected, name)]
        told = ", ".join(f"{name} {str(getattr(self, name))[:80]}" for name in names)
        wanted = ", ".join(f"{name} {str(getattr(expected, name))[:80]}" for name in names)
        raise ConfigError(
            f"workers: expected workers with {wanted}, as this machine has, got one on {platform.node()} with {told}",
            remedy="Install the same lock files and the same commit on every worker, on the same kind of processor.",
        )


def port_of(address: str) -> int | None:
    """The port in scheme://host:port; None if there is none.

    >>> port_of("tcp://a:1"), port_of("tcp://a"), port_of("tcp://a:99999")
    (1, None, None)
    """
    try:
        return urlsplit(address).port
    except ValueError:
        return None


def is_loopback(host: str) -> bool:
    """Whether a host is this machine, by its address alone: no name is looked up.

    >>> is_loopback("localhost"), is_loopback("127.1.2.3"), is_loopback("127.evil.test"), is_loopback("::1")
    (True, True, False, True)
    """
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"
