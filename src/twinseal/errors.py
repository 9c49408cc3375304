"""The errors of twinseal, split by who is at fault.

    TwinsealError
    ├─ ConfigError        a params, policy or contract file is wrong               (its editor)
    ├─ DataError          telemetry breaks its contract; findings attached         (the plant, or an editor of data)
    ├─ EvidenceError      a record is malformed or about something else            (the pipeline)
    ├─ GateRefusedError   the verdict is not PASSED                                (the model)
    ├─ PolicyError        the policy is not the one that its owners approved       (who edited policy/)
    ├─ TrustError         a signature, key, digest or date cannot be trusted       (an attacker, or time)
    │  ├─ RootError            the trust anchor is missing or not a root of trust
    │  ├─ KeyAccessError       a private key cannot be opened: missing, wrong passphrase, readable by others
    │  ├─ ExpiredError         was valid, is too old now
    │  ├─ RollbackError        older than what was already accepted
    │  ├─ DigestMismatchError  bytes are not the bytes that were signed
    │  ├─ SignatureError       a signature is missing, malformed, or by another key
    │  ├─ ThresholdError       fewer signers than the role requires
    │  └─ AuditError           the audit log cannot be written, or is not what its key signed
    ├─ RegistryError      MLflow could not be reached, or gave an invalid answer
    ├─ RefusedError       whoever asks the server is not who this is for           (who asks)
    ├─ BackupError        a file is no backup, or not the one that was written     (who kept it)
    └─ BusyError          another process does the same here, at the same time    (nobody; run it again)

A message says what was expected, what came, and where; the remedy is for the person at the terminal. Misuse by a
programmer stays ValueError or TypeError. Errors of a library do not leave the module that wraps it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class TwinsealError(Exception):
    """The base class of every error whose cause is outside the program.

    Args:
        message: What was refused: expected, got, where, in one sentence.
        remedy: What the person at the terminal can do; empty if only the sender can help.
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
    """A settings file (params, policy, contract, trust anchor) is wrong or cannot be read."""


class DataError(TwinsealError):
    """Telemetry breaks its contract.

    Args:
        message: As for TwinsealError.
        findings: One line for each finding, with unit, cycles, channel, observed value and bound.
        remedy: As for TwinsealError.
    """

    def __init__(self, message: str, *, findings: tuple[str, ...] = (), remedy: str = "") -> None:
        super().__init__(message, remedy=remedy)
        self.findings = findings


class EvidenceError(TwinsealError):
    """A record is malformed, or about something other than expected."""


class GateRefusedError(TwinsealError):
    """The verdict on a candidate is not PASSED."""


class PolicyError(TwinsealError):
    """The policy in hand is not the one that its owners approved."""


class TrustError(TwinsealError):
    """A signature, key, digest or date cannot be trusted."""


class RootError(TrustError):
    """The trust anchor is missing, malformed, or not a root of trust."""


class KeyAccessError(TrustError):
    """A private key cannot be opened: missing, wrong passphrase, wrong kind, or readable by others."""


class ExpiredError(TrustError):
    """Metadata has expired, or the clock is behind the last time that was recorded."""


class RollbackError(TrustError):
    """What is offered is older than what was already accepted."""


class DigestMismatchError(TrustError):
    """Bytes, or the list of files, are not what was signed."""


class SignatureError(TrustError):
    """A signature is missing, malformed, or by another key than required."""


class ThresholdError(TrustError):
    """Fewer distinct signers have signed than the role requires."""


class AuditError(TrustError):
    """The audit log cannot be written, or is not the log that its key signed.

    Args:
        message: As for TwinsealError.
        entry: Index of the first bad entry, from 0; None if no single entry is bad or can be named.
        remedy: As for TwinsealError.
    """

    def __init__(self, message: str, *, entry: int | None = None, remedy: str = "") -> None:
        super().__init__(message, remedy=remedy)
        self.entry = entry


class RegistryError(TwinsealError):
    """MLflow could not be reached, refused, or gave an invalid answer."""


class RefusedError(TwinsealError):
    """Whoever asks the server is not who this is for."""


class BackupError(TwinsealError):
    """A file is no backup of a deployment, or not the one that was written."""


class BusyError(TwinsealError):
    """Another process does the same in the same folder now; nothing was done."""
