"""The audit log: every decision, in order, in a Merkle tree. Any later edit is detected.

In reading order:

    entry.py      what one line says: who decided what, when, about which release
    note.py       the log's Ed25519 key, and the checkpoints that it signs (C2SP signed note, tlog-checkpoint)
    tree.py       the Merkle tree (RFC 6962, RFC 9162) in tiles (C2SP tlog-tiles)
    disk.py       bounded reads, durable writes, one writer at a time
    log.py        appending, reading, proving
    verify.py     the whole log against every checkpoint that was ever signed; names the first bad entry
    replace.py    another log where one was changed or lost; the old one is kept

A newcomer opens `entry.py` first, then `log.py`.

A decision is logged before it takes effect; if it cannot be logged, it does not take effect. So the log may have a
decision that was then interrupted, and never lacks one that took effect. Who controls the machine and the log's key can
write another log: keep a copy of `checkpoint` and of the verifier key elsewhere, and compare (`twinseal audit verify`).

Example:
    log = log_of(home.path)
    log.append(Entry.for_release(release, "approved", "alice", datetime.now(UTC)))
    verify(log.path).size
"""

from twinseal.trust.audit.entry import Entry
from twinseal.trust.audit.log import Log, log_of
from twinseal.trust.audit.replace import set_aside
from twinseal.trust.audit.verify import VerifiedLog, verify

__all__ = ["Entry", "Log", "VerifiedLog", "log_of", "set_aside", "verify"]
