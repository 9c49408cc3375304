"""The audit log: every decision, in the order in which it was made, in a Merkle tree that nobody can edit unseen.

    entry.py      what one line says: who decided what, when, about which release
    note.py       the log's Ed25519 key, and the checkpoints that it signs (C2SP signed note, tlog-checkpoint)
    tree.py       the Merkle tree (RFC 6962, RFC 9162) in tiles (C2SP tlog-tiles)
    disk.py       bounded reads, durable writes, one writer at a time
    log.py        appending, reading, proving
    verify.py     the whole log against every checkpoint that was ever signed; names the first bad entry

A decision is logged before it takes effect: what cannot be logged does not happen. So the log may name a decision that
was then interrupted; it never misses one that took effect. Whoever holds the machine and the log's key can write
another log: keep a copy of `checkpoint`, and of the verifier key, elsewhere, and compare (`twinseal audit verify`).

Example:
    >>> import tempfile
    >>> from datetime import UTC, datetime
    >>> log = Log(Path(tempfile.mkdtemp()) / "log")
    >>> log.append(Entry(datetime(2026, 3, 1, tzinfo=UTC), "approved", "alice", "pump-rul", 1))
    0
    >>> log.append(Entry(datetime(2026, 3, 2, tzinfo=UTC), "approved", "bruno", "pump-rul", 1))
    1
    >>> verify(log.path).size
    2
"""

from pathlib import Path

from twinseal.trust.audit.entry import Entry
from twinseal.trust.audit.log import Log, log_of
from twinseal.trust.audit.verify import Verified, verify

__all__ = ["Entry", "Log", "Path", "Verified", "log_of", "verify"]
