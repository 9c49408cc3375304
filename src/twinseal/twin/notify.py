"""What a service tells systemd, as sd_notify(3) says: datagrams to the socket that $NOTIFY_SOCKET names.

    ready       READY=1       it answers: units that need it may start
    alive       WATCHDOG=1    it still works; without it for WatchdogSec, systemd ends and restarts the service
    stopping    STOPPING=1    it drains
    status      STATUS=…      one line for `systemctl status`

Without the variable nothing is sent. A datagram that cannot be sent is no reason to stop answering: the calls say
whether it was.

    >>> Notifier("").ready()
    False
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping

MAX_STATUS = 200


class Notifier:
    """Tells the service manager.

    Args:
        address: The path of its socket, or @NAME for an abstract one; "" for none.
        watchdog_s: Within how many seconds it wants to be told that the service is alive; 0: never.
    """

    def __init__(self, address: str, watchdog_s: float = 0.0) -> None:
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self.watchdog_s = watchdog_s

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None, process: int | None = None) -> Notifier:
        """As $NOTIFY_SOCKET, $WATCHDOG_USEC and $WATCHDOG_PID say; a socket of another kind (vsock) is not used."""
        given = os.environ if environment is None else environment
        address, asked, of = (given.get(name, "") for name in ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"))
        ours = not of or of == str(os.getpid() if process is None else process)
        wanted = int(asked) / 1e6 if ours and asked.isdecimal() else 0.0
        return cls(address if address.startswith(("/", "@")) else "", wanted)

    def ready(self) -> bool:
        """The service answers."""
        return self._send("READY=1")

    def alive(self) -> bool:
        """The service still works: call it at least twice in `watchdog_s`, from where the work is done."""
        return self._send("WATCHDOG=1")

    def stopping(self) -> bool:
        """The service drains, and then ends."""
        return self._send("STOPPING=1")

    def status(self, text: str) -> bool:
        """One line for people."""
        return self._send(f"STATUS={' '.join(text.split())[:MAX_STATUS]}")

    def _send(self, text: str) -> bool:
        if not self._address:
            return False
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as out:
                out.setblocking(False)
                out.connect(self._address)
                out.sendall(text.encode())
        except OSError:
            return False
        return True
