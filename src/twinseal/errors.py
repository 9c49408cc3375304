"""The errors of twinseal, split by who is at fault.

    TwinsealError
    ├─ ConfigError        a params, policy or contract file says what cannot be    (its editor)
    ├─ DataError          telemetry breaks its contract; findings attached         (the plant, or an editor of data)
    ├─ EvidenceError      a record is malformed or about something else            (the pipeline)
    ├─ GateRefusedError   the verdict is not PASSED                                (the model)
    ├─ TrustError         something that should be trusted is not                  (an attacker, or time)
    │  ├─ RootError            the trust anchor is absent or not a root of trust
    │  ├─ KeyAccessError       a private key cannot be opened: absent, wrong passphrase, readable by others
    │  ├─ ExpiredError         valid once, too old now
    │  ├─ RollbackError        older than what was already seen
    │  ├─ DigestMismatchError  bytes are not the bytes that were signed
    │  ├─ SignatureError       a signature is absent, malformed, or by another key
    │  ├─ ThresholdError       fewer signers than the role demands
    │  └─ AuditError           the audit log cannot be written, or is not what its key signed
    └─ RegistryError      MLflow could not be reached, or answered nonsense

A message has what was expected, what came, and where; the remedy is for the person at the terminal. Misuse by a
programmer stays ValueError or TypeError. Nothing foreign leaks from an adapter: each maps its library's errors.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class TwinsealError(Exception):
    """The root of every error that twinseal raises for a reason outside the program.

    Args:
        message: What was refused: expected, got, where, in one sentence.
        remedy: What the person at the terminal can do about it; empty when nothing but asking the sender helps.
    """

    def __init__(self, message: str, *, remedy: str = "") -> None:
        super().__init__(message)
        self.remedy = remedy


@contextmanager
def suggest(remedy: str) -> Iterator[None]:
    """Give a refusal that is raised inside this remedy, if it has none of its own.

    For a caller who knows what a person can do about it, where the code that refuses does not.
    """
    try:
        yield
    except TwinsealError as error:
        error.remedy = error.remedy or remedy
        raise


class ConfigError(TwinsealError):
    """A file of settings (params, policy, contract, trust anchor) cannot be read as what it should be."""


class DataError(TwinsealError):
    """Telemetry breaks its contract.

    Args:
        message: As for TwinsealError.
        findings: One line for each thing found wrong, naming unit, cycles, channel, observed and bound.
        remedy: As for TwinsealError.
    """

    def __init__(self, message: str, *, findings: tuple[str, ...] = (), remedy: str = "") -> None:
        super().__init__(message, remedy=remedy)
        self.findings = findings


class EvidenceError(TwinsealError):
    """A record is malformed, or is about something else than the thing in hand."""


class GateRefusedError(TwinsealError):
    """The verdict on a candidate is not PASSED."""


class TrustError(TwinsealError):
    """Something that should be trusted is not."""


class RootError(TrustError):
    """The trust anchor is absent, malformed, or not a root of trust."""


class KeyAccessError(TrustError):
    """A private key cannot be opened: absent, wrong passphrase, wrong kind, or readable by others."""


class ExpiredError(TrustError):
    """Metadata was valid once and is too old now, or the clock runs behind the last time seen."""


class RollbackError(TrustError):
    """What is offered is older than what was already seen."""


class DigestMismatchError(TrustError):
    """Bytes, or the list of files, are not what was signed."""


class SignatureError(TrustError):
    """A signature is absent, malformed, or not by the key that should have made it."""


class ThresholdError(TrustError):
    """Fewer distinct signers have signed than the role demands."""


class AuditError(TrustError):
    """The audit log cannot be written, or is not the log that its key signed.

    Args:
        message: As for TwinsealError.
        entry: Index of the first bad entry, from 0; None when it is not an entry that is bad, or none can be named.
        remedy: As for TwinsealError.
    """

    def __init__(self, message: str, *, entry: int | None = None, remedy: str = "") -> None:
        super().__init__(message, remedy=remedy)
        self.entry = entry


class RegistryError(TwinsealError):
    """MLflow could not be reached, refused, or answered nonsense."""
