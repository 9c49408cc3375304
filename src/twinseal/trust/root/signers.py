"""The signers of evidence, in a file for DVC: stages run again when the builder or the assessor has another key.

    policy/signers.json    {"assessor": [fingerprints], "builder": [fingerprints]}; empty lists before the first root

It is in Git, unlike the anchor: so it exists before the first root, and in DVC's copies of the project. Nothing trusts
it: the anchor says whose signature counts.
"""

from __future__ import annotations

from pathlib import Path

from twinseal.files import write_json
from twinseal.trust.keys.key import fingerprint
from twinseal.trust.root.anchor import Anchor

SIGNERS = Path("policy/signers.json")
ROLES = ("assessor", "builder")


def write_signers(path: Path, anchor: Anchor) -> None:
    """Write the fingerprints of the keys that sign evidence, by role.

    Raises:
        OSError: It cannot be written.
    """
    write_json(path, {role: sorted(map(fingerprint, anchor.roles[role].keys.values())) for role in ROLES})
