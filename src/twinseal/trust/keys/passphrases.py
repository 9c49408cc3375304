"""Passphrases and PINs: where one comes from when no person is asked. None is in a log, message or command line.

In this order, the first that has one:

1. the caller: a person at the terminal was asked, or the key's URI names a file (`pin-source`)
2. $TWINSEAL_<HOLDER>_PASSPHRASE
3. a file descriptor: `--passphrase-fd N`, or $TWINSEAL_PASSPHRASE_FD; its first line, for every key of the process
4. $TWINSEAL_PASSPHRASE

Use a descriptor for a service: the environment is inherited by every child process, and /proc shows it to every process
of the same user. `twinseal approve --as alice 3< <(pass show alice)` with `--passphrase-fd 3`.

A variable that is set and empty counts as not set: an empty passphrase protects nothing.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TypeAlias

from twinseal.errors import KeyAccessError

COMMON = "TWINSEAL_PASSPHRASE"
DESCRIPTOR = "TWINSEAL_PASSPHRASE_FD"
MAX_PASSPHRASE_BYTES = 4096
_OPEN_ONE = "Open one, and name it: twinseal --passphrase-fd 3 COMMAND 3< FILE   (the passphrase is its first line)"


Passphrase: TypeAlias = Callable[[str, str], bytes | None]
"""Asked for the passphrase of a key by its URI and its holder; None: look into the environment."""


def from_environment(_uri: str, _holder: str) -> bytes | None:
    """A `Passphrase` that asks nobody."""
    return None


class Descriptors:
    """First lines of file descriptors, each read once. The one of this process is `descriptors`."""

    def __init__(self) -> None:
        self._lines: dict[int, bytes] = {}
        self._chosen: int | None = None

    def __repr__(self) -> str:
        return f"Descriptors({sorted(self._lines)})"

    def choose(self, number: int) -> None:
        """Take the passphrase from descriptor `number`, whatever the environment says. It is read when a key asks."""
        self._chosen = number

    def has_descriptor(self) -> bool:
        """Whether there is one to read."""
        return self._chosen is not None or bool(os.environ.get(DESCRIPTOR))

    def read_line(self) -> bytes | None:
        """The first line of the descriptor, without its end; None: no descriptor is named.

        Side effects: reads to the end of the line, no further, and closes it; standard input stays open.

        Raises:
            KeyAccessError: It is not open for reading, or its first line is empty or endless.
        """
        if not self.has_descriptor():
            return None
        number = self._chosen if self._chosen is not None else _parse_number(os.environ[DESCRIPTOR])
        if number not in self._lines:  # once: it is closed then, and its number may mean another file
            self._lines[number] = _read_first_line(number)
        return self._lines[number]


descriptors = Descriptors()


def environment_name(holder: str) -> str:
    """A holder's name as part of an environment variable's."""
    return "".join(letter if letter.isalnum() else "_" for letter in holder).upper()


def passphrase_variable(holder: str) -> str:
    """The variable with the passphrase of one holder."""
    return f"TWINSEAL_{environment_name(holder)}_PASSPHRASE"


def is_available(holder: str) -> bool:
    """Whether environment or descriptor are to give the passphrase of `holder`. Nothing is read."""
    return descriptors.has_descriptor() or any(os.environ.get(name) for name in (passphrase_variable(holder), COMMON))


def find_passphrase(holder: str) -> bytes | None:
    """The passphrase of `holder` by the order above; None: nothing has one.

    Raises:
        KeyAccessError: A descriptor is named, and cannot be read.
    """
    own = _read_environment(passphrase_variable(holder))
    return own or descriptors.read_line() or _read_environment(COMMON)


def require_passphrase(holder: str, where: str, what: str = "passphrase for the encrypted key") -> bytes:
    """The passphrase of `holder`, without which the key at `where` does not open.

    Raises:
        KeyAccessError: Nothing has one; or as `find_passphrase`.
    """
    found = find_passphrase(holder)
    if found is None:
        raise KeyAccessError(
            f"{where}: expected a {what}, got none",
            remedy=f"Run the command at a terminal, which asks for it; or give --passphrase-fd N, set ${DESCRIPTOR}=N, "
            f"or set ${passphrase_variable(holder)}.",
        )
    return found


def _read_environment(name: str) -> bytes | None:
    value = os.environ.get(name)
    return os.fsencode(value) if value else None


def _parse_number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        # Not shown: who confuses the two variables has put the passphrase into this one.
        raise KeyAccessError(
            f"${DESCRIPTOR}: expected the number of a file descriptor, got something else", remedy=_OPEN_ONE
        )
    return int(text)


def _read_first_line(number: int) -> bytes:
    if number in (1, 2) or number < 0:
        raise KeyAccessError(
            f"file descriptor {number}: expected one to read a passphrase from, got an output", remedy=_OPEN_ONE
        )
    line = bytearray()
    try:
        # By single bytes: what follows the line is for somebody else, such as an answer to a question.
        while len(line) <= MAX_PASSPHRASE_BYTES and (byte := os.read(number, 1)) not in (b"", b"\n"):
            line += byte
        if number != 0:  # the next file to be opened would become standard input
            os.close(number)
    except OSError as error:
        raise KeyAccessError(
            f"file descriptor {number}: expected a passphrase in its first line, got none ({error.strerror})",
            remedy=f"Open it for this program: {number}< FILE, or {number}< <(COMMAND). What it starts has it not.",
        ) from error
    if not 0 < len(line) <= MAX_PASSPHRASE_BYTES:
        raise KeyAccessError(
            f"file descriptor {number}: expected a passphrase of 1 to {MAX_PASSPHRASE_BYTES} bytes in its first line, "
            f"got {'none' if not line else 'more'}",
            remedy=_OPEN_ONE,
        )
    return bytes(line)
